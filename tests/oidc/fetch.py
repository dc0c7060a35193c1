"""Fetches npm's `oidc-provider`, once: ``python tests/oidc/fetch.py FOLDER``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = "oidc-provider@9.13.3"


def fetch(folder: Path) -> None:
    """Install it in *folder*, unless it is there."""
    if (folder / "node_modules" / "oidc-provider").is_dir():
        return
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is needed to fetch the provider (Debian: apt-get install npm)")
    folder.mkdir(parents=True, exist_ok=True)
    words = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run([npm, *words, "--prefix", folder, PACKAGE], check=True)


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
