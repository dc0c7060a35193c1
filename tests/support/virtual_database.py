"""Database in memory that needs no thread, so that virtual time and a seed decide all of it.

The statements are the real ones, on SQLite; its clock is trio's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

import trio

from isocenter.services.archive.query_times.ports import ConnectionCounts
from isocenter.storage.database.database import Connection
from isocenter.storage.database.sqlite.connection import connect, transaction
from isocenter.storage.database.sqlite.database import _last_number, _last_numbers
from isocenter.storage.database.sqlite.functions import MatchingConnection

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")

#: What the database's clock says when trio's says nothing, in seconds since 1970.
EPOCH = 1_800_000_000.0
_JULIAN_EPOCH = 2_440_587.5


def database_clock() -> float:
    """The clock of the database, in seconds since 1970; for who asks it, too."""
    return EPOCH + trio.current_time()


class Way(Protocol):
    """What lies between a process and its database."""

    async def there(self, name: str) -> None:
        """A transaction is on its way; `StorageError`: it never arrives."""
        ...

    async def back(self, name: str, *, writes: bool) -> None:
        """Its answer is; `StorageError`: it was lost."""
        ...


class ShortWay:
    """The database is next door, and always answers."""

    async def there(self, name: str) -> None:
        await trio.lowlevel.checkpoint()

    async def back(self, name: str, *, writes: bool) -> None:
        await trio.lowlevel.checkpoint()


class DatabaseServer:
    """The one database that all `VirtualDatabase`s are ways to."""

    def __init__(self) -> None:
        connection = connect(None, "relaxed", writable=True, factory=MatchingConnection)
        assert isinstance(connection, MatchingConnection)
        self.connection = connection
        connection.create_function("julianday", -1, _julianday)

    def close(self) -> None:
        self.connection.close()


def _julianday(*_: object) -> float:
    return database_clock() / 86_400.0 + _JULIAN_EPOCH


@contextmanager
def database_server() -> Iterator[DatabaseServer]:
    """A new one, with the tables of the archive."""
    server = DatabaseServer()
    try:
        yield server
    finally:
        server.close()


class VirtualDatabase:
    """See `isocenter.storage.database.database.Database`."""

    def __init__(self, server: DatabaseServer, way: Way | None = None) -> None:
        self._connection = server.connection
        self._way: Way = ShortWay() if way is None else way

    async def read(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        name = _name_of(function, args)
        await self._way.there(name)
        result = function(self._connection, *args, **kwargs)
        await self._way.back(name, writes=False)
        return result

    async def write(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        name = _name_of(function, args)
        await self._way.there(name)
        # From here on it is the database that acts.
        with trio.CancelScope(shield=True):
            with transaction(self._connection):
                result = function(self._connection, *args, **kwargs)
            await self._way.back(name, writes=True)
        return result

    note = write
    write_beside = write

    async def write_after(
        self,
        prepare: Callable[[], U | None],
        function: Callable[Concatenate[Connection, U, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | None:
        prepared = prepare()
        if prepared is None:
            return None
        return await self.write(function, prepared, *args, **kwargs)

    @asynccontextmanager
    async def moment(self) -> AsyncIterator[Self]:
        yield self  # nobody here needs more than what is there when it asks

    async def last_numbers(self, tables: Sequence[str]) -> Mapping[str, int]:
        return await self.read(_last_numbers, tables)

    async def settled_number(self) -> int:
        return await self.read(_last_number)

    def connections(self) -> ConnectionCounts:
        return ConnectionCounts(1, 0)

    async def raise_numbers(self, numbers: Mapping[str, int]) -> None:
        raise NotImplementedError

    async def sync(self) -> None:
        await trio.lowlevel.checkpoint()

    async def check(self) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        return ()

    def spare(self) -> Any:
        raise NotImplementedError

    async def take_over(self, spare: Self, tables: Sequence[str]) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def _name_of(function: Callable[..., object], args: Sequence[object]) -> str:
    """What a transaction is called; of one that is fenced, or told of, what is within."""
    for each in (function, *args):
        name = getattr(getattr(each, "func", each), "__name__", "")
        if name and not name.startswith(("_fenced", "telling")):
            return str(name).strip("_")
    return "?"
