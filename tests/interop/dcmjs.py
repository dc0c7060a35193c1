"""Fetches dcmjs' dicomweb-client from npm, once for all runs on this machine; prints its folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "dicomweb-client@0.11.3"
_SECONDS: Final = 300


def modules() -> Path:
    """The folder with ``node_modules`` in it."""
    name = re.sub(r"[^a-z0-9.-]", "-", PACKAGE)
    folder = Path(tempfile.gettempdir()) / f"isocenter-test-{os.getuid()}-{name}"
    if not (folder / "node_modules" / "dicomweb-client").is_dir():
        staged = Path(tempfile.mkdtemp(dir=folder.parent))
        command = ["npm", "install", "--prefix", str(staged), "--no-audit", "--no-fund", PACKAGE]
        subprocess.run(command, check=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)
        staged.rename(folder)
    return folder


if __name__ == "__main__":
    print(modules())
