"""Print jobs in the database, with their films beside it.

A job that is printed is one that is due and claimed: its row says no more than that.  Its films are
files: they are there before the job is, and go after it; a note in the database
(`isocenter.storage.database.print_films`) tells of both.
"""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from time import time
from typing import Any, Final

from isocenter.services.errors import StorageError
from isocenter.services.service_classes.print.job import (
    PRIORITIES,
    ComposedFilm,
    NewPrintJob,
    PrintJob,
    PrintJobState,
)
from isocenter.services.service_classes.print.ports import FilmFiles
from isocenter.services.workflow.forwarding.ports import Clock
from isocenter.storage.database import print_films
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import json_list, texts
from isocenter.storage.database.leases import PRINT_JOBS
from isocenter.storage.database.rows import named_rows
from isocenter.storage.database.text import replace_surrogates

_FAULT_LENGTH: Final = 500
_PURGED_AT_ONCE: Final = 20
#: In seconds: nobody makes the films of one job for so long.
_LONGEST_SUBMISSION: Final = 3_600.0

_INSERT: Final = """
    INSERT INTO print_job (job_uid, originator, state, films, copies, urgency, medium, destination,
                           label, study_instance_uid, created_at, since, due_at)
    VALUES (:uid, :originator, 'due', :films, :copies, :urgency, :medium, :destination, :label,
            :study, :now, :now, :now)
    RETURNING print_job_pk
"""
_SHOWN: Final = """
    job_uid, originator, state, films, copies, urgency, medium, destination, label,
    study_instance_uid, outputs, attempts, claims, fault, created_at, since, due_at, claimed_until
"""
CLAIM: Final = f"""
    SELECT print_job_pk, {_SHOWN} FROM print_job
    WHERE {PRINT_JOBS.is_free} ORDER BY urgency, print_job_pk LIMIT 1
"""
_OURS: Final = "job_uid = :uid AND state = 'due' AND claims = :claim"
_NOTE: Final = f"UPDATE print_job SET outputs = :outputs WHERE {_OURS}"
_SETTLE: Final = f"""
    UPDATE print_job SET state = :state, fault = :fault, since = :now, claimed_until = 0
    WHERE {_OURS}
"""
_AGAIN: Final = f"""
    UPDATE print_job SET due_at = :at, fault = :fault, since = :now, claimed_until = 0
    WHERE {_OURS}
"""
_RELEASE: Final = f"""
    UPDATE print_job SET claimed_until = 0, attempts = attempts - 1 WHERE {_OURS}
"""
_CANCEL: Final = """
    UPDATE print_job SET state = 'cancelled', since = :now, claimed_until = 0
    WHERE job_uid = :uid AND state = 'due'
"""
#: What was printed is printed anew; what failed goes on where it stood.
_RETRY: Final = """
    UPDATE print_job SET outputs = CASE state WHEN 'done' THEN '' ELSE outputs END, state = 'due',
        fault = '', attempts = 0, since = :now, due_at = :now
    WHERE job_uid = :uid AND claimed_until <= :now
"""
#: What was tried last: whether it went wrong says how the printer is.  Each association asks again
#: and again, so what ended is found by the index of that.
LAST_FAULT: Final = """
    SELECT fault FROM (
        SELECT fault, since, print_job_pk FROM (
            SELECT fault, since, print_job_pk FROM print_job
            WHERE state <> 'due' AND state <> 'cancelled' AND attempts > 0
            ORDER BY since DESC, print_job_pk DESC LIMIT 1
        ) AS ended
        UNION ALL
        SELECT fault, since, print_job_pk FROM print_job WHERE state = 'due' AND attempts > 0
    ) AS tried
    ORDER BY since DESC, print_job_pk DESC LIMIT 1
"""
_PURGED: Final = """
    SELECT print_job_pk, job_uid FROM print_job WHERE state <> 'due' AND since < :before
    ORDER BY since LIMIT :limit
"""
_STATES: Final = {
    PrintJobState.PENDING: "state = 'due' AND claimed_until <= :now",
    PrintJobState.PRINTING: "state = 'due' AND claimed_until > :now",
    PrintJobState.DONE: "state = 'done'",
    PrintJobState.FAILED: "state = 'failed'",
    PrintJobState.CANCELLED: "state = 'cancelled'",
}


class DatabasePrintJobs:
    """See `isocenter.services.service_classes.print.ports.PrintJobs`.

    Args:
        films: where their films are.
        now: seconds since 1970.
    """

    def __init__(self, database: Database, films: FilmFiles, *, now: Clock = time) -> None:
        self._database = database
        self._films = films
        self._now = now

    async def submit(self, job: NewPrintJob, *, most: int) -> bool:
        """See `PrintJobs.submit`."""
        if await self.is_full(most):
            return False
        await self._database.write(print_films.note, job.job_uid, self._now())
        try:
            for number, film in enumerate(job.films, 1):
                await self._films.put(job.job_uid, number, film.png)
        except StorageError:
            # What is there may be what leaves no room.
            with suppress(StorageError):
                await self._forget(job.job_uid)
            raise
        # Should this fail, nobody knows whether the job is there; `sweep` will.
        if await self._database.write(_submit, job, most, self._now()):
            return True
        await self._forget(job.job_uid)
        return False

    async def _forget(self, job_uid: str) -> None:
        """Remove the films of a job that has a note, and the note."""
        await self._films.remove(job_uid)
        await self._database.write(print_films.end_note, job_uid)

    async def is_full(self, most: int) -> bool:
        """See `PrintJobs.is_full`."""
        return await self._database.read(_is_full, most)

    async def claim(self, worker: str, seconds: float) -> PrintJob | None:
        """See `PrintJobs.claim`."""
        return await self._database.write(_claim, worker, seconds, self._now())

    async def renew(self, worker: str, seconds: float) -> None:
        """See `PrintJobs.renew`."""
        await self._database.write(_renew, worker, seconds, self._now())

    async def note_output(self, job: PrintJob, output: str) -> bool:
        """See `PrintJobs.note_output`."""
        return await self._change(_NOTE, job, outputs=",".join((*job.outputs, output)))

    async def settle(self, job: PrintJob, state: PrintJobState, fault: str = "") -> bool:
        """See `PrintJobs.settle`."""
        return await self._change(_SETTLE, job, state=state.value, fault=_short(fault))

    async def again(self, job: PrintJob, fault: str, seconds: float) -> bool:
        """See `PrintJobs.again`."""
        return await self._change(_AGAIN, job, at=self._now() + seconds, fault=_short(fault))

    async def release(self, job: PrintJob) -> None:
        """See `PrintJobs.release`."""
        await self._change(_RELEASE, job)

    async def _change(self, statement: str, job: PrintJob, **values: object) -> bool:
        bound = {"uid": job.job_uid, "claim": job.claim, "now": self._now(), **values}
        return await self._database.write(_execute, statement, bound)

    async def cancel(self, job_uid: str) -> bool:
        """See `PrintJobs.cancel`."""
        values = {"uid": replace_surrogates(job_uid), "now": self._now()}
        return await self._database.write(_execute, _CANCEL, values)

    async def retry(self, job_uid: str) -> bool:
        """See `PrintJobs.retry`."""
        values = {"uid": replace_surrogates(job_uid), "now": self._now()}
        return await self._database.write(_execute, _RETRY, values)

    async def get(self, job_uid: str) -> PrintJob | None:
        """See `PrintJobs.get`."""
        return await self._database.read(_get, replace_surrogates(job_uid), self._now())

    async def jobs(
        self, *, states: Collection[PrintJobState] = (), limit: int
    ) -> Sequence[PrintJob]:
        """See `PrintJobs.jobs`."""
        return await self._database.read(_jobs, tuple(states), limit, self._now())

    async def states(self, job_uids: Sequence[str]) -> dict[str, PrintJobState]:
        """See `PrintJobs.states`."""
        return await self._database.read(_states, job_uids, self._now())

    async def keeps_films(self, job_uid: str) -> bool:
        """See `PrintJobs.keeps_films`."""
        return await self._database.read(print_films.are_kept, replace_surrogates(job_uid))

    async def film(self, job_uid: str, number: int) -> ComposedFilm | None:
        """See `PrintJobs.film`."""
        found = await self._database.read(print_films.film, replace_surrogates(job_uid), number)
        if found is None or found.png:
            return found
        png = await self._films.get(job_uid, number)
        return None if png is None else replace(found, png=png)

    async def last_fault(self) -> str:
        """See `PrintJobs.last_fault`."""
        return await self._database.read(_last_fault)

    async def purge(self, before: float) -> int:
        """See `PrintJobs.purge`."""
        count = 0
        while some := await self._database.write(_purge, before, self._now()):
            count += len(some)
            for job_uid in some:
                await self._forget(job_uid)
        return count

    async def sweep(self) -> int:
        """See `PrintJobs.sweep`."""
        await self._database.write(print_films.give_up, self._now() - _LONGEST_SUBMISSION)
        # A note is made before the first film is there: whose films are found has one, or a job.
        found = await self._films.jobs()
        if unknown := await self._database.read(print_films.unknown, found):
            await self._database.write(print_films.note_unknown, unknown, self._now())
        count = 0
        while some := await self._database.read(print_films.over):
            count += len(some)
            for job_uid in some:
                await self._forget(job_uid)
        while kept := await self._database.read(print_films.in_database):
            await self._films.put(kept.job_uid, kept.number, kept.png)
            await self._database.write(print_films.to_file, kept, self._now())
        return count


def _execute(connection: Connection, statement: str, values: Mapping[str, Any]) -> bool:
    return bool(connection.execute(statement, values).rowcount)


def _is_full(connection: Connection, most: int) -> bool:
    (count,) = connection.execute("SELECT count(*) FROM print_job WHERE state = 'due'").fetchone()
    return bool(count >= most)


def _submit(connection: Connection, job: NewPrintJob, most: int, now: float) -> bool:
    if _is_full(connection, most):
        return False
    print_films.take_note(connection, job.job_uid)
    values = {
        "uid": job.job_uid,
        "originator": replace_surrogates(job.originator),
        "films": len(job.films),
        "copies": job.copies,
        "urgency": PRIORITIES.index(job.priority),
        "medium": replace_surrogates(job.medium),
        "destination": replace_surrogates(job.destination),
        "label": replace_surrogates(job.label),
        "study": replace_surrogates(job.study_instance_uid),
        "now": now,
    }
    (number,) = connection.execute(_INSERT, values).fetchone()
    print_films.add(connection, number, job.films)
    return True


def _claim(connection: Connection, worker: str, seconds: float, now: float) -> PrintJob | None:
    rows = list(named_rows(connection.execute(CLAIM, {"now": now})))
    if not rows:
        return None
    row = rows[0]
    number = row.pop("print_job_pk")
    PRINT_JOBS.claim(connection, [number], worker, now + seconds)
    connection.execute(
        "UPDATE print_job SET attempts = attempts + 1, claims = claims + 1, since = :now "
        "WHERE print_job_pk = :number",
        {"number": number, "now": now},
    )
    row["attempts"] += 1
    row["claims"] += 1
    row["claimed_until"] = now + seconds
    return _job(row, now)


def _renew(connection: Connection, worker: str, seconds: float, now: float) -> None:
    PRINT_JOBS.renew_all(connection, worker, now + seconds, now=now)


def _get(connection: Connection, job_uid: str, now: float) -> PrintJob | None:
    cursor = connection.execute(
        f"SELECT {_SHOWN} FROM print_job WHERE job_uid = :uid", {"uid": job_uid}
    )
    return next((_job(row, now) for row in named_rows(cursor)), None)


def _jobs(
    connection: Connection, states: Sequence[PrintJobState], limit: int, now: float
) -> list[PrintJob]:
    wanted = " OR ".join(f"({_STATES[state]})" for state in states) or "1 = 1"
    cursor = connection.execute(
        f"SELECT {_SHOWN} FROM print_job WHERE {wanted} ORDER BY print_job_pk DESC LIMIT :limit",
        {"limit": limit, "now": now},
    )
    return [_job(row, now) for row in named_rows(cursor)]


def _states(
    connection: Connection, job_uids: Sequence[str], now: float
) -> dict[str, PrintJobState]:
    cursor = connection.execute(
        f"SELECT {_SHOWN} FROM print_job WHERE job_uid IN {texts('uids')}",
        {"uids": json_list(job_uids)},
    )
    return {row["job_uid"]: _state(row, now) for row in named_rows(cursor)}


def _last_fault(connection: Connection) -> str:
    row = connection.execute(LAST_FAULT).fetchone()
    return "" if row is None else str(row[0])


def _purge(connection: Connection, before: float, now: float) -> list[str]:
    found = connection.execute(_PURGED, {"before": before, "limit": _PURGED_AT_ONCE}).fetchall()
    for number, job_uid in found:
        print_films.leave(connection, number, job_uid, now)
        connection.execute("DELETE FROM print_job WHERE print_job_pk = ?", (number,))
    return [job_uid for _, job_uid in found]


def _state(row: Mapping[str, Any], now: float) -> PrintJobState:
    if row["state"] != "due":
        return PrintJobState(row["state"])
    return PrintJobState.PRINTING if row["claimed_until"] > now else PrintJobState.PENDING


def _job(row: Mapping[str, Any], now: float) -> PrintJob:
    taken = (
        "job_uid", "originator", "films", "copies", "medium", "destination", "study_instance_uid",
        "created_at", "since", "due_at", "attempts", "fault", "label",
    )  # fmt: skip
    return PrintJob(
        **{name: row[name] for name in taken},
        state=_state(row, now),
        priority=PRIORITIES[row["urgency"]],
        outputs=tuple(filter(None, row["outputs"].split(","))),
        claim=row["claims"],
    )


def _short(fault: str) -> str:
    return replace_surrogates(fault)[:_FAULT_LENGTH]
