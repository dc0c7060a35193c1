"""WebSocket as a server (RFC 6455): wsproto's frames, with bounds; sans-IO.

No extension is offered: compressing what a stranger may mix with secrets tells of them, and costs
memory on each connection.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    TextMessage,
)
from wsproto.utilities import RemoteProtocolError

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass

#: What a peer may hear of why (a control frame has 125 bytes, two of them the code).
_MOST_REASON: Final = 123
#: Pieces of one message: an empty one costs its peer six bytes.
_MOST_FRAGMENTS: Final = 1_000


class CloseCode(IntEnum):
    """Why a WebSocket ends (RFC 6455 7.4.1)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    #: Never on the wire: a close frame without a code; no close frame at all.
    NONE = 1005
    ABNORMAL = 1006
    INVALID_DATA = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    TRY_AGAIN = 1013


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A whole message."""

    data: str | bytes


@dataclass(frozen=True, slots=True)
class SocketClosed:
    """Nothing more comes.

    Attributes:
        code: as the peer says, or what is wrong with what it sent.
        is_fault: the peer broke a rule, or a bound.
    """

    code: int
    reason: str = ""
    is_fault: bool = False


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The peer lives."""


SocketEvent = MessageReceived | SocketClosed | PongReceived


class WebSocketProtocol:
    """One WebSocket, from its handshake on.

    Args:
        most_bytes: of one message, and of its pieces together.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._ws = Connection(ConnectionType.SERVER)
        self._pieces: list[str | bytes] = []
        self._size = 0
        self._output = b""
        self._is_over = False

    @property
    def is_open(self) -> bool:
        """Whether messages may be sent."""
        return self._ws.state is ConnectionState.OPEN and not self._is_over

    @property
    def is_finished(self) -> bool:
        """Whether both sides have said that it ends."""
        return self._ws.state is ConnectionState.CLOSED

    def receive(self, data: Buffer) -> list[SocketEvent]:
        """What these bytes tell; ``b""``: the peer has closed the connection."""
        if self._is_over:
            return []
        if not data:
            return self._ended(CloseCode.ABNORMAL)
        events: list[SocketEvent] = []
        try:
            if self._ws.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
                self._ws.receive_data(bytes(data))
            for event in self._ws.events():
                events += self._on_event(event)
                if events and isinstance(events[-1], SocketClosed):
                    break
        except RemoteProtocolError as error:
            hint = getattr(error, "event_hint", None)
            code = hint.code if isinstance(hint, CloseConnection) else CloseCode.PROTOCOL_ERROR
            events += self._fault(int(code))
        return events

    def _on_event(self, event: Any) -> list[SocketEvent]:
        match event:
            case TextMessage() | BytesMessage():
                return self._on_piece(event)
            case Ping():
                # Only the last one need be answered (5.5.3): a flood of them costs nothing.
                if self.is_open:
                    self._output = self._ws.send(event.response())
                return []
            case Pong():
                return [PongReceived()]
            case CloseConnection():
                if self._ws.state is ConnectionState.OPEN:
                    return self._fault(int(event.code))  # what came is no frame
                if self._ws.state is ConnectionState.REMOTE_CLOSING:
                    self._output = self._ws.send(event.response())
                return self._ended(int(event.code), event.reason or "")
            case _:
                # wsproto tells by this of what no server should get.
                return self._fault(CloseCode.PROTOCOL_ERROR)

    def _on_piece(self, event: TextMessage | BytesMessage) -> list[SocketEvent]:
        data = event.data if isinstance(event.data, str) else bytes(event.data)
        self._pieces.append(data)
        # A character is a byte at least, and four at the most.
        self._size += len(data)
        if self._size > self._most_bytes or len(self._pieces) > _MOST_FRAGMENTS:
            return self._fault(CloseCode.TOO_BIG)
        if not event.message_finished:
            return []
        pieces, self._pieces, self._size = self._pieces, [], 0
        whole: str | bytes
        if isinstance(event, TextMessage):
            whole = "".join(one for one in pieces if isinstance(one, str))
        else:
            whole = b"".join(one for one in pieces if isinstance(one, bytes))
        return [MessageReceived(whole)]

    def _fault(self, code: int) -> list[SocketEvent]:
        self._output = self.close(code)
        self._pieces = []
        return self._ended(code, is_fault=True)

    def _ended(self, code: int, reason: str = "", *, is_fault: bool = False) -> list[SocketEvent]:
        self._is_over = True
        return [SocketClosed(code, reason, is_fault)]

    def take_output(self) -> bytes:
        """What the protocol itself has to say by now: a pong, or a close frame."""
        output, self._output = self._output, b""
        return output

    def message(self, data: str | bytes) -> bytes:
        """A message, ready to be written; empty: the WebSocket is closed."""
        if not self.is_open:
            return b""
        message = TextMessage(data) if isinstance(data, str) else BytesMessage(data)
        return self._ws.send(message)

    def ping(self) -> bytes:
        """A ping, which the peer has to answer."""
        return self._ws.send(Ping()) if self.is_open else b""

    def close(self, code: int, reason: str = "") -> bytes:
        """A close frame; empty: one was sent already."""
        if self._ws.state not in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            return b""
        said = reason.encode()[:_MOST_REASON].decode("utf-8", "ignore")
        return self._ws.send(CloseConnection(code, said))
