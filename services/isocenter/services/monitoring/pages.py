"""Routes of the monitoring pages: metrics and health."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from isocenter.services.monitoring.health import Health, Level, Report
from isocenter.services.monitoring.metrics import Metrics
from isocenter.services.net.http.server import HttpHandler, HttpResponse

_JSON = "application/json"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def monitoring_routes(
    health: Health, metrics: Metrics, is_serving: Callable[[], bool]
) -> dict[str, HttpHandler]:
    """Paths and their pages.

    Args:
        is_serving: False from the beginning of a stop on.
    """

    async def show_metrics(may_see_figures: bool) -> HttpResponse | None:
        return HttpResponse(200, _PROMETHEUS, metrics.page()) if may_see_figures else None

    async def live(may_see_figures: bool) -> HttpResponse:
        return _json(200, {"status": "alive"})

    async def ready(may_see_figures: bool) -> HttpResponse:
        if not is_serving():
            return _json(503, {"status": "stopping"})
        report = await health.report()
        return _json(200 if report.is_operational else 503, _brief(report, may_see_figures))

    async def whole(may_see_figures: bool) -> HttpResponse:
        report = await health.report()
        told = _brief(report, may_see_figures)
        if may_see_figures:
            told |= report.details
        return _json(200 if report.is_operational else 503, told)

    return {
        "/metrics": show_metrics,
        "/health": whole,
        "/health/live": live,
        "/health/ready": ready,
        "/live": live,
        "/ready": ready,
    }


def _brief(report: Report, may_see_figures: bool) -> dict[str, object]:
    """The state; why it is so names figures, too."""
    brief: dict[str, object] = {"status": report.level.value}
    if may_see_figures and report.level is not Level.HEALTHY:
        brief["messages"] = report.messages
    return brief


def _json(status: int, value: object) -> HttpResponse:
    return HttpResponse(status, _JSON, orjson.dumps(value) + b"\n")
