"""Composition of a restore: data directory, database, object store and tiers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.object_location import StoreKind
from isocenter.services.archive.tiers.ports import TieredObjects
from isocenter.services.backup.manifest import BackupError
from isocenter.services.backup.relocation.mark import check_not_relocating
from isocenter.services.backup.restoration import Place, Restoring
from isocenter.services.backup.restore_mark import RESTORING
from isocenter.services.backup.restore_target import RECORD, Elsewhere
from isocenter.services.backup.tier_files import TierFiles
from isocenter.services.composition.archive import open_archive_parts
from isocenter.services.composition.audit import audit_folder
from isocenter.services.composition.backup import check_tiers
from isocenter.services.composition.database import inspect_database
from isocenter.services.composition.objects import check_folder, connect, master_keys, try_bucket
from isocenter.services.composition.tiers import open_tiers
from isocenter.services.errors import StorageError
from isocenter.services.settings.settings import Settings
from isocenter.storage.database.relocation.index_file import existing_index_file
from isocenter.storage.objects.files.store import open_file_store
from isocenter.storage.objects.files.trash import TrashFolder
from isocenter.storage.stores import SqliteCopyRecord

__all__ = ["RestoreTarget", "check_elsewhere", "open_restore_target", "restore_place_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreTarget:
    """What takes an archive that is restored.

    Attributes:
        tiers: take what is in tiers; None: there are none.
        elsewhere: takes what does not go into the data directory; None: all does.
    """

    tiers: TierFiles | None = None
    elsewhere: Elsewhere | None = None


def restore_place_of(settings: Settings) -> Place:
    """Where the archive belongs.

    Raises:
        BackupError: a tier is off line, or a relocation into the data directory is not finished.
        StorageError: objects are not to be there.
    """
    check_folder(settings)
    check_tiers(settings)
    data_dir = Path(settings.storage.data_dir).absolute()
    check_not_relocating(data_dir)
    return Place(
        data_dir=data_dir,
        audit=audit_folder(settings).absolute(),
        elsewhere=_elsewhere(settings),
        has_objects=_has_objects(settings),
    )


async def check_elsewhere(settings: Settings) -> None:
    """Whether nothing is in the database, nor where the objects are to be; nothing is written, but
    for a probe in a bucket.

    Raises:
        BackupError: something is.
        StorageError: one of them cannot be used.
    """
    if settings.database.url:
        found = await trio.to_thread.run_sync(inspect_database, settings)
        if found.fault:
            raise StorageError(found.fault)
        if found.instances:
            raise BackupError(
                f"the database {_database(settings)} is not empty ({found.instances} instances); "
                "nothing was changed. Name an empty database (database.url), or have it emptied"
            )
    url = settings.objects.url
    if url is None or _has_objects(settings):
        return
    if settings.object_store is None:
        is_used = await trio.to_thread.run_sync(_has_files, Path(url.bucket))
    else:
        master_keys(settings)
        await try_bucket(settings)
        from isocenter.storage.objects.cloud.store import holds_objects
        from isocenter.storage.objects.cloud.trash import OBJECTS_IN_TRASH

        bucket = connect(settings, url)
        is_used = await holds_objects(bucket) or await holds_objects(bucket, OBJECTS_IN_TRASH)
    if is_used:
        raise BackupError(
            f"{url} has objects already; nothing was changed. Name a place where nothing is "
            "(objects.url): an empty folder, another bucket, or another prefix in this one"
        )


@asynccontextmanager
async def open_restore_target(
    settings: Settings, restoring: Restoring, place: Place
) -> AsyncIterator[RestoreTarget]:
    """Own the data directory, which is made if it is missing, and begin; nobody else may use the
    database and the objects.

    Raises:
        StorageError: a server uses it, or it cannot be written.
        OSError: it cannot be written.
    """
    async with AsyncExitStack() as stack:
        files = await open_file_store(place.data_dir)
        stack.push_async_callback(files.aclose)
        files.lock()
        await restoring.begin()
        if not place.elsewhere:
            tiers = await open_tiers(
                settings, stack, files, TrashFolder(files), lock=True, shared=False, tries=True
            )
            yield RestoreTarget(
                tiers=None if tiers is None else TierFiles(tiers.store, tiers.trash)
            )
            return
        await stack.aclose()  # the archive takes the lock for itself
        parts = await stack.enter_async_context(
            open_archive_parts(settings, rebuild=True, is_filled=True)
        )
        record = SqliteCopyRecord(place.data_dir / RECORD)
        stack.callback(_close, record, place)
        store, trash = parts.archive.store, parts.trash_files
        assert trash is not None
        tier_files = TierFiles(store, trash, is_ours=not place.has_objects)
        yield RestoreTarget(
            tiers=tier_files if isinstance(store, TieredObjects) else None,
            elsewhere=Elsewhere(
                tables=parts.stores.tables,
                open_index=existing_index_file,
                films=parts.stores.films,
                record=record,
                objects=None if place.has_objects else tier_files,
                notes=None if parts.sweeper is None else parts.stores.staged_keys,
            ),
        )


def _close(record: SqliteCopyRecord, place: Place) -> None:
    record.close()
    if not (place.data_dir / RESTORING).exists():
        for suffix in ("", "-wal", "-shm"):
            (place.data_dir / f"{RECORD}{suffix}").unlink(missing_ok=True)


def _has_objects(settings: Settings) -> bool:
    """Whether objects belong into the data directory."""
    if settings.objects.url is None:
        return True
    data_dir = Path(settings.storage.data_dir)
    return (
        settings.objects.url.kind is StoreKind.FILES
        and settings.objects.folder(data_dir) == data_dir
    )


def _elsewhere(settings: Settings) -> str:
    places = []
    if settings.database.url:
        places.append(f"the database {_database(settings)}")
    if not _has_objects(settings) and settings.objects.url is not None:
        places.append(settings.objects.url.identity)
    return " and ".join(places)


def _database(settings: Settings) -> str:
    """Without how it is reached, which may change."""
    return urlsplit(settings.database.url).path.removeprefix("/")


def _has_files(folder: Path) -> bool:
    if folder.exists() and not folder.is_dir():
        raise BackupError(f"objects.url names {folder}, which is no folder; name one")
    return any((folder / "objects").glob("*/*")) or any((folder / "trash").glob("*"))
