"""Targets of an export: a folder, or a ZIP file.

What an export has begun and not ended is nowhere to be seen: a folder is filled beside its place,
and whoever opens a ZIP file for it gives it its name afterwards.
"""

from __future__ import annotations

import os
import secrets
import shutil
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from time import localtime
from typing import IO, Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.system.private_files import sync_directory

#: A file that may become longer has the longer header of ZIP64.
LONGEST_SHORT: Final = 1 << 30
#: What a ZIP file, or a file system, keeps of each file beside its bytes and its name.
_BESIDE_BYTES: Final = 256
FILE_MODE: Final = 0o644 << 16


class ExportError(IsocenterError):
    """An export cannot be; the message says why, and the cure.  Nothing of it is left."""

    error_code = ErrorCode.EXPORTING


def check_room(folder: Path | None, size: int, files: int) -> None:
    """Look whether so many bytes in so many files have room.

    Args:
        folder: where they go, or will; None: nobody knows.

    Raises:
        ExportError: they have not.
    """
    if folder is None:
        return
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    needed = size + files * _BESIDE_BYTES
    if free < needed:
        raise ExportError(
            f"there is no room in {folder}: {needed} bytes are to be written, and {free} are free; "
            "make room, or write to another disk"
        )


class ExportTarget(ABC):
    """Where files of an export go; blocking, for one thread at a time.

    Attributes:
        folder: where the bytes go; None: nobody knows.
    """

    folder: Path | None

    @abstractmethod
    def begin(self, name: PurePosixPath, size: int) -> IO[bytes]:
        """A new file to write and to close.

        Args:
            size: how long it becomes, or about so.
        """

    @abstractmethod
    def commit(self) -> None:
        """All is written: durable, and in its place."""


class FolderTarget(ExportTarget):
    """A folder that others may have made, and put other files into."""

    def __init__(self, folder: Path, staged: Path) -> None:
        self.folder: Path = folder
        self._staged = staged
        self.is_committed = False

    def begin(self, name: PurePosixPath, size: int) -> IO[bytes]:
        path = self._staged / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")

    def commit(self) -> None:
        for folder, _, names in os.walk(self._staged):
            for name in names:
                _sync(Path(folder, name))
            sync_directory(Path(folder))
        entries = sorted(self._staged.iterdir(), key=lambda one: (one.is_file(), one.name))
        for entry in entries:
            _check_free(self.folder / entry.name)
        done: list[Path] = []
        try:
            for entry in entries:
                place = self.folder / entry.name
                entry.rename(place)
                done.append(place)
        except OSError:
            for place in done:
                place.rename(self._staged / place.name)
            raise
        sync_directory(self.folder)
        self.is_committed = True


@contextmanager
def folder_target(folder: Path) -> Iterator[FolderTarget]:
    """A folder to export to, made where it is not there yet.

    Nothing in it changes until `ExportTarget.commit`; what was there before stays.

    Raises:
        ExportError: it is something else.
        OSError: it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder} is there, and is no folder; give another place")
    made = _made_folders(folder)
    staged = folder / f".isocenter-export.{secrets.token_hex(4)}"
    target = FolderTarget(folder, staged)
    try:
        staged.mkdir()
        yield target
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if not target.is_committed:
            for one in reversed(made):
                with suppress(OSError):
                    one.rmdir()


def _made_folders(folder: Path) -> list[Path]:
    """Make *folder*, and those above it; those that were not there."""
    missing: list[Path] = []
    at = folder
    while not at.exists():
        missing.append(at)
        at = at.parent
    missing.reverse()
    done: list[Path] = []
    try:
        for one in missing:
            one.mkdir()
            done.append(one)
    except OSError:
        for one in reversed(done):
            with suppress(OSError):
                one.rmdir()
        raise
    return done


class ZipTarget(ExportTarget):
    """A ZIP file; files of any size, as many as there are (ZIP64)."""

    def __init__(self, file: zipfile.ZipFile, folder: Path | None) -> None:
        self.folder = folder
        self._zip = file

    def begin(self, name: PurePosixPath, size: int) -> IO[bytes]:
        entry = zipfile.ZipInfo(str(name), localtime()[:6])
        entry.compress_type = self._zip.compression
        entry.external_attr = FILE_MODE
        return self._zip.open(entry, "w", force_zip64=size > LONGEST_SHORT)

    def commit(self) -> None:
        self._zip.close()


@contextmanager
def zip_target(
    file: IO[bytes], folder: Path | None, *, deflate: bool = False
) -> Iterator[ZipTarget]:
    """A ZIP file to export to.

    Args:
        file: takes its bytes, and gets its name from whoever has opened it.
        folder: where the file is; None: nobody knows.
        deflate: compress: a third less of what is not compressed, at 30 MB/s.
    """
    method = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    archive = zipfile.ZipFile(file, "w", method, allowZip64=True)
    try:
        yield ZipTarget(archive, folder)
    finally:
        # After `commit` that does nothing; before, it keeps the interpreter from doing so later,
        # when *file* is closed.
        with suppress(OSError, ValueError):
            archive.close()


def write_whole(target: ExportTarget, name: PurePosixPath, data: Buffer) -> None:
    """A file of which all bytes are here."""
    with target.begin(name, len(data)) as file:
        file.write(data)


def _check_free(place: Path) -> None:
    if os.path.lexists(place):
        raise ExportError(f"{place} is there already; export to another folder, or move it away")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
