"""Requests and responses, as handlers take and give them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from random import getrandbits
from typing import Any, Final, Self
from urllib.parse import parse_qsl

import orjson

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass
from isocenter.services.net.http.exchange import Receive, Scope
from isocenter.services.net.http.forwarded import is_passed_on
from isocenter.services.net.http.protocol import FileRegion
from isocenter.services.net.http.socket_session import WebSocket
from isocenter.services.net.peer_identity import PeerIdentity

#: Parameters of one query.
_MOST_PARAMETERS: Final = 500
Headers = Sequence[tuple[str, str]]


class HttpError(Exception):
    """A request that is answered by a status of 400 and above.

    Attributes:
        code: for programs, in capitals.
        message: for people; it names the fault and the cure, and no patient.
    """

    def __init__(self, status: int, code: str, message: str, headers: Headers = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


class Request:
    """A request, whose body is read when it is asked for.

    Attributes:
        name: of this request, in log, audit and answers.
        arguments: the values of the places of its route.
        caller: who it is, as whoever authenticated it says; None: nobody did.
        host: the address that it came from, as far as that is known.
        is_passed_on: whether a proxy has it from somebody else.
        told: what its handler tells of it for whoever keeps records.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive
        self._query: list[tuple[str, str]] | None = None
        fields: dict[bytes, list[bytes]] = {}
        for given, value in scope["headers"]:
            fields.setdefault(given, []).append(value)
        self._fields = {
            given.decode("latin-1"): b", ".join(values).decode("latin-1")
            for given, values in fields.items()
        }
        # Only a name: nobody is to be kept from guessing it, and the system takes long to draw it.
        self.name = f"{getrandbits(64):016x}"
        self.method: str = scope["method"]
        self.raw_path: bytes = scope["raw_path"]
        self.arguments: Mapping[str, str] = {}
        self.caller: Any = None
        self.host = self.peer
        self.is_passed_on = is_passed_on(self._fields)
        self.told: dict[str, Any] = {}

    @property
    def target(self) -> bytes:
        """Path and query, as they came."""
        query: bytes = self._scope["query_string"]
        return self.raw_path + b"?" + query if query else self.raw_path

    @property
    def wants_websocket(self) -> bool:
        """Whether it asks to go on as a WebSocket."""
        return self._scope.get("isocenter.upgrade") is not None

    async def upgrade(self, headers: Headers) -> WebSocket:
        """Go on as a WebSocket, after a 101 with these headers."""
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        socket: WebSocket = await self._scope["isocenter.upgrade"](encoded)
        return socket

    @property
    def scheme(self) -> str:
        return str(self._scope["scheme"])

    @property
    def authority(self) -> str | None:
        """Host and port that were asked for; None: none was said (HTTP/1.0)."""
        found: str | None = self._scope.get("isocenter.authority")
        return found

    @property
    def raw_query(self) -> bytes:
        """As it came, percent-encoded, without the question mark."""
        found: bytes = self._scope["query_string"]
        return found

    @property
    def peer(self) -> str:
        """The address at the other end of the connection."""
        client = self._scope.get("client")
        return str(client[0]) if client else ""

    @property
    def port(self) -> int:
        """The port of ours that it came to; 0: none."""
        server = self._scope.get("server")
        return int(server[1]) if server else 0

    @property
    def identity(self) -> PeerIdentity | None:
        """Whose client certificate was verified."""
        found: PeerIdentity | None = self._scope.get("isocenter.identity")
        return found

    def header(self, name: str) -> str | None:
        """A field, several joined by commas; None: it is not there."""
        return self._fields.get(name.lower())

    @property
    def query(self) -> list[tuple[str, str]]:
        """Names and values of the query, decoded, in their order.

        Raises:
            HttpError: it cannot be understood.
        """
        if self._query is None:
            text = self._scope["query_string"].decode("latin-1")
            try:
                self._query = parse_qsl(
                    text, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS, errors="strict"
                )
            except (ValueError, UnicodeDecodeError) as error:
                raise HttpError(
                    400,
                    "BAD_QUERY",
                    f"the query has more than {_MOST_PARAMETERS} parameters, or is not UTF-8, "
                    "percent-encoded",
                ) from error
        return self._query

    def parameter(self, name: str) -> str | None:
        """The first value of a parameter of the query; None: it is not there."""
        return next((value for given, value in self.query if given == name), None)

    @property
    def content_length(self) -> int | None:
        """Bytes of the body, when they were announced."""
        said = self.header("content-length")
        return int(said) if said is not None and said.isdecimal() else None

    def chunks(self) -> AsyncIterator[Buffer]:
        """The body, as it comes."""
        return _Chunks(self._receive)

    async def body(self, most: int) -> bytes:
        """The whole body.

        Raises:
            HttpError: it is longer than *most* bytes (413).
        """
        too_long = HttpError(413, "TOO_LARGE", f"the body may have {most:,} bytes here")
        if (self.content_length or 0) > most:
            raise too_long
        pieces: list[Buffer] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > most:
                raise too_long
            pieces.append(chunk)
        return b"".join(pieces)


class _Chunks:
    """The pieces of a body; no generator, which would have to be closed when a request ends."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Buffer:
        while not self._is_over:
            message = await self._receive()
            self._is_over = message["type"] != "http.request" or not message.get("more_body", False)
            body: Buffer = message.get("body", b"")
            if len(body):
                return body
        raise StopAsyncIteration


#: Bytes, or where they lie.
Piece = Buffer | FileRegion
#: What a response carries: bytes, pieces, or pieces as they are made, one or some at a time.
Body = Buffer | Sequence[Piece] | AsyncIterator[Piece | Sequence[Piece]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response.

    Attributes:
        headers: without `Content-Length` where the length of the body is known.
        length: bytes of a body that is made while it is sent, when that is known.
        close: called when it was sent, or could not be; gives back what the body stands on.
    """

    status: int = 200
    headers: Headers = ()
    body: Body = b""
    length: int | None = None
    close: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade(Response):
    """In place of a response: the request goes on as a WebSocket.

    Attributes:
        serve: speaks; when it returns, the WebSocket is closed.
        subprotocol: of those that the request names; empty: none.
    """

    serve: Callable[[WebSocket], Awaitable[None]]
    subprotocol: str = ""


def json_response(value: Any, status: int = 200, headers: Headers = ()) -> Response:
    """A value as JSON."""
    body = orjson.dumps(value)
    return Response(
        status=status, headers=(("content-type", "application/json"), *headers), body=body
    )


def text_response(text: str, status: int = 200, headers: Headers = ()) -> Response:
    """Plain text."""
    content = ("content-type", "text/plain; charset=utf-8")
    return Response(status=status, headers=(content, *headers), body=text.encode())
