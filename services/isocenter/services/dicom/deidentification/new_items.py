"""Items that are put into sequences."""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.services.dicom.data_set_nodes import ItemNode, Node

#: Tag, VR and what it has: bytes, or the elements of each item of a sequence.
NewElement = tuple[int, str, "bytes | Sequence[Sequence[NewElement]]"]


def add_item(parent: ItemNode, sequence: Node, elements: Sequence[NewElement]) -> ItemNode:
    """Put one more item of *elements* into *sequence*, which stands in *parent*."""
    assert sequence.items is not None
    item = ItemNode(sequence.inner_codec, parent, sequence)
    sequence.items.append(item)
    for tag, vr, value in elements:
        if isinstance(value, bytes):
            item.insert(Node(tag, vr, item.codec, value=value))
            continue
        node = Node(tag, "SQ", item.codec, items=[])
        item.insert(node)
        for inner in value:
            add_item(item, node, inner)
    item.touch()
    parent.touch()
    sequence.is_changed = True
    return item


def code_item(code: str, meaning: str, scheme: str = "DCM") -> list[NewElement]:
    """The elements of a code sequence item (PS3.3 8.8)."""
    return [
        (0x00080100, "SH", code.encode("ascii")),
        (0x00080102, "SH", scheme.encode("ascii")),
        (0x00080104, "LO", meaning.encode("ascii")),
    ]
