"""Commitment of forwarded objects by their destinations (PS3.4 Annex J).

`isocenter.storage.database.forwarding.queue` calls them on the thread of its index.
"""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from isocenter.services.archive.deletion.records import Deletion, DeletionCause
from isocenter.services.concurrency import Backoff
from isocenter.services.service_classes.commitment.transaction import Reference
from isocenter.services.workflow.forwarding.ports import ForwardState
from isocenter.storage.database.database import Connection
from isocenter.storage.database.deletion import DeleteHook, delete_within, promised_to
from isocenter.storage.database.dialect import NUMBERS, TEXTS, index_hint, json_list, numbers

#: What was sent, and what was asked for without an answer; each has an index of its own.
_TO_BE_COMMITTED: Final = f"""
    SELECT forward_pk, sop_class_uid, sop_instance_uid FROM (
        SELECT * FROM forward {index_hint("forward_sent")}
        WHERE state = 'sent' AND destination = :destination AND due_at <= :now
        UNION ALL
        SELECT * FROM forward {index_hint("forward_asked")}
        WHERE state = 'committing' AND destination = :destination AND due_at <= :now
    ) AS asked ORDER BY forward_pk LIMIT :limit
"""
GIVE_UP_ASKING: Final = """
    UPDATE forward SET state = 'failed', ended_at = :now, transaction_uid = '',
        last_fault = 'the destination has never said whether it commits it'
    WHERE state = 'committing' AND destination = :destination
      AND due_at <= :now AND since <= :before
"""
#: So many records in one transaction: others want to write as well.
_CHANGED_AT_ONCE: Final = 1_000
#: What arrived and nobody has asked for.  What is sent otherwise the destination does not have, and
#: where it had an earlier object of that UID (-1) its answer would be of that.
ASK_LATER: Final = f"""
    UPDATE forward SET state = 'sent', wants_commitment = 1, since = :now, due_at = :now,
        ended_at = NULL, attempts = 0
    WHERE forward_pk IN (
        SELECT forward_pk FROM forward
        WHERE state = 'done' AND destination = :destination AND wants_commitment = 0
          AND delete_after = 0 AND leaving = '' AND project = '' AND changes = ''
          AND forward_pk > :after
          AND sop_instance_uid IN (
              SELECT i.sop_instance_uid FROM study JOIN series USING (study_pk)
              JOIN instance i ON i.series_pk = series.series_pk
              WHERE study.study_instance_uid = :study)
        ORDER BY forward_pk LIMIT {_CHANGED_AT_ONCE})
    RETURNING forward_pk
"""
#: What nobody else waits for: a dead letter might still be sent.
_IS_DELETABLE: Final = """
    state = 'deleting' AND NOT EXISTS (
        SELECT 1 FROM forward AS other WHERE other.sop_instance_uid = forward.sop_instance_uid
          AND other.state IN ('due', 'sent', 'committing', 'failed'))
"""
_DELETABLE: Final = f"""
    SELECT forward_pk, sop_instance_uid FROM forward
    WHERE (:study = '' OR study_instance_uid = :study) AND {_IS_DELETABLE} LIMIT :limit
"""
DELETABLE_STUDIES: Final = f"""
    SELECT DISTINCT study_instance_uid FROM forward WHERE {_IS_DELETABLE} LIMIT :limit
"""
#: Whoever promises what we rely on must not rely on us: not the destination, and not ourselves,
#: should the destination be this archive under another name.
_PROMISED_BACK: Final = f"""
    SELECT forward_pk FROM forward
    WHERE forward_pk IN {NUMBERS} AND EXISTS (
        SELECT 1 FROM commitment_reference AS promised JOIN commitment USING (commitment_pk)
        WHERE promised.sop_instance_uid = forward.sop_instance_uid
          AND coalesce(promised.failure_reason, 0) = 0
          AND (commitment.requester = forward.destination
               OR commitment.transaction_uid = forward.transaction_uid))
"""
_PROMISED_BACK_FAULT: Final = (
    "not deleted: this archive has promised the destination to keep it as well"
)
_HELD: Final = f"""
    SELECT forward_pk FROM forward JOIN study_hold USING (study_instance_uid)
    WHERE forward_pk IN {NUMBERS}
"""
_HELD_FAULT: Final = "not deleted: its study is held (isocenter hold list)"
#: What the destination has, or commits, is the form before.
_CORRECTED: Final = f"""
    UPDATE forward SET state = 'failed', ended_at = since, transaction_uid = '',
        last_fault = 'not deleted: it was corrected after it had been sent; retry it to send the '
            || 'corrected form'
    WHERE delete_after = 1 AND state IN ('sent', 'committing', 'deleting')
      AND sop_instance_uid IN {TEXTS}
"""
_PROMISED_FAULT: Final = "not deleted: this archive has promised {} to keep it"


def begin_commitment(connection: Connection, values: dict[str, object]) -> list[Reference]:
    """See `ForwardQueue.begin_commitment`."""
    rows = connection.execute(
        _TO_BE_COMMITTED,
        values,
    ).fetchall()
    connection.execute(
        "UPDATE forward SET state = 'committing', transaction_uid = :transaction_uid, "
        f"due_at = :now + :wait WHERE forward_pk IN {numbers('keys')}",
        values | {"keys": json_list([row[0] for row in rows])},
    )
    return [Reference(row[1], row[2]) for row in rows]


def _under_transaction(
    connection: Connection, transaction_uid: str
) -> list[tuple[int, str, str, int, float]]:
    """Number, SOP Instance UID, destination, attempts and since of what is asked for."""
    return connection.execute(
        "SELECT forward_pk, sop_instance_uid, destination, attempts, since FROM forward "
        "WHERE transaction_uid = ? AND transaction_uid <> '' AND state = 'committing'",
        (transaction_uid,),
    ).fetchall()


def _postpone(
    connection: Connection,
    row: tuple[int, str, str, int, float],
    state: ForwardState,
    fault: str,
    backoff: Backoff,
    now: float,
) -> None:
    """Go back to *state*, later; or give up."""
    number, _, _, attempts, since = row
    is_over = now - since >= backoff.give_up_after_seconds
    connection.execute(
        "UPDATE forward SET state = ?, due_at = ?, ended_at = ?, attempts = attempts + 1, "
        "last_fault = ?, transaction_uid = '' WHERE forward_pk = ?",
        (
            ForwardState.FAILED.value if is_over else state.value,
            now if is_over else now + backoff.interval(attempts + 1),
            now if is_over else None,
            fault,
            number,
        ),
    )


def commitment_not_asked(
    connection: Connection, uid: str, fault: str, backoff: Backoff, now: float
) -> None:
    """See `ForwardQueue.commitment_not_asked`."""
    for row in _under_transaction(connection, uid):
        _postpone(connection, row, ForwardState.SENT, fault, backoff, now)


def commitment_reported(
    connection: Connection,
    uid: str,
    reporter: str,
    committed: Sequence[str],
    faults: Mapping[str, str],
    backoff: Backoff,
    now: float,
) -> bool:
    """See `ForwardQueue.commitment_reported`."""
    rows = [row for row in _under_transaction(connection, uid) if row[2] == reporter]
    # What is said to be both is not kept.
    kept = frozenset(committed) - faults.keys()
    for row in rows:
        if row[1] in kept:
            connection.execute(
                "UPDATE forward SET "
                "state = CASE WHEN delete_after = 1 THEN 'deleting' ELSE 'done' END, "
                "ended_at = CASE WHEN delete_after = 1 THEN NULL ELSE ? END, last_fault = '' "
                "WHERE forward_pk = ?",
                (now, row[0]),
            )
        else:
            fault = faults.get(row[1], "the destination says nothing of it in its report")
            _postpone(connection, row, ForwardState.DUE, fault, backoff, now)
    return bool(rows)


def keep_corrected(connection: Connection, sop_instance_uids: Sequence[str]) -> None:
    """Nobody else has the corrected form of what was sent before: it is not deleted."""
    connection.execute(_CORRECTED, (json_list(sop_instance_uids),))


def delete_committed(
    connection: Connection,
    limit: int,
    study_instance_uid: str,
    *,
    although_promised: bool,
    on_delete: Sequence[DeleteHook],
    now: float,
) -> Deletion:
    """See `ForwardQueue.delete_committed`; the keys stand in ``leaving`` from then on."""
    values = {"limit": limit, "study": study_instance_uid}
    rows = connection.execute(_DELETABLE, values).fetchall()
    if not rows:
        return Deletion()
    faults = _promises(connection, rows, although_promised=although_promised)
    connection.executemany(
        "UPDATE forward SET state = 'failed', ended_at = ?, last_fault = ? WHERE forward_pk = ?",
        [(now, fault, number) for number, fault in faults.items()],
    )
    kept = [row[1] for row in rows if row[0] in faults]
    rows = [row for row in rows if row[0] not in faults]
    deletion = delete_within(
        connection, [row[1] for row in rows], DeletionCause.COMMITTED_ELSEWHERE, on_delete
    )
    keys = {stored.sop_instance_uid: stored.object_key for stored in deletion.instances}
    connection.executemany(
        "UPDATE forward SET state = 'done', ended_at = ?, leaving = ? WHERE forward_pk = ?",
        [(now, keys.get(row[1], ""), row[0]) for row in rows],
    )
    return replace(deletion, kept=kept)


def _promises(
    connection: Connection, rows: Sequence[tuple[int, str]], *, although_promised: bool
) -> dict[int, str]:
    """Why records of *rows* (number, SOP Instance UID) do not have their object deleted."""
    faults: dict[int, str] = {}
    if not although_promised:
        promised = promised_to(connection, [uid for _, uid in rows])
        faults = {
            number: _PROMISED_FAULT.format(", ".join(promised[uid]))
            for number, uid in rows
            if uid in promised
        }
    numbers = json_list([number for number, _ in rows])
    for (number,) in connection.execute(_PROMISED_BACK, (numbers,)):
        faults[number] = _PROMISED_BACK_FAULT
    for (number,) in connection.execute(_HELD, (numbers,)):
        faults[number] = _HELD_FAULT
    return faults
