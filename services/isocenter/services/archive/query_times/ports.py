"""Port of the times that a database takes."""

from __future__ import annotations

from collections.abc import Sequence
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
    """

    total: int
    failed: int
    active: int
    recent: Sequence[float]
    recent_failed: int
    recent_seconds: float
    slow: int
    slow_seconds: float

    def quantile(self, part: float) -> float:
        """So large a part of the recent ones took no longer; 0: there were none."""
        if not self.recent:
            return 0.0
        return self.recent[min(int(part * len(self.recent)), len(self.recent) - 1)]


class QueryTimer(Protocol):
    """Measures transactions."""

    def times(self) -> QueryTimes:
        """How it has done until now."""
        ...

    def slow_queries(self) -> Sequence[SlowQuery]:
        """The latest ones that took long, the last one first."""
        ...
