"""Index file made of the rows of another database, or read for one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import trio

from isocenter.storage.database.relocation.tables import DatabaseTables
from isocenter.storage.database.sqlite.connection import storage_error
from isocenter.storage.database.sqlite.database import open_sqlite_database


@asynccontextmanager
async def new_index_file(path: Path) -> AsyncIterator[DatabaseTables]:
    """The tables of a new index at *path*, in the place of another one; when the context is left
    without an exception, the file is whole and on stable storage.

    Raises:
        StorageError: it cannot be written.
    """
    await trio.to_thread.run_sync(_remove, path)
    async with open_sqlite_database(path, durability="relaxed", readers=1) as database:
        yield DatabaseTables(database, is_new=True)
    await trio.to_thread.run_sync(_finish, path)


@asynccontextmanager
async def existing_index_file(path: Path) -> AsyncIterator[DatabaseTables]:
    """The tables of the index at *path*, which is brought to the schema of this program.

    Raises:
        StorageError: it cannot be used.
    """
    async with open_sqlite_database(
        path, durability="relaxed", create=False, readers=1
    ) as database:
        yield DatabaseTables(database)


def _remove(path: Path) -> None:
    try:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, str(path)) from error


def _finish(path: Path) -> None:
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            # Whole in one file, without a log beside it.
            connection.execute("PRAGMA journal_mode = DELETE")
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except (OSError, sqlite3.Error) as error:
        raise storage_error(error, str(path)) from error
