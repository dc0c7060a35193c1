"""Exclusive task: one of several server processes runs it, chosen by a file lock.

With several worker processes there is no leader to elect: the system gives the lock to
one, takes it back when that one ends, however it ends, and another gets it.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

try:
    import fcntl
except ImportError:  # Windows, where a server has one process
    fcntl = None  # type: ignore[assignment]

#: How often a process looks whether the one on duty has gone.
LOOK_SECONDS: Final = 5.0


async def run_exclusively(lock: Path, work: Callable[[], Awaitable[None]]) -> None:
    """Wait until no other process is on duty, then do *work*, to its end.

    Args:
        lock: a file, made when it is missing; the folder must be there.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(lock, flags, 0o600)
    try:
        while fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await trio.sleep(LOOK_SECONDS)
        await work()
    finally:
        os.close(descriptor)
