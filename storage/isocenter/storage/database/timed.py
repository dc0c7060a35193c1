"""Database whose transactions are timed; what is done in them stays that of another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic, time
from typing import Concatenate, Final, ParamSpec, Self, TypeVar

from isocenter.services.archive.query_times.ports import (
    ConnectionCounts,
    QueryListener,
    QueryTimes,
    SlowQuery,
)
from isocenter.services.errors import StorageError
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.wrapper import DatabaseWrapper

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")

#: A page that people wait for has a tenth of it.
SLOW_SECONDS: Final = 1.0
_MOST_RECENT: Final = 1_000
_MOST_SLOW: Final = 100


class Timer:
    """Keeps the times of transactions; a `QueryTimer`.

    Args:
        connections: how many there are now.
    """

    def __init__(
        self,
        *,
        connections: Callable[[], ConnectionCounts] = lambda: ConnectionCounts(0, 0),
        clock: Callable[[], float] = monotonic,
        now: Callable[[], float] = time,
    ) -> None:
        self._connections = connections
        self._clock = clock
        self._now = now
        self._total = self._failed = self._active = self._slow = 0
        #: When each ended, its seconds, and whether it failed.
        self._recent: deque[tuple[float, float, bool]] = deque(maxlen=_MOST_RECENT)
        self._slow_queries: deque[SlowQuery] = deque(maxlen=_MOST_SLOW)
        self._listeners: list[QueryListener] = []

    def listen(self, listener: QueryListener) -> None:
        """See `QueryTimer.listen`."""
        self._listeners.append(listener)

    @contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Time what is done inside."""
        began = self._clock()
        self._active += 1
        has_failed = False
        try:
            yield
        except StorageError:
            has_failed = True
            raise
        finally:
            ended = self._clock()
            self._active -= 1
            self._total += 1
            self._failed += has_failed
            seconds = ended - began
            self._recent.append((ended, seconds, has_failed))
            for listener in self._listeners:
                listener(what.strip("_"), seconds, has_failed)
            if seconds >= SLOW_SECONDS:
                self._slow += 1
                self._slow_queries.append(
                    SlowQuery(what=what.strip("_"), seconds=seconds, at=self._now())
                )

    def times(self) -> QueryTimes:
        """See `QueryTimer.times`."""
        recent = list(self._recent)
        return QueryTimes(
            total=self._total,
            failed=self._failed,
            active=self._active,
            recent=sorted(seconds for _, seconds, _ in recent),
            recent_failed=sum(has_failed for _, _, has_failed in recent),
            recent_seconds=self._clock() - recent[0][0] if recent else 0.0,
            slow=self._slow,
            slow_seconds=SLOW_SECONDS,
            connections=self._connections(),
        )

    def slow_queries(self) -> Sequence[SlowQuery]:
        """See `QueryTimer.slow_queries`."""
        return tuple(reversed(self._slow_queries))


class TimedDatabase(DatabaseWrapper):
    """Times each transaction; what is asked in a `moment` is not, as nobody waits for it."""

    def __init__(self, database: Database, timer: Timer) -> None:
        super().__init__(database)
        self._timer = timer

    def _wrap_spare(self, spare: Database) -> Self:
        return type(self)(spare, self._timer)

    async def read(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.read`."""
        with self._timer.timing(_name_of(function)):
            return await self._database.read(function, *args, **kwargs)

    async def write(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.write`."""
        with self._timer.timing(_name_of(function)):
            return await self._database.write(function, *args, **kwargs)

    async def note(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.note`."""
        with self._timer.timing(_name_of(function)):
            return await self._database.note(function, *args, **kwargs)

    async def write_beside(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.write_beside`."""
        with self._timer.timing(_name_of(function)):
            return await self._database.write_beside(function, *args, **kwargs)

    async def write_after(
        self,
        prepare: Callable[[], U | None],
        function: Callable[Concatenate[Connection, U, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | None:
        """See `Database.write_after`."""
        with self._timer.timing(_name_of(function)):
            return await self._database.write_after(prepare, function, *args, **kwargs)


def _name_of(function: Callable[..., object]) -> str:
    """What a function is called; of a part of one, what the whole is."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", "?")
