"""Leases: rows that one worker at a time works on."""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.cluster.worker_names import NODE_MARK
from isocenter.storage.database.assessments import settle_assessments
from isocenter.storage.database.database import Connection
from isocenter.storage.database.dialect import NUMBERS, json_list
from isocenter.storage.database.study_locks import release_study_locks
from isocenter.storage.database.tasks import release_tasks

#: Behind every text that begins alike.
LAST: Final = "\U0010ffff"


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

    def release_all_of(self, connection: Connection, node: str) -> None:
        """The same of all rows that workers of *node* have."""
        low = f"{node}{NODE_MARK}"
        connection.execute(
            f"UPDATE {self.table} SET claimed_until = 0 WHERE state = '{self.state}' "
            "AND claimed_until > 0 AND claimed_by >= ? AND claimed_by < ?",
            (low, low + LAST),
        )


REPORTS: Final = Lease("event_report", "report_pk", "due")
COMMITMENTS: Final = Lease("commitment", "commitment_pk", "pending")
JOBS: Final = Lease("job", "job_pk", "due")
PRINT_JOBS: Final = Lease("print_job", "print_job_pk", "due")
#: What one worker of all nodes does for all.
DUTIES: Final = Lease("duty", "duty_pk", "due")
_ALL: Final = (REPORTS, COMMITMENTS, JOBS, PRINT_JOBS, DUTIES)


def release_stale(connection: Connection) -> None:
    """No process works on the database: what earlier ones had claimed is free."""
    for lease in _ALL:
        lease.release_all(connection)
    release_study_locks(connection)
    release_tasks(connection)
    connection.execute("UPDATE tier_move SET until = 0")
    connection.execute("UPDATE assessment_claim SET until = 0")
    settle_assessments(connection, 0.0)
    connection.execute("UPDATE print_film_note SET is_over = 1")


def release_claims_of(connection: Connection, node: str) -> None:
    """No process of *node* lives: what its workers had claimed is free, and of others nothing."""
    for lease in _ALL:
        lease.release_all_of(connection, node)
