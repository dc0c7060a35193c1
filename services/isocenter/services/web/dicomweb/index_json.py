"""DICOM JSON (PS3.18 F) of what the index tells: values as decoded text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from isocenter.services.archive.index.attributes import BY_TAG, REQUEST_ATTRIBUTES
from isocenter.services.archive.index.matching import decode_sequence, split_values
from isocenter.services.dicom.element_texts import person_name_groups

_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_WHOLE: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,14})").fullmatch
_DECIMAL: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,6})?").fullmatch
_NUMBERS: Final = frozenset({"IS", "US", "SS", "UL", "SL"})


#: What a value of these is in JSON, its text is.
_TEXTS: Final = frozenset({"AE", "AS", "CS", "DA", "LO", "LT", "SH", "TM", "UI"})
_NAMES_AND_VRS: Final = {tag: (f"{tag:08X}", one.vr) for tag, one in BY_TAG.items()}


def json_attributes(values: Mapping[int, str], tags: Iterable[int]) -> dict[str, Any]:
    """The attributes *tags* of a match, in ascending order; those without a value have a VR only.

    Args:
        values: tag → decoded text, several values joined by a backslash.
    """
    found: dict[str, Any] = {}
    get = values.get
    for tag in sorted(tags):
        name, vr = _NAMES_AND_VRS[tag]
        text = get(tag)
        if not text:
            found[name] = {"vr": vr}
        elif vr in _TEXTS and "\\" not in text:
            found[name] = {"vr": vr, "Value": [text]}
        else:
            found[name] = json_attribute(vr, text)
    return found


def json_attribute(vr: str, text: str) -> dict[str, Any]:
    """One attribute by its VR and decoded text."""
    if not text:
        return {"vr": vr}
    if vr == "SQ":
        return {"vr": vr, "Value": [_item(item) for item in decode_sequence(text)]}
    return {"vr": vr, "Value": [_value(vr, value) for value in split_values(vr, text)]}


def _item(item: Mapping[str, str]) -> dict[str, Any]:
    keys = {f"{tag:08X}": vr for tag, vr in sorted(REQUEST_ATTRIBUTES.items())}
    return {key: json_attribute(vr, item[key]) for key, vr in keys.items() if key in item}


def _value(vr: str, value: str) -> Any:
    if not value:
        return None
    if vr == "PN":
        groups = person_name_groups(value)
        return {name: group for name, group in zip(_GROUPS, groups, strict=False) if group}
    if vr in _NUMBERS and _WHOLE(value):
        return int(value)
    if vr == "DS" and _DECIMAL(value):
        return float(value) if "." in value else int(value)
    return value
