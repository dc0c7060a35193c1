"""Folder that several machines share, used as a bucket.

An object is written under another name, synced, and named; then the names of its folders are
synced, too.  Nothing is kept in memory of what the folder holds: others write there as well.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, Literal, TypeVar

import trio
from obstore.store import LocalStore

from isocenter.engine.buffers import Buffer
from isocenter.services.errors import StorageError, text_of
from isocenter.storage.objects.cloud.breaker import Breaker
from isocenter.storage.objects.cloud.bucket import MARK, Bucket
from isocenter.storage.objects.cloud.durable_folders import DurableFolders
from isocenter.storage.objects.cloud.errors import BucketError

_T = TypeVar("_T")

#: How often a folder that vanishes under us is made again.
_FOLDER_ATTEMPTS: Final = 16

_ERRNO: Final = re.compile(r"os error ([0-9]+)")
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class FolderBucket(Bucket):
    """See `Bucket`.

    Args:
        folder: an absolute path; it is made where it is missing.
        is_durable: what is written survives a power failure.
        timeout: seconds of one request; a file system of the network may never answer.

    Raises:
        StorageError: the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        *,
        place: str,
        requests: int,
        breaker: Breaker,
        timeout: float,
        is_durable: bool = True,
    ) -> None:
        try:
            store = LocalStore(prefix=str(folder), automatic_cleanup=True, mkdir=True)
        except Exception as error:
            raise StorageError(
                f"the folder {folder} cannot be used: {_first_line(str(error))}"
            ) from None
        super().__init__(store, store, place=place, requests=requests, breaker=breaker)
        self._folder = str(folder)
        self._folders = DurableFolders(self._folder)
        self._is_durable = is_durable
        self._timeout = timeout
        #: Once it was seen to be marked: without its mark it is another folder, or not mounted.
        self._is_marked = False

    async def mark(self) -> str:
        """See `Bucket.mark`."""
        found = await super().mark()
        self._is_marked = self._is_marked or bool(found)
        return found

    def _check(self) -> None:
        if self._is_marked and not os.path.exists(os.path.join(self._folder, MARK)):
            raise OSError(errno.ENODEV, f"it has lost its mark ({MARK})")

    async def _put(
        self, path: str, parts: Sequence[Buffer], *, size: int, mode: Literal["create", "overwrite"]
    ) -> None:
        # In one hop to a thread; `Bucket` would take two.
        await self._run(self._writers, lambda: self._write(path, parts, mode == "create"))

    def _write(self, path: str, parts: Sequence[Buffer], is_new: bool) -> None:
        target = os.path.join(self._folder, path)
        # Names of this kind are no objects for whoever lists the folder.
        staged = f"{target}#{secrets.randbits(60)}"
        descriptor = self._create(staged)
        try:
            try:
                for part in parts:
                    _write_all(descriptor, part)
                if self._is_durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if is_new:
                os.link(staged, target)
            else:
                os.replace(staged, target)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(staged)
        if self._is_durable:
            self._folders.sync(os.path.dirname(path))

    def _create(self, path: str) -> int:
        for _ in range(_FOLDER_ATTEMPTS):
            try:
                return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileNotFoundError:
                # It is new, or another node has just removed the last object of it.
                os.makedirs(os.path.dirname(path), exist_ok=True)
        raise OSError(errno.ESTALE, "the object's folder is removed again and again")

    async def replace(self, path: str, file: IO[bytes], *, size: int) -> None:
        """See `Bucket.replace`."""
        await super().replace(path, file, size=size)
        await self._settle(path)

    async def copy(self, source: str, target: str, *, size: int) -> None:
        """See `Bucket.copy`."""
        await super().copy(source, target, size=size)
        await self._settle(target)

    async def delete(self, path: str) -> None:
        """See `Bucket.delete`."""
        await super().delete(path)
        await self._run(self._writers, lambda: self._end(path))

    def _end(self, path: str) -> None:
        """What is gone is to be gone for good, with what a crash has left of writing it."""
        folder, name = os.path.split(os.path.join(self._folder, path))
        with suppress(FileNotFoundError):
            for entry in os.listdir(folder):
                if entry.startswith(f"{name}#"):
                    os.unlink(os.path.join(folder, entry))
            with suppress(OSError):  # others are in it
                os.rmdir(folder)
        if self._is_durable:
            self._folders.sync(os.path.dirname(path))

    async def _settle(self, path: str) -> None:
        """What was written to *path* is to be there after a power failure."""
        if self._is_durable:
            await self._run(self._writers, lambda: self._sync(path))

    def _sync(self, path: str) -> None:
        descriptor = os.open(os.path.join(self._folder, path), os.O_RDONLY | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._folders.sync(os.path.dirname(path))

    async def _run(
        self,
        limiter: trio.CapacityLimiter,
        request: Callable[[], _T],
        *,
        abandon_on_cancel: bool = False,
    ) -> _T:
        """As of `Bucket`, but nobody waits for ever."""

        def checked() -> _T:
            self._check()
            return request()

        with trio.move_on_after(self._timeout):
            return await super()._run(limiter, checked, abandon_on_cancel=True)
        self.breaker.failed()
        raise BucketError(
            f"{self.place} did not answer in time (objects.timeout)", is_away=True, is_unknown=True
        )

    def _told(self, error: Exception) -> BucketError:
        number = error.errno if isinstance(error, OSError) else None
        text = str(error)
        if number is None and (found := _ERRNO.search(text)):
            number = int(found[1])
        if number in _FULL:
            return BucketError(f"there is no room in {self.place}; make room, or raise its quota")
        if number in _DENIED:
            return BucketError(
                f"{self.place} denies access; give the user of the server the right to write "
                "there, on each node (chown, chmod; its number has to be the same everywhere)"
            )
        said = text_of(error) if isinstance(error, OSError) else _first_line(text)
        return BucketError(
            f"a request to {self.place} failed: {said}; check that it is mounted",
            is_away=True,
            is_unknown=True,
        )


def _write_all(descriptor: int, data: Buffer) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(descriptor, view) :]


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0][:200]
