"""PostgreSQL connection used from trio: opening, whole functions in a thread, cancelling."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import psycopg
import trio
from outcome import Outcome

from isocenter.services.errors import StorageError
from isocenter.storage.database.postgresql.errors import (
    WrongDatabaseError,
    is_connection_lost,
    storage_error,
)
from isocenter.storage.database.postgresql.opening import Place, connect
from isocenter.storage.database.postgresql.ownership import EVERYBODY, take_for_server
from isocenter.storage.database.postgresql.pipeline import Answer, Pipeline
from isocenter.storage.database.postgresql.schema import check_server, migrate, schema_version
from isocenter.storage.database.postgresql.transaction import TranslatingConnection
from isocenter.storage.database.postgresql.turns import (
    BEGIN_BESIDE,
    BEGIN_NOTING,
    BEGIN_WRITING,
    CLOCK,
    CONFLICTS,
    TELL,
    settled_number,
)

T = TypeVar("T")
U = TypeVar("U")

_log = logging.getLogger("isocenter.storage")

#: How long a start waits for others to let go of tables that it is to change, and the pause
#: between two attempts.
MIGRATION_PATIENCE_SECONDS: Final = 600.0
MIGRATION_PAUSE_SECONDS: Final = 5.0
#: A cancelled statement is told again until the thread is free.
INTERRUPT_AGAIN_SECONDS: Final = 0.02
_INTERRUPT_TIMEOUT_SECONDS: Final = 5.0
#: How long the end of a transaction is asked for whose COMMIT had no answer.
_ASK_SECONDS: Final = 10.0
_ASK_AGAIN_SECONDS: Final = 0.1
#: What the clock of the database said is not believed when its answer took longer: it comes with
#: those to all that was sent after it, and nobody knows when in between it was true.
_CLOCK_SECONDS: Final = 1.0
_BEGIN_READING: Final = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_NEVER_IDLE: Final = b"SELECT set_config('idle_in_transaction_session_timeout', '0', true)"


class Reading(Protocol):
    """Reads from one moment."""

    async def __call__(self, function: Callable[[TranslatingConnection], T], /) -> T: ...


class ServerClock:
    """The clock of the database, as of the last time that somebody heard it.

    A clock of our own that nobody sets carries it on, so all nodes have one time, whatever their
    own clocks say.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._ahead: float | None = None

    def hear(self, seconds: float, at: float | None = None) -> None:
        """It is that late, in seconds since 1970, or was when our own clock said *at*."""
        self._ahead = seconds - (self._now() if at is None else at)

    def __call__(self) -> float:
        """Seconds since 1970."""
        return time.time() if self._ahead is None else self._now() + self._ahead


class PostgresqlConnection:
    """A connection that is made anew when it was lost.

    Whole functions run in a thread of trio, so a batch costs one hop and not one per statement.

    Args:
        clock: told what the clock of the database says.
        prepares_after: as of `Pipeline`.
    """

    def __init__(
        self, place: Place, clock: ServerClock | None = None, *, prepares_after: int = 0
    ) -> None:
        self._place = place
        self._clock = ServerClock() if clock is None else clock
        self._prepares_after = prepares_after
        self._pipeline: Pipeline | None = None

    async def open(self, *, migrates: bool = False) -> None:
        """Connect; whoever *migrates* also brings the schema up to date.

        A step that would change a table while others read it for long is tried again and again,
        so neither they nor who comes after them wait for it.

        Raises:
            StorageError: the database cannot be reached or used.
        """
        deadline = trio.current_time() + MIGRATION_PATIENCE_SECONDS
        while True:
            try:
                await self._in_thread(partial(self._open, migrates), interrupted=None)
                return
            except StorageError as error:
                is_locked = isinstance(error.__cause__, psycopg.errors.LockNotAvailable)
                if not (migrates and is_locked) or trio.current_time() >= deadline:
                    raise
            _log.warning(
                "the tables of %s are to be brought up to date, and somebody has been reading "
                "them for long (pg_stat_activity names who); tried again in %g s",
                self._place.name,
                MIGRATION_PAUSE_SECONDS,
            )
            await trio.sleep(MIGRATION_PAUSE_SECONDS)

    def _open(self, migrates: bool) -> Pipeline:
        self._pipeline = Pipeline(
            self._connect(migrates=migrates), self._connect, prepares_after=self._prepares_after
        )
        return self._pipeline

    def _connect(self, *, migrates: bool = False) -> psycopg.Connection[Any]:
        connection = connect(self._place)
        try:
            check_server(connection)
            if self._place.server:
                own = EVERYBODY if self._place.is_shared else self._place.server
                take_for_server(connection, own)
            if migrates:
                migrate(
                    connection,
                    self._place.schema,
                    node=self._place.node,
                    migrations=self._place.migrations,
                )
            else:
                schema_version(connection, self._place.migrations[-1].version)
            (said,) = connection.execute(f"SELECT {CLOCK}").fetchone() or (0.0,)
        except BaseException:
            connection.close()
            raise
        self._clock.hear(said)
        return connection

    async def aclose(self) -> None:
        """Close it; never raises."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(pipeline.close)

    async def read(self, function: Callable[[TranslatingConnection], T]) -> T:
        """*function* on one moment of the database; when cancelled it is interrupted.

        Raises:
            StorageError: PostgreSQL failed.
        """
        return await self._in_thread(partial(self._read, function), interrupted=self._interrupt)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Reading]:
        """What reads from one moment of the database, for as long as the context lasts.

        Raises:
            StorageError: PostgreSQL failed.
        """
        pipeline = await self._in_thread(self._begin_held, interrupted=self._interrupt)

        async def read(function: Callable[[TranslatingConnection], T]) -> T:
            def call() -> T:
                translating = TranslatingConnection(pipeline)
                try:
                    result = function(translating)
                except BaseException:
                    with suppress(psycopg.Error):
                        translating.end()
                    raise
                translating.end()
                return result

            return await self._in_thread(call, interrupted=self._interrupt)

        try:
            yield read
        finally:
            with trio.CancelScope(shield=True):
                await self._in_thread(partial(_roll_back, pipeline), interrupted=None)

    def _begin_held(self) -> Pipeline:
        pipeline = self._ready()
        # Between two questions others may write for a long while.
        pipeline.begin(_BEGIN_READING, _NEVER_IDLE).fetchone()
        return pipeline

    async def settled_number(self) -> int:
        """See `Database.settled_number`.

        Raises:
            StorageError: PostgreSQL failed.
        """
        return await self._in_thread(
            lambda: settled_number(self._ready()), interrupted=self._interrupt
        )

    async def write(self, function: Callable[[TranslatingConnection], T]) -> T:
        """*function* while nobody else writes; cancelling waits until it has done its work.

        Raises:
            StorageError: PostgreSQL failed.
        """
        return await self._in_thread(partial(self._write, function), interrupted=None)

    async def note(self, function: Callable[[TranslatingConnection], T]) -> T:
        """The same while others write.

        Raises:
            StorageError: PostgreSQL failed.
        """
        return await self._in_thread(partial(self._write, function, BEGIN_NOTING), interrupted=None)

    async def write_beside(self, function: Callable[[TranslatingConnection], T]) -> T:
        """See `Database.write_beside`.

        Raises:
            StorageError: PostgreSQL failed.
        """
        return await self._in_thread(partial(self._write_beside, function), interrupted=None)

    async def write_after(
        self, prepare: Callable[[], U | None], function: Callable[[TranslatingConnection, U], T]
    ) -> T | None:
        """The same with what *prepare* gives before, in the same hop; None: there is nothing."""
        return await self._in_thread(
            partial(self._write_after, prepare, function), interrupted=None
        )

    async def _in_thread(
        self, function: Callable[[], T], interrupted: Callable[[], None] | None
    ) -> T:
        done = trio.Event()
        token = trio.lowlevel.current_trio_token()
        answers: list[Outcome[T]] = []

        def deliver(answer: Outcome[T]) -> None:
            answers.append(answer)
            token.run_sync_soon(done.set)

        trio.lowlevel.start_thread_soon(function, deliver)
        try:
            await done.wait()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                while interrupted is not None and not done.is_set():
                    await trio.to_thread.run_sync(interrupted)
                    with trio.move_on_after(INTERRUPT_AGAIN_SECONDS):
                        await done.wait()
                await done.wait()
            if interrupted is not None:
                raise
        try:
            return answers[0].unwrap()
        except (psycopg.Error, WrongDatabaseError) as error:
            raise storage_error(error, self._place.name) from error

    def _interrupt(self) -> None:
        pipeline = self._pipeline
        if pipeline is not None and not pipeline.connection.closed:
            with suppress(psycopg.Error):  # it ends by itself, or the connection is lost
                pipeline.connection.cancel_safe(timeout=_INTERRUPT_TIMEOUT_SECONDS)

    def _ready(self) -> Pipeline:
        """The connection, made where there is none."""
        return self._pipeline or self._open(migrates=False)

    def _read(self, function: Callable[[TranslatingConnection], T]) -> T:
        pipeline = self._ready()
        pipeline.begin(_BEGIN_READING)
        with _kept_if_sound(pipeline) as translating:
            result = function(translating)
            translating.end()
            pipeline.leave(b"COMMIT")
        return result

    def _write(
        self, function: Callable[[TranslatingConnection], T], begin: Sequence[bytes] = BEGIN_WRITING
    ) -> T:
        pipeline = self._ready()
        is_beside = begin is BEGIN_BESIDE
        began = time.monotonic()
        told = pipeline.begin(*begin)
        with _kept_if_sound(
            pipeline, None if is_beside else told, has_turn=not is_beside
        ) as translating:
            result = function(translating)
            translating.close()
            told = translating.told or pipeline.send(TELL)
            # Before the COMMIT: were its answer lost, nobody could ask for the transaction.
            *_, transaction, seconds = told.fetchone()
            if told.heard_at - began < _CLOCK_SECONDS:
                self._clock.hear(seconds, told.heard_at)
            commit = pipeline.send(b"COMMIT", is_kept=False)
            try:
                done = commit.tag
            except psycopg.OperationalError as error:
                if not is_connection_lost(error) or not self._was_committed(transaction):
                    raise
            else:
                if done != b"COMMIT":
                    raise psycopg.errors.InFailedSqlTransaction("it was rolled back")
        return result

    def _write_beside(self, function: Callable[[TranslatingConnection], T]) -> T:
        try:
            return self._write(function, BEGIN_BESIDE)
        except CONFLICTS:
            return self._write(function)

    def _write_after(
        self, prepare: Callable[[], U | None], function: Callable[[TranslatingConnection, U], T]
    ) -> T | None:
        prepared = prepare()
        if prepared is None:
            return None
        return self._write_beside(lambda connection: function(connection, prepared))

    def _was_committed(self, transaction: str) -> bool:
        """Whether a transaction was committed whose COMMIT had no answer.

        Raises:
            StorageError: nobody can tell.
        """
        deadline = time.monotonic() + _ASK_SECONDS
        while time.monotonic() < deadline:
            try:
                asked = f"SELECT pg_xact_status('{int(transaction)}'::xid8)".encode()
                row = self._ready().begin(asked).fetchone()
            except psycopg.OperationalError:
                pass
            else:
                if row is not None and row[0] in ("committed", "aborted"):
                    return bool(row[0] == "committed")
            time.sleep(_ASK_AGAIN_SECONDS)
        raise StorageError(
            f"the database {self._place.name} went away in the middle of a COMMIT; whether it was "
            "done is not known"
        )


@contextmanager
def _kept_if_sound(
    pipeline: Pipeline, told: Answer | None = None, *, has_turn: bool = True
) -> Iterator[TranslatingConnection]:
    try:
        yield TranslatingConnection(pipeline, told, has_turn=has_turn)
    except BaseException:
        _roll_back(pipeline)
        raise


def _roll_back(pipeline: Pipeline) -> None:
    """Also where something that nobody has heard yet has failed."""
    with suppress(psycopg.Error):
        pipeline.receive()
    try:
        if not pipeline.connection.closed:
            pipeline.send(b"ROLLBACK", is_kept=False)
            pipeline.receive()
    except psycopg.Error:
        pipeline.close()
