"""The incremental element scanner: a few elements out of a data set, nothing built for the rest.

Bytes are pushed in as they come, in pieces of any size; what is not wanted is
passed over by its length.  Sequences and items of undefined length are followed
to their delimiters, those of defined length that nobody wants are passed over
like any other value.  The data set's order of tags is not enforced: real files
break it, and nothing here depends on it.

What is held: one incomplete header (< 12 bytes), the stack of open sequences
(``limits.nesting``), and the wanted values.

Standard: PS3.5 7.1 (elements), 7.5 (sequences), A.4 (encapsulated values),
6.2.2 (UN of undefined length).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dataset.codec import (
    HEADER_LENGTH,
    IMPLICIT_LITTLE_CODEC,
    LONG_HEADER_LENGTH,
    Codec,
    codec_of,
)
from isocenter.engine.dataset.errors import DataSetError, tag_text
from isocenter.engine.dataset.inflate import Inflater
from isocenter.engine.dataset.reader import (
    Element,
    Fragments,
    Item,
    is_encapsulated,
    read_fragments,
    read_items,
)
from isocenter.engine.dataset.vr import DELIMITERS, UNDEFINED_LENGTH, Encoding
from isocenter.engine.limits import DEFAULT_LIMITS, Limits

#: An item of a wanted sequence: tag → raw value, or the items of a sequence within.
ScannedItem = dict[int, "ScannedValue"]
ScannedValue = bytes | Fragments | tuple[ScannedItem, ...]


class _Kind(Enum):
    """What is open, and so what may come next."""

    SEQUENCE = "sequence"
    ITEM = "item"
    FRAGMENTS = "encapsulated value"


@lru_cache(maxsize=64)
def _wanted_raw(codec: Codec, wanted: frozenset[int]) -> dict[int, int]:
    """Raw tag → tag of all that the loop over top-level elements must not pass over.

    Delimiters and items are in it, so that one look-up finds both.
    """
    return {codec.raw(tag): tag for tag in wanted | DELIMITERS}


@dataclass(slots=True)
class _Capture:
    """A wanted value on its way: not all of it has come, or it must be taken apart."""

    tag: int
    vr: str | None
    codec: Codec
    #: Byte of the data set at which the value starts.
    offset: int
    #: SEQUENCE and FRAGMENTS are taken apart; None is a plain value.
    kind: _Kind | None
    #: The delimitation item at its end, in bytes.
    trailer: int
    limit: int
    limit_name: str
    data: bytearray = field(default_factory=bytearray)


class ElementScanner:
    """Takes the wanted top-level elements out of a data set that comes in pieces.

    Args:
        encoding: of the data set.
        wanted: tags to keep.
        sequences: which of them are sequences.  Explicit VR says so itself; implicit VR
            and UN of defined length do not.
        limits: ``kept_value`` bounds each wanted value, ``identifier`` each wanted
            sequence, ``nesting``, ``elements`` and the two of the inflater all.

    Attributes:
        values: tag → value as it stands in the data set, its byte order and padding kept;
            a tuple of items for a sequence.  Of a tag that comes twice the last counts.
            A UN in ``sequences`` that is not made of items remains bytes.
        vrs: tag → VR of the wanted elements, where the data set says it.
    """

    __slots__ = (
        "_budget",
        "_capture",
        "_carry",
        "_codec",
        "_error",
        "_inflater",
        "_limits",
        "_offset",
        "_sequences",
        "_skip",
        "_stack",
        "_watched",
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
        self._codec = codec_of(encoding)
        self._watched = _wanted_raw(self._codec, wanted)
        self._sequences = sequences
        self._limits = limits
        self._inflater = Inflater(limits) if encoding.deflated else None
        self._budget = limits.elements
        # Byte of the data set at which the next chunk starts; less the carry.
        self._offset = 0
        self._carry = b""
        self._skip = 0
        self._stack: list[tuple[_Kind, Codec]] = []
        self._error: DataSetError | None = None
        self._capture: _Capture | None = None

    def feed(self, chunk: Buffer) -> None:
        """Scan the next piece, of any size; it is not referenced after return.

        Raises:
            DataSetError: the data set is malformed or passes a limit.  Nothing more is
                scanned; every later call raises the same.
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
            DataSetError: it ended within a header, a value or a sequence.
        """
        if self._error is not None:
            raise self._error
        if self._inflater is not None:
            try:
                self._inflater.finish()
            except DataSetError as error:
                self._error = error
                raise
        if self._carry or self._skip or self._stack:
            what = "a value" if self._skip else "an element header" if self._carry else "a sequence"
            self._error = DataSetError(f"the data set ends within {what}", self._offset)
            raise self._error

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
            if capture is not None and not self._stack:
                self._keep(capture)
        elif self._carry:
            # At most 11 bytes: a header that lies across two chunks.
            chunk = self._carry + chunk
            size = len(chunk)
            self._offset -= len(self._carry)
            self._carry = b""
        is_nested = bool(self._stack)
        while True:
            start = pos
            pos = self._scan_nested(chunk, pos) if is_nested else self._scan_top(chunk, pos)
            if is_nested and self._capture is not None:
                self._append(self._capture, chunk, start, min(pos, size))
                if not self._stack:
                    self._keep(self._capture)
            if bool(self._stack) == is_nested:
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
        last = len(chunk) - HEADER_LENGTH
        budget = self._budget
        for used in range(budget):
            if pos > last:
                self._budget = budget - used
                return pos
            raw, vr_key, length = header(chunk, pos)
            value = pos + HEADER_LENGTH
            if vr_key not in short_vrs:
                vr = codec.long_vrs.get(vr_key) or codec.future_vr(vr_key)
                if vr is None:
                    raw, length = codec.item_header.unpack_from(chunk, pos)
                else:
                    value = pos + LONG_HEADER_LENGTH
                    if value > len(chunk):
                        self._budget = budget - used
                        return pos
                    (length,) = codec.length.unpack_from(chunk, pos + HEADER_LENGTH)
                if length == UNDEFINED_LENGTH:
                    self._budget = budget - used - 1
                    self._open(raw, vr, codec, self._offset + pos)
                    if (tag := watched(raw)) is not None:
                        self._take_undefined(tag, vr, self._offset + value)
                    return value
                if (tag := watched(raw)) is not None:
                    self._take(tag, vr, chunk, value, length)
            elif (tag := watched(raw)) is not None:
                self._take(tag, short_vrs[vr_key], chunk, value, length)
            pos = value + length
        raise self._too_many(pos)

    def _scan_top_implicit(self, chunk: Buffer, pos: int) -> int:
        codec = self._codec
        watched = self._watched.get
        header = codec.item_header.unpack_from
        last = len(chunk) - HEADER_LENGTH
        budget = self._budget
        for used in range(budget):
            if pos > last:
                self._budget = budget - used
                return pos
            raw, length = header(chunk, pos)
            if length == UNDEFINED_LENGTH:
                self._budget = budget - used - 1
                self._open(raw, None, codec, self._offset + pos)
                if (tag := watched(raw)) is not None:
                    self._take_undefined(tag, None, self._offset + pos + HEADER_LENGTH)
                return pos + HEADER_LENGTH
            pos += HEADER_LENGTH
            if (tag := watched(raw)) is not None:
                self._take(tag, None, chunk, pos, length)
            pos += length
        raise self._too_many(pos)

    def _scan_nested(self, chunk: Buffer, pos: int) -> int:
        """Follow what has undefined length from *pos* on, until all of it is closed.

        Returns:
            As `_scan_top`; in the chunk also when the last sequence was closed.
        """
        stack = self._stack
        last = len(chunk) - HEADER_LENGTH
        budget = self._budget
        kind, codec = stack[-1]
        header = codec.item_header.unpack_from
        for used in range(budget):
            if pos > last:
                self._budget = budget - used
                return pos
            raw, length = header(chunk, pos)
            if kind is _Kind.ITEM:
                if raw == codec.item_delimitation:
                    stack.pop()
                    kind, codec = stack[-1]
                    header = codec.item_header.unpack_from
                    pos += self._delimiter(length, pos)
                    continue
                if raw in (codec.item, codec.sequence_delimitation):
                    raise self._misplaced(raw, codec, pos)
                vr = None
                value = pos + HEADER_LENGTH
                if not codec.implicit_vr:
                    _, vr_key, short_length = codec.explicit_header.unpack_from(chunk, pos)
                    if vr_key in codec.short_vrs:
                        pos = value + short_length
                        continue
                    vr = codec.long_vrs.get(vr_key) or codec.future_vr(vr_key)
                    if vr is not None:
                        value = pos + LONG_HEADER_LENGTH
                        if value > len(chunk):
                            self._budget = budget - used
                            return pos
                        (length,) = codec.length.unpack_from(chunk, pos + HEADER_LENGTH)
                if length == UNDEFINED_LENGTH:
                    self._open(raw, vr, codec, self._offset + pos)
                    kind, codec = stack[-1]
                    header = codec.item_header.unpack_from
                    pos = value
                else:
                    pos = value + length
            elif raw == codec.item:
                pos += HEADER_LENGTH
                if length != UNDEFINED_LENGTH:
                    pos += length
                elif kind is _Kind.SEQUENCE:
                    kind = _Kind.ITEM
                    stack.append((kind, codec))
                else:
                    raise DataSetError(
                        "a fragment of undefined length (PS3.5 A.4)", self._offset + pos
                    )
            elif raw == codec.sequence_delimitation:
                pos += self._delimiter(length, pos)
                stack.pop()
                if not stack:
                    self._budget = budget - used - 1
                    return pos
                kind, codec = stack[-1]
                header = codec.item_header.unpack_from
            else:
                raise self._misplaced(raw, codec, pos)
        raise self._too_many(pos)

    def _open(self, raw: int, vr: str | None, codec: Codec, offset: int) -> None:
        """Push the sequence or encapsulated value of undefined length whose header was read."""
        tag = codec.raw(raw)
        if tag in DELIMITERS:
            raise _outside(tag, offset)
        kind = _Kind.FRAGMENTS if is_encapsulated(tag, vr, offset) else _Kind.SEQUENCE
        if vr == "UN":
            # Whatever the data set's encoding: implicit VR little endian (PS3.5 6.2.2).
            codec = IMPLICIT_LITTLE_CODEC
        # Each sequence around this one has its item on the stack too.
        if len(self._stack) >= 2 * self._limits.nesting:
            raise DataSetError(
                f"sequences nested deeper than {self._limits.nesting}", offset, "nesting"
            )
        self._stack.append((kind, codec))

    def _take_undefined(self, tag: int, vr: str | None, offset: int) -> None:
        """Begin to keep the wanted element of undefined length that was just opened."""
        kind, codec = self._stack[-1]
        self._begin(tag, vr, codec, offset, kind, trailer=HEADER_LENGTH)

    def _take(self, tag: int, vr: str | None, chunk: Buffer, pos: int, length: int) -> None:
        """Keep the wanted value of *length* bytes at *pos*, or begin to."""
        if tag in DELIMITERS:
            raise _outside(tag, self._offset + pos)
        end = pos + length
        is_sequence = vr == "SQ" or (tag in self._sequences and (vr is None or vr == "UN"))
        if not is_sequence and end <= len(chunk) and length <= self._limits.kept_value:
            self.values[tag] = bytes(chunk[pos:end])
            self._set_vr(tag, vr)
            return
        codec = IMPLICIT_LITTLE_CODEC if vr == "UN" else self._codec
        kind = _Kind.SEQUENCE if is_sequence else None
        capture = self._begin(tag, vr, codec, self._offset + pos, kind)
        if length > capture.limit:
            raise _too_long(capture, capture.offset)
        self._append(capture, chunk, pos, min(end, len(chunk)))
        if end <= len(chunk):
            self._keep(capture)

    def _begin(
        self,
        tag: int,
        vr: str | None,
        codec: Codec,
        offset: int,
        kind: _Kind | None,
        trailer: int = 0,
    ) -> _Capture:
        is_sequence = kind is _Kind.SEQUENCE
        limits = self._limits
        self._set_vr(tag, vr)
        self._capture = _Capture(
            tag=tag,
            vr=vr,
            codec=codec,
            offset=offset,
            kind=kind,
            trailer=trailer,
            limit=limits.identifier if is_sequence else limits.kept_value,
            limit_name="identifier" if is_sequence else "kept_value",
        )
        return self._capture

    def _set_vr(self, tag: int, vr: str | None) -> None:
        if vr is not None:
            self.vrs[tag] = vr
        else:
            self.vrs.pop(tag, None)

    def _append(self, capture: _Capture, chunk: Buffer, start: int, end: int) -> None:
        if len(capture.data) + end - start > capture.limit + capture.trailer:
            raise _too_long(capture, self._offset + start)
        capture.data += memoryview(chunk)[start:end]

    def _keep(self, capture: _Capture) -> None:
        """Turn the bytes of the wanted value, now complete, into what the caller gets."""
        self._capture = None
        raw = bytes(capture.data)
        if capture.kind is None:
            self.values[capture.tag] = raw
            return
        try:
            if capture.kind is _Kind.FRAGMENTS:
                self.values[capture.tag] = read_fragments(raw, capture.codec, self._limits)
            else:
                value = raw[: len(raw) - capture.trailer]
                items = read_items(value, capture.codec, self._limits, self._sequences)
                self.values[capture.tag] = _without_elements(items)
        except DataSetError as error:
            # Only the caller says that a UN of defined length holds items.
            if capture.vr == "UN" and not capture.trailer:
                self.values[capture.tag] = raw
                return
            raise DataSetError(
                f"in {tag_text(capture.tag)}: {error.fault}",
                capture.offset + error.offset,
                error.limit,
            ) from error

    def _delimiter(self, length: int, pos: int) -> int:
        if length:
            raise DataSetError("a delimitation item with a length (PS3.5 7.5)", self._offset + pos)
        return HEADER_LENGTH

    def _misplaced(self, raw: int, codec: Codec, pos: int) -> DataSetError:
        kind, _ = self._stack[-1]
        return DataSetError(
            f"{tag_text(codec.raw(raw))} where none may be, in {kind.value} (PS3.5 7.5)",
            self._offset + pos,
        )

    def _too_many(self, pos: int) -> DataSetError:
        return DataSetError(
            f"more than {self._limits.elements} elements and items", self._offset + pos, "elements"
        )


def _outside(tag: int, offset: int) -> DataSetError:
    return DataSetError(f"{tag_text(tag)} outside of a sequence (PS3.5 7.5)", offset)


def _too_long(capture: _Capture, offset: int) -> DataSetError:
    return DataSetError(
        f"{tag_text(capture.tag)} is longer than {capture.limit} bytes", offset, capture.limit_name
    )


def _without_elements(items: tuple[Item, ...]) -> tuple[ScannedItem, ...]:
    """The same items as tag → raw value; recursion is bounded by ``limits.nesting``."""
    return tuple({element.tag: _scanned(element) for element in item.values()} for item in items)


def _scanned(element: Element) -> ScannedValue:
    value = element.value
    if isinstance(value, bytes | Fragments):
        return value
    return _without_elements(value)
