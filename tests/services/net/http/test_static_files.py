"""Static files: what is in the folder, in whole and in parts, and nothing from outside of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from isocenter.services.net.http.application import RoutedApplication
from isocenter.services.net.http.routing import Route, RouteTable
from isocenter.services.net.http.static_files import ISOLATED, StaticFiles
from support.web_archive import http_serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that is served, with a secret beside it and links to that."""
    (tmp_path / "secret.txt").write_text("secret")
    found = tmp_path / "site"
    (found / "inner").mkdir(parents=True)
    (found / "index.html").write_text("<!doctype html><title>start</title>")
    (found / "app.0123abcd.js").write_bytes(b"x = 1;\n" * 100_000)
    (found / "inner" / "Größe 1.svg").write_text("<svg/>")
    (found / "data").write_bytes(b"no suffix")
    (found / ".hidden").write_text("secret")
    (found / "link.txt").symlink_to(tmp_path / "secret.txt")
    (found / "up").symlink_to(tmp_path)
    os.mkfifo(found / "pipe")
    return found


@pytest.fixture
async def client(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    files = StaticFiles(
        folder,
        never_changes=lambda path: "0123" in path,
        fallback="index.html",
        headers=ISOLATED,
    )
    routes = [
        Route(method="GET", path=path, handler=files, text="Files.") for path in ("/", "/{path...}")
    ]
    async with (
        http_serving(RoutedApplication(RouteTable(routes))) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        yield client


async def test_files_and_their_types(client: httpx.AsyncClient) -> None:
    for path, kind, begins in (
        ("/", "text/html; charset=utf-8", "<!doctype"),
        ("/index.html", "text/html; charset=utf-8", "<!doctype"),
        ("/app.0123abcd.js", "text/javascript; charset=utf-8", "x = 1;"),
        ("/inner/Gr%C3%B6%C3%9Fe%201.svg", "image/svg+xml", "<svg"),
        ("/data", "application/octet-stream", "no suffix"),
        ("/viewer", "text/html; charset=utf-8", "<!doctype"),
        ("/viewer/deeper?StudyInstanceUIDs=1.2", "text/html; charset=utf-8", "<!doctype"),
    ):
        answer = await client.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"] == kind
        assert answer.text.startswith(begins)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
    head = await client.head("/app.0123abcd.js")
    assert (head.content, head.headers["content-length"]) == (b"", "700000")


async def test_what_is_kept_and_what_is_asked_for_again(
    client: httpx.AsyncClient, folder: Path
) -> None:
    script = await client.get("/app.0123abcd.js")
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    page = await client.get("/")
    assert page.headers["cache-control"] == "no-cache"
    tag = page.headers["etag"]
    again = await client.get("/", headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == tag
    (folder / "index.html").write_text("<!doctype html><title>other</title>")
    other = await client.get("/", headers={"if-none-match": tag})
    assert other.status_code == 200
    assert other.headers["etag"] != tag


async def test_parts(client: httpx.AsyncClient) -> None:
    whole = await client.get("/app.0123abcd.js")
    part = await client.get("/app.0123abcd.js", headers={"range": "bytes=3-9"})
    assert (part.status_code, part.content) == (206, whole.content[3:10])
    assert part.headers["content-range"] == "bytes 3-9/700000"
    wrong = await client.get("/app.0123abcd.js", headers={"range": "bytes=700000-"})
    assert wrong.status_code == 416
    stale = {"range": "bytes=3-9", "if-range": '"old"'}
    assert (await client.get("/app.0123abcd.js", headers=stale)).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt", "/..%2Fsecret.txt", "/%2e%2e/secret.txt", "/inner/..%2f..%2fsecret.txt",
        "/link.txt", "/up/secret.txt", "/.hidden", "/pipe.txt", "/inner/.svg", "/..%5Csecret.txt",
        "/secret.txt", "/no-such.js", "/%00.txt", "/C:%5Csecret.txt", "/index.html/x.txt",
    ],
)  # fmt: skip
async def test_nothing_else(client: httpx.AsyncClient, path: str) -> None:
    raw = httpx.URL(str(client.base_url).rstrip("/") + "/", raw_path=path.encode())
    answer = await client.send(client.build_request("GET", raw))
    assert answer.status_code == 404
    assert "secret" not in answer.text


async def test_folders_and_pipes_are_no_files(folder: Path) -> None:
    files = StaticFiles(folder)
    routes = [Route(method="GET", path="/{path...}", handler=files, text="Files.")]
    async with (
        http_serving(RoutedApplication(RouteTable(routes))) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        for path in ("/inner", "/pipe", "/up", "/viewer"):
            assert (await client.get(path)).status_code == 404
        assert (await client.post("/data")).status_code == 405
