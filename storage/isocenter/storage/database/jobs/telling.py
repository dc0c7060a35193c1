"""Hooks of the job queue, told of each new state of a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from isocenter.services.workflow.events.event import JobChanged
from isocenter.storage.database.database import Connection
from isocenter.storage.database.jobs.rows import NOT_STANDING

T = TypeVar("T")

ChangeHook = Callable[[Connection, JobChanged], None]
_LOOK: Final = (
    "SELECT job_id, kind, node, state, done, failed FROM job "  # noqa: S608 - constants
    f"WHERE job_id = :id AND {NOT_STANDING}"
)
_WAITING: Final = "due"


def telling(
    connection: Connection,
    on_change: Sequence[ChangeHook],
    job_id: str,
    function: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> T:
    """What *function* gives; whether it has given a job another state is told."""
    if not on_change:
        return function(connection, *args, **kwargs)
    before = _look(connection, job_id)
    result = function(connection, *args, **kwargs)
    after = _look(connection, job_id)
    if after is not None and (before is None or before.state != after.state):
        for hook in on_change:
            hook(connection, after)
    return result


def tell(connection: Connection, on_change: Sequence[ChangeHook], job_id: str) -> None:
    """A job has another state."""
    changed = _look(connection, job_id) if on_change else None
    if changed is not None:
        for hook in on_change:
            hook(connection, changed)


def _look(connection: Connection, job_id: str) -> JobChanged | None:
    row = connection.execute(_LOOK, {"id": job_id}).fetchone()
    if row is None:
        return None
    job, what, node, state, done, failed = row
    return JobChanged(
        job=job,
        what=what,
        node=node,
        state="waiting" if state == _WAITING else state,
        done=done,
        failed=failed,
    )
