"""Tiers that the settings name: stores, movers, recall."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deletion.ports import TrashFiles
from isocenter.services.archive.object_location import ObjectLocation, StoreKind
from isocenter.services.archive.ports import ObjectStore
from isocenter.services.archive.tiers.administration import TierAdministration, TierPlace
from isocenter.services.archive.tiers.availability import Availabilities
from isocenter.services.archive.tiers.mover import StudyMoved, TierMover
from isocenter.services.archive.tiers.recall import Recaller
from isocenter.services.archive.tiers.tier import InstanceAvailability, Tier
from isocenter.services.archive.tiers.worker import CycleLimits
from isocenter.services.composition.audit import tier_recorder
from isocenter.services.composition.objects import connect, master_keys, write_place_mark
from isocenter.services.errors import StorageError, text_of
from isocenter.services.settings.settings import Settings
from isocenter.services.system.private_files import PRIVATE_FILE, write_file
from isocenter.storage.objects.files.store import open_file_store
from isocenter.storage.objects.files.trash import TrashFolder
from isocenter.storage.objects.tiers.notes import NoNotes
from isocenter.storage.objects.tiers.store import TieredStore
from isocenter.storage.objects.tiers.trash import TieredTrash
from isocenter.storage.stores import Stores

_OTHERS: Final = (Tier.WARM, Tier.COLD)
#: In the folder of a tier.
_FOLDER_MARK: Final = "tier.id"


@dataclass(frozen=True, slots=True, kw_only=True)
class TierParts:
    """An archive's tiers."""

    store: TieredStore
    trash: TieredTrash


async def open_tiers(
    settings: Settings,
    stack: AsyncExitStack,
    hot: ObjectStore,
    trash: TrashFiles,
    *,
    lock: bool,
    shared: bool,
    tries: bool,
) -> TierParts | None:
    """The tiers; None: the settings name none, and no object is in one.

    Args:
        hot, trash: of the hot tier.
        stack: closes them.
        lock, shared: as of `open_archive_parts`.
        tries: try whether buckets can be used.

    Raises:
        StorageError: one cannot be used, or has objects and is not named.
    """
    data_dir = Path(settings.storage.data_dir)
    places = settings.tiers.places
    for tier in _OTHERS:
        _check_mark(data_dir, tier, places.get(tier))
    if not places:
        return None
    stores: dict[Tier, ObjectStore] = {}
    trashes: dict[Tier, TrashFiles] = {Tier.HOT: trash}
    marks = {
        tier: _FolderMark(data_dir, tier, Path(place.bucket))
        for tier, place in places.items()
        if place.kind is StoreKind.FILES
    }
    for tier, place in places.items():
        if tier in marks and settings.tiers.availability[tier] is not InstanceAvailability.OFFLINE:
            marks[tier].check()
        # Nodes use a folder that they share as they use a bucket.
        if place.kind is StoreKind.FILES and not settings.is_shared:
            files = await open_file_store(place.bucket, durability=settings.storage.durability)
            stack.push_async_callback(files.aclose)
            if lock:
                files.lock(shared=shared)
            stores[tier], trashes[tier] = files, TrashFolder(files)
        else:
            stores[tier], trashes[tier] = await _open_bucket(
                settings, stack, tier, place, trash, tries=tries
            )
        if lock:
            write_place_mark(_mark_of(data_dir, tier), place)
            if tier in marks:
                marks[tier].write()
    return TierParts(
        store=TieredStore(
            hot,
            stores,
            settings.tiers.availability,
            {tier: mark.check for tier, mark in marks.items()},
        ),
        trash=TieredTrash(trashes),
    )


async def _open_bucket(
    settings: Settings,
    stack: AsyncExitStack,
    tier: Tier,
    place: ObjectLocation,
    hot: TrashFiles,
    *,
    tries: bool,
) -> tuple[ObjectStore, TrashFiles]:
    bucket = connect(settings, place, storage_class=settings.tiers.storage_class(tier))
    from isocenter.storage.objects.cloud.store import CloudStore
    from isocenter.storage.objects.cloud.trash import CloudTrash

    keys = master_keys(settings)
    if tries:
        await bucket.try_out()
        await bucket.register(keys.fingerprints())
    data_dir = Path(settings.storage.data_dir)
    store = CloudStore(
        bucket,
        NoNotes(),
        str(data_dir / "staging"),
        master_keys=keys,
        verify=settings.objects.verify,
    )
    stack.push_async_callback(store.aclose)
    return store, CloudTrash(store, hot.locked)


def mover_of(
    archive: Archive,
    stores: Stores,
    tiers: TierParts,
    on_moved: Callable[[StudyMoved], None] = lambda moved: None,
) -> TierMover:
    """What moves objects between tiers."""
    return TierMover(archive, stores.tiers, tiers.store, on_moved=on_moved)


def recall_by_reading(
    settings: Settings, archive: Archive, stores: Stores, tiers: TierParts, mover: TierMover
) -> None:
    """Have objects brought back that somebody reads, and queries say how soon they can be read."""
    if set(settings.tiers.availability.values()) - {InstanceAvailability.ONLINE}:
        archive.availabilities = Availabilities(stores.tiers, settings.tiers.availability)
    recaller = Recaller(
        archive,
        stores.tiers,
        tiers.store,
        mover,
        stores.retention,
        answer=settings.tiers.recall,
        seconds=settings.tiers.recall_timeout,
    )
    archive.recall, archive.check_on_line = recaller.recall, recaller.check


def tier_administration(
    settings: Settings, stores: Stores, process_name: str
) -> TierAdministration:
    """What people do with tiers.

    Args:
        process_name: who tells the audit trail.
    """
    hot = settings.objects.url
    places = {
        Tier.HOT: TierPlace(
            place=f"file://{Path(settings.storage.data_dir).absolute()}"
            if hot is None
            else hot.identity,
            availability=InstanceAvailability.ONLINE,
        )
    }
    availability = settings.tiers.availability
    for tier, place in settings.tiers.places.items():
        places[tier] = TierPlace(place=place.identity, availability=availability[tier])
    return TierAdministration(
        stores.tiers, places, tier_recorder(settings, stores.index, process_name)
    )


def cycle_limits(settings: Settings) -> CycleLimits:
    """What rules may move at once."""
    tiers = settings.tiers
    return CycleLimits(
        interval=tiers.interval,
        instances=tiers.instances_per_cycle,
        size=tiers.bytes_per_cycle,
    )


class _FolderMark:
    """What tells the folder of a tier from an empty one, in which it has to be mounted.

    The folder has it in a file, and the data directory behind the URL of the tier.
    """

    def __init__(self, data_dir: Path, tier: Tier, folder: Path) -> None:
        self._known = _mark_of(data_dir, tier)
        self._folder = folder
        self._path = folder / _FOLDER_MARK
        self._tier = tier

    def check(self) -> None:
        """Blocks.

        Raises:
            StorageError: it is another folder.
        """
        known = _lines_of(self._known)[1:]
        if known and _lines_of(self._path) != known:
            raise StorageError(
                f"{self._folder} is empty, or not mounted, and not where the {self._tier.value} "
                "tier keeps its objects; have it mounted, or go on without it "
                f"(tiers.{self._tier.value}_availability = offline)"
            )

    def write(self) -> None:
        """Mark the folder, unless that was done; blocks.

        Raises:
            StorageError: it cannot be written.
        """
        place, *known = _lines_of(self._known)
        if known:
            return
        try:
            if not _lines_of(self._path):
                write_file(self._path, secrets.token_hex(16).encode(), PRIVATE_FILE, replace=True)
            lines = (place, *_lines_of(self._path), "")
            write_file(self._known, "\n".join(lines).encode(), PRIVATE_FILE, replace=True)
        except OSError as error:
            raise StorageError(f"{self._folder} cannot be marked: {text_of(error)}") from error


def _lines_of(path: Path) -> list[str]:
    """What a mark says; empty: there is none."""
    try:
        return path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} cannot be read: {text_of(error)}") from error


def _mark_of(data_dir: Path, tier: Tier) -> Path:
    return data_dir / f"tier-{tier.value}.url"


def _check_mark(data_dir: Path, tier: Tier, place: ObjectLocation | None) -> None:
    path = _mark_of(data_dir, tier)
    if not (lines := _lines_of(path)):
        return
    marked = lines[0]
    if place is None or place.identity != marked:
        named = "nothing" if place is None else f"{place}"
        raise StorageError(
            f"the {tier.value} tier of {data_dir} is {marked}, and tiers.{tier.value} names "
            f"{named}; name the same. To give a tier up, move everything out of it (isocenter "
            f"tiers move --all --from {tier.value} --to hot) and remove {path}"
        )
