"""Objects of every size around the borders of buffers and blocks, past the page cache and not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.engine.buffers import Buffer
from isocenter.services.errors import StorageError
from isocenter.storage.objects.files.buffers import (
    BLOCK_BYTES,
    BUFFER_BYTES,
    SMALL_BYTES,
    BufferPool,
    WriteBuffer,
)
from isocenter.storage.objects.files.file_system import OsFileSystem
from isocenter.storage.objects.files.store import Durability, FileStore, open_file_store

KEY = "study/series/instance"
#: Each border, and one byte to both sides.
SIZES = [
    border + step
    for border in (BLOCK_BYTES, SMALL_BYTES, BUFFER_BYTES, BUFFER_BYTES + SMALL_BYTES, 3_000_000)
    for step in (-1, 0, 1)
]


def content(size: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


class Recorded(OsFileSystem):
    """Remembers which lengths were written, and how."""

    def __init__(self, refuse: int | None = None) -> None:
        self.refuse = refuse
        self.past_cache: set[int] = set()
        self.writes: list[tuple[int, bool]] = []
        self.buffered_only = False

    def create(self, path: str) -> int:
        descriptor = super().create(path)
        self.past_cache.discard(descriptor)
        return descriptor

    def use_direct_io(self, descriptor: int, on: bool) -> bool:
        can = not self.buffered_only and super().use_direct_io(descriptor, on)
        (self.past_cache.add if on and can else self.past_cache.discard)(descriptor)
        return can

    def write(self, descriptor: int, data: Buffer) -> None:
        directly = descriptor in self.past_cache
        if directly and self.refuse is not None:
            raise OSError(self.refuse, "refused")
        self.writes.append((len(data), directly))
        super().write(descriptor, data)


async def stored(
    folder: Path,
    data: bytes,
    piece: int,
    *,
    durability: Durability = "full",
    files: OsFileSystem | None = None,
) -> bytes:
    store = await open_file_store(folder, durability=durability, files=files)
    staged = await store.stage()
    for start in range(0, len(data), piece):
        await staged.write([memoryview(data)[start : start + piece]])
    await staged.finish()
    assert list(await store.publish([(staged, KEY)])) == [None]
    await store.settle([staged])
    whole = (folder / "objects" / KEY).read_bytes()
    await store.remove([KEY])
    return whole


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("durability", ["full", "relaxed"])
async def test_what_was_given_is_what_the_file_holds(
    tmp_path: Path, size: int, durability: Durability
) -> None:
    data = content(size)
    assert await stored(tmp_path, data, 100_003, durability=durability) == data


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, 2_300_000), piece=st.integers(1_000, 1_500_000))
def test_any_size_in_any_pieces(
    tmp_path_factory: pytest.TempPathFactory, size: int, piece: int
) -> None:
    data = content(size)

    async def both() -> None:
        folder = tmp_path_factory.mktemp("store")
        for durability in ("full", "relaxed"):
            name = folder / durability
            assert await stored(name, data, piece, durability=durability) == data  # type: ignore[arg-type]

    trio.run(both)


async def test_a_large_object_passes_by_the_page_cache_and_a_small_one_does_not(
    tmp_path: Path,
) -> None:
    files = Recorded()
    probe = tmp_path / "probe"
    probe.touch()
    with probe.open("rb") as file:
        if not files.use_direct_io(file.fileno(), True):
            pytest.skip("this file system writes through its cache only")
    await stored(tmp_path, content(600_000), 100_000, files=files)
    (length, directly) = files.writes.pop()
    assert directly
    assert length % BLOCK_BYTES == 0
    await stored(tmp_path, content(12_000), 12_000, files=files)
    assert files.writes.pop() == (12_000, False)
    await stored(tmp_path, content(600_000), 100_000, files=files, durability="relaxed")
    assert files.writes.pop() == (600_000, False)


@pytest.mark.parametrize("size", [600_000, 2_500_000])
async def test_a_disk_with_larger_blocks_gets_it_the_usual_way(tmp_path: Path, size: int) -> None:
    files = Recorded(refuse=errno.EINVAL)
    assert await stored(tmp_path, content(size), 70_000, files=files) == content(size)
    assert not any(directly for _, directly in files.writes)


async def test_what_was_written_in_part_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write past the cache that stops within a block: going on from there is invalid."""
    write, calls = os.write, 0

    def write_some(descriptor: int, data: Buffer) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.EINVAL, "refused")
        return write(descriptor, memoryview(data)[:512] if calls == 1 else data)

    store = await open_file_store(tmp_path)
    staged = await store.stage()
    await staged.write([content(600_000)])
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write_some)
        (outcome,) = await store.publish([(staged, KEY)])
    assert isinstance(outcome, StorageError)
    assert not (tmp_path / "objects" / KEY).exists()


async def test_a_file_system_that_knows_no_such_writes(tmp_path: Path) -> None:
    files = Recorded()
    files.buffered_only = True
    assert await stored(tmp_path, content(1_500_000), 70_000, files=files) == content(1_500_000)


async def test_a_spilled_object_keeps_no_buffer(tmp_path: Path) -> None:
    store: FileStore = await open_file_store(tmp_path)
    pool = store._area.pool
    data = content(700_001)
    staged = await store.stage()
    await staged.write([data])
    assert not pool._free
    assert await staged.spill()
    assert len(pool._free) == 1
    await staged.write([data])
    await staged.finish()
    assert list(await store.publish([(staged, KEY)])) == [None]
    assert (tmp_path / "objects" / KEY).read_bytes() == data + data
    assert len(pool._free) == 1


async def test_a_discarded_object_gives_its_buffer_back(tmp_path: Path) -> None:
    store = await open_file_store(tmp_path)
    staged = await store.stage()
    await staged.write([content(700_000)])
    await staged.discard()
    assert len(store._area.pool._free) == 1


def test_the_pool_keeps_a_bounded_number() -> None:
    pool = BufferPool()
    taken = [WriteBuffer(pool) for _ in range(100)]
    for held in taken:
        held.append(memoryview(content(SMALL_BYTES + 1)))
    for held in taken:
        held.release()
    assert len(pool._free) <= 32
