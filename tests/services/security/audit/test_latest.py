"""The latest records of a trail, read from its end."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from isocenter.services.security.audit.trail_reader import Selection, latest
from isocenter.services.security.audit.trail_segments import segments_of
from services.security.audit.trails import entry, trail


def filled(folder: Path, count: int, rotate_bytes: int) -> None:
    made_trail = trail(folder, rotate_bytes=rotate_bytes)
    for number in range(count):
        made = replace(
            entry(str(number)),
            time=f"2026-11-{number // 4 + 1:02}T10:00:0{number % 4}+00:00",
            event="Query" if number % 2 else "DICOM Instances Transferred",
        )
        made_trail.append([made])


@pytest.mark.parametrize("rotate_bytes", [1, 2_000, 1 << 20])
@pytest.mark.parametrize("limit", [1, 3, 20, 99])
def test_the_last_one_comes_first_whatever_the_files(
    tmp_path: Path, rotate_bytes: int, limit: int
) -> None:
    filled(tmp_path, 20, rotate_bytes)
    assert (len(segments_of(tmp_path)) > 1) is (rotate_bytes < 1 << 20)
    numbers = [one.sequence for one in latest(tmp_path, Selection(), limit)]
    assert numbers == list(range(20, 0, -1))[:limit]


@pytest.mark.parametrize("rotate_bytes", [1, 2_000, 1 << 20])
def test_only_what_is_wanted(tmp_path: Path, rotate_bytes: int) -> None:
    filled(tmp_path, 20, rotate_bytes)
    day = datetime.fromisoformat("2026-11-04T00:00:00+00:00")
    numbers = [one.sequence for one in latest(tmp_path, Selection(since=day), 99)]
    assert numbers == [20, 19, 18, 17, 16, 15, 14, 13]
    numbers = [one.sequence for one in latest(tmp_path, Selection(until=day, event="query"), 3)]
    assert numbers == [12, 10, 8]


def test_no_more_files_are_read_than_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, 20, 1)
    for segment in segments_of(tmp_path)[:10]:
        segment.path.write_bytes(b"not a record\n")
    day = datetime.fromisoformat("2026-11-04T00:00:00+00:00")
    assert len(latest(tmp_path, Selection(since=day), 99)) == 8
    assert [one.sequence for one in latest(tmp_path, Selection(), 2)] == [20, 19]


def test_a_trail_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert latest(tmp_path / "nothing", Selection(), 5) == []
