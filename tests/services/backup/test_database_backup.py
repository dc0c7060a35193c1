"""`isocenter backup` of an archive in PostgreSQL, and its restore, as an operator types them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from isocenter.services.backup.generation import Generation
from isocenter.services.backup.index_in_use import DatabaseInUse
from isocenter.services.backup.repository import BackupFolder
from isocenter.services.cli import main
from isocenter.services.composition.archive import open_archive_parts
from isocenter.services.composition.objects import connect as connect_place
from isocenter.services.errors import StorageError
from isocenter.services.security.audit.trail_verification import verify as verify_trail
from isocenter.services.service_classes.print.job import ComposedFilm, NewPrintJob
from isocenter.services.settings.loading import load_settings
from isocenter.storage.database.postgresql.opening import Place
from isocenter.storage.database.postgresql.opening import connect as connect_postgresql
from isocenter.storage.database.sqlite.schema import LATEST_VERSION
from isocenter.storage.objects.cloud.films import BucketFilms
from isocenter.storage.objects.cloud.trash import CloudTrash
from isocenter.storage.objects.films import FolderFilms
from isocenter.storage.stores import StoresOptions, open_postgresql_stores
from services.archive_contents import objects_below, rows_of, sqlite_rows
from services.archive_support import uid
from services.cli_support import write_object
from support.buckets import new_location
from support.postgresql import Server
from support.processes import ISOCENTER, run

Output = pytest.CaptureFixture[str]

#: Of buckets.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret"}


class Site:
    """An archive in PostgreSQL, and where it is backed up to."""

    def __init__(self, root: Path, server: Server, capsys: Output) -> None:
        self.root = root
        self.server = server
        self.data_dir = root / "data"
        self.backups = root / "backups"
        self.database = server.new_database()
        self.config = self.settings("data", self.database)
        self._capsys = capsys

    def settings(self, data_dir: str, database: str, objects: object = "") -> Path:
        config = self.root / f"{data_dir}.toml"
        config.write_text(
            f"""
            [storage]
            data_dir = "{self.root / data_dir}"
            duplicates = "replace"
            [database]
            url = "{self.server.url(database)}"
            [objects]
            url = "{objects}"
            """
        )
        return config

    def call(self, *words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def good(self, *words: object) -> str:
        code, out, err = self.call(*words)
        assert code == 0, out + err
        return out + err

    def here(self, *words: object) -> str:
        return self.good(*words, "--config", self.config)

    def add(self, *numbers: int, pixels: bytes = bytes(64)) -> None:
        files = self.root / f"files{min(numbers)}-{len(pixels)}"
        files.mkdir()
        for number in numbers:
            write_object(files, number, pixels=pixels)
        self.here("import", files)

    def back_up(self) -> Generation:
        self.here("backup", self.backups)
        self.good("backup", "--verify", self.backups)
        return BackupFolder.open(self.backups).generations()[-1]

    def restore(self, to: str = "new") -> Path:
        self.good("restore", self.backups, "--data-dir", self.root / to)
        return self.root / to

    def rows(self, database: str | None = None) -> Mapping[str, list[tuple[Any, ...]]]:
        place = Place(self.server.conninfo(database or self.database))
        with connect_postgresql(place) as connection:
            return rows_of(connection)

    def execute(self, statement: bytes) -> None:
        with connect_postgresql(Place(self.server.conninfo(self.database))) as connection:
            connection.execute(statement)


@pytest.fixture
def site(tmp_path: Path, postgresql_server: Server, capsys: Output) -> Iterator[Site]:
    site = Site(tmp_path, postgresql_server, capsys)
    site.add(1, 2, 3)
    site.here("ae", "add", "CT1", "--name", "CT1")
    yield site
    postgresql_server.drop_database(site.database)


async def print_film(site: Site) -> None:
    options = StoresOptions(films=FolderFilms(site.data_dir / "films"))
    conninfo = site.server.conninfo(site.database)
    async with open_postgresql_stores(conninfo, options) as stores:
        film = ComposedFilm(png=b"a film", width=1, height=1, dots_per_inch=150)
        job = NewPrintJob(job_uid="1.2.3", originator="CT1", films=(film,))
        assert await stores.print_jobs.submit(job, most=1)


def meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch, *commands: list[object], say: Callable[[], None]
) -> None:
    """Have *commands* run once the first copy of the database is made, as others do."""
    copied, left = DatabaseInUse.copy_to, [*commands]

    async def copy_and_go_on(self: DatabaseInUse, *arguments: Any) -> None:
        await copied(self, *arguments)
        while left:
            words = left.pop(0)
            command = partial(
                run, *ISOCENTER, *words, "--config", site.config, environment=CREDENTIALS
            )
            done = await trio.to_thread.run_sync(command)
            assert done.returncode == 0, done.stdout
            say()

    monkeypatch.setattr(DatabaseInUse, "copy_to", copy_and_go_on)


def test_an_archive_comes_back_as_files_and_goes_to_another_database(site: Site) -> None:
    trio.run(print_film, site)
    site.here("delete", "--instance", uid(1), "--yes", "--reason", "a test")
    generation = site.back_up()
    manifest = generation.manifest()
    assert (manifest.instances, manifest.trashed) == (2, 1)
    rows = site.rows()
    assert sqlite_rows(generation.folder) == rows
    assert not list(generation.folder.glob("index.db?*"))
    new = site.restore()
    assert objects_below(new) == objects_below(site.data_dir)
    assert (new / "films/1.2.3/1.png").read_bytes() == b"a film"
    assert verify_trail(new / "audit").is_good
    assert "CT1" in site.good("ae", "list", "--data-dir", new)
    # It is an archive of its own, which knows nothing of PostgreSQL.
    site.good("trash", "restore", "--instance", uid(1), "--data-dir", new)
    assert "3 instances, 3 objects" in site.good("db", "verify", "--data-dir", new)

    again = site.restore(to="again")
    database = site.server.new_database()
    config = site.settings("served", database)
    site.good("migrate", "--from", again, "--to", config, "--final")
    assert site.rows(database) == rows
    assert objects_below(site.root / "served") == objects_below(site.data_dir)
    site.good("db", "verify", "--config", config)
    site.server.drop_database(database)


def test_the_next_backup_copies_only_what_is_new(site: Site) -> None:
    first = site.back_up()
    site.add(4)
    second = site.back_up()
    # One object, the audit trail, and its head.
    assert second.manifest().copied == 3
    assert second.manifest().schema_version == LATEST_VERSION
    assert "2 backups" in site.good("backup", "--verify", "--all", site.backups)
    out = site.good(
        "restore", site.backups, "--data-dir", site.root / "old", "--generation", first.name
    )
    assert "3 instances, 3 objects" in out


def test_what_is_deleted_and_purged_meanwhile_is_in_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside: list[bool] = []
    with monkeypatch.context() as patch:
        meanwhile(
            site,
            patch,
            ["delete", "--instance", uid(2), "--reason", "meanwhile", "--yes"],
            ["trash", "purge", "--all", "--yes"],
            say=lambda: aside.append((site.data_dir / "removed").is_dir()),
        )
        manifest = site.back_up().manifest()
    assert aside == [True, True]
    assert (manifest.instances, manifest.trashed) == (3, 0)
    assert not (site.data_dir / "removed").exists()
    new = site.restore()
    assert "3 instances, 3 objects" in site.good("db", "verify", "--data-dir", new)


def test_what_is_replaced_meanwhile_is_in_it_as_it_was(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = site.root / "others"
    files.mkdir()
    write_object(files, 2, pixels=bytes(100))
    before = objects_below(site.data_dir)
    replaced: list[None] = []
    with monkeypatch.context() as patch:
        meanwhile(site, patch, ["import", files], say=lambda: replaced.append(None))
        site.back_up()
    assert replaced
    assert objects_below(site.data_dir) != before
    new = site.restore()
    assert objects_below(new) == before
    assert "3 instances, 3 objects" in site.good("db", "verify", "--data-dir", new)


def test_what_the_archive_has_lost_is_named(site: Site) -> None:
    (path,) = (site.data_dir / "objects").rglob(f"{uid(1)}.dcm")
    path.unlink()
    (path,) = (site.data_dir / "objects").rglob(f"{uid(2)}.dcm")
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    code, _, err = site.call("backup", site.backups, "--config", site.config)
    assert code == 1
    assert f"not in the backup: {uid(1)} (its object is gone)" in err
    assert f"not in the backup: {uid(2)} (the data set is not the one that was stored)" in err


def test_what_a_newer_program_has_added_is_not_left_behind(site: Site) -> None:
    site.execute(
        b"INSERT INTO schema_version (version, description, applied_at, is_expansion) "
        b"SELECT max(version) + 1, 'more', '', 1 FROM schema_version"
    )
    code, _, err = site.call("backup", site.backups, "--config", site.config)
    assert code == 1
    assert "migrated by a newer Isocenter" in err
    assert "run isocenter backup of the newer version" in err
    assert not site.backups.exists()


def test_a_database_that_is_away_is_named_and_nothing_is_made(site: Site) -> None:
    text = site.config.read_text()
    site.config.write_text(text.replace(site.database, "nowhere"))
    code, _, err = site.call("backup", site.backups, "--config", site.config)
    assert code == 1
    assert "nowhere" in err
    assert not site.backups.exists()


def test_a_backup_that_was_cut_short_is_taken_over(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = DatabaseInUse.copy_to

    async def fail(self: DatabaseInUse, target: Path, *arguments: Any) -> None:
        def stop(done: int, total: int) -> None:
            if done > total // 4:
                raise OSError(28, "No space left on device", str(target))

        await copied(self, target, stop)

    with monkeypatch.context() as patch:
        patch.setattr(DatabaseInUse, "copy_to", fail)
        code, _, err = site.call("backup", site.backups, "--config", site.config)
        assert code == 1
        assert "No space left on device" in err
    assert "not finished" in site.good("backup", "--list", site.backups)
    site.back_up()
    assert "not finished" not in site.good("backup", "--list", site.backups)
    assert "3 instances, 3 objects" in site.good("db", "verify", "--data-dir", site.restore())


@pytest.fixture(params=["bucket", "folder"])
def elsewhere(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgresql_server: Server,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Site]:
    """The archive of a node: objects, trash and films are where others have them, too."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    site = Site(tmp_path, postgresql_server, capsys)
    objects = new_location("pacs") if request.param == "bucket" else f"file://{tmp_path / 'shared'}"
    site.config = site.settings("data", site.database, objects)
    keys = tmp_path / "objects.keys"
    keys.write_text("first = QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=")
    keys.chmod(0o600)
    if request.param == "bucket":
        site.config.write_text(f'{site.config.read_text()}\nkeys_file = "{keys}"\n')
    site.add(1, 2, 3)
    yield site
    postgresql_server.drop_database(site.database)


async def film_of_node(site: Site, films: Sequence[bytes] = (b"a film",)) -> None:
    async with open_archive_parts(load_settings(site.config), lock=False, recover=False) as parts:
        composed = tuple(
            ComposedFilm(png=png, width=1, height=1, dots_per_inch=150) for png in films
        )
        job = NewPrintJob(job_uid="1.2.3", originator="CT1", films=composed)
        assert await parts.stores.print_jobs.submit(job, most=1)


def test_objects_that_nodes_share_come_back_as_files(
    elsewhere: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = elsewhere
    trio.run(film_of_node, site)
    site.here("delete", "--instance", uid(1), "--yes", "--reason", "a test")
    with monkeypatch.context() as patch:
        # What leaves after the first copy has another one made.
        words: list[object] = ["delete", "--instance", uid(2), "--reason", "meanwhile", "--yes"]
        meanwhile(site, patch, words, say=lambda: None)
        generation = site.back_up()
    manifest = generation.manifest()
    assert (manifest.instances, manifest.trashed) == (1, 2)
    assert sqlite_rows(generation.folder) == site.rows()
    new = site.restore()
    assert (new / "films/1.2.3/1.png").read_bytes() == b"a film"
    assert len(list((new / "trash").glob("*/deletion.json"))) == 2
    for number in (1, 2):
        site.good("trash", "restore", "--instance", uid(number), "--data-dir", new)
    assert "3 instances, 3 objects" in site.good("db", "verify", "--data-dir", new)
    # Again, of what is there still.
    site.here("trash", "purge", "--all", "--yes")
    again = site.back_up().manifest()
    assert (again.instances, again.trashed) == (1, 0)


def test_a_film_that_cannot_be_read_is_named_and_the_rest_is_there(elsewhere: Site) -> None:
    site = elsewhere
    trio.run(partial(film_of_node, site, films=(b"one", b"two", b"three")))
    settings = load_settings(site.config)
    assert settings.objects.url is not None

    async def spoil() -> None:
        bucket = connect_place(settings, settings.objects.url)
        await bucket.delete("films/1.2.3/1.2.3-1.png")
        path = "films/1.2.3/1.2.3-2.png"
        _, content = await bucket.get(path, 0, 1 << 20)
        spoilt = bytes(content)[:-1] + b"?"
        await bucket.replace(path, io.BytesIO(spoilt), size=len(spoilt))

    trio.run(spoil)
    is_encrypted = settings.objects.keys_file is not None
    code, out, err = site.call("backup", site.backups, "--config", site.config)
    assert code == 1
    assert "3 instances" in out
    assert "not in the backup: films/1.2.3/1.png (it is gone)" in err
    said = "not in the backup: films/1.2.3/2.png (cannot be read: an object was changed in the"
    assert (said in err) == is_encrypted
    assert f"has lost {2 if is_encrypted else 1} of what it should have" in err
    site.good("backup", "--verify", site.backups)
    code, out, err = site.call("restore", site.backups, "--data-dir", site.root / "new")
    assert code == 1
    assert "3 instances, 3 objects" in out
    assert (site.root / "new" / "films/1.2.3/3.png").read_bytes() == b"three"


def test_where_no_film_can_be_read_there_is_no_backup(
    elsewhere: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = elsewhere
    trio.run(partial(film_of_node, site, films=(b"a film",) * 21))

    async def fail(*_: object) -> None:
        raise StorageError("the bucket is away")

    with monkeypatch.context() as patch:
        patch.setattr(BucketFilms, "get", fail)
        code, _, err = site.call("backup", site.backups, "--config", site.config)
    assert code == 1
    assert "the bucket is away" in err
    assert "not finished" in site.good("backup", "--list", site.backups)


def test_what_the_trash_of_a_bucket_does_not_tell_is_named(
    elsewhere: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = elsewhere
    site.here("delete", "--instance", uid(1), "--yes", "--reason", "a test")

    async def fail(*_: object) -> None:
        raise StorageError("it cannot be read today")

    with monkeypatch.context() as patch:
        patch.setattr(CloudTrash, "_manifest", fail)
        code, _, err = site.call("backup", site.backups, "--config", site.config)
    assert code == 1
    assert "/deletion.json (cannot be read: it cannot be read today)" in err
    assert site.call("restore", site.backups, "--data-dir", site.root / "new")[0] == 1
    site.good("trash", "restore", "--instance", uid(1), "--data-dir", site.root / "new")


def test_a_bucket_beside_an_index_file_is_backed_up_as_well(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    files, backups, new = tmp_path / "files", tmp_path / "backups", tmp_path / "new"
    files.mkdir()
    for number in (1, 2):
        write_object(files, number)
    where = ("--data-dir", tmp_path / "data", "--objects", new_location("pacs"))
    there = ("--data-dir", new)
    deletion = ("delete", "--instance", uid(1), "--yes", "--reason", "a test")
    for words in (
        ("import", files, *where),
        (*deletion, *where),
        ("backup", backups, *where),
        ("backup", "--verify", backups),
        ("restore", backups, *there),
        ("trash", "restore", "--instance", uid(1), *there),
        ("db", "verify", *there),
    ):
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert code == 0, captured.out + captured.err
    assert "2 instances, 2 objects" in captured.out


def test_a_folder_of_objects_within_the_data_directory_is_taken_once(
    tmp_path: Path, capsys: Output
) -> None:
    files, backups, data, new = (tmp_path / name for name in ("files", "backups", "data", "new"))
    files.mkdir()
    write_object(files, 1)
    where = ("--data-dir", data, "--objects", f"file://{data / 'disk'}")
    for words in (
        ("import", files, *where),
        ("backup", backups, *where),
        ("restore", backups, "--data-dir", new),
    ):
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert code == 0, captured.out + captured.err
    assert "1 instances, 1 objects" in captured.out
    assert len(list(new.rglob("*.dcm"))) == 1
    assert not (new / "disk").exists()
