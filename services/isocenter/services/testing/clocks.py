"""Virtual time for tests that waits for threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio.testing
from trio._core._thread_cache import ThreadCache

_BUSY: list[int] = []


@contextmanager
def patient_clock(threshold: float = 0.01) -> Iterator[trio.testing.MockClock]:
    """A clock that jumps to the next deadline when nothing happens, in no task and in no thread.

    trio's own knows nothing of threads: a slow one would find its time long past.

    Args:
        threshold: real seconds without any event.
    """
    start = ThreadCache.start_thread_soon

    def counted(
        self: ThreadCache,
        work: Callable[[], Any],
        deliver: Callable[[Any], object],
        name: str | None = None,
    ) -> None:
        def delivered(outcome: Any) -> None:
            try:
                deliver(outcome)
            finally:
                _BUSY.pop()

        _BUSY.append(1)
        start(self, work, delivered, name)

    clock = trio.testing.MockClock(autojump_threshold=threshold)
    jump = clock._autojump

    def jump_if_idle() -> None:
        if not _BUSY:
            jump()

    clock._autojump = jump_if_idle  # type: ignore[method-assign]  # of this clock
    replacement: Any = counted
    ThreadCache.start_thread_soon = replacement  # type: ignore[method-assign]  # undone below
    try:
        yield clock
    finally:
        ThreadCache.start_thread_soon = start  # type: ignore[method-assign]  # of this clock
