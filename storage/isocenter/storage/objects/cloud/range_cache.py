"""Cache of what was read from a bucket, on a local disk.

One file without a name, in slots of the same length: nothing is left of it when the process ends,
and it is never longer than it may be.  Each slot holds a block of an object, and what it holds is
compared with its checksum when it is read, so a disk that errs, or a slot that was taken
meanwhile, is a miss and nothing worse.  A key never comes to mean another object, so nothing has
to be invalidated.
"""

from __future__ import annotations

import logging
import os
import tempfile
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import StorageError, text_of

_log = logging.getLogger("isocenter.storage")

BLOCK_BYTES: Final = 256 << 10
_THREADS: Final = 8


class Ranges(Protocol):
    """What gives ranges of objects: a bucket, or a cache before it."""

    async def get(self, path: str, start: int, length: int) -> tuple[int, Buffer]:
        """See `Bucket.get`."""
        ...


@dataclass(frozen=True, slots=True)
class _Block:
    """Where a block is, and what it is; *object_size*: of the whole object."""

    slot: int
    length: int
    checksum: int
    object_size: int


class RangeCache:
    """Ranges of objects, from the disk if they were read not long ago.

    Args:
        behind: what is asked for what is not here.
        folder: on the disk.
        most_bytes: on it.

    Raises:
        StorageError: there is no file to be made.
    """

    def __init__(self, behind: Ranges, folder: str, *, most_bytes: int) -> None:
        self._behind = behind
        self._slots = most_bytes // BLOCK_BYTES
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise StorageError(
                f"the cache of objects cannot be made in {folder}: {text_of(error)}"
            ) from error
        #: The one that was used last is last.
        self._blocks: OrderedDict[tuple[str, int], _Block] = OrderedDict()
        self._free: list[int] = []
        self._used = 0
        self._threads = trio.CapacityLimiter(_THREADS)
        self._has_warned = False
        self.hits = 0
        self.misses = 0

    async def get(self, path: str, start: int, length: int) -> tuple[int, Buffer]:
        """See `Ranges.get`."""
        if length <= 0:
            return await self._behind.get(path, start, length)
        first, last = start // BLOCK_BYTES, (start + length - 1) // BLOCK_BYTES
        found = self._look(path, first, last)
        if found is not None:
            data = await trio.to_thread.run_sync(self._read, found, limiter=self._threads)
            if data is not None:
                self.hits += 1
                return found[0].object_size, _cut(data, start - first * BLOCK_BYTES, length)
        self.misses += 1
        begin = first * BLOCK_BYTES
        size, data = await self._behind.get(path, begin, (last + 1 - first) * BLOCK_BYTES)
        await self._keep(path, first, size, data)
        return size, _cut(data, start - begin, length)

    def _look(self, path: str, first: int, last: int) -> list[_Block] | None:
        block = self._blocks.get((path, first))
        if block is None:
            return None
        blocks = []
        last = min(last, max(block.object_size - 1, 0) // BLOCK_BYTES)
        for number in range(first, last + 1):
            found = self._blocks.get((path, number))
            if found is None:
                return None
            blocks.append(found)
        for number in range(first, last + 1):
            self._blocks.move_to_end((path, number))
        return blocks

    def _read(self, blocks: Sequence[_Block]) -> Buffer | None:
        parts = []
        for block in blocks:
            data = os.pread(self._file.fileno(), block.length, block.slot * BLOCK_BYTES)
            if zlib.crc32(data) != block.checksum:
                return None
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _keep(self, path: str, first: int, size: int, data: Buffer) -> None:
        view = memoryview(data)
        jobs: list[tuple[tuple[str, int], int, memoryview]] = []
        for place in range(0, len(view), BLOCK_BYTES):
            part = view[place : place + BLOCK_BYTES]
            number = first + place // BLOCK_BYTES
            is_whole = len(part) == BLOCK_BYTES or first * BLOCK_BYTES + place + len(part) == size
            slot = self._take_slot((path, number)) if is_whole else None
            if slot is not None:
                jobs.append(((path, number), slot, part))
        if not jobs:
            return
        kept = await trio.to_thread.run_sync(
            self._write, [(slot, part) for _, slot, part in jobs], limiter=self._threads
        )
        for (name, slot, part), checksum in zip(jobs, kept, strict=True):
            if checksum is None or name in self._blocks:
                self._free.append(slot)
            else:
                self._blocks[name] = _Block(slot, len(part), checksum, size)

    def _take_slot(self, name: tuple[str, int]) -> int | None:
        """A slot that nobody has; of those who have one, who used it least recently loses it."""
        known = self._blocks.pop(name, None)
        if known is not None:
            return known.slot
        if self._free:
            return self._free.pop()
        if self._used < self._slots:
            self._used += 1
            return self._used - 1
        if not self._blocks:
            return None  # all are being written
        return self._blocks.popitem(last=False)[1].slot

    def _write(self, jobs: Sequence[tuple[int, memoryview]]) -> list[int | None]:
        """The checksums of what was written; None: it was not."""
        done: list[int | None] = []
        for slot, part in jobs:
            try:
                written = os.pwrite(self._file.fileno(), part, slot * BLOCK_BYTES)
                done.append(zlib.crc32(part) if written == len(part) else None)
            except OSError as error:
                done.append(None)
                if not self._has_warned:
                    self._has_warned = True
                    _log.warning(
                        "objects are read without the cache, which cannot be written: %s; make "
                        "room, or take objects.cache_bytes back",
                        text_of(error),
                    )
        return done

    def close(self) -> None:
        """Give the room back; it is not to be used any more."""
        self._blocks.clear()
        self._file.close()


def _cut(data: Buffer, start: int, length: int) -> Buffer:
    return memoryview(data)[start : start + length]
