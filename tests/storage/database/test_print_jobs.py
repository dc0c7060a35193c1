"""Print jobs in the database."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isocenter.services.errors import StorageError
from isocenter.services.service_classes.print.job import (
    ComposedFilm,
    NewPrintJob,
    PrintJob,
    PrintJobState,
)
from isocenter.storage.database import print_jobs
from isocenter.storage.database.database import Connection
from isocenter.storage.database.leases import release_stale
from isocenter.storage.database.print_jobs import DatabasePrintJobs
from isocenter.storage.objects.films import FolderFilms
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

FILMS = tuple(
    ComposedFilm(png=bytes([number]) * 50, width=10, height=20, dots_per_inch=150)
    for number in range(2)
)


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
def films(tmp_path: Path) -> FolderFilms:
    return FolderFilms(tmp_path / "films")


@pytest.fixture
async def jobs(clock: Clock, films: FolderFilms) -> AsyncIterator[DatabasePrintJobs]:
    async with open_database() as database:
        yield DatabasePrintJobs(database, films, now=clock)


def new_job(uid: str = "1.2.3", priority: str = "MED", label: str = "Größe") -> NewPrintJob:
    return NewPrintJob(
        job_uid=uid, originator="CT1", films=FILMS, copies=2, priority=priority,
        medium="PAPER", destination="BIN_1", label=label, study_instance_uid="1.9",
    )  # fmt: skip


async def submitted(jobs: DatabasePrintJobs, uid: str = "1.2.3", priority: str = "MED") -> None:
    assert await jobs.submit(new_job(uid, priority), most=100)


async def claimed(jobs: DatabasePrintJobs) -> PrintJob:
    job = await jobs.claim("w1", 60)
    assert job is not None
    return job


async def state(jobs: DatabasePrintJobs, uid: str = "1.2.3") -> PrintJobState:
    job = await jobs.get(uid)
    assert job is not None
    return job.state


async def test_what_was_submitted_is_kept_as_it_came(jobs: DatabasePrintJobs) -> None:
    await submitted(jobs)
    job = await jobs.get("1.2.3")
    assert job == PrintJob(
        job_uid="1.2.3", originator="CT1", state=PrintJobState.PENDING, films=2, copies=2,
        priority="MED", medium="PAPER", destination="BIN_1", study_instance_uid="1.9",
        created_at=1_000_000.0, since=1_000_000.0, due_at=1_000_000.0, label="Größe",
    )  # fmt: skip
    assert await jobs.film("1.2.3", 2) == FILMS[1]
    assert await jobs.film("1.2.3", 3) is None
    assert await jobs.film("1.2.4", 1) is None
    assert await jobs.get("1.2.4") is None


async def test_no_more_wait_than_may(jobs: DatabasePrintJobs) -> None:
    await submitted(jobs)
    assert await jobs.is_full(1)
    assert not await jobs.is_full(2)
    assert not await jobs.submit(new_job("1.2.4"), most=1)
    assert await jobs.get("1.2.4") is None
    assert await jobs.settle(await claimed(jobs), PrintJobState.DONE)
    assert await jobs.submit(new_job("1.2.4"), most=1)


async def test_the_most_urgent_comes_first_then_the_oldest(jobs: DatabasePrintJobs) -> None:
    for uid, priority in (("1", "LOW"), ("2", "MED"), ("3", "HIGH"), ("4", "MED")):
        await submitted(jobs, uid, priority)
    assert [(await claimed(jobs)).job_uid for _ in range(4)] == ["3", "2", "4", "1"]
    assert await jobs.claim("w2", 60) is None


async def test_a_claim_ends_with_its_time(jobs: DatabasePrintJobs, clock: Clock) -> None:
    await submitted(jobs)
    first = await claimed(jobs)
    assert await state(jobs) is PrintJobState.PRINTING
    clock.now += 50
    await jobs.renew("w1", 60)
    clock.now += 50
    assert await jobs.claim("w2", 60) is None
    clock.now += 11
    assert await state(jobs) is PrintJobState.PENDING
    second = await jobs.claim("w2", 60)
    assert second is not None
    assert (second.attempts, second.claim) == (2, 2)
    assert not await jobs.note_output(first, "pdf"), "it is another one's now"
    assert not await jobs.settle(first, PrintJobState.DONE)
    assert await jobs.settle(second, PrintJobState.DONE)


async def test_what_an_output_has_is_remembered(jobs: DatabasePrintJobs) -> None:
    await submitted(jobs)
    assert await jobs.note_output(await claimed(jobs), "pdf")
    job = await jobs.get("1.2.3")
    assert job is not None
    assert job.outputs == ("pdf",)


async def test_another_attempt_waits(jobs: DatabasePrintJobs, clock: Clock) -> None:
    await submitted(jobs)
    assert await jobs.last_fault() == ""
    assert await jobs.again(await claimed(jobs), "no paper", 30)
    assert await jobs.last_fault() == "no paper"
    assert await jobs.claim("w1", 60) is None
    clock.now += 31
    job = await claimed(jobs)
    assert (job.attempts, job.fault) == (2, "no paper")
    assert await jobs.settle(job, PrintJobState.DONE)
    assert await jobs.last_fault() == ""


async def test_a_release_is_no_attempt(jobs: DatabasePrintJobs) -> None:
    await submitted(jobs)
    await jobs.release(await claimed(jobs))
    assert (await claimed(jobs)).attempts == 1


@pytest.mark.parametrize("ended", [PrintJobState.DONE, PrintJobState.FAILED])
async def test_what_was_printed_is_printed_anew_and_what_failed_goes_on(
    jobs: DatabasePrintJobs, ended: PrintJobState
) -> None:
    await submitted(jobs)
    job = await claimed(jobs)
    await jobs.note_output(job, "pdf")
    assert await jobs.settle(job, ended, "a fault")
    assert await state(jobs) is ended
    assert await jobs.claim("w1", 60) is None
    assert await jobs.retry("1.2.3")
    assert (await claimed(jobs)).outputs == (() if ended is PrintJobState.DONE else ("pdf",))
    assert not await jobs.retry("1.2.3"), "it is printed now"
    assert not await jobs.retry("1.2.4")


async def test_what_is_cancelled_is_printed_no_further(jobs: DatabasePrintJobs) -> None:
    await submitted(jobs)
    job = await claimed(jobs)
    assert await jobs.cancel("1.2.3")
    assert await state(jobs) is PrintJobState.CANCELLED
    assert not await jobs.note_output(job, "pdf")
    assert not await jobs.again(job, "no paper", 1)
    assert not await jobs.cancel("1.2.3")
    assert not await jobs.cancel("1.2.4")
    assert await jobs.retry("1.2.3")
    assert await state(jobs) is PrintJobState.PENDING


async def test_jobs_are_listed_by_state_the_newest_first(jobs: DatabasePrintJobs) -> None:
    for uid in ("1", "2", "3"):
        await submitted(jobs, uid)
    await jobs.settle(await claimed(jobs), PrintJobState.DONE)
    await claimed(jobs)
    assert [job.job_uid for job in await jobs.jobs(limit=10)] == ["3", "2", "1"]
    assert [job.job_uid for job in await jobs.jobs(limit=1)] == ["3"]
    wanted = [PrintJobState.DONE, PrintJobState.PRINTING]
    assert [job.job_uid for job in await jobs.jobs(states=wanted, limit=10)] == ["2", "1"]
    assert await jobs.states(["1", "3", "9"]) == {
        "1": PrintJobState.DONE,
        "3": PrintJobState.PENDING,
    }


async def test_old_jobs_are_forgotten_with_their_films(
    jobs: DatabasePrintJobs, clock: Clock
) -> None:
    for number in range(25):
        await submitted(jobs, str(number))
        await jobs.settle(await claimed(jobs), PrintJobState.DONE)
    await submitted(jobs, "waits")
    clock.now += 100
    assert await jobs.purge(clock.now - 200) == 0
    assert await jobs.purge(clock.now) == 25
    assert await jobs.film("1", 1) is None
    assert [job.job_uid for job in await jobs.jobs(limit=99)] == ["waits"]


async def test_films_that_no_job_came_of_go_at_the_next_start(
    clock: Clock, films: FolderFilms, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_database() as database:
        jobs = DatabasePrintJobs(database, films, now=clock)
        with monkeypatch.context() as patch:
            patch.setattr(print_jobs, "_submit", die)
            with pytest.raises(DeathError):
                await submitted(jobs)
        assert folders(films) == ["1.2.3"]
        assert await jobs.keeps_films("1.2.3"), "for all that others know, it is about to come"
        assert await jobs.sweep() == 0
        await database.write(release_stale)
        assert not await jobs.keeps_films("1.2.3")
        assert await jobs.sweep() == 1
        assert folders(films) == []


async def test_what_a_process_left_behind_is_free_at_the_next_start(
    clock: Clock, films: FolderFilms
) -> None:
    async with open_database() as database:
        jobs = DatabasePrintJobs(database, films, now=clock)
        await submitted(jobs)
        await claimed(jobs)
        await database.write(release_stale)
        assert await jobs.claim("w2", 60) is not None


class DeathError(BaseException):
    """The process was killed here."""


def folders(films: FolderFilms) -> list[str]:
    """Jobs that have films."""
    return sorted(os.listdir(films._folder)) if films._folder.exists() else []


def die(*_: object) -> None:
    raise DeathError


async def test_films_are_files_and_go_with_their_job(
    jobs: DatabasePrintJobs, films: FolderFilms, clock: Clock
) -> None:
    assert not await jobs.keeps_films("1.2.3")
    await submitted(jobs)
    assert await jobs.keeps_films("1.2.3")
    assert (films._folder / "1.2.3" / "2.png").read_bytes() == FILMS[1].png
    await jobs.settle(await claimed(jobs), PrintJobState.DONE)
    clock.now += 100
    assert await jobs.purge(clock.now) == 1
    assert folders(films) == []
    assert await jobs.sweep() == 0


async def test_what_dies_before_its_job_is_there_leaves_no_films(
    jobs: DatabasePrintJobs,
    films: FolderFilms,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put = films.put

    async def dying(uid: str, number: int, png: bytes) -> None:
        await put(uid, number, png)
        if uid == f"1.{number}":
            die()

    with monkeypatch.context() as patch:
        patch.setattr(films, "put", dying)
        for uid in ("1.1", "1.2"):
            with pytest.raises(DeathError):
                await submitted(jobs, uid)
    await submitted(jobs, "1.3")
    assert folders(films) == ["1.1", "1.2", "1.3"]
    # Somebody may still be about it.
    assert await jobs.sweep() == 0
    clock.now += 7_200
    assert await jobs.sweep() == 2
    assert folders(films) == ["1.3"]
    assert await jobs.film("1.3", 2) == FILMS[1]
    assert await jobs.sweep() == 0


async def test_what_dies_while_a_job_is_forgotten_leaves_no_films(
    jobs: DatabasePrintJobs,
    films: FolderFilms,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await submitted(jobs)
    await jobs.settle(await claimed(jobs), PrintJobState.DONE)
    clock.now += 100
    with monkeypatch.context() as patch:
        patch.setattr(films, "remove", die)
        with pytest.raises(DeathError):
            await jobs.purge(clock.now)
    assert (await jobs.get("1.2.3"), folders(films)) == (None, ["1.2.3"])
    assert await jobs.sweep() == 1
    assert folders(films) == []


async def test_films_of_jobs_that_the_database_never_had_are_removed_after_a_while(
    films: FolderFilms, clock: Clock
) -> None:
    """It was made anew, or is that of a backup."""
    async with open_database() as database:
        before = DatabasePrintJobs(database, films, now=clock)
        for uid in ("1.1", "1.2"):
            await submitted(before, uid)
    async with open_database() as database:
        jobs = DatabasePrintJobs(database, films, now=clock)
        await submitted(jobs, "1.3")
        # It may be the wrong database: whoever sees that in time loses nothing.
        assert await jobs.sweep() == 0
        assert folders(films) == ["1.1", "1.2", "1.3"]
        assert not await jobs.keeps_films("1.1")
        clock.now += 7_200
        assert await jobs.sweep() == 2
        assert folders(films) == ["1.3"]
        assert await jobs.film("1.3", 2) == FILMS[1]
        clock.now += 7_200
        assert await jobs.sweep() == 0


async def test_a_job_that_was_given_up_does_not_come_without_its_films(
    jobs: DatabasePrintJobs,
    films: FolderFilms,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put = films.put

    async def slow(uid: str, number: int, png: bytes) -> None:
        await put(uid, number, png)
        clock.now += 4_000
        assert await jobs.sweep() == (1 if number == 1 else 0)

    monkeypatch.setattr(films, "put", slow)
    with pytest.raises(StorageError, match="given up"):
        await submitted(jobs)
    assert await jobs.get("1.2.3") is None


async def test_a_disk_that_is_full_keeps_nothing_of_a_job(
    jobs: DatabasePrintJobs, films: FolderFilms, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def full(path: Path, target: Path) -> Path:
        if target.name == "2.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError) as refused:
        await submitted(jobs)
    assert refused.value.out_of_resources
    assert folders(films) == []
    assert await jobs.get("1.2.3") is None


async def test_a_film_whose_file_is_gone_is_none(
    jobs: DatabasePrintJobs, films: FolderFilms
) -> None:
    await submitted(jobs)
    await films.remove("1.2.3")
    assert await jobs.film("1.2.3", 1) is None


async def test_films_of_earlier_releases_are_shown_and_become_files(
    clock: Clock, films: FolderFilms
) -> None:
    async with open_database() as database:
        jobs = DatabasePrintJobs(database, films, now=clock)
        await submitted(jobs)
        await films.remove("1.2.3")

        def as_before(connection: Connection) -> None:
            connection.execute("DELETE FROM print_film_file")
            for number, film in enumerate(FILMS, 1):
                connection.execute(
                    "INSERT INTO print_film (print_job_pk, number, width, height, dots_per_inch, "
                    "png) SELECT print_job_pk, :number, 10, 20, 150, :png FROM print_job",
                    {"number": number, "png": film.png},
                )

        await database.write(as_before)
        assert [await jobs.film("1.2.3", number) for number in (1, 2, 3)] == [*FILMS, None]
        assert await jobs.sweep() == 0
        assert sorted(os.listdir(films._folder / "1.2.3")) == ["1.png", "2.png"]
        assert [await jobs.film("1.2.3", number) for number in (1, 2, 3)] == [*FILMS, None]

        def left(connection: Connection) -> int:
            (count,) = connection.execute("SELECT count(*) FROM print_film").fetchone()
            return int(count)

        assert await database.read(left) == 0
