"""delete and trash: what is said, what is asked, and what bad input changes: nothing."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import trio

from isocenter.services import composition
from isocenter.services.archive.locks.lock import LockKind, StudyLock
from isocenter.services.cli import main
from isocenter.services.settings.loading import load_settings
from isocenter.services.system.users import acting_user
from services.archive_support import STUDY, uid
from services.cli_support import write_object
from services.security.audit.trails import audited_object, detail, messages, of_event

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


def run(*words: str) -> int:
    """The exit code, also where the arguments alone are wrong."""
    try:
        return main(words)
    except SystemExit as error:
        return int(error.code or 0)


def delete(archive: str, *arguments: str) -> int:
    return run("delete", "--data-dir", archive, "--reason", "a test", *arguments)


def instances(archive: str, capsys: Output) -> int:
    capsys.readouterr()
    assert main(["db", "stats", "--data-dir", archive]) == 0
    return int(capsys.readouterr().out.split("instances")[1].split()[0])


def test_delete_restore_purge(archive: str, capsys: Output) -> None:
    assert delete(archive, "--study", STUDY, "--yes") == 0
    out = capsys.readouterr().out
    assert out.startswith("2 instances in 1 series and 1 study of 1 patient, ")
    assert "deleted 2 instances: " in out
    assert instances(archive, capsys) == 1
    assert main(["trash", "list", "--data-dir", archive, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["instances"], row["studies"], row["reason"]) == (2, 1, "a test")
    assert main(["trash", "list", "--data-dir", archive]) == 0
    assert row["deletion"] in capsys.readouterr().out
    assert main(["trash", "restore", row["deletion"], "--data-dir", archive]) == 0
    assert capsys.readouterr().out.startswith("restored 2 instances; 0 the archive has already")
    assert instances(archive, capsys) == 3
    assert delete(archive, "--instance", uid(1), "--yes") == 0
    assert main(["trash", "purge", "--all", "--yes", "--data-dir", archive]) == 0
    assert capsys.readouterr().out.endswith("removed 1 instance for good\n")
    assert main(["trash", "purge", "--all", "--yes", "--data-dir", archive]) == 0
    assert capsys.readouterr().out == "the trash is empty\n"
    assert instances(archive, capsys) == 2
    assert main(["db", "verify", "--data-dir", archive]) == 0
    assert main(["audit", "show", "--data-dir", archive]) == 0
    shown = capsys.readouterr().out
    assert shown.count("DICOM Study Deleted") == 1
    assert shown.count("DICOM Instances Accessed") == 3


def test_a_dry_run_changes_nothing(archive: str, capsys: Output) -> None:
    assert delete(archive, "-k", "StudyDate=20240101-", "-k", "Modality=CT", "--dry-run") == 0
    out = capsys.readouterr().out
    assert out.startswith("3 instances in 2 series and 2 studies of 1 patient, ")
    assert "nothing was changed; nothing stands against it" in out
    assert instances(archive, capsys) == 3
    assert not list(Path(archive, "trash").glob("*"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "what shall be deleted"),
        (["--study", "../../etc"], 2, "is no UID"),
        (["--study", "1.2.*"], 2, "is no UID"),
        (["-k", "PatientID=*"], 2, "matches everything"),
        (["-k", "PatientID="], 2, "has no value"),
        (["-k", "PatientID"], 2, "has no value"),
        (["-k", "NoSuchKeyword=1"], 2, "no keyword"),
        (["-k", "0009,0010=1"], 2, "the index does not know (0009,0010)"),
        (["--study", STUDY, "-k", "0009,0010=1"], 2, "the index does not know (0009,0010)"),
        (["--study", "1.2.3.99"], 1, "nothing in the archive matches"),
        (["--study", STUDY, "--series", "1.2.9.1"], 1, "nothing in the archive matches"),
        (["--study", STUDY, "--reason", " "], 2, "a reason is one line"),
        (["--study", STUDY, "--reason", "a\nb"], 2, "a reason is one line"),
        (["--study", STUDY, "--reason", "a" * 501], 2, "a reason is one line"),
    ],
)
def test_bad_input_changes_nothing(
    archive: str, capsys: Output, arguments: list[str], code: int, words: str
) -> None:
    assert delete(archive, *arguments, "--yes") == code
    assert words in capsys.readouterr().err
    assert instances(archive, capsys) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["restore"], 2, "which?"),
        (["restore", "nosuch"], 1, "nothing in the trash"),
        (["restore", "../.."], 1, "nothing in the trash"),
        (["restore", "--study", "../x"], 2, "is no UID"),
        (["purge", "--yes"], 2, "which?"),
        (["purge", "--all", "nosuch", "--yes"], 2, "which?"),
        (["purge", "nosuch", "--yes"], 1, "nothing in the trash"),
        (["purge", "--study", STUDY], 2, "say so with --yes"),
    ],
)
def test_bad_input_leaves_the_trash_alone(
    archive: str,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert delete(archive, "--study", STUDY, "--yes") == 0
    capsys.readouterr()
    assert run("trash", *arguments, "--data-dir", archive) == code
    assert words in capsys.readouterr().err
    assert main(["trash", "list", "--data-dir", archive, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["instances"] == 2


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 1), ("no", 1, 3), ("", 1, 3)])
def test_it_asks_first(
    archive: str,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
    left: int,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    questions = []

    def answered(question: str) -> str:
        questions.append(question)
        return answer

    monkeypatch.setattr("builtins.input", answered)
    assert delete(archive, "--study", STUDY) == code
    assert questions[0].startswith("Delete 2 instances in 1 series and 1 study of 1 patient, ")
    assert instances(archive, capsys) == left


def test_nobody_can_be_asked(archive: str, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert delete(archive, "--study", STUDY) == 2
    assert "say so with --yes" in capsys.readouterr().err
    assert instances(archive, capsys) == 3


def test_where_there_is_no_archive(tmp_path: Path, capsys: Output) -> None:
    for command in (["delete", "--study", "1.2", "--reason", "x", "--yes"], ["trash", "list"]):
        assert main([*command, "--data-dir", str(tmp_path / "none")]) == 2
        assert "no archive is there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_holds(archive: str, capsys: Output) -> None:
    hold = ["hold", "add", STUDY, "1.2.3.77", "--data-dir", archive, "--reason", "case 17"]
    assert main(hold) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{STUDY} is held\n1.2.3.77 is held\n"
    assert "nothing of 1.2.3.77 is here now" in captured.err
    assert main(hold) == 1
    assert "is held already" in capsys.readouterr().err
    for force in ([], ["--force"]):
        assert delete(archive, "--study", STUDY, "--yes", *force) == 1
        captured = capsys.readouterr()
        assert "of them, instances 2 of studies that are held" in captured.out
        assert "a study is held" in captured.err
    assert delete(archive, "--study", STUDY, "--dry-run") == 1
    assert instances(archive, capsys) == 3
    assert main(["hold", "list", "--json", "--data-dir", archive]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["in_the_archive"], row["reason"]) for row in rows] == [
        (True, "case 17"),
        (False, "case 17"),
    ]
    assert main(["hold", "list", "--data-dir", archive]) == 0
    assert "case 17" in capsys.readouterr().out
    assert main(["hold", "remove", STUDY, "--data-dir", archive]) == 0
    assert main(["hold", "remove", STUDY, "--data-dir", archive]) == 1
    assert "is not held" in capsys.readouterr().err
    assert delete(archive, "--study", STUDY, "--yes") == 0


def test_what_somebody_else_changes_is_not_deleted_until_its_lock_is_released(
    archive: str, capsys: Output
) -> None:
    settings = load_settings(environ={}, overrides={"storage.data_dir": archive})
    lock = StudyLock(
        study_instance_uid=STUDY, lock_id="a", kind=LockKind.EXCLUSIVE, holder="alice",
        reason="correction", process="elsewhere/1/aa", since=0.0, until=0.0,
    )  # fmt: skip

    async def take() -> None:
        async with composition.open_stores(settings) as stores:
            assert await stores.locks.take(lock, 600.0) is None

    trio.run(take)
    assert main(["lock", "list", "--json", "--data-dir", archive]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["study_instance_uid"], row["by"], row["waits_for"]) == (STUDY, "alice", [])
    assert main(["lock", "list", "--data-dir", archive]) == 0
    assert "alice (correction)" in capsys.readouterr().out
    assert delete(archive, "--study", STUDY, "--yes") == 1
    assert "in use right now" in (said := capsys.readouterr().err)
    assert "alice (correction)" in said
    release = ["lock", "release", STUDY, "--data-dir", archive, "--reason", "it hangs"]
    assert main(release) == 0
    assert main(release) == 1
    assert delete(archive, "--study", STUDY, "--yes") == 0
    (alert,) = of_event(messages(Path(archive, "audit")), "110113", "110132")
    described = detail(audited_object(alert, "110180"), "Alert Description")
    assert described == b"the lock of alice was released: it hangs"


def test_holds_are_in_the_audit_trail(archive: str, capsys: Output) -> None:
    where = ["--data-dir", archive]
    assert main(["hold", "add", STUDY, "1.2.3.77", *where, "--reason", "case 17"]) == 0
    assert main(["hold", "add", STUDY, *where, "--reason", "again"]) == 1
    assert main(["hold", "remove", STUDY, *where]) == 0
    assert main(["hold", "remove", STUDY, *where]) == 1
    assert delete(archive, "--study", STUDY, "--yes") == 0
    folder = Path(archive, "audit")
    changed = of_event(messages(folder), "110113", "110135")
    whom = [audited_object(each, "110180").get("ParticipantObjectID") for each in changed]
    assert whom == [STUDY, "1.2.3.77", STUDY]
    texts = [detail(audited_object(each, "110180"), "Alert Description") for each in changed]
    assert texts == [b"the study is held: case 17"] * 2 + [
        b"the study is held no more; it was: case 17"
    ]
    patient = audited_object(changed[0], "2").get("ParticipantObjectID")
    assert patient
    (deleted,) = of_event(messages(folder), "110105")
    user = f"{acting_user()}@{socket.gethostname()}"
    for message in (*changed, deleted):
        people = [each.get("UserID") for each in message.findall("ActiveParticipant")]
        assert user in people
    capsys.readouterr()
    assert main(["audit", "show", "--patient", patient, *where]) == 0
    shown = capsys.readouterr().out
    assert shown.count("Object Security Attributes Changed") == 2
    assert f"{STUDY} (2 instances): a test | requested" in shown


@pytest.mark.parametrize("on_failure", ["stop", "continue"])
def test_a_hold_that_cannot_be_recorded(
    archive: str, tmp_path: Path, capsys: Output, on_failure: str
) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text(f"[audit]\non_failure = '{on_failure}'\n")
    where = ["--data-dir", archive, "--config", str(config)]
    trail = Path(archive, "audit")
    trail.rename(tmp_path / "aside")
    trail.write_text("no folder")
    stops = on_failure == "stop"
    assert main(["hold", "add", STUDY, *where, "--reason", "x"]) == int(stops)
    assert ("nothing was changed" in capsys.readouterr().err) == stops
    assert main(["hold", "list", "--json", *where]) == 0
    assert len(json.loads(capsys.readouterr().out)) == (not stops)
    trail.unlink()
    assert main(["hold", "add", STUDY, *where, "--reason", "x"]) == (not stops)
    shutil.rmtree(trail, ignore_errors=True)
    trail.write_text("no folder")
    assert main(["hold", "remove", STUDY, *where]) == int(stops)
    capsys.readouterr()
    assert main(["hold", "list", "--json", *where]) == 0
    assert len(json.loads(capsys.readouterr().out)) == stops


@pytest.mark.parametrize(
    "arguments",
    [["add", "x/y", "--reason", "r"], ["add", "1.2", "--reason", "\n"], ["remove", "*"]],
)
def test_a_hold_that_cannot_be(archive: str, capsys: Output, arguments: list[str]) -> None:
    assert run("hold", *arguments, "--data-dir", archive) == 2
    capsys.readouterr()
    assert main(["hold", "list", "--json", "--data-dir", archive]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_what_retention_would_delete(archive: str, tmp_path: Path, capsys: Output) -> None:
    check = ["retention", "check", "--data-dir", archive]
    assert main(check) == 2
    assert "there are no rules of retention" in capsys.readouterr().err
    config = tmp_path / "isocenter.toml"
    config.write_text('[[retention]]\nname = "old"\nstudy_days = 1\n')
    check += ["--config", str(config)]
    assert main(["hold", "add", STUDY, "--data-dir", archive, "--reason", "x"]) == 0
    capsys.readouterr()
    assert main([*check, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["rule"], row["studies"], row["instances"]) == ("old", 1, 1)
    assert main([*check, "-v"]) == 0
    captured = capsys.readouterr()
    assert "old: 1.2.9" in captured.err
    assert "old" in captured.out
    assert instances(archive, capsys) == 3
    config.write_text('[[retention]]\nname = "old"\ndays = 1\n')
    assert main(check) == 2
    assert "there is no 'days'" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may chown")
def test_what_root_makes_would_not_be_the_servers(archive: str, capsys: Output) -> None:
    os.chown(archive, 1, 1)
    for command in (
        ["delete", "--study", STUDY, "--reason", "x", "--yes"],
        ["trash", "restore", "--study", STUDY],
        ["trash", "purge", "--all", "--yes"],
    ):
        assert main([*command, "--data-dir", archive]) == 2
        assert "do it as that user: sudo -u " in capsys.readouterr().err
    assert delete(archive, "--study", STUDY, "--dry-run") == 0
    assert main(["trash", "list", "--data-dir", archive]) == 0
    assert instances(archive, capsys) == 3
