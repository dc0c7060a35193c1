from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from isocenter.storage.objects.files.recent import LARGEST_BYTES, RecentFiles
from isocenter.storage.objects.files.store import FileStore, open_file_store
from storage.store_contract import KEY, put

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="O_DIRECT is Linux's")


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Name and length of each file that the system was told to read."""
    told: list[tuple[str, int]] = []
    advise = os.posix_fadvise

    def listen(descriptor: int, offset: int, length: int, advice: int) -> None:
        assert (offset, advice) == (0, os.POSIX_FADV_WILLNEED)
        told.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")).name, length))
        advise(descriptor, offset, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", listen)
    return told


def files(folder: Path, count: int) -> list[str]:
    for number in range(count):
        (folder / str(number)).write_bytes(b"x" * 100)
    return [str(folder / str(number)) for number in range(count)]


def test_the_newest_are_read_within_the_bound(
    tmp_path: Path, announced: list[tuple[str, int]]
) -> None:
    recent = RecentFiles(most_bytes=300)
    for path in files(tmp_path, 5):
        recent.add(path, 100)
    recent.warm(lambda: True)
    assert announced == [("2", 100), ("3", 100), ("4", 100)]
    recent.warm(lambda: True)
    assert len(announced) == 3


def test_nothing_is_read_while_something_comes(
    tmp_path: Path, announced: list[tuple[str, int]]
) -> None:
    recent = RecentFiles()
    for path in files(tmp_path, 5):
        recent.add(path, 100)
    recent.warm(lambda: len(announced) < 2)
    assert [name for name, _ in announced] == ["0", "1"]
    recent.warm(lambda: True)
    assert [name for name, _ in announced] == ["0", "1", "2", "3", "4"]


def test_large_files_are_not_read_back_and_removed_ones_are_passed_over(
    tmp_path: Path, announced: list[tuple[str, int]]
) -> None:
    recent = RecentFiles()
    large, removed, kept = files(tmp_path, 3)
    recent.add(large, LARGEST_BYTES + 1)
    recent.add(removed, 100)
    recent.add(kept, 100)
    os.unlink(removed)
    recent.warm(lambda: True)
    assert [name for name, _ in announced] == ["2"]


def is_past_cache(store: FileStore, tmp_path: Path) -> bool:
    descriptor = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
    try:
        return store.files.use_direct_io(descriptor, True)
    finally:
        os.close(descriptor)


async def test_what_was_stored_is_read_back_when_nothing_more_comes(
    tmp_path: Path, announced: list[tuple[str, int]]
) -> None:
    store = await open_file_store(tmp_path)
    if not is_past_cache(store, tmp_path):
        pytest.skip("this file system writes all into the page cache")
    small = await put(store, "s/small", b"x" * 100)
    image = await put(store, KEY, b"x" * 500_000)
    other = await store.stage()
    await other.write([b"y" * 100_000])
    await store.settle([image])
    assert announced == []  # another one is on its way
    await other.discard()
    await store.settle([small])
    assert announced == [(Path(KEY).name, 500_000)]
    await store.aclose()


async def test_what_the_page_cache_has_is_not_read_back(
    tmp_path: Path, announced: list[tuple[str, int]]
) -> None:
    store = await open_file_store(tmp_path, durability="relaxed")
    await store.settle([await put(store, KEY, b"x" * 500_000)])
    assert announced == []
    await store.aclose()
