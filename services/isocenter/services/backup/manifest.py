"""Manifest of a backup generation, and its lists of files.

The lists are in the order of the paths, so that any number of them are compared line by line,
without memory that grows with the archive.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import text_of
from isocenter.services.system.private_files import PRIVATE_FILE

#: Written by this program; a larger number is of a later one.
FORMAT: Final = 1
_LONGEST_LINE: Final = 1 << 16
_MOST_MANIFEST_BYTES: Final = 16 << 20


class BackupError(IsocenterError):
    """A backup that cannot be made, verified or restored, or a relocation that cannot be done; the
    message says why, and what helps."""

    error_code = ErrorCode.BACKUP


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the archive.

    Attributes:
        path: relative to the data directory; ``audit/…`` is the audit trail wherever it lies.
        size, sha256: of the whole file; its content lies under the latter.
        mark: what tells that the file is still the same without reading it.
    """

    path: str
    size: int
    sha256: str
    mark: str


def line_of(entry: Entry) -> bytes:
    """An entry as a line."""
    return orjson.dumps(
        {"path": entry.path, "size": entry.size, "sha256": entry.sha256, "mark": entry.mark},
        option=orjson.OPT_APPEND_NEWLINE,
    )


@contextmanager
def open_list(path: Path) -> Iterator[BinaryIO]:
    """A new list to write lines to; on stable storage at the end."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def read_list(path: Path, *, is_unfinished: bool = False) -> Iterator[Entry]:
    """The entries of a list, in its order.

    Args:
        is_unfinished: the list may be missing, or end in the middle of a line.

    Raises:
        BackupError: it cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE):
                try:
                    if not line.endswith(b"\n"):
                        raise ValueError("the line has no end")
                    entry = _entry(orjson.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    if is_unfinished:
                        return
                    raise BackupError(f"{path}: damaged; {error}") from error
                yield entry
    except OSError as error:
        if not is_unfinished:
            raise BackupError(f"{path}: {text_of(error)}") from error


def _entry(members: Mapping[str, Any]) -> Entry:
    entry = Entry(members["path"], members["size"], members["sha256"], members["mark"])
    if not is_safe_path(entry.path) or not is_sha256(entry.sha256) or type(entry.size) is not int:
        raise ValueError("not an entry of a backup")
    return entry


def is_sha256(text: object) -> bool:
    """Whether *text* is a digest as we write it; it becomes the name of a file."""
    return isinstance(text, str) and len(text) == 64 and not text.strip("0123456789abcdef")


def is_safe_path(path: object) -> bool:
    """Whether *path* stays below the folder that it is relative to."""
    return (
        isinstance(path, str)
        and path != ""
        and "\0" not in path
        and "\\" not in path
        and path.isprintable()
        and all(part not in ("", ".", "..") for part in path.split("/"))
    )


class Known:
    """What earlier lists say of a path; asked in the order of the paths."""

    def __init__(self, lists: Sequence[Iterable[Entry]]) -> None:
        """Of two entries of one path and mark the later list's is believed."""
        ranked = [_ranked(entries, rank) for rank, entries in enumerate(lists)]
        self._entries = heapq.merge(*ranked, key=lambda item: (item[0], item[1]))
        self._ahead = next(self._entries, None)

    def of(self, path: str, mark: str) -> Entry | None:
        """The entry of *path* with this mark."""
        while self._ahead is not None and self._ahead[0] < path:
            self._ahead = next(self._entries, None)
        found = None
        while self._ahead is not None and self._ahead[0] == path:
            if self._ahead[2].mark == mark:
                found = self._ahead[2]
            self._ahead = next(self._entries, None)
        return found


def _ranked(entries: Iterable[Entry], rank: int) -> Iterator[tuple[str, int, Entry]]:
    for entry in entries:
        yield entry.path, rank, entry


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptKey:
    """A private key of the archive: where it belongs, and how to tell that it is the right one.

    Attributes:
        path: relative to the data directory, or absolute.
        public_key_sha256: of the public key (SubjectPublicKeyInfo, DER); empty: it could not be
            read without its password, or is no key pair.
        kept: ``reference``: it is not in the backup; ``encrypted``: it is, with a passphrase.
    """

    path: str
    public_key_sha256: str
    kept: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a generation is.

    Attributes:
        point_in_time: what had been acknowledged then is in it (ISO 8601, UTC).
        began, finished: of the backup.
        data_dir: where it came from.
        schema_version: of the index.
        instances: rows of the index.
        trashed: deleted objects that can be restored still.
        objects_size: bytes of the files of both.
        files, files_size: everything else.
        copied, copied_size: what was not in the backup before.
        faults: objects that were missing or damaged in the archive itself, with the reason.
        faults_found: how many there were; not all may be named.
        left_out: what is no file and no folder.
        outside: files beyond the data directory that the settings name: (setting, path).
    """

    program: str
    began: str
    point_in_time: str
    finished: str
    data_dir: str
    schema_version: int
    instances: int
    objects_size: int
    files: int
    files_size: int
    index_size: int
    copied: int
    copied_size: int
    faults: tuple[tuple[str, str], ...] = ()
    faults_found: int = 0
    left_out: tuple[str, ...] = ()
    outside: tuple[tuple[str, str], ...] = ()
    keys: tuple[KeptKey, ...] = field(default=())
    trashed: int = 0
    format: int = FORMAT


def manifest_text(manifest: Manifest) -> bytes:
    """As it is written."""
    return orjson.dumps(asdict(manifest), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def read_manifest(path: Path) -> Manifest:
    """Raises:
    BackupError: it cannot be read, or a later program has written it.
    """
    try:
        with path.open("rb") as file:
            members = orjson.loads(file.read(_MOST_MANIFEST_BYTES))
        if type(members["format"]) is int and members["format"] > FORMAT:
            raise BackupError(
                f"{path}: written in format {members['format']} by {members.get('program')}; this "
                f"program knows {FORMAT}: use that version"
            )
        members["faults"] = tuple((name, why) for name, why in members["faults"])
        members["left_out"] = tuple(members["left_out"])
        members["outside"] = tuple((key, value) for key, value in members["outside"])
        members["keys"] = tuple(KeptKey(**key) for key in members["keys"])
        return Manifest(**members)
    except OSError as error:
        raise BackupError(f"{path}: {text_of(error)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{path}: damaged; it is no manifest of a backup") from error
