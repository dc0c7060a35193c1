"""Monitoring beside a server: listeners joined, pages answered."""

from __future__ import annotations

import logging
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Final

import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.query_times.ports import QueryTimer
from isocenter.services.association.server import Server
from isocenter.services.cluster.ports import Members
from isocenter.services.composition.audit import audit_folder
from isocenter.services.errors import StorageError
from isocenter.services.monitoring.figures_access import FiguresAccess
from isocenter.services.monitoring.health import Health
from isocenter.services.monitoring.metrics import Metrics
from isocenter.services.monitoring.pages import MONITORING_LIMITS, monitoring_application
from isocenter.services.monitoring.plugin_monitor import PluginMonitoring
from isocenter.services.monitoring.tracing import tracing_of
from isocenter.services.net.http.server import HttpServer
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.notices import Notices
from isocenter.services.security.access.api_tokens import ApiTokenVerifier
from isocenter.services.security.access.ports import ApiTokens
from isocenter.services.security.audit.trail_growth import trail_size
from isocenter.services.security.certificates.expiry import Expiry
from isocenter.services.settings.settings import Settings
from isocenter.services.web.parts import Figure

log = logging.getLogger("isocenter.server")

#: How often a process that nobody asks brings its numbers up to date for the one that is asked.
_LOOK_SECONDS: Final = 5.0


class Monitoring:
    """Counts from the beginning; answers once there is a server.

    Args:
        listeners: sockets that listen for HTTP; empty: nobody may ask.
        token: as of `FiguresAccess`.

    Attributes:
        plugins: what plug-ins register.
    """

    def __init__(
        self,
        settings: Settings,
        notices: Notices,
        listeners: Sequence[tuple[socket.socket, ListenAddress]],
        *,
        version: str,
        token: bytes = b"",
        expiries: Callable[[], Iterable[Expiry]] = tuple,
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._version = version
        self._token = token
        self._health: Health | None = None
        self.metrics = Metrics(version=version, limits=_limits(settings), expiries=expiries)
        self.plugins = PluginMonitoring(lambda: self.metrics.registry)
        monitoring = settings.monitoring
        self._tracing = tracing_of(
            endpoint=monitoring.tracing_endpoint,
            service_name=monitoring.service_name,
            interval_seconds=float(monitoring.export_interval),
        )
        notices.subscribe(self.metrics.on_notice)
        if self._tracing is not None:
            notices.subscribe(self._tracing.on_notice)

    def committed(self, objects: int, seconds: float) -> None:
        """A round of the committer is over (`Committer`, *on_round*)."""
        self.metrics.committed(objects, seconds)
        if self._tracing is not None:
            self._tracing.on_round(objects, seconds)

    def watch(self, archive: Archive, timer: QueryTimer) -> None:
        """Have the transactions of an archive's database counted and traced, and what is read of
        it traced."""
        self.metrics.database = timer
        timer.listen(self.metrics.transaction)
        if self._tracing is not None:
            timer.listen(self._tracing.on_transaction)
            archive.on_read = self._tracing.on_read

    def health_of(self, server: Server, archive: Archive) -> Health:
        """Looks at how they are."""
        settings, storage = self._settings, self._settings.storage
        self._health = Health(
            archive,
            server,
            folder=None if storage.is_in_memory else Path(storage.data_dir),
            version=self._version,
            warning=settings.monitoring.disk_warning,
            critical=settings.monitoring.disk_critical,
            cache_seconds=settings.monitoring.cache_seconds,
            check_seconds=settings.monitoring.check_timeout,
            checks=self.plugins.checks,
            node=settings.cluster.name if settings.is_shared else "",
        )
        return self._health

    @asynccontextmanager
    async def ending(self, hangs: Callable[[], None]) -> AsyncIterator[None]:
        """A context around all that serves: left, operations and checks of plug-ins have ended.

        Args:
            hangs: is called where one does not: in a thread it cannot be ended, and the event
                loop would wait for it.
        """
        try:
            yield
        finally:
            checks: Sequence[str] = ()
            if self._health is not None:
                with trio.CancelScope(shield=True):
                    checks = await self._health.close()
            hanging = [(f"check {name}", name.rpartition(".")[0]) for name in checks]
            hanging += [
                (f"operation {one.command}", one.plugin)
                for one in self.plugins.hanging
                if not one.ended.is_set()
            ]
            for what, plugin in hanging:
                log.error(
                    "the %s of the plug-in %s hangs; the process ends without it", what, plugin
                )
            if hanging:
                hangs()

    def figures(self) -> Sequence[Figure]:
        """All metrics of all processes, for pages and programs."""
        return figures_of(self.metrics)

    async def run(
        self,
        server: Server,
        archive: Archive,
        health: Health,
        tokens: ApiTokens,
        members: Members,
    ) -> None:
        """Answer until cancelled."""
        metrics = self.metrics
        metrics.server, metrics.archive = server, archive
        access = FiguresAccess(self._token, ApiTokenVerifier(tokens))
        pages = monitoring_application(
            health, metrics, lambda: not server.is_stopping, access, self._settings.server.ae_title
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(HttpServer(pages, MONITORING_LIMITS).run, self._listeners)
                if interval := self._settings.monitoring.check_interval:
                    nursery.start_soon(health.watch, float(interval))
                while True:
                    try:
                        await self._look(archive, members)
                    except Exception as error:  # without figures the archive serves all the same
                        log.error("figures cannot be looked at: %s", type(error).__name__)
                    await trio.sleep(_LOOK_SECONDS)
        finally:
            if self._tracing is not None:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._tracing.close)

    async def _look(self, archive: Archive, members: Members) -> None:
        """Take up what is not told but can be seen."""
        metrics = self.metrics
        metrics.refresh()
        metrics.keeps(await self._figures(archive))
        await metrics.look_at_collectors()
        if self._settings.is_shared:
            with suppress(StorageError):
                metrics.sees(self._settings.cluster.name, await members.list())

    async def _figures(self, archive: Archive) -> dict[str, int]:
        """What is kept, and what the disk has; what cannot be told now is left out."""
        figures: dict[str, int] = {}
        with suppress(StorageError):
            counts = await archive.index.statistics()
            figures |= {
                "patients": counts.patients,
                "studies": counts.studies,
                "series": counts.series,
                "instances": counts.instances,
                "instances_bytes": counts.size,
            }
        storage = self._settings.storage
        if not storage.is_in_memory:
            look = partial(_figures_of_disk, Path(storage.data_dir), audit_folder(self._settings))
            with suppress(OSError):
                figures |= await trio.to_thread.run_sync(look, abandon_on_cancel=True)
        return figures


def figures_of(metrics: Metrics) -> Sequence[Figure]:
    """All metrics of all processes, as pages and the API show them."""
    return [
        Figure(
            name=family.name,
            kind=family.type,
            text=family.documentation,
            samples=[(one.name, one.labels, one.value) for one in family.samples],
        )
        for family in metrics.families()
    ]


def _figures_of_disk(data_dir: Path, audit: Path) -> dict[str, int]:
    usage = shutil.disk_usage(data_dir)
    return {
        "disk_total_bytes": usage.total,
        "disk_free_bytes": usage.free,
        "audit_trail_bytes": trail_size(audit),
    }


def _limits(settings: Settings) -> dict[str, float]:
    server = settings.server
    bounds: dict[str, float] = {
        name.removeprefix("max_"): getattr(server, name)
        for name in (
            "max_connections", "max_handshakes", "max_associations",
            "max_associations_per_address", "max_associations_per_ae_title",
        )
    }  # fmt: skip
    bounds |= {
        field.name: getattr(settings.limits, field.name)
        for field in fields(settings.limits)
        if isinstance(getattr(settings.limits, field.name), int | float)
    }
    # What the workers share is a little less than what was set where that cannot be divided.
    bounds["bytes_in_flight"] = settings.bytes_in_flight_of_one_worker() * server.workers
    bounds |= {
        "operations_window": server.operations_window,
        "query_results": settings.query.max_results,
        "suboperations": settings.query.max_suboperations,
        "backlog": settings.query.max_backlog,
        "http_connections": settings.web.max_connections,
        "http_connections_per_address": settings.web.max_connections_per_address,
        "http_requests_per_caller": settings.web.max_requests_per_caller,
        "http_request_rate": settings.web.max_request_rate,
        "search_results": settings.web.max_results,
        "search_results_by_default": settings.web.default_results,
        "objects_searched": settings.web.max_objects_searched,
        "sign_in_failures": settings.identity.max_failures,
        "hl7_connections": settings.hl7.max_connections,
        "hl7_message_bytes": settings.hl7.max_message_bytes,
    }
    return bounds
