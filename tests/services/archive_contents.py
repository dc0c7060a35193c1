"""Contents of whole archives, to compare them."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from isocenter.storage.database.relocation.layout import tables


def rows_of(connection: Any) -> Mapping[str, list[tuple[Any, ...]]]:
    """All rows of all tables that belong to an archive."""
    found = {}
    for name, table in tables().items():
        columns = ", ".join(f'"{column}"' for column in table.columns)
        key = ", ".join(f'"{column}"' for column in table.key)
        rows = connection.execute(f"SELECT {columns} FROM {name} ORDER BY {key}").fetchall()
        found[name] = [tuple(row) for row in rows]
    return found


def sqlite_rows(data_dir: Path) -> Mapping[str, list[tuple[Any, ...]]]:
    """The same of an index file, which is not changed."""
    path = data_dir / "index.db"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return rows_of(connection)


def objects_below(data_dir: Path) -> dict[str, str]:
    """Digests of the objects in a data directory, the trash among them, by path."""
    return {
        path.relative_to(data_dir).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("objects", "trash")
        for path in (data_dir / folder).rglob("*")
        if path.is_file()
    }
