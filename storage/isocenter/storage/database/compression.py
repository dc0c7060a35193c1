"""Objects to be compressed, in the database: adapter of the port of compression."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import Any, Final

from isocenter.services.archive.ports import AddOutcome, AddResult, InstanceRecord, StoredInstance
from isocenter.services.concurrency import Backoff
from isocenter.services.workflow.compression.ports import (
    CompressionJob,
    CompressionState,
    CompressionSummary,
    CompressionTotals,
)
from isocenter.services.workflow.forwarding.ports import Clock
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import NUMBERS, TEXTS, json_list
from isocenter.storage.database.index.lookup import get_records
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.signature_marks import await_verification

#: Called within the transaction that exchanges what is kept, with what was and what is.
ExchangeHook = Callable[[Connection, StoredInstance, StoredInstance], None]

_FAULT_LENGTH: Final = 500
#: Records that are forgotten in one transaction.
_PURGED_AT_ONCE: Final = 1_000
#: Reasons that are told apart.
_MOST_REASONS: Final = 20

_INSERT: Final = """
    INSERT INTO compression (sop_instance_uid, study_instance_uid, rule, target, signs, state,
        created_at, since, due_at)
    VALUES (:uid, :study, :rule, :target, :signs, :state, :now, :now, :now)
    ON CONFLICT (sop_instance_uid) DO UPDATE SET
        study_instance_uid = excluded.study_instance_uid, rule = excluded.rule,
        target = excluded.target, signs = excluded.signs, state = excluded.state,
        version = compression.version + 1,
        created_at = excluded.created_at, since = excluded.since, due_at = excluded.due_at,
        ended_at = NULL, attempts = 0, last_fault = ''
"""
#: Another object has the name of one that was, or was to be, compressed.
_REPLACED: Final = f"""
    UPDATE compression SET state = 'kept', version = version + 1, ended_at = :now,
        last_fault = 'another object has taken its place', received_syntax = '',
        received_digest = '', received_size = 0, digest = '', size = 0
    WHERE sop_instance_uid IN {TEXTS.replace("?", ":uids")}
"""
#: What is quarantined waits for its release.
DUE: Final = """
    SELECT compression_pk AS number, version, sop_instance_uid, study_instance_uid,
        target AS transfer_syntax_uid, rule, signs, attempts
    FROM compression WHERE state = 'due' AND due_at <= :now
      AND NOT EXISTS (SELECT 1 FROM study_hold h
                      WHERE h.study_instance_uid = compression.study_instance_uid)
      AND (EXISTS (SELECT 1 FROM instance i
                   WHERE i.sop_instance_uid = compression.sop_instance_uid)
           OR NOT EXISTS (SELECT 1 FROM trash JOIN deletion USING (deletion_id)
                          WHERE trash.sop_instance_uid = compression.sop_instance_uid
                            AND cause = 'quarantined'
                            AND trash.state IN ('leaving', 'kept', 'returning')))
    ORDER BY due_at, compression_pk LIMIT :limit
"""
#: It could not be compressed before, however long that was.
_RELEASED: Final = f"""
    UPDATE compression SET since = :now
    WHERE sop_instance_uid IN {TEXTS.replace("?", ":uids")} AND state = 'due'
"""
#: It is what was looked at, nobody holds it, and nothing is to be made of it once more.
_IS_STILL: Final = """
    SELECT 1 FROM instance WHERE sop_instance_uid = :uid AND object_key = :old_key
      AND digest = :old_digest
      AND NOT EXISTS (SELECT 1 FROM study_hold WHERE study_instance_uid = :study)
      AND NOT EXISTS (SELECT 1 FROM corrected_instance c
                      WHERE c.sop_instance_uid = :uid AND c.original_key = :old_key)
"""
#: It was not compressed before; it may have been corrected.
_IS_FIRST: Final = "(:received = '' OR received_digest = '')"
_DONE: Final = f"""
    UPDATE compression SET state = 'done', ended_at = :now, attempts = attempts + 1,
        last_fault = '', digest = :digest, size = :size, leaving = :old_key,
        received_syntax =
            CASE WHEN {_IS_FIRST} THEN :old_syntax ELSE received_syntax END,
        received_size = CASE WHEN {_IS_FIRST} THEN :old_size ELSE received_size END,
        received_digest = CASE WHEN {_IS_FIRST} THEN :old_digest ELSE received_digest END
    WHERE compression_pk = :number AND version = :version AND state = 'due'
"""
_EXCHANGE: Final = """
    UPDATE instance SET transfer_syntax_uid = :syntax, object_key = :key, size = :size,
        data_set_offset = :offset, digest = :digest
    WHERE sop_instance_uid = :uid
"""
_END: Final = """
    UPDATE compression SET state = :state, ended_at = :now, last_fault = :fault
    WHERE compression_pk = :number AND version = :version AND state = 'due'
"""
_AGAIN: Final = """
    UPDATE compression SET due_at = :due_at, attempts = attempts + 1, last_fault = :fault
    WHERE compression_pk = :number AND version = :version AND state = 'due'
"""
#: What says nothing any more.  Found before it is deleted: a look at all records takes a while.
_SILENT: Final = f"""
    SELECT compression_pk FROM compression
    WHERE leaving = '' AND ended_at < ? AND (
        (state IN ('kept', 'failed') AND received_digest = '')
        OR (NOT EXISTS (SELECT 1 FROM instance i
                        WHERE i.sop_instance_uid = compression.sop_instance_uid)
            AND NOT EXISTS (SELECT 1 FROM trash t
                            WHERE t.sop_instance_uid = compression.sop_instance_uid)))
    LIMIT {_PURGED_AT_ONCE}
"""
_PURGE: Final = f"""
    DELETE FROM compression
    WHERE compression_pk IN {NUMBERS} AND leaving = '' AND ended_at IS NOT NULL
"""
#: Their study was deleted before it was complete, and perhaps restored: nobody waits for it.
_WAITING_IN_VAIN: Final = """
    UPDATE compression SET state = 'due', since = :now, due_at = :now
    WHERE state = 'waiting' AND created_at < :before
      AND NOT EXISTS (SELECT 1 FROM study_completion c
                      WHERE c.study_instance_uid = compression.study_instance_uid
                        AND c.state = 'receiving')
"""
_SHOWN: Final = (
    "compression_pk AS number, sop_instance_uid, study_instance_uid, rule, "
    "target AS transfer_syntax_uid, signs, state, attempts, "
    "created_at, due_at, ended_at, last_fault, received_size, size"
)
_RETRY: Final = f"""
    UPDATE compression SET state = 'due', since = :now, due_at = :now, ended_at = NULL,
        attempts = 0, version = version + 1
    WHERE (:numbers = '[]' AND (state = 'failed' OR (state = 'due' AND attempts > 0)))
       OR (state IN ('failed', 'kept', 'due')
           AND compression_pk IN {NUMBERS.replace("?", ":numbers")})
"""


class DatabaseCompressions:
    """See `isocenter.services.workflow.compression.ports.CompressionQueue`.

    Args:
        completes: whether studies are ever declared complete; else nothing waits for it.
        on_exchange: what else is written when what is kept is exchanged.
        now: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        *,
        completes: bool = True,
        on_exchange: Sequence[ExchangeHook] = (),
        now: Clock = time,
    ) -> None:
        self._database = database
        self._completes = completes
        self._on_exchange = on_exchange
        self._now = now

    def queue_added(
        self, connection: Connection, added: Sequence[tuple[InstanceRecord, AddResult]]
    ) -> None:
        """Queue what is added, within the transaction that adds it (an `AddHook`)."""
        replaced = [
            record.sop_instance_uid
            for record, outcome in added
            if outcome.outcome is AddOutcome.REPLACED
        ]
        if replaced:
            connection.execute(_REPLACED, {"now": self._now(), "uids": json_list(replaced)})
        rows = self._rows([record for record, _ in added])
        if rows:
            connection.executemany(_INSERT, rows)

    def _rows(self, records: Sequence[InstanceRecord]) -> list[dict[str, object]]:
        now = self._now()
        return [
            {
                "uid": record.sop_instance_uid,
                "study": record.study_instance_uid,
                "rule": record.compression.rule,
                "target": record.compression.transfer_syntax_uid,
                "signs": int(record.compression.signs),
                "state": "waiting"
                if record.compression.when_complete and self._completes
                else "due",
                "now": now,
            }
            for record in records
            if record.compression is not None
        ]

    def queue_withheld(
        self, connection: Connection, added: Sequence[tuple[InstanceRecord, AddResult]]
    ) -> None:
        """Queue what is quarantined, for its release (an `AddHook`): nobody tells then whether its
        study is complete."""
        uids = [record.sop_instance_uid for record, _ in added]
        # Of one that the archive has already, that is the order for that.
        known = get_records(connection, uids)
        rows = self._rows([record for record, _ in added if record.sop_instance_uid not in known])
        if rows:
            connection.executemany(_INSERT, [row | {"state": "due"} for row in rows])

    def released(
        self, connection: Connection, added: Sequence[tuple[InstanceRecord, AddResult]]
    ) -> None:
        """Begin to try anew what was withheld, within the transaction that gives it back (an
        `AddHook`)."""
        uids = json_list(record.sop_instance_uid for record, _ in added)
        connection.execute(_RELEASED, {"now": self._now(), "uids": uids})

    def study_complete(self, connection: Connection, study_instance_uid: str, now: float) -> None:
        """What waited for it is due (`events.open_studies.CompleteHook`)."""
        connection.execute(
            "UPDATE compression SET state = 'due', since = :now, due_at = :now "
            "WHERE study_instance_uid = :study AND state = 'waiting'",
            {"now": now, "study": study_instance_uid},
        )

    async def due(self, limit: int) -> Sequence[CompressionJob]:
        """See `CompressionQueue.due`."""
        return await self._database.read(_due, self._now(), limit)

    async def exchange(
        self, job: CompressionJob, before: StoredInstance, after: StoredInstance
    ) -> bool:
        """See `CompressionQueue.exchange`."""
        return await self._database.write(
            _exchange, job, before, after, self._on_exchange, self._now()
        )

    async def removed(self, object_keys: Sequence[str]) -> None:
        """See `CompressionQueue.removed`."""
        await self._database.write(
            _execute,
            f"UPDATE compression SET leaving = '' WHERE leaving <> '' AND leaving IN {TEXTS}",
            (json_list(object_keys),),
        )

    async def leaving(self) -> Sequence[str]:
        """See `CompressionQueue.leaving`."""
        rows = await self._database.read(
            _fetch, "SELECT leaving FROM compression WHERE leaving <> ''", ()
        )
        return [row[0] for row in rows]

    async def keep(self, job: CompressionJob, reason: str) -> None:
        """See `CompressionQueue.keep`."""
        values = _values(job) | {"state": "kept", "now": self._now()}
        await self._database.write(_execute, _END, values | {"fault": reason[:_FAULT_LENGTH]})

    async def failed(self, job: CompressionJob, fault: str, backoff: Backoff) -> bool:
        """See `CompressionQueue.failed`."""
        return await self._database.write(_failed, job, fault[:_FAULT_LENGTH], backoff, self._now())

    async def forget(self, job: CompressionJob) -> None:
        """See `CompressionQueue.forget`."""
        await self._database.write(
            _execute,
            "DELETE FROM compression "
            "WHERE compression_pk = :number AND version = :version AND leaving = ''",
            _values(job),
        )

    async def purge(self, before: float) -> int:
        """See `CompressionQueue.purge`."""
        values: dict[str, object] = {"before": before, "now": self._now()}
        await self._database.write(_execute, _WAITING_IN_VAIN, values)
        purged = 0
        while rows := await self._database.read(_fetch, _SILENT, (before,)):
            numbers = json_list(row[0] for row in rows)
            purged += await self._database.write(_execute, _PURGE, (numbers,))
        return purged

    # For people.

    async def rows(
        self, *, state: CompressionState | None = None, limit: int
    ) -> Sequence[CompressionSummary]:
        """See `CompressionQueue.rows`."""
        return await self._database.read(_rows, "" if state is None else state.value, limit)

    async def of(self, uids: Sequence[str]) -> Mapping[str, CompressionSummary]:
        """See `CompressionQueue.of`."""
        return await self._database.read(_of, uids)

    async def totals(self) -> CompressionTotals:
        """See `CompressionQueue.totals`."""
        return await self._database.read(_totals)

    async def retry(self, numbers: Sequence[int] = ()) -> int:
        """See `CompressionQueue.retry`."""
        return await self._database.write(
            _execute, _RETRY, {"numbers": json_list(numbers), "now": self._now()}
        )

    async def order(
        self, instances: Sequence[StoredInstance], transfer_syntax_uid: str, rule: str
    ) -> int:
        """See `CompressionQueue.order`."""
        rows = [
            {
                "uid": each.sop_instance_uid,
                "study": each.study_instance_uid,
                "rule": rule,
                "target": transfer_syntax_uid,
                "signs": 0,
                "state": "due",
                "now": self._now(),
            }
            for each in instances
        ]
        await self._database.write(_insert, rows)
        return len(rows)


_Values = tuple[object, ...] | dict[str, object]


def _values(job: CompressionJob) -> dict[str, object]:
    return {"number": job.number, "version": job.version}


def _execute(connection: Connection, statement: str, values: _Values) -> int:
    return connection.execute(statement, values).rowcount


def _insert(connection: Connection, rows: Sequence[dict[str, object]]) -> None:
    connection.executemany(_INSERT, rows)


def _fetch(connection: Connection, statement: str, values: _Values) -> list[tuple[Any, ...]]:
    return connection.execute(statement, values).fetchall()


def _due(connection: Connection, now: float, limit: int) -> list[CompressionJob]:
    found = connection.execute(DUE, {"now": now, "limit": limit})
    return rows_as(CompressionJob, found, signs=bool)


def _exchange(
    connection: Connection,
    job: CompressionJob,
    before: StoredInstance,
    after: StoredInstance,
    on_exchange: Sequence[ExchangeHook],
    now: float,
) -> bool:
    values: dict[str, object] = {
        **_values(job),
        "uid": before.sop_instance_uid,
        "study": before.study_instance_uid,
        "old_key": before.object_key,
        "old_digest": before.digest,
        "old_syntax": before.transfer_syntax_uid,
        "old_size": before.size,
        "received": before.received_digest,
        "syntax": after.transfer_syntax_uid,
        "key": after.object_key,
        "size": after.size,
        "offset": after.data_set_offset,
        "digest": after.digest,
        "now": now,
    }
    if connection.execute(_IS_STILL, values).fetchone() is None:
        return False
    if not connection.execute(_DONE, values).rowcount:
        return False
    connection.execute(_EXCHANGE, values)
    connection.execute("UPDATE totals SET size = size + ?", (after.size - before.size,))
    if job.signs:
        await_verification(connection, [before.sop_instance_uid], now)
    for each in on_exchange:
        each(connection, before, after)
    return True


def _failed(
    connection: Connection, job: CompressionJob, fault: str, backoff: Backoff, now: float
) -> bool:
    row = connection.execute(
        "SELECT since FROM compression "
        "WHERE compression_pk = :number AND version = :version AND state = 'due'",
        _values(job),
    ).fetchone()
    if row is None:
        return False
    interval = backoff.next_interval(job.attempts + 1, now - row[0])
    values = _values(job) | {"fault": fault, "now": now}
    if interval is None:
        connection.execute(_END, values | {"state": "failed"})
        return False
    connection.execute(_AGAIN, values | {"due_at": now + interval})
    return True


def _rows(connection: Connection, state: str, limit: int) -> list[CompressionSummary]:
    found = connection.execute(
        f"SELECT {_SHOWN} FROM compression WHERE :state = '' OR state = :state "
        "ORDER BY compression_pk DESC LIMIT :limit",
        {"state": state, "limit": limit},
    )
    return rows_as(CompressionSummary, found, state=CompressionState, signs=bool)


def _of(connection: Connection, uids: Sequence[str]) -> Mapping[str, CompressionSummary]:
    found = connection.execute(
        f"SELECT {_SHOWN} FROM compression WHERE sop_instance_uid IN {TEXTS}", (json_list(uids),)
    )
    rows = rows_as(CompressionSummary, found, state=CompressionState, signs=bool)
    return {row.sop_instance_uid: row for row in rows}


def _totals(connection: Connection) -> CompressionTotals:
    counts = {
        CompressionState(state): count
        for state, count in connection.execute(
            "SELECT state, count(*) FROM compression GROUP BY state"
        )
    }
    received, size = connection.execute(
        "SELECT coalesce(sum(received_size), 0), coalesce(sum(size), 0) FROM compression "
        "WHERE state = 'done' AND target <> ''"
    ).fetchone()
    reasons = connection.execute(
        "SELECT state, last_fault, count(*) FROM compression WHERE state IN ('kept', 'failed') "
        "GROUP BY state, last_fault ORDER BY 3 DESC, 2 LIMIT ?",
        (_MOST_REASONS,),
    ).fetchall()
    return CompressionTotals(
        counts=counts,
        received_size=received,
        size=size,
        reasons=[(CompressionState(state), fault, count) for state, fault, count in reasons],
    )
