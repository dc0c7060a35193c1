from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from isocenter.services.archive.ports import ObjectStore
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.database.staged_keys import DatabaseStagedKeys
from isocenter.storage.objects.cloud.bucket import Bucket
from isocenter.storage.objects.cloud.store import CloudStore, Verify
from storage.store_contract import KEY, StoreContract, all_keys, content, put
from support.buckets import connect, new_location


@asynccontextmanager
async def opened(
    bucket: Bucket, folder: Path, *, verify: Verify = "none"
) -> AsyncIterator[CloudStore]:
    async with open_sqlite_database(":memory:") as database:
        yield CloudStore(bucket, DatabaseStagedKeys(database), str(folder), verify=verify)


class TestCloudStore(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[ObjectStore]:
        async with opened(connect(new_location("pre/fix")), tmp_path) as store:
            yield store


@pytest.mark.parametrize("size", [0, 700, 9 << 20])
async def test_what_was_written_is_read_back_and_compared(tmp_path: Path, size: int) -> None:
    data = Random(size).randbytes(size)
    async with opened(connect(new_location()), tmp_path, verify="read") as store:
        await put(store, KEY, data)
        assert await content(store, KEY) == data


async def test_large_objects_leave_no_file_behind(tmp_path: Path) -> None:
    async with opened(connect(new_location()), tmp_path) as store:
        staged = await store.stage()
        await staged.write([bytes(9 << 20)])
        assert os.listdir(tmp_path) == []
        await staged.discard()
        assert await all_keys(store) == set()


async def test_many_small_pieces_cost_no_more_than_few_large_ones(tmp_path: Path) -> None:
    async with opened(connect(new_location()), tmp_path) as store:
        staged = await store.stage()
        for number in range(100_000):
            await staged.write([b"%02d" % (number % 100)])
        assert len(staged.parts) < 10
        await staged.finish(KEY)
        await store.publish([(staged, KEY)])
        assert (await content(store, KEY))[:6] == b"000102"
