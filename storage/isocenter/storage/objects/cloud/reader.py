"""Reading an object of a bucket by ranges, with some bytes ahead."""

from __future__ import annotations

from typing import Final, Self

from isocenter.engine.buffers import Buffer
from isocenter.services.errors import StorageError
from isocenter.storage.objects.cloud.range_cache import Ranges

#: The first request: the whole of most objects.
FIRST_BYTES: Final = 1 << 20
#: A request that goes on where the last one ended fetches so many bytes.
AHEAD_BYTES: Final = 4 << 20


class CloudReader:
    """Reads one object; what was fetched last stays in memory.

    Made by `open_reader`.
    """

    __slots__ = ("_path", "_ranges", "_start", "_window", "size")

    def __init__(self, ranges: Ranges, path: str, size: int, window: Buffer) -> None:
        self._ranges = ranges
        self._path = path
        self._window: memoryview = memoryview(window)
        self._start = 0
        self.size = size

    async def read(self, offset: int, length: int) -> bytes:
        return bytes(await self.view(offset, length))

    async def view(self, offset: int, length: int) -> Buffer:
        if offset < 0 or length < 0:
            raise ValueError("offset and length are not negative")
        end = min(offset + length, self.size)
        if end <= offset:
            return b""
        kept = self._start + len(self._window)
        if self._start <= offset and end <= kept:
            return self._window[offset - self._start : end - self._start]
        if self._start <= offset <= kept:  # it goes on
            head = self._window[offset - self._start :]
            wanted = max(end - kept, AHEAD_BYTES)
            rest = await self._fetch(kept, wanted)
            if not head:
                self._window, self._start = rest, kept
            else:
                joined = bytearray(len(head) + len(rest))
                joined[: len(head)] = head
                joined[len(head) :] = rest
                self._window, self._start = memoryview(joined), offset
        else:
            self._window, self._start = await self._fetch(offset, end - offset), offset
        return self._window[offset - self._start : end - self._start]

    async def _fetch(self, start: int, length: int) -> memoryview:
        try:
            _, data = await self._ranges.get(self._path, start, min(length, self.size - start))
        except KeyError as error:
            raise StorageError("an object was removed while it was read") from error
        return memoryview(data)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._window = memoryview(b"")
        self._start = self.size


async def open_reader(ranges: Ranges, path: str) -> CloudReader:
    """Raises:
    KeyError: there is no such object.
    BucketError: it cannot be read.
    """
    size, window = await ranges.get(path, 0, FIRST_BYTES)
    return CloudReader(ranges, path, size, window)
