"""The HTTP client: TLS with a certificate, HTTP/2, deadlines, and when a request is repeated."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from isocenter.services.net.http.application import RoutedApplication
from isocenter.services.net.http.client import (
    Content,
    HttpClient,
    HttpDeadlines,
    Retries,
    origin_of,
)
from isocenter.services.net.http.client_errors import BrokenAnswerError, ServerUnreachableError
from isocenter.services.net.http.messages import Request, Response, json_response
from isocenter.services.net.http.routing import Route, RouteTable
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.net.tls.contexts import (
    ClientCertificates,
    TlsFiles,
    client_context,
    server_context,
)
from isocenter.services.security.certificates.authority import CertificateAuthority
from support.ports import free_port
from support.web_archive import http_serving

ONCE = Retries(attempts=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    folder = tmp_path_factory.mktemp("ca")
    ca = CertificateAuthority.create(folder / "ca")
    ca.issue("HERE", hosts=["127.0.0.1"], folder=folder)
    return TlsFiles(
        certificate=folder / "HERE.crt", key=folder / "HERE.key", ca=ca.certificate_path
    )


def application() -> RoutedApplication:
    async def who(request: Request) -> Response:
        identity = request.identity
        return json_response(identity.common_name if identity is not None else None)

    async def count(request: Request) -> Response:
        length = 0
        async for chunk in request.chunks():
            length += len(chunk)
        return json_response([length, request.header("content-length")])

    return RoutedApplication(
        RouteTable(
            [
                Route(method="GET", path="/who", handler=who, text="Says who asks."),
                Route(method="POST", path="/count", handler=count, text="Counts."),
            ]
        )
    )


@asynccontextmanager
async def tls_serving(files: TlsFiles) -> AsyncIterator[str]:
    context = server_context(
        files, client_certificates=ClientCertificates.OPTIONAL, protocols=("h2", "http/1.1")
    )
    bind = ListenAddress(host="127.0.0.1", port=0, tls=lambda: context)
    async with http_serving(application(), bind) as url:
        yield url


@pytest.mark.parametrize("http2", [False, True])
async def test_over_tls_with_a_certificate(files: TlsFiles, http2: bool) -> None:
    body = os.urandom(300_000)

    async def pieces() -> AsyncGenerator[bytes, None]:
        for at in range(0, len(body), 70_000):
            yield body[at : at + 70_000]

    async with (
        tls_serving(files) as url,
        HttpClient(url, tls=client_context(files), http2=http2) as client,
    ):
        async with client.request("GET", client.url("/who")) as response:
            assert await response.body(100) == b'"HERE"'
        for length in (len(body), None):
            content = Content(media_type="application/x", pieces=pieces, length=length)
            async with client.request("POST", client.url("/count"), content=content) as response:
                said = "null" if length is None else f'"{length}"'
                assert await response.body(100) == b"[%d,%s]" % (len(body), said.encode())


async def unreachable(url: str, tls: ssl.SSLContext | None = None) -> str:
    async with HttpClient(url, tls=tls, retries=ONCE) as client:
        with pytest.raises(ServerUnreachableError) as info:
            async with client.request("GET", url):
                pass
    return str(info.value)


async def test_why_there_is_no_connection(files: TlsFiles, tmp_path: Path) -> None:
    port = free_port()
    where = f"cannot connect to 127.0.0.1:{port}"
    assert await unreachable(f"http://127.0.0.1:{port}") == (
        f"{where}: connection refused; is the server running, and is the port right?"
    )
    # At the first contact nobody waits for another attempt.
    async with HttpClient(f"http://127.0.0.1:{port}", retries=Retries(first_seconds=1e6)) as client:
        with pytest.raises(ServerUnreachableError), trio.fail_after(60):
            async with client.request("GET", client.base):
                pass
    async with tls_serving(files) as url:
        CertificateAuthority.create(tmp_path / "other")
        other = TlsFiles(ca=tmp_path / "other" / "ca.crt")
        text = await unreachable(url, client_context(other))
        assert "the peer's certificate was refused" in text
    async with http_serving(application()) as url:
        text = await unreachable(url.replace("http:", "https:"), client_context(files))
        assert "does not speak TLS" in text


@asynccontextmanager
async def silent(answer: bytes = b"") -> AsyncIterator[tuple[str, list[int]]]:
    """A server that reads, says *answer*, and nothing more; and how often it was called."""
    calls: list[int] = []

    async def handle(stream: trio.SocketStream) -> None:
        calls.append(1)
        await stream.receive_some()
        if answer:
            await stream.send_all(answer)
        await trio.sleep_forever()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", calls
        nursery.cancel_scope.cancel()


async def seen(calls: list[int], count: int) -> None:
    """Until the server has got round to so many calls; there are no more."""
    with trio.fail_after(60):
        while len(calls) < count:
            await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    assert len(calls) == count


async def test_deadlines() -> None:
    short = HttpDeadlines(answer=0.5)
    async with silent() as (url, calls):
        retries = Retries(attempts=2, first_seconds=0.001)
        async with HttpClient(url, deadlines=short, retries=retries) as client:
            with pytest.raises(BrokenAnswerError, match="no answer within"):
                async with client.request("GET", url):
                    pass
            await seen(calls, 2)
            # What changes something is not done twice.
            with pytest.raises(BrokenAnswerError):
                async with client.request("DELETE", url):
                    pass
            await seen(calls, 3)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"
    async with (
        silent(head) as (url, _),
        HttpClient(url, deadlines=HttpDeadlines(idle=0.5)) as client,
        client.request("GET", url) as response,
    ):
        with pytest.raises(BrokenAnswerError, match=r"nothing came for 0\.5 s"):
            await response.body(100)


async def test_a_server_that_reads_no_more() -> None:
    async def endless() -> AsyncGenerator[bytes, None]:
        while True:
            yield bytes(1 << 20)

    async with silent() as (url, _):
        deadlines = HttpDeadlines(idle=0.2)
        async with HttpClient(url, deadlines=deadlines, retries=ONCE) as client:
            content = Content(media_type="application/x", pieces=endless)
            with pytest.raises(BrokenAnswerError, match="the server took no more of the request"):
                async with client.request("POST", url, content=content):
                    pass


def test_whom_a_token_may_be_shown_to() -> None:
    assert origin_of("https://Archive.example/a") == origin_of("https://archive.example:443/b")
    assert origin_of("http://archive.example") != origin_of("https://archive.example")
