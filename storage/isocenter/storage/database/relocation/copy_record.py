"""Record of what was copied, in an SQLite file: adapter of the port `CopyRecord`."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from isocenter.services.backup.relocation.ports import NamedObject
from isocenter.services.errors import StorageError, text_of
from isocenter.storage.database.sqlite.connection import storage_error

_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS copied (
        deletion_id TEXT NOT NULL,
        object_key TEXT NOT NULL,
        size INTEGER NOT NULL,
        digest TEXT NOT NULL,
        pass INTEGER NOT NULL,
        sop_instance_uid TEXT NOT NULL,
        fault TEXT NOT NULL,
        PRIMARY KEY (deletion_id, object_key)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_NOTE: Final = """
    INSERT INTO copied VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (deletion_id, object_key)
    DO UPDATE SET size = excluded.size, digest = excluded.digest, pass = excluded.pass,
        sop_instance_uid = excluded.sop_instance_uid, fault = excluded.fault
"""
_NUMBER: Final = "number of the pass"


class SqliteCopyRecord:
    """See `isocenter.services.backup.relocation.ports.CopyRecord`.

    What was kept has to survive a power failure: rows and objects that nobody knows of are taken
    for those of somebody else, and the copy could not go on.
    """

    def __init__(self, path: Path) -> None:
        """Raises:
        StorageError: the file cannot be used.
        """
        self._path = path
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise StorageError(f"cannot write {path}: {text_of(error)}") from error
        # One task at a time uses it, from the threads of trio.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        with self._failing():
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(_SCHEMA)
            self._pass = int(self.value(_NUMBER) or "0")

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise storage_error(error, str(self._path)) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._failing():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    def begin(self) -> None:
        """See `CopyRecord.begin`."""
        self._pass += 1
        self.keep(_NUMBER, str(self._pass))

    def unknown(self, objects: Sequence[NamedObject]) -> Sequence[NamedObject]:
        """See `CopyRecord.unknown`."""
        with self._writing() as connection:
            return [
                one
                for one in objects
                if not connection.execute(
                    "UPDATE copied SET pass = ? "
                    "WHERE deletion_id = ? AND object_key = ? AND size = ? AND digest = ?",
                    (self._pass, one.deletion_id, one.object_key, one.size, one.digest),
                ).rowcount
            ]

    def note(self, objects: Sequence[NamedObject], faults: Mapping[NamedObject, str]) -> None:
        """See `CopyRecord.note`."""
        rows = [
            (
                one.deletion_id,
                one.object_key,
                one.size,
                one.digest,
                self._pass,
                one.sop_instance_uid,
                faults.get(one, ""),
            )
            for one in objects
        ]
        with self._writing() as connection:
            connection.executemany(_NOTE, rows)

    def faulty(self) -> Sequence[tuple[str, str]]:
        """See `CopyRecord.faulty`."""
        with self._failing():
            return self._connection.execute(
                "SELECT sop_instance_uid, fault FROM copied WHERE fault <> '' ORDER BY 1"
            ).fetchall()

    def knows(self, deletion_id: str, key: str, digest: str) -> bool:
        """See `CopyRecord.knows`."""
        with self._failing():
            return (
                self._connection.execute(
                    "SELECT 1 FROM copied WHERE deletion_id = ? AND object_key = ? AND digest = ?",
                    (deletion_id, key, digest),
                ).fetchone()
                is not None
            )

    def forget(self, objects: Sequence[tuple[str, str]]) -> None:
        """See `CopyRecord.forget`."""
        with self._writing() as connection:
            connection.executemany(
                "DELETE FROM copied WHERE deletion_id = ? AND object_key = ?", objects
            )

    def unseen(self, limit: int) -> Sequence[tuple[str, str]]:
        """See `CopyRecord.unseen`."""
        with self._failing():
            return self._connection.execute(
                "SELECT deletion_id, object_key FROM copied WHERE pass < ? LIMIT ?",
                (self._pass, limit),
            ).fetchall()

    def value(self, name: str) -> str:
        """See `CopyRecord.value`."""
        with self._failing():
            row = self._connection.execute(
                "SELECT value FROM kept WHERE name = ?", (name,)
            ).fetchone()
        return "" if row is None else str(row[0])

    def keep(self, name: str, value: str) -> None:
        """See `CopyRecord.keep`."""
        with self._failing():
            self._connection.execute(
                "INSERT INTO kept VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, value),
            )

    def close(self) -> None:
        """See `CopyRecord.close`."""
        self._connection.close()
