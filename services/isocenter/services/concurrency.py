"""Waiting of several tasks, locks without a checkpoint, and intervals of attempts."""

from __future__ import annotations

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


class UncontendedLock:
    """A lock that costs no turn of the scheduler when it is free."""

    __slots__ = ("_lock",)

    def __init__(self, lock: trio.Lock) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *exc: object) -> None:
        self._lock.release()


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
