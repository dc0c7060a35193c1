"""Fifty senders of large objects at once, and a peer that never reads what it asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import trio

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set
from isocenter.engine.dimse.message_codec import CGetRequest, CStoreRequest, encode_message
from isocenter.engine.items import RoleSelection
from isocenter.services.dicom.uid_registry import STUDY_ROOT_GET
from regressions.test_strangers import echo_seconds, resident_bytes
from services.archive_support import CT, STUDY, data_set, uid
from support.processes import ServedArchive, served_archive
from support.raw import RawPeer, message_bytes, p_data, pdv, raw_peer

pytestmark = pytest.mark.slow

MIB = 1 << 20
SENDERS = 50
#: Of one object.  What the server holds of it is much less, whatever its length.
PIECES, PIECE = 64, 120_000
#: Of all senders together: a tenth of what they send.
GROWTH = 160 * MIB
WRITE_BLOCKED = 1.5


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("senders")
    config = folder / "config.toml"
    config.write_text(f"[deadlines]\nwrite_blocked = {WRITE_BLOCKED}\n", "utf-8")
    with served_archive(folder, "--config", config, "--durability", "relaxed") as served:
        yield served


def large_object(number: int) -> tuple[bytes, bytes]:
    """The message up to the pixels, and one of `PIECES` pieces of these."""
    head = data_set(number)
    head = head[: head.rindex(b"\xe0\x7f\x10\x00")]
    length = PIECES * PIECE
    head += b"\xe0\x7f\x10\x00OW\0\0" + length.to_bytes(4, "little")
    request = CStoreRequest(
        message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid=uid(number)
    )
    command = encode_message(request, has_data_set=True)
    return p_data(pdv(1, 3, command)) + p_data(pdv(1, 0, head)), p_data(pdv(1, 0, bytes(PIECE)))


async def send_large(archive: ServedArchive, number: int, all_begun: trio.Event) -> int:
    """The status of the response."""
    async with raw_peer(archive.port, patience=120) as peer:
        await peer.associate(CT)
        head, piece = large_object(number)
        await peer.send(head)
        await all_begun.wait()
        for _ in range(PIECES):
            await peer.send(piece)
        await peer.send(p_data(pdv(1, 2, b"")))
        response, _ = await peer.message()
        await peer.release()
        return response.status  # type: ignore[union-attr]


def test_fifty_large_objects_at_once(archive: ServedArchive) -> None:
    echo_seconds(archive.port)
    before = resident_bytes(archive.process.pid)
    statuses: list[int] = []
    most = before
    done = threading.Event()

    async def main() -> None:
        all_begun = trio.Event()

        async def send(number: int) -> None:
            statuses.append(await send_large(archive, number, all_begun))

        async with trio.open_nursery() as nursery:
            for number in range(1, SENDERS + 1):
                nursery.start_soon(send, number)
            all_begun.set()

    def all_senders() -> None:
        try:
            trio.run(main)
        finally:
            done.set()

    senders = threading.Thread(target=all_senders)
    senders.start()
    echoes = 0
    while not done.is_set():
        echo_seconds(archive.port)  # others are served meanwhile
        echoes += 1
        most = max(most, resident_bytes(archive.process.pid))
    senders.join()
    assert statuses == [0] * SENDERS
    assert echoes > 1
    assert most - before < GROWTH


async def ask_and_never_read(peer: RawPeer) -> None:
    await peer.associate(STUDY_ROOT_GET, CT, roles=(RoleSelection(CT, True, True),))
    keys = write_data_set(
        [(0x00080052, "CS", b"STUDY"), (0x0020000D, "UI", STUDY.encode())], EXPLICIT_LITTLE
    )
    request = CGetRequest(message_id=7, affected_sop_class_uid=STUDY_ROOT_GET)
    await peer.send(message_bytes(1, request, keys))


async def test_a_peer_that_never_reads_is_cut(archive: ServedArchive) -> None:
    """It asked for 370 MiB.  What waits for it is bounded, and so is the time."""
    before = resident_bytes(archive.process.pid)
    with trio.fail_after(60):
        async with raw_peer(archive.port) as peer:
            await ask_and_never_read(peer)
            while "took no data" not in archive.log.read_text("utf-8"):
                await trio.to_thread.run_sync(echo_seconds, archive.port)
    assert resident_bytes(archive.process.pid) - before < 32 * MIB
