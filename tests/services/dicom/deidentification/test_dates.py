"""Dates moved by days or left with their year, ages that do not say more than 90."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.dicom.deidentification.dates import capped_age, shifted, year_only


@pytest.mark.parametrize(
    ("value", "vr", "days", "moved"),
    [
        ("20200301", "DA", -1, "20200229"),
        ("2020.03.01", "DA", -1, "2020.02.29"),
        ("20200301\\20200302", "DA", 7, "20200308\\20200309"),
        ("20200301120000.5+0100", "DT", -1, "20200229120000.5+0100"),
        ("2020", "DT", -1, "2019"),
        ("202003", "DT", -1, "202002"),
        ("120000", "TM", -1, "120000"),
        ("12:00:00.25", "TM", -1, "12:00:00.25"),
        ("12", "TM", -1, "12"),
        ("of Doe", "TM", -1, ""),
        ("120000471100", "TM", -1, ""),
        ("20200301120000471100", "DT", -1, ""),
        ("", "DA", 3, ""),
        ("yesterday", "DA", 3, ""),
        ("20200230", "DA", 3, ""),
        ("00010101", "DA", -1, ""),
        ("99991231", "DA", 1, ""),
        ("20203", "DT", 1, ""),
    ],
)
def test_dates_are_moved(value: str, vr: str, days: int, moved: str) -> None:
    assert shifted(value, vr, days) == moved


@given(
    st.dates(date(1900, 1, 1), date(2100, 1, 1)), st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    st.integers(-365, 365),
)  # fmt: skip
def test_intervals_stay(one: date, two: date, days: int) -> None:
    first, second = (shifted(f"{each:%Y%m%d}", "DA", days) for each in (one, two))
    moved = [date(int(each[:4]), int(each[4:6]), int(each[6:])) for each in (first, second)]
    assert moved[1] - moved[0] == two - one
    assert moved[0] - one == timedelta(days)


def test_of_a_date_its_year_stays() -> None:
    assert year_only("20200317", "DA") == "20200101"
    assert year_only("20200317120000", "DT") == "2020"
    assert year_only("120000", "TM") == ""
    assert year_only("soon", "DA") == ""


@pytest.mark.parametrize(
    ("age", "said"),
    [("045Y", "045Y"), ("089Y", "089Y"), ("090Y", "090Y"), ("101Y", "090Y"), ("99Y", "090Y"),
     ("100M", "100M"), ("3D", "003D"), ("old", ""), ("", "")],
)  # fmt: skip
def test_ages_from_ninety_on_are_one(age: str, said: str) -> None:
    assert capped_age(age) == said
