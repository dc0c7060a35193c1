"""Progress of jobs, as the API shows it."""

from __future__ import annotations

from collections.abc import Callable
from time import time

from isocenter.services.web.rest.bodies import Body
from isocenter.services.workflow.jobs.job import Job


class Progress(Body):
    """Objects of a job; `total` is null until the node has told.

    `elapsed_ms`: since it was begun first; `estimated_remaining_ms`: at the same rate, null where
    nobody can say.
    """

    total: int | None
    done: int
    skipped: int
    failed: int
    bytes: int
    percent: float | None
    elapsed_ms: int | None
    estimated_remaining_ms: int | None


def progress_of(job: Job, now: Callable[[], float] = time) -> Progress:
    """How far it is."""
    progress = job.progress
    percent: float | None = None
    elapsed: float | None = None
    remaining: float | None = None
    if progress.total is not None:
        percent = round(100 * progress.ended / progress.total, 1) if progress.total else 100.0
    if job.started_at is not None:
        elapsed = max(0.0, (now() if job.ended_at is None else job.ended_at) - job.started_at)
        if progress.total is not None and progress.ended and not job.state.is_final:
            remaining = elapsed * (progress.total - progress.ended) / progress.ended
    return Progress(
        total=progress.total,
        done=progress.done,
        skipped=progress.skipped,
        failed=progress.failed,
        bytes=progress.size,
        percent=percent,
        elapsed_ms=_milliseconds(elapsed),
        estimated_remaining_ms=_milliseconds(remaining),
    )


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(1_000 * seconds)
