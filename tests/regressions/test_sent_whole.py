"""What leaves the archive is what came in, also when it leaves in several parts.

A part was read into the memory of the one before, which had not been sent yet; and the memory
of the last was given to the next reader before a slow peer had taken it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest
import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.association.peer import Peer
from isocenter.services.dicom.objects import PART_BYTES
from isocenter.services.net import transport
from isocenter.services.net.transport import SocketTransport
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.storage.objects.files import reader
from isocenter.storage.objects.files.store import open_file_store
from services.archive_support import CT, data_set, data_set_of, opened, store, uid
from support.serving import port_of, serving

ENCODINGS = {
    EXPLICIT_VR_LITTLE_ENDIAN: EXPLICIT_LITTLE,
    IMPLICIT_VR_LITTLE_ENDIAN: IMPLICIT_LITTLE,
}


@pytest.mark.parametrize("has_posix", [True, False])
@pytest.mark.parametrize("syntax", ENCODINGS)
@pytest.mark.parametrize("size", [PART_BYTES // 2, 2 * PART_BYTES, 4 * PART_BYTES + 2])
async def test_an_object_of_several_parts_arrives_as_it_is(
    size: int, syntax: str, has_posix: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_posix:  # neither gathering writes nor reads from a position, as on Windows
        monkeypatch.setattr(transport, "_GATHERS", False)
        monkeypatch.setattr(reader, "_NO_WAIT", None)
        for name in ("preadv", "pread"):
            monkeypatch.delattr(os, name)
    pixels = Random(size).randbytes(size)
    ours, theirs = [await open_file_store(tmp_path / name) for name in ("ours", "theirs")]
    async with (
        opened(ours) as archive,
        opened(theirs) as destination,
        serving(StorageScp(destination, transfer_syntaxes=[syntax])) as server,
        open_association(Peer("X", "127.0.0.1", port_of(server)), [(CT, [syntax])]) as association,
    ):
        stored = (await store(archive, data=data_set(pixels=pixels))).instance
        response = await association.store(stored_object(stored, archive.open))
        assert response.status == 0x0000
        arrived = (await destination.index.get([uid(1)]))[uid(1)]
        # Converted where the destination takes the other syntax only.
        expected = data_set(pixels=pixels, encoding=ENCODINGS[syntax])
        assert await data_set_of(destination, arrived) == expected


class Stalled(SocketTransport):
    """A connection that takes commands, and nothing large until it may go on."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.has_stalled = trio.Event()
        self.go_on = trio.Event()

    def send_now(self, buffers: Sequence[Buffer], is_followed: bool = False) -> Sequence[Buffer]:
        if sum(map(len, buffers)) < PART_BYTES // 4 or self.go_on.is_set():
            return super().send_now(buffers)
        return buffers

    async def send(self, buffers: Sequence[Buffer], progress: Callable[[], None]) -> None:
        self.has_stalled.set()
        await self.go_on.wait()
        await super().send(buffers, progress)


async def test_what_a_slow_peer_has_not_taken_yet_is_not_overwritten(tmp_path: Path) -> None:
    ours, theirs = [await open_file_store(tmp_path / name) for name in ("ours", "theirs")]
    expected = {
        number: data_set(number, pixels=Random(number).randbytes(PART_BYTES // 2))
        for number in (1, 2)
    }
    async with (
        opened(ours) as archive,
        opened(theirs) as destination,
        serving(StorageScp(destination)) as server,
    ):
        stored = {
            number: (await store(archive, number, data=data)).instance
            for number, data in expected.items()
        }

        async def send(number: int, connection: SocketTransport) -> None:
            async with open_association(
                Peer("X", "127.0.0.1", port_of(server)),
                [(CT, [EXPLICIT_VR_LITTLE_ENDIAN])],
                transport=connection,
            ) as association:
                item = stored_object(stored[number], archive.open)
                assert (await association.store(item)).status == 0x0000

        def connect() -> socket.socket:
            return socket.create_connection(("127.0.0.1", port_of(server)))

        slow = Stalled(connect())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, 1, slow)
            await slow.has_stalled.wait()
            await send(2, SocketTransport(connect()))
            slow.go_on.set()
        arrived = await destination.index.get([uid(1), uid(2)])
        for number, data in expected.items():
            assert await data_set_of(destination, arrived[uid(number)]) == data
