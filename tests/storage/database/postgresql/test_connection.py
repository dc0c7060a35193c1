"""The connection: whole functions as transactions, lost connections, errors with their cure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio

from isocenter.services.errors import StorageError
from isocenter.storage.database.database import Connection
from isocenter.storage.database.postgresql import connection as connection_module
from isocenter.storage.database.postgresql.connection import PostgresqlConnection, ServerClock
from isocenter.storage.database.postgresql.database import (
    PostgresqlDatabase,
    open_postgresql_database,
)
from isocenter.storage.database.postgresql.opening import Place, connect
from isocenter.storage.database.staged_keys import DatabaseStagedKeys
from support.postgresql import Server

#: Nothing here takes a second; what takes this long hangs.
DEADLINE = 60


@pytest.fixture
def place(postgresql_server: Server) -> Place:
    return Place(postgresql_server.conninfo(postgresql_server.new_database()))


@pytest.fixture
async def database(place: Place) -> AsyncIterator[PostgresqlDatabase]:
    with trio.fail_after(DEADLINE):
        async with open_postgresql_database(place) as opened:
            yield opened


def hold(connection: Connection, study: str = "1.2") -> None:
    connection.execute(
        "INSERT INTO study_hold (study_instance_uid, reason, actor, at) VALUES (?, '', '', 0)",
        (study,),
    )


def held(connection: Connection) -> list[Any]:
    return [uid for (uid,) in connection.execute("SELECT study_instance_uid FROM study_hold")]


def test_messages_name_no_password() -> None:
    place = Place("postgresql://me:secret@db.example:5433/pacs?sslmode=require")
    assert place.name == "postgresql://db.example:5433/pacs"


async def test_what_others_wrote_is_seen_after_a_lock_whatever_the_server_defaults_to(
    place: Place,
) -> None:
    options = " options='-c default_transaction_isolation=serializable'"
    other = replace(place, conninfo=place.conninfo + options)

    def level(connection: Connection) -> str:
        return str(connection.execute("SHOW transaction_isolation").fetchone()[0])

    async with open_postgresql_database(other) as opened:
        assert await opened.write(level) == "read committed"
        assert await opened.write_beside(level) == "read committed"
        assert await opened.read(level) == "repeatable read"


async def test_a_function_is_one_transaction(database: PostgresqlDatabase) -> None:
    def fails(connection: Connection) -> None:
        hold(connection)
        raise KeyError

    with pytest.raises(KeyError):
        await database.write(fails)
    assert await database.read(held) == []
    await database.write(hold)
    assert await database.read(held) == ["1.2"]


async def test_questions_change_nothing(database: PostgresqlDatabase) -> None:
    with pytest.raises(StorageError, match="read-only"):
        await database.read(hold)


async def test_a_lost_connection_is_made_anew(database: PostgresqlDatabase, place: Place) -> None:
    await database.write(hold)
    assert await database.read(held) == ["1.2"]
    with connect(place) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert await database.read(held) == ["1.2"]
    await database.write(hold, "1.3")
    assert await database.read(held) == ["1.2", "1.3"]


async def test_a_connection_that_is_lost_within_is_an_error_and_then_made_anew(
    database: PostgresqlDatabase,
) -> None:
    def ends_itself(connection: Connection) -> None:
        hold(connection)
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(StorageError, match="does not answer"):
        await database.write(ends_itself)
    assert await database.read(held) == []
    await database.write(hold)


async def test_a_question_is_interrupted(database: PostgresqlDatabase) -> None:
    began = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def sleeps(connection: Connection) -> None:
        token.run_sync_soon(began.set)
        connection.execute("SELECT pg_sleep(1000)")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.read, sleeps)
        await began.wait()
        nursery.cancel_scope.cancel()
    assert await database.read(held) == []


async def test_what_is_being_written_is_brought_to_its_end(database: PostgresqlDatabase) -> None:
    with trio.CancelScope() as scope:

        def cancelled(connection: Connection) -> str:
            hold(connection)
            trio.from_thread.run_sync(scope.cancel, trio_token=token)
            return "done"

        token = trio.lowlevel.current_trio_token()
        assert await database.write(cancelled) == "done"
    assert await database.read(held) == ["1.2"]


async def test_one_at_a_time_writes(place: Place) -> None:
    """Also of several nodes: what is read and then written is not changed in between."""

    def count_up(connection: Connection) -> None:
        (size,) = connection.execute("SELECT size FROM totals").fetchone()
        connection.execute("UPDATE totals SET size = ?", (size + 1,))

    async def many(database: PostgresqlDatabase) -> None:
        for _ in range(20):
            await database.write(count_up)

    with trio.fail_after(DEADLINE):
        async with (
            open_postgresql_database(place) as ours,
            open_postgresql_database(place) as theirs,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(many, ours)
            nursery.start_soon(many, theirs)
        async with open_postgresql_database(place) as database:

            def size(connection: Connection) -> int:
                return int(connection.execute("SELECT size FROM totals").fetchone()[0])

            assert await database.read(size) == 40


async def opening(place: Place) -> str:
    with pytest.raises(StorageError) as raised:
        async with open_postgresql_database(place):
            pass
    return str(raised.value)


async def test_nobody_listens(tmp_path: Path) -> None:
    text = await opening(Place(f"host={tmp_path} dbname=pacs"))
    assert "does not answer" in text
    assert "check that PostgreSQL runs there" in text


async def test_there_is_no_such_database(postgresql_server: Server) -> None:
    text = await opening(Place(postgresql_server.conninfo("nowhere")))
    assert 'database "nowhere" does not exist' in text


async def test_another_encoding_is_refused(postgresql_server: Server) -> None:
    postgresql_server.execute(
        "CREATE DATABASE {} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0", "latin"
    )
    text = await opening(Place(postgresql_server.conninfo("latin")))
    assert "its encoding is LATIN1, and has to be UTF8; make another one with" in text


async def test_a_newer_schema_is_refused(place: Place) -> None:
    with connect(place) as connection:
        connection.execute("INSERT INTO schema_version VALUES (9999, 'of tomorrow', '')")
    assert "a newer Isocenter wrote it (schema version 9999" in await opening(place)


async def test_a_user_without_rights(postgresql_server: Server) -> None:
    postgresql_server.execute("CREATE ROLE {} LOGIN", "guest")
    postgresql_server.execute("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", "closed")
    conninfo = psycopg.conninfo.make_conninfo(postgresql_server.conninfo("closed"), user="guest")
    text = await opening(Place(conninfo))
    assert "permission denied" in text
    assert "its user needs the right CREATE on the database" in text


async def test_several_begin_at_once(postgresql_server: Server) -> None:
    """Whoever is first makes the tables; the others wait for them."""
    postgresql_server.execute("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", "fresh")
    place = Place(postgresql_server.conninfo("fresh"))

    async def use(number: int) -> None:
        async with open_postgresql_database(place) as database:
            await database.write(hold, f"1.{number}")

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(use, number)


async def test_notes_do_not_wait_for_whoever_writes(database: PostgresqlDatabase) -> None:
    keys = DatabaseStagedKeys(database)
    token = trio.lowlevel.current_trio_token()

    def write_while_another_notes(connection: Connection) -> list[bool]:
        return list(trio.from_thread.run(keys.begin, ["a"], trio_token=token))

    assert await database.write(write_while_another_notes) == [True]
    assert await keys.begin(["a"]) == [False]


def written(connection: Connection) -> str:
    """A commit that waits for no disk: where it ends in the log."""
    hold(connection)
    (number,) = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    return str(number)


def flushed_past(connection: Connection, place: str) -> bool:
    (is_past,) = connection.execute(
        "SELECT pg_current_wal_flush_lsn() >= ?::pg_lsn", (place,)
    ).fetchone()
    return bool(is_past)


async def test_what_was_written_without_a_sync_is_synced_when_that_is_asked_for(
    place: Place,
) -> None:
    with trio.fail_after(DEADLINE):
        async with open_postgresql_database(replace(place, is_durable=False)) as database:
            end = await database.write(written)
            await database.sync()
            assert await database.read(flushed_past, end)


@pytest.mark.parametrize(("longest", "times"), [(0.0, 1), (float("inf"), 2)])
async def test_the_clock_is_not_set_by_an_answer_that_took_long(
    place: Place, monkeypatch: pytest.MonkeyPatch, longest: float, times: int
) -> None:
    monkeypatch.setattr(connection_module, "_CLOCK_SECONDS", longest)
    heard: list[float] = []
    clock = ServerClock()
    monkeypatch.setattr(clock, "hear", lambda seconds, at=None: heard.append(seconds))
    opened = PostgresqlConnection(place, clock)
    try:
        await opened.open(migrates=True)
        await opened.write(hold)
    finally:
        await opened.aclose()
    assert len(heard) == times
