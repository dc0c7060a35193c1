"""Tables of PostgreSQL are those of SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from isocenter.storage.database.postgresql.connection import Place, connect
from isocenter.storage.database.postgresql.schema import migrate, schema_version
from isocenter.storage.database.sqlite.schema import LATEST_VERSION
from isocenter.storage.database.sqlite.schema import migrate as migrate_sqlite
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
