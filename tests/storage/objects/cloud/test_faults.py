"""What a store and the network do wrong: what is told, and what is kept."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.errors import StorageError
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.database.staged_keys import DatabaseStagedKeys
from isocenter.storage.objects.cloud.errors import BucketError
from isocenter.storage.objects.cloud.store import CloudStore
from storage.store_contract import content
from support.buckets import connect, keys_in, new_location
from support.faulty_buckets import FaultyBucket, faulty_bucket

KEY = "1.2/1.2.3~0a1b2c3d.dcm"
LARGE = 9 << 20


@pytest.fixture
def bucket() -> Iterator[FaultyBucket]:
    with faulty_bucket(new_location()) as bucket:
        yield bucket


@asynccontextmanager
async def opened(
    bucket: FaultyBucket, folder: Path, *, verify: Any = "none", **options: Any
) -> AsyncIterator[tuple[CloudStore, DatabaseStagedKeys]]:
    async with open_sqlite_database(":memory:") as database:
        keys = DatabaseStagedKeys(database)
        yield (
            CloudStore(connect(bucket.location, **options), keys, str(folder), verify=verify),
            keys,
        )


async def upload(store: CloudStore, data: bytes = b"content") -> None:
    staged = await store.stage()
    await staged.write([data])
    try:
        await staged.finish(KEY)
    except BaseException:
        await staged.discard()
        raise
    assert list(await store.publish([(staged, KEY)])) == [None]


@pytest.mark.parametrize("fault", ["drop", (503, "SlowDown"), (500, "InternalError")])
async def test_a_fault_that_passes_is_overcome(
    bucket: FaultyBucket, tmp_path: Path, fault: Any
) -> None:
    async with opened(bucket, tmp_path) as (store, _):
        bucket.fail(fault, "PUT", times=1)
        await upload(store)
        assert await content(store, KEY) == b"content"


@pytest.mark.parametrize("size", [7, LARGE])
async def test_an_answer_that_was_lost_is_no_failure(
    bucket: FaultyBucket, tmp_path: Path, size: int
) -> None:
    """The object is there: nobody else can have written under that key."""
    async with opened(bucket, tmp_path) as (store, _):
        bucket.fail("lose", "PUT" if size < LARGE else "POST", times=1)
        await upload(store, bytes(size))
        assert await content(store, KEY) == bytes(size)


async def test_what_may_be_there_keeps_its_note(bucket: FaultyBucket, tmp_path: Path) -> None:
    late = threading.Event()
    async with opened(bucket, tmp_path, timeout=2.0) as (store, keys):
        bucket.fail(late, "PUT")
        with pytest.raises(StorageError, match="did not answer in time") as caught:
            await upload(store)
        assert caught.value.out_of_resources
        late.set()
        assert await keys.count() == 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ((403, "InvalidAccessKeyId"), "correct the credentials"),
        ((403, "SignatureDoesNotMatch"), "correct the credentials"),
        ((403, "AccessDenied"), "allow these credentials"),
        ((401, "Unauthorized"), "allow these credentials"),
        ((404, "NoSuchBucket"), "does not exist"),
        ((301, "PermanentRedirect"), "is in another region"),
        ((400, "AuthorizationHeaderMalformed"), "region=eu-north-1"),
        ((403, "RequestTimeTooSkewed"), "synchronize the clocks"),
        ((507, "InsufficientStorage"), "no room"),
    ],
)
async def test_what_is_refused_is_told_with_its_cure_and_leaves_no_note(
    bucket: FaultyBucket, tmp_path: Path, fault: Any, says: str
) -> None:
    async with opened(bucket, tmp_path) as (store, keys):
        bucket.fail(fault, "PUT")
        with pytest.raises(BucketError, match=says) as caught:
            await upload(store)
        assert caught.value.out_of_resources
        assert "secret" not in str(caught.value)
        assert len(caught.value.comment) <= 64
        assert await keys.count() == 0
        assert keys_in(bucket.location) == []


async def test_a_store_that_is_away_is_asked_by_one_and_not_by_all(
    bucket: FaultyBucket, tmp_path: Path
) -> None:
    async with opened(bucket, tmp_path) as (store, _):
        bucket.fail((503, "SlowDown"), "PUT")
        with pytest.raises(BucketError):
            await upload(store)
        assert store.bucket.breaker.is_open
        before = len(bucket.requests)
        with pytest.raises(BucketError, match="is tried again in"):
            await upload(store)
        with pytest.raises(BucketError, match="is tried again in"):
            await store.open(KEY)
        assert len(bucket.requests) == before


@pytest.mark.parametrize("verify", ["head", "read"])
async def test_a_store_that_forgets_is_found_out(
    bucket: FaultyBucket, tmp_path: Path, verify: str
) -> None:
    async with opened(bucket, tmp_path, verify=verify) as (store, keys):
        bucket.fail("forget", "PUT")
        with pytest.raises(BucketError, match="has it not"):
            await upload(store)
        assert await keys.count() == 1


async def test_a_store_that_keeps_something_else_is_found_out(
    bucket: FaultyBucket, tmp_path: Path
) -> None:
    async with opened(bucket, tmp_path, verify="read") as (store, _):
        await store.bucket.put(f"objects/{KEY}", [b"another"], size=7)
        bucket.fail("forget", "PUT")
        with pytest.raises(BucketError, match="has it not, or another one"):
            await upload(store)


async def test_no_server_at_all(tmp_path: Path) -> None:
    with faulty_bucket(new_location()) as bucket:
        pass
    async with opened(bucket, tmp_path) as (store, _):
        with pytest.raises(BucketError, match="cannot be reached; correct endpoint="):
            await store.bucket.try_out()


async def test_a_disk_without_room_for_large_objects(tmp_path: Path) -> None:
    async with open_sqlite_database(":memory:") as database:
        folder = tmp_path / "is not there"
        bucket = connect(new_location())
        store = CloudStore(bucket, DatabaseStagedKeys(database), str(folder))
        staged = await store.stage()
        with pytest.raises(StorageError, match="make room there") as caught:
            await staged.write([bytes(LARGE)])
        assert caught.value.out_of_resources
        await staged.discard()


async def test_a_large_object_that_fails_leaves_nothing(
    bucket: FaultyBucket, tmp_path: Path
) -> None:
    async with opened(bucket, tmp_path) as (store, keys):
        bucket.decide = lambda _, path: (403, "AccessDenied") if "partNumber=2" in path else None
        with pytest.raises(BucketError, match="allow these credentials"):
            await upload(store, bytes(LARGE))
        assert keys_in(bucket.location) == []
        assert ("DELETE", True) in [(m, "uploadId=" in p) for m, p in bucket.requests]
        assert await keys.count() == 0


async def test_a_store_is_looked_at_without_an_object(bucket: FaultyBucket, tmp_path: Path) -> None:
    async with opened(bucket, tmp_path) as (store, _):
        await store.look()
        assert not store.is_away
        bucket.decide = lambda method, path: (503, "SlowDown")
        for _ in range(3):
            with pytest.raises(BucketError):
                await store.look()
        assert store.is_away
        assert {method for method, _ in bucket.requests} == {"HEAD"}


async def test_a_store_without_conditional_puts_is_used_without(
    bucket: FaultyBucket, tmp_path: Path
) -> None:
    async with opened(bucket, tmp_path) as (store, _):
        bucket.fail((501, "NotImplemented"), "PUT", times=1)
        await upload(store)
        assert await content(store, KEY) == b"content"
        bucket.requests.clear()
        await store.bucket.put("objects/1.2/1.2.4~0a1b2c3d.dcm", [b"x"], size=1)
        assert len(bucket.requests) == 1
        bucket.fail((501, "NotImplemented"), "PUT")
        with pytest.raises(BucketError, match="put checksum=none into"):
            await store.bucket.put("objects/1.2/1.2.5~0a1b2c3d.dcm", [b"x"], size=1)


async def test_sums_are_sent_unless_the_url_says_no(bucket: FaultyBucket, tmp_path: Path) -> None:
    parameters = {**bucket.location.parameters, "checksum": "none"}
    await connect(bucket.location).try_out()
    assert "x-amz-checksum-sha256" in bucket.headers
    bucket.headers.clear()
    await connect(replace(bucket.location, parameters=parameters)).try_out()
    assert "x-amz-checksum-sha256" not in bucket.headers
