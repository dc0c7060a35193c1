"""Cloud store: objects in a bucket, under keys that are used once.

An object is kept in this order, and each step waits for the one before:

1. its key is noted in the database (`isocenter.services.archive.sweeping.ports`), where in the
   same step is asked whether the archive has it already;
2. it is written to the bucket: one request, or the parts of a large one; what the store answers
   for, it has on stable storage, by its own promise;
3. the transaction that makes it findable takes the note away.

So a crash leaves an object with a note and no row, which the sweeper removes.  There is no journal,
and nothing to recover: `settle` has nothing to do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final, Literal

import trio

from isocenter.services.archive.ports import InstanceRecord, StagedObject, StoredInstance
from isocenter.services.archive.sweeping.ports import StagedKeys
from isocenter.services.errors import StorageError
from isocenter.storage.objects.cloud.bucket import Bucket
from isocenter.storage.objects.cloud.encryption import (
    NO_KEYS,
    DecryptedRanges,
    MasterKeys,
    ObjectCipher,
    name_in,
)
from isocenter.storage.objects.cloud.errors import BucketError
from isocenter.storage.objects.cloud.intents import Intents
from isocenter.storage.objects.cloud.range_cache import RangeCache
from isocenter.storage.objects.cloud.reader import CloudReader, open_reader
from isocenter.storage.objects.cloud.staging import SMALL_OBJECT, Stage, StagedUpload
from isocenter.storage.objects.keys import check_object_key, is_object_key

_log = logging.getLogger("isocenter.storage")

#: How much of what a store says it has is believed.
Verify = Literal["none", "head", "read"]

#: Where in the bucket all objects are.
KEYS_BELOW: Final = "objects/"
#: Of a batch of keys that are looked for or removed.
_AT_ONCE: Final = 16
#: Of what is read back to be compared.
_COMPARED_BYTES: Final = 4 << 20
_SPOOLERS: Final = 8

_Published = StorageError | FileExistsError | None


def path_of(key: str) -> str:
    """Where in the bucket an object is."""
    return KEYS_BELOW + key


def key_of(path: str) -> str | None:
    """The key of the object there; None: it is not one of the archive."""
    key = path.removeprefix(KEYS_BELOW)
    return key if key != path and is_object_key(key) else None


class CloudStore:
    """See `isocenter.services.archive.ports.ObjectStore`.

    Args:
        keys: where keys are noted.
        folder: on a local disk, for large objects until they are uploaded.
        cache: of what is read from the bucket.
        master_keys: encrypt what comes; none: it goes into the bucket as it is.
        verify: after writing: look whether it is there, or read it back.
    """

    def __init__(
        self,
        bucket: Bucket,
        keys: StagedKeys,
        folder: str,
        *,
        cache: RangeCache | None = None,
        master_keys: MasterKeys = NO_KEYS,
        verify: Verify = "none",
    ) -> None:
        self.bucket = bucket
        self._cache = cache
        self._master_keys = master_keys
        #: What is asked for objects that are read.
        self.ranges = DecryptedRanges(cache or bucket, master_keys)
        self._intents = Intents(keys)
        self._folder = folder
        self._verify = verify
        self._spoolers = trio.CapacityLimiter(_SPOOLERS)

    @property
    def memory_per_object(self) -> int:
        return SMALL_OBJECT

    @property
    def is_away(self) -> bool:
        try:
            self.bucket.breaker.check()
        except BucketError:
            return True
        return False

    async def look(self) -> None:
        await self.bucket.look()

    # -- In ---------------------------------------------------------------------------

    async def stage(self, size_hint: int | None = None) -> StagedUpload:
        self.bucket.breaker.check()
        cipher = ObjectCipher(self._master_keys) if self._master_keys.current else None
        return StagedUpload(self._folder, self._spoolers, self._upload, self._withdraw, cipher)

    async def announce(self, staged: StagedObject, record: InstanceRecord) -> StoredInstance | None:
        """See `AnnouncingStore.announce`; many of them are one transaction."""
        if not isinstance(staged, StagedUpload):
            raise TypeError("this object was staged by another store")
        known, is_noted = await self._intents.announce(
            record.object_key, record.sop_instance_uid, record.digest
        )
        if is_noted:
            staged.noted = record.object_key
        return known

    async def _upload(self, staged: StagedUpload, key: str) -> None:
        """Bring it into the bucket; `is_taken`: there is something under *key*.  Without a key only
        try whether something could be brought there.

        Raises:
            StorageError: it is not there, or nobody knows.
        """
        if not key:
            await self.bucket.try_out()
            return
        check_object_key(key)
        staged.key, staged.is_taken = key, False
        if staged.noted == key:
            staged.noted = ""
        elif not await self._intents.begin(key):
            staged.is_taken = True
            return
        try:
            await self._put(staged, path_of(key))
            if self._verify != "none":
                await self._check(staged)
        except FileExistsError:
            # The index has it, or its sweep is near: the note was not there, the object is.
            staged.is_taken = True
            await self._forget([key])
            return
        except StorageError as error:
            # What may be there keeps its note, and is swept.
            if not (isinstance(error, BucketError) and error.is_unknown):
                await self._forget([key])
            raise
        staged.stage = Stage.UPLOADED
        staged.release()

    async def _put(self, staged: StagedUpload, path: str) -> None:
        await staged.seal(name_in(path))
        if staged.file is None:
            await self.bucket.put(path, staged.whole, size=staged.size)
        else:
            await self.bucket.put_file(path, staged.file, size=staged.size)

    async def _check(self, staged: StagedUpload) -> None:
        path = path_of(staged.key)
        is_there = await self.bucket.has(path, staged.size)
        if is_there and self._verify == "read":
            is_there = await self._is_same(staged, path)
        if not is_there:
            raise BucketError(
                f"{self.bucket.place} said that it has an object, and has it not, or another one "
                "(objects.verify); look after that store",
                is_unknown=True,
            )

    async def _is_same(self, staged: StagedUpload, path: str) -> bool:
        whole = memoryview(b"".join(staged.whole)) if staged.file is None else None
        for start in range(0, staged.size, _COMPARED_BYTES):
            try:
                _, found = await self.bucket.get(path, start, _COMPARED_BYTES)
            except KeyError:
                return False
            if whole is not None:
                expected = bytes(whole[start : start + _COMPARED_BYTES])
            else:
                assert staged.file is not None
                expected = await trio.to_thread.run_sync(
                    os.pread, staged.file.fileno(), _COMPARED_BYTES, start, limiter=self._spoolers
                )
            if bytes(found) != expected:
                return False
        return True

    async def _withdraw(self, staged: StagedUpload) -> None:
        """What was uploaded, or was to be, is not wanted."""
        if staged.noted:
            noted, staged.noted = staged.noted, ""
            await self._forget([noted])
            return
        try:
            await self.remove([staged.key])
        except StorageError as error:
            _log.warning("an object that is not wanted is left to the sweeper: %s", error)

    async def _forget(self, keys: Sequence[str]) -> None:
        try:
            await self._intents.end(keys)
        except StorageError:
            pass  # the sweeper finds nothing there

    async def publish(self, staged: Sequence[tuple[StagedObject, str]]) -> Sequence[_Published]:
        outcomes: list[_Published] = [None] * len(staged)
        jobs: list[tuple[StagedUpload, str]] = []
        for one, key in staged:
            check_object_key(key)
            if not isinstance(one, StagedUpload):
                raise TypeError("this object was staged by another store")
            jobs.append((one, key))
        if all(one.stage is Stage.UPLOADED and one.key == key for one, key in jobs):
            for one, _ in jobs:
                one.stage = Stage.PUBLISHED
            await trio.lowlevel.checkpoint()
            return outcomes

        async def publish(place: int) -> None:
            outcomes[place] = await self._publish(*jobs[place])

        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for place in range(len(jobs)):
                    nursery.start_soon(publish, place)
        return outcomes

    async def _publish(self, staged: StagedUpload, key: str) -> _Published:
        try:
            staged.check_open()
            if staged.stage is Stage.UPLOADED and staged.key != key:
                raise StorageError("an object was uploaded under another key")
            if staged.stage is Stage.WRITING and (staged.key != key or not staged.is_taken):
                await self._upload(staged, key)
        except StorageError as error:
            await staged.discard()
            return error
        if staged.is_taken:
            return FileExistsError("the object key is taken")
        staged.stage = Stage.PUBLISHED
        return None

    async def settle(self, staged: Sequence[StagedObject]) -> None:
        pass  # what was published needs nothing more

    async def sync(self, keys: Sequence[str]) -> None:
        pass  # neither does that

    async def recover(
        self, look_up: Callable[[Sequence[str]], Awaitable[Sequence[StoredInstance | None]]]
    ) -> int:
        return 0  # the sweeper does it, from the notes

    async def salvage(self, other_key: Callable[[str], str]) -> None:
        pass  # each object has its key and is whole

    async def check(self) -> Sequence[str]:
        return []

    # -- Out --------------------------------------------------------------------------

    async def open(self, key: str) -> CloudReader:
        check_object_key(key)
        return await open_reader(self.ranges, path_of(key))

    async def open_ahead(
        self, keys: Sequence[str], *, reads: bool = True
    ) -> Sequence[CloudReader | None]:
        readers: list[CloudReader | None] = [None] * len(keys)

        async def open_one(place: int) -> None:
            try:
                readers[place] = await self.open(keys[place])
            except (KeyError, ValueError, StorageError):
                pass  # `open` says why

        async with trio.open_nursery() as nursery:
            for place in range(len(keys)):
                nursery.start_soon(open_one, place)
        return readers

    async def missing(self, keys: Sequence[str]) -> frozenset[str]:
        found: set[str] = set()

        async def look(key: str) -> None:
            check_object_key(key)
            if await self.bucket.head(path_of(key)) is None:
                found.add(key)

        await _for_each(keys, look)
        return frozenset(found)

    async def stored_at(self, key: str) -> float:
        check_object_key(key)
        found = await self.bucket.head(path_of(key))
        if found is None:
            raise KeyError("no such object")
        return found.stored_at

    async def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            check_object_key(key)
        if not keys:
            return

        async def remove(key: str) -> None:
            await self.bucket.delete(path_of(key))
            self.ranges.forget(path_of(key))

        await _for_each(keys, remove)
        await self._forget(keys)

    @asynccontextmanager
    async def keys(self) -> AsyncIterator[AsyncIterator[Sequence[str]]]:
        async with aclosing(self._keys()) as blocks:
            yield blocks

    async def _keys(self) -> AsyncGenerator[Sequence[str], None]:
        async with aclosing(self.bucket.paths(KEYS_BELOW)) as blocks:
            async for block in blocks:
                if ours := [key for path in block if (key := key_of(path)) is not None]:
                    yield ours

    async def aclose(self) -> None:
        if self._cache is not None:
            self._cache.close()


async def holds_objects(bucket: Bucket, below: str = KEYS_BELOW) -> bool:
    """Whether there is any.

    Raises:
        StorageError: nobody can tell.
    """
    async with aclosing(bucket.paths(below)) as blocks:
        async for _ in blocks:
            return True
    return False


async def _for_each(keys: Sequence[str], function: Callable[[str], Awaitable[None]]) -> None:
    """A few at once; the first failure ends it, as it came."""
    errors: list[StorageError] = []
    waiting = iter(dict.fromkeys(keys))

    async def work() -> None:
        for key in waiting:
            if errors:
                return
            try:
                await function(key)
            except StorageError as error:
                errors.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(min(_AT_ONCE, len(keys))):
            nursery.start_soon(work)
    if errors:
        raise errors[0]
