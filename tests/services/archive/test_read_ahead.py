from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from isocenter.services.archive import read_ahead
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.opened_ahead import OpenedAhead
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.read_ahead import reading_ahead
from isocenter.services.archive.watched_reader import WatchedReader
from isocenter.services.dicom.object_reader import ObjectReader, is_file_backed
from isocenter.services.errors import StorageError
from isocenter.storage.objects.files.store import FileStore, open_file_store
from services.archive_support import data_set, opened, store, uid

OBJECTS = 30


class Watching:
    """The store, with an account of what is opened, and of what is open."""

    def __init__(self, inner: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead: list[str] = []
        self.alone: list[str] = []
        self.most = 0
        self.inner = inner
        open_ahead, open_alone = inner.open_ahead, inner.open

        async def watch_ahead(
            keys: Sequence[str], *, reads: bool = True
        ) -> Sequence[ObjectReader | None]:
            self.ahead += keys
            found = await open_ahead(keys, reads=reads)
            self.most = max(self.most, inner._buffers.in_use)
            return found

        async def watch_alone(key: str) -> ObjectReader:
            self.alone.append(key)
            return await open_alone(key)

        monkeypatch.setattr(inner, "open_ahead", watch_ahead)
        monkeypatch.setattr(inner, "open", watch_alone)

    @property
    def open(self) -> int:
        return self.inner._buffers.in_use


@pytest.fixture
async def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watching:
    return Watching(await open_file_store(tmp_path, durability="relaxed"), monkeypatch)


@pytest.fixture
async def archive(files: Watching) -> AsyncIterator[Archive]:
    async with opened(files.inner) as archive:
        for number in range(1, OBJECTS + 1):
            await store(archive, number, large(number))
        yield archive


def large(number: int) -> bytes:
    return data_set(number, pixels=bytes([number]) * 100_000)


async def instances_of(archive: Archive) -> list[StoredInstance]:
    known = await archive.index.get([uid(number) for number in range(1, OBJECTS + 1)])
    return [known[uid(number)] for number in range(1, OBJECTS + 1)]


async def content(reader: ObjectReader, stored: StoredInstance) -> bytes:
    async with reader:
        return await reader.read(stored.data_set_offset, reader.size)


async def test_objects_come_in_order_each_opened_once(archive: Archive, files: Watching) -> None:
    instances = await instances_of(archive)
    async with reading_ahead(archive, instances) as ahead:
        for number, stored in enumerate(instances, 1):
            assert await content(await ahead.open(stored), stored) == large(number)
    assert files.ahead == [stored.object_key for stored in instances]
    assert files.alone == []
    assert files.most <= read_ahead._DEPTH
    assert files.open == 0


async def test_nothing_is_opened_before_somebody_asks(archive: Archive, files: Watching) -> None:
    async with reading_ahead(archive, await instances_of(archive)):
        await trio.testing.wait_all_tasks_blocked()
    assert files.ahead == []


@pytest.mark.parametrize("tasks", [2, 16, OBJECTS])
async def test_several_tasks_share_it(archive: Archive, files: Watching, tasks: int) -> None:
    instances = await instances_of(archive)
    todo, found = list(enumerate(instances, 1)), set()

    async def take(ahead: read_ahead.ReadAhead) -> None:
        while todo:
            number, stored = todo.pop(0)
            assert await content(await ahead.open(stored), stored) == large(number)
            found.add(number)

    async with reading_ahead(archive, instances) as ahead, trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(take, ahead)
    assert found == set(range(1, OBJECTS + 1))
    assert sorted(files.ahead + files.alone) == sorted(one.object_key for one in instances)
    assert files.open == 0


@pytest.mark.parametrize("order", ["backwards", "some twice", "every third", "only the last"])
async def test_any_order_is_right(archive: Archive, files: Watching, order: str) -> None:
    instances = await instances_of(archive)
    asked = {
        "backwards": instances[::-1],
        "some twice": [*instances[:10], *instances[5:]],
        "every third": instances[::3],
        "only the last": instances[-1:],
    }[order]
    with trio.fail_after(60):
        async with reading_ahead(archive, instances) as ahead:
            for stored in asked:
                number = instances.index(stored) + 1
                assert await content(await ahead.open(stored), stored) == large(number)
    assert files.most <= read_ahead._DEPTH + 1
    assert files.open == 0


async def test_what_is_missing_is_missed_when_it_is_asked_for(archive: Archive) -> None:
    instances = await instances_of(archive)
    await archive.store.remove([instances[1].object_key])
    async with reading_ahead(archive, instances) as ahead:
        async with await ahead.open(instances[0]):
            pass
        with pytest.raises(KeyError):
            await ahead.open(instances[1])
        assert await content(await ahead.open(instances[2]), instances[2]) == large(3)


async def test_an_error_inside_leaves_as_it_is_and_nothing_open(
    archive: Archive, files: Watching
) -> None:
    instances = await instances_of(archive)

    async def fail() -> None:
        async with reading_ahead(archive, instances) as ahead:
            async with await ahead.open(instances[0]):
                pass
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert files.open == 0


async def test_cancelled_while_files_are_being_opened(archive: Archive, files: Watching) -> None:
    instances = await instances_of(archive)
    with trio.CancelScope() as scope:
        async with reading_ahead(archive, instances) as ahead:
            async with await ahead.open(instances[0]):
                pass
            scope.cancel()
            await ahead.open(instances[-1])
    assert scope.cancelled_caught
    assert files.open == 0


async def test_each_object_that_is_read_is_told_once_however_it_was_opened(
    archive: Archive,
) -> None:
    told: list[str] = []

    def on_read(stored: StoredInstance, seconds: float, has_failed: bool) -> None:
        assert 0 <= seconds < 600
        assert not has_failed
        told.append(stored.sop_instance_uid)

    archive.on_read = on_read
    instances = await instances_of(archive)
    async with await archive.open(instances[0]) as reader:
        assert is_file_backed(reader)
        assert reader.descriptor > 0
        assert len(await reader.read(0, 100)) == 100
        assert told == []
    async with reading_ahead(archive, instances[1:9]) as ahead:
        for stored in instances[1:9]:
            async with await ahead.open(stored) as reader:
                assert reader.size == stored.size
    async with OpenedAhead(archive, instances[9:12]) as some:
        for stored in instances[9:12]:
            reader = await some.open(stored)
            assert is_file_backed(reader)
            reader.close()
            reader.close()  # may be called again
            await reader.__aexit__(None, None, None)
    assert told == [stored.sop_instance_uid for stored in instances[:12]]


async def test_an_object_that_cannot_be_read_is_told_as_failed(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    archive.on_read = lambda stored, seconds, has_failed: told.append(has_failed)
    (stored, *_) = await instances_of(archive)
    reader = await archive.open(stored)
    assert isinstance(reader, WatchedReader)

    class Broken:
        async def read(self, offset: int, length: int) -> bytes:
            raise StorageError("the disk is broken")

        view = read

        async def __aexit__(self, *exc: object) -> None:
            await inner.__aexit__(*exc)

    inner = reader._reader
    monkeypatch.setattr(reader, "_reader", Broken())
    with pytest.raises(StorageError):
        await reader.read(0, 1)
    with pytest.raises(StorageError):
        await reader.view(0, 1)
    await reader.__aexit__(None, None, None)
    assert told == [True]
