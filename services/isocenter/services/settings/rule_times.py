"""Times of a rule in a configuration: beginning, end, hours, schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from typing import Any, Final

from isocenter.services.archive.rules.timing import NextMoment, RuleTiming
from isocenter.services.hours import ALWAYS, Hours, parse_hours
from isocenter.services.settings.value_types import InvalidValueError

_MOMENTS: Final = ("effective_from", "effective_until")
TIME_KEYS: Final = (*_MOMENTS, "hours", "schedule", "time_zone")


def rule_timing(
    table: Mapping[str, Any], fault: Callable[[str], InvalidValueError]
) -> RuleTiming | None:
    """What a rule's table says of times; None: nothing.

    Args:
        fault: an error of that rule.
    """
    if not any(key in table for key in TIME_KEYS):
        return None
    begins, ends = (_moment(table.get(key, ""), key, fault) for key in _MOMENTS)
    if begins is not None and ends is not None and ends <= begins:
        raise fault("effective_until must be later than effective_from")
    schedule = table.get("schedule", "")
    if not isinstance(schedule, str):
        raise fault('schedule must be text: "daily 02:00"')
    if not schedule and "time_zone" in table:
        raise fault('time_zone is that of the schedule; add schedule = "daily 02:00"')
    zone = table.get("time_zone", "UTC") if schedule else ""
    timing = RuleTiming(
        begins=begins,
        ends=ends,
        hours=_hours(table.get("hours", ""), fault),
        schedule=schedule,
        zone=zone,
        next_after=_next_after(schedule, zone, fault) if schedule else None,
    )
    return None if timing == RuleTiming() else timing


def table_of_timing(timing: RuleTiming) -> dict[str, object]:
    """What `rule_timing` makes the same of."""
    table: dict[str, object] = {}
    for key, moment in zip(_MOMENTS, (timing.begins, timing.ends), strict=True):
        if moment is not None:
            table[key] = datetime.fromtimestamp(moment).astimezone().isoformat()
    if timing.hours.text:
        table["hours"] = timing.hours.text
    if timing.schedule:
        table |= {"schedule": timing.schedule, "time_zone": timing.zone}
    return table


def _moment(value: object, key: str, fault: Callable[[str], InvalidValueError]) -> float | None:
    """A moment as text or as TOML has it; without a time zone by the clock of this machine."""
    if value == "":
        return None
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(found, date) and not isinstance(found, datetime):
            found = datetime.combine(found, time())
        if not isinstance(found, datetime):
            raise TypeError
        return found.timestamp()
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise fault(f'{key} must be a date, or date and time: "2026-12-01 08:00"') from error


def _hours(text: object, fault: Callable[[str], InvalidValueError]) -> Hours:
    if text == "":
        return ALWAYS
    try:
        return parse_hours(text if isinstance(text, str) else "?")
    except ValueError as error:
        raise fault(f"hours: {error}") from error


def _next_after(
    text: str, zone: object, fault: Callable[[str], InvalidValueError]
) -> Callable[[float], float | None]:
    # Few rules have one.
    from isocenter.services.workflow.tasks.schedule import ScheduleError, parse_schedule

    if not isinstance(zone, str):
        raise fault('time_zone must be text: "Europe/Berlin"')
    try:
        schedule = parse_schedule(text, zone)
    except ScheduleError as error:
        raise fault(f"schedule: {error}") from error
    if schedule.every:
        raise fault("schedule must name times of the clock; of intervals say delay_minutes")
    return NextMoment(schedule.next_after)
