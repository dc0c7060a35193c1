"""Exclusive task: one of several server processes runs it, chosen by a file lock.

With several worker processes there is no leader to elect: the system gives the lock to
one, takes it back when that one ends, however it ends, and another gets it.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from isocenter.services.system.file_lock import open_lock_file, wait_for_lock

#: How often a process looks whether the one on duty has gone.
LOOK_SECONDS: Final = 5.0


async def run_exclusively(lock: Path, work: Callable[[], Awaitable[None]]) -> None:
    """Wait until no other process is on duty, then do *work*, to its end.

    Args:
        lock: a file, made when it is missing; the folder must be there.
    """
    descriptor = open_lock_file(lock)
    try:
        await wait_for_lock(descriptor, look_seconds=LOOK_SECONDS)
        await work()
    finally:
        os.close(descriptor)
