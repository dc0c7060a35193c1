from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from isocenter.services.net.transport import SocketTransport


@pytest.fixture
async def pair() -> AsyncIterator[tuple[SocketTransport, socket.socket]]:
    """A transport, and the other end of its TCP connection, which does not wait."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    transport = SocketTransport(ours)
    with theirs:
        theirs.setblocking(False)
        yield transport, theirs
    await transport.aclose()


def received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 20)
    except BlockingIOError:
        return b""


@pytest.mark.skipif(sys.platform != "linux", reason="MSG_MORE is Linux's")
async def test_what_is_followed_leaves_with_what_follows(
    pair: tuple[SocketTransport, socket.socket],
) -> None:
    transport, theirs = pair
    assert not transport.send_now([b"progress"], is_followed=True)
    assert received(theirs) == b""
    assert not transport.send_now([b" and", b" more"])
    await trio.lowlevel.wait_readable(theirs)
    assert received(theirs) == b"progress and more"


async def test_what_is_followed_leaves_also_when_nothing_follows(
    pair: tuple[SocketTransport, socket.socket],
) -> None:
    transport, theirs = pair
    assert not transport.send_now([b"progress"], is_followed=True)
    with trio.fail_after(60):
        await trio.lowlevel.wait_readable(theirs)
    assert received(theirs) == b"progress"


async def test_what_the_kernel_did_not_take_is_the_rest(
    pair: tuple[SocketTransport, socket.socket],
) -> None:
    transport, theirs = pair
    buffers = [bytes([number]) * 100_000 for number in range(200)]
    left = transport.send_now(buffers)
    got = bytearray()

    async def read() -> None:
        while len(got) < 20_000_000:
            await trio.lowlevel.wait_readable(theirs)
            got.extend(received(theirs))

    assert left
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await transport.send(left, lambda: None)
    assert got == b"".join(buffers)


async def test_what_was_looked_at_comes_once_more(
    pair: tuple[SocketTransport, socket.socket],
) -> None:
    transport, theirs = pair
    theirs.sendall(b"first")
    assert await transport.look_ahead() == b"first"
    theirs.sendall(b"second")
    assert await transport.receive() == b"first"
    assert await transport.receive() == b"second"


async def test_a_connection_may_be_closed_more_than_once_and_while_somebody_reads(
    pair: tuple[SocketTransport, socket.socket],
) -> None:
    transport, theirs = pair
    heard = []

    async def read() -> None:
        heard.append(await transport.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        transport.close()
        transport.close()
    assert heard == [b""]
    await trio.lowlevel.wait_readable(theirs)
    assert theirs.recv(1) == b""
