"""Programs on this machine are served; pages of the web that run here are not."""

from __future__ import annotations

import pytest

from isocenter.services.net.http.exchange import Message
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.local_access import from_this_machine


async def _handler(request: Request) -> Response:
    return Response()


ROUTE = Route(method="GET", path="/", handler=_handler, text="")


def request_of(
    method: str = "GET", client: str = "127.0.0.1", host: str = "localhost:8080", **headers: str
) -> Request:
    async def receive() -> Message:
        raise AssertionError("there is no body")

    return Request(
        {
            "method": method,
            "scheme": "http",
            "raw_path": b"/",
            "client": (client, 1),
            "isocenter.authority": host,
            "headers": [
                (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
            ],
        },
        receive,
    )


@pytest.mark.parametrize(
    "request_",
    [
        request_of(),
        request_of(client="::1", host="[::1]:8080"),
        request_of("POST"),
        request_of("POST", origin="http://localhost:8080"),
        request_of("POST", sec_fetch_site="same-origin", origin="http://localhost:8080"),
        request_of("POST", sec_fetch_site="none"),
        request_of(sec_fetch_site="cross-site"),  # a link that somebody follows
    ],
)
async def test_served(request_: Request) -> None:
    await from_this_machine(request_, ROUTE)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (request_of(client="10.0.0.7"), 401),
        (request_of(client="10.0.0.7", host="archive.example"), 401),
        (request_of(host="evil.example"), 403),
        (request_of(host="evil.example:8080"), 403),
        (request_of(host="127.0.0.1.evil.example"), 403),
        (request_of("POST", origin="http://evil.example"), 403),
        (request_of("POST", origin="null"), 403),
        (request_of("POST", origin="http://localhost:9999"), 403),
        (request_of("DELETE", sec_fetch_site="cross-site"), 403),
        (request_of("POST", sec_fetch_site="same-site"), 403),
    ],
)
async def test_not_served(request_: Request, status: int) -> None:
    with pytest.raises(HttpError) as caught:
        await from_this_machine(request_, ROUTE)
    assert caught.value.status == status
    assert ("www-authenticate" in dict(caught.value.headers)) is (status == 401)
