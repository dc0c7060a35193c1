"""Duties: work that of all processes of an archive one does at a time."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

from isocenter.services.errors import StorageError, text_of
from isocenter.services.system.exclusive_task import run_exclusively
from isocenter.services.system.file_lock import open_lock_file, wait_for_lock
from isocenter.services.system.private_files import match_owner

_LOCK_AGAIN_SECONDS: Final = 0.02


class Duties(Protocol):
    """Who does what; `isocenter.services.cluster.leasing.Leasing` is one for several nodes."""

    async def run(self, duty: str, work: Callable[[], Awaitable[None]]) -> None:
        """Wait until nobody has *duty*, then do *work* to its end."""
        ...

    def hold(self, duty: str) -> AbstractAsyncContextManager[None]:
        """Wait until nobody has *duty*, and have it for as long as the context lasts.

        Raises:
            StorageError: it cannot be had.
        """
        ...


class OneProcess:
    """Duties of a process that has an archive for itself."""

    async def run(self, duty: str, work: Callable[[], Awaitable[None]]) -> None:
        """See `Duties.run`."""
        await work()

    @asynccontextmanager
    async def hold(self, duty: str) -> AsyncIterator[None]:
        """See `Duties.hold`."""
        yield


class OneMachine:
    """Duties of processes that share a folder of one machine, where each has a lock file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def run(self, duty: str, work: Callable[[], Awaitable[None]]) -> None:
        """See `Duties.run`."""
        await run_exclusively(self._path(duty), work)

    @asynccontextmanager
    async def hold(self, duty: str) -> AsyncIterator[None]:
        """See `Duties.hold`."""
        path = self._path(duty)
        try:
            descriptor = open_lock_file(path)
        except OSError as error:
            raise StorageError(f"cannot open the lock file {path}: {text_of(error)}") from error
        try:
            match_owner(self._folder, descriptor)  # the server has to open it, too
            await wait_for_lock(descriptor, look_seconds=_LOCK_AGAIN_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def _path(self, duty: str) -> Path:
        return self._folder / f"{duty}.lock"
