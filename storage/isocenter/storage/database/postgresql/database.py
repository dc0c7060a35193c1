"""PostgreSQL database: connections that write, and some that read.

Any number of processes may use one; whoever writes has the turn, as with SQLite.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Concatenate, Final, ParamSpec, TypeVar

import trio

from isocenter.storage.database.database import Connection
from isocenter.storage.database.pool import Pool
from isocenter.storage.database.postgresql.connection import Place, PostgresqlConnection

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")

#: Connections for questions, so as many run at once; the rest wait for one.
READERS: Final = 3


class PostgresqlDatabase:
    """See `isocenter.storage.database.database.Database`; made by `open_postgresql_database`."""

    def __init__(
        self,
        place: Place,
        writers: Sequence[PostgresqlConnection],
        readers: Sequence[PostgresqlConnection],
    ) -> None:
        self._place = place
        self._writers = Pool(writers)
        self._readers = Pool(readers)

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

    async def aclose(self) -> None:
        """See `Database.aclose`."""
        await self._readers.aclose()
        await self._writers.aclose()


def _drop_schema(connection: Connection, schema: str) -> None:
    connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


def _take_over(connection: Connection, source: str, tables: Sequence[str]) -> None:
    for table in tables:
        connection.execute(f"DELETE FROM {table}")  # noqa: S608  (a constant)
    for table in reversed(tables):
        names = [
            name
            for (name,) in connection.execute(
                "SELECT column_name::text FROM information_schema.columns "
                "WHERE table_schema = current_schema() AND table_name = ? ORDER BY 1",
                (table,),
            )
        ]
        columns = ", ".join(f'"{name}"' for name in names)
        connection.execute(
            f'INSERT INTO {table} ({columns}) SELECT {columns} FROM "{source}".{table}'  # noqa: S608
        )
        (sequence,) = connection.execute(
            "SELECT CASE WHEN ? IN (SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND table_name = ? AND is_identity = 'YES') "
            "THEN pg_get_serial_sequence(?, ?) END",
            (f"{table}_pk", table, table, f"{table}_pk"),
        ).fetchone()
        if sequence is not None:
            # A number that was used before never comes to mean something else.
            connection.execute(
                f"SELECT setval(?, greatest((SELECT last_value FROM {sequence}), "  # noqa: S608
                f"(SELECT coalesce(max({table}_pk), 1) FROM {table})))",
                (sequence,),
            )


@asynccontextmanager
async def open_postgresql_database(
    place: Place, *, readers: int = READERS
) -> AsyncIterator[PostgresqlDatabase]:
    """A database for as long as the context lasts; tables are made where there are none.

    Raises:
        StorageError: it cannot be reached, or is newer than this program or foreign.
    """
    writers = [PostgresqlConnection(place)]
    pools = PostgresqlDatabase(
        place, writers, [PostgresqlConnection(place) for _ in range(readers)]
    )
    try:
        await writers[0].open(migrates=True)
        yield pools
    finally:
        await pools.aclose()
