"""What a request accepts, in the spellings of viewers and libraries."""

from __future__ import annotations

import pytest

from isocenter.services.net.http.exchange import Message
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.web.dicomweb.representations import (
    Offer,
    Wanted,
    choose,
    wanted_of,
)

OBJECTS = (
    Offer(media_type="application/dicom", is_multipart=True),
    Offer(media_type="application/dicom", is_multipart=False),
)
JSON = Offer(media_type="application/dicom+json", is_multipart=False)


def request_of(accept: str | None, query: str = "") -> Request:
    async def receive() -> Message:
        raise AssertionError("there is no body")

    headers = [] if accept is None else [(b"accept", accept.encode())]
    return Request(
        {
            "method": "GET",
            "raw_path": b"/",
            "headers": headers,
            "query_string": query.encode(),
        },
        receive,
    )


def first(accept: str | None, query: str = "") -> Wanted:
    return wanted_of(request_of(accept, query))[0]


@pytest.mark.parametrize(
    ("accept", "media_type", "syntax", "is_multipart"),
    [
        (None, "*/*", "*", None),
        ("*/*", "*/*", "*", None),
        ('multipart/related; type="application/dicom"', "application/dicom", None, True),
        ("multipart/related; type=application/dicom", "application/dicom", None, True),
        ("application/dicom", "application/dicom", None, False),
        ("application/dicom; transfer-syntax=*", "application/dicom", "*", False),
        (
            'multipart/related; type="application/octet-stream"; transfer-syntax="*"',
            "application/octet-stream",
            "*",
            True,
        ),
        (
            'multipart/related; type="image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50"',
            "image/jpeg",
            "1.2.840.10008.1.2.4.50",
            True,
        ),
        ('multipart/related; type="image/x-jls"', "image/jls", None, True),
        ("multipart/related; type=image/x-dicom+rle", "image/dicom-rle", None, True),
        ("application/json", "application/dicom+json", None, False),
        ("multipart/related", "*/*", "*", True),
        ("image/jpg", "image/jpeg", None, False),
        ("multipart/related; type='application/dicom'", "application/dicom", None, True),
        ("application/dicom; transfer-syntax=nonsense", "application/dicom", "none", False),
    ],
)
def test_spellings(
    accept: str | None, media_type: str, syntax: str | None, is_multipart: bool | None
) -> None:
    found = first(accept)
    assert (found.media_type.name, found.transfer_syntax, found.is_multipart) == (
        media_type,
        syntax,
        is_multipart,
    )


def test_the_query_wins_over_the_header() -> None:
    assert first("application/dicom", "accept=image/png").media_type.name == "image/png"


def test_the_most_wanted_first_and_never_what_is_not_wanted() -> None:
    found = wanted_of(request_of("image/gif;q=0.1, image/png;q=0, image/jpeg;q=0.9, */*;q=0.5"))
    assert [one.media_type.name for one in found] == ["image/jpeg", "*/*", "image/gif"]


def test_what_cannot_be_understood_is_400() -> None:
    with pytest.raises(HttpError) as caught:
        wanted_of(request_of("nonsense"))
    assert caught.value.status == 400


def test_choice() -> None:
    assert choose(request_of("*/*"), OBJECTS)[0] is OBJECTS[0]
    assert choose(request_of("application/dicom"), OBJECTS)[0] is OBJECTS[1]
    ohif = "application/dicom+json, multipart/related; type=application/octet-stream"
    assert choose(request_of(ohif), [JSON])[0] is JSON
    with pytest.raises(HttpError) as caught:
        choose(request_of('multipart/related; type="nonsense"'), OBJECTS)
    assert caught.value.status == 406
    with pytest.raises(HttpError) as caught:
        choose(request_of("text/html"), OBJECTS)
    assert caught.value.status == 406
    assert 'type="application/dicom"' in caught.value.message
