"""Turns of jobs: one that takes long gives way to others of its node."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import trio

from isocenter.services.workflow.jobs.job import ItemState, Job, JobItem
from isocenter.services.workflow.jobs.ports import ItemOutcome, JobQueue

#: A job that is longer at it gives way between two portions, if another one waits for its node.
SLICE_SECONDS: Final = 30.0


class TurnOverError(Exception):
    """It is the turn of another job; this one goes on where it stands."""


class AskLaterError(Exception):
    """Somebody else works on it; this was no attempt.

    Args:
        seconds: until it is looked at again.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"in {seconds:g} s")
        self.seconds = seconds


class Turn:
    """The objects of a job while it has its turn (`JobItems`)."""

    def __init__(self, queue: JobQueue, job: Job) -> None:
        self._queue = queue
        self._job = job
        self._until = trio.current_time() + SLICE_SECONDS
        #: Each turn gets on by a portion, however short it is.
        self._has_begun = False

    async def plan(self, job: Job, items: Sequence[JobItem], *, is_last: bool) -> None:
        """See `JobItems.plan`."""
        await self._queue.plan(job, items, is_last=is_last)

    async def items(
        self, job_id: str, states: Collection[ItemState], limit: int
    ) -> Sequence[JobItem]:
        """See `JobItems.items`.

        Raises:
            TurnOverError: it is the turn of another job.
        """
        is_over = self._has_begun and trio.current_time() >= self._until
        self._has_begun = True
        if is_over and await self._queue.is_awaited(self._job):
            raise TurnOverError
        return await self._queue.items(job_id, states, limit)

    async def settle(self, job: Job, outcomes: Sequence[ItemOutcome]) -> None:
        """See `JobItems.settle`."""
        await self._queue.settle(job, outcomes)
