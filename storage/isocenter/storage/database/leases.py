"""Leases: rows that one worker at a time works on."""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.storage.database.database import Connection
from isocenter.storage.database.dialect import NUMBERS, json_list


@dataclass(frozen=True, slots=True)
class Lease:
    """The leases of one table, which has ``state``, ``due_at``, ``claimed_by``, ``claimed_until``.

    Attributes:
        key: the column with the number of a row.
        state: of the rows that somebody is to work on.
    """

    table: str
    key: str
    state: str

    @property
    def is_free(self) -> str:
        """Condition: a row is due, and nobody works on it; its parameter is ``:now``."""
        return f"state = '{self.state}' AND due_at <= :now AND claimed_until <= :now"

    def claim(
        self, connection: Connection, numbers: Sequence[int], worker: str, until: float
    ) -> None:
        """Have *worker* work on rows, for itself until then.

        In the transaction that found them free.
        """
        connection.execute(
            f"UPDATE {self.table} SET claimed_by = ?, claimed_until = ? "
            f"WHERE {self.key} IN {NUMBERS}",
            (worker, until, json_list(numbers)),
        )

    def renew_all(self, connection: Connection, worker: str, until: float, *, now: float) -> int:
        """What *worker* has, it has until then; how many rows."""
        return connection.execute(
            f"UPDATE {self.table} SET claimed_until = ? WHERE state = '{self.state}' "
            "AND claimed_by = ? AND claimed_until > 0 AND claimed_until > ?",
            (until, worker, now),
        ).rowcount

    def release(self, connection: Connection, number: int) -> None:
        """Whoever comes next may have the row."""
        connection.execute(
            f"UPDATE {self.table} SET claimed_until = 0 "
            f"WHERE {self.key} = ? AND state = '{self.state}'",
            (number,),
        )

    def release_all(self, connection: Connection) -> None:
        """The same of all rows."""
        connection.execute(
            f"UPDATE {self.table} SET claimed_until = 0 WHERE state = '{self.state}'"
        )


REPORTS: Final = Lease("event_report", "report_pk", "due")
COMMITMENTS: Final = Lease("commitment", "commitment_pk", "pending")
FORWARDS: Final = Lease("forward", "forward_pk", "due")
JOBS: Final = Lease("job", "job_pk", "due")


def release_stale(connection: Connection) -> None:
    """No process works on the database: what earlier ones had claimed is free."""
    for lease in (REPORTS, COMMITMENTS, FORWARDS, JOBS):
        lease.release_all(connection)
    # Whoever tried a destination, it never said what came of it.
    connection.execute("UPDATE forward_destination SET retry_at = 0 WHERE is_tried = 1")
