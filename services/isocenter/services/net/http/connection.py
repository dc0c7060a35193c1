"""Driver of one HTTP connection: bytes to its protocol, requests to the application.

Each request is a task.  When its peer goes, or resets the stream, the task is cancelled: nobody
works for somebody who does not listen.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

import orjson
import trio

from isocenter.engine.buffers import Buffer
from isocenter.services.concurrency import Broadcast, FairLock
from isocenter.services.net.file_regions import SendsFiles, read_region
from isocenter.services.net.http.exchange import (
    WHOLE_RESPONSE,
    Application,
    BodyTimeoutError,
    Exchange,
    Scope,
)
from isocenter.services.net.http.http1 import Http1
from isocenter.services.net.http.http2 import Http2
from isocenter.services.net.http.limits import HttpLimits
from isocenter.services.net.http.protocol import (
    MOST_HEADER_BYTES,
    BodyReceived,
    ConnectionEnded,
    FileRegion,
    HttpEvent,
    HttpProtocol,
    Output,
    ProtocolViolated,
    RawHeaders,
    RequestEnded,
    RequestStarted,
    StreamReset,
    WindowOpened,
)
from isocenter.services.net.http.socket_session import WebSocket
from isocenter.services.net.http.websocket import CloseCode
from isocenter.services.net.peer_identity import PeerIdentity
from isocenter.services.net.transport import Transport

log = logging.getLogger("isocenter.http")

#: What `HttpLimits.send_seconds` is for.
_SEND_STEP: Final = 256 << 10
#: Of a file that has to be read to be sent.
_FILE_PIECE: Final = 256 << 10
#: Of requests that come behind one that is not answered yet (HTTP/1.1 pipelining).
_MOST_BEHIND: Final = 64 << 10
#: Of HTTP/2, so much is read without a turn for others: some hundred requests at the most.
_HTTP2_STEP: Final = 4 << 10
#: What is still read of a request that was answered before its end, so that the peer, which
#: goes on sending, sees the answer and no reset connection.
_LINGER_BYTES: Final = 16 << 20
_LINGER_SECONDS: Final = 2.0
#: What is said of requests that are none: codes and messages.
_BAD_REQUEST: Final = (
    "BAD_REQUEST",
    "this is no HTTP request, or may be understood in two ways",
)
_REFUSALS: Final = {
    431: ("HEAD_TOO_LARGE", f"target and fields may have {MOST_HEADER_BYTES:,} bytes"),
    501: ("NOT_IMPLEMENTED", "the only transfer coding is chunked"),
    505: ("WRONG_VERSION", "ask by HTTP/1.1 or HTTP/2"),
}


class HttpConnection:
    """One connection from its first byte on.

    Args:
        scope: what of an ASGI scope is the same for all requests of the connection.
        is_http2: what was agreed upon (ALPN).
        on_limit: told which bound was reached.
    """

    def __init__(
        self,
        transport: Transport,
        application: Application,
        limits: HttpLimits,
        scope: Scope,
        *,
        is_http2: bool = False,
        on_limit: Callable[[str], None] = lambda limit: None,
    ) -> None:
        self._on_limit = on_limit
        self.protocol: HttpProtocol = Http2(scope["scheme"]) if is_http2 else Http1()
        self._transport = transport
        self._sends_files = transport if isinstance(transport, SendsFiles) else None
        self._application = application
        self._limits = limits
        self._scope = scope
        if not is_http2:
            self._scope = {**scope, "extensions": {**scope["extensions"], WHOLE_RESPONSE: {}}}
        self._exchanges: dict[int, Exchange] = {}
        self._sending = FairLock()
        self._window = Broadcast()
        self._wanted = Broadcast()
        self._reading = trio.CancelScope()
        self._all = trio.CancelScope()
        self._is_new = True
        self._is_going = False
        self._is_refused = False
        self._lingers = False
        self._socket: WebSocket | None = None
        self._nursery: trio.Nursery
        #: When nothing was under way for the last time; while something is, far ahead.
        self.idle_since = trio.current_time()

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return bool(self._exchanges)

    @property
    def sends_files(self) -> bool:
        return isinstance(self.protocol, Http1)

    def close(self) -> None:
        """Give it up, with what is under way."""
        self._all.cancel()

    async def leave(self) -> None:
        """Take no more requests; it ends with those that are under way."""
        self._is_going = True
        outputs = self.protocol.go_away()
        if self._socket is not None:
            await self._socket.close(CloseCode.GOING_AWAY)
        elif not self._exchanges:
            self._reading.cancel()
        elif outputs:
            await self.write(outputs)

    async def run(self) -> None:
        """Until it has ended, either side may have begun."""
        try:
            with self._all:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    with self._reading:
                        await self._read()
                    if self._reading.cancelled_caught and self._is_late:
                        self._on_limit("head_seconds")
                    nursery.cancel_scope.cancel()
        except* trio.BrokenResourceError:
            pass  # the peer has gone while something was said to it

    # Reading.

    async def _read(self) -> None:
        await self.write([])  # the settings of HTTP/2
        self._reading.deadline = trio.current_time() + self._limits.head_seconds
        lingered = 0
        while True:
            was_mid_head = self.protocol.is_mid_head
            data = await self._transport.receive()
            if self._lingers:
                lingered += len(data)
                if not data or lingered > _LINGER_BYTES:
                    return
                continue
            if self._socket is not None:
                self._socket.feed(data)
                if not data:
                    return
                while self._socket.is_full:
                    await self._wanted.wait()
                continue
            await self._take(data)
            if not self._exchanges and self.protocol.is_mid_head and not was_mid_head:
                self._reading.deadline = trio.current_time() + self._limits.head_seconds
            if not data:
                return
            await self.write([])
            while self._must_wait():
                await self._wanted.wait()

    async def _take(self, data: Buffer) -> None:
        """Have the protocol read what came; of HTTP/2, where a thousand requests go into a few
        packets, with turns for others in between."""
        step = _HTTP2_STEP if isinstance(self.protocol, Http2) else len(data)
        view = memoryview(data)
        self._handle(self.protocol.receive(view[:step]))
        for start in range(step, len(view), max(step, 1)):
            await trio.lowlevel.checkpoint()
            self._handle(self.protocol.receive(view[start : start + step]))

    def _must_wait(self) -> bool:
        """Whether what has come is enough for now.  The windows of HTTP/2 see to that there."""
        if not isinstance(self.protocol, Http1):
            return False
        for exchange in self._exchanges.values():
            return exchange.is_full or (
                exchange.has_whole_body and self.protocol.waiting > _MOST_BEHIND
            )
        return False

    def _handle(self, events: list[HttpEvent]) -> None:
        for event in events:
            match event:
                case RequestStarted(stream, head):
                    self._is_new = False
                    exchange = Exchange(self, stream, head, self._limits.body_seconds)
                    self._exchanges[stream] = exchange
                    self.idle_since = self._reading.deadline = math.inf
                    self._nursery.start_soon(self._perform, exchange)
                case BodyReceived(stream, data, credit):
                    if stream in self._exchanges:
                        self._exchanges[stream].body_arrived(data, credit)
                    else:
                        self.protocol.consumed(stream, credit)
                case RequestEnded(stream):
                    if stream in self._exchanges:
                        self._exchanges[stream].body_ended()
                case StreamReset(stream):
                    if stream in self._exchanges:
                        self._exchanges[stream].give_up()
                    self._window.send()
                case WindowOpened():
                    self._window.send()
                case ProtocolViolated(status, detail):
                    log.info("%s: %s", self._transport.peer_address, detail)
                    self._is_refused = True  # from now on nobody else closes
                    self._nursery.start_soon(self._refuse, status)
                case ConnectionEnded():
                    self._nursery.cancel_scope.cancel()

    async def _refuse(self, status: int) -> None:
        """Say what is wrong with what came, where that can be said, and close."""
        for exchange in self._exchanges.values():
            exchange.give_up()  # within a write it may have what is to be said here
        # Since it was found, an answer may have begun: two in one another are none.
        has_begun = any(exchange.is_started for exchange in self._exchanges.values())
        if status and not has_begun:
            name = secrets.token_hex(8)
            log.info("%s: request %s was refused: %d", self._transport.peer_address, name, status)
            code, message = _REFUSALS.get(status, _BAD_REQUEST)
            error = {"code": code, "message": message, "request": name}
            body = orjson.dumps({"error": error})
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
                (b"x-request-id", name.encode("ascii")),
            ]
            outputs = self.protocol.begin_response(1, status, headers)
            await self.write([*outputs, *self.protocol.response_data(1, body)])
        else:
            await self.write([])  # HTTP/2 has its reason ready
        self._linger()

    # Requests.

    async def _perform(self, exchange: Exchange) -> None:
        with exchange.scope:
            try:
                await self._application(self._scope_of(exchange), exchange.receive, exchange.send)
            except BodyTimeoutError as error:
                self._on_limit("body_seconds")
                log.info("%s: %s", self._transport.peer_address, error)
                await exchange.fail(408)
            except trio.BrokenResourceError:
                pass  # the peer has gone
            except Exception:
                log.exception("a request failed")
                await exchange.fail(500)
            if not exchange.is_ended:
                await exchange.fail(500)
        await self._finish(exchange)

    async def _finish(self, exchange: Exchange) -> None:
        exchange.discard_body()
        if not exchange.is_ended:
            await self.write(self.protocol.reset(exchange.stream))
        del self._exchanges[exchange.stream]
        if self._is_refused:
            return  # whoever refuses closes, too
        if not self._exchanges:
            self.idle_since = trio.current_time()
            self._reading.deadline = self.idle_since + self._limits.idle_seconds
        if self._socket is not None and self._socket.is_finished:
            self._reading.cancel()
        elif self._socket is not None or (
            exchange.is_ended and not exchange.has_whole_body and isinstance(self.protocol, Http1)
        ):
            self._linger()
        elif self.protocol.may_be_kept:
            self._handle(self.protocol.next_request())
            self._wanted.send()
        elif not self._exchanges:
            self._reading.cancel()

    def _linger(self) -> None:
        """Drop what still comes for a while and close then: a connection that is closed with bytes
        unread is reset, and the peer may lose the answer."""
        self._lingers = True
        self._reading.deadline = trio.current_time() + _LINGER_SECONDS
        self._wanted.send()

    def _scope_of(self, exchange: Exchange) -> Scope:
        head = exchange.head
        path, _, query = head.target.partition(b"?")
        return {
            **self._scope,
            "http_version": head.version,
            "method": head.method,
            "path": _unquoted(path),
            "raw_path": path,
            "query_string": query,
            "headers": head.headers,
            "isocenter.authority": head.authority,
            "isocenter.upgrade": exchange.upgrade if head.wants_websocket else None,
        }

    async def switch(self, headers: RawHeaders) -> WebSocket:
        """Go on as a WebSocket: what comes from here on are its frames."""
        assert isinstance(self.protocol, Http1)
        outputs, behind = self.protocol.switch(headers)
        self._socket = WebSocket(self._write_frames, self.resume_reading, self._limits.sockets)
        await self.write(outputs)
        if behind:
            self._socket.feed(behind)
        self._nursery.start_soon(self._socket.run)
        return self._socket

    async def _write_frames(self, data: bytes) -> None:
        await self.write([data])

    def resume_reading(self) -> None:
        self._wanted.send()

    # Writing.

    async def until_room(self) -> None:
        """Wait for a window; who opens none in time is given up."""
        with trio.move_on_after(self._limits.send_seconds) as scope:
            await self._window.wait()
        if scope.cancelled_caught:
            self._give_up()
            await trio.sleep_forever()

    async def write(self, outputs: list[Output]) -> None:
        """Write this, after what the protocol has to say by itself.

        Raises:
            trio.BrokenResourceError: the peer has gone.
        """
        if not outputs:  # what is taken from here on is written: nobody else would
            await trio.lowlevel.checkpoint_if_cancelled()
        own = self.protocol.take_output()
        if own:
            outputs = [own, *outputs]
        if not outputs:
            return
        left: Sequence[Buffer] = ()
        if not self._sending.is_taken:
            try:
                left, outputs = self._write_now(outputs)
            except BrokenPipeError as error:
                raise self._lost() from error
            if not left and not outputs:
                return
        async with self._sending:
            scope = trio.CancelScope()  # it has a deadline while the peer is waited for
            with scope:
                await self._send_rest(left, scope)
                await self._write(outputs, scope)
        if scope.cancelled_caught:
            self._give_up()
            await trio.sleep_forever()

    def _write_now(self, outputs: list[Output]) -> tuple[Sequence[Buffer], list[Output]]:
        """Write what can leave without waiting: nearly all answers can as a whole.

        Returns:
            What the transport has begun upon, to be given to its `send`, and what comes then.

        Raises:
            BrokenPipeError: the connection is gone.
        """
        waiting: list[Buffer] = []
        size = 0
        for place, output in enumerate(outputs):
            if not isinstance(output, FileRegion):
                size += len(output)
                if size > _SEND_STEP:
                    return (), [*waiting, *outputs[place:]]
                if len(output):
                    waiting.append(output)
                continue
            if self._sends_files is None:
                return (), [*waiting, *outputs[place:]]
            left = self._transport.send_now(waiting, output.length > 0) if waiting else ()
            if left:
                return left, outputs[place:]
            waiting, size = [], 0
            sent = self._sends_files.send_file_now(output.descriptor, output.offset, output.length)
            if sent < output.length:
                rest = FileRegion(output.descriptor, output.offset + sent, output.length - sent)
                return (), [rest, *outputs[place + 1 :]]
        return (self._transport.send_now(waiting) if waiting else ()), []

    async def _write(self, outputs: list[Output], scope: trio.CancelScope) -> None:
        waiting: list[Buffer] = []
        size = 0
        for output in outputs:
            if isinstance(output, FileRegion):
                await self._send(waiting, scope, is_followed=len(output) > 0)
                waiting, size = [], 0
                await self._send_region(output, scope)
                continue
            view = memoryview(output)
            for start in range(0, len(view), _SEND_STEP):
                piece = view[start : start + _SEND_STEP]
                if size and size + len(piece) > _SEND_STEP:
                    await self._send(waiting, scope)
                    waiting, size = [], 0
                waiting.append(piece)
                size += len(piece)
        await self._send(waiting, scope)

    async def _send(
        self, buffers: list[Buffer], scope: trio.CancelScope, *, is_followed: bool = False
    ) -> None:
        if not buffers:
            return
        try:
            left = self._transport.send_now(buffers, is_followed)
        except BrokenPipeError as error:
            raise self._lost() from error
        await self._send_rest(left, scope)

    async def _send_rest(self, left: Sequence[Buffer], scope: trio.CancelScope) -> None:
        """What the transport could not write without waiting."""
        if not left:
            return
        scope.deadline = trio.current_time() + self._limits.send_seconds
        try:
            await self._transport.send(left, _nothing)
        except BrokenPipeError as error:
            raise self._lost() from error
        scope.deadline = math.inf

    async def _send_region(self, region: FileRegion, scope: trio.CancelScope) -> None:
        descriptor, offset, end = region.descriptor, region.offset, region.offset + region.length
        seconds = self._limits.send_seconds

        def progress() -> None:
            scope.deadline = trio.current_time() + seconds

        try:
            if self._sends_files is not None:
                progress()
                offset += await self._sends_files.send_file(
                    descriptor, offset, region.length, progress
                )
                scope.deadline = math.inf
            while offset < end:
                data = await read_region(descriptor, offset, min(end - offset, _FILE_PIECE))
                await self._send([data], scope)
                offset += len(data)
        except BrokenPipeError as error:
            raise self._lost() from error
        except OSError:
            # What was announced cannot be sent any more: only a cut says so.
            log.exception("a file that is being sent cannot be read")
            self._all.cancel()
            await trio.sleep_forever()

    @property
    def _is_late(self) -> bool:
        """Whether a head was begun, or awaited first, for longer than may be."""
        return self.protocol.is_mid_head or self._is_new

    def _lost(self) -> trio.BrokenResourceError:
        """The peer has gone: nobody is there to hear the answers that wait behind."""
        self._all.cancel()
        return trio.BrokenResourceError()

    def _give_up(self) -> None:
        self._on_limit("send_seconds")
        log.info("%s: takes nothing any more; closed", self._transport.peer_address)
        self._all.cancel()


_nothing: Callable[[], None] = lambda: None  # noqa: E731


def _unquoted(path: bytes) -> str:
    return (unquote_to_bytes(path) if b"%" in path else path).decode("utf-8", "surrogateescape")


def connection_scope(
    *, is_tls: bool, client: tuple[str, int], server: tuple[str, int], identity: PeerIdentity | None
) -> Scope:
    """What of an ASGI scope is the same for all requests of a connection.

    ``isocenter.identity`` is whose client certificate was verified; None: there is none.
    """
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "scheme": "https" if is_tls else "http",
        "root_path": "",
        "client": client,
        "server": server,
        "state": {},
        "extensions": {"http.response.zerocopysend": {}},
        "isocenter.identity": identity,
    }
