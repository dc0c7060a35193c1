"""What the protocol costs in memory, beside pynetdicom's codec in the same run.

    PYTHONPATH=engine:services python benchmarks/engine.py [--only NAME ...] [--seconds S]

Ours are two `Association`s that exchange bytes: state machine, checks and all.  pynetdicom's
figures are its codec alone (primitives, PDU and DIMSE classes), without its threads, sockets
and queues.  Both take turns; each figure is the median of the rounds, in CPU
microseconds per operation or MiB per CPU second.  Nothing is judged.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import pydicom
import pynetdicom
from engine_ours import OURS
from engine_theirs import THEIRS

ROUNDS = 7
#: Calls between two looks at the clock take about this long at least, in seconds.
SLICE = 2e-3


class Case(NamedTuple):
    """One line.  ``size`` is what one call moves, in bytes, where a rate says more."""

    name: str
    what: str
    size: int = 0


CASES = (
    Case("echo", "C-ECHO round trip"),
    Case("store-12k", "C-STORE round trip, 12 KB"),
    Case("store-512k", "C-STORE round trip, 512 KB"),
    Case("associate-1", "A-ASSOCIATE, 1 context, both ends"),
    Case("associate-128", "A-ASSOCIATE, 128 contexts, both ends"),
    Case("encode-request", "command set, C-STORE-RQ, encode"),
    Case("decode-request", "command set, C-STORE-RQ, decode"),
    Case("encode-response", "command set, C-STORE-RSP, encode"),
    Case("decode-response", "command set, C-STORE-RSP, decode"),
    Case("receive-16k", "framing in, PDUs of 16 KiB", 8 << 20),
    Case("receive-128k", "framing in, PDUs of 128 KiB", 8 << 20),
    Case("send-16k", "framing out, PDUs of 16 KiB", 8 << 20),
    Case("send-128k", "framing out, PDUs of 128 KiB", 8 << 20),
    Case("scan", "elements out of a CT header"),
    Case("scan-implicit", "... in implicit VR"),
    Case("index-row", "... decoded to text, for an index row"),
)


class Timed:
    """Calls of one function: how many make a slice, and what each round found."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        call()  # what is made once (caches, imports) is not the operation
        self._number = 1
        while (spent := self._spend(self._number)) < SLICE:
            self._number = max(self._number + 1, int(self._number * 1.2 * SLICE / max(spent, 1e-7)))
        self._seconds: list[float] = []

    def _spend(self, number: int) -> float:
        """CPU seconds: those of this process alone, whatever else the machine does."""
        call = self._call
        started = time.process_time()
        for _ in range(number):
            call()
        return time.process_time() - started

    def round(self, seconds: float) -> None:
        """Call for about *seconds*, one slice at least, and note the median slice."""
        slices: list[float] = []
        ends = time.perf_counter() + seconds
        while not slices or time.perf_counter() < ends:
            slices.append(self._spend(self._number) / self._number)
        self._seconds.append(statistics.median(slices))

    def median(self) -> float:
        """Seconds of one call."""
        return statistics.median(self._seconds)


def measure(case: Case, seconds: float) -> str:
    ours, theirs = Timed(OURS[case.name]()), Timed(THEIRS[case.name]())
    for _ in range(ROUNDS):
        ours.round(seconds / ROUNDS / 2)
        theirs.round(seconds / ROUNDS / 2)
    our, their = ours.median(), theirs.median()
    if case.size:
        mebibytes = case.size / (1 << 20)
        figures = f"{mebibytes / our:10,.0f} MiB/s {mebibytes / their:10,.0f} MiB/s"
    else:
        figures = f"{our * 1e6:10,.2f} µs    {their * 1e6:10,.2f} µs   "
    return f"{case.name:<16} {case.what:<38} {figures} {their / our:8.1f} {1 / our:12,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="a line whose name starts so; repeatable"
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="per line (default: %(default)s)"
    )
    options = parser.parse_args()
    chosen = [
        case
        for case in CASES
        if options.only is None or any(case.name.startswith(name) for name in options.only)
    ]
    if not chosen:
        parser.error(f"no such line; there are {', '.join(case.name for case in CASES)}")
    print(
        f"Python {platform.python_version()}, pynetdicom {pynetdicom.__version__}, "
        f"pydicom {pydicom.__version__}"
    )
    print(f"{'':<55} {'isocenter':>10} {'pynetdicom':>16} {'times':>11} {'ours /s':>12}")
    for case in chosen:
        print(measure(case, options.seconds), flush=True)


if __name__ == "__main__":
    main()
