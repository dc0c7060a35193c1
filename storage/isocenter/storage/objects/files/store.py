"""File store: objects staged, journaled, named, and synced many at a time.

Three folders under the root, on one file system::

    objects/<key>   what is published
    staging/        what is on its way, of larger objects
    journal/        what was published last (`isocenter.storage.objects.files.journal`)

An object is published in this order, and each step waits for the one before:

1. a larger one is written to a staged file; that is synced, then the staging folder;
2. a record is written to the journal, and synced: one write for all that are published in one
   round.  Of a small object it holds the bytes, of a larger one the staged name;
3. the object gets its final name, which never replaces another object: a small one is
   written there, a larger one gets a second name by ``link(2)``.  None of it is synced.

Then the index takes it up.  `settle` syncs files and names, many at once, in no hurry; from then
on the record counts no more.  After a crash `recover` asks the index of each record: of what
it knows, it makes what is missing of file and name; what it does not know is removed.  A
final name never outlives a power failure without its record, since it is made when that is
durable.

Blocking calls run in worker threads.  A hop there and back costs more than writing a
small object, hence small ones wait in memory and a batch is published in few hops.
"""

from __future__ import annotations

import errno
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Final, Literal, TypeVar

import trio

from isocenter.services.archive.ports import StagedObject, StoredInstance
from isocenter.services.errors import StorageError
from isocenter.storage.objects.files.buffers import BufferPool
from isocenter.storage.objects.files.directory import lock_folder, prepare_folder
from isocenter.storage.objects.files.file_system import FileSystem, OsFileSystem, storage_error
from isocenter.storage.objects.files.journal import Journal
from isocenter.storage.objects.files.object_tree import SYNCED_ALONE, ObjectTree
from isocenter.storage.objects.files.reader import FileReader
from isocenter.storage.objects.files.recent import RecentFiles
from isocenter.storage.objects.files.recovery import damaged_segments, recover, salvage
from isocenter.storage.objects.files.removal_hold import RemovalHold
from isocenter.storage.objects.files.staging import WRITERS, StagedFile, StagingArea
from isocenter.storage.objects.files.threads import run_in_thread
from isocenter.storage.objects.keys import check_object_key

Durability = Literal["full", "relaxed"]

#: Objects up to this size wait in memory and are written at once.  A CT or MR image has
#: half a MiB; larger ones pay one thread hop (about 0.2 ms) per so many bytes.
SMALL_OBJECT: Final = 1 << 20
#: Worker threads of one store that read.
READERS: Final = 16
#: Objects above `SMALL_BYTES` that are held in memory while they are read; more are not read ahead.
MOST_AHEAD: Final = 64
#: How often a folder that vanishes under us (another process prunes) is made again.
FOLDER_ATTEMPTS: Final = 16

_T = TypeVar("_T")
_Published = StorageError | FileExistsError | None
_Job = tuple[StagedFile, str]


def _jobs(staged: Sequence[tuple[StagedObject, str]]) -> list[_Job]:
    jobs: list[_Job] = []
    for one, key in staged:
        check_object_key(key)
        if not isinstance(one, StagedFile):
            raise TypeError("this object was staged by another store")
        jobs.append((one, key))
    return jobs


class FileStore:
    """Keeps objects as files below one folder.  Made by `open_file_store`.

    Args:
        root: an absolute path.
        durability: with ``full`` an object that counts as published survives a power failure;
            ``relaxed`` syncs nothing and leaves that to the operating system: a crash of the
            process loses nothing, a power failure the objects of the last half minute.
        files: the operations of the file system.
        links: whether the file system has hard links.
    """

    def __init__(
        self,
        root: str,
        *,
        durability: Durability = "full",
        files: FileSystem | None = None,
        links: bool = True,
        memory_per_object: int = SMALL_OBJECT,
    ) -> None:
        self.root = root
        self.files: FileSystem = files if files is not None else OsFileSystem()
        self.tree = ObjectTree(os.path.join(root, "objects"), self.files)
        self.is_durable = durability == "full"
        self.links = links
        self.journal_folder = os.path.join(root, "journal")
        self.staging_folder = os.path.join(root, "staging")
        self._journal = Journal(self.journal_folder, self.files, is_durable=self.is_durable)
        self._area = StagingArea(
            self.staging_folder,
            self.files,
            self._journal,
            is_durable=self.is_durable,
            memory_per_object=memory_per_object,
        )
        self._readers = trio.CapacityLimiter(READERS)
        #: For what is read to be sent; apart from those of what is being received.
        self._buffers = BufferPool()
        self._recent = RecentFiles()
        self._lock_descriptor: int | None = None
        self.hold = RemovalHold(root)

    @property
    def memory_per_object(self) -> int:
        return self._area.memory_per_object

    # -- In ---------------------------------------------------------------------------

    async def stage(self, size_hint: int | None = None) -> StagedFile:
        return StagedFile(self._area)

    async def publish(self, staged: Sequence[tuple[StagedObject, str]]) -> Sequence[_Published]:
        jobs = _jobs(staged)
        alone, beside = self._to_write(jobs)
        if len(beside) <= 1:
            return await self._area.run_in_writer_thread(lambda: self._write_and_publish(jobs))
        outcomes: list[_Published] = [None] * len(jobs)

        async def play(places: Sequence[int]) -> None:
            def write() -> None:
                for place in places:
                    outcomes[place] = self._attempt(self._write, *jobs[place])

            await self._area.run_in_writer_thread(write)

        # Dealt out so that a large object does not keep the ones after it waiting.
        hands = [beside[start::WRITERS] for start in range(min(WRITERS, len(beside)))]
        hands[-1] += alone
        # A half-published batch would have no owner: a cancellation has to wait.
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for hand in hands:
                    nursery.start_soon(play, hand)
            outcomes = await self._area.run_in_writer_thread(lambda: self._publish(jobs, outcomes))
        return outcomes

    def publishing(
        self, staged: Sequence[tuple[StagedObject, str]]
    ) -> Callable[[], Sequence[_Published]] | None:
        jobs = _jobs(staged)
        if len(self._to_write(jobs)[1]) > 1:
            return None
        return lambda: self._write_and_publish(jobs)

    def _to_write(self, jobs: Sequence[_Job]) -> tuple[list[int], list[int]]:
        """Places of those that take no time to write, and of those that do.

        Threads wait for disks side by side; without syncs there is little to wait for.
        """
        beside = [
            place for place, (one, _) in enumerate(jobs) if self.is_durable and one.waits_for_disk
        ]
        return [place for place in range(len(jobs)) if place not in beside], beside

    def _write_and_publish(self, jobs: list[_Job]) -> list[_Published]:
        return self._publish(jobs, [self._attempt(self._write, *job) for job in jobs])

    def _write(self, staged: StagedFile, key: str) -> None:
        """Write and sync the staged file of a larger object."""
        target = self.tree.path_of(key)
        if os.path.lexists(target):  # most often a whole study sent again: do not write it
            raise FileExistsError(target)
        if not staged.is_small:
            staged.flush(sync=self.is_durable)
            staged.close()

    def _publish(self, jobs: list[_Job], outcomes: list[_Published]) -> list[_Published]:
        """Note in the journal what was written, then give it its final names."""
        waiting = [place for place, outcome in enumerate(outcomes) if outcome is None]
        if not waiting:
            return outcomes
        try:
            larger = [place for place in waiting if not jobs[place][0].is_small]
            if self.is_durable and not all(jobs[place][0].has_durable_name for place in larger):
                self.files.sync_folder(self.staging_folder)
            segments = self._journal.append(
                [jobs[place][0].record(jobs[place][1]) for place in waiting]
            )
        except OSError as error:
            failure = storage_error("write the journal", error)
            for place in waiting:
                jobs[place][0].drop()
                outcomes[place] = failure
            return outcomes
        for place, segment in zip(waiting, segments, strict=True):
            staged, key = jobs[place]
            staged.recorded(segment)
            outcomes[place] = self._attempt(self._name, staged, key)
        if not self.links:
            self._sync_renamed(jobs, outcomes)
        return outcomes

    @staticmethod
    def _attempt(
        step: Callable[[StagedFile, str], None], staged: StagedFile, key: str
    ) -> _Published:
        try:
            step(staged, key)
        except FileExistsError:
            return FileExistsError("the object key is taken")
        except StorageError as error:
            staged.drop()
            return error
        except OSError as error:
            staged.drop()
            return storage_error("publish an object", error)
        return None

    def _name(self, staged: StagedFile, key: str) -> None:
        target = self.tree.path_of(key)
        for _ in range(FOLDER_ATTEMPTS):
            try:
                if staged.is_small:
                    staged.write_to(target)
                elif self.links:
                    self.files.link(staged.path, target)
                else:
                    # Two *processes* that publish one key at the same moment are not told
                    # apart here; the later one wins.
                    self.files.rename(staged.path, target)
            except FileNotFoundError:
                self.tree.make(os.path.dirname(target))
            else:
                staged.published(key, is_renamed=not staged.is_small and not self.links)
                return
        # Another process prunes the folder each time.
        raise OSError(errno.ENOENT, "the object's folder is removed again and again")

    def _sync_renamed(self, jobs: list[_Job], outcomes: list[_Published]) -> None:
        """Where a larger object loses one name for the other, a power failure could take both."""
        if not self.is_durable:
            return
        for place, (staged, key) in enumerate(jobs):
            if outcomes[place] is not None or staged.is_to_be_synced:
                continue
            try:
                self.tree.sync([key])
            except OSError as error:
                self._unpublish(key)
                staged.drop()
                outcomes[place] = storage_error("make a folder durable", error)

    async def prepare_always(self) -> None:
        await self._area.prepare_always()

    async def settle(self, staged: Sequence[StagedObject]) -> None:
        ours = [one for one in staged if isinstance(one, StagedFile)]
        if ours:
            await self._area.run_in_writer_thread(lambda: self._settle(ours))

    def _settle(self, staged: list[StagedFile]) -> None:
        if self.is_durable:
            try:
                self.tree.sync(
                    [one.key for one in staged if one.key],
                    files=[one.key for one in staged if one.key and one.is_to_be_synced],
                )
            except OSError as error:
                # Their records stay: the next start makes files of them.
                raise storage_error("make objects durable", error) from error
        for one in staged:
            one.drop()
            if one.key and one.is_past_cache:
                self._recent.add(self.tree.path_of(one.key), one.written)
        self._recent.warm(lambda: not self._area.larger)
        if self.is_durable and len(staged) > SYNCED_ALONE:
            with suppress(OSError):  # whoever needs it tries again, and says so
                self._journal.prepare()

    async def sync(self, keys: Sequence[str]) -> None:
        """See `ObjectStore.sync`; what is durable is so since it was published."""
        for key in keys:
            check_object_key(key)
        if not self.is_durable and keys:
            await self._area.run_in_writer_thread(lambda: self._sync(keys))

    def _sync(self, keys: Sequence[str]) -> None:
        try:
            self.tree.sync(keys, files=keys)
        except OSError as error:
            raise storage_error("make objects durable", error) from error

    # -- Out --------------------------------------------------------------------------

    async def open(self, key: str) -> FileReader:
        check_object_key(key)
        return await self.open_file(self.tree.path_of(key))

    async def open_ahead(
        self, keys: Sequence[str], *, reads: bool = True
    ) -> Sequence[FileReader | None]:
        def open_all() -> list[FileReader | None]:
            # The disk fetches all of them, while the first is waited for.
            opened = [self._announced(key) for key in keys]
            return [self._read_ahead(reader) for reader in opened] if reads else opened

        return await run_in_thread(open_all, self._readers)

    def _announced(self, key: str) -> FileReader | None:
        try:
            check_object_key(key)
            reader = FileReader.open(
                self.tree.path_of(key), self._readers, self._buffers, reads_head=False
            )
        except (KeyError, ValueError, StorageError):
            return None
        reader.announce()
        return reader

    def _read_ahead(self, reader: FileReader | None) -> FileReader | None:
        if reader is not None:
            try:
                reader.read_ahead(holds=self._buffers.in_use < MOST_AHEAD)
            except OSError:
                reader.close()
                return None
        return reader

    async def open_file(self, path: str) -> FileReader:
        """As `open`, by the path of a file of ours."""
        call = partial(FileReader.open, path, self._readers, self._buffers)
        return await run_in_thread(call, self._readers)

    async def missing(self, keys: Sequence[str]) -> frozenset[str]:
        for key in keys:
            check_object_key(key)

        def look() -> frozenset[str]:
            found = set()
            for key in keys:
                try:
                    os.stat(self.tree.path_of(key))
                except (FileNotFoundError, NotADirectoryError):
                    found.add(key)
                except OSError as error:
                    raise storage_error("look at an object", error) from error
            return frozenset(found)

        return await run_in_thread(look, self._readers)

    async def stored_at(self, key: str) -> float:
        check_object_key(key)
        try:
            status = await trio.to_thread.run_sync(
                os.stat, self.tree.path_of(key), limiter=self._readers
            )
        except (FileNotFoundError, NotADirectoryError) as error:
            raise KeyError("no such object") from error
        except OSError as error:
            raise storage_error("look at an object", error) from error
        return status.st_mtime

    async def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            check_object_key(key)

        def remove_all() -> None:
            failure: OSError | None = None
            is_held = self.hold.is_taken()
            if not is_held:
                self.hold.clear()
            for key in keys:
                try:
                    if is_held:
                        self._put_aside(key)
                    self.tree.remove(key)
                except OSError as error:
                    failure = error
            if failure is not None:
                raise storage_error("remove an object", failure) from failure

        await self._area.run_in_writer_thread(remove_all)

    def _put_aside(self, key: str) -> None:
        """For a backup that is being made, and needs the file."""
        with suppress(FileNotFoundError, NotADirectoryError):
            self.hold.put_aside(key, self.tree.path_of(key))

    def remove_durably(self, keys: Sequence[str]) -> None:
        """In a worker thread: remove objects so that no power failure brings them back.

        Raises:
            OSError: some may be there still.
        """
        folders: set[str] = set()
        is_held = self.hold.is_taken()
        for key in keys:
            if is_held:
                self._put_aside(key)
            self.tree.remove(key)
            folders.add(os.path.dirname(self.tree.path_of(key)))
        if not self.is_durable:
            return
        self.tree.sync_folders(folders)

    def _unpublish(self, key: str) -> bool:
        """Take a name back after a failure; False: that failed as well, `recover` has to do it."""
        try:
            self.tree.remove(key)
        except OSError:
            return False
        return True

    @asynccontextmanager
    async def keys(self) -> AsyncIterator[AsyncIterator[Sequence[str]]]:
        """All published keys, in blocks; other files below ``objects`` are passed over."""
        walk = self.tree.walk()

        async def blocks() -> AsyncGenerator[Sequence[str], None]:
            while block := await trio.to_thread.run_sync(
                lambda: next(walk, None), limiter=self._readers
            ):
                yield block

        try:
            async with aclosing(blocks()) as iterator:
                yield iterator
        finally:
            walk.close()

    # -- Start and end ----------------------------------------------------------------

    async def recover(
        self,
        look_up: Callable[[Sequence[str]], Awaitable[Sequence[StoredInstance | None]]],
    ) -> int:
        await self._area.run_in_writer_thread(self.hold.clear)
        return await recover(self, look_up)

    async def salvage(self, other_key: Callable[[str], str]) -> None:
        await salvage(self, other_key)

    async def check(self) -> Sequence[str]:
        return await self._area.run_in_writer_thread(lambda: damaged_segments(self.journal_folder))

    async def run_in_writer_thread(self, call: Callable[[], _T]) -> _T:
        """Run *call* among the threads that write."""
        return await self._area.run_in_writer_thread(call)

    def lock(self, *, shared: bool = False) -> None:
        """Own the folder: of all processes on all machines only one server may.

        The lock ends with the process, or with `aclose`.

        Args:
            shared: for the worker processes of one server; nobody owns the folder while one lives.

        Raises:
            StorageError: another server has it.
        """
        self._lock_descriptor = lock_folder(self.root, shared=shared)

    async def aclose(self) -> None:
        try:
            await self._area.run_in_writer_thread(self._close)
        finally:
            if self._lock_descriptor is not None:
                os.close(self._lock_descriptor)
                self._lock_descriptor = None

    def _close(self) -> None:
        self._area.close()
        self._journal.close()


async def open_file_store(
    root: str | os.PathLike[str],
    *,
    durability: Durability = "full",
    files: FileSystem | None = None,
    memory_per_object: int = SMALL_OBJECT,
) -> FileStore:
    """A store on *root*, which is made when it is missing.

    Raises:
        StorageError: the folder cannot be made or written; the message says what to do.
    """
    path, links = await trio.to_thread.run_sync(prepare_folder, os.fspath(root))
    return FileStore(
        path,
        durability=durability,
        files=files,
        links=links,
        memory_per_object=memory_per_object,
    )
