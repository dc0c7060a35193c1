"""Fetches the accessibility checker axe from npm, once: ``python tests/browser/fetch.py FILE``."""

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

PACKAGE: Final = "axe-core@4.14.1"
#: What the registry says of it; another package is none of ours.
INTEGRITY: Final = (
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
)


def fetch(target: Path) -> None:
    """Put the checker to *target*, unless it is there."""
    if target.exists():
        return
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is needed to fetch axe (Debian: apt-get install npm)")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        place = Path(name)
        subprocess.run([npm, "pack", "--silent", PACKAGE], cwd=place, check=True)
        (packed,) = place.glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
        if digest != INTEGRITY:
            sys.exit(f"{PACKAGE} is not what it was: sha512-{digest}")
        with tarfile.open(packed) as archive:
            archive.extract("package/axe.min.js", place, filter="data")
        (place / "package/axe.min.js").rename(target)


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
