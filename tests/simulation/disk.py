"""What a machine keeps when its process ends: stores and indexes whose every step may be the last.

Two kinds.  In memory: the reference adapters, each call taking the time of a thread, with
the published objects, the record of what was not settled and the index as what survives.
On files: the real file store over `storage.power_model.ModelFiles`, which also knows what
a power failure would leave; its index is the one in memory, a transaction being atomic.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    aclosing,
    asynccontextmanager,
    suppress,
)
from pathlib import Path
from typing import Any, Final, Self
from unittest.mock import patch

from isocenter.engine.buffers import Buffer
from isocenter.services.archive.index.query import FoundPage, Page, Query
from isocenter.services.archive.index_figures import IndexStatistics
from isocenter.services.archive.ports import (
    AddResult,
    Index,
    InstanceRecord,
    ObjectStore,
    StagedObject,
    StoredInstance,
)
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.errors import StorageError
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.files import journal
from isocenter.storage.objects.files.file_system import OsFileSystem
from isocenter.storage.objects.files.store import open_file_store
from isocenter.storage.objects.memory import MemoryStagedObject, MemoryStore
from simulation.world import World
from storage.power_model import Crash, ModelFiles

_MEMORY_FOLDER: Final = "/dev/shm"


class Machine:
    """Counts the steps that storage takes, and ends the process before some of them.

    Args:
        ends: numbers of those steps.
        failure: how probable it is that a step fails.

    Attributes:
        crashed: the process is gone; whatever still runs of it does nothing any more.
        starting: nothing fails now, but the process may end.
        failures: of which kinds some were, by name of the step.
    """

    def __init__(self, world: World, name: str, ends: frozenset[int], failure: float) -> None:
        self.world = world
        self.name = name
        self.crashed = False
        self.starting = False
        self.failures: set[str] = set()
        self.process_ends: Callable[[], None] = lambda: None
        self._ends = ends
        self._failure = failure
        self._steps = 0

    def step(self, what: str) -> None:
        """One step of storage is about to be taken.

        Raises:
            Crash: it is not taken, nor any after it.
        """
        if self.crashed:
            raise Crash
        self._steps += 1
        self.world.note(f"{self.name} step {self._steps}: {what}")
        if self._steps in self._ends and not self.world.calm:
            self.world.note(f"{self.name}: the process ends")
            self.crashed = True
            self.process_ends()
            raise Crash

    def fails(self, what: str) -> bool:
        if self.starting or not self.world.happens(self._failure):
            return False
        self.world.note(f"{self.name}: {what} fails")
        self.failures.add(what)
        return True

    async def asynchronous_step(self, what: str) -> None:
        """The same for an adapter in memory, which waits as if it used a thread.

        Raises:
            StorageError: it failed.
        """
        await self.world.hop()
        self.step(what)
        self.fail(what)

    def fail(self, what: str) -> None:
        if self.fails(what):
            raise StorageError("simulated", out_of_resources=self.world.random.random() < 0.5)


class Disk:
    """What survives the process.  `start` gives the adapters of a new one."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._index = MemoryIndex()

    async def start(self) -> tuple[ObjectStore, Index]:
        raise NotImplementedError

    async def end(self) -> None:
        """The process ends well: it closes what it has opened."""

    async def stop(self) -> None:
        """The process has ended, well or not."""

    def left_over(self) -> list[str]:
        """What a process that ended well should not have left."""
        raise NotImplementedError

    def close(self) -> None:
        """The machine goes to the scrap yard."""


# -- In memory ------------------------------------------------------------------------


class MemoryDisk(Disk):
    """Published objects and what is not settled survive; what is staged does not."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.objects = MemoryStore()
        self.unsettled: dict[str, None] = {}
        self.staged: dict[_Staged, None] = {}
        self.readers = 0

    async def start(self) -> tuple[ObjectStore, Index]:
        return _Store(self), _Index(self.machine, self._index)

    async def stop(self) -> None:
        self.staged.clear()
        self.readers = 0

    def left_over(self) -> list[str]:
        found = [f"{self.readers} open readers"] if self.readers else []
        # What cannot be settled, and what an index that fails does not know, waits for `recover`.
        if not self.machine.failures & {"settle", "index gets"}:
            for what, left in (("staged", self.staged), ("unsettled", self.unsettled)):
                if left:
                    found.append(f"{len(left)} {what} objects")
        return found


class _Staged:
    __slots__ = ("_disk", "inner", "key")

    def __init__(self, disk: MemoryDisk) -> None:
        self._disk = disk
        self.inner = MemoryStagedObject()
        self.key = ""
        disk.staged[self] = None

    async def write(self, buffers: Sequence[Buffer]) -> None:
        machine = self._disk.machine
        if machine.world.happens(0.2):
            await machine.asynchronous_step("write")
        await self.inner.write(buffers)

    async def spill(self) -> bool:
        return False

    async def finish(self, key: str = "") -> None:
        pass

    async def discard(self) -> None:
        self.drop()

    def drop(self) -> None:
        self.inner.data = None
        self._disk.staged.pop(self, None)


class _Reader:
    def __init__(self, disk: MemoryDisk, inner: ObjectReader) -> None:
        self._disk = disk
        self._inner = inner
        self.size = inner.size
        disk.readers += 1

    async def read(self, offset: int, length: int) -> bytes:
        await self._disk.machine.asynchronous_step("read")
        return await self._inner.read(offset, length)

    async def view(self, offset: int, length: int) -> Buffer:
        return await self.read(offset, length)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._disk.readers -= 1


class _Store:
    """`MemoryStore` with the crash behaviour that the port promises."""

    memory_per_object = None

    def __init__(self, disk: MemoryDisk) -> None:
        self._disk = disk
        self._objects = disk.objects
        self._step = disk.machine.asynchronous_step

    async def stage(self, size_hint: int | None = None) -> _Staged:
        if self._disk.machine.world.happens(0.2):
            await self._step("stage")
        return _Staged(self._disk)

    async def publish(
        self, staged: Sequence[tuple[StagedObject, str]]
    ) -> Sequence[StorageError | FileExistsError | None]:
        outcomes: list[StorageError | FileExistsError | None] = []
        for one, key in staged:
            assert isinstance(one, _Staged)
            try:
                await self._step("publish")
            except StorageError as error:
                one.drop()
                outcomes.append(error)
                continue
            [outcome] = await self._objects.publish([(one.inner, key)])
            if outcome is None:
                one.key = key
                self._disk.unsettled[key] = None
            outcomes.append(outcome)
        self._disk.machine.step("published")
        return outcomes

    async def settle(self, staged: Sequence[StagedObject]) -> None:
        try:
            await self._step("settle")
        finally:
            for one in staged:
                assert isinstance(one, _Staged)
                one.drop()
        for one in staged:
            assert isinstance(one, _Staged)
            self._disk.unsettled.pop(one.key, None)

    async def sync(self, keys: Sequence[str]) -> None:
        await self._step("sync")

    async def recover(
        self, look_up: Callable[[Sequence[str]], Awaitable[Sequence[StoredInstance | None]]]
    ) -> int:
        undone = 0
        for key in list(self._disk.unsettled):
            [known] = await look_up([key])
            await self._step("recover")
            if known is None:
                await self._objects.remove([key])
                undone += 1
            del self._disk.unsettled[key]
        return undone

    async def salvage(self, other_key: Callable[[str], str]) -> None:
        raise NotImplementedError("no index is lost here")

    async def check(self) -> Sequence[str]:
        return []

    async def open(self, key: str) -> _Reader:
        await self._step("open")
        return _Reader(self._disk, await self._objects.open(key))

    async def open_ahead(
        self, keys: Sequence[str], *, reads: bool = True
    ) -> Sequence[_Reader | None]:
        found: list[ObjectReader | None] = []
        for key in keys:
            try:
                await self._step("open ahead")
                found.append(await self._objects.open(key))
            except (StorageError, KeyError):
                found.append(None)
        return [None if inner is None else _Reader(self._disk, inner) for inner in found]

    async def missing(self, keys: Sequence[str]) -> frozenset[str]:
        await self._step("look")
        return await self._objects.missing(keys)

    async def stored_at(self, key: str) -> float:
        await self._step("stored at")
        return await self._objects.stored_at(key)

    async def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self._step("remove")
            await self._objects.remove([key])

    def keys(self) -> AbstractAsyncContextManager[AsyncIterator[Sequence[str]]]:
        return self._objects.keys()

    async def aclose(self) -> None:
        pass


class _Index:
    """`MemoryIndex` as a database in another thread: one transaction happens wholly or not."""

    def __init__(self, machine: Machine, inner: MemoryIndex) -> None:
        self._machine = machine
        self._inner = inner
        self._step = machine.asynchronous_step

    async def add(
        self,
        records: Sequence[InstanceRecord],
        *,
        replace: bool = False,
        one_patient: bool = False,
        unless_same: bool = False,
    ) -> Sequence[AddResult]:
        await self._step(f"index adds {len(records)}")
        added = await self._inner.add(
            records,
            replace=replace,
            one_patient=one_patient,
            unless_same=unless_same,
        )
        self._machine.step("index has added")
        await self._machine.world.hop()
        # Harsher than the port: it says that it failed, and has done it.
        self._machine.fail("index answers")
        return added

    async def remove(self, sop_instance_uids: Sequence[str]) -> None:
        await self._step("index removes")
        await self._inner.remove(sop_instance_uids)

    async def get(self, sop_instance_uids: Sequence[str]) -> Mapping[str, StoredInstance]:
        await self._step("index gets")
        return await self._inner.get(sop_instance_uids)

    async def records(self, sop_instance_uids: Sequence[str]) -> Mapping[str, InstanceRecord]:
        await self._step("index gets records")
        return await self._inner.records(sop_instance_uids)

    def rebuilding(self) -> AbstractAsyncContextManager[MemoryIndex]:
        return self._inner.rebuilding()

    @asynccontextmanager
    async def find(self, query: Query) -> AsyncIterator[AsyncIterator[Sequence[Mapping[int, str]]]]:
        await self._step("index finds")
        async with (
            self._inner.find(query) as blocks,
            aclosing(self._pieces(blocks)) as pieces,
        ):
            yield pieces

    async def find_page(self, query: Query, page: Page) -> FoundPage:
        await self._step("index finds a page")
        return await self._inner.find_page(query, page)

    @asynccontextmanager
    async def instances(
        self, query: Query | None = None
    ) -> AsyncIterator[AsyncIterator[Sequence[StoredInstance]]]:
        await self._step("index lists")
        async with (
            self._inner.instances(query) as blocks,
            aclosing(self._pieces(blocks)) as pieces,
        ):
            yield pieces

    async def _pieces(
        self, blocks: AsyncIterator[Sequence[Any]]
    ) -> AsyncGenerator[Sequence[Any], None]:
        """In blocks of any size, as a database has them ready."""
        async for block in blocks:
            start = 0
            while start < len(block):
                await self._machine.world.hop()
                count = self._machine.world.random.randint(1, len(block))
                yield block[start : start + count]
                start += count

    async def sync(self) -> None:
        await self._step("index syncs")

    async def statistics(self) -> IndexStatistics:
        return await self._inner.statistics()

    async def check(self) -> Sequence[str]:
        return await self._inner.check()

    async def aclose(self) -> None:
        pass


# -- On files -------------------------------------------------------------------------


class _Files(ModelFiles):
    """Real files; remembers what is open, and what is gone stays the inode that it was."""

    def __init__(self, root: Path, machine: Machine) -> None:
        super().__init__(root)
        self._machine = machine
        self._graves = root.with_name(f"{root.name}-graves")
        self._graves.mkdir()
        self._buried = 0
        if (root / "objects").exists():
            self._adopt(root)
        self.fail = self._may_fail

    def _adopt(self, root: Path) -> None:
        """All that is there is durable: the power came back."""
        for folder, _, names in os.walk(root):
            super().sync_folder(folder)
            for name in names:
                path = Path(folder, name)
                self._durable_content[path.stat().st_ino] = path.read_bytes()
        self.steps.clear()

    def _may_fail(self, number: int, name: str) -> None:
        if not self._machine.world.calm or self._machine.crashed:
            self._machine.step(name)
            if self._machine.fails(name):
                code = self._machine.world.random.choice((errno.EIO, errno.ENOSPC))
                raise OSError(code, os.strerror(code))

    @property
    def open(self) -> set[int]:
        """Descriptors that are open."""
        return self._open

    def close(self, descriptor: int) -> None:
        # Without a pin: what is gone is in a grave.
        self._open.discard(descriptor)
        OsFileSystem.close(self, descriptor)

    def unlink(self, path: str) -> None:
        if os.path.exists(path):
            self._buried += 1
            os.link(path, self._graves / str(self._buried))
        super().unlink(path)


class FileDisk(Disk):
    """A folder.  After a crash the next process finds what it held, or after a power failure
    what was durable; then in another folder.

    Args:
        power: None while the power stays; else whether unsynced names survive a failure.
    """

    def __init__(self, machine: Machine, *, power: bool | None, memory_per_object: int) -> None:
        super().__init__(machine)
        self._power = power
        self._memory_per_object = memory_per_object
        self._life = ExitStack()
        # There are many restarts, and each makes its own.
        self._life.enter_context(patch.object(journal, "SEGMENT_BYTES", 1 << 18))
        folder = _MEMORY_FOLDER if os.path.isdir(_MEMORY_FOLDER) else None
        self._folder = Path(self._life.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        self._roots = 1
        self._root = self._folder / "1"
        self._root.mkdir()
        self._files = _Files(self._root, machine)
        self._store: Any = None

    async def start(self) -> tuple[ObjectStore, Index]:
        self._store = await open_file_store(
            self._root, files=self._files, memory_per_object=self._memory_per_object
        )
        self._store.lock()
        return self._store, _Index(self.machine, self._index)

    async def end(self) -> None:
        if self._store is not None:
            await self._store.aclose()
            self._store = None

    async def stop(self) -> None:
        with suppress(Crash):
            await self.end()
        self._store = None
        if not self.machine.crashed:
            return
        for descriptor in list(self._files.open):
            self._files.close(descriptor)
        if self._power is not None:
            self._roots += 1
            root = self._folder / str(self._roots)
            self._files.after_power_failure(root, names_survive=self._power)
            self._root = root
            self._files = _Files(root, self.machine)
        self._files.crashed = False

    def left_over(self) -> list[str]:
        staged = os.listdir(self._root / "staging")
        found = [f"{len(self._files.open)} descriptors"] if self._files.open else []
        # A name that could not be removed is left to the next start.
        if staged and not self.machine.failures:
            found.append(f"{len(staged)} staged files")
        if (records := os.listdir(self._root / "journal")) and not self.machine.failures:
            found.append(f"{len(records)} journals")
        return found

    def close(self) -> None:
        self._life.close()
