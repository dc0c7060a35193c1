"""Rules of the confidentiality profile: what becomes of each attribute (PS3.15 Table E.1-1).

The tables lie beside this module; ``packaging/tables/deidentification_tables.py`` makes them and
says of what.  Actions that depend on the IOD ("X/Z/D") are settled by the Type that the attribute
has there; of a SOP class that no table has, it is taken for Type 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from isocenter.services.dicom.data_dictionary import keyword_for_tag
from isocenter.services.dicom.deidentification.options import Option

#: Of whose tables these are, for people.
EDITION: Final = "PS3.15 2026c"
#: In keywords of UIDs that say what something is.
_KINDS: Final = ("SOPClass", "TransferSyntax", "CodingScheme", "MappingResource", "ContextUID",
                 "ContextGroup", "CreatorVersion")  # fmt: skip
#: Beside the table: digital signatures with the parameters of their MACs (PS3.15 C.1), which fit
#: nothing any more; originals that somebody has encrypted before, for other recipients.
NEVER_STAY: Final = frozenset((0xFFFAFFFA, 0x4FFE0001, 0x04000500))
_DICOM_ROOT: Final = "1.2.840.10008."


class Action(Enum):
    """What becomes of an attribute: the codes of PS3.15 E.1.1, and those of custom rules."""

    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    KEEP = "K"
    CLEAN = "C"
    UID = "U"
    REPLACE = "replace"
    HASH = "hash"
    ENCRYPT = "encrypt"
    SHIFT_DATE = "shift_date"


class Row(NamedTuple):
    """A row of Table E.1-1.

    Attributes:
        action: of the basic profile, as it is printed.
        options: what options make of it.
        is_composite: whether a composite IOD has it.
        edition, source: of the standard, and who says it; see the maker of the tables.
    """

    action: str
    options: Mapping[Option, Action]
    is_composite: bool
    edition: str
    source: str


def table_lines(name: str) -> Iterator[list[str]]:
    """The rows of one of the tables beside this module, without its head."""
    text = files(__package__).joinpath("tables", f"{name}.tsv").read_text("utf-8")
    for line in text.splitlines()[1:]:
        yield line.split("\t")


def parse_options(text: str) -> dict[Option, Action]:
    """Cells such as ``K:full,C:modified``."""
    pairs = (each.split(":") for each in text.split(",") if each)
    return {Option(name): Action(action) for action, name in pairs}


@cache
def attribute_rows() -> Mapping[str, Row]:
    """Table E.1-1, by tag; of groups that repeat with ``XX``, of private ones ``PRIVATE``."""
    return {
        tag: Row(action, parse_options(options), composite == "Y", edition, source)
        for tag, action, options, composite, edition, source in table_lines("attributes")
    }


@cache
def _types() -> Mapping[str, tuple[frozenset[str], ...]]:
    return {
        _DICOM_ROOT + uid: tuple(frozenset(cell.split(",")) for cell in cells)
        for uid, *cells in table_lines("types")
    }


def settled(printed: str, tag: str, sop_class_uid: str, *, is_nested: bool) -> Action:
    """The action that *printed* comes to in an object of a SOP class."""
    codes = printed.split("/")
    if len(codes) == 1:
        return Action(printed)
    if codes[-1] == "U*":
        # Kept with other UIDs in it: what references point to stays clear.
        return Action.UID
    types = _types().get(sop_class_uid)
    if types is None:
        return Action(codes[-1])
    type_1, type_2 = types[2:] if is_nested else types[:2]
    if tag in type_1:
        return Action(codes[-1])
    if tag in type_2:
        return Action.EMPTY if "Z" in codes else Action(codes[-1])
    return Action(codes[0])


@cache
def says_kind(tag: int) -> bool:
    """Whether a UID says what something is, also where a vendor gave it out, and not which one."""
    keyword = keyword_for_tag(tag)
    return any(kind in keyword for kind in _KINDS)


class AttributeRules:
    """The table under some options, for objects of one SOP class.

    Attributes:
        root, nested: tag → action, in the data set and in items of sequences.
    """

    def __init__(self, options: frozenset[Option], sop_class_uid: str) -> None:
        self.root: dict[int, Action] = {}
        self.nested: dict[int, Action] = {}
        #: Of actions C, the option that says it.
        self.cleaned_by: dict[int, Option] = {}
        for text, row in attribute_rows().items():
            if not text.isalnum() or "X" in text or text == "PRIVATE":
                continue
            tag = int(text, 16)
            self.root[tag] = self._action(row, text, tag, options, sop_class_uid, nested=False)
            self.nested[tag] = self._action(row, text, tag, options, sop_class_uid, nested=True)

    def _action(
        self,
        row: Row,
        text: str,
        tag: int,
        options: frozenset[Option],
        sop_class_uid: str,
        *,
        nested: bool,
    ) -> Action:
        found = {option: row.options[option] for option in row.options if option in options}
        if Action.KEEP in found.values():
            return Action.KEEP
        if found:
            self.cleaned_by[tag] = next(iter(found))
            return Action.CLEAN
        return settled(row.action, text, sop_class_uid, is_nested=nested)


@cache
def attribute_rules(options: frozenset[Option], sop_class_uid: str) -> AttributeRules:
    """The table under *options*; of SOP classes that no table has, one for all."""
    return _rules(options, sop_class_uid if sop_class_uid in _types() else "")


@cache
def _rules(options: frozenset[Option], sop_class_uid: str) -> AttributeRules:
    return AttributeRules(options, sop_class_uid)
