"""Mapper of a data set around its Pixel Data (PS3.5 8, A.4).

`map_pixel_data` reads headers only, however long the values are: it asks for pieces of the data
set by offset, so whoever has a file or an object store reads little of it.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Sequence
from typing import Final

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dataset.codec import (
    HEADER_LENGTH,
    LONG_HEADER_LENGTH,
    Codec,
    codec_of,
)
from isocenter.engine.dataset.errors import DataSetError, DataSetLimitError, tag_text
from isocenter.engine.dataset.nesting import (
    DELIMITATION_WITH_LENGTH,
    PADDING_TAGS,
    SEQUENCE_NOT_DELIMITED,
    STRAY_DELIMITATION,
    STRAY_ITEM,
    Kind,
    Nesting,
    is_encapsulated,
    is_padding,
)
from isocenter.engine.dataset.pixel_data import (
    BASIC_OFFSET_LENGTH,
    ENDS_CODESTREAM,
    EXTENDED_OFFSET_TABLE,
    EXTENDED_OFFSET_TABLE_LENGTHS,
    PIXEL_DATA_TAGS,
    STARTS_CODESTREAM,
    FragmentTable,
    PixelDataElement,
    PixelDataMap,
    Span,
    read_offsets,
)
from isocenter.engine.dataset.vr import (
    DELIMITERS,
    ITEM,
    PIXEL_DATA,
    UNDEFINED_LENGTH,
    Encoding,
)
from isocenter.engine.limits import DEFAULT_LIMITS, Limits

_TABLES: Final = frozenset((EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS))

#: Fragments of one data set: a whole slide at full resolution has some 200,000 tiles.  17 bytes
#: are held for each.
MAX_FRAGMENTS: Final = 2_000_000
_EXTENDED_OFFSET_LENGTH: Final = 8

#: What is looked at of a fragment's beginning and end, in bytes.
_PEEK_LENGTH: Final = 12
_TAIL_LENGTH: Final = 3

#: SOI of JPEG and JPEG-LS with the marker behind it; SOC and SIZ of JPEG 2000; the signature box
#: of JP2; JPEG XL, bare and in its container.
_CODESTREAM_STARTS: Final = (
    b"\xff\xd8\xff",
    b"\xff\x4f\xff\x51",
    b"\0\0\0\x0cjP  ",
    b"\xff\x0a",
    b"\0\0\0\x0cJXL ",
)
#: EOI of JPEG, EOC of JPEG 2000.
_CODESTREAM_END: Final = b"\xff\xd9"
#: The first offset in the header of an RLE frame, whatever its segments (PS3.5 G.5).
_RLE_HEADER_LENGTH: Final = 64
_MAX_RLE_SEGMENTS: Final = 15

TRUNCATED_VALUE: Final = "Pixel Data shorter than announced (PS3.5 7.1)"
ODD_FRAGMENT: Final = "a fragment of odd length, with its padding not counted (PS3.5 A.4)"
NOT_OF_FRAGMENTS: Final = "fragments in a value of defined length (PS3.5 A.4)"

#: Yields (offset, length) of the bytes that it needs, and is sent those or more from that offset
#: on; fewer only where the data set ends.
Mapping = Generator[tuple[int, int], Buffer, PixelDataMap]


def map_pixel_data(
    encoding: Encoding,
    size: int,
    wanted: frozenset[int] = frozenset(),
    located: frozenset[int] = frozenset(),
    limits: Limits = DEFAULT_LIMITS,
    *,
    search_sequences: bool = False,
) -> Mapping:
    """Find the Pixel Data of a data set of *size* bytes, and what else is wanted at its top level.

    A generator: it yields the (offset, length) that it has to see, and is sent the bytes from
    that offset on, as many or more.  `map_of` drives it over a buffer.

    Args:
        encoding: of the data set; not deflated.
        wanted: tags whose values are kept, of up to ``limits.kept_value`` bytes each.
        located: tags whose places are kept.
        search_sequences: look for encapsulated values also in sequences of defined length, which
            are passed over otherwise.

    Raises:
        DataSetError: the data set is malformed, or passes a limit (`DataSetLimitError`).
    """
    assert not encoding.deflated, "offsets are those of the inflated data set"
    return _Mapper(encoding, size, wanted | _TABLES, located, limits, search_sequences).run()


def map_of(
    data_set: Buffer,
    encoding: Encoding,
    wanted: frozenset[int] = frozenset(),
    located: frozenset[int] = frozenset(),
    limits: Limits = DEFAULT_LIMITS,
    *,
    search_sequences: bool = False,
) -> PixelDataMap:
    """`map_pixel_data` of a data set that is in memory."""
    data = memoryview(octets(data_set))
    mapping = map_pixel_data(
        encoding, len(data), wanted, located, limits, search_sequences=search_sequences
    )
    try:
        offset, _ = next(mapping)
        while True:
            offset, _ = mapping.send(data[offset:])
    except StopIteration as done:
        found: PixelDataMap = done.value
        return found


class _WatchedNesting(Nesting):
    """Notices encapsulated values within sequences."""

    __slots__ = ("has_fragments",)

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.has_fragments = False

    def open(self, tag: int, vr: str | None, codec: Codec, offset: int) -> None:
        super().open(tag, vr, codec, offset)
        if self.opened[-1][0] is Kind.FRAGMENTS:
            self.has_fragments = True


_Fetch = Generator[tuple[int, int], Buffer, memoryview]
_Step = Generator[tuple[int, int], Buffer, int]


class _Mapper:
    def __init__(
        self,
        encoding: Encoding,
        size: int,
        wanted: frozenset[int],
        located: frozenset[int],
        limits: Limits,
        search_sequences: bool,
    ) -> None:
        self._searches = search_sequences
        self._codec = codec_of(encoding)
        self._size = size
        self._wanted = wanted
        self._located = located
        #: Located tags for which no higher one has come yet, lowest first.
        self._unplaced = sorted(located)
        self._limits = limits
        self._nesting = _WatchedNesting(limits)
        self._map = PixelDataMap(forgiven=self._nesting.forgiven)
        self._window = memoryview(b"")
        self._window_offset = 0

    def run(self) -> Mapping:
        pos = 0
        while pos < self._size:
            pos = yield from self._element(pos)
        found = self._map
        for tag in self._unplaced:
            found.gaps[tag] = self._size
        for tag in found.spans:
            found.gaps.pop(tag, None)
        return found

    def _fetch(self, offset: int, length: int) -> _Fetch:
        """At least *length* bytes from *offset* on; fewer where the data set ends."""
        length = min(length, self._size - offset)
        start = offset - self._window_offset
        if start < 0 or start + length > len(self._window):
            self._window = memoryview(octets((yield offset, length)))
            self._window_offset = offset
            start = 0
            if len(self._window) < length:
                raise DataSetError("the data set is shorter than it was", offset)
        return self._window[start:]

    def _element(self, pos: int) -> _Step:
        """Pass over one top-level element, or what stands in its place; where the next starts."""
        head = yield from self._fetch(pos, LONG_HEADER_LENGTH)
        if len(head) < HEADER_LENGTH:
            if is_padding(head):
                return self._size
            raise _ends_within("an element header", pos)
        raw, length = self._codec.item_header.unpack_from(head, 0)
        tag = self._codec.raw(raw)
        if tag in DELIMITERS:
            return (yield from self._stray(tag, length, pos))
        if tag in PADDING_TAGS and pos and is_padding(head[:HEADER_LENGTH]):
            return self._size
        vr, length, header_length = self._header(head, pos, length)
        value = pos + header_length
        self._place(tag, pos)
        if length == UNDEFINED_LENGTH:
            if tag == PIXEL_DATA and is_encapsulated(tag, vr):
                end = yield from self._encapsulated(tag, vr, pos, value, self._size)
            else:
                self._nesting.open(tag, vr, self._codec, pos)
                end = yield from self._follow(value)
                has_some = self._nesting.has_fragments
                self._nesting.has_fragments = False
                if has_some or (self._searches and (yield from self._has_fragments(value, end))):
                    self._map.encapsulating[tag] = Span(pos, end - pos)
        else:
            end = value + length
            if tag in PIXEL_DATA_TAGS:
                end = yield from self._of_defined_length(tag, vr, pos, value, end)
            elif end > self._size:
                raise _ends_within(f"the value of {tag_text(tag)}", value)
            elif tag in self._wanted:
                yield from self._keep(tag, vr, value, length)
            elif self._searches and vr == "SQ" and (yield from self._has_fragments(value, end)):
                self._map.encapsulating[tag] = Span(pos, end - pos)
        if tag in self._located:
            self._map.spans[tag] = Span(pos, end - pos)
        return end

    def _header(self, head: memoryview, pos: int, length: int) -> tuple[str | None, int, int]:
        codec = self._codec
        if codec.implicit_vr:
            return None, length, HEADER_LENGTH
        _, key, short_length = codec.explicit_header.unpack_from(head, 0)
        vr = codec.short_vrs.get(key)
        if vr is not None:
            return vr, short_length, HEADER_LENGTH
        found = codec.odd_header(head, 0)
        if found is None:
            raise _ends_within("an element header", pos)
        return found

    def _place(self, tag: int, start: int) -> None:
        while self._unplaced and self._unplaced[0] < tag:
            self._map.gaps[self._unplaced.pop(0)] = start

    def _stray(self, tag: int, length: int, pos: int) -> _Step:
        """An item or a delimitation item that is in no sequence."""
        if tag != ITEM:
            what = DELIMITATION_WITH_LENGTH if length else STRAY_DELIMITATION
            self._nesting.forgive(what, pos)
            return pos + HEADER_LENGTH
        self._nesting.forgive(STRAY_ITEM, pos)
        if length != UNDEFINED_LENGTH:
            return min(pos + HEADER_LENGTH + length, self._size)
        self._nesting.open_item(self._codec)
        return (yield from self._follow(pos + HEADER_LENGTH))

    def _follow(self, pos: int) -> _Step:
        """Go on until what was opened is closed."""
        nesting = self._nesting
        while nesting.opened and pos < self._size:
            window = yield from self._fetch(pos, LONG_HEADER_LENGTH)
            after = pos + nesting.follow(window, 0, pos)
            if after == pos and len(window) == self._size - pos:
                break
            pos = after
        if pos > self._size:
            raise _ends_within("a value", self._size)
        if nesting.opened:
            nesting.forgive(SEQUENCE_NOT_DELIMITED, self._size)
            nesting.opened.clear()
            return self._size
        return pos

    def _has_fragments(self, pos: int, end: int) -> Generator[tuple[int, int], Buffer, bool]:
        """Whether there is an encapsulated value somewhere in a sequence.

        All headers are looked at in a row: what holds others is passed by its header only.  Where
        that cannot go on, nothing was found.
        """
        codec = self._codec
        while end - pos >= HEADER_LENGTH:
            head = yield from self._fetch(pos, LONG_HEADER_LENGTH)
            raw, length = codec.item_header.unpack_from(head, 0)
            if raw in codec.delimiters:
                pos += HEADER_LENGTH
                continue
            vr, length, header_length = self._header(head, pos, length)
            pos += header_length
            if length == UNDEFINED_LENGTH:
                if is_encapsulated(codec.raw(raw), vr):
                    return True
            elif vr != "SQ":
                pos += length
        return False

    def _keep(
        self, tag: int, vr: str | None, value: int, length: int
    ) -> Generator[tuple[int, int], Buffer, None]:
        is_table = tag in _TABLES
        most = _EXTENDED_OFFSET_LENGTH * MAX_FRAGMENTS if is_table else self._limits.kept_value
        if length > most:
            raise DataSetLimitError(
                f"{tag_text(tag)} is longer than {most} bytes", value, "kept_value"
            )
        window = yield from self._fetch(value, length)
        self._map.values[tag] = bytes(window[:length])
        if vr is not None:
            self._map.vrs[tag] = vr
        else:
            self._map.vrs.pop(tag, None)

    def _of_defined_length(self, tag: int, vr: str | None, pos: int, value: int, end: int) -> _Step:
        """Native pixels; or fragments, written with the length that they have together."""
        if end > self._size:
            self._nesting.forgive(TRUNCATED_VALUE, value)
            end = self._size
        if tag == PIXEL_DATA and vr != "OW" and end - value >= 2 * HEADER_LENGTH:
            head = yield from self._fetch(value, HEADER_LENGTH)
            raw, length = self._codec.item_header.unpack_from(head, 0)
            behind = value + HEADER_LENGTH + length
            if raw == self._codec.item and behind + HEADER_LENGTH <= end:
                head = yield from self._fetch(behind, HEADER_LENGTH)
                raw, _ = self._codec.item_header.unpack_from(head, 0)
                if raw in (self._codec.item, self._codec.sequence_delimitation):
                    self._nesting.forgive(NOT_OF_FRAGMENTS, pos)
                    yield from self._encapsulated(tag, vr, pos, value, end)
                    return end
        self._map.pixel_data = PixelDataElement(
            tag=tag, vr=vr, start=pos, value=value, end=end, fragments=None
        )
        return end

    def _encapsulated(self, tag: int, vr: str | None, start: int, value: int, limit: int) -> _Step:
        """The Basic Offset Table and the fragments behind it; where the next element starts."""
        codec = self._codec
        table = FragmentTable()
        is_first = True
        pos = value
        while True:
            if limit - pos < HEADER_LENGTH:
                self._nesting.forgive(SEQUENCE_NOT_DELIMITED, pos)
                pos = limit
                break
            head = yield from self._fetch(pos, HEADER_LENGTH + _PEEK_LENGTH)
            raw, length = codec.item_header.unpack_from(head, 0)
            if raw == codec.sequence_delimitation:
                if length:
                    self._nesting.forgive(DELIMITATION_WITH_LENGTH, pos)
                pos += HEADER_LENGTH
                break
            if raw == codec.item_delimitation:
                self._nesting.forgive(STRAY_DELIMITATION, pos)
                pos += HEADER_LENGTH
                continue
            if raw != codec.item:
                # Another element, where the delimitation was left out.
                if codec.raw(raw) <= tag:
                    what = f"{tag_text(codec.raw(raw))} where a fragment should be (PS3.5 A.4)"
                    raise DataSetError(what, pos)
                self._nesting.forgive(SEQUENCE_NOT_DELIMITED, pos)
                break
            if length == UNDEFINED_LENGTH:
                raise DataSetError("a fragment of undefined length (PS3.5 A.4)", pos)
            if len(table) >= MAX_FRAGMENTS:
                raise DataSetLimitError(f"more than {MAX_FRAGMENTS} fragments", pos, "fragments")
            pos += HEADER_LENGTH
            if is_first:
                is_first = False
                table.basic_offsets = yield from self._basic_offsets(pos, length, limit)
                pos = min(pos + length, limit)
                continue
            pos = yield from self._fragment(
                table, bytes(head[HEADER_LENGTH:][:length]), pos, length, limit
            )
        self._map.pixel_data = PixelDataElement(
            tag=tag, vr=vr, start=start, value=value, end=pos, fragments=table
        )
        return pos

    def _fragment(
        self, table: FragmentTable, peek: bytes, pos: int, length: int, limit: int
    ) -> _Step:
        if pos + length > limit:
            self._nesting.forgive(TRUNCATED_VALUE, pos)
            length = limit - pos
        end = pos + length
        tail = min(_TAIL_LENGTH, length)
        # With the header and the beginning of the next, so that each is read once.
        ending = yield from self._fetch(end - tail, tail + 1 + HEADER_LENGTH + _PEEK_LENGTH)
        flags = STARTS_CODESTREAM if _starts_codestream(peek) else 0
        if _CODESTREAM_END in bytes(ending[:tail]):
            flags |= ENDS_CODESTREAM
        table.offsets.append(pos)
        table.lengths.append(length)
        table.flags.append(flags)
        if length & 1 and self._is_mark(ending[tail + 1 :]) and not self._is_mark(ending[tail:]):
            self._nesting.forgive(ODD_FRAGMENT, pos)
            end += 1
        return end

    def _is_mark(self, head: memoryview) -> bool:
        codec = self._codec
        if len(head) < HEADER_LENGTH:
            return False
        raw, _ = codec.item_header.unpack_from(head, 0)
        return bool(raw in (codec.item, codec.sequence_delimitation))

    def _basic_offsets(
        self, pos: int, length: int, limit: int
    ) -> Generator[tuple[int, int], Buffer, Sequence[int]]:
        if length > BASIC_OFFSET_LENGTH * MAX_FRAGMENTS:
            raise DataSetLimitError(
                f"a Basic Offset Table of more than {MAX_FRAGMENTS} frames", pos, "fragments"
            )
        if pos + length > limit:
            raise _ends_within("the Basic Offset Table", pos)
        window = yield from self._fetch(pos, length)
        return read_offsets(window[:length], BASIC_OFFSET_LENGTH, self._codec.big_endian)


def _starts_codestream(peek: bytes) -> bool:
    if peek.startswith(_CODESTREAM_STARTS):
        return True
    if len(peek) < 2 * BASIC_OFFSET_LENGTH:
        return False
    segments, first = struct.unpack_from("<II", peek)
    return bool(1 <= segments <= _MAX_RLE_SEGMENTS and first == _RLE_HEADER_LENGTH)


def _ends_within(what: str, pos: int) -> DataSetError:
    return DataSetError(f"the data set ends within {what}", pos)
