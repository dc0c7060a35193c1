"""One SQLite database connection, used from trio: opening, hopping, interrupting, errors.

What is in here knows nothing of DICOM.  `SqliteConnection` is an aiosqlite connection
whose thread runs whole Python functions: a batch costs one hop (about 0.2 ms), not one
per statement.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Final, Literal, ParamSpec, Self, TypeVar

import aiosqlite
import trio
import trio_asyncio

from isocenter.services.errors import StorageError, text_of
from isocenter.services.system.private_files import sync_directory
from isocenter.storage.database.sqlite.planner_statistics import write_statistics
from isocenter.storage.database.sqlite.schema import (
    WrongFileError,
    empty_database,
    migrate,
    schema_version,
)

P = ParamSpec("P")
T = TypeVar("T")

Durability = Literal["full", "relaxed"]

#: How long a writer waits for other processes before it gives up.
BUSY_TIMEOUT_SECONDS: Final = 10.0

#: Page cache per connection; the reference's 64 MB, shared out to the connections of an index.
CACHE_KIBIBYTES: Final = 16 * 1024

#: `sqlite3.Connection.interrupt` says nothing to a statement that begins a moment later;
#: so it is said again until the thread is free.
INTERRUPT_AGAIN_SECONDS: Final = 0.02

#: Prepared statements kept per connection; adding uses some thirty, queries vary.
CACHED_STATEMENTS: Final = 256

_OUT_OF_RESOURCES: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_IOERR_NOMEM}
    # No room to grow the shared memory file beside the database comes as an I/O error.
    | {sqlite3.SQLITE_IOERR_SHMSIZE}
)
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY_CODE: Final = 0xFF

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def storage_error(error: Exception, name: str) -> StorageError:
    """*error* as what the services know; *name* is the database's, for the message."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, WrongFileError):
        return StorageError(f"cannot use {name} as index: {error}")
    if isinstance(error, OSError):
        return StorageError(
            f"cannot open the index {name}: {text_of(error)}",
            out_of_resources=error.errno in _NO_SPACE,
        )
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & _PRIMARY_CODE
    if primary in _DAMAGED:
        return StorageError(
            f"the index {name} is damaged ({error}); stop the server, move the file and those "
            "named like it with -wal and -shm away, and run `isocenter db reindex`"
        )
    if code in _OUT_OF_RESOURCES or primary in _OUT_OF_RESOURCES:
        return StorageError(
            f"no room for the index {name} ({error}); free some space", out_of_resources=True
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageError(
            f"the index {name} was locked by another process for more than "
            f"{BUSY_TIMEOUT_SECONDS:g} s"
        )
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StorageError(
            f"cannot open or write the index {name} ({error}); "
            "check owner and permissions of the file and of its folder"
        )
    return StorageError(
        f"the index {name} failed ({getattr(error, 'sqlite_errorname', '')} {error})"
    )


class SqliteConnection(aiosqlite.Connection):
    """An aiosqlite connection whose thread runs functions of ours.

    aiosqlite's public calls run one statement per hop, and come back through asyncio; a whole
    transaction in one hop needs the queue of its thread.  That queue is the same since its
    first release, and `run` is the only place that touches it.  Opening and closing go the
    public way, over trio-asyncio.
    """

    def __init__(
        self,
        connector: Callable[[], sqlite3.Connection],
        loop: trio_asyncio.TrioEventLoop,
        name: str,
    ) -> None:
        super().__init__(self._try, iter_chunk_size=1)
        self._connector_of_database = connector
        self._failure: Exception | None = None
        self._loop = loop
        self.name = name

    async def open(self) -> None:
        """Start the thread and connect.

        Raises:
            StorageError: the database cannot be used.
        """

        async def connect() -> None:
            await self

        with trio.CancelScope(shield=True):
            await self._loop.run_aio_coroutine(connect())
        if self._failure is not None:
            await self.aclose()
            raise storage_error(self._failure, self.name) from self._failure

    def _try(self) -> sqlite3.Connection:
        # When a connector raises, aiosqlite leaves its thread to end by itself, which it may
        # do when the loop it wants to tell is closed.  One that is open can be closed in order.
        try:
            return self._connector_of_database()
        except (sqlite3.Error, OSError, WrongFileError) as error:
            self._failure = error
            return sqlite3.connect(":memory:", check_same_thread=False)

    @property
    def database(self) -> sqlite3.Connection:
        """For another thread, while nobody else uses this connection."""
        return self._conn

    async def aclose(self) -> None:
        """Wait for what runs, then close; never raises `trio.Cancelled` half way."""
        with trio.CancelScope(shield=True):
            try:
                await self._loop.run_aio_coroutine(self.close())
            except sqlite3.Error as error:
                raise storage_error(error, self.name) from error

    async def run(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """*function* on this connection's thread, with its `sqlite3.Connection` first.

        When cancelled, a running statement is interrupted, and the function has ended (by
        whatever it raises then, or because it was through) before `trio.Cancelled` comes out:
        afterwards the connection is free.

        Raises:
            StorageError: SQLite failed.
        """
        answer = self._ask(partial(function, self._conn, *args, **kwargs))
        try:
            await answer.given.wait()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                while not answer.done():
                    self._conn.interrupt()
                    with trio.move_on_after(INTERRUPT_AGAIN_SECONDS):
                        await answer.given.wait()
            raise
        result: T = self._result_of(answer)
        return result

    def _ask(self, function: Callable[[], object]) -> _Answer:
        answer = _Answer(trio.lowlevel.current_trio_token())
        queue: Any = self._tx  # of aiosqlite's thread
        queue.put_nowait((answer, function))
        return answer

    def _result_of(self, answer: _Answer) -> Any:
        if answer.failure is not None:
            if isinstance(answer.failure, sqlite3.Error | WrongFileError):
                raise storage_error(answer.failure, self.name) from answer.failure
            raise answer.failure
        return answer.result

    async def finish(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As `run`, but cancelling waits until the function has done its work.

        So that the caller learns what became of it: interrupting a COMMIT leaves that open.
        """
        answer = self._ask(partial(function, self._conn, *args, **kwargs))
        try:
            await answer.given.wait()
        except trio.Cancelled:
            # It comes again at the next checkpoint.  A shield around each call, which hardly any
            # needs, would cost as much as the statements of a small transaction.
            with trio.CancelScope(shield=True):
                await answer.given.wait()
        result: T = self._result_of(answer)
        return result


class _Answer:
    """Takes the place of the asyncio future that aiosqlite's thread hands its result to.

    The thread says ``future.get_loop().call_soon_threadsafe(…)``: here the loop is trio itself.
    The way through an event loop of asyncio and back costs 0.2 ms, which is more than most
    transactions.
    """

    __slots__ = ("_token", "failure", "given", "result")

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self.given = trio.Event()
        self.result: Any = None
        self.failure: BaseException | None = None

    def get_loop(self) -> Self:
        return self

    def call_soon_threadsafe(self, call: Callable[..., object], *args: object) -> None:
        self._token.run_sync_soon(call, *args)

    def done(self) -> bool:
        return self.given.is_set()

    def set_result(self, result: object) -> None:
        self.result = result
        self.given.set()

    def set_exception(self, failure: BaseException) -> None:
        self.failure = failure
        self.given.set()


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """BEGIN IMMEDIATE … COMMIT; rolled back when anything raises, also the COMMIT itself."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def connect(
    path: Path | None,
    durability: Durability,
    *,
    writable: bool,
    factory: type[sqlite3.Connection] = sqlite3.Connection,
) -> sqlite3.Connection:
    """Open the database in the calling thread and set it up; *path* None is one in memory.

    A writable connection also brings the schema up to date.

    Raises:
        sqlite3.Error, WrongFileError
    """
    connection = sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=BUSY_TIMEOUT_SECONDS,
        isolation_level=None,
        # Opened, used and closed by aiosqlite's thread, interrupted by another.
        check_same_thread=False,
        cached_statements=CACHED_STATEMENTS,
        factory=factory,
    )
    try:
        # First of all, before anything is written into a foreign file.
        schema_version(connection)
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
        connection.execute("PRAGMA temp_store = MEMORY")
        if path is not None:
            connection.execute("PRAGMA journal_mode = WAL")
            # No memory map: a disk that cannot be read would end the process (SIGBUS).
            connection.execute("PRAGMA mmap_size = 0")
        if path is None:
            _fill(connection)
        if writable:
            migrate(connection)
            write_statistics(connection)
        else:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _fill(connection: sqlite3.Connection) -> None:
    with closing(sqlite3.connect(":memory:")) as source:
        source.deserialize(empty_database())
        source.backup(connection)


def create_database(path: Path, *, may_create: bool = True) -> None:
    """Put a database with the schema and no rows at *path*, unless something is there.

    It gets its name when it is complete, so a file of no bytes is never an index that was
    begun: it is a damaged one, and is refused.  Only the owner may read it (0600).

    Raises:
        OSError, sqlite3.Error, WrongFileError
    """
    if path.exists():
        if path.stat().st_size == 0:
            raise WrongFileError(
                "the file is empty, which an index never is; move it away and run "
                "`isocenter db reindex`"
            )
        return
    if not may_create:
        raise WrongFileError("there is no such file; run `isocenter db reindex`")
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex}.new")
    try:
        with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(empty_database())
            file.flush()
            os.fsync(file.fileno())
        try:
            # Unlike a rename it leaves alone what another process put there meanwhile.
            os.link(new, path)
        except FileExistsError:
            return
        sync_directory(path.parent)
    finally:
        new.unlink(missing_ok=True)
