"""Jobs as commands show them, and waiting for one."""

from __future__ import annotations

from typing import Final

import trio

from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.terminal import Advance, Terminal
from isocenter.services.workflow.jobs.job import Job, JobKind, JobState
from isocenter.services.workflow.jobs.ports import JobQueue

#: Characters of an ID that people see and type.
SHORT_ID: Final = 8
#: How often a job is looked at that somebody waits for.
_LOOK_SECONDS: Final = 0.5

_VERBS: Final = {
    JobKind.RETRIEVE: "came",
    JobKind.FETCH: "came",
    JobKind.SEND: "were sent",
    JobKind.VERIFY: "are what was stored",
    JobKind.EXPORT: "were exported",
    JobKind.IMPORT: "were taken in",
    JobKind.COMPRESS: "were compressed",
    JobKind.FORWARD: "were forwarded",
    JobKind.ANALYSE: "were analysed",
}
_SKIPPED: Final = dict.fromkeys(JobKind, "are gone") | {
    JobKind.RETRIEVE: "were here already",
    JobKind.FETCH: "were here already",
    JobKind.IMPORT: "were here already, or are no objects",
    JobKind.COMPRESS: "stay as they are",
}
HEAD: Final = (
    "job", "what", "node", "state", "objects", "failed", "queued", "ended", "which",
    "what was wrong",
)  # fmt: skip


def line(job: Job) -> tuple[str, ...]:
    """A row of the table."""
    progress = job.progress
    total = "?" if progress.total is None else str(progress.total)
    texts = (
        job.job_id[:SHORT_ID], job.request.kind.value, job.request.node, job.state.value,
        f"{progress.ended}/{total}", str(progress.failed or ""),
        local_time(job.created_at), local_time(job.ended_at), which(job), job.last_fault,
    )  # fmt: skip
    return tuple(map(shown, texts))


def which(job: Job) -> str:
    """What of the node, or of the archive."""
    return job.request.what


def members(job: Job) -> dict[str, object]:
    """A job for programs."""
    progress = job.progress
    return {
        "job_id": job.job_id,
        "kind": job.request.kind.value,
        "node": job.request.node,
        "keys": dict(job.request.keys),
        "detail": job.request.detail,
        "state": job.state.value,
        "priority": job.request.priority.name.lower(),
        "requested_by": job.request.requested_by,
        "attempts": job.attempts,
        "total": progress.total,
        "done": progress.done,
        "skipped": progress.skipped,
        "failed": progress.failed,
        "bytes": progress.size,
        "created_at": local_time(job.created_at),
        "due_at": local_time(job.due_at),
        "started_at": local_time(job.started_at),
        "ended_at": local_time(job.ended_at),
        "fault": job.last_fault,
    }


async def follow(queue: JobQueue, job_id: str, terminal: Terminal) -> int:
    """Show the progress of a job until it is over or paused; the exit code."""
    told = ""
    with terminal.progress("objects") as advance:
        while True:
            job = await queue.get(job_id)
            if job is None:
                terminal.error("the job was deleted")
                return EXIT_FAILED
            _advance(job, advance)
            if job.state.is_final or job.state is JobState.PAUSED:
                break
            if job.last_fault and job.last_fault != told:
                told = job.last_fault
                terminal.note(f"it is tried again {local_time(job.due_at)}: {told}")
            await trio.sleep(_LOOK_SECONDS)
    return report(job, terminal)


def _advance(job: Job, advance: Advance) -> None:
    advance(job.progress.ended, job.progress.total)


def report(job: Job, terminal: Terminal) -> int:
    """How a job ended; the exit code."""
    progress = job.progress
    if job.state is not JobState.COMPLETED:
        why = f": {job.last_fault}" if job.last_fault else ""
        terminal.error(f"job {job.job_id[:SHORT_ID]} {job.state.value}{why}")
        if progress.failed:
            terminal.note(f"isocenter jobs show {job.job_id[:SHORT_ID]} names them")
        return EXIT_FAILED
    if job.request.kind is JobKind.QUERY:
        print(f"{progress.done} studies; isocenter jobs results {job.job_id[:SHORT_ID]}")
        return EXIT_OK
    if job.request.kind is JobKind.PUBLISH:
        print("the repository is up to date")
        return EXIT_OK
    verb = _VERBS.get(job.request.kind, "are done")
    skipped = f", {progress.skipped} {_SKIPPED[job.request.kind]}" if progress.skipped else ""
    print(f"{progress.done} objects {verb}{skipped}")
    return EXIT_OK
