"""PID file of a data directory: ``server.pid``, locked while its process lives."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from isocenter.services.system.file_lock import (
    HAS_FILE_LOCKS,
    open_lock_file,
    try_process_lock,
)

_FILE: Final = "server.pid"
_MOST_DIGITS: Final = 20
#: Windows has neither links that could be followed nor descriptors that children get unasked.
_FLAGS: Final = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class PidFile:
    """Says who we are, until `close` or the end of the process.

    The lock is of this process alone (POSIX record lock): worker processes do not inherit it.
    """

    def __init__(self, data_dir: Path) -> None:
        """Raises OSError: it cannot be written, or another process has it."""
        self._descriptor = open_lock_file(data_dir / _FILE)
        try:
            if not try_process_lock(self._descriptor):
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"{os.getpid()}\n".encode())
        except BaseException:
            os.close(self._descriptor)
            raise

    def close(self) -> None:
        """No server any more."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def pid_of_server(data_dir: Path) -> int | None:
    """The first process of the server that uses *data_dir* now; None: there is none.

    Raises:
        OSError: it cannot be looked at.
    """
    try:
        descriptor = os.open(data_dir / _FILE, _FLAGS)
    except FileNotFoundError:
        return None
    try:
        if HAS_FILE_LOCKS and try_process_lock(descriptor):
            return None  # nobody holds it: what is in it was left behind
        text = os.read(descriptor, _MOST_DIGITS).decode("ascii", "replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
