"""What every input must keep to: no exception, little time, little memory."""

from __future__ import annotations

import signal
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

Run = Callable[[bytes], None]

#: Processor time of one input, on a slow machine and with what is imported for the first: a peer
#: must not keep us busy for longer.
MOST_SECONDS: Final = 3.0
#: Peak allocation of one input: this many times its length, and that for what any call needs.
MOST_TIMES_ITS_LENGTH: Final = 4
MOST_BYTES_BESIDE: Final = 1 << 20
#: Every so many inputs one is measured; counting each allocation is too slow for all.
MEASURE_EVERY: Final = 50


class TookTooLong(Exception):
    """The input is still being worked on after `MOST_SECONDS`."""


class HeldTooMuch(AssertionError):
    """At some time more was allocated than the input allows."""


def run_timed(run: Run, data: bytes) -> None:
    """Run one input.

    Raises:
        TookTooLong: after `MOST_SECONDS` of processor time, also out of an endless loop.
        Exception: whatever is found.
    """
    with _limited():
        run(data)


def run_measured(run: Run, data: bytes) -> None:
    """Run one input and count what it allocates.

    Raises:
        HeldTooMuch: the peak passes ``4 × input + 1 MiB``.
        Exception: whatever is found.
    """
    most = MOST_TIMES_ITS_LENGTH * len(data) + MOST_BYTES_BESIDE
    tracemalloc.start()
    try:
        run(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if peak > most:
        raise HeldTooMuch(f"{len(data)} bytes made us hold {peak} bytes; allowed are {most}")


def run_bounded(run: Run, data: bytes, count: int) -> None:
    """Run the input that has this number, measured or timed."""
    if count % MEASURE_EVERY:
        run_timed(run, data)
    else:
        run_measured(run, data)


@contextmanager
def _limited() -> Iterator[None]:
    if not hasattr(signal, "setitimer"):  # Windows: whoever runs us sees that nothing moves
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise TookTooLong(f"more than {MOST_SECONDS:g} s of processor time")
