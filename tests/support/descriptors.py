"""File descriptors of this process, by kind."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

SOCKET = "socket"
_OPEN = "/proc/self/fd"
_NUMBER = re.compile(r":\[\d+\]")


def open_here() -> list[str]:
    """A word on each: the name of a file, or ``socket``, ``pipe``, ``anon_inode:[eventfd]``."""
    found = []
    for number in os.listdir(_OPEN) if os.path.isdir(_OPEN) else []:
        with suppress(OSError):  # that of the listing itself is closed again
            target = os.readlink(f"{_OPEN}/{number}")
            found.append(Path(target).name if target.startswith("/") else _NUMBER.sub("", target))
    return found
