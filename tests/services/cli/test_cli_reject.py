"""reject: notes are made, listed and taken back from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isocenter.services.cli import main
from services.archive_support import STUDY, uid
from services.cli_support import write_object

Output = pytest.CaptureFixture[str]


@pytest.fixture
def archive(tmp_path: Path, capsys: Output) -> str:
    """A data directory with two objects of a study."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in (1, 2):
        write_object(folder, number)
    data_dir = str(tmp_path / "data")
    assert main(["import", str(folder), "--data-dir", data_dir, "-q"]) == 0
    capsys.readouterr()
    return data_dir


def run(archive: str, *words: str) -> int:
    try:
        return main(["reject", *words, "--data-dir", archive])
    except SystemExit as error:
        return int(error.code or 0)


def instances(archive: str, capsys: Output) -> int:
    capsys.readouterr()
    assert main(["db", "stats", "--data-dir", archive]) == 0
    return int(capsys.readouterr().out.split("instances")[1].split()[0])


def test_add_list_revoke(archive: str, capsys: Output) -> None:
    add = ["add", "--instance", uid(1), "--for", "quality", "--reason", "motion", "--yes"]
    assert run(archive, *add) == 0
    note = capsys.readouterr().out.split("rejected by ")[1].strip()
    assert instances(archive, capsys) == 2  # one is hidden, and the note is there
    assert run(archive, "list", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["note"], row["code"], row["instances"], row["state"]) == (
        note, "113001", 1, "applied",
    )  # fmt: skip
    assert (row["study_instance_uid"], row["text"]) == (STUDY, "motion")
    assert run(archive, "list") == 0
    assert note in capsys.readouterr().out
    assert run(archive, "revoke", note, "--reason", "good enough", "--yes") == 0
    assert "1 instance can be found again" in capsys.readouterr().out
    assert instances(archive, capsys) == 2
    assert main(["db", "verify", "--data-dir", archive]) == 0
    assert run(archive, "revoke", note, "--reason", "again", "--yes") == 1
    assert "isocenter reject list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["add", "--for", "quality", "--reason", "x", "--yes"], 2, "what shall be rejected"),
        (["add", "--study", STUDY, "--reason", "x", "--yes"], 2, "--for"),
        (["add", "--study", STUDY, "--for", "fun", "--reason", "x", "--yes"], 2, "invalid choice"),
        (["add", "--study", "1.2.9", "--for", "quality", "--reason", "x", "--yes"], 1, "nothing"),
        (["add", "--study", STUDY, "--for", "quality", "--reason", "x"], 2, "--yes"),
        (["revoke", "1.2.9", "--reason", "x", "--yes"], 1, "no such rejection note"),
        (["revoke", "../x", "--reason", "x", "--yes"], 2, "is no UID"),
    ],
)
def test_bad_input_changes_nothing(
    archive: str, capsys: Output, arguments: list[str], code: int, words: str
) -> None:
    assert run(archive, *arguments) == code
    assert words in capsys.readouterr().err
    assert instances(archive, capsys) == 2
