"""Watch over the deadlines of many associations, in one task."""

from __future__ import annotations

import math
from typing import Protocol

import trio


class Watched(Protocol):
    """Something with a deadline that moves.

    Attributes:
        wake_at: when `look` is to be called, by trio's clock; infinite: not now.
    """

    wake_at: float

    def look(self) -> None:
        """Do what is due, and say in `wake_at` when to look again."""
        ...


class DeadlineWatch:
    """Looks after each of the watched when its time has come.

    Deadlines move with each message, and hardly any is ever reached.  A cancel scope around each
    wait would cost a fifth of a C-ECHO; here a deadline is a number, and who wakes too early looks
    again.
    """

    def __init__(self) -> None:
        self._watched: dict[Watched, None] = {}
        self._sleeping = trio.CancelScope()
        #: Its deadline: to set one costs twenty times as much as to compare two numbers.
        self._wakes_at = math.inf
        self._is_stopped = False

    def add(self, watched: Watched) -> None:
        """From now on its `wake_at` counts."""
        self._watched[watched] = None
        self.wake_by(watched.wake_at)

    def remove(self, watched: Watched) -> None:
        """Nobody looks after it any more."""
        self._watched.pop(watched, None)

    def wake_by(self, moment: float) -> None:
        """Some `wake_at` has become as early as that."""
        if moment < self._wakes_at:
            self._wakes_at = self._sleeping.deadline = moment

    def stop(self) -> None:
        """`run` ends."""
        self._is_stopped = True
        self._sleeping.cancel()

    async def run(self) -> None:
        """Look until cancelled or stopped."""
        while not self._is_stopped:
            earliest = min((each.wake_at for each in self._watched), default=math.inf)
            self._wakes_at = earliest
            self._sleeping = trio.CancelScope(deadline=earliest)
            with self._sleeping:
                await trio.sleep_forever()
            now = trio.current_time()
            for each in tuple(self._watched):
                if each.wake_at <= now:
                    each.look()
