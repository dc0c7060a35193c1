"""The queue of what is to be forwarded is searched by index (plans of SQLite)."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from isocenter.storage.database.forwarding.records import DUE_DESTINATIONS, TAKE
from isocenter.storage.database.sqlite.schema import migrate


def test_what_waits_for_its_time_is_not_looked_at() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        values = dict.fromkeys(("now", "destination", "priority", "limit"), "") | dict.fromkeys(
            ("not_for", "without"), "[]"
        )
        due = DUE_DESTINATIONS.format(state="due", priorities="0, 1, 2, 3")
        for statement in (TAKE, due):
            plan = [r[3] for r in connection.execute("EXPLAIN QUERY PLAN " + statement, values)]
            wanted = "forward_due (destination=? AND priority=? AND due_at<?)"
            assert any(step.endswith(wanted) for step in plan), plan
            assert not any("TEMP B-TREE" in step for step in plan), plan
