"""Schedules, over changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.workflow.tasks.schedule import Schedule, ScheduleError, parse_schedule

#: An hour, half an hour, none, on the southern half, around Ramadan, at midnight.
ZONES = [
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "America/Santiago",
    "Africa/Casablanca", "Asia/Beirut", "America/St_Johns",
]  # fmt: skip
MOMENTS = st.integers(1_577_836_800, 2_082_758_400).map(lambda at: datetime.fromtimestamp(at, UTC))
ZONE = st.sampled_from(ZONES)


def moments(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    found: list[datetime] = []
    at: float | None = after.timestamp()
    last: float | None = None
    while at is not None and len(found) < count:
        at = last = schedule.next_after(at, last)
        if at is not None:
            found.append(datetime.fromtimestamp(at, ZoneInfo(schedule.zone)))
    return found


def walls(text: str, zone: str, after: datetime, count: int) -> list[str]:
    found = moments(parse_schedule(text, zone), after, count)
    return [f"{one:%Y-%m-%d %H:%M %z}" for one in found]


def test_what_falls_into_an_hour_that_is_left_out_is_done_right_after_it() -> None:
    assert walls("daily 02:30", "Europe/Berlin", datetime(2026, 3, 27, 12, tzinfo=UTC), 3) == [
        "2026-03-28 02:30 +0100", "2026-03-29 03:00 +0200", "2026-03-30 02:30 +0200",
    ]  # fmt: skip


def test_what_is_in_an_hour_that_comes_twice_is_done_once() -> None:
    assert walls("daily 02:30", "Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=UTC), 2) == [
        "2026-10-25 02:30 +0200", "2026-10-26 02:30 +0100",
    ]  # fmt: skip
    # Also when somebody asks in the second of the two.
    second = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    assert walls("daily 02:30", "Europe/Berlin", second, 1) == ["2026-10-26 02:30 +0100"]


def test_what_is_done_each_quarter_of_an_hour_is_done_in_both() -> None:
    begin = datetime(2026, 10, 24, 23, 50, tzinfo=UTC)
    found = moments(parse_schedule("cron */15 * * * *", "Europe/Berlin"), begin, 20)
    assert {later - earlier for earlier, later in pairwise(t.astimezone(UTC) for t in found)} == {
        timedelta(minutes=15)
    }


@given(MOMENTS, ZONE, st.integers(0, 23), st.integers(0, 59))
def test_what_is_daily_is_done_once_on_each_day(
    after: datetime, zone: str, hour: int, minute: int
) -> None:
    found = moments(parse_schedule(f"daily {hour:02}:{minute:02}", zone), after, 40)
    days = [one.date() for one in found]
    assert days == [days[0] + timedelta(days=number) for number in range(40)]
    for one in found:
        late = (one.hour * 60 + one.minute) - (hour * 60 + minute)
        # On days on which the clock is set forward it may be up to an hour later.
        assert 0 <= late <= 60


@given(
    MOMENTS,
    ZONE,
    st.sampled_from(
        ["*/7 * * * *", "5 */3 * * *", "0 2 * * mon-fri", "30 1,2,3 1-7 * sun", "0 0 29 2 *",
         "59 23 L * *", "15,45 8-17/2 * 1,6 1-5"]
    ),
)  # fmt: skip
def test_a_cron_expression_always_goes_on(after: datetime, zone: str, cron: str) -> None:
    schedule = parse_schedule(f"cron {cron}", zone)
    found = moments(schedule, after, 5)
    assert len(found) == 5
    ordered = [after, *(one.astimezone(UTC) for one in found)]
    assert all(earlier < later for earlier, later in pairwise(ordered))
    # Whoever asks a moment before it is told the same.
    first = found[0].timestamp()
    assert schedule.next_after(first - 1.0) == first or first - 1.0 < after.timestamp()


@given(MOMENTS, ZONE, st.integers(10, 10**6), st.floats(0, 10**7))
def test_intervals_are_counted_from_the_last_and_none_is_made_up_for(
    after: datetime, zone: str, seconds: int, missed: float
) -> None:
    schedule = parse_schedule(f"every {seconds}s", zone)
    at = after.timestamp()
    first = schedule.next_after(at)
    assert first == at + seconds
    later = schedule.next_after(first + missed, first)
    assert later is not None
    assert first + missed < later <= first + missed + seconds + 1e-3
    assert round((later - first) / seconds) * seconds == pytest.approx(later - first)


def test_a_single_moment_comes_once() -> None:
    schedule = parse_schedule("at 2026-12-01 02:00", "America/New_York")
    at = datetime(2026, 12, 1, 7, tzinfo=UTC).timestamp()
    assert schedule.next_after(0.0) == at
    assert schedule.next_after(at) is None
    # In an hour that is left out.
    assert parse_schedule("at 2026-03-29T02:30", "Europe/Berlin").at == (
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC).timestamp()
    )
    assert parse_schedule("at 2026-03-29T02:30+05:00", "Europe/Berlin").at == (
        datetime(2026, 3, 28, 21, 30, tzinfo=UTC).timestamp()
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "every 6h"),
        ("sometimes", "every 6h"),
        ("every", "with s, m, h or d"),
        ("every 5s", "from 10s"),
        ("every 9999999d", "366d"),
        ("every 1.5h", "with s, m, h or d"),
        ("daily 24:00", "23:59"),
        ("weekly someday 02:00", "sun, mon"),
        ("cron 0 2 * *", "five fields"),
        ("cron * * * * * *", "five fields"),
        ("cron 61 2 * * *", "minute"),
        ("cron 0 0 31 2 *", "day-of-month"),
        ("cron a b c d e", "minute"),
        ("cron 1#2/3 0 * * *", "expression is none"),
        ("cron L-3 * * * *", "minute"),
        ("cron 0 0 * * mon#2/3", "expression is none"),
        ("at noon", "a date and a time"),
        ("at 0001-01-01 00:00", "too far"),
        ("cron 0 0 1-2-3 * *", "day-of-month"),
        ("é", "every 6h"),
    ],
)
def test_what_is_no_schedule_is_told(text: str, says: str) -> None:
    with pytest.raises(ScheduleError, match=says):
        parse_schedule(text, "Asia/Tokyo")


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "a\0b"])
def test_what_is_no_time_zone_is_told(zone: str) -> None:
    with pytest.raises(ScheduleError, match="time zone"):
        parse_schedule("daily 02:00", zone)


@given(st.text(max_size=40))
def test_any_text_is_a_schedule_or_told(text: str) -> None:
    for given_text in (text, f"cron {text}", f"at {text}", f"every {text}", f"weekly {text}"):
        try:
            schedule = parse_schedule(given_text, "Europe/Berlin")
        except ScheduleError:
            continue
        schedule.next_after(1_800_000_000.0)
        assert parse_schedule(schedule.text, schedule.zone) == schedule
