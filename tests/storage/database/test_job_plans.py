"""What a claim costs does not grow with what waits (plans and steps of SQLite)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from isocenter.storage.database.analyses import OF_TOKEN
from isocenter.storage.database.jobs import claims as jobs
from isocenter.storage.database.print_jobs import LAST_FAULT
from isocenter.storage.database.sqlite.schema import migrate

NOW = 1_000_000.0


def test_jobs_are_claimed_by_index() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        values = {"now": 1, "node": "A", "priority": 1, "not_for": "[]", "host": ""}
        plan = [r[3] for r in connection.execute("EXPLAIN QUERY PLAN " + jobs.CLAIM, values)]
        assert any("job_next (node=? AND priority=? AND due_at<?)" in step for step in plan), plan
        plan += [r[3] for r in connection.execute("EXPLAIN QUERY PLAN " + jobs.NODES, values)]
        assert not any("TEMP B-TREE" in step or step == "SCAN job" for step in plan), plan


def test_tokens_of_ai_services_are_found_by_index() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        explained = connection.execute("EXPLAIN QUERY PLAN " + OF_TOKEN, {"hash": "h"})
        plan = [row[3] for row in explained]
        assert any("analysis_request_callback" in step for step in plan), plan


def test_the_last_fault_of_a_printer_is_found_by_index() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + LAST_FAULT)]
        assert "SCAN print_job" not in plan, plan
        assert any("print_job_ended" in step for step in plan), plan


@pytest.mark.parametrize(
    ("node", "due_at"),
    [
        pytest.param(lambda number: "A", NOW - 1, id="due"),
        pytest.param(lambda number: "A", NOW + 9, id="later"),
        pytest.param(lambda number: f"N{number % 4}", NOW - 1, id="of several nodes"),
    ],
)
def test_many_waiting_jobs_cost_no_more_per_claim_than_few(
    node: Callable[[int], str], due_at: float
) -> None:
    few, many = (steps_of_claim(count, node, due_at) for count in (100, 20_000))
    assert many <= few + 2, (few, many)


def steps_of_claim(count: int, node: Callable[[int], str], due_at: float) -> int:
    """Hundreds of steps of the database's machine that a claim takes among so many."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        rows: list[tuple[Any, ...]] = [
            (str(number), node(number), number % 4, due_at) for number in range(count)
        ]
        rows.append(("mine", "Z", 1, NOW - 2))
        connection.executemany(
            "INSERT INTO job (job_id, kind, node, parameters, priority, requested_by, state, "
            "created_at, since, due_at) "
            "VALUES (?, 'retrieve', ?, '{\"keys\": [], \"again\": false}', ?, '', 'due', 0, 0, ?)",
            rows,
        )
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        connection.set_progress_handler(step, 100)
        claimed = jobs.claim(connection, "w", 60.0, ["A"], (), NOW)
        connection.set_progress_handler(None, 0)
        assert claimed is not None
        return steps
