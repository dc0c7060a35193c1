"""Pipeline of statements that are sent together, until an answer is needed.

psycopg's cursors cost several times what PostgreSQL needs for a statement of ours, and a message
there and back for each.  So statements go through psycopg's layer over libpq, which it documents
(`psycopg.pq`); values are adapted by psycopg as ever.
"""

from __future__ import annotations

import select
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGresult

from isocenter.engine.fast_init import dataclass
from isocenter.storage.database.postgresql.errors import is_connection_lost

#: Statements that PostgreSQL keeps for one connection; then all are forgotten.
_MOST_PREPARED: Final = 500
#: So many are sent before their answers are heard, so that neither side fills the other's buffers.
_MOST_WAITING: Final = 256
_AUTO: Final = PyFormat.AUTO
_FAILED: Final = (ExecStatus.FATAL_ERROR, ExecStatus.PIPELINE_ABORTED)

_Row: TypeAlias = tuple[Any, ...]
#: Of a statement that is kept: its text, and the types of its values.
_Key: TypeAlias = tuple[bytes, tuple[int, ...]]


class Answer:
    """See `isocenter.storage.database.database.Cursor`; asks for what was sent when it is read."""

    __slots__ = ("_count", "_is_heard", "_pipeline", "_result", "_rows", "heard_at")

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._is_heard = False
        self._result: PGresult | None = None
        self._rows: Iterator[_Row] = iter(())
        self._count = 0
        #: When it came, on the clock that nobody sets.
        self.heard_at = 0.0

    def hear(self, result: PGresult, rows: Sequence[_Row]) -> None:
        """It has come."""
        self._is_heard = True
        self.heard_at = time.monotonic()
        self._result = result
        self._rows = iter(rows)
        self._count = result.command_tuples or 0

    def _need(self) -> None:
        if not self._is_heard:
            self._pipeline.receive()

    @property
    def rowcount(self) -> int:
        self._need()
        return self._count

    @property
    def description(self) -> Sequence[Sequence[Any]]:
        self._need()
        result = self._result
        if result is None:
            return ()
        return [((result.fname(number) or b"").decode(),) for number in range(result.nfields)]

    @property
    def tag(self) -> bytes:
        """What PostgreSQL says that it did."""
        self._need()
        return (self._result and self._result.command_status) or b""

    def fetchone(self) -> Any:
        self._need()
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        self._need()
        return list(self._rows)

    def __iter__(self) -> Iterator[Any]:
        self._need()
        return self._rows


@dataclass(frozen=True, slots=True)
class _Sent:
    """A statement that was sent."""

    text: bytes
    values: Sequence[Any]
    is_kept: bool
    answer: Answer


class Pipeline:
    """Statements in one order on one connection.

    What fails is raised by whoever next waits for an answer, and nothing after it was done.

    Args:
        connect: makes another connection where one was lost before it has answered anything in a
            transaction.
        prepares_after: how often a statement is sent as it is before PostgreSQL keeps it.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        connect: Callable[[], psycopg.Connection[Any]],
        *,
        prepares_after: int = 0,
    ) -> None:
        self._connect = connect
        self._prepares_after = prepares_after
        self._number = 0
        self._use(connection)

    def _use(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._libpq = connection.pgconn
        self._transformer = Transformer(connection)
        socket = self._libpq.socket
        self._readable, self._usable = select.poll(), select.poll()
        self._readable.register(socket, select.POLLIN)
        self._usable.register(socket, select.POLLIN | select.POLLOUT)
        self._names: dict[_Key, bytes] = {}
        self._uses: Counter[bytes] = Counter()
        #: In the order of what was sent: who hears the answer; what is to be kept; None: nobody.
        self._waiting: deque[Answer | _Key | None] = deque()
        #: Points that were sent up to which all is answered.
        self._syncs = 0
        #: What is sent again on another connection; None: something was answered.
        self._again: list[_Sent] | None = None
        self._libpq.enter_pipeline_mode()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def begin(self, *texts: bytes) -> Answer:
        """Begin a transaction by *texts*; the answer to the last one.

        The connection is made anew where it is found to be lost, now or before the first answer.

        Raises:
            psycopg.Error: there is none to be had.
        """
        if self.connection.closed or not self._is_alive():
            self._reconnect()
        self._again = []
        return [self.send(text, is_kept=not text.startswith(b"BEGIN")) for text in texts][-1]

    def _is_alive(self) -> bool:
        """Whether the server has not hung up, as far as that has come here."""
        try:
            while self._readable.poll(0):
                self._libpq.consume_input()
        except psycopg.OperationalError:
            return False
        return True

    def _reconnect(self) -> None:
        self.connection.close()
        self._use(self._connect())

    def send(self, text: bytes, values: Sequence[Any] = (), *, is_kept: bool = True) -> Answer:
        """Send *text* with *values*, soon.

        Args:
            is_kept: it is worth being prepared: it comes again, word by word.
        """
        if len(self._waiting) >= _MOST_WAITING:
            self.receive()
        sent = _Sent(text, values, is_kept, Answer(self))
        if self._again is not None:
            self._again.append(sent)
        try:
            self._send(sent)
        except psycopg.OperationalError as error:
            self._mend(error)
        return sent.answer

    def _send(self, sent: _Sent) -> None:
        text, libpq = sent.text, self._libpq
        parameters: list[Buffer | None] = []
        types: tuple[int, ...] = ()
        formats = None
        if count := len(sent.values):
            parameters = list(self._transformer.dump_sequence(sent.values, [_AUTO] * count))
            types = self._transformer.types or ()
            formats = self._transformer.formats
        name = self._name(text, types) if sent.is_kept else None
        if name is None:
            libpq.send_query_params(text, parameters, types, formats)
        else:
            libpq.send_query_prepared(name, parameters, formats)
        self._waiting.append(sent.answer)

    def _name(self, text: bytes, types: tuple[int, ...]) -> bytes | None:
        """Under which PostgreSQL keeps the statement; None: it does not yet."""
        key = text, types
        name = self._names.get(key)
        if name is not None:
            return name
        if self._prepares_after:
            self._uses[text] += 1
            if self._uses[text] <= self._prepares_after:
                return None
            if len(self._uses) > _MOST_PREPARED:
                self._uses.clear()
        if len(self._names) >= _MOST_PREPARED:
            self._libpq.send_query_params(b"DEALLOCATE ALL", [])
            self._waiting.append(None)
            self._names.clear()
        self._number += 1
        name = self._names[key] = b"isocenter_%d" % self._number
        self._libpq.send_prepare(name, text, types)
        self._waiting.append(key)
        return name

    def receive(self) -> None:
        """Wait for the answers to all that was sent.

        Raises:
            psycopg.Error: the cause of the first that failed.
        """
        if not self._waiting:
            return
        try:
            self._receive()
        except psycopg.OperationalError as error:
            self._mend(error)
            self._receive()
        except psycopg.errors.InFailedSqlTransaction:
            if self._again is None:
                raise
            # That is the one before: what was to end it was interrupted, and nobody heard of it.
            self._send(_Sent(b"ROLLBACK", (), False, Answer(self)))
            for sent in self._again:
                self._send(sent)
            self._receive()
        finally:
            self._again = None  # something was answered, if only that it failed

    def _mend(self, error: psycopg.OperationalError) -> None:
        """Send it again on another connection, if nothing was answered by the one that is lost."""
        again, self._again = self._again, None
        if not is_connection_lost(error):
            raise error
        if again is None:
            self.connection.close()
            raise error
        self._reconnect()
        for sent in again:
            self._send(sent)

    def leave(self, text: bytes) -> None:
        """Send *text*, and do not wait for its answer: whoever begins next hears it."""
        self._again = None
        self._libpq.send_query_params(text, [])
        self._waiting.append(None)
        self._sync()

    def _sync(self) -> None:
        self._libpq.pipeline_sync()
        self._syncs += 1
        while self._libpq.flush():
            # PostgreSQL hears no more before it has been heard.
            self._usable.poll()
            self._libpq.consume_input()

    def _receive(self) -> None:
        self._sync()
        failed: psycopg.Error | None = None
        waiting = self._waiting
        try:
            while self._syncs:
                result = self._next_result()
                status = result.status
                if status == ExecStatus.PIPELINE_SYNC:
                    self._syncs -= 1
                    continue
                one = waiting.popleft()
                if status in _FAILED:
                    if isinstance(one, tuple):
                        self._names.pop(one, None)
                    if status == ExecStatus.FATAL_ERROR and one is not None:
                        failed = failed or error_from_result(result)
                elif isinstance(one, Answer):
                    one.hear(result, self._rows_of(result))
        except psycopg.OperationalError as error:
            # What PostgreSQL said before it went away tells more.
            raise failed or error from None
        if failed is not None:
            raise failed

    def _next_result(self) -> PGresult:
        libpq = self._libpq
        while True:
            while libpq.is_busy():
                self._readable.poll()
                libpq.consume_input()
            result = libpq.get_result()
            if result is not None:
                return result
            if libpq.status == ConnStatus.BAD:
                raise psycopg.OperationalError("the connection is lost")

    def _rows_of(self, result: PGresult) -> Sequence[_Row]:
        count = result.ntuples
        if not count:
            return ()
        self._transformer.set_pgresult(result)
        rows = self._transformer.load_rows(0, count, tuple)
        self._transformer.set_pgresult(None)
        return rows
