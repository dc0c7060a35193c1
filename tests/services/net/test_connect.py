"""Connections that stand, and what is said when there is none."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace

import pytest
import trio

from isocenter.engine.deadlines import DEFAULT_DEADLINES
from isocenter.services.errors import ConnectError
from isocenter.services.net.connect import connect

HOST = "127.0.0.1"


def listener() -> socket.socket:
    server = socket.create_server((HOST, 0))
    server.setblocking(False)
    return server


def client_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def test_bytes_go_both_ways() -> None:
    with listener() as server:
        port = server.getsockname()[1]
        transport = await connect(HOST, port, None, DEFAULT_DEADLINES)
        accepted, _ = server.accept()
        with accepted:
            await transport.send((b"there",), lambda: None)
            assert accepted.recv(16) == b"there"
            accepted.sendall(b"back")
            assert bytes(await transport.receive()) == b"back"
        await transport.aclose()


async def test_nobody_listens() -> None:
    with listener() as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectError, match=f"{HOST}:{port}: connection refused; is the server"):
        await connect(HOST, port, None, DEFAULT_DEADLINES)


async def test_a_name_that_nobody_has() -> None:
    with pytest.raises(ConnectError, match="the host name is not known"):
        await connect("no-such-host.invalid", 104, None, DEFAULT_DEADLINES)


async def test_a_peer_that_says_nothing_to_a_handshake(
    autojump_clock: trio.testing.MockClock,
) -> None:
    autojump_clock.autojump_threshold = 0.1  # sockets are not seen by the clock
    deadlines = replace(DEFAULT_DEADLINES, tls_handshake=7.0)
    with listener() as server, pytest.raises(ConnectError, match="no TLS handshake within 7 s"):
        await connect(HOST, server.getsockname()[1], client_tls(), deadlines)


async def test_a_peer_that_closes_instead_of_a_handshake() -> None:
    with listener() as server:
        port = server.getsockname()[1]

        async def close_what_comes() -> None:
            await trio.lowlevel.wait_readable(server)
            server.accept()[0].close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(close_what_comes)
            with pytest.raises(ConnectError, match="TLS handshake failed: the peer closed"):
                await connect(HOST, port, client_tls(), DEFAULT_DEADLINES)
