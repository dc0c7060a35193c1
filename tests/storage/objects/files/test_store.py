from __future__ import annotations

import errno
import os
import shutil
import stat
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from isocenter.services.archive.ports import ObjectStore, StagedObject
from isocenter.services.errors import StorageError
from isocenter.storage.objects.files import journal
from isocenter.storage.objects.files import reader as reader_module
from isocenter.storage.objects.files import store as store_module
from isocenter.storage.objects.files.file_system import OsFileSystem
from isocenter.storage.objects.files.journal import read_segment
from isocenter.storage.objects.files.staging import SPARES, StagedFile
from isocenter.storage.objects.files.store import FileStore, open_file_store
from storage.power_model import Crash, ModelFiles, failing
from storage.store_contract import (
    KEY,
    StoreContract,
    all_keys,
    content,
    index_of,
    nothing,
    put,
)

MIB = 1 << 20


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of a crash test makes its own."""
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1 << 18)


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def staged_names(root: Path) -> list[str]:
    return os.listdir(root / "staging")


class WithoutLinks(OsFileSystem):
    def link(self, source: str, target: str) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


class TestFileStore(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> ObjectStore:
        return await open_file_store(tmp_path / "data")


class TestRelaxed(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> ObjectStore:
        return await open_file_store(tmp_path, durability="relaxed")


class TestEverythingThroughStagedFiles(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> ObjectStore:
        return await open_file_store(tmp_path, memory_per_object=2)


class TestWithoutHardLinks(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> ObjectStore:
        await open_file_store(tmp_path)
        return FileStore(str(tmp_path), links=False, files=WithoutLinks())

    async def test_one_key_twice_in_a_batch(self, store: ObjectStore) -> None:
        """Without links two that come at the same moment are not told apart; one is kept."""
        jobs = []
        for number in range(8):
            staged = await store.stage()
            await staged.write([b"%d" % number])
            jobs.append((staged, KEY))
        outcomes = await store.publish(jobs)
        assert None in outcomes
        assert await content(store, KEY) in {b"%d" % number for number in range(8)}


# -- What it looks like on the disk ------------------------------------------------------


async def test_files_and_folders_are_for_the_owner_alone(tmp_path: Path) -> None:
    root = tmp_path / "data"
    store = await open_file_store(root)
    await put(store, KEY, b"small")
    await put(store, "large", b"x" * 2 * MIB)
    store.lock()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    for path in root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    await store.aclose()


async def test_staging_is_empty_at_rest(tmp_path: Path) -> None:
    store = await open_file_store(tmp_path)
    staged = [await put(store, KEY, b"small"), await put(store, "large", b"x" * 2 * MIB)]
    assert len(staged_names(tmp_path)) == 1
    await store.settle(staged)
    assert staged_names(tmp_path) == []
    await store.aclose()
    assert staged_names(tmp_path) == []
    assert os.listdir(tmp_path / "journal") == []
    assert tree(tmp_path / "objects") == {"1.2.3", "1.2.3/1.2.3.4", KEY, "large"}


async def test_empty_folders_go_with_their_last_object(tmp_path: Path) -> None:
    store = await open_file_store(tmp_path)
    for key in ("s/e/1", "s/e/2", "s/f/3"):
        await store.settle([await put(store, key, b"x")])
    await store.remove(["s/e/1"])
    assert (tmp_path / "objects/s/e").is_dir()
    await store.remove(["s/e/2"])
    assert tree(tmp_path / "objects") == {"s", "s/f", "s/f/3"}
    await store.remove(["s/f/3"])
    await store.aclose()
    assert tree(tmp_path) == {"objects", "staging", "journal"}


async def test_what_is_not_ours_is_passed_over(tmp_path: Path) -> None:
    store = await open_file_store(tmp_path)
    await put(store, KEY, b"x")
    (tmp_path / "objects/my notes.txt").write_text("hello")
    (tmp_path / "objects/link").symlink_to("/etc/passwd")
    (tmp_path / "objects/loop").symlink_to(tmp_path / "objects")
    os.mkfifo(tmp_path / "objects/fifo")
    assert await all_keys(store) == {KEY}
    with pytest.raises(StorageError):
        await store.open("link")


async def test_small_objects_need_one_thread_hop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops = 0
    original = trio.lowlevel.start_thread_soon

    def counting(*args: Any) -> None:
        nonlocal hops
        hops += 1
        original(*args)

    store = await open_file_store(tmp_path)
    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", counting)
    staged = await store.stage()
    for _ in range(64):
        await staged.write([b"x" * 16_000])
    await staged.finish()
    assert list(await store.publish([(staged, KEY)])) == [None]
    assert hops == 1


async def test_what_the_page_cache_holds_needs_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "RWF_NOWAIT"):
        pytest.skip("only Linux reads without waiting")
    # What is to be synced goes past the cache.
    store = await open_file_store(tmp_path, durability="relaxed")
    await put(store, KEY, b"x" * 100_000)
    async with await store.open(KEY) as reader:
        with (tmp_path / "objects" / KEY).open("rb") as file:
            try:
                os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
            except OSError:
                pytest.skip("this file system cannot read without waiting")
        monkeypatch.setattr(trio.to_thread, "run_sync", None)
        assert await reader.read(0, 100_000) == b"x" * 100_000


async def test_what_was_read_ahead_needs_neither_thread_nor_system_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_file_store(tmp_path)
    await put(store, KEY, b"x" * 500_000)
    (reader,) = await store.open_ahead([KEY])
    assert reader is not None
    async with reader:
        await store.remove([KEY])
        monkeypatch.setattr(trio.to_thread, "run_sync", None)
        monkeypatch.setattr(os, "preadv", None)
        assert await reader.read(0, 300) == b"x" * 300
        assert bytes(await reader.view(300, MIB)) == b"x" * 499_700
    with pytest.raises(ValueError, match="closed"):
        await reader.read(0, 300)


@pytest.mark.parametrize(("reads", "read"), [(True, [4096] * 3), (False, [])])
async def test_the_disk_is_told_of_all_that_are_opened_before_one_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: bool, read: list[int]
) -> None:
    if not hasattr(os, "preadv") or not hasattr(os, "posix_fadvise"):
        pytest.skip("the disk cannot be told")
    store = await open_file_store(tmp_path)
    await put(store, KEY, b"x" * 4096)
    steps: list[str | int] = []
    preadv, announce = os.preadv, reader_module._announce

    def announced(descriptor: int, offset: int) -> None:
        steps.append("announced")
        announce(descriptor, offset)

    def counted(descriptor: int, buffers: Any, offset: int, *flags: int) -> int:
        steps.append(preadv(descriptor, buffers, offset, *flags))
        return int(steps[-1])

    monkeypatch.setattr(reader_module, "_announce", announced)
    monkeypatch.setattr(os, "preadv", counted)
    readers = await store.open_ahead([KEY] * 3, reads=reads)
    assert steps == ["announced"] * 3 + read
    for reader in readers:
        assert reader is not None
        reader.close()


async def test_a_range_of_a_large_object_is_one_read_of_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "preadv"):
        pytest.skip("reads otherwise")
    store = await open_file_store(tmp_path, durability="relaxed")
    await put(store, KEY, b"x")
    with (tmp_path / "objects" / KEY).open("r+b") as file:
        file.truncate(1 << 30)
        file.seek(700 * MIB)
        file.write(b"a frame" * 1000)
    counts: list[int] = []
    preadv = os.preadv

    def counted(descriptor: int, buffers: Any, offset: int, *flags: int) -> int:
        count = preadv(descriptor, buffers, offset, *flags)
        counts.append(count)
        return count

    async with await store.open(KEY) as reader:
        monkeypatch.setattr(os, "preadv", counted)
        assert await reader.read(700 * MIB + 7, 6000) == (b"a frame" * 1000)[7:6007]
        assert sum(counts) == 6000
        assert bytes(await reader.view(700 * MIB, 7)) == b"a frame"
        assert sum(counts) == 6007


async def test_a_file_that_was_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    store = await open_file_store(tmp_path)
    await put(store, KEY, b"x" * 500_000)
    reader = await store.open(KEY)
    async with reader:
        os.truncate(tmp_path / "objects" / KEY, 100_000)
        reader.read_ahead()
        assert reader.size == 500_000
        assert await reader.read(99_999, 10) == b"x"
        assert len(await reader.view(300, 499_700)) == 99_700


async def test_reading_ahead_takes_a_bounded_part_of_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MOST_AHEAD", 2)
    store = await open_file_store(tmp_path)
    await put(store, KEY, b"x" * 500_000)
    readers = await store.open_ahead([KEY] * 5)
    assert store._buffers.in_use == 2
    for reader in readers:
        assert reader is not None
        async with reader:
            assert await reader.read(0, 600_000) == b"x" * 500_000
    assert store._buffers.in_use == 0


async def test_memory_stays_flat_for_a_large_object(tmp_path: Path) -> None:
    store = await open_file_store(tmp_path, durability="relaxed")
    piece = memoryview(bytes(128 << 10))
    staged = await store.stage()
    tracemalloc.start()
    try:
        for _ in range(300 * 8):
            await staged.write([piece])
        await staged.finish()
        assert list(await store.publish([(staged, KEY)])) == [None]
        async with await store.open(KEY) as reader:
            assert reader.size == 300 * MIB
            for offset in range(0, reader.size, MIB):
                assert len(await reader.read(offset, MIB)) == MIB
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB
    await store.remove([KEY])
    await store.settle([staged])


# -- What goes wrong --------------------------------------------------------------------


async def stage_large(store: FileStore) -> StagedFile:
    staged = await store.stage()
    await staged.write([b"large" * MIB])
    return staged


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EIO])
@pytest.mark.parametrize(
    ("size", "operation"),
    [
        *((10, name) for name in ("create", "write", "write_at", "sync_data")),
        *((2 * MIB, name) for name in ("create", "write", "sync", "sync_folder", "link")),
        *((2 * MIB, name) for name in ("write_at", "sync_data")),
    ],
)
async def test_a_failing_operation_fails_that_object_and_leaves_nothing(
    tmp_path: Path, code: int, operation: str, size: int
) -> None:
    files = ModelFiles(tmp_path)
    store = await open_file_store(tmp_path, files=files)
    before = await put(store, "other/object", b"x")

    def fail(number: int, name: str) -> None:
        if name == operation:
            raise OSError(code, os.strerror(code))

    files.fail = fail
    staged = await store.stage()
    error: object
    try:
        await staged.write([b"x" * size])
        await staged.finish()
        (error,) = await store.publish([(staged, KEY)])
    except StorageError as raised:
        error = raised
    assert isinstance(error, StorageError)
    assert error.out_of_resources == (code != errno.EIO)
    assert os.strerror(code) in str(error)
    assert KEY not in str(error)
    files.fail = lambda number, name: None
    await staged.discard()
    assert await all_keys(store) == {"other/object"}
    assert tree(tmp_path / "objects") <= {"other", "other/object", "1.2.3", "1.2.3/1.2.3.4"}
    assert staged_names(tmp_path) == []
    # It recovers by itself.
    await put(store, KEY, b"later")
    assert await content(store, KEY) == b"later"
    await store.settle([before])


async def test_after_a_failed_sync_nothing_is_tried_again(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path)
    store = await open_file_store(tmp_path, files=files)
    staged = await stage_large(store)
    files.fail = failing(len(files.steps), lambda: OSError(errno.EIO, "input/output error"))
    assert set(files.steps) == {"create", "write"}
    with pytest.raises(StorageError):
        await staged.finish()
    syncs = files.steps.count("sync")
    with pytest.raises(StorageError):
        await staged.write([b"more" * MIB])
    (outcome,) = await store.publish([(staged, KEY)])
    assert isinstance(outcome, StorageError)
    assert files.steps.count("sync") == syncs == 1
    assert await all_keys(store) == set()
    assert staged_names(tmp_path) == []


@pytest.mark.parametrize(("size", "operation"), [(3, "write"), (MIB, "sync")])
async def test_one_failing_object_of_a_batch_fails_alone(
    tmp_path: Path, size: int, operation: str
) -> None:
    files = ModelFiles(tmp_path)
    store = await open_file_store(tmp_path, files=files)
    jobs = []
    for number in range(20):
        staged = await store.stage()
        await staged.write([b"%3d" % number * (size // 3)])
        jobs.append((staged, f"s/{number}"))
    done = 0

    def fail(number: int, name: str) -> None:
        nonlocal done
        if name == operation:
            done += 1
            if done == 7:
                raise OSError(errno.EIO, "input/output error")

    files.fail = fail
    outcomes = await store.publish(jobs)
    assert sum(isinstance(outcome, StorageError) for outcome in outcomes) == 1
    stored = {key for (_, key), outcome in zip(jobs, outcomes, strict=True) if outcome is None}
    assert len(stored) == 19
    assert await all_keys(store) == stored


async def test_a_round_whose_record_is_not_durable_fails_as_a_whole(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path)
    store = await open_file_store(tmp_path, files=files)
    before = await put(store, "before", b"x")
    (segment,) = os.listdir(tmp_path / "journal")

    def fail(number: int, name: str) -> None:
        if name == "sync_data":
            files.fail = lambda number, name: None
            raise OSError(errno.EIO, "input/output error")

    files.fail = fail
    jobs = []
    for number in range(5):
        jobs.append((await store.stage(), f"s/{number}"))
        await jobs[-1][0].write([b"x"])
    assert all(isinstance(each, StorageError) for each in await store.publish(jobs))
    assert await all_keys(store) == {"before"}
    # After a failed sync nothing is written there any more; what was before is there still.
    later = await put(store, "later", b"y")
    assert len(os.listdir(tmp_path / "journal")) == 2
    assert read_segment(str(tmp_path / "journal" / segment)).records[0].key == "before"
    await store.settle([before, later])
    assert segment not in os.listdir(tmp_path / "journal")
    assert await store.check() == []


async def test_what_cannot_be_synced_later_is_left_to_the_next_start(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path / "data")
    store = await open_file_store(tmp_path / "data", files=files)
    names = [f"s/{number}" for number in range(40)]
    staged = [await put(store, name, name.encode()) for name in names]

    def fail(number: int, name: str) -> None:
        if name == "sync_file_system":
            raise OSError(errno.EIO, "input/output error")

    files.fail = fail
    with pytest.raises(StorageError, match="input/output error"):
        await store.settle(staged)
    files.fail = lambda number, name: None
    # Neither what comes after, nor the end, takes away what the next start needs.
    await store.settle([await put(store, "later", b"x")])
    await store.aclose()
    after = await open_file_store(files.after_power_failure(tmp_path / "after"))
    contents = {name: name.encode() for name in names} | {"later": b"x"}
    assert await after.recover(index_of(contents)) == 0
    assert {key: await content(after, key) for key in await all_keys(after)} == contents


async def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    store = await open_file_store(tmp_path)
    await put(store, "a", b"x")
    staged = await store.stage()
    (outcome,) = await store.publish([(staged, "a/b")])
    assert isinstance(outcome, StorageError)
    assert await content(store, "a") == b"x"


async def test_relaxed_syncs_nothing(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path)
    store = await open_file_store(tmp_path, files=files, durability="relaxed")
    await put(store, KEY, b"x")
    await put(store, "large", b"x" * 2 * MIB)
    assert "sync" not in files.steps
    assert "sync_folder" not in files.steps


async def test_each_folder_is_synced_once_and_its_parents_once_ever(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path, has_syncfs=False)
    store = await open_file_store(tmp_path, files=files)

    async def store_and_settle(keys: Sequence[str]) -> list[str]:
        staged = [await put(store, key, b"x") for key in keys]
        before = len(files.steps)
        await store.settle(staged)
        return files.steps[before:]

    await store_and_settle([f"other/{number}" for number in range(10)])
    steps = await store_and_settle([f"study/series/{number}" for number in range(10)])
    assert steps.count("sync_file") == 10
    assert steps.count("sync_folder") == 3  # series, study, objects
    second = [f"study/series/{number}" for number in range(10, 20)]
    assert (await store_and_settle(second)).count("sync_folder") == 1  # series
    # A folder that was pruned and made again has a new name to sync.
    await store.remove(list(await all_keys(store)))
    assert (await store_and_settle(["study/series/1"])).count("sync_folder") == 3


async def test_many_are_synced_in_one_go(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path)
    store = await open_file_store(tmp_path, files=files)
    for _ in range(2):  # the first time more room for the journal is made
        staged = [await put(store, f"study/series/{number}", b"x") for number in range(100)]
        before = len(files.steps)
        await store.settle(staged)
        await store.remove(list(await all_keys(store)))
    steps = files.steps[before:]
    assert steps.count("sync_file_system") == 1
    assert "sync_file" not in steps
    assert "sync_folder" not in steps


async def test_a_small_object_waits_for_one_sync(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path)
    store = await open_file_store(tmp_path, files=files)
    await put(store, "first", b"x")
    larger = ["sync", "sync_folder", "sync_data"]
    for size, syncs in ((10, ["sync_data"]), (100_000, larger)):
        before = len(files.steps)
        await put(store, f"s/{size}", b"x" * size)
        assert [step for step in files.steps[before:] if step.startswith("sync")] == syncs


async def test_larger_objects_find_names_that_are_durable(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path)
    store = await open_file_store(tmp_path, files=files)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.prepare_always)
        await put(store, "small", b"x")
        await trio.testing.wait_all_tasks_blocked()
        assert staged_names(tmp_path) == []
        nursery.cancel_scope.cancel()
    # Nobody makes names for the first one: it makes its own.
    stored = [await put(store, "first", b"x" * 100_000)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.prepare_always)
        for number in range(3 * SPARES):
            with trio.fail_after(60):
                while not store._area._spares:
                    await trio.lowlevel.checkpoint()
            stored.append(await put(store, f"s/{number}", b"x" * 100_000))
        nursery.cancel_scope.cancel()
    assert [one.has_durable_name for one in stored if isinstance(one, StagedFile)] == [
        False,
        *(True for _ in range(3 * SPARES)),
    ]
    # One for half of the names that are kept ahead, and some for segments of the journal.
    assert files.steps.count("sync_folder") < len(stored) // 10
    await store.settle(stored)
    await store.aclose()
    assert staged_names(tmp_path) == []


@pytest.mark.parametrize(("associations", "hops"), [(1, 1), (3, 4)])
async def test_a_larger_object_alone_is_written_with_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, associations: int, hops: int
) -> None:
    store = await open_file_store(tmp_path)
    staged = [await store.stage() for _ in range(associations)]
    for each in staged:
        await each.write([b"x" * 100_000])
    calls = 0
    original = trio.lowlevel.start_thread_soon

    def counting(*args: Any) -> None:
        nonlocal calls
        calls += 1
        original(*args)

    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", counting)
    for each in staged:
        await each.finish()
    jobs = [(each, f"s/{number}") for number, each in enumerate(staged)]
    assert set(await store.publish(jobs)) == {None}
    assert calls == hops
    await store.settle(staged)


async def test_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError) as caught:
        await open_file_store(tmp_path / "data")
    message = str(caught.value)
    assert str(tmp_path / "data") in message  # the fault
    assert "Permission denied" in message
    assert "--data-dir" in message  # the cure


async def test_a_file_in_the_place_of_the_data_directory(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("I am a file")
    with pytest.raises(StorageError, match="--data-dir"):
        await open_file_store(tmp_path / "data")


async def test_one_server_per_data_directory(tmp_path: Path) -> None:
    first, second = await open_file_store(tmp_path), await open_file_store(tmp_path)
    first.lock()
    with pytest.raises(StorageError, match=r"in use by another server.*--data-dir"):
        second.lock()
    await first.aclose()
    second.lock()
    await second.aclose()


# -- Crashes -----------------------------------------------------------------------------


async def test_leftovers_of_a_crash_are_cleared(tmp_path: Path) -> None:
    before = await open_file_store(tmp_path)
    await put(before, "s/e/acknowledged", b"kept")
    await put(before, "s/e/unknown", b"undone")
    await put(before, "s/f/unknown", b"undone" * MIB)
    await stage_large(before)

    index = index_of({"s/e/acknowledged": b"kept"})
    after = await open_file_store(tmp_path)
    assert await after.recover(index) == 3
    assert staged_names(tmp_path) == []
    assert await all_keys(after) == {"s/e/acknowledged"}
    assert tree(tmp_path / "objects") == {"s", "s/e", "s/e/acknowledged"}
    assert await after.recover(nothing) == 0
    assert await all_keys(after) == {"s/e/acknowledged"}


@pytest.mark.parametrize("size", [10, 2 * MIB])
async def test_recover_gives_back_what_the_index_says(tmp_path: Path, size: int) -> None:
    """Of several records of one key, that which the index means; never over what is whole."""
    before = await open_file_store(tmp_path)
    first, second = b"1" * size, b"2" * size
    await put(before, KEY, first)
    await before.remove([KEY])
    await put(before, KEY, second)
    file = tmp_path / "objects" / KEY
    for index, spoilt in ((second, None), (second, b""), (second, b"2"), (first, None)):
        shutil.copytree(tmp_path, tmp_path.with_name("copy"), copy_function=_link)
        copy = tmp_path.with_name("copy")
        spoilt_file = copy / file.relative_to(tmp_path)
        spoilt_file.unlink()
        if spoilt is not None:
            spoilt_file.write_bytes(spoilt)
        after = await open_file_store(copy)
        assert await after.recover(index_of({KEY: index})) == 0
        assert await content(after, KEY) == index
        await after.aclose()
        assert os.listdir(copy / "journal") == []
        shutil.rmtree(copy)


def _link(source: str, target: str) -> None:
    os.link(source, target)


@pytest.mark.parametrize("size", [10, 2 * MIB])
async def test_recover_without_hard_links(tmp_path: Path, size: int) -> None:
    await open_file_store(tmp_path)
    before = FileStore(str(tmp_path), links=False, files=WithoutLinks())
    await put(before, "acknowledged", b"x" * size)
    assert staged_names(tmp_path) == []
    after = await open_file_store(tmp_path)
    assert await after.recover(index_of({"acknowledged": b"x" * size})) == 0
    assert await all_keys(after) == {"acknowledged"}
    before = FileStore(str(tmp_path), links=False, files=WithoutLinks())
    await put(before, "unknown", b"x" * size)
    assert await after.recover(nothing) == 1
    assert await all_keys(after) == {"acknowledged"}


async def test_salvage_keeps_all_and_writes_over_nothing(tmp_path: Path) -> None:
    before = await open_file_store(tmp_path)
    for key in ("whole.dcm", "gone.dcm", "torn.dcm"):
        await put(before, key, key.encode() * 10)
    await put(before, "large.dcm", b"large" * MIB)
    objects = tmp_path / "objects"
    (objects / "gone.dcm").unlink()
    (objects / "large.dcm").unlink()
    (objects / "torn.dcm").write_bytes(b"torn.d")
    after = await open_file_store(tmp_path)
    await after.salvage(lambda key: key.replace(".", "~12345678."))
    assert {key: await content(after, key) for key in await all_keys(after)} == {
        "whole.dcm": b"whole.dcm" * 10,
        "gone.dcm": b"gone.dcm" * 10,
        "torn.dcm": b"torn.d",
        "torn~12345678.dcm": b"torn.dcm" * 10,
        "large.dcm": b"large" * MIB,
    }
    assert staged_names(tmp_path) == []
    assert os.listdir(tmp_path / "journal") == []


Reopen = Callable[[ModelFiles, Path], Path]


def killed(files: ModelFiles, root: Path) -> Path:
    """kill -9: the operating system lives and so does all that it was told."""
    return root / "data"


def power_lost(files: ModelFiles, root: Path) -> Path:
    return files.after_power_failure(root / "after")


def power_lost_with_a_journal(files: ModelFiles, root: Path) -> Path:
    return files.after_power_failure(root / "after", names_survive=True)


@pytest.mark.parametrize("reopen", [killed, power_lost, power_lost_with_a_journal])
@pytest.mark.parametrize("memory_per_object", [MIB, 3])
@pytest.mark.parametrize("has_syncfs", [True, False])
async def test_a_crash_between_any_two_steps(
    tmp_path: Path, reopen: Reopen, memory_per_object: int, has_syncfs: bool
) -> None:
    """Nothing that was published is lost or changed; nothing else stays when it is unknown."""
    batches = [[f"s/e{number % 2}/{batch}-{number}" for number in range(3)] for batch in range(6)]
    step = 0
    while True:
        root = tmp_path / str(step)
        files = ModelFiles(root / "data", has_syncfs=has_syncfs)
        store = await open_file_store(
            root / "data", files=files, memory_per_object=memory_per_object
        )
        indexed: dict[str, bytes] = {}
        files.fail = failing(step, Crash)
        crashed = False
        waiting: list[StagedObject] = []
        try:
            for number, keys in enumerate(batches):
                jobs = []
                for key in keys:
                    staged = await store.stage()
                    await staged.write([key.encode() * 100])
                    await staged.finish()
                    jobs.append((staged, key))
                outcomes = await store.publish(jobs)
                assert set(outcomes) == {None}
                # The index is durable from here on.
                indexed |= {key: key.encode() * 100 for key in keys}
                waiting += [staged for staged, _ in jobs]
                if number == 1:  # one that was stored is removed before it is settled
                    del indexed[keys[0]]
                    await store.remove(keys[:1])
                if number in (0, 4):
                    await store.settle(waiting)
                    waiting = []
            await store.aclose()
        except* Crash:
            crashed = True

        after = await open_file_store(reopen(files, root))
        assert await after.check() == []
        await after.recover(index_of(indexed))
        found = await all_keys(after)
        for key, whole in indexed.items():
            assert await content(after, key) == whole, step
        assert found == indexed.keys(), step
        assert staged_names(Path(after.root)) == []
        # Once more, and nothing changes; what was given back is durable, and needs no record.
        assert await after.recover(nothing) == 0
        assert await all_keys(after) == found
        if not crashed:
            break
        files.end()
        step += 1
    assert step > 40
