"""The data directory of each release before this one is opened, and serves on.

`support.release_data` makes the archives in ``data``, from the code of the release.
"""

from __future__ import annotations

import json
import os
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from isocenter.services.cli import main
from isocenter.storage.database.sqlite import index_copies
from isocenter.storage.database.sqlite import schema as migrations
from isocenter.storage.database.sqlite.backup import SqliteIndexFile
from isocenter.storage.database.sqlite.index_copies import (
    copy_before_migration,
    hint_for_older_program,
    remove_old_copies,
)
from isocenter.storage.database.sqlite.schema import LATEST_VERSION
from support.processes import isocenter_command, served_archive

RELEASES = sorted((Path(__file__).parent / "data").glob("*.tar.xz"))

Output = pytest.CaptureFixture[str]


def unpack(archive: Path, folder: Path) -> Path:
    """Its data directory."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="tar")
    return folder / "data"


@pytest.fixture(params=RELEASES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def data_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = unpack(request.param, tmp_path)
    facts = json.loads((path / "facts.json").read_text())
    assert request.param.name == f"{facts['version']}.tar.xz"
    return path


def said(capsys: Output, *words: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == code
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_everything_of_an_earlier_release_is_there(data_dir: Path, capsys: Output) -> None:
    facts = json.loads((data_dir / "facts.json").read_text())
    where = ("--data-dir", data_dir)
    count = len(facts["objects"])
    text = said(capsys, "db", "verify", *where)
    assert f"{count} instances, {count} objects" in text
    assert ", 0 not in the index" in text
    assert "SPS1" in said(capsys, "worklist", "list", "--state", "all", *where)
    assert facts["step"] in said(capsys, "mpps", "list", *where)
    assert "success" in said(capsys, "commitments", "list", *where)
    assert said(capsys, "queue", "list", *where).count("AWAY") >= count
    assert said(capsys, "events", "tail", *where).count("instance.stored") == count
    assert "in 1 file: unbroken" in said(capsys, "audit", "verify", *where)
    text = said(capsys, "certs", "list", *where)
    assert "valid" in text
    assert "revoked" in text
    assert "ct1, for AE title CT1" in said(capsys, "certs", "renew", "ct1", *where)
    assert "CT1" in said(capsys, "ae", "list", *where)
    assert "alice" in said(capsys, "user", "list", *where)


def test_it_is_served_on_and_the_index_from_before_is_kept(data_dir: Path) -> None:
    before = SqliteIndexFile(data_dir / "index.db").version()
    with served_archive(data_dir.parent, "--data-dir", data_dir) as archive:
        done = isocenter_command(
            "findscu", f"ISOCENTER@127.0.0.1:{archive.port}", "-aet", "CT1", "-S", "-L", "STUDY",
            "-k", "StudyInstanceUID", "-o", "json",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert done.stdout.count("1.2.826.0.1.3680043.10.999") >= 2
        log = archive.log.read_text()
    assert SqliteIndexFile(data_dir / "index.db").version() == LATEST_VERSION
    if before < LATEST_VERSION:
        (copy,) = (data_dir / "index-copies").iterdir()
        assert copy.stat().st_mode & 0o777 == 0o600
        assert SqliteIndexFile(copy).version() == before
        assert str(copy) in log
        # A copy of each start would fill the disk.
        assert isocenter_command("db", "stats", "--data-dir", data_dir).returncode == 0
        assert len(list((data_dir / "index-copies").iterdir())) == 1


def test_a_backup_of_an_earlier_release_is_restored(
    data_dir: Path, tmp_path: Path, capsys: Output
) -> None:
    count = len(json.loads((data_dir / "facts.json").read_text())["objects"])
    text = said(capsys, "backup", tmp_path / "backups", "--data-dir", data_dir)
    assert f"{count} instances" in text
    text = said(capsys, "restore", tmp_path / "backups", "--data-dir", tmp_path / "new")
    assert f"{count} instances, {count} objects" in text


def test_the_index_of_a_later_release_is_refused_with_what_would_be_lost(
    data_dir: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = SqliteIndexFile(data_dir / "index.db").version()
    said(capsys, "db", "stats", "--data-dir", data_dir)
    with monkeypatch.context() as patch:
        # The program of before.
        patch.setattr(migrations, "LATEST_VERSION", before)
        patch.setattr(index_copies, "LATEST_VERSION", before)
        if before < LATEST_VERSION:
            text = said(capsys, "db", "stats", "--data-dir", data_dir, code=1)
            assert f"schema version {LATEST_VERSION}, this program knows {before}" in text
            assert "loses the worklist, procedure steps, commitments, queues and events" in text
            assert "the index from before the migration, of " in text
            (copy,) = (data_dir / "index-copies").iterdir()
            assert str(copy) in text
            # As it says.
            for name in ("index.db", "index.db-wal", "index.db-shm"):
                (data_dir / name).unlink(missing_ok=True)
            (data_dir / "index.db").write_bytes(copy.read_bytes())
            assert "instances                 8" in said(
                capsys, "db", "stats", "--data-dir", data_dir
            )


def test_copies_are_kept_for_some_days(data_dir: Path) -> None:
    index = data_dir / "index.db"
    if SqliteIndexFile(index).version() == LATEST_VERSION:
        pytest.skip("the release has the schema of now")
    old = copy_before_migration(index, now=lambda: datetime.now(UTC) - timedelta(days=31))
    new = copy_before_migration(index)
    assert old is not None
    assert new is not None
    (data_dir / "index-copies" / "notes.txt").write_text("not ours")
    assert remove_old_copies(index, 30) == 1
    assert not old.exists()
    assert new.exists()
    assert str(new) in hint_for_older_program(index)
    new.unlink()
    (data_dir / "index-copies" / "notes.txt").unlink()
    assert remove_old_copies(index, 30) == 0
    assert not (data_dir / "index-copies").exists()
    assert hint_for_older_program(index) == ""


def test_without_room_for_a_copy_nothing_is_migrated(
    data_dir: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = SqliteIndexFile(data_dir / "index.db").version()
    if before == LATEST_VERSION:
        pytest.skip("the release has the schema of now")
    with monkeypatch.context() as patch:
        patch.setattr(index_copies, "_SPARE_BYTES", 1 << 60)
        text = said(capsys, "db", "stats", "--data-dir", data_dir, code=1)
        assert "make room, or set storage.keep_index_days to 0 if you have a backup" in text
        assert SqliteIndexFile(data_dir / "index.db").version() == before
        patch.setitem(os.environ, "ISOCENTER__STORAGE__KEEP_INDEX_DAYS", "0")
        said(capsys, "db", "stats", "--data-dir", data_dir)
    assert SqliteIndexFile(data_dir / "index.db").version() == LATEST_VERSION
    assert not (data_dir / "index-copies").exists()


def test_a_new_index_or_none_is_not_copied(tmp_path: Path, capsys: Output) -> None:
    assert copy_before_migration(tmp_path / "index.db") is None
    (tmp_path / "index.db").write_bytes(b"")
    assert copy_before_migration(tmp_path / "index.db") is None
    (tmp_path / "index.db").write_bytes(b"no database" * 100)
    assert copy_before_migration(tmp_path / "index.db") is None
    assert not (tmp_path / "index-copies").exists()


def test_every_release_has_an_archive() -> None:
    assert "0.1.0.tar.xz" in {path.name for path in RELEASES}
    assert sum(path.stat().st_size for path in RELEASES) < 500_000
