"""Incremental element scanner: a few elements of a data set, as it passes.

Bytes are pushed in as they come, in pieces of any size; what is not wanted is
passed over by its length.  Sequences and items of undefined length are followed
to their delimiters (`isocenter.engine.dataset.nesting`), those of defined length that
nobody wants are passed over like any other value.  The data set's order of tags is not
enforced: real files break it, and nothing here depends on it.

What is held: one incomplete header (< 12 bytes), the stack of open sequences
(``limits.nesting``), and the wanted values.  So the number of elements has no bound.

Standard: PS3.5 7.1 (elements), 7.5 (sequences), A.4 (encapsulated values),
6.2.2 (UN of undefined length).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import lru_cache
from typing import Final

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dataset.codec import (
    HEADER_LENGTH,
    IMPLICIT_LITTLE_CODEC,
    LONG_HEADER_LENGTH,
    Codec,
    codec_of,
)
from isocenter.engine.dataset.errors import DataSetError, DataSetLimitError, tag_text
from isocenter.engine.dataset.inflate import Inflater
from isocenter.engine.dataset.nesting import (
    DELIMITATION_WITH_LENGTH,
    ODD_VR,
    PADDING_TAGS,
    SEQUENCE_NOT_DELIMITED,
    STRAY_DELIMITATION,
    STRAY_ITEM,
    Kind,
    Nesting,
    is_padding,
)
from isocenter.engine.dataset.reader import (
    Element,
    Fragments,
    Item,
    read_fragments,
    read_items,
)
from isocenter.engine.dataset.vr import DELIMITERS, ITEM, UNDEFINED_LENGTH, Encoding
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS, Limits

#: An item of a wanted sequence: tag → raw value, or the items of a sequence within.
ScannedItem = dict[int, "ScannedValue"]
ScannedValue = bytes | Fragments | tuple[ScannedItem, ...]

_TRAILING_PADDING: Final = "padding behind the last element (PS3.5 7.1)"
#: Passed over or followed whoever wants them; none of them is an element.
_NO_ELEMENTS: Final = DELIMITERS | PADDING_TAGS


@lru_cache(maxsize=64)
def _watched(codec: Codec, wanted: frozenset[int]) -> dict[int, int]:
    """Raw tag → tag of all that the loop over top-level elements must not pass over.

    What is no element is in it, so that one look-up finds both.
    """
    return {codec.raw(tag): tag for tag in wanted | _NO_ELEMENTS}


@dataclass(slots=True)
class _Capture:
    """A wanted value on its way: not all of it has come, or it must be taken apart."""

    tag: int
    vr: str | None
    codec: Codec
    #: Byte of the data set at which the value starts.
    offset: int
    #: SEQUENCE and FRAGMENTS are taken apart; None is a plain value.
    kind: Kind | None
    #: Whether a delimitation item ends it, which comes with the data.
    is_undefined: bool
    limit: int
    limit_name: str
    data: bytearray = field(default_factory=bytearray)


class ElementScanner:
    """Takes the wanted top-level elements out of a data set that comes in pieces.

    What is odd and can be passed over is forgiven (see the page on tolerance).  A wanted
    element that cannot be kept costs itself, never the data set.

    Args:
        encoding: of the data set.
        wanted: tags to keep.
        sequences: which of them are sequences.  Explicit VR says so itself; implicit VR
            and UN of defined length do not.
        limits: ``kept_value`` bounds each wanted value, ``identifier`` each wanted
            sequence, ``nesting`` all, and ``inflate_window`` what is inflated at once.

    Attributes:
        values: tag → value as it stands in the data set, its byte order and padding kept;
            a tuple of items for a sequence.  Of a tag that comes twice the last counts.
            A UN in ``sequences`` that is not made of items remains bytes.
        vrs: tag → VR of the wanted elements, where the data set says it.
        left_out: tag → what is wrong with a wanted element that is not in ``values``, or
            there with its first ``kept_value`` bytes only; once the data set has ended.
    """

    __slots__ = (
        "_capture",
        "_carry",
        "_codec",
        "_cut",
        "_error",
        "_inflater",
        "_limits",
        "_nesting",
        "_offset",
        "_opened",
        "_padding",
        "_sequences",
        "_skip",
        "_wanted",
        "_watched",
        "left_out",
        "values",
        "vrs",
    )

    def __init__(
        self,
        encoding: Encoding,
        wanted: frozenset[int],
        limits: Limits = DEFAULT_LIMITS,
        *,
        sequences: frozenset[int] = frozenset(),
    ) -> None:
        self.values: dict[int, ScannedValue] = {}
        self.vrs: dict[int, str] = {}
        self.left_out: dict[int, DataSetError] = {}
        #: Those of it in ``values``.
        self._cut: dict[int, bytes] = {}
        self._codec = codec_of(encoding)
        self._wanted = wanted
        self._watched = _watched(self._codec, wanted)
        self._sequences = sequences
        self._limits = limits
        self._inflater = Inflater(limits) if encoding.deflated else None
        # Byte of the data set at which the next chunk starts; less the carry.
        self._offset = 0
        self._carry = b""
        self._skip = 0
        self._nesting = Nesting(limits)
        self._opened = self._nesting.opened
        self._error: DataSetError | None = None
        self._capture: _Capture | None = None
        #: What all that is still to come must be made of.
        self._padding = b""

    @property
    def position(self) -> int:
        """Bytes of the (inflated) data set so far."""
        return self._offset

    @property
    def forgiven(self) -> Mapping[str, int]:
        """What was forgiven, in words → byte of the data set at which it was first."""
        return self._nesting.forgiven

    def feed(self, chunk: Buffer) -> None:
        """Scan the next piece, of any size; it is not referenced after return.

        Raises:
            DataSetError: the data set is malformed or (`DataSetLimitError`) passes a limit.
                Nothing more is scanned; every later call raises the same.
        """
        if self._error is not None:
            raise self._error
        try:
            if self._inflater is None:
                self._scan(octets(chunk))
            else:
                for piece in self._inflater.feed(chunk):
                    self._scan(piece)
        except DataSetError as error:
            self._error = error
            raise

    def finish(self) -> None:
        """Say that the data set has ended.

        Raises:
            DataSetError: it ended within a header or a value.
        """
        if self._error is not None:
            raise self._error
        if self._inflater is not None:
            try:
                self._inflater.finish()
            except DataSetError as error:
                self._error = error
                raise
        if self._carry and is_padding(self._carry):
            self._nesting.forgive(_TRAILING_PADDING, self._offset - len(self._carry))
            self._carry = b""
        if self._carry or self._skip:
            what = "a value" if self._skip else "an element header"
            self._error = DataSetError(f"the data set ends within {what}", self._offset)
            raise self._error
        if self._opened:
            self._nesting.forgive(SEQUENCE_NOT_DELIMITED, self._offset)
            self._opened.clear()
            if self._capture is not None:
                self._capture.is_undefined = False
                self._keep(self._capture)
        for tag in list(self.left_out):
            # Of a tag that comes twice the last counts, and may be well.
            if self.values.get(tag) is not self._cut.get(tag):
                del self.left_out[tag]

    def _scan(self, chunk: Buffer) -> None:
        size = len(chunk)
        pos = self._skip
        if pos:
            capture = self._capture
            if capture is not None:
                self._append(capture, chunk, 0, min(pos, size))
            if pos > size:
                self._skip = pos - size
                self._offset += size
                return
            self._skip = 0
            self._keep_what_is_closed()
        elif self._carry:
            # At most 11 bytes: a header that lies across two chunks.
            chunk = self._carry + chunk
            size = len(chunk)
            self._offset -= len(self._carry)
            self._carry = b""
        elif self._padding:
            self._pad(chunk, 0)
            pos = size
        is_nested = bool(self._opened)
        while True:
            start = pos
            if is_nested:
                pos = self._nesting.follow(chunk, pos, self._offset)
                if self._capture is not None:
                    self._append(self._capture, chunk, start, min(pos, size))
                self._keep_what_is_closed()
            else:
                pos = self._scan_top(chunk, pos)
            if bool(self._opened) == is_nested:
                break
            is_nested = not is_nested
        if pos > size:
            self._skip = pos - size
        elif pos < size:
            self._carry = bytes(chunk[pos:])
        self._offset += size

    def _scan_top(self, chunk: Buffer, pos: int) -> int:
        """Pass over top-level elements from *pos* on.

        Returns:
            Where the next header starts: in the chunk when it is incomplete there or when
            something of undefined length was opened, behind it while a value goes on.
        """
        if self._codec.implicit_vr:
            return self._scan_top_implicit(chunk, pos)
        codec = self._codec
        watched = self._watched.get
        header = codec.explicit_header.unpack_from
        short_vrs = codec.short_vrs
        forgiven = self._nesting.forgiven
        values = self.values
        vrs = self.vrs
        kept_value = self._limits.kept_value
        size = len(chunk)
        last = size - HEADER_LENGTH
        while pos <= last:
            raw, vr_key, length = header(chunk, pos)
            value = pos + HEADER_LENGTH
            if vr_key not in short_vrs:
                vr = codec.long_vrs.get(vr_key)
                if vr is not None and not length:
                    value = pos + LONG_HEADER_LENGTH
                    if value > size:
                        return pos
                    (length,) = codec.length.unpack_from(chunk, pos + HEADER_LENGTH)
                else:
                    found = codec.odd_header(chunk, pos)
                    if found is None:
                        return pos
                    vr, length, header_length = found
                    value = pos + header_length
                    if ODD_VR not in forgiven and raw and raw not in codec.delimiters:
                        self._nesting.forgive(ODD_VR, self._offset + pos)
                if length == UNDEFINED_LENGTH:
                    pos = self._open(raw, vr, chunk, pos, value)
                    if self._opened:
                        return pos
                    continue
                if (tag := watched(raw)) is not None:
                    pos = self._take(tag, vr, chunk, value, length)
                    continue
            elif (tag := watched(raw)) is not None:
                vr = short_vrs[vr_key]
                end = value + length
                # The usual case, without a call.
                if end <= size and length <= kept_value and tag not in _NO_ELEMENTS:
                    values[tag] = bytes(chunk[value:end])
                    vrs[tag] = vr
                    pos = end
                else:
                    pos = self._take(tag, vr, chunk, value, length)
                continue
            pos = value + length
        return pos

    def _scan_top_implicit(self, chunk: Buffer, pos: int) -> int:
        watched = self._watched.get
        header = self._codec.item_header.unpack_from
        last = len(chunk) - HEADER_LENGTH
        while pos <= last:
            raw, length = header(chunk, pos)
            value = pos + HEADER_LENGTH
            if length == UNDEFINED_LENGTH:
                pos = self._open(raw, None, chunk, pos, value)
                if self._opened:
                    return pos
            elif (tag := watched(raw)) is not None:
                pos = self._take(tag, None, chunk, value, length)
            else:
                pos = value + length
        return pos

    def _open(self, raw: int, vr: str | None, chunk: Buffer, pos: int, value: int) -> int:
        """Open the top-level element of undefined length at *pos*; where to go on."""
        tag = self._codec.raw(raw)
        if tag == ITEM:
            self._nesting.forgive(STRAY_ITEM, self._offset + pos)
            self._nesting.open_item(self._codec)
            return value
        if tag in _NO_ELEMENTS and (end := self._pass(tag, chunk, pos)) is not None:
            return end
        self._nesting.open(tag, vr, self._codec, self._offset + pos)
        if tag in self._wanted:
            kind, codec, _ = self._opened[-1]
            self._begin(tag, vr, codec, self._offset + value, kind, is_undefined=True)
        return value

    def _pass(self, tag: int, chunk: Buffer, pos: int) -> int | None:
        """Pass over what stands at *pos*, if it is no element; where to go on."""
        offset = self._offset + pos
        if tag in PADDING_TAGS:
            if not offset or not is_padding(chunk[pos : pos + HEADER_LENGTH]):
                return None
            self._nesting.forgive(_TRAILING_PADDING, offset)
            self._padding = bytes(chunk[pos : pos + 1])
            return self._pad(chunk, pos)
        _, length = self._codec.item_header.unpack_from(chunk, pos)
        if tag == ITEM:
            self._nesting.forgive(STRAY_ITEM, offset)
            return pos + HEADER_LENGTH + int(length)
        self._nesting.forgive(DELIMITATION_WITH_LENGTH if length else STRAY_DELIMITATION, offset)
        return pos + HEADER_LENGTH

    def _pad(self, chunk: Buffer, pos: int) -> int:
        rest = bytes(chunk[pos:]).lstrip(self._padding)
        if rest:
            offset = self._offset + len(chunk) - len(rest)
            raise DataSetError("something behind padding (PS3.5 7.1)", offset)
        return len(chunk)

    def _take(self, tag: int, vr: str | None, chunk: Buffer, value: int, length: int) -> int:
        """Keep the wanted value of *length* bytes at *value*, or begin to; where to go on."""
        if tag in _NO_ELEMENTS:
            passed = self._pass(tag, chunk, value - HEADER_LENGTH)
            if passed is not None:
                return passed
            if tag not in self._wanted:
                return value + length
        end = value + length
        is_sequence = vr == "SQ" or (tag in self._sequences and (vr is None or vr == "UN"))
        if not is_sequence and end <= len(chunk) and length <= self._limits.kept_value:
            self.values[tag] = bytes(chunk[value:end])
            self._set_vr(tag, vr)
            return end
        codec = IMPLICIT_LITTLE_CODEC if vr == "UN" else self._codec
        kind = Kind.SEQUENCE if is_sequence else None
        capture = self._begin(tag, vr, codec, self._offset + value, kind, is_undefined=False)
        if length > capture.limit:
            self._leave_out(capture)
        if self._capture is not None:
            self._append(capture, chunk, value, min(end, len(chunk)))
            if end <= len(chunk):
                self._keep(capture)
        return end

    def _begin(
        self,
        tag: int,
        vr: str | None,
        codec: Codec,
        offset: int,
        kind: Kind | None,
        *,
        is_undefined: bool,
    ) -> _Capture:
        is_sequence = kind is Kind.SEQUENCE
        limits = self._limits
        self._set_vr(tag, vr)
        self.values.pop(tag, None)
        self.left_out.pop(tag, None)
        self._capture = _Capture(
            tag=tag,
            vr=vr,
            codec=codec,
            offset=offset,
            kind=kind,
            is_undefined=is_undefined,
            limit=limits.identifier if is_sequence else limits.kept_value,
            limit_name="identifier" if is_sequence else "kept_value",
        )
        return self._capture

    def _set_vr(self, tag: int, vr: str | None) -> None:
        if vr is not None:
            self.vrs[tag] = vr
        else:
            self.vrs.pop(tag, None)

    def _leave_out(self, capture: _Capture) -> None:
        """Remember that it is too long; of a plain value the beginning is kept."""
        self.left_out[capture.tag] = DataSetLimitError(
            f"{tag_text(capture.tag)} is longer than {capture.limit} bytes",
            capture.offset,
            capture.limit_name,
        )
        if capture.kind is not None:
            self._capture = None

    def _append(self, capture: _Capture, chunk: Buffer, start: int, end: int) -> None:
        data = capture.data
        if capture.kind is None:
            end = min(end, start + capture.limit - len(data))
        elif len(data) + end - start > capture.limit + HEADER_LENGTH * capture.is_undefined:
            self._leave_out(capture)
            return
        data += memoryview(chunk)[start:end]

    def _keep_what_is_closed(self) -> None:
        if self._capture is not None and not self._opened:
            self._keep(self._capture)

    def _keep(self, capture: _Capture) -> None:
        """Turn the bytes of the wanted value, now complete, into what the caller gets."""
        self._capture = None
        raw = bytes(capture.data)
        if capture.kind is None:
            self.values[capture.tag] = raw
            if capture.tag in self.left_out:
                self._cut[capture.tag] = raw
            return
        try:
            if capture.kind is Kind.FRAGMENTS:
                self.values[capture.tag] = read_fragments(raw, capture.codec, self._limits)
            else:
                items = read_items(
                    raw, capture.codec, self._limits, self._sequences, capture.tag,
                    is_undefined=capture.is_undefined,
                )  # fmt: skip
                self.values[capture.tag] = _without_elements(items)
        except DataSetError as error:
            # Only the caller says that a UN of defined length holds items.
            if capture.vr == "UN" and not capture.is_undefined:
                self.values[capture.tag] = raw
            else:
                self.left_out[capture.tag] = error.within(capture.tag, capture.offset)


def _without_elements(items: tuple[Item, ...]) -> tuple[ScannedItem, ...]:
    """The same items as tag → raw value; recursion is bounded by ``limits.nesting``."""
    return tuple({element.tag: _scanned(element) for element in item.values()} for item in items)


def _scanned(element: Element) -> ScannedValue:
    value = element.value
    if isinstance(value, bytes | Fragments):
        return value
    return _without_elements(value)
