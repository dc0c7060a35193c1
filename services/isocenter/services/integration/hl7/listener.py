"""MLLP connections: a task for each, every wait bounded, one message at a time.

A sender keeps its connection for days and sends the next message when it has heard of the
last one; whoever holds a place and says nothing goes first when there are too many.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.integration.hl7.mllp import (
    MessageTooLong,
    MessageUnfinished,
    MllpDecoder,
    MllpMessage,
    frame,
)
from isocenter.services.net.addresses import is_within
from isocenter.services.net.listeners import AcceptBackoff, ListenAddress
from isocenter.services.net.peer_log import PeerLog
from isocenter.services.net.tls.errors import describe_tls_error
from isocenter.services.net.tls.transport import tls_transport
from isocenter.services.net.transport import (
    SocketTransport,
    Transport,
    format_address,
    prepare_socket,
)
from isocenter.services.notices import ConnectionRefused, Notices, RefusalReason

log = logging.getLogger("isocenter.hl7")

#: Whoever sends so much that is no frame does not speak MLLP.
_MOST_STRAY_BYTES: Final = 1_024
#: Messages that a sender may begin, one after the other, without ending one.
_MOST_UNFINISHED: Final = 10

#: Judges a message; what to answer, if anything.
Take = Callable[[MllpMessage | MessageTooLong, PeerLog], Awaitable[bytes | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits:
    """What senders may take.  Durations in seconds.

    Attributes:
        message_bytes: of one message.
        connections: at once.
        idle: between messages.
        message: from the first byte of a message to its last.
        answer: to do what a message says when the server stops, and to send its
            acknowledgement.
        handshake: of TLS.
        senders: networks of those who are heard; none: everybody.
    """

    message_bytes: int = 1 << 20
    connections: int = 32
    idle: float = 3_600.0
    message: float = 30.0
    answer: float = 30.0
    handshake: float = 5.0
    senders: tuple[str, ...] = ()


@dataclass(eq=False, slots=True)
class _Connection:
    """*chain*: over TLS, the sender's certificates, once they were verified."""

    peer_log: PeerLog
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    is_busy: bool = False
    chain: Callable[[], Sequence[bytes]] | None = None

    @property
    def address(self) -> str:
        return self.peer_log.peer_address


class OrderListener:
    """Serves MLLP on sockets that are bound and listen.

    Args:
        take: called for one message of a connection at a time.
    """

    def __init__(
        self, take: Take, limits: ListenerLimits | None = None, notices: Notices | None = None
    ) -> None:
        self._take = take
        self._limits = limits or ListenerLimits()
        self._notices = Notices() if notices is None else notices
        #: The one that was heard of the longest ago first.
        self._connections: dict[_Connection, None] = {}
        self._revoked_in: Callable[[Sequence[bytes]], str] = lambda chain: ""

    @property
    def connections(self) -> int:
        """Connections now."""
        return len(self._connections)

    def end_revoked(self, revoked_in: Callable[[Sequence[bytes]], str]) -> None:
        """End the connections whose certificates have been revoked, each when the message that is
        being done was answered.

        Args:
            revoked_in: which certificate of a chain (in DER) is revoked; empty: none.
        """
        self._revoked_in = revoked_in
        for connection in list(self._connections):
            if not connection.scope.cancel_called and self._is_revoked(connection):
                connection.scope.cancel()

    def _is_revoked(self, connection: _Connection) -> bool:
        if connection.chain is None:
            return False
        revoked = self._revoked_in(connection.chain())
        if revoked:
            self._refuse(
                connection.address,
                RefusalReason.TLS_HANDSHAKE,
                f"the connection for HL7 is ended: {revoked} was revoked",
            )
        return bool(revoked)

    async def run(self, listeners: Sequence[tuple[socket.socket, ListenAddress]]) -> None:
        """Until cancelled; a message that is being done is finished and answered."""
        async with trio.open_nursery() as nursery:
            for listener, bind in listeners:
                nursery.start_soon(self._accept, listener, bind, nursery)

    async def _accept(
        self, listener: socket.socket, bind: ListenAddress, nursery: trio.Nursery
    ) -> None:
        listener.setblocking(False)
        own = trio.socket.from_stdlib_socket(listener)
        accept_backoff = AcceptBackoff(log, "connections for HL7")
        while True:
            try:
                accepted, name = await own.accept()
            except OSError as error:
                await accept_backoff.wait(error)
                continue
            sock = socket.socket(fileno=accepted.detach())
            sock.setblocking(False)
            if self._limits.senders and not is_within(name[0], self._limits.senders):
                sock.close()
                self._refuse(
                    format_address(name), RefusalReason.ADDRESS, "no sender of hl7.senders; closed"
                )
                continue
            if len(self._connections) >= self._limits.connections and not self._drop_idle():
                sock.close()
                self._refuse(
                    format_address(name),
                    RefusalReason.TOO_MANY,
                    "all connections for HL7 are being served; closed (hl7.max_connections)",
                )
                continue
            connection = _Connection(PeerLog(format_address(name)))
            self._connections[connection] = None
            nursery.start_soon(self._serve, sock, bind, connection)

    def _drop_idle(self) -> bool:
        """Close the one that has said nothing for the longest, if one is not being served."""
        for connection in self._connections:
            if not connection.is_busy and not connection.scope.cancel_called:
                self._refuse(
                    connection.address,
                    RefusalReason.TOO_MANY,
                    "closed for another sender (hl7.max_connections)",
                )
                connection.scope.cancel()
                del self._connections[connection]
                return True
        return False

    def _heard(self, connection: _Connection) -> None:
        if connection in self._connections:
            del self._connections[connection]
            self._connections[connection] = None

    async def _serve(
        self, sock: socket.socket, bind: ListenAddress, connection: _Connection
    ) -> None:
        try:
            with connection.scope, sock:
                prepare_socket(sock)
                transport = await self._open(sock, bind, connection)
                if transport is not None:
                    await self._converse(transport, connection)
        except OSError:
            pass  # the sender has gone
        except Exception:
            # One connection, not the server.
            log.exception("%s: an HL7 connection failed here", connection.address)
        finally:
            connection.peer_log.log_suppressed()
            self._connections.pop(connection, None)

    async def _open(
        self, sock: socket.socket, bind: ListenAddress, connection: _Connection
    ) -> Transport | None:
        address = connection.address
        if bind.tls is None:
            return SocketTransport(sock, address)
        text = "nothing came in time"
        context = bind.tls()
        with trio.move_on_after(self._limits.handshake):
            try:
                transport = await tls_transport(
                    sock, context, server_side=True, peer_address=address
                )
                connection.chain = transport.chain
                # Revoked while it shook hands?
                if bind.tls() is not context and self._is_revoked(connection):
                    return None
                return transport
            except trio.BrokenResourceError as error:
                cause = error.__cause__
                if not isinstance(cause, ssl.SSLError):
                    return None  # somebody only looked whether we are there
                text = describe_tls_error(cause)
        self._refuse(address, RefusalReason.TLS_HANDSHAKE, f"TLS handshake for HL7 failed: {text}")
        return None

    def _refuse(self, address: str, refusal: RefusalReason, detail: str) -> None:
        log.warning("%s: %s", address, detail)
        self._notices.publish(ConnectionRefused(address=address, refusal=refusal, detail=detail))

    async def _converse(self, transport: Transport, connection: _Connection) -> None:
        framer = MllpDecoder(self._limits.message_bytes)
        peer_log = connection.peer_log
        ends_at = trio.current_time() + self._limits.idle
        stray = unfinished = 0
        while True:
            is_continued = framer.is_inside
            with trio.move_on_at(ends_at) as scope:
                chunk = await transport.receive()
            if scope.cancelled_caught:
                if is_continued:
                    peer_log.write(log, logging.WARNING, "a message has no end (FS, CR); closed")
                return
            if not chunk:
                if is_continued:
                    peer_log.write(log, logging.WARNING, "the connection ended within a message")
                return
            self._heard(connection)
            for event in framer.receive(bytes(chunk)):
                is_continued = False
                if isinstance(event, MessageUnfinished):
                    unfinished += 1
                    if unfinished > _MOST_UNFINISHED:
                        break
                    peer_log.write(
                        log, logging.WARNING, "a message began before the end of another one"
                    )
                    continue
                stray, unfinished = framer.stray, 0
                if not await self._answer(transport, connection, event):
                    return
            if framer.stray - stray > _MOST_STRAY_BYTES or unfinished > _MOST_UNFINISHED:
                self._refuse(
                    connection.address,
                    RefusalReason.WRONG_PROTOCOL,
                    "what comes on the port for HL7 is no MLLP (VT message FS CR); closed",
                )
                return
            if not framer.is_inside:
                ends_at = trio.current_time() + self._limits.idle
            elif not is_continued:
                ends_at = trio.current_time() + self._limits.message

    async def _answer(
        self,
        transport: Transport,
        connection: _Connection,
        event: MllpMessage | MessageTooLong,
    ) -> bool:
        """Whether the connection can go on."""
        connection.is_busy = True
        try:
            # A server that stops lets it finish: its sender would send it again.
            with trio.move_on_after(self._limits.answer, shield=True):
                answer = await self._take(event, connection.peer_log)
                if answer is not None:
                    await transport.send((frame(answer),), lambda: None)
                return True
        finally:
            connection.is_busy = False
        connection.peer_log.write(
            log, logging.WARNING, "a message was not answered in time; closed"
        )
        return False
