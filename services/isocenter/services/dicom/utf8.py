"""Texts of a data set in UTF-8 (PS3.3 C.12.1.1.2)."""

from __future__ import annotations

from typing import Final

from isocenter.services.dicom.data_set_nodes import Node
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.element_values import (
    CHARACTER_SET_VRS,
    UTF_8,
    character_set_of,
    decode_padded,
)
from isocenter.services.dicom.scope import SPECIFIC_CHARACTER_SET

_UNKNOWN: Final = "\ufffd"
_ESC: Final = b"\x1b"


def to_utf8(tree: DataSetTree) -> int:
    """Let all texts be in UTF-8, and the data set say so.

    Returns:
        How many texts have bytes that their character set has not; these are U+FFFD then.
    """
    unknown = 0
    # Before one of them changes, since those within others depend on them.
    places = [(item, tree.character_set(item)) for item in tree.items()]
    has_text = False
    for item, character_set in places:
        if character_set == UTF_8:
            has_text = True
            continue
        for node in item.elements:
            if node.is_erased or node.items is not None or node.vr not in CHARACTER_SET_VRS:
                continue
            raw = tree.value(node)
            if raw.isascii() and _ESC not in raw:
                continue
            text = decode_padded(raw, node.vr, character_set)
            has_text = has_text or not text.isascii()
            unknown += _UNKNOWN in text
            tree.set_value(item, node, node.vr, text.encode("utf-8", "replace"))
    for item, _ in places:
        for node in item.all(SPECIFIC_CHARACTER_SET):
            if item.parent is not None:
                item.erase(node)
            elif not character_set_of(tree.value(node)) and not has_text:
                pass  # the default repertoire, of which UTF-8 is more
            elif character_set_of(tree.value(node)) != UTF_8:
                tree.set_value(item, node, "CS", UTF_8[0].encode("ascii"))
    if has_text and not tree.root.all(SPECIFIC_CHARACTER_SET):
        value = UTF_8[0].encode("ascii")
        tree.root.insert(Node(SPECIFIC_CHARACTER_SET, "CS", tree.root.codec, value=value))
    return unknown
