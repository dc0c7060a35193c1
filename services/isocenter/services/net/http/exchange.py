"""One request and its response, as an ASGI application sees them (ASGI 3).

Beside ASGI's own messages a response may be sent by ``http.response.zerocopysend`` (``file``: a
descriptor, ``offset``, ``count``, ``more_body``), as the extension of that name says.  What has
``isocenter.is_followed`` leaves together with the next message, which comes at once.  Over HTTP/1.1
a response that is known as a whole may be one message, ``isocenter.response`` (``status``,
``headers``, with names in lower case, and ``pieces``: bytes and `FileRegion`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final, Protocol

import trio

from isocenter.engine.buffers import Buffer
from isocenter.services.concurrency import Broadcast
from isocenter.services.net.file_regions import read_region
from isocenter.services.net.http.http1 import Http1
from isocenter.services.net.http.protocol import (
    FileRegion,
    HttpProtocol,
    Output,
    RawHeaders,
    RequestHead,
)
from isocenter.services.net.http.socket_session import WebSocket

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: An ASGI 3 application.
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Of a body that nobody has asked for yet; then the peer has to wait.
MOST_BUFFERED: Final = 256 << 10
#: Pieces of a body that waits are joined up to this.
_SMALL: Final = 4 << 10
#: The message, and the extension, by which a response is sent as a whole.
WHOLE_RESPONSE: Final = "isocenter.response"
#: What `HttpLimits.body_seconds` is for.
_BODY_STEP: Final = 64 << 10
_FILE_PIECE: Final = 256 << 10


class BodyTimeoutError(Exception):
    """The peer does not send the body that it has announced, or too slowly."""


class Carrier(Protocol):
    """Who carries the bytes of an exchange: its connection."""

    protocol: HttpProtocol

    async def write(self, outputs: list[Output]) -> None:
        """Write all of it."""
        ...

    def resume_reading(self) -> None:
        """Some of a body was taken: more may come."""
        ...

    async def until_room(self) -> None:
        """Wait until the peer's window may have opened."""
        ...

    @property
    def sends_files(self) -> bool:
        """Whether `FileRegion` can be written."""
        ...

    async def switch(self, headers: RawHeaders) -> WebSocket:
        """Go on as a WebSocket: a 101 with these headers was sent."""
        ...


class Exchange:
    """A request, its body as it comes, and its response as it goes.

    Args:
        body_seconds: as of `HttpLimits`.
    """

    def __init__(
        self, carrier: Carrier, stream: int, head: RequestHead, body_seconds: float
    ) -> None:
        self.stream = stream
        self.head = head
        self.scope = trio.CancelScope()
        self.is_started = False
        self.is_ended = False
        self._is_writing = False
        self._is_given_up = False
        self._carrier = carrier
        self._body_seconds = body_seconds
        self._body: deque[tuple[Buffer, int]] = deque()
        self._buffered = 0
        self._is_complete = False
        self._is_given = False
        self._arrived = Broadcast()
        self._over = trio.Event()
        self._start: tuple[int, list[tuple[bytes, bytes]]] | None = None
        #: Leaves with what comes next.
        self._held: list[Output] = []
        #: Seconds waited for the body, and bytes of it, since it was last found fast enough.
        self._waited = 0.0
        self._came = 0

    # The side of the connection.

    def body_arrived(self, data: Buffer, credit: int) -> None:
        """A piece of the request's body is here."""
        if self._body and len(self._body[-1][0]) + len(data) <= _SMALL:
            # Each by itself, bytes that come one by one would take some hundred times their size.
            before, given = self._body.pop()
            self._body.append((b"".join((before, data)), given + credit))
        else:
            self._body.append((data, credit))
        self._buffered += len(data)
        self._arrived.send()

    def body_ended(self) -> None:
        """The request is here as a whole."""
        self._is_complete = True
        self._arrived.send()

    @property
    def is_full(self) -> bool:
        """Whether more of the body has come than is to be held."""
        return self._buffered >= MOST_BUFFERED

    @property
    def has_whole_body(self) -> bool:
        """Whether nothing of the request is still to come."""
        return self._is_complete

    def give_up(self) -> None:
        """Cancel the application; not within a write: half a frame would garble what other
        exchanges of the connection say (HTTP/2)."""
        if self._is_writing:
            self._is_given_up = True
        else:
            self.scope.cancel()

    async def _write(self, outputs: list[Output]) -> None:
        self._is_writing = True
        try:
            await self._carrier.write(outputs)
        finally:
            self._is_writing = False
            if self._is_given_up:
                self.scope.cancel()

    def discard_body(self) -> None:
        """Nobody asks for the rest of the body."""
        self._over.set()
        while self._body:
            _, credit = self._body.popleft()
            self._carrier.protocol.consumed(self.stream, credit)
        self._buffered = 0
        self._carrier.resume_reading()

    # The side of the application.

    async def receive(self) -> Message:
        """A piece of the body; when it was given as a whole, the end of the exchange.

        Raises:
            BodyTimeoutError: it does not come.
        """
        if self._is_given:
            await self._over.wait()
            return {"type": "http.disconnect"}
        if not self._body and not self._is_complete:
            self._carrier.protocol.proceed(self.stream)
            await self._write([])
            await self._until_arrived()
        if self._body:
            data, credit = self._body.popleft()
            self._buffered -= len(data)
            self._came += len(data)
            if self._came >= _BODY_STEP:
                self._waited, self._came = 0.0, 0
            self._carrier.resume_reading()
            self._carrier.protocol.consumed(self.stream, credit)
            if credit:
                await self._write([])
        else:
            data = b""
        self._is_given = self._is_complete and not self._body
        return {"type": "http.request", "body": data, "more_body": not self._is_given}

    async def _until_arrived(self) -> None:
        began = trio.current_time()
        with trio.move_on_after(self._body_seconds - self._waited) as scope:
            while not self._body and not self._is_complete:
                await self._arrived.wait()
        if scope.cancelled_caught:
            raise BodyTimeoutError("the body of a request does not come, or too slowly")
        self._waited += trio.current_time() - began

    async def send(self, message: Message) -> None:
        """A message of ASGI."""
        match message["type"]:
            case "http.response.start":
                if self._start is not None or self.is_started:
                    raise RuntimeError("a response begins once")
                headers = [(bytes(n).lower(), bytes(v)) for n, v in message.get("headers", ())]
                self._start = (int(message["status"]), headers)
            case "http.response.body":
                body: Buffer = message.get("body", b"")
                more = message.get("more_body", False)
                is_followed = more and message.get("isocenter.is_followed", False)
                await self._send(body, more=more, is_followed=is_followed)
            case "http.response.zerocopysend":
                await self._send_file(message)
            case "isocenter.response":
                await self._send_whole(message["status"], message["headers"], message["pieces"])
            case other:
                raise RuntimeError(f"{other} is no message for a response")

    async def upgrade(self, headers: RawHeaders) -> WebSocket:
        """In place of a response: go on as a WebSocket, of a request that wants it."""
        if self.is_started or not self.head.wants_websocket:
            raise RuntimeError("this request does not become a WebSocket")
        self.is_started = self.is_ended = True
        return await self._carrier.switch(headers)

    async def fail(self, status: int) -> None:
        """Answer in place of the application, when nothing of its answer has left yet."""
        if self.is_started or self.is_ended:
            return
        self._start = (status, [(b"content-length", b"0")])
        await self._send(b"", more=False)

    def _begun(self) -> list[Output]:
        if self.is_ended:
            raise RuntimeError("the response is complete")
        if self.is_started:
            return []
        if self._start is None:
            raise RuntimeError("a response begins with its status")
        self.is_started = True
        return self._carrier.protocol.begin_response(self.stream, *self._start)

    async def _send(self, body: Output, *, more: bool, is_followed: bool = False) -> None:
        protocol = self._carrier.protocol
        # What was framed has to be written, or the peer loses count of what it is told (HPACK).
        await trio.lowlevel.checkpoint_if_cancelled()
        outputs = self._begun() or self._held
        self._held = []
        left: Output = body
        while len(left):
            room = protocol.room(self.stream)
            if not room:
                if outputs:
                    await self._write(outputs)
                    outputs = []
                await self._carrier.until_room()
                await trio.lowlevel.checkpoint_if_cancelled()
                continue
            piece: Output
            if len(left) <= room:
                piece, left = left, b""
            else:
                assert not isinstance(left, FileRegion)
                view = memoryview(left)
                piece, left = view[:room], view[room:]
            outputs += protocol.response_data(self.stream, piece)
        if not more:
            outputs += protocol.end_response(self.stream)
            self.is_ended = True
            self._over.set()
        # The frames of HTTP/2 leave in the order in which they were made, over all exchanges.
        if is_followed and self._carrier.sends_files:
            self._held = outputs
            return
        await self._write(outputs)
        if more:
            await trio.lowlevel.checkpoint()  # a long response starves nobody

    async def _send_whole(
        self, status: int, headers: list[tuple[bytes, bytes]], pieces: Sequence[Output]
    ) -> None:
        if self._start is not None or self.is_started:
            raise RuntimeError("a response begins once")
        self._start = (status, headers)
        protocol = self._carrier.protocol
        if not isinstance(protocol, Http1):
            raise RuntimeError("what the peer takes decides how a response of HTTP/2 is cut")
        await trio.lowlevel.checkpoint_if_cancelled()
        outputs = self._begun()
        outputs += protocol.response_body(self.stream, pieces)
        outputs += protocol.end_response(self.stream)
        self.is_ended = True
        self._over.set()
        await self._write(outputs)

    async def _send_file(self, message: Message) -> None:
        descriptor, offset = int(message["file"]), int(message.get("offset", 0))
        count, more = int(message["count"]), bool(message.get("more_body", False))
        if self._carrier.sends_files or self.head.method == "HEAD":
            is_followed = more and message.get("isocenter.is_followed", False)
            region = FileRegion(descriptor, offset, count)
            await self._send(region, more=more, is_followed=is_followed)
            return
        while count:
            data = await read_region(descriptor, offset, min(count, _FILE_PIECE))
            offset, count = offset + len(data), count - len(data)
            await self._send(data, more=more or count > 0)
