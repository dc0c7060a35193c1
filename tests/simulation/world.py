"""One simulated world: its chance, its clock, its trace, and what it has found wrong.

Everything that happens in a run follows from its seed: the order in which tasks get their
turn, how long each wait takes, how bytes are cut, and which fault strikes when.  Threads are
functions that take virtual time; nothing here waits for a real clock.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import random
import secrets
import sys
import time
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeVar
from unittest.mock import patch

import trio
import trio.testing
from trio._core import _run as trio_run

from isocenter.storage.objects.files import reader, staging, store

#: Lines kept for the report of a failure.
_LAST_LINES: Final = 60
#: Rounds of the scheduler in one run: far more than any takes that gets on.
_MOST_ROUNDS: Final = 2_000_000

_T = TypeVar("_T")


class World:
    """The chance and the memory of one run.

    Attributes:
        random: draws everything; nothing else may.
        digest: hash of the trace so far.
        violations: what should not have happened.
        calm: no faults and no delays any more.
    """

    def __init__(self, seed: int, show: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.calm = False
        self.violations: list[str] = []
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self.lines = 0
        self._show = show
        self._hash = hashlib.sha256()
        self._hop_seconds = 0.0

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def note(self, text: str) -> None:
        """A line of the trace."""
        line = f"{trio.current_time():14.6f}  {text}"
        self._hash.update(line.encode())
        self.lines += 1
        self.last_lines.append(line)
        if self._show is not None:
            self._show(line)

    def violation(self, text: str) -> None:
        self.note(f"VIOLATION: {text}")
        self.violations.append(text)

    def check(self, holds: bool, text: str) -> None:
        if not holds:
            self.violation(text)

    def happens(self, probability: float) -> bool:
        """Whether a fault of this probability strikes now."""
        return not self.calm and self.random.random() < probability

    def threads_take(self, seconds: float) -> None:
        """Each way from the event loop to a worker thread, and back, takes up to this long."""
        self._hop_seconds = seconds

    @property
    def longest_way(self) -> float:
        """Seconds that what storage has begun may take to end: a few ways there and back."""
        return 10 * self._hop_seconds

    async def hop(self) -> None:
        """The way to a thread, or back."""
        seconds = 0.0 if self.calm else self._hop_seconds * self.random.random() ** 3
        await trio.sleep(seconds)

    async def in_thread(
        self,
        call: Callable[..., _T],
        *arguments: Any,
        thread_name: str | None = None,
        abandon_on_cancel: bool = False,
        limiter: trio.CapacityLimiter | None = None,
    ) -> _T:
        """Stands in for `trio.to_thread.run_sync`: the call takes virtual time, and no thread."""
        assert not abandon_on_cancel
        await trio.lowlevel.checkpoint_if_cancelled()
        borrower = object()
        if limiter is not None:
            await limiter.acquire_on_behalf_of(borrower)
        try:
            with trio.CancelScope(shield=True):
                await self.hop()
                try:
                    result = call(*arguments)
                finally:
                    await self.hop()
            return result
        finally:
            if limiter is not None:
                limiter.release_on_behalf_of(borrower)

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run *main* to its end and note what it left behind."""
        descriptors = _open_descriptors()
        rounds = _Rounds(self)

        async def watched() -> None:
            with rounds.scope:
                await main()
            if rounds.scope.cancelled_caught:
                self.violation(f"no end after {_MOST_ROUNDS} rounds of the scheduler")

        with self._determined(), _heard(self.violations), warnings.catch_warnings(record=True) as w:
            warnings.simplefilter("always")
            trio.run(
                watched,
                clock=trio.testing.MockClock(autojump_threshold=0),
                instruments=[rounds],
            )
            # What was left to the garbage collector shows itself as a warning.
            gc.collect()
        self.violations += [f"warning: {each.message}" for each in w]
        if (left := _open_descriptors()) != descriptors:
            self.violations.append(f"{left - descriptors} file descriptors were left open")

    def _read_cached(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        """Stands in for a read of what the page cache holds: all of it, or nothing."""
        if not buffer or self.random.random() < 0.5:
            return 0
        return reader._read_all(descriptor, buffer, offset)

    @contextmanager
    def _determined(self) -> Iterator[None]:
        """Chance, order and threads come from the seed."""
        listdir = os.listdir
        order = trio_run._r.getstate()
        trio_run._r.seed(self.seed)
        with ExitStack() as stack:
            stack.callback(trio_run._r.setstate, order)
            stack.enter_context(patch.object(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True))
            stack.enter_context(patch.object(trio.to_thread, "run_sync", self.in_thread))
            for module in (staging, store):
                stack.enter_context(
                    patch.object(
                        module,
                        "run_in_thread",
                        lambda call, limiter: self.in_thread(call, limiter=limiter),
                    )
                )
            # Whether the system has it at hand depends on what else the machine does.
            stack.enter_context(patch.object(reader, "_read_cached", self._read_cached))
            # A thread that got past these would take real time.
            stack.enter_context(patch.object(trio.lowlevel, "start_thread_soon", _no_thread))
            # `token_hex` is made of it.
            stack.enter_context(patch.object(secrets, "token_bytes", self.random.randbytes))
            stack.enter_context(patch.object(os, "listdir", lambda path: sorted(listdir(path))))
            # Collecting garbage runs finalizers, at moments that no seed decides.  What was
            # there before is none of ours, and looking at it would take most of the time.
            gc.disable()
            stack.callback(gc.enable)
            gc.freeze()
            stack.callback(gc.unfreeze)
            yield


def _no_thread(*_: object, **__: object) -> None:
    raise AssertionError("a real thread: have `World.in_thread` stand in for what starts it")


class _Rounds(trio.abc.Instrument):
    """Ends a run in which time stands still and tasks go round in circles."""

    def __init__(self, world: World) -> None:
        self.scope = trio.CancelScope()
        self._rounds = 0

    def before_io_wait(self, timeout: float) -> None:
        self._rounds += 1
        if self._rounds == _MOST_ROUNDS:
            self.scope.cancel()


class _Faults(logging.Handler):
    """Tracebacks in the log are faults of the product."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            text = logging.Formatter().formatException(record.exc_info)
            self._found.append(f"logged: {record.getMessage()}\n{text}")


@contextmanager
def _heard(found: list[str]) -> Iterator[None]:
    logger = logging.getLogger("isocenter")
    handler = _Faults(found)
    before = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    hook = sys.unraisablehook
    sys.unraisablehook = lambda it: found.append(f"unraisable: {it.exc_value!r} in {it.object!r}")
    try:
        yield
    finally:
        sys.unraisablehook = hook
        logger.removeHandler(handler)
        logger.propagate = before[0]
        logger.setLevel(before[1])


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


class Stopwatch:
    """Real seconds, for the report of a rate."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began
