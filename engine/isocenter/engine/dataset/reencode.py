"""Re-encoding between the uncompressed transfer syntaxes, as a stream (PS3.5 A.1, A.2, A.3, A.5).

A data set is pushed in, in pieces of any size, and comes out in another encoding; no
value is held, whatever its size.

* Sequences and items leave with undefined length: what they come to is not known
  when their header must be written.
* Group lengths (gggg,0000) are dropped: they would be wrong, and are retired (PS3.5 7.2).
* UN keeps its bytes, which are implicit VR little endian everywhere (PS3.5 6.2.2).
* Encapsulated values cannot be expressed in these encodings and are refused.
* Where the header does not change (explicit VR little endian, deflated or not) the
  data set passes byte for byte.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dataset.codec import (
    HEADER_LENGTH,
    IMPLICIT_LITTLE_CODEC,
    LONG_HEADER_LENGTH,
    Codec,
    codec_of,
)
from isocenter.engine.dataset.errors import DataSetError, tag_text
from isocenter.engine.dataset.inflate import RAW_DEFLATE, Inflater
from isocenter.engine.dataset.reader import is_encapsulated
from isocenter.engine.dataset.scanner import ElementScanner
from isocenter.engine.dataset.vr import (
    DELIMITERS,
    ITEM,
    ITEM_DELIMITATION,
    LONG_VRS,
    MAX_SHORT_LENGTH,
    SEQUENCE_DELIMITATION,
    SHORT_VRS,
    SWAP_WIDTH,
    UNDEFINED_LENGTH,
    Encoding,
)
from isocenter.engine.limits import DEFAULT_LIMITS, Limits

#: The VR of a tag: (tag, private creator or None) → VR, "UN" where it is not known.  A choice
#: as PS3.6 prints it ("US or SS", "OB or OW") is resolved here.
VrOf = Callable[[int, str | None], str]

_PIXEL_REPRESENTATION: Final = 0x00280103
#: A private creator or Pixel Representation is waited for up to this many bytes (LO has 64).
_MAX_NOTED_LENGTH: Final = 64
#: Smaller pieces of values are joined with the headers around them.
_MIN_OWN_BUFFER: Final = 4096
#: Array type codes for `SWAP_WIDTH`; these sizes hold wherever CPython runs.
_ARRAY_CODES: Final = {2: "H", 4: "I", 8: "Q"}


class Reencoder:
    """Turns a data set of one encoding into the same data set in another.

    Args:
        source: encoding of what is fed.
        target: encoding of what is returned.
        vr_of: dictionary for elements whose VR the source does not say.  Of what it does
            not know, defined length becomes UN and undefined length SQ.
        limits: ``nesting``, ``elements``, and the two of the inflater.
    """

    __slots__ = ("_deflater", "_error", "_inflater", "_scanner", "_transcoder")

    def __init__(
        self,
        source: Encoding,
        target: Encoding,
        vr_of: VrOf,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._inflater = Inflater(limits) if source.deflated else None
        self._deflater = _Deflater() if target.deflated else None
        old, new = codec_of(source), codec_of(target)
        # With one header the bytes pass as they are; a scanner still tells whether they may.
        plain = Encoding(old.implicit_vr, old.big_endian)
        self._scanner = ElementScanner(plain, frozenset(), limits) if old is new else None
        self._transcoder = _Transcoder(old, new, vr_of, limits)
        self._error: DataSetError | None = None

    def feed(self, chunk: Buffer) -> list[Buffer]:
        """Re-encode the next piece.

        Returns:
            Buffers to be written in order.  Some may be views of *chunk*: use them before
            its memory is used again.  Of a deflated source they come to at most
            ``limits.inflate_ratio`` times the input so far, so feed it in small pieces.

        Raises:
            DataSetError: the data set is malformed, passes a limit, or cannot be expressed
                in the target encoding.  Every later call raises the same.
        """
        if self._error is not None:
            raise self._error
        try:
            chunk = octets(chunk)
            if self._inflater is None:
                return self._deflated(self._reencode(chunk))
            out: list[Buffer] = []
            for piece in self._inflater.feed(chunk):
                out += self._deflated(self._reencode(piece))
            return out
        except DataSetError as error:
            self._error = error
            raise

    def finish(self) -> list[Buffer]:
        """Say that the data set has ended.

        Returns:
            The last buffers.

        Raises:
            DataSetError: it ended within a header, a value or a sequence.
        """
        if self._error is not None:
            raise self._error
        if self._inflater is not None:
            self._inflater.finish()
        if self._scanner is not None:
            self._scanner.finish()
        else:
            self._transcoder.finish()
        if self._deflater is None:
            return []
        return self._deflater.finish()

    def _reencode(self, chunk: Buffer) -> list[Buffer]:
        if self._scanner is None:
            return self._transcoder.feed(chunk)
        self._scanner.feed(chunk)
        return [chunk] if len(chunk) else []

    def _deflated(self, buffers: list[Buffer]) -> list[Buffer]:
        return buffers if self._deflater is None else self._deflater.feed(buffers)


class _Deflater:
    """Deflates, and pads the stream to even length with one NUL (PS3.5 A.5)."""

    __slots__ = ("_compressor", "_length")

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(wbits=RAW_DEFLATE)
        self._length = 0

    def feed(self, buffers: list[Buffer]) -> list[Buffer]:
        return self._counted([self._compressor.compress(buffer) for buffer in buffers])

    def finish(self) -> list[Buffer]:
        out = self._counted([self._compressor.flush()])
        return [*out, b"\0"] if self._length & 1 else out

    def _counted(self, buffers: list[bytes]) -> list[Buffer]:
        self._length += sum(map(len, buffers))
        return [buffer for buffer in buffers if buffer]


@dataclass(slots=True)
class _Frame:
    """A data set, an item or a sequence that is open."""

    is_sequence: bool
    source: Codec
    target: Codec
    #: Byte of the source at which it ends; None where a delimitation item ends it.
    end: int | None
    #: Byte that nothing within may pass; None while nothing around has defined length.
    bound: int | None
    #: What is written when it is closed.
    closing: bytes
    #: (0028,0103) of this data set or the one around it; decides between US and SS.
    is_signed: bool = False
    #: Group and block of private elements → private creator.
    creators: dict[int, str] = field(default_factory=dict)


class _Transcoder:
    """Writes every header anew, and changes the byte order of values where it differs."""

    def __init__(self, source: Codec, target: Codec, vr_of: VrOf, limits: Limits) -> None:
        self._vr_of = vr_of
        self._limits = limits
        self._budget = limits.elements
        self._stack = [
            _Frame(
                is_sequence=False, source=source, target=target, end=None, bound=None, closing=b""
            )
        ]
        self._offset = 0
        self._carry = b""
        self._values = _ValueWriter()

    def feed(self, chunk: Buffer) -> list[Buffer]:
        values = self._values
        pos = values.write(chunk, 0) if values.are_expected() else 0
        if self._carry:
            # A header across two chunks, with at most `_MAX_NOTED_LENGTH` of value.
            chunk = self._carry + chunk
            self._offset -= len(self._carry)
            self._carry = b""
        while not values.are_expected():
            before = pos
            pos = self._step(chunk, pos)
            if pos < 0:
                pos = before
                break
            if values.are_expected():
                pos = values.write(chunk, pos)
        if pos < len(chunk):
            self._carry = bytes(chunk[pos:])
        self._offset += len(chunk)
        return values.drain()

    def finish(self) -> None:
        if self._carry or self._values.are_expected() or len(self._stack) > 1:
            raise DataSetError("the data set ends within an element", self._offset)

    def _step(self, chunk: Buffer, pos: int) -> int:
        """Handle one header, or one end.

        Returns:
            Where the value or the next header starts, -1 when more bytes are needed.
        """
        frame = self._stack[-1]
        at = self._offset + pos
        if frame.end is not None and at >= frame.end:
            self._close(frame)
            return pos
        if len(chunk) - pos < HEADER_LENGTH:
            return -1
        raw, length = frame.source.item_header.unpack_from(chunk, pos)
        tag = frame.source.raw(raw)
        if frame.is_sequence:
            self._count(at)
            return self._step_in_sequence(frame, tag, length, at, pos)
        if tag in DELIMITERS:
            if tag != ITEM_DELIMITATION or length or frame.end is not None or not frame.closing:
                raise _misplaced(tag, at)
            self._close(frame)
            return pos + HEADER_LENGTH
        vr, length, header_length = _read_vr(frame.source, chunk, pos, length)
        if header_length < 0:
            return -1
        start = pos + header_length
        if length == UNDEFINED_LENGTH:
            if is_encapsulated(tag, vr, at):
                raise DataSetError(
                    f"{tag_text(tag)} is encapsulated and cannot be re-encoded (PS3.5 A.4)", at
                )
            self._count(at)
            self._open_sequence(frame, tag, vr or "SQ", None, at)
            return start
        if frame.bound is not None and at + header_length + length > frame.bound:
            raise DataSetError(f"{tag_text(tag)} is longer than what holds it (PS3.5 7.5)", at)
        if vr is None and self._is_noted(tag) and length <= _MAX_NOTED_LENGTH:
            if len(chunk) - start < length:
                return -1
            self._note(frame, tag, bytes(chunk[start : start + length]))
        self._count(at)
        if tag & 0xFFFF == 0:
            self._values.skip(length)
            return start
        if frame.source is frame.target:
            # Within a UN of undefined length nothing is known and nothing changes.
            self._values.begin(frame.target.header(tag, "UN", length), length, 1)
            return start
        known = vr or self._resolve(frame, tag)
        if known == "SQ":
            self._open_sequence(frame, tag, known, at + header_length + length, at)
            return start
        self._begin_value(frame, tag, known, length)
        return start

    def _step_in_sequence(self, frame: _Frame, tag: int, length: int, at: int, pos: int) -> int:
        if tag == ITEM:
            end = None if length == UNDEFINED_LENGTH else at + HEADER_LENGTH + length
            if end is not None and frame.bound is not None and end > frame.bound:
                raise DataSetError("an item is longer than what holds it (PS3.5 7.5)", at)
            self._values.put(frame.target.item_mark(ITEM, UNDEFINED_LENGTH))
            self._push(frame, frame.source, frame.target, end, ITEM_DELIMITATION)
        elif tag == SEQUENCE_DELIMITATION and frame.end is None and not length:
            self._close(frame)
        else:
            raise _misplaced(tag, at)
        return pos + HEADER_LENGTH

    def _open_sequence(self, frame: _Frame, tag: int, vr: str, end: int | None, at: int) -> None:
        # Each sequence around this one has its item on the stack too, and all the data set.
        if len(self._stack) > 2 * self._limits.nesting:
            raise DataSetError(
                f"sequences nested deeper than {self._limits.nesting}", at, "nesting"
            )
        if end is not None and frame.bound is not None and end > frame.bound:
            raise DataSetError(f"{tag_text(tag)} is longer than what holds it (PS3.5 7.5)", at)
        self._values.put(frame.target.header(tag, vr, UNDEFINED_LENGTH))
        if vr == "UN":
            codec = IMPLICIT_LITTLE_CODEC
            self._push(frame, codec, codec, end, SEQUENCE_DELIMITATION)
        else:
            self._push(frame, frame.source, frame.target, end, SEQUENCE_DELIMITATION)

    def _push(
        self, around: _Frame, source: Codec, target: Codec, end: int | None, closing_tag: int
    ) -> None:
        self._stack.append(
            _Frame(
                is_sequence=closing_tag == SEQUENCE_DELIMITATION,
                source=source,
                target=target,
                end=end,
                bound=around.bound if end is None else end,
                closing=target.item_mark(closing_tag, 0),
                is_signed=around.is_signed,
            )
        )

    def _close(self, frame: _Frame) -> None:
        self._values.put(frame.closing)
        self._stack.pop()

    def _begin_value(self, frame: _Frame, tag: int, vr: str, length: int) -> None:
        target = frame.target
        width = SWAP_WIDTH.get(vr, 1) if frame.source.big_endian != target.big_endian else 1
        if vr not in _KNOWN_VRS or (vr in SHORT_VRS and length > MAX_SHORT_LENGTH):
            # A UN is little endian (PS3.5 6.2.2): that is what a little endian source has.
            vr = "UN"
            width = width if frame.source.big_endian else 1
        self._values.begin(target.header(tag, vr, length), length, width)

    def _resolve(self, frame: _Frame, tag: int) -> str:
        """The VR of an element of defined length that comes without one."""
        creator = None
        if tag >> 16 & 1:
            block = tag & 0xFFFF
            if 0x10 <= block <= 0xFF:  # a private creator (PS3.5 7.8.1)
                return "LO"
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
            frame.creators[(tag >> 16) << 8 | tag & 0xFF] = creator

    def _count(self, at: int) -> None:
        self._budget -= 1
        if self._budget < 0:
            raise DataSetError(
                f"more than {self._limits.elements} elements and items", at, "elements"
            )


_KNOWN_VRS: Final = SHORT_VRS | LONG_VRS


def _read_vr(codec: Codec, chunk: Buffer, pos: int, length: int) -> tuple[str | None, int, int]:
    """VR, value length and header length of the element at *pos*; -1 when it is not all there.

    An element without a VR amid explicit ones (there are such files) is read as implicit.
    """
    if codec.implicit_vr:
        return None, length, HEADER_LENGTH
    _, key, short_length = codec.explicit_header.unpack_from(chunk, pos)
    vr = codec.short_vrs.get(key)
    if vr is not None:
        return vr, short_length, HEADER_LENGTH
    vr = codec.long_vrs.get(key) or codec.future_vr(key)
    if vr is None:
        return None, length, HEADER_LENGTH
    if len(chunk) - pos < LONG_HEADER_LENGTH:
        return vr, 0, -1
    (length,) = codec.length.unpack_from(chunk, pos + HEADER_LENGTH)
    return vr, length, LONG_HEADER_LENGTH


def _misplaced(tag: int, offset: int) -> DataSetError:
    return DataSetError(f"{tag_text(tag)} where none may be (PS3.5 7.5)", offset)


class _ValueWriter:
    """Collects headers and values; changes the byte order of a value that comes in pieces."""

    __slots__ = ("_buffers", "_is_dropped", "_remaining", "_residue", "_small", "_width")

    def __init__(self) -> None:
        self._remaining = 0
        self._width = 1
        self._is_dropped = False
        #: Less than one number of the value, from the end of the last piece.
        self._residue = b""
        self._small = bytearray()
        self._buffers: list[Buffer] = []

    def are_expected(self) -> bool:
        """Whether bytes of the current value are still to come."""
        return self._remaining > 0

    def put(self, header: bytes) -> None:
        self._small += header

    def begin(self, header: bytes, length: int, width: int) -> None:
        """Write *header*; the next *length* bytes are its value, numbers of *width* bytes
        whose order is reversed (1: as they are)."""
        self._small += header
        self._remaining = length
        self._width = width
        self._is_dropped = False

    def skip(self, length: int) -> None:
        self._remaining = length
        self._is_dropped = True

    def write(self, chunk: Buffer, pos: int) -> int:
        """Take what *chunk* has of the value from *pos* on; returns where it ends."""
        end = min(pos + self._remaining, len(chunk))
        self._remaining -= end - pos
        if not self._is_dropped:
            view = memoryview(chunk)[pos:end]
            if self._width == 1:
                self._put_value(view)
            else:
                self._put_swapped(view)
        return end

    def drain(self) -> list[Buffer]:
        self._flush()
        buffers = self._buffers
        self._buffers = []
        return buffers

    def _put_swapped(self, view: memoryview) -> None:
        width = self._width
        if self._residue:
            missing = width - len(self._residue)
            self._residue += view[:missing]
            view = view[missing:]
            if len(self._residue) == width:
                self._small += self._residue[::-1]
                self._residue = b""
        whole = len(view) - len(view) % width
        if whole:
            numbers = array(_ARRAY_CODES[width])
            numbers.frombytes(view[:whole])
            numbers.byteswap()
            self._put_value(memoryview(numbers).cast("B"))
        if whole < len(view):
            self._residue += view[whole:]
        if not self._remaining and self._residue:
            # Not a whole number: the value is malformed and stays as it is.
            self._small += self._residue
            self._residue = b""

    def _put_value(self, view: memoryview) -> None:
        if len(view) < _MIN_OWN_BUFFER:
            self._small += view
        else:
            self._flush()
            self._buffers.append(view)

    def _flush(self) -> None:
        if self._small:
            self._buffers.append(bytes(self._small))
            self._small.clear()
