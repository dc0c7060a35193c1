"""Tables of PostgreSQL are those of SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from random import Random
from string import ascii_uppercase, digits
from typing import Any

import psycopg
import pytest
import trio

from isocenter.services.archive.index.extraction import MAX_TEXT_LENGTH
from isocenter.services.archive.ports import AddOutcome
from isocenter.services.cluster.member import LeftBehindError, MemberState, NodeIdentity
from isocenter.services.errors import StorageError
from isocenter.services.workflow.events.ports import EventSelection
from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.storage.database.cluster import DatabaseMembers
from isocenter.storage.database.events.event_hooks import EventHooks
from isocenter.storage.database.events.event_log import DatabaseEventLog
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.postgresql import connection as connecting
from isocenter.storage.database.postgresql import schema
from isocenter.storage.database.postgresql.database import (
    PostgresqlDatabase,
    open_postgresql_database,
)
from isocenter.storage.database.postgresql.inspection import inspect
from isocenter.storage.database.postgresql.opening import Place, connect
from isocenter.storage.database.postgresql.schema import (
    _MIGRATION_LOCK,
    migrate,
    schema_version,
)
from isocenter.storage.database.postgresql.turns import WRITE_LOCK
from isocenter.storage.database.sqlite.migrations.migration import Migration
from isocenter.storage.database.sqlite.schema import LATEST_VERSION, MIGRATIONS
from isocenter.storage.database.sqlite.schema import migrate as migrate_sqlite
from storage.database.postgresql.test_turns import record
from support.postgresql import Server

KINDS = {
    "bigint": "INTEGER",
    "text": "TEXT",
    "double precision": "REAL",
    "bytea": "BLOB",
}


@pytest.fixture
def connection(postgresql_server: Server) -> Iterator[psycopg.Connection[Any]]:
    name = postgresql_server.new_database()
    with connect(Place(postgresql_server.conninfo(name))) as opened:
        yield opened
    postgresql_server.drop_database(name)


def test_both_have_the_same_tables_columns_and_types(
    connection: psycopg.Connection[Any],
) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as sqlite:
        migrate_sqlite(sqlite)
        ours = {
            (table, column, kind.replace("BIGINT", "INTEGER"))
            for (table,) in sqlite.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            ).fetchall()
            for _, column, kind, *_ in sqlite.execute(f"PRAGMA table_info({table})")
        }
    theirs = {
        (table, column, KINDS[kind])
        for table, column, kind in connection.execute(
            "SELECT table_name::text, column_name::text, data_type::text "
            "FROM information_schema.columns WHERE table_schema = current_schema()"
        )
    }
    assert theirs == ours


def test_text_is_compared_by_its_bytes(connection: psycopg.Connection[Any]) -> None:
    others = connection.execute(
        "SELECT table_name::text, column_name::text FROM information_schema.columns "
        "WHERE table_schema = current_schema() AND data_type = 'text' "
        "AND collation_name IS DISTINCT FROM 'C' AND table_name <> 'schema_version'"
    ).fetchall()
    assert others == []


def test_a_migrated_database_is_left_alone(connection: psycopg.Connection[Any]) -> None:
    assert schema_version(connection) == LATEST_VERSION
    assert migrate(connection, "isocenter") == LATEST_VERSION
    (rows,) = connection.execute("SELECT count(*) FROM schema_version").fetchone() or (0,)
    assert rows == LATEST_VERSION


EXPANSION = Migration(
    LATEST_VERSION + 1,
    "what is new",
    (
        "ALTER TABLE instance ADD COLUMN is_new INTEGER NOT NULL DEFAULT 1",
        "CREATE TABLE news (news_pk INTEGER PRIMARY KEY AUTOINCREMENT)",
    ),
)
CONTRACTION = Migration(
    LATEST_VERSION + 2, "what is old goes", ("ALTER TABLE instance DROP COLUMN created_at",)
)
LATE_CONTRACTION = replace(CONTRACTION, can_wait=True)
NODE = NodeIdentity(name="old", place="here")
_WAITING = (
    "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database "
    "WHERE NOT granted AND datname = current_database()"
)


@pytest.fixture
def old(postgresql_server: Server) -> Iterator[Place]:
    """How the program of today comes to a database of its own."""
    name = postgresql_server.new_database()
    yield Place(postgresql_server.conninfo(name))
    postgresql_server.drop_database(name)


def knowing(place: Place, *more: Migration) -> Place:
    """How a later program comes to it."""
    return replace(place, migrations=(*MIGRATIONS, *more))


def index_of(database: PostgresqlDatabase) -> DatabaseIndex:
    return DatabaseIndex(database, on_add=[EventHooks(CompletionRules()).stored])


def cut_off(place: Place) -> None:
    """Whoever is connected is so no more."""
    with connect(place) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_nodes_of_both_programs_go_on_after_a_step_that_only_adds(old: Place) -> None:
    async with open_postgresql_database(old) as before:
        await DatabaseMembers(before).join(NODE)
        assert await index_of(before).add([record(1)])
        async with open_postgresql_database(knowing(old, EXPANSION)) as after:
            for number, database in enumerate([before, after, before], 2):
                (added,) = await index_of(database).add([record(number)])
                assert added.outcome is AddOutcome.ADDED
            cut_off(old)
            (added,) = await index_of(before).add([record(5)])
            assert added.outcome is AddOutcome.ADDED
            assert (await index_of(after).statistics()).instances == 5
            assert await index_of(after).check() == []
            assert len(await DatabaseEventLog(before).events(EventSelection())) >= 5
    async with open_postgresql_database(old) as again:
        assert (await index_of(again).statistics()).instances == 5
        async with index_of(again).rebuilding() as rebuilt:
            await rebuilt.add([record(1)])
        assert (await index_of(again).statistics()).instances == 1


async def test_a_step_that_earlier_nodes_would_not_survive_is_refused(old: Place) -> None:
    new = knowing(old, EXPANSION, CONTRACTION)
    async with open_postgresql_database(old) as database:
        await DatabaseMembers(database).join(NODE)
        with pytest.raises(StorageError, match="live: old; stop them first"):
            async with open_postgresql_database(new):
                pass
        # Nothing was done by half.
        with connect(old) as connection:
            assert schema_version(connection) == LATEST_VERSION
        await DatabaseMembers(database).leave(NODE)
    async with open_postgresql_database(new) as database:
        assert (await index_of(database).statistics()).instances == 0
    with pytest.raises(StorageError, match="a newer Isocenter wrote it"):
        async with open_postgresql_database(old):
            pass


def test_programs_do_not_go_on_with_what_they_would_do_wrong() -> None:
    # Changes of totals beside the row; rows that refer to jobs.
    assert [m.version for m in MIGRATIONS[36:50] if not m.is_expansion] == [37, 43]


async def test_who_was_silent_during_a_migration_is_no_node_any_more(old: Place) -> None:
    new = knowing(old, EXPANSION, CONTRACTION)
    async with open_postgresql_database(old) as before:
        members = DatabaseMembers(before)
        await members.join(NODE)
        sign = partial(members.beat, NODE, ends=False, own_clock=0.0, answer_seconds=0.0)
        assert await sign() is MemberState.UP
        with connect(old) as connection:
            connection.execute("UPDATE cluster_node SET seen_at = 0")
        async with open_postgresql_database(new):
            pass
        assert await sign() is None
        with pytest.raises(LeftBehindError, match="has migrated the database meanwhile"):
            await members.join(NODE)


def test_nobody_writes_while_others_take_something_away(old: Place) -> None:
    """Whoever has looked who lives would not see who joins."""
    new = knowing(old, replace(CONTRACTION, version=EXPANSION.version))
    with connect(old) as writer, connect(old) as late, ThreadPoolExecutor(1) as threads:
        with writer.transaction():
            writer.execute("SELECT pg_advisory_xact_lock_shared(%s)", (WRITE_LOCK,))
            done = threads.submit(migrate, late, new.schema, migrations=new.migrations)
            while writer.execute(_WAITING).fetchone() == (0,):
                assert not done.done()
        assert done.result() == LATEST_VERSION


async def test_the_node_itself_is_not_waited_for(old: Place) -> None:
    async with open_postgresql_database(old) as database:
        await DatabaseMembers(database).join(NODE)
    new = replace(knowing(old, EXPANSION, CONTRACTION), node="old")
    async with open_postgresql_database(new):
        pass


async def test_a_step_that_can_wait_is_done_when_nobody_is_left_who_does_not_know_it(
    old: Place,
) -> None:
    new = knowing(old, EXPANSION, LATE_CONTRACTION)

    def version() -> int:
        with connect(new) as connection:
            return schema_version(connection, LATE_CONTRACTION.version)

    async with open_postgresql_database(old) as before:
        await DatabaseMembers(before).join(NODE)
        async with open_postgresql_database(new) as after:
            assert version() == EXPANSION.version
            for number, database in enumerate([before, after]):
                (added,) = await index_of(database).add([record(number)])
                assert added.outcome is AddOutcome.ADDED
        await DatabaseMembers(before).leave(NODE)
    async with open_postgresql_database(new):
        assert version() == LATE_CONTRACTION.version


async def test_a_step_does_not_wait_before_one_that_the_program_needs(old: Place) -> None:
    unused = ("ALTER TABLE instance_metadata ALTER COLUMN layout SET DEFAULT NULL",)
    late = replace(LATE_CONTRACTION, version=EXPANSION.version, statements=unused)
    new = knowing(old, late, replace(EXPANSION, version=EXPANSION.version + 1))
    async with open_postgresql_database(old) as before:
        await DatabaseMembers(before).join(NODE)
        with pytest.raises(StorageError, match="live: old; stop them first"):
            async with open_postgresql_database(new):
                pass
        await DatabaseMembers(before).leave(NODE)
    async with open_postgresql_database(new) as after:
        (added,) = await index_of(after).add([record(1)])
        assert added.outcome is AddOutcome.ADDED


def test_who_finds_another_at_it_waits_as_long_as_that_takes(old: Place) -> None:
    new = knowing(old, EXPANSION)
    with connect(old) as other, connect(old) as asking, ThreadPoolExecutor(1) as threads:
        asking.execute("SET lock_timeout TO '1ms'")
        with other.transaction():
            other.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
            done = threads.submit(migrate, asking, new.schema, migrations=new.migrations)
            while other.execute(_WAITING).fetchone() == (0,):
                assert not done.done()
            # Many times as long as whoever gives up would wait.
            other.execute("SELECT pg_sleep(0.05)")
            assert not done.done()
        assert done.result() == LATEST_VERSION
        assert asking.execute("SHOW lock_timeout").fetchone() == ("1ms",)
        assert schema_version(other, EXPANSION.version) == EXPANSION.version


async def test_the_longest_values_have_room_in_every_index(old: Place) -> None:
    some = Random(1)
    texts = {
        tag: "".join(some.choices(ascii_uppercase + digits, k=MAX_TEXT_LENGTH))
        for tag in (0x00100010, 0x00100020, 0x00100021)
    }
    long = replace(record(1), attributes={**record(1).attributes, **texts})
    async with open_postgresql_database(old) as database:
        (added,) = await index_of(database).add([long])
        assert added.outcome is AddOutcome.ADDED


async def test_a_rebuilt_index_goes_on_with_new_numbers(old: Place) -> None:
    async with open_postgresql_database(old) as database:
        index = index_of(database)
        async with index.rebuilding() as rebuilt:
            await rebuilt.add([record(1)])
            await rebuilt.add([record(2)])
    with connect(old) as connection:
        for table, column in connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND is_identity = 'YES'"
        ).fetchall():
            last, given = connection.execute(
                f"SELECT coalesce(max({column}), 0), "
                f"nextval(pg_get_serial_sequence('{table}', '{column}')) FROM {table}"
            ).fetchone() or (0, 0)
            assert given > last, table


async def test_a_rebuilt_index_is_counted_for_plans(old: Place) -> None:
    async with open_postgresql_database(old) as database:
        index = index_of(database)
        async with index.rebuilding() as rebuilt:
            await rebuilt.add([record(1), record(2)])
            await rebuilt.add([record(3, study=2)])
    with connect(old) as connection:
        rows = connection.execute(
            "SELECT reltuples FROM pg_class WHERE oid = 'instance'::regclass"
        ).fetchone()
    assert rows == (3.0,)


@pytest.mark.parametrize("version", [31, 36])
def test_earlier_schemas_are_brought_up_to_date(postgresql_server: Server, version: int) -> None:
    postgresql_server.execute("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", "earlier")
    try:
        with connect(Place(postgresql_server.conninfo("earlier"))) as opened:
            migrate(opened, "isocenter", migrations=MIGRATIONS[:version])
            assert schema_version(opened) == version
            looked_at = inspect(postgresql_server.conninfo("earlier"))
            assert (looked_at.fault, looked_at.schema_version) == ("", version)
            assert looked_at.instances == 0
            assert migrate(opened, "isocenter") == version
            assert schema_version(opened) == LATEST_VERSION
    finally:
        postgresql_server.drop_database("earlier")


@pytest.mark.parametrize(
    ("statements", "expands"),
    [
        (("CREATE TABLE a (b TEXT)", "CREATE UNIQUE INDEX c ON a (b)"), True),
        (("CREATE UNIQUE INDEX c ON a (b)",), False),
        (("CREATE INDEX c ON a (b)",), True),
        (("-- a remark\n ALTER TABLE a ADD COLUMN b TEXT",), True),
        (("ALTER TABLE a ADD COLUMN b TEXT NOT NULL DEFAULT ''",), True),
        (("ALTER TABLE a ADD COLUMN b TEXT NOT NULL",), False),
        (("ALTER TABLE a ADD COLUMN b INTEGER REFERENCES c",), False),
        (("ALTER TABLE a DROP COLUMN b",), False),
        (("ALTER TABLE a RENAME TO b",), False),
        (("CREATE TABLE a (b TEXT)", "DROP TABLE c"), False),
        (("CREATE TABLE a (b TEXT)", "CREATE TABLE c (d TEXT REFERENCES a (b))"), True),
        (("CREATE TABLE a (b TEXT REFERENCES c)",), False),
        (("CREATE TABLE a (b TEXT REFERENCES c (d), e TEXT)",), False),
        (("CREATE TABLE a (b TEXT REFERENCES c (d) ON DELETE CASCADE)",), True),
        (("UPDATE a SET b = 1",), False),
    ],
)
def test_what_only_adds_is_told_by_its_form(statements: tuple[str, ...], expands: bool) -> None:
    assert Migration(1, "", statements).is_expansion is expands
    assert Migration(1, "", statements, expands=not expands).is_expansion is not expands


async def test_a_step_gives_way_to_who_reads_a_table_and_is_tried_again(
    old: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(schema, "STEP_LOCK_SECONDS", 0.05)
    monkeypatch.setattr(connecting, "MIGRATION_PAUSE_SECONDS", 0.05)
    place = replace(old, migrations=(*MIGRATIONS, EXPANSION))
    with connect(old) as reader, trio.fail_after(60):
        reader.execute("BEGIN; SELECT count(*) FROM instance")
        async with trio.open_nursery() as nursery:

            async def start() -> None:
                async with open_postgresql_database(place) as database:
                    await database.read(
                        lambda opened: opened.execute("SELECT is_new FROM instance")
                    )

            nursery.start_soon(start)
            while not any("tried again in" in each for each in caplog.messages):
                await trio.lowlevel.checkpoint()
            # Who comes does not wait behind it for long.
            with connect(old) as other:
                other.execute("SELECT count(*) FROM instance")
            reader.execute("COMMIT")


async def test_a_start_does_not_wait_for_a_table_for_ever(
    old: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "STEP_LOCK_SECONDS", 0.05)
    monkeypatch.setattr(connecting, "MIGRATION_PATIENCE_SECONDS", 0.0)
    place = replace(old, migrations=(*MIGRATIONS, EXPANSION))
    with connect(old) as reader:
        reader.execute("BEGIN; SELECT count(*) FROM instance")
        with pytest.raises(StorageError, match="others had it locked for too long"):
            async with open_postgresql_database(place):
                pass
        reader.execute("COMMIT")
