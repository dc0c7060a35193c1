"""Bulk data: long values inline, by URI, or left out."""

from __future__ import annotations

from array import array
from base64 import b64encode
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final, NamedTuple, Protocol

from isocenter.engine.dataset.codec import Codec
from isocenter.engine.dataset.vr import SWAP_WIDTH

#: VRs whose values are bytes to the models (PS3.18 F.2.7, PS3.19 A.1.5).
BINARY_VRS: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
#: Float Pixel Data, Double Float Pixel Data, Pixel Data: bulk data, however short.
PIXEL_TAGS: Final = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
#: Shorter ones are inline always: for 1,024 bytes nobody wants to ask once more.
INLINE_UP_TO: Final = 1024

#: Bytes that are made text at once; a multiple of 3 for Base64, and of 8 for numbers.
_PIECE: Final = 3 << 18
#: Array type codes by size; they hold wherever CPython runs.
_ARRAY_CODES: Final = {2: "H", 4: "I", 8: "Q"}


class Placement(Enum):
    """Where bulk data goes that no URI names."""

    INLINE = "inline"
    LEFT_OUT = "left out"


class BulkValue(NamedTuple):
    """A long value, where it lies in the data set.

    Attributes:
        path: tag and number of the item (from 0) of each sequence around it.
        is_encapsulated: whether it is made of fragments; then with their items' headers.
    """

    path: tuple[tuple[int, int], ...]
    tag: int
    vr: str
    start: int
    end: int
    codec: Codec
    is_encapsulated: bool

    @property
    def path_text(self) -> str:
        """Tags and numbers of items (from 1), joined by slashes: ``00880200/1/7FE00010``."""
        steps = [f"{tag:08X}/{number + 1}" for tag, number in self.path]
        return "/".join([*steps, f"{self.tag:08X}"])


#: Decides about each: its URI, or where else it goes.
PlaceBulk = Callable[[BulkValue], str | Placement]


def inline(value: BulkValue) -> Placement:
    """All of it inline."""
    return Placement.INLINE


def left_out(value: BulkValue) -> Placement:
    """None of it."""
    return Placement.LEFT_OUT


class Bytes(Protocol):
    """A data set: bytes, a mapped file, or what else has bytes as its parts."""

    def __getitem__(self, place: slice, /) -> bytes: ...


class Parts:
    """Bytes that are no `bytes`, with parts that are."""

    __slots__ = ("data",)

    def __init__(self, data: memoryview) -> None:
        self.data = data

    def __getitem__(self, place: slice, /) -> bytes:
        return bytes(self.data[place])


def little_endian_pieces(data: Bytes, value: BulkValue) -> Iterator[bytes]:
    """The bytes of *value* in pieces, in little endian, as bulk data is (PS3.18 8.6.1.2)."""
    width = 1
    if value.codec.big_endian and not value.is_encapsulated:
        width = SWAP_WIDTH.get(value.vr, 1)
    for start in range(value.start, value.end, _PIECE):
        piece = data[start : min(start + _PIECE, value.end)]
        whole = len(piece) - len(piece) % width
        if width == 1 or not whole:
            yield piece
            continue
        numbers = array(_ARRAY_CODES[width])
        numbers.frombytes(piece[:whole])
        numbers.byteswap()
        yield numbers.tobytes() + piece[whole:]


def base64_pieces(data: Bytes, value: BulkValue) -> Iterator[str]:
    """The same as Base64."""
    for piece in little_endian_pieces(data, value):
        yield b64encode(piece).decode("ascii")
