"""rules and node: what is made, changed and told, and what bad input changes: nothing."""

from __future__ import annotations

import base64
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.cli import main
from services.archive_support import STUDY
from services.cli_support import write_object
from services.security.audit.trails import messages

Output = pytest.CaptureFixture[str]


@pytest.fixture
def archive(tmp_path: Path, capsys: Output) -> str:
    """A data directory with a study, and a node."""
    folder = tmp_path / "files"
    folder.mkdir()
    write_object(folder, 1)
    data_dir = str(tmp_path / "data")
    assert main(["import", str(folder), "--data-dir", data_dir, "-q"]) == 0
    assert main(["node", "add", "FAR@192.0.2.1:104", "--name", "far", "--data-dir", data_dir]) == 0
    capsys.readouterr()
    return data_dir


def run(archive: str, *words: str) -> int:
    """The exit code, also where the arguments alone are wrong."""
    try:
        return main([*words, "--data-dir", archive])
    except SystemExit as error:
        return int(error.code or 0)


def rules(archive: str, capsys: Output) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(archive, "rules", "list", "--json") == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def recorded(archive: str) -> str:
    """What the audit trail says of what was changed."""
    found = [
        base64.b64decode(each.get("value")).decode()
        for message in messages(Path(archive) / "audit")
        for each in message.iter("ParticipantObjectDetail")
    ]
    return "\n".join(found)


def test_rules_are_made_changed_ordered_and_removed(
    archive: str, capsys: Output, tmp_path: Path
) -> None:
    when = ("--when", "modality=CT", "--when", "modality=MR", "--when", "calling_ae=!FAR")
    assert (
        run(archive, "rules", "add", "one", *when, "--forward", "FAR", "--hours", "8:00-9:00") == 0
    )
    file = tmp_path / "rule.toml"
    file.write_text('[[rules]]\nname = "x"\ncoerce = [{ remove = "PatientComments" }]\n')
    assert run(archive, "rules", "add", "two", "--toml", str(file), "--disabled") == 0
    one, two = rules(archive, capsys)
    assert one["when"] == {"modality": ["CT", "MR"], "calling_ae": ["!FAR"]}
    assert (one["forward"], one["hours"]) == (["far"], "8:00-9:00")
    assert (two["name"], two["enabled"]) == ("two", False)
    assert run(archive, "rules", "change", "one", "--delay-minutes", "5", "--priority", "3") == 0
    assert run(archive, "rules", "enable", "two") == 0
    assert run(archive, "rules", "order", "two", "one") == 0
    found = {one["name"]: one for one in rules(archive, capsys)}
    assert list(found) == ["two", "one"]
    assert found["one"]["delay_minutes"] == 5
    assert found["one"]["when"]["modality"] == ["CT", "MR"], "the rest stays"
    assert (found["two"]["priority"], found["two"]["enabled"]) == (3, True)
    assert run(archive, "rules", "remove", "one", "two") == 0
    told = recorded(archive)
    assert "rule 'one' was added" in told
    assert "rules were put in order: 'two', 'one'" in told
    assert "node far was added" in told


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add", "x", "--forward", "NOBODY"), 2, "NOBODY is neither a node nor one of the peers"),
        (("add", "x", "--when", "modality"), 2, "say FIELD=PATTERN"),
        (("add", "x", "--compress", "zip"), 2, "compress must be"),
        (("add", "x", "--toml", "missing.toml"), 2, "missing.toml"),
        (("add", "x", "--commit"), 2, "commit is about sending"),
        (("change", "x", "--area", "y"), 1, "there is no rule 'x'"),
        (("change", "x"), 1, "there is no rule 'x'"),
        (("remove", "x"), 1, "there is no rule 'x'"),
        (("order", "x"), 2, "an order names each rule"),
        (("explain", "1.2.99"), 1, "no such study"),
        (("explain", "nothing.dcm"), 1, "nothing.dcm"),
        (("list",), 2, "there are no rules"),
    ],
)
def test_what_cannot_be_is_told_and_changes_nothing(
    archive: str, capsys: Output, words: tuple[str, ...], code: int, said: str
) -> None:
    assert run(archive, "rules", *words) == code
    assert said in capsys.readouterr().err


def test_a_study_is_explained_rule_by_rule(archive: str, capsys: Output) -> None:
    for name, pattern in (("ct", "CT"), ("mr", "MR")):
        assert run(archive, "rules", "add", name, "--when", f"modality={pattern}") == 0
    assert run(archive, "rules", "off") == 0
    capsys.readouterr()
    assert run(archive, "rules", "explain", STUDY) == 0
    out = capsys.readouterr().out
    assert "ct: matches" in out
    assert "mr: does not match: modality is not 'MR'" in out
    assert run(archive, "rules", "explain", STUDY, "--json") == 0
    (objects,) = json.loads(capsys.readouterr().out)["objects"]
    assert objects["reasons"][1] == {
        "rule": "mr", "matches": False, "why": "modality is not 'MR'",
    }  # fmt: skip


def test_who_only_looks_migrates_nothing(archive: str, capsys: Output) -> None:
    assert run(archive, "rules", "add", "one", "--area", "x") == 0
    index = Path(archive) / "index.db"
    with sqlite3.connect(index) as connection:
        connection.execute(
            "DELETE FROM schema_version WHERE version = (SELECT max(version) FROM schema_version)"
        )
    connection.close()
    before = version(index)
    capsys.readouterr()
    assert run(archive, "rules", "list") == 2
    assert "of another version" in capsys.readouterr().err
    assert version(index) == before


def version(index: Path) -> int:
    with sqlite3.connect(index) as connection:
        (found,) = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    connection.close()
    return int(found)


def test_a_node_is_limited_held_and_released(archive: str, capsys: Output) -> None:
    words = ("--associations", "1", "--bandwidth", "2.5M", "--hours", "mon-fri 20:00-06:00")
    assert run(archive, "node", "limit", "far", *words) == 0
    assert run(archive, "node", "hold", "far") == 0
    capsys.readouterr()
    assert run(archive, "node", "list", "--json") == 0
    (far,) = json.loads(capsys.readouterr().out)
    assert (far["associations"], far["bandwidth"], far["hours"], far["held"]) == (
        1, 2_500_000, "mon-fri 20:00-06:00", True,
    )  # fmt: skip
    assert run(archive, "node", "release", "far") == 0
    for wrong, code in (
        (("limit", "far"), 2),
        (("limit", "far", "--bandwidth", "fast"), 2),
        (("limit", "far", "--hours", "at night"), 2),
        (("limit", "far", "--associations", "-1"), 2),
        (("limit", "near", "--associations", "1"), 1),
        (("hold", "near"), 1),
    ):
        assert run(archive, "node", *wrong) == code
    told = recorded(archive)
    assert "limits of far were changed" in told
    assert "far was released" in told
