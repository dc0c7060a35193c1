"""How a trail grows, and when its disk is full of it."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from isocenter.services.cli import main
from isocenter.services.composition.audit import audit_folder, is_trail_enabled, keeping_of
from isocenter.services.diagnostics.doctor.audit_trail import check_audit_trail
from isocenter.services.diagnostics.doctor.check import CheckResult
from isocenter.services.diagnostics.findings import Severity
from isocenter.services.security.audit.trail_compression import compress_closed
from isocenter.services.security.audit.trail_growth import TrailGrowth, growth_of, trail_size
from isocenter.services.security.audit.trail_segments import segments_of
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings
from services.security.audit.trails import entry, filled, trail

NOW = datetime.now(UTC)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def grown(folder: Path, days: int, *, a_day: int = 4, text: str = "x" * 2_000) -> None:
    """A trail of so many days until now, with a file for each record but the last."""
    made = trail(folder, rotate_bytes=1)
    for hours in range(days * 24, -1, -24 // a_day):
        one = entry(text)
        time = NOW - timedelta(hours=hours)
        object.__setattr__(one, "time", time.isoformat(timespec="microseconds"))
        made.append([one])


def look(folder: Path, *, compress: bool = False, keep_days: int = 0) -> TrailGrowth:
    return growth_of(folder, compress=compress, keep_days=keep_days, now=NOW)


def test_the_pace_is_that_of_the_last_month(tmp_path: Path) -> None:
    grown(tmp_path, 20, a_day=1, text="x" * 20_000)
    (tmp_path / "old").mkdir()
    growth = look(tmp_path)
    assert growth.files == 21
    assert growth.size == trail_size(tmp_path)
    assert growth.since == NOW - timedelta(days=20)
    assert growth.bytes_a_day == pytest.approx(20_400 * 21 / 20, rel=0.05)
    assert growth.days_until_full == pytest.approx(growth.free / growth.bytes_a_day)
    # What came in another time does not count.
    busy = tmp_path / "busy"
    made = trail(busy, rotate_bytes=1)
    for days, size in ((300, 100_000), (200, 100_000), (29, 1_000), (1, 1_000)):
        one = entry("x" * size)
        object.__setattr__(one, "time", (NOW - timedelta(days=days)).isoformat())
        made.append([one])
    assert look(busy).bytes_a_day == pytest.approx(2 * 1_330 / 29, rel=0.05)


def test_one_file_of_a_year_says_how_a_year_was(tmp_path: Path) -> None:
    made = trail(tmp_path)
    for days in range(400, 0, -1):
        one = entry("x" * 1_000)
        object.__setattr__(one, "time", (NOW - timedelta(days=days)).isoformat())
        made.append([one])
    assert look(tmp_path).bytes_a_day == pytest.approx(1_330, rel=0.05)


def test_what_is_to_be_compressed_counts_as_compressed(tmp_path: Path) -> None:
    grown(tmp_path, 5)
    before = look(tmp_path)
    assert before.bytes_a_day is not None
    compress_closed(tmp_path)
    after = look(tmp_path, compress=True)
    assert after.compressed == after.files - 1
    assert after.size < before.size
    assert after.bytes_a_day is not None
    assert after.bytes_a_day < before.bytes_a_day / 4


def test_a_day_has_to_be_over(tmp_path: Path) -> None:
    growth = look(tmp_path)
    assert (growth.files, growth.since, growth.bytes_a_day) == (0, None, None)
    filled(tmp_path, 3, rotate_bytes=1)
    growth = growth_of(
        tmp_path, compress=True, keep_days=0, now=datetime(2026, 11, 21, 12, tzinfo=UTC)
    )
    assert growth.files == 3
    assert growth.bytes_a_day is None
    assert growth.days_until_full is None


def test_with_a_rule_it_stops_growing(tmp_path: Path) -> None:
    grown(tmp_path, 10)
    growth = look(tmp_path, keep_days=20)
    assert growth.bytes_a_day is not None
    assert growth.largest == pytest.approx(20 * growth.bytes_a_day)
    assert growth.days_until_full is None
    forever = look(tmp_path)
    assert forever.largest is None
    assert forever.days_until_full is not None


def test_damage_keeps_nobody_from_counting(tmp_path: Path) -> None:
    grown(tmp_path, 5)
    compress_closed(tmp_path)
    first, second = segments_of(tmp_path)[:2]
    first.path.write_bytes(b"nothing")
    second.path.write_bytes(second.path.read_bytes()[:20])
    growth = look(tmp_path)
    assert growth.since == NOW - timedelta(days=4, hours=12)
    assert growth.bytes_a_day


@pytest.mark.parametrize("keep_days", [0, 30])
def test_the_command_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keep_days: int
) -> None:
    folder = tmp_path / "data" / "audit"
    grown(folder, 10)
    config = tmp_path / "isocenter.toml"
    config.write_text(f"[storage]\ndata_dir = 'data'\n[audit]\nkeep_days = {keep_days}\n")
    assert main(["audit", "size", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert f"in 41 files (0 compressed) since {NOW - timedelta(days=10):%Y-%m-%d}" in said
    assert "KiB a day" in said
    assert ("no file is ever removed" in said) == (not keep_days)
    assert ("full of it in" in said) == (not keep_days)
    assert main(["audit", "size", "--json", "--config", str(config)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["files"] == 41
    assert facts["keep_days"] == keep_days
    assert (facts["days_until_full"] is None) == bool(keep_days)
    assert main(["audit", "size", "--trail", str(folder)]) == 0
    assert main(["audit", "size", "--trail", str(tmp_path)]) == 2


def examined_trail(settings: Settings) -> CheckResult:
    folder = audit_folder(settings) if is_trail_enabled(settings) else None
    return check_audit_trail(folder, lambda: keeping_of(settings))


@pytest.mark.parametrize(
    ("free", "severity"),
    [(10 << 30, None), (2_000_000, Severity.NOTE), (100_000, Severity.WARNING)],
)
def test_doctor_says_when_the_disk_is_full_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, severity: Severity | None
) -> None:
    grown(tmp_path / "audit", 10)
    settings = load_settings(
        environ={}, overrides={"storage.data_dir": str(tmp_path), "audit.compress": False}
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 1 << 39, free))
    examined = examined_trail(settings)
    assert examined.severity == severity
    assert "a day" in examined.seen
    assert examined.facts["free_bytes"] == free


def test_doctor_says_why_old_files_are_not_removed(tmp_path: Path) -> None:
    grown(tmp_path / "audit", 10)
    settings = load_settings(
        environ={}, overrides={"storage.data_dir": str(tmp_path), "audit.keep_days": 3}
    )
    assert examined_trail(settings).severity is None, "a server will do it"
    first = segments_of(tmp_path / "audit")[0].path
    first.write_bytes(first.read_bytes().replace(b"CT1", b"CT2"))
    examined = examined_trail(settings)
    assert examined.severity is Severity.WARNING
    assert "broken" in examined.findings[0].text


def test_doctor_knows_a_trail_that_is_not_kept_or_not_begun(tmp_path: Path) -> None:
    settings = load_settings(environ={}, overrides={"storage.data_dir": str(tmp_path)})
    assert "none yet" in examined_trail(settings).seen
    settings = load_settings(
        environ={}, overrides={"storage.data_dir": str(tmp_path), "audit.enabled": False}
    )
    assert "none is kept" in examined_trail(settings).seen
