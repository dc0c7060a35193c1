"""Films of print jobs, in a folder or in memory."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import trio

from isocenter.storage.objects.files.file_system import OsFileSystem, storage_error
from isocenter.storage.objects.keys import is_key_part

T = TypeVar("T")
_FILES: Final = OsFileSystem()
_WHAT: Final = "films of print jobs"


class FolderFilms:
    """See `isocenter.services.service_classes.print.ports.FilmFiles`; a folder for each job, with a
    file for each film.

    Args:
        folder: is made when the first film comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, job_uid: str, number: int, png: bytes) -> None:
        """See `FilmFiles.put`."""
        await self._run(lambda: self._put(self._of(job_uid), _name(number), png))

    async def get(self, job_uid: str, number: int) -> bytes | None:
        """See `FilmFiles.get`."""
        path = self._of(job_uid) / _name(number)

        def read() -> bytes | None:
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

        return await self._run(read)

    async def remove(self, job_uid: str) -> None:
        """See `FilmFiles.remove`."""

        def remove() -> None:
            with suppress(FileNotFoundError):
                shutil.rmtree(self._of(job_uid))

        await self._run(remove)

    async def jobs(self) -> Sequence[str]:
        """See `FilmFiles.jobs`."""

        def names() -> list[str]:
            try:
                with os.scandir(self._folder) as entries:
                    return [one.name for one in entries if one.is_dir() and is_key_part(one.name)]
            except FileNotFoundError:
                return []

        return await self._run(names)

    def _of(self, job_uid: str) -> Path:
        if not is_key_part(job_uid):
            raise ValueError("a print job is named by a UID")
        return self._folder / job_uid

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await trio.to_thread.run_sync(work)
        except OSError as error:
            raise storage_error(_WHAT, error) from error

    def _put(self, folder: Path, name: str, png: bytes) -> None:
        is_new = not folder.is_dir()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = folder / f".{name}.{secrets.token_hex(8)}"
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(png)
                file.flush()
                os.fsync(descriptor)
            beside.replace(folder / name)
        finally:
            beside.unlink(missing_ok=True)
        places = [folder, self._folder, self._folder.parent] if is_new else [folder]
        for place in places:
            _FILES.sync_folder(str(place))


class MemoryFilms:
    """See `isocenter.services.service_classes.print.ports.FilmFiles`; nothing is kept."""

    def __init__(self) -> None:
        self._films: dict[tuple[str, int], bytes] = {}

    async def put(self, job_uid: str, number: int, png: bytes) -> None:
        """See `FilmFiles.put`."""
        await trio.lowlevel.checkpoint()
        self._films[job_uid, number] = png

    async def get(self, job_uid: str, number: int) -> bytes | None:
        """See `FilmFiles.get`."""
        await trio.lowlevel.checkpoint()
        return self._films.get((job_uid, number))

    async def remove(self, job_uid: str) -> None:
        """See `FilmFiles.remove`."""
        await trio.lowlevel.checkpoint()
        for key in [key for key in self._films if key[0] == job_uid]:
            del self._films[key]

    async def jobs(self) -> Sequence[str]:
        """See `FilmFiles.jobs`."""
        await trio.lowlevel.checkpoint()
        return list({job_uid for job_uid, _ in self._films})


def _name(number: int) -> str:
    return f"{number}.png"
