"""HTTP/1.1: heads and bodies, however their bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


FIELDS = (
    b"Host: x",
    b"host:127.0.0.1:8080",
    b"HOST: a b",
    b"Host:",
    b"Accept: multipart/related; type=application/octet-stream",
    b"Accept:  */*  ",
    b"X-Empty:",
    b"X-Tab: a\tb",
    b"X-Latin: \xe9",
    b"X-Control: \x01",
    b"X-Nul: \x00",
    b"X-Space : a",
    b" folded",
    b"",
    b"X-Bare: a\nY: b",
    b"X-Return: a\rY: b",
    b"Connection: keep-alive",
    b"Connection: Keep-Alive, x",
    b"Connection: close",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"TE: trailers",
    b"Expect: 100-continue",
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Transfer-Encoding: chunked",
    b"Cookie: " + b"c" * 1900,
)


@given(
    method=st.sampled_from([b"GET"] * 5 + [b"HEAD", b"POST", b"get", b"CONNECT", b" GET"]),
    target=st.sampled_from([b"/", b"/a?b=%20", b"*", b"http://y:1/z", b"/ b", b"/\xe9", b""]),
    version=st.sampled_from([b"HTTP/1.1"] * 5 + [b"HTTP/1.0", b"HTTP/1.2", b"http/1.1", b""]),
    fields=st.lists(st.sampled_from(FIELDS), max_size=5),
    is_whole=st.booleans(),
)
def test_a_head_is_the_same_whether_it_comes_at_once(
    method: bytes, target: bytes, version: bytes, fields: list[bytes], is_whole: bool
) -> None:
    # Cut, it is h11 that reads it.
    lines = [method + b" " + target + b" " + version, *([b"Host: x"] if is_whole else []), *fields]
    sent = b"\r\n".join(lines) + b"\r\n\r\n"
    once, cut = Http1(), Http1()
    events = once.receive(sent)
    assert cut.receive(sent[:-1]) + cut.receive(sent[-1:]) == events
    for http in (once, cut):
        http.proceed(STREAM)
    assert once.take_output() == cut.take_output()
    answers = [http.begin_response(STREAM, 200, [(b"a", b"b")]) for http in (once, cut)]
    for http, answer in zip((once, cut), answers, strict=True):
        answer += http.response_data(STREAM, b"body") + http.end_response(STREAM)
    assert answers[0] == answers[1]
    assert once.may_be_kept is cut.may_be_kept
    if once.may_be_kept:
        assert once.next_request() == cut.next_request()
        assert once.receive(GET) == cut.receive(GET)


def test_what_follows_an_answer_before_the_end_of_its_request_is_no_request() -> None:
    http = Http1()
    http.receive(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
    (head,) = http.begin_response(STREAM, 413, [(b"content-length", b"0")])
    assert isinstance(head, bytes)
    assert b"\r\nConnection: close\r\n" in head
    http.end_response(STREAM)
    assert not http.may_be_kept
    events = http.receive(b"cde\r\n0\r\n\r\n" + GET)
    assert not any(isinstance(event, RequestStarted) for event in events)


def test_what_comes_while_a_request_is_answered_waits() -> None:
    http = Http1()
    assert len(http.receive(GET + GET[:9])) == 2
    assert http.receive(GET[9:]) == []
    assert http.waiting == len(GET)
    http.begin_response(STREAM, 204, [])
    http.end_response(STREAM)
    started, ended = http.next_request()
    assert isinstance(started, RequestStarted)
    assert ended == RequestEnded(STREAM)
    assert http.receive(b"") == [ConnectionEnded()]
