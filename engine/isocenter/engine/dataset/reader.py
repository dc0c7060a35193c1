"""A whole, small data set as elements: a C-FIND identifier, a normalized attribute list, an item.

Everything is held in memory, bounded by ``limits.identifier`` and ``identifier_elements``;
images belong to `isocenter.engine.dataset.scanner`.

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
from isocenter.engine.dataset.errors import DataSetError, tag_text
from isocenter.engine.dataset.inflate import Inflater
from isocenter.engine.dataset.vr import (
    DELIMITERS,
    ENCAPSULATED_VRS,
    PIXEL_DATA,
    UNDEFINED_LENGTH,
    Encoding,
)
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
    buffer: Buffer, codec: Codec, limits: Limits, sequences: frozenset[int]
) -> tuple[Item, ...]:
    """The items of a sequence whose value is *buffer*, without a sequence delimitation item."""
    root: list[Item] = []
    _read(bytes(octets(buffer)), codec, limits, sequences, root)
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
    return DataSetError(
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
) -> None:
    """Fill *root* with the elements (or, as a list, the items) that *data* is made of."""
    stack: list[_Frame] = []
    container = root
    end = len(data)
    is_undefined = False
    tag_of_sequence = 0
    pos = 0
    most, limit = min(
        (limits.elements, "elements"), (limits.identifier_elements, "identifier_elements")
    )
    for _ in range(most):
        closes = False
        if pos == end and not is_undefined:
            if not stack:
                return
            closes = True
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
                elif raw == codec.sequence_delimitation and is_undefined and not length:
                    pos += HEADER_LENGTH
                    closes = True
                else:
                    raise _misplaced(codec.raw(raw), "a sequence", pos)
            elif raw == codec.item_delimitation and is_undefined and not length:
                pos += HEADER_LENGTH
                closes = True
            elif (tag := codec.raw(raw)) in DELIMITERS:
                raise _misplaced(tag, "an item", pos)
            else:
                start = pos
                if codec.implicit_vr:
                    vr = None
                    pos += HEADER_LENGTH
                else:
                    vr, length, pos = _explicit(data, pos, end, codec, length)
                if length == UNDEFINED_LENGTH and is_encapsulated(tag, vr, start):
                    value, pos = _fragments(data, pos, end, codec, limits)
                    container[tag] = Element(tag, vr, value)
                elif (
                    length == UNDEFINED_LENGTH
                    or vr == "SQ"
                    or (tag in sequences and (vr is None or vr == "UN"))
                ):
                    # Each sequence that is open has its own frame and its item's.
                    if len(stack) >= 2 * limits.nesting:
                        raise DataSetError(
                            f"sequences nested deeper than {limits.nesting}", start, "nesting"
                        )
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
            closed, closed_tag = container, tag_of_sequence
            container, end, is_undefined, codec, tag_of_sequence = stack.pop()
            if isinstance(closed, list):
                assert isinstance(container, dict)
                container[closed_tag] = Element(closed_tag, "SQ", tuple(closed))
    raise DataSetError(f"more than {most} elements and items", pos, limit)


def _explicit(
    data: bytes, pos: int, end: int, codec: Codec, length: int
) -> tuple[str | None, int, int]:
    """VR, length and start of the value of the element at *pos*.

    An element without a VR amid explicit ones (there are such files) is read as implicit.
    """
    _, key, short_length = codec.explicit_header.unpack_from(data, pos)
    vr = codec.short_vrs.get(key)
    if vr is not None:
        return vr, short_length, pos + HEADER_LENGTH
    vr = codec.long_vrs.get(key) or codec.future_vr(key)
    if vr is None:
        return None, length, pos + HEADER_LENGTH
    if end - pos < LONG_HEADER_LENGTH:
        raise _ends_within("an element header", pos)
    (length,) = codec.length.unpack_from(data, pos + HEADER_LENGTH)
    return vr, length, pos + LONG_HEADER_LENGTH


def is_encapsulated(tag: int, vr: str | None, offset: int) -> bool:
    """Whether an element of undefined length holds fragments; otherwise it is a sequence.

    Raises:
        DataSetError: its VR allows no undefined length (PS3.5 7.1.2).
    """
    if vr is None:
        return tag == PIXEL_DATA
    if vr in ENCAPSULATED_VRS:
        return True
    if vr in ("SQ", "UN"):
        return False
    raise DataSetError(f"{tag_text(tag)} {vr} of undefined length (PS3.5 7.1.2)", offset)


def _fragments(
    data: bytes, pos: int, end: int, codec: Codec, limits: Limits
) -> tuple[Fragments, int]:
    """The fragments from *pos* on and where the element ends, behind its delimitation item."""
    fragments: list[bytes] = []
    while len(fragments) < limits.elements:
        if end - pos < HEADER_LENGTH:
            raise _ends_within("an encapsulated value", pos)
        raw, length = codec.item_header.unpack_from(data, pos)
        if raw == codec.item:
            pos += HEADER_LENGTH
            after = _end(pos, length, end, "a fragment")
            fragments.append(data[pos:after])
            pos = after
        elif raw == codec.sequence_delimitation and not length:
            return Fragments(fragments), pos + HEADER_LENGTH
        else:
            raise _misplaced(codec.raw(raw), "an encapsulated value", pos)
    raise DataSetError(f"more than {limits.elements} elements and items", pos, "elements")


def _end(pos: int, length: int, end: int, what: str) -> int:
    if length > end - pos:
        raise _too_long(what, pos)
    return pos + length


def _too_long(what: str, pos: int) -> DataSetError:
    return DataSetError(f"{what} is longer than what holds it (PS3.5 7.5)", pos)


def _ends_within(what: str, pos: int) -> DataSetError:
    return DataSetError(f"the data set, or the item, ends within {what}", pos)


def _misplaced(tag: int, where: str, pos: int) -> DataSetError:
    return DataSetError(f"{tag_text(tag)} where none may be, in {where} (PS3.5 7.5)", pos)
