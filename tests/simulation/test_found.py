"""What the simulation has found, each as a test of its own that needs no luck."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from isocenter.engine.dataset import IMPLICIT_LITTLE
from isocenter.engine.dimse.message_codec import CGetRequest, CStoreRequest, response_to
from isocenter.engine.errors import AssociationError
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.ports import DuplicatePolicy
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.server import Server
from isocenter.services.dicom.objects import DicomObject, MemoryReader
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES, STUDY_ROOT_GET
from isocenter.services.errors import StorageError
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryReader as StoredReader
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import CT, data_set, opened, receive, store, uid
from support.serving import Scripted, port_of, serving

IDENTIFIER = build_identifier([("StudyInstanceUID", "1.2.3")], Level.STUDY, BASIC_SYNTAXES[0])


@pytest.fixture
def clock() -> trio.testing.MockClock:
    """Time passes when nothing happens on the loopback."""
    return trio.testing.MockClock(autojump_threshold=0.1)


def peer_of(server: Server) -> Peer:
    return Peer("ISOCENTER", "127.0.0.1", port_of(server))


def an_object(number: int, reader: MemoryReader) -> DicomObject:
    async def open_it() -> MemoryReader:
        return reader

    return DicomObject(
        sop_class_uid=CT,
        sop_instance_uid=uid(number),
        transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
        open=open_it,
        part_length=2,
    )


class SlowReader(MemoryReader):
    """Of *parts* times two bytes, which are read one after the other, each after *seconds*."""

    def __init__(self, parts: int, seconds: float) -> None:
        super().__init__(bytes(2 * parts))
        self.seconds = seconds

    async def read(self, offset: int, length: int) -> bytes:
        await trio.sleep(self.seconds)
        return await super().read(offset, length)


async def acknowledge(operation: Operation) -> None:
    await operation.data_set()
    await operation.respond(response_to(operation.request, 0x0000))


async def test_an_object_that_took_the_place_of_another_is_not_sent_as_that_one() -> None:
    """With `replace` a key becomes free and is taken again, while a retrieval has the old row."""
    async with opened(MemoryStore(), duplicates=DuplicatePolicy.REPLACE) as archive:
        data = data_set(1, encoding=IMPLICIT_LITTLE)
        old = await store(archive, 1, data, transfer_syntax_uid=IMPLICIT_VR_LITTLE_ENDIAN)
        await store(archive, 1, data_set(1, pixels=bytes(100)))
        new = await store(archive, 1, data_set(1, pixels=bytes(200)))
        assert new.instance.object_key == old.instance.object_key

        with pytest.raises(KeyError):
            async for _ in stored_object(old.instance, archive.open).parts():
                pass
        item = stored_object(new.instance, archive.open)
        sent = [bytes(part) async for part, _ in item.parts()]
        assert b"".join(sent) == data_set(1, pixels=bytes(200))


async def test_an_object_that_cannot_be_looked_at_fails_alone() -> None:
    """The store cannot say whether it has the first object of this UID, under another key."""

    class Unreadable(MemoryStore):
        async def open(self, key: str) -> StoredReader:
            raise StorageError("no")

    async with opened(Unreadable(), MemoryIndex()) as archive:
        plain = (await store(archive, 1)).instance.object_key
        await archive.index.remove([uid(1)])  # the key is taken now, and not by what the index has
        assert (await store(archive, 1)).instance.object_key != plain

        results: dict[int, int] = {}

        async def send(number: int) -> None:
            try:
                results[number] = (await store(archive, number)).status
            except StoreError as error:
                results[number] = error.status

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, 1)
            nursery.start_soon(send, 2)
        assert results == {1: 0x0110, 2: 0x0000}
        async with await receive(archive, 3):
            pass
        assert archive.budget.taken == 0


async def test_slow_sending_is_no_missing_response(clock: trio.testing.MockClock) -> None:
    """Two operations fill the window; one is still being sent after `Deadlines.response`."""
    async with (
        serving(Scripted([CT], acknowledge), operations_window=2) as server,
        open_association(peer_of(server), [(CT, BASIC_SYNTAXES)], operations_window=2) as archive,
    ):
        statuses: list[int] = []

        async def send(number: int) -> None:
            item = an_object(number, SlowReader(parts=5, seconds=20))
            statuses.append((await archive.store(item)).status)

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(send, number)
        assert statuses == [0, 0, 0]


async def test_an_association_that_ends_while_the_next_part_is_read(
    clock: trio.testing.MockClock,
) -> None:
    """Whoever sends is told that it has ended, not that a P-DATA request is not allowed."""

    async def abort(operation: Operation) -> None:
        await operation.association.abort()

    async with (
        serving(Scripted([CT], abort)) as server,
        open_association(peer_of(server), [(CT, BASIC_SYNTAXES)]) as archive,
    ):
        with pytest.raises(AssociationError):
            await archive.store(an_object(1, SlowReader(parts=3, seconds=1)))


async def test_a_c_get_waits_for_one_that_was_cancelled_and_goes_on(
    clock: trio.testing.MockClock,
) -> None:
    """Else what the first still brings would be taken for what the second asked for."""
    log: list[str] = []

    async def perform(operation: Operation) -> None:
        assert isinstance(operation.request, CGetRequest)
        await operation.data_set()
        log.append("request")
        await trio.sleep(10)  # heeds no C-CANCEL-RQ
        log.append("response")
        await operation.respond(response_to(operation.request, 0x0000))

    async def take(operation: Operation, request: CStoreRequest) -> int:
        raise AssertionError("nothing is sent")

    contexts: Sequence[tuple[str, Sequence[str]]] = [
        (STUDY_ROOT_GET, BASIC_SYNTAXES),
        (CT, BASIC_SYNTAXES),
    ]
    async with (
        serving(Scripted([STUDY_ROOT_GET, CT], perform), operations_window=2) as server,
        open_association(peer_of(server), contexts, scp_roles=[CT], operations_window=2) as archive,
    ):
        with trio.move_on_after(1):
            await archive.get(IDENTIFIER, take)
        assert (await archive.get(IDENTIFIER, take)).status == 0x0000
    assert log == ["request", "response", "request", "response"]
