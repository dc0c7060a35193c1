"""Structured content: content items by their concept (PS3.15 E.3.4, PS3.3 C.17.3)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from isocenter.services.dicom.data_set_nodes import ItemNode
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.rules import Action, parse_options, table_lines
from isocenter.services.dicom.element_values import decode_text

VALUE_TYPE: Final = 0x0040A040
CONCEPT_NAME: Final = 0x0040A043
CONTENT_SEQUENCE: Final = 0x0040A730
_CODE_VALUES: Final = (0x00080100, 0x00080119, 0x00080120)
_SCHEME: Final = 0x00080102
#: Value type → attribute that has the value, of those that a concept decides about.
VALUES: Final[Mapping[str, int]] = {
    "TEXT": 0x0040A160, "PNAME": 0x0040A123, "DATE": 0x0040A121, "TIME": 0x0040A122,
    "DATETIME": 0x0040A120, "UIDREF": 0x0040A124,
}  # fmt: skip
#: Of concepts that the table does not name.
_BY_TYPE: Final = {"PNAME": Action.DUMMY, "UIDREF": Action.UID, "TEXT": Action.CLEAN}
_DATES: Final = ("DATE", "TIME", "DATETIME")


@cache
def _concepts() -> Mapping[tuple[str, str, str], tuple[str, Mapping[Option, Action]]]:
    return {
        (code, scheme, kind): (action, parse_options(options))
        for code, scheme, kind, action, options in table_lines("concepts")
    }


class ContentItem:
    """One content item, and what the table says of its concept.

    Attributes:
        value_type: TEXT, PNAME and so on.
        value: tag of the attribute with its value; None: in none that is looked at here.
        action: what becomes of it.
        keeps_dates: whether the action comes from an option that retains dates, in full or
            modified.
    """

    def __init__(
        self, tree: DataSetTree, item: ItemNode, value_type: str, options: frozenset[Option]
    ) -> None:
        self.value_type = value_type
        self.value = VALUES.get(value_type)
        code, scheme = concept_of(tree, item)
        printed, by_option = _concepts().get((code, scheme, value_type), ("", {}))
        found = {by_option[option] for option in by_option if option in options}
        if Action.KEEP in found:
            self.action = Action.KEEP
        elif found:
            self.action = Action.CLEAN
        elif printed:
            # A template may want it: a value that says nothing is safe under every one.
            self.action = Action(printed.split("/")[-1])
        elif value_type in _DATES:
            self.action = _date_action(options)
        else:
            self.action = _BY_TYPE.get(value_type, Action.KEEP)


def _date_action(options: frozenset[Option]) -> Action:
    if Option.FULL_DATES in options:
        return Action.KEEP
    return Action.CLEAN if Option.MODIFIED_DATES in options else Action.DUMMY


def content_item_of(
    tree: DataSetTree, item: ItemNode, options: frozenset[Option]
) -> ContentItem | None:
    """The content item that *item* is; None: it is none."""
    if item.parent is None:
        return None
    kinds = [node for node in item.all(VALUE_TYPE) if node.items is None]
    if not kinds or not item.all(CONCEPT_NAME):
        return None
    return ContentItem(tree, item, decode_text(tree.value(kinds[-1]), "CS"), options)


def concept_of(tree: DataSetTree, item: ItemNode) -> tuple[str, str]:
    """Code value and coding scheme of the concept name of a content item; empty: none."""
    for node in item.all(CONCEPT_NAME):
        for inner in node.items or ():
            code = next(
                (
                    decode_text(tree.value(each), "SH")
                    for tag in _CODE_VALUES
                    for each in inner.all(tag)
                    if each.items is None
                ),
                "",
            )
            schemes = [each for each in inner.all(_SCHEME) if each.items is None]
            return code, decode_text(tree.value(schemes[-1]), "SH") if schemes else ""
    return "", ""
