"""A folder that several machines share, as a bucket."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from isocenter.services.archive.object_location import ObjectLocation, StoreKind
from isocenter.services.archive.ports import ObjectStore
from isocenter.services.errors import StorageError
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.database.staged_keys import DatabaseStagedKeys
from isocenter.storage.objects.cloud.bucket import Bucket
from isocenter.storage.objects.cloud.connecting import ConnectOptions, connect_bucket
from isocenter.storage.objects.cloud.durable_folders import DurableFolders
from isocenter.storage.objects.cloud.errors import BucketError
from isocenter.storage.objects.cloud.store import CloudStore
from storage.store_contract import StoreContract


def connect(folder: Path) -> Bucket:
    location = ObjectLocation(kind=StoreKind.FILES, bucket=str(folder))
    return connect_bucket(location, ConnectOptions())


class TestFolderStore(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[ObjectStore]:
        async with open_sqlite_database(":memory:") as database:
            bucket = connect(tmp_path / "shared")
            yield CloudStore(bucket, DatabaseStagedKeys(database), str(tmp_path))


async def put(bucket: Bucket, path: str) -> None:
    await bucket.put(path, [b"content"], size=7)


def unmount(folder: Path) -> None:
    """Nobody can write there any more."""
    shutil.rmtree(folder)
    folder.write_bytes(b"")


async def test_it_can_be_used_as_an_archive_does(tmp_path: Path) -> None:
    await connect(tmp_path / "not" / "there").try_out()
    assert os.listdir(tmp_path / "not" / "there") == []


async def test_what_was_copied_stays_when_the_first_one_goes(tmp_path: Path) -> None:
    bucket = connect(tmp_path)
    await put(bucket, "objects/1/2")
    await bucket.copy("objects/1/2", "trash/3/4", size=7)
    await bucket.delete("objects/1/2")
    await bucket.delete("objects/1/2")
    assert bytes((await bucket.get("trash/3/4", 2, 3))[1]) == b"nte"
    assert bytes((await bucket.get("trash/3/4", 7, 3))[1]) == b""
    assert os.listdir(tmp_path) == ["trash"]


@pytest.fixture
def synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What was synced, relative to the folder, and how often."""
    found: Counter[str] = Counter()
    fsync = os.fsync

    def note(descriptor: int) -> None:
        name = os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path)
        found["staged" if "#" in name else name] += 1
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return found


async def test_everything_of_an_object_is_synced(tmp_path: Path, synced: Counter[str]) -> None:
    bucket = connect(tmp_path)
    await put(bucket, "objects/1/2")
    assert synced == {"staged": 1, "objects/1": 1, "objects": 1, ".": 1}
    synced.clear()
    await bucket.copy("objects/1/2", "trash/2", size=7)
    assert synced == {"trash/2": 1, "trash": 1, ".": 1}
    synced.clear()
    await bucket.delete("objects/1/2")
    assert synced == {".": 1}


async def test_names_above_a_folder_are_synced_once(tmp_path: Path, synced: Counter[str]) -> None:
    bucket = connect(tmp_path)
    await put(bucket, "objects/1/2/3")
    synced.clear()
    await put(bucket, "objects/1/2/4")
    assert synced == {"staged": 1, "objects/1/2": 1}
    synced.clear()
    await put(bucket, "objects/1/5/6")
    assert synced == {"staged": 1, "objects/1/5": 1, "objects/1": 1}
    synced.clear()
    await bucket.delete("objects/1/2/3")
    assert synced == {"objects/1/2": 1}


async def test_a_folder_that_others_made_anew_is_synced_as_a_new_one(
    tmp_path: Path, synced: Counter[str]
) -> None:
    bucket, other = connect(tmp_path), connect(tmp_path)
    await put(bucket, "objects/1/2/3")
    await other.delete("objects/1/2/3")
    await put(other, "objects/1/2/4")
    synced.clear()
    await put(bucket, "objects/1/2/5")
    assert synced == {"staged": 1, "objects/1/2": 1, "objects/1": 1, "objects": 1, ".": 1}


async def test_a_folder_that_could_not_be_synced_is_not_relied_on(
    tmp_path: Path, synced: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = connect(tmp_path)
    await put(bucket, "objects/1/2")
    with monkeypatch.context() as patched:
        sync = os.fsync

        def fail(descriptor: int) -> None:
            if os.readlink(f"/proc/self/fd/{descriptor}").endswith("objects/1"):
                raise OSError(errno.EIO, "Input/output error")
            sync(descriptor)

        patched.setattr(os, "fsync", fail)
        with pytest.raises(BucketError, match="Input/output error"):
            await put(bucket, "objects/1/3")
    synced.clear()
    await put(bucket, "objects/1/4")
    assert synced == {"staged": 1, "objects/1": 1, "objects": 1}


def test_threads_that_sync_a_folder_at_once_each_hear_of_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system says once for each descriptor that something was lost."""
    (tmp_path / "a").mkdir()
    folders = DurableFolders(str(tmp_path))
    folders.sync("a")
    both, sync = threading.Barrier(2), os.fsync
    descriptors: set[int] = set()

    def meet(descriptor: int) -> None:
        descriptors.add(descriptor)
        both.wait(60)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", meet)
    threads = [threading.Thread(target=folders.sync, args=("a",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(descriptors) == 2


def test_only_some_folders_are_held_open(tmp_path: Path) -> None:
    folders = DurableFolders(str(tmp_path), most=2)
    for name in "abcd":
        (tmp_path / name).mkdir()
        folders.sync(name)
    assert open_below(tmp_path) == [str(tmp_path), str(tmp_path / "d")]
    del folders
    assert open_below(tmp_path) == []


def open_below(folder: Path) -> list[str]:
    """What this process has open there."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return sorted(path for path in found if path.startswith(str(folder)))


async def test_a_mark_stays_what_it_was(tmp_path: Path) -> None:
    assert await connect(tmp_path).mark() == ""
    assert await connect(tmp_path).set_mark("first") == "first"
    assert await connect(tmp_path).set_mark("second") == "first"
    assert await connect(tmp_path).mark() == "first"


async def test_a_folder_that_is_not_mounted_any_more_is_not_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    bucket = connect(folder)
    await bucket.set_mark("ours")
    await put(bucket, "objects/1")
    shutil.move(folder, tmp_path / "aside")
    folder.mkdir()
    for request in (put(bucket, "objects/2"), bucket.head("objects/1")):
        with pytest.raises(BucketError, match="lost its mark"):
            await request
    assert os.listdir(folder) == []
    folder.rmdir()
    shutil.move(tmp_path / "aside", folder)
    assert await bucket.head("objects/1") is not None


async def test_what_a_crash_left_of_writing_goes_with_the_object(tmp_path: Path) -> None:
    bucket = connect(tmp_path)
    await put(bucket, "objects/1/2")
    (tmp_path / "objects/1/2#4711").write_bytes(b"half")
    (tmp_path / "objects/1/21").write_bytes(b"another one")
    async with aclosing(bucket.paths("objects/")) as blocks:
        assert [sorted(block) async for block in blocks] == [["objects/1/2", "objects/1/21"]]
    await bucket.delete("objects/1/2")
    assert os.listdir(tmp_path / "objects/1") == ["21"]


async def test_a_folder_that_has_gone_is_away(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    bucket = connect(folder)
    await put(bucket, "objects/1")
    unmount(folder)
    with pytest.raises(BucketError, match="check that it is mounted") as caught:
        await put(bucket, "objects/2")
    assert caught.value.is_away
    with pytest.raises(StorageError, match="cannot be used"):
        connect(folder)
