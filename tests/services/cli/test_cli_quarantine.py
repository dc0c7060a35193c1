"""quarantine: what is said, what is asked, and what bad input changes: nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isocenter.services.cli import main
from isocenter.services.system.users import acting_user
from services.archive_support import STUDY, uid
from services.cli_support import write_object
from services.security.audit.trails import detail, messages, of_event

Output = pytest.CaptureFixture[str]


@pytest.fixture
def archive(tmp_path: Path, capsys: Output) -> str:
    """A data directory with three objects of two studies."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in (1, 2):
        write_object(folder, number)
    write_object(folder, 3, study="1.2.9", series="1.2.9.1")
    data_dir = str(tmp_path / "data")
    assert main(["import", str(folder), "--data-dir", data_dir, "-q"]) == 0
    capsys.readouterr()
    return data_dir


def run(archive: str, *words: str) -> int:
    """The exit code, also where the arguments alone are wrong."""
    try:
        return main(["quarantine", *words, "--data-dir", archive])
    except SystemExit as error:
        return int(error.code or 0)


def rows(archive: str, capsys: Output, command: str = "quarantine") -> list[dict[str, object]]:
    capsys.readouterr()
    assert main([command, "list", "--json", "--data-dir", archive]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def instances(archive: str, capsys: Output) -> int:
    capsys.readouterr()
    assert main(["db", "stats", "--data-dir", archive]) == 0
    return int(capsys.readouterr().out.split("instances")[1].split()[0])


def test_add_show_release(archive: str, capsys: Output) -> None:
    assert run(archive, "add", "--study", STUDY, "--reason", "whose?", "--yes") == 0
    assert "quarantined 2 instances: " in capsys.readouterr().out
    assert instances(archive, capsys) == 1
    (row,) = rows(archive, capsys)
    assert (row["instances"], row["studies"], row["reason"]) == (2, 1, "whose?")
    assert str(row["by"]).startswith(f"{acting_user()}@")
    name = str(row["quarantine"])
    assert rows(archive, capsys, "trash") == []
    assert run(archive, "show", name, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(one["sop_instance_uid"] for one in found) == [uid(1), uid(2)]
    assert main(["trash", "restore", name, "--data-dir", archive]) == 1
    assert main(["trash", "purge", "--all", "--yes", "--data-dir", archive]) == 0
    assert run(archive, "release", name, "--instance", uid(1)) == 0
    assert "released 1 instance" in capsys.readouterr().out
    assert run(archive, "release", "--study", STUDY) == 0
    assert instances(archive, capsys) == 3
    assert rows(archive, capsys) == []
    assert main(["db", "verify", "--data-dir", archive]) == 0
    shown = of_event(messages(Path(archive) / "audit"), "110103")
    said = [(one[0].get("EventActionCode"), detail(one[-2], "Reason")) for one in shown[-3:]]
    assert said == [("U", b"whose?"), ("C", b"whose?"), ("C", b"whose?")]


def test_delete(archive: str, capsys: Output) -> None:
    assert run(archive, "add", "--instance", uid(1), "--reason", "whose?", "--yes") == 0
    (row,) = rows(archive, capsys)
    name = str(row["quarantine"])
    assert run(archive, "delete", name, "--reason", "a test scan", "--yes") == 0
    assert f"isocenter trash restore {name}" in capsys.readouterr().out
    assert rows(archive, capsys) == []
    (row,) = rows(archive, capsys, "trash")
    assert (row["deletion"], row["reason"]) == (name, "a test scan")
    assert run(archive, "delete", name, "--reason", "again", "--yes") == 1
    assert "isocenter quarantine list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["add", "--reason", "x", "--yes"], 2, "what shall be quarantined"),
        (["add", "--study", "1.2.3.99", "--reason", "x", "--yes"], 1, "nothing in the archive"),
        (["add", "--study", STUDY, "--yes"], 2, "--reason"),
        (["add", "--study", STUDY, "--reason", " ", "--yes"], 2, "a reason is one line"),
        (["add", "--study", STUDY, "--reason", "x"], 2, "--yes"),
        (["release"], 2, "which? Give a QUARANTINE"),
        (["release", "nothing"], 1, "nothing that is quarantined"),
        (["show", "nothing"], 1, "nothing that is quarantined"),
        (["delete", "nothing", "--reason", "x", "--yes"], 1, "nothing that is quarantined"),
    ],
)
def test_bad_input_changes_nothing(
    archive: str, capsys: Output, arguments: list[str], code: int, words: str
) -> None:
    assert run(archive, *arguments) == code
    assert words in capsys.readouterr().err
    assert instances(archive, capsys) == 3
