"""HTTP/2 as a server (RFC 9113): h2, with bounds for each peer."""

from __future__ import annotations

import string
import struct
from collections.abc import Callable
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    StreamEnded,
    WindowUpdated,
)
from h2.events import RequestReceived as H2RequestReceived
from h2.events import StreamReset as H2StreamReset
from h2.exceptions import (
    FlowControlError,
    NoSuchStreamError,
    ProtocolError,
    StreamClosedError,
)
from h2.settings import SettingCodes, Settings
from hpack import HPACKError

from isocenter.engine.buffers import Buffer
from isocenter.services.net.addresses import is_authority
from isocenter.services.net.http.protocol import (
    MOST_HEADER_BYTES,
    BodyReceived,
    ConnectionEnded,
    FileRegion,
    HttpEvent,
    Output,
    ProtocolViolated,
    RawHeaders,
    RequestEnded,
    RequestHead,
    RequestStarted,
    StreamReset,
    WindowOpened,
)

#: Requests under way on one connection.
MOST_STREAMS: Final = 100
#: Bytes of one body that may be on their way, and of all together.
_STREAM_WINDOW: Final = 256 << 10
_CONNECTION_WINDOW: Final = 1 << 20
#: Requests that a peer may begin and take back beyond those it waited for ("rapid reset").
_MOST_RESETS: Final = 100
_FRAME_BYTES: Final = 64 << 10
#: The characters of a method (RFC 9110 5.6.2).
_TOKEN: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789") | frozenset((string.ascii_letters).encode())


class Http2:
    """One connection that speaks HTTP/2, from its preface on.

    Args:
        scheme: by which it came, ``http`` or ``https``; a peer that says another is refused.
    """

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        config = H2Configuration(client_side=False, header_encoding=None)
        self._h2 = H2Connection(config)
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MOST_STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: MOST_HEADER_BYTES,
                SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
                SettingCodes.MAX_FRAME_SIZE: _FRAME_BYTES,
                SettingCodes.ENABLE_PUSH: 0,
            },
        )
        self._h2.max_inbound_frame_size = _FRAME_BYTES  # h2 sets it on changes only
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_CONNECTION_WINDOW - 65_535)
        self._open: set[int] = set()
        self._resets = 0
        self._farewell = b""
        self._is_over = False
        self._is_going = False

    @property
    def may_be_kept(self) -> bool:
        return not self._is_over and not self._is_going

    @property
    def is_mid_head(self) -> bool:
        return False  # the driver counts the time since the last request instead

    def receive(self, data: Buffer) -> list[HttpEvent]:
        if self._is_over:
            return []
        if not data:
            self._is_over = True
            return [ConnectionEnded()]
        events: list[HttpEvent] = []
        try:
            for event in self._h2.receive_data(bytes(data)):
                match event:
                    case H2RequestReceived():
                        events += self._started(event)
                    case DataReceived():
                        events += self._received(event)
                    case StreamEnded() if event.stream_id in self._open:
                        events.append(RequestEnded(event.stream_id))
                    case H2StreamReset() if event.stream_id in self._open:
                        self._open.discard(event.stream_id)
                        self._resets += 1
                        events.append(StreamReset(event.stream_id))
                    case WindowUpdated() | RemoteSettingsChanged():
                        events.append(WindowOpened())
                    case ConnectionTerminated():
                        self._is_over = True
                        events.append(ConnectionEnded())
        except ProtocolError as error:
            if isinstance(error.__cause__, HPACKError):
                # h2 says PROTOCOL_ERROR; the peer is to know that its encoder is at fault (4.3).
                self._h2.clear_outbound_data_buffer()
                self._farewell = self._go_away(ErrorCodes.COMPRESSION_ERROR)
            return [*events, *self._violated(type(error).__name__)]
        if self._resets > _MOST_RESETS:
            self._h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            return [*events, *self._violated("requests are begun and taken back")]
        return events

    def _violated(self, detail: str) -> list[HttpEvent]:
        self._is_over = True
        return [ProtocolViolated(0, detail)]

    def _started(self, event: H2RequestReceived) -> list[HttpEvent]:
        pseudo: dict[bytes, bytes] = {}
        headers: list[tuple[bytes, bytes]] = []
        cookies: list[bytes] = []
        for name, value in event.headers or ():
            if name[:1] == b":":
                pseudo[bytes(name)] = bytes(value)
            elif name == b"cookie":
                cookies.append(bytes(value))
            else:
                headers.append((bytes(name), bytes(value)))
        if cookies:  # they may come one by one (RFC 9113 8.2.3)
            headers.append((b"cookie", b"; ".join(cookies)))
        stream = event.stream_id
        assert stream is not None
        authority = pseudo.get(b":authority", b"")
        host = next((value for name, value in headers if name == b"host"), authority)
        target = pseudo.get(b":path", b"")
        if (
            pseudo.get(b":scheme") != self._scheme.encode()
            or not _TOKEN.issuperset(pseudo.get(b":method", b"\0"))
            or host != authority != b""
            or not is_authority((authority or host).decode("latin-1"))
            or self._is_going
            or not all(0x21 <= byte <= 0x7E for byte in target)
            or (target[:1] != b"/" and target != b"*")
        ):
            refused = ErrorCodes.REFUSED_STREAM if self._is_going else ErrorCodes.PROTOCOL_ERROR
            self._h2.reset_stream(stream, refused)
            self._resets += 1
            return []
        self._open.add(stream)
        head = RequestHead(
            method=pseudo[b":method"].decode("latin-1"),
            target=target,
            authority=(authority or host).decode("latin-1"),
            version="2",
            headers=tuple(headers),
        )
        return [RequestStarted(stream, head)]

    def _received(self, event: DataReceived) -> list[HttpEvent]:
        stream, credit = event.stream_id, event.flow_controlled_length or 0
        assert stream is not None
        if stream not in self._open:  # answered already, or refused
            self._give_back(stream, credit)
            return []
        return [BodyReceived(stream, event.data or b"", credit)]

    def take_output(self) -> Buffer:
        farewell, self._farewell = self._farewell, b""
        return self._h2.data_to_send() + farewell

    def proceed(self, stream: int) -> None:
        pass  # the window has been open from the beginning

    def consumed(self, stream: int, credit: int) -> None:
        self._give_back(stream, credit)

    def _give_back(self, stream: int, credit: int) -> None:
        if credit and not self._is_over:
            try:
                self._h2.acknowledge_received_data(credit, stream)
            except (StreamClosedError, NoSuchStreamError):
                pass  # the connection's window was given back before it noticed
            except ProtocolError:
                self._is_over = True

    def begin_response(self, stream: int, status: int, headers: RawHeaders) -> list[Output]:
        fields = [(b":status", b"%d" % status), *headers]
        return self._say(stream, lambda: self._h2.send_headers(stream, fields))

    def room(self, stream: int) -> int:
        if stream not in self._open:
            return 0
        try:
            window = self._h2.local_flow_control_window(stream)
        except (StreamClosedError, NoSuchStreamError):
            return 0
        return max(min(window, self._h2.max_outbound_frame_size), 0)

    def response_data(self, stream: int, data: Output) -> list[Output]:
        if isinstance(data, FileRegion):
            raise TypeError("HTTP/2 frames what it sends: read the file")
        return self._say(stream, lambda: self._h2.send_data(stream, bytes(data)))

    def end_response(self, stream: int) -> list[Output]:
        said = self._say(stream, lambda: self._h2.end_stream(stream))
        self._open.discard(stream)
        self._resets = max(self._resets - 1, 0)
        return said

    def reset(self, stream: int) -> list[Output]:
        said = self._say(stream, lambda: self._h2.reset_stream(stream, ErrorCodes.INTERNAL_ERROR))
        self._open.discard(stream)
        return said

    def next_request(self) -> list[HttpEvent]:
        return []  # they come side by side

    def go_away(self) -> list[Output]:
        if self._is_over or self._is_going:
            return []
        self._is_going = True
        # h2 would close at once: here what is under way is still answered (RFC 9113 6.8).
        return [self._h2.data_to_send(), self._go_away(ErrorCodes.NO_ERROR)]

    def _go_away(self, error: ErrorCodes) -> bytes:
        last = self._h2.highest_inbound_stream_id
        return struct.pack(">HBBBIII", 0, 8, 7, 0, 0, last, error)

    def _say(self, stream: int, call: Callable[[], None]) -> list[Output]:
        """The frames that *call* makes; none, when the peer has given the stream up."""
        if stream in self._open and not self._is_over:
            try:
                call()
            except (StreamClosedError, NoSuchStreamError, FlowControlError):
                self._open.discard(stream)
            except ProtocolError:
                self._is_over = True
        data = self._h2.data_to_send()
        return [data] if data else []
