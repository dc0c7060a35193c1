"""PostgreSQL for tests: a server of our own on a socket, and databases in it."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from isocenter.storage.database.postgresql.opening import Place, connect
from isocenter.storage.database.postgresql.schema import migrate

_SEARCHED: Final = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parts[-2]))
#: A server for tests has nothing to lose.
_UNSAFE: Final = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
#: Plans of tables that are empty are those that they have before anybody has counted their rows.
_OPTIONS: Final = (
    "listen_addresses=", "shared_buffers=32MB", "max_connections=60", "autovacuum=off",
)  # fmt: skip
#: PostgreSQL does not run as root.
_OTHER_USERS: Final = ("postgres", "nobody")
_TEMPLATE: Final = "isocenter_template"
#: Seconds in which it has to have started or stopped; its own 60 are few on a busy machine.
_PATIENCE: Final = "300"


def binaries() -> Path | None:
    """The folder with ``initdb`` and ``pg_ctl``; None: PostgreSQL is not installed."""
    if _SEARCHED:
        return _SEARCHED[-1]
    found = shutil.which("initdb")
    return None if found is None else Path(found).resolve().parent


class Server:
    """A running server.

    Attributes:
        folder: where its data and its socket are.
    """

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        self.folder = folder
        self._programs = programs
        self._user = user
        self._numbers = count(1)
        self._free: list[str] = []
        self._schema = ""
        self._reset: sql.Composable = sql.SQL("")
        self._first_rows: dict[str, list[tuple[Any, ...]]] = {}

    def run(self, program: str, *arguments: str) -> None:
        """One of PostgreSQL's own programs, as the user of the server."""
        command = [str(self._programs / program), *arguments]
        if self._user is not None:
            command = ["runuser", "-u", self._user, "--", *command]
        with open(self.folder / f"{program}.log", "ab") as log:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                  cwd=self.folder, check=False)  # fmt: skip
        if done.returncode:
            text = (self.folder / f"{program}.log").read_text("utf-8", "replace")
            raise RuntimeError(f"{program} failed:\n{text[-2_000:]}")

    def start(self, *options: str) -> None:
        """Start it, with settings (``name=value``) of its own."""
        settings = (*_OPTIONS, f"unix_socket_directories={self.folder}", *options)
        self.run("pg_ctl", "-w", "-t", _PATIENCE, "-D", str(self.folder / "data"), "-l",
                 str(self.folder / "server.log"), "-o", " ".join(f"-c {s}" for s in settings),
                 "start")  # fmt: skip

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; ``immediate`` as a crash does."""
        self.run("pg_ctl", "-w", "-t", _PATIENCE, "-D", str(self.folder / "data"), "-m", mode,
                 "stop")  # fmt: skip

    def conninfo(self, database: str = "postgres") -> str:
        """How to connect."""
        return f"host={self.folder} dbname={database} user={self._user or getpass.getuser()}"

    def url(self, database: str) -> str:
        """The same as one writes it into the settings."""
        user = self._user or getpass.getuser()
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def execute(self, statement: str, *names: str) -> None:
        """*statement*, outside of any transaction, with names in the place of its braces."""
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            connection.execute(
                sql.SQL(statement).format(*map(sql.Identifier, names))  # type: ignore[arg-type]
            )

    def make_template(self) -> None:
        """The database of which others are copies."""
        self.execute("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", _TEMPLATE)
        place = Place(self.conninfo(_TEMPLATE))
        with connect(place) as connection:
            migrate(connection, place.schema)
            tables = [
                table
                for (table,) in connection.execute(
                    "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
                )
            ]
            for table in tables:
                rows = connection.execute(sql.SQL("TABLE {}").format(sql.Identifier(table)))
                if found := rows.fetchall():
                    self._first_rows[table] = found
        # One message for all of it.
        self._reset = sql.SQL("; ").join(
            [
                sql.SQL("SET LOCAL session_replication_role = replica"),
                *(
                    sql.SQL("DELETE FROM {}").format(sql.Identifier(place.schema, table))
                    for table in tables
                ),
                sql.SQL(
                    "SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence "
                    "WHERE pg_sequence_last_value(seqrelid) IS NOT NULL"
                ),
            ]
        )
        self._schema = place.schema

    def new_database(self) -> str:
        """The name of a database as a new archive has it: with all tables, and hardly a row."""
        if self._free:
            return self._free.pop()
        name = f"isocenter_{next(self._numbers)}"
        self.execute("CREATE DATABASE {} TEMPLATE {}", name, _TEMPLATE)
        return name

    def give_back(self, name: str) -> None:
        """It is made a new one again, which takes a tenth of the time that another one would."""
        with psycopg.connect(self.conninfo(name)) as connection:
            connection.execute(self._reset)
            for table, rows in self._first_rows.items():
                marks = sql.SQL(", ").join(sql.Placeholder() * len(rows[0]))
                insert = sql.SQL("INSERT INTO {} VALUES ({})").format(
                    sql.Identifier(self._schema, table), marks
                )
                connection.cursor().executemany(insert, rows)
        self._free.append(name)

    def drop_database(self, name: str) -> None:
        """Remove it; who is connected to it is cut off."""
        self.execute("DROP DATABASE {} WITH (FORCE)", name)


@contextmanager
def running_server(*options: str) -> Iterator[Server]:
    """A new server, for as long as the context lasts."""
    programs = binaries()
    assert programs is not None
    user = next(u for u in _OTHER_USERS if _has_user(u)) if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        server = Server(folder, programs, user)
        server.run("initdb", "-D", str(folder / "data"), "-A", "trust", "--no-sync", "-E", "UTF8",
                   "--locale=C.UTF-8")  # fmt: skip
        with _ending_with_us(folder):
            server.start(*(options or _UNSAFE))
            try:
                yield server
            finally:
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


#: A line says that all is well; its absence, that the tests were killed, while it began perhaps.
_WATCH: Final = """
    read -r _ && exit
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -e data/postmaster.pid ] && exec kill -QUIT "$(head -n 1 data/postmaster.pid)"
        sleep 1
    done
"""


@contextmanager
def _ending_with_us(folder: Path) -> Iterator[None]:
    """A server does not outlive tests that were killed."""
    with subprocess.Popen(
        ["sh", "-c", _WATCH], stdin=subprocess.PIPE, cwd=folder, start_new_session=True
    ) as shell:
        try:
            yield
        finally:
            shell.communicate(b"\n")


def _has_user(name: str) -> bool:
    return bool(shutil.which("runuser")) and any(
        line.startswith(f"{name}:") for line in Path("/etc/passwd").read_text("utf-8").splitlines()
    )
