"""HTTP/1.1 as a server (RFC 9112): h11, and stricter where requests are ambiguous."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, cast

import h11

from isocenter.engine.buffers import Buffer
from isocenter.services.net.addresses import is_authority
from isocenter.services.net.http.protocol import (
    MOST_HEADER_BYTES,
    BodyReceived,
    ConnectionEnded,
    HttpEvent,
    Output,
    ProtocolViolated,
    RawHeaders,
    RequestEnded,
    RequestHead,
    RequestStarted,
)

#: The only one there is at a time.
STREAM: Final = 1
#: Of a field, what stands between its name and its value, and behind it.
_FIELD_BYTES: Final = 4
_UNBOUNDED: Final = 1 << 62
#: Of what waits, h11 is given so much at a time: a head at the most, or a piece of a body.
_SLICE: Final = MOST_HEADER_BYTES
_BODY_SLICE: Final = 64 << 10
_END: Final = b"\r\n\r\n"
#: A line that ends with LF alone, or goes on in the next: h11 takes both, and who stands between
#: may see other fields (RFC 9112 2.2, 5.2).
_AMBIGUOUS: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\n[ \t]")
_OF_THE_CONNECTION: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}
)


class Http1:
    """One connection that speaks HTTP/1.1 or 1.0."""

    def __init__(self) -> None:
        self._h11 = _new_connection()
        #: Bytes still to come of a body whose length was announced.  They are counted here and
        #: given on as they came, where h11 would copy them three times; it is told no more of
        #: the peer then, and the next request gets a new one.
        self._left = 0
        self._is_counted = False
        self._output = b""
        self._is_over = False
        self._waits_for_continue = False
        self._is_going = False
        self._may_carry_body = True
        self._is_chunked = False
        #: The last bytes of a chunked body that h11 was given.
        self._here = b""
        #: What came behind a request that is not answered yet, or is still to be looked at.
        self._later = bytearray()

    @property
    def may_be_kept(self) -> bool:
        return (
            not self._is_over
            and not self._is_going
            and self._h11.our_state in (h11.DONE, h11.IDLE)
            and (
                not self._left
                if self._is_counted
                else self._h11.their_state in (h11.DONE, h11.IDLE)
            )
        )

    @property
    def is_mid_head(self) -> bool:
        return self._h11.their_state is h11.IDLE and bool(self._h11.trailing_data[0])

    @property
    def is_body_complete(self) -> bool:
        """Whether nothing of the request is still to come."""
        if self._is_counted:
            return not self._left
        return self._h11.their_state is not h11.SEND_BODY

    @property
    def waiting(self) -> int:
        """How many bytes have come behind the request under way."""
        return len(self._later)

    def receive(self, data: Buffer) -> list[HttpEvent]:
        if self._is_over:
            return []
        if self._left:
            return self._counted(data)
        if len(data) and (self._later or self.is_body_complete):
            # h11 gets no more than it is asked to read: what it holds is looked at for each head.
            self._later += data
            return [] if self._is_paused else self.next_request()
        if self._later or self._is_counted:  # nobody is there for whom it was
            self._is_over = True
            return [ConnectionEnded()]
        try:
            self._h11.receive_data(cast("bytes", data))
        except RuntimeError:  # bytes after it had closed its side
            return self._violated(0, "bytes after the end of the connection")
        return self.next_request(cast("bytes", data) if self._is_chunked else b"")

    @property
    def _is_paused(self) -> bool:
        """Whether a request is complete, and its answer is not."""
        return self._is_counted or self._h11.their_state not in (h11.IDLE, h11.SEND_BODY)

    def _counted(self, data: Buffer) -> list[HttpEvent]:
        """What *data* is of a body whose length was announced; what comes behind it waits."""
        if not len(data):
            return self._violated(400, "the connection ends within a body")
        self._waits_for_continue = False  # the peer has not waited
        if len(data) > self._left:
            view = memoryview(data)
            self._later += view[self._left :]
            data = view[: self._left]
        self._left -= len(data)
        body = BodyReceived(STREAM, data, len(data))
        return [body] if self._left else [body, RequestEnded(STREAM)]

    def next_request(self, new: bytes = b"") -> list[HttpEvent]:
        """As `HttpProtocol` has it.

        Args:
            new: of a chunked body, what h11 has just been given.
        """
        if self._is_counted:
            self._is_counted = False
            self._h11 = _new_connection()
        elif self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        events: list[HttpEvent] = []
        here = self._here
        here += new
        while not self._is_over:
            if self._h11.their_state is h11.IDLE:
                waiting, is_closed = self._h11.trailing_data
                if not waiting and not is_closed:  # it would only ask for more
                    if not self._later:
                        return events
                    here += self._feed()
                    continue
                if _AMBIGUOUS.search(_head_of(waiting)):
                    return [*events, *self._violated(400, "a head with lines that end in two ways")]
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                # h11's own words may quote what came.
                return events + self._violated(error.error_status_hint, "malformed HTTP")
            if event is h11.NEED_DATA and self._later:
                here += self._feed()
                continue
            if event is h11.NEED_DATA or event is h11.PAUSED:
                if self._is_chunked:
                    self._here = here[-len(_END) - len(self._h11.trailing_data[0]) :]
                return events
            if isinstance(event, h11.Request):
                events += self._started(event)
                if self._is_counted:
                    start = self._h11.trailing_data[0] + self._later
                    self._later.clear()
                    return events + self._counted(start) if start else events
                here = self._h11.trailing_data[0] if self._is_chunked else b""
            elif isinstance(event, h11.Data):
                events.append(BodyReceived(STREAM, event.data, len(event.data)))
            elif isinstance(event, h11.EndOfMessage):
                if self._is_chunked and not self._ends_well(here):
                    return [*events, *self._violated(400, "a body that ends in two ways")]
                # What comes behind waits for the answer, or is nobody's where the connection ends.
                return [*events, RequestEnded(STREAM)]
            else:
                self._is_over = True
                events.append(ConnectionEnded())
        return events

    def _feed(self) -> bytes:
        """Give h11 some of what waits; of a chunked body, that."""
        size = _SLICE if self._h11.their_state is h11.IDLE else _BODY_SLICE
        some = bytes(self._later[:size])
        del self._later[:size]
        self._h11.receive_data(some)
        return some if self._is_chunked else b""

    def _ends_well(self, here: bytes) -> bool:
        """Whether a chunked body that is over ends by CR LF CR LF, as it has to: h11 takes LF alone
        there, and who stands between may see the end elsewhere.

        Args:
            here: the last bytes of the body that h11 was given, and what comes behind it.
        """
        self._is_chunked, self._here = False, b""
        return here[: len(here) - len(self._h11.trailing_data[0])].endswith(_END)

    def _started(self, request: h11.Request) -> list[HttpEvent]:
        if request.http_version not in (b"1.0", b"1.1"):
            return self._violated(505, "a version of HTTP that is not known")
        size = sum(len(name) + len(value) + _FIELD_BYTES for name, value in request.headers)
        if size + len(request.target) > MOST_HEADER_BYTES:  # h11 bounds what is not complete
            return self._violated(431, "a request with too large a head")
        names = [name for name, _ in request.headers]
        if b"transfer-encoding" in names and (
            b"content-length" in names or request.http_version == b"1.0"
        ):
            # Two who read it differently see two requests where one was sent (RFC 9112 6.1).
            return self._violated(400, "a request with two lengths")
        self._waits_for_continue = self._h11.they_are_waiting_for_100_continue
        self._may_carry_body = request.method != b"HEAD"
        self._is_chunked = b"transfer-encoding" in names
        headers = tuple(
            (bytes(name), bytes(value))
            for name, value in request.headers
            if name not in _OF_THE_CONNECTION
        )
        target, authority = _split_target(bytes(request.target), headers)
        if authority is not None and not is_authority(authority):
            return self._violated(400, "a request for no possible host")
        if not self._is_chunked and b"upgrade" not in names:
            self._left = next(
                (int(value) for name, value in request.headers if name == b"content-length"), 0
            )
            self._is_counted = self._left > 0
        head = RequestHead(
            method=request.method.decode("ascii"),
            target=target,
            authority=authority,
            version=request.http_version.decode("ascii"),
            headers=headers,
            wants_websocket=(
                request.method == b"GET"
                and request.http_version == b"1.1"
                and _names(request.headers, b"connection", b"upgrade")
                and _names(request.headers, b"upgrade", b"websocket")
            ),
        )
        return [RequestStarted(STREAM, head)]

    def _violated(self, status: int, detail: str) -> list[HttpEvent]:
        self._is_over = True
        may_answer = self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE)
        return [ProtocolViolated(status if may_answer else 0, detail)]

    def take_output(self) -> Buffer:
        output, self._output = self._output, b""
        return output

    def proceed(self, stream: int) -> None:
        if self._waits_for_continue and self._h11.they_are_waiting_for_100_continue:
            informational = h11.InformationalResponse(status_code=100, headers=[])
            self._output += self._h11.send(informational) or b""
        self._waits_for_continue = False

    def consumed(self, stream: int, credit: int) -> None:
        pass

    def begin_response(self, stream: int, status: int, headers: RawHeaders) -> list[Output]:
        said = [(name.title(), value) for name, value in headers]
        if not self.is_body_complete or self._is_going or self._is_over:
            # What is left of the request is not waited for, and so nothing can follow it.
            said.append((b"Connection", b"close"))
        self._may_carry_body = self._may_carry_body and status not in (204, 304)
        return _outputs(self._h11.send(h11.Response(status_code=status, headers=said)))

    def room(self, stream: int) -> int:
        return _UNBOUNDED

    def response_data(self, stream: int, data: Output) -> list[Output]:
        if not self._may_carry_body:
            return []
        # h11 counts the bytes and gives back the very object.
        event = h11.Data(data=cast("bytes", data))
        return cast("list[Output]", self._h11.send_with_data_passthrough(event) or [])

    def response_body(self, stream: int, pieces: Sequence[Output]) -> list[Output]:
        """The whole body, in its pieces."""
        body = _Joined(pieces)
        outputs: list[Output] = []
        if not self._may_carry_body or not len(body):
            return outputs
        data = h11.Data(data=cast("bytes", body))
        for part in self._h11.send_with_data_passthrough(data) or ():
            outputs += pieces if cast("object", part) is body else (part,)
        return outputs

    def end_response(self, stream: int) -> list[Output]:
        return _outputs(self._h11.send(h11.EndOfMessage()))

    def reset(self, stream: int) -> list[Output]:
        # Only the end of the connection says it; whoever drives it closes.
        self._is_over = True
        self._h11.send_failed()
        return []

    def switch(self, headers: RawHeaders) -> tuple[list[Output], bytes]:
        """The head of a 101 (Switching Protocols), and what has come behind the request."""
        said = [(name.title(), value) for name, value in headers]
        response = h11.InformationalResponse(status_code=101, headers=said)
        return _outputs(self._h11.send(response)), self._h11.trailing_data[0] + bytes(self._later)

    def go_away(self) -> list[Output]:
        self._is_going = True
        return []


class _Joined:
    """Pieces that h11 counts as one."""

    __slots__ = ("_length",)

    def __init__(self, pieces: Sequence[Output]) -> None:
        self._length = sum(map(len, pieces))

    def __len__(self) -> int:
        return self._length


def _head_of(waiting: bytes) -> bytes:
    """What of the next head is here."""
    end = waiting.find(b"\r\n\r\n")
    return waiting if end < 0 else waiting[:end]


def _new_connection() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEADER_BYTES)


def _names(headers: RawHeaders, field: bytes, token: bytes) -> bool:
    """Whether a list in a field has *token*."""
    return any(
        token in (one.strip().lower() for one in value.split(b","))
        for name, value in headers
        if name == field
    )


def _outputs(data: Any) -> list[Output]:
    return [data] if data else []


def _split_target(target: bytes, headers: RawHeaders) -> tuple[bytes, str | None]:
    """Path and authority; a target in absolute form wins over `Host` (RFC 9112 3.2.2)."""
    for scheme in (b"http://", b"https://"):
        if target[: len(scheme)].lower() == scheme:
            authority, slash, path = target[len(scheme) :].partition(b"/")
            return slash + path or b"/", authority.decode("latin-1")
    host = next((value for name, value in headers if name == b"host"), None)
    return target, None if host is None else host.decode("latin-1")
