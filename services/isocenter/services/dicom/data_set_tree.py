"""Data set as a tree of places, changed and written without loading it.

Values stay where they lie.  What is not changed is written byte for byte, with whatever stands
between elements; of what holds a change only the lengths are written anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset.codec import HEADER_LENGTH, IMPLICIT_LITTLE_CODEC, Codec, codec_of
from isocenter.engine.dataset.errors import DataSetError, tag_text
from isocenter.engine.dataset.vr import (
    ITEM,
    ITEM_DELIMITATION,
    SEQUENCE_DELIMITATION,
    SPACE_PADDED_VRS,
    UNDEFINED_LENGTH,
    Encoding,
)
from isocenter.engine.dataset.walker import END, FRAGMENTS, SEQUENCE, Tolerance
from isocenter.engine.dataset.walker import ITEM as BEGINS_ITEM
from isocenter.engine.dataset.writer import write_data_set
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.element_values import character_set_of
from isocenter.services.dicom.scope import SPECIFIC_CHARACTER_SET, Scope
from isocenter.services.dicom.scoped_walk import (
    Placed,
    has_undefined_length,
    header_start,
    scoped_walk,
)

#: Bytes that are copied at once.
_PIECE: Final = 1 << 20
_GROUP_LENGTH_SIZE: Final = 4


@dataclass(slots=True, eq=False)
class Node:
    """An element.

    Attributes:
        start, value_start, end: where its header, its value and what follows it begin; the last
            with its delimitation item.  -1 of a new one.
        gap: where the next element begins, or what holds it ends.
        value: a new one, in the byte order of the data set; None: what lies there.
        items: of a sequence.
        is_encapsulated: whether its value is made of fragments.
        is_changed: whether it, or something in it, is not as it lies there.
    """

    tag: int
    vr: str
    codec: Codec
    start: int = -1
    value_start: int = -1
    end: int = -1
    gap: int = -1
    value: bytes | None = None
    items: list[ItemNode] | None = None
    is_undefined: bool = False
    is_encapsulated: bool = False
    is_changed: bool = False
    #: Gone: only what stands behind it is written.
    is_erased: bool = False

    @property
    def inner_codec(self) -> Codec:
        """Of the items of a sequence (PS3.5 6.2.2)."""
        return IMPLICIT_LITTLE_CODEC if self.vr == "UN" else self.codec

    def header(self, data: memoryview, length: int) -> bytes:
        """The header of a sequence; as it was, with another length."""
        codec = self.codec
        if self.start < 0 or self.value_start - self.start == HEADER_LENGTH:
            return codec.header(self.tag, self.vr, length)
        # Whatever it is like, the length is at its end.
        header = bytes(data[self.start : self.value_start])
        return header[: -codec.length.size] + codec.length.pack(length)


@dataclass(slots=True, eq=False)
class ItemNode:
    """A data set, or an item of a sequence: its elements in their order."""

    codec: Codec
    parent: ItemNode | None
    around: Node | None
    start: int = -1
    end: int = -1
    gap: int = -1
    elements: list[Node] = field(default_factory=list)
    is_undefined: bool = False
    is_changed: bool = False
    is_erased: bool = False
    #: Bytes between its beginning and the first element.
    first: int = -1

    def all(self, tag: int) -> list[Node]:
        """Its elements of that tag; several only where the data set is malformed."""
        return [node for node in self.elements if node.tag == tag and not node.is_erased]

    def touch(self) -> None:
        """Say that something in it changes."""
        item: ItemNode | None = self
        while item is not None and not item.is_changed:
            item.is_changed = True
            if item.around is not None:
                item.around.is_changed = True
            item = item.parent

    def insert(self, node: Node) -> None:
        """Put a new element where it belongs."""
        at = next(
            (n for n, each in enumerate(self.elements) if each.tag > node.tag), len(self.elements)
        )
        self.elements.insert(at, node)
        node.is_changed = True
        self.touch()

    def erase(self, node: Node) -> None:
        """Take an element away."""
        node.is_erased = True
        self.touch()


class DataSetTree:
    """The data set *data*, inflated, as it will be written.

    Raises:
        DataSetError: it cannot be read to its end.
    """

    def __init__(
        self,
        data: memoryview,
        encoding: Encoding,
        *,
        tolerance: Tolerance = Tolerance.USUAL,
        forgiven: dict[str, int] | None = None,
    ) -> None:
        self.data = data
        walk = scoped_walk(data, encoding, tolerance=tolerance, forgiven=forgiven)
        self.root = _read(data, walk, codec_of(encoding))

    # -- Values --------------------------------------------------------------------------

    def value(self, node: Node) -> bytes:
        """The value of an element that is no sequence; it should be short."""
        if node.value is not None:
            return node.value
        return bytes(self.data[node.value_start : node.end])

    def length(self, node: Node) -> int:
        """Bytes of its value."""
        return len(node.value) if node.value is not None else node.end - node.value_start

    def set_value(self, item: ItemNode, node: Node, vr: str, value: bytes) -> None:
        """Give an element another value, in the byte order of its codec."""
        node.vr, node.value, node.items = vr, value, None
        node.is_undefined = node.is_encapsulated = False
        node.is_changed = True
        item.touch()

    def character_set(self, item: ItemNode) -> tuple[str, ...]:
        """The terms that count in an item as it is now."""
        at: ItemNode | None = item
        while at is not None:
            for node in at.all(SPECIFIC_CHARACTER_SET):
                return character_set_of(self.value(node))
            at = at.parent
        return ()

    def scope(self, item: ItemNode) -> Scope:
        """What decides about the VRs of its elements, as it is now."""
        scope = Scope(self.character_set(item))
        at: ItemNode | None = item
        while at is not None and not at.all(_PIXEL_REPRESENTATION):
            at = at.parent
        for node in (*item.elements, *(at.all(_PIXEL_REPRESENTATION) if at else ())):
            if not node.is_erased and node.items is None and self.length(node) <= _MOST_NOTED:
                scope.note(node.tag, self.value(node))
        return scope

    def items(self) -> Iterator[ItemNode]:
        """The data set and all items, outer ones first."""
        todo = [self.root]
        while todo:
            item = todo.pop()
            yield item
            for node in reversed(item.elements):
                if node.items is not None and not node.is_erased:
                    todo += [each for each in reversed(node.items) if not each.is_erased]

    # -- Writing -------------------------------------------------------------------------

    def mend_group_lengths(self, *, every: bool = False) -> None:
        """Let group lengths (gggg,0000) follow what changed, where there are some.

        Args:
            every: also those of groups in which nothing changed.
        """
        for item in self.items():
            if not item.is_changed and not every:
                continue
            for node in item.elements:
                if node.tag & 0xFFFF or node.is_erased or self.length(node) != _GROUP_LENGTH_SIZE:
                    continue
                group = [
                    each
                    for each in item.elements
                    if each.tag >> 16 == node.tag >> 16 and each is not node and not each.is_erased
                ]
                is_changed = any(each.is_changed for each in group)
                if every or is_changed or _lost_some(item, node.tag >> 16):
                    total = sum(self._length_of(each) for each in group)
                    node.value = node.codec.length.pack(total)
                    node.is_changed = True
                    item.touch()

    def set_group_lengths(self, *, wanted: bool) -> None:
        """Take group lengths away, or put one before each group, in all items."""
        for item in self.items():
            groups = sorted({node.tag >> 16 for node in item.elements if not node.is_erased})
            for node in item.elements:
                if not node.tag & 0xFFFF:
                    item.erase(node)
            if wanted:
                for group in groups:
                    if any(
                        each.tag >> 16 == group and not each.is_erased for each in item.elements
                    ):
                        item.insert(
                            Node(group << 16, "UL", item.codec, value=bytes(_GROUP_LENGTH_SIZE))
                        )
        if wanted:
            self.mend_group_lengths(every=True)

    def set_lengths(self, *, undefined: bool) -> None:
        """Let sequences and items have undefined, or defined, lengths."""
        for item in self.items():
            if item.around is not None and item.is_undefined is not undefined:
                item.is_undefined = undefined
                item.touch()
            for node in item.elements:
                if node.items is not None and node.is_undefined is not undefined:
                    node.is_undefined = undefined
                    node.is_changed = True
                    item.touch()

    def pieces(self) -> Iterator[Buffer]:
        """The data set as it is now.

        Raises:
            DataSetError: a sequence or an item became longer than a length can say.
        """
        yield from self._elements(self.root)

    def _elements(self, item: ItemNode) -> Iterator[Buffer]:
        yield from self._copy(item.first, item.elements[0].start if item.elements else item.first)
        for node in item.elements:
            if not node.is_changed and not node.is_erased:
                yield from self._copy(node.start, node.gap)
                continue
            if not node.is_erased:
                yield from self._changed(node)
            yield from self._copy(node.end, node.gap)

    def _changed(self, node: Node) -> Iterator[Buffer]:
        if node.items is None:
            if node.value is None:
                yield from self._copy(node.start, node.end)
            else:
                yield _element(node, node.value)
            return
        length = UNDEFINED_LENGTH if node.is_undefined else self._length_within(node)
        if length >= UNDEFINED_LENGTH and not node.is_undefined:
            raise DataSetError(f"{tag_text(node.tag)} is too long for a defined length", 0)
        codec = node.inner_codec
        yield node.header(self.data, length)
        for item in node.items:
            if item.is_erased:
                continue
            if not item.is_changed:
                yield from self._copy(item.start, item.gap)
                continue
            yield self._item_header(item)
            yield from self._elements(item)
            if item.is_undefined:
                yield codec.item_mark(ITEM_DELIMITATION, 0)
        if node.is_undefined:
            yield codec.item_mark(SEQUENCE_DELIMITATION, 0)

    def _item_header(self, item: ItemNode) -> bytes:
        around = item.around
        assert around is not None
        length = UNDEFINED_LENGTH if item.is_undefined else self._length_in(item)
        if length >= UNDEFINED_LENGTH and not item.is_undefined:
            raise DataSetError(f"an item of {tag_text(around.tag)} is too long", 0)
        return around.inner_codec.item_mark(ITEM, length)

    def _copy(self, start: int, end: int) -> Iterator[Buffer]:
        if start < 0:
            return
        for at in range(start, end, _PIECE):
            yield self.data[at : min(at + _PIECE, end)]

    # -- Lengths -------------------------------------------------------------------------

    def _length_of(self, node: Node) -> int:
        """Bytes of an element, as it will be written, with what stands behind it."""
        behind = max(node.gap - node.end, 0)
        if node.is_erased:
            return behind
        if not node.is_changed:
            return node.gap - node.start
        if node.items is None:
            if node.value is None:
                return node.gap - node.start
            return len(_element(node, node.value)) + behind
        within = self._length_within(node) + (HEADER_LENGTH if node.is_undefined else 0)
        return len(node.header(self.data, 0)) + within + behind

    def _length_within(self, node: Node) -> int:
        """Bytes of the items of a sequence, without its delimitation."""
        total = 0
        for item in node.items or ():
            if item.is_erased:
                continue
            if not item.is_changed:
                total += item.gap - item.start
                continue
            marks = 2 * HEADER_LENGTH if item.is_undefined else HEADER_LENGTH
            total += marks + self._length_in(item)
        return total

    def _length_in(self, item: ItemNode) -> int:
        first = (item.elements[0].start if item.elements else item.first) - item.first
        return max(first, 0) + sum(map(self._length_of, item.elements))


_PIXEL_REPRESENTATION: Final = 0x00280103
_MOST_NOTED: Final = 1024


def _lost_some(item: ItemNode, group: int) -> bool:
    return any(node.is_erased and node.tag >> 16 == group for node in item.elements)


def encoding_of_codec(codec: Codec) -> Encoding:
    """How elements are written by *codec*."""
    return Encoding(implicit_vr=codec.implicit_vr, big_endian=codec.big_endian)


def _element(node: Node, value: bytes) -> bytes:
    vr = None if node.codec.implicit_vr else node.vr
    if len(value) & 1:
        value += b" " if node.vr in SPACE_PADDED_VRS else b"\0"
    return write_data_set([(node.tag, vr, value)], encoding_of_codec(node.codec))


def _read(data: memoryview, walk: Iterator[Placed], codec: Codec) -> ItemNode:
    root = ItemNode(codec, None, None, start=0, first=0, end=len(data), gap=len(data))
    item = root
    opened: list[tuple[ItemNode, Node]] = []
    previous: Node | None = None
    for placed in walk:
        kind = placed.kind
        if kind == BEGINS_ITEM:
            around = opened[-1][1]
            new = ItemNode(
                placed.codec,
                opened[-1][0],
                around,
                start=placed.start - HEADER_LENGTH,
                first=placed.start,
                is_undefined=has_undefined_length(data, placed),
            )
            assert around.items is not None
            if around.items:
                around.items[-1].gap = new.start
            around.items.append(new)
            item, previous = new, None
            continue
        if kind == END:
            if placed.tag == ITEM:
                item.end = item.gap = placed.start
                content = placed.start - (HEADER_LENGTH if _is_delimited(data, item) else 0)
                if previous is not None:
                    previous.gap = content
                item = opened[-1][0]
                previous = None
            else:
                item, node = opened.pop()
                node.end = node.gap = placed.start
                previous = node
            continue
        start = header_start(data, placed)
        if previous is not None:
            previous.gap = start
        node = Node(placed.tag, placed.vr, placed.codec, start, placed.start, placed.end)
        if kind == SEQUENCE:
            node.items = []
            node.is_undefined = has_undefined_length(data, placed)
            opened.append((item, node))
        elif kind == FRAGMENTS:
            node.is_encapsulated = node.is_undefined = True
            mark = placed.codec.item_mark(SEQUENCE_DELIMITATION, 0)[:4]
            if bytes(data[placed.end : placed.end + 4]) == mark:
                node.end += HEADER_LENGTH
        item.elements.append(node)
        node.gap = node.end
        previous = node
    if previous is not None:
        previous.gap = len(data)
    return root


def _is_delimited(data: memoryview, item: ItemNode) -> bool:
    """Whether the last bytes of an item are its delimitation item."""
    if not item.is_undefined:
        return False
    mark = item.codec.item_mark(ITEM_DELIMITATION, 0)[:4]
    return bytes(data[item.end - HEADER_LENGTH : item.end - 4]) == mark
