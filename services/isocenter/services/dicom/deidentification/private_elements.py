"""Private elements that may stay, by a list or by the object (PS3.15 E.3.10)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from isocenter.services.dicom.data_set_nodes import ItemNode, Node
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.deidentification.profile import PrivatePolicy
from isocenter.services.dicom.deidentification.rules import table_lines
from isocenter.services.dicom.element_values import decode_text
from isocenter.services.dicom.scope import is_private, is_private_creator

#: Private Data Element Characteristics Sequence, and what its items have (PS3.3 C.12.1.1.7).
_CHARACTERISTICS: Final = 0x00080300
_GROUP_REFERENCE: Final = 0x00080301
_CREATOR_REFERENCE: Final = 0x00080302
_BLOCK_STATUS: Final = 0x00080303
_NONIDENTIFYING: Final = 0x00080304


@cache
def _listed() -> frozenset[tuple[int, int, str]]:
    """Group, last digits of the element, creator: Table E.3.10-1."""
    return frozenset(
        (int(element[:4], 16), int(element[4:], 16), creator.upper())
        for element, creator in table_lines("safe_private")
    )


@cache
def _listed_creators() -> frozenset[str]:
    return frozenset(creator for _, _, creator in _listed())


class _SafePrivate:
    """Which private elements of a data set are known to name nobody."""

    def __init__(self, tree: DataSetTree) -> None:
        self._tree = tree
        #: Group and creator of blocks that are safe as a whole, and with the element of one.
        self._blocks: set[tuple[int, str]] = set()
        self._elements: set[tuple[int, int, str]] = set()
        for node in tree.root.all(_CHARACTERISTICS):
            for item in node.items or ():
                self._note(item)

    def is_safe(self, tag: int, creator: str) -> bool:
        """Whether the private element *tag* of a block of *creator* may stay."""
        group, element, name = tag >> 16, tag & 0xFF, creator.upper()
        return (
            (group, element, name) in _listed()
            or (group, name) in self._blocks
            or (group, element, name) in self._elements
        )

    def _note(self, item: ItemNode) -> None:
        group = self._numbers(item, _GROUP_REFERENCE)
        creator = self._text(item, _CREATOR_REFERENCE).upper()
        if len(group) != 1 or not creator:
            return
        if self._text(item, _BLOCK_STATUS) == "SAFE":
            self._blocks.add((group[0], creator))
        for element in self._numbers(item, _NONIDENTIFYING):
            self._elements.add((group[0], element & 0xFF, creator))

    def _text(self, item: ItemNode, tag: int) -> str:
        return next((decode_text(raw, "LO") for raw in self._values(item, tag)), "")

    def _numbers(self, item: ItemNode, tag: int) -> list[int]:
        sign = ">" if item.codec.big_endian else "<"
        return [
            number
            for raw in self._values(item, tag)
            for (number,) in struct.iter_unpack(f"{sign}H", raw[: len(raw) & ~1])
        ]

    def _values(self, item: ItemNode, tag: int) -> Iterator[bytes]:
        for node in item.all(tag):
            if node.items is None:
                yield self._tree.value(node)


class PrivateElements:
    """Which private elements of a data set stay under a policy."""

    def __init__(self, tree: DataSetTree, policy: PrivatePolicy) -> None:
        self._policy = policy
        self._safe = _SafePrivate(tree) if policy is PrivatePolicy.SAFE else None

    def stays(self, tag: int, creators: Mapping[int, str]) -> bool:
        """Whether the private element *tag* stays; a creator may turn out to be unused."""
        if is_private_creator(tag):
            return self._policy is not PrivatePolicy.REMOVE
        if self._safe is None:
            return self._policy is PrivatePolicy.KEEP
        return self._safe.is_safe(tag, creators.get(_block_of(tag), ""))

    def is_known(self, node: Node, creators: Mapping[int, str]) -> bool:
        """Whether the private creator *node* is one of the list: a product, nobody's name."""
        creator = creators.get(node.tag >> 16 << 8 | node.tag & 0xFF, "").upper()
        return creator in _listed_creators()

    def unused_creators(self, item: ItemNode) -> list[Node]:
        """Creators of blocks in which nothing stays, where only what is safe does."""
        if self._safe is None:
            return []
        there = [node for node in item.elements if is_private(node.tag) and not node.is_erased]
        used = {_block_of(node.tag) for node in there if not is_private_creator(node.tag)}
        return [
            node
            for node in there
            if is_private_creator(node.tag) and node.tag >> 16 << 8 | node.tag & 0xFF not in used
        ]


def _block_of(tag: int) -> int:
    return tag >> 16 << 8 | (tag >> 8) & 0xFF


def creators_of(tree: DataSetTree, item: ItemNode) -> dict[int, str]:
    """Group and block of the private elements of an item → their creator."""
    return {
        node.tag >> 16 << 8 | node.tag & 0xFF: decode_text(tree.value(node), "LO")
        for node in item.elements
        if is_private_creator(node.tag) and node.items is None and tree.length(node) <= 64
    }
