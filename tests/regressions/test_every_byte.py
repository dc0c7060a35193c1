"""What is stored and retrieved at the same time, in fragments of any size, is never mixed up.

The numbers are drawn, but the same each time.  Sizes lie around those of the buffers that
objects pass through; sockets take little at once, so that much of what leaves waits in them.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio

from isocenter.engine.dataset import EXPLICIT_LITTLE, encoding_of, write_data_set
from isocenter.engine.dimse.message_codec import CStoreRequest, CStoreResponse, encode_message
from isocenter.engine.items import AsynchronousOperationsWindow, ProposedContext
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.archive.archive import Archive
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.dicom.uid_registry import STUDY_ROOT_GET
from isocenter.services.net import transport
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.query_retrieve.get_scp import GetScp
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.storage.objects.files.store import Durability, open_file_store
from services.archive_support import CT, STUDY, data_set, data_set_of, opened, uid
from support.raw import associate_request, p_data, pdv, raw_peer
from support.serving import port_of, serving

SYNTAXES = [
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
]
#: Of pixels: small ones, and around blocks, pieces and buffers.
SIZES = [0, 4096, 64 << 10, 512 << 10, 1 << 20, 2 << 20]
#: Of one fragment.
PIECES = [1, 7, 255, 256, 4096, 16_372, 100_000]
#: Below it an object may come byte by byte.
CRUMBS = 5_000
SENDERS, OBJECTS_EACH, RECEIVERS = 4, 4, 4
WINDOW = 4
SECONDS = 60.0
#: What a socket takes at once; the kernel makes more of it.
SEND_BUFFER = 4096

#: Number, presentation context, data set.
Item = tuple[int, int, bytes]


def drawn(random: Random, number: int) -> Item:
    syntax = random.randrange(len(SYNTAXES))
    encoding = encoding_of(SYNTAXES[syntax])
    size = max(random.choice(SIZES) + random.randrange(-600, 600), 2) & ~1
    data = data_set(
        number,
        pixels=random.randbytes(size),
        encoding=replace(encoding, deflated=False),
    )
    if encoding.deflated:
        compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = compressor.compress(data) + compressor.flush()
        data += b"\0" * (len(data) & 1)
    return number, 2 * syntax + 1, data


def pdus_of(random: Random, message_id: int, item: Item) -> Iterator[bytes]:
    """The C-STORE-RQ, in fragments that nobody would think of."""
    number, context_id, data = item
    request = CStoreRequest(
        message_id=message_id, affected_sop_class_uid=CT, affected_sop_instance_uid=uid(number)
    )
    pdvs = [pdv(context_id, 3, encode_message(request, has_data_set=True))]
    while data:
        piece = random.choice(PIECES if len(data) < CRUMBS else PIECES[3:])
        data, fragment = data[piece:], data[:piece]
        one = pdv(context_id, 0 if data else 2, fragment)
        if random.random() < 0.5 or sum(map(len, pdvs)) + len(one) > PIECES[-1]:
            yield p_data(*pdvs)
            pdvs = []
        pdvs.append(one)
    yield p_data(*pdvs)


async def send(port: int, random: Random, items: Sequence[Item]) -> None:
    """All without waiting for an answer, as the window allows."""
    async with raw_peer(port) as peer:
        request = associate_request(window=AsynchronousOperationsWindow(WINDOW, WINDOW))
        contexts = [
            ProposedContext(2 * number + 1, CT, (syntax,)) for number, syntax in enumerate(SYNTAXES)
        ]
        await peer.ask(replace(request, presentation_contexts=tuple(contexts)))
        stream = b"".join(
            pdu
            for message_id, item in enumerate(items, 1)
            for pdu in pdus_of(random, message_id, item)
        )
        while stream:
            count = random.choice([1, 6, 1_000, 70_000, 300_000])
            await peer.send(stream[:count])
            stream = stream[count:]
        for _ in items:
            response, _ = await peer.message()
            assert isinstance(response, CStoreResponse)
            assert response.status == 0x0000
        await peer.release()


async def retrieve(port: int, expected: dict[str, tuple[str, bytes]], window: int) -> None:
    """The whole study; every object is compared."""
    missing = set(expected)

    async def receive(operation: Operation, request: CStoreRequest) -> int:
        name = request.affected_sop_instance_uid
        came = operation.context.transfer_syntax, await operation.data_set(1 << 24)
        assert came == expected[name], name
        missing.discard(name)
        return 0x0000

    identifier = write_data_set(
        [(0x00080052, "CS", b"STUDY "), (0x0020000D, "UI", STUDY.encode())], EXPLICIT_LITTLE
    )
    async with open_association(
        Peer("X", "127.0.0.1", port),
        [(STUDY_ROOT_GET, [EXPLICIT_VR_LITTLE_ENDIAN]), *((CT, [each]) for each in SYNTAXES)],
        scp_roles=[CT],
        operations_window=window,
    ) as association:
        await association.get(identifier, receive)
    assert not missing


@pytest.mark.parametrize("durability", ["full", "relaxed"])
@pytest.mark.parametrize("seed", [1, 2])
async def test_many_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, durability: Durability
) -> None:
    random = Random(seed)
    prepare = transport.prepare_socket

    def prepare_small(sock: socket.socket) -> None:
        prepare(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    monkeypatch.setattr(transport, "prepare_socket", prepare_small)
    items = [drawn(random, number) for number in range(1, SENDERS * OBJECTS_EACH + 1)]
    expected = {
        uid(number): (SYNTAXES[context_id // 2], data) for number, context_id, data in items
    }
    store = await open_file_store(
        tmp_path, durability=durability, memory_per_object=random.choice([100_000, 1 << 20])
    )
    archive: Archive
    async with (
        opened(store, memory_budget=2 << 20) as archive,
        serving(
            StorageScp(archive, transfer_syntaxes=SYNTAXES),
            GetScp(archive),
            operations_window=WINDOW,
        ) as server,
    ):
        port = port_of(server)
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                for sender in range(SENDERS):
                    nursery.start_soon(send, port, Random(sender), items[sender::SENDERS])
            for name, stored in (await archive.index.get(list(expected))).items():
                assert await data_set_of(archive, stored) == expected[name][1], name
            async with trio.open_nursery() as nursery:
                for receiver in range(RECEIVERS):
                    window = WINDOW if receiver % 2 else 1
                    nursery.start_soon(retrieve, port, expected, window)
        assert archive.budget.taken == 0
