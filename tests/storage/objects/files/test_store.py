from __future__ import annotations

import errno
import os
import stat
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from isocenter.services.archive.ports import ObjectStore
from isocenter.services.errors import StorageError
from isocenter.storage.objects.files.file_system import SystemFiles
from isocenter.storage.objects.files.staging import StagedFile
from isocenter.storage.objects.files.store import FileStore, open_file_store
from storage.power_model import Crash, ModelFiles, failing
from storage.store_contract import (
    KEY,
    StoreContract,
    all_keys,
    content,
    everything,
    nothing,
    put,
)

MIB = 1 << 20


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def staged_names(root: Path) -> list[str]:
    return os.listdir(root / "staging")


class WithoutLinks(SystemFiles):
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
    assert len(staged_names(tmp_path)) == 2
    await store.settle(staged)
    assert staged_names(tmp_path) == []
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
    assert tree(tmp_path) == {"objects", "staging"}


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
@pytest.mark.parametrize("operation", ["create", "write", "sync", "link", "sync_folder"])
@pytest.mark.parametrize("size", [10, 2 * MIB])
async def test_a_failing_operation_fails_that_object_and_leaves_nothing(
    tmp_path: Path, code: int, operation: str, size: int
) -> None:
    files = ModelFiles(tmp_path)
    store = await open_file_store(tmp_path, files=files)
    await store.settle([await put(store, "other/object", b"x")])

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


async def test_one_failing_object_of_a_batch_fails_alone(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path)
    store = await open_file_store(tmp_path, files=files)
    jobs = []
    for number in range(20):
        staged = await store.stage()
        await staged.write([b"%d" % number])
        jobs.append((staged, f"s/{number}"))
    synced = 0

    def fail(number: int, name: str) -> None:
        nonlocal synced
        if name == "sync":
            synced += 1
            if synced == 7:
                raise OSError(errno.EIO, "input/output error")

    files.fail = fail
    outcomes = await store.publish(jobs)
    assert sum(isinstance(outcome, StorageError) for outcome in outcomes) == 1
    stored = {key for (_, key), outcome in zip(jobs, outcomes, strict=True) if outcome is None}
    assert len(stored) == 19
    assert await all_keys(store) == stored


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


async def test_each_folder_is_synced_once_per_batch_and_its_parents_once_ever(
    tmp_path: Path,
) -> None:
    files = ModelFiles(tmp_path)
    store = await open_file_store(tmp_path, files=files)
    first = [(await store.stage(), f"study/series/{number}") for number in range(10)]
    assert set(await store.publish(first)) == {None}
    assert files.steps.count("sync_folder") == 4  # staging, series, study, objects
    second = [(await store.stage(), f"study/series/{number}") for number in range(10, 20)]
    assert set(await store.publish(second)) == {None}
    assert files.steps.count("sync_folder") == 6  # staging, series
    # A folder that was pruned and made again has a new name to sync.
    await store.remove([key for _, key in first + second])
    assert set(await store.publish([(await store.stage(), "study/series/1")])) == {None}
    assert files.steps.count("sync_folder") == 10


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
    await put(before, "s/f/unknown", b"undone")
    await stage_large(before)

    async def is_indexed(keys: object) -> list[bool]:
        assert isinstance(keys, list)
        return [key == "s/e/acknowledged" for key in keys]

    after = await open_file_store(tmp_path)
    assert await after.recover(is_indexed) == 3
    assert staged_names(tmp_path) == []
    assert await all_keys(after) == {"s/e/acknowledged"}
    assert tree(tmp_path / "objects") == {"s", "s/e", "s/e/acknowledged"}
    assert await after.recover(nothing) == 0
    assert await all_keys(after) == {"s/e/acknowledged"}


async def test_recover_leaves_alone_what_another_object_has_published(tmp_path: Path) -> None:
    """A staged name tells a key, but the file under that key may be an older one."""
    before = await open_file_store(tmp_path, memory_per_object=1)
    await before.settle([await put(before, KEY, b"old and unknown")])
    staged = await before.stage()
    await staged.write([b"new"])
    (tmp_path / "staging" / staged_names(tmp_path)[0]).rename(
        tmp_path / "staging" / (KEY.replace("/", ",") + "+1234")
    )
    after = await open_file_store(tmp_path)
    assert await after.recover(nothing) == 1
    assert await content(after, KEY) == b"old and unknown"
    assert staged_names(tmp_path) == []


async def test_recover_without_hard_links(tmp_path: Path) -> None:
    await open_file_store(tmp_path)
    before = FileStore(str(tmp_path), links=False, files=WithoutLinks())
    await put(before, "acknowledged", b"x")
    assert len(staged_names(tmp_path)) == 1
    after = await open_file_store(tmp_path)
    assert await after.recover(everything) == 0
    assert await all_keys(after) == {"acknowledged"}
    await put(before, "unknown", b"x")
    assert await after.recover(nothing) == 1
    assert await all_keys(after) == {"acknowledged"}


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
async def test_a_crash_between_any_two_steps(
    tmp_path: Path, reopen: Reopen, memory_per_object: int
) -> None:
    """Nothing that was published is lost or changed; nothing else stays when it is unknown."""
    batches = [[f"s/e{number % 2}/{batch}-{number}" for number in range(3)] for batch in range(3)]
    step = 0
    while True:
        root = tmp_path / str(step)
        files = ModelFiles(root / "data")
        store = await open_file_store(
            root / "data", files=files, memory_per_object=memory_per_object
        )
        indexed: set[str] = set()
        files.fail = failing(step, Crash)
        crashed = False
        try:
            for keys in batches:
                jobs = []
                for key in keys:
                    staged = await store.stage()
                    await staged.write([key.encode() * 100])
                    await staged.finish()
                    jobs.append((staged, key))
                outcomes = await store.publish(jobs)
                assert set(outcomes) == {None}
                indexed |= set(keys)  # the index is durable from here on
                await store.settle([staged for staged, _ in jobs])
        except* Crash:
            crashed = True

        after = await open_file_store(reopen(files, root))
        known = indexed

        async def is_indexed(keys: object, known: set[str] = known) -> list[bool]:
            assert isinstance(keys, list)
            return [key in known for key in keys]

        await after.recover(is_indexed)
        found = await all_keys(after)
        assert found >= indexed, step
        for key in indexed:
            assert await content(after, key) == key.encode() * 100, step
        if reopen is not power_lost:
            assert found == indexed, step
        if not crashed:
            break
        step += 1
    assert step > 40
