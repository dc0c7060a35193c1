"""Fullness of disk and quota, as rules of retention look at it."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from isocenter.services.archive.deletion.ports import TrashBook
from isocenter.services.archive.ports import Index
from isocenter.services.errors import StorageError, text_of

#: Bytes that have to go until no more than so many percent are used; not above 0: none.
Excess = Callable[[int], Awaitable[int]]


class Fullness:
    """Counts what is too much; what lies in the trash counts as gone: it goes by itself.

    Args:
        folder: on the disk that has the objects; None: only the quota counts.
        quota: bytes that all objects may have together; 0: no bound.
    """

    def __init__(
        self, index: Index, trash: TrashBook, *, folder: Path | None, quota: int = 0
    ) -> None:
        self._index = index
        self._trash = trash
        self._folder = folder
        self._quota = quota

    async def excess(self, percent: int) -> int:
        """Bytes that have to go until no more than *percent* are used.

        Raises:
            StorageError: that cannot be looked at.
        """
        trash = await self._trash.statistics()
        found = []
        if self._quota:
            size = (await self._index.statistics()).size
            # What is withheld stays.
            found.append(size + trash.size - trash.purgeable_size - self._quota * percent // 100)
        if self._folder is not None:
            try:
                usage = await trio.to_thread.run_sync(shutil.disk_usage, self._folder)
            except OSError as error:
                raise StorageError(f"the disk cannot be looked at: {text_of(error)}") from error
            whole = usage.used + usage.free
            found.append(usage.used - trash.purgeable_size - whole * percent // 100)
        return max(found, default=0)
