"""Date-times: what is one, ranges of them, and moments in several time zones."""

from __future__ import annotations

import pytest

from isocenter.services.archive.index.date_times import is_date_time, normal, split_range
from isocenter.services.archive.index.matching import matches_text
from isocenter.services.archive.index.query import Range, SingleValue


@pytest.mark.parametrize(
    ("text", "both"),
    [
        ("2024-2025", ("2024", "2025")),
        ("20240101-", ("20240101", None)),
        ("-20240101120000.5", (None, "20240101120000.5")),
        ("20240101-0500-20240102-0500", ("20240101-0500", "20240102-0500")),
        ("20240101+0100-", ("20240101+0100", None)),
        ("20240101-0500", None),
        ("20240101", None),
        ("-", None),
        ("x-y", None),
        ("202401.5-", None),
    ],
)
def test_ranges(text: str, both: tuple[str | None, str | None] | None) -> None:
    assert split_range(text) == both


def test_what_is_a_date_time() -> None:
    for text in ("2024", "202401", "20240101", "20240101120000.123456+0100", "202401011200-1200"):
        assert is_date_time(text)
    for text in ("", "24", "2024010", "20240101.5", "20240101120000.", "20240101+0160", "x"):
        assert not is_date_time(text)


def test_the_same_moment_in_several_ways() -> None:
    assert normal("2024") == normal("20240101000000")
    assert normal("20240101120000+0100") == normal("202401011100+0000")
    assert normal("20240101003000+0100") == "20231231233000.000000+0000"
    assert normal("x") == "x"


@pytest.mark.parametrize(
    ("value", "low", "high", "inside"),
    [
        ("20240131235959.9", None, "202401", True),
        ("20240201", None, "202401", False),
        ("20240229120000", "202402", "202402", True),
        ("20240101120000", "2024", "2024", True),
        ("20240101120000+0100", "20240101110000+0000", "20240101110000+0000", True),
        ("20240101120000+0100", "20240101120000+0000", None, False),
        # Of which one does not say where: as they stand.
        ("20240101120000", "20240101120000+0900", None, True),
        ("x", None, "2025", False),
        ("", "2024", None, False),
        ("x\\20240101", "2024", None, True),
    ],
)
def test_moments_in_a_range(value: str, low: str | None, high: str | None, inside: bool) -> None:
    assert matches_text("DT", Range(low, high), value) is inside


def test_one_moment() -> None:
    assert matches_text("DT", SingleValue("20240101120000+0100"), "20240101110000.0+0000")
    assert not matches_text("DT", SingleValue("20240101"), "20240102")
