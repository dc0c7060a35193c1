"""Jobs and their objects in the database.

A job that runs is one that is due and claimed: its row says no more than that.
"""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from time import time
from typing import Any, Final, assert_never

import orjson

from isocenter.engine.fast_init import dataclass
from isocenter.services.workflow.forwarding.ports import Clock
from isocenter.services.workflow.jobs.job import (
    ItemState,
    Job,
    JobItem,
    JobKind,
    JobPriority,
    JobProgress,
    JobRequest,
    JobState,
)
from isocenter.services.workflow.jobs.ports import ItemOutcome, Wish
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import json_list, texts
from isocenter.storage.database.leases import JOBS
from isocenter.storage.database.rows import named_rows, rows_as
from isocenter.storage.database.text import replace_surrogates

_FAULT_LENGTH: Final = 500
_DUE: Final = "due"
_PURGED_AT_ONCE: Final = 100

_SUBMIT: Final = """
    INSERT INTO job (job_id, kind, node, parameters, open_key, priority, requested_by, state,
                     created_at, since, due_at)
    VALUES (:id, :kind, :node, :parameters, :key, :priority, :by, 'due', :now, :now, :now)
    ON CONFLICT (open_key) DO NOTHING
"""
_SHOWN: Final = """
    job_pk, job_id, kind, node, parameters, priority, requested_by, state, wish, is_planned, total,
    done, skipped, failed, size, attempts, claims, created_at, since, due_at, started_at, ended_at,
    claimed_until, last_fault
"""
CLAIM: Final = f"""
    SELECT {_SHOWN} FROM job
    WHERE {JOBS.is_free} AND node NOT IN {texts("not_for")}
    ORDER BY priority DESC, due_at, job_pk LIMIT 1
"""
_BEGIN: Final = """
    UPDATE job SET attempts = attempts + 1, claims = claims + 1,
        started_at = coalesce(started_at, :now), wish = ''
    WHERE job_pk = :number
"""
_PLAN: Final = """
    INSERT INTO job_item (job_pk, study_instance_uid, series_instance_uid, sop_instance_uid,
                          sop_class_uid, state)
    VALUES (:number, :study, :series, :uid, :class, :state)
    ON CONFLICT (job_pk, sop_instance_uid) DO NOTHING
"""
_COUNT: Final = """
    UPDATE job SET total = total + :total, done = done + :done, skipped = skipped + :skipped,
        failed = failed + :failed, size = size + :size
    WHERE job_pk = :number
"""
_SETTLE: Final = """
    UPDATE job_item SET state = :state, fault = :fault
    WHERE job_pk = :number AND sop_instance_uid = :uid AND state = 'due'
"""
_ITEMS: Final = f"""
    SELECT study_instance_uid, series_instance_uid, sop_instance_uid, sop_class_uid, state, fault
    FROM job_item WHERE job_pk = (SELECT job_pk FROM job WHERE job_id = :id)
      AND state IN {texts("states")}
    ORDER BY study_instance_uid, series_instance_uid, sop_instance_uid LIMIT :limit
"""
_END: Final = """
    UPDATE job SET state = :state, wish = '', last_fault = :fault, claimed_until = 0,
        claimed_by = '',
        open_key = CASE WHEN :is_over THEN NULL ELSE open_key END,
        ended_at = CASE WHEN :is_over THEN :now ELSE NULL END
    WHERE job_pk = :number AND state = 'due' AND claims = :claim
"""
_AGAIN: Final = """
    UPDATE job SET due_at = :at, last_fault = :fault, claimed_until = 0, claimed_by = ''
    WHERE job_pk = :number AND state = 'due' AND claims = :claim
"""
_RELEASE: Final = """
    UPDATE job SET claimed_until = 0, claimed_by = ''
    WHERE job_pk = :number AND state = 'due' AND claims = :claim
"""
_ITEMS_AGAIN: Final = """
    UPDATE job_item SET state = 'due', fault = '' WHERE job_pk = :number AND state = 'failed'
"""
#: Somebody works on it: he is to be told.
_IS_RUNNING: Final = "state = 'due' AND claimed_until > :now"
#: Nobody does.
_IS_WAITING: Final = "state = 'due' AND claimed_until <= :now"


class DatabaseJobs:
    """See `isocenter.services.workflow.jobs.ports.JobQueue`.

    Args:
        now: seconds since 1970.
    """

    def __init__(self, database: Database, *, now: Clock = time) -> None:
        self._database = database
        self._now = now

    async def submit(self, request: JobRequest) -> tuple[str, bool]:
        """See `JobQueue.submit`."""
        return await self._database.write(_submit, request, secrets.token_hex(16), self._now())

    async def claim(self, worker: str, seconds: float, *, not_for: Collection[str]) -> Job | None:
        """See `JobQueue.claim`."""
        return await self._database.write(
            _claim, worker, seconds, sorted(map(replace_surrogates, not_for)), self._now()
        )

    async def renew(self, worker: str, seconds: float) -> Mapping[str, str]:
        """See `JobQueue.renew`."""
        return await self._database.write(_renew, worker, seconds, self._now())

    async def plan(self, job: Job, items: Sequence[JobItem], *, is_last: bool) -> None:
        """See `JobQueue.plan`."""
        await self._database.write(_plan, job.number, items, is_last)

    async def items(
        self, job_id: str, states: Collection[ItemState], limit: int
    ) -> Sequence[JobItem]:
        """See `JobQueue.items`."""
        values = {
            "id": job_id,
            "states": json_list(state.value for state in states),
            "limit": limit,
        }
        return await self._database.read(_items, values)

    async def settle(self, job: Job, outcomes: Sequence[ItemOutcome]) -> None:
        """See `JobQueue.settle`."""
        if outcomes:
            await self._database.write(_settle, job.number, outcomes)

    async def again(self, job: Job, fault: str, seconds: float) -> None:
        """See `JobQueue.again`."""
        await self._database.write(_again, job, _short(fault), self._now() + seconds)

    async def end(self, job: Job, state: JobState, fault: str = "") -> None:
        """See `JobQueue.end`."""
        values = {
            "number": job.number,
            "claim": job.claim,
            "state": state.value,
            "fault": _short(fault),
            "is_over": int(state.is_final),
            "now": self._now(),
        }
        await self._database.write(_change, _END, values)

    async def release(self, job: Job) -> None:
        """See `JobQueue.release`."""
        values = {"number": job.number, "claim": job.claim}
        await self._database.write(_change, _RELEASE, values)

    async def wish(self, job_id: str, wish: Wish) -> bool:
        """See `JobQueue.wish`."""
        return await self._database.write(_wish, job_id, wish, self._now())

    async def get(self, job_id: str) -> Job | None:
        """See `JobQueue.get`."""
        read = partial(_job, now=self._now())
        found = await self._database.read(_with_prefix, job_id)
        return read(found[0]) if len(found) == 1 else None

    async def jobs(
        self, *, states: Collection[JobState] = (), node: str = "", limit: int
    ) -> Sequence[Job]:
        """See `JobQueue.jobs`."""
        now = self._now()
        rows = await self._database.read(_rows, states, replace_surrogates(node), limit, now)
        return [_job(row, now=now) for row in rows]

    async def purge(self, before: float) -> int:
        """See `JobQueue.purge`."""
        count = 0
        while some := await self._database.write(_purge, before):
            count += some
        return count


def _change(connection: Connection, statement: str, values: Mapping[str, Any]) -> bool:
    return bool(connection.execute(statement, values).rowcount)


def _submit(
    connection: Connection, request: JobRequest, job_id: str, now: float
) -> tuple[str, bool]:
    parameters = orjson.dumps({"keys": request.keys, "again": request.again}).decode()
    node = replace_surrogates(request.node)
    values = {
        "id": job_id,
        "kind": request.kind.value,
        "node": node,
        "parameters": parameters,
        "key": f"{request.kind.value} {node} {parameters}",
        "priority": int(request.priority),
        "by": replace_surrogates(request.requested_by),
        "now": now,
    }
    if _change(connection, _SUBMIT, values):
        return job_id, True
    (known,) = connection.execute("SELECT job_id FROM job WHERE open_key = :key", values).fetchone()
    return known, False


def _claim(
    connection: Connection, worker: str, seconds: float, not_for: Sequence[str], now: float
) -> Job | None:
    values = {"now": now, "not_for": json_list(not_for)}
    for row in list(named_rows(connection.execute(CLAIM, values))):
        JOBS.claim(connection, [row["job_pk"]], worker, now + seconds)
        connection.execute(_BEGIN, {"now": now, "number": row["job_pk"]})
        row["attempts"] += 1
        row["claims"] += 1
        row["claimed_until"] = now + seconds
        return _job(row, now=now)
    return None


def _renew(connection: Connection, worker: str, seconds: float, now: float) -> Mapping[str, str]:
    JOBS.renew_all(connection, worker, now + seconds, now=now)
    rows = connection.execute(
        f"SELECT job_id, wish FROM job WHERE claimed_by = :worker AND {_IS_RUNNING}",
        {"worker": worker, "now": now},
    )
    return dict(rows.fetchall())


def _plan(connection: Connection, number: int, items: Sequence[JobItem], is_last: bool) -> None:
    counted = _Counts()
    for item in items:
        added = connection.execute(
            _PLAN,
            {
                "number": number,
                "study": item.study_instance_uid,
                "series": item.series_instance_uid,
                "uid": item.sop_instance_uid,
                "class": item.sop_class_uid,
                "state": item.state.value,
            },
        ).rowcount
        counted.total += added
        counted.add(item.state, added)
    counted.write(connection, number)
    if is_last:
        connection.execute("UPDATE job SET is_planned = 1 WHERE job_pk = ?", (number,))


def _items(connection: Connection, values: Mapping[str, Any]) -> list[JobItem]:
    return rows_as(JobItem, connection.execute(_ITEMS, values), state=ItemState)


def _settle(connection: Connection, number: int, outcomes: Sequence[ItemOutcome]) -> None:
    counted = _Counts()
    for outcome in outcomes:
        changed = connection.execute(
            _SETTLE,
            {
                "number": number,
                "uid": outcome.sop_instance_uid,
                "state": outcome.state.value,
                "fault": _short(outcome.fault),
            },
        ).rowcount
        counted.add(outcome.state, changed)
        counted.size += changed * outcome.size
    counted.write(connection, number)


@dataclass(slots=True)
class _Counts:
    """What is added to the numbers of a job."""

    total: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    size: int = 0

    def add(self, state: ItemState, count: int) -> None:
        match state:
            case ItemState.DONE:
                self.done += count
            case ItemState.SKIPPED:
                self.skipped += count
            case ItemState.FAILED:
                self.failed += count
            case ItemState.DUE:
                pass
            case other:
                assert_never(other)

    def write(self, connection: Connection, number: int) -> None:
        connection.execute(_COUNT, {"number": number, **asdict(self)})


def _again(connection: Connection, job: Job, fault: str, at: float) -> None:
    values = {"number": job.number, "claim": job.claim, "fault": fault, "at": at}
    if _change(connection, _AGAIN, values):
        _begin_failed_items(connection, job.number)


def _begin_failed_items(connection: Connection, number: int) -> None:
    values = {"number": number}
    connection.execute(_ITEMS_AGAIN, values)
    connection.execute("UPDATE job SET failed = 0 WHERE job_pk = :number", values)


def _wish(connection: Connection, job_id: str, wish: Wish, now: float) -> bool:
    values: dict[str, Any] = {"id": job_id, "now": now}
    match wish:
        case Wish.PAUSE | Wish.CANCEL:
            state = "paused" if wish is Wish.PAUSE else "cancelled"
            values |= {"wish": wish.value, "state": state, "is_over": int(wish is Wish.CANCEL)}
            may_be = "state = 'due'" if wish is Wish.PAUSE else "state IN ('due', 'paused')"
            told = _change(
                connection, f"UPDATE job SET wish = :wish WHERE job_id = :id AND {_IS_RUNNING}",
                values,
            )  # fmt: skip
            return told or _change(
                connection,
                "UPDATE job SET state = :state, wish = '', "
                "open_key = CASE WHEN :is_over THEN NULL ELSE open_key END, "
                "ended_at = CASE WHEN :is_over THEN :now ELSE NULL END "
                f"WHERE job_id = :id AND {may_be} AND claimed_until <= :now",
                values,
            )
        case Wish.RESUME:
            return _change(
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
            _forget(connection, [found[0]])
            return True


def _retry(connection: Connection, job_id: str, now: float) -> bool:
    """What is over, and what waits for its next attempt, begins at once; what is there, stays."""
    row = connection.execute(
        "SELECT job_pk, kind, node, parameters FROM job WHERE job_id = :id "
        f"AND (state IN ('failed', 'cancelled') OR ({_IS_WAITING} AND attempts > 0))",
        {"id": job_id, "now": now},
    ).fetchone()
    if row is None:
        return False
    number, kind, node, parameters = row
    values = {"number": number, "key": f"{kind} {node} {parameters}", "now": now}
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
    _begin_failed_items(connection, number)
    return True


def _with_prefix(connection: Connection, prefix: str) -> list[dict[str, Any]]:
    values = {"low": prefix, "high": prefix + "g"}  # IDs are hexadecimal
    rows = connection.execute(
        f"SELECT {_SHOWN} FROM job WHERE job_id >= :low AND job_id < :high ORDER BY job_id LIMIT 2",
        values,
    )
    return list(named_rows(rows))


def _rows(
    connection: Connection, states: Collection[JobState], node: str, limit: int, now: float
) -> list[dict[str, Any]]:
    conditions = ["1 = 1"]
    if states:
        named = {
            JobState.WAITING: _IS_WAITING,
            JobState.RUNNING: _IS_RUNNING,
        }
        said = [named.get(state, f"state = '{state.value}'") for state in states]
        conditions.append("(" + " OR ".join(f"({each})" for each in said) + ")")
    if node:
        conditions.append("node = :node")
    rows = connection.execute(
        f"SELECT {_SHOWN} FROM job WHERE {' AND '.join(conditions)} "
        "ORDER BY job_pk DESC LIMIT :limit",
        {"node": node, "limit": limit, "now": now},
    )
    return list(named_rows(rows))


def _purge(connection: Connection, before: float) -> int:
    numbers = [
        number
        for (number,) in connection.execute(
            f"SELECT job_pk FROM job WHERE ended_at < ? LIMIT {_PURGED_AT_ONCE}", (before,)
        )
    ]
    _forget(connection, numbers)
    return len(numbers)


def _forget(connection: Connection, numbers: Sequence[int]) -> None:
    for statement in (
        "DELETE FROM job_item WHERE job_pk = ?",
        "DELETE FROM job WHERE job_pk = ?",
    ):
        connection.executemany(statement, [(number,) for number in numbers])


def _job(row: Mapping[str, Any], *, now: float) -> Job:
    said = orjson.loads(row["parameters"])
    state = row["state"]
    if state == _DUE:
        found = JobState.RUNNING if row["claimed_until"] > now else JobState.WAITING
    else:
        found = JobState(state)
    return Job(
        number=row["job_pk"],
        job_id=row["job_id"],
        request=JobRequest(
            kind=JobKind(row["kind"]),
            node=row["node"],
            keys=tuple((name, value) for name, value in said["keys"]),
            priority=JobPriority(row["priority"]),
            again=said["again"],
            requested_by=row["requested_by"],
        ),
        state=found,
        progress=JobProgress(
            total=row["total"] if row["is_planned"] else None,
            done=row["done"],
            skipped=row["skipped"],
            failed=row["failed"],
            size=row["size"],
        ),
        attempts=row["attempts"],
        claim=row["claims"],
        created_at=row["created_at"],
        since=row["since"],
        due_at=row["due_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        last_fault=row["last_fault"],
        wish=row["wish"],
    )


def _short(fault: str) -> str:
    return replace_surrogates(fault)[:_FAULT_LENGTH]
