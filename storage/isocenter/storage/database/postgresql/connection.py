"""PostgreSQL connection used from trio: opening, whole functions in a thread, cancelling."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, TypeVar, cast

import psycopg
import trio
from outcome import Outcome
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import StorageError
from isocenter.storage.database.database import Cursor, Question, Values
from isocenter.storage.database.postgresql.errors import (
    WrongDatabaseError,
    is_connection_lost,
    storage_error,
)
from isocenter.storage.database.postgresql.matching import answer_matchers
from isocenter.storage.database.postgresql.ownership import take_for_server
from isocenter.storage.database.postgresql.schema import check_server, migrate, schema_version
from isocenter.storage.database.postgresql.statements import Statement, translate
from isocenter.storage.database.postgresql.values import adapters

T = TypeVar("T")
U = TypeVar("U")

#: A statement waits so long for rows that others have locked.
LOCK_SECONDS: Final = 10
#: Longer than any question of ours over tens of millions of instances.
STATEMENT_SECONDS: Final = 1_800
#: What a node that was paused holds is free for the others after that.
IDLE_SECONDS: Final = 60
#: A cancelled statement is told again until the thread is free.
INTERRUPT_AGAIN_SECONDS: Final = 0.02
_INTERRUPT_TIMEOUT_SECONDS: Final = 5.0
#: How long the end of a transaction is asked for whose COMMIT had no answer.
_ASK_SECONDS: Final = 10.0
_ASK_AGAIN_SECONDS: Final = 0.1
#: Whoever writes holds this lock until the end of the transaction.
_WRITE_LOCK: Final = 0x49534F43_0002
_BEGIN_READING: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN_WRITING: Final = (
    f"BEGIN; SELECT pg_advisory_xact_lock({_WRITE_LOCK}); SELECT pg_current_xact_id()::text"
)
#: PostgreSQL cuts longer ones off, and says so.
_LONGEST_NAME: Final = 63
_DEFAULTS: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "60",
    "keepalives_interval": "10",
    "keepalives_count": "6",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tables are.

    Attributes:
        conninfo: as libpq reads it.
        schema: the name space of the tables.
        is_durable: what is committed survives a power failure.
        server: who uses it alone, with all its processes; empty: nobody does.
    """

    conninfo: str
    schema: str = "isocenter"
    is_durable: bool = True
    server: str = ""

    @property
    def name(self) -> str:
        """For messages, without password and options."""
        parts = conninfo_to_dict(self.conninfo)
        host = parts.get("host") or parts.get("hostaddr") or ""
        port = f":{parts['port']}" if parts.get("port") else ""
        return f"postgresql://{host}{port}/{parts.get('dbname') or ''}"


class TranslatingConnection:
    """See `isocenter.storage.database.database.Connection`; lives in one transaction."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._cursors: list[psycopg.ServerCursor[Any]] = []

    def execute(self, statement: str, values: Values = (), /) -> Cursor:
        translated = translate(statement)
        return self._run(translated, values)

    def executemany(self, statement: str, rows: Iterable[Values], /) -> Cursor:
        translated = translate(statement)
        cursor = self._connection.cursor()
        if translated.converts:
            rows = map(translated.bind, rows)
        cursor.executemany(translated.text.encode(), rows)
        return cast("Cursor", cursor)

    def ask(self, question: Question) -> Cursor:
        text, parameters = answer_matchers(self._connection, question)
        statement = translate(text)
        if not question.rows_at_once:
            return self._run(statement, parameters)
        # psycopg would have all rows sent otherwise, and PostgreSQL would plan for all.
        cursor = self._connection.cursor(f"part_{len(self._cursors)}")
        cursor.itersize = question.rows_at_once
        self._cursors.append(cursor)
        cursor.execute(statement.text.encode(), statement.bind(parameters))
        return cast("Cursor", cursor)

    def end(self) -> None:
        """Close what was not read to its end."""
        for cursor in self._cursors:
            cursor.close()

    def _run(self, statement: Statement, values: Values) -> Cursor:
        # Without rows psycopg's has no description, which nobody asks for then.
        return cast(
            "Cursor", self._connection.execute(statement.text.encode(), statement.bind(values))
        )


class PostgresqlConnection:
    """A connection that is made anew when it was lost.

    Whole functions run in a thread of trio, so a batch costs one hop and not one per statement.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._connection: psycopg.Connection[Any] | None = None

    async def open(self, *, migrates: bool = False) -> None:
        """Connect; whoever *migrates* also brings the schema up to date.

        Raises:
            StorageError: the database cannot be reached or used.
        """
        await self._in_thread(partial(self._open, migrates), interrupted=None)

    def _open(self, migrates: bool) -> None:
        connection = connect(self._place)
        try:
            check_server(connection)
            if self._place.server:
                take_for_server(connection, self._place.server)
            if migrates:
                migrate(connection, self._place.schema)
            else:
                schema_version(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    async def aclose(self) -> None:
        """Close it; never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(connection.close)

    async def read(self, function: Callable[[TranslatingConnection], T]) -> T:
        """*function* on one moment of the database; when cancelled it is interrupted.

        Raises:
            StorageError: PostgreSQL failed.
        """
        return await self._in_thread(partial(self._read, function), interrupted=self._interrupt)

    async def write(self, function: Callable[[TranslatingConnection], T]) -> T:
        """*function* while nobody else writes; cancelling waits until it has done its work.

        Raises:
            StorageError: PostgreSQL failed.
        """
        return await self._in_thread(partial(self._write, function), interrupted=None)

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
        connection = self._connection
        if connection is not None and not connection.closed:
            with suppress(psycopg.Error):  # it ends by itself, or the connection is lost
                connection.cancel_safe(timeout=_INTERRUPT_TIMEOUT_SECONDS)

    def _read(self, function: Callable[[TranslatingConnection], T]) -> T:
        connection = self._begin(_BEGIN_READING)[0]
        with self._kept_if_sound(connection) as translating:
            result = function(translating)
            translating.end()
            connection.execute("COMMIT")
        return result

    def _write(self, function: Callable[[TranslatingConnection], T]) -> T:
        connection, transaction = self._begin(_BEGIN_WRITING)
        with self._kept_if_sound(connection) as translating:
            result = function(translating)
            translating.end()
            try:
                connection.execute("COMMIT")
            except psycopg.OperationalError as error:
                if not is_connection_lost(error) or not self._was_committed(transaction):
                    raise
        return result

    def _write_after(
        self, prepare: Callable[[], U | None], function: Callable[[TranslatingConnection, U], T]
    ) -> T | None:
        prepared = prepare()
        if prepared is None:
            return None
        return self._write(lambda connection: function(connection, prepared))

    def _begin(self, statement: str) -> tuple[psycopg.Connection[Any], str]:
        """A transaction has begun: on a new connection, if the old one is found to be lost."""
        connection = self._connection
        if connection is not None and not connection.closed:
            try:
                return connection, _last_value(connection.execute(statement))
            except psycopg.OperationalError as error:
                if not is_connection_lost(error):
                    _roll_back(connection)
                    raise
            connection.close()
        self._open(migrates=False)
        connection = self._connection
        assert connection is not None
        return connection, _last_value(connection.execute(statement))

    @contextmanager
    def _kept_if_sound(
        self, connection: psycopg.Connection[Any]
    ) -> Iterator[TranslatingConnection]:
        translating = TranslatingConnection(connection)
        try:
            yield translating
        except BaseException:
            _roll_back(connection)
            with suppress(psycopg.Error):
                translating.end()
            raise

    def _was_committed(self, transaction: str) -> bool:
        """Whether a transaction was committed whose COMMIT had no answer.

        Raises:
            StorageError: nobody can tell.
        """
        deadline = time.monotonic() + _ASK_SECONDS
        while time.monotonic() < deadline:
            try:
                self._open(migrates=False)
                assert self._connection is not None
                row = self._connection.execute(
                    "SELECT pg_xact_status(%s::text::xid8)", (transaction,)
                ).fetchone()
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


def _last_value(cursor: psycopg.Cursor[Any]) -> str:
    """The one value of the last of several statements; nothing, where there is none."""
    while cursor.nextset():
        pass
    row = cursor.fetchone() if cursor.description else None
    return "" if row is None else str(row[0])


def _roll_back(connection: psycopg.Connection[Any]) -> None:
    try:
        if not connection.closed:
            connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()


def connect(place: Place) -> psycopg.Connection[Any]:
    """Connect in the calling thread.

    Raises:
        psycopg.Error, WrongDatabaseError
    """
    given = conninfo_to_dict(place.conninfo)
    connection = psycopg.connect(
        make_conninfo(**{**_DEFAULTS, **{k: str(v) for k, v in given.items()}}),
        autocommit=True,
        context=adapters(),
    )
    try:
        settings: Mapping[str, str] = {
            "search_path": place.schema,
            "synchronous_commit": "on" if place.is_durable else "off",
            "lock_timeout": f"{LOCK_SECONDS}s",
            "statement_timeout": f"{STATEMENT_SECONDS}s",
            "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
            "client_min_messages": "warning",
            "timezone": "UTC",
            "application_name": f"isocenter {place.server}".strip()[:_LONGEST_NAME],
            # Questions take milliseconds; to compile one takes hundreds.
            "jit": "off",
        }
        connection.execute(
            sql.SQL("; ").join(
                sql.SQL("SET {} TO {}").format(sql.Identifier(name), sql.Literal(value))
                for name, value in settings.items()
            )
        )
    except BaseException:
        connection.close()
        raise
    return connection
