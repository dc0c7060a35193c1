"""Advisory locks of files between processes, and what holds where a system has none.

The system takes a lock back when the last descriptor of its holder is closed, however the process
ends: a lock is never left behind, and the file of one may stay.  Windows has no such locks; an
archive on disk is refused there, and everything else has one process only: it gets each lock at
once, which then keeps nobody out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from isocenter.services.system.private_files import PRIVATE_FILE, match_owner

try:
    import fcntl
except ImportError:  # Windows
    HAS_FILE_LOCKS = False
else:
    HAS_FILE_LOCKS = True

#: Windows has no links that could be followed.
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)


def open_lock_file(path: str | os.PathLike[str]) -> int:
    """A descriptor of a file to lock, which is made when it is missing.

    Raises:
        OSError: it cannot be opened, or is a link.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, PRIVATE_FILE)


def lock(descriptor: int, *, shared: bool = False) -> None:
    """Wait for the lock of a file, which ends with the descriptor; this blocks.

    Args:
        shared: others may share it.

    Raises:
        OSError: the file cannot be locked.
    """
    if HAS_FILE_LOCKS:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock of a file unless somebody else has it.

    Args:
        shared: others may share it.

    Raises:
        OSError: the file cannot be locked.
    """
    if not HAS_FILE_LOCKS:
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX allows either
        return False
    return True


def try_process_lock(descriptor: int) -> bool:
    """As `try_lock`, for this process alone (a POSIX record lock): no child inherits it.

    It ends as soon as the process closes *any* descriptor of the file.
    """
    if not HAS_FILE_LOCKS:
        return True
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


async def wait_for_lock(descriptor: int, *, look_seconds: float, shared: bool = False) -> None:
    """Wait for the lock of a file without blocking a thread.

    Args:
        look_seconds: how often it is looked whether the other has gone.
        shared: others may share it.

    Raises:
        OSError: the file cannot be locked.
    """
    await trio.lowlevel.checkpoint()
    while True:
        if try_lock(descriptor, shared=shared):
            return
        await trio.sleep(look_seconds)  # the system tells nobody


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Whether somebody has the lock of a file: it is asked for, and given back at once.

    Raises:
        OSError: it cannot be looked at.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_LINK)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def directory_lock(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory against other processes and tasks of this machine."""
    descriptor = open_lock_file(directory / ".lock")
    try:
        match_owner(directory, descriptor)
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)
