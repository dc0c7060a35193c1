"""PostgreSQL database: connections that write, and some that read.

Any number of processes may use one; whoever writes has the turn, as with SQLite.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Concatenate, Final, ParamSpec, TypeVar

import trio

from isocenter.services.archive.query_times.ports import ConnectionCounts
from isocenter.storage.database.database import Connection
from isocenter.storage.database.pool import Pool, sum_of
from isocenter.storage.database.postgresql.connection import (
    PostgresqlConnection,
    Reading,
    ServerClock,
)
from isocenter.storage.database.postgresql.opening import Place

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")

#: Connections for questions, so as many run at once; the rest wait for one.
READERS: Final = 3
#: Questions of peers are of endless variety, and those that come often are worth a plan.
PREPARES_AFTER: Final = 5


class PostgresqlDatabase:
    """See `isocenter.storage.database.database.Database`; made by `open_postgresql_database`."""

    def __init__(
        self,
        place: Place,
        writers: Sequence[PostgresqlConnection],
        readers: Sequence[PostgresqlConnection],
        clock: ServerClock,
    ) -> None:
        self._place = place
        self.clock = clock
        self._writers = Pool(writers)
        self._readers = Pool(readers)
        self._noters = Pool([PostgresqlConnection(place, clock)])

    async def read(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.read`."""
        async with self._readers.borrow() as connection:
            return await connection.read(lambda opened: function(opened, *args, **kwargs))

    async def write(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.write`."""
        async with self._writers.borrow() as connection:
            return await connection.write(lambda opened: function(opened, *args, **kwargs))

    async def note(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.note`."""
        async with self._noters.borrow() as connection:
            return await connection.note(lambda opened: function(opened, *args, **kwargs))

    async def write_beside(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.write_beside`."""
        async with self._writers.borrow() as connection:
            return await connection.write_beside(lambda opened: function(opened, *args, **kwargs))

    async def write_after(
        self,
        prepare: Callable[[], U | None],
        function: Callable[Concatenate[Connection, U, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | None:
        """See `Database.write_after`."""
        async with self._writers.borrow() as connection:
            return await connection.write_after(
                prepare, lambda opened, prepared: function(opened, prepared, *args, **kwargs)
            )

    @asynccontextmanager
    async def moment(self) -> AsyncIterator[PostgresqlMoment]:
        """See `Database.moment`."""
        async with self._readers.borrow() as connection, connection.held() as read:
            yield PostgresqlMoment(read)

    async def settled_number(self) -> int:
        """See `Database.settled_number`."""
        async with self._readers.borrow() as connection:
            return await connection.settled_number()

    async def raise_numbers(self, numbers: Mapping[str, int]) -> None:
        """See `Database.raise_numbers`."""
        await self.write(_raise_numbers, numbers)

    async def sync(self) -> None:
        """See `Database.sync`."""
        if not self._place.is_durable:
            await self.write(_sync)

    async def check(self) -> Sequence[str]:
        """See `Database.check`: PostgreSQL's own files are looked after by its own tools."""
        await trio.lowlevel.checkpoint()
        return ()

    @asynccontextmanager
    async def spare(self) -> AsyncIterator[PostgresqlDatabase]:
        """See `Database.spare`; it is a name space of its own, ``…_rebuilding``."""
        place = replace(self._place, schema=f"{self._place.schema}_rebuilding", is_durable=False)
        await self.write(_drop_schema, place.schema)
        try:
            async with open_postgresql_database(place, readers=1) as spare:
                yield spare
        finally:
            with trio.CancelScope(shield=True):
                await self.write(_drop_schema, place.schema)

    async def take_over(self, spare: PostgresqlDatabase, tables: Sequence[str]) -> None:
        """See `Database.take_over`."""
        await self.write(_take_over, spare._place.schema, tables)
        # Questions that come at once are planned for what there is now.
        await self.note(_count_for_plans, tables)

    def connections(self) -> ConnectionCounts:
        """See `Database.connections`."""
        return sum_of(self._readers, self._noters, self._writers)

    async def aclose(self) -> None:
        """See `Database.aclose`."""
        await self._readers.aclose()
        await self._noters.aclose()
        await self._writers.aclose()


class PostgresqlMoment:
    """See `isocenter.storage.database.database.Moment`."""

    def __init__(self, read: Reading) -> None:
        self._read = read

    async def read(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Moment.read`."""
        return await self._read(lambda connection: function(connection, *args, **kwargs))

    async def last_numbers(self, tables: Sequence[str]) -> Mapping[str, int]:
        """See `Moment.last_numbers`."""
        return await self.read(_last_numbers, tables)


def _last_numbers(connection: Connection, tables: Sequence[str]) -> Mapping[str, int]:
    found = {}
    for table in tables:
        sequence = _sequence_of(connection, table)
        # It is one ahead of nothing before its first use.
        (number,) = connection.execute(
            f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}"  # noqa: S608
        ).fetchone()
        found[table] = number
    return found


def _sync(connection: Connection) -> None:
    """A commit that is flushed, and with it all before it; it has to write something for that."""
    connection.execute("SET LOCAL synchronous_commit = on")
    connection.execute("SELECT pg_logical_emit_message(true, 'isocenter', '')")


def _raise_numbers(connection: Connection, numbers: Mapping[str, int]) -> None:
    for table, number in numbers.items():
        sequence = _sequence_of(connection, table)
        connection.execute(
            f"SELECT setval(?, greatest(last_value, ?::bigint)) FROM {sequence}",  # noqa: S608
            (sequence, number),
        )


def _sequence_of(connection: Connection, table: str) -> str:
    (sequence,) = connection.execute(
        "SELECT pg_get_serial_sequence(table_name, column_name) FROM information_schema.columns "
        "WHERE table_schema = current_schema() AND table_name = ? AND is_identity = 'YES'",
        (table,),
    ).fetchone()
    return str(sequence)


def _drop_schema(connection: Connection, schema: str) -> None:
    connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


def _take_over(connection: Connection, source: str, tables: Sequence[str]) -> None:
    for table in tables:
        connection.execute(f"DELETE FROM {table}")  # noqa: S608  (a constant)
    for table in reversed(tables):
        names = [
            name
            for (name,) in connection.execute(
                # The table may have more, of a step that this program does not know.
                "SELECT column_name::text FROM information_schema.columns "
                "WHERE table_schema = ? AND table_name = ? ORDER BY 1",
                (source, table),
            )
        ]
        columns = ", ".join(f'"{name}"' for name in names)
        connection.execute(
            f'INSERT INTO {table} ({columns}) SELECT {columns} FROM "{source}".{table}'  # noqa: S608
        )
        for column, sequence in connection.execute(
            "SELECT column_name::text, pg_get_serial_sequence(table_name, column_name) "
            "FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND table_name = ? AND is_identity = 'YES'",
            (table,),
        ).fetchall():
            # A number that was used before never comes to mean something else.
            connection.execute(
                f"SELECT setval(?, greatest((SELECT last_value FROM {sequence}), "  # noqa: S608
                f"(SELECT coalesce(max({column}), 1) FROM {table})))",
                (sequence,),
            )


def _count_for_plans(connection: Connection, tables: Sequence[str]) -> None:
    # A table that somebody else counts just now is left to that one.
    connection.execute(f"ANALYZE (SKIP_LOCKED) {', '.join(tables)}")


@asynccontextmanager
async def open_postgresql_database(
    place: Place, *, readers: int = READERS
) -> AsyncIterator[PostgresqlDatabase]:
    """A database for as long as the context lasts; tables are made where there are none.

    Raises:
        StorageError: it cannot be reached, or is newer than this program or foreign.
    """
    clock = ServerClock()
    writers = [PostgresqlConnection(place, clock)]
    pools = PostgresqlDatabase(
        place,
        writers,
        [PostgresqlConnection(place, clock, prepares_after=PREPARES_AFTER) for _ in range(readers)],
        clock,
    )
    try:
        await writers[0].open(migrates=True)
        yield pools
    finally:
        await pools.aclose()
