"""Tables of a database as a whole: adapter of the port `ArchiveTables`."""

# ruff: noqa: S608  (names are those of the schema, values are bound)

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from isocenter.services.backup.relocation.ports import NamedObject
from isocenter.services.errors import StorageError
from isocenter.storage.database.database import Connection, Database, Moment
from isocenter.storage.database.relocation.layout import LEFT, Table, tables

_ROWS_AT_ONCE: Final = 1_000

_IN_TRASH: Final = "state IN ('leaving', 'kept', 'returning')"
#: A number or text that orders them, then what a `NamedObject` has.  An original that was
#: corrected, and what is made for an exchange, lie beside what the index names.
_OBJECTS: Final = (
    (
        0,
        f"""
        SELECT trash_pk, deletion_id, object_key, sop_instance_uid, size, data_set_offset, digest
        FROM trash WHERE {_IN_TRASH} AND trash_pk > ? ORDER BY trash_pk LIMIT ?
        """,
    ),
    (
        0,
        """
        SELECT instance_pk, '', object_key, sop_instance_uid, size, data_set_offset, digest
        FROM instance WHERE instance_pk > ? ORDER BY instance_pk LIMIT ?
        """,
    ),
    (
        "",
        """
        SELECT sop_instance_uid, is_corrected, original_key, original, made_key, made
        FROM corrected_instance WHERE sop_instance_uid > ? ORDER BY sop_instance_uid LIMIT ?
        """,
    ),
)
_NAMED: Final = f"""
    SELECT CASE WHEN ? = '' THEN
        (SELECT count(*) FROM instance
            WHERE sop_instance_uid = ? AND object_key = ? AND digest = ?)
        + (SELECT count(*) FROM corrected_instance WHERE sop_instance_uid = ?
            AND (is_corrected = 1 AND original_key = ? OR made_key = ?))
    ELSE (SELECT count(*) FROM trash
        WHERE deletion_id = ? AND object_key = ? AND {_IN_TRASH}) END
"""


class DatabaseTables:
    """See `isocenter.services.backup.relocation.ports.ArchiveTables`.

    Args:
        is_new: nobody has the database yet: it has no rows to be kept until others replace them.
    """

    def __init__(self, database: Database, *, is_new: bool = False) -> None:
        self._database = database
        self._is_new = is_new

    @property
    def names(self) -> Sequence[str]:
        return tuple(tables())

    @property
    def left(self) -> Mapping[str, str]:
        return LEFT

    @asynccontextmanager
    async def objects(self) -> AsyncIterator[AsyncIterator[Sequence[NamedObject]]]:
        """See `ArchiveTables.objects`."""
        async with aclosing(self._objects()) as blocks:
            yield blocks

    async def _objects(self) -> AsyncGenerator[Sequence[NamedObject], None]:
        from isocenter.storage.database.corrections.standing import read

        for first, statement in _OBJECTS:
            after: Any = first
            while rows := await self._database.read(_fetch, statement, (after, _ROWS_AT_ONCE)):
                after = rows[-1][0]
                if isinstance(first, int):
                    yield [NamedObject(*row[1:]) for row in rows]
                    continue
                found = []
                for uid, is_corrected, original_key, original, made_key, made in rows:
                    if is_corrected:
                        one = read(original)
                        found.append((original_key, uid, one))
                    if made_key not in ("", original_key):
                        found.append((made_key, uid, read(made)))
                yield [
                    NamedObject("", key, uid, one.size, one.data_set_offset, one.digest)
                    for key, uid, one in found
                ]

    async def count_objects(self) -> int:
        """See `ArchiveTables.count_objects`."""
        return await self._database.read(_count_objects)

    async def still_named(self, objects: Sequence[NamedObject]) -> Sequence[bool]:
        """See `ArchiveTables.still_named`."""
        return await self._database.read(_are_named, objects)

    @asynccontextmanager
    async def moment(self) -> AsyncIterator[_Reader]:
        """See `ArchiveTables.moment`."""
        async with self._database.moment() as moment:
            yield _Reader(moment)

    @asynccontextmanager
    async def replacing(self, last_numbers: Mapping[str, int]) -> AsyncIterator[_Writer]:
        """See `ArchiveTables.replacing`."""
        names = tuple(tables())
        if self._is_new:
            await self._database.write(_clear, names)
            yield _Writer(self._database)
        else:
            async with self._database.spare() as spare:
                await spare.write(_clear, names)
                yield _Writer(spare)
                await self._database.take_over(spare, tuple(reversed(names)))
        await self._database.raise_numbers(last_numbers)

    async def first_rows(self) -> Mapping[str, int]:
        """See `ArchiveTables.first_rows`."""
        return {table.name: table.first_rows for table in tables().values()}


class _Reader:
    """See `isocenter.services.backup.relocation.ports.TableReader`."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment

    async def counts(self) -> Mapping[str, int]:
        """See `TableReader.counts`."""
        return {
            name: (await self._moment.read(_fetch, f"SELECT count(*) FROM {name}", ()))[0][0]
            for name in tables()
        }

    @asynccontextmanager
    async def rows(self, table: str) -> AsyncIterator[AsyncIterator[Sequence[Any]]]:
        """See `TableReader.rows`."""
        async with aclosing(self._rows(tables()[table])) as blocks:
            yield blocks

    async def _rows(self, table: Table) -> AsyncGenerator[Sequence[Any], None]:
        columns, key = _quoted(table.columns), _quoted(table.key)
        places = [table.columns.index(column) for column in table.key]
        marks = ", ".join("?" * len(places))
        order = f"ORDER BY {key} LIMIT {_ROWS_AT_ONCE}"
        statement = f"SELECT {columns} FROM {table.name} {order}"
        rows = await self._moment.read(_fetch, statement, ())
        statement = f"SELECT {columns} FROM {table.name} WHERE ({key}) > ({marks}) {order}"
        while rows:
            yield rows
            if len(rows) < _ROWS_AT_ONCE:
                return
            after = [rows[-1][place] for place in places]
            rows = await self._moment.read(_fetch, statement, after)

    async def last_numbers(self) -> Mapping[str, int]:
        """See `TableReader.last_numbers`."""
        found = await self._moment.last_numbers(
            [table.name for table in tables().values() if table.is_numbered]
        )
        return {name: number for name, number in found.items() if number}


class _Writer:
    """See `isocenter.services.backup.relocation.ports.TableWriter`."""

    def __init__(self, spare: Database) -> None:
        self._spare = spare

    async def put(self, table: str, rows: Sequence[Any]) -> None:
        """See `TableWriter.put`."""
        columns = tables()[table].columns
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table} ({_quoted(columns)}) VALUES ({marks})"
        try:
            await self._spare.write(_insert, statement, rows)
        except StorageError as error:
            raise StorageError(f"rows of the table {table} cannot be written: {error}") from error


def _quoted(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _fetch(connection: Connection, statement: str, values: Sequence[Any]) -> list[Any]:
    return connection.execute(statement, values).fetchall()


def _insert(connection: Connection, statement: str, rows: Sequence[Any]) -> None:
    connection.executemany(statement, rows)


def _clear(connection: Connection, names: Sequence[str]) -> None:
    for name in reversed(names):
        connection.execute(f"DELETE FROM {name}")


def _count_objects(connection: Connection) -> int:
    total = 0
    for source in (
        "instance",
        f"trash WHERE {_IN_TRASH}",
        "corrected_instance WHERE is_corrected = 1",
    ):
        (number,) = connection.execute(f"SELECT count(*) FROM {source}").fetchone()
        total += number
    return total


def _are_named(connection: Connection, objects: Sequence[NamedObject]) -> list[bool]:
    found = []
    for one in objects:
        uid, key = one.sop_instance_uid, one.object_key
        values = (one.deletion_id, uid, key, one.digest, uid, key, key, one.deletion_id, key)
        found.append(bool(connection.execute(_NAMED, values).fetchone()[0]))
    return found
