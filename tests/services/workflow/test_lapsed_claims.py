"""Claims that nobody can renew: what is done under them stops, and others go on with it."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from isocenter.services.concurrency import Backoff
from isocenter.services.errors import StorageError
from isocenter.services.workflow.jobs import runner as jobs
from isocenter.services.workflow.jobs.job import Job, JobKind, JobRequest, JobState
from isocenter.services.workflow.jobs.runner import JobOptions, JobRunner
from isocenter.services.workflow.tasks import runner as tasks
from isocenter.services.workflow.tasks.runner import TaskOptions, TaskRunner
from isocenter.services.workflow.tasks.task import RunOutcome, Task, TaskKind, new_task
from isocenter.storage.database.forwarding.queue import DatabaseForwards
from isocenter.storage.database.jobs.queue import DatabaseJobs
from isocenter.storage.database.tasks import DatabaseTasks
from support.virtual_database import (
    DatabaseServer,
    ShortWay,
    VirtualDatabase,
    database_clock,
    database_server,
)

#: How the database is away: whoever asks it is told so, or never.
AWAY = ["it fails", "it hangs"]


class Way(ShortWay):
    """A way to the database that may be cut for some seconds."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._until = 0.0

    def cut(self, seconds: float) -> None:
        self._until = trio.current_time() + seconds

    async def there(self, name: str) -> None:
        await super().there(name)
        if trio.current_time() < self._until:
            if self._kind == "it hangs":
                await trio.sleep_until(self._until)
            raise StorageError("the database does not answer")


class Work:
    """What hangs while the database is away, and is done at once by whoever comes next."""

    def __init__(self, way: Way, seconds: float) -> None:
        self._way = way
        self._seconds = seconds
        self.began: list[float] = []
        self.stopped_after = inf

    async def __call__(self, *_: Any) -> str:
        self.began.append(trio.current_time())
        if len(self.began) == 1:
            self._way.cut(self._seconds)
            try:
                await trio.sleep_forever()
            finally:
                self.stopped_after = trio.current_time() - self.began[0]
        return "well"


async def nobody(name: str) -> None:
    return None


def job_runner(server: DatabaseServer, way: ShortWay, work: Work) -> JobRunner:
    database = VirtualDatabase(server, way)

    async def local(job: Job, queue: Any) -> None:
        await work()

    unused: Any = None
    return JobRunner(
        DatabaseJobs(database, now=database_clock),
        unused,
        nobody,
        unused,
        JobOptions(at_once_per_node=2, backoff=Backoff(give_up_after_seconds=10.0)),
        forwards=DatabaseForwards(database, now=database_clock),
        closed=lambda: (),
        local={JobKind.VERIFY: local},
        now=database_clock,
    )


@pytest.mark.parametrize("kind", AWAY)
async def test_a_job_stops_when_its_claim_cannot_be_renewed(
    kind: str, autojump_clock: MockClock
) -> None:
    way = Way(kind)
    work = Work(way, 3 * jobs.CLAIM_SECONDS)
    with database_server() as server:
        queue = DatabaseJobs(VirtualDatabase(server), now=database_clock)
        job_id, _ = await queue.submit(JobRequest(kind=JobKind.VERIFY, node=""))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(job_runner(server, way, work).run)
            await until(lambda: bool(work.began))
            nursery.start_soon(job_runner(server, ShortWay(), work).run)
            await until(lambda: len(work.began) == 2)
            assert work.stopped_after <= jobs.CLAIM_SECONDS
            assert work.began[1] - work.began[0] >= work.stopped_after
            await trio.sleep(5 * jobs.CLAIM_SECONDS)
            nursery.cancel_scope.cancel()
        job = await queue.get(job_id)
        assert job is not None
        assert job.state is JobState.COMPLETED
        assert len(work.began) == 2


async def test_a_job_may_be_claimed_again_before_what_was_lost_has_ended(
    autojump_clock: MockClock,
) -> None:
    way = Way("it fails")

    class Slow(Work):
        """Takes its time to stop."""

        async def __call__(self, *_: Any) -> str:
            try:
                return await super().__call__()
            finally:
                if len(self.began) == 1:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(2 * jobs.CLAIM_SECONDS)

    work = Slow(way, jobs.CLAIM_SECONDS + 10)
    with database_server() as server:
        queue = DatabaseJobs(VirtualDatabase(server), now=database_clock)
        job_id, _ = await queue.submit(JobRequest(kind=JobKind.VERIFY, node=""))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(job_runner(server, way, work).run)
            await trio.sleep(10 * jobs.CLAIM_SECONDS)
            nursery.cancel_scope.cancel()
        job = await queue.get(job_id)
        assert job is not None
        assert (job.state, len(work.began)) == (JobState.COMPLETED, 2)


@pytest.mark.parametrize("kind", AWAY)
async def test_a_task_stops_when_its_claim_cannot_be_renewed(
    kind: str, autojump_clock: MockClock
) -> None:
    way = Way(kind)
    work = Work(way, 3 * tasks.CLAIM_SECONDS)

    async def run(task: Task, is_dry: bool) -> str:
        return await work()

    def runner(way: ShortWay) -> TaskRunner:
        book = DatabaseTasks(VirtualDatabase(server, way))
        works = {TaskKind.VERIFICATION: run}
        return TaskRunner(book, works, TaskOptions(), now=database_clock)

    with database_server() as server:
        book = DatabaseTasks(VirtualDatabase(server))
        await book.add(new_task("t", "verification", "every 366d", zone="UTC"))
        await book.ask("t", is_dry=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner(way).run)
            await until(lambda: bool(work.began))
            nursery.start_soon(runner(ShortWay()).run)
            await trio.sleep(2 * tasks.CLAIM_SECONDS)
            assert work.stopped_after <= tasks.CLAIM_SECONDS
            # Somebody asks for it again.
            await book.ask("t", is_dry=False)
            await trio.sleep(5 * tasks.CLAIM_SECONDS)
            nursery.cancel_scope.cancel()
        outcomes = [each.outcome for each in await book.runs("t", limit=9)]
        assert outcomes == [RunOutcome.COMPLETED, RunOutcome.INTERRUPTED]


async def until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(1_000):
        while not is_so():  # noqa: ASYNC110 - time is virtual
            await trio.sleep(1)
