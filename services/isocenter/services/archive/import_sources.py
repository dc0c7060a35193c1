"""Sources of an import: a folder, a ZIP, a file-set with its DICOMDIR.

Each names its files, and opens one of them by its name.  What they do waits for disks: it is for
threads.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Condition
from typing import Final, Protocol

import trio

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.file_import import files_below, open_file
from isocenter.services.dicom.file_set.directory_reader import read_directory
from isocenter.services.dicom.file_set.file_ids import file_id_text, found_file

#: Files that one ZIP, or one file-set, may name.
MOST_FILES: Final = 1_000_000
#: Bytes of a name by which a file is known; of longer ones the beginning and a digest are.
_MOST_NAME: Final = 1_000
_BEGINNING: Final = 200
_PIECE: Final = 1 << 20
#: How often who waits for room looks whether it is still wanted.
_LOOK_SECONDS: Final = 0.5
_DIRECTORY: Final = "DICOMDIR"
_ENCRYPTED: Final = 0x1


class ImportSourceError(IsocenterError):
    """Nothing can be taken in from there; the message says why."""

    error_code = ErrorCode.IMPORTING


class ImportSource(Protocol):
    """Files that are to be taken in."""

    def names(self) -> Iterator[str]:
        """What the files are called, each once."""
        ...

    def open(self, name: str) -> int:
        """A descriptor of one of them.

        Raises:
            OSError: it is not there, or cannot be read.
        """
        ...

    def close(self) -> None:
        """Nothing more is wanted of it."""
        ...


def open_source(folders: Sequence[Path], place: str) -> ImportSource:
    """The files of *place*, which is, or is below, one of *folders*.

    A folder is all files below it; links in it are not followed.  Of a DICOMDIR it is what that
    names.

    Raises:
        ImportSourceError: it may not be read from, is not there, or is nothing of these.
    """
    if not folders:
        raise ImportSourceError("set jobs.import_folders: nothing is taken in from anywhere else")
    try:
        path = Path(place).resolve(strict=True)
        is_allowed = any(path.is_relative_to(folder.resolve()) for folder in folders)
    except (OSError, ValueError, RuntimeError):
        is_allowed = False
    if not is_allowed:
        # Whether there is a file elsewhere is nobody's business.
        raise ImportSourceError("it is not there, or in none of jobs.import_folders")
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            return _Folder(path)
        if path.name.upper() == _DIRECTORY:
            return _FileSet(path)
        if stat.S_ISREG(kind) and zipfile.is_zipfile(path):
            return _Zip(path)
    except OSError as error:
        raise ImportSourceError(f"it cannot be read: {error.strerror}") from error
    except zipfile.BadZipFile as error:
        # What it says more may name a file, and so a patient.
        raise ImportSourceError("the ZIP is damaged: its list of files cannot be read") from error
    raise ImportSourceError("it is no folder, no DICOMDIR and no ZIP")


class _Folder:
    """All regular files below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        #: Of files whose names are no text, by what they are called instead.
        self._odd: dict[str, str] | None = None

    def names(self) -> Iterator[str]:
        return map(_as_text, self._paths())

    def _paths(self) -> Iterator[str]:
        with closing(files_below([str(self._root)])) as blocks:
            for block in blocks:
                for path, _ in block:
                    yield os.path.relpath(path, self._root)

    def open(self, name: str) -> int:
        path = self._root / name
        if not path.exists():
            if self._odd is None:
                self._odd = {
                    text: found for found in self._paths() if (text := _as_text(found)) != found
                }
            path = self._root / self._odd.get(name, name)
        if path.resolve() != path:
            raise OSError(0, "it is a link by now")
        return open_file(str(path))

    def close(self) -> None:
        pass


def _as_text(name: str) -> str:
    """Without the surrogates by which Python writes bytes that are none of UTF-8, and short enough
    for an index."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    data = text.encode()
    return text if len(data) <= _MOST_NAME else f"{text[:_BEGINNING]}/{sha256(data).hexdigest()}"


class _FileSet:
    """What a DICOMDIR references (PS3.10 clause 8)."""

    def __init__(self, index: Path) -> None:
        self._root = index.parent
        with index.open("rb") as file:
            directory = read_directory(file).directory
        self._ids = {
            file_id_text(record.file_id): record.file_id for _, record in directory.references()
        }
        if len(self._ids) > MOST_FILES:
            raise ImportSourceError(f"the DICOMDIR names more than {MOST_FILES:,} files")

    def names(self) -> Iterator[str]:
        return iter(self._ids)

    def open(self, name: str) -> int:
        file_id = self._ids.get(name)
        found = None if file_id is None else found_file(self._root, file_id)
        if found is None:
            raise OSError(0, "the DICOMDIR names it, and it is not there")
        if not found.resolve().is_relative_to(self._root):
            raise OSError(0, "it is a link that leads elsewhere")
        return open_file(str(found))

    def close(self) -> None:
        pass


class _Zip:
    """The members of a ZIP."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        self._members: dict[str, zipfile.ZipInfo] = {}
        #: Bytes of members that are being unpacked.
        self._unpacking = 0
        self._changed = Condition()
        for position, member in enumerate(self._zip.infolist()):
            if not member.is_dir():
                name = _as_text(member.filename)
                while name in self._members:  # some have two of one name
                    name = f"{name} #{position}"
                self._members[name] = member
        if len(self._members) > MOST_FILES:
            raise ImportSourceError(f"the ZIP has more than {MOST_FILES:,} files")

    def names(self) -> Iterator[str]:
        return iter(self._members)

    def open(self, name: str) -> int:
        member = self._members.get(name)
        if member is None:
            raise OSError(0, "the ZIP has it no more")
        if member.flag_bits & _ENCRYPTED:
            raise OSError(0, "it is encrypted")
        # A file without a name: no crash leaves it.
        with tempfile.TemporaryFile() as copy:
            with self._room(member.file_size):
                try:
                    with self._zip.open(member) as packed:
                        # No more than it says comes of it.
                        while piece := packed.read(_PIECE):
                            _check_wanted()
                            copy.write(piece)
                    copy.flush()
                except OSError:
                    raise
                except Exception as error:
                    # zlib and lzma raise what they like; and a text of zipfile names the member.
                    raise OSError(0, f"it cannot be unpacked ({type(error).__name__})") from error
            descriptor = os.dup(copy.fileno())
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    @contextmanager
    def _room(self, size: int) -> Iterator[None]:
        """Together they take no more than half of what is free: others need some of it, too."""
        with self._changed:
            while size + self._unpacking > shutil.disk_usage(tempfile.gettempdir()).free // 2:
                if not self._unpacking:
                    raise OSError(0, "there is no room to unpack it")
                self._changed.wait(_LOOK_SECONDS)
                _check_wanted()
            self._unpacking += size
        try:
            yield
        finally:
            with self._changed:
                self._unpacking -= size
                self._changed.notify_all()

    def close(self) -> None:
        self._zip.close()


def _check_wanted() -> None:
    """End with whoever waits for this thread, when that is cancelled."""
    try:
        trio.from_thread.check_cancelled()
    except RuntimeError:
        pass  # it is no thread that a task waits for
