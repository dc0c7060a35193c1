"""The archive that the settings name: object store and index, opened, locked and recovered."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.capacity import Room
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.ports import DuplicatePolicy, Index, ObjectStore
from isocenter.services.backup.restore_mark import check_not_restoring
from isocenter.services.composition.audit import deletion_recorder
from isocenter.services.errors import StorageError
from isocenter.services.settings.loading import Settings
from isocenter.services.workflow.forwarding.forwarder import finish_deletions
from isocenter.storage.database.event_reports import release_claims
from isocenter.storage.database.events.open_studies import EventWriter
from isocenter.storage.database.forwarding.queue import SqliteForwards
from isocenter.storage.database.forwarding.records import release_forward_claims
from isocenter.storage.database.index.index import SqliteIndex, open_sqlite_index
from isocenter.storage.database.sqlite.index_copies import (
    copy_before_migration,
    hint_for_older_program,
    remove_old_copies,
)
from isocenter.storage.database.sqlite.schema import NewerIndexError
from isocenter.storage.database.trash import SqliteTrash
from isocenter.storage.objects.files.store import FileStore, open_file_store
from isocenter.storage.objects.files.trash import TrashFolder
from isocenter.storage.objects.memory import MemoryStore

log = logging.getLogger("isocenter.server")

INDEX_FILE: Final = "index.db"


@asynccontextmanager
async def open_archive(
    settings: Settings,
    *,
    lock: bool = True,
    shared: bool = False,
    recover: bool = True,
    rebuild: bool = False,
) -> AsyncIterator[Archive]:
    """The archive that the settings name, whole: locked, migrated and recovered.

    Args:
        lock: own the data directory.
        shared: own it together with the other worker processes of the same server.
        recover: undo what a crash left unfinished; by the owner only.
        rebuild: allow an index that is missing while there are objects, to fill it again.

    Raises:
        StorageError: the data directory cannot be used, or another server uses it.
        BackupError: a restore into it is not finished.
    """
    storage = settings.storage
    async with AsyncExitStack() as stack:
        store: ObjectStore
        index: Index
        if storage.is_in_memory:
            store = MemoryStore()
            index = await stack.enter_async_context(open_sqlite_index(":memory:"))
            recover = False
        else:
            data_dir = Path(storage.data_dir)
            check_not_restoring(data_dir)
            files = await open_file_store(data_dir, durability=storage.durability)
            stack.push_async_callback(files.aclose)
            if lock:
                files.lock(shared=shared)
            store = files
            index = await stack.enter_async_context(_open_index(settings, files, rebuild))
        archive = await stack.enter_async_context(
            Archive(
                store,
                index,
                naming=storage.naming,
                duplicates=DuplicatePolicy(storage.duplicates),
                uids=storage.uids,
                undeclared=storage.undeclared,
                other_patient=storage.other_patient,
                memory_budget=settings.bytes_in_flight_of_one_worker(),
                limits=settings.engine_limits(),
                room=_room_of(settings, index),
                refuse_stray_meta=storage.meta_in_data_set == "refuse",
            )
        )
        if recover and lock and isinstance(index, SqliteIndex):
            await index.write(release_claims)
            await index.write(release_forward_claims)
        if recover and not rebuild:
            # First of all: what was just deleted must not be taken for what was never indexed.
            trash = trash_of(settings, archive, "isocenter")
            if trash is not None:
                await trash.finish()
            undone = await archive.recover()
            if undone:
                log.info("undid %d objects that a crash left unfinished", undone)
            if isinstance(index, SqliteIndex):
                await finish_deletions(SqliteForwards(index), archive)
        yield archive


def _room_of(settings: Settings, index: Index) -> Room:
    storage = settings.storage

    async def count() -> int:
        size = (await index.statistics()).size
        if isinstance(index, SqliteIndex):
            size += (await SqliteTrash(index).statistics()).size
        return size

    return Room(
        None if storage.is_in_memory else Path(storage.data_dir),
        reserve=storage.reserve,
        quota=storage.max_bytes,
        count=count,
    )


def trash_of(settings: Settings, archive: Archive, process_name: str) -> Trash | None:
    """What deletes and restores; None: an archive in memory has no trash.

    Args:
        process_name: who tells the audit trail.
    """
    store, index = archive.store, archive.index
    if not isinstance(store, FileStore) or not isinstance(index, SqliteIndex):
        return None
    beside_delete = []
    if settings.events.enabled:
        writer = EventWriter(
            settings.events.rules(), include_patient=settings.events.include_patient
        )
        beside_delete.append(writer.deleted)
    return Trash(
        archive,
        SqliteTrash(index, beside_delete=beside_delete, tells=settings.events.enabled),
        TrashFolder(store),
        keep_days=settings.storage.trash_days,
        record=deletion_recorder(settings, process_name),
    )


def _open_index(
    settings: Settings, files: FileStore, rebuild: bool
) -> AbstractAsyncContextManager[Index]:
    path = Path(settings.storage.data_dir) / INDEX_FILE

    @asynccontextmanager
    async def opened() -> AsyncIterator[Index]:
        if not path.exists() and not rebuild and await _holds_objects(files):
            raise StorageError(
                f"the index {path} is missing, but there are objects; rebuild it from them with "
                f"isocenter db reindex --data-dir {settings.storage.data_dir}"
            )
        days = settings.storage.keep_index_days
        if days:
            await trio.to_thread.run_sync(_copy_index, path, days)
        try:
            async with open_sqlite_index(path, durability=settings.storage.durability) as index:
                yield index
        except StorageError as error:
            if not isinstance(error.__cause__, NewerIndexError):
                raise
            hint = await trio.to_thread.run_sync(hint_for_older_program, path)
            raise StorageError(f"{error}. {hint}" if hint else str(error)) from error

    return opened()


def _copy_index(path: Path, days: int) -> None:
    """Before it is migrated; and what was copied long ago goes."""
    copy = copy_before_migration(path)
    if copy is not None:
        log.warning(
            "the index is migrated to the schema of this version, which earlier ones cannot read; "
            "a copy from before is %s for %d days. With it an earlier version forgets what was "
            "stored, scheduled and queued since",
            copy,
            days,
        )
    remove_old_copies(path, days)


async def _holds_objects(files: FileStore) -> bool:
    async with files.keys() as blocks:
        async for _ in blocks:
            return True
    return False
