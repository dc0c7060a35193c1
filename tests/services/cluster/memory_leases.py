"""Leases in memory, by the clock of trio, which a test may let jump."""

from __future__ import annotations

import trio

from isocenter.services.cluster.fence import Fence
from isocenter.services.errors import StorageError


class MemoryLeases:
    """See `isocenter.services.cluster.ports.Leases`.

    Attributes:
        is_away: nobody answers.
        renewals: how many there were.
    """

    def __init__(self) -> None:
        self.is_away = False
        self.renewals = 0
        self._held: dict[str, tuple[Fence, float]] = {}
        self._number = 0

    async def take(self, duty: str, holder: str, seconds: float) -> Fence | None:
        await self._reach()
        if duty in self._held and self._held[duty][1] > trio.current_time():
            return None
        self._number += 1
        fence = Fence(duty=duty, holder=holder, number=self._number)
        self._held[duty] = (fence, trio.current_time() + seconds)
        return fence

    async def renew(self, fence: Fence, seconds: float) -> bool:
        await self._reach()
        self.renewals += 1
        return self._put(fence, seconds)

    async def give_back(self, fence: Fence) -> None:
        await self._reach()
        self._put(fence, 0.0)

    def forget(self) -> None:
        """Whoever had something has it no more."""
        self._held.clear()

    def _put(self, fence: Fence, seconds: float) -> bool:
        now = trio.current_time()
        found, until = self._held.get(fence.duty, (None, 0.0))
        if found != fence or until <= now:
            return False
        self._held[fence.duty] = (fence, now + seconds)
        return True

    async def _reach(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise StorageError("the database does not answer")
