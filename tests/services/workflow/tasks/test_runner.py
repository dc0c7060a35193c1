"""Tasks as they run: within their time, once, and with what came of it."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pytest
import trio

from isocenter.services.composition.archive import ArchiveParts, open_archive_parts
from isocenter.services.composition.tasks import task_desk, task_runner
from isocenter.services.composition.workflow import Workflow
from isocenter.services.errors import StorageError
from isocenter.services.notices import Caller, Notice, Notices
from isocenter.services.settings.loading import load_settings
from isocenter.services.workflow.tasks import runner
from isocenter.services.workflow.tasks.desk import TaskDesk
from isocenter.services.workflow.tasks.runner import TaskOptions, TaskRunner, TaskWork
from isocenter.services.workflow.tasks.task import (
    RunOutcome,
    Task,
    TaskError,
    TaskKind,
    TaskRun,
    new_task,
)
from isocenter.services.workflow.tasks.works import TaskFaultError
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.database.tasks import DatabaseTasks
from services.archive_support import STUDY, data_set, store

PATIENCE = 60.0
CALLER = Caller(association="", address="test")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(runner, "_RENEW_SECONDS", 0.01)


def task(name: str = "t", **more: object) -> Task:
    return new_task(name, "verification", "every 1d", zone="UTC", **more)  # type: ignore[arg-type]


async def run_once(book: DatabaseTasks, name: str = "t", *, is_dry: bool = False) -> TaskRun:
    """Have it run, and wait for what comes of it."""
    before = len(await book.runs(name, limit=99))
    assert await book.ask(name, is_dry=is_dry)
    return await ended(book, name, before + 1)


async def ended(book: DatabaseTasks, name: str, count: int) -> TaskRun:
    """The last run of so many, when it is over."""
    with trio.fail_after(PATIENCE):
        while True:
            runs = await book.runs(name, limit=99)
            if len(runs) == count and runs[0].outcome is not RunOutcome.RUNNING:
                return runs[0]
            await trio.sleep(0.01)


@asynccontextmanager
async def running(
    works: Mapping[TaskKind, TaskWork], count: int = 1
) -> AsyncIterator[DatabaseTasks]:
    """So many processes that run tasks."""
    async with open_sqlite_database(":memory:") as database, trio.open_nursery() as nursery:
        book = DatabaseTasks(database)
        for _ in range(count):
            nursery.start_soon(TaskRunner(book, works, TaskOptions(), now=lambda: 0.0).run)
        yield book
        nursery.cancel_scope.cancel()


@dataclass
class Work:
    """What a task does in a test."""

    error: Exception | None = None
    hangs: bool = False
    seen: list[tuple[str, bool]] = field(default_factory=list)
    began: trio.Event = field(default_factory=trio.Event)
    ended: int = 0

    async def __call__(self, task: Task, is_dry: bool) -> str:
        self.seen.append((task.name, is_dry))
        self.began.set()
        try:
            if self.hangs:
                await trio.sleep_forever()
            if self.error is not None:
                raise self.error
        finally:
            self.ended += 1
        return "well"

    @property
    def works(self) -> Mapping[TaskKind, TaskWork]:
        return {TaskKind.VERIFICATION: self}


async def test_of_several_processes_one_runs_it() -> None:
    work = Work()
    async with running(work.works, count=4) as book:
        for number in range(5):
            await book.add(task(f"t{number}"))
        for number in range(5):
            run = await run_once(book, f"t{number}")
            assert (run.outcome, run.report) == (RunOutcome.COMPLETED, "well")
        assert (await run_once(book, "t0", is_dry=True)).report == "well"
    assert sorted(work.seen) == [("t0", False), ("t0", True)] + [
        (f"t{number}", False) for number in range(1, 5)
    ]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TaskFaultError("3 faults"), "3 faults"),
        (OSError(5, "disk"), "disk"),
        (ValueError("Doe^Jane"), r"internal error (ValueError)"),
    ],
)
async def test_a_fault_is_told_and_names_no_patient(error: Exception, says: str) -> None:
    async with running(Work(error=error).works) as book:
        await book.add(task())
        run = await run_once(book)
        assert run.outcome is RunOutcome.FAILED
        assert says in run.report
        assert "Doe" not in run.report


async def test_what_takes_too_long_is_cancelled() -> None:
    work = Work(hangs=True)
    async with running(work.works) as book:
        await book.add(task(timeout=0.05))
        run = await run_once(book)
        assert run.outcome is RunOutcome.TIMED_OUT
        assert work.ended == 1


async def test_somebody_ends_it() -> None:
    work = Work(hangs=True)
    async with running(work.works) as book:
        await book.add(task())
        await book.ask("t", is_dry=False)
        with trio.fail_after(PATIENCE):
            await work.began.wait()
        assert await book.cancel("t")
        assert (await ended(book, "t", 1)).outcome is RunOutcome.CANCELLED
        assert work.ended == 1


async def test_a_server_that_stops_says_that_it_was_interrupted() -> None:
    work = Work(hangs=True)
    async with open_sqlite_database(":memory:") as database:
        book = DatabaseTasks(database)
        await book.add(task())
        await book.ask("t", is_dry=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(TaskRunner(book, work.works, TaskOptions(), now=lambda: 0.0).run)
            with trio.fail_after(PATIENCE):
                await work.began.wait()
            nursery.cancel_scope.cancel()
        (run,) = await book.runs(limit=9)
        assert run.outcome is RunOutcome.INTERRUPTED


async def test_a_database_that_fails_for_a_while_ends_nothing() -> None:
    class Failing(DatabaseTasks):
        left = 3

        async def claim(self, worker: str, seconds: float) -> object:  # type: ignore[override]
            if self.left:
                self.left -= 1
                raise StorageError("away") if self.left else RuntimeError("a fault of ours")
            return await super().claim(worker, seconds)

    async with open_sqlite_database(":memory:") as database, trio.open_nursery() as nursery:
        book = Failing(database)
        nursery.start_soon(TaskRunner(book, Work().works, TaskOptions(), now=lambda: 0.0).run)
        await book.add(task())
        assert (await run_once(book)).outcome is RunOutcome.COMPLETED
        nursery.cancel_scope.cancel()


async def test_what_is_claimed_while_claims_are_renewed_goes_on() -> None:
    class Slow(DatabaseTasks):
        renewals = 0

        async def renew(self, worker: str, seconds: float) -> Collection[int]:
            going_on = await super().renew(worker, seconds)
            self.renewals += 1
            if self.renewals == 1:
                asked.set()
                await second.began.wait()
            return going_on

    first, second, asked = Work(hangs=True), Work(hangs=True), trio.Event()

    async def work(task: Task, is_dry: bool) -> str:
        return await (first if task.name == "a" else second)(task, is_dry)

    async with open_sqlite_database(":memory:") as database, trio.open_nursery() as nursery:
        book = Slow(database)
        works: Mapping[TaskKind, TaskWork] = {TaskKind.VERIFICATION: work}
        nursery.start_soon(TaskRunner(book, works, TaskOptions(), now=lambda: 0.0).run)
        await book.add(task("a"))
        await book.add(task("b"))
        await book.ask("a", is_dry=False)
        with trio.fail_after(PATIENCE):
            await asked.wait()
            await book.ask("b", is_dry=False)
            while True:
                if book.renewals >= 2:
                    break
                await trio.sleep(0.01)
        (run,) = await book.runs("b", limit=9)
        assert (run.outcome, second.ended) == (RunOutcome.RUNNING, 0)
        nursery.cancel_scope.cancel()


async def test_what_came_of_it_is_written_down_when_the_database_is_back() -> None:
    class Failing(DatabaseTasks):
        errors: ClassVar[list[Exception]] = [StorageError("away"), RuntimeError("a fault of ours")]

        async def end(self, run: int, outcome: RunOutcome, report: str, said: str = "") -> None:
            if self.errors:
                raise self.errors.pop()
            await super().end(run, outcome, report, said)

    work = Work()
    async with open_sqlite_database(":memory:") as database, trio.open_nursery() as nursery:
        book = Failing(database)
        nursery.start_soon(TaskRunner(book, work.works, TaskOptions(), now=lambda: 0.0).run)
        await book.add(task(retries=3))
        assert (await run_once(book)).outcome is RunOutcome.COMPLETED
        assert len(work.seen) == 1, "not once more"
        nursery.cancel_scope.cancel()


# -- What tasks do -----------------------------------------------------------------------


@dataclass
class Server:
    """An archive whose tasks run."""

    parts: ArchiveParts
    desk: TaskDesk
    heard: list[Notice]
    folder: Path

    async def outcome(self, name: str, kind: str, *, is_dry: bool = False, **more: str) -> TaskRun:
        described = new_task(name, kind, "every 1d", zone="UTC", parameters=more)
        if await self.desk.get(name) is None:
            await self.desk.add(described, CALLER)
        book = self.parts.stores.tasks
        assert isinstance(book, DatabaseTasks)
        return await run_once(book, name, is_dry=is_dry)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/said\necho $ISOCENTER_TASK $1 >&2\nexit $2\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    settings = load_settings(
        environ={},
        overrides={
            "storage.data_dir": str(tmp_path / "data"),
            "schedules.programs": (f"good={program} 'a b' 0", f"bad={program} x 3", "none=/none"),
        },
    )
    notices = Notices()
    heard: list[Notice] = []
    notices.subscribe(heard.append)
    async with open_archive_parts(settings) as parts, trio.open_nursery() as nursery:
        nursery.start_soon(task_runner(settings, parts, Workflow()).run)
        yield Server(parts, task_desk(settings, parts.stores, notices), heard, tmp_path)
        nursery.cancel_scope.cancel()


async def test_a_cleanup_says_what_it_would_delete_and_deletes_it(server: Server) -> None:
    await store(server.parts.archive, 1, data_set(1, study_date="20000101"))
    await store(server.parts.archive, 2, data_set(2, study="1.2.9", series="1.2.9.1"))
    run = await server.outcome("old", "cleanup", is_dry=True, study_days="9000")
    assert run.report.startswith("would delete 1 studies, 1 instances")
    async with server.parts.archive.locks.reading({STUDY}, "C-GET of X"):
        server.parts.archive.locks.wait_seconds = 0.0
        run = await server.outcome("old", "cleanup")
        assert "1 are in use" in run.report
    run = await server.outcome("old", "cleanup")
    assert run.report.startswith("deleted 1 instances")
    assert (await server.parts.archive.index.statistics()).instances == 1
    assert [notice.what for notice in server.heard if hasattr(notice, "what")] == [
        "task old was added: cleanup, every 1d"
    ]


async def test_a_verification_finds_what_is_damaged(server: Server) -> None:
    await store(server.parts.archive, 1)
    run = await server.outcome("v", "verification")
    assert (run.outcome, run.report) == (
        RunOutcome.COMPLETED, "1 instances, 1 objects, no fault",
    )  # fmt: skip
    assert "would read 1" in (await server.outcome("v", "verification", is_dry=True)).report
    (path,) = (server.folder / "data" / "objects").rglob("*.dcm")
    os.chmod(path, 0o600)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    run = await server.outcome("v", "verification")
    assert run.outcome is RunOutcome.FAILED
    assert "and faults" in run.report


async def test_a_program_runs_without_a_shell_and_says_how_it_went(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    run = await server.outcome("p1", "program", program="good")
    assert (run.outcome, run.report, run.said) == (
        RunOutcome.COMPLETED, "it has ended well", "p1 a b",
    )  # fmt: skip
    assert (server.folder / "said").read_text() == '{"task":"p1","description":""}'
    run = await server.outcome("p2", "program", program="bad")
    assert run.outcome is RunOutcome.FAILED
    assert run.report.endswith("exit code 3; it said 5 bytes")
    assert run.said == "p2 x"
    # What it says may name patients: no log has it.
    assert "exit code 3" in caplog.text
    assert "p2 x" not in caplog.text
    assert "p1 a b" not in caplog.text
    run = await server.outcome("p3", "program", program="none")
    assert run.outcome is RunOutcome.FAILED
    assert "cannot run /none" in run.report
    run = await server.outcome("p2", "program", is_dry=True)
    assert run.report.startswith("would run ")


async def test_what_an_archive_cannot_do_is_told(server: Server) -> None:
    assert "does no prefetch" in (await server.outcome("x", "prefetch")).report


@pytest.mark.parametrize(
    ("kind", "parameters", "says"),
    [
        ("cleanup", {}, "would delete all"),
        ("cleanup", {"keep_newest": "3"}, "would delete all"),
        ("cleanup", {"study_days": "-1"}, "study_days is a number"),
        ("cleanup", {"study_days": "9" * 5_000}, "study_days is a number"),
        ("cleanup", {"study_days": "0" * 11 + "9" * 20}, "study_days is a number"),
        ("cleanup", {"study_days": "1", "disk_percent": "100"}, "at most 99"),
        ("cleanup", {"study_days": "1", "although_promised": "maybe"}, "yes or no"),
        ("cleanup", {"study_days": "1", "most": ""}, "most is a number"),
        ("cleanup", {"days": "1"}, "no parameter 'days'; there are: modalities"),
        ("verification", {"checksums": "perhaps"}, "yes or no"),
        ("program", {"program": "/bin/sh"}, "there are: good, bad, none"),
        ("program", {}, "schedules.programs"),
        ("prefetch", {"x": "1"}, "there are: none"),
    ],
)
async def test_parameters_that_are_none_are_told(
    server: Server, kind: str, parameters: dict[str, str], says: str
) -> None:
    wrong = new_task("t", kind, "every 1d", zone="UTC", parameters=parameters)
    with pytest.raises(TaskError, match=says):
        await server.desk.add(wrong, CALLER)
    assert await server.desk.all() == []


async def test_what_cannot_run_here_is_told_once_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "_OBSTACLES_SECONDS", 0.0)
    work = Work()
    async with running(work.works) as book:
        for name in ("future", "mars", "t"):
            await book.add(task(name))
        await book._database.write(
            lambda connection: connection.execute(
                "UPDATE task SET kind = 'miracle', next_at = 0 WHERE name = 'future'"
            )
        )
        await book._database.write(
            lambda connection: connection.execute(
                "UPDATE task SET schedule = 'daily 02:00', zone = 'Mars/Olympus', next_at = 0 "
                "WHERE name = 'mars'"
            )
        )
        for _ in range(2):
            run = await run_once(book)
            assert run.outcome is RunOutcome.COMPLETED
    told = [r.getMessage() for r in caplog.records if "on this machine" in r.getMessage()]
    assert len(told) == 2
    assert "'miracle'" in told[0]
    assert "Mars/Olympus" in told[1]
    desk = TaskDesk(book, lambda one: None, Notices(), zone="UTC")
    with pytest.raises(TaskError, match=r"this machine cannot change it: .*'miracle'"):
        await desk.switch(replace(task("future"), obstacle="'miracle'"), CALLER, is_enabled=False)
