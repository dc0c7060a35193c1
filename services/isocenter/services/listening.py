"""Addresses to listen on, and what to say when one cannot be had."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """An address to listen on; with ``tls``, DICOM over TLS.

    ``tls`` is called for each connection, so that certificates can be exchanged while
    the server runs.
    """

    host: str
    port: int
    tls: Callable[[], ssl.SSLContext] | None = None


def open_listener(bind: Bind) -> list[socket.socket]:
    """Listen on every address that the host name stands for.

    Raises:
        OSError: with a message that names the address, the fault and the cure.
    """
    try:
        found = socket.getaddrinfo(
            bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise OSError(f"cannot listen on {bind.host}:{bind.port}: {error.strerror}") from error
    listeners: list[socket.socket] = []
    port = bind.port
    for family, kind, protocol, _, address in dict.fromkeys(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], port, *address[2:]))
            sock.listen(_BACKLOG)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            for other in listeners:
                other.close()
            raise OSError(error.errno, _bind_fault(bind, error)) from error
        port = sock.getsockname()[1]
        listeners.append(sock)
    return listeners


def _bind_fault(bind: Bind, error: OSError) -> str:
    where = f"cannot listen on {bind.host}:{bind.port}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where}: the port is in use; stop the other program or choose another port"
        case errno.EACCES:
            return f"{where}: ports below 1024 need privileges; choose a higher port"
        case errno.EADDRNOTAVAIL:
            return f"{where}: this machine has no such address"
        case _:
            return f"{where}: {error.strerror}"
