"""Graphics beside the pixels: overlays, and curves, which were retired (PS3.15 E.3.3)."""

from __future__ import annotations

from typing import Final

from isocenter.services.dicom.data_set_nodes import ItemNode
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.element_values import decode_text

#: Also those groups that the standard does not use: a viewer may show what is there.
_OVERLAYS: Final = range(0x6000, 0x6100)
_CURVES: Final = range(0x5000, 0x5100)
_TYPE: Final = 0x0040
_BIT_POSITION: Final = 0x0102
OVERLAY_COMMENTS: Final = 0x4000
#: What an overlay shows: a region of interest; all others may be writing.
_REGION: Final = "R"
OVERLAY_IN_PIXELS: Final = (
    "an overlay lies in unused bits of the pixel data; the option pixels clears them"
)


def is_overlay(tag: int) -> bool:
    """Whether the element is of an overlay plane (PS3.3 C.9.2)."""
    return tag >> 16 in _OVERLAYS and not tag & 0x10000


def is_curve(tag: int) -> bool:
    """Whether the element is of a curve (PS3.3 2004 C.10.2)."""
    return tag >> 16 in _CURVES and not tag & 0x10000


def overlays_that_stay(tree: DataSetTree, item: ItemNode, options: frozenset[Option]) -> set[int]:
    """Groups of overlays that show regions, where graphics are cleaned; others go as a whole."""
    if Option.GRAPHICS not in options:
        return set()
    return {
        node.tag >> 16
        for node in item.elements
        if is_overlay(node.tag)
        and node.tag & 0xFFFF == _TYPE
        and node.items is None
        and decode_text(tree.value(node), "CS") == _REGION
    }


def has_overlay_in_pixels(tree: DataSetTree, item: ItemNode) -> bool:
    """Whether bits of the pixels are an overlay, as was allowed up to 2004."""
    return any(
        is_overlay(node.tag)
        and node.tag & 0xFFFF == _BIT_POSITION
        and node.items is None
        and any(tree.value(node))
        for node in item.elements
    )
