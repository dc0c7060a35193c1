"""Log file that several processes write and rotate, or another program does.

Each line is one write to the end of the file (``O_APPEND``), so that lines of several processes
stand whole beside each other.  Before each line it is looked whether the name still leads to
the file that is open; a process that finds it renamed, by another one of ours or by logrotate,
opens the new one.  Who renames holds a lock and has looked again, so that a file is rotated
once; what another process writes in between stands in the renamed file.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from isocenter.services.system.file_lock import HAS_FILE_LOCKS, lock, open_lock_file

_MODE = 0o600


class LogFile(logging.Handler):
    """Writes lines to *path*.

    Args:
        rotate_bytes: a file that has become so large gets a successor; 0: never by us.
        keep: how many earlier files stay.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, *, rotate_bytes: int, keep: int) -> None:
        super().__init__()
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._file = self._open()

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _MODE)

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        try:
            self._follow_and_rotate()
            os.write(self._file, line)
        except OSError as error:
            # The disk is full, or the folder has gone: somebody may still read this.
            with suppress(OSError, ValueError):
                sys.stderr.write(f"log.file: {error}: {line.decode()}")

    def _follow_and_rotate(self) -> None:
        """Go over to the file that the name leads to; make it a new one when it is large."""
        size = self._reopened()
        # Windows renames no file that is open.
        if not self._rotate_bytes or size < self._rotate_bytes or not HAS_FILE_LOCKS:
            return
        descriptor = open_lock_file(self._path.with_name(f".{self._path.name}.lock"))
        try:
            lock(descriptor)
            if self._reopened() >= self._rotate_bytes:
                self._rotate()
                self._reopened()
        finally:
            os.close(descriptor)

    def _reopened(self) -> int:
        """The size of the file, which is the one that the name leads to now."""
        ours = os.fstat(self._file)
        named = None
        with suppress(FileNotFoundError):
            named = self._path.stat()
        if named is None or (named.st_ino, named.st_dev) != (ours.st_ino, ours.st_dev):
            before, self._file = self._file, self._open()
            os.close(before)
            return os.fstat(self._file).st_size
        return ours.st_size

    def _rotate(self) -> None:
        def earlier(number: int) -> Path:
            return self._path.with_name(f"{self._path.name}.{number}")

        for number in range(self._keep - 1, 0, -1):
            with suppress(FileNotFoundError):
                earlier(number).replace(earlier(number + 1))
        self._path.replace(earlier(1))

    def close(self) -> None:
        super().close()
        with suppress(OSError):
            os.close(self._file)
