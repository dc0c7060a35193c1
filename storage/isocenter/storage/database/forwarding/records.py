"""Rows of the forwarding queue, written and read in one transaction.

`isocenter.storage.database.forwarding.queue` calls them on the thread of its index.
"""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, assert_never

from isocenter.services.archive.ports import AddOutcome, AddResult, ForwardPriority, InstanceRecord
from isocenter.services.concurrency import Backoff
from isocenter.services.workflow.forwarding.ports import (
    ClaimedForward,
    Delivered,
    DestinationStatus,
    Failed,
    ForwardState,
    ForwardSummary,
    Outcome,
    Returned,
)
from isocenter.storage.database.database import Connection
from isocenter.storage.database.dialect import json_list, numbers, texts
from isocenter.storage.database.leases import FORWARDS
from isocenter.storage.database.rows import rows_as

#: A fault is a line of text; peers' words are in it.
FAULT_LENGTH: Final = 500

_INSERT: Final = """
    INSERT INTO forward (sop_instance_uid, sop_class_uid, study_instance_uid, destination, rule,
        priority, wants_commitment, delete_after, state, created_at, since, due_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'due', ?, ?, ?)
    ON CONFLICT (sop_instance_uid, destination) DO UPDATE SET
        sop_class_uid = excluded.sop_class_uid, study_instance_uid = excluded.study_instance_uid,
        rule = excluded.rule, priority = excluded.priority,
        wants_commitment = excluded.wants_commitment, delete_after = excluded.delete_after,
        state = 'due', version = forward.version + 1, created_at = excluded.created_at,
        since = excluded.since, due_at = excluded.due_at, ended_at = NULL, attempts = 0,
        last_fault = '', transaction_uid = '', claimed_until = 0
"""
#: Another object has the name of one that is on its way: whatever was said of that one.
_SEND_ANEW: Final = f"""
    UPDATE forward SET state = 'due', version = version + 1, since = :now, due_at = :now,
        attempts = 0, last_fault = '', transaction_uid = '', claimed_until = 0
    WHERE sop_instance_uid IN {texts("uids")}
      AND state IN ('due', 'sent', 'committing', 'deleting')
"""
#: While an object is quarantined it is not sent on.
_IS_WITHHELD: Final = """
    EXISTS (SELECT 1 FROM trash JOIN deletion USING (deletion_id)
            WHERE trash.sop_instance_uid = forward.sop_instance_uid
              AND cause = 'quarantined' AND trash.state IN ('leaving', 'kept', 'returning'))
"""
#: Its corrected form is not still to come.
_IS_CORRECT: Final = """
    NOT EXISTS (SELECT 1 FROM corrected_instance c
                WHERE c.sop_instance_uid = forward.sop_instance_uid AND c.state IN ('due', 'made'))
"""
#: From one destination to the next, without a look at the records of each.  The priorities are
#: named so that the index leads to what is due, past all that waits for its time.
DUE_DESTINATIONS: Final = f"""
    WITH RECURSIVE named (destination) AS (
        SELECT min(destination) FROM forward WHERE state = '{{state}}'
        UNION ALL
        SELECT (SELECT min(destination) FROM forward
                WHERE state = '{{state}}' AND destination > named.destination)
        FROM named WHERE named.destination IS NOT NULL
    )
    SELECT destination FROM named
    WHERE destination IS NOT NULL
      AND destination NOT IN {texts("not_for")}
      AND destination NOT IN (SELECT destination FROM forward_destination WHERE retry_at > :now)
      AND EXISTS (SELECT 1 FROM forward WHERE state = '{{state}}'
                  AND forward.destination = named.destination AND priority IN ({{priorities}})
                  AND due_at <= :now AND claimed_until <= :now
                  AND NOT {_IS_WITHHELD}
                  AND {_IS_CORRECT})
"""
_PRIORITIES: Final = ", ".join(str(int(priority)) for priority in ForwardPriority)
#: Of one priority.  What has failed is due later, and so behind what has not been tried.
CLAIM: Final = f"""
    SELECT forward_pk AS number, version, sop_instance_uid, priority, attempts, since
    FROM forward WHERE {FORWARDS.is_free} AND destination = :destination AND priority = :priority
      AND NOT {_IS_WITHHELD}
      AND {_IS_CORRECT}
    ORDER BY due_at, forward_pk LIMIT :limit
"""
_SENT: Final = """
    UPDATE forward SET claimed_until = 0, attempts = attempts + 1, last_fault = '',
        state = CASE WHEN wants_commitment = 1 THEN 'sent' ELSE 'done' END,
        due_at = :now, since = :now,
        ended_at = CASE WHEN wants_commitment = 1 THEN NULL ELSE :now END
    WHERE forward_pk = :number AND version = :version AND state = 'due'
"""
_MISSED: Final = """
    UPDATE forward SET claimed_until = 0, attempts = attempts + 1, last_fault = :fault,
        state = CASE WHEN :retry_in IS NULL THEN 'failed' ELSE 'due' END,
        due_at = :now + coalesce(:retry_in, 0),
        ended_at = CASE WHEN :retry_in IS NULL THEN :now END
    WHERE forward_pk = :number AND version = :version AND state = 'due'
"""
_RELEASED: Final = """
    UPDATE forward SET claimed_until = 0
    WHERE forward_pk = :number AND version = :version AND state = 'due'
"""
_GIVE_UP: Final = """
    UPDATE forward SET state = 'failed', ended_at = :now, last_fault = :fault, claimed_until = 0
    WHERE state = 'due' AND destination = :destination AND since <= :before
"""
_LEAVE_ALONE: Final = """
    INSERT INTO forward_destination (destination, failures, retry_at, last_fault, is_tried)
    VALUES (?, ?, ?, ?, 0)
    ON CONFLICT (destination) DO UPDATE SET failures = excluded.failures,
        retry_at = excluded.retry_at, last_fault = excluded.last_fault, is_tried = 0
"""
#: Behind the number of every record.
_NO_NUMBER: Final = (1 << 63) - 1
_SHOWN: Final = (
    "forward_pk AS number, sop_instance_uid, study_instance_uid, destination, rule, priority, "
    "state, attempts, created_at, due_at, ended_at, last_fault"
)
#: Which records are meant; an empty list of numbers, or an empty text, leaves that open.
_CHOSEN: Final = f"""
    (:state = '' OR state = :state) AND (:unsent = 0 OR state IN ('due', 'failed'))
    AND (:destination = '' OR destination = :destination)
    AND (:numbers = '[]' OR forward_pk IN {numbers("numbers")})
"""
#: So many records are forgotten, or sent anew, in one transaction: others want to write as well.
#: The next one goes on behind :after.
_CHANGED_AT_ONCE: Final = 1_000
DELETE: Final = f"""
    DELETE FROM forward WHERE forward_pk IN (
        SELECT forward_pk FROM forward WHERE {_CHOSEN} AND forward_pk > :after
        ORDER BY forward_pk LIMIT {_CHANGED_AT_ONCE})
    RETURNING forward_pk
"""
#: Without those whose object may still lie in the store.
DELETE_DONE: Final = f"""
    DELETE FROM forward WHERE forward_pk IN (
        SELECT forward_pk FROM forward
        WHERE state = 'done' AND ended_at < :before AND leaving = '' LIMIT {_CHANGED_AT_ONCE})
    RETURNING forward_pk
"""
#: What failed; one that waits for its first attempt by the rule's own delay is left alone.
RETRY_SENDING: Final = f"""
    UPDATE forward SET state = 'due', since = :now, due_at = :now, ended_at = NULL,
        attempts = 0, transaction_uid = '', version = version + 1
    WHERE forward_pk IN (
        SELECT forward_pk FROM forward WHERE {_CHOSEN} AND (state = 'failed'
            OR (state = 'due' AND attempts > 0 AND claimed_until <= :now))
        AND forward_pk > :after ORDER BY forward_pk LIMIT {_CHANGED_AT_ONCE})
    RETURNING forward_pk
"""
RETRY_ASKING: Final = f"""
    UPDATE forward SET since = :now, due_at = :now WHERE forward_pk IN (
        SELECT forward_pk FROM forward
        WHERE {_CHOSEN} AND state IN ('sent', 'committing') AND due_at > :now
        AND forward_pk > :after ORDER BY forward_pk LIMIT {_CHANGED_AT_ONCE})
    RETURNING forward_pk
"""
RETRY_DESTINATIONS: Final = f"""
    UPDATE forward_destination SET failures = 0, retry_at = 0
    WHERE is_tried = 0 AND retry_at > :now
      AND (:destination = '' OR destination = :destination)
      AND (:numbers = '[]' OR destination IN (SELECT destination FROM forward
           WHERE forward_pk IN {numbers("numbers")}))
"""


def queue_added(
    connection: Connection,
    added: Sequence[tuple[InstanceRecord, AddResult]],
    now: float,
) -> None:
    """Queue what is added, within the transaction of the caller, who adds it."""
    replaced = [
        record.sop_instance_uid
        for record, outcome in added
        if outcome.outcome is AddOutcome.REPLACED
    ]
    if replaced:
        uids = json_list(replaced)
        connection.execute(_SEND_ANEW, {"now": now, "uids": uids})
    rows = [
        (
            record.sop_instance_uid,
            record.sop_class_uid,
            record.study_instance_uid,
            route.destination,
            route.rule,
            route.priority,
            route.commit,
            route.delete_after,
            now,
            now + route.delay,
            now + route.delay,
        )
        for record, _ in added
        for route in record.routes
    ]
    if rows:
        connection.executemany(_INSERT, rows)


def rows(
    connection: Connection, chosen: dict[str, object], limit: int, before: int | None
) -> list[ForwardSummary]:
    """Records, the latest first; *before*: those with a smaller number."""
    found = connection.execute(
        f"SELECT {_SHOWN} FROM forward WHERE {_CHOSEN} AND forward_pk < :before "
        "ORDER BY forward_pk DESC LIMIT :limit",
        {**chosen, "limit": limit, "before": _NO_NUMBER if before is None else before},
    )
    return rows_as(ForwardSummary, found, priority=ForwardPriority, state=ForwardState)


def choice(
    state: ForwardState | None,
    destination: str,
    chosen: Sequence[int],
    *,
    unsent: bool = False,
) -> dict[str, object]:
    """Values for `_CHOSEN`; *unsent*: what has not arrived, with what was given up."""
    return {
        "unsent": int(unsent),
        "state": "" if state is None else state.value,
        "destination": destination,
        "numbers": json_list(chosen),
    }


_Values = tuple[object, ...] | dict[str, object]


def fetch(connection: Connection, statement: str, values: _Values) -> list[tuple[Any, ...]]:
    """All rows of a question."""
    return connection.execute(statement, values).fetchall()


def execute(connection: Connection, statement: str, values: _Values) -> int:
    """One statement as a transaction; how many rows it changed."""
    return connection.execute(statement, values).rowcount


def change_some(
    connection: Connection, statement: str, values: dict[str, object], after: int
) -> tuple[int, int]:
    """One of many transactions; how many records it changed, and the number of the last."""
    rows = connection.execute(statement, values | {"after": after}).fetchall()
    return len(rows), max((row[0] for row in rows), default=after)


def due(connection: Connection, now: float, not_for: str) -> list[str]:
    """See `ForwardQueue.due`."""
    values = {"now": now, "not_for": not_for}
    found: dict[str, None] = {}
    for state in ("due", "sent"):
        statement = DUE_DESTINATIONS.format(state=state, priorities=_PRIORITIES)
        rows = connection.execute(statement, values)
        found |= dict.fromkeys(row[0] for row in rows)
    # What the destination was asked to commit and never answered: it is asked again.
    if connection.execute(
        "SELECT 1 FROM forward WHERE state = 'committing' AND due_at <= ? LIMIT 1", (now,)
    ).fetchone():
        rows = connection.execute(
            "SELECT DISTINCT destination FROM forward WHERE state = 'committing' AND due_at <= :now"
            f" AND destination NOT IN {texts('not_for')} AND destination NOT IN"
            " (SELECT destination FROM forward_destination WHERE retry_at > :now)",
            values,
        )
        found |= dict.fromkeys(row[0] for row in rows)
    return list(found)


def claim(
    connection: Connection,
    destination: str,
    limit: int,
    worker: str,
    *,
    now: float,
    until: float,
) -> list[ClaimedForward]:
    """See `ForwardQueue.claim`."""
    values: dict[str, object] = {"now": now, "destination": destination, "until": until}
    tried = connection.execute(
        "SELECT retry_at > :now FROM forward_destination WHERE destination = :destination",
        values,
    ).fetchone()
    if tried is not None and tried[0]:
        return []
    claimed: list[ClaimedForward] = []
    for priority in sorted(ForwardPriority, reverse=True):
        wanted = {"priority": priority, "limit": limit - len(claimed)}
        found = connection.execute(CLAIM, values | wanted)
        claimed += rows_as(ClaimedForward, found, priority=ForwardPriority)
    FORWARDS.claim(connection, [each.number for each in claimed], worker, until)
    if claimed and tried is not None:
        connection.execute(
            "UPDATE forward_destination SET retry_at = :until, is_tried = 1 "
            "WHERE destination = :destination",
            values,
        )
    return claimed


def settle(connection: Connection, outcomes: Sequence[Outcome], now: float) -> None:
    """See `ForwardQueue.settle`."""
    for outcome in outcomes:
        claimed = outcome.claimed
        values: dict[str, object] = {
            "number": claimed.number,
            "version": claimed.version,
            "now": now,
        }
        match outcome:
            case Delivered():
                connection.execute(_SENT, values)
            case Failed():
                values["fault"] = outcome.fault[:FAULT_LENGTH]
                values["retry_in"] = outcome.retry_in
                connection.execute(_MISSED, values)
            case Returned():
                connection.execute(_RELEASED, values)
            case _:
                assert_never(outcome)


def destination_failed(
    connection: Connection, destination: str, fault: str, backoff: Backoff, now: float
) -> tuple[float, int]:
    """See `ForwardQueue.destination_failed`."""
    row = connection.execute(
        "SELECT failures FROM forward_destination WHERE destination = ?", (destination,)
    ).fetchone()
    failures = 1 if row is None else row[0] + 1
    interval = backoff.interval(failures)
    connection.execute(
        _LEAVE_ALONE,
        (destination, failures, now + interval, fault),
    )
    before = now - backoff.give_up_after_seconds
    given_up = connection.execute(
        _GIVE_UP,
        {"now": now, "before": before, "destination": destination, "fault": fault},
    ).rowcount
    return interval, given_up


def destinations(connection: Connection) -> list[DestinationStatus]:
    """All that have records."""
    counts: dict[str, dict[ForwardState, int]] = {}
    for destination, state, number in connection.execute(
        "SELECT destination, state, count(*) FROM forward GROUP BY destination, state"
    ):
        counts.setdefault(destination, {})[ForwardState(state)] = number
    faults = {
        row[0]: row[1:]
        for row in connection.execute(
            "SELECT destination, failures, retry_at, last_fault FROM forward_destination"
        )
    }
    rows = []
    for destination, by_state in sorted(counts.items()):
        failures, retry_at, last_fault = faults.get(destination, (0, 0.0, ""))
        rows.append(
            DestinationStatus(
                destination=destination,
                counts=by_state,
                failures=failures,
                retry_at=retry_at,
                last_fault=last_fault,
            )
        )
    return rows
