from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from isocenter.engine.buffers import Buffer
from isocenter.services.errors import StorageError
from isocenter.storage.objects.cloud.range_cache import BLOCK_BYTES, RangeCache


class Behind:
    """Objects, and what was asked for."""

    def __init__(self, **objects: bytes) -> None:
        self.objects = objects
        self.asked: list[tuple[str, int, int]] = []

    async def get(self, path: str, start: int, length: int) -> tuple[int, Buffer]:
        await trio.lowlevel.checkpoint()
        self.asked.append((path, start, length))
        data = self.objects[path]
        return len(data), data[start : start + length]


@asynccontextmanager
async def cached(
    behind: Behind, folder: Path, most_bytes: int = 40 * BLOCK_BYTES
) -> AsyncIterator[RangeCache]:
    cache = RangeCache(behind, str(folder), most_bytes=most_bytes)
    try:
        yield cache
    finally:
        cache.close()


async def test_any_range_is_what_the_object_has_and_asked_for_once(tmp_path: Path) -> None:
    data = Random(1).randbytes(5 * BLOCK_BYTES + 777)
    behind = Behind(a=data)
    ranges = [
        (0, 1), (0, 700), (BLOCK_BYTES - 1, 2), (BLOCK_BYTES, BLOCK_BYTES), (0, len(data)),
        (len(data) - 5, 5), (len(data) - 5, 500), (3 * BLOCK_BYTES + 9, 2 * BLOCK_BYTES),
    ]  # fmt: skip
    async with cached(behind, tmp_path) as cache:
        for _ in range(2):
            for start, length in ranges:
                size, found = await cache.get("a", start, length)
                assert size == len(data)
                assert bytes(found) == data[start : start + length]
            asked, behind.asked = behind.asked, []
        assert asked == []  # the second time
        assert os.listdir(tmp_path) == []


async def test_what_was_used_least_recently_goes_first(tmp_path: Path) -> None:
    behind = Behind(**{name: name.encode() * BLOCK_BYTES for name in "abc"})
    async with cached(behind, tmp_path, 2 * BLOCK_BYTES) as cache:
        for name in "abacab":
            assert bytes((await cache.get(name, 0, 3))[1]) == name.encode() * 3
    # b had to go for c, and c for b.
    assert [name for name, *_ in behind.asked] == ["a", "b", "c", "b"]


async def test_it_is_never_longer_than_it_may_be(tmp_path: Path) -> None:
    behind = Behind(**{f"o{number}": bytes(BLOCK_BYTES + number) for number in range(30)})
    async with cached(behind, tmp_path, 3 * BLOCK_BYTES) as cache:
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(cache.get, f"o{number}", 0, BLOCK_BYTES + number)
        assert os.fstat(cache._file.fileno()).st_size <= 3 * BLOCK_BYTES


async def test_what_the_disk_has_changed_is_read_again(tmp_path: Path) -> None:
    behind = Behind(a=b"right" * 1000)
    async with cached(behind, tmp_path) as cache:
        await cache.get("a", 0, 5000)
        os.pwrite(cache._file.fileno(), b"wrong", 0)
        assert bytes((await cache.get("a", 0, 5000))[1]) == b"right" * 1000
        assert len(behind.asked) == 2


async def test_a_full_disk_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    behind = Behind(a=b"right" * 1000)
    async with cached(behind, tmp_path) as cache:
        monkeypatch.setattr(os, "pwrite", full)
        for _ in range(3):
            assert bytes((await cache.get("a", 0, 5000))[1]) == b"right" * 1000
    assert len(behind.asked) == 3
    assert sum("without the cache" in line for line in caplog.messages) == 1


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the cache of objects cannot be made in"):
        RangeCache(Behind(), str(tmp_path / "none"), most_bytes=BLOCK_BYTES)
