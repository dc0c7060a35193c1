"""Copies of the index from before a migration, beside it, for some days.

There is no way back from a newer schema.  Whoever has to go back to the version of before finds
here what that one can read: all that the index knew then, and nothing of what came after.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from isocenter.services.errors import StorageError, text_of
from isocenter.services.system.private_files import sync_directory
from isocenter.storage.database.sqlite.backup import SqliteIndexFile
from isocenter.storage.database.sqlite.schema import LATEST_VERSION, NewerIndexError

#: Beside the index.
COPIES_FOLDER: Final = "index-copies"
_NAME: Final = re.compile(r"index-v(\d+)-(\d{8}T\d{6}Z)\.db")
#: Beside the copy itself, for the migration.
_SPARE_BYTES: Final = 64 << 20


def copy_before_migration(
    index: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Path | None:
    """A copy of *index*, on stable storage, if this program is about to migrate it; None: not.

    Raises:
        StorageError: there is to be one and there cannot; nothing was migrated.
    """
    if not index.exists() or not index.stat().st_size:
        return None
    source = SqliteIndexFile(index)
    try:
        version = source.version()
    except StorageError:
        return None  # whoever opens it says so
    if not 0 < version < LATEST_VERSION:
        return None
    folder = index.parent / COPIES_FOLDER
    path = folder / f"index-v{version}-{now():%Y%m%dT%H%M%SZ}.db"
    size = index.stat().st_size
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if shutil.disk_usage(folder).free < size + _SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        staged = path.with_name(f"{path.name}.new{os.getpid()}")
        try:
            source.copy_to(staged)
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)
        sync_directory(folder)
    except (OSError, StorageError) as error:
        with suppress(OSError):
            folder.rmdir()  # if it is empty
        why = text_of(error)
        raise StorageError(
            f"the index {index} is of an earlier version, and before it is migrated it is copied "
            f"to {folder}, which failed ({why}; {size} bytes are needed); make room, or set "
            "storage.keep_index_days to 0 if you have a backup"
        ) from error
    return path


def remove_old_copies(index: Path, days: int) -> int:
    """Remove the copies that are older than *days*; how many there were."""
    limit = datetime.now(UTC) - timedelta(days=days)
    removed = 0
    for made, path in _copies(index.parent):
        if made < limit:
            with suppress(OSError):
                path.unlink()
                removed += 1
    with suppress(OSError):
        (index.parent / COPIES_FOLDER).rmdir()  # when it is empty
    return removed


def hint_for_older_program(index: Path) -> str:
    """What this program, which is too old for *index*, could use in its place; empty: nothing."""
    for made, path in sorted(_copies(index.parent), reverse=True):
        with suppress(StorageError, sqlite3.Error, NewerIndexError):
            SqliteIndexFile(path).version()
            return (
                f"the index from before the migration, of {made:%Y-%m-%d %H:%M} UTC, is {path}: "
                f"stop every server, move {index.name} and those named like it with -wal and -shm "
                f"away, copy it to {index}, and run isocenter db reindex, so that objects stored "
                "since are found"
            )
    return ""


def _copies(folder: Path) -> list[tuple[datetime, Path]]:
    try:
        names = os.listdir(folder / COPIES_FOLDER)
    except OSError:
        return []
    return [
        (
            datetime.strptime(match[2], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
            folder / COPIES_FOLDER / name,
        )
        for name in names
        if (match := _NAME.fullmatch(name))
    ]
