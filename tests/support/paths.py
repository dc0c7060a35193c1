"""Where other people's programs are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: Debian keeps Orthanc where a user's PATH may not look; and pynetdicom installs commands under the
#: names of DCMTK's beside the Python that runs us.
SEARCH_PATH = os.pathsep.join(
    folder
    for folder in [
        *os.environ.get("PATH", os.defpath).split(os.pathsep),
        "/usr/sbin",
        "/usr/local/sbin",
    ]
    if Path(folder) != Path(sys.executable).parent
)
