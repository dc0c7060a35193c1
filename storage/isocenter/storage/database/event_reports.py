"""Event reports in the database: adapter of the port `ReportQueue`."""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from time import time
from typing import Final

from isocenter.services.service_classes.normalized.ports import ClaimedReport, NewReport
from isocenter.services.service_classes.ups.workitem import UPS_EVENT
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import json_list, texts
from isocenter.storage.database.leases import REPORTS
from isocenter.storage.database.rows import named_rows

#: Those of one workitem reach a subscriber in their order: each waits for the one before it.
_DUE: Final = f"""
    FROM event_report
    WHERE {REPORTS.is_free} AND destination NOT IN {texts("not_for")}
    AND NOT (sop_class_uid = '{UPS_EVENT}' AND EXISTS (
        SELECT 1 FROM event_report earlier WHERE earlier.state = 'due'
        AND earlier.destination = event_report.destination
        AND earlier.sop_instance_uid = event_report.sop_instance_uid
        AND earlier.report_pk < event_report.report_pk
        AND (earlier.due_at > :now OR earlier.claimed_until > :now)
    ))
"""
#: A fault is a line of text; peers' words are in it.
_FAULT_LENGTH: Final = 500


def insert_report(
    connection: Connection,
    report: NewReport,
    now: float,
    *,
    worker: str = "",
    claim_seconds: float = 0.0,
) -> ClaimedReport:
    """Queue *report* within the caller's transaction, claimed by *worker* if it wants it."""
    (number,) = connection.execute(
        "INSERT INTO event_report (destination, calling_ae_title, sop_class_uid, "
        "sop_instance_uid, event_type, transaction_uid, data_set, state, created_at, due_at, "
        "claimed_by, claimed_until) VALUES (?, ?, ?, ?, ?, ?, ?, 'due', ?, ?, ?, ?) "
        "RETURNING report_pk",
        (
            report.destination,
            report.calling_ae_title,
            report.sop_class_uid,
            report.sop_instance_uid,
            report.event_type,
            report.transaction_uid,
            report.data_set,
            now,
            now,
            worker,
            now + claim_seconds,
        ),
    ).fetchone()
    return ClaimedReport(number=number, report=report, attempts=0, created_at=now)


class DatabaseReports:
    """See `isocenter.services.service_classes.normalized.ports.ReportQueue`.

    Args:
        now: seconds since 1970.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time) -> None:
        self._database = database
        self._now = now

    async def claim(
        self, worker: str, seconds: float, limit: int, *, not_for: Collection[str] = ()
    ) -> Sequence[ClaimedReport]:
        """See `ReportQueue.claim`; costs no write when nothing is due."""
        now = self._now()
        values = {"now": now, "not_for": json_list(not_for), "limit": limit}
        if not await self._database.read(_is_due, values):
            return ()
        return await self._database.write(_claim, values, worker, now + seconds)

    async def delivered(self, number: int) -> None:
        """See `ReportQueue.delivered`; the data set is not needed any more."""
        await self._database.write(
            _execute,
            "UPDATE event_report SET state = 'delivered', ended_at = ?, attempts = attempts + 1, "
            "last_fault = '', data_set = ? WHERE report_pk = ? AND state = 'due'",
            (self._now(), b"", number),
        )

    async def failed(self, number: int, fault: str, retry_in: float | None) -> None:
        """See `ReportQueue.failed`."""
        now = self._now()
        if retry_in is None:
            state, ended_at, due_at = "given up", now, now
        else:
            state, ended_at, due_at = "due", None, now + retry_in
        await self._database.write(
            _execute,
            "UPDATE event_report SET state = ?, ended_at = ?, due_at = ?, claimed_until = 0, "
            "attempts = attempts + 1, last_fault = ? WHERE report_pk = ? AND state = 'due'",
            (state, ended_at, due_at, fault[:_FAULT_LENGTH], number),
        )

    async def release(self, number: int) -> None:
        """See `ReportQueue.release`."""
        await self._database.write(REPORTS.release, number)


def _is_due(connection: Connection, values: dict[str, object]) -> bool:
    return connection.execute(f"SELECT 1 {_DUE} LIMIT 1", values).fetchone() is not None


def _claim(
    connection: Connection, values: dict[str, object], worker: str, until: float
) -> list[ClaimedReport]:
    rows = named_rows(
        connection.execute(
            "SELECT report_pk AS number, destination, calling_ae_title, sop_class_uid, "
            f"sop_instance_uid, event_type, transaction_uid, data_set, attempts, created_at {_DUE} "
            "ORDER BY report_pk LIMIT :limit",
            values,
        )
    )
    claimed = [
        ClaimedReport(
            number=row.pop("number"),
            attempts=row.pop("attempts"),
            created_at=row.pop("created_at"),
            report=NewReport(**row),
        )
        for row in rows
    ]
    REPORTS.claim(connection, [each.number for each in claimed], worker, until)
    return claimed


def _execute(connection: Connection, statement: str, values: tuple[object, ...]) -> None:
    connection.execute(statement, values)
