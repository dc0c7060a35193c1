"""HTTP/1.1: bodies of a length that was announced, however their bytes are cut."""

from __future__ import annotations

import pytest

from isocenter.services.net.http.http1 import STREAM, Http1
from isocenter.services.net.http.protocol import (
    BodyReceived,
    ConnectionEnded,
    HttpEvent,
    ProtocolViolated,
    RequestEnded,
    RequestStarted,
)

POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\nGET / \r"
GET = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"


def requests_of(*pieces: bytes) -> list[tuple[bytes, bytes]]:
    """Targets and bodies of the requests in it; each is answered when it is whole."""
    http = Http1()
    found: list[tuple[bytes, bytes]] = []
    for piece in pieces:
        events: list[HttpEvent] = http.receive(piece)
        while events:
            match events.pop(0):
                case RequestStarted(_, head):
                    found.append((head.target, b""))
                case BodyReceived(_, data, credit):
                    assert credit == len(data)
                    found[-1] = (found[-1][0], found[-1][1] + bytes(data))
                case RequestEnded():
                    assert not events
                    assert http.is_body_complete
                    http.begin_response(STREAM, 200, [(b"content-length", b"0")])
                    http.end_response(STREAM)
                    assert http.may_be_kept
                    events = http.next_request()
                case other:
                    raise AssertionError(other)
    return found


@pytest.mark.parametrize("first", range(1, len(POST + POST + GET)))
def test_what_comes_behind_a_body_is_the_next_request(first: int) -> None:
    sent = POST + POST + GET
    expected = [(b"/a", b"GET / \r"), (b"/a", b"GET / \r"), (b"/b", b"")]
    assert requests_of(sent[:first], sent[first:]) == expected


def test_bytes_one_by_one() -> None:
    sent = POST + GET
    assert requests_of(*(sent[at : at + 1] for at in range(len(sent)))) == [
        (b"/a", b"GET / \r"),
        (b"/b", b""),
    ]


def test_a_body_that_is_cut() -> None:
    http = Http1()
    http.receive(POST[:-1])
    assert not http.is_body_complete
    assert not http.may_be_kept
    (violated,) = http.receive(b"")
    assert isinstance(violated, ProtocolViolated)
    assert violated.status == 400


def test_who_goes_when_all_was_sent_has_gone() -> None:
    http = Http1()
    http.receive(POST)
    assert http.receive(b"") == [ConnectionEnded()]


def test_who_sends_a_body_at_once_does_not_wait_for_100() -> None:
    for body, said in ((b"", b"HTTP/1.1 100"), (b"GET / \r", b"")):
        http = Http1()
        http.receive(POST[:-7].replace(b"Host", b"Expect: 100-continue\r\nHost") + body)
        http.proceed(STREAM)
        assert bytes(http.take_output())[:12] == said
