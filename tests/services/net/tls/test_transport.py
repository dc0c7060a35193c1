"""TLS between two real sockets: whole, in order, slow peers, ends, and nothing left behind."""

from __future__ import annotations

import gc
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from isocenter.services.net.tls.contexts import TlsFiles, client_context, server_context
from isocenter.services.net.tls.transport import TlsTransport, tls_transport
from isocenter.services.security.certificates.authority import CertificateAuthority

PATIENCE = 60.0


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    folder: Path = tmp_path_factory.mktemp("tls")
    authority = CertificateAuthority.create(folder / "ca")
    authority.issue("archive", folder=folder, hosts=["localhost"])
    files = TlsFiles(
        certificate=folder / "archive.crt", key=folder / "archive.key", ca=folder / "ca.crt"
    )
    return server_context(files), client_context(files)


Pair = tuple[TlsTransport, TlsTransport]


@pytest.fixture
async def pair(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> AsyncIterator[Pair]:
    async with connected(contexts) as both:
        yield both


@asynccontextmanager
async def connected(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> AsyncIterator[Pair]:
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    made: list[TlsTransport] = []
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:

            async def shake(sock: socket.socket, server_side: bool) -> None:
                made.append(
                    await tls_transport(
                        sock,
                        contexts[0 if server_side else 1],
                        server_side=server_side,
                        server_hostname="localhost",
                    )
                )

            nursery.start_soon(shake, near, True)
            nursery.start_soon(shake, far, False)
    made.sort(key=lambda each: not each.tls.server_side)
    try:
        yield made[0], made[1]
    finally:
        for transport in made:
            await transport.aclose()


async def send(transport: TlsTransport, buffers: list[bytes]) -> None:
    """As an association does it: now what can leave now, the rest slowly."""
    left = transport.send_now(buffers)
    if left:
        await transport.send(left, lambda: None)


@pytest.mark.parametrize("seed", range(8))
async def test_any_buffers_arrive_whole_and_in_order(pair: Pair, seed: int) -> None:
    draw = random.Random(seed)
    writes = [
        [draw.randbytes(draw.choice((0, 1, 100, 16_384, 131_072, 300_001))) for _ in range(4)]
        for _ in range(6)
    ]
    wanted = b"".join(b"".join(buffers) for buffers in writes)
    received = bytearray()
    server, client = pair

    async def read() -> None:
        while len(received) < len(wanted):
            received.extend(await client.receive())

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for buffers in writes:
                await send(server, buffers)
    assert received == wanted


async def test_both_directions_at_once(pair: Pair) -> None:
    whole = random.Random(1).randbytes(2_000_000)
    received = [bytearray(), bytearray()]

    async def read(transport: TlsTransport, into: bytearray) -> None:
        while len(into) < len(whole):
            into.extend(await transport.receive())

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for transport, into in zip(pair, received, strict=True):
                nursery.start_soon(read, transport, into)
                nursery.start_soon(send, transport, [whole])
    assert received == [whole, whole]


async def test_a_peer_that_does_not_read_stops_us(pair: Pair) -> None:
    server, _ = pair
    whole = bytes(1_000_000)
    progress = 0

    def count() -> None:
        nonlocal progress
        progress += 1

    left = server.send_now([whole])
    assert left
    with trio.move_on_after(0.05) as scope:
        await server.send(left, count)
    assert scope.cancelled_caught
    assert progress < 9


async def test_who_sent_what_is_no_tls_has_no_certificates_any_more(pair: Pair) -> None:
    """Certificates of all connections are looked at when some are revoked."""
    server, client = pair
    client._below.send_now([b"no record of TLS, of which each begins with its type"])
    assert await server.receive() == b""
    assert server.chain() == []
    assert client.chain() != []


async def test_an_orderly_end_says_close_notify(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async with connected(contexts) as (server, client):
        await server.aclose()
        while chunk := await client._below.receive():
            client._incoming.write(chunk)
        assert client.tls.read(1) == b""  # without the alert, SSLWantReadError


async def test_a_cut_is_an_end(pair: Pair) -> None:
    server, client = pair
    await send(server, [b"half a message"])
    await server._below.aclose()  # no close_notify
    assert await client.receive() == b"half a message"
    assert await client.receive() == b""
    assert await client.receive() == b""


async def test_what_is_no_tls_is_an_end(pair: Pair) -> None:
    server, client = pair
    await send(server, [b"sound"])
    await server._below.send([b"\x17\x03\x03\x00\x05junk!"], lambda: None)
    assert await client.receive() == b"sound"
    assert await client.receive() == b""


async def test_nothing_is_sent_over_a_connection_that_is_gone(pair: Pair) -> None:
    server, client = pair
    await client.aclose()
    with pytest.raises(BrokenPipeError):
        await send(server, [bytes(100_000)] * 20)


@pytest.mark.parametrize(
    ("said", "has_cause"),
    [(b"", False), (b"\x16\x03\x01\x00\x05hello", True), (b"\x16\x03", False)],
)
async def test_a_handshake_that_fails_leaves_nothing(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], said: bytes, has_cause: bool
) -> None:
    async def cause_of_failure(sock: socket.socket) -> BaseException | None:
        try:
            await tls_transport(sock, contexts[0], server_side=True)
        except trio.BrokenResourceError as error:
            return error.__cause__
        raise AssertionError("it did not fail")

    async def fail() -> None:
        near, far = socket.socketpair()
        with far:
            far.sendall(said)
            far.shutdown(socket.SHUT_WR)
            with trio.fail_after(PATIENCE):
                cause = await cause_of_failure(near)
        assert isinstance(cause, ssl.SSLError) is has_cause
        assert near.fileno() == -1

    await fail()
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await fail()
        kept = [each for each in gc.get_objects() if isinstance(each, ssl.SSLObject)]
    finally:
        gc.enable()
    assert kept == []
