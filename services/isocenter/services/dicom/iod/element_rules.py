"""Elements judged by themselves: VR, VM, lengths and spelling of values (PS3.5 6.2, PS3.6)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from isocenter.engine.dataset.vr import SPACE_PADDED_VRS
from isocenter.services.dicom.data_dictionary import dictionary_vr_choice
from isocenter.services.dicom.element_values import CHARACTER_SET_VRS
from isocenter.services.dicom.iod.items import Element, Item
from isocenter.services.dicom.multiplicity import multiplicity_of
from isocenter.services.dicom.pydicom_tables import ELEMENTS

if TYPE_CHECKING:
    from isocenter.services.dicom.iod.attributes import Judge

#: Characters of one value at most (PS3.5 Table 6.2-1).
_LONGEST: Final = {
    "AE": 16, "AS": 4, "CS": 16, "DA": 8, "DS": 16, "DT": 26, "IS": 12, "LO": 64, "LT": 10240,
    "SH": 16, "ST": 1024, "TM": 14, "UI": 64,
}  # fmt: skip
#: Characters of a component group of a name.
_LONGEST_NAME: Final = 64
#: Bytes of one value.
_WIDTHS: Final = {
    "AT": 4, "FD": 8, "FL": 4, "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8,
    "OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2,
}  # fmt: skip
_COUNTED: Final = frozenset(("AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"))
_TEXTS: Final = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UC", "UI")
)
_SYNTAX: Final = {
    "AS": re.compile(r"\d{3}[DWMY]"),
    "CS": re.compile(r"[A-Z0-9 _]*"),
    "DA": re.compile(r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"),
    "DS": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"),
    "DT": re.compile(
        r"\d{4}((0[1-9]|1[0-2])((0[1-9]|[12]\d|3[01])(([01]\d|2[0-3])([0-5]\d(([0-5]\d|60)"
        r"(\.\d{1,6})?)?)?)?)?)?([+-]\d{4})?"
    ),
    "IS": re.compile(r"[+-]?\d+"),
    "TM": re.compile(r"([01]\d|2[0-3])([0-5]\d(([0-5]\d|60)(\.\d{1,6})?)?)?"),
    "UI": re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+"),
}
_IS_LIMIT: Final = 1 << 31
_DATE_OLD: Final = re.compile(r"\d{4}\.\d{2}\.\d{2}")
_GROUP_LENGTH: Final = 0xFFFF


def judge_elements(judge: Judge, item: Item) -> None:
    """Judge the elements of one item."""
    for tag, element in item.elements.items():
        if not tag & _GROUP_LENGTH:
            continue
        if tag >> 16 & 1:
            _judge_private(judge, item, tag)
            continue
        _judge_vr(judge, item, tag, element)
        if element.items is not None:
            continue
        _judge_length(judge, item, tag, element)
        _judge_characters(judge, item, tag, element)
        if element.vr in _TEXTS and element.is_known and not element.is_empty:
            _judge_text(judge, item, tag, element)
        _judge_multiplicity(judge, item, tag, element)


def _judge_vr(judge: Judge, item: Item, tag: int, element: Element) -> None:
    choice = dictionary_vr_choice(tag)
    if choice == "UN":
        if tag >> 16 == 0x7F00:
            return
        judge.add(
            "warning", "UNKNOWN-ELEMENT", "the data dictionary has no such element",
            item=item, tag=tag, source="PS3.6 6",
        )  # fmt: skip
        return
    if ELEMENTS.get(tag, ("", "", "", "", ""))[3]:
        judge.add("info", "RETIRED", "is retired", item=item, tag=tag, source="PS3.6 6")
    if element.is_implicit or element.vr in choice.split(" or ") or element.vr == "UN":
        return
    judge.add(
        "error", "VR", f"has VR {_shown(element.vr)}, and the data dictionary {choice}",
        item=item, tag=tag, source="PS3.6 6",
    )  # fmt: skip


def _shown(vr: str) -> str:
    return vr if vr.isascii() and vr.isalnum() else "that is none"


def _judge_private(judge: Judge, item: Item, tag: int) -> None:
    element = tag & 0xFFFF
    if 0x10 <= element <= 0xFF:
        return
    creator = tag & 0xFFFF0000 | element >> 8
    if element < 0x1000 or creator not in item.elements:
        judge.add(
            "warning", "PRIVATE-CREATOR", "a private element has no private creator",
            item=item, tag=tag, source="PS3.5 7.8.1",
        )  # fmt: skip


def _judge_length(judge: Judge, item: Item, tag: int, element: Element) -> None:
    if element.length & 1 and not element.is_encapsulated:
        judge.add(
            "error", "LENGTH-ODD", "its value has an odd length", item=item, tag=tag,
            source="PS3.5 7.1.1",
        )  # fmt: skip
    width = _WIDTHS.get(element.vr)
    if width and element.length % width and not element.is_encapsulated:
        judge.add(
            "error", "LENGTH", f"its length is no multiple of {width} bytes, as {element.vr} has",
            item=item, tag=tag, source="PS3.5 6.2",
        )  # fmt: skip


def _judge_characters(judge: Judge, item: Item, tag: int, element: Element) -> None:
    raw = element.raw
    if not raw or element.vr not in SPACE_PADDED_VRS:
        return
    if raw[-1] == 0:
        judge.add(
            "error", "PADDING", f"is padded with NUL, and {element.vr} with a blank", item=item,
            tag=tag, source="PS3.5 6.2",
        )  # fmt: skip
    if raw.isascii() or element.character_set:
        return
    if element.vr in CHARACTER_SET_VRS:
        judge.add(
            "error", "CHARACTER-SET",
            "has characters beyond the default repertoire, and nothing says of which set",
            item=item, tag=tag, source="PS3.3 C.12.1.1.2",
        )  # fmt: skip


def _judge_text(judge: Judge, item: Item, tag: int, element: Element) -> None:
    vr = element.vr
    longest = _LONGEST.get(vr)
    check = _CHECKS.get(vr)
    for place, value in enumerate(element.values, 1):
        which = f"value {place}" if len(element.values) > 1 else "its value"
        if longest is not None and len(value) > longest:
            judge.add(
                "error", "LENGTH", f"{which} is longer than the {longest} characters of {vr}",
                item=item, tag=tag, source="PS3.5 6.2",
            )  # fmt: skip
        elif vr == "PN" and any(len(part) > _LONGEST_NAME for part in value.split("=")):
            judge.add(
                "error", "LENGTH", f"{which} has a component group of more than 64 characters",
                item=item, tag=tag, source="PS3.5 6.2",
            )  # fmt: skip
        elif value and check is not None and (fault := check(value)):
            judge.add("error", "VALUE", f"{which} {fault}", item=item, tag=tag, source="PS3.5 6.2")
        elif vr not in _SYNTAX and any(ord(sign) < 32 and sign != "\x1b" for sign in value):
            judge.add(
                "error", "VALUE", f"{which} has a control character", item=item, tag=tag,
                source="PS3.5 6.2",
            )  # fmt: skip
        else:
            continue
        return  # one finding for each element


def _spelled(vr: str, what: str) -> Callable[[str], str]:
    pattern = _SYNTAX[vr]

    def check(value: str) -> str:
        return "" if pattern.fullmatch(value) else what

    return check


def _date(value: str) -> str:
    if _SYNTAX["DA"].fullmatch(value):
        return ""
    if _DATE_OLD.fullmatch(value):
        return "has a date with dots, as before DICOM 3.0"
    return "is no date YYYYMMDD"


def _integer(value: str) -> str:
    if not _SYNTAX["IS"].fullmatch(value):
        return "is no integer"
    return "" if -_IS_LIMIT <= int(value) < _IS_LIMIT else "is beyond 32 bits"


_CHECKS: Final[dict[str, Callable[[str], str]]] = {
    "AS": _spelled("AS", "is no age nnnD, nnnW, nnnM or nnnY"),
    "CS": _spelled("CS", "has other characters than A-Z, 0-9, blank and underscore"),
    "DA": _date,
    "DS": _spelled("DS", "is no decimal number"),
    "DT": _spelled("DT", "is no date and time"),
    "IS": _integer,
    "TM": _spelled("TM", "is no time HHMMSS"),
    "UI": _spelled("UI", "is no UID"),
}


def _judge_multiplicity(judge: Judge, item: Item, tag: int, element: Element) -> None:
    multiplicity = multiplicity_of(tag)
    if multiplicity is None or element.is_empty:
        return
    if element.vr in _COUNTED:
        count = element.length // _WIDTHS[element.vr]
    elif element.vr in _TEXTS and element.is_known:
        count = len(element.values)
    else:
        return
    if multiplicity.allows(count):
        return
    judge.add(
        "error", "VM", f"has {count} value{'s' * (count != 1)}, and VM {multiplicity}", item=item,
        tag=tag, source="PS3.6 6",
    )  # fmt: skip
