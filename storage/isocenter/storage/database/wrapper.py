"""Database that hands on to another what its subclasses leave as it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Concatenate, ParamSpec, Self, TypeVar

from isocenter.services.archive.query_times.ports import ConnectionCounts
from isocenter.storage.database.database import Connection, Database, Moment

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")


class DatabaseWrapper(ABC):
    """See `isocenter.storage.database.database.Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @abstractmethod
    def _wrap_spare(self, spare: Database) -> Self:
        """What `spare` gives, around that of the other."""

    async def read(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.read`."""
        return await self._database.read(function, *args, **kwargs)

    async def write(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.write`."""
        return await self._database.write(function, *args, **kwargs)

    async def note(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.note`."""
        return await self._database.note(function, *args, **kwargs)

    async def write_beside(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.write_beside`."""
        return await self._database.write_beside(function, *args, **kwargs)

    async def write_after(
        self,
        prepare: Callable[[], U | None],
        function: Callable[Concatenate[Connection, U, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | None:
        """See `Database.write_after`."""
        return await self._database.write_after(prepare, function, *args, **kwargs)

    @asynccontextmanager
    async def moment(self) -> AsyncIterator[Moment]:
        """See `Database.moment`."""
        async with self._database.moment() as moment:
            yield moment

    async def settled_number(self) -> int:
        """See `Database.settled_number`."""
        return await self._database.settled_number()

    async def raise_numbers(self, numbers: Mapping[str, int]) -> None:
        """See `Database.raise_numbers`."""
        await self._database.raise_numbers(numbers)

    async def sync(self) -> None:
        """See `Database.sync`."""
        await self._database.sync()

    async def check(self) -> Sequence[str]:
        """See `Database.check`."""
        return await self._database.check()

    @asynccontextmanager
    async def spare(self) -> AsyncIterator[Self]:
        """See `Database.spare`."""
        async with self._database.spare() as spare:
            yield self._wrap_spare(spare)

    async def take_over(self, spare: Self, tables: Sequence[str]) -> None:
        """See `Database.take_over`."""
        await self._database.take_over(spare._database, tables)

    def connections(self) -> ConnectionCounts:
        """See `Database.connections`."""
        return self._database.connections()

    async def aclose(self) -> None:
        """See `Database.aclose`."""
        await self._database.aclose()
