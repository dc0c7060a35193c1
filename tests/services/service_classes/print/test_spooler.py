"""Spooler and outputs: attempts, what interrupts them, and files that are whole or not there."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import pytest
import trio

from isocenter.services.concurrency import Backoff
from isocenter.services.errors import StorageError
from isocenter.services.service_classes.print import spooler as spooler_module
from isocenter.services.service_classes.print.job import (
    ComposedFilm,
    NewPrintJob,
    PrintJob,
    PrintJobState,
)
from isocenter.services.service_classes.print.outputs import PdfFiles, PngFiles, PrintQueue
from isocenter.services.service_classes.print.ports import PrintJobs
from isocenter.services.service_classes.print.spooler import (
    Output,
    OutputError,
    Spooler,
    SpoolerOptions,
)
from isocenter.storage.database.print_jobs import DatabasePrintJobs
from isocenter.storage.stores import open_sqlite_stores
from services.service_classes.print.samples import pattern, saved

JOB = "1.2.3"


def film() -> ComposedFilm:
    png = imagecodecs.png_encode(pattern(30, 20))
    return ComposedFilm(png=png, width=20, height=30, dots_per_inch=150)


class Recorded:
    """An output that keeps what it gets, or fails as a test says."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.jobs: list[str] = []
        self.began = trio.Event()

    async def put(self, job: PrintJob, films: Sequence[ComposedFilm]) -> None:
        self.began.set()
        if self.faults:
            raise self.faults.pop(0)
        assert list(films) == [film()] * job.films
        self.jobs.append(job.job_uid)


class Stuck(Recorded):
    """An output that takes for ever."""

    async def put(self, job: PrintJob, films: Sequence[ComposedFilm]) -> None:
        self.began.set()
        await trio.sleep_forever()


class Watched:
    """States that a spooler told of, and who waits for one."""

    def __init__(self) -> None:
        self.states: list[PrintJobState] = []
        self._changed = trio.Event()

    def __call__(self, job: PrintJob) -> None:
        self.states.append(job.state)
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, state: PrintJobState) -> None:
        with trio.fail_after(120):
            while state not in self.states:
                await self._changed.wait()


@asynccontextmanager
async def spooling(
    watched: Watched, give_up_after: float = 60.0, keep_seconds: float = 0.0, **outputs: Output
) -> AsyncIterator[tuple[PrintJobs, Spooler]]:
    options = SpoolerOptions(
        backoff=Backoff(
            first_seconds=0.0, longest_seconds=0.0, give_up_after_seconds=give_up_after
        ),
        keep_seconds=keep_seconds,
    )
    async with open_sqlite_stores(":memory:") as stores:
        spooler = Spooler(stores.print_jobs, outputs, options, on_change=watched, now=stores.clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spooler.run)
            yield stores.print_jobs, spooler
            nursery.cancel_scope.cancel()


async def submit(jobs: PrintJobs, spooler: Spooler, films: int = 1) -> None:
    job = NewPrintJob(job_uid=JOB, originator="CT1", films=(film(),) * films)
    assert await jobs.submit(job, most=9)
    spooler.wake()


async def test_a_job_goes_to_each_output_once() -> None:
    watched, first, second = Watched(), Recorded(), Recorded(OutputError("no paper"))
    async with spooling(watched, pdf=first, queue=second) as (jobs, spooler):
        await submit(jobs, spooler, 2)
        await watched.until(PrintJobState.DONE)
        job = await jobs.get(JOB)
    assert (first.jobs, second.jobs) == ([JOB], [JOB])
    assert job is not None
    assert (job.attempts, job.outputs, job.fault) == (2, ("pdf", "queue"), "")
    assert watched.states == [
        PrintJobState.PRINTING,
        PrintJobState.PENDING,
        PrintJobState.PRINTING,
        PrintJobState.DONE,
    ]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (OutputError("no paper"), "pdf: no paper"),
        (RuntimeError("somebody's name"), "pdf: internal error (RuntimeError)"),
        (StorageError("the disk is full"), "pdf: the disk is full"),
    ],
)
async def test_what_cannot_be_printed_has_failed_in_the_end(fault: Exception, told: str) -> None:
    watched = Watched()
    async with spooling(watched, 0.0, pdf=Recorded(fault)) as (jobs, spooler):
        await submit(jobs, spooler)
        await watched.until(PrintJobState.FAILED)
        job = await jobs.get(JOB)
        assert job is not None
        assert job.fault == told
        assert await jobs.retry(JOB)
        spooler.wake()
        await watched.until(PrintJobState.DONE)


async def test_films_that_cannot_be_read_now_are_read_another_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults = [StorageError("the bucket is away")]
    read = DatabasePrintJobs.film

    async def away(jobs: DatabasePrintJobs, job_uid: str, number: int) -> ComposedFilm | None:
        if faults:
            raise faults.pop()
        return await read(jobs, job_uid, number)

    monkeypatch.setattr(DatabasePrintJobs, "film", away)
    watched = Watched()
    async with spooling(watched, pdf=Recorded()) as (jobs, spooler):
        await submit(jobs, spooler)
        await watched.until(PrintJobState.DONE)
    assert PrintJobState.PENDING in watched.states


async def test_a_job_whose_end_cannot_be_written_is_not_kept_from_the_next_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults: list[Exception] = [StorageError("the database is away"), RuntimeError("ours")]
    settle = DatabasePrintJobs.settle

    async def away(*args: Any) -> bool:
        if faults:
            raise faults.pop()
        return await settle(*args)

    monkeypatch.setattr(DatabasePrintJobs, "settle", away)
    monkeypatch.setattr(spooler_module, "LOOK_SECONDS", 0.01)
    watched, output = Watched(), Recorded()
    async with spooling(watched, pdf=output) as (jobs, spooler):
        await submit(jobs, spooler)
        await watched.until(PrintJobState.DONE)
    assert output.jobs == [JOB]


async def test_a_server_that_stops_leaves_the_job_as_it_found_it() -> None:
    stuck = Stuck()
    async with spooling(Watched(), pdf=stuck) as (jobs, spooler):
        await submit(jobs, spooler)
        with trio.fail_after(120):
            await stuck.began.wait()
    # The database is closed by now: what counts is that the end was not held up.


async def test_a_job_that_is_cancelled_meanwhile_is_not_done() -> None:
    watched = Watched()

    class Cancelling(Recorded):
        async def put(self, job: PrintJob, films: Sequence[ComposedFilm]) -> None:
            assert await jobs.cancel(JOB)
            await super().put(job, films)

    first, second = Cancelling(), Recorded()
    async with spooling(watched, pdf=first, png=second) as (jobs, spooler):
        await submit(jobs, spooler)
        with trio.fail_after(120):
            while not first.jobs:
                await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        assert await jobs.states([JOB]) == {JOB: PrintJobState.CANCELLED}
    assert not second.jobs


async def test_of_two_nodes_one_prints_a_job() -> None:
    output, watched = Recorded(), Watched()
    options = SpoolerOptions(backoff=Backoff(give_up_after_seconds=60.0))
    uids = [f"1.2.{number}" for number in range(12)]
    async with open_sqlite_stores(":memory:") as stores, trio.open_nursery() as nursery:
        for uid in uids:
            job = NewPrintJob(job_uid=uid, originator="CT1", films=(film(),))
            assert await stores.print_jobs.submit(job, most=99)
        for _ in range(2):
            spooler = Spooler(
                stores.print_jobs, {"pdf": output}, options, on_change=watched, now=stores.clock
            )
            nursery.start_soon(spooler.run)
        with trio.fail_after(120):
            while watched.states.count(PrintJobState.DONE) < len(uids):
                await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sorted(output.jobs) == sorted(uids)


def a_job(copies: int = 1) -> PrintJob:
    return PrintJob(
        job_uid=JOB, originator="CT1", state=PrintJobState.PRINTING, films=1, copies=copies,
        priority="MED", medium="", destination="", study_instance_uid="", created_at=0.0, since=0.0,
        due_at=0.0,
    )  # fmt: skip


async def test_files_are_whole_and_the_same_when_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "films"
    for _ in range(2):
        await PdfFiles(folder).put(a_job(), [film(), film()])
        await PngFiles(folder).put(a_job(), [film(), film()])
    assert saved(folder) == ["1.2.3-1.png", "1.2.3-2.png", "1.2.3.pdf"]
    assert (folder / "1.2.3-1.png").read_bytes() == film().png
    assert (folder / "1.2.3.pdf").read_bytes().startswith(b"%PDF-1.7")


async def test_a_folder_that_cannot_be_written_is_a_fault_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(OutputError, match="file"):
        await PdfFiles(path).put(a_job(), [film()])


async def test_a_queue_gets_the_pdf_and_how_many_copies(tmp_path: Path) -> None:
    got = tmp_path / "got"
    program = (
        "import sys; open(sys.argv[1], 'wb').write(' '.join(sys.argv[2:]).encode() + b'\\n' + "
        "sys.stdin.buffer.read())"
    )
    queue = PrintQueue("films", (sys.executable, "-c", program, str(got)))
    await queue.put(a_job(copies=3), [film()])
    words, _, content = got.read_bytes().partition(b"\n")
    assert words == b"-d films -n 3 -t 1.2.3 -o fit-to-page -s -- -"
    assert content.startswith(b"%PDF-1.7")


async def test_a_queue_that_refuses_says_why() -> None:
    program = "import sys; sys.stdin.read(); sys.exit('lp: The printer does not exist.')"
    queue = PrintQueue("", (sys.executable, "-c", program))
    with pytest.raises(OutputError, match="exit code 1"):
        await queue.put(a_job(), [film()])
    with pytest.raises(OutputError, match="cannot run"):
        await PrintQueue("", ("no-such-program",)).put(a_job(), [film()])
