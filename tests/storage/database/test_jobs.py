"""The queue of jobs, in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from isocenter.services.workflow.jobs.job import (
    ItemState,
    Job,
    JobItem,
    JobKind,
    JobPriority,
    JobProgress,
    JobRequest,
    JobState,
)
from isocenter.services.workflow.jobs.ports import ItemOutcome, Wish
from isocenter.storage.database.jobs import DatabaseJobs
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

REQUEST = JobRequest(
    kind=JobKind.RETRIEVE, node="PACS", keys=(("PatientID", "Ä1"),), requested_by="someone"
)
EVERY = tuple(ItemState)


class Clock:
    """The time of day of a test."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def queue(clock: Clock) -> AsyncIterator[DatabaseJobs]:
    async with open_database() as database:
        yield DatabaseJobs(database, now=clock)


def item(number: int, state: ItemState = ItemState.DUE) -> JobItem:
    return JobItem(
        study_instance_uid="1.2",
        series_instance_uid=f"1.2.{number // 10}",
        sop_instance_uid=f"1.2.{number // 10}.{number}",
        sop_class_uid="1.9",
        state=state,
    )


async def claimed(queue: DatabaseJobs, worker: str = "w", not_for: Sequence[str] = ()) -> Job:
    job = await queue.claim(worker, 60.0, not_for=not_for)
    assert job is not None
    return job


async def stands(queue: DatabaseJobs, job_id: str) -> Job:
    job = await queue.get(job_id)
    assert job is not None
    return job


async def test_what_is_wanted_twice_is_one_job_until_it_is_over(queue: DatabaseJobs) -> None:
    job_id, is_new = await queue.submit(REQUEST)
    assert is_new
    assert await queue.submit(replace(REQUEST, priority=JobPriority.HIGH)) == (job_id, False)
    other, is_new = await queue.submit(replace(REQUEST, node="OTHER"))
    assert is_new
    assert other != job_id
    job = await claimed(queue)
    assert job.request == REQUEST
    await queue.end(job, JobState.COMPLETED)
    again, is_new = await queue.submit(REQUEST)
    assert is_new
    assert again != job_id


async def test_the_urgent_come_first_and_busy_nodes_are_left_alone(
    queue: DatabaseJobs, clock: Clock
) -> None:
    names = {}
    for node, priority in (("A", 1), ("B", 3), ("B", 2), ("C", 1)):
        clock.now += 1
        request = replace(REQUEST, node=node, priority=JobPriority(priority), again=priority == 2)
        names[(await queue.submit(request))[0]] = (node, priority)
    first = await claimed(queue)
    assert names[first.job_id] == ("B", 3)
    second = await claimed(queue, not_for=["B"])
    assert names[second.job_id] == ("A", 1)
    assert await queue.claim("w", 60.0, not_for=["A", "B", "C"]) is None
    third = await claimed(queue)
    assert names[third.job_id] == ("B", 2)


async def test_who_lost_a_job_has_no_say_any_more(queue: DatabaseJobs, clock: Clock) -> None:
    job_id, _ = await queue.submit(REQUEST)
    slow = await claimed(queue, "slow")
    assert await queue.claim("quick", 60.0, not_for=()) is None
    assert await queue.renew("slow", 60.0) == {job_id: ""}
    clock.now += 61
    quick = await claimed(queue, "quick")
    assert quick.job_id == job_id
    assert quick.attempts == 2
    assert await queue.renew("slow", 60.0) == {}
    await queue.end(slow, JobState.FAILED, "too slow")
    await queue.release(slow)
    await queue.again(slow, "too slow", 0.0)
    now = await stands(queue, job_id)
    assert (now.state, now.last_fault) == (JobState.RUNNING, "")
    await queue.end(quick, JobState.COMPLETED)
    assert (await stands(queue, job_id)).state is JobState.COMPLETED


async def test_objects_are_counted_once_each(queue: DatabaseJobs) -> None:
    job_id, _ = await queue.submit(REQUEST)
    job = await claimed(queue)
    await queue.plan(job, [item(1), item(2), item(3, ItemState.SKIPPED)], is_last=False)
    assert (await stands(queue, job_id)).progress.total is None
    await queue.plan(job, [item(2), item(4), item(5)], is_last=True)
    outcomes = [
        ItemOutcome(sop_instance_uid=item(1).sop_instance_uid, state=ItemState.DONE, size=10),
        ItemOutcome(sop_instance_uid=item(2).sop_instance_uid, state=ItemState.FAILED, fault="x"),
        ItemOutcome(sop_instance_uid="1.9.9", state=ItemState.DONE, size=1_000),
    ]
    await queue.settle(job, outcomes)
    await queue.settle(job, outcomes)
    assert (await stands(queue, job_id)).progress == JobProgress(
        total=5, done=1, skipped=1, failed=1, size=10
    )
    due = await queue.items(job_id, (ItemState.DUE,), 10)
    assert [each.sop_instance_uid for each in due] == ["1.2.0.4", "1.2.0.5"]
    (failed,) = await queue.items(job_id, (ItemState.FAILED,), 10)
    assert failed.fault == "x"
    assert len(await queue.items(job_id, EVERY, 10)) == 5
    assert len(await queue.items(job_id, EVERY, 2)) == 2


async def test_the_next_attempt_takes_up_what_failed(queue: DatabaseJobs, clock: Clock) -> None:
    job_id, _ = await queue.submit(REQUEST)
    job = await claimed(queue)
    await queue.plan(job, [item(1), item(2)], is_last=True)
    await queue.settle(
        job,
        [
            ItemOutcome(sop_instance_uid=item(1).sop_instance_uid, state=ItemState.DONE),
            ItemOutcome(sop_instance_uid=item(2).sop_instance_uid, state=ItemState.FAILED),
        ],
    )
    await queue.again(job, "one did not come", 30.0)
    waiting = await stands(queue, job_id)
    assert (waiting.state, waiting.last_fault) == (JobState.WAITING, "one did not come")
    assert waiting.progress == JobProgress(total=2, done=1)
    assert await queue.claim("w", 60.0, not_for=()) is None
    clock.now += 30
    assert (await claimed(queue)).attempts == 2


@pytest.mark.parametrize("wish", [Wish.PAUSE, Wish.CANCEL])
async def test_a_running_job_is_told_and_a_waiting_one_stops_at_once(
    queue: DatabaseJobs, wish: Wish
) -> None:
    end = JobState.PAUSED if wish is Wish.PAUSE else JobState.CANCELLED
    running, _ = await queue.submit(REQUEST)
    job = await claimed(queue)
    waiting, _ = await queue.submit(replace(REQUEST, node="B"))
    assert await queue.wish(running, wish)
    assert await queue.wish(waiting, wish)
    assert await queue.renew("w", 60.0) == {running: wish.value}
    assert (await stands(queue, running)).state is JobState.RUNNING
    assert (await stands(queue, waiting)).state is end
    await queue.end(job, end)
    assert (await stands(queue, running)).state is end


async def test_paused_jobs_go_on_and_finished_ones_do_not(queue: DatabaseJobs) -> None:
    job_id, _ = await queue.submit(REQUEST)
    assert not await queue.wish(job_id, Wish.RESUME)
    assert not await queue.wish(job_id, Wish.RETRY), "nothing of it has failed"
    assert await queue.wish(job_id, Wish.PAUSE)
    assert await queue.claim("w", 60.0, not_for=()) is None
    assert await queue.submit(REQUEST) == (job_id, False), "a paused one is not over"
    assert await queue.wish(job_id, Wish.RESUME)
    job = await claimed(queue)
    assert not await queue.wish(job_id, Wish.DELETE), "it is not over"
    await queue.end(job, JobState.COMPLETED)
    for wish in (Wish.PAUSE, Wish.RESUME, Wish.CANCEL, Wish.RETRY):
        assert not await queue.wish(job_id, wish)
    assert await queue.wish(job_id, Wish.DELETE)
    assert await queue.get(job_id) is None
    assert not await queue.wish(job_id, Wish.DELETE)


async def test_a_failed_job_is_begun_anew_unless_another_wants_the_same(
    queue: DatabaseJobs, clock: Clock
) -> None:
    job_id, _ = await queue.submit(REQUEST)
    job = await claimed(queue)
    await queue.plan(job, [item(1), item(2, ItemState.SKIPPED)], is_last=True)
    await queue.settle(
        job, [ItemOutcome(sop_instance_uid=item(1).sop_instance_uid, state=ItemState.FAILED)]
    )
    await queue.end(job, JobState.FAILED, "gone")
    other, _ = await queue.submit(REQUEST)
    assert not await queue.wish(job_id, Wish.RETRY)
    await queue.wish(other, Wish.CANCEL)
    clock.now += 100
    assert await queue.wish(job_id, Wish.RETRY)
    now = await stands(queue, job_id)
    assert (now.state, now.attempts, now.since) == (JobState.WAITING, 0, clock.now)
    assert now.progress == JobProgress(total=2, skipped=1)
    assert await queue.submit(REQUEST) == (job_id, False)


async def test_jobs_are_found_by_state_node_and_the_beginning_of_their_id(
    queue: DatabaseJobs,
) -> None:
    first, _ = await queue.submit(REQUEST)
    second, _ = await queue.submit(replace(REQUEST, node="B"))
    running = await claimed(queue)
    assert running.job_id == first
    assert [job.job_id for job in await queue.jobs(limit=9)] == [second, first]
    assert [job.job_id for job in await queue.jobs(limit=1)] == [second]
    assert [job.job_id for job in await queue.jobs(node="PACS", limit=9)] == [first]
    for state, wanted in ((JobState.RUNNING, [first]), (JobState.WAITING, [second])):
        assert [job.job_id for job in await queue.jobs(states=[state], limit=9)] == wanted
    assert await queue.jobs(states=[JobState.FAILED, JobState.PAUSED], limit=9) == []
    assert (await stands(queue, first[:12])).job_id == first
    assert await queue.get("") is None, "two begin so"
    assert await queue.get("zz") is None


async def test_ended_jobs_are_forgotten_with_their_objects(
    queue: DatabaseJobs, clock: Clock
) -> None:
    for number in range(250):
        await queue.submit(replace(REQUEST, node=f"N{number}"))
        job = await claimed(queue)
        await queue.plan(job, [item(1)], is_last=True)
        await queue.end(job, JobState.COMPLETED)
    open_one, _ = await queue.submit(REQUEST)
    assert await queue.purge(clock.now) == 0
    assert await queue.purge(clock.now + 1) == 250
    assert [job.job_id for job in await queue.jobs(limit=999)] == [open_one]


async def test_texts_that_no_database_can_hold_fail_nothing(queue: DatabaseJobs) -> None:
    request = replace(REQUEST, node="A\udcff", requested_by="\udcff")
    job_id, _ = await queue.submit(request)
    job = await claimed(queue, not_for=["B\udcff"])
    await queue.end(job, JobState.FAILED, "\udcff" * 2_000)
    assert len((await stands(queue, job_id)).last_fault) == 500
