"""The queue of jobs, in the database."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from isocenter.services.cluster.member import NodeIdentity
from isocenter.services.workflow.jobs.asker import Asker
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
from isocenter.storage.database.cluster import DatabaseMembers
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.jobs.queue import DatabaseJobs
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
async def database(each_database: str) -> AsyncIterator[Database]:
    async with open_database() as opened:
        yield opened


@pytest.fixture
def queue(database: Database, clock: Clock) -> DatabaseJobs:
    return DatabaseJobs(database, now=clock)


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


async def test_what_is_wanted_may_be_long(queue: DatabaseJobs) -> None:
    """PostgreSQL has a bound for what it keeps in an index."""
    studies = "\\".join(f"2.25.{secrets.randbits(127)}" for _ in range(500))
    request = replace(REQUEST, keys=(("StudyInstanceUID", studies),))
    job_id, _ = await queue.submit(request)
    assert await queue.submit(request) == (job_id, False)
    other = replace(REQUEST, keys=(("StudyInstanceUID", studies + "0"),))
    assert (await queue.submit(other))[1]
    assert (await stands(queue, job_id)).request == request


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


async def test_nodes_take_turns_whatever_waits_for_each(queue: DatabaseJobs, clock: Clock) -> None:
    for number in range(3):
        clock.now += 1
        for node in ("A", "B", "C"):
            keys = (("PatientID", str(number)),)
            await queue.submit(replace(REQUEST, node=node, keys=keys))
    served: list[str] = []
    for _ in range(9):
        job = await queue.claim(
            "w", 60.0, not_for=(), served=tuple(dict.fromkeys(served[::-1]))[::-1]
        )
        assert job is not None
        served.append(job.request.node)
    assert [sorted(served[start : start + 3]) for start in (0, 3, 6)] == [["A", "B", "C"]] * 3


async def test_a_job_gives_way_to_those_of_its_node_that_are_as_urgent(
    queue: DatabaseJobs, clock: Clock
) -> None:
    await queue.submit(REQUEST)
    job = await claimed(queue)
    assert not await queue.is_awaited(job)
    clock.now += 1
    others = (
        replace(REQUEST, node="OTHER"),
        replace(REQUEST, again=True, priority=JobPriority.LOW),
    )
    for other in others:
        await queue.submit(other)
    assert not await queue.is_awaited(job)
    await queue.submit(replace(REQUEST, keys=()))
    assert await queue.is_awaited(job)
    clock.now += 1
    await queue.give_way(job)
    stood = await stands(queue, job.job_id)
    assert (stood.state, stood.attempts) == (JobState.WAITING, 0)
    second = await claimed(queue, not_for=["OTHER"])
    assert second.request.keys == ()
    await queue.give_way(second)
    again = await claimed(queue, not_for=["OTHER"])
    assert (again.job_id, again.attempts) == (job.job_id, 1)


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


@pytest.mark.parametrize("how", ["again", "give way", "release", "lapse"])
@pytest.mark.parametrize("wish", [Wish.PAUSE, Wish.CANCEL])
async def test_what_somebody_wanted_of_a_job_just_before_it_was_left_is_heeded(
    queue: DatabaseJobs, clock: Clock, how: str, wish: Wish
) -> None:
    job_id, _ = await queue.submit(REQUEST)
    job = await queue.claim("w", 60.0, not_for=())
    assert job is not None
    assert await queue.wish(job_id, wish)
    match how:
        case "again":
            await queue.again(job, "away", 5.0)
        case "give way":
            await queue.give_way(job)
        case "release":
            await queue.release(job)
        case _:
            clock.now += 61.0
    clock.now += 10.0
    assert await queue.claim("w", 60.0, not_for=()) is None
    found = await queue.get(job_id)
    assert found is not None
    assert found.state is (JobState.PAUSED if wish is Wish.PAUSE else JobState.CANCELLED)
    assert (found.ended_at is None, found.wish) == (wish is Wish.PAUSE, "")
    _, is_new = await queue.submit(REQUEST)
    assert is_new is (wish is Wish.CANCEL)


async def test_what_whoever_lost_a_job_says_of_its_objects_is_not_heard(
    queue: DatabaseJobs, clock: Clock
) -> None:
    await queue.submit(REQUEST)
    lost = await claimed(queue)
    await queue.plan(lost, [item(1), item(2)], is_last=False)
    clock.now += 61.0
    mine = await claimed(queue, "other")
    failed = ItemOutcome(sop_instance_uid=item(1).sop_instance_uid, state=ItemState.FAILED)
    await queue.settle(lost, [failed])
    await queue.plan(lost, [item(3)], is_last=True)
    assert len(await queue.items(mine.job_id, (ItemState.DUE,), 9)) == 2
    now = await stands(queue, mine.job_id)
    assert now.progress == JobProgress(total=None)
    await queue.settle(mine, [replace(failed, state=ItemState.DONE)])
    assert (await stands(queue, mine.job_id)).progress.done == 1


async def test_what_a_job_has_found_is_kept_until_it_is_forgotten(queue: DatabaseJobs) -> None:
    asked = JobRequest(kind=JobKind.QUERY, node="PACS", keys=(("PatientID", "Ä1"),))
    job_id, _ = await queue.submit(asked)
    first = await claimed(queue)
    await queue.keep_results(first, [{"n": "old"}])
    await queue.again(first, "lost", 0.0)
    second = await claimed(queue, "other")
    # Whoever lost the job has no say any more.
    await queue.keep_results(first, [{"n": "late"}, {"n": "later"}])
    assert await queue.results(job_id, 9) == [{"n": "old"}]
    await queue.keep_results(second, [{"n": "ä\0"}, {"n": "\udce4"}, {"n": "c"}])
    assert (await queue.results(job_id, 2))[0]["n"] == "ä\0"
    now = await stands(queue, job_id)
    assert (now.progress.total, now.progress.done) == (3, 3)
    await queue.end(second, JobState.COMPLETED)
    assert await queue.wish(job_id, Wish.DELETE)
    assert await queue.results(job_id, 9) == []


async def test_the_detail_of_a_request_is_part_of_it(queue: DatabaseJobs) -> None:
    one = JobRequest(kind=JobKind.COMPRESS, node="", detail="jpeg-ls")
    first, _ = await queue.submit(one)
    second, is_new = await queue.submit(replace(one, detail="htj2k"))
    assert is_new
    assert (await stands(queue, first)).request.detail == "jpeg-ls"
    assert (await stands(queue, second)).request.detail == "htj2k"


async def test_a_standing_job_is_of_one_worker_and_begins_anew(
    queue: DatabaseJobs, clock: Clock
) -> None:
    job = await queue.take(JobKind.FORWARD, "PACS", "one", 60.0)
    assert job is not None
    assert await queue.take(JobKind.FORWARD, "PACS", "two", 60.0) is None
    assert await queue.claim("two", 60.0, not_for=()) is None, "nobody claims it but by its node"
    clock.now += 60.0
    lost = job
    job = await queue.take(JobKind.FORWARD, "PACS", "two", 60.0)
    assert job is not None
    assert (job.job_id, job.attempts, job.claim) == (lost.job_id, 2, 2)
    await queue.end(lost, JobState.COMPLETED)
    assert (await stands(queue, job.job_id)).state is JobState.RUNNING
    await queue.again(job, "away", 30.0)
    assert await queue.take(JobKind.FORWARD, "PACS", "one", 60.0) is None, "not due"
    clock.now += 30.0
    job = await queue.take(JobKind.FORWARD, "PACS", "one", 60.0)
    assert job is not None
    await queue.end(job, JobState.COMPLETED)
    clock.now += 5.0
    anew = await queue.take(JobKind.FORWARD, "PACS", "one", 60.0)
    assert anew is not None
    assert (anew.job_id, anew.attempts, anew.since) == (job.job_id, 1, clock.now)
    for wish in (Wish.PAUSE, Wish.CANCEL, Wish.RETRY, Wish.DELETE):
        assert not await queue.wish(anew.job_id, wish)


@pytest.mark.parametrize("state", [JobState.PAUSED, JobState.CANCELLED, JobState.FAILED])
async def test_a_standing_job_that_an_earlier_program_stopped_begins_anew(
    queue: DatabaseJobs, state: JobState
) -> None:
    job = await queue.take(JobKind.FORWARD, "PACS", "one", 60.0)
    assert job is not None
    await queue.end(job, state)
    anew = await queue.take(JobKind.FORWARD, "PACS", "one", 60.0)
    assert anew is not None
    assert (anew.state, anew.attempts, anew.ended_at) == (JobState.RUNNING, 1, None)


async def test_what_only_a_newer_version_knows_is_left_to_it(
    queue: DatabaseJobs, database: Database
) -> None:
    def write(connection: Connection) -> None:
        connection.execute("UPDATE job SET kind = 'miracle' WHERE node = 'PACS'")

    job_id, _ = await queue.submit(REQUEST)
    other, _ = await queue.submit(replace(REQUEST, node="OTHER"))
    await database.write(write)
    assert await queue.unknown_kinds() == ["miracle"]
    job = await claimed(queue)
    assert job.job_id == other
    assert not await queue.is_awaited(replace(job, request=REQUEST))
    assert await queue.claim("w", 60.0, not_for=()) is None
    assert (await stands(queue, job_id)).request.kind is JobKind.UNKNOWN
    assert {one.job_id for one in await queue.jobs(limit=9)} == {job_id, other}
    assert await queue.wish(job_id, Wish.CANCEL)
    assert await queue.wish(job_id, Wish.RETRY)


async def test_by_what_somebody_asked_is_kept(queue: DatabaseJobs) -> None:
    asker = Asker(user="smith", token_id="t1", roles=("A", "B"), ae_titles=("WS1",))
    await queue.submit(replace(REQUEST, asker=asker))
    assert (await claimed(queue)).request.asker == asker
    await queue.submit(replace(REQUEST, node="OTHER"))
    assert (await claimed(queue)).request.asker is None


async def test_an_import_is_for_the_node_at_which_it_was_asked_for(
    database: Database, clock: Clock
) -> None:
    """The folder is there; what else is asked for any of them does."""
    north, south = (DatabaseJobs(database, node=name, now=clock) for name in ("north", "south"))
    members = DatabaseMembers(database)
    wanted = JobRequest(kind=JobKind.IMPORT, node="", detail="/media/cd")
    at_north, _ = await north.submit(wanted)
    at_south, is_new = await south.submit(wanted)
    assert is_new, "the same folder of another machine is another one"
    assert await north.submit(wanted) == (at_north, False)
    await south.submit(REQUEST)
    mine, retrieve, nothing = [await north.claim("n", 60.0, not_for=()) for _ in range(3)]
    assert mine is not None
    assert retrieve is not None
    assert {mine.job_id, retrieve.job_id} >= {at_north}
    assert {mine.request.kind, retrieve.request.kind} == {JobKind.IMPORT, JobKind.RETRIEVE}
    assert nothing is None
    # Nobody lives there: whoever looks is told, on every node.
    job = await stands(north, at_south)
    assert (job.state, job.request.host) == (JobState.WAITING, "south")
    assert "it waits for the node south of this archive, which says nothing" in job.last_fault
    assert [one.last_fault for one in await north.jobs(limit=9) if one.job_id == at_south] == [
        job.last_fault
    ]
    assert (await stands(north, at_north)).last_fault == ""
    await members.join(NodeIdentity(name="south", place="here"))
    assert (await stands(north, at_south)).last_fault == ""
    taken = await south.claim("s", 60.0, not_for=())
    assert taken is not None
    assert taken.job_id == at_south
    # What failed is retried there, and nowhere else.
    await south.end(taken, JobState.FAILED, "no")
    assert await north.wish(at_south, Wish.RETRY)
    assert await north.claim("n", 60.0, not_for=()) is None
    again = await south.claim("s", 60.0, not_for=())
    assert again is not None
