"""Consistent copy of an index in use, and its contents.

SQLite's backup interface begins anew whenever somebody writes between two of its steps, and on a
busy archive it would never end.  So the connection that is copied from holds a read transaction:
all steps see the one moment at which it began, writers go on, and only the write-ahead log grows
until the copy is complete.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from isocenter.services.backup.ports import OBJECTS, TRASH, IndexedFile
from isocenter.services.errors import StorageError
from isocenter.storage.database.sqlite.connection import BUSY_TIMEOUT_SECONDS, storage_error
from isocenter.storage.database.sqlite.schema import LATEST_VERSION, WrongFileError, schema_version

#: Pages of one step (4 KiB each): between two of them a copy can be stopped.
_PAGES: Final = 1024
#: Faults of a damaged copy that are named.
_NAMED_FAULTS: Final = 20

_COLUMNS: Final = "object_key, sop_instance_uid, size, data_set_offset, digest"
#: Whose file is still wanted; of the others only a name is yet to be removed.
_IN_TRASH: Final = "FROM trash WHERE state IN ('leaving', 'kept', 'returning')"
#: What lies beside the objects that the index names: originals of what was corrected, and what is
#: made of them for an exchange.
_KEPT: Final = """
    FROM (SELECT original_key AS object_key, sop_instance_uid,
            json_extract(original, '$.size') AS size,
            json_extract(original, '$.data_set_offset') AS data_set_offset,
            json_extract(original, '$.digest') AS digest, 'original' AS what
        FROM corrected_instance WHERE is_corrected = 1
        UNION ALL SELECT made_key, sop_instance_uid, json_extract(made, '$.size'),
            json_extract(made, '$.data_set_offset'), json_extract(made, '$.digest'), 'made'
        FROM corrected_instance WHERE made_key NOT IN ('', original_key))
"""


class SqliteIndexFile:
    """The index in one SQLite file, for `services.backup`; every method blocks."""

    latest_version = LATEST_VERSION

    def __init__(self, path: Path) -> None:
        self.path = path

    def copy_to(
        self,
        target: Path,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Put a copy of one moment at *target*, on stable storage, in the place of another one.

        Args:
            progress: called between steps with pages done and pages in all; what it raises
                stops the copy.

        Raises:
            StorageError: the index cannot be read, or the copy cannot be written.
        """
        try:
            target.unlink(missing_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            with closing(_open(self.path)) as source, closing(_open(target)) as copy:
                schema_version(source)
                source.execute("BEGIN")
                source.execute("SELECT count(*) FROM sqlite_master").fetchone()

                def tell(status: int, remaining: int, total: int) -> None:
                    progress(total - remaining, total)

                source.backup(copy, pages=_PAGES, progress=tell, sleep=0.0)
                # Whole in one file, without a log beside it.
                copy.execute("PRAGMA journal_mode = DELETE")
            with target.open("rb") as file:
                os.fsync(file.fileno())
        except (OSError, sqlite3.Error, WrongFileError) as error:
            raise storage_error(error, str(self.path)) from error

    def version(self) -> int:
        """The schema version; 0 for an empty database.

        Raises:
            StorageError: it is no index, or one of a newer program.
        """
        try:
            with closing(_open(self.path, is_read_only=True)) as connection:
                return schema_version(connection)
        except (sqlite3.Error, WrongFileError) as error:
            raise storage_error(error, str(self.path)) from error

    def count(self) -> int:
        """Rows that have a file, deleted objects in the trash among them.

        Raises:
            StorageError: the index cannot be read.
        """
        with self._read() as connection:
            (count,) = connection.execute("SELECT count(*) FROM instance").fetchone()
            if _has_trash(connection):
                (more,) = connection.execute(f"SELECT count(*) {_IN_TRASH}").fetchone()
                count += more
            if _has_kept(connection):
                (more,) = connection.execute(f"SELECT count(*) {_KEPT}").fetchone()
                count += more
            return int(count)

    def faults(self) -> Sequence[str]:
        """What SQLite finds wrong in the file, a line each; reads all of it."""
        try:
            with closing(_open(self.path, is_read_only=True)) as connection:
                rows = connection.execute(f"PRAGMA quick_check({_NAMED_FAULTS})").fetchall()
        except sqlite3.Error as error:
            return [str(error)]
        return [] if rows == [("ok",)] else [str(row[0]) for row in rows]

    def files(self) -> Iterator[IndexedFile]:
        """The files that rows point to, in the order of their paths.

        Raises:
            StorageError: the index cannot be read.
        """
        with self._read() as connection:
            # SQLite sorts on disk; its order of text is Python's.
            kept = f" UNION ALL SELECT {_COLUMNS}, what {_KEPT}" if _has_kept(connection) else ""
            for row in connection.execute(
                f"SELECT {_COLUMNS}, created_at FROM instance{kept} ORDER BY 1"  # noqa: S608
            ):
                yield IndexedFile(OBJECTS + row[0], *row)
            if _has_trash(connection):
                for path, *row in connection.execute(
                    "SELECT deletion_id || '/' || replace(object_key, '/', ','), "
                    f"{_COLUMNS}, deletion_id {_IN_TRASH} ORDER BY 1"
                ):
                    yield IndexedFile(TRASH + path, *row)

    def deletions(self) -> Sequence[str]:
        """Folders of the trash, in their order.

        Raises:
            StorageError: the index cannot be read.
        """
        with self._read() as connection:
            if not _has_trash(connection):
                return []
            rows = connection.execute(f"SELECT DISTINCT deletion_id {_IN_TRASH} ORDER BY 1")
            return [TRASH + deletion_id for (deletion_id,) in rows]

    def still_names(self, files: Sequence[IndexedFile]) -> bool:
        """Whether all of these files are those of a row now.

        Raises:
            StorageError: the index cannot be read.
        """
        with self._read(is_live=True) as connection:
            return all(_names(connection, file) for file in files)

    @contextmanager
    def _read(self, *, is_live: bool = False) -> Iterator[sqlite3.Connection]:
        try:
            with closing(_open(self.path, is_read_only=not is_live)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise storage_error(error, str(self.path)) from error


def _names(connection: sqlite3.Connection, file: IndexedFile) -> bool:
    if not file.path.startswith(TRASH):
        row = connection.execute(
            "SELECT object_key, digest FROM instance WHERE sop_instance_uid = ?",
            (file.sop_instance_uid,),
        ).fetchone()
        if row == (file.object_key, file.digest):
            return True
        if not _has_kept(connection):
            return False
        kept = connection.execute(
            f"SELECT 1 {_KEPT} WHERE object_key = ? AND digest = ?",
            (file.object_key, file.digest),
        )
        return kept.fetchone() is not None
    row = connection.execute(
        f"SELECT 1 {_IN_TRASH} AND deletion_id = ? AND object_key = ?",
        (file.created_at, file.object_key),
    ).fetchone()
    return row is not None


def _has_kept(connection: sqlite3.Connection) -> bool:
    """Copies of earlier schemas have no corrections."""
    row = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'corrected_instance'"
    )
    return row.fetchone() is not None


def _has_trash(connection: sqlite3.Connection) -> bool:
    """Copies of earlier schemas have none."""
    row = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'trash'")
    return row.fetchone() is not None


def _open(path: Path, *, is_read_only: bool = False) -> sqlite3.Connection:
    if not path.exists():
        raise StorageError(f"the index {path} is missing")
    connection = sqlite3.connect(
        path, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS, check_same_thread=False
    )
    if is_read_only:
        connection.execute("PRAGMA query_only = ON")
    return connection
