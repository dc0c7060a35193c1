"""Capacity: bytes that may still come in, by disk, reserve and quota.

Part of the disk is kept free for what must not fail when objects have filled the rest: the index,
whose transactions also delete, and the audit trail.  Nothing is set aside for it; objects are
refused while less than that is free, with A700H, before the disk itself would refuse them.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from isocenter.services.errors import StorageError, text_of

log = logging.getLogger("isocenter.storage")

_WATCHED_SECONDS: Final = 600.0
_SAID_AGAIN_SECONDS: Final = 86_400.0
#: For so long a disk that had room is believed to have it; one that had none is looked at again.
_DISK_SECONDS: Final = 0.2
#: For so long what is kept is counted by what this process adds.
_COUNT_SECONDS: Final = 5.0
#: Of a small disk no more than this part is kept free.
_LARGEST_PART: Final = 20
_UNIT: Final = 1 << 20

#: Bytes of all objects that are kept.
Count = Callable[[], Awaitable[int]]


class Room:
    """What is left of a disk and of a quota.

    Args:
        folder: on the disk; None: nothing is kept there.
        reserve: bytes of the disk that stay free, of a small one a twentieth at most; 0: none.
        quota: bytes that all objects may have together; 0: no bound.
        count: what they have now.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        reserve: int = 0,
        quota: int = 0,
        count: Count | None = None,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self._folder = folder
        self._reserve = reserve
        self.quota = quota
        self._count = count
        self._now = now
        self._free = 0
        self._kept_free = 0
        self._looked_at: float | None = None
        #: Bytes of all objects, as far as this process knows.
        self.used = 0
        self._counted_at: float | None = None

    async def check(self, size: int = 0) -> None:
        """Raises:
        StorageError: there is no room for *size* bytes more.
        """
        self.check_disk(size)
        if not self.quota:
            return
        if self.used + size > self.quota or self._is_over(self._counted_at, _COUNT_SECONDS):
            await self.count()
        if self.used + size > self.quota:
            raise StorageError(
                f"the quota storage.max_bytes is used up: {self.used // _UNIT} of "
                f"{self.quota // _UNIT} MiB; delete something and purge it from the trash, or "
                "raise it",
                out_of_resources=True,
            )

    async def count(self) -> None:
        """Ask how much is kept now."""
        if self._count is not None:
            self.used = await self._count()
            self._counted_at = self._now()

    def check_disk(self, size: int = 0) -> None:
        """As `check`, of the disk alone.

        Raises:
            StorageError: it is too full.
        """
        if self._folder is None or not self._reserve:
            return
        if self._is_over(self._looked_at, _DISK_SECONDS) or not self._fits(size):
            try:
                usage = shutil.disk_usage(self._folder)
            except OSError as error:
                raise StorageError(f"the disk cannot be looked at: {text_of(error)}") from error
            self._free = usage.free
            self._kept_free = reserve_of(self._reserve, usage.total)
            self._looked_at = self._now()
        if not self._fits(size):
            raise StorageError(
                f"the disk is full: {self._free // _UNIT} MiB are free, and "
                f"{self._kept_free // _UNIT} MiB stay free for the index and the audit trail "
                "(storage.reserve); free some space",
                out_of_resources=True,
            )

    def took(self, size: int) -> None:
        """So much came in."""
        self.used += size
        self._free -= size

    def _fits(self, size: int) -> bool:
        return self._free - size >= self._kept_free

    def _is_over(self, since: float | None, seconds: float) -> bool:
        return since is None or self._now() - since >= seconds


def reserve_of(reserve: int, total: int) -> int:
    """What of a disk of *total* bytes stays free when *reserve* is set."""
    return min(reserve, total // _LARGEST_PART)


async def warn_early(folder: Path, percent: int) -> None:
    """Say in the log, once a day, that a disk is fuller than *percent*, until cancelled."""
    said_at: float | None = None
    while True:
        with suppress(OSError):  # /health says so
            usage = await trio.to_thread.run_sync(shutil.disk_usage, folder)
            used = 100 * usage.used / (usage.used + usage.free or 1)
            now = trio.current_time()
            if used < percent:
                said_at = None
            elif said_at is None or now - said_at >= _SAID_AGAIN_SECONDS:
                said_at = now
                log.warning(
                    "the disk is %.0f %% full; isocenter doctor says for how long it suffices, and "
                    "what makes room",
                    used,
                )
        await trio.sleep(_WATCHED_SECONDS)
