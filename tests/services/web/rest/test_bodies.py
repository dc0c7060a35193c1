"""Bodies of requests: what does not fit is answered with the fault and the cure."""

from __future__ import annotations

import pytest

from isocenter.services.net.http.exchange import Message
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.web.rest.bodies import Body, encoded, read_body


class Colour(Body):
    """What is painted."""

    name: str
    numbers: tuple[int, ...] = ()


def request_of(body: bytes, media_type: str = "application/json") -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", media_type.encode())]
    return Request(
        {"method": "POST", "scheme": "https", "raw_path": b"/", "headers": headers}, receive
    )


async def test_a_body_is_read() -> None:
    request = request_of(b'{"name": "r\\u00f6t", "numbers": [1, 2]}', "application/JSON; a=b")
    assert await read_body(request, Colour) == Colour(name="röt", numbers=(1, 2))


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (b"", "EMPTY_BODY", "an object with name, numbers"),
        (b"{", "INVALID_JSON", "no JSON"),
        (b'{"name": "\xff"}', "INVALID_JSON", "no JSON"),
        (b"[" * 100_000, "INVALID_", ""),
        (b'{"name": "a", "numbers": ' + b"[" * 100_000, "INVALID_", ""),
        (b"[]", "INVALID_REQUEST", "Expected `object`"),
        (b"{}", "INVALID_REQUEST", "missing required field `name`"),
        (b'{"name": 7}', "INVALID_REQUEST", "Expected `str`, got `int` - at `$.name`"),
        (b'{"name": "a", "numbers": [1, "2"]}', "INVALID_REQUEST", "$.numbers[1]"),
        (b'{"nmae": "a"}', "INVALID_REQUEST", "unknown field `nmae`; did you mean name?"),
        (b'{"xyz": "a"}', "INVALID_REQUEST", "there are name, numbers"),
    ],
)
async def test_a_body_that_cannot_be_is_told(body: bytes, code: str, said: str) -> None:
    with pytest.raises(HttpError) as caught:
        await read_body(request_of(body), Colour)
    assert caught.value.status == 400
    assert caught.value.code.startswith(code)
    assert said in caught.value.message


async def test_a_body_has_a_bound_and_a_media_type() -> None:
    with pytest.raises(HttpError) as caught:
        await read_body(request_of(b'{"name": "aaaaaaaaaaaaa"}'), Colour, most=10)
    assert (caught.value.status, caught.value.code) == (413, "TOO_LARGE")
    with pytest.raises(HttpError) as caught:
        await read_body(request_of(b"name=a", "application/x-www-form-urlencoded"), Colour)
    assert (caught.value.status, caught.value.code) == (415, "INVALID_CONTENT_TYPE")


def test_what_is_no_text_is_answered_all_the_same() -> None:
    """The log may name a file whose name is none in UTF-8."""
    assert encoded(Colour(name="a\udc80ä")) == '{"name": "a?ä", "numbers": []}'.encode()
