"""Walker of a data set in memory or a mapped file, element by element.

`walk` says of each element where its value lies, and of each sequence and item where it
begins and ends; what it does not look at costs nothing, however long it is.  It follows the
rules of `isocenter.engine.dataset.nesting` for what stands in the wrong place.

How much is forgiven, `Tolerance` says:

* strict: nothing; whatever PS3.5 does not have is an error, with its place.
* usual: what every reader of this package forgives, and says in *forgiven*.
* salvage: also what cannot be read on: it ends with whatever holds it, and what stands
  behind that goes on.  Nothing is left out without being said in *forgiven*.

Standard: PS3.5 7.1, 7.5, A.4, 6.2.2.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple, Protocol

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset.codec import (
    HEADER_LENGTH,
    IMPLICIT_LITTLE_CODEC,
    LONG_HEADER_LENGTH,
    Codec,
    codec_of,
)
from isocenter.engine.dataset.errors import DataSetError, tag_text
from isocenter.engine.dataset.nesting import (
    DELIMITATION_WITH_LENGTH,
    ITEM_NOT_DELIMITED,
    ODD_VR,
    PADDING_TAGS,
    SEQUENCE_NOT_DELIMITED,
    STRAY_DELIMITATION,
    STRAY_ITEM,
    is_encapsulated,
    is_padding,
    misplaced,
    too_deep,
)
from isocenter.engine.dataset.vr import UNDEFINED_LENGTH, Encoding
from isocenter.engine.limits import DEFAULT_LIMITS, Limits

#: What is found; numbers, since members of an Enum are slow.
#: A value of bytes, from *start* to *end*.
VALUE: Final = 0
#: An encapsulated value: its items from *start* to *end*, without the delimitation item.
FRAGMENTS: Final = 1
#: A sequence begins; items follow, up to its END.
SEQUENCE: Final = 2
#: An item begins; its elements follow, up to its END.
ITEM: Final = 3
#: The innermost sequence or item has ended.
END: Final = 4

#: Kind, tag (of an item 0), VR (None: the data set does not say), where in the data the value
#: begins and ends (of a SEQUENCE or an ITEM only the former counts), and how it is encoded.
Found = tuple[int, int, str | None, int, int, Codec]

ODD_LENGTH: Final = "a value of odd length (PS3.5 7.1.1)"
OUT_OF_ORDER: Final = "elements that are not in ascending order (PS3.5 7.1)"
NOT_ITEMS: Final = "a sequence that is not made of items (PS3.5 7.5)"
PADDING: Final = "padding behind the last element (PS3.5 7.1)"
NULS: Final = "NULs in place of an element"
#: Bytes of padding that are looked at together.
_STEP: Final = 1 << 16


class TagSet(Protocol):
    """Tags of which it can be asked whether one is among them."""

    def __contains__(self, tag: int, /) -> bool: ...


class Tolerance(Enum):
    """How much is forgiven."""

    STRICT = "strict"
    USUAL = "usual"
    SALVAGE = "salvage"


def walk(
    data: Buffer,
    encoding: Encoding,
    limits: Limits = DEFAULT_LIMITS,
    sequences: TagSet = frozenset(),
    *,
    forgiven: dict[str, int] | None = None,
    tolerance: Tolerance = Tolerance.USUAL,
) -> Iterator[Found]:
    """What the data set *data* is made of, in its order.

    Args:
        data: the data set, inflated where it was deflated.
        sequences: tags that are read as sequences though the data set does not say so
            (implicit VR, or UN) if they are made of items.  Undefined length says so by itself.
        limits: ``nesting``; the number of elements has no bound.
        forgiven: is filled, while it goes on, with what was forgiven → byte of the data set at
            which it was first.

    Raises:
        DataSetError: truncated or malformed, or nested too deep (`DataSetLimitError`).  In
            SALVAGE, never.
    """
    said: dict[str, int] = {} if forgiven is None else forgiven
    return _Walk(data, codec_of(encoding), limits, sequences, said, tolerance).found()


def walk_items(
    data: Buffer,
    codec: Codec,
    limits: Limits,
    sequences: TagSet,
    tag: int,
    *,
    is_undefined: bool,
    forgiven: dict[str, int],
) -> Iterator[Found]:
    """What the value *data* of the sequence *tag* is made of, as `walk` says it.

    Args:
        is_undefined: a sequence delimitation item ends it, unless that is missing.
    """
    inner = _Walk(data, codec, limits, sequences, forgiven, Tolerance.USUAL)
    inner.begin_in_sequence(tag, is_undefined=is_undefined)
    return inner.found()


class _Frame(NamedTuple):
    """What is open around the current sequence or item, and how it goes on."""

    in_sequence: bool
    end: int
    is_undefined: bool
    codec: Codec
    tag: int
    previous: int


class _Walk:
    """Where a walk is: in what, up to where, and what is open around that."""

    __slots__ = (
        "_codec", "_data", "_end", "_forgiven", "_in_sequence", "_is_done", "_is_undefined",
        "_limits", "_pos", "_previous", "_sequences", "_stack", "_tag", "_tolerance",
    )  # fmt: skip

    def __init__(
        self,
        data: Buffer,
        codec: Codec,
        limits: Limits,
        sequences: TagSet,
        forgiven: dict[str, int],
        tolerance: Tolerance,
    ) -> None:
        self._data = data
        self._limits = limits
        self._sequences = sequences
        self._forgiven = forgiven
        self._tolerance = tolerance
        self._codec = codec
        self._pos = 0
        #: Of the current data set, sequence or item; of undefined length: of what holds it.
        self._end = len(data)
        self._in_sequence = False
        self._is_undefined = False
        #: Of the current sequence.
        self._tag = 0
        #: Tag of the element before.
        self._previous = -1
        self._stack: list[_Frame] = []
        self._is_done = False

    def begin_in_sequence(self, tag: int, *, is_undefined: bool) -> None:
        """Expect items, not elements."""
        self._in_sequence = True
        self._is_undefined = is_undefined
        self._tag = tag

    def found(self) -> Iterator[Found]:
        data = self._data
        while not self._is_done:
            try:
                if self._pos == self._end:
                    found = self._ends()
                elif self._in_sequence:
                    found = self._next_item()
                else:
                    codec = self._codec
                    if not codec.implicit_vr:
                        # The usual elements: a short VR, and a value that is all there.
                        header = codec.explicit_header.unpack_from
                        short_vrs = codec.short_vrs
                        delimiters = codec.delimiters
                        big_endian = codec.big_endian
                        pos, end, previous = self._pos, self._end, self._previous
                        last = end - HEADER_LENGTH
                        while pos <= last:
                            raw, key, length = header(data, pos)
                            vr = short_vrs.get(key)
                            value = pos + HEADER_LENGTH
                            after = value + length
                            if vr is None or after > end or raw in delimiters:
                                break
                            tag = raw if big_endian else (raw >> 16) | (raw & 0xFFFF) << 16
                            if length & 1:
                                self._forgive(ODD_LENGTH, pos)
                            if tag <= previous:
                                self._forgive(OUT_OF_ORDER, pos)
                            previous = tag
                            yield VALUE, tag, vr, value, after, codec
                            pos = after
                        self._pos, self._previous = pos, previous
                    else:
                        sequences = self._sequences
                        header = codec.item_header.unpack_from
                        delimiters = codec.delimiters
                        pos, end, previous = self._pos, self._end, self._previous
                        last = end - HEADER_LENGTH
                        while pos <= last:
                            raw, length = header(data, pos)
                            value = pos + HEADER_LENGTH
                            after = value + length
                            tag = (raw >> 16) | (raw & 0xFFFF) << 16
                            if after > end or not raw or raw in delimiters or tag in sequences:
                                break
                            if length & 1:
                                if length == UNDEFINED_LENGTH:
                                    break
                                self._forgive(ODD_LENGTH, pos)
                            if tag <= previous:
                                self._forgive(OUT_OF_ORDER, pos)
                            previous = tag
                            yield VALUE, tag, None, value, after, codec
                            pos = after
                        self._pos, self._previous = pos, previous
                    if pos == end:
                        continue
                    found = self._next_element()
            except DataSetError as error:
                self._salvage(error)
                # What holds it ends here, and what has no end of its own ends with that.
                self._pos = self._end
                continue
            if found is not None:
                yield found

    def _ends(self) -> Found | None:
        """Also what has undefined length ends with what holds it."""
        if not self._stack:
            self._is_done = True
            return None
        if self._is_undefined:
            what = SEQUENCE_NOT_DELIMITED if self._in_sequence else ITEM_NOT_DELIMITED
            self._forgive(what, self._pos)
        return self._close()

    def _close(self) -> Found | None:
        if not self._stack:
            self._is_done = True
            return None
        frame = self._stack.pop()
        self._in_sequence, self._end, self._is_undefined, self._codec = frame[:4]
        self._tag, self._previous = frame[4:]
        return END, 0, None, self._pos, self._pos, self._codec

    def _open(self, value: int, end: int, *, is_undefined: bool, tag: int | None = None) -> None:
        """Go into the sequence *tag*, or (None) into an item."""
        self._stack.append(
            _Frame(
                self._in_sequence, self._end, self._is_undefined, self._codec,
                self._tag, self._previous,
            )
        )  # fmt: skip
        self._in_sequence = tag is not None
        self._is_undefined = is_undefined
        self._pos, self._end = value, end
        self._previous = -1
        if tag is not None:
            self._tag = tag

    def _next_item(self) -> Found | None:
        pos, end, codec = self._pos, self._end, self._codec
        if not self._stack and pos and _is_padding(self._data, pos, codec):
            self._forgive(PADDING, pos)
            self._is_done = True
            return None
        if end - pos < HEADER_LENGTH:
            raise _ends_within("an element header", pos)
        raw, length = codec.item_header.unpack_from(self._data, pos)
        if raw == codec.item:
            value = pos + HEADER_LENGTH
            after = end if length == UNDEFINED_LENGTH else value + length
            if after > end:
                after = self._clipped("an item", value)
            self._open(value, after, is_undefined=length == UNDEFINED_LENGTH)
            return ITEM, 0, None, value, after, codec
        if raw in codec.delimiters:
            self._pos = pos + HEADER_LENGTH
            if self._is_undefined and raw == codec.sequence_delimitation:
                if length:
                    self._forgive(DELIMITATION_WITH_LENGTH, pos)
                return self._close()
            self._forgive(STRAY_DELIMITATION, pos)
            return None
        if self._is_undefined and self._stack and codec.raw(raw) > self._tag:
            self._forgive(SEQUENCE_NOT_DELIMITED, pos)
            return self._close()
        raise misplaced(codec.raw(raw), "a sequence", pos)

    def _next_element(self) -> Found | None:
        pos, end, codec, data = self._pos, self._end, self._codec, self._data
        if not self._stack and pos and _is_padding(data, pos, codec):
            self._forgive(PADDING, pos)
            self._is_done = True
            return None
        if end - pos < HEADER_LENGTH:
            raise _ends_within("an element header", pos)
        raw, length = codec.item_header.unpack_from(data, pos)
        if raw in codec.delimiters:
            return self._delimiter(raw, length)
        if not raw and not length:
            behind = self._behind_nuls(pos)
            # One alone is an element without a value, if a strange one.
            if behind > pos + HEADER_LENGTH:
                self._forgive(NULS, pos)
                self._pos = behind
                return None
        tag = codec.raw(raw)
        vr: str | None = None
        value = pos + HEADER_LENGTH
        if not codec.implicit_vr:
            vr, length, value, is_odd = _explicit(data, pos, end, codec)
            if is_odd:
                self._forgive(ODD_VR, pos)
        if tag <= self._previous:
            self._forgive(OUT_OF_ORDER, pos)
        self._previous = tag
        if length == UNDEFINED_LENGTH:
            if is_encapsulated(tag, vr):
                return self._fragments(tag, vr, value)
            return self._sequence(tag, vr, value, end, is_undefined=True)
        if length & 1:
            self._forgive(ODD_LENGTH, pos)
        after = value + length
        if after > end:
            after = self._clipped(tag_text(tag), value)
        if vr == "SQ" or ((vr is None or vr == "UN") and tag in self._sequences):
            if self._holds_items(tag, vr, value, after):
                return self._sequence(tag, vr, value, after, is_undefined=False)
            if vr == "SQ":
                self._forgive(NOT_ITEMS, pos)
                vr = "UN"
        self._pos = after
        return VALUE, tag, vr, value, after, codec

    def _holds_items(self, tag: int, vr: str | None, start: int, end: int) -> bool:
        """Whether a sequence could be what lies from *start* to *end*: by its first item, and
        where nothing but a guess says that it is one, by all of it."""
        if start == end:
            return True
        if end - start < HEADER_LENGTH:
            return False
        codec = IMPLICIT_LITTLE_CODEC if vr == "UN" else self._codec
        raw, _ = codec.item_header.unpack_from(self._data, start)
        if raw not in codec.delimiters:
            return False
        if vr == "SQ" or not (vr == "UN" or tag & 0x10000):
            return True
        inner = _Walk(
            memoryview(self._data)[start:end], codec, self._limits, frozenset(), {},
            Tolerance.USUAL,
        )  # fmt: skip
        inner.begin_in_sequence(tag, is_undefined=False)
        try:
            deque(inner.found(), maxlen=0)
        except DataSetError:
            return False
        return True

    def _delimiter(self, raw: int, length: int) -> Found | None:
        """What is no element, where an element could be."""
        pos, codec = self._pos, self._codec
        closes = self._is_undefined and bool(self._stack)
        if raw == codec.item_delimitation:
            self._pos = pos + HEADER_LENGTH
            if closes and length:
                self._forgive(DELIMITATION_WITH_LENGTH, pos)
        elif closes:
            self._forgive(ITEM_NOT_DELIMITED, pos)
        elif raw == codec.sequence_delimitation:
            self._pos = pos + HEADER_LENGTH
        elif self._stack or length == UNDEFINED_LENGTH:
            raise misplaced(codec.raw(raw), "an item", pos)
        else:
            # Outside of a sequence: nothing that anybody asks for.
            self._forgive(STRAY_ITEM, pos)
            value = pos + HEADER_LENGTH
            after = value + length
            self._pos = after if after <= self._end else self._clipped("an item", value)
            return None
        if closes:
            return self._close()
        self._forgive(STRAY_DELIMITATION, pos)
        return None

    def _behind_nuls(self, pos: int) -> int:
        """Where a run of headers of nothing but NULs ends; there may be gigabytes of them."""
        data, end = self._data, self._end
        while pos + HEADER_LENGTH <= end:
            piece = bytes(data[pos : min(pos + _STEP, end)])
            nuls = len(piece) - len(piece.lstrip(b"\0"))
            pos += nuls - nuls % HEADER_LENGTH
            if nuls < len(piece) or nuls < HEADER_LENGTH:
                break
        return pos

    def _sequence(
        self, tag: int, vr: str | None, value: int, end: int, *, is_undefined: bool
    ) -> Found:
        # Each sequence that is open has its own frame and its item's.
        if len(self._stack) >= 2 * self._limits.nesting:
            raise too_deep(self._limits.nesting, self._pos)
        self._open(value, end, is_undefined=is_undefined, tag=tag)
        found = SEQUENCE, tag, vr, value, end, self._codec
        if vr == "UN":
            # Whatever the encoding of the data set is (PS3.5 6.2.2).
            self._codec = IMPLICIT_LITTLE_CODEC
        return found

    def _fragments(self, tag: int, vr: str | None, value: int) -> Found:
        after = self._end
        try:
            after, self._pos = self.end_of_fragments(value)
        except DataSetError as error:
            self._salvage(error)
            self._pos = after
        return FRAGMENTS, tag, vr, value, after, self._codec

    def end_of_fragments(self, pos: int) -> tuple[int, int]:
        """Where the fragments end, and where it goes on behind their delimitation item."""
        data, end, codec = self._data, self._end, self._codec
        while True:
            if pos == end:
                self._forgive(SEQUENCE_NOT_DELIMITED, pos)
                return pos, pos
            if end - pos < HEADER_LENGTH:
                raise _ends_within("an encapsulated value", pos)
            raw, length = codec.item_header.unpack_from(data, pos)
            if raw == codec.item:
                pos += HEADER_LENGTH
                if length > end - pos:
                    raise _too_long("a fragment", pos)
                pos += length
            elif raw == codec.sequence_delimitation:
                if length:
                    self._forgive(DELIMITATION_WITH_LENGTH, pos)
                return pos, pos + HEADER_LENGTH
            elif raw == codec.item_delimitation:
                self._forgive(STRAY_DELIMITATION, pos)
                pos += HEADER_LENGTH
            else:
                raise misplaced(codec.raw(raw), "an encapsulated value", pos)

    def _forgive(self, what: str, offset: int) -> None:
        if self._tolerance is Tolerance.STRICT:
            raise DataSetError(what, offset)
        self._forgiven.setdefault(what, offset)

    def _salvage(self, error: DataSetError) -> None:
        if self._tolerance is not Tolerance.SALVAGE:
            raise error
        self._forgiven.setdefault(error.fault, error.offset)

    def _clipped(self, what: str, value: int) -> int:
        """The end of a value that goes beyond what holds it."""
        self._salvage(_too_long(what, value))
        return self._end


def fragments_of(data: Buffer, found: Found) -> Iterator[tuple[int, int]]:
    """Where each fragment of an encapsulated value that `walk` has found begins and ends; first
    the Basic Offset Table (PS3.5 A.4).  The last one of a value that is cut short is cut, too."""
    _, _, _, pos, end, codec = found
    while pos + HEADER_LENGTH <= end:
        raw, length = codec.item_header.unpack_from(data, pos)
        pos += HEADER_LENGTH
        if raw == codec.item:
            after = min(pos + length, end)
            yield pos, after
            pos = after


def end_of_fragments(data: Buffer, codec: Codec) -> int:
    """Where the fragments that *data* begins with end, before their delimitation item.

    Raises:
        DataSetError: they are none.
    """
    inner = _Walk(data, codec, DEFAULT_LIMITS, frozenset(), {}, Tolerance.USUAL)
    return inner.end_of_fragments(0)[0]


def _explicit(data: Buffer, pos: int, end: int, codec: Codec) -> tuple[str | None, int, int, bool]:
    """VR, length and start of the value of the element at *pos*, and whether its header is none
    that PS3.5 7.1.2 has."""
    _, key, short_length = codec.explicit_header.unpack_from(data, pos)
    vr = codec.short_vrs.get(key)
    if vr is not None:
        return vr, short_length, pos + HEADER_LENGTH, False
    vr = codec.long_vrs.get(key)
    if vr is not None and not short_length and end - pos >= LONG_HEADER_LENGTH:
        (length,) = codec.length.unpack_from(data, pos + HEADER_LENGTH)
        return vr, length, pos + LONG_HEADER_LENGTH, False
    found = codec.odd_header(memoryview(data)[:end], pos)
    if found is None:
        raise _ends_within("an element header", pos)
    odd_vr, length, header_length = found
    return odd_vr, length, pos + header_length, True


def _is_padding(data: Buffer, pos: int, codec: Codec) -> bool:
    """Whether the data set has ended at *pos*."""
    if len(data) - pos < HEADER_LENGTH:
        return is_padding(data[pos:])
    raw, _ = codec.item_header.unpack_from(data, pos)
    if raw not in PADDING_TAGS or not is_padding(data[pos : pos + HEADER_LENGTH]):
        return False
    for start in range(pos, len(data), _STEP):
        if not is_padding(bytes(data[pos : pos + 1]) + bytes(data[start : start + _STEP])):
            raise DataSetError("something behind padding (PS3.5 7.1)", start)
    return True


def _too_long(what: str, pos: int) -> DataSetError:
    return DataSetError(f"{what} is longer than what holds it (PS3.5 7.5)", pos)


def _ends_within(what: str, pos: int) -> DataSetError:
    return DataSetError(f"the data set, or the item, ends within {what}", pos)
