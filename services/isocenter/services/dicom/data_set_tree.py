"""Data set as a tree of places, changed and written without loading it.

Values stay where they lie.  What is not changed is written byte for byte, with whatever stands
between elements; of what holds a change only the lengths are written anew.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import IO, Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset.codec import HEADER_LENGTH, Codec, codec_of
from isocenter.engine.dataset.errors import DataSetError, tag_text
from isocenter.engine.dataset.inflate import RAW_DEFLATE
from isocenter.engine.dataset.vr import (
    ITEM,
    ITEM_DELIMITATION,
    MAX_SHORT_LENGTH,
    SEQUENCE_DELIMITATION,
    SHORT_VRS,
    SPACE_PADDED_VRS,
    UNDEFINED_LENGTH,
    Encoding,
)
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.dataset.writer import write_data_set
from isocenter.services.dicom.data_set_nodes import ItemNode, Node, read_nodes
from isocenter.services.dicom.element_values import character_set_of
from isocenter.services.dicom.scope import SPECIFIC_CHARACTER_SET, Scope
from isocenter.services.dicom.scoped_walk import scoped_walk

#: Data Set Trailing Padding (PS3.10 7.2).
TRAILING_PADDING: Final = 0xFFFCFFFC
#: Bytes that are copied at once.
_PIECE: Final = 1 << 20
_GROUP_LENGTH_SIZE: Final = 4


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
        self.root = read_nodes(data, walk, codec_of(encoding))

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
        """Let sequences and items have undefined, or defined, lengths.

        A sequence in a UN stays as it is: with a defined length nobody would look into it.
        """
        for item in self.items():
            if item.is_within_un:
                continue
            if item.around is not None and item.is_undefined is not undefined:
                item.is_undefined = undefined
                item.touch()
            for node in item.elements:
                is_other = node.items is not None and node.is_undefined is not undefined
                if is_other and node.vr != "UN":
                    node.is_undefined = undefined
                    node.is_changed = True
                    item.touch()

    def repair(self) -> None:
        """Let it be written such that all of it can be read: values that were cut have the length
        that they have, and what stands between elements is left out."""
        for item in self.items():
            item.touch()
            if item.elements:
                item.first = item.elements[0].start
            for node in item.elements:
                node.gap = node.end
                if node.is_cut or node.items is not None:
                    node.is_changed = True

    def pad_odd_values(self) -> None:
        """Give values of odd length the byte that makes it even (PS3.5 7.1.1)."""
        for item in self.items():
            for node in item.elements:
                is_odd = node.value is None and node.items is None and node.end > node.value_start
                if is_odd and not node.is_encapsulated and (node.end - node.value_start) & 1:
                    node.is_cut = node.is_changed = True
                    item.touch()

    def leave_out_padding(self) -> None:
        """Take away what fills the file up behind the last element (PS3.10 7.2)."""
        root = self.root
        for node in root.all(TRAILING_PADDING):
            root.erase(node)
        if root.elements and root.elements[-1].gap > root.elements[-1].end:
            root.elements[-1].gap = root.elements[-1].end
            root.touch()

    def pad(self, before: int, multiple: int) -> None:
        """Fill the file up to a multiple of so many bytes, of which *before* stand before it."""
        self.leave_out_padding()
        root = self.root
        node = Node(TRAILING_PADDING, "OB", root.codec, value=b"")
        header = len(_element(node, b""))
        missing = -(before + self._length_in(root)) % multiple
        if not missing:
            return
        while missing < header or (missing - header) & 1:
            missing += multiple
        node.value = bytes(missing - header)
        root.insert(node)

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
            if node.value is None and node.is_cut:
                yield from self._mended(node)
            elif node.value is None:
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

    def _mended(self, node: Node) -> Iterator[Buffer]:
        """A value that was cut, under a header that says so."""
        length = node.end - node.value_start
        padding = (b" " if node.vr in SPACE_PADDED_VRS else b"\0") * (length & 1)
        codec = node.codec
        if node.is_encapsulated:
            yield from self._copy(node.start, node.end)
            yield codec.item_mark(SEQUENCE_DELIMITATION, 0)
            return
        # Whatever its header was like.
        is_too_long = node.vr in SHORT_VRS and length > MAX_SHORT_LENGTH
        vr = node.vr if node.vr in codec.vr_keys and not is_too_long else "UN"
        yield codec.header(node.tag, vr, length + len(padding))
        yield from self._copy(node.value_start, node.end)
        yield padding

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
            if node.value is None and node.is_cut:
                length = sum(map(len, self._mended(node)))
                return length + behind
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


def write_tree(tree: DataSetTree, target: IO[bytes], *, deflated: bool) -> None:
    """Write *tree* as it is now, deflated where the transfer syntax wants it."""
    if not deflated:
        for piece in tree.pieces():
            target.write(piece)
        return
    deflater = zlib.compressobj(wbits=RAW_DEFLATE)
    length = 0
    for piece in tree.pieces():
        length += target.write(deflater.compress(piece))
    length += target.write(deflater.flush())
    target.write(bytes(length & 1))  # PS3.5 A.5
