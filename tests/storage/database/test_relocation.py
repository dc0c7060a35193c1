"""All tables go from any database to any other, whatever is in them."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.backup.manifest import BackupError
from isocenter.services.backup.relocation.ports import NamedObject
from isocenter.services.backup.relocation.table_copies import check_tables, copy_tables
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.relocation.copy_record import SqliteCopyRecord
from isocenter.storage.database.relocation.index_file import new_index_file
from isocenter.storage.database.relocation.layout import LEFT, Table, tables
from isocenter.storage.database.relocation.tables import DatabaseTables
from isocenter.storage.database.sqlite.backup import SqliteIndexFile
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.database.sqlite.schema import LATEST_VERSION, empty_database
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

#: Of each type what is hardest to carry: no text may lose its NUL, no number its last digit.
VALUES: Mapping[str, Any] = {
    "TEXT": "Grün\0\1 \U0001f642 'x' \\ %",
    "INTEGER": 2**53 + 1,
    "BIGINT": 2**62 + 1,
    "REAL": 1_764_480_000.123457,
    "BLOB": b"\0\xff'",
}
NUMBER_OF_ROWS = 3


class Schema:
    """What SQLite says of the tables."""

    def __init__(self) -> None:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.deserialize(empty_database())
            names = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
            self.texts = {name: sql for name, sql in names if not name.startswith("sqlite_")}
            self.types = {
                name: {row[1]: row[2] for row in connection.execute(f'PRAGMA table_info("{name}")')}
                for name in self.texts
            }
            self.references = {
                name: {
                    row[3]: (row[2], row[4])
                    for row in connection.execute(f'PRAGMA foreign_key_list("{name}")')
                }
                for name in self.texts
            }

    def row(self, table: Table, number: int, made: Mapping[str, list[dict[str, Any]]]) -> Any:
        row: dict[str, Any] = {}
        for column in table.columns:
            kind = self.types[table.name][column]
            if column in self.references[table.name]:
                other, key = self.references[table.name][column]
                row[column] = made[other][number][key or tables()[other].key[0]]
                continue
            allowed = re.search(rf"\(?{column} IN \(\s*'([^']*)'", self.texts[table.name])
            if allowed:
                row[column] = allowed[1]
            elif kind in ("INTEGER", "BIGINT") and table.key == (column,):
                row[column] = 10 * number + 7
            elif kind == "TEXT":
                row[column] = f"{VALUES[kind]} {table.name} {column} {number}"
            else:
                row[column] = VALUES[kind] + number if kind != "BLOB" else VALUES[kind] * number
        return row


def test_each_table_is_copied_or_named_as_left() -> None:
    schema = Schema()
    assert tables().keys() | LEFT.keys() == schema.texts.keys()
    assert not tables().keys() & LEFT.keys()
    assert all(LEFT.values())
    for name, table in tables().items():
        assert set(table.columns) == schema.types[name].keys()


def fill(connection: Connection) -> None:
    schema = Schema()
    made: dict[str, list[dict[str, Any]]] = {}
    for table in reversed(tables().values()):
        connection.execute(f"DELETE FROM {table.name}")
    for table in tables().values():
        made[table.name] = rows = [
            schema.row(table, number, made) for number in range(NUMBER_OF_ROWS)
        ]
        names = ", ".join(f'"{column}"' for column in table.columns)
        marks = ", ".join("?" * len(table.columns))
        connection.executemany(
            f"INSERT INTO {table.name} ({names}) VALUES ({marks})",
            [tuple(row.values()) for row in rows],
        )


async def contents(database: Database) -> Mapping[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {}
    async with DatabaseTables(database).moment() as moment:
        for name in tables():
            async with moment.rows(name) as blocks:
                found[name] = [tuple(row) async for block in blocks for row in block]
    return found


async def numbers(database: Database) -> Mapping[str, int]:
    async with DatabaseTables(database).moment() as moment:
        return await moment.last_numbers()


@pytest.mark.parametrize("direction", ["out of it", "into it"])
async def test_rows_of_every_table_arrive_as_they_were(tmp_path: Path, direction: str) -> None:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(open_database())
        file = await stack.enter_async_context(open_sqlite_database(tmp_path / "other.db"))
        source, target = (here, file) if direction == "out of it" else (file, here)
        record = SqliteCopyRecord(tmp_path / "record.db")
        stack.callback(record.close)
        await source.write(fill)
        await source.raise_numbers({t.name: 1_000 for t in tables().values() if t.is_numbered})
        await check_tables(DatabaseTables(target), record)
        report = await copy_tables(DatabaseTables(source), DatabaseTables(target), record)
        assert report.rows == NUMBER_OF_ROWS * len(tables())
        expected = await contents(source)
        assert await contents(target) == expected
        assert all(len(rows) == NUMBER_OF_ROWS for rows in expected.values())
        # Numbers that were used before come to mean nothing else.
        assert await numbers(target) == await numbers(source)
        await target.write(add_event)
        assert (await contents(target))["event"][-1][0] == 1_001
        with pytest.raises(BackupError, match="written to since the last pass"):
            await check_tables(DatabaseTables(target), record)


def add_event(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO event (kind, at, study_instance_uid, body) VALUES ('stored', 0, '', '')"
    )


async def test_a_second_copy_takes_the_place_of_the_first(tmp_path: Path) -> None:
    async with open_database() as target, open_sqlite_database(":memory:") as source:
        record = SqliteCopyRecord(tmp_path / "record.db")
        await source.write(fill)
        await copy_tables(DatabaseTables(source), DatabaseTables(target), record)
        await source.write(remove_some)
        await check_tables(DatabaseTables(target), record)
        await copy_tables(DatabaseTables(source), DatabaseTables(target), record)
        assert await contents(target) == await contents(source)
        record.close()


def remove_some(connection: Connection) -> None:
    connection.execute("DELETE FROM share_link")
    connection.execute("UPDATE web_session SET user_name = 'another'")


async def test_a_copy_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    async with open_database() as target, open_sqlite_database(":memory:") as source:
        record = SqliteCopyRecord(tmp_path / "record.db")
        before = await contents(target)
        await source.write(fill)

        def stop(done: int, total: int) -> None:
            if done > total // 4:
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await copy_tables(DatabaseTables(source), DatabaseTables(target), record, stop)
        assert await contents(target) == before
        await check_tables(DatabaseTables(target), record)
        record.close()


async def test_a_moment_does_not_see_what_comes_later(tmp_path: Path) -> None:
    async with open_database(tmp_path / "index.db") as database:
        async with DatabaseTables(database).moment() as moment:
            before = await moment.counts()
            await database.write(add_event)
            assert await moment.counts() == before
        async with DatabaseTables(database).moment() as moment:
            assert (await moment.counts())["event"] == before["event"] + 1


async def test_an_object_is_named_until_another_is_under_its_key(tmp_path: Path) -> None:
    async with open_database(tmp_path / "index.db") as database:
        await database.write(fill)
        columns = tables()["instance"].columns
        row = dict(zip(columns, (await contents(database))["instance"][0], strict=True))
        uid, key, digest = row["sop_instance_uid"], row["object_key"], row["digest"]
        asked = [
            NamedObject("", key, uid, 10, 4, digest),
            NamedObject("", key, uid, 10, 4, "another"),
            NamedObject("deletion", key, uid, 10, 4, digest),
        ]
        assert await DatabaseTables(database).still_named(asked) == [True, False, False]


async def test_an_index_file_is_whole_and_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "copy.db"
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"copy.db{suffix}").write_bytes(b"of one that was cut short")
    async with open_database() as source:
        await source.write(fill)
        numbered = {table.name: 1_000 for table in tables().values() if table.is_numbered}
        await source.raise_numbers(numbered)
        async with new_index_file(path) as copy:
            await copy_tables(DatabaseTables(source), copy, None)
        expected = await contents(source)
    assert os.listdir(tmp_path) == ["copy.db"]
    assert path.stat().st_mode & 0o777 == 0o600
    index = SqliteIndexFile(path)
    assert (index.version(), index.faults()) == (LATEST_VERSION, [])
    # To be read changes nothing: it is what a backup has the digest of.
    assert os.listdir(tmp_path) == ["copy.db"]
    async with open_sqlite_database(path) as database:
        assert await contents(database) == expected
        assert await numbers(database) == numbered


def test_the_record_outlives_its_process(tmp_path: Path) -> None:
    one = NamedObject("", "1/2/3.dcm", "3", 10, 4, "a" * 64)
    other = NamedObject("deletion", "1/2/3.dcm", "3", 10, 4, "b" * 64)
    record = SqliteCopyRecord(tmp_path / "record.db")
    record.begin()
    assert record.unknown([one, other]) == [one, other]
    record.note([one], {})
    record.note([other], {other: "damaged"})
    # Without saying goodbye, and so that a power failure takes nothing of it.
    assert record._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    again = SqliteCopyRecord(tmp_path / "record.db")
    again.begin()
    assert again.unknown([one]) == []
    assert again.unknown([one._replace(digest="c" * 64)]) != []
    assert again.unseen(10) == [("deletion", "1/2/3.dcm")]
    assert again.faulty() == [("3", "damaged")]
    assert again.knows("deletion", "1/2/3.dcm", "b" * 64)
    again.forget([("deletion", "1/2/3.dcm")])
    assert again.unseen(10) == []
    for opened in (record, again):
        opened.close()
