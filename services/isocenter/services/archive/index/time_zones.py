"""Dates and times in the time zone of a query (PS3.4 C.2.2.2.1.3).

What objects say without an offset from UTC is by the clock of the archive.  A query that tells its
offset is judged as though all pairs of a date and a time stood in the index by its clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

from isocenter.engine.fast_init import dataclass

_OFFSET: Final = re.compile(r"([+-])(0[0-9]|1[0-4])([0-5][0-9])", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{8}", re.ASCII)
_TIME: Final = re.compile(r"[0-9]{2}(?:[0-9]{2}(?:[0-9]{2}(?:\.[0-9]{1,6})?)?)?", re.ASCII)
_WHOLE_TIME: Final = "000000.000000"
_HOURS_AND_MINUTES: Final = 4


def parse_offset(text: str) -> int | None:
    """Minutes east of UTC of a Timezone Offset From UTC, ``±HHMM``; None: it is none."""
    found = _OFFSET.fullmatch(text)
    if found is None or text == "-0000":  # PS3.3 C.12.1.1.8
        return None
    minutes = int(found[2]) * 60 + int(found[3])
    return None if minutes > 14 * 60 else -minutes if found[1] == "-" else minutes


def offset_text(minutes: int) -> str:
    """The same as text."""
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"


@cache
def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


@dataclass(frozen=True, slots=True)
class ZoneChange:
    """From the clock of an archive to another one.

    Attributes:
        zone: of the archive, as the IANA time zone database names it; empty: of this machine.
        offset: of the other, minutes east of UTC.
    """

    zone: str
    offset: int

    def of(self, date: str, time: str) -> tuple[str, str]:
        """A date and a time by the other clock, as precise as they came.

        What is no date (``YYYYMMDD``) and time (``HHMMSS.FFFFFF`` or its beginning), and what is
        on no calendar, stays as it is.
        """
        if not (_DATE.fullmatch(date) and _TIME.fullmatch(time)):
            return date, time
        whole = time + _WHOLE_TIME[len(time) :]
        try:
            moment = datetime.fromisoformat(f"{date}T{whole}")
            moment = moment.replace(tzinfo=_zone(self.zone)) if self.zone else moment.astimezone()
            moved = moment.astimezone(UTC).astimezone(timezone(timedelta(minutes=self.offset)))
        except (ValueError, OverflowError, OSError):
            return date, time  # a leap second, or the beginning of all years
        length = len(time)
        if moved.minute != moment.minute:
            length = max(length, _HOURS_AND_MINUTES)
        text = f"{moved.hour:02d}{moved.minute:02d}{moved.second:02d}.{moved.microsecond:06d}"
        return f"{moved.year:04d}{moved.month:02d}{moved.day:02d}", text[:length]
