"""Backup of an archive in PostgreSQL and a bucket, as `docs/how-to/postgresql.md` says."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from isocenter.services.cli import main
from services.archive_support import uid
from services.cli_support import write_object
from support.buckets import new_location
from support.postgresql import Server, binaries, running_server

pytestmark = [pytest.mark.interop("pg_dump"), pytest.mark.slow]

_SECONDS = 60.0
_ARCHIVING = (
    "fsync=off", "archive_mode=on", "archive_command='cp %p ../wal/%f'",
)  # fmt: skip


class Site:
    """An archive on a server that archives its log."""

    def __init__(self, root: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.server = server
        self.location = new_location("pacs")
        self._capsys = capsys
        server.execute("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", "pacs")
        self.config = self.settings("data", "pacs")

    def settings(self, data_dir: str, database: str) -> Path:
        config = self.root / f"{data_dir}.toml"
        config.write_text(
            f"""
            [storage]
            data_dir = "{self.root / data_dir}"
            [database]
            url = "{self.server.url(database)}"
            [objects]
            url = "{self.location}"
            """
        )
        return config

    def call(self, *words: object, config: Path | None = None, code: int = 0) -> str:
        ended = main([*map(str, words), "--config", str(config or self.config)])
        captured = self._capsys.readouterr()
        assert ended == code, captured.out + captured.err
        return captured.out

    def add(self, *numbers: int) -> None:
        files = self.root / f"files{min(numbers)}"
        files.mkdir()
        for number in numbers:
            write_object(files, number)
        self.call("import", files)

    def found(self, config: Path | None = None) -> set[int]:
        out = self.call("dbbrowser", "instances", "--json", config=config)
        return {number for number in range(1, 9) if f'"{uid(number)}"' in out}

    def until(self, is_so: Callable[[], bool]) -> None:
        """PostgreSQL brings it about."""
        deadline = time.monotonic() + _SECONDS
        with psycopg.connect(self.server.conninfo()) as connection:
            while not is_so():
                assert time.monotonic() < deadline, "it took too long"
                connection.execute("SELECT pg_sleep(0.05)")

    def ask(self, question: str) -> str:
        with psycopg.connect(self.server.conninfo("pacs"), autocommit=True) as connection:
            (answer,) = connection.execute(question.encode()).fetchone() or ("",)
        return str(answer)


@pytest.fixture
def site(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    if binaries() is None:
        pytest.skip("needs PostgreSQL (Debian: apt-get install postgresql)")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with running_server(*_ARCHIVING) as server:
        wal = server.folder / "wal"
        wal.mkdir(mode=0o777)
        wal.chmod(0o777)
        yield Site(tmp_path, server, capsys)


def test_a_dump_is_restored_and_what_came_since_is_taken_in(site: Site) -> None:
    site.add(1, 2)
    dump = site.server.folder / "pacs.dump"
    site.server.run("pg_dump", "-Fc", "-f", str(dump), "-d", site.server.conninfo("pacs"))
    site.add(3)
    site.server.execute("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", "restored")
    site.server.run("pg_restore", "-d", site.server.conninfo("restored"), str(dump))
    config = site.settings("elsewhere", "restored")
    assert site.found(config) == {1, 2}
    site.call("db", "reindex", config=config)
    assert site.found(config) == {1, 2, 3}
    site.call("db", "verify", config=config)


def test_the_database_goes_back_to_a_point_in_time(site: Site) -> None:
    folder = site.server.folder
    site.add(1, 2)
    site.server.run("pg_basebackup", "-D", str(folder / "base"), "-c", "fast", "-X", "none", "-d",
                    site.server.conninfo("pacs"))  # fmt: skip
    site.add(3)
    site.ask("SELECT pg_create_restore_point('before the mistake')")
    site.add(4)
    site.call("delete", "--instance", uid(1), "--yes", "--reason", "a mistake")
    last = site.ask("SELECT pg_walfile_name(pg_switch_wal())")
    # The file is there before it is whole.
    archived = "SELECT last_archived_wal FROM pg_stat_archiver"
    site.until(lambda: site.ask(archived) >= last and site.ask(archived) != "None")
    site.server.stop("immediate")
    (folder / "data").rename(folder / "lost")
    (folder / "base").rename(folder / "data")
    settings = folder / "recovery.conf"
    settings.write_text(
        "restore_command = 'cp ../wal/%f %p'\n"
        "recovery_target_name = 'before the mistake'\n"
        "recovery_target_action = 'promote'\n"
    )
    with (folder / "data" / "postgresql.auto.conf").open("a") as file:
        file.write(settings.read_text())
    signal = folder / "data" / "recovery.signal"
    signal.touch()
    shutil.copystat(folder / "data" / "PG_VERSION", signal)
    site.server.start(*_ARCHIVING)
    site.until(lambda: site.ask("SELECT pg_is_in_recovery()") == "False")
    # As the database had it, and as the bucket has it.
    assert site.found() == {1, 2, 3}
    # What was deleted since is in the trash of the bucket, and named.
    assert "1 forgotten" in site.call("db", "reindex", code=1)
    assert site.found() == {2, 3, 4}
    site.call("db", "verify")
    site.call("trash", "restore", "--instance", uid(1))
    assert site.found() == {1, 2, 3, 4}
