"""Process of `isocenter serve`: start, signals, and what it says of itself."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services import composition
from isocenter.services.association.server import Server
from isocenter.services.cli import program_version
from isocenter.services.cli.server.service_statistics import ServiceStatistics
from isocenter.services.composition.log import configure_log
from isocenter.services.composition.reloading import Reloader
from isocenter.services.composition.server import prepare_archive, serve_archive
from isocenter.services.composition.server_parts import (
    Listeners,
    ServerParts,
    StartupError,
    build_server,
    check_addresses,
    listen,
)
from isocenter.services.composition.start_warnings import start_warnings
from isocenter.services.concurrency import alone
from isocenter.services.errors import fault_text, text_of
from isocenter.services.monitoring.metrics import forget_process, shared_folder
from isocenter.services.net.tls.contexts import PROFILES
from isocenter.services.net.tls.inspection import describe_profile
from isocenter.services.net.transport import format_address
from isocenter.services.notices import Notices
from isocenter.services.security.certificates.expiry import warn
from isocenter.services.security.certificates.issued import CA_FOLDER
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import checked
from isocenter.services.settings.settings import Settings
from isocenter.services.settings.source import SettingsSource
from isocenter.services.system import systemd
from isocenter.services.system.temporary_files import temporary_files_in
from isocenter.services.system.worker_processes import EXIT_LEFT, run_workers
from isocenter.services.web.dicomweb.urls import ROOT

#: Exit code of wrong settings, and of whatever else keeps it from starting: as of all
#: commands, 2 is what somebody has to set right before another attempt.
EXIT_START: Final = 2

log = logging.getLogger("isocenter.server")


def run_server(
    source: SettingsSource,
    *,
    only_check: bool = False,
    watch: Callable[[Notices], None] | None = None,
    prog: str = "isocenter serve",
    shows_totals: bool = False,
) -> int:
    """Serve what *source* says, which is asked again to reload; 0, or 2 for wrong settings or when
    it cannot start.

    Args:
        only_check: look at settings and certificates, print a summary, and stop; nothing is made.
        watch: gets what the server tells of itself, before it does; of one worker.
        prog: whose errors they are.
        shows_totals: print at the end what was counted, of each worker by itself.

    Raises:
        KeyboardInterrupt: Ctrl-C while it started, or closed.
    """
    try:
        loaded = source.load()
        settings = checked(loaded)
    except SettingsError as error:
        print(f"{prog}: {fault_text(error)}", file=sys.stderr)
        return EXIT_START
    os.umask(0o077)
    try:
        # A check makes no file.
        configure_log(replace(settings.log, file=None) if only_check else settings.log)
    except OSError as error:
        print(f"{prog}: log.file {settings.log.file}: {text_of(error)}", file=sys.stderr)
        return EXIT_START
    for text in loaded.former:
        log.warning("%s", text)
    if hasattr(signal, "SIGHUP"):
        # Until it can be obeyed; it would end the process.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ExitStack() as stack:
        try:
            parts = build_server(settings, stack, only_check=only_check)
            if only_check:
                _show_check(parts)
                return 0
            if watch is not None:
                watch(parts.notices)
            totals = ServiceStatistics() if shows_totals else None
            if totals is not None:
                totals.watch(parts.notices)
            listeners = listen(parts, stack)
        except StartupError as error:
            for fault in error.faults:
                print(f"{prog}: {fault_text(fault)}", file=sys.stderr)
            return EXIT_START
        except (IsocenterError, OSError) as error:
            print(f"{prog}: {fault_text(error)}", file=sys.stderr)
            return EXIT_START
        meeting = None
        if settings.server.workers > 1:
            together = tempfile.TemporaryDirectory(prefix="isocenter-")
            meeting = Path(stack.enter_context(together))
        if not settings.storage.is_in_memory:
            # After the folder where workers meet: the names of sockets are short.
            try:
                stack.enter_context(temporary_files_in(Path(settings.storage.data_dir)))
            except OSError as error:
                user = f"user {os.getuid()}" if hasattr(os, "getuid") else "this user"
                print(
                    f"{prog}: temporary files in {settings.storage.data_dir}: {text_of(error)}; "
                    f"give {user} the right to write there (chmod), make room, or set TMPDIR",
                    file=sys.stderr,
                )
                return EXIT_START
        totals_of = partial(_show_totals, totals)

        def leave(code: int, *, is_worker: bool) -> NoReturn:
            """End the process at once, with all that its end would do."""
            totals_of(is_worker=is_worker)
            if not is_worker:  # a worker leaves alone what is its parent's
                stack.close()
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

        serve = partial(_serve, parts, listeners, source, meeting, leave)
        announce = partial(_announce, parts, listeners)
        failures: list[BaseException] = []
        is_interrupted = False
        try:
            if meeting is not None:
                shared_folder(meeting / "counts")
                return run_workers(
                    settings.server.workers,
                    prepare=lambda: trio.run(prepare_archive, settings),
                    work=partial(_work, serve, totals_of),
                    announce=announce,
                    say=lambda text: print(f"{prog}: {text}", file=sys.stderr),
                    on_worker_exit=forget_process,
                )
            trio.run(serve, announce, systemd.notify_alive, None)
            totals_of(is_worker=False)
        except* (IsocenterError, OSError) as group:
            failures += _leaves(group)
        except* KeyboardInterrupt:  # before signals are obeyed, or while it closes
            is_interrupted = True
        for failure in failures:
            print(f"{prog}: {fault_text(failure)}", file=sys.stderr)
        if is_interrupted and not failures:
            raise KeyboardInterrupt
        return EXIT_START if failures else 0


def _show_totals(totals: ServiceStatistics | None, *, is_worker: bool) -> None:
    if totals is None:
        return
    whose = f"worker {os.getpid()}: " if is_worker else ""
    # At once: the lines of several workers do not run into each other.
    sys.stderr.write(f"{whose}{totals.text()}\n")


def _work(
    serve: Callable[..., Awaitable[bool]],
    show_totals: Callable[..., None],
    *arguments: Callable[[], None] | int,
) -> None:
    """A worker; no other takes its place where the whole node is to end."""
    is_to_end = trio.run(serve, *arguments)
    show_totals(is_worker=True)
    if is_to_end:
        raise SystemExit(EXIT_LEFT)


async def _serve(
    parts: ServerParts,
    listeners: Listeners,
    source: SettingsSource,
    meeting: Path | None,
    leave: Callable[..., NoReturn],
    announce: Callable[[], None],
    beat: Callable[[], None],
    parent: int | None,
) -> bool:
    """Serve, in this process or in a worker of it."""
    is_hanging = False

    def hangs() -> None:
        nonlocal is_hanging
        is_hanging = True

    def settle() -> None:
        # What there is by now stays as long as the process.  A full collection, for which all
        # wait, need not look at it: it took 50 ms, and one in some searches met it.
        gc.collect()
        gc.freeze()
        announce()

    is_worker = parent is not None
    try:
        is_to_end = await serve_archive(
            parts, listeners, source, _obey_signals, program_version(), settle, beat, parent,
            meeting, hangs,
        )  # fmt: skip
    except BaseException as error:
        if is_hanging:
            fault = alone(error)
            if isinstance(fault, IsocenterError | OSError):
                print(f"isocenter serve: {fault_text(fault)}", file=sys.stderr)
            else:  # a fault of ours is shown as it is without the check
                traceback.print_exception(fault)
            leave(EXIT_START, is_worker=is_worker)
        raise
    if is_hanging:
        leave(EXIT_LEFT if is_worker and is_to_end else 0, is_worker=is_worker)
    return is_to_end


def _show_check(parts: ServerParts) -> None:
    settings, tls = parts.settings, parts.tls
    print(_summary(settings, tls, check_addresses(parts), parts.plugins))
    if tls is not None and settings.tls.enabled:
        print(describe_profile(tls.server, PROFILES[settings.tls.profile]))
        warn(tls.expiries)
    _warn(settings)
    print("the configuration is good")


def _warn(settings: Settings) -> None:
    for text in start_warnings(settings):
        log.warning("%s", text)


def _announce(parts: ServerParts, listeners: Listeners) -> None:
    settings = parts.settings
    addresses = [(*sock.getsockname()[:2], bind.tls is not None) for sock, bind in listeners.dicom]
    names = [sock.getsockname() for sock, _ in listeners.pages]
    web = [_web_url(sock.getsockname(), bind.tls is not None) for sock, bind in listeners.web]
    print(_summary(settings, parts.tls, addresses, parts.plugins, names, web))
    for sock, bind in listeners.orders:
        kind = "over TLS" if bind.tls else "in the clear"
        print(f"  HL7 orders {kind:<17} {format_address(sock.getsockname())}")
    _warn(settings)
    # The one line that programs wait for.
    print("ready", *(_url(*address) for address in addresses), *web, flush=True)
    systemd.notify("READY=1")


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


def _summary(
    settings: Settings,
    tls: composition.TlsContexts | None,
    addresses: Sequence[tuple[str, int, bool]],
    plugins: Sequence[composition.Plugin],
    pages: Sequence[tuple[object, ...]] = (),
    web: Sequence[str] = (),
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
    for url in web:
        lines.append(f"  DICOMweb                     {url}")
        if settings.web.pages:
            lines.append(f"  in a browser                 {url.removesuffix(ROOT)}/")
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


def _web_url(name: tuple[Any, ...], is_tls: bool) -> str:
    shown = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if is_tls else 'http'}://{shown}:{name[1]}{ROOT}"


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
