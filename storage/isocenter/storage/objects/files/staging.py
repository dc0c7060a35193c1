"""Objects on their way into a file store, and the names they have meanwhile.

A staged name tells the key of the object, so that after a crash a look into one
folder says what was under way.
"""

from __future__ import annotations

import errno
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

import trio

from isocenter.engine.buffers import Buffer
from isocenter.services.errors import StorageError
from isocenter.storage.objects.files.buffers import BLOCK_BYTES, BufferPool, Held
from isocenter.storage.objects.files.file_system import OUT_OF_RESOURCES, Files
from isocenter.storage.objects.files.threads import in_thread
from isocenter.storage.objects.keys import is_object_key

#: Worker threads of one store that write.  Syncs of several files at once share journal
#: commits: on ext4 four make twice as many objects durable as one, more gain nothing.
WRITERS: Final = 4

#: Between key and token of a staged name, at the end of a marker, and for the slashes of
#: the key.  None of them may occur in a key.
_TOKEN_MARK: Final = "+"  # noqa: S105 -- not that kind of token
_MARKER_END: Final = "!"
_SLASH_MARK: Final = ","

_T = TypeVar("_T")


class StagingArea:
    """One folder of staged files, and the worker threads that write to it.

    Args:
        folder: its absolute path.
        is_durable: whether files are synced.
        memory_per_object: bytes of one object that are held before they are written.
    """

    def __init__(
        self, folder: str, files: Files, *, is_durable: bool, memory_per_object: int
    ) -> None:
        self.folder = folder
        self.files = files
        self.is_durable = is_durable
        self.memory_per_object = memory_per_object
        self.pool = BufferPool()
        self._limiter = trio.CapacityLimiter(WRITERS)
        self._token = secrets.token_hex(4)
        self._serial = 0
        self._lock = threading.Lock()

    async def in_thread(self, call: Callable[[], _T]) -> _T:
        """Run *call* among the writers; it is never abandoned."""
        return await in_thread(call, self._limiter)

    def path(self, key: str = "") -> str:
        """A staged name that nobody else makes, in this process or after a restart."""
        with self._lock:
            self._serial += 1
            serial = self._serial
        name = f"{key.replace('/', _SLASH_MARK)}{_TOKEN_MARK}{self._token}{serial:x}"
        return os.path.join(self.folder, name)

    @staticmethod
    def marker_of(path: str) -> str:
        """The name of an empty file that stands for a staged one that was renamed away."""
        return path + _MARKER_END

    @staticmethod
    def is_marker(name: str) -> bool:
        return name.endswith(_MARKER_END)

    @staticmethod
    def key_of(name: str) -> str | None:
        """The key that a staged name tells; None when its object was never to be published."""
        key = name.partition(_TOKEN_MARK)[0].replace(_SLASH_MARK, "/")
        return key if is_object_key(key) else None


class StagedFile:
    """An object on its way in: in memory while it is small, then a file in ``staging``."""

    __slots__ = (
        "_area",
        "_descriptor",
        "_error",
        "_held",
        "_past_cache",
        "_path",
        "_synced",
        "_written",
    )

    def __init__(self, area: StagingArea) -> None:
        self._area = area
        self._held: Held | None = Held(area.pool)
        self._descriptor: int | None = None
        self._past_cache = False
        self._path: str | None = None
        self._synced = False
        self._written = 0
        self._error: StorageError | None = None

    @property
    def path(self) -> str:
        """Its staged name; it has one as soon as something was written out."""
        assert self._path is not None
        return self._path

    async def write(self, buffers: Sequence[Buffer]) -> None:
        held = self._held
        if held is None:
            raise self._ended()
        limit = self._area.memory_per_object
        for buffer in buffers:
            view = memoryview(buffer)
            while view:
                view = view[held.append(view) :]
                if held.is_full or len(held) > limit:
                    await self._area.in_thread(partial(self.flush, sync=False))

    async def spill(self) -> bool:
        if self._held:
            await self._area.in_thread(partial(self.flush, sync=False))
        return True

    async def finish(self) -> None:
        """Write out and sync a large object now, so that no batch has to wait for it."""
        if self._descriptor is not None and self._held is not None and not self._synced:
            await self._area.in_thread(partial(self.flush, sync=self._area.is_durable))

    async def discard(self) -> None:
        if self._path is None:
            self._let_go()
        else:
            with trio.CancelScope(shield=True):
                await self._area.in_thread(self.drop)

    # What follows runs in worker threads, one at a time for one object.

    def flush(self, *, sync: bool) -> None:
        """Write what is held to the staged file; after a failure the object is lost for good.

        Args:
            sync: this is all of it, and it is to be on stable storage.
        """
        held = self._held
        if held is None:
            raise self._ended()
        try:
            if self._path is None:
                self._create(self._area.path())
            if self._descriptor is None:  # written and closed before; its key was taken
                return
            if held:
                self._write(self._descriptor, held, is_last=sync)
            if sync and not self._synced:
                self._area.files.sync(self._descriptor)
                self._synced = True
        except OSError as error:
            # After a failed sync the kernel may have dropped the pages: a second one would
            # report success for bytes that are on no disk.  Hence nothing is tried again.
            self._error = storage_error("write an object", error)
            self.drop()
            raise self._error from error

    def _create(self, path: str) -> None:
        self._descriptor = self._area.files.create(path)
        self._path = path
        held = self._held
        # What is to be synced at once gains nothing from the page cache, and pays for it.
        if self._area.is_durable and held is not None and held.is_aligned:
            self._past_cache = self._area.files.write_past_cache(self._descriptor, True)

    def _write(self, descriptor: int, held: Held, *, is_last: bool) -> None:
        files = self._area.files
        if self._past_cache:
            # The end of a large object may be too small for a buffer of the pool.
            if held.is_aligned and self._write_blocks(descriptor, held, is_last=is_last):
                return
            files.write_past_cache(descriptor, False)
            self._past_cache = False
        self._written += len(held)
        files.write(descriptor, held.view())
        held.drop(len(held))

    def _write_blocks(self, descriptor: int, held: Held, *, is_last: bool) -> bool:
        """Write whole blocks, the last of an object filled up and then cut off; False: the disk
        has larger ones than we know of."""
        files = self._area.files
        length = len(held) if is_last else len(held) - len(held) % BLOCK_BYTES
        try:
            files.write(descriptor, held.blocks(length))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return False
        self._written += length
        held.drop(length)
        if self._written % BLOCK_BYTES:
            files.truncate(descriptor, self._written)
        return True

    def _ended(self) -> StorageError:
        return self._error or StorageError("the staged object was discarded or published")

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.release()

    def rename_for(self, key: str) -> str:
        """Give the staged file the name that tells its key; a new file has it at once."""
        files = self._area.files
        path = self._area.path(key)
        if self._path is None:
            self._create(path)
        else:
            files.rename(self._path, path)
            self._path = path
        return path

    def close(self) -> None:
        """Before the object is published: an error that comes late still comes in time."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._area.files.close(descriptor)

    def publish(self, marker: str | None = None) -> None:
        """It has its final name; nothing more is written.

        Args:
            marker: what has taken the place of the staged name, if that is gone.
        """
        self._let_go()
        if marker is not None:
            self._path = marker

    def drop(self) -> None:
        """Leave no trace.  A staged file that cannot be removed is left to `recover`."""
        self._let_go()
        with suppress(OSError):
            self.close()
        path, self._path = self._path, None
        if path is not None:
            with suppress(OSError):
                self._area.files.unlink(path)


def storage_error(what: str, error: OSError) -> StorageError:
    """The port's error for one of the operating system.

    It names no file: with some naming schemes a path holds a date of the patient's.
    """
    return StorageError(
        f"cannot {what}: {error.strerror or error}",
        out_of_resources=error.errno in OUT_OF_RESOURCES,
    )
