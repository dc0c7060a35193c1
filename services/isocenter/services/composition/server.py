"""Composition of a whole server from settings, checked before it starts."""

from __future__ import annotations

import logging
import socket
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.archive.usage.figures import UsageFigures
from isocenter.services.association.server import Server, ServerOptions, WrapTransport, serve_on
from isocenter.services.backup.restore_mark import check_not_restoring
from isocenter.services.composition.access import access_control_of, rejected_callers_of
from isocenter.services.composition.archive import open_archive, open_archive_parts
from isocenter.services.composition.audit import open_audit, stop_when_failed
from isocenter.services.composition.background_tasks import run_background_tasks
from isocenter.services.composition.conformance import statement_blocks, statement_title
from isocenter.services.composition.events import build_events
from isocenter.services.composition.hl7 import order_address, order_listener
from isocenter.services.composition.monitoring import Monitoring
from isocenter.services.composition.outgoing_associations import build_deadlines
from isocenter.services.composition.pages import Running
from isocenter.services.composition.plugins import Plugin, check_plugins, load_plugin
from isocenter.services.composition.reloading import Reloader
from isocenter.services.composition.run_time_settings import RunTimeSettings, other_processes
from isocenter.services.composition.services import (
    build_server_limits,
    build_services_and_workflow,
    listen_addresses,
)
from isocenter.services.composition.tls_contexts import TlsContexts, files_of_private_ca
from isocenter.services.composition.transcoding import open_transcoder
from isocenter.services.composition.web import listen_for_web, web_server
from isocenter.services.diagnostics.capture import CaptureFolder
from isocenter.services.errors import text_of
from isocenter.services.monitoring.figures_access import read_token
from isocenter.services.monitoring.health import Health
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.routing import Route
from isocenter.services.net.listeners import (
    ListenAddress,
    Listening,
    open_listener,
    open_listeners,
)
from isocenter.services.net.tls.contexts import TlsFiles
from isocenter.services.net.tls.revocation import Revocations
from isocenter.services.notices import Notices
from isocenter.services.security.access.access_control import PolicyAccessControl
from isocenter.services.security.audit.repository import Protocol as AuditProtocol
from isocenter.services.security.certificates.expiry import renew_daily, warn_daily
from isocenter.services.security.certificates.issued import CA_FOLDER
from isocenter.services.settings.settings import Settings
from isocenter.services.settings.source import SettingsSource
from isocenter.services.system import systemd
from isocenter.services.system.exclusive_task import run_exclusively
from isocenter.services.system.pid_file import PidFile
from isocenter.services.system.private_files import make_private_directory
from isocenter.services.system.recent_log import RecentLog
from isocenter.services.web.description.document import html
from isocenter.services.web.parts import ServerState
from isocenter.services.workflow.events.targets import check_target

T = TypeVar("T")

log = logging.getLogger("isocenter.server")


class StartupError(Exception):
    """What stands in the way of a start: all of it, not the first only."""

    def __init__(self, faults: Sequence[Exception]) -> None:
        super().__init__("; ".join(map(text_of, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerParts:
    """What a server is made of, read and checked; nothing of it runs or listens.

    Attributes:
        tls: None: it needs no certificates.
        token: what callers of the monitoring pages have to show; empty: nothing.
        wrap_transport: writes down what goes over the wire, if that is wanted.
        notices: what happens is told there.
    """

    settings: Settings
    tls: TlsContexts | None
    access: PolicyAccessControl
    plugins: Sequence[Plugin]
    token: bytes
    wrap_transport: WrapTransport | None
    notices: Notices


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """The sockets of a server: DICOM, HL7 orders, monitoring, web services."""

    dicom: Listening
    orders: Listening
    pages: Listening
    web: Listening


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


def build_server(settings: Settings, stack: ExitStack, *, only_check: bool = False) -> ServerParts:
    """Read and check all that a server needs.

    Args:
        stack: removes what was made for this process only.
        only_check: make nothing.

    Raises:
        StartupError: something cannot be used.
        BackupError: a restore into the data directory is not finished.
    """
    if not settings.storage.is_in_memory:
        check_not_restoring(Path(settings.storage.data_dir))
    faults = _Faults()
    notices = Notices()
    tls = faults.found(partial(_tls, settings, stack, only_check))
    plugins = _plugins(settings, faults)
    own_needs = {uid: needs for plugin in plugins for uid, needs in plugin.needs.items()}
    access = faults.found(partial(access_control_of, settings, own_needs, notices))
    folder = settings.server.capture
    capture = folder and faults.found(partial(CaptureFolder, folder, only_look=only_check))
    for consumer in settings.events.consumers:
        faults.found(partial(check_target, consumer))
    token_file = settings.monitoring.token_file
    token = (token_file and faults.found(partial(read_token, token_file))) or b""
    if access is None or faults:
        raise StartupError(faults)
    return ServerParts(
        settings=settings,
        tls=tls,
        access=access,
        plugins=plugins,
        token=token,
        wrap_transport=capture.record if capture else None,
        notices=notices,
    )


def check_addresses(parts: ServerParts) -> list[tuple[str, int, bool]]:
    """Host and port that it would listen at for DICOM, and whether with TLS; opens nothing.

    Raises:
        StartError: there is nothing to listen at.
    """
    order_address(parts.settings, parts.tls)
    binds = listen_addresses(parts.settings, parts.tls)
    return [(bind.host, bind.port, bind.tls is not None) for bind in binds]


def listen(parts: ServerParts, stack: ExitStack) -> Listeners:
    """Open all sockets, and write the process ID down; *stack* closes and removes them.

    Raises:
        OSError: a port is taken.
    """
    settings = parts.settings
    dicom = open_listeners(listen_addresses(settings, parts.tls), systemd.inherited_sockets())
    stack.callback(_close, dicom)
    bind = order_address(settings, parts.tls)
    orders = [] if bind is None else [(sock, bind) for sock in open_listener(bind)]
    stack.callback(_close, orders)
    pages = _listen_for_pages(settings)
    stack.callback(_close, pages)
    web = listen_for_web(settings, parts.tls)
    stack.callback(_close, web)
    if not settings.storage.is_in_memory:
        _write_pid(settings, stack)
    return Listeners(dicom=dicom, orders=orders, pages=pages, web=web)


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
) -> None:
    """Serve until it is stopped.

    Args:
        source: of the settings, read again for a reload.
        announce: called when everything is ready.
        beat: gives a sign of life.
        parent: of a worker, what becomes readable when its parent is gone.
    """
    settings, tls, notices = parts.settings, parts.tls, parts.notices
    is_worker = parent is not None
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
        open_archive_parts(
            settings,
            shared=is_worker,
            recover=not is_worker,
            on_round=monitoring.metrics.committed,
            on_other_patient=monitoring.metrics.met_other_patient,
        ) as opened,
        open_audit(settings, opened.archive, notices, tls.client if tls else None) as auditor,
        open_transcoder(settings, notices) as transcoder,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_keep_log, recent)
        archive, stores = opened.archive, opened.stores
        events = await build_events(settings, opened, tls, notices, peers)
        registry, workflow = build_services_and_workflow(
            settings, archive, stores, tls, notices, peers, events, parts.plugins, transcoder
        )
        options = ServerOptions(
            access=parts.access,
            max_pdu_length=settings.server.max_pdu_length,
            operations_window=settings.server.operations_window,
            deadlines=build_deadlines(settings),
            limits=settings.engine_limits(),
            server_limits=build_server_limits(settings),
            grace_seconds=settings.deadlines.shutdown,
            wrap_transport=parts.wrap_transport,
            notices=notices,
        )
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
            take_rules=lambda rules: archive.exchange_rules(Rules(rules)),
            take_revocations=take_revocations,
        )
        tell_others = other_processes(settings)
        usage = UsageFigures(stores.usage)
        nursery.start_soon(usage.run)

        async def reload_all() -> None:
            await reloader.reload()
            tell_others()

        if auditor is not None:
            nursery.start_soon(stop_when_failed, auditor, settings, server.stop)
        nursery.start_soon(run_background_tasks, settings, opened, notices)
        health = monitoring.health_of(server, archive)
        nursery.start_soon(monitoring.run, server, archive, health, stores.tokens)
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
            Running(
                associations=server,
                dicom=listeners.dicom,
                state=partial(_state, health),
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
                metrics=monitoring.figures,
                log=recent.lines,
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
        if is_worker:
            # What it got from its parent is as old as the parent.
            await reloader.reload(is_catching_up=True)
        nursery.start_soon(rejected.run)
        if tls is not None:
            nursery.start_soon(_watch_certificates, tls, settings)
        if parent is not None:
            nursery.start_soon(_end_with, parent, nursery.cancel_scope)
        if watchdog := systemd.watchdog_seconds(is_child=is_worker):
            nursery.start_soon(systemd.keep_alive, watchdog, beat)
        announce()
        await server.stopped.wait()
        web.stop()
        nursery.cancel_scope.cancel()


async def _keep_log(recent: RecentLog) -> None:
    """Have the latest lines kept until cancelled."""
    root = logging.getLogger("isocenter")
    root.addHandler(recent)
    try:
        await trio.sleep_forever()
    finally:
        root.removeHandler(recent)


async def _state(health: Health) -> ServerState:
    report = await health.report()
    return ServerState(level=report.level.value, messages=report.messages, details=report.details)


class _Faults(list[Exception]):
    """What stands in the way of a start: all of it is told, not the first only."""

    def found(self, look: Callable[[], T]) -> T | None:
        """What *look* gives, or None and one fault more."""
        try:
            return look()
        except (IsocenterError, OSError) as error:
            self.append(error)
            return None


def _plugins(settings: Settings, faults: _Faults) -> list[Plugin]:
    """Those that the settings name."""
    found = [faults.found(partial(load_plugin, entry)) for entry in settings.plugins]
    plugins = [plugin for plugin in found if plugin is not None]
    faults.found(partial(check_plugins, plugins))
    return plugins


async def _watch_certificates(tls: TlsContexts, settings: Settings) -> None:
    """Our own certificate of the private CA is signed again in time; one process warns for all."""
    async with trio.open_nursery() as nursery:
        if settings.tls.uses_private_ca:
            nursery.start_soon(renew_daily, tls.reload)
        nursery.start_soon(tls.keep_few_sessions)
        warns = partial(warn_daily, lambda: tls.expiries)
        if settings.storage.is_in_memory:
            await warns()
        else:
            await run_exclusively(Path(settings.storage.data_dir) / "expiry.lock", warns)


async def _end_with(parent: int, scope: trio.CancelScope) -> None:
    """Nobody can stop a worker without a parent, and it would keep the ports and the archive."""
    await trio.lowlevel.wait_readable(parent)
    log.error("the server's first process is gone; this worker ends")
    scope.cancel()


def _tls(settings: Settings, stack: ExitStack, only_check: bool) -> TlsContexts | None:
    wanted = any(peer.tls for peer in settings.peers) or any(
        collector.protocol is AuditProtocol.TLS for collector in settings.audit.collectors
    )
    if not (settings.tls.enabled or settings.web.https_host or wanted):
        return None
    folder = Path(settings.storage.data_dir)
    files: TlsFiles | None = None
    is_passing = settings.storage.is_in_memory
    if only_check and settings.tls.uses_private_ca and not is_passing:
        files = files_of_private_ca(folder / CA_FOLDER, settings.server.ae_title)
        # What a start would make, a check makes elsewhere, and for itself only.
        is_passing = files is None
    if is_passing:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isocenter-")))
    return TlsContexts(settings, folder / CA_FOLDER, as_they_are=files)


def _write_pid(settings: Settings, stack: ExitStack) -> None:
    """For ``isocenter reload``; the lock that keeps a second server out is another."""
    data_dir = Path(settings.storage.data_dir)
    with suppress(OSError):  # what is wrong with the folder, the archive says in a moment
        make_private_directory(data_dir)
        stack.callback(PidFile(data_dir).close)


def _listen_for_pages(settings: Settings) -> list[tuple[socket.socket, ListenAddress]]:
    """For monitoring; an archive without it is better than none."""
    monitoring = settings.monitoring
    if not monitoring.enabled:
        return []
    bind = ListenAddress(host=monitoring.host, port=monitoring.port)
    try:
        return [(sock, bind) for sock in open_listener(bind)]
    except OSError as error:
        log.warning("no metrics, and no answers about health: %s", text_of(error))
        return []


def _close(listeners: Listening) -> None:
    for sock, _ in listeners:
        sock.close()
