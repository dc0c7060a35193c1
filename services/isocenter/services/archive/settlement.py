"""Settlement of answered objects: what their store still has to do for them.

Nobody waits for it, unless it does not keep up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

import trio

from isocenter.services.archive.ports import ObjectStore, StagedObject
from isocenter.services.errors import StorageError

_log = logging.getLogger("isocenter.storage")

#: Answered objects that are settled at once while the load lasts.
MAX_UNSETTLED: Final = 512
#: So many that wait to be settled keep others from being taken: the store falls behind.
MOST_UNSETTLED: Final = 4 * MAX_UNSETTLED
#: How long an answered object waits for others to be settled with.  What a store needs for
#: those that wait is bounded, and so is what a start after a crash has to do.
SETTLE_AFTER_SECONDS: Final = 1.0


class Settlement:
    """Objects that are durable and whose store needs more for that than their files.

    `run` is its task: it settles many of them together.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._waiting: list[StagedObject] = []
        #: How many are being settled now.
        self._settling = 0
        #: There is something to settle; there is much; it was done.
        self._some = trio.Event()
        self._many = trio.Event()
        self._settled = trio.Event()

    @property
    def unsettled(self) -> int:
        """How many there are."""
        return len(self._waiting) + self._settling

    def add(self, staged: Iterable[StagedObject]) -> None:
        """Settle them soon."""
        self._waiting += staged
        if self._waiting:
            self._some.set()
        if len(self._waiting) >= MAX_UNSETTLED:
            self._many.set()

    async def run(self) -> None:
        """Settle what is added, until it is cancelled."""
        while True:
            await self._some.wait()
            with trio.move_on_after(SETTLE_AFTER_SECONDS):
                await self._many.wait()
            with trio.CancelScope(shield=True):
                await self.settle()

    async def settle(self) -> None:
        """Settle what waits, now."""
        settled, self._waiting = self._waiting, []
        self._some, self._many = trio.Event(), trio.Event()
        self._settling += len(settled)
        try:
            if settled:
                await self._store.settle(settled)
        except StorageError as error:
            # Their promise is kept: the store has what makes them whole.
            _log.error(
                "%d objects are durable, and what makes them so is left to the next start: %s",
                len(settled),
                error,
            )
        finally:
            self._settling -= len(settled)
            self._settled.set()
            self._settled = trio.Event()

    async def until_few(self) -> None:
        """Wait while more than enough is being settled, or waits for it."""
        while self.unsettled >= MOST_UNSETTLED:
            await self._settled.wait()
