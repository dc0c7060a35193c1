"""Frame index: the bytes of each frame in a data set (PS3.5 A.4).

A pure function of the map that `isocenter.engine.dataset.pixel_data` makes.  Which fragments make
a frame is said by the Extended or the Basic Offset Table; where both are empty, missing or wrong,
by the number of frames, and by the marks at which a codestream begins and ends.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, Self, overload

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset.errors import DataSetError
from isocenter.engine.dataset.pixel_data import (
    ENDS_CODESTREAM,
    EXTENDED_OFFSET_TABLE,
    EXTENDED_OFFSET_TABLE_LENGTHS,
    STARTS_CODESTREAM,
    FragmentTable,
    PixelDataElement,
    PixelDataMap,
    Span,
    read_offsets,
)
from isocenter.engine.fast_init import dataclass

#: `FrameIndex.pack`: frames, where native pixels start, bits of a native frame; fragments and
#: lengths without padding.
_PACKED_HEAD: Final = struct.Struct("<QQQII")
_EXTENDED_OFFSET_LENGTH: Final = 8
#: The byte order of an `array`.
_HOST_IS_LITTLE: Final = array("H", (1,)).tobytes() == b"\1\0"

WRONG_TABLE: Final = "an offset table that does not fit the fragments (PS3.5 A.4)"
SHIFTED_TABLE: Final = "an offset table that does not begin at the first fragment (PS3.5 A.4)"
WRONG_NUMBER_OF_FRAMES: Final = "Number of Frames does not fit the fragments (PS3.3 C.7.6.6)"


@dataclass(frozen=True, slots=True)
class Frame:
    """Where one frame lies.

    Attributes:
        spans: bytes of the data set, in order; joined, they are the frame.
        skip_bits: of native frames of one bit per pixel, which are packed without gaps
            (PS3.5 8.1.1): bits of the first byte that belong to the frame before.
    """

    spans: tuple[Span, ...]
    skip_bits: int = 0

    @property
    def length(self) -> int:
        """In bytes."""
        return sum(span.length for span in self.spans)


class FrameIndex(Sequence[Frame]):
    """The frames of one image, from 0 on; those that are there, whatever their number says.

    Attributes:
        forgiven: what is not as the standard has it, in words.
    """

    __slots__ = ("_count", "_fragments", "_frame_bits", "_lengths", "_starts", "_value", "forgiven")

    def __init__(self, forgiven: Iterable[str] = ()) -> None:
        self.forgiven = tuple(forgiven)
        self._count = 0
        #: Native: where the value starts, and bits of each frame.
        self._value = 0
        self._frame_bits = 0
        #: Encapsulated: the first fragment of each frame; and their lengths without padding.
        self._fragments: FragmentTable | None = None
        self._starts: Sequence[int] = ()
        self._lengths: Sequence[int] = ()

    def __len__(self) -> int:
        return self._count

    @property
    def places(self) -> int:
        """Numbers that are held for it, about."""
        return 1 if self._fragments is None else len(self._fragments) + self._count

    @overload
    def __getitem__(self, number: int) -> Frame: ...

    @overload
    def __getitem__(self, number: slice) -> list[Frame]: ...

    def __getitem__(self, number: int | slice) -> Frame | list[Frame]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(self._count))]
        if number < 0:
            number += self._count
        if not 0 <= number < self._count:
            raise IndexError(number)
        if self._fragments is None:
            first_bit = number * self._frame_bits
            first, last = first_bit // 8, (first_bit + self._frame_bits + 7) // 8
            return Frame((Span(self._value + first, last - first),), first_bit % 8)
        table = self._fragments
        start = self._starts[number]
        is_last = number + 1 == len(self._starts)
        end = len(table) if is_last else self._starts[number + 1]
        spans = tuple(table.span(index) for index in range(start, end))
        if self._lengths and len(spans) == 1 and 0 < self._lengths[number] <= spans[0].length:
            spans = (Span(spans[0].offset, self._lengths[number]),)
        return Frame(spans)

    def pack(self) -> bytes:
        """All of it but what was forgiven, in few bytes, to be kept beside the data set."""
        table = self._fragments
        head = _PACKED_HEAD.pack(
            self._count,
            self._value,
            self._frame_bits,
            0 if table is None else len(table),
            len(self._lengths),
        )
        if table is None:
            return head
        ends = [0, *map(int.__add__, table.offsets, table.lengths)]
        # Of most objects the gaps are all alike, and each frame has one fragment.
        gaps = array("q", map(int.__sub__, table.offsets, ends))
        steps = array("q", map(int.__sub__, self._starts, [0, *self._starts]))
        arrays = (gaps, array("q", table.lengths), steps, array("q", self._lengths))
        return head + zlib.compress(b"".join(map(_little_endian, arrays)))

    @classmethod
    def unpack(cls, packed: Buffer) -> Self:
        """What `pack` has made.

        Raises:
            ValueError: it has not made this.
        """
        index = cls()
        try:
            head = _PACKED_HEAD.unpack_from(packed)
            index._count, index._value, index._frame_bits, fragments, lengths = head
            rest = memoryview(packed)[_PACKED_HEAD.size :]
            if not fragments:
                if len(rest):
                    raise ValueError("bytes behind a frame index")
                return index
            numbers = array("q")
            numbers.frombytes(zlib.decompress(rest))
        except (struct.error, zlib.error) as error:
            raise ValueError(f"no frame index: {error}") from error
        if not _HOST_IS_LITTLE:
            numbers.byteswap()
        if len(numbers) != 2 * fragments + index._count + lengths or lengths not in (
            0, index._count,
        ):  # fmt: skip
            raise ValueError("no frame index: it is cut short")
        table = FragmentTable()
        table.lengths = array("Q", numbers[fragments : 2 * fragments])
        distances = map(int.__add__, numbers[:fragments], [0, *table.lengths])
        table.offsets = array("Q", accumulate(distances))
        steps = numbers[2 * fragments : 2 * fragments + index._count]
        index._starts = array("Q", accumulate(steps))
        index._lengths = array("Q", numbers[len(numbers) - lengths :])
        index._fragments = table
        return index


def _little_endian(numbers: array[int]) -> bytes:
    if not _HOST_IS_LITTLE:
        numbers.byteswap()
    return numbers.tobytes()


def index_frames(
    found: PixelDataMap, *, number_of_frames: int | None, frame_bits: int
) -> FrameIndex:
    """The frames of a data set.

    Args:
        number_of_frames: as the data set says; None: it does not.
        frame_bits: of one native frame, padding excluded.

    Raises:
        DataSetError: there is no Pixel Data, or it cannot be told which fragments make a frame.
    """
    element = found.pixel_data
    if element is None:
        raise DataSetError("the data set has no Pixel Data", 0)
    if element.fragments is None:
        return _index_native(element, number_of_frames, frame_bits)
    table = element.fragments
    extended = _offsets(found, EXTENDED_OFFSET_TABLE)
    lengths = _offsets(found, EXTENDED_OFFSET_TABLE_LENGTHS)
    notes: list[str] = []
    starts, used = _choose(table, extended, number_of_frames, notes)
    if not len(table):
        raise DataSetError("Pixel Data is empty", element.start)
    if not starts:
        raise DataSetError(
            f"{len(table)} fragments cannot be told apart into {number_of_frames} frames: "
            "there is no valid offset table (PS3.5 A.4)",
            element.start,
        )
    if number_of_frames is not None and len(starts) != number_of_frames:
        notes.append(WRONG_NUMBER_OF_FRAMES)
    index = FrameIndex(notes)
    index._count = len(starts)
    index._fragments = table
    index._starts = starts
    index._lengths = lengths if used is extended and len(lengths) == len(starts) else ()
    return index


def _index_native(
    element: PixelDataElement, number_of_frames: int | None, frame_bits: int
) -> FrameIndex:
    index = FrameIndex()
    if frame_bits > 0:
        there = (element.end - element.value) * 8 // frame_bits
        index._count = min(there, 1 if number_of_frames is None else number_of_frames)
    index._value = element.value
    index._frame_bits = frame_bits
    return index


def _offsets(found: PixelDataMap, tag: int) -> Sequence[int]:
    value = found.values.get(tag, b"")
    return read_offsets(value, _EXTENDED_OFFSET_LENGTH)


def _choose(
    table: FragmentTable,
    extended: Sequence[int],
    frames: int | None,
    notes: list[str],
) -> tuple[Sequence[int], Sequence[int] | None]:
    """The first fragment of each frame, and the offset table that said so.

    Of the ways to tell, the first that comes to the right number of frames; else the first that
    comes to any.
    """
    ways: list[tuple[Sequence[int], Sequence[int] | None]] = [
        (_by_offsets(table, offsets, notes), offsets)
        for offsets in (extended, table.basic_offsets)
        if offsets
    ]
    count = len(table)
    if frames == 1:
        # Several codestreams are not one frame, whatever the number says.
        starts = _by_starts(table)
        ways.append(((0,) if count and len(starts) < 2 else (), None))
    if count == frames:
        ways.append((range(count), None))
    ways.append((_by_starts(table), None))
    ways.append((_by_ends(table), None))
    if frames is None and count:
        ways.append(((0,), None))
    for way in ways:
        if way[0] and (frames is None or len(way[0]) == frames):
            return way
    return next((way for way in ways if way[0]), ((), None))


def _by_offsets(table: FragmentTable, offsets: Sequence[int], notes: list[str]) -> Sequence[int]:
    """The fragments at which these offsets point; empty where one points at none.

    Counted from the item of the first fragment.  Some writers count from elsewhere: then the
    distances are right still.
    """
    if not table:
        return ()
    base = table.offsets[0] - offsets[0]
    starts: array[int] = array("Q")
    for offset in offsets:
        at = bisect_left(table.offsets, base + offset)
        if at == len(table) or table.offsets[at] != base + offset or (starts and at <= starts[-1]):
            notes.append(WRONG_TABLE)
            return ()
        starts.append(at)
    if offsets[0]:
        notes.append(SHIFTED_TABLE)
    return starts


def _by_starts(table: FragmentTable) -> Sequence[int]:
    """Where codestreams begin, if the first fragment does."""
    starts = _flagged(table, STARTS_CODESTREAM)
    return starts if starts and not starts[0] else ()


def _by_ends(table: FragmentTable) -> Sequence[int]:
    """Behind where codestreams end, if the last fragment is an end."""
    if not table or not table.flags[-1] & ENDS_CODESTREAM:
        return ()
    ends = _flagged(table, ENDS_CODESTREAM)
    return array("Q", [0]) + array("Q", (index + 1 for index in ends[:-1]))


def _flagged(table: FragmentTable, flag: int) -> array[int]:
    return array("Q", (index for index, flags in enumerate(table.flags) if flags & flag))
