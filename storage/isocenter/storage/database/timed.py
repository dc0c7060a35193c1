"""Database whose transactions are timed; what is done in them stays that of another."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from time import monotonic, time
from typing import Concatenate, Final, ParamSpec, TypeVar

from isocenter.services.archive.query_times.ports import QueryTimes, SlowQuery
from isocenter.services.errors import StorageError
from isocenter.storage.database.database import Connection, Database

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")

#: A page that people wait for has a tenth of it.
SLOW_SECONDS: Final = 1.0
_MOST_RECENT: Final = 1_000
_MOST_SLOW: Final = 100


class Timer:
    """Keeps the times of transactions; a `QueryTimer`."""

    def __init__(
        self, *, clock: Callable[[], float] = monotonic, now: Callable[[], float] = time
    ) -> None:
        self._clock = clock
        self._now = now
        self._total = self._failed = self._active = self._slow = 0
        #: When each ended, its seconds, and whether it failed.
        self._recent: deque[tuple[float, float, bool]] = deque(maxlen=_MOST_RECENT)
        self._slow_queries: deque[SlowQuery] = deque(maxlen=_MOST_SLOW)

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
        )

    def slow_queries(self) -> Sequence[SlowQuery]:
        """See `QueryTimer.slow_queries`."""
        return tuple(reversed(self._slow_queries))


class TimedDatabase:
    """See `isocenter.storage.database.database.Database`."""

    def __init__(self, database: Database, timer: Timer) -> None:
        self._database = database
        self._timer = timer

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

    async def check(self) -> Sequence[str]:
        """See `Database.check`."""
        return await self._database.check()

    @asynccontextmanager
    async def spare(self) -> AsyncIterator[TimedDatabase]:
        """See `Database.spare`."""
        async with self._database.spare() as spare:
            yield TimedDatabase(spare, self._timer)

    async def take_over(self, spare: TimedDatabase, tables: Sequence[str]) -> None:
        """See `Database.take_over`."""
        await self._database.take_over(spare._database, tables)

    async def aclose(self) -> None:
        """See `Database.aclose`."""
        await self._database.aclose()


def _name_of(function: Callable[..., object]) -> str:
    """What a function is called; of a part of one, what the whole is."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", "?")
