"""Port of the times that a database takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowQuery:
    """A transaction that took long.

    Attributes:
        what: the name of what was done; nothing that was asked for.
        at: when it ended, in seconds since 1970.
    """

    what: str
    seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class ConnectionCounts:
    """Connections of this process with its database: how many there are, and in use."""

    total: int
    in_use: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryTimes:
    """How a database has done in this process.

    Attributes:
        total, failed: transactions since the start.
        active: those under way now.
        recent: seconds of the latest ones, the shortest first.
        recent_failed: how many of those failed.
        recent_seconds: in how many seconds they came.
        slow: how many took longer than `slow_seconds`.
        connections: with the database, now.
    """

    total: int
    failed: int
    active: int
    recent: Sequence[float]
    recent_failed: int
    recent_seconds: float
    slow: int
    slow_seconds: float
    connections: ConnectionCounts

    def quantile(self, part: float) -> float:
        """So large a part of the recent ones took no longer; 0: there were none."""
        if not self.recent:
            return 0.0
        return self.recent[min(int(part * len(self.recent)), len(self.recent) - 1)]


#: Is told of a transaction that has ended, where it ended: its name, its seconds, and whether it
#: failed.  Must not wait.
QueryListener = Callable[[str, float, bool], None]


class QueryTimer(Protocol):
    """Measures transactions."""

    def listen(self, listener: QueryListener) -> None:
        """Have each transaction from now on told to *listener*."""
        ...

    def times(self) -> QueryTimes:
        """How it has done until now."""
        ...

    def slow_queries(self) -> Sequence[SlowQuery]:
        """The latest ones that took long, the last one first."""
        ...
