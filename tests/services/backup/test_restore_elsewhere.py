"""`isocenter restore` straight into PostgreSQL and buckets, as an operator types it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from isocenter.services.archive.object_location import ObjectLocation, parse_object_location
from isocenter.services.backup.repository import BackupFolder
from isocenter.services.backup.restore_target import Elsewhere
from isocenter.services.backup.tier_files import TierFiles
from isocenter.services.cli import main
from isocenter.services.errors import StorageError
from isocenter.services.security.audit.trail_verification import verify as verify_trail
from isocenter.services.service_classes.print.job import ComposedFilm, NewPrintJob
from isocenter.storage.database.postgresql.opening import Place
from isocenter.storage.database.postgresql.opening import connect as connect_postgresql
from isocenter.storage.stores import open_sqlite_stores
from services.archive_contents import objects_below, rows_of, sqlite_rows
from services.archive_support import uid
from services.cli_support import write_object
from support.buckets import keys_in, new_location
from support.postgresql import Server

Output = pytest.CaptureFixture[str]

KEYS = "first = " + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="

#: Where objects are, by what is also said of the database.
PLACES = {
    "PostgreSQL": (True, ""),
    "PostgreSQL and a bucket": (True, "bucket"),
    "PostgreSQL and a shared folder": (True, "folder"),
    "a bucket": (False, "bucket"),
    "a folder": (False, "folder"),
}


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


async def print_film(database: Path) -> None:
    async with open_sqlite_stores(database) as stores:
        film = ComposedFilm(png=b"a film", width=1, height=1, dots_per_inch=150)
        assert await stores.print_jobs.submit(
            NewPrintJob(job_uid="1.2.3", originator="CT1", films=(film,)), most=1
        )


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive as files, ``data``, and its backup, ``backups``."""
    root = tmp_path_factory.mktemp("old")
    data = ("--data-dir", root / "data")
    large, again = root / "large", root / "again"
    for folder in (large, again):
        folder.mkdir()
    write_object(large, 1, pixels=os.urandom(9 << 20))
    write_object(again, 2, pixels=b"\2" * 64)
    for number in (3, 4, 5):
        write_object(large, number)
    deletion = ("delete", "--yes", "--reason", "test", "--instance")
    for words in (
        ("import", large, again, *data),
        # In the trash two times under one key, which a third one has.
        (*deletion, uid(2), *data),
        ("import", again, *data),
        (*deletion, uid(2), *data),
        ("import", again, *data),
        (*deletion, uid(3), *data),
        ("ae", "add", "CT1", "--name", "CT1", *data),
    ):
        assert main([*map(str, words)]) == 0
    trio.run(print_film, root / "data" / "index.db")
    assert main(["backup", str(root / "backups"), *map(str, data)]) == 0
    return root


class Target:
    """Where the archive is restored to."""

    def __init__(self, root: Path, old: Path, capsys: Output) -> None:
        self.root = root
        self.old = old
        self.backups = old / "backups"
        self.data_dir = root / "new"
        self.config = root / "new.toml"
        self.server: Server | None = None
        self.database = ""
        self.objects = ""
        self._capsys = capsys
        (root / "objects.keys").write_text(KEYS)
        (root / "objects.keys").chmod(0o600)

    def configure(self) -> None:
        lines = [f'[storage]\ndata_dir = "{self.data_dir}"']
        if self.server is not None:
            lines.append(f'[database]\nurl = "{self.server.url(self.database)}"')
        if self.objects:
            lines.append(f'[objects]\nurl = "{self.objects}"')
        if self.objects.startswith("s3:"):
            lines.append(f'keys_file = "{self.root / "objects.keys"}"')
        self.config.write_text("\n".join(lines))

    def call(self, *words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def good(self, *words: object) -> str:
        code, out, err = self.call(*words)
        assert code == 0, out + err
        return out + err

    def restore(self, *options: object) -> tuple[int, str, str]:
        return self.call("restore", self.backups, "--config", self.config, *options)

    def rows(self) -> Mapping[str, list[tuple[Any, ...]]]:
        if self.server is None:
            return sqlite_rows(self.data_dir)
        with connect_postgresql(Place(self.server.conninfo(self.database))) as connection:
            return rows_of(connection)


def target_at(
    place: str, root: Path, old: Path, capsys: Output, request: pytest.FixtureRequest
) -> Target:
    target = Target(root, old, capsys)
    has_database, objects = PLACES[place]
    if has_database:
        target.server = request.getfixturevalue("postgresql_server")
        target.database = target.server.new_database()
    if objects:
        shared = f"file://{root / 'shared'}"
        target.objects = str(new_location("pacs")) if objects == "bucket" else shared
    target.configure()
    capsys.readouterr()
    return target


@pytest.fixture(params=PLACES)
def target(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: Output, old: Path
) -> Iterator[Target]:
    target = target_at(request.param, tmp_path, old, capsys, request)
    yield target
    if target.server is not None:
        target.server.give_back(target.database)


def test_an_archive_is_restored_to_where_it_is_served_from(target: Target) -> None:
    code, out, err = target.restore("--check")
    assert code == 0, out + err
    assert not target.data_dir.exists()
    code, out, err = target.restore()
    assert code == 0, out + err
    assert "4 instances, 4 objects" in out
    (generation,) = BackupFolder.open(target.backups).generations()
    assert target.rows() == sqlite_rows(generation.folder)
    assert not list(target.data_dir.glob("restoring*"))
    assert not list((target.data_dir / "staging").iterdir())
    if target.objects:
        assert not list(target.data_dir.rglob("*.dcm"))
    # A backup of it is that of the archive that it was.
    back, backups = target.root / "back", target.root / "backups"
    target.good("backup", backups, "--config", target.config)
    target.good("restore", backups, "--data-dir", back)
    assert objects_below(back) == objects_below(target.old / "data")
    assert sqlite_rows(back) == sqlite_rows(target.old / "data")
    assert (back / "films/1.2.3/1.png").read_bytes() == b"a film"
    target.good("trash", "restore", "--instance", uid(3), "--config", target.config)
    target.good("db", "verify", "--config", target.config)
    assert "CT1" in target.good("ae", "list", "--config", target.config)
    assert verify_trail(target.data_dir / "audit").is_good


@pytest.mark.parametrize(
    "target", ["PostgreSQL", "PostgreSQL and a bucket", "a folder"], indirect=True
)
def test_what_was_killed_goes_on_where_it_was(target: Target) -> None:
    """Rows are written in one step at the end, and nobody serves what is half there."""
    script = target.root / "killed.py"
    script.write_text(
        """
import os, signal, sys
from isocenter.services.backup import parallel, restore_target, restoration
from isocenter.services.cli import main
where = sys.argv.pop(1)
parallel._BLOCK, parallel._AT_ONCE = 2, 1
restore, number = restoration.Restoring._restore, 0
def killing(self, entry):
    global number
    done = restore(self, entry)
    number += 1
    if where == str(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return done
restoration.Restoring._restore = killing
put_rows = restore_target.Elsewhere.put_rows
async def killing_rows(self, *arguments):
    await put_rows(self, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)
if where == "rows":
    restore_target.Elsewhere.put_rows = killing_rows
main(sys.argv[1:])
"""
    )
    words = ["restore", str(target.backups), "--config", str(target.config)]
    for where in ("1", "6", "rows"):
        done = subprocess.run(
            [sys.executable, script, where, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
        code, _, err = target.call("db", "stats", "--config", target.config)
        assert code == 1
        assert f"--config FILE, where FILE names {'the database' if target.server else ''}" in err
    code, out, err = target.restore()
    assert code == 0, out + err
    assert "were there from before" in out
    assert "4 instances, 4 objects" in out
    (generation,) = BackupFolder.open(target.backups).generations()
    assert target.rows() == sqlite_rows(generation.folder)
    assert not list(target.data_dir.glob("restoring*"))


@pytest.fixture
def shared(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: Output, old: Path
) -> Iterator[Target]:
    """PostgreSQL and a bucket."""
    target = target_at("PostgreSQL and a bucket", tmp_path, old, capsys, request)
    yield target
    assert target.server is not None
    target.server.give_back(target.database)


def test_ctrl_c_stops_and_the_next_goes_on(shared: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    put = TierFiles.put
    number = 0

    async def interrupted(self: TierFiles, *arguments: Any) -> bool:
        nonlocal number
        number += 1
        if number == 4:  # the trash is there, which comes first
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep_forever()
        return await put(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TierFiles, "put", interrupted)
        code, _, err = shared.restore()
    assert code == 130
    assert "the same command goes on from here" in err
    code, _, err = shared.restore("--replace")
    assert code == 1
    assert "has objects already" in err
    assert "go on with the restore that was begun: without --replace" in err
    assert not list(shared.root.glob("*.replaced-*"))
    code, out, err = shared.restore()
    assert code == 0, out + err


def test_a_database_that_is_not_empty_is_refused(shared: Target) -> None:
    database, objects = shared.database, shared.objects
    files = shared.root / "others"
    files.mkdir()
    write_object(files, 9)
    shared.good("import", files, "--config", shared.config)
    rows, keys = shared.rows(), keys_in(location_of(shared))
    shared.data_dir = shared.root / "newer"
    for options in ((), ("--check",), ("--replace",)):
        shared.configure()
        code, _, err = shared.restore(*options)
        assert code == 1
        assert f"the database {database} is not empty (1 instances); nothing was changed" in err
        assert "Name an empty database (database.url)" in err
        assert not shared.data_dir.exists()
    assert shared.server is not None
    shared.database = shared.server.new_database()
    shared.configure()
    code, _, err = shared.restore()
    assert code == 1
    assert f"{objects} has objects already; nothing was changed" in err
    assert "another prefix" in err
    assert not shared.data_dir.exists()
    shared.server.give_back(shared.database)
    shared.database = database
    assert shared.rows() == rows
    assert [key for key in keys_in(location_of(shared)) if "/objects/" in key] == [
        key for key in keys if "/objects/" in key
    ]


def test_rows_without_objects_are_found_as_well(shared: Target) -> None:
    shared.good("db", "stats", "--config", shared.config)
    assert shared.server is not None
    with connect_postgresql(Place(shared.server.conninfo(shared.database))) as connection:
        connection.execute(
            "INSERT INTO study_hold VALUES ('1.2.3', 'somebody works here', 'admin', 0)"
        )
    shared.data_dir = shared.root / "newer"
    shared.configure()
    code, _, err = shared.restore()
    assert code == 1
    assert "the database of the target is not empty" in err
    assert "study_hold" in err
    assert not [key for key in keys_in(location_of(shared)) if "/objects/" in key]


def location_of(target: Target) -> ObjectLocation:
    return parse_object_location(target.objects)


def test_a_restore_goes_on_to_where_it_was_begun_only(
    shared: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise StorageError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(Elsewhere, "put_rows", fail)
        code, _, err = shared.restore()
    assert code == 1
    assert "the database is away" in err
    code, _, err = shared.call("restore", shared.backups, "--data-dir", shared.data_dir)
    assert code == 1
    assert "go on with isocenter restore" in err
    assert "moved aside first with --replace" in err
    for words in (["db", "verify"], ["import", shared.root], ["backup", shared.root / "more"]):
        code, _, err = shared.call(*words, "--config", shared.config)
        assert code == 1
        assert "is not finished" in err
    code, _, err = shared.call("migrate", "--from", shared.old / "data", "--to", shared.config)
    assert code == 1
    assert "a restore into" in err
    code, out, err = shared.restore()
    assert code == 0, out + err
    assert not shared.good("nodes", "list", "--config", shared.config).count("alive")


def test_an_object_that_the_backup_has_lost_is_named(shared: Target) -> None:
    backups = shared.root / "backups"
    shutil.copytree(shared.backups, backups)
    shared.backups = backups
    folder = BackupFolder.open(backups)
    (generation,) = folder.generations()
    one, other = (
        next(entry for entry in generation.entries() if uid(number) in entry.path)
        for number in (4, 5)
    )
    folder.path_of(one.sha256).unlink()
    content = bytearray(folder.path_of(other.sha256).read_bytes())
    content[-1] ^= 1
    folder.path_of(other.sha256).write_bytes(content)
    code, _, err = shared.restore()
    assert code == 1
    assert "1 files are missing in the backup" in err
    assert not shared.data_dir.exists()
    code, out, err = shared.restore("--incomplete")
    assert code == 1
    assert f"not restored: {one.path} (is not in the backup)" in err
    assert f"not restored: {other.path} (is damaged in the backup)" in err
    assert "2 missing" in out
    assert [key for key in keys_in(location_of(shared)) if uid(1) in key]


def test_a_database_that_is_away_is_named_and_nothing_is_made(shared: Target) -> None:
    database, shared.database = shared.database, "nowhere"
    shared.configure()
    code, _, err = shared.restore()
    assert code == 1
    assert "nowhere" in err
    assert not shared.data_dir.exists()
    shared.database, shared.objects = database, shared.objects.replace("bucket-", "no-bucket-")
    shared.configure()
    code, _, err = shared.restore()
    assert code == 1
    assert "no-bucket-" in err
    assert not shared.data_dir.exists()


def test_the_data_directory_is_no_folder_that_nodes_share(
    shared: Target,
) -> None:
    (shared.root / "alias").symlink_to(shared.data_dir)
    for folder in (shared.data_dir, shared.root / "alias"):
        shared.objects = f"file://{folder}"
        shared.configure()
        for words in (["restore", shared.backups], ["db", "stats"], ["import", shared.root]):
            code, _, err = shared.call(*words, "--config", shared.config)
            assert code == 1
            assert "objects.url names the data directory itself" in err
    assert not list(shared.data_dir.glob("*"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data-dir", "{root}/file"], "file: Not a directory"),
        (["--data-dir", "{root}/n", "--objects", "file://{root}/file"], "which is no folder"),
        (["--data-dir", "{root}/n", "--database", "postgres:/x"], "must begin with postgresql://"),
        (
            ["--data-dir", "{root}/n", "--database", "postgresql://localhost/x?foo=1"],
            'the database postgresql://localhost/x failed ( invalid URI query parameter: "foo")',
        ),
    ],
)
def test_what_was_typed_wrong_is_said(
    tmp_path: Path, old: Path, capsys: Output, options: list[str], said: str
) -> None:
    (tmp_path / "file").touch()
    words = [word.format(root=tmp_path) for word in options]
    assert main(["restore", str(old / "backups"), *words]) in (1, 2)
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
