"""SQLite database: one connection that writes, a few that read.

In WAL mode neither waits for the other.  Several processes may use one file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Concatenate, Final, Literal, ParamSpec, TypeVar

import trio
import trio_asyncio

from isocenter.services.archive.query_times.ports import ConnectionCounts
from isocenter.storage.database.database import FOLLOWED, Connection
from isocenter.storage.database.dialect import last_number
from isocenter.storage.database.pool import Pool, sum_of
from isocenter.storage.database.sqlite.connection import (
    Durability,
    SqliteConnection,
    connect,
    create_database,
    storage_error,
    transaction,
)
from isocenter.storage.database.sqlite.functions import MatchingConnection
from isocenter.storage.database.sqlite.integrity_check import check_integrity

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")

#: Connections for questions, so as many run at once; the rest wait for one.
READERS: Final = 3
#: Rows that are carried over at once.
_ROWS_AT_ONCE: Final = 1_000


class SqliteDatabase:
    """See `isocenter.storage.database.database.Database`; made by `open_sqlite_database`."""

    def __init__(
        self,
        writer: SqliteConnection,
        readers: Sequence[SqliteConnection],
        path: Path | None = None,
        *,
        is_durable: bool = False,
    ) -> None:
        """*readers*: none for a database in memory (*path* None), where the one connection does
        all; *is_durable*: each commit is synced."""
        self._path = path
        self._is_durable = is_durable
        self._writers = Pool([writer])
        self._readers = Pool(readers) if readers else self._writers

    async def read(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.read`."""
        async with self._readers.borrow() as connection:
            return await connection.run(_reading, function, args, kwargs)

    async def write(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.write`."""
        async with self._writers.borrow() as connection:
            return await connection.finish(_writing, function, args, kwargs)

    async def note(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.note`; SQLite has one writer."""
        return await self.write(function, *args, **kwargs)

    async def write_beside(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.write_beside`; SQLite has one writer."""
        return await self.write(function, *args, **kwargs)

    async def write_after(
        self,
        prepare: Callable[[], U | None],
        function: Callable[Concatenate[Connection, U, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | None:
        """See `Database.write_after`."""
        async with self._writers.borrow() as connection:
            return await connection.finish(_writing_after, prepare, function, args, kwargs)

    @asynccontextmanager
    async def moment(self) -> AsyncIterator[SqliteMoment]:
        """See `Database.moment`; the write-ahead log grows until it is over."""
        async with self._readers.borrow() as connection:
            await connection.run(_begin_moment)
            try:
                yield SqliteMoment(connection)
            finally:
                with trio.CancelScope(shield=True):
                    await connection.run(_end_moment)

    async def settled_number(self) -> int:
        """See `Database.settled_number`."""
        return await self.read(_last_number)

    async def raise_numbers(self, numbers: Mapping[str, int]) -> None:
        """See `Database.raise_numbers`."""
        await self.write(_raise_numbers, numbers)

    async def sync(self) -> None:
        """See `Database.sync`."""
        if self._path is not None and not self._is_durable:
            async with self._writers.borrow() as connection:
                await connection.finish(_sync)

    async def check(self) -> Sequence[str]:
        """See `Database.check`."""
        async with self._readers.borrow() as connection:
            return await connection.run(check_integrity)

    @asynccontextmanager
    async def spare(self) -> AsyncIterator[SqliteDatabase]:
        """See `Database.spare`; it lies beside this one as ``….rebuilding``."""
        path = None if self._path is None else self._path.with_name(f"{self._path.name}.rebuilding")
        await trio.to_thread.run_sync(_unlink_database, path)
        try:
            async with open_sqlite_database(
                ":memory:" if path is None else path, durability="relaxed", readers=1
            ) as spare:
                yield spare
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_unlink_database, path)

    async def take_over(self, spare: SqliteDatabase, tables: Sequence[str]) -> None:
        """See `Database.take_over`."""
        async with spare._writers.borrow() as source:
            await self.write(_take_over, source.database, tables)

    def connections(self) -> ConnectionCounts:
        """See `Database.connections`."""
        return sum_of(self._readers, self._writers)

    async def aclose(self) -> None:
        """See `Database.aclose`."""
        await self._readers.aclose()
        await self._writers.aclose()


class SqliteMoment:
    """See `isocenter.storage.database.database.Moment`."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._connection = connection

    async def read(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Moment.read`."""
        return await self._connection.run(_asking, function, args, kwargs)

    async def last_numbers(self, tables: Sequence[str]) -> Mapping[str, int]:
        """See `Moment.last_numbers`."""
        return await self.read(_last_numbers, tables)


def _asking(
    connection: sqlite3.Connection,
    function: Callable[..., T],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> T:
    return function(connection, *args, **kwargs)


def _begin_moment(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    # The moment is that of the first question.
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _end_moment(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _last_numbers(connection: Connection, tables: Sequence[str]) -> Mapping[str, int]:
    found = dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    return {table: found.get(table, 0) for table in tables}


def _sync(connection: sqlite3.Connection) -> None:
    # The sync of a commit takes in all that the log has from commits before.
    connection.execute("PRAGMA synchronous = FULL")
    try:
        with transaction(connection):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute(f"PRAGMA user_version = {version}")
    finally:
        connection.execute("PRAGMA synchronous = NORMAL")


def _last_number(connection: Connection) -> int:
    row = connection.execute(last_number(FOLLOWED)).fetchone()
    return 0 if row is None else int(row[0])


def _raise_numbers(connection: Connection, numbers: Mapping[str, int]) -> None:
    for table, number in numbers.items():
        changed = connection.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (number, table)
        )
        if not changed.rowcount:
            connection.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, number))


def _writing(
    connection: sqlite3.Connection,
    function: Callable[..., T],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> T:
    with transaction(connection):
        return function(connection, *args, **kwargs)


def _writing_after(
    connection: sqlite3.Connection,
    prepare: Callable[[], object],
    function: Callable[..., T],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> T | None:
    prepared = prepare()
    return None if prepared is None else _writing(connection, function, (prepared, *args), kwargs)


def _reading(
    connection: sqlite3.Connection,
    function: Callable[..., T],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> T:
    # As `transaction`, without its microseconds: most questions take some fifty.
    execute = connection.execute
    execute("BEGIN")
    try:
        result = function(connection, *args, **kwargs)
        execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            execute("ROLLBACK")
        raise
    return result


def _take_over(connection: Connection, source: sqlite3.Connection, tables: Sequence[str]) -> None:
    for table in tables:
        connection.execute(f"DELETE FROM {table}")  # noqa: S608  (a constant)
    for table in reversed(tables):
        rows = source.execute(f"SELECT * FROM {table}")  # noqa: S608
        names = ", ".join(f'"{column[0]}"' for column in rows.description)
        marks = ", ".join("?" * len(rows.description))
        while block := rows.fetchmany(_ROWS_AT_ONCE):
            connection.executemany(
                f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608
                block,
            )


def _unlink_database(path: Path | None) -> None:
    if path is not None:
        for suffix in ("", "-wal", "-shm"):
            try:
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            except OSError as error:
                raise storage_error(error, str(path)) from error


@asynccontextmanager
async def open_sqlite_database(
    path: Path | Literal[":memory:"],
    *,
    durability: Durability = "full",
    create: bool = True,
    readers: int = READERS,
) -> AsyncIterator[SqliteDatabase]:
    """A database for as long as the context lasts, with the trio-asyncio loop it needs.

    Any trio task may use it, also one that was not started inside.

    Args:
        path: the file; made with mode 0600 where there is none (its folder must exist).
        durability: ``full``: what `write` returned survives power failure (``synchronous=FULL``);
            ``relaxed``: it survives the end of the process, and the last seconds may be
            lost with the power, never the whole (``synchronous=NORMAL``).
        create: False: a missing file is an error, not a new index.
        readers: questions that run at once, at least 1.

    Raises:
        StorageError: the file is damaged, foreign, newer than this program or not accessible.
    """
    failure: Exception | None = None
    async with trio_asyncio.open_loop() as loop:
        # What the body raises must not come out in the exception groups of the loop's nurseries.
        try:
            database = await _open(
                loop, None if path == ":memory:" else Path(path), durability, create, readers
            )
            try:
                yield database
            finally:
                await database.aclose()
        except Exception as error:
            failure = error
    if failure is not None:
        raise failure
    # The loop cancels its own tasks when it ends, and then takes our cancellation for theirs.
    await trio.lowlevel.checkpoint_if_cancelled()


async def _open(
    loop: trio_asyncio.TrioEventLoop,
    path: Path | None,
    durability: Durability,
    create: bool,
    readers: int,
) -> SqliteDatabase:
    def connector(writable: bool) -> sqlite3.Connection:
        if writable and path is not None:
            create_database(path, may_create=create)
        return connect(path, durability, writable=writable, factory=MatchingConnection)

    name = "in memory" if path is None else str(path)
    opened: list[SqliteConnection] = []
    try:
        for number in range(1 if path is None else 1 + readers):
            connection = SqliteConnection(partial(connector, number == 0), loop, name)
            await connection.open()
            opened.append(connection)
    except BaseException:
        for connection in opened:
            await connection.aclose()
        raise
    return SqliteDatabase(opened[0], opened[1:], path, is_durable=durability == "full")
