"""Usage of the room: summed, and what is to come of it."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from isocenter.services.archive.usage.figures import Total, filled_on, summed
from isocenter.services.archive.usage.ports import Usage

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()


def row(modality: str, day: str, size: int) -> Usage:
    return Usage(modality=modality, day=day, instances=1, size=size)


def test_rows_are_summed_by_modality_and_month_and_the_last_week_makes_the_pace() -> None:
    rows = [
        row("CT", "2026-10-01", 100),
        row("CT", "2026-11-23", 70),
        row("MR", "2026-11-22", 500),
        row("MR", "2026-11-30", 900),
    ]
    found = summed(rows, NOW)
    assert list(found.by_modality.items()) == [
        ("MR", Total(instances=2, size=1_400)),
        ("CT", Total(instances=2, size=170)),
    ]
    assert list(found.by_month.items()) == [
        ("2026-11", Total(instances=3, size=1_470)),
        ("2026-10", Total(instances=1, size=100)),
    ]
    # Whole days only: the 22nd is too old, and today is not over.
    assert found.bytes_a_day == 10


@pytest.mark.parametrize(
    ("free", "pace", "day"),
    [
        (1_000, 100, date(2026, 12, 10)),
        (1, 100, date(2026, 11, 30)),
        (0, 100, None),
        (1_000, 0, None),
        (1e12, 1, None),
    ],
)
def test_when_the_disk_is_full(free: float, pace: float, day: date | None) -> None:
    assert filled_on(free, pace, date(2026, 11, 30)) == day
