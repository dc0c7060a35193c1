"""Fetches the viewer from npm into a folder, once: ``python tests/ohif/fetch.py FOLDER``.

It is 50 MB packed and 200 MB unpacked: too much for a repository, and for each run.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "@ohif/app@3.13.2"
#: What the registry says of it; another package is none of ours.
INTEGRITY: Final = (
    "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
)
_INSIDE: Final = "package/dist/"


def fetch(folder: Path) -> None:
    """Unpack the viewer to *folder*, unless it is there."""
    if (folder / "index.html").exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        place = Path(name)
        npm = shutil.which("npm")
        if npm is None:
            sys.exit("npm is needed to fetch the viewer (Debian: apt-get install npm)")
        subprocess.run([npm, "pack", "--silent", PACKAGE], cwd=place, check=True)
        (packed,) = place.glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
        if digest != INTEGRITY:
            sys.exit(f"{PACKAGE} is not what it was: sha512-{digest}")
        with tarfile.open(packed) as archive:
            wanted = [
                member
                for member in archive.getmembers()
                if member.name.startswith(_INSIDE) and not member.name.endswith(".map")
            ]
            archive.extractall(place, members=wanted, filter="data")
        (place / _INSIDE).rename(folder)


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
