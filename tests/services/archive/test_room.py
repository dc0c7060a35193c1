"""Refusing what would take the last of the disk, or more than is allowed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from isocenter.engine.dimse.status import Status
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.capacity import Room, warn_early
from isocenter.services.archive.ingest import ROOM_BYTES
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.errors import StorageError
from isocenter.services.testing.clocks import patient_clock
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import data_set, keys_of, receive, store

MIB = 1 << 20


@pytest.fixture
def clock() -> Iterator[trio.testing.MockClock]:
    with patient_clock(0.005) as clock:
        yield clock


class Disk:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, total: int, free: int) -> None:
        self.total = total
        self.free = free
        self.looks = 0
        monkeypatch.setattr(shutil, "disk_usage", self.usage)

    def usage(self, path: object) -> SimpleNamespace:
        self.looks += 1
        return SimpleNamespace(total=self.total, used=self.total - self.free, free=self.free)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_a_part_of_the_disk_stays_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, total=1_000 * MIB, free=30 * MIB)
    clock = Clock()
    room = Room(tmp_path, reserve=20 * MIB, now=clock)
    async with Archive(MemoryStore(), MemoryIndex(), room=room) as archive:
        await store(archive, 1)
        looks = disk.looks
        await store(archive, 2)
        assert disk.looks == looks, "a disk that had room is not looked at for each object"
        disk.free = 20 * MIB - 1
        clock.now += 1
        with pytest.raises(StoreError) as caught:
            await store(archive, 3)
        assert caught.value.status == Status.OUT_OF_RESOURCES
        assert archive.alert.is_failing
        with pytest.raises(StorageError, match="19 MiB are free, and 20 MiB stay free"):
            await archive.probe()
        # Whoever made room need not wait until somebody looks again.
        disk.free = 30 * MIB
        await store(archive, 3)
        assert not archive.alert.is_failing
        assert len(await keys_of(archive)) == 3


async def test_of_a_small_disk_no_more_than_a_twentieth_is_kept_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, total=200 * MIB, free=10 * MIB)
    room = Room(tmp_path, reserve=256 * MIB, now=Clock())
    await room.check()
    disk.free -= 1
    with pytest.raises(StorageError, match="the disk is full"):
        await Room(tmp_path, reserve=256 * MIB, now=Clock()).check()


async def test_a_large_object_is_refused_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, total=1_000 * MIB, free=30 * MIB)
    clock = Clock()
    room = Room(tmp_path, reserve=20 * MIB, now=clock)
    async with Archive(MemoryStore(), MemoryIndex(), room=room) as archive:
        async with await receive(archive, 1) as ingest:
            whole = data_set(1, pixels=bytes(2 * ROOM_BYTES))
            await ingest.write([whole[:ROOM_BYTES]])
            disk.free, clock.now = MIB, clock.now + 1
            with pytest.raises(StoreError):
                await ingest.write([whole[ROOM_BYTES:]])
        assert not await keys_of(archive)


async def test_an_object_that_does_not_fit_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Disk(monkeypatch, total=1_000 * MIB, free=21 * MIB)
    room = Room(tmp_path, reserve=20 * MIB, now=Clock())
    async with Archive(MemoryStore(), MemoryIndex(), room=room) as archive:
        with pytest.raises(StoreError):
            await store(archive, 1, data_set(1, pixels=bytes(2 * MIB)))
        await store(archive, 2)


async def test_the_quota_counts_what_others_keep_and_what_came_in() -> None:
    kept = 10 * MIB
    counts = 0

    async def count() -> int:
        nonlocal counts
        counts += 1
        return kept

    clock = Clock()
    room = Room(quota=12 * MIB, count=count, now=clock)
    async with Archive(MemoryStore(), MemoryIndex(), room=room) as archive:
        await store(archive, 1, data_set(1, pixels=bytes(MIB)))
        await store(archive, 2)
        assert counts == 1
        kept = 12 * MIB
        with pytest.raises(StoreError) as caught:
            await store(archive, 3, data_set(3, pixels=bytes(MIB)))
        assert caught.value.status == Status.OUT_OF_RESOURCES
        with pytest.raises(StorageError, match=r"storage\.max_bytes is used up: 12 of 12 MiB"):
            await room.check(1)
        kept = MIB
        await store(archive, 3)


async def test_a_disk_that_fills_is_said_early_and_once_a_day(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    clock: trio.testing.MockClock,
) -> None:
    async def at_once(function: Callable[[Path], object], folder: Path) -> object:
        await trio.lowlevel.checkpoint()
        return function(folder)

    # The clock jumps while a thread works: a slow one would see the disk of another day.
    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    disk = Disk(monkeypatch, total=1_000, free=310)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(warn_early, tmp_path, 70)
        await trio.sleep(3_600)
        assert not caplog.records
        disk.free = 290
        await trio.sleep(1.5 * 86_400)
        assert len(caplog.records) == 2
        assert "the disk is 71 % full; isocenter doctor" in caplog.records[0].getMessage()
        disk.free = 400
        await trio.sleep(3_600)
        disk.free = 100
        await trio.sleep(3_600)
        assert len(caplog.records) == 3
        nursery.cancel_scope.cancel()
