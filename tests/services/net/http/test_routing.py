"""A route table: which request goes where."""

from __future__ import annotations

import pytest

from isocenter.services.net.http.routing import (
    MethodNotAllowedError,
    NotFoundError,
    Route,
    RouteTable,
)


def route(method: str, path: str) -> Route[str]:
    return Route(method=method, path=path, handler=f"{method} {path}", text="")


TABLE = RouteTable(
    [
        route("GET", "/"),
        route("GET", "/studies"),
        route("POST", "/studies"),
        route("GET", "/studies/{study}"),
        route("POST", "/studies/{study}"),
        route("GET", "/studies/{study}/metadata"),
        route("GET", "/studies/count"),
        route("GET", "/studies/{study}/bulk/{path...}"),
        route("DELETE", "/trash/{study}"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "handler", "arguments"),
    [
        ("GET", b"/", "GET /", {}),
        ("GET", b"/studies", "GET /studies", {}),
        ("GET", b"/studies/", "GET /studies", {}),
        ("HEAD", b"/studies", "GET /studies", {}),
        ("POST", b"/studies", "POST /studies", {}),
        ("GET", b"/studies/1.2", "GET /studies/{study}", {"study": "1.2"}),
        ("GET", b"/studies/count", "GET /studies/count", {}),
        ("GET", b"/studies/a%2Fb%20%C3%BC", "GET /studies/{study}", {"study": "a/b ü"}),
        ("GET", b"/studies/1/metadata", "GET /studies/{study}/metadata", {"study": "1"}),
        # What is fixed wins, unless it leads nowhere.
        ("GET", b"/studies/count/metadata", "GET /studies/{study}/metadata", {"study": "count"}),
        (
            "GET",
            b"/studies/1/bulk/a/b",
            "GET /studies/{study}/bulk/{path...}",
            {"study": "1", "path": "a/b"},
        ),
    ],
)
def test_found(method: str, path: bytes, handler: str, arguments: dict[str, str]) -> None:
    found, values = TABLE.find(method, path)
    assert (found.handler, values) == (handler, arguments)


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"studies",
        b"//studies",
        b"/studies//1",
        b"/Studies",
        b"/studies/1/2",
        b"/studies/1/bulk",
        b"/studies/..",
        b"/studies/%2e%2e/metadata",
        b"/studies/%00",
        b"/studies/%0d%0a",
        b"/studies/%ff",
        b"/a" * 1_000,
    ],
)
def test_not_found(path: bytes) -> None:
    for ask in (lambda: TABLE.find("GET", path), lambda: TABLE.allowed(path)):
        with pytest.raises(NotFoundError):
            ask()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", b"/studies", ("GET", "HEAD", "OPTIONS", "POST")),
        ("HEAD", b"/trash/1", ("DELETE", "OPTIONS")),
        ("get", b"/studies", ("GET", "HEAD", "OPTIONS", "POST")),
    ],
)
def test_not_allowed(method: str, path: bytes, allowed: tuple[str, ...]) -> None:
    with pytest.raises(MethodNotAllowedError) as caught:
        TABLE.find(method, path)
    assert caught.value.allowed == allowed == TABLE.allowed(path)


def test_two_that_are_the_same() -> None:
    with pytest.raises(ValueError, match="stands there twice"):
        RouteTable([route("GET", "/a/{b}"), route("GET", "/a/{c}")])


@pytest.mark.parametrize(
    ("path", "depth", "below"),
    [
        (b"/", 0, {route.handler for route in TABLE.routes}),
        (b"/trash", 1, {"DELETE /trash/{study}"}),
        (b"/studies/count", 2, {"GET /studies/count"}),
        (b"/studies/1/bulk", 3, {"GET /studies/{study}/bulk/{path...}"}),
        (b"/studies/1/bulk/a/b/c", 4, {"GET /studies/{study}/bulk/{path...}"}),
    ],
)
def test_what_is_beneath_a_path(path: bytes, depth: int, below: set[str]) -> None:
    found, routes = TABLE.beneath(path)
    assert (found, {route.handler for route in routes}) == (depth, below)


def test_nothing_is_beneath_a_path_that_leads_nowhere() -> None:
    for path in (b"/nothing", b"/studies/1/nothing", b"/studies/1/metadata/more", b"/studies/.."):
        with pytest.raises(NotFoundError):
            TABLE.beneath(path)
