"""Tasks and their runs in the database."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import orjson

from isocenter.services.workflow.forwarding.ports import Clock
from isocenter.services.workflow.tasks.schedule import known_schedule
from isocenter.services.workflow.tasks.task import (
    TASK_KINDS,
    ClaimedTask,
    RunCause,
    RunOutcome,
    Task,
    TaskKind,
    TaskRun,
)
from isocenter.storage.database.clock import clock_of
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.rows import named_rows, rows_as
from isocenter.storage.database.synchronization import forget_task
from isocenter.storage.database.text import replace_surrogates

_REPORT_LENGTH: Final = 1_000
_KINDS: Final = {kind.value: kind for kind in TASK_KINDS}
_COLUMNS: Final = (
    "name, kind, description, parameters, schedule, zone, is_enabled, timeout, retries, "
    "retry_seconds, version, next_at, run, claimed_until, asked"
)
_ADD: Final = """
    INSERT INTO task (name, kind, description, parameters, schedule, zone, is_enabled, timeout,
                      retries, retry_seconds, version, next_at)
    VALUES (:name, :kind, :description, :parameters, :schedule, :zone, :is_enabled, :timeout,
            :retries, :retry_seconds, 1, :next)
    ON CONFLICT (name) DO NOTHING
"""
_UPDATE: Final = """
    UPDATE task SET kind = :kind, description = :description, parameters = :parameters,
        schedule = :schedule, zone = :zone, is_enabled = :is_enabled, timeout = :timeout,
        retries = :retries, retry_seconds = :retry_seconds, version = version + 1,
        next_at = :next, retry_at = CASE WHEN :is_enabled = 1 THEN retry_at ELSE NULL END
    WHERE name = :name AND version = :version
"""
_DUE: Final = f"""
    SELECT {_COLUMNS}, retry_at, attempt FROM task
    WHERE run IS NULL AND (
        asked <> '' OR (is_enabled = 1 AND (next_at <= :now OR retry_at <= :now)))
    ORDER BY CASE WHEN asked <> '' THEN 0 ELSE 1 END, next_at, name
"""
_CLAIM: Final = """
    UPDATE task SET claimed_by = :worker, claimed_until = :until, run = :run, wish = '',
        asked = CASE WHEN :is_asked = 1 THEN '' ELSE asked END,
        retry_at = CASE WHEN :is_asked = 1 THEN retry_at ELSE NULL END,
        attempt = :attempt, next_at = :next
    WHERE name = :name AND run IS NULL
"""
_BEGIN: Final = """
    INSERT INTO task_run (task, cause, attempt, started_at, outcome, report)
    VALUES (:name, :cause, :attempt, :now, 'running', '') RETURNING task_run_pk
"""
_END: Final = """
    UPDATE task_run SET ended_at = :now, outcome = :outcome, report = :report
    WHERE task_run_pk = :run AND outcome = 'running' RETURNING task, cause, attempt
"""
_FREE: Final = """
    UPDATE task SET run = NULL, claimed_by = '', claimed_until = 0,
        retry_at = CASE WHEN :is_again = 1 THEN :now + retry_seconds ELSE retry_at END,
        attempt = CASE WHEN :is_again = 1 THEN :attempt ELSE 0 END
    WHERE name = :name AND run = :run
"""
_ALIVE: Final = """
    UPDATE task SET claimed_until = :until
    WHERE claimed_by = :worker AND run IS NOT NULL AND claimed_until > :now
    RETURNING run, wish
"""
_RUNS: Final = """
    SELECT task_run_pk, task, cause, attempt, started_at, ended_at, outcome, report FROM task_run
"""
_PURGED_AT_ONCE: Final = 1_000


class DatabaseTasks:
    """See `isocenter.services.workflow.tasks.ports.TaskBook`.

    Args:
        now: seconds since 1970; None: the clock of the database.
    """

    def __init__(self, database: Database, *, now: Clock | None = None) -> None:
        self._database = database
        self._now = clock_of(now)

    async def add(self, task: Task) -> bool:
        """See `TaskBook.add`."""

        def add(connection: Connection) -> bool:
            next_at = task.schedule.next_after(self._now(connection))
            return bool(connection.execute(_ADD, _values(task, next_at)).rowcount)

        return await self._database.write(add)

    async def get(self, name: str) -> Task | None:
        """See `TaskBook.get`."""
        found = await self._database.read(
            self._tasks, "WHERE name = :name", {"name": replace_surrogates(name)}
        )
        return found[0] if found else None

    async def all(self) -> Sequence[Task]:
        """See `TaskBook.all`."""
        return await self._database.read(self._tasks, "ORDER BY name", {})

    def _tasks(
        self, connection: Connection, condition: str, values: Mapping[str, Any]
    ) -> list[Task]:
        rows = connection.execute(f"SELECT {_COLUMNS} FROM task {condition}", values)
        now = self._now(connection)
        return [_task(row, now) for row in list(named_rows(rows))]

    async def update(self, task: Task) -> bool:
        """See `TaskBook.update`."""

        def update(connection: Connection) -> bool:
            next_at = task.schedule.next_after(self._now(connection))
            values = _values(task, next_at)
            known = connection.execute(
                "SELECT parameters FROM task WHERE name = :name", values
            ).fetchone()
            is_done = bool(connection.execute(_UPDATE, values).rowcount)
            if is_done and _node(orjson.loads(known[0])) != _node(task.parameters):
                # What was alike with one node says nothing of what another one has deleted.
                forget_task(connection, task.name)
            return is_done

        return await self._database.write(update)

    async def remove(self, name: str) -> bool:
        """See `TaskBook.remove`."""
        return await self._database.write(_remove, replace_surrogates(name))

    async def ask(self, name: str, *, is_dry: bool) -> bool:
        """See `TaskBook.ask`."""
        cause = RunCause.DRY_RUN if is_dry else RunCause.HAND
        return await self._database.write(
            _change,
            "UPDATE task SET asked = :asked WHERE name = :name AND asked = ''",
            {"asked": cause.value, "name": replace_surrogates(name)},
        )

    async def cancel(self, name: str) -> bool:
        """See `TaskBook.cancel`."""
        return await self._database.write(
            _change,
            "UPDATE task SET wish = 'cancel' WHERE name = :name AND run IS NOT NULL",
            {"name": replace_surrogates(name)},
        )

    async def claim(self, worker: str, seconds: float) -> ClaimedTask | None:
        """See `TaskBook.claim`."""
        # Most looks find nothing, and write nothing.
        if not await self._database.read(self._has_work):
            return None
        return await self._database.write(self._claim, worker, seconds)

    def _has_work(self, connection: Connection) -> bool:
        now = self._now(connection)
        lapsed = "SELECT 1 FROM task WHERE run IS NOT NULL AND claimed_until <= :now LIMIT 1"
        return bool(
            _first_due(connection, now) or connection.execute(lapsed, {"now": now}).fetchall()
        )

    def _claim(self, connection: Connection, worker: str, seconds: float) -> ClaimedTask | None:
        now = self._now(connection)
        self._free_lapsed(connection, now)
        due = _first_due(connection, now)
        if due is None:
            return None
        task, asked, retry_at, attempt = due
        is_retry = not asked and retry_at is not None and retry_at <= now
        cause = RunCause(asked) if asked else RunCause.RETRY if is_retry else RunCause.SCHEDULE
        attempt = attempt + 1 if is_retry else 1
        next_at = task.next_at
        if not asked and next_at is not None and next_at <= now:
            # What was missed meanwhile is done once.
            next_at = task.schedule.next_after(now, next_at)
        values = {"name": task.name, "cause": cause.value, "attempt": attempt, "now": now}
        (run,) = connection.execute(_BEGIN, values).fetchone()
        claimed = connection.execute(
            _CLAIM,
            {
                "name": task.name,
                "worker": worker,
                "until": now + seconds,
                "run": run,
                "is_asked": int(bool(asked)),
                "attempt": attempt,
                "next": next_at,
            },
        )
        assert claimed.rowcount == 1
        return ClaimedTask(task=task, run=run, cause=cause, attempt=attempt)

    def _free_lapsed(self, connection: Connection, now: float) -> None:
        lapsed = connection.execute(
            "SELECT run FROM task WHERE run IS NOT NULL AND claimed_until <= :now", {"now": now}
        ).fetchall()
        for (run,) in lapsed:
            _end(connection, run, RunOutcome.INTERRUPTED, "its process ended", now)

    async def renew(self, worker: str, seconds: float) -> Collection[int]:
        """See `TaskBook.renew`."""

        def renew(connection: Connection) -> set[int]:
            now = self._now(connection)
            values = {"worker": worker, "now": now, "until": now + seconds}
            rows = connection.execute(_ALIVE, values).fetchall()
            return {run for run, wish in rows if not wish}

        return await self._database.write(renew)

    async def end(self, run: int, outcome: RunOutcome, report: str, said: str = "") -> None:
        """See `TaskBook.end`."""

        def end(connection: Connection) -> None:
            _end(connection, run, outcome, _kept(report, said), self._now(connection))

        await self._database.write(end)

    async def runs(self, name: str = "", *, limit: int) -> Sequence[TaskRun]:
        """See `TaskBook.runs`."""
        return await self._database.read(_runs, replace_surrogates(name), limit)

    async def purge(self, before: float) -> int:
        """See `TaskBook.purge`."""
        count = 0
        while some := await self._database.write(_purge, before):
            count += some
        return count


def release_tasks(connection: Connection) -> None:
    """No process works on the database: what earlier ones ran is interrupted."""
    connection.execute("UPDATE task SET claimed_until = 0 WHERE run IS NOT NULL")


def _values(task: Task, next_at: float | None) -> dict[str, Any]:
    return {
        "name": task.name,
        "kind": task.kind.value,
        "description": replace_surrogates(task.description),
        "parameters": orjson.dumps(dict(task.parameters), option=orjson.OPT_SORT_KEYS).decode(),
        "schedule": task.schedule.text,
        "zone": task.schedule.zone,
        "is_enabled": int(task.is_enabled),
        "timeout": task.timeout,
        "retries": task.retries,
        "retry_seconds": task.retry_seconds,
        "version": task.version,
        "next": next_at,
    }


def _first_due(connection: Connection, now: float) -> tuple[Task, str, float | None, int] | None:
    """The first task that is due and can run here, who asked for it, its retry and attempts."""
    for row in list(named_rows(connection.execute(_DUE, {"now": now}))):
        asked, retry_at, attempt = row["asked"], row.pop("retry_at"), row.pop("attempt")
        task = _task(row, now)
        is_known = task.kind is not TaskKind.UNKNOWN
        # Whoever asks for it needs no schedule; its next moment stays what it is.
        if is_known and (asked or not task.obstacle):
            return task, asked, retry_at, attempt
    return None


def _task(row: dict[str, Any], now: float) -> Task:
    until = row.pop("claimed_until")
    kind = row.pop("kind")
    schedule, obstacle = known_schedule(row.pop("schedule"), row.pop("zone"))
    if kind not in _KINDS:
        obstacle = f"this version of Isocenter does not know tasks of the kind {kind!r}"
    return Task(
        kind=_KINDS.get(kind, TaskKind.UNKNOWN),
        schedule=schedule,
        obstacle=obstacle,
        parameters=orjson.loads(row.pop("parameters")),
        is_enabled=bool(row.pop("is_enabled")),
        is_asked=bool(row.pop("asked")),
        is_running=row.pop("run") is not None and until > now,
        **row,
    )


def _node(parameters: Mapping[str, str]) -> str | None:
    return parameters.get("node")


def _change(connection: Connection, statement: str, values: Mapping[str, Any]) -> bool:
    return bool(connection.execute(statement, values).rowcount)


def _remove(connection: Connection, name: str) -> bool:
    connection.execute("DELETE FROM task_run WHERE task = ?", (name,))
    forget_task(connection, name)
    return bool(connection.execute("DELETE FROM task WHERE name = ?", (name,)).rowcount)


def _end(connection: Connection, run: int, outcome: RunOutcome, report: str, now: float) -> None:
    values = {
        "run": run,
        "outcome": outcome.value,
        "report": replace_surrogates(report)[:_REPORT_LENGTH],
        "now": now,
    }
    for name, cause, attempt in connection.execute(_END, values).fetchall():
        (retries, wish) = connection.execute(
            "SELECT retries, wish FROM task WHERE name = ?", (name,)
        ).fetchone()
        is_again = (
            outcome.has_failed
            and not wish
            and cause != RunCause.DRY_RUN.value
            and attempt <= retries
        )
        connection.execute(
            _FREE,
            {"name": name, "run": run, "is_again": int(is_again), "attempt": attempt, "now": now},
        )


def _runs(connection: Connection, name: str, limit: int) -> list[TaskRun]:
    condition = "WHERE task = :name " if name else ""
    statement = f"{_RUNS} {condition} ORDER BY task_run_pk DESC LIMIT :limit"
    cursor = connection.execute(statement, {"name": name, "limit": limit})
    read: dict[str, Callable[[Any], object]] = {"cause": RunCause, "outcome": RunOutcome}
    return rows_as(_run_of, cursor, **read)


def _kept(report: str, said: str) -> str:
    """In one column, a line each."""
    line = " ".join(report.split("\n"))
    return f"{line[: _REPORT_LENGTH // 2]}\n{said}" if said else line


def _run_of(task_run_pk: int, report: str, **rest: Any) -> TaskRun:
    line, _, said = report.partition("\n")
    return TaskRun(number=task_run_pk, report=line, said=said, **rest)


def _purge(connection: Connection, before: float) -> int:
    return connection.execute(
        "DELETE FROM task_run WHERE task_run_pk IN (SELECT task_run_pk FROM task_run "
        "WHERE ended_at < ? ORDER BY task_run_pk LIMIT ?)",
        (before, _PURGED_AT_ONCE),
    ).rowcount
