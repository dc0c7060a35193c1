"""`isocenter migrate`, as an operator types it: files and SQLite to PostgreSQL and S3, and back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio

from isocenter.services.backup.relocation import object_copies, table_copies
from isocenter.services.cli import main
from isocenter.services.cluster.member import NodeIdentity
from isocenter.services.composition import relocation as composed
from isocenter.services.security.audit.trail_verification import verify as verify_trail
from isocenter.services.service_classes.print.job import ComposedFilm, NewPrintJob
from isocenter.storage.database.cluster import DatabaseMembers
from isocenter.storage.database.postgresql.database import PostgresqlDatabase
from isocenter.storage.database.postgresql.opening import Place
from isocenter.storage.database.postgresql.opening import connect as connect_postgresql
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.objects.files.directory import lock_folder
from isocenter.storage.stores import open_postgresql_stores, open_sqlite_stores
from services.archive_contents import objects_below, rows_of, sqlite_rows
from services.archive_support import STUDY, uid
from services.cli_support import write_object
from support.buckets import connect, keys_in, new_location
from support.postgresql import Server

Output = pytest.CaptureFixture[str]

KEYS = "first = " + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


class Site:
    """An archive as files and SQLite, and what is needed to move it."""

    def __init__(self, root: Path, capsys: Output, server: Server) -> None:
        self.root = root
        self.old = root / "old"
        self.server = server
        self.database = server.new_database()
        self.location = new_location("pacs")
        self._capsys = capsys
        keys = root / "objects.keys"
        keys.write_text(KEYS)
        keys.chmod(0o600)
        self.new = root / "new.toml"
        self.new.write_text(
            f"""
            [storage]
            data_dir = "{root / "new"}"
            [database]
            url = "{server.url(self.database)}"
            [objects]
            url = "{self.location}"
            keys_file = "{keys}"
            """
        )

    def call(self, *words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def good(self, *words: object) -> str:
        code, out, err = self.call(*words)
        assert code == 0, out + err
        return out + err

    def migrate(self, *options: object, to: Path | None = None) -> tuple[int, str, str]:
        return self.call("migrate", "--from", self.old, "--to", to or self.new, *options)

    def add(self, *numbers: int, pixels: bytes = bytes(64)) -> None:
        files = self.root / f"files{min(numbers)}"
        files.mkdir()
        for number in numbers:
            write_object(files, number, pixels=pixels)
        self.good("import", files, "--data-dir", self.old)

    def object(self, number: int, data_dir: str = "old") -> Path:
        (path,) = (self.root / data_dir / "objects").rglob(f"{uid(number)}.dcm")
        return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a large object, one in the trash, a policy and a CA."""
    root = tmp_path_factory.mktemp("archive")
    large, small = root / "large", root / "small"
    for folder in (large, small):
        folder.mkdir()
    # More than one part of a multipart upload.
    write_object(large, 1, pixels=os.urandom(9 << 20))
    for number in (2, 3, 4, 5):
        write_object(small, number)
    for words in (
        ["import", large, small],
        ["ae", "add", "CT1", "--name", "CT1"],
        ["certs", "init"],
        ["delete", "--instance", uid(5), "--yes", "--reason", "test"],
    ):
        assert main([*map(str, words), "--data-dir", str(root / "old")]) == 0
    return root / "old"


@pytest.fixture
def site(
    tmp_path: Path, capsys: Output, postgresql_server: Server, archive: Path
) -> Iterator[Site]:
    site = Site(tmp_path, capsys, postgresql_server)
    shutil.copytree(archive, site.old)
    capsys.readouterr()
    yield site
    site.server.give_back(site.database)


def bytes_of(site: Site, key: str) -> bytes:
    return bytes(trio.run(connect(site.location).get, key, 0, 200)[1])


def postgresql_rows(site: Site) -> Mapping[str, list[tuple[Any, ...]]]:
    with connect_postgresql(Place(site.server.conninfo(site.database))) as connection:
        return rows_of(connection)


async def print_film(database: Path) -> None:
    async with open_sqlite_stores(database) as stores:
        film = ComposedFilm(png=b"a film", width=1, height=1, dots_per_inch=150)
        assert await stores.print_jobs.submit(
            NewPrintJob(job_uid="1.2.3", originator="CT1", films=(film,)), most=1
        )


def test_an_archive_goes_to_postgresql_and_s3_and_comes_back_the_same(site: Site) -> None:
    trio.run(print_film, site.old / "index.db")
    code, out, err = site.migrate()
    assert code == 0, out + err
    assert "5 objects" in out
    assert "--final" in err
    # What came since, and what has left.
    site.add(6)
    site.good("delete", "--instance", uid(4), "--yes", "--reason", "test", "--data-dir", site.old)
    code, out, err = site.migrate("--final")
    assert code == 0, out + err
    assert "2 objects" in out  # one came, one is in the trash now
    assert f"serve --config {site.new}" in err
    assert postgresql_rows(site) == sqlite_rows(site.old)
    stored = [key.partition("/")[2] for key in keys_in(site.location)]
    assert len([key for key in stored if key.startswith("objects/")]) == 4
    assert len([key for key in stored if key.startswith("trash/") and key.endswith("dcm")]) == 2
    assert all(b"DICM" not in bytes_of(site, key) for key in stored)  # encrypted
    assert not (site.root / "new" / "relocating.json").exists()
    assert not list((site.root / "new").glob("relocation.db*"))
    site.good("db", "verify", "--config", site.new)
    assert verify_trail(site.root / "new" / "audit").is_good

    back = site.root / "back"
    code, out, err = site.call("migrate", "--from", site.new, "--to", back, "--final")
    assert code == 0, out + err
    assert sqlite_rows(back) == postgresql_rows(site)
    assert objects_below(back) == objects_below(site.old)
    policy = "access/policy.json"
    assert (back / policy).read_bytes() == (site.old / policy).read_bytes()
    assert "films/1.2.3/1.2.3-1.png" in stored
    assert (back / "films" / "1.2.3" / "1.png").read_bytes() == b"a film"
    assert verify_trail(back / "audit").is_good
    assert "CT1" in site.good("ae", "list", "--data-dir", back)
    assert "instances                 4" in site.good("db", "stats", "--data-dir", back)


def with_tiers(path: Path, data_dir: Path, **places: object) -> Path:
    """Settings of an archive with tiers, which can be read at once."""
    lines = [
        f'{tier} = "{f"file://{place}" if isinstance(place, Path) else place}"'
        for tier, place in places.items()
    ]
    lines += [f'{tier}_availability = "online"' for tier in places]
    storage = f'[storage]\ndata_dir = "{data_dir}"\n'
    path.write_text("\n".join([storage, "[tiers]", *lines]))
    return path


def test_an_archive_with_tiers_goes_to_other_ones_and_back(site: Site) -> None:
    root = site.root
    old = with_tiers(root / "old.toml", site.old, warm=new_location("w"), cold=root / "cold")
    site.good("tiers", "move", STUDY, "--to", "cold", "--config", old)
    site.add(7)
    site.good("delete", "--instance", uid(3), "--yes", "--reason", "test", "--config", old)
    new = with_tiers(root / "tiers.toml", root / "there", warm=root / "w", cold=new_location("c"))
    for options in ((), ("--final",)):
        code, out, err = site.call("migrate", "--from", old, "--to", new, *options)
        assert code == 0, out + err
    assert sqlite_rows(root / "there") == sqlite_rows(site.old)
    assert objects_below(root / "there") == objects_below(site.old)
    site.good("db", "verify", "--config", new)
    back = with_tiers(root / "back.toml", root / "back", warm=root / "w2", cold=root / "c2")
    code, out, err = site.call("migrate", "--from", new, "--to", back, "--final")
    assert code == 0, out + err
    assert objects_below(root / "back") == objects_below(site.old)
    assert objects_below(root / "c2") == objects_below(root / "cold")
    assert objects_below(root / "c2")
    site.good("trash", "restore", "--instance", uid(3), "--config", back)
    site.good("db", "verify", "--config", back)


def test_a_tier_that_the_target_lacks_is_named(site: Site) -> None:
    old = with_tiers(site.root / "old.toml", site.old, cold=site.root / "cold")
    code, _, err = site.call("migrate", "--from", old, "--to", site.root / "new")
    assert code == 1
    assert "has no such tier; give it one (tiers.cold)" in err
    same = with_tiers(site.root / "same.toml", site.root / "new", cold=site.root / "cold")
    code, _, err = site.call("migrate", "--from", old, "--to", same)
    assert code == 1
    assert "both archives have the same place of a tier (tiers.cold)" in err


def test_a_damaged_and_a_missing_object_are_named_and_stop_nothing(site: Site) -> None:
    damaged, missing = site.object(2), site.object(3)
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    missing.unlink()
    for options in ((), ("--final",)):
        code, out, err = site.migrate(*options)
        assert code == 1, out + err
        assert f"damaged: {uid(2)}" in err
        assert f"missing: {uid(3)}" in err
        assert uid(4) not in err
    back = site.root / "back"
    code, out, err = site.call("migrate", "--from", site.new, "--to", back, "--final")
    assert code == 1
    assert objects_below(back) == objects_below(site.old)
    assert sqlite_rows(back) == sqlite_rows(site.old)


def test_what_was_deleted_twice_is_in_the_trash_twice(site: Site) -> None:
    files = site.root / "again"
    files.mkdir()
    write_object(files, 5)
    site.good("import", files, "--data-dir", site.old)
    site.good("delete", "--instance", uid(5), "--yes", "--reason", "again", "--data-dir", site.old)
    # Its key comes to mean another object there, which is encrypted anew.
    code, out, err = site.migrate("--final")
    assert code == 0, out + err
    new = site.root / "files"
    code, out, err = site.call("migrate", "--from", site.new, "--to", new, "--final")
    assert code == 0, out + err
    assert len([path for path in objects_below(new) if path.endswith(f"{uid(5)}.dcm")]) == 2
    assert objects_below(new) == objects_below(site.old)


def test_what_was_killed_goes_on_where_it_was(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    script = site.root / "killed.py"
    script.write_text(
        """
import os, signal, sys
from isocenter.services.backup.relocation import object_copies, table_copies
from isocenter.services.cli import main
object_copies._AT_ONCE = 1
compare, number = object_copies.ObjectCopier._compare, 0
async def killing(self, copy):
    global number
    await compare(self, copy)
    number += 1
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
object_copies.ObjectCopier._compare = killing
main(sys.argv[1:])
"""
    )
    words = ["migrate", "--from", str(site.old), "--to", str(site.new)]
    done = subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    # Nobody may serve what is half there.
    code, _, err = site.call("db", "stats", "--config", site.new)
    assert code == 1
    assert "is not finished" in err
    code, out, err = site.migrate("--final")
    assert code == 0, out + err
    assert "2 were there already" in out
    assert postgresql_rows(site) == sqlite_rows(site.old)
    site.good("db", "verify", "--config", site.new)


@pytest.mark.parametrize("place", ["digests", "rows", "finish"])
def test_what_failed_anywhere_is_done_again(
    site: Site, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Exception):
        pass

    async def fail(*_: object) -> None:
        raise Failing

    def fail_now(*_: object) -> None:
        raise Failing

    with monkeypatch.context() as patch:
        match place:
            case "digests":  # rows are in the target, nobody knows
                patch.setattr(table_copies, "_count", fail_now)
            case "rows":
                patch.setattr(PostgresqlDatabase, "raise_numbers", fail)
            case "finish":
                patch.setattr(composed, "remove_mark", fail_now)
        with pytest.raises(Failing):
            site.migrate("--final")
    code, out, err = site.migrate("--final")
    assert code == 0, out + err
    assert postgresql_rows(site) == sqlite_rows(site.old)


def test_a_target_that_is_not_empty_is_refused(site: Site) -> None:
    used = site.root / "used"
    files = site.root / "others"
    files.mkdir()
    write_object(files, 9)
    site.good("import", files, "--data-dir", used)
    before = objects_below(used), sqlite_rows(used)
    code, _, err = site.migrate(to=used)
    assert code == 1
    assert "is not empty" in err
    assert (objects_below(used), sqlite_rows(used)) == before
    assert not (used / "relocating.json").exists()
    code, _, err = site.migrate("--dry-run", to=used)
    assert code == 1
    assert "has an archive already" in err


def test_a_target_that_was_served_in_between_is_refused(site: Site) -> None:
    site.migrate()
    with connect_postgresql(Place(site.server.conninfo(site.database))) as connection:
        connection.execute(
            "INSERT INTO study_hold VALUES ('1.2.3', 'somebody works here', 'admin', 0)"
        )
    code, _, err = site.migrate("--final")
    assert code == 1
    assert "written to since the last pass (rows in" in err


def test_files_of_the_target_are_not_replaced(site: Site) -> None:
    policy = site.root / "new" / "access" / "policy.json"
    policy.parent.mkdir(parents=True)
    policy.write_text("{}")
    code, _, err = site.migrate()
    assert code == 1
    assert f"files of its own: {policy}" in err
    assert policy.read_text() == "{}"


@pytest.mark.parametrize(
    ("origin", "target", "said"),
    [
        ("old", "old", "the same data directory"),
        ("old", "old/inside", "within each other"),
        ("nothing", "new", "no such file of settings or data directory"),
        ("old", "missing.toml", "no such file of settings"),
    ],
)
def test_ends_that_cannot_be_are_refused(site: Site, origin: str, target: str, said: str) -> None:
    code, _, err = site.call("migrate", "--from", site.root / origin, "--to", site.root / target)
    assert code in (1, 2)
    assert said in err


def test_another_archive_is_not_mixed_in(site: Site) -> None:
    site.migrate()
    other = site.root / "other"
    files = site.root / "others"
    files.mkdir()
    write_object(files, 9)
    site.good("import", files, "--data-dir", other)
    code, _, err = site.call("migrate", "--from", other, "--to", site.new)
    assert code == 1
    assert "a relocation of another archive" in err


def test_a_dry_run_tells_and_writes_nothing(site: Site) -> None:
    code, out, err = site.migrate("--dry-run")
    assert code == 0, out + err
    assert "would copy 5 objects" in out
    assert "would leave the table staged_object" in out
    assert not (site.root / "new").exists()
    assert not keys_in(site.location)
    with psycopg.connect(site.server.conninfo(site.database)) as connection:
        (there,) = connection.execute("SELECT to_regclass('isocenter.relocation')").fetchone()
    assert there is None


def test_the_final_pass_wants_the_server_stopped(site: Site) -> None:
    with locked(site.old):
        code, _, err = site.migrate("--final")
        assert code == 1
        assert "the archive to be copied" in err
        # While it serves, the others go.
        code, out, err = site.migrate()
        assert code == 0, out + err


def test_nodes_of_a_shared_archive_have_to_be_stopped(site: Site) -> None:
    site.migrate("--final")
    back = site.root / "back"

    async def join() -> None:
        async with open_postgresql_stores(site.server.conninfo(site.database)) as stores:
            await stores.members.join(NodeIdentity(name="other", place="elsewhere"))

    trio.run(join)
    code, _, err = site.call("migrate", "--from", site.new, "--to", back, "--final")
    assert code == 1
    assert "has nodes that live: other" in err
    # While they serve, the others go.
    assert site.call("migrate", "--from", site.new, "--to", back)[0] == 0


def test_a_node_that_was_started_meanwhile_keeps_it_from_being_final(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have stored something behind the pass that nobody would look for."""
    relocate = composed.relocate

    async def relocate_and_serve(source: Any, *arguments: Any, **options: Any) -> Any:
        report = await relocate(source, *arguments, **options)
        async with open_sqlite_database(site.old / "index.db") as database:
            members = DatabaseMembers(database)
            node = NodeIdentity(name="other", place="elsewhere")
            await members.join(node)
            await members.leave(node)
        return report

    new = site.root / "files"
    (site.old / "node.id").write_text("tells this data directory from all others")
    with monkeypatch.context() as patch:
        patch.setattr(composed, "relocate", relocate_and_serve)
        code, _, err = site.migrate("--final", to=new)
    assert code == 1
    assert "to be copied has nodes that live: other" in err
    assert (new / "relocating.json").exists()
    assert site.migrate("--final", to=new)[0] == 0
    assert not (new / "relocating.json").exists()
    assert not (new / "node.id").exists()


def test_ctrl_c_stops_and_the_next_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = object_copies.ObjectCopier._stage
    number = 0

    async def interrupted(self: object, one: object) -> object:
        nonlocal number
        number += 1
        if number == 3:
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep_forever()
        return await stage(self, one)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(object_copies, "_AT_ONCE", 1)
        patch.setattr(object_copies.ObjectCopier, "_stage", interrupted)
        code, _, err = site.migrate()
    assert code == 130
    assert "the next one goes on" in err
    code, out, err = site.migrate("--final")
    assert code == 0
    assert "2 were there already" in out


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """As by a server that runs."""
    descriptor = lock_folder(str(data_dir), shared=False)
    try:
        yield
    finally:
        os.close(descriptor)
