"""Schedules: intervals, cron expressions and single moments, in a time zone.

======================  =================================================================
``every 6h``            each six hours: s, m, h, d
``daily 02:00``         each day at that time of the clock
``weekly sun 02:00``    each week
``cron 0 2 * * mon-fri``  minute, hour, day of month, month, day of week
``at 2026-12-01 02:00``  once
======================  =================================================================

The clock is that of a time zone that is always named.  Where it is set forward, what would be in
the hour that is left out is done right after it; where it is set back, what is at a certain time is
done once, in the first of the two hours.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass

FORMS: Final = (
    "every 6h, daily 02:00, weekly sun 02:00, cron 0 2 * * mon-fri, or at 2026-12-01 02:00"
)
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_EVERY: Final = re.compile(r"([1-9][0-9]{0,7})([smhd])")
_TIME: Final = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SHORTEST_SECONDS: Final = 10
_LONGEST_SECONDS: Final = 366 * 86_400
_MOST_TEXT: Final = 200
#: Moments of a cron expression that are looked at for one behind *after*: an hour that comes twice
#: has as many before it.
_MOST_LOOKED_AT: Final = 200


class ScheduleError(IsocenterError):
    """A schedule that is none; the message says what it can be."""

    error_code = ErrorCode.TASK


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When something is done.

    Attributes:
        text: as somebody wrote it, in the forms above.
        zone: a name of the IANA time zone database.
        every: seconds of an interval; 0: it is none.
        cron: five fields; empty: it is no such expression.
        at: of a single moment, seconds since 1970.
    """

    text: str
    zone: str
    every: int = 0
    cron: str = ""
    at: float | None = None

    def next_after(self, after: float, last: float | None = None) -> float | None:
        """The first moment behind *after*, in seconds since 1970; None: there is none any more.

        Args:
            last: the moment before, from which intervals are counted; None: there was none.
        """
        if self.at is not None:
            return self.at if self.at > after else None
        if self.every:
            if last is None or last > after:
                return after + self.every
            return last + ((after - last) // self.every + 1) * self.every
        return _next_of_cron(self.cron, _zone(self.zone), after) if self.cron else None


def parse_schedule(text: str, zone: str) -> Schedule:
    """A schedule as somebody wrote it.

    Raises:
        ScheduleError: it is none, or the zone is none.
    """
    found = _zone(zone)
    if len(text) > _MOST_TEXT or not text.isascii() or not text.isprintable():
        raise ScheduleError(f"a schedule is {FORMS}")
    word, _, rest = " ".join(text.split()).partition(" ")
    words = f"{word} {rest}"
    match word.lower():
        case "every":
            return Schedule(text=words, zone=zone, every=_interval(rest))
        case "daily":
            hour, minute = _time(rest)
            return _cron(words, zone, f"{minute} {hour} * * *")
        case "weekly":
            day, _, time = rest.partition(" ")
            if day.lower() not in _DAYS:
                raise ScheduleError(f"a day of the week is one of {', '.join(_DAYS)}")
            hour, minute = _time(time)
            return _cron(words, zone, f"{minute} {hour} * * {_DAYS.index(day.lower())}")
        case "cron":
            return _cron(words, zone, rest)
        case "at":
            return Schedule(text=words, zone=zone, at=_moment(rest, found))
        case _:
            raise ScheduleError(f"a schedule is {FORMS}")


def known_schedule(text: str, zone: str) -> tuple[Schedule, str]:
    """A schedule that was taken, perhaps by another machine; and why it never comes on this one,
    empty: it does."""
    try:
        return parse_schedule(text, zone), ""
    except ScheduleError as error:
        fault = str(error)
    try:
        found = parse_schedule(text, "UTC")
    except ScheduleError:
        return Schedule(text=text, zone=zone), fault
    if found.every:  # whatever the clock on the wall says
        return replace(found, zone=zone), ""
    return Schedule(text=text, zone=zone), fault


def _interval(text: str) -> int:
    match = _EVERY.fullmatch(text.lower())
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not _SHORTEST_SECONDS <= seconds <= _LONGEST_SECONDS:
        raise ScheduleError(
            "an interval is a number with s, m, h or d, from "
            f"{_SHORTEST_SECONDS}s to 366d: every 6h"
        )
    return seconds


def _time(text: str) -> tuple[int, int]:
    match = _TIME.fullmatch(text)
    if not match:
        raise ScheduleError("a time of the day is 00:00 to 23:59: daily 02:00")
    return int(match[1]), int(match[2])


def _moment(text: str, zone: tzinfo) -> float:
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        raise ScheduleError("a moment is a date and a time: at 2026-12-01 02:00") from None
    try:
        if moment.tzinfo is None:
            moment = _that_is(moment.replace(tzinfo=zone))
        return moment.timestamp()
    except (OverflowError, ValueError):
        raise ScheduleError("that moment is too far away") from None


def _cron(text: str, zone: str, cron: str) -> Schedule:
    if len(cron.split()) != 5:
        raise ScheduleError(
            "a cron expression has five fields: minute, hour, day of month, month, day of week: "
            "cron 0 2 * * mon-fri"
        )
    made = Schedule(text=text, zone=zone, cron=cron)
    if made.next_after(datetime.now(UTC).timestamp()) is None:
        raise ScheduleError("there is no such day")
    return made


def _next_of_cron(cron: str, zone: tzinfo, after: float) -> float | None:
    from cronsim import CronSim, CronSimError

    # What is at a certain time is looked for by the clock on the wall, which an hour that comes
    # twice shows twice; what is found behind *after* is the first.
    begin = datetime.fromtimestamp(after, zone)
    try:
        moments = CronSim(cron, begin)
        for _ in range(_MOST_LOOKED_AT):
            moment = next(moments).timestamp()
            if moment > after:
                return moment
    except StopIteration:
        return None
    except CronSimError as error:
        raise ScheduleError(f"the cron expression is none: {error}") from error
    except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ScheduleError("the cron expression is none") from error
    return None


def _that_is(moment: datetime) -> datetime:
    """One that a clock that is set forward leaves out is as long after it as it would have been."""
    return moment.astimezone(UTC).astimezone(moment.tzinfo)


@lru_cache(64)
def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(
            f"there is no time zone {name[:64]!r} on this machine; names are like Europe/Berlin, "
            "and come with the package tzdata"
        ) from error
