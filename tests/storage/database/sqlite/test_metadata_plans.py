"""What is made of objects is found by index, in the order in which it is sent (plans of SQLite)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from isocenter.storage.database import metadata
from isocenter.storage.database.sqlite.schema import migrate


def plan_of(statement: str, values: Any) -> list[str]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        rows = connection.execute("EXPLAIN QUERY PLAN " + statement, values)
        return [row[3] for row in rows]


def test_what_is_due_is_found_by_index() -> None:
    plan = plan_of(metadata.DUE, {"now": 0.0, "limit": 1})
    assert any("USING INDEX series_metadata_due" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (metadata.INSTANCE, ("1.2",)),
        (metadata.SERIES, {"study": "1.2", "series": "1.3", "instance": ""}),
        (metadata.CONTENTS, {"study": "1.2", "series": "", "format": 1}),
    ],
)
def test_nothing_is_looked_for_row_by_row(statement: str, values: Any) -> None:
    plan = plan_of(statement, values)
    assert not any(step.startswith("SCAN") for step in plan), plan
