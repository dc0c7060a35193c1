"""The oldest files of a trail removed: the rest is verified, and nothing else may be missing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.cli import main
from isocenter.services.security.audit.hash_chain import Seal
from isocenter.services.security.audit.trail import segments_of
from isocenter.services.security.audit.trail_reader import read_all
from isocenter.services.security.audit.trail_removal import REMOVED_FILE, plan, remove
from isocenter.services.security.audit.trail_verification import verify
from services.security.audit.trails import KEY, entry, filled, of_event, parsed, trail
from support.studies import write_studies

LATER = datetime(2026, 11, 22, tzinfo=UTC)
EARLIER = datetime(2026, 11, 21, tzinfo=UTC)
Output = pytest.CaptureFixture[str]


@pytest.mark.parametrize("key", [None, KEY])
def test_what_is_left_is_verified(tmp_path: Path, key: bytes | None) -> None:
    filled(tmp_path, 9, key=key, rotate_bytes=400)
    seal = Seal(key)
    before = segments_of(tmp_path)
    assert len(before) > 3
    assert plan(tmp_path, EARLIER, seal) is None
    found = plan(tmp_path, LATER, seal)
    assert found is not None
    chosen, removal = found
    assert chosen == before[:-1], "the last file stays"
    remove(tmp_path, chosen, removal, seal)
    assert segments_of(tmp_path) == before[-1:]
    verdict = verify(tmp_path, key=key)
    assert verdict.is_good, verdict.faults
    assert verdict.removed == removal
    assert removal.last.sequence == removal.records == before[-1].first - 1
    # It goes on, and once more is removed.
    made = trail(tmp_path, key=key, rotate_bytes=400)
    for number in range(9):
        made.append([entry(f"more {number}")])
    again = plan(tmp_path, LATER, seal)
    assert again is not None
    remove(tmp_path, *again, seal)
    assert again[1].records == again[1].last.sequence > removal.records
    assert verify(tmp_path, key=key).is_good


@pytest.mark.parametrize("key", [None, KEY])
def test_nothing_more_may_be_missing(tmp_path: Path, key: bytes | None) -> None:
    filled(tmp_path, 9, key=key, rotate_bytes=400)
    found = plan(tmp_path, LATER, Seal(key))
    assert found is not None
    chosen, removal = found
    assert len(chosen) > 2
    one_less = chosen[:-1]
    remove(tmp_path, one_less, removal, Seal(key))
    assert verify(tmp_path, key=key).is_good, "what a crash has left is passed over"
    segments_of(tmp_path)[-1].path.unlink()
    assert not verify(tmp_path, key=key).is_good


@pytest.mark.parametrize("key", [None, KEY])
def test_a_seal_that_was_changed_or_taken_is_told(tmp_path: Path, key: bytes | None) -> None:
    filled(tmp_path, 9, key=key, rotate_bytes=400)
    found = plan(tmp_path, LATER, Seal(key))
    assert found is not None
    remove(tmp_path, *found, Seal(key))
    seal = tmp_path / REMOVED_FILE
    content = seal.read_bytes()
    seal.write_bytes(content.replace(b'"records":', b'"records":1'))
    verdict = verify(tmp_path, key=key)
    assert verdict.faults[0].place == REMOVED_FILE
    seal.unlink()
    assert not verify(tmp_path, key=key).is_good
    # Whoever has no key can make no seal for a trail with one.
    remove(tmp_path, [], found[1], Seal())
    assert verify(tmp_path, key=key).is_good == (key is None)


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
