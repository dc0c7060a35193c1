"""Rewriter of element headers into another encoding (PS3.5 7.1, A).

A `Transcoder` takes sequences of any length form apart, and follows the rules of
`isocenter.engine.dataset.nesting` for what stands in the wrong place.  Some elements cannot
be taken apart all the same: fragments have no place in an uncompressed data set, and a
sequence of defined length may hold anything.  They go on as one value, whose length must
be written before it has come: so a first pass (*survey*) finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset.codec import (
    HEADER_LENGTH,
    IMPLICIT_LITTLE_CODEC,
    LONG_HEADER_LENGTH,
    Codec,
)
from isocenter.engine.dataset.errors import DataSetError, DataSetLimitError, tag_text
from isocenter.engine.dataset.nesting import (
    PADDING_TAGS,
    is_encapsulated,
    is_padding,
    misplaced,
    too_deep,
)
from isocenter.engine.dataset.value_writer import ValueWriter
from isocenter.engine.dataset.vr import (
    DELIMITERS,
    ENCAPSULATED_VRS,
    ITEM,
    ITEM_DELIMITATION,
    LONG_VRS,
    MAX_SHORT_LENGTH,
    PIXEL_DATA,
    SEQUENCE_DELIMITATION,
    SHORT_VRS,
    SPACE_PADDED_VRS,
    SWAP_WIDTH,
    UNDEFINED_LENGTH,
)
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import Limits

#: The VR of a tag: (tag, private creator or None) → VR, "UN" where it is not known.  A choice
#: as PS3.6 prints it ("US or SS", "OB or OW") is resolved here.
VrOf = Callable[[int, str | None], str]

#: Of the groups before, which may not be used, nothing is dropped but padding: group 0002 would
#: move to the head, where a reader takes it for File Meta Information.
_FIRST_TAG: Final = 0x0008_0000
_PIXEL_REPRESENTATION: Final = 0x00280103
#: A private creator or Pixel Representation is waited for up to this many bytes (LO has 64).
_MAX_NOTED_LENGTH: Final = 64
#: An offset of a Basic Offset Table, in bytes (PS3.5 A.4).
_OFFSET_LENGTH: Final = 4
_KNOWN_VRS: Final = SHORT_VRS | LONG_VRS
#: Elements of one data set that are remembered because they go on as one value.
MAX_ODD_ELEMENTS: Final = 100_000


class Odd(NamedTuple):
    """An element that is not taken apart, and where it lies, in bytes of the data set.

    Attributes:
        value: where what goes on begins; behind a Basic Offset Table.
        end: where it ends, before the delimitation item if there is one.
        resume: where the data set goes on.
        joined: the length of native Pixel Data in fragments, which go on as one value; None for
            all else, which goes on as it stands, as UN.
    """

    value: int
    end: int
    resume: int
    joined: int | None


@dataclass(slots=True)
class _Frame:
    """A data set, an item or a sequence that is open."""

    is_sequence: bool
    source: Codec
    target: Codec
    #: Byte of the source at which it ends; None where a delimitation item ends it.
    end: int | None
    #: Byte that nothing within may pass: its end, or that of what holds it; None while nothing
    #: around has defined length.
    bound: int | None
    #: What is written when it is closed.
    closing: bytes
    #: Of the element; 0 for an item.
    tag: int = 0
    #: Bytes of the source at which its header and its value start.
    start: int = 0
    value: int = 0
    #: (0028,0103) of this data set or the one around it; decides between US and SS.
    is_signed: bool = False
    #: Group and block of private elements → private creator.
    creators: dict[int, str] | None = None
    #: An item that is in no sequence: nothing of it goes on.
    is_stray: bool = False
    #: Only in a survey: it goes on as one value.
    is_odd: bool = False
    #: Fragments that go on as one value of Pixel Data, or may yet.
    joins: bool = False
    #: Of the fragments in a survey: how many, their bytes, those of the first.
    fragments: int = 0
    length: int = 0
    first_length: int = 0
    #: Where the data set goes on behind fragments that are joined.
    resume: int = 0
    width: int = 1


class Transcoder:
    """Writes every header anew, and changes the byte order of values where it differs.

    Args:
        odd: start of the header → what a survey of the same data set has found; None for a
            survey: nothing is written, and ``found`` becomes that.
    """

    def __init__(
        self,
        source: Codec,
        target: Codec,
        vr_of: VrOf,
        limits: Limits,
        odd: Mapping[int, Odd] | None,
    ) -> None:
        self._vr_of = vr_of
        self._limits = limits
        self._odd: Mapping[int, Odd] = odd or {}
        self._is_survey = odd is None
        self.found: dict[int, Odd] = {}
        self._stack = [_Frame(False, source, target, end=None, bound=None, closing=b"")]
        self._offset = 0
        self._carry = b""
        #: Up to this byte nothing is looked at.
        self._resume = 0
        self._is_padding = False
        self._values = ValueWriter()
        self._values.mutes = int(self._is_survey)

    @property
    def next_header(self) -> int:
        """Byte of the data set up to which a survey need not see what comes next."""
        return self._offset + self._values.remaining

    def pass_over(self, count: int) -> None:
        """Leave out bytes up to `next_header`, of a survey."""
        self._values.remaining -= count
        self._offset += count

    def feed(self, chunk: Buffer) -> list[Buffer]:
        if self._is_padding:
            return []
        values = self._values
        pos = values.write(chunk, 0) if values.are_expected() else 0
        if self._carry:
            # A header across two chunks, with at most `_MAX_NOTED_LENGTH` of value.
            chunk = self._carry + chunk
            self._offset -= len(self._carry)
            self._carry = b""
        while not values.are_expected():
            before = pos
            try:
                pos = self._step(chunk, pos)
            except DataSetError as fault:
                if not self._is_survey:
                    raise
                self._recover(fault)
                continue
            if pos < 0:
                pos = before
                break
            if values.are_expected():
                pos = values.write(chunk, pos)
        if pos < len(chunk):
            self._carry = bytes(chunk[pos:])
        self._offset += len(chunk)
        return values.drain()

    def finish(self) -> list[Buffer]:
        """What is still open ends here."""
        is_cut = self._carry and not is_padding(self._carry)
        if is_cut or self._values.remaining:
            raise DataSetError("the data set ends within an element", self._offset)
        at = self._offset - len(self._carry)
        while len(self._stack) > 1:
            frame = self._stack[-1]
            if frame.end is not None and frame.end > at:
                raise DataSetError("the data set ends within an element", self._offset)
            self._close(frame, at, at)
        return self._values.drain()

    def _recover(self, fault: DataSetError) -> None:
        """After *fault*, in a survey: the innermost sequence around it whose end is known goes on
        as one value, or will where its end is seen."""
        stack = self._stack
        while stack and stack[-1].end is None:
            stack.pop()
        if not stack:
            raise fault
        frame = stack.pop()
        assert frame.end is not None
        if not frame.is_sequence:
            # Of items the sequences around them have to go on as one value.
            around = stack[-1]
            self._resume = frame.end
            if around.end is None:
                around.is_odd = True
                around.joins = False
                return
            frame = stack.pop()
        assert frame.end is not None
        self._note_odd(frame, frame.end, frame.end)
        self._resume = frame.end

    def _note_odd(self, frame: _Frame, end: int, resume: int) -> None:
        if len(self.found) >= MAX_ODD_ELEMENTS:
            raise DataSetLimitError(
                f"more than {MAX_ODD_ELEMENTS} elements that cannot be taken apart",
                frame.start,
                "elements",
            )
        value, joined = frame.value, None
        if frame.joins:
            joined = frame.length
            has_table = frame.first_length == _OFFSET_LENGTH * (frame.fragments - 1)
            if has_table and frame.fragments > 1:
                joined -= frame.first_length
                value += HEADER_LENGTH + frame.first_length
        self.found[frame.start] = Odd(value, end, resume, joined)

    def _step(self, chunk: Buffer, pos: int) -> int:
        """Handle one header, or one end.

        Returns:
            Where the value or the next header starts, -1 when more bytes are needed.
        """
        frame = self._stack[-1]
        at = self._offset + pos
        if at < self._resume:
            self._values.skip(self._resume - at)
            return pos
        if frame.bound is not None and at >= frame.bound:
            self._close(frame, at, at)
            return pos
        room = LONG_HEADER_LENGTH if frame.bound is None else frame.bound - at
        if room < HEADER_LENGTH:
            raise DataSetError("an item or a sequence ends within a header (PS3.5 7.5)", at)
        if len(chunk) - pos < HEADER_LENGTH:
            return -1
        raw, length = frame.source.item_header.unpack_from(chunk, pos)
        tag = frame.source.raw(raw)
        if frame.is_sequence:
            return self._step_in_sequence(frame, tag, length, at, pos)
        if tag in DELIMITERS:
            return self._step_at_delimiter(frame, tag, length, at, pos)
        if (
            tag in PADDING_TAGS
            and at
            and len(self._stack) == 1
            and is_padding(chunk[pos : pos + HEADER_LENGTH])
        ):
            self._is_padding = True
            return len(chunk)
        vr, length, header_length = _read_vr(frame.source, chunk, pos, length)
        if header_length < 0:
            if room < LONG_HEADER_LENGTH:
                raise DataSetError("an item or a sequence ends within a header (PS3.5 7.5)", at)
            return -1
        start = pos + header_length
        odd = self._odd.get(at) if self._odd else None
        if odd is not None:
            self._begin_odd(frame, tag, vr, at + header_length, odd)
            return start
        if length == UNDEFINED_LENGTH:
            self._open(frame, tag, vr, None, at, at + header_length)
            return start
        if frame.bound is not None and at + header_length + length > frame.bound:
            raise DataSetError(f"{tag_text(tag)} is longer than what holds it (PS3.5 7.5)", at)
        if vr is None and self._is_noted(tag) and length <= _MAX_NOTED_LENGTH:
            if len(chunk) - start < length:
                return -1
            self._note(frame, tag, bytes(chunk[start : start + length]))
        if tag & 0xFFFF == 0 and (tag >= _FIRST_TAG or tag == 0):
            self._values.skip(length)
            return start
        if frame.source is frame.target:
            # Within a UN of undefined length nothing is known and nothing changes.
            self._begin(frame, tag, "UN", length, 1)
            return start
        known = vr or self._resolve(frame, tag)
        if known == "SQ":
            end = at + header_length + length
            self._open(frame, tag, known, end, at, at + header_length)
            return start
        self._begin_value(frame, tag, known, length)
        return start

    def _step_in_sequence(self, frame: _Frame, tag: int, length: int, at: int, pos: int) -> int:
        after = at + HEADER_LENGTH
        if tag == ITEM:
            if frame.joins and length != UNDEFINED_LENGTH:
                if not frame.fragments:
                    frame.first_length = length
                frame.fragments += 1
                frame.length += length
                self._values.begin(b"", length, frame.width)
                return pos + HEADER_LENGTH
            frame.joins = False
            end = None if length == UNDEFINED_LENGTH else after + length
            if end is not None and frame.bound is not None and end > frame.bound:
                raise DataSetError("an item is longer than what holds it (PS3.5 7.5)", at)
            if frame.is_odd and end is not None:
                self._values.skip(length)
                return pos + HEADER_LENGTH
            self._values.put(frame.target.item_mark(ITEM, UNDEFINED_LENGTH))
            self._push(frame, frame.source, frame.target, end, ITEM_DELIMITATION, at, after)
        elif tag == SEQUENCE_DELIMITATION:
            # Before an end that a length has announced it says nothing.
            if frame.end is None:
                self._close(frame, at, after)
        elif tag == ITEM_DELIMITATION:
            pass
        elif frame.end is None and tag > frame.tag:
            self._close(frame, at, at)
            return pos
        else:
            raise misplaced(tag, "a sequence", at)
        return pos + HEADER_LENGTH

    def _step_at_delimiter(self, frame: _Frame, tag: int, length: int, at: int, pos: int) -> int:
        after = pos + HEADER_LENGTH
        if len(self._stack) == 1:
            # Outside of a sequence: an item without one does not go on.
            if tag == ITEM and length == UNDEFINED_LENGTH:
                self._push(frame, frame.source, frame.target, None, ITEM_DELIMITATION, at, at)
                self._stack[-1].is_stray = True
                self._values.mutes += 1
            elif tag == ITEM:
                self._values.skip(length)
            return after
        if frame.end is None:
            self._close(frame, at, at)
            return after if tag == ITEM_DELIMITATION else pos
        if tag == ITEM:
            raise misplaced(tag, "an item", at)
        return after

    def _open(
        self, frame: _Frame, tag: int, vr: str | None, end: int | None, at: int, value: int
    ) -> None:
        """Open a sequence or, of undefined length, what stands in the place of one."""
        has_fragments = end is None and is_encapsulated(tag, vr)
        if has_fragments and not (self._is_survey or self._values.mutes):
            raise DataSetError(
                f"{tag_text(tag)} is encapsulated and cannot be re-encoded (PS3.5 A.4)", at
            )
        # Each sequence around this one has its item on the stack too, and all the data set.
        if len(self._stack) > 2 * self._limits.nesting:
            raise too_deep(self._limits.nesting, at)
        if end is not None and frame.bound is not None and end > frame.bound:
            raise DataSetError(f"{tag_text(tag)} is longer than what holds it (PS3.5 7.5)", at)
        source, target = frame.source, frame.target
        known = "UN" if vr == "UN" else "SQ"
        if known == "UN":
            source = target = IMPLICIT_LITTLE_CODEC
        self._values.put(frame.target.header(tag, known, UNDEFINED_LENGTH))
        self._push(frame, source, target, end, SEQUENCE_DELIMITATION, at, value)
        opened = self._stack[-1]
        opened.tag = tag
        if has_fragments:
            opened.is_odd = True
            opened.joins = len(self._stack) == 2 and tag == PIXEL_DATA and vr in _JOINED_VRS

    def _push(
        self,
        around: _Frame,
        source: Codec,
        target: Codec,
        end: int | None,
        closing_tag: int,
        start: int,
        value: int,
    ) -> None:
        self._stack.append(
            _Frame(
                is_sequence=closing_tag == SEQUENCE_DELIMITATION,
                source=source,
                target=target,
                end=end,
                bound=around.bound if end is None else end,
                closing=target.item_mark(closing_tag, 0),
                start=start,
                value=value,
                is_signed=around.is_signed,
            )
        )

    def _close(self, frame: _Frame, end: int, resume: int) -> None:
        if frame.is_odd:
            self._note_odd(frame, end, resume)
        self._values.put(frame.closing)
        self._stack.pop()
        self._resume = max(self._resume, frame.resume)
        if frame.is_stray:
            self._values.mutes -= 1

    def _begin_odd(self, frame: _Frame, tag: int, vr: str | None, value: int, odd: Odd) -> None:
        """Write what does not go on as a sequence, or begin to."""
        if odd.joined is None and frame.target.implicit_vr and self._resolve(frame, tag) == "SQ":
            # Implicit VR cannot say that it is none: a reader would look for items, and give up
            # the whole data set.
            self._resume = odd.resume
            return
        if odd.joined is None or odd.joined >= UNDEFINED_LENGTH - 1:
            length = odd.end - odd.value
            if length >= UNDEFINED_LENGTH - 1:
                raise DataSetError(f"{tag_text(tag)} is too long for one value", value)
            self._begin(frame, tag, "UN", length, 1)
            self._resume = odd.resume
            return
        known, width = self._target_of(frame, vr or "OW", odd.joined)
        padding = odd.joined & 1
        self._values.put(frame.target.header(tag, known, odd.joined + padding))
        self._push(
            frame, frame.source, frame.target, odd.end, SEQUENCE_DELIMITATION, value, odd.value
        )
        joining = self._stack[-1]
        joining.joins, joining.width, joining.closing = True, width, bytes(padding)
        joining.resume = odd.resume
        self._resume = odd.value

    def _begin_value(self, frame: _Frame, tag: int, vr: str, length: int) -> None:
        known, width = self._target_of(frame, vr, length)
        self._begin(frame, tag, known, length, width)

    def _begin(self, frame: _Frame, tag: int, vr: str, length: int, width: int) -> None:
        """Write a header, and what makes the length of its value even (PS3.5 7.1.1)."""
        padding = b""
        if length & 1:
            padding = b" " if vr in SPACE_PADDED_VRS else b"\0"
        header = frame.target.header(tag, vr, length + len(padding))
        self._values.begin(header, length, width, padding)

    def _target_of(self, frame: _Frame, vr: str, length: int) -> tuple[str, int]:
        """The VR that a value of *length* gets, and in what steps its byte order changes."""
        width = 1
        if frame.source.big_endian != frame.target.big_endian:
            width = SWAP_WIDTH.get(vr, 1)
        if vr not in _KNOWN_VRS or (vr in SHORT_VRS and length > MAX_SHORT_LENGTH):
            # A UN is little endian (PS3.5 6.2.2): that is what a little endian source has.
            return "UN", width if frame.source.big_endian else 1
        return vr, width

    def _resolve(self, frame: _Frame, tag: int) -> str:
        """The VR of an element of defined length that comes without one."""
        creator = None
        if tag >> 16 & 1:
            block = tag & 0xFFFF
            if 0x10 <= block <= 0xFF:  # a private creator (PS3.5 7.8.1)
                return "LO"
            if frame.creators is not None:
                creator = frame.creators.get((tag >> 16) << 8 | block >> 8)
            if creator is None:
                return "UN"
        vr = self._vr_of(tag, creator)
        if vr in _KNOWN_VRS:
            return vr
        # PS3.5 A.1: in implicit VR every one of these is OW.
        if "OW" in vr:
            return "OW"
        if vr == "US or SS":
            return "SS" if frame.is_signed else "US"
        return "UN"

    @staticmethod
    def _is_noted(tag: int) -> bool:
        return tag == _PIXEL_REPRESENTATION or (
            bool(tag >> 16 & 1) and 0x10 <= tag & 0xFFFF <= 0xFF
        )

    @staticmethod
    def _note(frame: _Frame, tag: int, value: bytes) -> None:
        if tag == _PIXEL_REPRESENTATION:
            frame.is_signed = bool(any(value))
        else:
            creator = value.decode("ascii", "replace").strip(" \0")
            if frame.creators is None:
                frame.creators = {}
            frame.creators[(tag >> 16) << 8 | tag & 0xFF] = creator


#: Native Pixel Data; None where the data set does not say.
_JOINED_VRS: Final = ENCAPSULATED_VRS | {None}


def _read_vr(codec: Codec, chunk: Buffer, pos: int, length: int) -> tuple[str | None, int, int]:
    """VR, value length and header length of the element at *pos*; -1 when it is not all there."""
    if codec.implicit_vr:
        return None, length, HEADER_LENGTH
    _, key, short_length = codec.explicit_header.unpack_from(chunk, pos)
    vr = codec.short_vrs.get(key)
    if vr is not None:
        return vr, short_length, HEADER_LENGTH
    found = codec.odd_header(chunk, pos)
    return (None, 0, -1) if found is None else found
