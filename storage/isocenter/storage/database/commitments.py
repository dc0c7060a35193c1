"""Storage commitments in the database: adapter of the port `Commitments`."""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time
from typing import Final

from isocenter.services.service_classes.commitment.ports import (
    BeginResult,
    CommitmentSummary,
    Completed,
)
from isocenter.services.service_classes.commitment.transaction import (
    Reference,
    Transaction,
    TransactionState,
    state_of,
)
from isocenter.services.service_classes.normalized.ports import ClaimedReport, NewReport
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.event_reports import insert_report
from isocenter.storage.database.leases import COMMITMENTS
from isocenter.storage.database.rows import rows_as

#: Columns of a `Reference`, in the order of its fields.
_REFERENCE: Final = "sop_class_uid, sop_instance_uid, named_study_uid, named_series_uid"
_PENDING: Final = f"FROM commitment WHERE {COMMITMENTS.is_free}"


#: What is done in the transaction that begins or completes one: the connection, and its row.
ChangeHook = Callable[[Connection, int], None]


class DatabaseCommitments:
    """See `isocenter.services.service_classes.commitment.ports.Commitments`.

    Args:
        on_change: what else is written when a transaction is begun, and when it is complete.
        now: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_change: Sequence[ChangeHook] = (),
        now: Callable[[], float] = time,
    ) -> None:
        self._database = database
        self._on_change = tuple(on_change)
        self._now = now

    async def begin(
        self,
        *,
        transaction_uid: str,
        requester: str,
        called_ae_title: str,
        references: Sequence[Reference],
        worker: str,
        seconds: float,
    ) -> BeginResult:
        """See `Commitments.begin`."""
        now = self._now()
        return await self._database.write(
            _begin,
            (transaction_uid, requester, called_ae_title, now, len(references), now, worker,
             now + seconds),
            references,
            self._on_change,
        )  # fmt: skip

    async def claim(self, worker: str, seconds: float, limit: int) -> Sequence[str]:
        """See `Commitments.claim`; costs no write when nothing is pending."""
        now = self._now()
        values: dict[str, object] = {"now": now, "limit": limit}
        if not await self._database.read(_is_pending, values):
            return ()
        return await self._database.write(_claim, values, worker, now + seconds)

    async def renew(self, transaction_uid: str, worker: str, seconds: float) -> bool:
        """See `Commitments.renew`."""
        return await self._database.write(
            _update_ours,
            "claimed_until = ?",
            (self._now() + seconds, transaction_uid, worker),
        )

    async def postpone(self, transaction_uid: str, worker: str, seconds: float) -> None:
        """See `Commitments.postpone`."""
        await self._database.write(
            _update_ours,
            "claimed_until = 0, due_at = ?",
            (self._now() + seconds, transaction_uid, worker),
        )

    async def get(self, transaction_uid: str) -> Transaction | None:
        """See `Commitments.get`."""
        return await self._database.read(_get, transaction_uid)

    async def complete(
        self,
        transaction_uid: str,
        worker: str,
        failures: Sequence[int],
        report: NewReport | None,
        *,
        claim_seconds: float,
    ) -> Completed | None:
        """See `Commitments.complete`."""
        return await self._database.write(
            _complete,
            transaction_uid,
            worker,
            failures,
            report,
            self._now(),
            claim_seconds,
            self._on_change,
        )

    async def report(
        self, report: NewReport, worker: str, *, claim_seconds: float
    ) -> ClaimedReport:
        """See `Commitments.report`."""
        return await self._database.write(_report, report, worker, self._now(), claim_seconds)

    async def rows(
        self, *, state: TransactionState | None = None, limit: int = 100
    ) -> Sequence[CommitmentSummary]:
        """See `Commitments.rows`."""
        return await self._database.read(_rows, state, limit)


def _begin(
    connection: Connection,
    values: tuple[object, ...],
    references: Sequence[Reference],
    on_change: Sequence[ChangeHook],
) -> BeginResult:
    transaction_uid, requester, called_ae_title = values[:3]
    known = connection.execute(
        "SELECT commitment_pk, requester, called_ae_title FROM commitment "
        "WHERE transaction_uid = ?",
        (transaction_uid,),
    ).fetchone()
    if known is not None:
        # An AE title and the name of a user may be the same, and are not.
        is_same_way = bool(known[2]) is bool(called_ae_title)
        asked = list(map(_columns, references))
        is_same = (
            known[1] == requester and is_same_way and asked == _references(connection, known[0])
        )
        return BeginResult.AGAIN if is_same else BeginResult.IN_USE
    (key,) = connection.execute(
        "INSERT INTO commitment (transaction_uid, requester, called_ae_title, requested_at, "
        "num_references, due_at, claimed_by, claimed_until, state) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending') RETURNING commitment_pk",
        values,
    ).fetchone()
    connection.executemany(
        f"INSERT INTO commitment_reference (commitment_pk, position, {_REFERENCE}) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        [(key, position, *_columns(each)) for position, each in enumerate(references)],
    )
    for write in on_change:
        write(connection, key)
    return BeginResult.NEW


def _columns(reference: Reference) -> tuple[str, ...]:
    return (
        reference.sop_class_uid,
        reference.sop_instance_uid,
        reference.study_instance_uid,
        reference.series_instance_uid,
    )


def _references(connection: Connection, key: int) -> list[tuple[str, ...]]:
    return connection.execute(
        f"SELECT {_REFERENCE} FROM commitment_reference WHERE commitment_pk = ? ORDER BY position",
        (key,),
    ).fetchall()


def _is_pending(connection: Connection, values: dict[str, object]) -> bool:
    return connection.execute(f"SELECT 1 {_PENDING} LIMIT 1", values).fetchone() is not None


def _claim(
    connection: Connection, values: dict[str, object], worker: str, until: float
) -> list[str]:
    rows = connection.execute(
        f"SELECT commitment_pk, transaction_uid {_PENDING} ORDER BY commitment_pk LIMIT :limit",
        values,
    ).fetchall()
    COMMITMENTS.claim(connection, [row[0] for row in rows], worker, until)
    return [row[1] for row in rows]


def _update_ours(connection: Connection, assignment: str, values: tuple[object, ...]) -> bool:
    cursor = connection.execute(
        f"UPDATE commitment SET {assignment} "
        "WHERE transaction_uid = ? AND claimed_by = ? AND state = 'pending'",
        values,
    )
    return cursor.rowcount == 1


def _get(connection: Connection, transaction_uid: str) -> Transaction | None:
    row = connection.execute(
        "SELECT commitment_pk, requester, called_ae_title, state, requested_at, completed_at "
        "FROM commitment WHERE transaction_uid = ?",
        (transaction_uid,),
    ).fetchone()
    if row is None:
        return None
    state = TransactionState(row[3])
    references = connection.execute(
        f"SELECT {_REFERENCE}, failure_reason FROM commitment_reference "
        "WHERE commitment_pk = ? ORDER BY position",
        (row[0],),
    ).fetchall()
    return Transaction(
        transaction_uid=transaction_uid,
        requester=row[1],
        called_ae_title=row[2],
        state=state,
        requested_at=row[4],
        completed_at=row[5],
        references=tuple(Reference(*each[:-1]) for each in references),
        failures=None
        if state is TransactionState.PENDING
        else tuple(each[-1] for each in references),
    )


def _complete(
    connection: Connection,
    transaction_uid: str,
    worker: str,
    failures: Sequence[int],
    report: NewReport | None,
    now: float,
    claim_seconds: float,
    on_change: Sequence[ChangeHook],
) -> Completed | None:
    row = connection.execute(
        "UPDATE commitment SET state = ?, completed_at = ?, num_failed = ? "
        "WHERE transaction_uid = ? AND claimed_by = ? AND state = 'pending' "
        "RETURNING commitment_pk",
        (
            state_of(failures).value,
            now,
            sum(map(bool, failures)),
            transaction_uid,
            worker,
        ),
    ).fetchone()
    if row is None:
        return None
    connection.executemany(
        "UPDATE commitment_reference SET failure_reason = ? "
        "WHERE commitment_pk = ? AND position = ?",
        [(int(failure), row[0], position) for position, failure in enumerate(failures)],
    )
    for write in on_change:
        write(connection, row[0])
    if report is None:
        return Completed(None)
    return Completed(
        insert_report(connection, report, now, worker=worker, claim_seconds=claim_seconds)
    )


def _report(
    connection: Connection,
    report: NewReport,
    worker: str,
    now: float,
    claim_seconds: float,
) -> ClaimedReport:
    return insert_report(connection, report, now, worker=worker, claim_seconds=claim_seconds)


def _rows(
    connection: Connection, state: TransactionState | None, limit: int
) -> list[CommitmentSummary]:
    rows = connection.execute(
        "SELECT c.transaction_uid AS transaction_uid, requester, c.state AS state, "
        "requested_at, completed_at, "
        "num_references AS \"references\", num_failed AS failed, coalesce(r.state, '') AS report, "
        "coalesce(attempts, 0) AS report_attempts, coalesce(last_fault, '') AS report_fault "
        "FROM commitment c LEFT JOIN event_report r ON report_pk = "
        "(SELECT max(report_pk) FROM event_report e "
        "WHERE e.transaction_uid = c.transaction_uid AND e.destination = c.requester) "
        "WHERE :state IS NULL OR c.state = :state ORDER BY commitment_pk DESC LIMIT :limit",
        {"state": None if state is None else state.value, "limit": limit},
    )
    return rows_as(CommitmentSummary, rows, state=TransactionState)
