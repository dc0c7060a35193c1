"""db, import and config: the archive's own commands."""

from __future__ import annotations

import json
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from isocenter.services.cli import main
from isocenter.services.diagnostics.doctor.check import size_text
from services.archive_support import STUDY, uid
from services.cli_support import archive_server, write_object

Output = pytest.CaptureFixture[str]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two objects and something else."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in (1, 2):
        write_object(folder, number)
    (folder / "notes.txt").write_text("no DICOM\n")
    return folder


@pytest.fixture
def archive(tmp_path: Path, files: Path, capsys: Output) -> str:
    """A data directory with the two objects in it."""
    data_dir = str(tmp_path / "data")
    assert main(["import", str(files), "--data-dir", data_dir, "-q"]) == 0
    capsys.readouterr()
    return data_dir


def object_of(archive: str, number: int) -> Path:
    (path,) = Path(archive, "objects").rglob(f"{uid(number)}.dcm")
    return path


def test_import_tells_what_became_of_each(tmp_path: Path, files: Path, capsys: Output) -> None:
    call = ["import", "--data-dir", str(tmp_path / "data"), str(files)]
    assert main(call) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("3 files: 2 imported (")
    assert "not DICOM: " in captured.err
    assert main(call) == 0
    assert "0 imported (0 bytes), 2 were there already" in capsys.readouterr().out
    cut = write_object(files, 3, pixels=bytes(1000))
    cut.write_bytes(cut.read_bytes()[:-500])
    assert main(call) == 1
    captured = capsys.readouterr()
    assert "1 damaged" in captured.out
    assert f"damaged: {cut}" in captured.err


def test_import_is_of_no_rule_and_no_event(tmp_path: Path, files: Path, capsys: Output) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text(
        f"storage.data_dir = {str(tmp_path / 'data')!r}\n"
        'peers = ["PACS@127.0.0.1:1"]\n'
        '[[rules]]\nname = "all"\nforward = ["PACS"]\ncompress = "rle"\n'
    )
    main(["import", "-q", "--config", str(config), str(files)])
    capsys.readouterr()
    for command in (["queue", "list"], ["compress", "list"], ["events", "tail"]):
        assert main([*command, "--config", str(config)]) == 0
        assert capsys.readouterr().out == ""


def test_a_destination_is_asked_whether_it_keeps_a_study(archive: str, capsys: Output) -> None:
    with closing(sqlite3.connect(Path(archive, "index.db"))) as database, database:
        (study,) = database.execute("SELECT study_instance_uid FROM study").fetchone()
        database.execute(
            "INSERT INTO forward (sop_instance_uid, sop_class_uid, study_instance_uid, "
            "destination, rule, priority, wants_commitment, delete_after, state, created_at, "
            "since, due_at, ended_at) SELECT sop_instance_uid, '1.2', '1.2', 'PACS', 'r', 1, 0, 0, "
            "'done', 0, 0, 0, 0 FROM instance"
        )
    commit = ["queue", "commit", "--data-dir", archive]
    with pytest.raises(SystemExit) as ended:
        main([*commit, study])
    assert ended.value.code == 2
    assert "--destination" in capsys.readouterr().err
    assert main([*commit, study, "--destination", "OTHER"]) == 1
    assert "OTHER was sent nothing of this study" in capsys.readouterr().err
    assert main([*commit, study, "--destination", "PACS"]) == 0
    assert "2 to be asked for" in capsys.readouterr().err
    assert main([*commit, study, "--destination", "PACS"]) == 1
    assert main(["queue", "list", "--data-dir", archive, "--state", "sent", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [one["destination"] for one in shown] == ["PACS", "PACS"]


def test_import_of_nothing(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM\n")
    call = ["import", "--data-dir", str(tmp_path / "data")]
    assert main([*call, str(tmp_path / "notes.txt")]) == 1
    assert main([*call, str(tmp_path / "missing")]) == 2
    assert main(["import", "--data-dir", ":memory:", str(tmp_path)]) == 2
    assert "give --data-dir DIR" in capsys.readouterr().err


def test_stats(archive: str, capsys: Output) -> None:
    assert main(["db", "stats", "--data-dir", archive]) == 0
    counts = dict(line.split() for line in capsys.readouterr().out.splitlines())
    size = sum(object_of(archive, number).stat().st_size for number in (1, 2))
    assert counts == {
        "patients": "1",
        "studies": "1",
        "series": "1",
        "instances": "2",
        "bytes": str(size),
    }


def test_verify(archive: str, capsys: Output) -> None:
    verify = ["db", "verify", "--data-dir", archive]
    assert main(verify) == 0
    damaged = object_of(archive, 1)
    content = damaged.read_bytes()
    damaged.chmod(0o600)
    damaged.write_bytes(content[:-1] + b"\xff")
    object_of(archive, 2).unlink()
    assert main(verify) == 1
    captured = capsys.readouterr()
    assert "1 missing, 0 of wrong size, 1 changed" in captured.out
    assert f"changed: {uid(1)}" in captured.err
    assert f"missing: {uid(2)}" in captured.err
    damaged.write_bytes(content[:-1])
    assert main([*verify, "--no-checksums"]) == 1
    assert "1 of wrong size" in capsys.readouterr().out


def test_reindex(archive: str, capsys: Output) -> None:
    Path(archive, "index.db").unlink()
    assert main(["db", "stats", "--data-dir", archive]) == 1
    assert "isocenter db reindex" in capsys.readouterr().err
    reindex = ["db", "reindex", "--data-dir", archive]
    assert main(reindex) == 0
    assert "2 instances in the index" in capsys.readouterr().out
    object_of(archive, 1).unlink()
    assert main(reindex) == 1
    assert f"forgotten: {uid(1)}" in capsys.readouterr().err


def test_metadata_are_made_on_demand(archive: str, capsys: Output) -> None:
    make = ["db", "reindex", "--metadata", "--data-dir", archive]
    assert main(make) == 0
    assert "1 series had no metadata" in capsys.readouterr().out
    assert main(make) == 0
    assert "0 series had no metadata" in capsys.readouterr().out
    with sqlite3.connect(Path(archive, "index.db")) as index:
        assert index.execute("SELECT count(*) FROM instance_metadata").fetchone() == (2,)
        (content,) = index.execute("SELECT content FROM series_metadata").fetchone()
        index.execute("UPDATE series_metadata SET content = NULL, due_at = 0")
        index.execute("DELETE FROM instance_metadata")
    assert content
    object_of(archive, 1).unlink()
    assert main(make) == 1
    said = capsys.readouterr()
    assert "but for 1 of which an object cannot be read" in said.out
    assert "isocenter db verify" in said.err


@pytest.mark.parametrize("command", [["db", "reindex"], ["import", "."]])
def test_what_may_not_run_beside_a_server(command: list[str], archive: str, capsys: Output) -> None:
    with archive_server(data_dir=archive):
        assert main([*command, "--data-dir", archive]) == 1
        assert "in use by another server; stop that one" in capsys.readouterr().err


def test_what_may_run_beside_a_server(archive: str, capsys: Output) -> None:
    with archive_server(data_dir=archive) as server:
        assert main(["db", "verify", "--data-dir", archive]) == 0
        assert main(["db", "reindex", "--metadata", "--data-dir", archive]) == 0
        assert main(["findscu", server.peer, "--study-uid", STUDY]) == 0


@pytest.mark.parametrize("action", ["stats", "verify", "reindex"])
def test_where_no_archive_is(action: str, tmp_path: Path, capsys: Output) -> None:
    missing = tmp_path / "nowhere"
    assert main(["db", action, "--data-dir", str(missing)]) == 2
    assert f"{missing}: no archive is there" in capsys.readouterr().err
    assert not missing.exists()


def test_a_wrong_setting_names_its_key(tmp_path: Path, capsys: Output) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text("[storage]\ndata_dri = '/srv'\n")
    for command in (["db", "stats"], ["import", "."], ["config", "show"]):
        assert main([*command, "--config", str(config)]) == 2
        assert "did you mean storage.data_dir?" in capsys.readouterr().err


def test_config_shows_what_can_be_loaded_again(tmp_path: Path, capsys: Output) -> None:
    options = ["--data-dir", str(tmp_path / "d"), "--port", "104", "--peer", "A@b:104"]
    assert main(["config", "show", *options]) == 0
    shown = capsys.readouterr().out
    assert tomllib.loads(shown)["server"]["port"] == 104
    config = tmp_path / "isocenter.toml"
    config.write_text(shown)
    assert main(["config", "show", "--config", str(config)]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1536 << 20, "1.5 GiB")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert size_text(size) == text
