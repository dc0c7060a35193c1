"""Regions of files sent to sockets: whole, cut short, to slow and to vanished peers."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import trio

from isocenter.services.net import file_regions
from isocenter.services.net.file_regions import read_region, send_file
from isocenter.services.net.transport import SocketTransport

SIZE = 3_000_001


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    with path.open("rb") as opened:
        yield opened


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


async def receive(sock: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        await trio.lowlevel.wait_readable(sock)
        found += sock.recv(1 << 20)
    return found


@pytest.mark.parametrize("is_cached", [True, False])
async def test_a_region_arrives_as_it_lies(
    file: BinaryIO,
    pair: tuple[socket.socket, socket.socket],
    is_cached: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(file_regions, "is_cached", lambda *_: is_cached)
    ours, theirs = pair
    told: list[int] = []
    sent = -1

    async def send() -> None:
        nonlocal sent
        sent = await send_file(ours, file.fileno(), 7, SIZE - 7, lambda: told.append(1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        found = await receive(theirs, SIZE - 7)
    assert sent == SIZE - 7
    assert found == os.pread(file.fileno(), SIZE, 7)
    assert len(told) > 1  # the reader was slower: the deadline was moved on each time


async def test_where_the_kernel_cannot_the_caller_does(
    file: BinaryIO, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_regions, "_SENDS", False)
    assert await send_file(pair[0], file.fileno(), 0, 100, lambda: None) == 0


async def test_a_file_that_was_cut_short(
    file: BinaryIO, pair: tuple[socket.socket, socket.socket]
) -> None:
    with pytest.raises(OSError, match="shorter"):
        await send_file(pair[0], file.fileno(), SIZE - 10, 11, lambda: None)
    with pytest.raises(OSError, match="shorter"):
        await read_region(file.fileno(), SIZE - 10, 11)


async def test_a_peer_that_has_gone(
    file: BinaryIO, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    transport = SocketTransport(ours)
    with pytest.raises(BrokenPipeError):
        await transport.send_file(file.fileno(), 0, SIZE, lambda: None)


@pytest.mark.parametrize("waits", [True, False])
async def test_reading(file: BinaryIO, waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if waits:
        monkeypatch.setattr(file_regions, "_NO_WAIT", None)
    assert await read_region(file.fileno(), 5, 100_000) == os.pread(file.fileno(), 100_000, 5)
    assert await read_region(file.fileno(), 5, 0) == b""
