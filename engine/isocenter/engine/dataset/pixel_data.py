"""Pixel Data as it lies in a data set: element and fragments (PS3.5 A.4).

`isocenter.engine.dataset.pixel_data_mapper` finds it.  What the fragments mean, frame by frame, is
told by `isocenter.engine.dataset.frame_index`; what the pixels are, not here.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import field
from typing import Final, NamedTuple

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset.vr import (
    PIXEL_DATA,
)
from isocenter.engine.fast_init import dataclass

FLOAT_PIXEL_DATA: Final = 0x7FE00008
DOUBLE_FLOAT_PIXEL_DATA: Final = 0x7FE00009
EXTENDED_OFFSET_TABLE: Final = 0x7FE00001
EXTENDED_OFFSET_TABLE_LENGTHS: Final = 0x7FE00002
#: Only one of them may be there (PS3.3 C.7.6.3).
PIXEL_DATA_TAGS: Final = frozenset((PIXEL_DATA, FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA))

#: Bytes of one offset in a Basic Offset Table.
BASIC_OFFSET_LENGTH: Final = 4
#: The byte order of an `array`.
_HOST_IS_LITTLE: Final = array("H", (1,)).tobytes() == b"\1\0"

#: Where a fragment begins or ends, as `FragmentTable.flags`.
STARTS_CODESTREAM: Final = 1
ENDS_CODESTREAM: Final = 2


class Span(NamedTuple):
    """Bytes of the data set."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(slots=True)
class FragmentTable:
    """The fragments of an encapsulated value, the Basic Offset Table left out.

    Attributes:
        offsets: byte of the data set at which the value of each fragment starts.
        lengths: of their values.
        flags: `STARTS_CODESTREAM`, `ENDS_CODESTREAM`, or both.
        basic_offsets: the Basic Offset Table; empty where it is.
    """

    offsets: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("Q"))
    flags: bytearray = field(default_factory=bytearray)
    basic_offsets: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.offsets)

    def span(self, index: int) -> Span:
        return Span(self.offsets[index], self.lengths[index])


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelDataElement:
    """Pixel Data, Float Pixel Data or Double Float Pixel Data, as it lies in the data set.

    Attributes:
        vr: None where the data set does not say.
        start: byte of the data set at which its header starts.
        value: where its value starts.
        end: where the next element starts, or the data set ends.
        fragments: of an encapsulated value; None: the value is native.
    """

    tag: int
    vr: str | None
    start: int
    value: int
    end: int
    fragments: FragmentTable | None


@dataclass(slots=True)
class PixelDataMap:
    """Places and values around the Pixel Data of a data set.

    Attributes:
        values: tag → raw value of the wanted top-level elements, and of the extended offset
            table; of a tag that comes twice the last counts.
        vrs: tag → VR of the same, where the data set says it.
        spans: tag → where each located top-level element lies, header included.
        gaps: tag → where a located element that is missing belongs: before the first element
            with a higher tag.
        encapsulating: tag → where a top-level element lies, other than Pixel Data, with
            encapsulated values somewhere in it; in what has defined length only if that was to
            be searched.
        pixel_data: None where there is none.
        forgiven: what was forgiven, in words → byte of the data set at which it was first.
    """

    values: dict[int, bytes] = field(default_factory=dict)
    vrs: dict[int, str] = field(default_factory=dict)
    spans: dict[int, Span] = field(default_factory=dict)
    gaps: dict[int, int] = field(default_factory=dict)
    encapsulating: dict[int, Span] = field(default_factory=dict)
    pixel_data: PixelDataElement | None = None
    forgiven: dict[str, int] = field(default_factory=dict)


def read_offsets(table: Buffer, width: int, big_endian: bool = False) -> array[int]:
    """The numbers of *width* bytes of an offset table; a rest that makes none is left out."""
    numbers = array("I" if width == BASIC_OFFSET_LENGTH else "Q")
    numbers.frombytes(memoryview(table)[: len(table) // width * width])
    if big_endian is _HOST_IS_LITTLE:
        numbers.byteswap()
    return numbers
