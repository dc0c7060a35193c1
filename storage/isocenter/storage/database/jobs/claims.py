"""Claims of jobs: the next that is due, renewed and given back."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from isocenter.services.workflow.jobs.job import Job, JobKind, JobPriority, JobRequest
from isocenter.storage.database.database import Connection
from isocenter.storage.database.dialect import json_list, texts
from isocenter.storage.database.jobs.rows import (
    CAN_BE_CLAIMED,
    IS_RUNNING,
    NOT_STANDING,
    SHOWN,
    change,
    job_of,
    open_key,
    parameters_of,
)
from isocenter.storage.database.jobs.telling import ChangeHook, tell
from isocenter.storage.database.leases import JOBS
from isocenter.storage.database.rows import named_rows
from isocenter.storage.database.text import replace_surrogates

#: From one node to the next, without a look at the jobs of each: those for whom somebody waits.
NODES: Final = f"""
    WITH RECURSIVE named (node) AS (
        SELECT min(node) FROM job WHERE state = 'due'
        UNION ALL
        SELECT (SELECT min(node) FROM job WHERE state = 'due' AND node > named.node)
        FROM named WHERE named.node IS NOT NULL
    )
    SELECT node FROM named WHERE node IS NOT NULL AND node NOT IN {texts("not_for")}
"""
#: Of one node and priority: the one that is due for longest.
CLAIM: Final = f"""
    SELECT {SHOWN} FROM job
    WHERE {JOBS.is_free} AND node = :node AND priority = :priority AND {CAN_BE_CLAIMED}
      AND host IN ('', :host)
    ORDER BY due_at, job_pk LIMIT 1
"""
_BEGIN: Final = """
    UPDATE job SET attempts = attempts + 1, claims = claims + 1,
        started_at = coalesce(started_at, :now), wish = ''
    WHERE job_pk = :number
"""
END: Final = f"""
    UPDATE job SET state = :state, wish = '', last_fault = :fault, claimed_until = 0,
        claimed_by = '',
        open_key = CASE WHEN NOT ({NOT_STANDING}) THEN open_key WHEN :is_over THEN NULL
            ELSE open_key END,
        ended_at = CASE WHEN :is_over THEN :now ELSE NULL END
    WHERE job_pk = :number AND state = 'due' AND claims = :claim
"""
AGAIN: Final = """
    UPDATE job SET due_at = :at, last_fault = :fault, claimed_until = 0, claimed_by = ''
    WHERE job_pk = :number AND state = 'due' AND claims = :claim
"""
GIVE_WAY: Final = """
    UPDATE job SET due_at = :at, attempts = attempts - 1, claimed_until = 0, claimed_by = ''
    WHERE job_pk = :number AND state = 'due' AND claims = :claim
"""
HASTEN: Final = """
    UPDATE job SET due_at = :now
    WHERE job_id = :id AND state = 'due' AND claimed_until <= :now AND due_at > :now
"""
IS_AWAITED: Final = f"""
    SELECT EXISTS (SELECT 1 FROM job
                   WHERE {JOBS.is_free} AND node = :node AND priority = :priority
                     AND job_pk <> :number AND {CAN_BE_CLAIMED})
"""
RELEASE: Final = """
    UPDATE job SET claimed_until = 0, claimed_by = ''
    WHERE job_pk = :number AND state = 'due' AND claims = :claim
"""
_ANEW: Final = "CASE WHEN job.state <> 'due' THEN {} ELSE {} END"
#: It begins, or begins anew when it had ended, unless somebody has it already.  Programs that know
#: no standing jobs may have paused or cancelled it: what is queued would wait for ever.
_TAKE: Final = f"""
    INSERT INTO job (job_id, kind, node, parameters, open_key, priority, requested_by, state,
                     created_at, since, due_at, started_at, attempts, claims, claimed_by,
                     claimed_until)
    VALUES (:id, :kind, :node, :parameters, :key, :priority, :by, 'due', :now, :now, :now, :now, 1,
            1, :worker, :until)
    ON CONFLICT (open_key) DO UPDATE SET state = 'due', due_at = excluded.due_at,
        since = {_ANEW.format("excluded.since", "job.since")},
        started_at = {_ANEW.format("excluded.started_at", "job.started_at")},
        attempts = {_ANEW.format("1", "job.attempts + 1")},
        done = {_ANEW.format("0", "job.done")}, failed = {_ANEW.format("0", "job.failed")},
        size = {_ANEW.format("0", "job.size")}, last_fault = {_ANEW.format("''", "job.last_fault")},
        ended_at = NULL, wish = '', claims = job.claims + 1, claimed_by = excluded.claimed_by,
        claimed_until = excluded.claimed_until
    WHERE job.state <> 'due'
       OR (job.state = 'due' AND job.due_at <= :now AND job.claimed_until <= :now)
    RETURNING {SHOWN}
"""
#: What somebody wanted of a job while it ran, and whoever had it did not hear any more.
HEED: Final = """
    UPDATE job SET state = CASE wish WHEN 'pause' THEN 'paused' ELSE 'cancelled' END, wish = '',
        open_key = CASE wish WHEN 'pause' THEN open_key ELSE NULL END,
        ended_at = CASE wish WHEN 'pause' THEN NULL ELSE :now END
    WHERE job_pk = :number AND state = 'due' AND claimed_until <= :now AND wish <> ''
"""
_ITEMS_AGAIN: Final = """
    UPDATE job_item SET state = 'due', fault = '' WHERE job_pk = :number AND state = 'failed'
"""


def leave(connection: Connection, statement: str, values: Mapping[str, Any]) -> bool:
    """Whoever comes next may have a job, unless somebody wants it to stop."""
    is_left = change(connection, statement, values)
    return is_left and not change(connection, HEED, values)


def claim(
    connection: Connection,
    worker: str,
    seconds: float,
    not_for: Sequence[str],
    served: Sequence[str],
    now: float,
    on_change: Sequence[ChangeHook] = (),
    host: str = "",
) -> Job | None:
    """See `JobQueue.claim`; *host*: the node of the archive that claims."""
    while (row := _next(connection, not_for, served, now, host)) is not None:
        values = {"now": now, "number": row["job_pk"]}
        if change(connection, HEED, values):
            tell(connection, on_change, row["job_id"])
            continue
        JOBS.claim(connection, [row["job_pk"]], worker, now + seconds)
        connection.execute(_BEGIN, values)
        row["attempts"] += 1
        row["claims"] += 1
        row["claimed_until"] = now + seconds
        return job_of(row, now=now)
    return None


def take(
    connection: Connection,
    kind: JobKind,
    node: str,
    job_id: str,
    worker: str,
    seconds: float,
    now: float,
) -> Job | None:
    """See `JobQueue.take`."""
    parameters = parameters_of(JobRequest(kind=kind, node=node))
    values = {
        "id": job_id,
        "kind": kind.value,
        "node": node,
        "parameters": parameters,
        "key": open_key(kind.value, node, parameters),
        "priority": int(JobPriority.NORMAL),
        "by": "rules",
        "worker": worker,
        "now": now,
        "until": now + seconds,
    }
    rows = list(named_rows(connection.execute(_TAKE, values)))
    return job_of(rows[0], now=now) if rows else None


def _next(
    connection: Connection, not_for: Sequence[str], served: Sequence[str], now: float, host: str
) -> dict[str, Any] | None:
    values: dict[str, Any] = {"now": now, "not_for": json_list(not_for), "host": host}
    nodes = [row[0] for row in connection.execute(NODES, values).fetchall()]
    # Of those with equal priority it is the turn of who was served longest ago.
    turns = {node: turn for turn, node in enumerate(served)}
    nodes.sort(key=lambda node: turns.get(node, -1))
    for priority in sorted(JobPriority, reverse=True):
        found: list[dict[str, Any]] = []
        for node in nodes:
            values |= {"node": node, "priority": priority}
            some = list(named_rows(connection.execute(CLAIM, values)))
            found += some
            if some and node in turns:
                break
        if not found:
            continue
        # Who was never served stands by how long it waits.
        return min(
            found, key=lambda row: (turns.get(row["node"], -1), row["due_at"], row["job_pk"])
        )
    return None


def is_awaited(connection: Connection, job: Job, now: float) -> bool:
    """See `JobQueue.is_awaited`."""
    values = {"now": now, "node": replace_surrogates(job.request.node), "number": job.number}
    return any(
        connection.execute(IS_AWAITED, values | {"priority": int(priority)}).fetchone()[0]
        for priority in JobPriority
        if priority >= job.request.priority
    )


def renew(connection: Connection, worker: str, seconds: float, now: float) -> Mapping[str, str]:
    """See `JobQueue.renew`."""
    JOBS.renew_all(connection, worker, now + seconds, now=now)
    rows = connection.execute(
        f"SELECT job_id, wish FROM job WHERE claimed_by = :worker AND {IS_RUNNING}",
        {"worker": worker, "now": now},
    )
    return dict(rows.fetchall())


def again(connection: Connection, job: Job, fault: str, at: float, now: float) -> None:
    """See `JobQueue.again`."""
    values = {"number": job.number, "claim": job.claim, "fault": fault, "at": at, "now": now}
    if leave(connection, AGAIN, values) and not job.request.kind.is_standing:
        begin_failed_items(connection, job.number)


def begin_failed_items(connection: Connection, number: int) -> None:
    """What failed of a job is due again."""
    values = {"number": number}
    connection.execute(_ITEMS_AGAIN, values)
    connection.execute("UPDATE job SET failed = 0 WHERE job_pk = :number", values)
