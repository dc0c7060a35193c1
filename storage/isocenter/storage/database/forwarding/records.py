"""Rows of the forwarding queue, written and read in one transaction.

`isocenter.storage.database.forwarding.queue` calls them on the thread of its index.
"""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, assert_never

from isocenter.services.archive.orders import ForwardPriority
from isocenter.services.archive.ports import AddOutcome, AddResult, InstanceRecord
from isocenter.services.archive.sent_form import SentForm, form_of
from isocenter.services.concurrency import Backoff
from isocenter.services.workflow.forwarding.ports import (
    Delivered,
    DestinationStatus,
    DueForward,
    Failed,
    ForwardState,
    ForwardSummary,
    Outcome,
)
from isocenter.storage.database.database import Connection
from isocenter.storage.database.dialect import json_list, numbers, texts
from isocenter.storage.database.jobs.counts import JobCounts
from isocenter.storage.database.rows import named_rows, rows_as
from isocenter.storage.database.rule_history import count_sent

#: A fault is a line of text; peers' words are in it.
FAULT_LENGTH: Final = 500

#: A record with a project has its priority plus this, one with other changes plus twice as much:
#: earlier programs, which know of none and would send the object as it is, find none of these.
MADE_PRIORITY: Final = 10
_BASES: Final = (0, MADE_PRIORITY, 2 * MADE_PRIORITY)

#: So often in a row, with less than so much time in between, an object may take the place of the
#: one that was queued before: archives that forward to each other what both change never end.
MOST_ROUNDS: Final = 8
_ROUND_SECONDS: Final = 3_600
_IS_QUICK: Final = f"excluded.created_at - forward.created_at < {_ROUND_SECONDS}"
_GOES_ROUND: Final = f"{_IS_QUICK} AND forward.rounds >= {MOST_ROUNDS}"
IN_A_CIRCLE: Final = (
    "it was replaced again and again by other objects of its UID, and goes in a circle: archives "
    "forward to each other what both change; mend the rules, then retry it"
)
_INSERT: Final = f"""
    INSERT INTO forward (sop_instance_uid, sop_class_uid, study_instance_uid, destination, rule,
        project, changes, priority, wants_commitment, delete_after, state, created_at, since,
        due_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'due', ?, ?, ?)
    ON CONFLICT (sop_instance_uid, destination) DO UPDATE SET
        sop_class_uid = excluded.sop_class_uid, study_instance_uid = excluded.study_instance_uid,
        rule = excluded.rule, project = excluded.project, changes = excluded.changes,
        priority = excluded.priority,
        wants_commitment = excluded.wants_commitment, delete_after = excluded.delete_after,
        rounds = CASE WHEN {_IS_QUICK} THEN forward.rounds + 1 ELSE 0 END,
        state = CASE WHEN {_GOES_ROUND} THEN 'failed' ELSE 'due' END,
        ended_at = CASE WHEN {_GOES_ROUND} THEN excluded.created_at END,
        last_fault = CASE WHEN {_GOES_ROUND} THEN '{IN_A_CIRCLE}' ELSE '' END,
        version = forward.version + 1, created_at = excluded.created_at,
        since = excluded.since, due_at = excluded.due_at, attempts = 0,
        transaction_uid = ''
"""
#: Another object has the name of one that is on its way: whatever was said of that one.
_SEND_ANEW: Final = f"""
    UPDATE forward SET state = 'due', version = version + 1, since = :now, due_at = :now,
        attempts = 0, last_fault = '', transaction_uid = ''
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
                  AND due_at <= :now
                  AND NOT {_IS_WITHHELD}
                  AND {_IS_CORRECT})
"""
_PRIORITIES: Final = ", ".join(
    str(base + int(priority)) for base in _BASES for priority in ForwardPriority
)
#: Of one priority.  What has failed is due later, and so behind what has not been tried.
TAKE: Final = f"""
    SELECT forward_pk AS number, version, sop_instance_uid, rule, attempts, since, project,
        changes, due_at
    FROM forward WHERE state = 'due' AND due_at <= :now
      AND destination = :destination AND priority = :priority
      AND forward_pk NOT IN {numbers("without")}
      AND NOT {_IS_WITHHELD}
      AND {_IS_CORRECT}
    ORDER BY due_at, forward_pk LIMIT :limit
"""
_SENT: Final = """
    UPDATE forward SET attempts = attempts + 1, last_fault = '',
        state = CASE WHEN wants_commitment = 1 THEN 'sent' ELSE 'done' END,
        due_at = :now, since = :now,
        ended_at = CASE WHEN wants_commitment = 1 THEN NULL ELSE :now END
    WHERE forward_pk = :number AND version = :version AND state = 'due'
"""
_MISSED: Final = """
    UPDATE forward SET attempts = attempts + 1, last_fault = :fault,
        state = CASE WHEN :retry_in IS NULL THEN 'failed' ELSE 'due' END,
        due_at = :now + coalesce(:retry_in, 0),
        ended_at = CASE WHEN :retry_in IS NULL THEN :now END
    WHERE forward_pk = :number AND version = :version AND state = 'due'
"""
_GIVE_UP: Final = f"""
    UPDATE forward SET state = 'failed', ended_at = :now, last_fault = :fault
    WHERE state = 'due' AND destination = :destination AND since <= :before
      AND NOT {_IS_WITHHELD}
    RETURNING rule
"""
#: It could not be sent before, however long that was.
RELEASED: Final = f"""
    UPDATE forward SET since = :now WHERE sop_instance_uid IN {texts("uids")} AND state = 'due'
"""
_LEAVE_ALONE: Final = """
    INSERT INTO forward_destination (destination, failures, retry_at, last_fault, is_tried)
    VALUES (?, ?, ?, ?, 0)
    ON CONFLICT (destination) DO UPDATE SET failures = excluded.failures,
        retry_at = excluded.retry_at, last_fault = excluded.last_fault
"""
#: Behind the number of every record.
_NO_NUMBER: Final = (1 << 63) - 1
_SHOWN: Final = (
    "forward_pk AS number, sop_instance_uid, study_instance_uid, destination, rule, "
    f"priority - priority / {MADE_PRIORITY} * {MADE_PRIORITY} AS priority, "
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
#: Without those whose object may still lie in the store, or has yet to go when all have had it.
DELETE_DONE: Final = f"""
    DELETE FROM forward WHERE forward_pk IN (
        SELECT forward_pk FROM forward
        WHERE state = 'done' AND ended_at < :before AND leaving = ''
          AND NOT EXISTS (SELECT 1 FROM instance_expiry e
                          WHERE e.sop_instance_uid = forward.sop_instance_uid)
        LIMIT {_CHANGED_AT_ONCE})
    RETURNING forward_pk
"""
#: What failed; one that waits for its first attempt by the rule's own delay is left alone.
RETRY_SENDING: Final = f"""
    UPDATE forward SET state = 'due', since = :now, due_at = :now, ended_at = NULL,
        attempts = 0, rounds = 0, transaction_uid = '', version = version + 1
    WHERE forward_pk IN (
        SELECT forward_pk FROM forward WHERE {_CHOSEN} AND (state = 'failed'
            OR (state = 'due' AND attempts > 0 AND due_at > :now))
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
    WHERE retry_at > :now
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
            route.form.project,
            route.form.as_text(),
            route.priority + _base(route.form),
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


def _base(form: SentForm) -> int:
    if form.edits or form.transfer_syntax_uid:
        return 2 * MADE_PRIORITY
    return MADE_PRIORITY if form.project else 0


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


def take(
    connection: Connection, destination: str, limit: int, without: str, now: float
) -> list[DueForward]:
    """See `ForwardQueue.take`."""
    values: dict[str, object] = {"now": now, "destination": destination, "without": without}
    if connection.execute(
        "SELECT 1 FROM forward_destination WHERE destination = :destination AND retry_at > :now",
        values,
    ).fetchone():
        return []
    found: list[DueForward] = []
    for priority in sorted(ForwardPriority, reverse=True):
        some: list[dict[str, Any]] = []
        for base in _BASES:
            wanted = {"priority": base + int(priority), "limit": limit - len(found)}
            some += named_rows(connection.execute(TAKE, values | wanted))
        some.sort(key=lambda row: (row.pop("due_at"), row["number"]))
        for row in some[: limit - len(found)]:
            form = form_of(row.pop("project"), row.pop("changes"))
            found.append(DueForward(priority=priority, form=form, **row))
    return found


def settle(connection: Connection, outcomes: Sequence[Outcome], job: int, now: float) -> None:
    """See `ForwardQueue.settle`."""
    sent: Counter[str] = Counter()
    given_up: Counter[str] = Counter()
    counted = JobCounts()
    for outcome in outcomes:
        record = outcome.record
        values: dict[str, object] = {"number": record.number, "version": record.version, "now": now}
        match outcome:
            case Delivered():
                changed = connection.execute(_SENT, values).rowcount
                sent[record.rule] += changed
                counted.done += changed
                counted.size += changed * outcome.size
            case Failed():
                values["fault"] = outcome.fault[:FAULT_LENGTH]
                values["retry_in"] = outcome.retry_in
                changed = connection.execute(_MISSED, values).rowcount
                if outcome.retry_in is None:
                    given_up[record.rule] += changed
                    counted.failed += changed
            case _:
                assert_never(outcome)
    count_sent(connection, sent, given_up)
    if job:
        counted.write(connection, job)


def left_alone(connection: Connection, now: float) -> list[str]:
    """See `ForwardQueue.left_alone`."""
    rows = connection.execute(
        "SELECT destination FROM forward_destination WHERE retry_at > ?", (now,)
    )
    return [row[0] for row in rows]


def destination_failed(
    connection: Connection,
    destination: str,
    fault: str,
    backoff: Backoff,
    now: float,
    released_at: float,
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
    if released_at > before:
        return interval, 0
    rows = connection.execute(
        _GIVE_UP,
        {"now": now, "before": before, "destination": destination, "fault": fault},
    ).fetchall()
    count_sent(connection, {}, Counter(rule for (rule,) in rows))
    return interval, len(rows)


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
