"""Bounds on what HTTP clients take, each with its reason."""

from __future__ import annotations

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.http.socket_session import DEFAULT_SOCKET_LIMITS, SocketLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What one HTTP server gives to all, and how long it waits for one."""

    #: Connections at once; over it the one that has been idle for the longest goes.
    connections: int = 500
    #: Connections at once from one address; over it the same among its own.
    connections_per_address: int = 100
    #: TLS handshakes under way at once; over it the longest one goes.
    handshakes: int = 50
    #: From accept, and from the first byte of a later request, to the end of its head.
    head_seconds: float = 10.0
    #: Between two requests of one connection.
    idle_seconds: float = 75.0
    #: For each 64 KiB of a request's body that its handler waits for.
    body_seconds: float = 30.0
    #: For each 256 KiB of a response.
    send_seconds: float = 30.0
    #: Of WebSockets.
    sockets: SocketLimits = DEFAULT_SOCKET_LIMITS
    #: For requests under way when the server stops.
    grace_seconds: float = 10.0


DEFAULT_HTTP_LIMITS = HttpLimits()
