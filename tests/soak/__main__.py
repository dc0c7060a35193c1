"""Mixed traffic and faults for hours: `tox -e soak -- --minutes 240 --workers 2`.

A line each minute with memory, descriptors, threads, CPU, queues and latencies; at the end,
whether anything grew without bound, whether every acknowledged object is there, and whether
everything was sent on, told and committed.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

_TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_TESTS))
if importlib.util.find_spec("isocenter") is None:
    sys.path[:0] = [str(_TESTS.parent / room) for room in ("engine", "services", "storage")]

from soak.soak import soak  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two lines")
    parser.add_argument("--dir", type=Path, help="on the disk to use (default: the temporary)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="isocenter-soak-", dir=options.dir) as name:
        try:
            report = soak(
                Path(name),
                60 * options.minutes,
                workers=options.workers,
                tell=partial(print, flush=True),
                every=options.every,
            )
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130
    print(
        f"{report.operations} operations, {report.stored} objects stored, "
        f"{report.examinations} examinations; nothing waited {report.drained:.0f} s after the end"
    )
    for problem in report.problems:
        print(f"WRONG: {problem}")
    print("nothing grew, nothing was lost" if not report.problems else "not good")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
