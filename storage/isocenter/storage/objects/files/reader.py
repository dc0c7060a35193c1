"""Reading one object's file, a piece at a time."""

from __future__ import annotations

import mmap
import os
import threading
from contextlib import suppress
from typing import Final, Self

import trio

from isocenter.engine.buffers import Buffer
from isocenter.services.errors import StorageError, text_of
from isocenter.storage.objects.files.buffers import BUFFER_BYTES, SMALL_BYTES, BufferPool

#: Linux: take only what is in the page cache, never wait for the disk.
_NO_WAIT: Final = getattr(os, "RWF_NOWAIT", None)
#: Read with each opening of one: who opens an object looks whether it is the one that it means.
_HEAD_BYTES: Final = 1 << 10
#: Where a read cannot say from where on (Windows), one after the other moves and reads.
_ONE_POSITION: Final = threading.Lock()


class FileReader:
    """Reads one object; it stays readable when the object is removed meanwhile.

    What was read ahead is given at once, as is what the page cache holds; the rest is read in a
    worker thread.
    """

    __slots__ = ("_ahead", "_buffer", "_descriptor", "_limiter", "_pool", "size")

    def __init__(
        self, descriptor: int, size: int, limiter: trio.CapacityLimiter, pool: BufferPool
    ) -> None:
        self._descriptor: int | None = descriptor
        self._limiter = limiter
        self._pool = pool
        #: Of `view`, and of what was read ahead, from the pool.
        self._buffer: mmap.mmap | None = None
        #: The beginning of the object, or all of it, as it was read ahead.
        self._ahead: memoryview | None = None
        self.size = size

    @classmethod
    def open(
        cls,
        path: str,
        limiter: trio.CapacityLimiter,
        pool: BufferPool,
        *,
        reads_head: bool = True,
    ) -> FileReader:
        """Blocks; for a worker thread.

        Args:
            reads_head: wait for the disk where it is not in the page cache.

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
            raise StorageError(f"cannot open an object: {text_of(error)}") from error
        reader = cls(descriptor, size, limiter, pool)
        if reads_head:
            with suppress(OSError):  # whoever reads hears of it
                head = memoryview(bytearray(min(size, _HEAD_BYTES)))
                reader._ahead = head[: _read_all(descriptor, head, 0)]
        return reader

    @property
    def descriptor(self) -> int:
        """See `isocenter.services.dicom.object_reader.FileBacked`."""
        if self._descriptor is None:
            raise ValueError("the reader is closed")
        return self._descriptor

    def announce(self) -> None:
        """Tell the system that its beginning is read soon; for a worker thread."""
        assert self._descriptor is not None
        _announce(self._descriptor, 0)

    def read_ahead(self, *, holds: bool = True) -> None:
        """Read an object that fits into a buffer; blocks, for a worker thread.

        Args:
            holds: also one that needs a buffer of the pool.

        Raises:
            OSError: it cannot be read.
        """
        assert self._descriptor is not None
        if self.size <= SMALL_BYTES:
            view = memoryview(bytearray(self.size))
        elif self.size <= BUFFER_BYTES and holds:
            self._buffer = self._pool.acquire()
            view = memoryview(self._buffer)[: self.size]
        else:
            return
        self._ahead = view[: _read_all(self._descriptor, view, 0)]

    async def read(self, offset: int, length: int) -> bytes:
        """See `isocenter.services.dicom.object_reader.ObjectReader.read`."""
        length = self._length(offset, length)
        ahead = self._from_ahead(offset, length)
        if ahead is not None:
            return bytes(ahead)
        piece = bytearray(length)
        count = await self._fill(memoryview(piece), offset)
        return bytes(piece) if count == len(piece) else bytes(piece[:count])

    async def view(self, offset: int, length: int) -> Buffer:
        """See `ObjectReader.view`; at most `BUFFER_BYTES` at once.

        Fresh memory costs more than reading what is cached: the buffer is used again.
        """
        length = min(self._length(offset, length), BUFFER_BYTES)
        ahead = self._from_ahead(offset, length)
        if ahead is not None:
            return ahead
        if self._buffer is None:
            self._buffer = self._pool.acquire()
        self._ahead = None  # its place is taken
        view = memoryview(self._buffer)[:length]
        return view[: await self._fill(view, offset)]

    def _length(self, offset: int, length: int) -> int:
        if offset < 0 or length < 0:
            raise ValueError("offset and length are not negative")
        return max(min(length, self.size - offset), 0)

    def _from_ahead(self, offset: int, length: int) -> memoryview | None:
        ahead = self._ahead
        if ahead is None or offset + length > len(ahead):
            return None
        return ahead[offset : offset + length]

    async def _fill(self, buffer: memoryview, offset: int) -> int:
        """How many bytes there were; fewer than there is room for when the file was cut short."""
        descriptor = self._descriptor
        if descriptor is None:
            raise ValueError("the reader is closed")
        cached = _read_cached(descriptor, buffer, offset)
        if cached == len(buffer):
            await trio.lowlevel.checkpoint()
            return cached
        try:
            return cached + await trio.to_thread.run_sync(
                _read_from_disk, descriptor, buffer[cached:], offset + cached, limiter=self._limiter
            )
        except OSError as error:
            raise StorageError(f"cannot read an object: {text_of(error)}") from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is read from it any more; may be called again."""
        self._ahead = None
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
        if self._buffer is not None:
            buffer, self._buffer = self._buffer, None
            self._pool.release(buffer)


def _read_cached(descriptor: int, buffer: memoryview, offset: int) -> int:
    if _NO_WAIT is None or not buffer:
        return 0
    try:
        return os.preadv(descriptor, [buffer], offset, _NO_WAIT)
    except OSError:
        return 0  # not in the cache, or a file system that cannot tell


def _read_from_disk(descriptor: int, buffer: memoryview, offset: int) -> int:
    """As `_read_all`; what follows is read by the system while this is sent."""
    count = _read_all(descriptor, buffer, offset)
    if count == BUFFER_BYTES:
        _announce(descriptor, offset + count)
    return count


def _announce(descriptor: int, offset: int) -> None:
    """Tell the system that a buffer full is read next."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(descriptor, offset, BUFFER_BYTES, os.POSIX_FADV_WILLNEED)


def _read_all(descriptor: int, buffer: memoryview, offset: int) -> int:
    """How many bytes; fewer than there is room for when the file was cut short."""
    done = 0
    while done < len(buffer):
        count = _read_some(descriptor, buffer[done:], offset + done)
        if not count:
            break
        done += count
    return done


def _read_some(descriptor: int, buffer: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    with _ONE_POSITION:
        os.lseek(descriptor, offset, os.SEEK_SET)
        piece = os.read(descriptor, len(buffer))
    buffer[: len(piece)] = piece
    return len(piece)
