"""Dates and times in the time zone of a query (PS3.4 C.2.2.2.1.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.archive.index.matching import combined_days, matches_combined
from isocenter.services.archive.index.query import (
    CombinedRange,
    Match,
    Range,
    SingleValue,
    ValueList,
    ZonedKeys,
)
from isocenter.services.archive.index.time_zones import ZoneChange, offset_text, parse_offset

DATE, TIME = 0x00080020, 0x00080030


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("+0100", 60), ("-0430", -270), ("+1400", 840), ("+0000", 0), ("+0545", 345)],
)
def test_offsets(text: str, minutes: int) -> None:
    assert parse_offset(text) == minutes
    assert offset_text(minutes) == text


@pytest.mark.parametrize("text", ["", "0100", "+1", "+1500", "+1430", "-0000", "+0160", "+01:00"])
def test_what_is_no_offset(text: str) -> None:
    assert parse_offset(text) is None


@pytest.mark.parametrize(
    ("zone", "offset", "before", "after"),
    [
        ("UTC", 60, ("20240101", "2330"), ("20240102", "0030")),
        ("UTC", -300, ("20240101", "020304.5"), ("20231231", "210304.5")),
        ("UTC", 345, ("20240101", "10"), ("20240101", "1545")),
        ("UTC", 60, ("20240101", "10"), ("20240101", "11")),
        # Summer and winter of the archive; the offset of the query is what it says.
        ("Europe/Berlin", 0, ("20240115", "120000"), ("20240115", "110000")),
        ("Europe/Berlin", 0, ("20240715", "120000"), ("20240715", "100000")),
        # What cannot be moved stays.
        ("UTC", 60, ("20240101", ""), ("20240101", "")),
        ("UTC", 60, ("", "1200"), ("", "1200")),
        ("UTC", 60, ("2024.01.01", "1200"), ("2024.01.01", "1200")),
        ("UTC", 60, ("20240101", "235960"), ("20240101", "235960")),
        ("UTC", 60, ("20240230", "120000"), ("20240230", "120000")),
        ("UTC", -60, ("00010101", "000000"), ("00010101", "000000")),
        ("", 60, ("00010101", "000000"), ("00010101", "000000")),
    ],
)
def test_by_the_other_clock(
    zone: str, offset: int, before: tuple[str, str], after: tuple[str, str]
) -> None:
    if zone == "" and ZoneChange("", 60).of(*before) != before:
        pytest.skip("this machine is east of UTC+1")
    assert ZoneChange(zone, offset).of(*before) == after


MATCHES: list[Match | None] = [
    None,
    SingleValue("20240102"),
    Range("20240102", "20240103"),
    Range(None, "20240101"),
    ValueList(("20240101", "20240103")),
]
TIMES: list[Match | None] = [None, SingleValue("0030"), Range("00", "01"), Range("23", None)]
dates = st.sampled_from(["20231231", "20240101", "20240102", "20240103", "20240104"])
times = st.sampled_from(["0000", "003000", "01", "2330", "235959.999999", "1200"])


@given(dates, times, st.sampled_from(MATCHES), st.sampled_from(TIMES), st.integers(-840, 840))
def test_the_days_that_are_looked_at_hold_all_that_match(
    date: str, time: str, of_date: Match | None, of_time: Match | None, offset: int
) -> None:
    keys = ZonedKeys(ZoneChange("Pacific/Auckland", offset), of_date, of_time)
    zoned = CombinedRange(DATE, TIME, None, None, keys)
    if matches_combined(zoned, date, time):
        first, last = combined_days(zoned)
        assert (first or "") <= date <= (last or "9")


def test_a_day_is_one_by_the_clock_of_the_query() -> None:
    keys = ZonedKeys(ZoneChange("UTC", 9 * 60), SingleValue("20240102"))
    day = CombinedRange(DATE, TIME, None, None, keys)
    assert matches_combined(day, "20240101", "1500")
    assert not matches_combined(day, "20240101", "1459")
    assert not matches_combined(day, "20240102", "1500")
    # Without a time it is the date that it is.
    assert matches_combined(day, "20240102", "")
    assert not matches_combined(day, "", "1500")


def test_a_range_of_both_is_one_of_moments() -> None:
    keys = ZonedKeys(ZoneChange("UTC", 60))
    moments = CombinedRange(DATE, TIME, "20240102003000.000000", "20240102010000.000000", keys)
    assert matches_combined(moments, "20240101", "2345")
    assert not matches_combined(moments, "20240102", "0045")
