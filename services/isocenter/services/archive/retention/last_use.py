"""Last retrieval of studies, gathered from notices, kept by the day."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time
from typing import Final

import trio

from isocenter.services.archive.retention.ports import RetentionBook
from isocenter.services.errors import StorageError
from isocenter.services.notices import InstancesSent, Notice

log = logging.getLogger("isocenter.storage")

#: How often what was gathered is written.
WRITE_SECONDS: Final = 60.0
_DAY_SECONDS: Final = 86_400.0
#: Studies of today that are known to be written; a few megabytes.
_MOST_KNOWN: Final = 50_000


class UseRecorder:
    """Notes which studies C-GET and C-MOVE sent; `run` writes it.

    A study that is retrieved a thousand times a day costs one row, once.
    """

    #: Kinds of notices that it listens for.
    hears = (InstancesSent,)

    def __init__(self, book: RetentionBook, *, now: Callable[[], float] = time) -> None:
        self._book = book
        self._now = now
        self._new: set[str] = set()
        self._known: set[str] = set()
        self._day = 0

    def on_notice(self, notice: Notice) -> None:
        """A listener of `Notices`."""
        # What a rule sends on (C-STORE) nobody has asked for.
        if isinstance(notice, InstancesSent) and notice.command != "C-STORE":
            self._new.update(notice.studies)

    async def run(self) -> None:
        """Write what was gathered, until cancelled."""
        while True:
            try:
                await self._write()
            except StorageError as error:
                log.warning("which studies are used cannot be kept now: %s", error)
            await trio.sleep(WRITE_SECONDS)

    async def _write(self) -> None:
        now = self._now()
        if (day := int(now // _DAY_SECONDS)) != self._day or len(self._known) > _MOST_KNOWN:
            self._known.clear()
            # Also without any study: from now on it is recorded.
            await self._book.note_use((), now)
            self._day = day
        taken, self._new = self._new, set()
        try:
            fresh = sorted(taken - self._known)
            if fresh:
                await self._book.note_use(fresh, now)
        except StorageError:
            self._new |= taken
            raise
        self._known |= taken
