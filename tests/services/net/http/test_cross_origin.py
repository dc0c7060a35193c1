"""Pages of other origins: who may read, who may change, and what browsers are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.net.addresses import is_authority, is_loopback_authority
from isocenter.services.net.http.cross_origin import (
    NO_ORIGINS,
    AllowedOrigins,
    is_origin,
    may_change,
)

VIEWER = "https://viewer.example"
ALLOWED = AllowedOrigins(frozenset({VIEWER}))
OWN = ["http://localhost:8080"]


def test_an_allowed_origin_is_told_so() -> None:
    said = dict(ALLOWED.headers(VIEWER))
    assert said["access-control-allow-origin"] == VIEWER
    assert said["vary"] == "Origin"
    assert "content-length" in said["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in said
    preflight = dict(ALLOWED.preflight(VIEWER, ("GET", "POST")))
    assert preflight["access-control-allow-methods"] == "GET, POST"
    for name in ("authorization", "content-type", "accept", "range", "if-none-match"):
        assert name in preflight["access-control-allow-headers"].split(", ")


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "",
        "*",
        "http://viewer.example",
        "https://viewer.example:443",
        "https://viewer.example.evil.test",
        "https://evilviewer.example",
        "https://VIEWER.example",
        "https://viewer.example/",
        " https://viewer.example",
    ],
)
def test_others_are_told_nothing(origin: str | None) -> None:
    assert ALLOWED.headers(origin) == [("vary", "Origin")]
    assert [name for name, _ in ALLOWED.preflight(origin, ("GET",))] == ["vary"]
    assert NO_ORIGINS.headers(origin) == NO_ORIGINS.preflight(origin, ("GET",)) == []


@given(st.text())
def test_only_what_is_listed_is_allowed(origin: str) -> None:
    assert ALLOWED.allows(origin) is (origin == VIEWER)
    if origin != VIEWER:
        assert not may_change("POST", OWN, ALLOWED, {"origin": origin}.get) or origin in OWN


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "FLY"])
@pytest.mark.parametrize(
    ("headers", "may"),
    [
        ({}, True),
        ({"origin": "http://localhost:8080"}, True),
        ({"origin": "http://localhost:8080", "sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"origin": VIEWER, "sec-fetch-site": "cross-site"}, True),
        ({"origin": "http://localhost:9090"}, False),
        ({"origin": "https://localhost:8080"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "something new"}, False),
        ({"origin": "http://localhost:8080", "sec-fetch-site": "cross-site"}, False),
        ({"origin": "http://localhost:8080, http://evil.example"}, False),
    ],
)
def test_who_may_change_something(method: str, headers: dict[str, str], may: bool) -> None:
    assert may_change(method, OWN, ALLOWED, headers.get) is may
    assert may_change("GET", OWN, ALLOWED, headers.get)


@pytest.mark.parametrize(
    "text",
    ["https://viewer.example", "http://localhost:3000", "http://[::1]:3000", "https://10.0.0.7"],
)
def test_origins(text: str) -> None:
    assert is_origin(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "null",
        "viewer.example",
        "ftp://viewer.example",
        "https://",
        "https://viewer.example/",
        "https://viewer.example/app",
        "https://viewer.example:443",
        "http://viewer.example:80",
        "https://viewer.example:",
        "https://Viewer.example",
        "HTTPS://viewer.example",
        "https://*.example",
        "https://me@viewer.example",
        "https://viewer.example:99999",
        "https://viewer.example?x",
    ],
)
def test_what_no_browser_writes_as_an_origin(text: str) -> None:
    assert not is_origin(text)


@pytest.mark.parametrize(
    "text",
    ["a", "a:", "a:80", "archive.example:65535", "10.0.0.7", "[::1]", "[::1]:80", "my_host"],
)
def test_authorities(text: str) -> None:
    assert is_authority(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "a:b",
        "a:65536",
        "a b",
        "a/b",
        "a@b",
        "a?b",
        "a#b",
        "a\\b",
        "a%00b",
        "127.0.0.1%evil",
        "[::1",
        "::1",
        "[::1]x",
        "[127.0.0.1]",
        "[]",
        "[v1.x]",
        "a,b",
        "é",
        "a\r\nX: y",
        "a:٣",
        "a" * 256,
    ],
)
def test_what_is_no_authority(text: str) -> None:
    assert not is_authority(text)
    assert not is_loopback_authority(text)


@given(st.text())
def test_only_names_of_this_machine_are_loopback(text: str) -> None:
    if is_loopback_authority(text):
        assert is_authority(text)
        assert text.lower().startswith(("localhost", "127.", "[::1]", "[0", "[::ffff:7f", "[::f"))
