"""HTTP/2 frame by frame, as RFC 9113 has its errors.

Each case is played on the protocol alone.  Where the RFC asks for a stream error, a connection
error is allowed as well (5.4.2).
"""

from __future__ import annotations

import struct

import pytest
from h2.errors import ErrorCodes as E
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from isocenter.services.net.http.http2 import MOST_STREAMS, Http2
from isocenter.services.net.http.protocol import (
    HttpEvent,
    ProtocolViolated,
    RequestEnded,
    RequestStarted,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "x")]
POST = [(":method", "POST"), *GET[1:]]


def block(fields: list[tuple[str, str]]) -> bytes:
    return bytes(Encoder().encode(fields, huffman=False))


def headers(
    fields: list[tuple[str, str]] = GET, stream: int = 1, *flags: str, data: bytes | None = None
) -> Frame:
    frame = HeadersFrame(stream, block(fields) if data is None else data)
    for flag in flags or ("END_HEADERS", "END_STREAM"):
        frame.flags.add(flag)
    return frame


def open_post(stream: int = 1) -> Frame:
    return headers(POST, stream, "END_HEADERS")


def data(stream: int = 1, content: bytes = b"x", *flags: str) -> Frame:
    frame = DataFrame(stream, content)
    for flag in flags:
        frame.flags.add(flag)
    return frame


def raw(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(values: dict[int, int] | None = None) -> Frame:
    return SettingsFrame(0, settings=values or {})


class Played:
    """What the server said to some frames.

    Attributes:
        connection: error of its GOAWAY; None: it lives.
        streams: error by stream that it reset.
    """

    def __init__(self, *frames: Frame | bytes, preface: bytes = PREFACE) -> None:
        protocol = Http2("https")
        protocol.take_output()
        said = preface + bytes(settings().serialize())
        said += b"".join(
            one if isinstance(one, bytes) else bytes(one.serialize()) for one in frames
        )
        self.events: list[HttpEvent] = []
        self.events += protocol.receive(said)
        self.output = bytes(protocol.take_output())
        self.frames: list[Frame] = []
        left = memoryview(self.output)
        while len(left) >= 9:
            frame, length = Frame.parse_frame_header(left[:9])
            frame.parse_body(left[9 : 9 + length])
            self.frames.append(frame)
            left = left[9 + length :]
        gone = [one for one in self.frames if isinstance(one, GoAwayFrame)]
        self.connection = E(gone[0].error_code) if gone else None
        self.streams = {
            one.stream_id: E(one.error_code)
            for one in self.frames
            if isinstance(one, RstStreamFrame)
        }
        self.is_violated = any(isinstance(one, ProtocolViolated) for one in self.events)
        assert self.is_violated or not gone

    @property
    def requests(self) -> int:
        return sum(isinstance(one, RequestStarted) for one in self.events)

    def is_refused_with(self, *errors: E, stream: int = 1) -> bool:
        return self.connection in errors or self.streams.get(stream) in errors


CONNECTION_ERRORS = {
    "4.2 a frame beyond SETTINGS_MAX_FRAME_SIZE": (
        E.FRAME_SIZE_ERROR, open_post(), raw(0, 0, 1, bytes((64 << 10) + 1)),
    ),
    "4.2 SETTINGS beyond SETTINGS_MAX_FRAME_SIZE": (
        E.FRAME_SIZE_ERROR, raw(4, 0, 0, bytes(6 * 11_000)),
    ),
    "4.3 a field block that is none": (E.COMPRESSION_ERROR, headers(data=b"\xff\xff\xff\xff\xff")),
    "4.3 an index beyond the table": (E.COMPRESSION_ERROR, headers(data=b"\xfe")),
    "4.3 a table larger than allowed": (E.COMPRESSION_ERROR, headers(data=b"\x3f\xe1\xff\x7f")),
    "4.3 another frame within a field block": (
        E.PROTOCOL_ERROR, headers(GET, 1, "END_STREAM"), data(1),
    ),
    "4.3 another stream within a field block": (
        E.PROTOCOL_ERROR, headers(GET, 1, "END_STREAM"), headers(GET, 3),
    ),
    "5.1 DATA on an idle stream": (E.PROTOCOL_ERROR, data(1)),
    "5.1 RST_STREAM on an idle stream": (E.PROTOCOL_ERROR, RstStreamFrame(1, error_code=8)),
    "5.1 WINDOW_UPDATE on an idle stream": (
        E.PROTOCOL_ERROR, WindowUpdateFrame(1, window_increment=1),
    ),
    "5.1 CONTINUATION on an idle stream": (E.PROTOCOL_ERROR, ContinuationFrame(1, block(GET))),
    "5.1.1 a stream of the server": (E.PROTOCOL_ERROR, headers(GET, 2)),
    "5.1.1 a stream older than the last": (E.PROTOCOL_ERROR, headers(GET, 5), headers(GET, 3)),
    "5.5 an unknown frame within a field block": (
        E.PROTOCOL_ERROR, headers(GET, 1, "END_STREAM"), raw(0xFA, 0, 1, b"x"),
    ),
    "6.1 DATA without a stream": (E.PROTOCOL_ERROR, raw(0, 0, 0, b"x")),
    "6.1 padding longer than the frame": (
        E.PROTOCOL_ERROR, open_post(), raw(0, 0x8, 1, b"\x09abc"),
    ),
    "6.2 HEADERS without a stream": (E.PROTOCOL_ERROR, raw(1, 5, 0, block(GET))),
    "6.2 padding longer than the fields": (
        E.PROTOCOL_ERROR, raw(1, 0xD, 1, b"\xff" + block(GET)),
    ),
    "6.3 PRIORITY without a stream": (E.PROTOCOL_ERROR, raw(2, 0, 0, bytes(5))),
    "6.4 RST_STREAM without a stream": (E.PROTOCOL_ERROR, raw(3, 0, 0, bytes(4))),
    "6.4 RST_STREAM of another length": (E.FRAME_SIZE_ERROR, headers(), raw(3, 0, 1, bytes(3))),
    # The RFC has FRAME_SIZE_ERROR; hyperframe finds it malformed before.
    "6.5 an acknowledgement with settings": (E.PROTOCOL_ERROR, raw(4, 1, 0, bytes(6))),
    "6.5 SETTINGS of a stream": (E.PROTOCOL_ERROR, raw(4, 0, 1, b"")),
    "6.5 SETTINGS of another length": (E.FRAME_SIZE_ERROR, raw(4, 0, 0, bytes(5))),
    "6.5.2 ENABLE_PUSH of 2": (E.PROTOCOL_ERROR, settings({2: 2})),
    "6.5.2 a window beyond 2^31-1": (E.FLOW_CONTROL_ERROR, settings({4: 1 << 31})),
    "6.5.2 frames too small": (E.PROTOCOL_ERROR, settings({5: 16_383})),
    "6.5.2 frames too large": (E.PROTOCOL_ERROR, settings({5: 1 << 24})),
    "6.6 PUSH_PROMISE of a client": (
        E.PROTOCOL_ERROR, open_post(), raw(5, 4, 1, bytes(3) + b"\x02" + block(GET)),
    ),
    "6.7 PING of a stream": (E.PROTOCOL_ERROR, raw(6, 0, 1, bytes(8))),
    "6.7 PING of another length": (E.FRAME_SIZE_ERROR, raw(6, 0, 0, bytes(7))),
    "6.8 GOAWAY of a stream": (E.PROTOCOL_ERROR, raw(7, 0, 1, bytes(8))),
    "6.9 a window of the connection by 0": (E.PROTOCOL_ERROR, raw(8, 0, 0, bytes(4))),
    "6.9 WINDOW_UPDATE of another length": (E.FRAME_SIZE_ERROR, raw(8, 0, 0, bytes(3))),
    "6.9.1 the connection's window beyond 2^31-1": (
        E.FLOW_CONTROL_ERROR, *[WindowUpdateFrame(0, window_increment=(1 << 31) - 1)] * 2,
    ),
    "6.9.2 windows that a setting makes too large": (
        E.FLOW_CONTROL_ERROR,
        open_post(),
        WindowUpdateFrame(1, window_increment=(1 << 31) - 70_000),
        settings({4: (1 << 31) - 1}),
    ),
    "6.10 CONTINUATION behind a whole field block": (
        E.PROTOCOL_ERROR, open_post(), ContinuationFrame(1, block([("x", "y")])),
    ),
    "6.10 CONTINUATION without a stream": (E.PROTOCOL_ERROR, raw(9, 4, 0, b"x")),
}  # fmt: skip


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
def test_connection_errors(name: str) -> None:
    error, *frames = CONNECTION_ERRORS[name]
    played = Played(*frames)
    assert played.connection == error


@pytest.mark.parametrize(
    "preface", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"]
)
def test_a_preface_that_is_none(preface: bytes) -> None:
    # GOAWAY may be left out (3.4): who speaks something else would not read it.
    played = Played(headers(), preface=preface)
    assert played.is_violated
    assert played.requests == 0


def test_settings_come_first() -> None:
    protocol = Http2("https")
    events = protocol.receive(PREFACE + bytes(headers().serialize()))
    assert any(isinstance(one, ProtocolViolated | RequestStarted) for one in events)


def without(name: str) -> list[tuple[str, str]]:
    return [field for field in GET if field[0] != name]


MALFORMED = {
    "8.2 an upper-case name": [*GET, ("X-Upper", "y")],
    "8.2.2 Connection": [*GET, ("connection", "keep-alive")],
    "8.2.2 Keep-Alive": [*GET, ("keep-alive", "5")],
    "8.2.2 Transfer-Encoding": [*GET, ("transfer-encoding", "chunked")],
    "8.2.2 Upgrade": [*GET, ("upgrade", "h2c")],
    "8.2.2 TE of another kind": [*GET, ("te", "gzip")],
    "8.3 an unknown pseudo-field": [*GET, (":nothing", "x")],
    "8.3 a pseudo-field of responses": [*GET, (":status", "200")],
    "8.3 a pseudo-field behind others": [*without(":path"), ("x", "y"), (":path", "/")],
    "8.3.1 no method": without(":method"),
    "8.3.1 no scheme": without(":scheme"),
    "8.3.1 no path": without(":path"),
    "8.3.1 an empty path": [*without(":path"), (":path", "")],
    "8.3.1 the method twice": [*GET, (":method", "GET")],
    "8.3.1 the path twice": [*GET, (":path", "/")],
    "8.3.1 another authority in Host": [*GET, ("host", "y")],
    "8.3.1 an authority with a user": [*without(":authority"), (":authority", "me@x")],
    "8.2.1 CR LF in a value": [*GET, ("x", "a\r\nb: c")],
    "8.2.1 NUL in a value": [*GET, ("x", "a\0b")],
    "8.2.1 a name with a space": [*GET, ("a b", "c")],
    "8.2.1 a name with a colon": [*GET, ("a:b", "c")],
    "9110 9.1 a method that is no token": [*without(":method"), (":method", "G ET")],
    "9110 9.1 a method with a line": [*without(":method"), (":method", "GET\r\nX")],
    "8.1.1 a length that is none": [*GET, ("content-length", "x")],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests(name: str) -> None:
    played = Played(headers(MALFORMED[name]))
    assert played.is_refused_with(E.PROTOCOL_ERROR)
    assert played.requests == 0


STREAM_ERRORS = {
    "5.1 DATA behind the end of a stream": (E.STREAM_CLOSED, headers(), data(1)),
    "5.1 HEADERS behind the end of a stream": (
        E.STREAM_CLOSED, headers(), headers([("x", "y")], 1),
    ),
    "6.9 a window of a stream by 0": (E.PROTOCOL_ERROR, open_post(), raw(8, 0, 1, bytes(4))),
    "6.9.1 a stream's window beyond 2^31-1": (
        E.FLOW_CONTROL_ERROR,
        open_post(),
        *[WindowUpdateFrame(1, window_increment=(1 << 31) - 1)] * 2,
    ),
    "8.1 trailers that end nothing": (
        E.PROTOCOL_ERROR, open_post(), headers([("x", "y")], 1, "END_HEADERS"),
    ),
    "8.1 trailers with a pseudo-field": (E.PROTOCOL_ERROR, open_post(), headers(GET, 1)),
    "8.1.1 a body shorter than its length": (
        E.PROTOCOL_ERROR,
        headers([*POST, ("content-length", "5")], 1, "END_HEADERS"),
        data(1, b"x", "END_STREAM"),
    ),
    "8.1.1 a body longer than its length": (
        E.PROTOCOL_ERROR,
        headers([*POST, ("content-length", "1")], 1, "END_HEADERS"),
        data(1, b"xyz"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAM_ERRORS)
def test_stream_errors(name: str) -> None:
    error, *frames = STREAM_ERRORS[name]
    played = Played(*frames)
    allowed = {error, E.PROTOCOL_ERROR} if error == E.STREAM_CLOSED else {error}
    assert played.is_refused_with(*allowed), (played.connection, played.streams)
    ended = [one for one in played.events if isinstance(one, RequestEnded)]
    assert len(ended) <= 1


FINE = {
    "5.5 frames of unknown types": [raw(0xFA, 0xFF, 0, b"x"), raw(0xFB, 0, 7, b"y"), headers()],
    "5.5 unknown flags": [raw(6, 0xFE, 0, bytes(8)), headers()],
    "6.5.2 an unknown setting": [settings({0xFFFF: 1}), headers()],
    "6.1 a padded body": [open_post(), raw(0, 0x9, 1, b"\x02x\0\0")],
    "6.2 padded fields": [raw(1, 0xD, 1, b"\x03" + block(GET) + bytes(3))],
    "6.10 fields in three frames": [
        headers(GET, 1, "END_STREAM", data=block(GET)[:3]),
        ContinuationFrame(1, block(GET)[3:5]),
        raw(9, 4, 1, block(GET)[5:]),
    ],
    "8.1 trailers": [open_post(), data(1), headers([("x", "y")], 1)],
    "8.2.2 TE of trailers": [headers([*GET, ("te", "trailers")])],
    "8.2.3 cookies one by one": [headers([*GET, ("cookie", "a=b"), ("cookie", "c=d")])],
    "6.3 PRIORITY of any stream": [PriorityFrame(9), headers()],
    "3.4 an empty setting again": [settings(), headers()],
    "8.3.1 no authority but Host": [headers([*without(":authority"), ("host", "x")])],
}


@pytest.mark.parametrize("name", FINE)
def test_what_is_allowed(name: str) -> None:
    played = Played(*FINE[name])
    assert played.connection is None, played.events
    assert not played.streams
    assert played.requests == 1
    assert sum(isinstance(one, RequestEnded) for one in played.events) == 1


def test_settings_and_pings_are_acknowledged() -> None:
    ping = PingFrame(0, opaque_data=b"12345678")
    played = Played(settings({3: 5}), ping, raw(6, 1, 0, bytes(8)))
    acknowledged = [one for one in played.frames if isinstance(one, SettingsFrame)]
    assert ["ACK" in one.flags for one in acknowledged] == [True, True]
    pongs = [one for one in played.frames if isinstance(one, PingFrame)]
    assert [one.opaque_data for one in pongs] == [b"12345678"]


def test_streams_beyond_the_bound() -> None:
    frames = [open_post(1 + 2 * number) for number in range(MOST_STREAMS)]
    assert Played(*frames).requests == MOST_STREAMS
    last = 1 + 2 * MOST_STREAMS
    played = Played(*frames, open_post(last))
    assert played.is_refused_with(E.PROTOCOL_ERROR, E.REFUSED_STREAM, stream=last)


# -- Floods -------------------------------------------------------------------------------


def test_a_flood_of_continuations() -> None:
    fields = block([(f"x-{number}", "y") for number in range(2_000)])
    frames = [headers(GET, 1, "END_STREAM", data=block(GET))]
    frames += [ContinuationFrame(1, fields[start : start + 16]) for start in range(0, 20_000, 16)]
    played = Played(*frames)
    assert played.connection in (E.PROTOCOL_ERROR, E.ENHANCE_YOUR_CALM)
    assert played.requests == 0


def test_a_field_block_that_unfolds() -> None:
    """An indexed field of 4 KiB, named four thousand times: 16 MiB out of eight KiB."""
    encoder = Encoder()
    first = bytes(encoder.encode([*GET, ("x", "a" * 4_000)], huffman=False))
    again = bytes(encoder.encode([("x", "a" * 4_000)], huffman=False))
    assert len(again) == 1
    played = Played(headers(data=first + again * 4_000))
    assert played.connection in (E.ENHANCE_YOUR_CALM, E.COMPRESSION_ERROR, E.PROTOCOL_ERROR)
    assert played.requests == 0


def test_requests_that_are_none_are_counted_as_taken_back() -> None:
    protocol = Http2("https")
    protocol.receive(PREFACE + bytes(settings().serialize()))
    encoder = Encoder()
    ended_at = 0
    for number in range(300):
        fields = encoder.encode([*without(":path"), (":path", "/a b")], huffman=False)
        frame = headers(stream=1 + 2 * number, data=bytes(fields))
        if any(isinstance(one, ProtocolViolated) for one in protocol.receive(frame.serialize())):
            ended_at = number
            break
    assert ended_at == 100
    assert bytes(protocol.take_output()).endswith(struct.pack(">I", E.ENHANCE_YOUR_CALM))


@pytest.mark.parametrize(
    "frame",
    [
        bytes(settings().serialize()),
        raw(6, 0, 0, bytes(8)),
        raw(2, 0, 1, bytes(4) + b"\x10"),
        raw(0, 0, 1, b""),
        bytes(WindowUpdateFrame(0, window_increment=1).serialize()),
    ],
    ids=["SETTINGS", "PING", "PRIORITY", "empty DATA", "WINDOW_UPDATE"],
)
def test_floods_make_no_more_than_they_bring(frame: bytes) -> None:
    count = 5_000
    played = Played(open_post(), frame * count)
    assert len(played.output) <= len(frame) * count + 200
    assert len(played.events) <= count + 5
