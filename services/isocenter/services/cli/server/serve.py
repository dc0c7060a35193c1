"""`isocenter serve`: the archive as a server."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services import composition
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.association.server import Server, ServerOptions, WrapTransport, serve_on
from isocenter.services.backup.restore_mark import check_not_restoring
from isocenter.services.cli import program_version
from isocenter.services.composition.access import access_control_of, rejected_callers_of
from isocenter.services.composition.audit import open_audit, stop_when_failed
from isocenter.services.composition.log import configure_log
from isocenter.services.composition.monitoring import Monitoring
from isocenter.services.composition.reloading import Reloader
from isocenter.services.diagnostics.capture import CaptureFolder
from isocenter.services.monitoring.metrics import forget_process, shared_folder
from isocenter.services.net.http.server import read_token
from isocenter.services.net.listeners import Bind, open_listener, open_listeners
from isocenter.services.net.tls.contexts import PROFILES, TlsFiles
from isocenter.services.net.tls.inspection import describe_profile
from isocenter.services.net.tls.revocation import Revocations
from isocenter.services.net.transport import format_address
from isocenter.services.notices import ConfigurationReloaded, Notices
from isocenter.services.security.access.access_control import PolicyAccessControl
from isocenter.services.security.audit.repository import Protocol
from isocenter.services.security.certificates.authority import CA_FOLDER
from isocenter.services.security.certificates.expiry import renew_daily, warn, warn_daily
from isocenter.services.settings.loading import (
    Settings,
    SettingsError,
    add_options,
    load_settings,
    overrides_from,
    warnings,
)
from isocenter.services.system import systemd
from isocenter.services.system.exclusive_task import on_duty
from isocenter.services.system.pid_file import PidFile
from isocenter.services.system.private_files import make_private_directory
from isocenter.services.system.worker_processes import run_workers
from isocenter.services.workflow.events.targets import check

DESCRIPTION = """\
Run the archive: store, find, get and move, in the clear on this machine and over
mutual TLS for everybody else.  Without any option it keeps everything in a data
directory of yours and makes a private CA there on the first start."""
EXAMPLES = """\
examples:
  isocenter serve
  isocenter serve --data-dir /srv/isocenter --peer VIEWER@10.0.0.7:11113
  isocenter serve --data-dir :memory: --port 0 --no-tls
  isocenter serve --config /etc/isocenter.toml --check-config

Every option but --config and --check-config is also a key of the configuration file and an
environment variable; see isocenter config show and isocenter config explain.

exit codes: 0 it was stopped, 1 wrong settings, 2 wrong arguments, or it cannot start"""

#: Exit codes (SRV-5).
EXIT_CONFIGURATION: Final = 1
EXIT_START: Final = 2

T = TypeVar("T")

log = logging.getLogger("isocenter.server")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the settings table, and ``--check-config``."""
    add_options(parser)
    parser.add_argument(
        "--check-config",
        action="store_true",
        help="check settings and certificates, and stop; makes and changes nothing",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal; 0, 1 for a wrong configuration, 2 when it cannot start (SRV-5)."""

    def load() -> Settings:
        return load_settings(arguments.config, overrides=overrides_from(arguments))

    return run_server(load, only_check=arguments.check_config)


def run_server(load: Callable[[], Settings], *, only_check: bool = False) -> int:
    """Serve what *load* says, which is asked again to reload; the exit codes of `run`.

    Args:
        only_check: look at settings and certificates, print a summary, and stop; nothing is made.
    """
    try:
        settings = load()
    except SettingsError as error:
        print(f"isocenter serve: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    os.umask(0o077)
    try:
        # A check makes no file.
        configure_log(replace(settings.log, file=None) if only_check else settings.log)
    except OSError as error:
        print(f"isocenter serve: log.file {settings.log.file}: {error.strerror}", file=sys.stderr)
        return EXIT_START
    if hasattr(signal, "SIGHUP"):
        # Until it can be obeyed; it would end the process.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ExitStack() as stack:
        try:
            if not settings.storage.is_in_memory:
                check_not_restoring(Path(settings.storage.data_dir))
            faults = Faults()
            tls = faults.found(partial(_tls, settings, stack, only_check))
            plugins = _plugins(settings, faults)
            own_needs = {uid: needs for plugin in plugins for uid, needs in plugin.needs.items()}
            access = faults.found(partial(access_control_of, settings, own_needs))
            folder = settings.server.capture
            capture = folder and faults.found(partial(CaptureFolder, folder, only_look=only_check))
            wrap_transport = capture.record if capture else None
            for consumer in settings.events.consumers:
                faults.found(partial(check, consumer))
            token_file = settings.monitoring.token_file
            token = (token_file and faults.found(partial(read_token, token_file))) or b""
            if access is None or faults:
                for fault in faults:
                    print(f"isocenter serve: {_text(fault)}", file=sys.stderr)
                return EXIT_START
            if only_check:
                binds = composition.binds_of(settings, tls)
                composition.order_bind_of(settings, tls)
                ports = [(bind.host, bind.port, bind.tls is not None) for bind in binds]
                print(_summary(settings, tls, ports, plugins))
                if tls is not None and settings.tls.enabled:
                    print(describe_profile(tls.server, PROFILES[settings.tls.profile]))
                    warn(tls.expiries)
                print("the configuration is good")
                return 0
            listeners = open_listeners(
                composition.binds_of(settings, tls), systemd.inherited_sockets()
            )
            stack.callback(_close, listeners)
            orders = _listen_for_orders(settings, tls)
            stack.callback(_close, orders)
            pages = _listen_for_pages(settings)
            stack.callback(_close, pages)
            if not settings.storage.is_in_memory:
                _write_pid(settings, stack)
        except (IsocenterError, OSError) as error:
            print(f"isocenter serve: {_text(error)}", file=sys.stderr)
            return EXIT_START

        addresses = [(*sock.getsockname()[:2], bind.tls is not None) for sock, bind in listeners]

        def announce() -> None:
            names = [sock.getsockname() for sock, _ in pages]
            print(_summary(settings, tls, addresses, plugins, names))
            for sock, bind in orders:
                kind = "over TLS" if bind.tls else "in the clear"
                print(f"  HL7 orders {kind:<17} {format_address(sock.getsockname())}")
            for text in warnings(settings):
                log.warning("%s", text)
            # The one line that programs wait for.
            print("ready", *(_url(*address) for address in addresses), flush=True)
            systemd.notify("READY=1")

        serve = partial(
            _serve,
            settings,
            tls,
            access,
            plugins,
            load,
            listeners,
            orders,
            pages,
            token,
            wrap_transport,
        )
        failures: list[BaseException] = []
        try:
            if settings.server.workers > 1:
                counts = stack.enter_context(tempfile.TemporaryDirectory(prefix="isocenter-"))
                shared_folder(Path(counts))
                return run_workers(
                    settings.server.workers,
                    prepare=lambda: trio.run(_prepare, settings),
                    work=partial(trio.run, serve),
                    announce=announce,
                    say=lambda text: print(f"isocenter serve: {text}", file=sys.stderr),
                    on_worker_exit=forget_process,
                )
            trio.run(serve, announce, systemd.notify_alive, None)
        except* (IsocenterError, OSError) as group:
            failures += _leaves(group)
        for failure in failures:
            print(f"isocenter serve: {_text(failure)}", file=sys.stderr)
        return EXIT_START if failures else 0


class Faults(list[Exception]):
    """What stands in the way of a start: all of it is told, not the first only."""

    def found(self, look: Callable[[], T]) -> T | None:
        """What *look* gives, or None and one fault more."""
        try:
            return look()
        except (IsocenterError, OSError) as error:
            self.append(error)
            return None


def _plugins(settings: Settings, faults: Faults) -> list[composition.Plugin]:
    """Those that the settings name."""
    found = [faults.found(partial(composition.load_plugin, entry)) for entry in settings.plugins]
    plugins = [plugin for plugin in found if plugin is not None]
    faults.found(partial(composition.check_plugins, plugins))
    return plugins


async def _prepare(settings: Settings) -> None:
    """What is done once, before workers start: migrate the index, undo what a crash left."""
    async with composition.open_archive(settings):
        pass


async def _serve(
    settings: Settings,
    tls: composition.TlsContexts | None,
    access: PolicyAccessControl,
    plugins: Sequence[composition.Plugin],
    load_again: Callable[[], Settings],
    listeners: Sequence[tuple[socket.socket, Bind]],
    orders: Sequence[tuple[socket.socket, Bind]],
    pages: Sequence[tuple[socket.socket, Bind]],
    token: bytes,
    wrap_transport: WrapTransport | None,
    announce: Callable[[], None],
    beat: Callable[[], None],
    parent: int | None,
) -> None:
    """*beat* gives a sign of life; *parent*: of a worker, what becomes readable when its
    parent is gone."""
    is_worker = parent is not None
    notices = Notices()
    peers = {peer.ae_title: peer for peer in settings.peers}
    rejected = rejected_callers_of(settings)
    notices.subscribe(rejected.hear)
    access.current.told = lambda fault: notices.tell(
        ConfigurationReloaded(what="policy", fault=fault)
    )
    monitoring = Monitoring(
        settings,
        notices,
        [sock for sock, _ in pages],
        version=program_version(),
        token=token,
        expiries=lambda: tls.expiries if tls is not None else (),
    )
    reloader = Reloader(load_again, settings, tls=tls, access=access, peers=peers, notices=notices)
    async with (
        composition.open_archive_parts(settings, shared=is_worker, recover=not is_worker) as parts,
        open_audit(settings, parts.archive, notices, tls.client if tls else None) as auditor,
        trio.open_nursery() as nursery,
    ):
        archive = parts.archive
        events = await composition.events_of(settings, parts, tls, notices, peers)
        registry = composition.registry_of(
            settings, archive, parts.stores, tls, notices, peers, events, plugins
        )
        reloader.take_rules = lambda rules: setattr(archive, "rules", Rules(rules))
        options = ServerOptions(
            access=access,
            max_pdu_length=settings.server.max_pdu_length,
            operations_window=settings.server.operations_window,
            deadlines=composition.deadlines_of(settings),
            limits=settings.engine_limits(),
            server_limits=composition.server_limits_of(settings),
            grace_seconds=settings.deadlines.shutdown,
            wrap_transport=wrap_transport,
            notices=notices,
        )
        server: Server = await nursery.start(partial(serve_on, registry, listeners, options))
        taking = composition.order_listener_of(settings, parts.stores, notices) if orders else None

        def take_revocations(revocations: Revocations) -> None:
            nursery.start_soon(server.end_revoked, revocations.revoked_in)
            if taking is not None:
                taking.end_revoked(revocations.revoked_in)

        reloader.take_revocations = take_revocations
        if auditor is not None:
            nursery.start_soon(stop_when_failed, auditor, settings, server.stop)
        nursery.start_soon(composition.keep_house, settings, parts, notices)
        nursery.start_soon(monitoring.run, server, archive)
        if taking is not None:
            nursery.start_soon(taking.run, orders)
        await nursery.start(_obey_signals, server, reloader, nursery.cancel_scope)
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
        nursery.cancel_scope.cancel()


async def _obey_signals(
    server: Server,
    reloader: Reloader,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """SIGTERM and Ctrl-C stop gracefully, a second time at once; SIGHUP reads again."""
    watched = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP"):
        watched.append(signal.SIGHUP)
    stopping = False
    with trio.open_signal_receiver(*watched) as received:
        task_status.started()
        async for number in received:
            if number == getattr(signal, "SIGHUP", None):
                systemd.notify("RELOADING=1")
                await reloader.reload()
                systemd.notify("READY=1")
                continue
            if stopping:
                scope.cancel()
                return
            stopping = True
            systemd.notify("STOPPING=1")
            log.info("stopping; once more stops at once")
            server.stop()


async def _watch_certificates(tls: composition.TlsContexts, settings: Settings) -> None:
    """Our own certificate of the private CA is signed again in time; one process warns for all."""
    async with trio.open_nursery() as nursery:
        if settings.tls.uses_private_ca:
            nursery.start_soon(renew_daily, tls.reload)
        nursery.start_soon(tls.keep_few_sessions)
        warns = partial(warn_daily, lambda: tls.expiries)
        if settings.storage.is_in_memory:
            await warns()
        else:
            await on_duty(Path(settings.storage.data_dir) / "expiry.lock", warns)


async def _end_with(parent: int, scope: trio.CancelScope) -> None:
    """Nobody can stop a worker without a parent, and it would keep the ports and the archive."""
    await trio.lowlevel.wait_readable(parent)
    log.error("the server's first process is gone; this worker ends")
    scope.cancel()


def _tls(settings: Settings, stack: ExitStack, only_check: bool) -> composition.TlsContexts | None:
    wanted = any(peer.tls for peer in settings.peers) or any(
        collector.protocol is Protocol.TLS for collector in settings.audit.collectors
    )
    if not settings.tls.enabled and not wanted:
        return None
    folder = Path(settings.storage.data_dir)
    files: TlsFiles | None = None
    is_passing = settings.storage.is_in_memory
    if only_check and settings.tls.uses_private_ca and not is_passing:
        files = composition.files_of_private_ca(folder / CA_FOLDER, settings.server.ae_title)
        # What a start would make, a check makes elsewhere, and for itself only.
        is_passing = files is None
    if is_passing:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isocenter-")))
    return composition.TlsContexts(settings, folder / CA_FOLDER, as_they_are=files)


def _write_pid(settings: Settings, stack: ExitStack) -> None:
    """For ``isocenter reload``; the lock that keeps a second server out is another."""
    data_dir = Path(settings.storage.data_dir)
    with suppress(OSError):  # what is wrong with the folder, the archive says in a moment
        make_private_directory(data_dir)
        stack.callback(PidFile(data_dir).close)


def _listen_for_orders(
    settings: Settings, tls: composition.TlsContexts | None
) -> list[tuple[socket.socket, Bind]]:
    bind = composition.order_bind_of(settings, tls)
    return [] if bind is None else [(sock, bind) for sock in open_listener(bind)]


def _listen_for_pages(settings: Settings) -> list[tuple[socket.socket, Bind]]:
    """For monitoring; an archive without it is better than none."""
    monitoring = settings.monitoring
    if not monitoring.enabled:
        return []
    bind = Bind(host=monitoring.host, port=monitoring.port)
    try:
        return [(sock, bind) for sock in open_listener(bind)]
    except OSError as error:
        log.warning("no metrics, and no answers about health: %s", _text(error))
        return []


def _close(listeners: Sequence[tuple[socket.socket, Bind]]) -> None:
    for sock, _ in listeners:
        sock.close()


def _summary(
    settings: Settings,
    tls: composition.TlsContexts | None,
    addresses: Sequence[tuple[str, int, bool]],
    plugins: Sequence[composition.Plugin],
    pages: Sequence[tuple[object, ...]] = (),
) -> str:
    """What is served, and how to send something: for whoever started it."""
    ae_title = settings.server.ae_title
    lines = [f"Isocenter archive, AE title {ae_title}"]
    for host, port, is_tls in addresses:
        kind = f"over TLS ({settings.tls.profile})" if is_tls else "in the clear"
        lines.append(f"  DICOM {kind:<22} {host}:{port}")
    storage = settings.storage
    data = f"{storage.data_dir} (durability {storage.durability})"
    if storage.is_in_memory:
        data = "in memory, gone when it stops"
    lines.append(f"  data                         {data}")
    if tls is not None and tls.ca is not None and settings.tls.enabled:
        lines.append(f"  certificates                 {_ca_text(settings, tls.ca)}")
        if settings.tls.uses_private_ca and not settings.storage.is_in_memory:
            lines.append("  admit a modality over TLS:   isocenter certs issue NAME --ae-title AET")
    lines += [
        f"  metrics and health           http://{name[0]}:{name[1]}/metrics, /health"
        for name in pages
    ]
    lines += [f"  plug-in                      {plugin.title}" for plugin in plugins]
    plain = [address for address in addresses if not address[2]]
    if plain:
        host, port, _ = plain[0]
        lines.append(
            f"  send it a file:              isocenter storescu {ae_title}@{host}:{port} FILE"
        )
    return "\n".join(lines)


def _ca_text(settings: Settings, ca: Path) -> str:
    if not settings.tls.uses_private_ca or settings.storage.is_in_memory:
        return f"CA {ca}"
    folder = Path(settings.storage.data_dir) / CA_FOLDER
    is_there = ca.parent == folder
    return f"CA {folder / ca.name}" if is_there else f"made or renewed in {folder} by the start"


def _url(host: str, port: int, is_tls: bool) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{'dicom-tls' if is_tls else 'dicom'}://{shown}:{port}"


def _text(error: BaseException) -> str:
    """The message, without the number that OSError puts in front of it."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
