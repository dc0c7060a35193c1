"""Port of the queue of jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.concurrency import Backoff, Latch
from isocenter.services.workflow.jobs.job import (
    ItemState,
    Job,
    JobItem,
    JobKind,
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


class JobItems(Protocol):
    """Keeps what becomes of the objects of a job.  Failures are `StorageError`."""

    async def plan(self, job: Job, items: Sequence[JobItem], *, is_last: bool) -> None:
        """Add objects to a job; those that it has stay as they are.  Nothing, if somebody else has
        claimed it since.

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
        """What became of objects of a job, in one transaction; nothing, if somebody else has
        claimed it since."""
        ...


class JobResults(Protocol):
    """Keeps what a job has found.  Failures are `StorageError`."""

    async def keep_results(self, job: Job, results: Sequence[Mapping[str, str]]) -> None:
        """Keep them in the place of those before; they count as its objects, and are all."""
        ...

    async def results(self, job_id: str, limit: int) -> Sequence[Mapping[str, str]]:
        """In their order."""
        ...


class StandingWork(Protocol):
    """Work that is queued elsewhere, of which each node has one standing job.

    Attributes:
        wanted: set when something may be due.
        look_seconds: how often is looked without that.
    """

    @property
    def wanted(self) -> Latch: ...

    @property
    def look_seconds(self) -> float: ...

    async def due(self, not_for: Collection[str]) -> Sequence[str]:
        """Nodes for which there is something to do now."""
        ...

    def patience(self, node: str) -> tuple[Backoff, float]:
        """Intervals between attempts with a node that does not answer, and until when nothing has
        waited for it, in seconds since 1970."""
        ...

    async def work(self, node: str, job: int) -> tuple[str, bool]:
        """Do what is due.

        Args:
            job: the number of the job.

        Returns:
            Why the node is to be left alone (empty: it is not), and whether it took something.
        """
        ...


class JobQueue(JobItems, JobResults, Protocol):
    """Keeps jobs, durably, for all processes.  Failures are `StorageError`.

    Whoever works on a job has claimed it for some time; after that it is anybody's again, and
    goes on where it stood.
    """

    async def submit(self, request: JobRequest) -> tuple[str, bool]:
        """The ID of a new job, and True; of one that wants the same and is not over, and False."""
        ...

    async def claim(
        self,
        worker: str,
        seconds: float,
        *,
        not_for: Collection[str],
        served: Sequence[str] = (),
    ) -> Job | None:
        """The next job that is due, for *worker* alone: by priority, then in turn by node, then by
        the time since which it is due.

        Args:
            not_for: names of nodes that have enough to do.
            served: names of nodes, of which the last had the last turn; others come before them.
        """
        ...

    async def take(self, kind: JobKind, node: str, worker: str, seconds: float) -> Job | None:
        """The standing job of that kind and node, for *worker* alone; None: somebody has it, or its
        next attempt is not due."""
        ...

    async def renew(self, worker: str, seconds: float) -> Mapping[str, str]:
        """What *worker* has claimed stays its own for *seconds* from now on.

        Returns:
            Its jobs, and what somebody wants of them (``pause``, ``cancel`` or nothing).
        """
        ...

    async def again(self, job: Job, fault: str, seconds: float) -> None:
        """It is due again after *seconds*; objects that failed are due again, too."""
        ...

    async def is_awaited(self, job: Job) -> bool:
        """Whether another job that is due waits for its node, with the same priority or more."""
        ...

    async def give_way(self, job: Job, seconds: float = 0.0) -> None:
        """It is due again after *seconds*, behind those that wait then, and goes on where it
        stands; this was no attempt."""
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

    async def hasten(self, job_id: str) -> None:
        """A job that waits is due now: what it waited for has happened."""
        ...

    async def get(self, job_id: str) -> Job | None:
        """A job by its ID, or by the beginning of it if no other job's begins so."""
        ...

    async def jobs(
        self, *, states: Collection[JobState] = (), node: str = "", limit: int
    ) -> Sequence[Job]:
        """The latest first."""
        ...

    async def unknown_kinds(self) -> Collection[str]:
        """Of jobs that are due: kinds that this version of the program does not know, and leaves
        to others."""
        ...

    async def purge(self, before: float) -> int:
        """Forget jobs that ended before then, in seconds since 1970; how many."""
        ...
