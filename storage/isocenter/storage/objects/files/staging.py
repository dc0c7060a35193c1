"""Staged objects of a file store: in memory while small, then in a file.

A staged file means nothing by itself: what has no record in the journal was never published, and
the next start removes it.
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
from isocenter.services.concurrency import Latch
from isocenter.services.errors import StorageError
from isocenter.storage.objects.files.buffers import (
    BLOCK_BYTES,
    SMALL_BYTES,
    BufferPool,
    WriteBuffer,
)
from isocenter.storage.objects.files.file_system import FileSystem, storage_error
from isocenter.storage.objects.files.journal import Journal, Kind, Record, Segment
from isocenter.storage.objects.files.threads import run_in_thread

#: Worker threads of one store that write.  Syncs of several files at once share journal
#: commits: on ext4 four make twice as many objects durable as one, more gain nothing.
WRITERS: Final = 4

#: Up to here an object's bytes go into the journal.  They are written twice, which costs less
#: than the sync of one more file, and then one file of many is synced at a time.
JOURNALED_BYTES: Final = SMALL_BYTES

#: Staged files that are made ahead of time, and are open; when there are few, more are made.
SPARES: Final = 64
FEWEST_SPARES: Final = 32

_T = TypeVar("_T")


class StagingArea:
    """One folder of staged files, and the worker threads that write to it.

    Args:
        folder: its absolute path.
        journal: where what is published is noted.
        is_durable: whether files are synced.
        memory_per_object: bytes of one object that are held before they are written.
    """

    def __init__(
        self,
        folder: str,
        files: FileSystem,
        journal: Journal,
        *,
        is_durable: bool,
        memory_per_object: int,
    ) -> None:
        self.folder = folder
        self.files = files
        self.journal = journal
        self.is_durable = is_durable
        self.memory_per_object = memory_per_object
        self.pool = BufferPool()
        self._limiter = trio.CapacityLimiter(WRITERS)
        self._token = secrets.token_hex(4)
        self._serial = 0
        self._lock = threading.Lock()
        #: Paths and descriptors of empty files whose names are durable.
        self._spares: list[tuple[str, int]] = []
        self._few_spares = Latch()
        #: Larger objects on their way in.
        self._larger = 0

    async def run_in_writer_thread(self, call: Callable[[], _T]) -> _T:
        """Run *call* among the writers; it is never abandoned."""
        return await run_in_thread(call, self._limiter)

    def make(self) -> tuple[str, int, bool]:
        """An empty file with a name that nobody else makes, in this process or after a restart: its
        path, a descriptor, and whether the name is durable."""
        with self._lock:
            spare = self._spares.pop() if self._spares else None
        if spare is None:
            return (*self._create(), False)
        return (*spare, True)

    def _create(self) -> tuple[str, int]:
        with self._lock:
            self._serial += 1
            path = os.path.join(self.folder, f"{self._token}{self._serial:x}")
        return path, self.files.create(path)

    @property
    def larger(self) -> int:
        """Larger objects on their way in."""
        return self._larger

    def count_larger(self, difference: int) -> None:
        """One more is on its way in, or one less."""
        with self._lock:
            self._larger += difference

    def expect_larger(self) -> None:
        """In the event loop: larger objects come, and more will."""
        if self.is_durable and len(self._spares) < FEWEST_SPARES:
            self._few_spares.set()

    async def prepare_always(self) -> None:
        """Have staged files at hand whose names are durable, once larger objects have come: whoever
        takes one need not sync the folder."""
        while True:
            await self._few_spares.wait()
            with suppress(OSError):  # whoever needs one tries again, and says so
                await self.run_in_writer_thread(self.prepare)
            # Not before: while some are being made nobody has to ask for more.
            self._few_spares.clear()

    def prepare(self) -> None:
        """Make staged files ahead of time.

        Raises:
            OSError: they cannot be made.
        """
        made: list[tuple[str, int]] = []
        try:
            made.extend(self._create() for _ in range(SPARES - len(self._spares)))
            self.files.sync_folder(self.folder)
        except BaseException:
            self._remove(made)
            raise
        with self._lock:
            self._spares += made

    def close(self) -> None:
        """Remove what was made ahead of time."""
        with self._lock:
            spares, self._spares = self._spares, []
        self._remove(spares)

    def _remove(self, made: Sequence[tuple[str, int]]) -> None:
        for path, descriptor in made:
            with suppress(OSError):
                self.files.close(descriptor)
            with suppress(OSError):
                self.files.unlink(path)


class StagedFile:
    """An object on its way in: in memory while it is small, then a file in ``staging``."""

    __slots__ = (
        "_area",
        "_descriptor",
        "_error",
        "_held",
        "_is_larger",
        "_past_cache",
        "_path",
        "_segment",
        "_synced",
        "_written",
        "has_durable_name",
        "is_past_cache",
        "is_to_be_synced",
        "key",
    )

    def __init__(self, area: StagingArea) -> None:
        self._area = area
        self._held: WriteBuffer | None = WriteBuffer(area.pool)
        self._descriptor: int | None = None
        self._past_cache = False
        self._path: str | None = None
        #: It counts among those on their way in.
        self._is_larger = False
        #: Where its record is.
        self._segment: Segment | None = None
        self._synced = False
        self._written = 0
        self._error: StorageError | None = None
        #: Under which it is published; empty: it is not.
        self.key = ""
        #: Whether its staged name survives a power failure.
        self.has_durable_name = False
        #: Of one that is published: its file, and not only its names.
        self.is_to_be_synced = False
        #: The page cache does not have it, or only its end.
        self.is_past_cache = False

    @property
    def path(self) -> str:
        """Its staged name; it has one as soon as something was written out."""
        assert self._path is not None
        return self._path

    @property
    def written(self) -> int:
        """Bytes in its file."""
        return self._written

    @property
    def is_small(self) -> bool:
        """Whether all of it is in memory, and goes into the journal."""
        held = self._held
        return self._path is None and held is not None and len(held) <= JOURNALED_BYTES

    @property
    def waits_for_disk(self) -> bool:
        """Whether it is still to be written out and synced, which takes its time."""
        return not self.is_small and not self._synced

    async def write(self, buffers: Sequence[Buffer]) -> None:
        held = self._held
        if held is None:
            raise self._ended()
        limit = self._area.memory_per_object
        for buffer in buffers:
            view = memoryview(buffer)
            while view:
                view = view[held.append(view) :]
                if not self._is_larger and len(held) > JOURNALED_BYTES:
                    self._is_larger = True
                    self._area.count_larger(1)
                if held.is_full or len(held) > limit:
                    await self._area.run_in_writer_thread(partial(self.flush, sync=False))

    async def spill(self) -> bool:
        if self._held:
            await self._area.run_in_writer_thread(partial(self.flush, sync=False))
        return True

    async def finish(self, key: str = "") -> None:
        """Write out and sync a larger object now, so that no batch has to wait for it; unless it is
        the only one: then its batch need not take one more hop to a thread."""
        if self.is_small or self._held is None:
            return
        self._area.expect_larger()
        # Without syncs there is little to wait for, and the hop would be in vain.
        is_beside_others = self._area.is_durable and self._area.larger > 1
        if self._descriptor is not None or is_beside_others:
            await self._area.run_in_writer_thread(partial(self.flush, sync=self._area.is_durable))

    async def discard(self) -> None:
        if self._path is None and self._segment is None:
            self._let_go()
        else:
            with trio.CancelScope(shield=True):
                await self._area.run_in_writer_thread(self.drop)

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
                self._create()
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

    def _create(self) -> None:
        self._path, self._descriptor, self.has_durable_name = self._area.make()
        held = self._held
        # What is to be synced at once gains nothing from the page cache, and pays for it.
        if self._area.is_durable and held is not None and held.is_aligned:
            self._past_cache = self._area.files.use_direct_io(self._descriptor, True)
            self.is_past_cache = self._past_cache

    def _write(self, descriptor: int, held: WriteBuffer, *, is_last: bool) -> None:
        files = self._area.files
        if self._past_cache:
            # The end of a large object may be too small for a buffer of the pool.
            if held.is_aligned and self._write_blocks(descriptor, held, is_last=is_last):
                return
            files.use_direct_io(descriptor, False)
            self._past_cache = False
        self._written += len(held)
        files.write(descriptor, held.view())
        held.drop(len(held))

    def _write_blocks(self, descriptor: int, held: WriteBuffer, *, is_last: bool) -> bool:
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
        if self._is_larger:
            self._is_larger = False
            self._area.count_larger(-1)
        held, self._held = self._held, None
        if held is not None:
            held.release()

    def record(self, key: str) -> Record:
        """What the journal is to say of it."""
        if not self.is_small:
            return Record(Kind.STAGED, key, os.path.basename(self.path))
        if not self._area.is_durable:
            return Record(Kind.KEY, key)
        assert self._held is not None
        self.is_to_be_synced = True
        return Record(Kind.CONTENT, key, content=self._held.view())

    def recorded(self, segment: Segment) -> None:
        """The journal has it; perhaps once more, under another key."""
        self._release()
        self._segment = segment

    def close(self) -> None:
        """Before the object is published: an error that comes late still comes in time."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._area.files.close(descriptor)

    def write_to(self, path: str) -> None:
        """Make the object's file of what is held, for a small one.

        Raises:
            OSError: there is none.
        """
        files = self._area.files
        held = self._held
        if held is None:
            raise self._ended()
        descriptor = files.create(path)
        try:
            try:
                files.write(descriptor, held.view())
            finally:
                files.close(descriptor)
        except OSError:
            with suppress(OSError):
                files.unlink(path)
            raise

    def published(self, key: str, *, is_renamed: bool = False) -> None:
        """It has its final name, *is_renamed*: in the place of the staged one; nothing more is
        written."""
        self._let_go()
        self.key = key
        if is_renamed:
            self._path = None

    def drop(self) -> None:
        """Leave no trace.  A staged file that cannot be removed is left to the next start."""
        self._let_go()
        with suppress(OSError):
            self.close()
        path, self._path = self._path, None
        if path is not None:
            with suppress(OSError):
                self._area.files.unlink(path)
        self._release()

    def _release(self) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            self._area.journal.release([segment])
