"""Wishes of people about jobs: pause, resume, cancel, retry, delete."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from isocenter.services.workflow.jobs.ports import Wish
from isocenter.storage.database.database import Connection
from isocenter.storage.database.jobs.claims import begin_failed_items
from isocenter.storage.database.jobs.rows import (
    IS_RUNNING,
    IS_WAITING,
    NOT_STANDING,
    change,
    open_key,
    place_of,
)

#: What goes on by itself is held at its destination.
_ASKED_FOR: Final = f"AND {NOT_STANDING}"


def wish_of(connection: Connection, job_id: str, wish: Wish, now: float) -> bool:
    """See `JobQueue.wish`."""
    values: dict[str, Any] = {"id": job_id, "now": now}
    match wish:
        case Wish.PAUSE | Wish.CANCEL:
            state = "paused" if wish is Wish.PAUSE else "cancelled"
            values |= {"wish": wish.value, "state": state, "is_over": int(wish is Wish.CANCEL)}
            may_be = "state = 'due'" if wish is Wish.PAUSE else "state IN ('due', 'paused')"
            told = change(
                connection,
                f"UPDATE job SET wish = :wish WHERE job_id = :id AND {IS_RUNNING} {_ASKED_FOR}",
                values,
            )
            return told or change(
                connection,
                "UPDATE job SET state = :state, wish = '', "
                "open_key = CASE WHEN :is_over THEN NULL ELSE open_key END, "
                "ended_at = CASE WHEN :is_over THEN :now ELSE NULL END "
                f"WHERE job_id = :id AND {may_be} AND claimed_until <= :now {_ASKED_FOR}",
                values,
            )
        case Wish.RESUME:
            return change(
                connection,
                "UPDATE job SET state = 'due', due_at = :now "
                "WHERE job_id = :id AND state = 'paused'",
                values,
            )
        case Wish.RETRY:
            return _retry(connection, job_id, now)
        case Wish.DELETE:
            found = connection.execute(
                "SELECT job_pk FROM job WHERE job_id = :id AND ended_at IS NOT NULL", values
            ).fetchone()
            if found is None:
                return False
            forget(connection, [found[0]])
            return True


def _retry(connection: Connection, job_id: str, now: float) -> bool:
    """What is over, and what waits for its next attempt, begins at once; what is there, stays."""
    row = connection.execute(
        f"SELECT job_pk, kind, node, host, parameters FROM job WHERE job_id = :id {_ASKED_FOR} "
        f"AND (state IN ('failed', 'cancelled') OR ({IS_WAITING} AND attempts > 0))",
        {"id": job_id, "now": now},
    ).fetchone()
    if row is None:
        return False
    number, kind, node, host, parameters = row
    key = open_key(kind, place_of(node, host), parameters)
    values = {"number": number, "key": key, "now": now}
    other = connection.execute(
        "SELECT 1 FROM job WHERE open_key = :key AND job_pk <> :number", values
    ).fetchone()
    if other is not None:
        return False
    connection.execute(
        "UPDATE job SET state = 'due', open_key = :key, since = :now, due_at = :now, "
        "ended_at = NULL, attempts = 0, wish = '' WHERE job_pk = :number",
        values,
    )
    begin_failed_items(connection, number)
    return True


def forget(connection: Connection, numbers: Sequence[int]) -> None:
    """Jobs with their objects."""
    for statement in (
        "DELETE FROM job_item WHERE job_pk = ?",
        "DELETE FROM job_result WHERE job_pk = ?",
        "DELETE FROM job WHERE job_pk = ?",
    ):
        connection.executemany(statement, [(number,) for number in numbers])
