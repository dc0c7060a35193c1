"""Index of a served archive as a backup copies it: file, or database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import trio

from isocenter.services.backup.ports import TRASH, IndexedFile, IndexFile
from isocenter.services.backup.relocation.ports import ArchiveTables, NamedObject
from isocenter.services.backup.relocation.table_copies import copy_tables


class IndexFileInUse:
    """See `isocenter.services.backup.ports.IndexInUse`; a file beside the objects."""

    def __init__(self, file: IndexFile) -> None:
        self._file = file

    async def version(self) -> int:
        """See `IndexInUse.version`."""
        return await trio.to_thread.run_sync(self._file.version)

    async def copy_to(self, target: Path, progress: Callable[[int, int], None]) -> None:
        """See `IndexInUse.copy_to`."""

        def tell(done: int, total: int) -> None:
            trio.from_thread.check_cancelled()
            trio.from_thread.run_sync(progress, done, total)

        await trio.to_thread.run_sync(partial(self._file.copy_to, target, tell))

    async def still_names(self, files: Sequence[IndexedFile]) -> bool:
        """See `IndexInUse.still_names`."""
        return await trio.to_thread.run_sync(self._file.still_names, files)


class DatabaseInUse:
    """See `isocenter.services.backup.ports.IndexInUse`; the copy is a file all the same.

    Args:
        tables: of the database.
        version: of its schema; blocks.
        new_file: makes an index file, which is whole when the context is left.
    """

    def __init__(
        self,
        tables: ArchiveTables,
        version: Callable[[], int],
        new_file: Callable[[Path], AbstractAsyncContextManager[ArchiveTables]],
    ) -> None:
        self._tables = tables
        self._version = version
        self._new_file = new_file

    async def version(self) -> int:
        """See `IndexInUse.version`."""
        return await trio.to_thread.run_sync(self._version)

    async def copy_to(self, target: Path, progress: Callable[[int, int], None]) -> None:
        """See `IndexInUse.copy_to`; all rows are of one moment, and are compared once copied."""
        async with self._new_file(target) as copy:
            await copy_tables(self._tables, copy, None, progress)

    async def still_names(self, files: Sequence[IndexedFile]) -> bool:
        """See `IndexInUse.still_names`."""
        return all(await self._tables.still_named([_named(file) for file in files]))


def _named(file: IndexedFile) -> NamedObject:
    return NamedObject(
        deletion_id=file.created_at if file.path.startswith(TRASH) else "",
        object_key=file.object_key,
        sop_instance_uid=file.sop_instance_uid,
        size=file.size,
        data_set_offset=file.data_set_offset,
        digest=file.digest,
    )
