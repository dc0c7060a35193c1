"""Invariant: whatever an HTTP client sends is requests or a fault, the same however it is cut.

Input: a byte for what it is, a byte for how it is cut, then a multipart body, an `Accept`, a stream
of HTTP/1.1 or HTTP/2, a path with a range, or the frames of a WebSocket.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from isocenter.services.net.http.conditions import RangeNotSatisfiableError, requested_range
from isocenter.services.net.http.http1 import Http1
from isocenter.services.net.http.http2 import Http2
from isocenter.services.net.http.media_types import MediaTypeError, parse_accept, parse_media_type
from isocenter.services.net.http.multipart import (
    MultipartError,
    MultipartParser,
    PartData,
    PartEnded,
    PartStarted,
)
from isocenter.services.net.http.protocol import (
    BodyReceived,
    HttpProtocol,
    ProtocolViolated,
    RequestEnded,
    RequestStarted,
)
from isocenter.services.net.http.routing import (
    MethodNotAllowedError,
    NotFoundError,
    Route,
    RouteTable,
)
from isocenter.services.net.http.websocket import (
    MessageReceived,
    PongReceived,
    SocketClosed,
    WebSocketProtocol,
)

_TABLE: Final = RouteTable(
    [
        Route(method="GET", path=path, handler=path, text="")
        for path in ("/", "/studies", "/studies/{study}", "/studies/{study}/bulk/{path...}")
    ]
)
_LENGTH: Final = 1000
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def run(data: bytes) -> None:
    if len(data) < 2:
        return
    kind, every, rest = data[0] % 6, data[1] % 32 + 1, data[2:]
    if kind == 0:
        assert _told(rest, len(rest) or 1) == _told(rest, every)
    elif kind == 1:
        _accept(rest.decode("latin-1"))
    elif kind == 2:
        assert _requests(Http1(), rest, len(rest) or 1) == _requests(Http1(), rest, every)
    elif kind == 3:
        _requests(Http2("https"), _PREFACE + rest, len(rest) + len(_PREFACE))
        _requests(Http2("https"), _PREFACE + rest, every)
    elif kind == 4:
        _path(rest)
    else:
        assert _frames(rest, len(rest) or 1) == _frames(rest, every)


def _pieces(data: bytes, every: int) -> Iterator[bytes]:
    for start in range(0, len(data), every):
        yield data[start : start + every]


def _told(body: bytes, every: int) -> list[object]:
    parser = MultipartParser("b", most_parts=100)
    found: list[object] = []
    try:
        for piece in _pieces(body, every):
            for event in parser.feed(piece):
                match event:
                    case PartStarted(headers):
                        assert not found or found[-1] is None
                        found += [headers, b""]
                    case PartData(part):
                        before = found[-1]
                        assert isinstance(before, bytes)
                        assert len(part)
                        found[-1] = before + bytes(part)
                    case PartEnded():
                        assert isinstance(found[-1], bytes)
                        found.append(None)
        parser.close()
    except MultipartError:
        # What was told before the fault may end earlier or later; that there is one does not.
        return ["fault"]
    return found


def _accept(text: str) -> None:
    with suppress(MediaTypeError):
        ranges = parse_accept(text)
        assert all(0 <= one.quality <= 1 for one in ranges)
    with suppress(MediaTypeError):
        found = parse_media_type(text)
        assert parse_media_type(str(found)) == found


def _requests(protocol: HttpProtocol, stream: bytes, every: int) -> list[object]:
    """What a server understands that answers each request when it is complete."""
    found: list[object] = []
    for piece in _pieces(stream, every):
        events = protocol.receive(piece)
        while events:
            ended: list[int] = []
            for event in events:
                match event:
                    case RequestStarted(stream_id, head):
                        assert head.target
                        found += [(stream_id, head.method, head.target), b""]
                        protocol.proceed(stream_id)
                    case BodyReceived(stream_id, body, credit):
                        if isinstance(found[-1], bytes):
                            found[-1] += bytes(body)
                        protocol.consumed(stream_id, credit)
                    case RequestEnded(stream_id):
                        ended.append(stream_id)
                    case ProtocolViolated(_, detail):
                        assert detail.isprintable()
                        found.append("fault")
            events = []
            for stream_id in ended:
                protocol.begin_response(stream_id, 200, [(b"content-length", b"2")])
                if protocol.room(stream_id) >= 2:
                    protocol.response_data(stream_id, b"ok")
                    protocol.end_response(stream_id)
                else:
                    protocol.reset(stream_id)
                if protocol.may_be_kept:
                    events += protocol.next_request()
        protocol.take_output()
    return found


def _frames(stream: bytes, every: int) -> list[object]:
    """What a WebSocket tells: messages, and one end, within their bounds."""
    protocol = WebSocketProtocol(_LENGTH)
    found: list[object] = []
    for piece in _pieces(stream, every):
        for event in protocol.receive(piece):
            assert not found or not isinstance(found[-1], SocketClosed)
            if isinstance(event, MessageReceived):
                assert len(event.data) <= _LENGTH
            if not isinstance(event, PongReceived):
                found.append(event)
        output = protocol.take_output()
        assert len(output) <= 2 + 125
    return found


def _path(data: bytes) -> None:
    path, _, header = data.partition(b"\n")
    with suppress(NotFoundError, MethodNotAllowedError):
        _, values = _TABLE.find("GET", path)
        assert all(value.isprintable() and value not in ("", "..") for value in values.values())
    with suppress(RangeNotSatisfiableError):
        part = requested_range(header.decode("latin-1"), _LENGTH)
        assert part is None or 0 <= part.start < part.stop <= _LENGTH
