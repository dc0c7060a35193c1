from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from isocenter.engine.buffers import Buffer
from isocenter.services.archive.ports import ObjectStore
from isocenter.services.errors import StorageError
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.database.staged_keys import DatabaseStagedKeys
from isocenter.storage.objects.cloud.bucket import Bucket
from isocenter.storage.objects.cloud.encryption import (
    SEGMENT_BYTES,
    DecryptedRanges,
    MasterKeys,
    ObjectCipher,
)
from isocenter.storage.objects.cloud.range_cache import RangeCache
from isocenter.storage.objects.cloud.store import CloudStore
from isocenter.storage.objects.cloud.trash import CloudTrash
from storage.store_contract import StoreContract, content, put
from support.buckets import connect, new_location

KEYS = MasterKeys({"k1": bytes(range(32))})
KEY = "1.2/1.2.3~0a1b2c3d.dcm"
SIZES = [0, 1, 777, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 5 * SEGMENT_BYTES]


def encrypted(data: bytes, name: str, keys: MasterKeys = KEYS, piece: int = 50_000) -> bytes:
    cipher = ObjectCipher(keys)
    parts = [
        part for at in range(0, len(data), piece) for part in cipher.feed(data[at : at + piece])
    ]
    return cipher.header(name) + b"".join([*parts, cipher.finish()])


class Stored:
    """What is in a bucket, and how many bytes of it were asked for."""

    def __init__(self, **objects: bytes) -> None:
        self.objects = objects
        self.bytes = 0

    async def get(self, path: str, start: int, length: int) -> tuple[int, Buffer]:
        data = self.objects[path]
        part = data[start : start + length]
        self.bytes += len(part)
        return len(data), part


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [1_000, 200_000])
async def test_any_part_is_what_it_was(size: int, piece: int) -> None:
    data = Random(size).randbytes(size)
    stored = Stored(a=encrypted(data, "a", piece=piece))
    assert len(stored.objects["a"]) >= size + 128 + 16
    for start in (0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, size // 2, size - 1, size, size + 9):
        for length in (0, 1, 16, SEGMENT_BYTES, SEGMENT_BYTES + 1, size, size + 1):
            if start < 0:
                continue
            ranges = DecryptedRanges(stored, KEYS)
            for _ in range(2):  # the second time its key is known
                found = await ranges.get("a", start, length)
                assert (found[0], bytes(found[1])) == (size, data[start : start + length])


async def test_a_small_part_of_a_large_object_costs_little() -> None:
    stored = Stored(a=encrypted(bytes(100 * SEGMENT_BYTES), "a"))
    ranges = DecryptedRanges(stored, KEYS)
    await ranges.get("a", 70 * SEGMENT_BYTES + 5, 100)
    assert stored.bytes <= SEGMENT_BYTES + 16 + 128


async def test_nothing_of_the_object_can_be_seen() -> None:
    data = b"Mustermann^Erika" * 10_000
    stored = encrypted(data, "a")
    assert b"Mustermann" not in stored
    assert encrypted(data, "a")[128:] != stored[128:]


@pytest.mark.parametrize(
    "change", ["header", "segment", "cut", "cut at a segment", "swap", "longer"]
)
async def test_what_was_changed_is_not_given_out(change: str) -> None:
    data = Random(1).randbytes(3 * SEGMENT_BYTES)
    changed = bytearray(encrypted(data, "a"))
    length = SEGMENT_BYTES + 16
    match change:
        case "header":
            changed[60] ^= 1
        case "segment":
            changed[128 + length + 5] ^= 1
        case "cut":
            del changed[-1:]
        case "cut at a segment":
            del changed[-length:]
        case "swap":
            first, second = changed[128 : 128 + length], changed[128 + length : 128 + 2 * length]
            changed[128 : 128 + 2 * length] = second + first
        case _:
            changed += changed[-length:]
    with pytest.raises(StorageError, match="was changed in the store"):
        await DecryptedRanges(Stored(a=bytes(changed)), KEYS).get("a", 0, len(data))


async def test_no_object_is_given_out_for_another() -> None:
    ours = encrypted(b"ours", "1.2.3.dcm")
    # What tells apart two objects of one instance, and the folder, may change.
    for path in ("objects/9/1.2.3.dcm", "trash/d/objects/1.2.3~0a0b0c0d.dcm"):
        ranges = DecryptedRanges(Stored(**{path: ours}), KEYS)
        assert bytes((await ranges.get(path, 0, 4))[1]) == b"ours"
    with pytest.raises(StorageError, match="was changed in the store"):
        await DecryptedRanges(Stored(**{"1.2.4.dcm": ours}), KEYS).get("1.2.4.dcm", 0, 4)


async def test_keys_are_changed_and_old_ones_still_read() -> None:
    old, new = bytes(32), bytes(range(32))
    stored = Stored(a=encrypted(b"old", "a", MasterKeys({"k1": old})), b=b"never encrypted")
    both = MasterKeys({"k2": new, "k1": old})
    stored.objects["c"] = encrypted(b"new", "c", both)
    ranges = DecryptedRanges(stored, both)
    for path, data in (("a", b"old"), ("b", b"never encrypted"), ("c", b"new")):
        for start in (0, 2):
            assert bytes((await ranges.get(path, start, 99))[1]) == data[start:]
    with pytest.raises(StorageError, match=r"key 'k1', which is not in objects.keys_file"):
        await DecryptedRanges(stored, MasterKeys({"k2": new})).get("a", 0, 9)


def test_a_file_of_keys_is_read_exactly() -> None:
    good = base64.b64encode(bytes(range(32))).decode()
    other = base64.b64encode(bytes(32)).decode()
    keys = MasterKeys.parse(f"# new\n2026 = {good}\n\nold={other}\n", "keys")
    assert keys.current == "2026"
    assert len(keys.fingerprints()) == 2
    for wrong in (
        "", "# nothing\n", good, f"{good}\n", "k1 = c2hvcnQ=", f"k1 = {good}x", f"k 1 = {good}",
        f"k1 = {good}\nk1 = {other}", f"k1 = '{good}'", f"k1 = {good[:-4]}",
    ):  # fmt: skip
        with pytest.raises(StorageError, match="keys") as caught:
            MasterKeys.parse(wrong, "keys")
        assert good[:10] not in str(caught.value)


async def test_what_is_encrypted_is_not_given_out_as_if_it_were_not(tmp_path: Path) -> None:
    bucket = connect(new_location())
    async with opened(bucket, tmp_path) as store:
        await put(store, KEY, b"secret")
    async with open_sqlite_database(":memory:") as database:
        without = CloudStore(bucket, DatabaseStagedKeys(database), str(tmp_path))
        with pytest.raises(StorageError, match=r"encrypted with the key 'k1'"):
            await without.open(KEY)
    await bucket.register(KEYS.fingerprints())
    with pytest.raises(StorageError, match=r"are encrypted \(with k1\); name the file"):
        await bucket.register({})


async def test_a_key_that_means_another_one_is_refused() -> None:
    bucket = connect(new_location())
    await bucket.register(MasterKeys({"k1": bytes(32)}).fingerprints())
    await bucket.register(MasterKeys({"k2": bytes(32), "k1": bytes(32)}).fingerprints())
    with pytest.raises(StorageError, match=r"the key k2 of objects.keys_file is another one"):
        await bucket.register(MasterKeys({"k2": bytes(range(32))}).fingerprints())


@asynccontextmanager
async def opened(bucket: Bucket, folder: Path) -> AsyncIterator[CloudStore]:
    async with open_sqlite_database(":memory:") as database:
        cache = RangeCache(bucket, str(folder), most_bytes=8 << 20)
        store = CloudStore(
            bucket,
            DatabaseStagedKeys(database),
            str(folder),
            cache=cache,
            master_keys=KEYS,
            verify="read",
        )
        yield store
        await store.aclose()


class TestEncryptedStore(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[ObjectStore]:
        async with opened(connect(new_location()), tmp_path) as store:
            yield store


async def test_an_object_is_read_in_the_trash_as_well(tmp_path: Path) -> None:
    bucket = connect(new_location())
    async with opened(bucket, tmp_path) as store:
        await put(store, KEY, b"secret")
        assert b"secret" not in bytes((await bucket.get(f"objects/{KEY}", 0, 999))[1])
        trash = CloudTrash(store, tmp_path)
        await trash.take("d", [KEY])
        async with await trash.open("d", KEY) as reader:
            assert await reader.read(0, reader.size) == b"secret"
        await trash.give_back("d", KEY, "1.2/1.2.3~00000000.dcm")
        assert await content(store, "1.2/1.2.3~00000000.dcm") == b"secret"
