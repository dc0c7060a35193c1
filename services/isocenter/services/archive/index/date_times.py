"""Date-times (VR DT) as they are compared (PS3.5 6.2, PS3.4 C.2.2.2.5)."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from isocenter.engine.fast_init import dataclass

_ZONE: Final = r"[+-](?:0[0-9]|1[0-4])[0-5][0-9]"
_VALUE: Final = rf"[0-9]{{4}}(?:[0-9]{{2}}){{0,5}}(?:(?<=[0-9]{{14}})\.[0-9]{{1,6}})?(?:{_ZONE})?"
_POINT: Final = re.compile(rf"([0-9]{{4,14}})(?:\.([0-9]{{1,6}}))?({_ZONE})?", re.ASCII)
_RANGE: Final = re.compile(rf"({_VALUE})?-({_VALUE})?", re.ASCII)
_SINGLE: Final = re.compile(_VALUE, re.ASCII)
_EARLIEST: Final = "00000101000000"
_LATEST: Final = "00001231235959"


@dataclass(frozen=True, slots=True)
class _Point:
    """The first or last moment that a value stands for.

    Attributes:
        local: ``YYYYMMDDHHMMSS.FFFFFF``.
        offset: minutes east of UTC; None: nobody knows.
    """

    local: str
    offset: int | None

    def in_utc(self) -> str:
        try:
            zone = timezone(timedelta(minutes=self.offset or 0))
            moment = datetime.strptime(self.local, "%Y%m%d%H%M%S.%f").replace(tzinfo=zone)
            in_utc = moment.astimezone(UTC)
        except (ValueError, OverflowError):
            return self.local  # a leap second, or a date that no calendar has
        return in_utc.strftime("%Y%m%d%H%M%S.%f").rjust(len(self.local), "0")


def is_date_time(text: str) -> bool:
    """Whether *text* is a DT."""
    return _SINGLE.fullmatch(text) is not None


def split_range(text: str) -> tuple[str | None, str | None] | None:
    """Both ends of a range, None is open; None: it is no range.

    A hyphen may also begin an offset from UTC, which is told by its four digits: no range ends in
    the year 1400 or before.
    """
    if is_date_time(text):
        return None
    found = _RANGE.fullmatch(text)
    return None if found is None or text == "-" else (found[1], found[2])


def is_within(text: str, low: str | None, high: str | None) -> bool:
    """Whether the moment *text* lies between two, both included.

    An end that is not given to the microsecond stands for all that begins with it.  Moments of
    which both tell their offset from UTC are compared there; others as they stand.
    """
    moment = _point(text, _EARLIEST)
    if moment is None:
        return False
    first = None if low is None else _point(low, _EARLIEST)
    last = None if high is None else _point(high, _LATEST)
    return (first is None or _is_in_order(first, moment)) and (
        last is None or _is_in_order(moment, last)
    )


def normal(text: str) -> str:
    """The moment as text that is the same for all ways to write it; what is none as it stands."""
    moment = _point(text, _EARLIEST)
    if moment is None:
        return text
    return moment.local if moment.offset is None else f"{moment.in_utc()}+0000"


def _point(text: str, missing: str) -> _Point | None:
    if not is_date_time(text):
        return None
    found = _POINT.fullmatch(text)
    assert found is not None
    digits, fraction, zone = found.groups()
    digit = "0" if missing is _EARLIEST else "9"
    whole = digits + missing[len(digits) :]
    if missing is _LATEST and len(digits) == 6:
        whole = _last_day(digits) + missing[8:]
    offset = None
    if zone is not None:
        minutes = int(zone[1:3]) * 60 + int(zone[3:])
        offset = -minutes if zone[0] == "-" else minutes
    return _Point(f"{whole}.{(fraction or '').ljust(6, digit)}", offset)


def _last_day(month: str) -> str:
    """The last day of *month*; of what is no month, one that none comes after."""
    try:
        return f"{month}{monthrange(int(month[:4]), int(month[4:]))[1]}"
    except ValueError:
        return f"{month}31"


def _is_in_order(one: _Point, other: _Point) -> bool:
    if one.offset is None or other.offset is None:
        return one.local <= other.local
    return one.in_utc() <= other.in_utc()
