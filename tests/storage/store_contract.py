"""What every object store must do; its test module subclasses `StoreContract`."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest
import trio

from isocenter.engine.buffers import Buffer
from isocenter.services.archive.ports import ObjectStore, StagedObject, StoredInstance

LookUp = Callable[[Sequence[str]], Awaitable[Sequence[StoredInstance | None]]]

KEY = "1.2.3/1.2.3.4/1.2.3.4.5.dcm"

#: Keys that no store may take: each would name something outside it, or nothing.
BAD_KEYS = (
    "",
    "/",
    "/etc/passwd",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    "a/..",
    "a\\b",
    "a\0b",
    "a b",
    "a\n",
    "ä",
    "a+b",
    "a,b",
    "C:a",
    "x" * 231,
)


async def put(store: ObjectStore, key: str, *pieces: Buffer) -> StagedObject:
    """Stage and publish one object, which must succeed."""
    staged = await store.stage()
    await staged.write(pieces)
    await staged.finish()
    assert list(await store.publish([(staged, key)])) == [None]
    return staged


async def content(store: ObjectStore, key: str) -> bytes:
    async with await store.open(key) as reader:
        return await reader.read(0, reader.size)


async def all_keys(store: ObjectStore) -> set[str]:
    found: list[str] = []
    async with store.keys() as blocks:
        async for block in blocks:
            assert block
            found += block
    assert len(found) == len(set(found))
    return set(found)


async def nothing(keys: Sequence[str]) -> list[StoredInstance | None]:
    """What an index without a row says."""
    return [None] * len(keys)


def index_of(contents: Mapping[str, bytes]) -> LookUp:
    """What an index says that has these objects; a data set begins behind their first byte."""

    async def look_up(keys: Sequence[str]) -> list[StoredInstance | None]:
        return [
            StoredInstance(
                sop_instance_uid="1.2.3",
                sop_class_uid="1.2.3",
                study_instance_uid="1.2.3",
                series_instance_uid="1.2.3",
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                object_key=key,
                size=len(contents[key]),
                data_set_offset=1,
                digest=hashlib.sha256(contents[key][1:]).hexdigest(),
            )
            if key in contents
            else None
            for key in keys
        ]

    return look_up


class StoreContract:
    """Subclasses give a fixture ``store``."""

    async def test_what_was_published_is_read_back(self, store: ObjectStore) -> None:
        pieces = (b"first ", bytearray(b"second "), memoryview(b"<third>")[1:-1])
        await store.settle([await put(store, KEY, *pieces)])
        assert await content(store, KEY) == b"first second third"
        assert await all_keys(store) == {KEY}

    async def test_buffers_may_be_reused_after_write(self, store: ObjectStore) -> None:
        staged = await store.stage()
        buffer = bytearray(b"one")
        await staged.write([buffer])
        buffer[:] = b"two"
        await staged.write([memoryview(buffer)])
        assert list(await store.publish([(staged, KEY)])) == [None]
        assert await content(store, KEY) == b"onetwo"

    async def test_an_object_may_be_empty(self, store: ObjectStore) -> None:
        await put(store, KEY)
        assert await content(store, KEY) == b""

    async def test_an_object_larger_than_what_is_held_in_memory(self, store: ObjectStore) -> None:
        piece = bytes(range(256)) * 1000
        staged = await store.stage()
        for _ in range(20):
            await staged.write([piece, piece[:77]])
        await staged.finish()
        assert list(await store.publish([(staged, KEY)])) == [None]
        assert await content(store, KEY) == (piece + piece[:77]) * 20

    async def test_spilling_changes_nothing(self, store: ObjectStore) -> None:
        staged = await store.stage()
        await staged.write([b"before "])
        await staged.spill()
        await staged.write([b"after"])
        assert list(await store.publish([(staged, KEY)])) == [None]
        assert await content(store, KEY) == b"before after"

    async def test_nothing_is_visible_before_publish(self, store: ObjectStore) -> None:
        staged = await store.stage()
        await staged.write([b"x" * 3_000_000])
        assert await all_keys(store) == set()
        with pytest.raises(KeyError):
            await store.open(KEY)
        await staged.discard()
        await staged.discard()
        assert await all_keys(store) == set()

    async def test_discard_after_cancellation_leaves_nothing(self, store: ObjectStore) -> None:
        staged = await store.stage()
        await staged.write([b"x" * 3_000_000])
        with trio.CancelScope() as scope:
            scope.cancel()
            await staged.discard()
        assert await all_keys(store) == set()
        assert await store.recover(nothing) == 0

    async def test_a_taken_key_is_never_overwritten(self, store: ObjectStore) -> None:
        await put(store, KEY, b"old")
        staged = await store.stage()
        await staged.write([b"new"])
        (outcome,) = await store.publish([(staged, KEY)])
        assert isinstance(outcome, FileExistsError)
        assert await content(store, KEY) == b"old"
        # The same staged object may go elsewhere.
        assert list(await store.publish([(staged, "other/key")])) == [None]
        assert await content(store, "other/key") == b"new"

    async def test_a_batch_fails_one_by_one(self, store: ObjectStore) -> None:
        await put(store, "taken", b"old")
        jobs = []
        for number in range(30):
            staged = await store.stage()
            await staged.write([b"%d" % number])
            jobs.append((staged, "taken" if number % 10 == 3 else f"batch/{number % 4}/{number}"))
        outcomes = await store.publish(jobs)
        for number, outcome in enumerate(outcomes):
            assert isinstance(outcome, FileExistsError) == (number % 10 == 3)
            assert outcome is None or number % 10 == 3
        await store.settle([one for (one, _), o in zip(jobs, outcomes, strict=True) if o is None])
        assert await content(store, "batch/2/10") == b"10"
        assert len(await all_keys(store)) == 28

    async def test_one_key_twice_in_a_batch(self, store: ObjectStore) -> None:
        jobs = []
        for number in range(8):
            staged = await store.stage()
            await staged.write([b"%d" % number])
            jobs.append((staged, KEY))
        outcomes = await store.publish(jobs)
        (winner,) = (number for number, outcome in enumerate(outcomes) if outcome is None)
        assert sum(isinstance(outcome, FileExistsError) for outcome in outcomes) == 7
        assert await content(store, KEY) == b"%d" % winner

    async def test_an_empty_batch(self, store: ObjectStore) -> None:
        assert list(await store.publish([])) == []
        await store.settle([])

    @pytest.mark.parametrize("key", BAD_KEYS)
    async def test_a_key_that_could_leave_the_store(self, store: ObjectStore, key: str) -> None:
        staged = await store.stage()
        await staged.write([b"x"])
        with pytest.raises(ValueError, match="object key"):
            await store.publish([(staged, key)])
        with pytest.raises(ValueError, match="object key"):
            await store.open(key)
        with pytest.raises(ValueError, match="object key"):
            await store.remove([key])
        await staged.discard()
        assert await all_keys(store) == set()

    async def test_the_longest_key(self, store: ObjectStore) -> None:
        key = "/".join(["1" * 64, "2" * 64, "3" * 64 + "~12345678.dcm"])
        await put(store, key, b"x")
        assert await all_keys(store) == {key}

    async def test_reading_in_pieces(self, store: ObjectStore) -> None:
        data = bytes(range(250)) * 10
        await put(store, KEY, data)
        async with await store.open(KEY) as reader:
            assert reader.size == 2500
            assert await reader.read(249, 3) == data[249:252]
            assert await reader.read(2499, 10) == data[2499:]
            assert await reader.read(2500, 1) == b""
            assert await reader.read(9999, 1) == b""
            assert await reader.read(5, 0) == b""
            assert bytes(await reader.view(249, 3)) == data[249:252]
            assert bytes(await reader.view(2499, 10)) == data[2499:]
            assert bytes(await reader.view(2500, 1)) == b""
            with pytest.raises(ValueError, match="negative"):
                await reader.read(-1, 3)
            with pytest.raises(ValueError, match="negative"):
                await reader.read(0, -1)
            with pytest.raises(ValueError, match="negative"):
                await reader.view(-1, 3)

    @pytest.mark.parametrize("size", [0, 1, 700, 64 << 10, (64 << 10) + 1, 528 << 10, 3 << 20])
    async def test_what_is_opened_ahead_reads_as_what_is_opened(
        self, store: ObjectStore, size: int
    ) -> None:
        data = random.Random(size).randbytes(size)
        await put(store, KEY, data)
        (reader,) = await store.open_ahead([KEY])
        async with reader or await store.open(KEY) as opened:
            assert opened.size == size
            for offset, length in ((0, 700), (700, 1 << 20), (1 << 20, 1 << 20), (5, 0), (1, 3)):
                expected = data[offset : offset + length]
                assert await opened.read(offset, length) == expected
                assert bytes(await opened.view(offset, length)) == expected
            # In the order in which it is sent, and an early part once more.
            parts = [bytes(await opened.view(at, 1 << 20)) for at in range(300, size, 1 << 20)]
            assert b"".join(parts) == data[300:]
            assert bytes(await opened.view(0, 300)) == data[:300]

    async def test_opening_several_ahead_of_which_some_are_missing(
        self, store: ObjectStore
    ) -> None:
        await put(store, KEY, b"here")
        readers = await store.open_ahead(["1/2", KEY, "../a", KEY])
        assert len(readers) == 4
        assert readers[0] is None
        assert readers[2] is None
        for reader in readers:
            if reader is not None:
                async with reader:
                    assert await reader.read(0, 10) == b"here"

    async def test_a_missing_object(self, store: ObjectStore) -> None:
        with pytest.raises(KeyError):
            await store.open(KEY)
        await store.remove([KEY, "a", "a/b"])

    async def test_what_is_missing_of_some(self, store: ObjectStore) -> None:
        await put(store, "s/e/1", b"1")
        assert await store.missing(["s/e/1", "s/e/2", "t", KEY]) == {"s/e/2", "t", KEY}
        assert await store.missing([]) == frozenset()
        await store.remove(["s/e/1"])
        assert await store.missing(["s/e/1"]) == {"s/e/1"}

    async def test_removing(self, store: ObjectStore) -> None:
        await put(store, "s/e/1", b"1")
        await put(store, "s/e/2", b"2")
        await put(store, "s/f/3", b"3")
        await store.remove(["s/e/1", "s/f/3"])
        assert await all_keys(store) == {"s/e/2"}
        with pytest.raises(KeyError):
            await store.open("s/e/1")
        await put(store, "s/f/3", b"again")
        assert await content(store, "s/f/3") == b"again"

    async def test_an_open_reader_outlives_the_object(self, store: ObjectStore) -> None:
        await put(store, KEY, b"still here")
        async with await store.open(KEY) as reader:
            await store.remove([KEY])
            assert await reader.read(0, 100) == b"still here"

    async def test_many_keys_come_in_blocks(self, store: ObjectStore) -> None:
        jobs = [(await store.stage(), f"{number % 7}/{number}") for number in range(1203)]
        assert set(await store.publish(jobs)) == {None}
        await store.settle([staged for staged, _ in jobs])
        assert await all_keys(store) == {f"{number % 7}/{number}" for number in range(1203)}

    async def test_a_walk_may_be_left_early(self, store: ObjectStore) -> None:
        await put(store, KEY, b"x")
        async with store.keys() as blocks:
            async for block in blocks:
                assert block == [KEY]
                break

    async def test_settled_objects_need_no_recovery(self, store: ObjectStore) -> None:
        staged = [await put(store, f"s/{number}", b"x" * number) for number in range(40)]
        assert await store.check() == []
        await store.settle(staged)
        assert await store.recover(nothing) == 0
        assert len(await all_keys(store)) == 40
        assert await store.check() == []

    async def test_many_tasks_store_while_others_read(self, store: ObjectStore) -> None:
        done: list[str] = []

        async def write(number: int) -> None:
            for round_ in range(3):
                key = f"{number % 5}/{number}-{round_}"
                staged = await put(store, key, key.encode() * 1000)
                done.append(key)
                await store.settle([staged])

        async def read() -> None:
            for _ in range(30):
                for key in done[-5:]:
                    assert await content(store, key) == key.encode() * 1000
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(write, number)
            for _ in range(5):
                nursery.start_soon(read)
        assert len(await all_keys(store)) == 150
        assert await store.recover(nothing) == 0
        assert len(await all_keys(store)) == 150
