"""Write buffers of staged objects, from a pool of aligned memory.

Fresh memory costs a fault for each of its pages, and so does fresh memory of the page
cache: for a CT image twice as much as all the rest of storing it.  Hence larger objects
are gathered in buffers of a pool, and these lie as a disk can take them, past the page
cache (``O_DIRECT``).
"""

from __future__ import annotations

import mmap
from typing import Final

#: Of a buffer of the pool; it is written out when it is full.
BUFFER_BYTES: Final = 1 << 20
#: Up to here an object is held in memory of its own, and written at once with others.
SMALL_BYTES: Final = 64 << 10
#: What goes past the page cache begins, lies and ends at a multiple of this.
BLOCK_BYTES: Final = 4096
#: Free buffers that are kept for later.
_MOST_KEPT: Final = 32


class BufferPool:
    """Buffers of `BUFFER_BYTES`, aligned to pages.  May be used by several threads."""

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []
        #: How many are in use; about, as threads count it.
        self.in_use = 0

    def acquire(self) -> mmap.mmap:
        self.in_use += 1
        try:
            return self._free.pop()
        except IndexError:
            return mmap.mmap(-1, BUFFER_BYTES)

    def release(self, buffer: mmap.mmap) -> None:
        self.in_use -= 1
        if len(self._free) < _MOST_KEPT:
            self._free.append(buffer)


class WriteBuffer:
    """The bytes of one object between its arrival and its file."""

    __slots__ = ("_buffer", "_length", "_pool", "_small")

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self._small = bytearray()
        self._buffer: mmap.mmap | None = None
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def is_aligned(self) -> bool:
        """Whether `blocks` can be written past the page cache."""
        return self._buffer is not None

    @property
    def is_full(self) -> bool:
        return self._length == BUFFER_BYTES

    def append(self, data: memoryview) -> int:
        """Take as many bytes of *data* as there is room for; how many."""
        length = self._length
        if self._buffer is None:
            if length + len(data) <= SMALL_BYTES:
                self._small += data
                self._length += len(data)
                return len(data)
            self._buffer = self._pool.acquire()
            self._buffer[:length] = self._small
            self._small = bytearray()
        count = min(len(data), BUFFER_BYTES - length)
        self._buffer[length : length + count] = data[:count]
        self._length += count
        return count

    def view(self) -> memoryview:
        """All of it."""
        return memoryview(self._small if self._buffer is None else self._buffer)[: self._length]

    def blocks(self, length: int) -> memoryview:
        """The first *length* bytes, filled up with zeros to whole blocks; for what is aligned."""
        assert self._buffer is not None
        whole = -(-length // BLOCK_BYTES) * BLOCK_BYTES
        if whole > length:
            self._buffer[length:whole] = bytes(whole - length)
        return memoryview(self._buffer)[:whole]

    def drop(self, count: int) -> None:
        """Forget the first *count* bytes; what is left and small needs no buffer any more."""
        left = self._length - count
        if self._buffer is None:
            self._small = self._small[count:]
        elif left <= SMALL_BYTES:
            self._small = bytearray(self._buffer[count : self._length])
            self._pool.release(self._buffer)
            self._buffer = None
        else:
            self._buffer.move(0, count, left)
        self._length = left

    def release(self) -> None:
        """Forget everything; nothing is appended after."""
        buffer, self._buffer, self._length = self._buffer, None, 0
        self._small = bytearray()
        if buffer is not None:
            self._pool.release(buffer)
