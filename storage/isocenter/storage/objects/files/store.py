"""Objects as files: staged, synced, linked under their name.

Two folders under the root, on one file system::

    objects/<key>                 what is published
    staging/<key with ,>+<token>  what is on its way; the name tells `recover` the key

An object is published in this order, and each step waits for the one before:

1. its bytes are written under a staged name; the file is synced, then the staging folder;
2. ``link(2)`` gives it the final name, which never replaces another object;
3. every folder that got a new name is synced.

Then the index takes it up, and `settle` drops the staged name, in no hurry: a
staged name of an indexed object means nothing, one of an unknown object means
that the crash came between 2 and the index, and `recover` takes the object back.
Whatever is cut short earlier never had a final name.

The staging folder is synced before the link, so that no final name outlives a power
failure without its staged one.  Journals that keep names in order (ext4, XFS, Btrfs, APFS)
would see to that by themselves, and on them that sync costs next to nothing; POSIX does not.

Blocking calls run in worker threads.  A hop there and back costs more than writing a
small object, hence small ones wait in memory and a batch is published in few hops.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Final, Literal

import trio

from isocenter.services.archive.ports import StagedObject
from isocenter.services.errors import StorageError
from isocenter.storage.objects.files.buffers import BufferPool
from isocenter.storage.objects.files.directory import prepare_folder
from isocenter.storage.objects.files.file_system import Files, SystemFiles
from isocenter.storage.objects.files.reader import FileReader
from isocenter.storage.objects.files.removal_hold import RemovalHold
from isocenter.storage.objects.files.staging import WRITERS, StagedFile, StagingArea, storage_error
from isocenter.storage.objects.keys import check_object_key, is_key_part

Durability = Literal["full", "relaxed"]

#: Objects up to this size wait in memory and are written at once.  A CT or MR image has
#: half a MiB; larger ones pay one thread hop (about 0.2 ms) per so many bytes.
SMALL_OBJECT: Final = 1 << 20
#: Worker threads of one store that read.
READERS: Final = 16
#: Keys in one block of `FileStore.keys` and of a question to the index.
KEYS_PER_BLOCK: Final = 500
#: Folders whose own name is remembered as durable; forgotten all at once beyond that.
KNOWN_FOLDERS: Final = 8192
#: How often a folder that vanishes under us (another process prunes) is made again.
FOLDER_ATTEMPTS: Final = 16

_Published = StorageError | FileExistsError | None
_Job = tuple[StagedFile, str]


class FileStore:
    """Keeps objects as files below one folder.  Made by `open_file_store`.

    Args:
        root: an absolute path.
        durability: ``full`` syncs files and folders before an object counts as published;
            ``relaxed`` leaves that to the operating system: a crash of the process loses
            nothing, a power failure the objects of the last half minute.
        files: the operations of the file system.
        links: whether the file system has hard links.
    """

    def __init__(
        self,
        root: str,
        *,
        durability: Durability = "full",
        files: Files | None = None,
        links: bool = True,
        memory_per_object: int = SMALL_OBJECT,
    ) -> None:
        self.root = root
        self._objects = os.path.join(root, "objects")
        self.files: Files = files if files is not None else SystemFiles()
        self.is_durable = durability == "full"
        self.links = links
        self._area = StagingArea(
            os.path.join(root, "staging"),
            self.files,
            is_durable=self.is_durable,
            memory_per_object=memory_per_object,
        )
        self._readers = trio.CapacityLimiter(READERS)
        #: For what is read to be sent; apart from those of what is being received.
        self._buffers = BufferPool()
        #: Folders below ``objects`` whose own name was synced by us and not removed since.
        self._known_folders: set[str] = set()
        self._lock_descriptor: int | None = None
        self.hold = RemovalHold(root)

    @property
    def memory_per_object(self) -> int:
        return self._area.memory_per_object

    # -- In ---------------------------------------------------------------------------

    async def stage(self, size_hint: int | None = None) -> StagedFile:
        return StagedFile(self._area)

    async def publish(self, staged: Sequence[tuple[StagedObject, str]]) -> Sequence[_Published]:
        jobs: list[_Job] = []
        for one, key in staged:
            check_object_key(key)
            if not isinstance(one, StagedFile):
                raise TypeError("this object was staged by another store")
            jobs.append((one, key))
        # Threads wait for disks side by side; without syncs there is little to wait for.
        if len(jobs) <= 1 or not self.is_durable:
            return await self._area.in_thread(lambda: self._name_all(jobs, self._write_all(jobs)))
        # Dealt out so that a large object does not keep the ones after it waiting.
        hands = [jobs[start::WRITERS] for start in range(min(WRITERS, len(jobs)))]
        outcomes: list[_Published] = [None] * len(jobs)

        async def play(start: int, hand: list[_Job]) -> None:
            outcomes[start::WRITERS] = await self._area.in_thread(partial(self._write_all, hand))

        # A half-published batch would have no owner: a cancellation has to wait.
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for start, hand in enumerate(hands):
                    nursery.start_soon(play, start, hand)
            outcomes = await self._area.in_thread(lambda: self._name_all(jobs, outcomes))
        return outcomes

    def _write_all(self, jobs: list[_Job]) -> list[_Published]:
        """Write each under a staged name that tells its key, and sync its content."""
        return [self._attempt(self._write, *job) for job in jobs]

    def _name_all(self, jobs: list[_Job], outcomes: list[_Published]) -> list[_Published]:
        """Give each that was written its final name, durably.

        Its staged name is durable before: whatever then has a final name after a power failure
        has the other one as well, and `recover` can tell what it is.
        """
        if self.is_durable and None in outcomes:
            try:
                self.files.sync_folder(self._area.folder)
            except OSError as error:
                failure = storage_error("make the staging folder durable", error)
                for place, (staged, _) in enumerate(jobs):
                    if outcomes[place] is None:
                        staged.drop()
                        outcomes[place] = failure
        outcomes = [
            self._attempt(self._name, *job) if outcome is None else outcome
            for job, outcome in zip(jobs, outcomes, strict=True)
        ]
        return self._sync_names(jobs, outcomes)

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

    def path_of(self, key: str) -> str:
        return os.path.join(self._objects, *key.split("/"))

    def _write(self, staged: StagedFile, key: str) -> None:
        target = self.path_of(key)
        if os.path.lexists(target):  # most often a whole study sent again: do not write it
            raise FileExistsError(target)
        path = staged.rename_for(key)
        staged.flush(sync=self.is_durable)
        staged.close()
        if not self.links:
            # The staged name will be renamed away: an empty file takes its part for `recover`.
            with suppress(FileExistsError):
                self.files.close(self.files.create(self._area.marker_of(path)))

    def _name(self, staged: StagedFile, key: str) -> None:
        target = self.path_of(key)
        for _ in range(FOLDER_ATTEMPTS):
            try:
                if self.links:
                    self.files.link(staged.path, target)
                    staged.publish()
                else:
                    # Two *processes* that publish one key at the same moment are not told
                    # apart here; the later one wins.
                    self.files.rename(staged.path, target)
                    staged.publish(self._area.marker_of(staged.path))
            except FileNotFoundError:
                self.make_folders(os.path.dirname(target))
            else:
                return
        # Another process prunes the folder each time.
        raise OSError(errno.ENOENT, "the object's folder is removed again and again")

    def make_folders(self, folder: str) -> None:
        missing = []
        while folder != self._objects and not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            # Another process may have removed one that was known to be durable.
            self._known_folders.discard(folder)
            try:
                self.files.make_folder(folder)
            except FileExistsError:
                if not os.path.isdir(folder):
                    raise NotADirectoryError(
                        errno.ENOTDIR, "a file is where the object's folder belongs"
                    ) from None
            except FileNotFoundError:
                return  # pruned under us: the caller tries again

    def _sync_names(self, jobs: list[_Job], outcomes: list[_Published]) -> list[_Published]:
        """Make the new names durable, each folder once; objects whose folder fails are undone."""
        if not self.is_durable:
            return outcomes
        folders: dict[str, OSError | None] = {}
        ancestries: list[list[str]] = []
        for (_, key), outcome in zip(jobs, outcomes, strict=True):
            ancestries.append([] if outcome is not None else self.folders_to_sync(key))
            folders.update(dict.fromkeys(ancestries[-1]))
        for folder in sorted(folders, key=len, reverse=True):
            try:
                self.files.sync_folder(folder)
            except OSError as error:
                folders[folder] = error
        if len(self._known_folders) > KNOWN_FOLDERS:
            self._known_folders.clear()
        for place, (staged, key) in enumerate(jobs):
            ancestry = ancestries[place]
            failure = next((folders[f] for f in ancestry if folders[f] is not None), None)
            if failure is not None:
                if self._unpublish(key):
                    staged.drop()
                outcomes[place] = storage_error("make a folder durable", failure)
            elif ancestry:
                self._known_folders.update(ancestry[:-1])
        return outcomes

    def folders_to_sync(self, key: str) -> list[str]:
        """The object's folder, then each ancestor whose entry for the one before may be new.

        Asked after the link: a folder with an object in it is not pruned, and pruning forgets
        it here first, so what is known now stays true.
        """
        folder = os.path.join(self._objects, *key.split("/")[:-1])
        folders = [folder]
        while folder != self._objects and folder not in self._known_folders:
            folder = os.path.dirname(folder)
            folders.append(folder)
        return folders

    async def settle(self, staged: Sequence[StagedObject]) -> None:
        ours = [one for one in staged if isinstance(one, StagedFile)]
        if ours:
            await self._area.in_thread(lambda: self._settle(ours))

    def _settle(self, staged: list[StagedFile]) -> None:
        for one in staged:
            one.drop()

    # -- Out --------------------------------------------------------------------------

    async def open(self, key: str) -> FileReader:
        check_object_key(key)
        return await self.open_file(self.path_of(key))

    async def open_file(self, path: str) -> FileReader:
        """As `open`, by the path of a file of ours."""
        return await trio.to_thread.run_sync(
            FileReader.open, path, self._readers, self._buffers, limiter=self._readers
        )

    async def stored_at(self, key: str) -> float:
        check_object_key(key)
        try:
            status = await trio.to_thread.run_sync(
                os.stat, self.path_of(key), limiter=self._readers
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
                    self.remove_one(key)
                except OSError as error:
                    failure = error
            if failure is not None:
                raise storage_error("remove an object", failure) from failure

        await self._area.in_thread(remove_all)

    def remove_one(self, key: str) -> None:
        parts = key.split("/")
        with suppress(FileNotFoundError, NotADirectoryError):
            self.files.unlink(os.path.join(self._objects, *parts))
        # Empty folders go too, from the innermost outwards.
        for depth in range(len(parts) - 1, 0, -1):
            folder = os.path.join(self._objects, *parts[:depth])
            self._known_folders.discard(folder)
            try:
                self.files.remove_folder(folder)
            except OSError:
                return

    def _put_aside(self, key: str) -> None:
        """For a backup that is being made, and needs the file."""
        with suppress(FileNotFoundError, NotADirectoryError):
            self.hold.put_aside(key, self.path_of(key))

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
            self.remove_one(key)
            folders.add(os.path.dirname(self.path_of(key)))
        if not self.is_durable:
            return
        while folders:
            folder = folders.pop()
            try:
                self.files.sync_folder(folder)
            except FileNotFoundError:  # removed as well: then that has to last
                folders.add(os.path.dirname(folder))

    def _unpublish(self, key: str) -> bool:
        """Take a name back after a failure; False: that failed as well, `recover` has to do it."""
        try:
            self.remove_one(key)
        except OSError:
            return False
        return True

    @asynccontextmanager
    async def keys(self) -> AsyncIterator[AsyncIterator[Sequence[str]]]:
        """All published keys, in blocks; other files below ``objects`` are passed over."""
        walk = self._walk()

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

    def _walk(self) -> Generator[list[str], None, None]:
        block: list[str] = []
        folders = [("", self._objects)]
        try:
            while folders:
                prefix, folder = folders.pop()
                with suppress(FileNotFoundError), os.scandir(folder) as entries:
                    for entry in entries:
                        if not is_key_part(entry.name):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            folders.append((f"{prefix}{entry.name}/", entry.path))
                        elif entry.is_file(follow_symlinks=False):
                            block.append(prefix + entry.name)
                            if len(block) == KEYS_PER_BLOCK:
                                yield block
                                block = []
        except OSError as error:
            raise storage_error("list the objects", error) from error
        if block:
            yield block

    # -- Start and end ----------------------------------------------------------------

    async def recover(
        self, is_indexed: Callable[[Sequence[str]], Awaitable[Sequence[bool]]]
    ) -> int:
        await self._area.in_thread(self.hold.clear)
        names = await self._area.in_thread(self._staged_names)
        undone = 0
        for start in range(0, len(names), KEYS_PER_BLOCK):
            block = names[start : start + KEYS_PER_BLOCK]
            published = await self._area.in_thread(partial(self._published_as, block))
            asked = [key for key in published if key is not None]
            known = dict(zip(asked, await is_indexed(asked), strict=True)) if asked else {}
            unknown = [key for key in asked if not known[key]]
            undone += sum(1 for key in published if key is None or not known[key])
            await self._area.in_thread(partial(self._undo, unknown, block))
        return undone

    def _staged_names(self) -> list[str]:
        try:
            return os.listdir(self._area.folder)
        except OSError as error:
            raise storage_error("list the staging folder", error) from error

    def _published_as(self, names: list[str]) -> list[str | None]:
        """For each staged name the key under which the same file is published, if it is."""
        return [self._key_of(name) for name in names]

    def _key_of(self, name: str) -> str | None:
        key = self._area.key_of(name)
        if key is None:
            return None
        try:
            final = os.lstat(os.path.join(self._objects, *key.split("/")))
            staged = os.lstat(os.path.join(self._area.folder, name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error("look at a staged object", error) from error
        # Another object may have the key: an older one that this one must not replace.
        return key if self._area.is_marker(name) or os.path.samestat(final, staged) else None

    def _undo(self, keys: list[str], names: list[str]) -> None:
        try:
            self.remove_durably(keys)
            for name in names:
                with suppress(FileNotFoundError):
                    self.files.unlink(os.path.join(self._area.folder, name))
        except OSError as error:
            raise storage_error("clear the staging folder", error) from error

    def lock(self, *, shared: bool = False) -> None:
        """Own the folder: of all processes on all machines only one server may.

        The lock ends with the process, or with `aclose`.

        Args:
            shared: for the worker processes of one server; nobody owns the folder while one lives.

        Raises:
            StorageError: another server has it.
        """
        try:
            import fcntl
        except ImportError:
            raise StorageError(
                f"the data directory {self.root} cannot be locked against a second server: this "
                "system has no POSIX file locks; run the archive on Linux or another POSIX "
                "system, or in memory (--data-dir :memory:)"
            ) from None
        path = os.path.join(self.root, "lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise storage_error(f"open the lock file {path}", error) from error
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise storage_error(f"lock {path}", error) from error
            raise StorageError(
                f"the data directory {self.root} is in use by another server; "
                "stop that one, or choose another directory with --data-dir"
            ) from error
        self._lock_descriptor = descriptor

    async def aclose(self) -> None:
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None


async def open_file_store(
    root: str | os.PathLike[str],
    *,
    durability: Durability = "full",
    files: Files | None = None,
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
