"""Jobs and their objects in the database.

A job that runs is one that is due and claimed: its row says no more than that.
"""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import time
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import orjson

from isocenter.services.workflow.forwarding.ports import Clock
from isocenter.services.workflow.jobs.job import (
    ItemState,
    Job,
    JobItem,
    JobKind,
    JobRequest,
    JobState,
)
from isocenter.services.workflow.jobs.ports import ItemOutcome, Wish
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import json_list, texts
from isocenter.storage.database.jobs.claims import (
    END,
    GIVE_WAY,
    HASTEN,
    RELEASE,
    again,
    claim,
    is_awaited,
    leave,
    renew,
    take,
)
from isocenter.storage.database.jobs.counts import JobCounts
from isocenter.storage.database.jobs.rows import (
    IS_RUNNING,
    IS_UNKNOWN,
    IS_WAITING,
    LISTED,
    change,
    job_of,
    open_key,
    parameters_of,
    place_of,
    short_fault,
)
from isocenter.storage.database.jobs.telling import ChangeHook, telling
from isocenter.storage.database.jobs.wishes import forget, wish_of
from isocenter.storage.database.rows import named_rows, rows_as
from isocenter.storage.database.text import replace_surrogates

P = ParamSpec("P")
T = TypeVar("T")

_PURGED_AT_ONCE: Final = 100

_SUBMIT: Final = """
    INSERT INTO job (job_id, kind, node, parameters, open_key, priority, requested_by, asker, host,
                     state, created_at, since, due_at)
    VALUES (:id, :kind, :node, :parameters, :key, :priority, :by, :asker, :host, 'due', :now, :now,
            :now)
    ON CONFLICT (open_key) DO NOTHING
"""
_PLAN: Final = """
    INSERT INTO job_item (job_pk, study_instance_uid, series_instance_uid, sop_instance_uid,
                          sop_class_uid, state)
    VALUES (:number, :study, :series, :uid, :class, :state)
    ON CONFLICT (job_pk, sop_instance_uid) DO NOTHING
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


_COUNT_RESULTS: Final = """
    UPDATE job SET total = :count, done = :count, is_planned = 1
    WHERE job_pk = :number AND state = 'due' AND claims = :claim
"""


class DatabaseJobs:
    """See `isocenter.services.workflow.jobs.ports.JobQueue`.

    Args:
        on_change: told of each new state of a job, in its transaction.
        node: the name of this node of the archive; empty: there is but one.
        now: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_change: Sequence[ChangeHook] = (),
        node: str = "",
        now: Clock = time,
    ) -> None:
        self._database = database
        self._node = node
        self._on_change = on_change
        self._now = now

    async def _tell(
        self,
        job_id: str,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """`Database.write`, and whoever is told of new states of jobs is."""
        return await self._database.write(telling, self._on_change, job_id, function, args, kwargs)

    async def submit(self, request: JobRequest) -> tuple[str, bool]:
        """See `JobQueue.submit`."""
        job_id = secrets.token_hex(16)
        if request.kind.is_of_one_node and not request.host:
            request = replace(request, host=self._node)
        return await self._tell(job_id, _submit, request, job_id, self._now())

    async def claim(
        self,
        worker: str,
        seconds: float,
        *,
        not_for: Collection[str],
        served: Sequence[str] = (),
    ) -> Job | None:
        """See `JobQueue.claim`."""
        return await self._database.write(
            claim,
            worker,
            seconds,
            sorted(map(replace_surrogates, not_for)),
            [replace_surrogates(node) for node in served],
            self._now(),
            self._on_change,
            host=self._node,
        )

    async def take(self, kind: JobKind, node: str, worker: str, seconds: float) -> Job | None:
        """See `JobQueue.take`."""
        return await self._database.write(
            take,
            kind,
            replace_surrogates(node),
            secrets.token_hex(16),
            worker,
            seconds,
            self._now(),
        )

    async def renew(self, worker: str, seconds: float) -> Mapping[str, str]:
        """See `JobQueue.renew`."""
        return await self._database.write(renew, worker, seconds, self._now())

    async def plan(self, job: Job, items: Sequence[JobItem], *, is_last: bool) -> None:
        """See `JobQueue.plan`."""
        await self._database.write(_plan, job, items, is_last)

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
            await self._database.write(_settle, job, outcomes)

    async def again(self, job: Job, fault: str, seconds: float) -> None:
        """See `JobQueue.again`."""
        now = self._now()
        await self._tell(job.job_id, again, job, short_fault(fault), now + seconds, now)

    async def is_awaited(self, job: Job) -> bool:
        """See `JobQueue.is_awaited`."""
        return await self._database.read(is_awaited, job, self._now())

    async def give_way(self, job: Job, seconds: float = 0.0) -> None:
        """See `JobQueue.give_way`."""
        now = self._now()
        values = {"number": job.number, "claim": job.claim, "now": now, "at": now + seconds}
        await self._tell(job.job_id, leave, GIVE_WAY, values)

    async def keep_results(self, job: Job, results: Sequence[Mapping[str, str]]) -> None:
        """See `JobResults.keep_results`."""
        await self._database.write(_keep_results, job, results)

    async def results(self, job_id: str, limit: int) -> Sequence[Mapping[str, str]]:
        """See `JobResults.results`."""
        return await self._database.read(_results, {"id": job_id, "limit": limit})

    async def end(self, job: Job, state: JobState, fault: str = "") -> None:
        """See `JobQueue.end`."""
        values = {
            "number": job.number,
            "claim": job.claim,
            "state": state.value,
            "fault": short_fault(fault),
            "is_over": int(state.is_final),
            "now": self._now(),
        }
        await self._tell(job.job_id, change, END, values)

    async def release(self, job: Job) -> None:
        """See `JobQueue.release`."""
        values = {"number": job.number, "claim": job.claim, "now": self._now()}
        await self._tell(job.job_id, leave, RELEASE, values)

    async def wish(self, job_id: str, wish: Wish) -> bool:
        """See `JobQueue.wish`."""
        return await self._tell(job_id, wish_of, job_id, wish, self._now())

    async def hasten(self, job_id: str) -> None:
        """See `JobQueue.hasten`."""
        await self._database.write(change, HASTEN, {"id": job_id, "now": self._now()})

    async def get(self, job_id: str) -> Job | None:
        """See `JobQueue.get`."""
        read = partial(job_of, now=self._now())
        found = await self._database.read(_with_prefix, job_id)
        return read(found[0]) if len(found) == 1 else None

    async def jobs(
        self, *, states: Collection[JobState] = (), node: str = "", limit: int
    ) -> Sequence[Job]:
        """See `JobQueue.jobs`."""
        now = self._now()
        rows = await self._database.read(_rows, states, replace_surrogates(node), limit, now)
        return [job_of(row, now=now) for row in rows]

    async def unknown_kinds(self) -> Collection[str]:
        """See `JobQueue.unknown_kinds`."""
        return await self._database.read(_unknown_kinds)

    async def purge(self, before: float) -> int:
        """See `JobQueue.purge`."""
        count = 0
        while some := await self._database.write(_purge, before):
            count += some
        return count


def _submit(
    connection: Connection, request: JobRequest, job_id: str, now: float
) -> tuple[str, bool]:
    parameters = parameters_of(request)
    node = replace_surrogates(request.node)
    values = {
        "id": job_id,
        "kind": request.kind.value,
        "node": node,
        "parameters": parameters,
        "key": open_key(request.kind.value, place_of(node, request.host), parameters),
        "asker": "" if request.asker is None else request.asker.as_text(),
        "host": request.host,
        "priority": int(request.priority),
        "by": replace_surrogates(request.requested_by),
        "now": now,
    }
    if change(connection, _SUBMIT, values):
        return job_id, True
    (known,) = connection.execute("SELECT job_id FROM job WHERE open_key = :key", values).fetchone()
    return known, False


def _is_lost(connection: Connection, job: Job) -> bool:
    """Whether somebody else has claimed the job since: what became of it is his to say."""
    row = connection.execute("SELECT claims FROM job WHERE job_pk = ?", (job.number,)).fetchone()
    return row is None or row[0] != job.claim


def _plan(connection: Connection, job: Job, items: Sequence[JobItem], is_last: bool) -> None:
    if _is_lost(connection, job):
        return
    number = job.number
    counted = JobCounts()
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


def _keep_results(connection: Connection, job: Job, results: Sequence[Mapping[str, str]]) -> None:
    values = {"number": job.number, "claim": job.claim, "count": len(results)}
    # Whoever has the job by now keeps his own.
    if not change(connection, _COUNT_RESULTS, values):
        return
    connection.execute("DELETE FROM job_result WHERE job_pk = :number", values)
    connection.executemany(
        "INSERT INTO job_result (job_pk, position, result) VALUES (?, ?, ?)",
        [
            (job.number, position, orjson.dumps(_clean(result)).decode())
            for position, result in enumerate(results)
        ],
    )


def _clean(result: Mapping[str, str]) -> dict[str, str]:
    return {name: replace_surrogates(text) for name, text in result.items()}


def _results(connection: Connection, values: Mapping[str, Any]) -> list[Mapping[str, str]]:
    rows = connection.execute(
        "SELECT result FROM job_result WHERE job_pk = (SELECT job_pk FROM job WHERE job_id = :id) "
        "ORDER BY position LIMIT :limit",
        values,
    )
    return [orjson.loads(row[0]) for row in rows]


def _items(connection: Connection, values: Mapping[str, Any]) -> list[JobItem]:
    return rows_as(JobItem, connection.execute(_ITEMS, values), state=ItemState)


def _settle(connection: Connection, job: Job, outcomes: Sequence[ItemOutcome]) -> None:
    if _is_lost(connection, job):
        return
    number = job.number
    counted = JobCounts()
    for outcome in outcomes:
        changed = connection.execute(
            _SETTLE,
            {
                "number": number,
                "uid": outcome.sop_instance_uid,
                "state": outcome.state.value,
                "fault": short_fault(outcome.fault),
            },
        ).rowcount
        counted.add(outcome.state, changed)
        counted.size += changed * outcome.size
    counted.write(connection, number)


def _with_prefix(connection: Connection, prefix: str) -> list[dict[str, Any]]:
    values = {"low": prefix, "high": prefix + "g"}  # IDs are hexadecimal
    rows = connection.execute(
        f"SELECT {LISTED} FROM job WHERE job_id >= :low AND job_id < :high ORDER BY job_id LIMIT 2",
        values,
    )
    return list(named_rows(rows))


def _rows(
    connection: Connection, states: Collection[JobState], node: str, limit: int, now: float
) -> list[dict[str, Any]]:
    conditions = ["1 = 1"]
    if states:
        named = {
            JobState.WAITING: IS_WAITING,
            JobState.RUNNING: IS_RUNNING,
        }
        said = [named.get(state, f"state = '{state.value}'") for state in states]
        conditions.append("(" + " OR ".join(f"({each})" for each in said) + ")")
    if node:
        conditions.append("node = :node")
    rows = connection.execute(
        f"SELECT {LISTED} FROM job WHERE {' AND '.join(conditions)} "
        "ORDER BY job_pk DESC LIMIT :limit",
        {"node": node, "limit": limit, "now": now},
    )
    return list(named_rows(rows))


def _unknown_kinds(connection: Connection) -> list[str]:
    rows = connection.execute(
        f"SELECT DISTINCT kind FROM job WHERE state = 'due' AND {IS_UNKNOWN} ORDER BY kind"
    )
    return [kind for (kind,) in rows.fetchall()]


def _purge(connection: Connection, before: float) -> int:
    numbers = [
        number
        for (number,) in connection.execute(
            f"SELECT job_pk FROM job WHERE ended_at < ? LIMIT {_PURGED_AT_ONCE}", (before,)
        )
    ]
    forget(connection, numbers)
    return len(numbers)
