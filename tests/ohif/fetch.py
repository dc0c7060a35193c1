"""Fetches the viewer from npm, and installs it, once: ``python tests/ohif/fetch.py FOLDER``.

It is 50 MB packed and 200 MB unpacked: too much for a repository, and for each run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from isocenter.services.web.viewer.package import PACKAGE, install, is_installed


def fetch(folder: Path) -> None:
    """Install the viewer in *folder*, unless it is there."""
    if is_installed(folder):
        return
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is needed to fetch the viewer (Debian: apt-get install npm)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([npm, "pack", "--silent", PACKAGE], cwd=place, check=True)
        (packed,) = Path(place).glob("*.tgz")
        install(packed, folder)


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
