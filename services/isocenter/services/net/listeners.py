"""Addresses to listen on, and what to say when one cannot be had.

A socket may also be there already: systemd's, which listens before and after us.
"""

from __future__ import annotations

import errno
import logging
import math
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import text_of

BACKLOG: Final = 1024
#: How long accepting rests when the process or the machine has no descriptor or memory left.
_PAUSE_SECONDS: Final = 0.25
#: Such a shortage is logged this often at most.
_LOG_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenAddress:
    """An address to listen on.

    Attributes:
        host: a name or an address; every address that a name stands for is listened on.
        port: 0 takes a free one.
        tls: gives the context (`server_context`) for DICOM over TLS; called for each connection, so
            that certificates can be exchanged while the server runs.  None: in the clear.
    """

    host: str
    port: int
    tls: Callable[[], ssl.SSLContext] | None = None

    def __post_init__(self) -> None:
        if self.tls is not None and not callable(self.tls):
            raise TypeError("tls must be a function that gives a context: tls=lambda: context")


#: Sockets that listen, each with the address it was opened for.
Listening = Sequence[tuple[socket.socket, ListenAddress]]

#: Names of sockets that systemd hands over (``FileDescriptorName=``).
PLAIN_NAME: Final = "dicom"
TLS_NAME: Final = "dicom-tls"


class AcceptBackoff:
    """Accepting fails for lack of descriptors or memory: a pause, and a line of log now and then.

    Args:
        what: is accepted, for the log.
    """

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._told_at = -math.inf

    async def wait(self, error: OSError) -> None:
        """Before the next attempt."""
        if trio.current_time() - self._told_at >= _LOG_SECONDS:
            self._told_at = trio.current_time()
            self._log.error(
                "cannot accept %s: %s; raise the limit of open files or lower the limit of "
                "connections",
                self._what,
                text_of(error),
            )
        await trio.sleep(_PAUSE_SECONDS)


def open_listeners(
    binds: Sequence[ListenAddress], inherited: Sequence[tuple[str, socket.socket]] = ()
) -> list[tuple[socket.socket, ListenAddress]]:
    """Listen everywhere, on the sockets that were handed over where there are some.

    Args:
        inherited: named `PLAIN_NAME` or `TLS_NAME`; those of a name take the place of the
            bind of that kind, whatever its address.

    Raises:
        OSError: with a message that names the fault and the cure.  Nothing stays open.
    """
    by_name = {TLS_NAME if bind.tls else PLAIN_NAME: bind for bind in binds}
    listeners: list[tuple[socket.socket, ListenAddress]] = []
    try:
        for name, sock in inherited:
            if name not in by_name:
                raise OSError(_name_fault(name))
            listeners.append((sock, by_name[name]))
        given = {name for name, _ in inherited}
        for name, bind in by_name.items():
            if name not in given:
                listeners += [(sock, bind) for sock in open_listener(bind)]
    except OSError:
        for sock in (*(sock for _, sock in inherited), *(sock for sock, _ in listeners)):
            sock.close()
        raise
    return listeners


def _name_fault(name: str) -> str:
    if name in (PLAIN_NAME, TLS_NAME):
        key = "tls.enabled" if name == TLS_NAME else "plain.enabled"
        return f"systemd hands over a socket named {name}, but {key} is off; switch one of them"
    return (
        f"systemd hands over a socket named {name!r}; name it with FileDescriptorName={PLAIN_NAME} "
        f"or {TLS_NAME}, each in a socket unit of its own"
    )


def open_listener(bind: ListenAddress) -> list[socket.socket]:
    """Listen on every address that the host name stands for.

    Raises:
        OSError: with a message that names the address, the fault and the cure.
    """
    try:
        found = socket.getaddrinfo(
            bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        fault = text_of(error)
        if error.errno == socket.EAI_NONAME:
            fault = "the host name is not known; give an address of this machine"
        raise OSError(f"cannot listen on {bind.host}:{bind.port}: {fault}") from error
    listeners: list[socket.socket] = []
    port = bind.port
    for family, kind, protocol, _, address in dict.fromkeys(found):
        sock = socket.socket(family, kind, protocol)
        try:
            # On Windows SO_REUSEADDR would let anybody else take the port, too.
            exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
            sock.setsockopt(socket.SOL_SOCKET, exclusive or socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], port, *address[2:]))
            sock.listen(BACKLOG)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            for other in listeners:
                other.close()
            raise OSError(error.errno, _bind_fault(bind, error)) from error
        port = sock.getsockname()[1]
        listeners.append(sock)
    return listeners


def _bind_fault(bind: ListenAddress, error: OSError) -> str:
    where = f"cannot listen on {bind.host}:{bind.port}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where}: the port is in use; stop the other program or choose another port"
        case errno.EACCES:
            return f"{where}: ports below 1024 need privileges; choose a higher port"
        case errno.EADDRNOTAVAIL:
            return f"{where}: this machine has no such address"
        case _:
            return f"{where}: {text_of(error)}"
