"""Jobs as people and programs ask for them and steer them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from isocenter.services.workflow.jobs.job import ItemState, Job, JobItem, JobRequest, JobState
from isocenter.services.workflow.jobs.ports import JobQueue, Wish


class JobDesk:
    """Takes jobs, shows and steers them.

    Args:
        wake: says that something may be due.
    """

    def __init__(self, queue: JobQueue, wake: Callable[[], None]) -> None:
        self._queue = queue
        self._wake = wake

    async def submit(self, request: JobRequest) -> tuple[str, bool]:
        """Write a job down: its ID, and False if one that is not over wants the same.

        Raises:
            KeySyntaxError: a key is none.
        """
        request.check()
        job = await self._queue.submit(request)
        self._wake()
        return job

    async def steer(self, job: Job, wish: Wish) -> bool:
        """False: it is in no state for that."""
        is_done = await self._queue.wish(job.job_id, wish)
        self._wake()
        return is_done

    async def hasten(self, job_id: str) -> None:
        """See `JobQueue.hasten`."""
        await self._queue.hasten(job_id)
        self._wake()

    async def get(self, job_id: str) -> Job | None:
        """See `JobQueue.get`."""
        return await self._queue.get(job_id)

    async def jobs(
        self, *, states: Collection[JobState] = (), node: str = "", limit: int
    ) -> Sequence[Job]:
        """See `JobQueue.jobs`."""
        return await self._queue.jobs(states=states, node=node, limit=limit)

    async def results(self, job: Job, limit: int) -> Sequence[Mapping[str, str]]:
        """What it has found."""
        return await self._queue.results(job.job_id, limit)

    async def failures(self, job: Job, limit: int) -> Sequence[JobItem]:
        """Its objects that did not arrive."""
        return await self._queue.items(job.job_id, (ItemState.FAILED,), limit)
