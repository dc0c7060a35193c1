"""The oldest files of a trail removed: the rest is verified, and nothing else may be missing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.cli import main
from isocenter.services.security.audit.removal_seal import REMOVED_FILE
from isocenter.services.security.audit.trail_compression import compress_closed
from isocenter.services.security.audit.trail_reader import read_all
from isocenter.services.security.audit.trail_removal import (
    RemovalPlan,
    RemovalRefusedError,
    plan_removal,
    remove,
)
from isocenter.services.security.audit.trail_segments import segments_of
from isocenter.services.security.audit.trail_verification import verify
from services.security.audit.trails import KEY, entry, filled, of_event, parsed, trail
from support.studies import write_studies

LATER = datetime(2026, 11, 22, tzinfo=UTC)
EARLIER = datetime(2026, 11, 21, tzinfo=UTC)
Output = pytest.CaptureFixture[str]


def planned(folder: Path, key: bytes | None) -> RemovalPlan:
    plan = plan_removal(folder, LATER, key=key)
    assert plan is not None
    return plan


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("key", [None, KEY])
def test_what_is_left_is_verified(tmp_path: Path, key: bytes | None, compressed: bool) -> None:
    filled(tmp_path, 9, key=key, rotate_bytes=400)
    if compressed:
        compress_closed(tmp_path)
    before = segments_of(tmp_path)
    assert len(before) > 3
    assert plan_removal(tmp_path, EARLIER, key=key) is None
    plan = planned(tmp_path, key)
    assert plan.segments == tuple(before[:-1]), "the last file stays"
    remove(tmp_path, plan, key=key)
    assert segments_of(tmp_path) == before[-1:]
    verdict = verify(tmp_path, key=key)
    assert verdict.is_good, verdict.faults
    assert verdict.removed == plan.removal
    assert plan.removal.last.sequence == plan.removal.records == before[-1].first - 1
    # It goes on, and once more is removed.
    made = trail(tmp_path, key=key, rotate_bytes=400)
    for number in range(9):
        made.append([entry(f"more {number}")])
    again = planned(tmp_path, key)
    remove(tmp_path, again, key=key)
    assert again.removal.records == again.removal.last.sequence > plan.removal.records
    assert verify(tmp_path, key=key).is_good


@pytest.mark.parametrize("key", [None, KEY])
def test_nothing_more_may_be_missing(tmp_path: Path, key: bytes | None) -> None:
    filled(tmp_path, 9, key=key, rotate_bytes=400)
    plan = planned(tmp_path, key)
    assert len(plan.segments) > 2
    remove(tmp_path, replace(plan, segments=plan.segments[:-1]), key=key)
    assert verify(tmp_path, key=key).is_good, "what a crash has left is passed over"
    segments_of(tmp_path)[-1].path.unlink()
    assert not verify(tmp_path, key=key).is_good


@pytest.mark.parametrize("key", [None, KEY])
def test_a_seal_that_was_changed_or_taken_is_told(tmp_path: Path, key: bytes | None) -> None:
    filled(tmp_path, 9, key=key, rotate_bytes=400)
    plan = planned(tmp_path, key)
    remove(tmp_path, plan, key=key)
    seal = tmp_path / REMOVED_FILE
    content = seal.read_bytes()
    seal.write_bytes(content.replace(b'"records":', b'"records":1'))
    verdict = verify(tmp_path, key=key)
    assert verdict.faults[0].place == REMOVED_FILE
    with pytest.raises(RemovalRefusedError, match="broken"):
        plan_removal(tmp_path, LATER, key=key)
    seal.unlink()
    assert not verify(tmp_path, key=key).is_good
    # Whoever has no key can make no seal for a trail with one.
    remove(tmp_path, replace(plan, segments=()), key=None)
    assert verify(tmp_path, key=key).is_good == (key is None)


def test_of_two_who_remove_at_once_the_larger_seal_stays(tmp_path: Path) -> None:
    made = trail(tmp_path, rotate_bytes=1)
    for day in ("20", "21", "22", "23", "24"):
        one = entry(day)
        object.__setattr__(one, "time", f"2026-11-{day}T04:00:00.000000Z")
        made.append([one])
    less, more = (
        plan_removal(tmp_path, datetime(2026, 11, day, tzinfo=UTC), key=None) for day in (22, 24)
    )
    assert less is not None
    assert more is not None
    remove(tmp_path, more, key=None)
    remove(tmp_path, less, key=None)
    verdict = verify(tmp_path)
    assert verdict.is_good, verdict.faults
    assert verdict.removed == more.removal
    assert more.removal.records == 4


def test_what_goes_must_be_unbroken_and_followed(tmp_path: Path) -> None:
    filled(tmp_path, 9, rotate_bytes=400)
    last = segments_of(tmp_path)[-1].path
    content = last.read_bytes()
    # What stays does not follow what goes.
    last.write_bytes(content.replace(b'"previous":"', b'"previous":"0'))
    with pytest.raises(RemovalRefusedError, match="broken"):
        plan_removal(tmp_path, LATER, key=None)
    last.write_bytes(content)
    assert planned(tmp_path, None)


def test_the_command_removes_and_records_it(tmp_path: Path, capsys: Output) -> None:
    data, folder = tmp_path / "data", tmp_path / "elsewhere"
    config = tmp_path / "c.toml"
    config.write_text(
        f"[storage]\ndata_dir = '{data}'\n[audit]\nfolder = 'elsewhere'\nrotate = 65536\n"
    )
    where = ["--config", str(config)]
    filled(folder, 9, rotate_bytes=400)
    write_studies(tmp_path / "in", studies=1, series=1, instances=1)
    assert main(["import", "-q", *where, str(tmp_path / "in")]) == 0
    assert not (data / "audit").exists(), "the trail is where the setting says"
    assert len(of_event(_sound(folder), "110107")) == 1
    remove_all = ["audit", "remove", *where, "--before", "2026-11-22"]
    files = len(segments_of(folder))
    assert main(remove_all) == 2
    assert "--yes" in capsys.readouterr().err
    assert main(["audit", "remove", *where, "--before", "2020-01-01", "--yes"]) == 0
    assert len(segments_of(folder)) == files, "nothing is as old"
    assert main([*remove_all, "--yes"]) == 0
    assert 0 < len(segments_of(folder)) < files
    capsys.readouterr()
    assert main(["audit", "verify", *where]) == 0
    assert "unbroken" in (said := capsys.readouterr()).out
    assert "removed on purpose" in said.err
    assert len(of_event(_sound(folder), "110113", "110132")) == 1


def _sound(folder: Path) -> list[Any]:
    """Messages without those that the trail was filled with, which are none of ours."""

    return [
        parsed(record.entry.message)
        for record in read_all(folder)
        if "note=" not in record.entry.message
    ]


def test_a_broken_trail_stays(tmp_path: Path, capsys: Output) -> None:
    folder = tmp_path / "data" / "audit"
    filled(folder, 9, rotate_bytes=400)
    first = segments_of(folder)[0].path
    first.write_bytes(first.read_bytes().replace(b"CT1", b"CT2"))
    files = segments_of(folder)
    words = ["--data-dir", str(tmp_path / "data"), "--before", "2026-11-22", "--yes"]
    assert main(["audit", "remove", *words]) == 1
    assert "broken" in capsys.readouterr().err
    assert segments_of(folder) == files


def test_what_a_collector_has_not_got_stays(tmp_path: Path, capsys: Output) -> None:
    folder = tmp_path / "data" / "audit"
    filled(folder, 9, rotate_bytes=400)
    config = tmp_path / "c.toml"
    config.write_text("[audit]\ncollectors = ['udp://127.0.0.1:1']\n")
    words = ["--data-dir", str(tmp_path / "data"), "--config", str(config)]
    assert main(["audit", "remove", *words, "--before", "2026-11-22", "--yes"]) == 1
    assert "has not got all of them" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["data", ".", "data/objects/trail", "data/certs", "data/trash"])
def test_the_folder_of_the_trail_is_nothing_else(
    tmp_path: Path, capsys: Output, folder: str
) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text(f"[storage]\ndata_dir = 'data'\n[audit]\nfolder = '{folder}'\n")
    assert main(["serve", "--config", str(config), "--check-config"]) == 2
    assert "audit.folder" in capsys.readouterr().err
