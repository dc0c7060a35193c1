"""Run Isocenter with a wall clock that is so many seconds off as a file says at the moment.

python shifted_clock.py OFFSET_FILE PYTHON -m isocenter.services.cli …
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

_real = time.time
_offset = Path(sys.argv[1])


def _shifted() -> float:
    return _real() + float(_offset.read_text() or 0)


time.time = _shifted
del sys.argv[:4]  # this script, the file, the interpreter and -m
sys.path.pop(0)
module = sys.argv[0]
runpy.run_module(module, run_name="__main__", alter_sys=True)
