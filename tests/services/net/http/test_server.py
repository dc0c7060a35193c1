"""An HTTP server on real sockets: programs of others, files, bounds, certificates exchanged."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import httpx
import pytest
import trio
import trio.testing

from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler, RoutedApplication
from isocenter.services.net.http.cross_origin import AllowedOrigins
from isocenter.services.net.http.forwarded import NO_PROXIES, TrustedProxies
from isocenter.services.net.http.limits import HttpLimits
from isocenter.services.net.http.messages import HttpError, Request, Response, json_response
from isocenter.services.net.http.protocol import FileRegion
from isocenter.services.net.http.routing import Route, RouteTable
from isocenter.services.net.http.server import HttpServer
from isocenter.services.net.listeners import ListenAddress, open_listener
from isocenter.services.net.tls.contexts import ClientCertificates, TlsFiles, server_context
from isocenter.services.notices import ConnectionRefused, Notice, Notices
from isocenter.services.security.certificates.authority import CertificateAuthority

FILE_BYTES = 3_000_001


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(FILE_BYTES))
    with path.open("rb") as opened:
        yield opened


def table(file: BinaryIO | None = None) -> RouteTable[Handler]:
    async def hello(request: Request) -> Response:
        if request.arguments["name"] == "nobody":
            raise HttpError(410, "GONE", "nobody is there", [("x-why", "because")])
        return json_response({"hello": request.arguments["name"], "query": request.query})

    async def send_file(request: Request) -> Response:
        assert file is not None
        return Response(
            body=[b"head", FileRegion(file.fileno(), 1, FILE_BYTES - 1), b"tail"],
            headers=[("content-type", "application/octet-stream")],
        )

    async def count(request: Request) -> Response:
        digest, length = hashlib.sha256(), 0
        async for chunk in request.chunks():
            digest.update(chunk)
            length += len(chunk)
        return json_response({"length": length, "digest": digest.hexdigest()})

    async def fail(request: Request) -> Response:
        raise ValueError("of ours")

    async def full(request: Request) -> Response:
        raise StorageError("the disk /secret is full", out_of_resources=True)

    async def made(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for n in range(3):
                yield b"%d" % n

        return Response(body=pieces())

    return RouteTable(
        [
            Route(method="GET", path="/hello/{name}", handler=hello, text="Greets."),
            Route(method="GET", path="/file", handler=send_file, text="Sends a file."),
            Route(method="POST", path="/count", handler=count, text="Counts."),
            Route(method="GET", path="/fail", handler=fail, text="Fails."),
            Route(method="GET", path="/full", handler=full, text="Finds the disk full."),
            Route(method="GET", path="/made", handler=made, text="Makes a body."),
        ]
    )


@asynccontextmanager
async def serving(
    application: RoutedApplication,
    *,
    tls: Callable[[], ssl.SSLContext] | None = None,
    limits: HttpLimits = HttpLimits(),  # noqa: B008 - it is frozen
    proxies: TrustedProxies = NO_PROXIES,
    notices: Notices | None = None,
) -> AsyncIterator[tuple[str, int, HttpServer]]:
    bind = ListenAddress(host="127.0.0.1", port=0, tls=tls)
    listeners = open_listener(bind)
    server = HttpServer(application, limits, proxies=proxies, notices=notices)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run, [(sock, bind) for sock in listeners])
            port = listeners[0].getsockname()[1]
            yield f"http{'s' if tls else ''}://127.0.0.1:{port}", port, server
            nursery.cancel_scope.cancel()
    finally:
        for sock in listeners:
            sock.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    folder = tmp_path_factory.mktemp("ca")
    ca = CertificateAuthority.create(folder / "ca")
    ca.issue("HERE", hosts=["127.0.0.1"], folder=folder)
    return TlsFiles(
        certificate=folder / "HERE.crt", key=folder / "HERE.key", ca=ca.certificate_path
    )


def web_context(files: TlsFiles) -> ssl.SSLContext:
    return server_context(
        files, client_certificates=ClientCertificates.OPTIONAL, protocols=("h2", "http/1.1")
    )


T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(call, abandon_on_cancel=True)


async def test_pythons_client(file: BinaryIO) -> None:
    expected = b"head" + os.pread(file.fileno(), FILE_BYTES, 1) + b"tail"

    def ask(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(3):  # on the same connection
            connection.request("GET", "/file")
            answer = connection.getresponse()
            assert answer.read() == expected
        connection.request("HEAD", "/file")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
        assert answer.headers["Content-Length"] == str(len(expected))
        connection.request("GET", "/made")
        assert connection.getresponse().read() == b"012"
        body = os.urandom(1_000_000)
        connection.request("POST", "/count", body)
        told = json.loads(connection.getresponse().read())
        assert told == {"length": len(body), "digest": hashlib.sha256(body).hexdigest()}
        connection.close()

    async with serving(RoutedApplication(table(file))) as (_, port, _server):
        await in_thread(partial(ask, port))


@pytest.mark.parametrize("http2", [False, True])
async def test_httpx_over_tls(file: BinaryIO, files: TlsFiles, http2: bool) -> None:
    expected = b"head" + os.pread(file.fileno(), FILE_BYTES, 1) + b"tail"
    trust = ssl.create_default_context(cafile=files.ca)
    context = web_context(files)
    async with (
        serving(RoutedApplication(table(file)), tls=lambda: context) as (url, _, _server),
        httpx.AsyncClient(http2=http2, http1=not http2, verify=trust, timeout=60) as client,
    ):
        answer = await client.get(f"{url}/hello/y%C3%B3u%2F?a=1&a=&b=%20+")
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert answer.json() == {
            "hello": "y\u00f3u/",
            "query": [["a", "1"], ["a", ""], ["b", "  "]],
        }
        assert (await client.get(f"{url}/file")).content == expected
        assert (await client.head(f"{url}/file")).headers["content-length"] == str(len(expected))
        body = os.urandom(1_000_000)
        told = (await client.post(f"{url}/count", content=body)).json()
        assert told["digest"] == hashlib.sha256(body).hexdigest()
        assert (await client.get(f"{url}/made")).content == b"012"


@pytest.mark.parametrize("is_tls", [False, True])
async def test_answers_that_the_peer_takes_late(
    file: BinaryIO, files: TlsFiles, is_tls: bool
) -> None:
    """What leaves at once, what waits for the peer, and what follows it are one after the other."""
    size, count = 200_001, 100
    context = web_context(files)

    async def pieces(request: Request) -> Response:
        number = int(request.arguments["number"])
        first = b"<%d>" % number * (size // 4)
        if number % 2:
            return Response(body=first)
        region = FileRegion(file.fileno(), number, size)
        return Response(body=[first, region, b"", b"x" * number, region, b"end"])

    def expected(number: int) -> bytes:
        first = b"<%d>" % number * (size // 4)
        if number % 2:
            return first
        region = os.pread(file.fileno(), size, number)
        return first + region + b"x" * number + region + b"end"

    def ask(port: int) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        if is_tls:
            trust = ssl.create_default_context(cafile=files.ca)
            sock = trust.wrap_socket(sock, server_hostname="127.0.0.1")
        heads = [b"GET /%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % n for n in range(count)]
        sock.sendall(b"".join(heads))
        return sock

    def take(sock: socket.socket) -> list[bytes]:
        found = []
        with sock, sock.makefile("rb") as stream:
            for _ in range(count):
                head = b"".join(iter(stream.readline, b"\r\n"))
                said = re.search(rb"(?i)content-length: (\d+)", head)
                assert said is not None
                found.append(stream.read(int(said[1])))
        return found

    routes = RouteTable([Route(method="GET", path="/{number}", handler=pieces, text="Sends some.")])
    tls = (lambda: context) if is_tls else None
    async with serving(RoutedApplication(routes), tls=tls) as (_, port, _server):
        sock = await in_thread(partial(ask, port))
        await trio.testing.wait_all_tasks_blocked(0.05)  # the kernel takes no more
        answers = await in_thread(partial(take, sock))
    for number, answer in enumerate(answers):
        assert answer == expected(number)


async def test_a_file_that_became_shorter_cuts_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"short")
    with path.open("rb") as opened:

        async def send_file(request: Request) -> Response:
            return Response(body=[b"head", FileRegion(opened.fileno(), 0, 6), b"tail"])

        routes = RouteTable([Route(method="GET", path="/", handler=send_file, text="Sends.")])
        async with (
            serving(RoutedApplication(routes)) as (url, _, _server),
            httpx.AsyncClient(timeout=60) as client,
        ):
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(url)


async def test_what_is_not_there_and_what_fails(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        serving(RoutedApplication(table())) as (url, _, _server),
        httpx.AsyncClient(timeout=60) as client,
    ):
        for method, path, status, code in (
            ("GET", "/nothing", 404, "NOT_FOUND"),
            ("GET", "/hello", 404, "NOT_FOUND"),
            ("GET", "//hello/x", 404, "NOT_FOUND"),
            ("GET", "/hello/%2E%2E", 404, "NOT_FOUND"),
            ("GET", "/hello/%ff", 404, "NOT_FOUND"),
            ("GET", "/hello/%00", 404, "NOT_FOUND"),
            ("POST", "/hello/x", 405, "METHOD_NOT_ALLOWED"),
            ("GET", "/hello/nobody", 410, "GONE"),
            ("GET", "/hello/x?" + "a&" * 600, 400, "BAD_QUERY"),
            ("GET", "/hello/x?a=%ff", 400, "BAD_QUERY"),
            ("GET", "/fail", 500, "INTERNAL"),
            ("GET", "/full", 503, "UNAVAILABLE"),
        ):
            answer = await client.request(method, url + path)
            told = answer.json()["error"]
            assert (answer.status_code, told["code"]) == (status, code), path
            assert told["request"] == answer.headers["x-request-id"]
            assert "Traceback" not in answer.text
            assert "/secret" not in answer.text
            assert ("retry-after" in answer.headers) is (status == 503)
        assert (await client.post(f"{url}/hello/x")).headers["allow"] == "GET, HEAD, OPTIONS"
        assert (await client.get(f"{url}/hello/nobody")).headers["x-why"] == "because"
        assert (await client.get(f"{url}/hello/x/")).status_code == 200
        assert (await client.options(f"{url}/count")).headers["allow"] == "OPTIONS, POST"
    assert "of ours" in caplog.text


async def test_other_origins() -> None:
    application = RoutedApplication(
        table(), origins=AllowedOrigins(frozenset({"https://viewer.example"}))
    )
    preflight = {"access-control-request-method": "GET"}
    async with serving(application) as (url, _, _server), httpx.AsyncClient(timeout=60) as client:
        for origin, is_allowed in (
            ("https://viewer.example", True),
            ("https://viewer.example.evil.example", False),
            ("null", False),
        ):
            answer = await client.options(f"{url}/hello/x", headers={"origin": origin} | preflight)
            assert answer.status_code == 204
            assert ("access-control-allow-methods" in answer.headers) is is_allowed
            answer = await client.get(f"{url}/hello/x", headers={"origin": origin})
            allowed = answer.headers.get("access-control-allow-origin")
            assert allowed == (origin if is_allowed else None)
            assert answer.headers["vary"] == "Origin"


async def test_a_new_connection_takes_the_place_of_an_idle_one() -> None:
    limits = HttpLimits(connections=3, connections_per_address=3)
    async with serving(RoutedApplication(table()), limits=limits) as (url, port, server):
        idle = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(30)]
        async with httpx.AsyncClient(timeout=60) as client:
            for _ in range(3):
                assert (await client.get(f"{url}/hello/x")).status_code == 200
        assert server.connections <= 3
        for stream in idle:
            await stream.aclose()


async def test_many_callers_stand_behind_a_proxy(caplog: pytest.LogCaptureFixture) -> None:
    limits = HttpLimits(connections=20, connections_per_address=1)
    proxies = TrustedProxies(networks=("127.0.0.1",))
    application = RoutedApplication(table(), proxies=proxies)
    async with serving(application, limits=limits, proxies=proxies) as (url, port, server):
        others = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(10)]
        with caplog.at_level(logging.INFO, "isocenter.http"):
            async with httpx.AsyncClient(timeout=60) as client:
                said = {"x-forwarded-for": "10.9.9.9, 192.0.2.7"}
                assert (await client.get(f"{url}/hello/x", headers=said)).status_code == 200
        assert server.connections >= 10
        assert "192.0.2.7 GET /hello/{name} 200" in caplog.text
        for stream in others:
            await stream.aclose()


async def test_certificates_are_exchanged_while_connections_stay(files: TlsFiles) -> None:
    contexts = [web_context(files)]
    trust = ssl.create_default_context(cafile=files.ca)
    async with (
        serving(RoutedApplication(table()), tls=lambda: contexts[-1]) as (url, _, _server),
        httpx.AsyncClient(verify=trust, timeout=60) as before,
    ):
        assert (await before.get(f"{url}/hello/x")).status_code == 200
        contexts.append(web_context(files))
        assert (await before.get(f"{url}/hello/x")).status_code == 200
        async with httpx.AsyncClient(verify=trust, timeout=60) as after:
            assert (await after.get(f"{url}/hello/x")).status_code == 200


async def test_connections_end_when_their_certificate_is_revoked(files: TlsFiles) -> None:
    go_on, begun = trio.Event(), trio.Event()

    async def slow(request: Request) -> Response:
        begun.set()
        await go_on.wait()
        return Response(body=b"at last")

    told: list[Notice] = []
    routes = RouteTable([*table().routes, Route(method="GET", path="/slow", handler=slow, text="")])
    context = web_context(files)
    trust = ssl.create_default_context(cafile=files.ca)
    own = ssl.create_default_context(cafile=files.ca)
    assert files.certificate is not None
    own.load_cert_chain(files.certificate, files.key)
    async with (
        serving(RoutedApplication(routes), tls=lambda: context, notices=Notices(told.append)) as (
            url,
            _,
            server,
        ),
        httpx.AsyncClient(verify=own, timeout=60) as known,
        httpx.AsyncClient(verify=trust, timeout=60) as stranger,
        trio.open_nursery() as nursery,
    ):
        assert (await stranger.get(f"{url}/hello/x")).status_code == 200
        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(await known.get(f"{url}/slow"))

        nursery.start_soon(ask)
        await begun.wait()
        assert server.connections == 2
        nursery.start_soon(server.end_revoked, lambda chain: "its certificate" if chain else "")
        await trio.testing.wait_all_tasks_blocked()
        assert server.connections == 2, "its request is answered"
        go_on.set()
        while server.connections == 2:
            await trio.lowlevel.checkpoint()
        assert (await stranger.get(f"{url}/hello/x")).status_code == 200
        with pytest.raises(httpx.HTTPError):
            await known.get(f"{url}/hello/x")
    assert [one.text for one in answers] == ["at last"]
    assert {type(one) for one in told} == {ConnectionRefused}
    for one in told:
        assert isinstance(one, ConnectionRefused)
        assert "its certificate was revoked" in one.detail


async def test_an_idle_connection_ends_at_once_when_its_certificate_is_revoked(
    files: TlsFiles,
) -> None:
    context = web_context(files)
    own = ssl.create_default_context(cafile=files.ca)
    assert files.certificate is not None
    own.load_cert_chain(files.certificate, files.key)
    async with (
        serving(RoutedApplication(table()), tls=lambda: context) as (url, _, server),
        httpx.AsyncClient(verify=own, timeout=60) as client,
    ):
        assert (await client.get(f"{url}/hello/x")).status_code == 200
        await server.end_revoked(lambda chain: "")
        assert server.connections == 1
        await server.end_revoked(lambda chain: "its certificate")
        assert server.connections == 0


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [((), None), (("http/1.1",), "http/1.1"), (("h2", "http/1.1"), "h2"), (("spdy/9",), None)],
)
async def test_who_agrees_on_nothing_speaks_http_1(
    files: TlsFiles, offered: tuple[str, ...], agreed: str | None
) -> None:
    context = web_context(files)
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    trust = ssl.create_default_context(cafile=files.ca)
    if offered:
        trust.set_alpn_protocols(list(offered))
    async with serving(RoutedApplication(table()), tls=lambda: context) as (_, port, _server):
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=trust)
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() == agreed
        if agreed != "h2":
            await stream.send_all(
                b"GET /hello/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            assert (await stream.receive_some(4_096)).startswith(b"HTTP/1.1 200")
        await trio.aclose_forcefully(stream)


async def test_what_is_no_tls_is_closed(files: TlsFiles) -> None:
    context = web_context(files)
    async with (
        serving(RoutedApplication(table()), tls=lambda: context) as (_, port, _server),
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while await stream.receive_some():
            pass


async def test_it_stops_when_what_is_under_way_is_answered() -> None:
    started, may_end = trio.Event(), trio.Event()

    async def wait(request: Request) -> Response:
        started.set()
        await may_end.wait()
        return json_response("done")

    routes = RouteTable([Route(method="GET", path="/", handler=wait, text="Waits.")])
    async with (
        serving(RoutedApplication(routes)) as (url, _, server),
        httpx.AsyncClient(timeout=60) as client,
        trio.open_nursery() as nursery,
    ):

        async def ask() -> None:
            answer = await client.get(f"{url}/")
            assert (answer.json(), answer.headers["connection"]) == ("done", "close")

        nursery.start_soon(ask)
        await started.wait()
        server.stop()
        await trio.testing.wait_all_tasks_blocked()
        may_end.set()


@pytest.mark.interop("curl")
async def test_curl(file: BinaryIO, files: TlsFiles, tmp_path: Path) -> None:
    expected = b"head" + os.pread(file.fileno(), FILE_BYTES, 1) + b"tail"
    upload = tmp_path / "upload"
    upload.write_bytes(os.urandom(2_000_000))
    context = web_context(files)
    async with serving(RoutedApplication(table(file)), tls=lambda: context) as (url, _, _server):

        def curl(*words: str) -> bytes:
            command = ["curl", "-s", "-S", "--cacert", str(files.ca), *words]
            return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout

        for version in ("--http1.1", "--http2"):
            assert await in_thread(partial(curl, version, f"{url}/file")) == expected
            words = (version, "-T", str(upload), "-X", "POST", f"{url}/count")
            assert json.loads(await in_thread(partial(curl, *words)))["length"] == 2_000_000


async def test_what_a_body_is_made_of_is_closed_when_its_peer_goes() -> None:
    closed = trio.Event()

    async def endless(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(100_000)
            finally:
                await trio.lowlevel.checkpoint()
                closed.set()

        return Response(body=pieces())

    route = Route(method="GET", path="/endless", handler=endless, text="Never ends.")
    async with serving(RoutedApplication(RouteTable([route]))) as (_, port, _):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.receive_some(1)
        await stream.aclose()
        with trio.fail_after(60):
            await closed.wait()
