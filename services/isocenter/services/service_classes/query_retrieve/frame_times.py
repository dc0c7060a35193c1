"""Times of the frames of an object (PS3.4 Y.3.2.1.3)."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import accumulate
from math import isfinite
from typing import Final

from isocenter.services.dicom.data_set_nodes import ItemNode
from isocenter.services.dicom.data_set_tree import DataSetTree

FRAME_TIME: Final = 0x00181063
FRAME_TIME_VECTOR: Final = 0x00181065
FRAME_DELAY: Final = 0x00181066
PER_FRAME: Final = 0x52009230
_FRAME_CONTENT: Final = 0x00209111
_FRAME_REFERENCE_DATE_TIME: Final = 0x00189151
_CONTENT_DATE: Final = 0x00080023
_CONTENT_TIME: Final = 0x00080033


def frame_times(tree: DataSetTree, count: int) -> tuple[float, ...] | None:
    """When each of so many frames was made, in seconds since Content Time; None: nobody knows."""
    delay = (numbers_of(tree, tree.root, FRAME_DELAY) or [0.0])[0] / 1000
    vector = numbers_of(tree, tree.root, FRAME_TIME_VECTOR)
    if len(vector) == count:
        return tuple(delay + time / 1000 for time in accumulate(vector))
    constant = numbers_of(tree, tree.root, FRAME_TIME)
    if len(constant) == 1:
        return tuple(delay + number * constant[0] / 1000 for number in range(count))
    return _reference_times(tree, count)


def numbers_of(tree: DataSetTree, item: ItemNode, tag: int) -> list[float]:
    """The values of a DS; none where one of them is none."""
    text = text_of(tree, item, tag)
    try:
        numbers = [float(value) for value in text.split("\\")] if text else []
    except ValueError:
        return []
    # Python reads words and powers of ten that are no DS.
    return numbers if all(map(isfinite, numbers)) else []


def text_of(tree: DataSetTree, item: ItemNode, tag: int) -> str:
    """The value of an element in ASCII; empty: there is none."""
    for node in item.all(tag):
        if node.items is None:
            return tree.value(node).decode("ascii", "replace").strip(" \0")
    return ""


def _reference_times(tree: DataSetTree, count: int) -> tuple[float, ...] | None:
    moments = []
    for sequence in tree.root.all(PER_FRAME):
        for item in sequence.items or ():
            for content in item.all(_FRAME_CONTENT):
                for inner in content.items or ():
                    moment = _moment(text_of(tree, inner, _FRAME_REFERENCE_DATE_TIME))
                    if moment is not None:
                        moments.append(moment)
    if len(moments) != count:
        return None
    begin = _moment(
        text_of(tree, tree.root, _CONTENT_DATE) + text_of(tree, tree.root, _CONTENT_TIME)
    )
    first = moments[0] if begin is None else begin
    return tuple((moment - first).total_seconds() for moment in moments)


def _moment(text: str) -> datetime | None:
    digits, _, fraction = text.partition(".")
    if len(digits) != len("YYYYMMDDHHMMSS"):
        return None
    fraction = fraction.partition("+")[0].partition("-")[0]
    try:
        return datetime.strptime(f"{digits}.{(fraction or '0')[:6]}", "%Y%m%d%H%M%S.%f").replace(
            tzinfo=UTC
        )
    except ValueError:
        return None
