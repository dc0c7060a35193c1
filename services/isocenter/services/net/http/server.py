"""HTTP server: accepts connections within bounds, and hands requests to an ASGI application."""

from __future__ import annotations

import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import trio

from isocenter.services.concurrency import Broadcast, alone
from isocenter.services.net.http.connection import HttpConnection, connection_scope
from isocenter.services.net.http.exchange import Application
from isocenter.services.net.http.forwarded import NO_PROXIES, TrustedProxies
from isocenter.services.net.http.limits import DEFAULT_HTTP_LIMITS, HttpLimits
from isocenter.services.net.http.notices import HttpLimitReached
from isocenter.services.net.listeners import AcceptBackoff, ListenAddress
from isocenter.services.net.tls.errors import describe_tls_error
from isocenter.services.net.tls.transport import tls_transport
from isocenter.services.net.transport import (
    SocketTransport,
    Transport,
    format_address,
    prepare_socket,
)
from isocenter.services.notices import ConnectionRefused, Notices, RefusalReason

log = logging.getLogger("isocenter.http")

_TLS_HANDSHAKE: Final = 0x16


class _Place:
    """A connection from accept to close; when it has been idle since: for ever, if it is busy.

    Attributes:
        chain: the certificates of its peer, in DER; None: it has shown none.
    """

    def __init__(self, host: str, peer: str) -> None:
        self.host = host
        self.peer = peer
        self.chain: Callable[[], Sequence[bytes]] | None = None
        self.is_over = trio.Event()
        self.scope = trio.CancelScope()
        self.connection: HttpConnection | None = None
        self.since = trio.current_time()

    @property
    def idle_since(self) -> float:
        return self.since if self.connection is None else self.connection.idle_since


class HttpServer:
    """A server of one application on any number of listeners.

    Args:
        application: ASGI 3; see `exchange` and `connection_scope` for what it gets beside.
        proxies: for whom the bound of one address does not hold: many callers stand behind them.
        notices: told which bound of the limits was reached, and whose certificate was revoked.
        on_stop: called when it takes no more; what would go on for ever is to end then.
    """

    def __init__(
        self,
        application: Application,
        limits: HttpLimits = DEFAULT_HTTP_LIMITS,
        *,
        proxies: TrustedProxies = NO_PROXIES,
        notices: Notices | None = None,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_stop = on_stop
        self._notices = Notices() if notices is None else notices
        self._revoked_in: Callable[[Sequence[bytes]], str] = lambda chain: ""
        self._application = application
        self._proxies = proxies
        self.limits = limits
        self._places: dict[_Place, None] = {}
        self._per_address: Counter[str] = Counter()
        self._handshakes: dict[_Place, None] = {}
        self._accepting = trio.CancelScope()
        self._changed = Broadcast()

    @property
    def connections(self) -> int:
        """Connections now."""
        return len(self._places)

    @property
    def requests(self) -> int:
        """Connections on which a request is under way."""
        return sum(p.connection is not None and p.connection.is_busy for p in self._places)

    def _on_limit(self, limit: str) -> None:
        self._notices.publish(HttpLimitReached(limit))

    async def end_revoked(self, revoked_in: Callable[[Sequence[bytes]], str]) -> None:
        """End the connections whose certificates have been revoked, each when the requests under
        way are answered, or after the grace.

        Args:
            revoked_in: which certificate of a chain (in DER) is revoked; empty: none.
        """
        self._revoked_in = revoked_in
        async with trio.open_nursery() as nursery:
            for place in list(self._places):
                if self._is_revoked(place):
                    nursery.start_soon(self._end, place)

    def _is_revoked(self, place: _Place) -> bool:
        if place.chain is None:
            return False
        revoked = self._revoked_in(place.chain())
        if revoked:
            why = f"the connection for HTTP is ended: {revoked} was revoked"
            log.warning("%s: %s", place.peer, why)
            self._notices.publish(
                ConnectionRefused(
                    address=place.peer, refusal=RefusalReason.TLS_HANDSHAKE, detail=why
                )
            )
        return bool(revoked)

    async def _end(self, place: _Place) -> None:
        place.chain = None  # it is told once
        if place.connection is None:
            place.scope.cancel()
            return
        with trio.move_on_after(self.limits.grace_seconds):
            await _leave(place.connection)
            await place.is_over.wait()
        place.scope.cancel()

    def stop(self) -> None:
        """Take no more; `run` ends when what is under way is answered, or after the grace."""
        self._accepting.cancel()

    async def run(self, listeners: Sequence[tuple[socket.socket, ListenAddress]]) -> None:
        """Serve until `stop` or cancellation; the listeners stay the caller's."""
        try:
            async with trio.open_nursery() as serving:
                with self._accepting:
                    async with trio.open_nursery() as accepting:
                        for listener, address in listeners:
                            accepting.start_soon(self._accept, listener, address, serving)
                await self._drain()
                serving.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise alone(group) from None

    async def _drain(self) -> None:
        self._on_stop()
        with trio.move_on_after(self.limits.grace_seconds):
            async with trio.open_nursery() as nursery:
                for place in self._places:
                    if place.connection is None:
                        place.scope.cancel()
                    else:
                        nursery.start_soon(_leave, place.connection)
            while self._places:
                await self._changed.wait()

    async def _accept(
        self, listener: socket.socket, address: ListenAddress, serving: trio.Nursery
    ) -> None:
        listener.setblocking(False)
        accept_backoff = AcceptBackoff(log, "HTTP connections")
        while True:
            try:
                sock, name = listener.accept()
            except BlockingIOError:
                await trio.lowlevel.wait_readable(listener)
                continue
            except ConnectionError:
                await trio.lowlevel.checkpoint()
                continue
            except OSError as error:
                self._close_idle(None)
                await accept_backoff.wait(error)
                continue
            try:
                prepare_socket(sock)
            except OSError:
                sock.close()
                continue
            host = str(name[0]) if isinstance(name, tuple) else "local"
            place = _Place(host, format_address(name))
            if not self._has_room(place.host):
                log.warning("%s: more connections than are allowed, all busy; closed", place.host)
                sock.close()
                continue
            self._places[place] = None
            self._per_address[place.host] += 1
            serving.start_soon(self._serve, sock, place.peer, address, place)
            await trio.lowlevel.checkpoint()  # a flood of connections starves nobody

    def _has_room(self, host: str) -> bool:
        """Whether one more is within bounds; the one that has been idle for the longest goes for
        it, those with a request under way stay."""
        limits = self.limits
        is_of_many = self._proxies.trusts(host)
        if self._per_address[host] >= limits.connections_per_address and not is_of_many:
            self._on_limit("connections_per_address")
            return self._close_idle(host)
        if len(self._places) < limits.connections:
            return True
        self._on_limit("connections")
        return self._close_idle(None)

    def _close_idle(self, host: str | None) -> bool:
        idle = [
            place
            for place in self._places
            if host in (None, place.host)
            and place.idle_since < float("inf")
            and not place.scope.cancel_called
        ]
        if idle:
            min(idle, key=lambda place: place.idle_since).scope.cancel()
        return bool(idle)

    async def _serve(
        self, sock: socket.socket, peer: str, address: ListenAddress, place: _Place
    ) -> None:
        transport: Transport | None = None
        try:
            with place.scope:
                transport = await self._open(sock, peer, address, place)
                if transport is not None:
                    await self._converse(sock, transport, address, place)
        except trio.BrokenResourceError:
            pass  # the peer has gone
        except Exception:
            log.exception("%s: a connection failed", peer)
        finally:
            if transport is not None:
                with trio.CancelScope(shield=True):
                    await transport.aclose()
            sock.close()
            del self._places[place]
            place.is_over.set()
            self._per_address[place.host] -= 1
            if not self._per_address[place.host]:
                del self._per_address[place.host]
            self._changed.send()

    async def _open(
        self, sock: socket.socket, peer: str, address: ListenAddress, place: _Place
    ) -> Transport | None:
        if address.tls is None:
            return SocketTransport(sock, peer)
        if len(self._handshakes) >= self.limits.handshakes:
            self._on_limit("handshakes")
            next(iter(self._handshakes)).scope.cancel()
        self._handshakes[place] = None
        try:
            with trio.fail_after(self.limits.head_seconds):
                transport = await tls_transport(
                    sock, address.tls(), server_side=True, peer_address=peer
                )
            if transport.identity is not None:
                place.chain = transport.chain
            if self._is_revoked(place):  # since the handshake began
                await transport.aclose()
                return None
            return transport
        except trio.TooSlowError:
            self._on_limit("head_seconds")
            log.info("%s: no TLS handshake in time; closed", peer)
        except trio.BrokenResourceError as error:
            cause = error.__cause__
            if isinstance(cause, ssl.SSLError):
                log.info("%s: TLS handshake failed: %s", peer, describe_tls_error(cause))
        finally:
            del self._handshakes[place]
        return None

    async def _converse(
        self, sock: socket.socket, transport: Transport, address: ListenAddress, place: _Place
    ) -> None:
        try:
            own = sock.getsockname()
        except OSError:
            return
        host, _, port = transport.peer_address.rpartition(":")
        scope = connection_scope(
            is_tls=address.tls is not None,
            client=(place.host, int(port) if host and port.isdecimal() else 0),
            server=(str(own[0]), int(own[1])) if isinstance(own, tuple) else ("local", 0),
            identity=transport.identity,
        )
        tls = getattr(transport, "tls", None)
        is_http2 = tls is not None and tls.selected_alpn_protocol() == "h2"
        place.connection = HttpConnection(
            transport,
            self._application,
            self.limits,
            scope,
            is_http2=is_http2,
            on_limit=self._on_limit,
        )
        await place.connection.run()


async def _leave(connection: HttpConnection) -> None:
    try:
        await connection.leave()
    except trio.BrokenResourceError:
        pass  # it has gone by itself
