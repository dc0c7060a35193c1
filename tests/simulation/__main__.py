"""Run seeds: `python -m tests.simulation SEED` shows one, `… SEED COUNT` runs many.

With `--nodes` there are several nodes on one database and one bucket.  Whatever is wrong ends the
program with status 1, after the seeds and how to show them.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

_TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_TESTS))
if importlib.util.find_spec("isocenter") is None:
    sys.path[:0] = [str(_TESTS.parent / room) for room in ("engine", "services", "storage")]

from simulation.cluster import ClusterResult, simulate_cluster  # noqa: E402
from simulation.scenario import Result, simulate  # noqa: E402
from simulation.world import Stopwatch  # noqa: E402

#: Seeds between two reports of how far it is.
_REPORT_EVERY = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=0, help="the first seed")
    parser.add_argument("count", type=int, nargs="?", default=1, help="how many; 1 is shown")
    parser.add_argument("--stop", action="store_true", help="end at the first seed that fails")
    parser.add_argument("--nodes", action="store_true", help="several nodes of one archive")
    arguments = parser.parse_args()
    if arguments.count == 1:
        return _show(arguments.seed, arguments.nodes)
    return _run(arguments.seed, arguments.count, arguments.stop, arguments.nodes)


def _show(seed: int, nodes: bool) -> int:
    result = simulate_cluster(seed, print) if nodes else simulate(seed, print)
    print(f"\nseed {seed}: {result.lines} lines, trace {result.digest[:16]}")
    _complain(result, nodes)
    return 1 if result.violations else 0


def _run(first: int, count: int, stop: bool, nodes: bool) -> int:
    watch = Stopwatch()
    failed = []
    lines = 0
    for done in range(1, count + 1):
        seed = first + done - 1
        result = simulate_cluster(seed) if nodes else simulate(seed)
        lines += result.lines
        if result.violations:
            failed.append(result.seed)
            _complain(result, nodes)
            if stop:
                break
        if done % _REPORT_EVERY == 0:
            print(f"{done} seeds, {len(failed)} failed, {done / watch.seconds:.0f} seeds/s")
    print(
        f"{done} seeds, {lines} events, {watch.seconds:.0f} s, {done / watch.seconds:.0f} seeds/s; "
        f"{len(failed)} failed{': ' if failed else ''}{' '.join(map(str, failed))}"
    )
    return 1 if failed else 0


def _complain(result: Result | ClusterResult, nodes: bool) -> None:
    for violation in result.violations:
        print(f"seed {result.seed}: {violation}")
    if result.violations:
        option = "--nodes " if nodes else ""
        print(f"  show it with: python -m tests.simulation {option}{result.seed}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
