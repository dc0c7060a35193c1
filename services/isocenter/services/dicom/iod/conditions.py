"""Conditions of attributes and modules: true, false, or not known."""

from __future__ import annotations

from typing import Final

from isocenter.services.dicom.iod.items import Element, Item
from isocenter.services.dicom.iod.table import Expression

SHARED_GROUPS: Final = 0x52009229
PER_FRAME_GROUPS: Final = 0x52009230
_CODE_VALUES: Final = (0x00080100, 0x00080119, 0x00080120)
_SCHEME: Final = 0x00080102


def is_true(expression: Expression, item: Item) -> bool | None:
    """What *expression* comes to in *item*; None: that cannot be known."""
    kind = expression[0]
    if kind == "not":
        inner = is_true(expression[1], item)
        return None if inner is None else not inner
    if kind in ("and", "or"):
        return _joined(kind, expression, item)
    if kind == "false":
        return False
    if kind == "unknown":
        return None
    tag = int(expression[1], 16)
    if kind == "here":
        return tag in item.elements
    if kind == "first":
        return item.sequence == tag and item.number == 0
    if kind == "dimension":
        return expression[1].upper() in item.root.dimension_pointers
    element = find(tag, item)
    if kind == "present":
        return element is not None
    if kind == "valued":
        return element is not None and not element.is_empty
    if kind == "private":
        return element is not None and any(_is_private(value) for value in element.values)
    if kind == "code":
        return _has_code(element, expression[2])
    if element is None or element.is_empty:
        return False
    if not element.is_known:
        return None
    values = element.values
    number = expression[2]
    if number:
        values = values[number - 1 : number]
    if kind == "greater":
        return _is_greater(values[:1], expression[3])
    return any(_is_same(value, wanted) for value in values for wanted in expression[3])


def _joined(kind: str, expression: Expression, item: Item) -> bool | None:
    decisive = kind == "or"
    is_open = False
    for inner in expression[1:]:
        outcome = is_true(inner, item)
        if outcome is decisive:
            return decisive
        is_open |= outcome is None
    return None if is_open else not decisive


def find(tag: int, item: Item) -> Element | None:
    """The element that a condition in *item* means: there, in the functional groups of the same
    frame, or in what is around it."""
    at: Item | None = item
    while at is not None:
        element = at.elements.get(tag)
        if element is not None:
            return element
        if at.sequence in (SHARED_GROUPS, PER_FRAME_GROUPS):
            element = at.grouped.get(tag)
            if element is not None:
                return element
        if at.parent is None:
            break
        at = at.parent
    root = item.root
    for group in (*root.items(SHARED_GROUPS)[:1], *root.items(PER_FRAME_GROUPS)[:1]):
        element = group.elements.get(tag) or group.grouped.get(tag)
        if element is not None:
            return element
    return None


def _has_code(element: Element | None, codes: list[list[str]]) -> bool | None:
    if element is None or element.items is None:
        return False
    unknown = False
    for item in element.items:
        scheme = item.text(_SCHEME)
        value = next((item.text(tag) for tag in _CODE_VALUES if item.text(tag)), "")
        if [value, scheme] in codes:
            return True
        # The same concept may be said by another scheme, SNOMED's old one for instance.
        unknown |= scheme not in {each[1] for each in codes}
    return None if unknown else False


def _is_private(tag: str) -> bool:
    """Whether eight digits of a tag are those of an odd group."""
    return len(tag) == 8 and tag[3] in "13579BDF"


def _is_greater(values: tuple[str, ...], limit: float) -> bool | None:
    if not values:
        return False
    try:
        return float(values[0]) > limit
    except ValueError:
        return None


def _is_same(value: str, wanted: str) -> bool:
    if value == wanted:
        return True
    if not wanted[-1:].isdigit() or not value[-1:].isdigit():
        return False
    try:
        return float(value) == float(wanted)
    except ValueError:
        return False
