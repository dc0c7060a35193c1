"""Reader of whole small data sets: identifiers, attribute lists, items.

Everything is held in memory, bounded by ``limits.identifier`` and ``identifier_elements``;
images belong to `isocenter.engine.dataset.scanner`.  What stands in the wrong place is
forgiven as in `isocenter.engine.dataset.nesting`; an end that is announced by a length
is one, whatever delimitation items stand before it.

Standard: PS3.5 7.1, 7.5, A.4, 6.2.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dataset.codec import Codec
from isocenter.engine.dataset.errors import DataSetError, DataSetLimitError
from isocenter.engine.dataset.inflate import Inflater
from isocenter.engine.dataset.vr import Encoding
from isocenter.engine.dataset.walker import (
    END,
    FRAGMENTS,
    NOT_ITEMS,
    SEQUENCE,
    VALUE,
    Found,
    end_of_fragments,
    fragments_of,
    walk,
    walk_items,
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
    forgiven: dict[str, int] = {}
    found = walk(data, encoding, limits, sequences, forgiven=forgiven)
    return _Reading(data, found, limits, sequences, forgiven).item()


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
    data = bytes(octets(buffer))
    forgiven: dict[str, int] = {}
    found = walk_items(
        data, codec, limits, sequences, tag, is_undefined=is_undefined, forgiven=forgiven
    )
    return _Reading(data, found, limits, sequences, forgiven).items()


def read_fragments(buffer: Buffer, codec: Codec, limits: Limits) -> Fragments:
    """The fragments of an encapsulated value, its sequence delimitation item included."""
    data = bytes(octets(buffer))
    # As `walk` finds it in a data set.
    end = end_of_fragments(data, codec)
    return _fragments(data, (FRAGMENTS, 0, None, 0, end, codec), limits)


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


class _Reading:
    """Makes elements of what a walk finds, as many as ``limits.identifier_elements``."""

    __slots__ = ("_data", "_forgiven", "_found", "_left", "_limits", "_sequences")

    def __init__(
        self,
        data: bytes,
        found: Iterator[Found],
        limits: Limits,
        sequences: frozenset[int],
        forgiven: dict[str, int],
    ) -> None:
        self._data = data
        self._found = found
        self._limits = limits
        self._sequences = sequences
        self._forgiven = forgiven
        self._left = limits.identifier_elements

    def item(self) -> Item:
        """Elements up to the end of the item, or of the data set."""
        data, sequences = self._data, self._sequences
        item: Item = {}
        for found in self._found:
            self._left -= 1
            if self._left < 0:
                raise _too_many(self._limits, found[3])
            kind, tag, vr, start, end, _ = found
            if kind == VALUE:
                if tag in sequences and start < end and (vr is None or vr == "UN"):
                    raise DataSetError(NOT_ITEMS, start)
                if vr == "UN" and NOT_ITEMS in self._forgiven:
                    raise DataSetError(NOT_ITEMS, self._forgiven[NOT_ITEMS])
                item[tag] = Element(tag, vr, data[start:end])
            elif kind == END:
                break
            elif kind == SEQUENCE:
                item[tag] = Element(tag, "SQ", self.items())
            else:
                item[tag] = Element(tag, vr, _fragments(data, found, self._limits))
        return item

    def items(self) -> tuple[Item, ...]:
        """Items up to the end of the sequence."""
        items = []
        for found in self._found:
            self._left -= 1
            if self._left < 0:
                raise _too_many(self._limits, found[3])
            if found[0] == END:
                break
            items.append(self.item())
        return tuple(items)


def _fragments(data: bytes, found: Found, limits: Limits) -> Fragments:
    parts: list[bytes] = []
    for start, end in fragments_of(data, found):
        # The delimitation item counts, too.
        if len(parts) + 1 >= limits.identifier_elements:
            raise _too_many(limits, start)
        parts.append(data[start:end])
    return Fragments(parts)


def _too_many(limits: Limits, pos: int) -> DataSetError:
    return DataSetLimitError(
        f"more than {limits.identifier_elements} elements and items", pos, "identifier_elements"
    )
