"""Texts of binary values and person names, for JSON and XML."""

from __future__ import annotations

import math
from struct import Struct
from typing import Final

_CODES: Final = {
    "US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d",
    "AT": "HH",
}  # fmt: skip
_STRUCTS: Final = {
    (vr, big_endian): Struct((">" if big_endian else "<") + code)
    for vr, code in _CODES.items()
    for big_endian in (False, True)
}
_FLOAT: Final = Struct("<f")
#: Digits that tell every single from every other one.
_MOST_DIGITS: Final = 9
_FEWEST_DIGITS: Final = 6


def numbers_of(raw: bytes, vr: str, *, big_endian: bool) -> list[str]:
    """The values of an element of a numeric VR, or AT; bytes that are left over count for nothing.

    FL and FD have the fewest digits that give the same number back; a number that is none or
    has no end is "NaN", "Infinity" or "-Infinity".  AT is eight hexadecimal digits.
    """
    structure = _STRUCTS[vr, big_endian]
    whole = len(raw) - len(raw) % structure.size
    found = structure.iter_unpack(raw[:whole])
    if vr == "AT":
        return [f"{group:04X}{element:04X}" for group, element in found]
    if vr == "FL":
        return [float_text(number) for (number,) in found]
    if vr == "FD":
        return [double_text(number) for (number,) in found]
    return [str(number) for (number,) in found]


def fits(raw: bytes, vr: str) -> bool:
    """Whether *raw* is made of whole values."""
    return not len(raw) % _STRUCTS[vr, False].size


def float_text(number: float) -> str:
    """A single, in the fewest digits that give it back."""
    if not math.isfinite(number):
        return _special(number)
    if number == int(number) and abs(number) < 1e6:
        return repr(number)
    for digits in range(_FEWEST_DIGITS, _MOST_DIGITS):
        text = f"{number:.{digits}g}"
        if _gives_back(text, number):
            return text
    return f"{number:.{_MOST_DIGITS}g}"


def _gives_back(text: str, number: float) -> bool:
    try:
        return bool(_FLOAT.unpack(_FLOAT.pack(float(text)))[0] == number)
    except OverflowError:
        return False  # rounded up beyond the largest


def double_text(number: float) -> str:
    """A double, in the fewest digits that give it back."""
    return repr(number) if math.isfinite(number) else _special(number)


def _special(number: float) -> str:
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def person_name_groups(text: str) -> tuple[str, ...]:
    """The component groups of a person name, alphabetic, ideographic, phonetic (PS3.5 6.2.1).

    What stands behind a third delimiter stays in the last.
    """
    return tuple(group.strip(" ") for group in text.split("=", 2))
