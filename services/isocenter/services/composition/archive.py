"""The archive that the settings name: object store and index, opened, locked and recovered."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.capacity import Room
from isocenter.services.archive.corrections.service import Corrections, unlocked
from isocenter.services.archive.deletion.ports import TrashFiles
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.locks.keeper import StudyLocks
from isocenter.services.archive.ports import DuplicatePolicy
from isocenter.services.archive.rejection.service import Rejections
from isocenter.services.archive.retention.fullness import Fullness
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.archive.sweeping.sweeper import Sweeper
from isocenter.services.archive.tiers.mover import StudyMoved, TierMover
from isocenter.services.backup.relocation.mark import check_not_relocating
from isocenter.services.backup.restore_mark import check_not_restoring
from isocenter.services.cluster.duties import Duties
from isocenter.services.composition.audit import correction_recorder, deletion_recorder
from isocenter.services.composition.cluster import (
    OBJECTS,
    begin_node,
    check_objects,
    duties_of,
    take_over_folder,
)
from isocenter.services.composition.database import check_index, mark_database, open_stores_of
from isocenter.services.composition.objects import BucketPlace, MemoryPlace, Place, open_place
from isocenter.services.composition.tiers import mover_of, open_tiers, recall_by_reading
from isocenter.services.dicom.sop_class_families import storage_sop_classes
from isocenter.services.errors import StorageError
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.compression.compressor import finish_exchanges
from isocenter.services.workflow.forwarding.forwarder import finish_deletions
from isocenter.storage.objects.files.journal import has_segments
from isocenter.storage.stores import Stores, StoresOptions

log = logging.getLogger("isocenter.server")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveParts:
    """An archive, and what is kept beside its objects.

    Attributes:
        trash_files: where deleted objects are; None: in memory nothing is kept of them.
        duties: what of all processes one does at a time.
        sweeper: removes what a crash left in a bucket; None: objects are not in one.
        mover: moves objects between tiers; None: there are no tiers.
    """

    archive: Archive
    stores: Stores
    trash_files: TrashFiles | None
    duties: Duties
    sweeper: Sweeper | None = None
    mover: TierMover | None = None


@asynccontextmanager
async def open_archive(
    settings: Settings,
    *,
    lock: bool = True,
    shared: bool = False,
    recover: bool = True,
    rebuild: bool = False,
) -> AsyncIterator[Archive]:
    """The archive alone; arguments and errors are those of `open_archive_parts`."""
    async with open_archive_parts(
        settings, lock=lock, shared=shared, recover=recover, rebuild=rebuild
    ) as parts:
        yield parts.archive


async def recover_after_crash(settings: Settings) -> None:
    """Where a server crashed and none runs now, do what its next start would: for whoever changes
    the archive without one.  What is against it, the caller will hear."""
    storage = settings.storage
    if storage.is_in_memory or not await trio.to_thread.run_sync(
        has_segments, os.path.join(storage.data_dir, "journal")
    ):
        return
    with suppress(StorageError):
        async with open_archive(settings):
            pass


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """What is kept beside the objects; a server may be at work on it.

    Raises:
        StorageError: the data directory cannot be used.
        BackupError: a restore into it is not finished.
    """
    async with open_archive_parts(settings, lock=False, recover=False) as parts:
        yield parts.stores


@asynccontextmanager
async def open_archive_parts(
    settings: Settings,
    *,
    lock: bool = True,
    shared: bool = False,
    recover: bool = True,
    rebuild: bool = False,
    is_filled: bool = False,
    on_round: Callable[[int, float], None] = lambda objects, seconds: None,
    on_other_patient: Callable[[bool], None] = lambda is_kept: None,
    on_validated: Callable[[bool, bool], None] = lambda is_valid, is_refused: None,
    on_tier_move: Callable[[StudyMoved], None] = lambda moved: None,
) -> AsyncIterator[ArchiveParts]:
    """The archive that the settings name, whole: locked, migrated and recovered.

    Args:
        lock: own the data directory.
        shared: own it together with the other worker processes of the same server.
        recover: undo what a crash left unfinished; by the owner only.
        rebuild: allow an index that is missing while there are objects, to fill it again.
        is_filled: allow an archive into which a relocation or a restore is not finished.
        on_round, on_other_patient, on_validated: as of `Archive`.
        on_tier_move: as of `TierMover`.

    Raises:
        StorageError: the data directory cannot be used, or another server uses it.
        BackupError: a restore or relocation into it is not finished.
    """
    if is_filled:
        # Copies of files may come one after the other under one key, which a cache forbids.
        settings = replace(settings, objects=replace(settings.objects, cache_bytes=0))
    storage = settings.storage
    async with AsyncExitStack() as stack:
        place: Place
        if storage.is_in_memory:
            place = MemoryPlace()
            recover = False
        else:
            if not is_filled:
                check_not_restoring(Path(storage.data_dir))
                check_not_relocating(Path(storage.data_dir))
            place = await open_place(
                settings, stack, lock=lock, shared=shared, tries=recover and lock
            )
            if not rebuild and not settings.is_shared:
                await check_index(settings, place)
        stores = await stack.enter_async_context(
            _open_stores(settings, place, is_owner=recover and lock, is_server=lock)
        )
        if settings.is_shared and isinstance(place, BucketPlace):
            is_known = (await stores.documents.get(OBJECTS)).version > 0
            if not rebuild:
                await check_index(settings, place, is_known=is_known)
            if lock:
                await check_objects(place, stores, is_new=not is_known)
            if lock and recover:
                await begin_node(settings, stores, is_alone=rebuild)
        if lock:
            mark_database(settings)
        duties = duties_of(settings, stores)
        store = place.store(stores)
        if place.has_unique_keys:
            stack.push_async_callback(store.aclose)
        trash_files = place.trash(store, duties)
        tiers = None
        if trash_files is not None:
            tiers = await open_tiers(
                settings,
                stack,
                store,
                trash_files,
                lock=lock,
                shared=shared,
                tries=recover and lock,
            )
        if tiers is not None:
            store, trash_files = tiers.store, tiers.trash
        archive = await stack.enter_async_context(
            Archive(
                store,
                stores.index,
                naming=storage.naming,
                duplicates=DuplicatePolicy(storage.duplicates),
                uids=storage.uids,
                undeclared=storage.undeclared,
                other_patient=storage.other_patient,
                memory_budget=settings.bytes_in_flight_of_one_worker(),
                limits=settings.engine_limits(),
                # What is removed when it has moved to another tier has to be what has moved, and
                # nothing that came since, however late that is.
                unique_keys=place.has_unique_keys or tiers is not None,
                room=_room_of(settings, stores),
                sop_classes=storage_sop_classes(storage.sop_classes),
                refuse_stray_meta=storage.meta_in_data_set == "refuse",
                validation=storage.validation,
                rules=Rules(settings.rules),
                modifying_system=settings.server.ae_title,
                kept=stores.corrections,
                locks=StudyLocks(None if storage.is_in_memory else stores.locks),
                on_round=on_round,
                on_other_patient=on_other_patient,
                on_validated=on_validated,
                on_refused=stores.validation.refused,
            )
        )
        parts = ArchiveParts(
            archive=archive,
            stores=stores,
            trash_files=trash_files,
            duties=duties,
            sweeper=Sweeper(archive, stores.staged_keys, now=stores.clock)
            if place.has_unique_keys
            else None,
            mover=None if tiers is None else mover_of(archive, stores, tiers, on_tier_move),
        )
        if tiers is not None and parts.mover is not None:
            recall_by_reading(settings, archive, stores, tiers, parts.mover)
        if recover and settings.is_shared:
            await take_over_folder(settings, archive, rebuild=rebuild)
        if recover and rebuild:
            await archive.salvage()
        if recover and not rebuild:
            trash = trash_of(settings, parts, "isocenter")
            # What was just deleted must not be taken for what was never indexed; and it has to be
            # whole before it is moved.
            if trash is None:
                undone = await archive.recover()
            else:
                async with trash.recovering() as others:
                    undone = await archive.recover(others)
                await trash.finish()
            if undone:
                log.info("undid %d objects that a crash left unfinished", undone)
            await finish_deletions(stores.forwards, archive)
            await finish_exchanges(stores.compressions, archive)
        rejections = rejections_of(settings, parts, "isocenter")
        if rejections is not None:
            archive.intake.on_note = rejections.on_note
        archive.intake.on_again = _came_again(settings, stores)
        yield parts


def _came_again(settings: Settings, stores: Stores) -> Callable[[str, str], Awaitable[None]]:
    """Has what a destination gives back, which may be this archive, not deleted because it was
    sent there."""
    ours = {"", settings.server.ae_title, *settings.server.additional_ae_titles}

    async def came_again(sop_instance_uid: str, sender: str) -> None:
        if await stores.expiry.came_again(sop_instance_uid, "" if sender in ours else sender):
            log.warning(
                "instance %s came here again from %s, who had not sent it first: that its "
                "destinations have had it is no reason any more to delete it here, unless one "
                "commits it (isocenter queue commit)",
                sop_instance_uid,
                sender or "a client without an AE title",
            )

    return came_again


def _room_of(settings: Settings, stores: Stores) -> Room:
    storage = settings.storage

    async def count() -> int:
        found = (await stores.index.statistics()).size + (await stores.trash.statistics()).size
        return found + await stores.corrections.kept_size()

    return Room(
        None if storage.is_in_memory else settings.objects.folder(Path(storage.data_dir)),
        reserve=storage.reserve,
        quota=storage.max_bytes,
        count=count,
    )


def fullness_of(settings: Settings, parts: ArchiveParts) -> Fullness:
    """How full disk and quota are, for rules of retention; a bucket has no disk of ours."""
    storage = settings.storage
    on_disk = not storage.is_in_memory and parts.sweeper is None
    return Fullness(
        parts.archive.index,
        parts.stores.trash,
        folder=Path(storage.data_dir) if on_disk else None,
        quota=storage.max_bytes,
    )


def trash_of(settings: Settings, parts: ArchiveParts, process_name: str) -> Trash | None:
    """What deletes and restores; None: an archive in memory has no trash.

    Args:
        process_name: who tells the audit trail.
    """
    if parts.trash_files is None:
        return None
    return Trash(
        parts.archive,
        parts.stores.trash,
        parts.trash_files,
        keep_days=settings.storage.trash_days,
        record=deletion_recorder(settings, process_name),
        on_purge=corrections_of(settings, parts, process_name).sweep,
        now=parts.stores.clock,
    )


def corrections_of(settings: Settings, parts: ArchiveParts, process_name: str) -> Corrections:
    """What corrects objects.

    Args:
        process_name: who tells the audit trail.
    """
    return Corrections(
        parts.archive,
        parts.stores.corrections,
        breaks_signatures=settings.storage.correct_signed,
        now=parts.stores.clock,
        record=correction_recorder(settings, parts.stores.index, process_name),
        locked=partial(parts.duties.hold, "corrections")
        if parts.trash_files is not None
        else unlocked,
    )


def rejections_of(
    settings: Settings, parts: ArchiveParts, process_name: str, *, can_store: bool = True
) -> Rejections | None:
    """What obeys rejection notes, and makes them; None: an archive in memory obeys none.

    Args:
        process_name: who tells the audit trail.
        can_store: whether this process owns the archive.
    """
    trash = trash_of(settings, parts, process_name)
    if trash is None:
        return None
    return Rejections(
        parts.archive,
        trash,
        parts.stores.rejections,
        settings.rejection.rules(),
        keep_days=settings.storage.trash_days,
        ae_title=settings.server.ae_title,
        can_store=can_store,
    )


def _open_stores(
    settings: Settings, place: Place, *, is_owner: bool, is_server: bool
) -> AbstractAsyncContextManager[Stores]:
    events = settings.events
    options = StoresOptions(
        completion=events.rules() if events.enabled else None,
        include_patient=events.include_patient,
        notes_keys=settings.object_store is not None,
        follows_steps=settings.worklist.enabled,
        discontinued=settings.worklist.discontinued.state,
        orders_of=settings.ups.from_worklist if settings.ups.enabled else (),
        follow_ups=settings.ups.follow_ups,
        although_promised=settings.forwarding.delete_promised,
        is_owner=is_owner,
        node=settings.cluster.name if settings.is_shared else "",
        rejection=settings.rejection.rules(),
        fold_accents=settings.query.fold_accents,
        block_rows=settings.query.page_size,
        films=place.films(),
    )
    return open_stores_of(settings, options, is_server=is_server)
