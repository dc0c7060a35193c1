"""correct, merge, move, split and corrections: what is said, and what bad input changes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from isocenter.services.cli import main
from services.archive_support import STUDY, uid
from services.cli_support import write_object
from services.security.audit.trails import audited_object, detail, messages, of_event

Output = pytest.CaptureFixture[str]
REASON = ("--reason", "a test")


@pytest.fixture
def archive(tmp_path: Path, capsys: Output) -> str:
    """A data directory with three objects of two studies, of one patient."""
    folder = tmp_path / "files"
    folder.mkdir()
    write_object(folder, 1)
    write_object(folder, 2, series="1.2.3.5")
    write_object(folder, 3, study="1.2.9", series="1.2.9.1")
    data_dir = str(tmp_path / "data")
    assert main(["import", str(folder), "--data-dir", data_dir, "-q"]) == 0
    capsys.readouterr()
    return data_dir


def run(*words: str) -> int:
    """The exit code, also where the arguments alone are wrong."""
    try:
        return main(words)
    except SystemExit as error:
        return int(error.code or 0)


def names(archive: str, capsys: Output) -> dict[str, str]:
    capsys.readouterr()
    assert main(["dbbrowser", archive, "studies", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    return {row["StudyInstanceUID"]: row["PatientName"] for row in rows}


def test_a_name_is_corrected_and_taken_back(archive: str, capsys: Output) -> None:
    where = ("--data-dir", archive)
    before = names(archive, capsys)
    correct = ("correct", "--study", STUDY, "--set", "PatientName=Right^Name", *REASON, *where)
    assert run(*correct, "--dry-run") == 0
    out = capsys.readouterr().out
    assert out.startswith("2 instances in 2 series and 1 study, ")
    assert "PatientName: " in out
    assert "-> Right^Name" in out
    assert out.endswith("nothing was changed\n")
    assert names(archive, capsys) == before
    assert run(*correct, "--yes") == 0
    assert "correction 1: 2 of 2 corrected" in capsys.readouterr().out
    assert names(archive, capsys) == before | {STUDY: "Right^Name"}
    assert run(*correct, "--yes") == 1
    assert "all of them say so already" in capsys.readouterr().err
    assert run("corrections", "list", "--json", *where) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["number"], row["kind"], row["reason"]) == (1, "correct", "a test")
    assert (row["instances"], row["corrected"], row["failed"]) == (2, 2, 0)
    assert row["studies"] == [STUDY]
    assert run("corrections", "undo", "1", "--reason", "it was right", *where) == 0
    assert capsys.readouterr().out == "correction 1: undone\n"
    assert names(archive, capsys) == before
    assert run("corrections", "undo", "1", "--reason", "again", *where) == 1
    assert "no correction 1 that could be undone" in capsys.readouterr().err
    assert run("db", "verify", *where) == 0
    done, undone = of_event(messages(Path(archive, "audit")), "110103")
    for each, reason in ((done, "a test"), (undone, "it was right")):
        study = audited_object(each, "110180")
        assert study.get("ParticipantObjectID") == STUDY
        assert detail(study, "Correction") == b"1"
        assert detail(study, "Reason") == reason.encode()
        assert detail(study, "Changes") == b"PatientName=Right^Name"


def test_patients_studies_and_series_find_their_place(archive: str, capsys: Output) -> None:
    where = ("--data-dir", archive, "--yes", *REASON)
    assert (
        run("split", "--study", STUDY, "--series", "1.2.3.5", "--new-study", "1.2.8", *where) == 0
    )
    assert set(names(archive, capsys)) == {STUDY, "1.2.8", "1.2.9"}
    assert run("correct", "--study", "1.2.8", "--set", "PatientID=P8", *where) == 0
    assert run("merge", "--patient", "P8", "--into-patient", "P1", *where) == 0
    assert run("merge", "--study", "1.2.8", "--into-study", "1.2.9", *where) == 0
    assert set(names(archive, capsys)) == {STUDY, "1.2.9"}
    assert run("move", "--study", "1.2.9", "--series", "1.2.9.1", "--to-study", STUDY, *where) == 0
    assert run("correct", "--study", STUDY, "--set", "PatientID=P9", *where) == 0
    assert run("move", "--study", "1.2.9", "--to-patient", "P9", *where) == 0
    assert run("db", "verify", "--data-dir", archive) == 0
    assert "0 differing from the index, 0 not in the index" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["correct", "--set", "PatientName=A"], 2, "what shall be corrected"),
        (["correct", "--study", STUDY], 2, "which attributes"),
        (["correct", "--study", STUDY, "--set", "PatientName"], 2, "expected KEY=VALUE"),
        (["correct", "--study", STUDY, "--set", "NoSuchKey=1"], 2, "no keyword"),
        (["correct", "--study", STUDY, "--set", "PatientBirthDate=1.1.70"], 2, "none of VR DA"),
        (["correct", "--study", STUDY, "--set", "StudyInstanceUID=1.2"], 2, "no attribute of"),
        (["correct", "--study", STUDY, "--set", "Modality=MR"], 2, "name the series"),
        (["correct", "--study", "1.2.99", "--set", "PatientName=A"], 1, "nothing in the archive"),
        (["correct", "--patient", " ", "--set", "PatientName=A"], 2, "named by the ID"),
        (["correct", "--series", "1.2.99", "--set", "Modality=MR"], 2, "has no series 1.2.99"),
        (["merge", "--patient", "P1"], 2, "--into-patient"),
        (["merge", "--patient", "P1", "--into-patient", "P1"], 2, "the same patient"),
        (["merge", "--patient", "P1", "--into-patient", "P7"], 2, "nothing of the patient"),
        (["merge", "--study", STUDY, "--into-study", "1.2.99"], 2, "has no study 1.2.99"),
        (["move", "--study", STUDY, "--to-study", "1.2.9"], 2, "say which series"),
        (["split", "--study", "1.2.9", "--series", "1.2.9.1"], 2, "all of the study"),
        (
            ["split", "--study", STUDY, "--series", "1.2.3.5", "--new-study", "1.2.9"],
            2,
            "the archive has a study 1.2.9",
        ),
    ],
)
def test_bad_input_changes_nothing(
    archive: str, capsys: Output, arguments: list[str], code: int, words: str
) -> None:
    before = names(archive, capsys)
    assert run(*arguments, "--data-dir", archive, "--yes", *REASON) == code
    assert words in capsys.readouterr().err
    assert names(archive, capsys) == before
    assert run("corrections", "list", "--json", "--data-dir", archive) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_who_is_not_asked_says_yes_beforehand(archive: str, capsys: Output) -> None:
    correct = ("correct", "--study", STUDY, "--set", "PatientName=A", "--data-dir", archive)
    assert run(*correct, *REASON) == 2
    assert "say so with --yes" in capsys.readouterr().err
    assert run(*correct, "--yes") == 2
    assert "--reason" in capsys.readouterr().err
    assert uid(1) not in capsys.readouterr().err


def test_patients_are_linked_and_listed(archive: str, capsys: Output) -> None:
    where = ("--data-dir", archive)
    assert run("link", "add", "P1", "P2^^^WARD", *REASON, *where) == 0
    assert "query.follow_links" in capsys.readouterr().err
    assert run("link", "add", "P2^^^WARD", "P1", *REASON, *where) == 1
    assert "linked already" in capsys.readouterr().err
    assert run("link", "list", "--json", *where) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["first"], row["second"]) == (
        {"id": "P1", "issuer": ""},
        {"id": "P2", "issuer": "WARD"},
    )
    assert run("link", "add", "P1", "P1", *REASON, *where) == 2
    assert run("link", "remove", "P1", "P2", *REASON, *where) == 1
    assert "not linked" in capsys.readouterr().err
    assert run("link", "remove", "P1", "P2^^^WARD", *REASON, *where) == 0
    assert run("link", "list", *where) == 0
    assert capsys.readouterr().out == "they are linked no more\n"
    linked, unlinked = of_event(messages(Path(archive, "audit")), "110110")
    for each in (linked, unlinked):
        patients = each.findall("ParticipantObjectIdentification")
        assert [one.get("ParticipantObjectID") for one in patients] == ["P1", "P2"]
        assert {detail(one, "Reason") for one in patients} == {b"a test"}


def test_who_takes_a_link_back_has_told_them_apart(archive: str, capsys: Output) -> None:
    where = ("--data-dir", archive)
    for pair in (("P1", "P2"), ("P2", "P3"), ("P1", "P3")):
        assert run("link", "add", *pair, *REASON, *where) == 0
    with closing(sqlite3.connect(Path(archive, "index.db"), isolation_level=None)) as database:
        database.execute("UPDATE patient_link SET actor = 'somebody', at = 1")
    assert run("link", "remove", "P1", "P3", *REASON, *where) == 0
    with closing(sqlite3.connect(Path(archive, "index.db"))) as database:
        ((actor, at),) = database.execute("SELECT actor, at FROM patient_distinct").fetchall()
    assert actor != "somebody"
    assert at > 1
