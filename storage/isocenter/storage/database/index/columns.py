"""Columns of the index: table and comparison of each attribute."""

from __future__ import annotations

from typing import Final

from isocenter.services.archive.index import matching
from isocenter.services.archive.index.attributes import ATTRIBUTES, Attribute, Level

#: UIDs that make a study and a series what it is; nothing is said of them that could differ.
ENTITY_TAGS: Final = frozenset({0x0020000D, 0x0020000E})

#: What an object says of each level, in the order of the table.
STATED: Final = {
    level: tuple(
        a for a in ATTRIBUTES if a.level is level and not a.computed and a.tag not in ENTITY_TAGS
    )
    for level in Level
}

#: What there is, a row each.
TABLE: Final = {
    Level.PATIENT: "patient",
    Level.STUDY: "study",
    Level.SERIES: "series",
    Level.IMAGE: "instance",
}

#: Where that is which objects say.
STORED_IN: Final = {
    Level.PATIENT: "patient_statement",
    Level.STUDY: "study_statement",
    Level.SERIES: "series_statement",
    Level.IMAGE: "instance",
}

#: Value multiplicity above one (PS3.6): always asked of the reference matcher, value by value.
SEVERAL_VALUES: Final = frozenset(
    {
        0x00101000,  # Other Patient IDs
        0x00081060,  # Name of Physician(s) Reading Study
        0x00081050,  # Performing Physician's Name
        0x00080008,  # Image Type
    }
)

#: What completes a time of any allowed precision (PS3.5 6.2, TM).
EARLIEST_TIME: Final = "000000.000000"

#: A sequence is JSON; of a decimal, the usual text is not the one that is compared.
_NEVER_FAST: Final = frozenset({"SQ", "DS"})
#: Compared in a column of its own; or validated (`isocenter.storage.database.index.query`).
_NEVER_IRREGULAR: Final = frozenset({"PN", "UI"})


def key_column(attribute: Attribute) -> str | None:
    """The column that holds the value as it is compared, where that is not the value itself."""
    if attribute.vr == "PN" and attribute.tag not in SEVERAL_VALUES:
        return f"{attribute.column}_key"
    return None


#: Begins the key of a name with several groups or values; no other normalized name has one.
MULTIPLE_GROUPS_PREFIX: Final = "="
#: Sorts after all that begins with `MULTIPLE_GROUPS_PREFIX`.
AFTER_MULTIPLE_GROUPS: Final = chr(ord(MULTIPLE_GROUPS_PREFIX) + 1)


def key_text(attribute: Attribute, text: str) -> str:
    """What `key_column` holds for the value *text*."""
    key = matching.normalize(attribute.vr, text)
    return (
        MULTIPLE_GROUPS_PREFIX + key
        if MULTIPLE_GROUPS_PREFIX in key or "\\" in key or "\0" in key
        else key
    )


def is_irregular(attribute: Attribute, text: str) -> bool:
    """Does *text*, not empty, need the reference matcher?"""
    vr = attribute.vr
    if vr in _NEVER_IRREGULAR or not has_fast_text(attribute):
        return False
    if "\\" in text or "\0" in text:
        return True
    normalized = matching.normalize(vr, text)
    if vr in matching.RANGE_VRS and not matching.is_range_comparable(vr, normalized):
        return True
    if vr == "TM":
        text += EARLIEST_TIME[len(text) :]
    return normalized != text


def has_fast_text(attribute: Attribute) -> bool:
    """Whether SQL can compare the usual text of *attribute* as the reference does."""
    return not (
        attribute.computed or attribute.vr in _NEVER_FAST or attribute.tag in SEVERAL_VALUES
    )
