"""Files of a backup: written, synced and digested."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from isocenter.services.backup.manifest import BackupError
from isocenter.services.errors import text_of
from isocenter.services.system.private_files import PRIVATE_FILE

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
#: Read at once, in bytes.
PIECE: Final = 1 << 20


def pieces_of(file: IO[bytes], most: int | None) -> Iterator[bytes]:
    """The rest of *file*, or the first *most* bytes of it."""
    while most is None or most > 0:
        piece = file.read(PIECE if most is None else min(PIECE, most))
        # A short read is no end yet; only an empty one is.
        while piece and len(piece) < PIECE and (most is None or len(piece) < most):
            more = file.read((PIECE if most is None else min(PIECE, most)) - len(piece))
            if not more:
                break
            piece += more
        if not piece:
            return
        if most is not None:
            most -= len(piece)
        yield piece


@contextmanager
def created_file(path: Path) -> Iterator[int]:
    """The descriptor of a new file, closed at the end."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    except OSError as error:
        raise backup_error(path.parent, error) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_piece(descriptor: int, piece: bytes, path: Path) -> None:
    """All of *piece*; *path* is for the error."""
    view = memoryview(piece)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        raise backup_error(path.parent, error) from error


def sync_descriptor(descriptor: int, path: Path) -> None:
    """Put what was written on stable storage, and out of the page cache."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise backup_error(path.parent, error) from error
    if hasattr(os, "posix_fadvise"):
        # The machine has better use for its memory than copies that nobody reads.
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def write_synced(path: Path, content: bytes) -> None:
    """A new file of a backup, on stable storage.

    Raises:
        BackupError: it cannot be written.
    """
    with created_file(path) as descriptor:
        write_piece(descriptor, content, path)
        sync_descriptor(descriptor, path)


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def backup_error(path: Path, error: OSError) -> BackupError:
    """What *error* says of the backup, with the cure."""
    if error.errno in _NO_ROOM:
        return BackupError(
            f"no room in {path}; make some, or have older backups removed with --keep N, and "
            "begin again: what was copied is not copied once more"
        )
    return BackupError(f"{path}: {text_of(error)}")
