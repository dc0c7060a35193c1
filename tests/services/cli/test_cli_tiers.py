"""`isocenter tiers`, as an operator types it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from isocenter.services.cli import main
from services.archive_support import STUDY, uid
from services.cli_support import write_object

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    config = tmp_path / "isocenter.toml"
    config.write_text(
        f"""
        [storage]
        data_dir = "{tmp_path / "data"}"
        [tiers]
        warm = "file://{tmp_path / "warm"}"
        cold = "file://{tmp_path / "cold"}"
        """
    )

    def call(*words: object) -> tuple[int, str, str]:
        code = main([*map(str, words), "--config", str(config)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    files = tmp_path / "files"
    files.mkdir()
    for number in (1, 2):
        write_object(files, number)
    code, out, err = call("import", files)
    assert code == 0, out + err
    return call


def test_studies_are_moved_shown_and_moved_back(call: Call, tmp_path: Path) -> None:
    code, out, _ = call("tiers", "status")
    assert code == 0
    cells = [re.findall(r"[\w.:/~-]+", line)[:2] for line in out.splitlines()]
    for row in (["hot", "2"], ["warm", "0"], ["cold", "0"]):
        assert row in cells
    code, out, err = call("tiers", "move", STUDY, "--to", "cold")
    assert code == 0, err
    assert "moved 2 objects" in out
    assert len(list((tmp_path / "cold" / "objects").rglob("*.dcm"))) == 2
    code, out, _ = call("tiers", "status", "--json")
    status = json.loads(out)
    assert {each["tier"]: each["instances"] for each in status["tiers"]} == {
        "hot": 0, "warm": 0, "cold": 2,
    }  # fmt: skip
    assert {each["tier"]: each["availability"] for each in status["tiers"]} == {
        "hot": "ONLINE", "warm": "ONLINE", "cold": "NEARLINE",
    }  # fmt: skip
    assert status["orders"] == []
    code, out, err = call("db", "verify")
    assert code == 0, out + err
    code, out, _ = call("tiers", "move", "--all", "--from", "cold", "--to", "hot")
    assert code == 0
    assert "moved 2 objects" in out
    code, out, _ = call("audit", "show")
    assert "moved to the tier cold" in out


def test_studies_are_pinned(call: Call) -> None:
    code, out, _ = call("tiers", "pin", STUDY, "--tier", "hot", "--reason", "trial 17")
    assert code == 0
    assert f"{STUDY} is kept in hot" in out
    code, out, _ = call("tiers", "status")
    assert "trial 17" in out
    assert call("tiers", "unpin", STUDY)[0] == 0
    code, _, err = call("tiers", "unpin", STUDY)
    assert code == 1
    assert "is not pinned" in err
    code, out, _ = call("audit", "show")
    assert "kept in the tier hot: trial 17" in out


def test_a_damaged_object_is_named(call: Call, tmp_path: Path) -> None:
    (path,) = (tmp_path / "data" / "objects").rglob(f"{uid(1)}~*.dcm")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    code, out, err = call("tiers", "move", STUDY, "--to", "warm")
    assert code == 1
    assert "moved 1 object" in out
    assert f"stays: {uid(1)}" in err
    code, out, _ = call("tiers", "status")
    assert uid(1) in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["move", "--to", "cold"], "name studies, or give --all"),
        (["move", STUDY, "--all", "--from", "cold", "--to", "hot"], "name studies, or give"),
        (["move", "--all", "--to", "hot"], "name studies, or give --all"),
    ],
)
def test_wrong_words_are_refused(call: Call, words: list[str], said: str) -> None:
    code, _, err = call("tiers", *words)
    assert code == 2
    assert said in err


def test_an_archive_without_tiers_says_how_to_have_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], call: Call
) -> None:
    assert main(["tiers", "status", "--data-dir", str(tmp_path / "data")]) == 1
    assert "tier-warm.url" in capsys.readouterr().err
    for name in ("warm", "cold"):
        (tmp_path / "data" / f"tier-{name}.url").unlink(missing_ok=True)
    assert main(["tiers", "status", "--data-dir", str(tmp_path / "data")]) == 2
    assert "set tiers.warm or tiers.cold" in capsys.readouterr().err
