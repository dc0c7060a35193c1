"""Hours of the week in which something may be done.

::

    20:00-06:00                  each night
    mon-fri 20:00-06:00, sat-sun 00:00-24:00

By the clock of this machine.  A window that ends before it begins ends on the next day.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from isocenter.engine.fast_init import dataclass

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES: Final = 24 * 60
_WEEK_MINUTES: Final = 7 * _DAY_MINUTES
_MOST_TEXT: Final = 500
_WINDOW: Final = re.compile(
    r"(?:(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))? )?"
    r"(?P<begin>[0-9]{1,2}:[0-9]{2})-(?P<end>[0-9]{1,2}:[0-9]{2})"
)
FORM: Final = (
    "hours are windows of the week: 20:00-06:00, or mon-fri 20:00-06:00, sat-sun 0:00-24:00"
)


@dataclass(frozen=True, slots=True)
class Hours:
    """Windows of a week.

    Attributes:
        text: as somebody wrote them; empty: always.
        windows: minutes from Monday 00:00, first and behind the last, in order and apart.
    """

    text: str
    windows: tuple[tuple[int, int], ...]

    def is_open(self, at: float) -> bool:
        """Whether that moment, in seconds since 1970, is in one of the windows."""
        if not self.text:
            return True
        now = datetime.fromtimestamp(at)  # noqa: DTZ006 - the clock of this machine
        minute = now.weekday() * _DAY_MINUTES + now.hour * 60 + now.minute
        return any(begin <= minute < end for begin, end in self.windows)

    @property
    def share(self) -> float:
        """How much of a week is open: more than 0, at most 1."""
        return sum(end - begin for begin, end in self.windows) / _WEEK_MINUTES


ALWAYS: Final = Hours("", ((0, _WEEK_MINUTES),))


def parse_hours(text: str) -> Hours:
    """Windows as somebody wrote them; an empty text is always.

    Raises:
        ValueError: they are none; the message says what they have to be.
    """
    words = " ".join(text.lower().split())
    if not words:
        return ALWAYS
    if len(words) > _MOST_TEXT:
        raise ValueError(f"hours have at most {_MOST_TEXT} characters")
    minutes: set[int] = set()
    for part in words.split(","):
        minutes |= _minutes(part.strip())
    # What lies side by side is one window.
    borders = sorted(minutes)
    windows: list[tuple[int, int]] = []
    for minute in borders:
        if windows and windows[-1][1] == minute:
            windows[-1] = (windows[-1][0], minute + 1)
        else:
            windows.append((minute, minute + 1))
    return Hours(words, tuple(windows))


def _minutes(text: str) -> set[int]:
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ValueError(FORM)
    first, last = match["first"] or "mon", match["last"] or match["first"] or "sun"
    if first not in _DAYS or last not in _DAYS:
        raise ValueError(f"days of the week are {', '.join(_DAYS)}")
    begin, end = _minute(match["begin"]), _minute(match["end"])
    if begin == end:
        raise ValueError("a window begins and ends at different times; all day is 0:00-24:00")
    if end < begin:
        end += _DAY_MINUTES
    first_day = _DAYS.index(first)
    days = range(first_day, first_day + (_DAYS.index(last) - first_day) % 7 + 1)
    return {
        (day * _DAY_MINUTES + minute) % _WEEK_MINUTES
        for day in days
        for minute in range(begin, end)
    }


def _minute(text: str) -> int:
    hour, _, minute = text.partition(":")
    found = int(hour) * 60 + int(minute)
    if int(minute) > 59 or found > _DAY_MINUTES:
        raise ValueError("a time of the day is 0:00 to 24:00")
    return found
