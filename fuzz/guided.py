"""One target under atheris, guided by coverage; a process of its own, started by `run.py`.

    python fuzz/guided.py TARGET PROGRAM [libFuzzer's options and folders]

PROGRAM is what libFuzzer starts when it needs itself a second time, with options only.

Standard: https://llvm.org/docs/LibFuzzer.html#options
"""

from __future__ import annotations

import importlib
import sys
from typing import Final

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]
from bounds import run_bounded

#: Instrumented; the parts of others are not what we look for faults in.
_OURS: Final = ["isocenter"]


def main() -> None:
    name, program, *options = sys.argv[1:]
    with atheris.instrument_imports(include=_OURS):
        run = importlib.import_module(f"targets.{name}").run
    count = 0

    def run_next(data: bytes) -> None:
        nonlocal count
        count += 1
        run_bounded(run, data, count)

    atheris.Setup([program, *options], run_next)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
