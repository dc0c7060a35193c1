"""The queue of what is to be compressed is searched by index (plans of SQLite)."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from isocenter.storage.database.compression import DUE
from isocenter.storage.database.sqlite.schema import migrate


def test_what_is_due_is_found_by_index() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        values = {"now": 0.0, "limit": 1}
        plan = [r[3] for r in connection.execute("EXPLAIN QUERY PLAN " + DUE, values)]
        assert any("USING INDEX compression_due" in step for step in plan), plan
        assert not any("TEMP B-TREE" in step for step in plan), plan
