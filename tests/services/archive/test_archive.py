from __future__ import annotations

import errno
import hashlib
import logging
import os
import tracemalloc
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from isocenter.engine.dataset import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Encoding,
    read_file_meta,
    write_data_set,
)
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ingest import Ingest
from isocenter.services.archive.object_keys import NamingScheme, distinct_key
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.ports import DuplicatePolicy
from isocenter.services.archive.store_answers import StoreOutcome, StoreResult
from isocenter.services.dicom.uids import UidRule
from isocenter.services.errors import StorageError
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.objects.files import journal, staging
from isocenter.storage.objects.files.store import open_file_store
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import (
    BAD_UIDS,
    CT,
    ODD_UIDS,
    SERIES,
    STUDY,
    BlockingMemoryStore,
    FailingIndex,
    OneHopIndex,
    data_set,
    data_set_of,
    keys_of,
    opened,
    receive,
    store,
    uid,
)
from storage.power_model import Crash, ModelFiles, failing

KEY = f"{STUDY}/{SERIES}/{uid(1)}.dcm"


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of a crash test makes its own."""
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1 << 18)


@pytest.fixture
async def archive() -> AsyncIterator[Archive]:
    async with opened(MemoryStore()) as archive:
        yield archive


async def refused(
    archive: Archive, number: int = 1, data: Any = None, **options: Any
) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await store(archive, number, data, **options)
    return caught.value


# -- What is kept ------------------------------------------------------------------------


async def test_an_object_is_kept_as_it_came_behind_meta_information_of_ours(
    archive: Archive,
) -> None:
    data = data_set(pixels=bytes(range(256)) * 40)
    result = await store(archive, data=data)
    assert (result.status, result.outcome) == (0x0000, StoreOutcome.STORED)
    stored = result.instance
    indexed = (await archive.index.get([uid(1)]))[uid(1)]
    assert (indexed.object_key, indexed.digest) == (stored.object_key, stored.digest)
    assert await data_set_of(archive, indexed) == data
    assert stored.object_key == KEY
    assert stored.digest == hashlib.sha256(data).hexdigest()
    async with await archive.open(stored) as reader:
        meta = read_file_meta(await reader.read(0, stored.data_set_offset))
    assert meta.data_set_offset == stored.data_set_offset
    assert meta.media_storage_sop_class_uid == CT
    assert meta.media_storage_sop_instance_uid == uid(1)
    assert meta.transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN
    assert meta.elements[0x00020016].strip() == b"SENDER"
    statistics = await archive.index.statistics()
    assert (statistics.instances, statistics.size) == (1, stored.size)


@pytest.mark.parametrize("piece", [1, 7, 100])
async def test_however_the_bytes_are_cut(archive: Archive, piece: int) -> None:
    data = data_set()
    async with await receive(archive) as ingest:
        reused = bytearray(piece)
        for start in range(0, len(data), piece):
            part = data[start : start + piece]
            reused[: len(part)] = part
            await ingest.write([memoryview(reused)[: len(part)], b""])
        result = await ingest.commit()
    assert ingest.size == len(data)
    assert await data_set_of(archive, result.instance) == data


@pytest.mark.parametrize(
    ("syntax", "encoding"),
    [
        (IMPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_LITTLE),
        (EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_BIG),
        (DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, DEFLATED_LITTLE),
    ],
)
async def test_every_encoding(archive: Archive, syntax: str, encoding: Encoding) -> None:
    data = data_set(encoding=encoding)
    result = await store(archive, data=data, transfer_syntax_uid=syntax)
    assert result.instance.transfer_syntax_uid == syntax
    assert await data_set_of(archive, result.instance) == data


@pytest.mark.parametrize("title", ["", "TOO LONG TO BE AN AE", "Ä", "A\\B", "A\0B"])
async def test_a_calling_ae_title_that_is_none_is_left_out(archive: Archive, title: str) -> None:
    result = await store(archive, source_ae_title=title)
    async with await archive.open(result.instance) as reader:
        meta = read_file_meta(await reader.read(0, reader.size))
    assert 0x00020016 not in meta.elements


async def test_nothing_stays_of_what_was_not_committed(archive: Archive) -> None:
    async with await receive(archive) as ingest:
        await ingest.write([data_set()])
    await ingest.discard()
    with pytest.raises(ValueError, match="discarded"):
        await ingest.write([b"x"])
    with pytest.raises(ValueError, match="discarded"):
        await ingest.commit()
    assert await keys_of(archive) == set()
    assert await archive.index.get([uid(1)]) == {}
    assert archive.budget.taken == 0


async def test_removing(archive: Archive) -> None:
    await store(archive)
    assert await archive.remove([uid(1), uid(2)]) == 1
    assert await keys_of(archive) == set()
    assert (await archive.index.statistics()).instances == 0


# -- What is refused ---------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD_UIDS)
@pytest.mark.parametrize("which", ["sop_class_uid", "sop_instance_uid", "transfer_syntax_uid"])
async def test_a_uid_of_the_command_that_is_none(archive: Archive, which: str, bad: str) -> None:
    error = await refused(archive, **{which: bad})
    assert error.status == 0x0117


@pytest.mark.parametrize("bad", ["../1", "1.2/3", ".", "..", "1" * 65, "1*2", "1?2", "1\\2"])
@pytest.mark.parametrize("which", ["study", "series"])
async def test_a_uid_of_the_data_set_that_is_none(archive: Archive, which: str, bad: str) -> None:
    error = await refused(archive, data=data_set(1, **{which: bad}))  # type: ignore[arg-type]
    assert error.status == 0x0117
    assert bad not in str(error) or len(bad) < 3
    assert await keys_of(archive) == set()
    assert archive.budget.taken == 0


@pytest.mark.parametrize("odd", ODD_UIDS)
@pytest.mark.parametrize("which", ["sop_class_uid", "transfer_syntax_uid"])
async def test_what_is_negotiated_keeps_to_the_rules(
    archive: Archive, which: str, odd: str
) -> None:
    assert (await refused(archive, **{which: odd})).status == 0x0117


async def test_odd_uids_are_kept_and_told(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    """`storage.uids` = safe, the default: found, and given back, by what they are called."""
    caplog.set_level("INFO")
    for odd in ODD_UIDS:
        data = data_set(1, study=odd, series=odd, instance=odd)
        assert (await store(archive, 1, data, sop_instance_uid=odd)).outcome is StoreOutcome.STORED
        stored = (await archive.index.get([odd]))[odd]
        assert (stored.study_instance_uid, stored.series_instance_uid) == (odd, odd)
        assert await data_set_of(archive, stored) == data
        assert await archive.are_indexed([stored.object_key]) == [True]
    assert (await archive.index.statistics()).instances == len(ODD_UIDS)
    told = [one.getMessage() for one in caplog.records if "breaks PS3.5 9.1" in one.getMessage()]
    assert len(told) == len(ODD_UIDS)


@pytest.mark.parametrize("odd", ODD_UIDS)
async def test_strict_uids(odd: str) -> None:
    async with opened(MemoryStore(), uids=UidRule.STRICT) as archive:
        assert (await refused(archive, sop_instance_uid=odd)).status == 0x0117
        for which in ("study", "series"):
            error = await refused(archive, data=data_set(1, **{which: odd}))  # type: ignore[arg-type]
            assert error.status == 0x0117
        await store(archive, 1, data_set(1, study="1.02.3", series="0.1"))  # leading zeros


@pytest.mark.parametrize(
    "data",
    [
        data_set(2),
        data_set(sop_class="1.2.840.10008.5.1.4.1.1.4"),
        data_set(sop_class=""),
        data_set(study=""),
        data_set(series=""),
        b"",
    ],
)
async def test_command_and_data_set_disagree(archive: Archive, data: bytes) -> None:
    error = await refused(archive, data=data)
    assert error.status == 0xA900
    assert await keys_of(archive) == set()


@pytest.mark.parametrize(
    "data", [data_set()[:-1], data_set()[:40], b"\xfe" * 100, b"GET / HTTP/1.1\r\n\r\n" * 9]
)
async def test_a_data_set_that_cannot_be_parsed(archive: Archive, data: bytes) -> None:
    error = await refused(archive, data=data)
    assert error.status == 0xC000
    assert await keys_of(archive) == set()
    assert archive.budget.taken == 0


@pytest.mark.parametrize("tag", [0x00000002, 0x00041130])
@pytest.mark.parametrize("cut", [1, 2, 100])
async def test_groups_that_do_not_belong_into_a_data_set(
    archive: Archive, tag: int, cut: int
) -> None:
    """What no reader may see behind our File Meta Information."""
    data = write_data_set([(tag, "UI", b"1.2.840.10008.1.2.2")], EXPLICIT_LITTLE) + data_set()
    pieces = [data[start : start + cut] for start in range(0, len(data), cut)]
    async with await receive(archive) as ingest:
        # One call for each piece: the group may come in two of them.
        with pytest.raises(StoreError) as caught:
            await write_all(ingest, pieces)
        assert caught.value.status == 0xC000
    assert await keys_of(archive) == set()


async def write_all(ingest: Ingest, pieces: list[bytes]) -> None:
    for piece in pieces:
        await ingest.write([piece])


async def test_no_attribute_value_in_a_refusal(archive: Archive) -> None:
    for data in (data_set(2), data_set(study="")):
        error = await refused(archive, data=data)
        for text in ("Bäcker", "P1", "20240229"):
            assert text not in str(error)
        assert len(error.comment) <= 64


# -- Duplicates --------------------------------------------------------------------------


@pytest.fixture(params=list(NamingScheme))
def naming(request: pytest.FixtureRequest) -> NamingScheme:
    scheme = request.param
    assert isinstance(scheme, NamingScheme)
    return scheme


@pytest.fixture(params=[False, True], ids=["two hops", "one hop"])
def parts(request: pytest.FixtureRequest) -> tuple[MemoryStore, FailingIndex]:
    """Store and index of a round: each with its own thread, or the one in that of the other."""
    return (
        (BlockingMemoryStore(), OneHopIndex()) if request.param else (MemoryStore(), FailingIndex())
    )


#: The other object of the same instance has another date, hence another key with `date`.
OTHER = data_set(study_date="19990101", pixels=b"other!")


async def test_ignore(naming: NamingScheme, parts: tuple[MemoryStore, FailingIndex]) -> None:
    async with opened(*parts, naming=naming) as archive:
        first = await store(archive)
        again = await store(archive)
        assert (again.status, again.outcome) == (0, StoreOutcome.ALREADY_STORED)
        other = await store(archive, data=OTHER)
        assert (other.status, other.outcome) == (0xB007, StoreOutcome.KEPT_OTHER)
        assert again.instance.object_key == other.instance.object_key == first.instance.object_key
        assert await keys_of(archive) == {first.instance.object_key}
        assert await data_set_of(archive, other.instance) == data_set()
        assert archive.budget.taken == 0


async def test_reject(naming: NamingScheme, parts: tuple[MemoryStore, FailingIndex]) -> None:
    async with opened(*parts, naming=naming, duplicates=DuplicatePolicy.REJECT) as archive:
        first = await store(archive)
        assert (await refused(archive)).status == 0x0111
        assert (await refused(archive, data=OTHER)).status == 0x0111
        assert await keys_of(archive) == {first.instance.object_key}


async def test_replace(naming: NamingScheme, parts: tuple[MemoryStore, FailingIndex]) -> None:
    async with opened(*parts, naming=naming, duplicates=DuplicatePolicy.REPLACE) as archive:
        await store(archive)
        same = await store(archive)
        assert same.status == 0
        async with await archive.open(same.instance) as old:
            other = await store(archive, data=OTHER)
            assert (other.status, other.outcome) == (0, StoreOutcome.REPLACED)
            # Whoever is reading the old one goes on.
            assert (await old.read(0, old.size)).endswith(data_set())
        assert await keys_of(archive) == {other.instance.object_key}
        stored = (await archive.index.get([uid(1)]))[uid(1)]
        assert await data_set_of(archive, stored) == OTHER
        back = await store(archive)
        assert back.outcome is StoreOutcome.REPLACED
        assert await keys_of(archive) == {back.instance.object_key}


@pytest.mark.parametrize("policy", list(DuplicatePolicy))
async def test_an_orphan_under_the_key_does_not_block(policy: DuplicatePolicy) -> None:
    objects = MemoryStore()
    staged = await objects.stage()
    await staged.write([b"left by a crash"])
    await objects.publish([(staged, KEY)])
    async with opened(objects, duplicates=policy) as archive:
        result = await store(archive)
        assert result.outcome is StoreOutcome.STORED
        assert result.instance.object_key == distinct_key(KEY, "00000001")
        assert await data_set_of(archive, result.instance) == data_set()
        assert await archive.are_indexed([KEY, result.instance.object_key]) == [False, True]


@pytest.mark.parametrize("policy", list(DuplicatePolicy))
@pytest.mark.parametrize("data", [data_set(), OTHER], ids=["same", "other"])
async def test_a_duplicate_of_an_object_that_vanished_takes_its_place(
    naming: NamingScheme, policy: DuplicatePolicy, data: bytes
) -> None:
    objects = MemoryStore()
    async with opened(objects, naming=naming, duplicates=policy) as archive:
        first = await store(archive)
        await objects.remove([first.instance.object_key])
        again = await store(archive, data=data)
        assert (again.status, again.outcome) == (0, StoreOutcome.REPLACED)
        stored = (await archive.index.get([uid(1)]))[uid(1)]
        assert await data_set_of(archive, stored) == data
        assert await keys_of(archive) == {stored.object_key}


@pytest.mark.parametrize("policy", list(DuplicatePolicy))
@pytest.mark.parametrize("left", [0, 200])
async def test_a_duplicate_of_an_object_that_was_cut_short_takes_its_place(
    tmp_path: Path, naming: NamingScheme, policy: DuplicatePolicy, left: int
) -> None:
    """As a power failure leaves it where nothing was synced; the peer was told that it is there."""
    objects = await open_file_store(tmp_path)
    async with opened(objects, naming=naming, duplicates=policy) as archive:
        first = await store(archive)
        os.truncate(tmp_path / "objects" / first.instance.object_key, left)
        again = await store(archive)
        assert (again.status, again.outcome) == (0, StoreOutcome.REPLACED)
        stored = (await archive.index.get([uid(1)]))[uid(1)]
        assert await data_set_of(archive, stored) == data_set()
    assert await keys_of(archive) == {stored.object_key}


# -- Group commit ------------------------------------------------------------------------


class GatedStore(MemoryStore):
    """Publishes when it is let; keeps what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = trio.Event()
        self.batches: list[list[str]] = []
        self.failures: dict[str, StorageError] = {}

    async def publish(self, staged: Any) -> Any:
        self.batches.append([key for _, key in staged])
        await self.gate.wait()
        outcomes = list(await super().publish(staged))
        for place, (_, key) in enumerate(staged):
            if key in self.failures:
                await self.remove([key])
                outcomes[place] = self.failures[key]
        return outcomes


async def test_while_a_batch_is_committed_the_next_gathers() -> None:
    objects, index = GatedStore(), FailingIndex()
    async with opened(objects, index) as archive, trio.open_nursery() as nursery:
        nursery.start_soon(store, archive, 0)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(1, 50):
            nursery.start_soon(store, archive, number)
        await trio.testing.wait_all_tasks_blocked()
        assert [len(batch) for batch in objects.batches] == [1]
        objects.gate.set()
    assert [len(batch) for batch in objects.batches] == [1, 49]
    assert index.transactions == [1, 49]


@pytest.mark.parametrize("policy", list(DuplicatePolicy))
async def test_one_instance_several_times_in_a_batch(policy: DuplicatePolicy) -> None:
    objects = GatedStore()
    answers: list[StoreResult | StoreError] = []

    async def send(data: bytes) -> None:
        try:
            answers.append(await store(archive, data=data))
        except StoreError as error:
            answers.append(error)

    async with opened(objects, duplicates=policy) as archive:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store, archive, 2)
            await trio.testing.wait_all_tasks_blocked()
            for data in (data_set(), data_set(), OTHER):
                nursery.start_soon(send, data)
            await trio.testing.wait_all_tasks_blocked()
            objects.gate.set()
        assert len(await keys_of(archive)) == 2
        outcomes = sorted(
            answer.outcome.value if isinstance(answer, StoreResult) else f"{answer.status:04X}"
            for answer in answers
        )
        match policy:
            case DuplicatePolicy.REJECT:
                assert outcomes == ["0111", "0111", "stored"]
            case DuplicatePolicy.IGNORE:
                assert outcomes[-1] == "stored"
                assert set(outcomes) <= {"already stored", "kept other", "stored"}
            case DuplicatePolicy.REPLACE:
                assert "stored" in outcomes
                assert "replaced" in outcomes


async def test_a_failing_object_fails_alone() -> None:
    objects = GatedStore()
    objects.failures[f"{STUDY}/{SERIES}/{uid(3)}.dcm"] = StorageError("no", out_of_resources=True)
    objects.failures[f"{STUDY}/{SERIES}/{uid(4)}.dcm"] = StorageError("no")
    statuses: dict[int, int] = {}

    async def send(number: int) -> None:
        try:
            statuses[number] = (await store(archive, number)).status
        except StoreError as error:
            statuses[number] = error.status

    async with opened(objects) as archive:
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(send, number)
            await trio.testing.wait_all_tasks_blocked()
            objects.gate.set()
        assert statuses == {0: 0, 1: 0, 2: 0, 3: 0xA700, 4: 0x0110, 5: 0}
        assert len(await keys_of(archive)) == 4
        assert (await archive.index.statistics()).instances == 4


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StorageError("disk full", out_of_resources=True), 0xA700),
        (StorageError("broken"), 0x0110),
        (RuntimeError("a fault of the index"), 0x0110),
    ],
)
async def test_when_the_index_fails_the_batch_is_taken_back(
    error: Exception,
    status: int,
    parts: tuple[MemoryStore, FailingIndex],
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = parts[1]
    async with opened(*parts) as archive:
        await store(archive, 9)
        index.error = error
        assert (await refused(archive)).status == status
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert len(await keys_of(archive)) == 1
        index.error = None
        assert (await store(archive)).outcome is StoreOutcome.STORED
        assert archive.budget.taken == 0


@pytest.mark.parametrize("index", [FailingIndex(), OneHopIndex()], ids=["two hops", "one hop"])
async def test_when_the_index_cannot_even_answer_the_next_start_decides(
    tmp_path: Path, index: FailingIndex
) -> None:
    async with opened(await open_file_store(tmp_path), index) as archive:
        index.error = index.get_error = StorageError("gone")
        await refused(archive)
        assert len(os.listdir(tmp_path / "journal")) == 1
    index.error = index.get_error = None
    async with opened(await open_file_store(tmp_path), index) as archive:
        assert await archive.recover() == 1
        assert await keys_of(archive) == set()


async def test_a_fault_of_ours_does_not_end_the_committer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    objects = MemoryStore()
    async with opened(objects) as archive:
        with monkeypatch.context() as patched:

            async def broken(staged: object) -> object:
                raise ZeroDivisionError

            patched.setattr(objects, "publish", broken)
            assert (await refused(archive)).status == 0x0110
        assert "ZeroDivisionError" in caplog.text
        assert (await store(archive)).status == 0


class NeverAsked(OneHopIndex):
    """Fails before it lets anything be published, as one that is closed."""

    async def add_after(self, publish: Any, **policies: bool) -> Any:
        assert self.error is not None
        raise self.error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StorageError("full", out_of_resources=True), 0xA700),
        (StorageError("closed"), 0x0110),
        (ZeroDivisionError(), 0x0110),
    ],
)
async def test_an_index_that_never_comes_to_publishing(error: Exception, status: int) -> None:
    index = NeverAsked()
    index.error = error
    async with opened(BlockingMemoryStore(), index) as archive:
        assert (await refused(archive)).status == status
        assert await keys_of(archive) == set()
        assert archive.budget.taken == 0


async def test_a_round_takes_one_hop_to_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the index: no other one is started or waited for."""
    started = 0
    original = trio.lowlevel.start_thread_soon

    def counting(*args: Any) -> None:
        nonlocal started
        started += 1
        original(*args)

    async with (
        open_sqlite_database(tmp_path / "index.db") as database,
        opened(await open_file_store(tmp_path), DatabaseIndex(database)) as archive,
    ):
        monkeypatch.setattr(trio.lowlevel, "start_thread_soon", counting)
        monkeypatch.setattr(staging, "FEWEST_SPARES", 0)
        for number, size in enumerate((10, 200_000, 10)):
            await store(archive, number, data_set(number, pixels=bytes(size)))
            assert (started, archive.committer.unsettled) == (0, number + 1)
        monkeypatch.undo()


# -- Cancellation and end ----------------------------------------------------------------


async def test_cancelled_while_it_waits_it_is_withdrawn() -> None:
    objects = GatedStore()
    async with opened(objects) as archive:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store, archive, 1)
            await trio.testing.wait_all_tasks_blocked()
            scope = trio.CancelScope()

            async def cancelled() -> None:
                with scope:
                    await store(archive, 2)

            nursery.start_soon(cancelled)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            objects.gate.set()
        await store(archive, 3)
        assert set(await archive.index.get([uid(1), uid(2), uid(3)])) == {uid(1), uid(3)}
        assert archive.budget.taken == 0


async def test_cancelled_while_it_is_committed_it_is_whole() -> None:
    objects = GatedStore()
    async with opened(objects) as archive:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store, archive, 1)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        objects.gate.set()
        await store(archive, 2)
        stored = (await archive.index.get([uid(1)]))[uid(1)]
        assert await data_set_of(archive, stored) == data_set()
        assert archive.budget.taken == 0


async def test_cancelled_while_receiving_leaves_nothing(tmp_path: Path) -> None:
    async with opened(await open_file_store(tmp_path)) as archive:
        with trio.CancelScope() as scope:
            async with await receive(archive) as ingest:
                await ingest.write([data_set(pixels=b"x" * (3 << 20))])
                assert len(os.listdir(tmp_path / "staging")) == 1
                scope.cancel()
                await trio.sleep_forever()
        assert os.listdir(tmp_path / "staging") == []
        assert archive.budget.taken == 0


async def test_leaving_the_archive_waits_for_what_is_being_committed() -> None:
    objects = GatedStore()
    results: list[StoreResult] = []

    async def send(archive: Archive, number: int) -> None:
        results.append(await store(archive, number))

    async with trio.open_nursery() as nursery:
        async with opened(objects) as archive:
            for number in range(5):
                nursery.start_soon(send, archive, number)
            await trio.testing.wait_all_tasks_blocked()
            objects.gate.set()
        with pytest.raises(StoreError, match="closing"):
            await store(archive, 9)
    assert len(results) == 5


async def test_an_error_inside_leaves_as_it_is_and_nobody_waits_for_ever() -> None:
    objects = GatedStore()
    answers: list[object] = []

    async def send(archive: Archive, number: int) -> None:
        try:
            answers.append(await store(archive, number))
        except StoreError as error:
            answers.append(error)

    async with trio.open_nursery() as nursery:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with opened(objects) as archive:
                for number in range(3):
                    nursery.start_soon(send, archive, number)
                    await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(send, archive, 7)
                objects.gate.set()
                raise ZeroDivisionError
    assert len(answers) == 4


# -- Memory ------------------------------------------------------------------------------


async def test_memory_is_flat_for_a_large_object(tmp_path: Path) -> None:
    objects = await open_file_store(tmp_path, durability="relaxed")
    head = data_set(pixels=b"")
    size = 300 << 20
    pixel_data = b"\xe0\x7f\x10\x00OB\0\0" + size.to_bytes(4, "little")
    piece = memoryview(bytes(128 << 10))
    async with opened(objects) as archive:
        tracemalloc.start()
        try:
            async with await receive(archive) as ingest:
                await ingest.write([head + pixel_data])
                for _ in range(size // len(piece)):
                    await ingest.write([piece])
                    assert archive.budget.taken <= objects.memory_per_object
                result = await ingest.commit()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 8 << 20
        assert result.instance.size > size
        await archive.remove([uid(1)])


async def test_over_the_budget_objects_go_to_disk_and_all_get_through(tmp_path: Path) -> None:
    """Forty objects of 20 KB with 64 KiB of memory: nobody waits for somebody who waits."""
    async with opened(await open_file_store(tmp_path), memory_budget=64 << 10) as archive:
        most = 0

        async def send(number: int) -> None:
            nonlocal most
            mine = data_set(number, pixels=b"x" * 20_000)
            async with await receive(archive, number) as ingest:
                for start in range(0, len(mine), 1000):
                    await ingest.write([mine[start : start + 1000]])
                    most = max(most, archive.budget.taken)
                    await trio.lowlevel.checkpoint()
                await ingest.commit()

        async with trio.open_nursery() as nursery:
            for number in range(10, 50):
                nursery.start_soon(send, number)
        assert (await archive.index.statistics()).instances == 40
        stored = (await archive.index.get([uid(23)]))[uid(23)]
        assert await data_set_of(archive, stored) == data_set(23, pixels=b"x" * 20_000)
        assert 32 << 10 < most <= 64 << 10
        assert archive.budget.taken == 0


async def test_no_memory_for_too_long_is_out_of_resources(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """An object store that can only hold things in memory cannot make room."""
    async with opened(MemoryStore(), memory_budget=10_000, memory_wait_seconds=30) as archive:
        async with await receive(archive, 1) as first:
            await first.write([data_set(1, pixels=b"x" * 9_000)])
            began = trio.current_time()
            error = await refused(archive, 2, data_set(2, pixels=b"x" * 3_000))
            assert error.status == 0xA700
            assert trio.current_time() - began == pytest.approx(30)
            await first.commit()
        await store(archive, 2, data_set(2, pixels=b"x" * 3_000))
        assert archive.budget.taken == 0


async def test_who_waits_for_memory_gets_it_when_it_is_given_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened(MemoryStore(), memory_budget=10_000) as archive:
        async with trio.open_nursery() as nursery, await receive(archive, 1) as first:
            await first.write([data_set(1, pixels=b"x" * 9_000)])
            nursery.start_soon(store, archive, 2, data_set(2, pixels=b"x" * 3_000))
            await trio.testing.wait_all_tasks_blocked()
        assert set(await archive.index.get([uid(1), uid(2)])) == {uid(2)}


# -- Disks that fail ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 3 << 20])
async def test_a_full_disk(tmp_path: Path, size: int) -> None:
    files = ModelFiles(tmp_path)
    async with opened(await open_file_store(tmp_path, files=files)) as archive:

        def fail(number: int, name: str) -> None:
            if name == "write":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        files.fail = fail
        error = await refused(archive, data=data_set(pixels=b"x" * size))
        assert error.status == 0xA700
        assert await keys_of(archive) == set()
        assert os.listdir(tmp_path / "staging") == []
        files.fail = lambda number, name: None
        assert (await store(archive)).status == 0


async def test_a_failed_sync_is_no_success(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path)
    async with opened(await open_file_store(tmp_path, files=files)) as archive:

        def fail(number: int, name: str) -> None:
            if name.startswith("sync"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        files.fail = fail
        assert (await refused(archive)).status == 0x0110
        assert (await archive.index.statistics()).instances == 0
        assert await keys_of(archive) == set()


@pytest.mark.parametrize("policy", [DuplicatePolicy.IGNORE, DuplicatePolicy.REPLACE])
@pytest.mark.parametrize("disk_model", ["killed", "power lost", "power lost with a journal"])
@pytest.mark.parametrize("index_kind", [FailingIndex, OneHopIndex], ids=["two hops", "one hop"])
async def test_a_crash_between_any_two_steps(
    tmp_path: Path, policy: DuplicatePolicy, disk_model: str, index_kind: type[FailingIndex]
) -> None:
    """What was acknowledged is there, bit for bit, and findable; the rest is not findable.

    A replaced object counts: the index has the old one or the new one, whole.
    """
    sendings = [(1, data_set(1)), (2, data_set(2)), (1, OTHER), (3, data_set(3)), (3, data_set(3))]
    serial = count()
    options: dict[str, Any] = {"duplicates": policy, "token": lambda: f"{next(serial):08x}"}
    step = 0
    crashed = True
    while crashed:
        root = tmp_path / str(step)
        files = ModelFiles(root / "data")
        index = index_kind()
        acknowledged: dict[int, bytes] = {}
        sent: dict[int, list[bytes]] = {}
        files.fail = failing(step, Crash)
        try:
            async with opened(
                await open_file_store(root / "data", files=files), index, **options
            ) as archive:
                for number, data in sendings:
                    sent.setdefault(number, []).append(data)
                    result = await store(archive, number, data)
                    if result.outcome in {StoreOutcome.STORED, StoreOutcome.REPLACED}:
                        acknowledged[number] = data
            crashed = False
        except* (Crash, StoreError):
            assert files.crashed
        disk = root / "data"
        if disk_model != "killed":
            in_order = disk_model.endswith("journal")
            disk = files.after_power_failure(root / "after", names_survive=in_order)
        async with opened(await open_file_store(disk), index, **options) as archive:
            await archive.recover()
            assert os.listdir(disk / "staging") == []
            known = await archive.index.get([uid(number) for number in (1, 2, 3)])
            for number, data in acknowledged.items():
                found = await data_set_of(archive, known[uid(number)])
                assert found == data or (number == 1 and found == OTHER), step
            for number in (1, 2, 3):
                if number not in acknowledged and uid(number) in known:
                    assert await data_set_of(archive, known[uid(number)]) in sent[number]
            # And everything can be sent once more.
            for number, data in sendings:
                assert (await store(archive, number, data)).status in {0, 0xB007}
            assert (await archive.index.statistics()).instances == 3
        files.end()
        step += 1
    assert step > 20


async def test_fifty_associations_store_while_others_read(tmp_path: Path) -> None:
    index = FailingIndex()
    async with opened(await open_file_store(tmp_path), index) as archive:
        done: list[int] = []

        async def send(sender: int) -> None:
            for place in range(4):
                number = 1000 + sender * 10 + place
                await store(archive, number, data_set(number, pixels=b"%d" % number * 1000))
                done.append(number)

        async def read() -> None:
            for _ in range(20):
                for number in done[-3:]:
                    stored = (await archive.index.get([uid(number)]))[uid(number)]
                    expected = data_set(number, pixels=b"%d" % number * 1000)
                    assert await data_set_of(archive, stored) == expected
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for sender in range(50):
                nursery.start_soon(send, sender)
            for _ in range(4):
                nursery.start_soon(read)
        assert (await archive.index.statistics()).instances == 200
        assert len(await keys_of(archive)) == 200
        # Group commit: far fewer rounds than objects.
        assert len(index.transactions) < 40
    assert os.listdir(tmp_path / "staging") == []
