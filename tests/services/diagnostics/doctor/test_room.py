"""For how long there is room, and what makes some."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from isocenter.services.archive.index_figures import RoomUsage
from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.services.diagnostics.doctor.capacity import assess_room
from isocenter.services.diagnostics.findings import Severity
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.inspection import inspect_room
from storage.database.test_retention import DAY, NOW, add

GIB = 1 << 30


def settings(tmp_path: Path, **values: Any) -> Settings:
    return load_settings(environ={}, overrides={"storage.data_dir": str(tmp_path)} | values)


def look(**values: Any) -> RoomUsage:
    return RoomUsage(
        **{
            "size": 10 * GIB, "bytes_a_day": 0.0, "trash_size": 0, "retention_size": 0,
            "committed_size": 0,
        }
        | values
    )  # fmt: skip


@pytest.mark.parametrize(
    ("free", "found", "severity", "words"),
    [
        pytest.param(500, look(), None, "", id="nothing comes"),
        pytest.param(500, look(bytes_a_day=GIB), None, "", id="for most of a year"),
        pytest.param(
            230, look(bytes_a_day=GIB), Severity.NOTE, "80 % of the disk are used in 30 days",
            id="for a month",
        ),
        pytest.param(
            210, look(bytes_a_day=GIB), Severity.WARNING, "are used in 10 days", id="days"
        ),
        pytest.param(
            0.1, look(trash_size=GIB), Severity.ERROR, "stay free for the index", id="no room"
        ),
    ],
)  # fmt: skip
def test_for_how_long_there_is_room(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: float,
    found: RoomUsage,
    severity: Severity | None,
    words: str,
) -> None:
    usage = SimpleNamespace(
        total=1_000 * GIB, used=round((1_000 - free) * GIB), free=round(free * GIB)
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    examined = assess_room(found, settings(tmp_path))
    assert examined.severity is severity
    assert words in "".join(finding.text for finding in examined.findings)
    if found.trash_size:
        assert "isocenter trash purge --all frees 1.0 GiB" in examined.findings[0].cure


def test_a_quota_that_is_nearly_used_up(tmp_path: Path) -> None:
    limited = settings(tmp_path, **{"storage.max_bytes": 12 * GIB, "storage.reserve": 0})
    assert assess_room(look(size=9 * GIB), limited).severity is None
    examined = assess_room(look(size=9 * GIB, trash_size=GIB), limited)
    assert "83% of the quota" in "".join(finding.text for finding in examined.findings)
    assert examined.severity is Severity.WARNING
    used_up = assess_room(look(size=9 * GIB, trash_size=3 * GIB), limited)
    assert used_up.severity is Severity.ERROR
    assert "isocenter trash purge --all frees 3.0 GiB" in used_up.findings[-1].cure


def test_little_is_said_in_small_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(total=272 << 20, used=258 << 20, free=13 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    found = assess_room(look(), settings(tmp_path))
    assert "13.0 MiB are free, and 13.5 MiB stay free" in found.findings[0].text


async def test_what_takes_room_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    async with open_sqlite_database(path) as database:
        for number in range(1, 8):
            await add(database, f"1.{number}", date="20200101" if number < 3 else "20260101")
    with sqlite3.connect(path) as connection:
        for number in range(1, 5):
            old = datetime.fromtimestamp(NOW - (9 - number) * 30 * DAY, UTC)
            connection.execute(
                "UPDATE instance SET created_at = ? WHERE sop_instance_uid = ?",
                (old.isoformat(timespec="milliseconds"), f"1.{number}.1"),
            )
        connection.execute(
            "UPDATE instance SET created_at = ? WHERE created_at > ?",
            (
                datetime.fromtimestamp(NOW - DAY, UTC).isoformat(timespec="milliseconds"),
                datetime.fromtimestamp(NOW - 7 * DAY, UTC).isoformat(timespec="milliseconds"),
            ),
        )
        for uid, state in (("1.1.1", "done"), ("1.2.1", "done"), ("1.2.1", "failed")):
            connection.execute(
                "INSERT INTO forward (sop_instance_uid, sop_class_uid, study_instance_uid, "
                "destination, rule, priority, wants_commitment, delete_after, state, created_at, "
                "since, due_at) VALUES (?, '', '', ?, 'r', 0, 1, 0, ?, 0, 0, 0)",
                (uid, state, state),
            )
    rule = RetentionRule(name="old", study_days=365)
    found = inspect_room(path, [rule, rule], seconds=20, now=NOW)
    assert found == RoomUsage(
        size=7_000, bytes_a_day=3_000 / 7, trash_size=0, retention_size=2_000, committed_size=1_000
    )
    assert inspect_room(tmp_path / "none.db", [], seconds=5, now=NOW) is None
