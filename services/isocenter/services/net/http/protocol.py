"""Events and commands of an HTTP connection, one set for HTTP/1.1 and HTTP/2.

A protocol is sans-IO: it takes bytes and gives events, takes what is to be said and gives
buffers.  `http1` and `http2` implement it; `connection` carries the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass

#: Names in lower case, and values, as bytes of Latin-1.
RawHeaders = Sequence[tuple[bytes, bytes]]

#: All fields of a request, or of a response.
MOST_HEADER_BYTES: Final = 16 << 10


@dataclass(frozen=True, slots=True)
class FileRegion:
    """Bytes of an open file, which go to the socket without passing through memory where they can.

    Attributes:
        descriptor: of the file; it stays the caller's, and open until the bytes have left.
    """

    descriptor: int
    offset: int
    length: int

    def __len__(self) -> int:
        return self.length


#: What is written: bytes, or where they lie.
Output = Buffer | FileRegion


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a request says before its body.

    Attributes:
        target: path and query, as they came.
        authority: host and port that were asked for; None: HTTP/1.0 without `Host`.
        version: ``1.0``, ``1.1`` or ``2``.
        headers: without those that concern the connection only.
        wants_websocket: whether it asks to go on as one (RFC 6455).
    """

    method: str
    target: bytes
    authority: str | None
    version: str
    headers: tuple[tuple[bytes, bytes], ...]
    wants_websocket: bool = False

    def header(self, name: bytes) -> str | None:
        """A field by its name in lower case, several joined by commas; None: it is not there."""
        found = [value for given, value in self.headers if given == name]
        return b", ".join(found).decode("latin-1") if found else None


@dataclass(frozen=True, slots=True)
class RequestStarted:
    """A request whose head is complete."""

    stream: int
    head: RequestHead


@dataclass(frozen=True, slots=True)
class BodyReceived:
    """A piece of a request's body.

    Attributes:
        credit: how much of the peer's window it used up; given back by `HttpProtocol.consumed`.
    """

    stream: int
    data: Buffer
    credit: int


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """The body of a request is complete."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The peer wants no answer any more (HTTP/2)."""

    stream: int


@dataclass(frozen=True, slots=True)
class WindowOpened:
    """The peer takes more (HTTP/2)."""


@dataclass(frozen=True, slots=True)
class ProtocolViolated:
    """What came is no HTTP, or too much; nothing that follows is read.

    Attributes:
        status: to be answered where that can still be.  0: it cannot.
        detail: for the log; it quotes nothing that came.
    """

    status: int
    detail: str


@dataclass(frozen=True, slots=True)
class ConnectionEnded:
    """The peer says and takes nothing any more."""


HttpEvent = (
    RequestStarted
    | BodyReceived
    | RequestEnded
    | StreamReset
    | WindowOpened
    | ProtocolViolated
    | ConnectionEnded
)


class HttpProtocol(Protocol):
    """One connection, as its server."""

    @property
    def may_be_kept(self) -> bool:
        """Whether another request may come on it when those under way are answered."""
        ...

    @property
    def is_mid_head(self) -> bool:
        """Whether a request has begun to come whose head is not complete."""
        ...

    def receive(self, data: Buffer) -> list[HttpEvent]:
        """What these bytes tell; ``b""``: the peer has closed its side."""
        ...

    def take_output(self) -> Buffer:
        """What the protocol itself has to say by now: settings, acknowledgements, windows."""
        ...

    def proceed(self, stream: int) -> None:
        """The body is wanted: who waits for ``100 Continue`` gets it."""
        ...

    def consumed(self, stream: int, credit: int) -> None:
        """So much of a body was used; the peer may send as much again."""
        ...

    def begin_response(self, stream: int, status: int, headers: RawHeaders) -> list[Output]:
        """The head of a response, ready to be written."""
        ...

    def room(self, stream: int) -> int:
        """How many bytes of body the peer takes now."""
        ...

    def response_data(self, stream: int, data: Output) -> list[Output]:
        """A piece of the body, of at most `room` bytes."""
        ...

    def end_response(self, stream: int) -> list[Output]:
        """The response is complete."""
        ...

    def reset(self, stream: int) -> list[Output]:
        """The response will never be complete, and the peer is to know it."""
        ...

    def next_request(self) -> list[HttpEvent]:
        """A response is complete: what has come behind its request."""
        ...

    def go_away(self) -> list[Output]:
        """No more requests are taken."""
        ...
