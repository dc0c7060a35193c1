"""Pool of connections, each of which one task at a time may use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

import trio

from isocenter.services.archive.query_times.ports import ConnectionCounts
from isocenter.services.errors import StorageError


class Closable(Protocol):
    """What is closed at the end."""

    async def aclose(self) -> None: ...


C = TypeVar("C", bound=Closable)


class Pool(Generic[C]):
    """Who waits longest for a connection is next."""

    def __init__(self, connections: Sequence[C]) -> None:
        self._connections = connections
        self._unused = len(connections)
        self._give, self._take = trio.open_memory_channel[C](len(connections))
        for connection in connections:
            self._give.send_nowait(connection)

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[C]:
        """One of them, for as long as the context lasts."""
        try:
            try:
                connection = self._take.receive_nowait()  # a turn of the scheduler less
            except trio.WouldBlock:
                connection = await self._take.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise StorageError("the index is closed") from None
        self._unused -= 1
        try:
            yield connection
        finally:
            self._unused += 1
            self._give.send_nowait(connection)

    def counts(self) -> ConnectionCounts:
        """How many there are, and in use."""
        total = len(self._connections)
        return ConnectionCounts(total, max(0, total - self._unused))

    async def aclose(self) -> None:
        """Wait until all connections are back, and close them; whoever waits for one is told."""
        connections, self._connections = self._connections, ()
        with trio.CancelScope(shield=True):
            for _ in connections:
                connection = await self._take.receive()
                await connection.aclose()
        self._take.close()


def sum_of(*pools: Pool[Any]) -> ConnectionCounts:
    """Of several pools; one that stands there twice counts once."""
    counts = [pool.counts() for pool in dict.fromkeys(pools)]
    return ConnectionCounts(sum(one.total for one in counts), sum(one.in_use for one in counts))
