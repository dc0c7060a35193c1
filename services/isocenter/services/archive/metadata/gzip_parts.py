"""Parts of gzip files (RFC 1952), compressed once, put together without compressing again.

A part is a raw deflate stream (RFC 1951) that ends at a byte, refers to nothing before it, and is
followed by more.  What stands between parts is not compressed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Final, Self

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass

#: Deflate; no name, no time, whatever system.
_HEAD: Final = bytes.fromhex("1f8b08000000000000ff")
#: An empty last block of fixed codes.
_END: Final = b"\x03\x00"
_STORED: Final = struct.Struct("<BHH")
_MOST_STORED: Final = 0xFFFF
#: The polynomial of CRC-32, its lowest power first.
_POLYNOMIAL: Final = 0xEDB88320
_ONE: Final = 1 << 31
_SIZE_BITS: Final = 0xFFFFFFFF
#: More is made than this in one go.
_PIECE: Final = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class GzipPart:
    """Bytes that are compressed.

    Attributes:
        crc: their CRC-32.
        length: how many they are.
    """

    data: bytes
    crc: int
    length: int

    @classmethod
    def of(cls, text: bytes) -> Self:
        """What is not worth being compressed."""
        assert len(text) <= _MOST_STORED
        head = _STORED.pack(0, len(text), len(text) ^ 0xFFFF)
        return cls(data=head + text, crc=zlib.crc32(text), length=len(text))

    def text(self) -> bytes:
        """The bytes as they were."""
        return zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(self.data)

    def pieces(self) -> Iterable[bytes]:
        """The same, little by little."""
        inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        piece = inflater.decompress(self.data, _PIECE)
        while piece:
            yield piece
            piece = inflater.decompress(inflater.unconsumed_tail, _PIECE)


class GzipPartWriter:
    """Compresses one part.

    Args:
        level: of zlib.
    """

    def __init__(self, level: int) -> None:
        self._deflater = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
        self._pieces: list[bytes] = []
        self._crc = 0
        self._length = 0
        #: Bytes of what came of it so far.
        self.size = 0

    def add(self, text: Buffer) -> None:
        """More of it."""
        piece = self._deflater.compress(text)
        self._pieces.append(piece)
        self.size += len(piece)
        self._crc = zlib.crc32(text, self._crc)
        self._length += len(text)

    def finish(self) -> GzipPart:
        """All of it."""
        self._pieces.append(self._deflater.flush(zlib.Z_FULL_FLUSH))
        return GzipPart(data=b"".join(self._pieces), crc=self._crc, length=self._length)


def gzip_file(parts: Sequence[GzipPart]) -> list[bytes]:
    """The pieces of a gzip file of *parts*."""
    crc = length = 0
    for part in parts:
        crc = joined_crc(crc, part.crc, part.length)
        length += part.length
    tail = struct.pack("<II", crc, length & _SIZE_BITS)
    return [_HEAD, *(part.data for part in parts), _END + tail]


def joined_crc(first: int, second: int, length: int) -> int:
    """The CRC-32 of two texts one behind the other, by theirs and the length of the second."""
    return _product(_power(length), first) ^ second


def _product(one: int, other: int) -> int:
    """Of two polynomials over GF(2), modulo that of CRC-32."""
    found = 0
    bit = _ONE
    while one:
        if one & bit:
            found ^= other
            one ^= bit
        bit >>= 1
        other = (other >> 1) ^ (_POLYNOMIAL if other & 1 else 0)
    return found


def _power(length: int) -> int:
    """x to the power of so many bytes."""
    found = _ONE
    square = _ONE >> 8
    while length:
        if length & 1:
            found = _product(square, found)
        square = _product(square, square)
        length >>= 1
    return found
