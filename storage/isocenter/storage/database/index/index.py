"""The index in one SQLite file: adapter of the port `Index` over aiosqlite and trio-asyncio.

One connection writes, a few read; in WAL mode neither waits for the other.  A find
first gathers the row numbers of all its matches, eight bytes each, and then fetches
the values block by block.  So between two blocks it holds no connection, no cursor
and no snapshot: a peer that takes its answers slowly delays nobody, and the
write-ahead log can be checkpointed meanwhile.  What is removed between two
blocks is left out of the later ones.

Several processes may use one file.
"""

from __future__ import annotations

import sqlite3
import time
from array import array
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Concatenate, Final, Generic, Literal, ParamSpec, TypeVar

import orjson
import trio
import trio_asyncio  # type: ignore[import-untyped]

from isocenter.services.archive.index.query import Query
from isocenter.services.archive.ports import (
    Added,
    Index,
    IndexStatistics,
    InstanceRecord,
    StoredInstance,
)
from isocenter.services.errors import StorageError
from isocenter.storage.database.index.answers import Answers
from isocenter.storage.database.index.query import (
    ALL_INSTANCE_KEYS,
    MatchingConnection,
    Statement,
    compile_instance_keys,
    compile_keys,
)
from isocenter.storage.database.index.records import (
    SELECT_STORED_INSTANCES,
    BesideAdd,
    add_records,
    clear_records,
    get_records,
    get_whole_records,
    probe_records,
    read_statistics,
    remove_records,
    stored_instance,
    take_over_records,
)
from isocenter.storage.database.sqlite import schema as migrations
from isocenter.storage.database.sqlite.connection import (
    Durability,
    SqliteConnection,
    connect,
    create_database,
    storage_error,
)
from isocenter.storage.database.sqlite.integrity_check import check_records

P = ParamSpec("P")
T = TypeVar("T")

#: Rows of one hop: enough that the hop (0.2 ms) does not count, few enough that the
#: first answer leaves at once and a cancelled find has not fetched much in vain.
BLOCK_ROWS: Final = 250

#: A first block that is found within this leaves before the other matches are counted: then
#: the question is asked twice, which is cheap where the beginning was.
EARLY_SECONDS: Final = 0.005

#: Connections for questions, so as many run at once; the rest wait for one.
READERS: Final = 3


class _Pool:
    """Connections that one task at a time may use; who waits longest is next."""

    def __init__(self, connections: Sequence[SqliteConnection]) -> None:
        self._connections = connections
        self._give, self._take = trio.open_memory_channel[SqliteConnection](len(connections))
        for connection in connections:
            self._give.send_nowait(connection)

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[SqliteConnection]:
        try:
            connection = await self._take.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise StorageError("the index is closed") from None
        try:
            yield connection
        finally:
            self._give.send_nowait(connection)

    async def aclose(self) -> None:
        """Wait until all connections are back, and close them; whoever waits for one is told."""
        connections, self._connections = self._connections, ()
        with trio.CancelScope(shield=True):
            for _ in connections:
                connection = await self._take.receive()
                await connection.aclose()
        self._take.close()


class SqliteIndex:
    """See `isocenter.services.archive.ports.Index`; made by `open_sqlite_index`.

    Cancelling `add`, `remove` or `clear` while it waits for its turn does nothing; once
    its transaction has begun it is brought to its end, which takes milliseconds.
    Cancelling a question interrupts it.
    """

    def __init__(
        self,
        writer: SqliteConnection,
        readers: Sequence[SqliteConnection],
        path: Path | None = None,
    ) -> None:
        """*readers*: none for a database in memory (*path* None), where the one connection does
        all."""
        self._path = path
        #: What else is written in the transaction of each `add`; empty unless a server has it.
        self.beside_add: list[BesideAdd] = []
        self._writers = _Pool([writer])
        self._readers = _Pool(readers) if readers else self._writers

    async def add(
        self,
        records: Sequence[InstanceRecord],
        *,
        replace: bool = False,
        one_patient: bool = False,
    ) -> Sequence[Added]:
        """See `isocenter.services.archive.ports.Index.add`; one hop, one transaction."""
        return await self.write(add_records, records, replace, self.beside_add, one_patient)

    async def remove(self, sop_instance_uids: Sequence[str]) -> None:
        """See `isocenter.services.archive.ports.Index.remove`; one hop, one transaction."""
        await self.write(remove_records, sop_instance_uids)

    async def get(self, sop_instance_uids: Sequence[str]) -> Mapping[str, StoredInstance]:
        """See `isocenter.services.archive.ports.Index.get`."""
        return await self.read(get_records, sop_instance_uids)

    async def records(self, sop_instance_uids: Sequence[str]) -> Mapping[str, InstanceRecord]:
        """See `isocenter.services.archive.ports.Index.records`."""
        return await self.read(get_whole_records, sop_instance_uids)

    @asynccontextmanager
    async def find(self, query: Query) -> AsyncIterator[AsyncIterator[Sequence[Mapping[int, str]]]]:
        """See `isocenter.services.archive.ports.Index.find`."""
        yield _Blocks(self._readers, compile_keys(query), Answers(query).fetch)

    @asynccontextmanager
    async def instances(
        self, query: Query | None = None
    ) -> AsyncIterator[AsyncIterator[Sequence[StoredInstance]]]:
        """See `isocenter.services.archive.ports.Index.instances`."""
        keys = ALL_INSTANCE_KEYS if query is None else compile_instance_keys(query)
        yield _Blocks(self._readers, keys, _fetch_instances)

    async def statistics(self) -> IndexStatistics:
        """See `Index.statistics` of the port; takes the same time for any size."""
        return await self.read(read_statistics)

    async def probe(self) -> None:
        """See `isocenter.services.archive.ports.Index.probe`."""
        await self.write(probe_records)

    async def check(self) -> list[str]:
        """What is wrong in the database, a line each; an empty list when all is well.

        Integrity, foreign keys, counts.  Reads everything: minutes for millions of instances.
        """
        return await self.read(check_records)

    async def schema_version(self) -> int:
        """The number of the last migration (`isocenter.storage.database.sqlite.schema`)."""
        return await self.read(migrations.schema_version)

    async def clear(self) -> None:
        """Forget everything, in one transaction."""
        await self.write(clear_records)

    @asynccontextmanager
    async def rebuilding(self) -> AsyncIterator[Index]:
        """See `isocenter.services.archive.ports.Index.rebuilding`.

        What is built lies beside this one as ``….rebuilding`` until it is taken over, in one
        transaction; other tables of the database are left alone.
        """
        path = None if self._path is None else self._path.with_name(f"{self._path.name}.rebuilding")
        await trio.to_thread.run_sync(_unlink_database, path)
        try:
            async with open_sqlite_index(
                ":memory:" if path is None else path, durability="relaxed", readers=1
            ) as new:
                yield new
                async with new._writers.borrow() as built:
                    await self.write(take_over_records, built.database)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_unlink_database, path)

    async def aclose(self) -> None:
        """Wait for what runs, then close; further calls raise `StorageError`."""
        await self._readers.aclose()
        await self._writers.aclose()

    # For the other tables of the database, which have adapters of their own.

    async def read(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """*function* on a connection that reads; cancelling interrupts it."""
        async with self._readers.borrow() as connection:
            return await connection.run(function, *args, **kwargs)

    async def write(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """*function* on the connection that writes; once begun it is brought to its end.

        It opens its transaction itself (`isocenter.storage.database.index.records.transaction`).
        """
        async with self._writers.borrow() as connection:
            return await connection.finish(function, *args, **kwargs)


class _Blocks(Generic[T]):
    """Gathers the row numbers of all matches, then fetches block by block."""

    def __init__(
        self,
        pool: _Pool,
        keys: Statement,
        fetch: Callable[[sqlite3.Connection, str], Sequence[T]],
    ) -> None:
        self._pool = pool
        self._statement = keys
        self._fetch = fetch
        #: Rows of the first block, when that left before all others were known.
        self._first: frozenset[int] = frozenset()
        self._keys: array[int] | None = None
        self._position = 0

    def __aiter__(self) -> _Blocks[T]:
        return self

    async def __anext__(self) -> Sequence[T]:
        while self._keys is None or self._position < len(self._keys):
            async with self._pool.borrow() as connection:
                block = await connection.run(self._next)
            if block:
                return block
        raise StopAsyncIteration

    def _next(self, connection: sqlite3.Connection) -> Sequence[T]:
        """Runs on the connection's thread; the first time it does both steps in one hop, unless
        there are many matches and the first were found quickly: then these leave at once."""
        if self._keys is None:
            assert isinstance(connection, MatchingConnection)
            began = time.monotonic()
            found = map(itemgetter(0), connection.run(self._statement))
            keys = array("q", islice(found, BLOCK_ROWS))
            is_early = len(keys) == BLOCK_ROWS and time.monotonic() - began < EARLY_SECONDS
            if is_early and not self._first:
                self._first = frozenset(keys)
                return self._rows(connection, keys)
            first = self._first
            keys.extend(found)
            self._keys = array("q", (k for k in keys if k not in first)) if first else keys
        keys = self._keys[self._position : self._position + BLOCK_ROWS]
        self._position += len(keys)
        return self._rows(connection, keys)

    def _rows(self, connection: sqlite3.Connection, keys: array[int]) -> Sequence[T]:
        return self._fetch(connection, orjson.dumps(keys.tolist()).decode()) if keys else ()


def _unlink_database(path: Path | None) -> None:
    if path is not None:
        for suffix in ("", "-wal", "-shm"):
            try:
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            except OSError as error:
                raise storage_error(error, str(path)) from error


def _fetch_instances(connection: sqlite3.Connection, keys: str) -> Sequence[StoredInstance]:
    rows = connection.execute(SELECT_STORED_INSTANCES, (keys,)).fetchall()
    return [stored_instance(row) for row in rows]


@asynccontextmanager
async def open_sqlite_index(
    path: Path | Literal[":memory:"],
    *,
    durability: Durability = "full",
    create: bool = True,
    readers: int = READERS,
) -> AsyncIterator[SqliteIndex]:
    """An index for as long as the context lasts, with the trio-asyncio loop it needs.

    Any trio task may use it, also one that was not started inside.

    Args:
        path: the database; made with mode 0600 where there is none (its folder must exist).
        durability: ``full``: what `add` returned survives power failure (``synchronous=FULL``);
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
            index = await _open(
                loop, None if path == ":memory:" else Path(path), durability, create, readers
            )
            try:
                yield index
            finally:
                await index.aclose()
        except Exception as error:
            failure = error
    if failure is not None:
        raise failure


async def _open(
    loop: trio_asyncio.TrioEventLoop,
    path: Path | None,
    durability: Durability,
    create: bool,
    readers: int,
) -> SqliteIndex:
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
    return SqliteIndex(opened[0], opened[1:], path)
