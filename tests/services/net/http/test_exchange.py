"""A request whose body comes in pieces, before anybody asks for it."""

from __future__ import annotations

from isocenter.services.net.http.exchange import MOST_BUFFERED, Exchange
from isocenter.services.net.http.http1 import STREAM, Http1
from isocenter.services.net.http.protocol import HttpProtocol, Output, RawHeaders, RequestHead
from isocenter.services.net.http.socket_session import WebSocket

HEAD = RequestHead(
    method="POST",
    target=b"/",
    authority="x",
    version="1.1",
    headers=(),
    wants_websocket=False,
)


class Quiet:
    """A connection on which nothing is said."""

    sends_files = False

    def __init__(self) -> None:
        self.protocol: HttpProtocol = Http1()

    async def write(self, outputs: list[Output]) -> None:
        assert not outputs

    def resume_reading(self) -> None:
        pass

    async def until_room(self) -> None:
        raise AssertionError

    async def switch(self, headers: RawHeaders) -> WebSocket:
        raise AssertionError


async def test_bytes_that_come_one_by_one_are_kept_together() -> None:
    exchange = Exchange(Quiet(), STREAM, HEAD, 60)
    sent = bytes(number % 251 for number in range(MOST_BUFFERED))
    for start in range(len(sent)):
        assert not exchange.is_full
        exchange.body_arrived(sent[start : start + 1], 1)
        exchange.body_arrived(b"", 0)  # HTTP/2: no window counts these
    assert exchange.is_full
    exchange.body_ended()
    got = []
    more = True
    while more:
        message = await exchange.receive()
        got.append(bytes(message["body"]))
        more = message["more_body"]
    assert b"".join(got) == sent
    assert len(got) <= 2 * MOST_BUFFERED // (4 << 10)
