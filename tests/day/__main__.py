"""Play days: `python -m tests.day SEED COUNT`; each ends as the undisturbed one, or is told of."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from random import Random

_TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_TESTS))
if importlib.util.find_spec("isocenter") is None:
    sys.path[:0] = [str(_TESTS.parent / room) for room in ("engine", "services", "storage")]

from day.department import department  # noqa: E402
from day.steps import Killer, play  # noqa: E402
from day.test_day import EXPECTED  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.day", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=0, help="the first seed")
    parser.add_argument("count", type=int, nargs="?", default=1, help="how many")
    arguments = parser.parse_args()
    failed = []
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        with tempfile.TemporaryDirectory() as folder, department(Path(folder)) as made:
            try:
                state = play(made, Killer(Random(seed)).during)
                wrong = {name: state[name] for name in EXPECTED if state[name] != EXPECTED[name]}
            except AssertionError as error:
                wrong = {"assertion": error}
            print(f"seed {seed}: {made.kills} kills, {wrong or 'as it has to be'}", flush=True)
            if wrong:
                failed.append(seed)
    print(f"failed: {failed}" if failed else "all days ended the same")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
