"""Monitoring in the API: metrics, room, checks of the installation, lines of the log."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from isocenter.services.archive.usage.figures import UsageFigures, filled_on
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Parameter, Route
from isocenter.services.web.parts import Check, Figure, ServerState
from isocenter.services.web.processes import ServerProcesses
from isocenter.services.web.rest.bodies import Body, answer
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import moment

_SERVICE: Final = "Monitoring"
_LEVELS: Final = ("debug", "info", "warning", "error")
_MOST_LINES: Final = 1_000
_DEFAULT_LINES: Final = 100


class Sample(Body):
    """One value of a metric, and its labels."""

    name: str
    labels: dict[str, str]
    value: float


class Metric(Body):
    """A metric, as Prometheus knows it."""

    name: str
    type: str
    text: str
    samples: list[Sample]


class Metrics(Body):
    """All metrics of all processes."""

    uptime_seconds: float
    requests_total: int
    metrics: list[Metric]


class Amount(Body):
    """Instances, and the bytes of their files."""

    instances: int
    bytes: int


class Storage(Body):
    """The disk, what takes its room, and when it will be full (null: nobody can tell).

    What is kept is counted now and then: `counted_at`, null: it is being counted.
    """

    disk: dict[str, Any]
    stored: dict[str, Any]
    counted_at: str | None
    by_modality: dict[str, Amount]
    by_month: dict[str, Amount]
    bytes_a_day: float | None
    full_on: str | None


class Finding(Body):
    """Something that is not as it should be: what follows from it, and the cure."""

    text: str
    consequence: str
    cure: str


class CheckShown(Body):
    """Something that was looked at; `severity`: error, warning, note, or nothing."""

    what: str
    seen: str
    severity: str
    findings: list[Finding]


class Checks(Body):
    """What was looked at, as `isocenter doctor` does."""

    checks: list[CheckShown]


class Line(Body):
    """A line of the log."""

    time: str | None
    level: str
    logger: str
    association: str
    message: str


class Lines(Body):
    """Latest lines of the process that answers, the latest first; `is_cut`: there are more."""

    lines: list[Line]
    is_cut: bool


class MonitoringApi:
    """Answers with figures, checks and lines.

    Args:
        metrics, usage, checks, processes: None: there is none of it.
    """

    def __init__(
        self,
        state: Callable[[], Awaitable[ServerState]],
        *,
        metrics: Callable[[], Sequence[Figure]] | None,
        usage: UsageFigures | None,
        checks: Callable[[], Awaitable[Sequence[Check]]] | None,
        processes: ServerProcesses | None,
    ) -> None:
        self._state = state
        self._metrics = metrics
        self._usage = usage
        self._checks = checks
        self._processes = processes

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        if self._metrics is not None:
            yield endpoint(
                "GET", "/system/metrics", self.metrics, "All metrics.",
                name="GetMetrics", service=_SERVICE, needs="state", gives=Metrics,
            )  # fmt: skip
        if self._usage is not None:
            yield endpoint(
                "GET", "/system/storage", self.storage, "The disk, and what takes its room.",
                name="GetStorage", service=_SERVICE, needs="state", gives=Storage,
            )  # fmt: skip
        if self._checks is not None:
            yield endpoint(
                "GET", "/system/checks", self.checks, "The installation, looked at.",
                name="CheckInstallation", service=_SERVICE, needs="state", gives=Checks,
            )  # fmt: skip
        if self._processes is not None:
            yield endpoint(
                "GET", "/system/log", self.lines, "Latest lines of the log.",
                name="GetLog", service=_SERVICE, needs="state", gives=Lines,
                parameters=(
                    Parameter(name="level", text="At least so grave.", values=_LEVELS),
                    Parameter(name="find", text="Lines with these words."),
                    Parameter(
                        name="limit", text=f"How many at most, 1 to {_MOST_LINES}.",
                        pattern="[1-9][0-9]{0,2}|1000",
                    ),
                ),
            )  # fmt: skip

    async def metrics(self, request: Request) -> Response:
        """The handler."""
        assert self._metrics is not None
        figures = self._metrics()
        requests = sum(
            value
            for figure in figures
            for name, _, value in figure.samples
            if name.endswith("http_requests_total")
        )
        uptime = (await self._state()).details.get("uptime_seconds", 0.0)
        return answer(
            Metrics(
                uptime_seconds=uptime,
                requests_total=int(requests),
                metrics=[
                    Metric(
                        name=figure.name,
                        type=figure.kind,
                        text=figure.text,
                        samples=[
                            Sample(name=name, labels=dict(labels), value=value)
                            for name, labels, value in figure.samples
                        ],
                    )
                    for figure in figures
                ],
            )
        )

    async def storage(self, request: Request) -> Response:
        """The handler."""
        assert self._usage is not None
        details = (await self._state()).details
        disk: Mapping[str, Any] = details.get("storage", {})
        usage = self._usage.latest()
        full = None
        if usage is not None and "available_bytes" in disk:
            today = datetime.now(UTC).date()
            full = filled_on(disk["available_bytes"], usage.bytes_a_day, today)
        return answer(
            Storage(
                disk=dict(disk),
                stored=dict(details.get("stored", {})),
                counted_at=None if usage is None else moment(usage.at),
                by_modality={} if usage is None else _amounts(usage.by_modality),
                by_month={} if usage is None else _amounts(usage.by_month),
                bytes_a_day=None if usage is None else usage.bytes_a_day,
                full_on=None if full is None else str(full),
            )
        )

    async def checks(self, request: Request) -> Response:
        """The handler."""
        assert self._checks is not None
        return answer(
            Checks(
                checks=[
                    CheckShown(
                        what=one.what,
                        seen=one.seen,
                        severity=one.severity,
                        findings=[
                            Finding(text=text, consequence=consequence, cure=cure)
                            for text, consequence, cure in one.findings
                        ],
                    )
                    for one in await self._checks()
                ]
            )
        )

    async def lines(self, request: Request) -> Response:
        """The handler."""
        assert self._processes is not None
        level = request.parameter("level") or "info"
        if level not in _LEVELS:
            raise HttpError(400, "INVALID_REQUEST", f"level is one of {', '.join(_LEVELS)}")
        said = request.parameter("limit") or str(_DEFAULT_LINES)
        if not (said.isascii() and said.isdecimal()) or not 1 <= int(said[:6]) <= _MOST_LINES:
            raise HttpError(400, "INVALID_REQUEST", f"limit is a number from 1 to {_MOST_LINES}")
        words = (request.parameter("find") or "").strip().lower()
        log = await self._processes.log()
        found = [one for one in log.lines if one.is_wanted(level, words)]
        return answer(
            Lines(
                lines=[
                    Line(
                        time=moment(one.time),
                        level=logging.getLevelName(one.level).lower(),
                        logger=one.logger,
                        association=one.association,
                        message=one.message,
                    )
                    for one in found[: int(said)]
                ],
                is_cut=len(found) > int(said),
            )
        )


def _amounts(totals: Mapping[str, Any]) -> dict[str, Amount]:
    return {
        name: Amount(instances=total.instances, bytes=total.size) for name, total in totals.items()
    }
