"""C-GET out of files: whatever the peer takes at once, and whatever becomes of a file meanwhile."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from isocenter.engine.deadlines import Deadlines
from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.engine.errors import AssociationError
from isocenter.services.archive.archive import Archive
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.server import Server
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.errors import OperationError
from isocenter.services.notices import AssociationEnded, Notice, Notices
from isocenter.services.service_classes.client import RetrieveResult, open_association
from isocenter.services.service_classes.query_retrieve.get_scp import GetScp
from isocenter.storage.objects.files.reader import FileReader
from isocenter.storage.objects.files.store import FileStore, open_file_store
from services.archive_support import CT, data_set, opened, store, uid
from services.service_classes.query_retrieve.test_retrieve import (
    GET,
    IDENTIFIER,
    SUCCESS,
    WITH_FAILURES,
    abort,
)
from support.outcomes import outcome
from support.serving import Scripted, port_of, serving

OBJECTS = 12
#: One that is held while it is small, one that is read at once, one in several parts.
SIZES = (10, 300_000, 3_000_002)


class Files:
    """An archive on files, and a requestor that takes what a C-GET brings."""

    def __init__(
        self, inner: FileStore, archive: Archive, server: Server, notices: Notices
    ) -> None:
        self.store, self.archive, self.server, self.notices = inner, archive, server, notices
        self.sent: dict[str, bytes] = {}
        self.received: dict[str, bytes] = {}

    async def fill(self, count: int, *sizes: int) -> None:
        for number in range(1, count + 1):
            size = sizes[number % len(sizes)]
            content = data_set(number, pixels=Random(number).randbytes(size))
            self.sent[uid(number)] = content
            await store(self.archive, number, content)

    async def path_of(self, number: int) -> str:
        stored = (await self.archive.index.get([uid(number)]))[uid(number)]
        return self.store.tree.path_of(stored.object_key)

    async def receive(self, operation: Operation, request: CStoreRequest) -> int:
        content = bytearray()
        async for group in operation.fragments():
            for data in group:
                content += data
        self.received[request.affected_sop_instance_uid] = bytes(content)
        return SUCCESS

    async def get(self, receive: Any = None, **options: Any) -> RetrieveResult | AssociationError:
        async with open_association(
            Peer("ISOCENTER", "127.0.0.1", port_of(self.server)),
            [(GET, BASIC_SYNTAXES), (CT, BASIC_SYNTAXES)],
            scp_roles=[CT],
            **options,
        ) as association:
            getting = association.get(IDENTIFIER, receive or self.receive, sop_class_uid=GET)
            try:
                return await outcome(getting)
            except AssociationError as error:
                return error


@pytest.fixture
def deadlines() -> Deadlines:
    return Deadlines()


@pytest.fixture
async def files(tmp_path: Path, deadlines: Deadlines) -> AsyncIterator[Files]:
    inner = await open_file_store(tmp_path, durability="relaxed")
    async with opened(inner) as archive:
        services = GetScp(archive), Scripted([CT], abort)
        notices = Notices()
        options = {"operations_window": 4, "deadlines": deadlines, "notices": notices}
        async with serving(*services, **options) as server:
            yield Files(inner, archive, server, notices)
    assert inner._buffers.in_use == 0  # whatever happened, nothing is left open
    await inner.aclose()


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("max_pdu_length", [0, 4_099, 16_384, 65_537, 131_072, 1 << 22])
async def test_whatever_a_peer_takes_at_once_it_gets_the_same_bytes(
    files: Files, max_pdu_length: int, window: int
) -> None:
    await files.fill(OBJECTS, *SIZES)
    result = await files.get(max_pdu_length=max_pdu_length, operations_window=window)
    assert isinstance(result, RetrieveResult)
    assert (result.status, result.completed) == (SUCCESS, OBJECTS)
    assert files.received == files.sent


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("damage", ["gone", "cut short", "another"])
async def test_a_file_that_is_not_what_it_was_fails_alone(
    files: Files, size: int, damage: str
) -> None:
    await files.fill(6, size)
    path = await files.path_of(4)
    if damage == "gone":
        os.unlink(path)
    elif damage == "cut short":
        os.truncate(path, os.stat(path).st_size - 1)
    else:
        os.replace(await files.path_of(5), path)
    result = await files.get()
    missing = {uid(4), uid(5)} if damage == "another" else {uid(4)}
    assert isinstance(result, RetrieveResult)
    assert result.status == WITH_FAILURES
    assert set(result.failed_uids) == missing
    assert files.received == {
        name: content for name, content in files.sent.items() if name not in missing
    }


def cut_when_it_is_open(
    monkeypatch: pytest.MonkeyPatch, is_meant: Callable[[str], bool], length: int
) -> None:
    plain = FileReader.open.__func__  # type: ignore[attr-defined]

    def open_and_cut(kind: type[FileReader], path: str, *words: Any, **options: Any) -> FileReader:
        reader: FileReader = plain(kind, path, *words, **options)
        if is_meant(path):
            os.truncate(path, length)
        return reader

    monkeypatch.setattr(FileReader, "open", classmethod(open_and_cut))


async def test_a_file_that_is_cut_short_before_its_first_byte_leaves_fails_alone(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.fill(6, 300_000)
    path = await files.path_of(4)
    cut_when_it_is_open(monkeypatch, path.__eq__, 100_000)
    result = await files.get()
    assert isinstance(result, RetrieveResult)
    assert (result.status, result.failed_uids) == (WITH_FAILURES, (uid(4),))
    assert files.received == {uid(n): files.sent[uid(n)] for n in (1, 2, 3, 5, 6)}


async def test_a_file_that_is_cut_short_while_it_is_sent_ends_the_association(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it has left, and what was announced cannot be kept."""
    await files.fill(6, 3_000_002)
    path = await files.path_of(4)
    cut_when_it_is_open(monkeypatch, path.__eq__, 2_000_000)
    ended = await files.get()
    assert isinstance(ended, AssociationError)
    assert files.received == {uid(n): files.sent[uid(n)] for n in (1, 2, 3)}


async def test_cancelled_it_leaves_nothing_open(files: Files) -> None:
    await files.fill(OBJECTS, 300_000)
    some = trio.Event()

    async def receive(operation: Operation, request: CStoreRequest) -> int:
        status = await files.receive(operation, request)
        if len(files.received) == 3:
            some.set()
        return status

    async with trio.open_nursery() as nursery:

        async def get() -> None:
            await files.get(receive)

        nursery.start_soon(get)
        await some.wait()
        nursery.cancel_scope.cancel()
    assert 3 <= len(files.received) < OBJECTS
    assert all(files.sent[name] == content for name, content in files.received.items())


@pytest.mark.parametrize("deadlines", [Deadlines(write_blocked=2.0)], ids=["impatient"])
async def test_a_peer_that_stops_reading_is_given_up(files: Files) -> None:
    await files.fill(3, 12_000_000)
    given_up = trio.Event()

    def hear(notice: Notice) -> None:
        if isinstance(notice, AssociationEnded):
            given_up.set()

    files.notices.subscribe(hear)

    async def receive(operation: Operation, request: CStoreRequest) -> int:
        await given_up.wait()
        raise OperationError(0xA700)

    with trio.fail_after(60):
        ended = await files.get(receive)
    assert isinstance(ended, AssociationError)
    assert files.server.statistics.aborted == 1
    assert files.store._buffers.in_use == 0
    assert files.received == {}
