"""Port of the tasks of all processes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from isocenter.services.workflow.tasks.task import ClaimedTask, RunOutcome, Task, TaskRun


class TaskBook(Protocol):
    """Keeps tasks and their runs, durably, for all processes.  Failures are `StorageError`.

    Whoever runs a task has claimed it for some time, by the clock of the database; a run whose time
    is over is interrupted, and counts as failed.
    """

    async def add(self, task: Task) -> bool:
        """False: there is one of that name already."""
        ...

    async def get(self, name: str) -> Task | None: ...

    async def all(self) -> Sequence[Task]:
        """By name."""
        ...

    async def update(self, task: Task) -> bool:
        """Exchange what people say of it.

        Returns:
            False: it is gone, or has another version by now.
        """
        ...

    async def remove(self, name: str) -> bool:
        """With its runs; one that is under way is cancelled.  False: there is none."""
        ...

    async def ask(self, name: str, *, is_dry: bool) -> bool:
        """Have it run now, or say what it would do; False: there is none, or it is asked for
        already."""
        ...

    async def cancel(self, name: str) -> bool:
        """End the run that is under way, and have it not tried again; False: there is none."""
        ...

    async def claim(self, worker: str, seconds: float) -> ClaimedTask | None:
        """A task that is due, for *worker* alone; its next moment is settled now."""
        ...

    async def renew(self, worker: str, seconds: float) -> Collection[int]:
        """What *worker* has claimed stays its own for *seconds*; numbers of those runs that are to
        go on."""
        ...

    async def end(self, run: int, outcome: RunOutcome, report: str, said: str = "") -> None:
        """A run is over; unless somebody else says so already."""
        ...

    async def runs(self, name: str = "", *, limit: int) -> Sequence[TaskRun]:
        """Of a task, or of all, the latest first."""
        ...

    async def purge(self, before: float) -> int:
        """Forget runs that ended before then, in seconds since 1970; how many."""
        ...
