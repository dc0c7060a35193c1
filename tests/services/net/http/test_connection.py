"""One HTTP connection: requests in any shape, peers that stop, and what is left of them."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import pytest
import trio
import trio.testing
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset

from isocenter.engine.buffers import Buffer
from isocenter.services.net.http.connection import HttpConnection, connection_scope
from isocenter.services.net.http.exchange import MOST_BUFFERED, Application, Receive, Scope, Send
from isocenter.services.net.http.limits import HttpLimits
from isocenter.services.net.transport import StreamTransport

LIMITS = HttpLimits()


@asynccontextmanager
async def conversing(
    application: Application, limits: HttpLimits = LIMITS, *, is_http2: bool = False
) -> AsyncIterator[tuple[trio.StapledStream, HttpConnection]]:
    """A client's end of a connection, in memory."""
    client, server = trio.testing.memory_stream_pair()
    scope = connection_scope(
        is_tls=is_http2, client=("127.0.0.1", 1), server=("127.0.0.1", 2), identity=None
    )
    connection = HttpConnection(
        StreamTransport(server, "client"), application, limits, scope, is_http2=is_http2
    )
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await connection.run()
            await server.aclose()

        nursery.start_soon(run)
        yield client, connection
        nursery.cancel_scope.cancel()


async def all_of(stream: trio.abc.ReceiveStream) -> bytes:
    """What comes until the other side closes."""
    received = b""
    try:
        async for chunk in stream:
            received += chunk
    except trio.BrokenResourceError:
        pass
    return received


def responses_of(data: bytes, *methods: str) -> list[tuple[int, bytes]]:
    """The responses in it, as h11 reads them."""
    client = h11.Connection(h11.CLIENT)
    client.receive_data(data)
    client.receive_data(b"")
    found: list[tuple[int, bytes]] = []
    for method in methods:
        client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response):
                found.append((event.status_code, b""))
            elif isinstance(event, h11.Data):
                found[-1] = (found[-1][0], found[-1][1] + bytes(event.data))
            elif not isinstance(event, h11.InformationalResponse):
                break
        if (client.our_state, client.their_state) != (h11.DONE, h11.DONE):
            break
        client.start_next_cycle()
    return found


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends back method, path and body."""
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            break
    said = f"{scope['method']} {scope['path']} ".encode() + body
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-y", b"z")]})
    await send({"type": "http.response.body", "body": said})


GET = b"GET /a%20b?c HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def test_requests_one_behind_the_other() -> None:
    async with conversing(echo) as (client, _):
        await client.send_all(
            GET
            + b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"
            + b"PUT /q HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"2\r\ntw\r\n1;x=y\r\no\r\n0\r\nT: z\r\n\r\n"
            + LAST
        )
        found = responses_of(await all_of(client), "GET", "POST", "PUT", "GET")
    bodies = [b"GET /a b ", b"POST /p one", b"PUT /q two", b"GET /last "]
    assert found == [(200, body) for body in bodies]


async def test_requests_that_wait_are_not_held_without_bound() -> None:
    answered = 0
    enough = trio.Event()

    async def some(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal answered
        answered += 1
        if answered == 200:
            enough.set()
            await trio.sleep_forever()
        await echo(scope, receive, send)

    class Endless(StreamTransport):
        given = 0

        async def receive(self) -> bytes:
            await trio.lowlevel.checkpoint()
            requests = GET * 1_000
            self.given += len(requests)
            return requests

    _, server = trio.testing.memory_stream_pair()
    scope = connection_scope(is_tls=False, client=("x", 1), server=("y", 2), identity=None)
    transport = Endless(server, "client")
    connection = HttpConnection(transport, some, LIMITS, scope)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        await enough.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert transport.given < 256 << 10
        nursery.cancel_scope.cancel()


async def test_who_has_gone_gets_none_of_what_waits_behind() -> None:
    class Gone(StreamTransport):
        async def send(self, buffers: Sequence[Buffer], progress: Callable[[], None]) -> None:
            raise BrokenPipeError

        def send_now(self, buffers: Sequence[Buffer], is_followed: bool = False) -> Any:
            return buffers

    asked = 0

    async def count(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal asked
        asked += 1
        await echo(scope, receive, send)

    stream, server = trio.testing.memory_stream_pair()
    scope = connection_scope(is_tls=False, client=("x", 1), server=("y", 2), identity=None)
    connection = HttpConnection(Gone(server, "client"), count, LIMITS, scope)
    await stream.send_all(GET * 1_000)
    with trio.fail_after(120):
        await connection.run()
    assert asked <= 2


async def test_who_goes_while_something_is_said_is_no_fault() -> None:
    class Gone(StreamTransport):
        async def send(self, buffers: Sequence[Buffer], progress: Callable[[], None]) -> None:
            raise trio.BrokenResourceError

    stream, server = trio.testing.memory_stream_pair()
    scope = connection_scope(is_tls=True, client=("x", 1), server=("y", 2), identity=None)
    connection = HttpConnection(Gone(server, "client"), echo, LIMITS, scope, is_http2=True)
    await stream.send_all(b"nonsense")
    with trio.fail_after(120):
        await connection.run()


async def test_byte_by_byte() -> None:
    async with conversing(echo) as (client, _):
        for byte in GET + LAST:
            await client.send_all(bytes([byte]))
        assert len(responses_of(await all_of(client), "GET", "GET")) == 2


async def test_http_1_0_is_closed_by_its_end() -> None:
    async with conversing(echo) as (client, _):
        await client.send_all(b"GET / HTTP/1.0\r\n\r\n")
        assert responses_of(await all_of(client), "GET") == [(200, b"GET / ")]


async def test_who_waits_for_100_gets_it_when_the_body_is_wanted() -> None:
    async with conversing(echo) as (client, _):
        await client.send_all(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n"
            b"Connection: close\r\n\r\n"
        )
        assert await client.receive_some() == b"HTTP/1.1 100 \r\n\r\n"
        await client.send_all(b"one")
        assert responses_of(await all_of(client), "POST") == [(200, b"POST / one")]


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 413, "headers": []})
    await send({"type": "http.response.body", "body": b"no"})


async def test_a_body_that_nobody_wants_is_not_asked_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with conversing(refuse) as (client, _):
        await client.send_all(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        )
        answer = await all_of(client)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"Connection: close" in answer


async def test_who_goes_on_sending_sees_the_answer(autojump_clock: trio.testing.MockClock) -> None:
    async with conversing(refuse) as (client, _):
        await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n")
        for _ in range(90):
            await client.send_all(b"x" * 100_000)
        assert responses_of(await all_of(client), "POST") == [(413, b"no")]


POST = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: "
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 505),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (POST + b"5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000, 431),
    ],
)
async def test_what_could_be_understood_twice_is_refused_and_the_connection_ends(
    said: bytes, status: int, autojump_clock: trio.testing.MockClock
) -> None:
    asked: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        await echo(scope, receive, send)

    async with conversing(application) as (client, _):
        await client.send_all(said)
        found = responses_of(await all_of(client), "GET", "GET")
    assert [each for each, _ in found] == [status]
    assert asked == []


async def test_a_malformed_chunk_ends_the_request(autojump_clock: trio.testing.MockClock) -> None:
    async with conversing(echo) as (client, _):
        await client.send_all(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        )
        assert [status for status, _ in responses_of(await all_of(client), "POST")] == [400]


async def test_an_answer_that_began_before_the_refusal_is_the_only_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    begun = trio.Event()

    async def begins(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        begun.set()
        await trio.sleep_forever()

    async with conversing(begins) as (client, connection):
        await client.send_all(GET)
        await begun.wait()
        # Between the look at what came and the refusal other tasks run.
        await connection._refuse(400)
        said = await all_of(client)
    assert said.count(b"HTTP/1.1") == 1


async def test_a_head_that_does_not_come_ends_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for said in (b"", b"GET / HT"):
        began = trio.current_time()
        async with conversing(echo) as (client, _):
            if said:
                await client.send_all(said)
            assert await all_of(client) == b""
        assert trio.current_time() - began == pytest.approx(LIMITS.head_seconds)


async def trickle(stream: trio.abc.SendStream, data: bytes, *, every: float) -> None:
    for byte in data:
        await stream.send_all(bytes([byte]))
        await trio.sleep(every)  # of a clock that jumps


async def test_a_head_that_trickles_has_the_same_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with conversing(echo) as (client, _):
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await trickle(client, GET * 10, every=0.5)
        assert trio.current_time() - began < LIMITS.head_seconds + 1


async def test_an_idle_connection_is_kept_for_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with conversing(echo) as (client, connection):
        await client.send_all(GET)
        await trio.testing.wait_all_tasks_blocked()
        assert not connection.is_busy
        assert b"/a b" in await client.receive_some()
        began = trio.current_time()
        assert await all_of(client) == b""
        assert trio.current_time() - began == pytest.approx(LIMITS.idle_seconds)


async def test_a_body_that_stops_is_answered_by_408(autojump_clock: trio.testing.MockClock) -> None:
    async with conversing(echo) as (client, _):
        await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\none")
        assert responses_of(await all_of(client), "POST") == [(408, b"")]


async def test_a_body_that_trickles_is_answered_by_408(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with conversing(echo) as (client, _):
        began = trio.current_time()
        await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await trickle(client, b"x" * 900, every=1.0)
        assert trio.current_time() - began < LIMITS.body_seconds + 5


async def test_a_body_that_comes_steadily_may_take_its_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with conversing(echo) as (client, _):
        length = 40 * (64 << 10)
        await client.send_all(
            b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            % length
        )
        for _ in range(40):
            await client.send_all(b"x" * (64 << 10))
            await trio.sleep(LIMITS.body_seconds / 2)
        ((status, body),) = responses_of(await all_of(client), "POST")
    assert (status, len(body)) == (200, length + len(b"POST / "))


async def test_a_body_that_nobody_takes_is_held_back() -> None:
    taken = trio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await taken.wait()
        await echo(scope, receive, send)

    sent = 0

    async def send_much(client: trio.abc.SendStream) -> None:
        nonlocal sent
        length = 64 << 20
        await client.send_all(
            b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            % length
        )
        while sent < length:
            await client.send_all(b"x" * (1 << 16))
            await trio.testing.wait_all_tasks_blocked()  # memory takes all at once
            sent += 1 << 16
            if sent == 2 * MOST_BUFFERED:
                return

    async with conversing(wait) as (client, connection):
        await send_much(client)
        (exchange,) = connection._exchanges.values()
        assert exchange._buffered <= MOST_BUFFERED + (1 << 16)


async def test_who_goes_is_not_worked_for() -> None:
    ended = trio.Event()

    async def work(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with conversing(work) as (client, _):
        await client.send_all(GET)
        await trio.testing.wait_all_tasks_blocked()
        await client.aclose()
        await ended.wait()


async def test_who_takes_nothing_is_given_up(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    released = trio.Event()

    async def much(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"x" * 9999, "more_body": True})
        finally:
            released.set()

    class Stuck(StreamTransport):
        async def send(self, buffers: object, progress: object) -> None:
            await trio.sleep_forever()

    client, server = trio.testing.memory_stream_pair()
    scope = connection_scope(is_tls=False, client=("x", 1), server=("y", 2), identity=None)
    connection = HttpConnection(Stuck(server, "client"), much, LIMITS, scope)
    await client.send_all(GET)
    began = trio.current_time()
    await connection.run()
    assert released.is_set()
    assert trio.current_time() - began == pytest.approx(LIMITS.send_seconds)
    assert "takes nothing any more" in caplog.text


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_handler_that_fails(has_begun: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if has_begun:
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("of ours")

    async with conversing(fail) as (client, _):
        await client.send_all(LAST)
        answer = await all_of(client)
    if has_begun:
        # An answer that is not whole does not look like one: its last chunk is missing.
        assert answer.endswith(b"half\r\n")
    else:
        assert responses_of(answer, "GET") == [(500, b"")]
    assert "a request failed" in caplog.text


async def test_a_handler_that_forgets_to_answer() -> None:
    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    async with conversing(nothing) as (client, _):
        await client.send_all(LAST)
        assert responses_of(await all_of(client), "GET") == [(500, b"")]


async def test_it_leaves_after_the_request_under_way() -> None:
    may_end = trio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await may_end.wait()
        await echo(scope, receive, send)

    async with conversing(wait) as (client, connection):
        await client.send_all(GET)
        await trio.testing.wait_all_tasks_blocked()
        await connection.leave()
        await trio.testing.wait_all_tasks_blocked()
        may_end.set()
        answer = await all_of(client)
    assert b"Connection: close" in answer
    assert responses_of(answer, "GET") == [(200, b"GET /a b ")]


# -- HTTP/2 -------------------------------------------------------------------------------


class Client2:
    """A client that speaks HTTP/2, as h2 does."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
        self.stream = stream
        self.headers: dict[int, dict[str, str]] = {}
        self.status: dict[int, str] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.reset: set[int] = set()
        self.gone: int | None = None
        self.h2.initiate_connection()

    async def flush(self) -> None:
        await self.stream.send_all(self.h2.data_to_send())

    def request(self, path: str, *, method: str = "GET", end: bool = True, **more: str) -> int:
        stream: int = self.h2.get_next_available_stream_id()
        fields = {":method": method, ":path": path, ":scheme": "https", ":authority": "x"}
        fields |= {f":{name}": value for name, value in more.items()}
        self.h2.send_headers(stream, list(fields.items()), end_stream=end)
        return stream

    async def read(self, *, acknowledge: bool = True) -> bool:
        """What comes next; False: nothing comes any more."""
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            return False
        if not data:
            return False
        for event in self.h2.receive_data(data):
            match event:
                case ResponseReceived():
                    self.headers[event.stream_id] = dict(event.headers)
                    self.status[event.stream_id] = dict(event.headers)[":status"]
                case DataReceived():
                    body = self.bodies.get(event.stream_id, b"") + event.data
                    self.bodies[event.stream_id] = body
                    if acknowledge:
                        self.h2.acknowledge_received_data(
                            event.flow_controlled_length, event.stream_id
                        )
                case StreamEnded():
                    self.ended.add(event.stream_id)
                case StreamReset():
                    self.reset.add(event.stream_id)
                case ConnectionTerminated():
                    self.gone = event.error_code
        await self.flush()
        return True


async def test_requests_side_by_side_over_http_2() -> None:
    async with conversing(echo, is_http2=True) as (stream, _):
        client = Client2(stream)
        ids = [client.request(f"/{n}") for n in range(20)]
        post = client.request("/p", method="POST", end=False)
        client.h2.send_data(post, b"one", end_stream=True)
        await client.flush()
        while len(client.ended) < 21:
            await client.read()
    assert {client.status[one] for one in ids} == {"200"}
    assert [client.bodies[one] for one in ids] == [b"GET /%d " % n for n in range(20)]
    assert client.bodies[post] == b"POST /p one"


async def test_heads_leave_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    """Each is compressed by those before it (HPACK), of whatever exchange."""
    path = tmp_path / "file"
    path.write_bytes(b"region")

    async def framed(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"x-path", scope["raw_path"] * 20), (b"etag", b"tag" + scope["raw_path"])]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = {"body": b"head ", "more_body": True, "isocenter.is_followed": True}
        await send({"type": "http.response.body", **body})
        await trio.lowlevel.checkpoint()
        with path.open("rb") as file:
            region = {"file": file.fileno(), "offset": 0, "count": 6, "more_body": True}
            await send({"type": "http.response.zerocopysend", **region})
        await send({"type": "http.response.body", "body": b" tail"})

    async with conversing(framed, is_http2=True) as (stream, _):
        client = Client2(stream)
        ids = [client.request(f"/{n % 7}") for n in range(20)]
        await client.flush()
        while len(client.ended) < 20:
            assert await client.read()
    assert {client.bodies[one] for one in ids} == {b"head region tail"}
    assert [client.headers[one]["etag"] for one in ids] == [f"tag/{n % 7}" for n in range(20)]


async def test_bodies_larger_than_any_window() -> None:
    async with conversing(echo, is_http2=True) as (stream, _):
        client = Client2(stream)
        post = client.request("/", method="POST", end=False)
        await client.flush()
        left = 3_000_000
        while left or post not in client.ended:
            room = min(client.h2.local_flow_control_window(post), 16_384, left)
            if room:
                left -= room
                client.h2.send_data(post, b"x" * room, end_stream=not left)
                await client.flush()
            else:
                await client.read()
    assert len(client.bodies[post]) == 3_000_000 + len(b"POST / ")


async def test_a_window_that_is_never_opened(autojump_clock: trio.testing.MockClock) -> None:
    async def much(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 1_000_000})

    async with conversing(much, is_http2=True) as (stream, _):
        client = Client2(stream)
        asked = client.request("/")
        await client.flush()
        began = trio.current_time()
        while await client.read(acknowledge=False):
            pass
    assert len(client.bodies[asked]) == 65_535
    assert trio.current_time() - began == pytest.approx(LIMITS.send_seconds)


async def test_a_stream_that_is_taken_back_is_not_worked_for() -> None:
    ended = trio.Event()

    async def work(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/work":
            try:
                await trio.sleep_forever()
            finally:
                ended.set()
        await echo(scope, receive, send)

    async with conversing(work, is_http2=True) as (stream, _):
        client = Client2(stream)
        work_id = client.request("/work")
        await client.flush()
        await trio.testing.wait_all_tasks_blocked()
        client.h2.reset_stream(work_id, ErrorCodes.CANCEL)
        other = client.request("/other")
        await client.flush()
        await ended.wait()
        while other not in client.ended:
            await client.read()


async def test_a_stream_that_is_taken_back_within_a_write_garbles_no_other() -> None:
    blocked, may_go_on = trio.Event(), trio.Event()

    class Slow(StreamTransport):
        async def send(self, buffers: Sequence[Buffer], progress: Callable[[], None]) -> None:
            whole = b"".join(buffers)
            if b"first" in whole:  # the half of a frame has left when the peer takes it back
                await super().send([whole[:5]], progress)
                blocked.set()
                await may_go_on.wait()
                whole = whole[5:]
            await super().send([whole], progress)

    async def say(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"b")]})
        said = scope["path"][1:].encode()
        await send({"type": "http.response.body", "body": said, "more_body": True})
        await send({"type": "http.response.body"})

    stream, server = trio.testing.memory_stream_pair()
    scope = connection_scope(is_tls=True, client=("x", 1), server=("y", 2), identity=None)
    connection = HttpConnection(Slow(server, "client"), say, LIMITS, scope, is_http2=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        client = Client2(stream)
        first = client.request("/first")
        await client.flush()
        await blocked.wait()
        client.h2.reset_stream(first, ErrorCodes.CANCEL)
        second = client.request("/second")
        await client.flush()
        await trio.testing.wait_all_tasks_blocked()
        may_go_on.set()
        while second not in client.ended:
            assert await client.read()
        nursery.cancel_scope.cancel()
    assert client.bodies[second] == b"second"


async def test_a_request_behind_another_one_has_its_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(2 * LIMITS.idle_seconds)  # of a clock that jumps
        await echo(scope, receive, send)

    async with conversing(slow) as (client, _):
        await client.send_all(GET + LAST)
        assert len(responses_of(await all_of(client), "GET", "GET")) == 2


async def test_rapid_reset_ends_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with conversing(echo, is_http2=True) as (stream, _):
        client = Client2(stream)
        for _ in range(300):
            client.h2.reset_stream(client.request("/"), ErrorCodes.CANCEL)
        await client.flush()
        while await client.read():
            pass
    assert client.gone == ErrorCodes.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "wrong", [{"scheme": "http"}, {"path": "/a b"}, {"path": "a"}, {"path": "http://x/"}]
)
async def test_a_request_that_is_none_is_reset(wrong: dict[str, str]) -> None:
    async with conversing(echo, is_http2=True) as (stream, _):
        client = Client2(stream)
        path = wrong.get("path", "/")
        more = {name: value for name, value in wrong.items() if name != "path"}
        bad, good = client.request(path, **more), client.request("/")
        await client.flush()
        while good not in client.ended:
            await client.read()
    assert bad in client.reset


async def test_what_is_no_http_2_ends_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with conversing(echo, is_http2=True) as (stream, _):
        await stream.send_all(GET)
        await all_of(stream)


async def test_an_answer_that_is_not_whole_is_reset() -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("of ours")

    async with conversing(fail, is_http2=True) as (stream, _):
        client = Client2(stream)
        asked = client.request("/")
        await client.flush()
        while asked not in client.reset:
            await client.read()
    assert asked not in client.ended


async def test_it_says_that_it_goes_and_answers_what_is_under_way() -> None:
    may_end = trio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await may_end.wait()
        await echo(scope, receive, send)

    async with conversing(wait, is_http2=True) as (stream, connection):
        client = Client2(stream)
        asked = client.request("/")
        await client.flush()
        await trio.testing.wait_all_tasks_blocked()
        await connection.leave()
        while client.gone is None:
            await client.read()
        may_end.set()
        # h2 takes nothing after GOAWAY: what follows is looked at as bytes.
        assert b"GET / " in await all_of(stream)
    assert client.gone == ErrorCodes.NO_ERROR
    assert asked <= 2
    assert math.isfinite(trio.current_time())
