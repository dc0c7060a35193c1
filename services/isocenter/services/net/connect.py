"""Outgoing connections, with or without TLS, and clear errors when there is none."""

from __future__ import annotations

import socket
import ssl

import trio

from isocenter.engine.deadlines import Deadlines
from isocenter.services.errors import ConnectError
from isocenter.services.net.tls.errors import describe_tls_error
from isocenter.services.net.tls.transport import tls_transport
from isocenter.services.net.transport import SocketTransport, Transport


async def connect(
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    deadlines: Deadlines,
    server_name: str = "",
) -> Transport:
    """A connection that stands, after the TLS handshake if there is to be one.

    Args:
        server_name: whose certificate it has to be; empty: that of *host*.

    Raises:
        ConnectError: the message says what failed and what may help.
    """
    where = f"{host}:{port}"
    try:
        with trio.fail_after(deadlines.connect):
            stream = await trio.open_tcp_stream(host, port)
    except trio.TooSlowError:
        raise ConnectError(
            f"cannot connect to {where}: no answer within {deadlines.connect:g} s; "
            "is the address right, and does a firewall drop connections?"
        ) from None
    except OSError as error:
        raise ConnectError(f"cannot connect to {where}: {connect_fault(error)}") from error
    sock = _detach(stream)
    if tls is None:
        return SocketTransport(sock)
    try:
        with trio.fail_after(deadlines.tls_handshake):
            return await tls_transport(
                sock, tls, server_side=False, server_hostname=server_name or host
            )
    except trio.TooSlowError:
        raise ConnectError(
            f"{where}: no TLS handshake within {deadlines.tls_handshake:g} s; "
            "does the peer expect TLS on this port?"
        ) from None
    except trio.BrokenResourceError as error:
        cause = error.__cause__
        text = (
            describe_tls_error(cause)
            if isinstance(cause, ssl.SSLError)
            else "the peer closed the connection; does it expect TLS on this port?"
        )
        raise ConnectError(f"{where}: TLS handshake failed: {text}") from error


def _detach(stream: trio.SocketStream) -> socket.socket:
    """Take the operating system's socket out of trio's stream, to use it directly."""
    return socket.socket(fileno=stream.socket.detach())


def connect_fault(error: OSError) -> str:
    """Why there is no connection, and what may help."""
    causes: list[BaseException] = [error]
    if isinstance(error.__cause__, BaseExceptionGroup):
        causes = list(error.__cause__.exceptions)
    for cause in causes:
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused; is the server running, and is the port right?"
        if isinstance(cause, socket.gaierror):
            return "the host name is not known"
    texts = dict.fromkeys(
        cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror
    )
    return ", ".join(texts) or str(error)
