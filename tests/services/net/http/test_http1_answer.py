"""Responses of HTTP/1.1: what tells where their bodies end."""

from __future__ import annotations

import pytest

from isocenter.services.net.http.http1_answer import Http1Answer
from isocenter.services.net.http.protocol import Output

LENGTH = (b"content-length", b"4")


def said(answer: Http1Answer, status: int = 200, *fields: tuple[bytes, bytes]) -> bytes:
    """All of it, with a body of four bytes."""
    outputs: list[Output] = [answer.begin(status, fields), *answer.data(b"body"), *answer.end()]
    assert answer.is_complete
    return b"".join(bytes(memoryview(one)) for one in outputs)  # type: ignore[arg-type]


def test_a_body_of_a_known_length() -> None:
    answer = Http1Answer(has_chunks=True)
    expected = b"HTTP/1.1 200 \r\nContent-Length: 4\r\nX-Y: z\r\n\r\nbody"
    assert said(answer, 200, LENGTH, (b"x-y", b"z")) == expected
    assert not answer.closes


def test_a_body_of_an_unknown_length() -> None:
    answer = Http1Answer(has_chunks=True)
    expected = b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
    assert said(answer) == expected
    assert not answer.closes


def test_a_chunk_of_nothing_is_no_end() -> None:
    answer = Http1Answer(has_chunks=True)
    answer.begin(200, [])
    assert answer.data(b"") == []


def test_without_chunks_the_connection_is_the_end() -> None:
    answer = Http1Answer()
    assert said(answer) == b"HTTP/1.1 200 \r\nConnection: close\r\n\r\nbody"
    assert answer.closes


def test_who_asks_for_the_head_gets_no_body() -> None:
    expected = b"HTTP/1.1 200 \r\nContent-Length: 4\r\n\r\n"
    assert said(Http1Answer(is_head=True, has_chunks=True), 200, LENGTH) == expected
    expected = b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n"
    assert said(Http1Answer(is_head=True, has_chunks=True)) == expected


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(status: int) -> None:
    assert said(Http1Answer(has_chunks=True), status) == b"HTTP/1.1 %d \r\n\r\n" % status


@pytest.mark.parametrize(
    "field",
    [
        (b"x", b"a\r\nb: c"),
        (b"x", b"a\nb"),
        (b"x", b"a\x00"),
        (b"x", b" a"),
        (b"x", b"a "),
        (b"x y", b"a"),
        (b"x:", b"a"),
        (b"", b"a"),
    ],
)
def test_a_field_that_would_be_another_one(field: tuple[bytes, bytes]) -> None:
    answer = Http1Answer(has_chunks=True)
    with pytest.raises(ValueError, match="a field of a response"):
        answer.begin(200, [field])
    assert not answer.is_begun


def test_fields_that_may_be() -> None:
    fields = [(b"x", b""), (b"y", b"\xe9 \t b"), (b"z", b"1")]
    head = Http1Answer(closes=True).begin(204, fields)
    assert head == (b"HTTP/1.1 204 \r\nX: \r\nY: \xe9 \t b\r\nZ: 1\r\nConnection: close\r\n\r\n")


def test_a_body_is_as_long_as_was_said() -> None:
    answer = Http1Answer(has_chunks=True)
    answer.begin(200, [LENGTH])
    answer.data(b"bod")
    with pytest.raises(ValueError, match="shorter"):
        answer.end()
    assert not answer.is_complete
    with pytest.raises(ValueError, match="longer"):
        answer.data(b"yy")
