"""Tasks and their runs, in the database."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from isocenter.services.workflow.tasks.schedule import Schedule, parse_schedule
from isocenter.services.workflow.tasks.task import (
    ClaimedTask,
    RunCause,
    RunOutcome,
    Task,
    TaskKind,
    new_task,
)
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.tasks import DatabaseTasks, release_tasks
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

START = 1_000_000.0
HOURLY = new_task(
    "hourly", "verification", "every 1h", zone="UTC", parameters={"checksums": "no"}, retries=1,
    retry_seconds=60.0, description="Ä",
)  # fmt: skip


class Clock:
    """The clock of the database, in a test."""

    def __init__(self) -> None:
        self.now = START

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
def book(database: Database, clock: Clock) -> DatabaseTasks:
    return DatabaseTasks(database, now=clock)


async def say(database: Database, column: str, value: str) -> None:
    """As another node has written it, of the task ``hourly``."""

    def write(connection: Connection) -> None:
        connection.execute(f"UPDATE task SET {column} = ? WHERE name = 'hourly'", (value,))

    await database.write(write)


async def claimed(book: DatabaseTasks, worker: str = "w") -> ClaimedTask:
    found = await book.claim(worker, 60.0)
    assert found is not None
    return found


async def causes(book: DatabaseTasks) -> list[tuple[RunCause, int, RunOutcome]]:
    return [(run.cause, run.attempt, run.outcome) for run in await book.runs(limit=99)]


async def test_a_task_is_kept_as_it_was_described(book: DatabaseTasks) -> None:
    assert await book.add(HOURLY)
    assert not await book.add(HOURLY)
    kept = await book.get("hourly")
    assert kept == replace(HOURLY, next_at=START + 3_600.0)
    assert kept is not None
    other = new_task("hourly", "program", "daily 02:00", zone="UTC", parameters={"program": "p"})
    assert await book.update(replace(other, version=kept.version))
    assert not await book.update(replace(other, version=kept.version)), "somebody was quicker"
    changed = await book.get("hourly")
    assert changed is not None
    assert (changed.schedule.cron, changed.version) == ("0 2 * * *", 2)
    assert await book.remove("hourly")
    assert not await book.remove("hourly")
    assert await book.all() == []


async def test_of_many_workers_one_runs_it_and_what_was_missed_is_done_once(
    book: DatabaseTasks, clock: Clock
) -> None:
    await book.add(HOURLY)
    assert await book.claim("w", 60.0) is None
    clock.now += 10 * 3_600.0 + 5.0
    run = await claimed(book)
    assert (run.cause, run.attempt) == (RunCause.SCHEDULE, 1)
    assert await book.claim("v", 60.0) is None
    shown = await book.get("hourly")
    assert shown is not None
    assert shown.is_running
    assert shown.next_at == START + 11 * 3_600.0
    await book.end(run.run, RunOutcome.COMPLETED, "done")
    await book.end(run.run, RunOutcome.FAILED, "too late to say so")
    assert await book.claim("v", 60.0) is None
    (row,) = await book.runs("hourly", limit=9)
    assert (row.outcome, row.report, row.ended_at) == (RunOutcome.COMPLETED, "done", clock.now)


async def test_what_failed_is_tried_again_as_often_as_was_said(
    book: DatabaseTasks, clock: Clock
) -> None:
    await book.add(HOURLY)
    clock.now += 3_600.0
    await book.end((await claimed(book)).run, RunOutcome.FAILED, "no")
    assert await book.claim("w", 60.0) is None
    clock.now += 60.0
    run = await claimed(book)
    assert (run.cause, run.attempt) == (RunCause.RETRY, 2)
    await book.end(run.run, RunOutcome.TIMED_OUT, "too long")
    clock.now += 600.0
    assert await book.claim("w", 60.0) is None
    clock.now += 3_600.0
    run = await claimed(book)
    assert (run.cause, run.attempt) == (RunCause.SCHEDULE, 1)
    await book.end(run.run, RunOutcome.CANCELLED, "")
    clock.now += 60.0
    assert await book.claim("w", 60.0) is None, "who cancels does not want it again"


async def test_a_worker_that_died_leaves_a_run_that_is_interrupted_and_done_again(
    book: DatabaseTasks, clock: Clock
) -> None:
    await book.add(HOURLY)
    clock.now += 3_600.0
    lost = await claimed(book, "dead")
    clock.now += 50.0
    assert await book.renew("dead", 60.0) == {lost.run}
    clock.now += 61.0
    assert await book.claim("w", 60.0) is None
    assert await book.renew("dead", 60.0) == set()
    await book.end(lost.run, RunOutcome.COMPLETED, "says the dead")
    assert await causes(book) == [(RunCause.SCHEDULE, 1, RunOutcome.INTERRUPTED)]
    clock.now += 60.0
    assert (await claimed(book)).cause is RunCause.RETRY


async def test_a_start_interrupts_what_earlier_processes_ran(clock: Clock) -> None:
    async with open_database() as database:
        book = DatabaseTasks(database, now=clock)
        await book.add(HOURLY)
        clock.now += 3_600.0
        await claimed(book)
        await database.write(release_tasks)
        assert await book.claim("w", 60.0) is None
        assert await causes(book) == [(RunCause.SCHEDULE, 1, RunOutcome.INTERRUPTED)]


async def test_somebody_has_it_run_now_and_its_schedule_stays(
    book: DatabaseTasks, clock: Clock
) -> None:
    await book.add(replace(HOURLY, is_enabled=False))
    assert not await book.ask("other", is_dry=False)
    assert await book.ask("hourly", is_dry=True)
    assert not await book.ask("hourly", is_dry=False), "it is asked for already"
    run = await claimed(book)
    assert run.cause is RunCause.DRY_RUN
    assert await book.ask("hourly", is_dry=False), "the next, when this one is over"
    assert await book.claim("v", 60.0) is None
    await book.end(run.run, RunOutcome.FAILED, "")
    run = await claimed(book)
    assert run.cause is RunCause.HAND
    await book.end(run.run, RunOutcome.COMPLETED, "")
    kept = await book.get("hourly")
    assert kept is not None
    assert kept.next_at == START + 3_600.0
    clock.now += 4_000.0
    assert await book.claim("w", 60.0) is None, "it is paused"


async def test_a_run_that_somebody_cancels_or_whose_task_is_gone_is_to_end(
    book: DatabaseTasks, clock: Clock
) -> None:
    await book.add(HOURLY)
    assert not await book.cancel("hourly")
    clock.now += 3_600.0
    run = await claimed(book)
    assert await book.renew("w", 60.0) == {run.run}
    assert await book.cancel("hourly")
    assert await book.renew("w", 60.0) == set()
    await book.end(run.run, RunOutcome.FAILED, "it ended by itself just then")
    clock.now += 60.0
    assert await book.claim("w", 60.0) is None, "who cancels does not want it again"
    clock.now += 3_540.0
    run = await claimed(book)
    await book.remove("hourly")
    assert await book.renew("w", 60.0) == set()
    await book.end(run.run, RunOutcome.CANCELLED, "")
    assert await book.runs(limit=9) == []


async def test_runs_are_forgotten_after_a_while(book: DatabaseTasks, clock: Clock) -> None:
    await book.add(HOURLY)
    for _ in range(3):
        clock.now += 3_600.0
        await book.end((await claimed(book)).run, RunOutcome.COMPLETED, "")
    assert await book.purge(clock.now - 1.0) == 2
    assert len(await book.runs("hourly", limit=9)) == 1


async def test_a_task_of_an_unknown_time_zone_does_not_hold_others_up(
    book: DatabaseTasks, clock: Clock
) -> None:
    elsewhere = Schedule(text="daily 02:00", zone="Mars/Olympus")
    await book.add(Task(name="mars", kind=HOURLY.kind, schedule=elsewhere))
    await book.add(HOURLY)
    clock.now += 3_600.0
    assert (await claimed(book)).task.name == "hourly"
    shown = await book.get("mars")
    assert shown is not None
    assert shown.next_at is None


async def test_times_are_those_of_the_database() -> None:
    async with open_database() as database:
        book = DatabaseTasks(database)
        await book.add(HOURLY)
        kept = await book.get("hourly")
    assert kept is not None
    assert kept.next_at is not None
    assert abs(kept.next_at - 3_600.0 - time.time()) < 60.0


OTHER = new_task("other", "verification", "every 2h", zone="UTC")
DAILY = replace(HOURLY, schedule=parse_schedule("daily 02:00", "UTC"))


async def test_what_only_a_newer_version_knows_is_left_to_it(
    book: DatabaseTasks, database: Database, clock: Clock
) -> None:
    assert await book.add(HOURLY)
    assert await book.add(OTHER)
    await say(database, "kind", "miracle")
    clock.now += 10_000.0
    assert (await claimed(book)).task.name == "other"
    assert await book.claim("w", 60.0) is None
    assert await book.ask("hourly", is_dry=False)
    assert await book.claim("w", 60.0) is None
    (kept, _) = await book.all()
    assert kept.kind is TaskKind.UNKNOWN
    assert "'miracle'" in kept.obstacle
    assert kept.is_asked
    await say(database, "kind", "verification")
    assert (await claimed(book)).cause is RunCause.HAND


async def test_a_zone_that_is_not_known_here_stops_a_task_here_alone(
    book: DatabaseTasks, database: Database, clock: Clock
) -> None:
    assert await book.add(DAILY)
    assert await book.add(OTHER)
    await say(database, "zone", "Mars/Olympus")
    clock.now += 200_000.0
    assert (await claimed(book)).task.name == "other"
    assert await book.claim("w", 60.0) is None
    kept = await book.get("hourly")
    assert kept is not None
    assert "no time zone 'Mars/Olympus' on this machine" in kept.obstacle
    assert kept.next_at is not None
    # Whoever asks for it needs no schedule.
    assert await book.ask("hourly", is_dry=False)
    run = await claimed(book)
    assert run.cause is RunCause.HAND
    await book.end(run.run, RunOutcome.COMPLETED, "well")
    # On another machine, or when the data are there, it goes on.
    await say(database, "zone", "UTC")
    assert (await claimed(book)).cause is RunCause.SCHEDULE


async def test_an_interval_needs_no_zone(
    book: DatabaseTasks, database: Database, clock: Clock
) -> None:
    assert await book.add(HOURLY)
    await say(database, "zone", "Mars/Olympus")
    clock.now += 3_601.0
    run = await claimed(book)
    assert not run.task.obstacle
    kept = await book.get("hourly")
    assert kept is not None
    assert kept.next_at == START + 7_200.0
