"""Holders of file locks and listening ports, as the system tells them.

Linux tells both in ``/proc``; elsewhere, and of processes of other users, less is known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.system import file_lock

_PROC: Final = Path("/proc")
#: State of a socket that listens, in ``/proc/net/tcp``.
_LISTEN: Final = "0A"
#: As much of a command line is shown.
_SHOWN_CHARACTERS: Final = 60
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process; *command* is empty where it is not ours to see."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid}" + (f" ({self.command})" if self.command else "")


def lock_holders(path: Path) -> tuple[ProcessInfo, ...]:
    """Who holds a lock of ``flock`` on *path*; empty also where nobody can tell."""
    try:
        status = path.stat()
        text = (_PROC / "locks").read_text()
    except OSError:
        return ()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    found: dict[int, None] = {}
    for line in text.splitlines():
        words = line.split()
        # ``1: FLOCK ADVISORY WRITE 4711 08:01:1234 0 EOF``; who waits has an arrow.
        if len(words) < 6 or words[1] != "FLOCK":
            continue
        pid = int(words[4])
        where, _, inode = words[5].rpartition(":")
        if pid <= 0 or inode != str(status.st_ino):
            continue
        # Behind overlayfs and btrfs the kernel's device is not that of stat(2).
        if where == device or _has_open(pid, status):
            found[pid] = None
    return tuple(_holder(pid) for pid in found)


def _has_open(pid: int, status: os.stat_result) -> bool:
    try:
        return any(
            os.path.samestat(descriptor.stat(), status)
            for descriptor in (_PROC / str(pid) / "fd").iterdir()
        )
    except OSError:
        return False


def is_locked(path: Path) -> bool:
    """Whether a server has *path*, alone or with its workers.

    Where the system does not tell, it asks for the lock and gives it back at once.
    """
    return bool(lock_holders(path)) or file_lock.is_locked(path)


def port_holders(port: int) -> tuple[ProcessInfo, ...]:
    """Who listens on a TCP port of this machine, on any address."""
    inodes = set(_listening(port))
    if not inodes:
        return ()
    found: dict[int, None] = {}
    for process in _PROC.glob("[0-9]*"):
        try:
            for descriptor in (process / "fd").iterdir():
                match = _SOCKET.fullmatch(os.readlink(descriptor))
                if match is not None and match[1] in inodes:
                    found[int(process.name)] = None
                    break
        except OSError:
            continue  # ended meanwhile, or another user's
    return tuple(_holder(pid) for pid in sorted(found))


def _listening(port: int) -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                yield words[9]


def _holder(pid: int) -> ProcessInfo:
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ProcessInfo(pid, "")
    text = b" ".join(words).decode("utf-8", "replace").strip()
    if len(text) > _SHOWN_CHARACTERS:
        text = text[:_SHOWN_CHARACTERS] + "…"
    return ProcessInfo(pid, text)
