"""Hours of the week: what is written, and which moments are in them."""

from __future__ import annotations

from datetime import datetime

import pytest

from isocenter.services.hours import ALWAYS, parse_hours

#: A Monday.
DAY = datetime(2026, 11, 30)  # noqa: DTZ001 - the clock of this machine


def at(day: int, hour: int, minute: int = 0) -> float:
    return DAY.replace(hour=hour, minute=minute).timestamp() + day * 86_400


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("20:00-06:00", [at(0, 0), at(0, 20), at(6, 23, 59), at(3, 5, 59)], [at(0, 6), at(2, 19)]),
        ("mon-fri 20:00-06:00", [at(4, 20), at(5, 3)], [at(5, 20), at(0, 3), at(6, 23)]),
        ("Sat-Sun 0:00-24:00", [at(5, 0), at(6, 23, 59)], [at(4, 23, 59), at(0, 0)]),
        ("fri-mon 8:00-9:00", [at(4, 8), at(6, 8, 30), at(0, 8)], [at(1, 8), at(4, 9)]),
        ("mon 8:00-9:00, tue 9:00-10:00", [at(0, 8), at(1, 9)], [at(0, 9), at(1, 8)]),
        ("sun 23:00-1:00", [at(6, 23), at(0, 0, 30)], [at(0, 1), at(1, 0)]),
        ("", [at(0, 0), at(5, 13)], []),
    ],
)
def test_windows_are_of_the_week(text: str, inside: list[float], outside: list[float]) -> None:
    hours = parse_hours(text)
    assert all(map(hours.is_open, inside))
    assert not any(map(hours.is_open, outside))
    assert parse_hours(hours.text) == hours


def test_the_share_of_the_week_that_is_open() -> None:
    assert ALWAYS.share == 1
    assert parse_hours("12:00-24:00").share == 0.5
    assert parse_hours("mon 0:00-24:00, mon 3:00-4:00").share == pytest.approx(1 / 7)


@pytest.mark.parametrize(
    "text",
    ["always", "8-9", "8:00", "25:00-26:00", "8:60-9:00", "xyz 8:00-9:00", "8:00-8:00",
     "8:00-9:00,", "mon 8:00-9:00 tue", "8:00-9:00" * 60],
)  # fmt: skip
def test_what_is_no_window_says_what_it_has_to_be(text: str) -> None:
    with pytest.raises(ValueError, match=r"window|hours|days|time of the day"):
        parse_hours(text)
