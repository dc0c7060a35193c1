"""Elements and items of a data set, as places in it.

What was read is told by offsets; what shall be written otherwise is marked here, and
`isocenter.services.dicom.data_set_tree` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Final

from isocenter.engine.dataset.codec import HEADER_LENGTH, IMPLICIT_LITTLE_CODEC, Codec
from isocenter.engine.dataset.errors import DataSetLimitError
from isocenter.engine.dataset.vr import ITEM, ITEM_DELIMITATION, SEQUENCE_DELIMITATION
from isocenter.engine.dataset.walker import END, FRAGMENTS, SEQUENCE, VALUE
from isocenter.engine.dataset.walker import ITEM as BEGINS_ITEM
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.scoped_walk import Placed, has_undefined_length, header_start

#: Elements and items that a tree may have; each takes some 300 bytes of memory.
MAX_NODES: Final = 2_000_000


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
    #: Whether it ends, or was said to end, elsewhere.
    is_cut: bool = False
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

    @property
    def is_within_un(self) -> bool:
        """Whether the sequence around it, or one further out, has VR UN."""
        item = self
        while item.around is not None and item.parent is not None:
            if item.around.vr == "UN":
                return True
            item = item.parent
        return False

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


def read_nodes(data: memoryview, walk: Iterator[Placed], codec: Codec) -> ItemNode:
    """The elements that *walk* finds in *data*, in a data set of *codec*.

    Raises:
        DataSetLimitError: there are more than `MAX_NODES`.
    """
    root = ItemNode(codec, None, None, start=0, first=0, end=len(data), gap=len(data))
    item = root
    opened: list[tuple[ItemNode, Node]] = []
    previous: Node | None = None
    for count, placed in enumerate(walk):
        kind = placed.kind
        if count >= MAX_NODES:
            raise DataSetLimitError(
                f"more than {MAX_NODES} elements are not changed", placed.start, "elements"
            )
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
        elif kind == VALUE:
            node.is_cut = _says_otherwise(data, node)
        elif kind == FRAGMENTS:
            node.is_encapsulated = node.is_undefined = True
            mark = placed.codec.item_mark(SEQUENCE_DELIMITATION, 0)[:4]
            if bytes(data[placed.end : placed.end + 4]) == mark:
                node.end += HEADER_LENGTH
            else:
                node.is_cut = True
        item.elements.append(node)
        node.gap = node.end
        previous = node
    if previous is not None:
        previous.gap = len(data)
    return root


def _says_otherwise(data: memoryview, node: Node) -> bool:
    """Whether the header of a value has another length than it has."""
    codec = node.codec
    size = 4
    if not codec.implicit_vr and node.value_start - node.start == HEADER_LENGTH:
        size = 2
    said = bytes(data[node.value_start - size : node.value_start])
    return int.from_bytes(said, "big" if codec.big_endian else "little") != (
        node.end - node.value_start
    )


def _is_delimited(data: memoryview, item: ItemNode) -> bool:
    """Whether the last bytes of an item are its delimitation item."""
    if not item.is_undefined:
        return False
    mark = item.codec.item_mark(ITEM_DELIMITATION, 0)[:4]
    return bytes(data[item.end - HEADER_LENGTH : item.end - 4]) == mark
