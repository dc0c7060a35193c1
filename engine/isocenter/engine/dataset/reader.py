"""Reader of whole small data sets: identifiers, attribute lists, items.

Everything is held in memory, bounded by ``limits.identifier`` and ``identifier_elements``;
images belong to `isocenter.engine.dataset.scanner`.  What stands in the wrong place is
forgiven as in `isocenter.engine.dataset.nesting`; an end that is announced by a length
is one, whatever delimitation items stand before it.

Standard: PS3.5 7.1, 7.5, A.4, 6.2.2.
"""

from __future__ import annotations

from typing import NamedTuple

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
    PADDING_TAGS,
    is_encapsulated,
    is_padding,
    misplaced,
    too_deep,
)
from isocenter.engine.dataset.vr import UNDEFINED_LENGTH, Encoding
from isocenter.engine.limits import DEFAULT_LIMITS, Limits


class Fragments(tuple[bytes, ...]):
    """The items of an encapsulated value, the Basic Offset Table first (PS3.5 A.4)."""

    __slots__ = ()


class Element(NamedTuple):
    """One element.

    Attributes:
        tag: 0xggggeeee.
        vr: None when the data set does not say (implicit VR), "SQ" for every sequence.
        value: raw bytes with their padding, in the data set's byte order; the items of a
            sequence; or the fragments of an encapsulated value.
    """

    tag: int
    vr: str | None
    value: Value


#: Tag → element, in the data set's order.
Item = dict[int, Element]
Value = bytes | Fragments | tuple[Item, ...]


def read_data_set(
    buffer: Buffer,
    encoding: Encoding,
    limits: Limits = DEFAULT_LIMITS,
    sequences: frozenset[int] = frozenset(),
) -> dict[int, Element]:
    """The elements of a whole data set, of at most ``limits.identifier`` bytes.

    Args:
        sequences: tags that are read as sequences though the data set does not say so
            (implicit VR, or UN).  Undefined length says so by itself.

    Raises:
        DataSetError: truncated, malformed, or over a limit.
    """
    data = _inflated(buffer, limits) if encoding.deflated else bytes(octets(buffer))
    if len(data) > limits.identifier:
        raise _over_identifier(limits, len(data))
    root: Item = {}
    _read(data, codec_of(encoding), limits, sequences, root)
    return root


def read_items(
    buffer: Buffer,
    codec: Codec,
    limits: Limits,
    sequences: frozenset[int],
    tag: int,
    *,
    is_undefined: bool,
) -> tuple[Item, ...]:
    """The items of the sequence *tag* whose value is *buffer*.

    Args:
        is_undefined: a sequence delimitation item ends it, unless that is missing.
    """
    root: list[Item] = []
    data = bytes(octets(buffer))
    _read(data, codec, limits, sequences, root, tag, is_undefined=is_undefined)
    return tuple(root)


def read_fragments(buffer: Buffer, codec: Codec, limits: Limits) -> Fragments:
    """The fragments of an encapsulated value, its sequence delimitation item included."""
    data = bytes(octets(buffer))
    return _fragments(data, 0, len(data), codec, limits)[0]


def _inflated(buffer: Buffer, limits: Limits) -> bytes:
    inflater = Inflater(limits)
    pieces = []
    length = 0
    for piece in inflater.feed(buffer):
        length += len(piece)
        if length > limits.identifier:
            raise _over_identifier(limits, length)
        pieces.append(piece)
    inflater.finish()
    return b"".join(pieces)


def _over_identifier(limits: Limits, length: int) -> DataSetError:
    return DataSetLimitError(
        f"the data set is longer than {limits.identifier} bytes", length, "identifier"
    )


class _Frame(NamedTuple):
    """A container that is open around the current one, and where it goes on afterwards.

    ``end`` is its own, or for undefined length that of the container around it.
    """

    container: Item | list[Item]
    end: int
    is_undefined: bool
    codec: Codec
    #: Of the sequence, for the list of its items; 0 for an item.
    tag: int


def _read(
    data: bytes,
    codec: Codec,
    limits: Limits,
    sequences: frozenset[int],
    root: Item | list[Item],
    tag_of_sequence: int = 0,
    *,
    is_undefined: bool = False,
) -> None:
    """Fill *root* with the elements (or, as a list, the items) that *data* is made of."""
    stack: list[_Frame] = []
    container = root
    end = len(data)
    pos = 0
    for _ in range(limits.identifier_elements):
        closes = False
        if pos == end:
            # Also what has undefined length ends with what holds it.
            if not stack:
                return
            closes = True
        elif not stack and _is_padding(data, pos, codec):
            return
        elif end - pos < HEADER_LENGTH:
            raise _ends_within("an element header", pos)
        else:
            raw, length = codec.item_header.unpack_from(data, pos)
            if isinstance(container, list):
                if raw == codec.item:
                    pos += HEADER_LENGTH
                    item: Item = {}
                    container.append(item)
                    stack.append(_Frame(container, end, is_undefined, codec, tag_of_sequence))
                    container = item
                    is_undefined = length == UNDEFINED_LENGTH
                    if not is_undefined:
                        end = _end(pos, length, end, "an item")
                elif raw in codec.delimiters:
                    pos += HEADER_LENGTH
                    closes = is_undefined and raw == codec.sequence_delimitation
                elif is_undefined and codec.raw(raw) > tag_of_sequence and stack:
                    closes = True
                else:
                    raise misplaced(codec.raw(raw), "a sequence", pos)
            elif raw in codec.delimiters:
                closes = is_undefined and bool(stack)
                if not closes or raw == codec.item_delimitation:
                    pos += HEADER_LENGTH
                    if raw == codec.item:
                        # Outside of a sequence: nothing that anybody asks for.
                        if length == UNDEFINED_LENGTH or stack:
                            raise misplaced(codec.raw(raw), "an item", pos)
                        pos = _end(pos, length, end, "an item")
            else:
                tag = codec.raw(raw)
                start = pos
                if codec.implicit_vr:
                    vr = None
                    pos += HEADER_LENGTH
                else:
                    vr, length, pos = _explicit(data, pos, end, codec)
                if length == UNDEFINED_LENGTH and is_encapsulated(tag, vr):
                    value, pos = _fragments(data, pos, end, codec, limits)
                    container[tag] = Element(tag, vr, value)
                elif (
                    length == UNDEFINED_LENGTH
                    or vr == "SQ"
                    or (tag in sequences and (vr is None or vr == "UN"))
                ):
                    # Each sequence that is open has its own frame and its item's.
                    if len(stack) >= 2 * limits.nesting:
                        raise too_deep(limits.nesting, start)
                    stack.append(_Frame(container, end, is_undefined, codec, tag_of_sequence))
                    container = []
                    tag_of_sequence = tag
                    is_undefined = length == UNDEFINED_LENGTH
                    if not is_undefined:
                        end = _end(pos, length, end, tag_text(tag))
                    if vr == "UN":
                        codec = IMPLICIT_LITTLE_CODEC
                else:
                    after = pos + length
                    if after > end:
                        raise _too_long(tag_text(tag), pos)
                    container[tag] = Element(tag, vr, data[pos:after])
                    pos = after
        if closes:
            if not stack:
                return
            closed, closed_tag = container, tag_of_sequence
            container, end, is_undefined, codec, tag_of_sequence = stack.pop()
            if isinstance(closed, list):
                assert isinstance(container, dict)
                container[closed_tag] = Element(closed_tag, "SQ", tuple(closed))
    raise DataSetLimitError(
        f"more than {limits.identifier_elements} elements and items", pos, "identifier_elements"
    )


def _is_padding(data: bytes, pos: int, codec: Codec) -> bool:
    """Whether the data set has ended at *pos*."""
    if not pos:
        return False
    if len(data) - pos < HEADER_LENGTH:
        return is_padding(data[pos:])
    raw, _ = codec.item_header.unpack_from(data, pos)
    if raw not in PADDING_TAGS or not is_padding(data[pos : pos + HEADER_LENGTH]):
        return False
    if not is_padding(data[pos:]):
        raise DataSetError("something behind padding (PS3.5 7.1)", pos)
    return True


def _explicit(data: bytes, pos: int, end: int, codec: Codec) -> tuple[str | None, int, int]:
    """VR, length and start of the value of the element at *pos*."""
    _, key, short_length = codec.explicit_header.unpack_from(data, pos)
    vr = codec.short_vrs.get(key)
    if vr is not None:
        return vr, short_length, pos + HEADER_LENGTH
    vr = codec.long_vrs.get(key)
    if vr is not None and not short_length and end - pos >= LONG_HEADER_LENGTH:
        (length,) = codec.length.unpack_from(data, pos + HEADER_LENGTH)
        return vr, length, pos + LONG_HEADER_LENGTH
    found = codec.odd_header(memoryview(data)[:end], pos)
    if found is None:
        raise _ends_within("an element header", pos)
    odd_vr, length, header_length = found
    return odd_vr, length, pos + header_length


def _fragments(
    data: bytes, pos: int, end: int, codec: Codec, limits: Limits
) -> tuple[Fragments, int]:
    """The fragments from *pos* on and where the element ends, behind its delimitation item."""
    fragments: list[bytes] = []
    while len(fragments) < limits.identifier_elements:
        if pos == end:
            return Fragments(fragments), pos
        if end - pos < HEADER_LENGTH:
            raise _ends_within("an encapsulated value", pos)
        raw, length = codec.item_header.unpack_from(data, pos)
        if raw == codec.item:
            pos += HEADER_LENGTH
            after = _end(pos, length, end, "a fragment")
            fragments.append(data[pos:after])
            pos = after
        elif raw == codec.sequence_delimitation:
            return Fragments(fragments), pos + HEADER_LENGTH
        elif raw == codec.item_delimitation:
            pos += HEADER_LENGTH
        else:
            raise misplaced(codec.raw(raw), "an encapsulated value", pos)
    raise DataSetLimitError(
        f"more than {limits.identifier_elements} elements and items", pos, "identifier_elements"
    )


def _end(pos: int, length: int, end: int, what: str) -> int:
    if length > end - pos:
        raise _too_long(what, pos)
    return pos + length


def _too_long(what: str, pos: int) -> DataSetError:
    return DataSetError(f"{what} is longer than what holds it (PS3.5 7.5)", pos)


def _ends_within(what: str, pos: int) -> DataSetError:
    return DataSetError(f"the data set, or the item, ends within {what}", pos)
