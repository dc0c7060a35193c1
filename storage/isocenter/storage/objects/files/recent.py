"""Recently written files, read into the page cache when nothing more comes."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

#: What is remembered at most, in bytes: a few studies.
MOST_BYTES: Final = 256 << 20
#: A larger file is not read back: who reads it reads it as it is sent.
LARGEST_BYTES: Final = 32 << 20


class RecentFiles:
    """Files that were written past the page cache, and whose readers are likely to come soon.

    To write them into the cache would cost more than all the rest of storing them; to read them
    back costs a twentieth of that, and is done when the disk has nothing else to do.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._files: deque[tuple[str, int]] = deque()
        self._size = 0

    def add(self, path: str, size: int) -> None:
        """A file was written; the oldest are forgotten."""
        if size > LARGEST_BYTES or not hasattr(os, "posix_fadvise"):
            return
        with self._lock:
            self._files.append((path, size))
            self._size += size
            while self._size > self._most_bytes:
                self._take()

    def warm(self, is_idle: Callable[[], bool]) -> None:
        """Have the system read them, as long as *is_idle*; blocks, for a worker thread."""
        while is_idle():
            with self._lock:
                if not self._files:
                    return
                path, size = self._take()
            with suppress(OSError):  # removed meanwhile, or no descriptor is free
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
                try:
                    os.posix_fadvise(descriptor, 0, size, os.POSIX_FADV_WILLNEED)
                finally:
                    os.close(descriptor)

    def _take(self) -> tuple[str, int]:
        path, size = self._files.popleft()
        self._size -= size
        return path, size
