"""Waiting of several tasks, locks without a checkpoint, and intervals of attempts."""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass

#: Beyond that a power of two could pass every float.
_MOST_DOUBLINGS: Final = 32


class Broadcast:
    """Wakes everybody who waits now, without a lock: trio's tasks change state atomically.

    Whoever waits looks at the state first, then waits, then looks again; between the look
    and the wait nothing can change.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        #: Made by the first who waits: most sends wake nobody.
        self._event: trio.Event | None = None

    async def wait(self) -> None:
        """Wait until the next `send`."""
        if self._event is None:
            self._event = trio.Event()
        await self._event.wait()

    def send(self) -> None:
        """Wake all who wait; who comes later waits for the next."""
        event, self._event = self._event, None
        if event is not None:
            event.set()


class Latch:
    """Work for one task: whoever has some sets it, and it stays set until the task looks.

    The task clears it, looks for work, and then waits; so what comes while it looks is not lost.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = trio.Event()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        """There is work."""
        self._event.set()

    def clear(self) -> None:
        """All that there was so far is being looked for."""
        if self.is_set:
            self._event = trio.Event()

    async def wait(self) -> None:
        """Until there is work."""
        await self._event.wait()


def alone(error: BaseException) -> BaseException:
    """Of a group of one, the one: who presses Ctrl-C expects `KeyboardInterrupt`."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class FairLock:
    """A lock that costs no turn of the scheduler when it is free; who waits longest is next.

    `trio.Lock` always takes a turn, and keeps account of its owner, which costs five times as much.
    """

    __slots__ = ("_is_taken", "_waiting")

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: deque[trio.Event] = deque()

    @property
    def is_taken(self) -> bool:
        return self._is_taken

    def take_now(self) -> bool:
        """Whether it was free, and is taken now."""
        if self._is_taken:
            return False
        self._is_taken = True
        return True

    async def take(self) -> None:
        """Wait for it."""
        if self.take_now():
            return
        turn = trio.Event()
        self._waiting.append(turn)
        try:
            await turn.wait()
        except trio.Cancelled:
            if turn.is_set():  # it was handed over already
                self.release()
            else:
                self._waiting.remove(turn)
            raise

    async def __aenter__(self) -> None:
        await self.take()

    async def __aexit__(self, *exc: object) -> None:
        self.release()

    def release(self) -> None:
        """Hand it over to who waits longest; else it is free."""
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self._is_taken = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Intervals between attempts, doubled each time, and an end of them; all in seconds.

    Attributes:
        first_seconds: after the first attempt that failed.
        longest_seconds: no interval is longer.
        give_up_after_seconds: when it has failed for so long, there is no further attempt.
    """

    first_seconds: float = 5.0
    longest_seconds: float = 900.0
    give_up_after_seconds: float

    def interval(self, failures: int) -> float:
        """Until the next attempt, after so many that failed (at least one)."""
        doublings = min(failures - 1, _MOST_DOUBLINGS)
        return float(min(self.first_seconds * 2.0**doublings, self.longest_seconds))

    def next_interval(self, failures: int, failing_for: float) -> float | None:
        """Until the next attempt, after so many that failed; None: there is none.

        Args:
            failing_for: seconds since the first of them, or since it was asked for.
        """
        return None if failing_for >= self.give_up_after_seconds else self.interval(failures)
