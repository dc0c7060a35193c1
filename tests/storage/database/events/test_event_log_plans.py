"""What the latest arrivals cost does not grow with the archive (plans of SQLite)."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from isocenter.storage.database.events.event_log import LATEST_STUDIES
from isocenter.storage.database.sqlite.schema import migrate


def test_the_latest_arrivals_are_found_by_index() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        values = {"state": "receiving", "limit": 9}
        plan = connection.execute("EXPLAIN QUERY PLAN " + LATEST_STUDIES, values)
        assert [row[3] for row in plan] == [
            "SEARCH study_completion USING INDEX study_completion_latest (state=?)"
        ]
