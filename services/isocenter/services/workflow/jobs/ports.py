"""Port of the queue of jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.workflow.jobs.job import (
    ItemState,
    Job,
    JobItem,
    JobRequest,
    JobState,
)


class Wish(Enum):
    """What somebody wants of a job."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOutcome:
    """What became of an object of a job.

    Attributes:
        size: its bytes, if it arrived.
    """

    sop_instance_uid: str
    state: ItemState
    fault: str = ""
    size: int = 0


class JobQueue(Protocol):
    """Keeps jobs, durably, for all processes.  Failures are `StorageError`.

    Whoever works on a job has claimed it for some time; after that it is anybody's again, and
    goes on where it stood.
    """

    async def submit(self, request: JobRequest) -> tuple[str, bool]:
        """The ID of a new job, and True; of one that wants the same and is not over, and False."""
        ...

    async def claim(self, worker: str, seconds: float, *, not_for: Collection[str]) -> Job | None:
        """The next job that is due, for *worker* alone: by priority, then by the time since
        which it is due.

        Args:
            not_for: names of nodes that have enough to do.
        """
        ...

    async def renew(self, worker: str, seconds: float) -> Mapping[str, str]:
        """What *worker* has claimed stays its own for *seconds* from now on.

        Returns:
            Its jobs, and what somebody wants of them (``pause``, ``cancel`` or nothing).
        """
        ...

    async def plan(self, job: Job, items: Sequence[JobItem], *, is_last: bool) -> None:
        """Add objects to a job; those that it has stay as they are.

        Args:
            is_last: now it has all.
        """
        ...

    async def items(
        self, job_id: str, states: Collection[ItemState], limit: int
    ) -> Sequence[JobItem]:
        """Objects of a job, by study, series and SOP Instance UID."""
        ...

    async def settle(self, job: Job, outcomes: Sequence[ItemOutcome]) -> None:
        """What became of objects of a job, in one transaction."""
        ...

    async def again(self, job: Job, fault: str, seconds: float) -> None:
        """It is due again after *seconds*; objects that failed are due again, too."""
        ...

    async def end(self, job: Job, state: JobState, fault: str = "") -> None:
        """It is over, or paused; whoever claimed it has it no more."""
        ...

    async def release(self, job: Job) -> None:
        """Whoever comes next may have it."""
        ...

    async def wish(self, job_id: str, wish: Wish) -> bool:
        """False: there is no such job, or it is in no state for that."""
        ...

    async def get(self, job_id: str) -> Job | None:
        """A job by its ID, or by the beginning of it if no other job's begins so."""
        ...

    async def jobs(
        self, *, states: Collection[JobState] = (), node: str = "", limit: int
    ) -> Sequence[Job]:
        """The latest first."""
        ...

    async def purge(self, before: float) -> int:
        """Forget jobs that ended before then, in seconds since 1970; how many."""
        ...
