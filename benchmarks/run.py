"""Every benchmark, one after the other: `tox -e bench`.  Prints figures, judges nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
#: What a benchmark needs beside Python, and leaves out without it.
NEEDS = {"peers.py": ("echoscu", "storescu", "storescp", "dcmqrscp")}


def main() -> int:
    failed = 0
    for script in sorted(FOLDER.glob("*.py")):
        if script == Path(__file__):
            continue
        missing = [name for name in NEEDS.get(script.name, ()) if shutil.which(name) is None]
        print(f"== {script.name}", flush=True)
        if missing:
            print(f"left out: needs {', '.join(missing)}")
            continue
        failed += subprocess.run([sys.executable, script], check=False).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
