"""What is behind each path: metrics, and health in three forms (MON-1.4)."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from isocenter.services.monitoring.health import Health, Level, Report
from isocenter.services.monitoring.http import Answer, Page
from isocenter.services.monitoring.metrics import Metrics

_JSON = "application/json"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def pages_of(health: Health, metrics: Metrics, is_serving: Callable[[], bool]) -> dict[str, Page]:
    """Paths and their pages.

    Args:
        is_serving: False from the beginning of a stop on.
    """

    async def show_metrics(is_local: bool) -> Answer:
        return Answer(200, _PROMETHEUS, metrics.page())

    async def live(is_local: bool) -> Answer:
        return _json(200, {"status": "alive"})

    async def ready(is_local: bool) -> Answer:
        if not is_serving():
            return _json(503, {"status": "stopping"})
        report = await health.report()
        return _json(200 if report.is_operational else 503, _brief(report))

    async def whole(is_local: bool) -> Answer:
        report = await health.report()
        # Paths, versions and figures are for who is on the machine already.
        told = _brief(report) | report.details if is_local else _brief(report)
        return _json(200 if report.is_operational else 503, told)

    return {
        "/metrics": show_metrics,
        "/health": whole,
        "/health/live": live,
        "/health/ready": ready,
        "/live": live,
        "/ready": ready,
    }


def _brief(report: Report) -> dict[str, object]:
    brief: dict[str, object] = {"status": report.level.value}
    if report.level is not Level.HEALTHY:
        brief["messages"] = report.messages
    return brief


def _json(status: int, value: object) -> Answer:
    return Answer(status, _JSON, orjson.dumps(value) + b"\n")
