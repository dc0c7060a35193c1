"""Long values of elements, read where they lie when their turn comes."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import Struct
from typing import IO, Any, Final

from isocenter.engine.dataset.vr import ITEM
from isocenter.engine.fast_init import dataclass

#: Bytes that are read at once.
PIECE: Final = 1 << 20
#: Of a stream, how much is in one fragment.
_MOST_IN_FRAGMENT: Final = 1 << 30
_ITEM: Final = Struct("<HHI")
_ITEM_LENGTH: Final = _ITEM.size


@dataclass(frozen=True, slots=True)
class FileRange:
    """A value that lies in a file.

    Attributes:
        file: its path, or the descriptor of an open one that stays open.
    """

    file: Path | int
    offset: int
    length: int

    def read(self, at: int, length: int) -> bytes:
        """Some of it, from *at* on; less where it ends.

        Raises:
            OSError: it cannot be read.
        """
        length = max(min(length, self.length - at), 0)
        if isinstance(self.file, int):
            return _read_at(self.file, length, self.offset + at)
        with self.file.open("rb") as file:
            file.seek(self.offset + at)
            return file.read(length)

    def pieces(self, piece: int = PIECE) -> Iterator[bytes]:
        """Its bytes.

        Raises:
            OSError: it cannot be read, or has become shorter.
        """
        if isinstance(self.file, int):
            yield from self._pieces_of(self.file, piece)
            return
        with self.file.open("rb", buffering=0) as file:
            yield from self._pieces_of(file.fileno(), piece)

    def _pieces_of(self, descriptor: int, piece: int) -> Iterator[bytes]:
        at = 0
        while at < self.length:
            data = _read_at(descriptor, min(piece, self.length - at), self.offset + at)
            if not data:
                raise OSError(errno.EIO, "a file has become shorter while it was read")
            at += len(data)
            yield data

    def part(self, at: int, length: int) -> FileRange:
        """A part of it."""
        return FileRange(self.file, self.offset + at, length)

    def opened(self) -> IO[bytes]:
        """It as a file of its own, for reading."""
        return io.BufferedReader(_RangeFile(self))


def _read_at(descriptor: int, length: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, length, offset)
    # Windows has none.  There only one thread reads a file: a tool, and no server.
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, length)


class _RangeFile(io.RawIOBase):
    def __init__(self, value: FileRange) -> None:
        self._value = value
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._value.length}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._value.read(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


@dataclass(frozen=True, slots=True)
class Fragments:
    """An encapsulated value (PS3.5 A.4): an offset table, and items.

    Attributes:
        table: the content of the Basic Offset Table.
        items: the content of each fragment.
    """

    table: bytes
    items: Sequence[bytes | FileRange]

    @property
    def length(self) -> int:
        """Bytes of all items with their headers."""
        contents = (len(self.table), *map(length_of, self.items))
        return sum(_ITEM_LENGTH + length + (length & 1) for length in contents)

    def pieces(self) -> Iterator[bytes]:
        """Its bytes, without the delimiter behind it.

        Raises:
            OSError: a file cannot be read.
        """
        yield _header(len(self.table)) + self.table
        for item in self.items:
            length = length_of(item)
            yield _header(length + (length & 1))
            if isinstance(item, bytes):
                yield item
            else:
                yield from item.pieces()
            if length & 1:
                yield b"\0"


LongValue = FileRange | Fragments


def length_of(value: bytes | LongValue) -> int:
    """Bytes of a value."""
    return len(value) if isinstance(value, bytes) else value.length


def fragments_of_frames(frames: Sequence[bytes | FileRange]) -> Fragments:
    """Compressed frames as a value: one fragment for each, and an offset table for several that
    32 bits suffice for."""
    offsets: list[int] = []
    at = 0
    for frame in frames:
        offsets.append(at)
        length = length_of(frame)
        at += _ITEM_LENGTH + length + (length & 1)
    has_table = len(offsets) > 1 and at < 1 << 32
    table = b"".join(offset.to_bytes(4, "little") for offset in offsets) if has_table else b""
    return Fragments(table, frames)


def fragments_of_stream(stream: FileRange) -> Fragments:
    """A stream of video as a value (PS3.5 8.2.5): in as few fragments as may be."""
    parts = [
        stream.part(at, min(_MOST_IN_FRAGMENT, stream.length - at))
        for at in range(0, stream.length, _MOST_IN_FRAGMENT)
    ]
    return Fragments(b"", parts)


def _header(length: int) -> bytes:
    return _ITEM.pack(ITEM >> 16, ITEM & 0xFFFF, length)
