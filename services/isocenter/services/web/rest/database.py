"""Database in the API: its health, the times that it takes, what took long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from isocenter.services.archive.query_times.ports import QueryTimer, QueryTimes
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.parts import ServerState
from isocenter.services.web.rest.bodies import Body, answer
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import moment

_SERVICE: Final = "Database"
_P95, _P99 = 0.95, 0.99
#: Of the latest transactions, so many may fail or wait before somebody is warned.
_ERROR_RATE: Final = 0.01
_SLOW_P95_SECONDS: Final = 0.5


class DatabaseHealth(Body):
    """How the database does: `healthy`, `degraded` or `unhealthy`."""

    status: str
    message: str
    response_time_ms: float | None
    active_connections: int
    error_rate: float
    warnings: list[str]


class Latency(Body):
    """Microseconds that the latest transactions took."""

    avg_us: float
    min_us: float
    max_us: float
    p95_us: float
    p99_us: float


class Connections(Body):
    """Transactions under way in the process that answers, and its connections with the database."""

    active: int
    total: int
    in_use: int


class DatabaseMetrics(Body):
    """What the process that answers has asked its database, and how long that took."""

    total_queries: int
    successful_queries: int
    failed_queries: int
    queries_per_second: float
    latency: Latency
    connections: Connections
    error_rate: float
    slow_query_count: int


class SlowTransaction(Body):
    """A transaction that took long; `query_preview` is what was done, and nobody's data."""

    query_preview: str
    duration_us: float
    timestamp: str | None


class SlowTransactions(Body):
    """The latest that took longer than `threshold_ms`, the last one first."""

    threshold_ms: float
    queries: list[SlowTransaction]


class DatabaseApi:
    """Answers about the database."""

    def __init__(self, timer: QueryTimer, state: Callable[[], Awaitable[ServerState]]) -> None:
        self._timer = timer
        self._state = state

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is asked."""
        yield endpoint(
            "GET", "/health/database", self.health, "How the database does.",
            name="GetDatabaseHealth", service=_SERVICE, needs="state", gives=DatabaseHealth,
        )  # fmt: skip
        yield endpoint(
            "GET", "/metrics/database", self.metrics, "Times and counts of the database.",
            name="GetDatabaseMetrics", service=_SERVICE, needs="state", gives=DatabaseMetrics,
        )  # fmt: skip
        yield endpoint(
            "GET", "/metrics/database/slow-queries", self.slow, "What took long.",
            name="ListSlowQueries", service=_SERVICE, needs="state", gives=SlowTransactions,
        )  # fmt: skip

    async def health(self, request: Request) -> Response:
        """The handler."""
        looked = (await self._state()).details.get("database", {})
        times = self._timer.times()
        warnings = list(_warnings(times))
        is_there = looked.get("connected", True)
        status = "unhealthy" if not is_there else "degraded" if warnings else "healthy"
        return answer(
            DatabaseHealth(
                status=status,
                message=str(looked.get("error", "")) or "; ".join(warnings) or "it answers",
                response_time_ms=looked.get("response_ms"),
                active_connections=times.active,
                error_rate=_error_rate(times),
                warnings=warnings,
            )
        )

    async def metrics(self, request: Request) -> Response:
        """The handler."""
        times = self._timer.times()
        recent = times.recent
        return answer(
            DatabaseMetrics(
                total_queries=times.total,
                successful_queries=times.total - times.failed,
                failed_queries=times.failed,
                queries_per_second=(
                    round(len(recent) / times.recent_seconds, 3) if times.recent_seconds else 0.0
                ),
                latency=Latency(
                    avg_us=_microseconds(sum(recent) / len(recent) if recent else 0.0),
                    min_us=_microseconds(recent[0] if recent else 0.0),
                    max_us=_microseconds(recent[-1] if recent else 0.0),
                    p95_us=_microseconds(times.quantile(_P95)),
                    p99_us=_microseconds(times.quantile(_P99)),
                ),
                connections=Connections(
                    active=times.active,
                    total=times.connections.total,
                    in_use=times.connections.in_use,
                ),
                error_rate=_error_rate(times),
                slow_query_count=times.slow,
            )
        )

    async def slow(self, request: Request) -> Response:
        """The handler."""
        return answer(
            SlowTransactions(
                threshold_ms=1e3 * self._timer.times().slow_seconds,
                queries=[
                    SlowTransaction(
                        query_preview=one.what.replace("_", " "),
                        duration_us=_microseconds(one.seconds),
                        timestamp=moment(one.at),
                    )
                    for one in self._timer.slow_queries()
                ],
            )
        )


def _warnings(times: QueryTimes) -> Iterator[str]:
    rate = _error_rate(times)
    if rate > _ERROR_RATE:
        yield f"{rate:.1%} of the latest transactions failed"
    p95 = times.quantile(_P95)
    if p95 > _SLOW_P95_SECONDS:
        yield f"one of 20 transactions takes longer than {p95:.1f} s"


def _error_rate(times: QueryTimes) -> float:
    return round(times.recent_failed / len(times.recent), 4) if times.recent else 0.0


def _microseconds(seconds: float) -> float:
    return round(1e6 * seconds, 1)
