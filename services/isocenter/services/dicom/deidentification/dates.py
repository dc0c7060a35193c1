"""Dates of a patient, moved or reduced to their year (PS3.15 E.3.6)."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Final

#: DA, also with the dots of ACR-NEMA 300 (PS3.5 6.2).
_DATE: Final = re.compile(r"([0-9]{4})([.]?)([0-9]{2})\2([0-9]{2})")
_DATE_TIME: Final = re.compile(
    r"([0-9]{4})([0-9]{2})?([0-9]{2})?((?:[0-9]{2}){0,3}(?:\.[0-9]{1,6})?)([+-][0-9]{4})?"
)
#: TM, also with the colons of ACR-NEMA 300.
_TIME: Final = re.compile(r"[0-9]{2}(?:(:?)[0-9]{2}(?:\1[0-9]{2}(?:\.[0-9]{1,6})?)?)?")
_AGE: Final = re.compile(r"([0-9]{1,3})([DWMY])")
#: From this age on patients are few (45 CFR 164.514 (b)(2)(i)(C)).
OLDEST_YEARS: Final = 90


def shifted(value: str, vr: str, days: int) -> str:
    """*value* of VR DA or DT moved by days; empty where it is no date, or leaves the calendar.

    Times (TM) stay: a shift by whole days keeps what happened when on a day.
    """
    if vr == "TM":
        times = [each.strip(" \0") for each in value.split("\\")]
        return "\\".join(each if _TIME.fullmatch(each) else "" for each in times)
    return "\\".join(_shifted(each.strip(" \0"), vr, days) for each in value.split("\\"))


def _shifted(value: str, vr: str, days: int) -> str:
    match = (_DATE if vr == "DA" else _DATE_TIME).fullmatch(value)
    if match is None:
        return ""
    if vr == "DA":
        year, dot, month, day = match.groups()
        moved = _moved(int(year), int(month), int(day), days)
        return "" if moved is None else moved.strftime(f"%Y{dot}%m{dot}%d").zfill(len(value))
    year, month, day, time, zone = match.groups()
    if (time and not day) or (day and not month):
        return ""
    moved = _moved(int(year), int(month or 1), int(day or 1), days)
    if moved is None:
        return ""
    text = f"{moved.year:04}" + f"{moved.month:02}" * bool(month) + f"{moved.day:02}" * bool(day)
    return text + time + (zone or "")


def _moved(year: int, month: int, day: int, days: int) -> date | None:
    try:
        return date(year, month, day) + timedelta(days)
    except (ValueError, OverflowError):
        return None


def year_only(value: str, vr: str) -> str:
    """*value* with nothing but its year: the first of January; of TM nothing."""
    if vr == "TM":
        return ""
    years = []
    for each in value.split("\\"):
        match = (_DATE if vr == "DA" else _DATE_TIME).fullmatch(each.strip(" \0"))
        years.append("" if match is None else match[1] + ("0101" if vr == "DA" else ""))
    return "\\".join(years)


def capped_age(value: str) -> str:
    """An age (AS) of which not more is told than that it is 90 or above; what is none is empty."""
    match = _AGE.fullmatch(value.strip(" \0"))
    if match is None:
        return ""
    if match[2] == "Y" and int(match[1]) >= OLDEST_YEARS:
        return f"{OLDEST_YEARS:03}Y"
    return f"{int(match[1]):03}{match[2]}"
