"""Monitoring pages: metrics and health over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import orjson

from isocenter.services.monitoring.figures_access import FiguresAccess, figures_refused
from isocenter.services.monitoring.health import Health, Level, Report
from isocenter.services.monitoring.metrics import Metrics
from isocenter.services.monitoring.other_names import as_values, page_in_other_names
from isocenter.services.net.http.application import Handler, RoutedApplication
from isocenter.services.net.http.limits import HttpLimits
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route, RouteTable

#: It shares the loop with DICOM, so what its callers take is little.
MONITORING_LIMITS: Final = HttpLimits(
    connections=16,
    connections_per_address=16,
    idle_seconds=30.0,
    body_seconds=10.0,
    send_seconds=10.0,
    grace_seconds=1.0,
)
_JSON: Final = "application/json"
_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


def monitoring_application(
    health: Health,
    metrics: Metrics,
    is_serving: Callable[[], bool],
    access: FiguresAccess,
    ae_title: str,
) -> RoutedApplication:
    """The pages, as an application.

    Args:
        ae_title: ours, for whom metrics of other names are.
        is_serving: False from the beginning of a stop on.
        access: says who may see figures.
    """

    async def show_metrics(request: Request) -> Response:
        if not await access.allows(request):
            raise figures_refused(access.token)
        asked = dict(request.query)
        match asked:
            case {} if not asked:
                return _page(200, _PROMETHEUS, metrics.page())
            case {"names": "pacs"} if len(asked) == 1:
                return _page(200, _PROMETHEUS, page_in_other_names(metrics.families(), ae_title))
            case {"format": "json"} if len(asked) == 1:
                return _json(200, as_values(metrics.families()))
            case _:
                raise HttpError(400, "BAD_QUERY", "there are names=pacs and format=json")

    async def live(request: Request) -> Response:
        return _json(200, {"status": "alive"})

    async def ready(request: Request) -> Response:
        if not is_serving():
            return _json(503, {"status": "stopping"})
        report = await health.report()
        return _json(200 if report.is_operational else 503, await brief(request, report))

    async def whole(request: Request) -> Response:
        report = await health.report()
        told = await brief(request, report)
        if await access.allows(request):
            told |= report.details
        return _json(200 if report.is_operational else 503, told)

    async def brief(request: Request, report: Report) -> dict[str, object]:
        """The state; why it is so names figures, too."""
        told: dict[str, object] = {"status": report.level.value}
        if report.level is not Level.HEALTHY and await access.allows(request):
            told["messages"] = report.messages
        return told

    def route(path: str, handler: Handler, text: str) -> Route[Handler]:
        return Route(method="GET", path=path, handler=handler, text=text)

    table = RouteTable(
        [
            route("/metrics", show_metrics, "All metrics, as Prometheus reads them."),
            route("/health", whole, "The state of the server and of what it stands on."),
            route("/health/live", live, "Whether the process lives."),
            route("/health/ready", ready, "Whether it serves."),
            route("/live", live, "Whether the process lives."),
            route("/ready", ready, "Whether it serves."),
        ]
    )
    return RoutedApplication(table, log_level=logging.DEBUG)


def _page(status: int, content_type: str, body: bytes) -> Response:
    headers = [("content-type", content_type), ("cache-control", "no-store")]
    return Response(status=status, headers=headers, body=body)


def _json(status: int, value: object) -> Response:
    return _page(status, _JSON, orjson.dumps(value) + b"\n")
