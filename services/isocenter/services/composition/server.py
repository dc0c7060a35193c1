"""Composition of a whole server, and its serving until it is stopped."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import trio

from isocenter.services.archive.usage.figures import UsageFigures
from isocenter.services.association.peer import Peer
from isocenter.services.association.server import Server, ServerOptions, serve_on
from isocenter.services.cluster.duties import Duties
from isocenter.services.cluster.worker_names import NODE
from isocenter.services.composition.access import rejected_callers_of
from isocenter.services.composition.archive import open_archive, open_archive_parts
from isocenter.services.composition.audit import open_audit, stop_when_failed
from isocenter.services.composition.background_tasks import run_background_tasks
from isocenter.services.composition.cluster import ClusterNode, join_cluster
from isocenter.services.composition.conformance import statement_blocks, statement_title
from isocenter.services.composition.deidentification import (
    check_roles,
    open_deidentification,
    warn_of_lost_keys,
)
from isocenter.services.composition.events import build_events
from isocenter.services.composition.hl7 import order_listener
from isocenter.services.composition.monitoring import Monitoring
from isocenter.services.composition.outgoing_associations import build_deadlines
from isocenter.services.composition.pages import Running
from isocenter.services.composition.processes import RunningProcesses
from isocenter.services.composition.reloading import Reloader
from isocenter.services.composition.rule_book import running_rules
from isocenter.services.composition.run_time_rules import RunTimeRules, keep_counts
from isocenter.services.composition.run_time_settings import RunTimeSettings, other_processes
from isocenter.services.composition.server_parts import Listeners, ServerParts
from isocenter.services.composition.services import (
    build_server_limits,
    build_services_and_workflow,
)
from isocenter.services.composition.signatures import leaving_signatures
from isocenter.services.composition.tasks import task_runner
from isocenter.services.composition.tls_contexts import TlsContexts
from isocenter.services.composition.transcoding import open_transcoder
from isocenter.services.composition.web import web_server
from isocenter.services.monitoring.health import Health
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.routing import Route
from isocenter.services.net.tls.revocation import Revocations
from isocenter.services.security.access.deidentified_callers import DeidentifiedCallers
from isocenter.services.security.access.recipients import Recipients
from isocenter.services.security.certificates.expiry import renew_daily, warn_daily
from isocenter.services.settings.settings import Settings
from isocenter.services.settings.source import SettingsSource
from isocenter.services.system import systemd
from isocenter.services.system.exclusive_task import run_exclusively
from isocenter.services.system.recent_log import RecentLog
from isocenter.services.web.description.document import html
from isocenter.services.web.parts import ServerState
from isocenter.services.workflow.nodes.destinations import NodeDestinations

log = logging.getLogger("isocenter.server")


class Control(Protocol):
    """Lets somebody stop and reload a server; started as a task of it."""

    def __call__(
        self,
        server: Server,
        reloader: Reloader,
        scope: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None],
    ) -> Awaitable[None]:
        """Started once it obeys; *scope* is the whole server, to be cancelled."""
        ...


async def prepare_archive(settings: Settings) -> None:
    """What is done once, before workers start: migrate the index, undo what a crash left."""
    async with open_archive(settings):
        pass


async def serve_archive(
    parts: ServerParts,
    listeners: Listeners,
    source: SettingsSource,
    control: Control,
    version: str,
    announce: Callable[[], None],
    beat: Callable[[], None],
    parent: int | None,
    meeting: Path | None = None,
    hangs: Callable[[], None] = lambda: None,
) -> bool:
    """Serve until it is stopped; whether the whole node was to end (`isocenter nodes drain`).

    Args:
        source: of the settings, read again for a reload.
        announce: called when everything is ready.
        beat: gives a sign of life.
        parent: of a worker, what becomes readable when its parent is gone.
        meeting: a folder where the workers ask each other; None: there are none.
        hangs: is called at the end if an operation or a check of a plug-in hangs in a thread: the
            event loop would wait for it, so the process has to be left without that.
    """
    settings, tls, notices = parts.settings, parts.tls, parts.notices
    is_worker = parent is not None
    if settings.is_shared:
        NODE.set(settings.cluster.name)
    peers = {peer.ae_title: peer for peer in settings.peers}
    rejected = rejected_callers_of(settings)
    notices.subscribe(rejected.on_notice, rejected.hears)
    recent = RecentLog()
    monitoring = Monitoring(
        settings,
        notices,
        listeners.pages,
        version=version,
        token=parts.token,
        expiries=lambda: tls.expiries if tls is not None else (),
    )
    async with (
        monitoring.ending(hangs),
        open_archive_parts(
            settings,
            shared=is_worker,
            recover=not is_worker,
            on_round=monitoring.committed,
            on_other_patient=monitoring.metrics.met_other_patient,
            on_validated=monitoring.metrics.validated,
            on_tier_move=notices.publish,
        ) as opened,
        open_audit(settings, opened.archive, notices, tls.client if tls else None) as auditor,
        open_transcoder(settings, notices) as transcoder,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_keep_log, recent)
        is_first = meeting is None

        async def be_first() -> None:
            nonlocal is_first
            is_first = True
            await trio.sleep_forever()

        if meeting is not None:
            nursery.start_soon(run_exclusively, meeting / "first.lock", be_first)
        archive, stores = opened.archive, opened.stores
        monitoring.watch(archive, stores.timer)
        monitoring.metrics.audit = auditor
        archive.locks.on_end = notices.publish
        archive.signatures = await trio.to_thread.run_sync(leaving_signatures, settings, notices)
        await warn_of_lost_keys(settings, stores)
        archive.deidentification = await trio.to_thread.run_sync(
            open_deidentification, settings, stores, transcoder.pool if transcoder else None
        )
        events = await build_events(settings, opened, tls, notices, peers)
        registry, workflow = build_services_and_workflow(
            settings, archive, stores, tls, notices, peers, events, parts.plugins, transcoder,
            opened.duties, monitoring.plugins, parts.access.enforces,
        )  # fmt: skip
        destinations = workflow.destinations
        assert destinations is not None, "there is a database"
        rules = RunTimeRules(
            stores.rules, settings.rules, archive.exchange_rules, destinations.ae_title_of
        )
        # Before anything can come.
        await destinations.look()
        await rules.look()
        nursery.start_soon(rules.run)
        archive.deidentification.host_of = partial(_host_of, peers, destinations)
        recipients = Recipients(settings.deidentification)
        check_roles(settings, parts.access.policy)
        options = ServerOptions(
            access=DeidentifiedCallers(parts.access, recipients, lambda: parts.access.policy),
            max_pdu_length=settings.server.max_pdu_length,
            syntax_orders=settings.transfer_syntaxes.orders,
            operations_window=settings.server.operations_window,
            deadlines=build_deadlines(settings),
            limits=settings.engine_limits(),
            server_limits=build_server_limits(settings),
            grace_seconds=settings.deadlines.shutdown,
            wrap_transport=parts.wrap_transport,
            notices=notices,
        )
        node: ClusterNode | None = None
        if settings.is_shared:
            # Before anything can come: what other nodes know of users.
            node = await join_cluster(settings, stores, listeners.dicom, version)
        server: Server = await nursery.start(partial(serve_on, registry, listeners.dicom, options))
        taking = (
            order_listener(settings, stores.worklist, notices, opened) if listeners.orders else None
        )

        def take_revocations(revocations: Revocations) -> None:
            nursery.start_soon(server.end_revoked, revocations.revoked_in)
            nursery.start_soon(web.end_revoked, revocations.revoked_in)
            if taking is not None:
                taking.end_revoked(revocations.revoked_in)

        def conformance(routes: Sequence[Route[Handler]]) -> str:
            blocks = statement_blocks(settings, registry, tls, parts.plugins, routes)
            return html(statement_title(version), blocks)

        reloader = Reloader(
            source.settings,
            settings,
            tls=tls,
            access=parts.access,
            peers=peers,
            notices=notices,
            take_rules=rules.take,
            take_revocations=take_revocations,
            warns=lambda: is_first,
        )
        tell_others = other_processes(settings)
        usage = UsageFigures(stores.usage)
        nursery.start_soon(usage.run)

        async def rules_changed() -> None:
            await rules.look()
            tell_others()

        async def reload_all() -> None:
            await reloader.reload()
            tell_others()

        if node is not None:
            nursery.start_soon(node.run, server, parts.access.refresh, reload_all)
        if auditor is not None:
            nursery.start_soon(stop_when_failed, auditor, settings, server.stop)
        nursery.start_soon(run_background_tasks, settings, opened, notices)
        if settings.schedules.enabled:
            nursery.start_soon(task_runner(settings, opened, workflow).run)
        keep_days = settings.forwarding.keep_days
        nursery.start_soon(
            keep_counts, archive.intake.matched, stores.rule_history, keep_days * 86_400.0
        )
        health = monitoring.health_of(server, archive)
        processes = RunningProcesses(server, recent, number=settings.server.workers, folder=meeting)
        await nursery.start(processes.run)
        nursery.start_soon(monitoring.run, server, archive, health, stores.tokens, stores.members)
        if taking is not None:
            nursery.start_soon(taking.run, listeners.orders)
        web = web_server(
            settings,
            opened,
            notices,
            workflow,
            parts.access,
            stores.tokens,
            stores.sessions,
            recipients,
            Running(
                processes=processes,
                dicom=listeners.dicom,
                state=partial(_state, health, processes),
                expiries=lambda: tls.expiries if tls is not None else (),
                configuration=RunTimeSettings(
                    source,
                    reloader,
                    notices,
                    folder=None
                    if settings.storage.is_in_memory
                    else Path(settings.storage.data_dir),
                    tell_others=tell_others,
                ),
                settings=lambda: reloader.settings,
                rules=running_rules(
                    archive,
                    stores,
                    destinations,
                    lambda: reloader.settings,
                    notices,
                    has_changed=rules_changed,
                ),
                metrics=monitoring.figures,
                usage=usage,
                reload=reload_all,
            ),
            version=version,
            statement=conformance,
            transcoder=transcoder,
            pool=transcoder.pool if transcoder is not None else None,
        )
        monitoring.metrics.web = web
        if listeners.web:
            nursery.start_soon(web.run, listeners.web)
        await nursery.start(control, server, reloader, nursery.cancel_scope)
        if is_worker or (node is not None and node.is_behind):
            # What it got from its parent, or found here, is older than what there is.
            await reloader.reload(is_catching_up=True)
        nursery.start_soon(rejected.run)
        if tls is not None:
            nursery.start_soon(_watch_certificates, tls, settings, opened.duties)
        if parent is not None:
            nursery.start_soon(_end_with, parent, nursery.cancel_scope)
        if watchdog := systemd.watchdog_seconds(is_child=is_worker):
            nursery.start_soon(systemd.keep_alive, watchdog, beat)
        announce()
        await server.stopped.wait()
        web.stop()
        nursery.cancel_scope.cancel()
    return node is not None and server.is_leaving


def _host_of(peers: Mapping[str, Peer], nodes: NodeDestinations, ae_title: str) -> str:
    """Where a destination is; empty: nobody knows."""
    found = peers.get(ae_title) or nodes.get(ae_title)
    return "" if found is None else found.host


async def _keep_log(recent: RecentLog) -> None:
    """Have the latest lines kept until cancelled."""
    root = logging.getLogger("isocenter")
    root.addHandler(recent)
    try:
        await trio.sleep_forever()
    finally:
        root.removeHandler(recent)


async def _state(health: Health, processes: RunningProcesses) -> ServerState:
    report = await health.report()
    details = report.details
    if processes.number > 1:
        figures = (await processes.associations()).figures
        details = {**details, "associations": {
            "active": figures.active, "max": figures.most, "total": figures.total,
            "rejected": figures.rejected, "aborted": figures.aborted,
        }}  # fmt: skip
    return ServerState(level=report.level.value, messages=report.messages, details=details)


async def _watch_certificates(tls: TlsContexts, settings: Settings, duties: Duties) -> None:
    """Our own certificate of the private CA is signed again in time; one process warns for all."""
    async with trio.open_nursery() as nursery:
        if settings.tls.uses_private_ca:
            nursery.start_soon(renew_daily, tls.reload)
        nursery.start_soon(tls.keep_few_sessions)
        # Each node has certificates of its own.
        duty = f"expiry of {settings.cluster.name}" if settings.is_shared else "expiry"
        await duties.run(duty, partial(warn_daily, lambda: tls.expiries))


async def _end_with(parent: int, scope: trio.CancelScope) -> None:
    """Nobody can stop a worker without a parent, and it would keep the ports and the archive."""
    await trio.lowlevel.wait_readable(parent)
    log.error("the server's first process is gone; this worker ends")
    scope.cancel()
