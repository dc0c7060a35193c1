"""Values as people read them."""

from __future__ import annotations

import pytest

from isocenter.services.web.ui.texts import (
    date_of_form,
    date_text,
    list_text,
    moment_text,
    person_name,
    size_text,
    time_text,
    written_moment_text,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Doe^Jane", "Doe, Jane"),
        ("Doe^Jane^M^Dr^Jr", "Doe, Dr Jane M, Jr"),
        ("Doe", "Doe"),
        ("^Jane", "Jane"),
        ("", ""),
        ("^^^^", ""),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou (山田, 太郎)"),
        ("=山田^太郎", "山田, 太郎"),
        ("A^B\\C^D", "A, B; C, D"),
        ("A^B^C^D^E^F^G", "A, D B C, E, F, G"),
    ],
)
def test_a_name_is_read_family_name_first(value: str, expected: str) -> None:
    assert person_name(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("20261129", "2026-11-29"), ("2026.11.29", "2026-11-29"), ("", ""), ("soon", "soon")],
)
def test_a_date_is_written_as_people_write_it(value: str, expected: str) -> None:
    assert date_text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("170530.123", "17:05:30"), ("1705", "17:05"), ("17", "17"), ("17:05:30", "17:05:30"),
     ("noon", "noon"), ("", ""), ("123", "123")],
)  # fmt: skip
def test_a_time_has_colons(value: str, expected: str) -> None:
    assert time_text(value) == expected


def test_several_values_are_a_list() -> None:
    assert list_text("CT\\SR\\") == "CT, SR"


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_500, "1.5 kB"), (33_400_000, "33 MB"),
     (2e15, "2 PB"), (5e18, "5,000 PB")],
)  # fmt: skip
def test_a_size_has_the_unit_that_fits(size: float, expected: str) -> None:
    assert size_text(size) == expected


def test_a_day_of_a_form_is_checked() -> None:
    assert date_of_form(" 2026-11-29 ") == "20261129"
    assert date_of_form("") == ""
    with pytest.raises(ValueError, match="month"):
        date_of_form("2026-13-01")


def test_a_moment_says_its_zone() -> None:
    assert moment_text(0) == "1970-01-01 00:00 UTC"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-11-30T02:47:39.194229Z", "2026-11-30 02:47:39"),
        ("2026-11-30T02:47:39+00:00", "2026-11-30 02:47:39"),
        ("2026-11-30T04:47:39+02:00", "2026-11-30 02:47:39"),
        ("2026-11-30T02:47:39", "2026-11-30 02:47:39"),
        ("soon", "soon"),
    ],
)
def test_a_moment_of_a_record_is_shown_to_the_second(written: str, expected: str) -> None:
    assert written_moment_text(written) == expected
