"""Memory budget of the process for objects on their way in."""

from __future__ import annotations

from collections import deque

import trio


class MemoryBudget:
    """So many bytes, taken and given back; whoever asks for too many waits its turn.

    Args:
        limit: bytes that may be taken at once.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError("a memory budget is at least one byte")
        self.limit = limit
        self.taken = 0
        self._waiting: deque[tuple[int, trio.Event]] = deque()

    def acquire_nowait(self, count: int) -> bool:
        """Take *count* bytes if nobody waits and they are there."""
        if self._waiting or self.taken + count > self.limit:
            return False
        self.taken += count
        return True

    async def acquire(self, count: int) -> None:
        """Take *count* bytes, which is at most the limit, first come first served.

        Cancelled: nothing is taken.
        """
        if count > self.limit:
            raise ValueError("more than the whole budget")
        if self.acquire_nowait(count):
            return
        turn = (count, trio.Event())
        self._waiting.append(turn)
        try:
            await turn[1].wait()
        except BaseException:
            if turn[1].is_set():  # granted and cancelled at once
                self.release(count)
            else:
                self._waiting.remove(turn)
                self._grant()
            raise

    def release(self, count: int) -> None:
        self.taken -= count
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self.taken + self._waiting[0][0] <= self.limit:
            count, event = self._waiting.popleft()
            self.taken += count
            event.set()
