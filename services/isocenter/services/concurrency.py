"""Waiting of several tasks, locks without a checkpoint, and intervals of attempts."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Generic, TypeVar

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass

K = TypeVar("K")
V = TypeVar("V")

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
    """Of a group of one, the one: who presses Ctrl-C expects `KeyboardInterrupt`.

    That tasks beside it were cancelled does not count: they are told again where they wait next.
    Of several faults that are expected, as when a database goes away under many tasks, it is the
    first; a fault of ours stays in the group with the others.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    _, faults = error.split(trio.Cancelled)
    if faults is None:
        return next(_leaves(error))
    found = list(_leaves(faults))
    if len(found) == 1 or all(isinstance(each, IsocenterError | OSError) for each in found):
        return found[0]
    return faults


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


@asynccontextmanager
async def open_plain_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery from which an error leaves as it was raised, for who catches it by its type.

    One of trio's wraps it in a group, also a single one.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        raise alone(group) from None


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


class _Waiting(Generic[K, V]):
    """A question that waits for its answer."""

    __slots__ = ("answers", "error", "is_asked", "question", "told")

    def __init__(self, question: K) -> None:
        self.question = question
        self.answers: list[V] = []
        self.error: Exception | None = None
        self.is_asked = False
        #: It is answered; or nobody asks, and it is the next to do so.
        self.told = trio.Event()


class Gathered(Generic[K, V]):
    """Questions of many tasks that are asked at once, by whoever comes first of those who wait."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting[K, V]] = []
        self._is_asking = False

    async def ask(
        self, question: K, function: Callable[[Sequence[K]], Awaitable[Sequence[V]]]
    ) -> V:
        """The answer to *question*; what *function* raised, is raised by all whom it was for.

        Args:
            function: answers questions, in their order; the same at each call.
        """
        ours = _Waiting[K, V](question)
        self._waiting.append(ours)
        if self._is_asking:
            try:
                await ours.told.wait()
            except trio.Cancelled:
                self._withdraw(ours)
                raise
        if not ours.is_asked:
            self._is_asking = True
            with trio.CancelScope(shield=True):  # it is not only ours
                await self._ask_for_all(function)
        if ours.error is not None:
            raise ours.error
        return ours.answers[0]

    async def _ask_for_all(self, function: Callable[[Sequence[K]], Awaitable[Sequence[V]]]) -> None:
        await until_no_more(lambda: len(self._waiting))
        waiting, self._waiting = self._waiting, []
        try:
            await _answer(waiting, function)
        finally:
            for each in waiting:
                each.is_asked = True
                each.told.set()
            self._hand_over()

    def _hand_over(self) -> None:
        if self._waiting:
            self._waiting[0].told.set()
        else:
            self._is_asking = False

    def _withdraw(self, ours: _Waiting[K, V]) -> None:
        if ours in self._waiting:
            self._waiting.remove(ours)
            if ours.told.is_set():  # it was to ask for the others
                self._hand_over()


async def until_no_more(count: Callable[[], int]) -> None:
    """Let all tasks run that are ready, as long as something comes of it that is to be counted.

    So what belongs together is taken up together, and nobody waits for what may not come.
    """
    seen = 0
    while seen < (seen := count()):
        await trio.lowlevel.checkpoint()


async def _answer(
    waiting: Sequence[_Waiting[K, V]], function: Callable[[Sequence[K]], Awaitable[Sequence[V]]]
) -> None:
    try:
        answers = await function([each.question for each in waiting])
        for each, answer in zip(waiting, answers, strict=True):
            each.answers.append(answer)
    except Exception as error:
        for each in waiting:
            each.error = error


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
