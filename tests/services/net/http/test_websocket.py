"""WebSockets: frames as RFC 6455 has them, and a public client that speaks with a handler."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
import trio
import trio.testing
import trio_websocket
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.net.http.application import RoutedApplication
from isocenter.services.net.http.limits import HttpLimits
from isocenter.services.net.http.messages import HttpError, Request, Response, Upgrade
from isocenter.services.net.http.routing import Route, RouteTable
from isocenter.services.net.http.server import HttpServer
from isocenter.services.net.http.socket_session import SocketLimits, WebSocket, WebSocketClosed
from isocenter.services.net.http.websocket import (
    CloseCode,
    MessageReceived,
    PongReceived,
    SocketClosed,
    WebSocketProtocol,
)
from isocenter.services.net.listeners import ListenAddress, open_listener

#: trio-websocket leaves its socket to the garbage collector when the server closes first.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, reserved: int = 0
) -> bytes:
    """A frame of a client, or what a client should not send."""
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([bit | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", len(payload))
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack(">H", code) + reason)


def told(*pieces: bytes, most: int = 1_000) -> tuple[list[Any], bytes]:
    protocol = WebSocketProtocol(most)
    events: list[Any] = []
    for piece in pieces:
        events += protocol.receive(piece)
    return events, protocol.take_output()


def test_messages_whole_and_in_pieces() -> None:
    events, output = told(
        frame(TEXT, "größer".encode()),
        frame(BINARY, b"\0\1"),
        frame(TEXT, b"in ", fin=False) + frame(PING, b"x") + frame(0, b"pie", fin=False),
        frame(0, b"ces"),
        frame(PONG),
        frame(TEXT),
    )
    assert events == [
        MessageReceived("größer"),
        MessageReceived(b"\0\1"),
        MessageReceived("in pieces"),
        PongReceived(),
        MessageReceived(""),
    ]
    assert output == bytes([0x80 | PONG, 1]) + b"x"


def test_only_the_last_ping_is_answered() -> None:
    _, output = told(b"".join(frame(PING, b"%d" % number) for number in range(100)))
    assert output == bytes([0x80 | PONG, 2]) + b"99"


def test_a_close_frame_is_answered() -> None:
    events, output = told(close(1001, b"bye"), frame(TEXT, b"late"))
    assert events == [SocketClosed(1001, "bye")]
    assert output[:4] == bytes([0x80 | CLOSE, 5]) + struct.pack(">H", 1001)
    events, output = told(frame(CLOSE))
    assert events == [SocketClosed(CloseCode.NONE)]
    assert output == bytes([0x80 | CLOSE, 0])


FAULTS = {
    "5.1 a frame that is not masked": (1002, frame(TEXT, b"x", masked=False)),
    "5.2 a reserved bit": (1002, frame(TEXT, b"x", reserved=4)),
    "5.2 an unknown opcode": (1002, frame(3, b"x")),
    "5.2 an unknown control opcode": (1002, frame(11, b"")),
    "5.2 a length of 64 bits that is shorter": (
        1002, bytes([0x82, 0xFF]) + struct.pack(">Q", 5) + bytes(9)),
    "5.2 a length of 16 bits that is shorter": (
        1002, bytes([0x82, 0xFE]) + struct.pack(">H", 5) + bytes(9)),
    "5.2 a length beyond 2^63": (1002, bytes([0x82, 0xFF]) + b"\xff" * 8 + bytes(4)),
    "5.4 a message within a message": (1002, frame(TEXT, b"a", fin=False) + frame(TEXT, b"b")),
    "5.4 a piece of no message": (1002, frame(0, b"x")),
    "5.5 a control frame of 126 bytes": (1002, frame(PING, bytes(126))),
    "5.5 a control frame in pieces": (1002, frame(PING, b"x", fin=False)),
    "5.5.1 a close code of one byte": (1002, frame(CLOSE, b"x")),
    "7.4 close code 999": (1002, close(999)),
    "7.4 close code 1004": (1002, close(1004)),
    "7.4 close code 1005": (1002, close(1005)),
    "7.4 close code 1006": (1002, close(1006)),
    "7.4 close code 1016": (1002, close(1016)),
    "7.4 close code 2999": (1002, close(2999)),
    "8.1 text that is no UTF-8": (1007, frame(TEXT, b"\xff\xfe")),
    "8.1 text cut within a character": (1007, frame(TEXT, "ö".encode()[:1])),
    "8.1 a surrogate": (1007, frame(TEXT, b"\xed\xa0\x80")),
    "8.1 a reason that is no UTF-8": (1007, close(1000, b"\xff")),
    "a message too long": (1009, frame(BINARY, bytes(1_001))),
    "a message too long in pieces": (1009, frame(BINARY, bytes(900), fin=False)
                                     + frame(0, bytes(101), fin=False)),
    "very many empty pieces": (1009, frame(TEXT, fin=False) + frame(0, fin=False) * 1_001),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str) -> None:
    code, said = FAULTS[name]
    for every in (len(said), 1):
        pieces = [said[start : start + every] for start in range(0, len(said), every)]
        events, output = told(*pieces)
        last = events[-1]
        assert isinstance(last, SocketClosed)
        assert (last.code, last.is_fault) == (code, True)
        assert output[0] == 0x80 | CLOSE
        assert struct.unpack(">H", output[2:4]) == (code,)


@given(st.binary(max_size=300), st.integers(1, 40))
def test_any_bytes_end_in_messages_or_one_end(data: bytes, every: int) -> None:
    pieces = [data[start : start + every] for start in range(0, len(data), every)]
    events, _ = told(*pieces, b"")
    ends = [one for one in events if isinstance(one, SocketClosed)]
    assert ends == events[-1:]


# -- A server -----------------------------------------------------------------------------


def route(serve: Callable[[WebSocket], Awaitable[None]], **more: Any) -> Route[Any]:
    async def handle(request: Request) -> Response:
        return Upgrade(serve=serve, **more)

    return Route(method="GET", path="/events", handler=handle, text="")


@asynccontextmanager
async def serving(
    serve: Callable[[WebSocket], Awaitable[None]],
    *,
    limits: SocketLimits = SocketLimits(),  # noqa: B008 - it is frozen
    subprotocol: str = "",
    **options: Any,
) -> AsyncIterator[tuple[str, HttpServer]]:
    table = RouteTable([route(serve, subprotocol=subprotocol)])
    bind = ListenAddress(host="127.0.0.1", port=0)
    listeners = open_listener(bind)
    server = HttpServer(RoutedApplication(table, **options), HttpLimits(sockets=limits))
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run, [(sock, bind) for sock in listeners])
            yield f"127.0.0.1:{listeners[0].getsockname()[1]}/events", server
            nursery.cancel_scope.cancel()
    finally:
        for sock in listeners:
            sock.close()


async def echo(socket: WebSocket) -> None:
    while True:
        await socket.send(await socket.receive())


async def until_no_connections(server: HttpServer) -> None:
    while server.connections:
        await server._changed.wait()


async def test_a_public_client() -> None:
    async with serving(echo) as (place, server):
        async with trio_websocket.open_websocket_url(f"ws://{place}") as client:
            for message in ("text", "größer", b"\0\xff" * 20_000, "", "a" * 60_000):
                await client.send_message(message)
                assert await client.get_message() == message
            await client.ping(b"are you there")
        assert client.closed is not None
        assert client.closed.code == 1000
        await until_no_connections(server)


async def test_many_at_once() -> None:
    async def one(place: str, number: int) -> None:
        async with trio_websocket.open_websocket_url(f"ws://{place}") as client:
            for turn in range(20):
                await client.send_message(f"{number} {turn}")
                assert await client.get_message() == f"{number} {turn}"

    async with serving(echo) as (place, server):
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, place, number)
        await until_no_connections(server)


async def test_the_handler_ends_it() -> None:
    async def say(socket: WebSocket) -> None:
        await socket.send("only this")

    async with serving(say) as (place, server):
        async with trio_websocket.open_websocket_url(f"ws://{place}") as client:
            assert await client.get_message() == "only this"
            with pytest.raises(trio_websocket.ConnectionClosed) as caught:
                await client.get_message()
        await until_no_connections(server)
    assert caught.value.reason.code == 1000


async def test_a_handler_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(socket: WebSocket) -> None:
        await socket.receive()
        raise ValueError("of ours")

    async with serving(fail) as (place, server):
        async with trio_websocket.open_websocket_url(f"ws://{place}") as client:
            await client.send_message("x")
            with pytest.raises(trio_websocket.ConnectionClosed) as caught:
                await client.get_message()
        await until_no_connections(server)
    assert caught.value.reason.code == 1011
    assert "failed as a WebSocket" in caplog.text


async def test_a_message_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isocenter.services.net.http.connection._LINGER_SECONDS", 2.0)
    async with serving(echo, limits=SocketLimits(message_bytes=1_000)) as (place, server):
        async with trio_websocket.open_websocket_url(f"ws://{place}") as client:
            await client.send_message("a" * 1_001)
            with pytest.raises(trio_websocket.ConnectionClosed) as caught:
                await client.get_message()
        await until_no_connections(server)
    assert caught.value.reason.code == 1009


async def test_the_server_goes(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(echo) as (place, server):
        async with trio_websocket.open_websocket_url(f"ws://{place}") as client:
            await client.send_message("x")
            await client.get_message()
            server.stop()
            with pytest.raises(trio_websocket.ConnectionClosed) as caught:
                await client.get_message()
            assert caught.value.reason.code == 1001
        await until_no_connections(server)


async def test_who_may_not_any_more_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isocenter.services.net.http.application._LOOK_SECONDS", 0.0)
    allowed = True

    async def is_allowed(request: Request) -> bool:
        await trio.lowlevel.checkpoint()
        return allowed

    async with serving(echo, is_allowed_still=is_allowed) as (place, server):
        async with trio_websocket.open_websocket_url(f"ws://{place}") as client:
            await client.send_message("x")
            assert await client.get_message() == "x"
            allowed = False
            with pytest.raises(trio_websocket.ConnectionClosed) as caught:
                await client.get_message()
        await until_no_connections(server)
    assert caught.value.reason.code == 1008


async def test_a_subprotocol() -> None:
    offered = ["dicom", "other"]
    async with serving(echo, subprotocol="dicom") as (place, server):
        async with trio_websocket.open_websocket_url(
            f"ws://{place}", subprotocols=offered
        ) as client:
            assert client.subprotocol == "dicom"
        await until_no_connections(server)


async def test_who_may_not_is_refused_before_the_handshake() -> None:
    async def nobody(request: Request, route: Route[Any]) -> None:
        raise HttpError(401, "NOT_SIGNED_IN", "show a token")

    async with serving(echo, authorize=nobody) as (place, _):
        with pytest.raises(trio_websocket.ConnectionRejected) as caught:
            async with trio_websocket.open_websocket_url(f"ws://{place}"):
                raise AssertionError("it was let in")
    assert caught.value.status_code == 401


HANDSHAKE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"upgrade": None, "connection": None}, 426, "UPGRADE_REQUIRED"),
        ({"upgrade": "h2c"}, 426, "UPGRADE_REQUIRED"),
        ({"connection": "keep-alive"}, 426, "UPGRADE_REQUIRED"),
        ({"sec-websocket-version": "8"}, 426, "WRONG_VERSION"),
        ({"sec-websocket-version": None}, 426, "WRONG_VERSION"),
        ({"sec-websocket-key": None}, 400, "BAD_HANDSHAKE"),
        ({"sec-websocket-key": "short"}, 400, "BAD_HANDSHAKE"),
        ({"sec-websocket-key": "AAAA"}, 400, "BAD_HANDSHAKE"),
    ],
)
async def test_what_is_no_handshake(changes: dict[str, str | None], status: int, code: str) -> None:
    headers = {name: value for name, value in (HANDSHAKE | changes).items() if value is not None}
    async with serving(echo) as (place, _), httpx.AsyncClient(timeout=60) as client:
        answer = await client.get(f"http://{place}", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        # The connection goes on.
        assert (await client.get(f"http://{place}/nowhere")).status_code == 404


# -- A driver whose clock jumps -----------------------------------------------------------


class Wire:
    """What a socket writes; can be blocked."""

    def __init__(self) -> None:
        self.written = b""
        self.may_write = trio.Event()
        self.may_write.set()
        self.resumed = 0

    async def write(self, data: bytes) -> None:
        await self.may_write.wait()
        self.written += data

    def resume(self) -> None:
        self.resumed += 1

    def socket(self, **limits: float) -> WebSocket:
        return WebSocket(self.write, self.resume, replace(SocketLimits(), **limits))  # type: ignore[arg-type]


async def test_who_is_silent_is_asked_and_then_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    wire = Wire()
    socket = wire.socket()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.run)
        with pytest.raises(WebSocketClosed) as caught:
            await socket.receive()
    assert caught.value.code == CloseCode.ABNORMAL
    assert wire.written == bytes([0x80 | PING, 0])
    assert trio.current_time() - began == 2 * SocketLimits().ping_seconds


async def test_who_answers_stays(autojump_clock: trio.testing.MockClock) -> None:
    wire = Wire()
    socket = wire.socket()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.run)
        for _ in range(10):
            await trio.sleep(SocketLimits().ping_seconds + 1)
            socket.feed(frame(PONG))
        assert not socket.is_closed
        nursery.cancel_scope.cancel()
    assert wire.written == bytes([0x80 | PING, 0]) * 10


async def test_what_nobody_asks_for_is_not_read_on() -> None:
    wire = Wire()
    socket = wire.socket()
    for _ in range(4):
        assert not socket.is_full
        socket.feed(frame(BINARY, bytes(65_536)))
    assert socket.is_full
    assert await socket.receive() == bytes(65_536)
    assert not socket.is_full
    assert wire.resumed == 1


async def test_sending_waits_while_nothing_is_taken() -> None:
    wire = Wire()
    socket = wire.socket()
    wire.may_write = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.send, "x")
        await trio.testing.wait_all_tasks_blocked()
        assert wire.written == b""
        wire.may_write.set()
    assert wire.written == bytes([0x80 | TEXT, 1]) + b"x"


async def test_who_does_not_close_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    wire = Wire()
    socket = wire.socket()
    began = trio.current_time()
    await socket.close(1001)
    assert trio.current_time() - began == SocketLimits().close_seconds
    with pytest.raises(WebSocketClosed):
        await socket.send("x")
    with pytest.raises(WebSocketClosed):
        await socket.receive()


async def test_what_was_sent_before_the_end_is_still_given() -> None:
    wire = Wire()
    socket = wire.socket()
    socket.feed(frame(TEXT, b"last") + close(1000))
    assert await socket.receive() == "last"
    with pytest.raises(WebSocketClosed) as caught:
        await socket.receive()
    assert caught.value.code == 1000


async def test_a_handler_that_waits_for_something_else_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("isocenter.services.net.http.application._LAST_SECONDS", 0.0)
    ended = trio.Event()

    async def wait(socket: WebSocket) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with serving(wait) as (place, server):
        async with trio_websocket.open_websocket_url(f"ws://{place}") as client:
            await client.ping()
        await until_no_connections(server)
        await ended.wait()
