"""Objects in memory: for tests, and for an archive that nobody wants to keep."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from time import time
from typing import Final, Self

import trio

from isocenter.engine.buffers import Buffer
from isocenter.services.archive.ports import StagedObject, StoredInstance
from isocenter.services.errors import StorageError
from isocenter.storage.objects.keys import check_object_key

_KEYS_PER_BLOCK: Final = 1000


class MemoryStagedObject:
    """Bytes that nobody can see yet."""

    __slots__ = ("data", "size")

    def __init__(self) -> None:
        self.data: bytearray | None = bytearray()
        self.size = 0

    async def write(self, buffers: Sequence[Buffer]) -> None:
        if self.data is None:
            raise StorageError("the staged object was discarded or published already")
        for buffer in buffers:
            self.data += buffer
        self.size = len(self.data)

    async def spill(self) -> bool:
        return False  # there is nowhere else

    async def finish(self, key: str = "") -> None:
        pass  # nothing is slower than memory

    async def discard(self) -> None:
        self.data = None


class MemoryReader:
    """Reads one object; it stays readable when the object is removed meanwhile."""

    __slots__ = ("_data", "size")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    async def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            raise ValueError("offset and length are not negative")
        await trio.lowlevel.checkpoint()
        return self._data[offset : offset + length]

    async def view(self, offset: int, length: int) -> Buffer:
        return await self.read(offset, length)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass


class MemoryStore:
    """An object store that forgets everything when the process ends.

    Args:
        capacity: bytes that all published objects may have together; None is no bound.
    """

    def __init__(self, *, capacity: int | None = None) -> None:
        self._objects: dict[str, bytes] = {}
        self._stored_at: dict[str, float] = {}
        self._capacity = capacity
        self._size = 0

    #: A staged object is wholly in memory.
    @property
    def memory_per_object(self) -> int | None:
        return None

    async def stage(self, size_hint: int | None = None) -> MemoryStagedObject:
        return MemoryStagedObject()

    async def publish(
        self, staged: Sequence[tuple[StagedObject, str]]
    ) -> Sequence[StorageError | FileExistsError | None]:
        for _, key in staged:
            check_object_key(key)
        await trio.lowlevel.checkpoint()
        return [self._publish(one, key) for one, key in staged]

    def _publish(self, staged: StagedObject, key: str) -> StorageError | FileExistsError | None:
        if not isinstance(staged, MemoryStagedObject):
            raise TypeError("this object was staged by another store")
        if staged.data is None:
            return StorageError("the staged object was discarded or published already")
        if key in self._objects:
            return FileExistsError("the object key is taken")
        size = len(staged.data)
        if self._capacity is not None and self._size + size > self._capacity:
            return StorageError(
                "the memory set aside for objects is used up", out_of_resources=True
            )
        self._objects[key] = bytes(staged.data)
        self._stored_at[key] = time()
        self._size += size
        staged.data = None
        return None

    async def settle(self, staged: Sequence[StagedObject]) -> None:
        pass  # a restart forgets everything, so there is nothing to undo

    async def sync(self, keys: Sequence[str]) -> None:
        pass  # nor does anything survive

    async def recover(
        self, look_up: Callable[[Sequence[str]], Awaitable[Sequence[StoredInstance | None]]]
    ) -> int:
        return 0

    async def salvage(self, other_key: Callable[[str], str]) -> None:
        pass

    async def check(self) -> Sequence[str]:
        return []

    async def open(self, key: str) -> MemoryReader:
        check_object_key(key)
        await trio.lowlevel.checkpoint()
        return MemoryReader(self._objects[key])

    async def open_ahead(
        self, keys: Sequence[str], *, reads: bool = True
    ) -> Sequence[MemoryReader | None]:
        await trio.lowlevel.checkpoint()
        return [None] * len(keys)  # nothing is quicker than `open`

    async def missing(self, keys: Sequence[str]) -> frozenset[str]:
        await trio.lowlevel.checkpoint()
        return frozenset(keys) - self._objects.keys()

    async def stored_at(self, key: str) -> float:
        await trio.lowlevel.checkpoint()
        return self._stored_at[key]

    async def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            check_object_key(key)
            self._stored_at.pop(key, None)
            self._size -= len(self._objects.pop(key, b""))
        await trio.lowlevel.checkpoint()

    @asynccontextmanager
    async def keys(self) -> AsyncIterator[AsyncIterator[Sequence[str]]]:
        keys = list(self._objects)

        async def blocks() -> AsyncGenerator[Sequence[str], None]:
            for start in range(0, len(keys), _KEYS_PER_BLOCK):
                await trio.lowlevel.checkpoint()
                yield keys[start : start + _KEYS_PER_BLOCK]

        async with aclosing(blocks()) as iterator:
            yield iterator

    async def aclose(self) -> None:
        self._objects.clear()
        self._size = 0
