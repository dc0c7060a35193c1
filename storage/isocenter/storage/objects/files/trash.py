"""Deleted objects as files: `isocenter.services.archive.deletion.ports.TrashFiles`.

One folder for each deletion, beside that of the objects and on the same file system::

    trash/<deletion>/deletion.json         when, by whom, why, until when
    trash/<deletion>/<key with ,>          an object, the file that it was

An object changes its folder in this order, and each step waits for the one before:

1. ``link(2)`` gives it the other name, which never replaces another object;
2. the folder of the new name is synced;
3. the old name goes, and its folder is synced.

So at any moment it has one of its names at least, also on a disk that has lost its power.
Where there are no hard links it is renamed instead.

All of it happens under a lock that processes share: a name that one of them has just freed must
not be taken away a second time by another one, when a new object may have it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import trio

from isocenter.services.archive.deletion.ports import TrashContent
from isocenter.services.system.file_lock import open_lock_file, wait_for_lock
from isocenter.services.system.private_files import match_owner
from isocenter.storage.objects.files.file_system import storage_error
from isocenter.storage.objects.files.object_tree import KEYS_PER_BLOCK
from isocenter.storage.objects.files.reader import FileReader
from isocenter.storage.objects.files.store import FileStore
from isocenter.storage.objects.keys import check_object_key, is_key_part, is_object_key

_MANIFEST: Final = "deletion.json"
#: Of a manifest that is being written; it cannot be a key.
_NEW: Final = "+new"
_LOCK: Final = "trash.lock"
#: For the slashes of a key; it cannot be in one.
_SLASH_MARK: Final = ","
_LOCK_AGAIN_SECONDS: Final = 0.02

_T = TypeVar("_T")


class TrashFolder:
    """See `isocenter.services.archive.deletion.ports.TrashFiles`; *store* has the objects."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._files = store.files
        self._folder = os.path.join(store.root, "trash")
        self._limiter = trio.CapacityLimiter(1)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """See `TrashFiles.locked`."""
        path = os.path.join(self._store.root, _LOCK)
        try:
            descriptor = open_lock_file(path)
        except OSError as error:
            raise storage_error(f"open the lock file {path}", error) from error
        try:
            match_owner(Path(self._store.root), descriptor)  # the server has to open it, too
            await wait_for_lock(descriptor, look_seconds=_LOCK_AGAIN_SECONDS)
            yield
        finally:
            os.close(descriptor)

    async def begin(self, deletion_id: str, manifest: bytes) -> None:
        """See `TrashFiles.begin`."""
        await self._in_thread(
            "make a folder in the trash", lambda: self._begin(deletion_id, manifest)
        )

    def _begin(self, deletion_id: str, manifest: bytes) -> None:
        folder = self._folder_of(deletion_id)
        for path in (self._folder, folder):
            with suppress(FileExistsError):
                self._files.make_folder(path)
            self._sync(os.path.dirname(path))
        path = os.path.join(folder, _MANIFEST)
        if os.path.exists(path):
            return
        with suppress(FileNotFoundError):
            self._files.unlink(path + _NEW)
        descriptor = self._files.create(path + _NEW)
        try:
            self._files.write(descriptor, manifest)
            self._files.sync(descriptor)
        finally:
            self._files.close(descriptor)
        self._files.rename(path + _NEW, path)
        self._sync(folder)

    async def take(self, deletion_id: str, keys: Sequence[str]) -> Sequence[str]:
        """See `TrashFiles.take`."""
        return await self._in_thread(
            "move objects to the trash", lambda: self._take(deletion_id, keys)
        )

    def _take(self, deletion_id: str, keys: Sequence[str]) -> list[str]:
        moved, missing = [], []
        with suppress(FileExistsError):
            self._files.make_folder(self._folder_of(deletion_id))
        for key in keys:
            source, target = self._store.tree.path_of(key), self._path(deletion_id, key)
            if not os.path.lexists(source):
                if not os.path.lexists(target):
                    missing.append(key)
                continue
            if self._store.is_durable:
                # It may have come just now, and be on its way to the disk still; from now on
                # nobody has it in a journal.
                self._files.sync_file(source)
            if not os.path.lexists(target):
                if not self._store.links:
                    self._files.rename(source, target)
                    self._sync(self._folder_of(deletion_id))
                    self._sync(os.path.dirname(source))
                    continue
                self._files.link(source, target)
                moved.append(key)
            elif os.path.samefile(source, target):
                moved.append(key)
            # Otherwise the object was moved before, and another one has its name now.
        self._sync(self._folder_of(deletion_id))
        self._store.remove_durably(moved)
        return missing

    async def give_back(self, deletion_id: str, key: str, target: str) -> None:
        """See `TrashFiles.give_back`."""
        check_object_key(target)
        await self._in_thread(
            "move an object out of the trash", lambda: self._give_back(deletion_id, key, target)
        )

    def _give_back(self, deletion_id: str, key: str, target: str) -> None:
        source, path = self._path(deletion_id, key), self._store.tree.path_of(target)
        while True:
            if not self._store.links and os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            try:
                if self._store.links:
                    self._files.link(source, path)
                else:
                    self._files.rename(source, path)
                break
            except FileNotFoundError:
                if not os.path.lexists(source):
                    raise KeyError("no such object in the trash") from None
                self._store.tree.make(os.path.dirname(path))
        for folder in self._store.tree.folders_to_sync(target):
            self._sync(folder)

    async def take_again(self, deletion_id: str, key: str, target: str) -> None:
        """See `TrashFiles.take_again`."""
        await self._in_thread(
            "move an object back to the trash", lambda: self._take_again(deletion_id, key, target)
        )

    def _take_again(self, deletion_id: str, key: str, target: str) -> None:
        kept, path = self._path(deletion_id, key), self._store.tree.path_of(target)
        if not os.path.lexists(path):
            return
        if not os.path.lexists(kept):  # it was renamed
            self._files.rename(path, kept)
            self._sync(self._folder_of(deletion_id))
            self._sync(os.path.dirname(path))
        elif os.path.samefile(path, kept):
            self._store.remove_durably([target])

    async def remove(self, deletion_id: str, keys: Sequence[str]) -> None:
        """See `TrashFiles.remove`."""
        await self._in_thread("empty the trash", lambda: self._remove(deletion_id, keys))

    def _remove(self, deletion_id: str, keys: Sequence[str]) -> None:
        is_held = self._store.hold.is_taken()
        for key in keys:
            with suppress(FileNotFoundError):
                if is_held:  # a backup that is being made may need it
                    self._store.hold.put_aside(key, self._path(deletion_id, key))
                else:
                    self._files.unlink(self._path(deletion_id, key))
        with suppress(FileNotFoundError):
            self._sync(self._folder_of(deletion_id))

    async def end(self, deletion_id: str) -> None:
        """See `TrashFiles.end`."""
        await self._in_thread("empty the trash", lambda: self._end(deletion_id))

    def _end(self, deletion_id: str) -> None:
        folder = self._folder_of(deletion_id)
        try:
            names = set(os.listdir(folder))
        except FileNotFoundError:
            return
        ours = {_MANIFEST, _MANIFEST + _NEW}
        if names - ours:
            return
        for name in names & ours:
            self._files.unlink(os.path.join(folder, name))
        self._files.remove_folder(folder)
        self._sync(self._folder)

    async def open(self, deletion_id: str, key: str) -> FileReader:
        """See `TrashFiles.open`."""
        return await self._store.open_file(self._path(deletion_id, key))

    async def is_taken(self, key: str) -> bool:
        """See `TrashFiles.is_taken`."""
        path = self._store.tree.path_of(key)
        return await self._in_thread("look for an object", lambda: os.path.lexists(path))

    @asynccontextmanager
    async def contents(self) -> AsyncIterator[AsyncIterator[TrashContent]]:
        """See `TrashFiles.contents`."""
        walk = self._walk()

        async def blocks() -> AsyncIterator[TrashContent]:
            while True:
                block = await self._in_thread("list the trash", lambda: next(walk, None))
                if block is None:
                    return
                yield block

        try:
            yield blocks()
        finally:
            walk.close()

    def _walk(self) -> Generator[TrashContent, None, None]:
        try:
            deletions = sorted(name for name in os.listdir(self._folder) if is_key_part(name))
        except FileNotFoundError:
            return
        for deletion_id in deletions:
            folder = os.path.join(self._folder, deletion_id)
            if not os.path.isdir(folder):
                continue
            try:
                with open(os.path.join(folder, _MANIFEST), "rb") as file:
                    manifest = file.read()
            except FileNotFoundError:
                manifest = b""
            keys = [
                key
                for name in sorted(os.listdir(folder))
                if name != _MANIFEST and is_object_key(key := name.replace(_SLASH_MARK, "/"))
            ]
            for start in range(0, len(keys) or 1, KEYS_PER_BLOCK):
                yield TrashContent(
                    deletion_id, manifest, tuple(keys[start : start + KEYS_PER_BLOCK])
                )

    def _folder_of(self, deletion_id: str) -> str:
        if not is_key_part(deletion_id):
            raise ValueError("the ID of a deletion is a part of a path, and of one only")
        return os.path.join(self._folder, deletion_id)

    def _path(self, deletion_id: str, key: str) -> str:
        check_object_key(key)
        return os.path.join(self._folder_of(deletion_id), key.replace("/", _SLASH_MARK))

    def _sync(self, folder: str) -> None:
        # Also where less is promised of objects that come: what changes its folder may be years
        # old.
        self._files.sync_folder(folder)

    async def _in_thread(self, what: str, call: Callable[[], _T]) -> _T:
        """Run *call* in a worker thread, to its end also when cancelled.

        Raises:
            StorageError: it failed; `FileExistsError` is told as it is.
        """
        result: _T
        try:
            with trio.CancelScope(shield=True):
                result = await trio.to_thread.run_sync(call, limiter=self._limiter)
        except FileExistsError:
            raise
        except OSError as error:
            raise storage_error(what, error) from error
        return result
