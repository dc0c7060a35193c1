"""Layout of the tables: names, columns and keys, as the schema has them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache
from graphlib import TopologicalSorter
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.storage.database.sqlite.schema import empty_database

#: What does not belong to the archive, but to the place where it is kept.
LEFT: Final[Mapping[str, str]] = {
    "schema_version": "each database notes which migrations it has seen",
    "staged_object": "notes of keys in the object store that the archive leaves",
    "print_film_note": "films that the source is about to forget",
    "reading_process": "processes of the servers of the source",
    "study_lock_waiting": "of such a process",
    "study_lock_answer": "of such a process",
    "assessment_claim": "who is about to assess what, on a server of the source",
    "cluster_node": "nodes of the source",
    "duty": "of such a node",
    "shared_document": "texts that the first node of the target notes anew from its data directory",
}


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        columns: all of them, in the order of the schema.
        key: those by which its rows are told apart, and ordered; all, where no key is declared.
        is_numbered: the database numbers its rows, and gives no number twice.
        first_rows: that are in it before there is an archive.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    is_numbered: bool
    first_rows: int


@cache
def tables() -> Mapping[str, Table]:
    """Those that belong to the archive, by name; those that others refer to come first."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(empty_database())
        names = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' "
                "AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY name"
            )
        ]
        before = {
            name: sorted({row[2] for row in connection.execute(f"PRAGMA foreign_key_list({name})")})
            for name in names
        }
        return {
            name: _table(connection, name)
            for name in TopologicalSorter(before).static_order()
            if name not in LEFT
        }


def _table(connection: sqlite3.Connection, name: str) -> Table:
    found: Sequence[tuple[str, int]] = [
        (row[1], row[5]) for row in connection.execute(f'PRAGMA table_info("{name}")')
    ]
    columns = tuple(column for column, _ in found)
    key = tuple(column for place, column in sorted((p, c) for c, p in found if p))
    (text,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    (rows,) = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()  # noqa: S608
    return Table(name, columns, key or columns, "AUTOINCREMENT" in text, rows)
