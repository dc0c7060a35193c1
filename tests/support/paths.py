"""Where other people's programs are."""

from __future__ import annotations

import os
from pathlib import Path


def _is_of_dcmtk(folder: str) -> bool:
    """Not pynetdicom's, which installs scripts under the names of DCMTK's programs."""
    try:
        with (Path(folder) / "echoscu").open("rb") as program:
            return program.read(2) != b"#!"
    except OSError:
        return True


#: Debian keeps Orthanc where a user's PATH may not look.
SEARCH_PATH = os.pathsep.join(
    folder
    for folder in [
        *os.environ.get("PATH", os.defpath).split(os.pathsep),
        "/usr/sbin",
        "/usr/local/sbin",
    ]
    if _is_of_dcmtk(folder)
)
