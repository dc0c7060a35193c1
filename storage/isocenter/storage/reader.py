"""Reading one object's file, a piece at a time."""

from __future__ import annotations

import os
from typing import Final, Self

import trio

from isocenter.services.ports import StorageError

#: Linux: take only what is in the page cache, never wait for the disk.
_NO_WAIT: Final = getattr(os, "RWF_NOWAIT", None)


class FileReader:
    """Reads one object; it stays readable when the object is removed meanwhile.

    What the page cache holds is taken at once, the rest in a worker thread: sending an
    object that was just stored needs no thread at all.
    """

    __slots__ = ("_descriptor", "_limiter", "size")

    def __init__(self, descriptor: int, size: int, limiter: trio.CapacityLimiter) -> None:
        self._descriptor: int | None = descriptor
        self._limiter = limiter
        self.size = size

    @classmethod
    def open(cls, path: str, limiter: trio.CapacityLimiter) -> FileReader:
        """Blocks; for a worker thread.

        Raises:
            KeyError: there is no such file.
            StorageError: it cannot be opened.
        """
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(path, flags)
            size = os.fstat(descriptor).st_size
        except (FileNotFoundError, NotADirectoryError) as error:
            raise KeyError("no such object") from error
        except OSError as error:
            raise StorageError(f"cannot open an object: {error.strerror}") from error
        return cls(descriptor, size, limiter)

    async def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            raise ValueError("offset and length are not negative")
        descriptor = self._descriptor
        if descriptor is None:
            raise ValueError("the reader is closed")
        length = max(min(length, self.size - offset), 0)
        cached = self._read_cached(descriptor, offset, length)
        if len(cached) == length:
            await trio.lowlevel.checkpoint()
            return cached
        try:
            rest = await trio.to_thread.run_sync(
                _read_all,
                descriptor,
                offset + len(cached),
                length - len(cached),
                limiter=self._limiter,
            )
        except OSError as error:
            raise StorageError(f"cannot read an object: {error.strerror}") from error
        return cached + rest if cached else rest

    @staticmethod
    def _read_cached(descriptor: int, offset: int, length: int) -> bytes:
        if _NO_WAIT is None or not length:
            return b""
        piece = bytearray(length)
        try:
            count = os.preadv(descriptor, [piece], offset, _NO_WAIT)
        except OSError:
            return b""  # not in the cache, or a file system that cannot tell
        return bytes(piece) if count == length else bytes(piece[:count])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


def _read_all(descriptor: int, offset: int, length: int) -> bytes:
    """*length* bytes; fewer only when the file was cut short since it was opened."""
    pieces = []
    while length:
        piece = os.pread(descriptor, length, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
