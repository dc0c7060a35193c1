"""Runner of tasks, which claims what is due and runs it within its time."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Final, NamedTuple

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import StorageError
from isocenter.services.system.programs import ProgramError
from isocenter.services.workflow.tasks.ports import TaskBook
from isocenter.services.workflow.tasks.task import (
    ClaimedTask,
    RunCause,
    RunOutcome,
    Task,
    TaskKind,
)

log = logging.getLogger("isocenter.tasks")

#: How often the database is asked for what became due.
LOOK_SECONDS: Final = 2.0
#: How long a claim holds; it is renewed long before.
CLAIM_SECONDS: Final = 60.0
#: How often it is renewed, and looked whether somebody wants it to end.
_RENEW_SECONDS: Final = 2.0
_PURGE_SECONDS: Final = 3_600.0
#: How often it is looked for tasks that cannot run here.
_OBSTACLES_SECONDS: Final = 60.0
_GOODBYE_SECONDS: Final = 2.0


class TaskReport(NamedTuple):
    """What came of a task.

    Attributes:
        text: in words, without patients.
        said: the last of what a program said, which may name patients.
    """

    text: str
    said: str = ""


#: Does what a task says, or says what it would do; what came of it, in words without patients.
TaskWork = Callable[[Task, bool], Awaitable[str | TaskReport]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """How tasks are run.

    Attributes:
        at_once: of one process.
        keep_seconds: for how long a run is remembered.
    """

    at_once: int = 4
    keep_seconds: float = 90 * 86_400.0


class TaskRunner:
    """Runs tasks; `run` does it as long as the server does.

    Args:
        works: by kind; what is not there is not possible here.
        now: seconds since 1970.
    """

    def __init__(
        self,
        book: TaskBook,
        works: Mapping[TaskKind, TaskWork],
        options: TaskOptions,
        *,
        now: Callable[[], float],
    ) -> None:
        self._book = book
        self._works = works
        self._options = options
        self._now = now
        self._name = secrets.token_hex(8)
        self._running: dict[int, trio.CancelScope] = {}
        #: Runs that are not ours any more, or are not to go on.
        self._unwanted: set[int] = set()
        #: What came of runs, and could not be written down yet.
        self._unsaid: dict[int, tuple[RunOutcome, TaskReport]] = {}
        #: Why tasks cannot run here, by their names, as it was told last.
        self._obstacles: Mapping[str, str] = {}

    async def run(self) -> None:
        """Until cancelled."""
        purge_at = obstacles_at = -inf
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew)
            while True:
                try:
                    if trio.current_time() >= purge_at:
                        purge_at = trio.current_time() + _PURGE_SECONDS
                        await self._book.purge(self._now() - self._options.keep_seconds)
                    if trio.current_time() >= obstacles_at:
                        obstacles_at = trio.current_time() + _OBSTACLES_SECONDS
                        await self._tell_obstacles()
                    while len(self._running) < self._options.at_once:
                        until = trio.current_time() + CLAIM_SECONDS
                        claimed = await self._book.claim(self._name, CLAIM_SECONDS)
                        if claimed is None:
                            break
                        self._running[claimed.run] = trio.CancelScope(deadline=until)
                        nursery.start_soon(self._work_on, claimed)
                except StorageError as error:
                    log.error("tasks have to wait: %s", error)
                except Exception as error:
                    # A fault of ours, and no reason for the server to end.
                    log.error("tasks have to wait: internal error (%s)", type(error).__name__)
                await trio.sleep(LOOK_SECONDS)

    async def _tell_obstacles(self) -> None:
        """Each once, until it is another one."""
        found = {
            task.name: task.obstacle
            for task in await self._book.all()
            if task.is_enabled and task.obstacle
        }
        for name, obstacle in found.items():
            if self._obstacles.get(name) != obstacle:
                log.error("task %s does not run on this machine: %s", name, obstacle)
        self._obstacles = found

    async def _work_on(self, claimed: ClaimedTask) -> None:
        name = claimed.task.name
        scope = self._running[claimed.run]
        try:
            with scope:
                outcome, report = await self._attempt(claimed)
            if scope.cancelled_caught and claimed.run in self._unwanted:
                outcome, report = RunOutcome.CANCELLED, TaskReport("somebody has cancelled it")
            elif scope.cancelled_caught:  # by its deadline: others may run it by now
                outcome, report = RunOutcome.INTERRUPTED, TaskReport("the database did not answer")
            level = logging.WARNING if outcome.has_failed else logging.INFO
            log.log(level, "task %s: %s: %s", name, outcome.value, report.text)
            # Until it is written down the run is ours: nobody does it once more.
            self._unsaid[claimed.run] = outcome, report
            await self._say(claimed.run)
        except StorageError as error:
            log.error("what became of task %s is written down later: %s", name, error)
        except Exception as error:
            # A fault of ours, and no reason for the server to end.
            log.error("task %s: internal error (%s)", name, type(error).__name__)
        except trio.Cancelled:
            with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
                await self._interrupt(claimed)
            raise
        finally:
            del self._running[claimed.run]
            self._unwanted.discard(claimed.run)

    async def _say(self, run: int) -> None:
        outcome, report = self._unsaid[run]
        await self._book.end(run, outcome, report.text, report.said)
        self._unsaid.pop(run, None)

    async def _interrupt(self, claimed: ClaimedTask) -> None:
        try:
            await self._book.end(claimed.run, RunOutcome.INTERRUPTED, "the server was stopped")
        except StorageError as error:
            log.error("task %s is interrupted: %s", claimed.task.name, error)

    async def _attempt(self, claimed: ClaimedTask) -> tuple[RunOutcome, TaskReport]:
        task = claimed.task
        work = self._works.get(task.kind)
        if work is None:
            return RunOutcome.FAILED, TaskReport(f"this archive does no {task.kind.value}")
        try:
            with trio.move_on_after(task.timeout or inf) as scope:
                done = await work(task, claimed.cause is RunCause.DRY_RUN)
        except ProgramError as error:
            return RunOutcome.FAILED, TaskReport(str(error), error.said)
        except (IsocenterError, OSError) as error:
            return RunOutcome.FAILED, TaskReport(str(error))
        except Exception as error:
            # A fault of ours, and no reason for the server to end; its text may name a patient.
            return RunOutcome.FAILED, TaskReport(f"internal error ({type(error).__name__})")
        if scope.cancelled_caught:
            return RunOutcome.TIMED_OUT, TaskReport(f"it took longer than {task.timeout:g} s")
        return RunOutcome.COMPLETED, TaskReport(done) if isinstance(done, str) else done

    async def _renew(self) -> None:
        while True:
            await trio.sleep(_RENEW_SECONDS)
            # What is claimed meanwhile is not in the answer.
            running = list(self._running.items())
            if not running and not self._unsaid:
                continue
            until = trio.current_time() + CLAIM_SECONDS
            try:
                going_on = await self._book.renew(self._name, CLAIM_SECONDS)
                for run in self._unsaid.keys() - self._running.keys():
                    await self._say(run)
            except StorageError as error:
                log.error("tasks may run twice: %s", error)
                continue
            except Exception as error:
                # A fault of ours, and no reason for the server to end.
                log.error("tasks may run twice: internal error (%s)", type(error).__name__)
                continue
            for run, scope in running:
                if run in going_on:
                    scope.deadline = until
                elif self._running.get(run) is scope:
                    self._unwanted.add(run)
                    scope.cancel()
