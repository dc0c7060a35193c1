"""Parts of a server and its sockets, read and checked before it starts."""

from __future__ import annotations

import errno
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.association.server import WrapTransport
from isocenter.services.backup.relocation.mark import check_not_relocating
from isocenter.services.backup.restore_mark import check_not_restoring
from isocenter.services.composition.access import access_control_of
from isocenter.services.composition.hl7 import order_address
from isocenter.services.composition.plugins import Plugin, check_plugins, load_plugin
from isocenter.services.composition.services import (
    listen_addresses,
)
from isocenter.services.composition.tls_contexts import TlsContexts, files_of_private_ca
from isocenter.services.composition.web import listen_for_web
from isocenter.services.diagnostics.capture import CaptureFolder
from isocenter.services.errors import StorageError, text_of
from isocenter.services.monitoring.figures_access import read_token
from isocenter.services.net.listeners import (
    ListenAddress,
    Listening,
    open_listener,
    open_listeners,
)
from isocenter.services.net.tls.contexts import TlsFiles
from isocenter.services.notices import Notices
from isocenter.services.security.access.access_control import PolicyAccessControl
from isocenter.services.security.audit.repository import Protocol as AuditProtocol
from isocenter.services.security.certificates.issued import CA_FOLDER
from isocenter.services.settings.settings import Settings
from isocenter.services.system import systemd
from isocenter.services.system.pid_file import PidFile
from isocenter.services.system.private_files import make_private_directory
from isocenter.services.workflow.events.targets import check_target

T = TypeVar("T")

log = logging.getLogger("isocenter.server")


class StartupError(Exception):
    """A server cannot start; `faults` are all the reasons, not the first only."""

    def __init__(self, faults: Sequence[Exception]) -> None:
        super().__init__("; ".join(map(text_of, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerParts:
    """Settings, certificates and plug-ins of a server, read and checked; nothing runs yet.

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


def build_server(settings: Settings, stack: ExitStack, *, only_check: bool = False) -> ServerParts:
    """Read and check all that a server needs.

    Args:
        stack: removes what was made for this process only.
        only_check: make nothing.

    Raises:
        StartupError: something cannot be used.
        StorageError: the data directory cannot be made or written.
        BackupError: a restore into the data directory is not finished.
    """
    if not settings.storage.is_in_memory:
        _check_data_directory(Path(settings.storage.data_dir), only_check=only_check)
        check_not_restoring(Path(settings.storage.data_dir))
        check_not_relocating(Path(settings.storage.data_dir))
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


def _check_data_directory(folder: Path, *, only_check: bool) -> None:
    """Make it where it is missing: whatever lies in it would tell its own fault, and another cure.

    Raises:
        StorageError: as `build_server`.
    """
    try:
        if not only_check:
            make_private_directory(folder)
        there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(there, os.W_OK | os.X_OK):
            is_sealed = hasattr(os, "statvfs") and os.statvfs(there).f_flag & os.ST_RDONLY
            code = errno.EROFS if is_sealed else errno.EACCES
            raise OSError(code, os.strerror(code))
    except OSError as error:
        user = f"user {os.getuid()}" if hasattr(os, "getuid") else "this user"
        what = "is no directory" if isinstance(error, FileExistsError) else text_of(error)
        raise StorageError(
            f"cannot write in the data directory {folder}: {what}; give {user} the right to write "
            "there (chown, chmod), or choose another directory with --data-dir"
        ) from error


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
