"""Small things that trio does not have."""

from __future__ import annotations

import trio


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
        """Until the next `send`."""
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
