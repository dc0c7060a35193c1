"""Process names by which others on the same machine can see whether one lives."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path


def process_name() -> str:
    """A new name for this process: machine, process ID, and what no other has."""
    return f"{_machine()}/{os.getpid()}/{secrets.token_hex(4)}"


@cache
def _machine() -> str:
    """Where process IDs mean the same: two machines, or containers on one, may have one name."""
    known = ""
    # Of Linux; elsewhere the name has to do.
    with suppress(OSError):
        known += Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    with suppress(OSError):
        known += os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()[:64]}-{sha256(known.encode()).hexdigest()[:8]}"


def has_ended(name: str) -> bool:
    """Whether a process of that name has ended; False also where that cannot be known."""
    host, _, rest = name.partition("/")
    pid = rest.partition("/")[0]
    if host != _machine() or not pid.isdecimal():
        return False
    with suppress(PermissionError, OverflowError):
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
    return False
