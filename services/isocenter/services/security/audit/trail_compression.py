"""Files of a trail that do not change any more, compressed.

A compressed file takes the place of the one that was written when its content was read back from
the disk and is the same, byte for byte.  It gets its name before the other loses its own, both on
stable storage: a crash leaves one of them, or both, and never neither.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import secrets
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.security.audit.trail_segments import COMPRESSED, Segment, segments_of
from isocenter.services.system.file_lock import directory_lock
from isocenter.services.system.private_files import PRIVATE_FILE, match_owner, sync_directory

_PIECE: Final = 1 << 20
#: Where more effort gains little.
LEVEL: Final = 6


class CompressionError(IsocenterError):
    """What was compressed is not what was read; nothing was changed."""

    error_code = ErrorCode.AUDIT


@dataclass(slots=True)
class Compressed:
    """What was done, in bytes before and after."""

    files: int = 0
    before: int = 0
    after: int = 0


def compress_closed(folder: Path, check: Callable[[], None] = lambda: None) -> Compressed:
    """Compress all files but the last; one process at a time.

    Args:
        check: called now and then; what it raises stops the work, and nothing is half done.

    Raises:
        CompressionError: the disk does not keep what it is given.
        OSError: a file cannot be read or written; there is no room.
    """
    done = Compressed()
    _clear(folder)
    for segment in segments_of(folder)[:-1]:
        if not segment.is_compressed and segment.path.exists():
            before, after = _compress(segment, folder, check)
            done.files += before > 0
            done.before += before
            done.after += after
    return done


def _compress(segment: Segment, folder: Path, check: Callable[[], None]) -> tuple[int, int]:
    target = segment.compressed.path
    staged = folder / f".{target.name}.{secrets.token_hex(8)}"
    try:
        digest = _write(segment.path, staged, folder, check)
        if _digest_of(staged, check) != digest:
            raise CompressionError(
                f"{segment.path} was compressed, and what is on the disk is something else; look "
                "after the disk"
            )
        # Whoever looks at all files at once sees it before or after.
        with directory_lock(folder):
            if not segment.path.exists():
                return 0, 0  # removed just now, and not to come back
            sizes = segment.path.stat().st_size, staged.stat().st_size
            staged.replace(target)
            sync_directory(folder)
            segment.path.unlink()
            sync_directory(folder)
    finally:
        with suppress(FileNotFoundError):
            staged.unlink()
    return sizes


def _write(source: Path, staged: Path, folder: Path, check: Callable[[], None]) -> bytes:
    """Compress *source* to *staged*, on stable storage; the digest of its content."""
    digest = hashlib.sha256()
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as raw, source.open("rb") as file:
        match_owner(folder, raw.fileno())
        with gzip.GzipFile("", "wb", LEVEL, raw, 0) as packed:
            for piece in _pieces(file, check):
                digest.update(piece)
                packed.write(piece)
        raw.flush()
        os.fsync(raw.fileno())
    return digest.digest()


def _digest_of(path: Path, check: Callable[[], None]) -> bytes:
    digest = hashlib.sha256()
    try:
        with gzip.open(path, "rb") as file:
            for piece in _pieces(file, check):
                digest.update(piece)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return b""
    return digest.digest()


def _pieces(file: BinaryIO | gzip.GzipFile, check: Callable[[], None]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        check()
        yield piece


def _clear(folder: Path) -> None:
    """Remove what a crash has left of a compressed file."""
    for path in folder.glob(f".audit-*.jsonl{COMPRESSED}.*"):
        with suppress(FileNotFoundError):
            path.unlink()
