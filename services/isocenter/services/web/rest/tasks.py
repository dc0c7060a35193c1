"""Tasks in the API: kinds, schedules and runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

import msgspec

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.notices import Caller
from isocenter.services.web.principal import caller_of, what_may
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import changing, moment, not_found
from isocenter.services.workflow.synchronization.comparison import Resolution
from isocenter.services.workflow.synchronization.options import sync_options
from isocenter.services.workflow.tasks.desk import TaskDesk
from isocenter.services.workflow.tasks.schedule import ScheduleError
from isocenter.services.workflow.tasks.task import Task, TaskError, TaskKind, new_task

_SERVICE: Final = "Tasks"
_ONE: Final = "/tasks/{task}"
_MOST_RUNS: Final = 100
_CONFLICT: Final = Answer(409, "It is in no state for that, or somebody else was quicker.")


class TaskDescribed(Body):
    """What a task does, and when; `zone`: empty: that of the settings; `name`: of a new task."""

    kind: str
    schedule: str
    name: str = ""
    zone: str = ""
    description: str = ""
    parameters: dict[str, str] = msgspec.field(default_factory=dict)
    enabled: bool = True
    timeout: float = 0.0
    retries: int = 0
    retry_after: float = 60.0


class TaskShown(Body):
    """A task; `next`: when it runs by its schedule; `obstacle`: why it does not on this node."""

    name: str
    kind: str
    schedule: str
    zone: str
    description: str
    parameters: dict[str, str]
    enabled: bool
    timeout: float
    retries: int
    retry_after: float
    next: str | None
    is_running: bool
    obstacle: str


class TaskList(Body):
    """Tasks, by name."""

    tasks: list[TaskShown]


class RunShown(Body):
    """One run of a task; `cause`: schedule, retry, hand or dry run; `said`: the last of what a
    program said, for those who may search for patients, since it may name some."""

    task: str
    cause: str
    attempt: int
    started: str | None
    ended: str | None
    outcome: str
    report: str
    said: str


class RunList(Body):
    """Runs, the latest first."""

    runs: list[RunShown]


class RunAsked(Body):
    """`dry_run`: only say what it would do."""

    dry_run: bool = False


class TaskApi:
    """Answers with tasks, takes new ones, and steers them."""

    def __init__(self, desk: TaskDesk) -> None:
        self._desk = desk

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/tasks", self.list, "Tasks, by name.",
            name="ListTasks", service=_SERVICE, needs="state", gives=TaskList,
        )  # fmt: skip
        yield endpoint(
            "POST", "/tasks", self.add, "Add a task.",
            name="AddTask", service=_SERVICE, needs="configure", takes=TaskDescribed,
            gives=TaskShown,
            answers=(ok("It is added.", status=201), Answer(409, "There is one of that name.")),
        )  # fmt: skip
        yield endpoint(
            "GET", _ONE, self.show, "One task.",
            name="GetTask", service=_SERVICE, needs="state", gives=TaskShown,
        )  # fmt: skip
        yield endpoint(
            "PUT", _ONE, self.exchange, "Change what is said of a task.",
            name="ChangeTask", service=_SERVICE, needs="configure", takes=TaskDescribed,
            gives=TaskShown, answers=(_CONFLICT,),
        )  # fmt: skip
        yield endpoint(
            "DELETE", _ONE, self.remove, "Forget a task and its runs.",
            name="RemoveTask", service=_SERVICE, needs="configure",
        )  # fmt: skip
        yield endpoint(
            "GET", f"{_ONE}/runs", self.runs, "The last runs of a task, the latest first.",
            name="ListTaskRuns", service=_SERVICE, needs="state", gives=RunList,
        )  # fmt: skip
        yield endpoint(
            "POST", f"{_ONE}/run", self.run, "Have a task run now, or say what it would do.",
            name="RunTask", service=_SERVICE, needs="configure", takes=RunAsked,
            answers=(ok("It runs.", status=202), _CONFLICT),
        )  # fmt: skip
        yield endpoint(
            "POST", f"{_ONE}/cancel", self.cancel, "End what a task does right now.",
            name="CancelTask", service=_SERVICE, needs="configure", answers=(_CONFLICT,),
        )  # fmt: skip
        for is_enabled, word, text in (
            (False, "pause", "Have a task run only when somebody asks."),
            (True, "resume", "Have a task run by its schedule again."),
        ):
            yield endpoint(
                "POST", f"{_ONE}/{word}", partial(self._switch, is_enabled), text,
                name=f"{word.title()}Task", service=_SERVICE, needs="configure",
                answers=(_CONFLICT,),
            )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            found = await self._desk.all()
        return answer(TaskList(tasks=[_shown(task) for task in found]))

    async def add(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, TaskDescribed)
        task = self._described(body.name, body)
        _check_may(request, task)
        async with changing():
            if await self._desk.get(task.name) is not None:
                raise HttpError(409, "CONFLICT", f"there is a task {task.name!r} already")
            await self._say(self._desk.add, task, request)
            return answer(_shown(await self._named(task.name)), 201)

    async def show(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            return answer(_shown(await self._named(request.arguments["task"])))

    async def exchange(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, TaskDescribed)
        async with changing():
            known = await self._named(request.arguments["task"])
            task = replace(self._described(known.name, body), version=known.version)
            _check_may(request, task)
            await self._say(self._desk.exchange, task, request)
            return answer(_shown(await self._named(task.name)))

    async def remove(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            task = await self._named(request.arguments["task"])
            await self._desk.remove(task, caller_of(request))
        return Response(status=204)

    async def runs(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            task = await self._named(request.arguments["task"])
            found = await self._desk.runs(task.name, limit=_MOST_RUNS)
        may_search = "search" in what_may(request.caller)
        return answer(
            RunList(
                runs=[
                    RunShown(
                        task=run.task,
                        cause=run.cause.value,
                        attempt=run.attempt,
                        started=moment(run.started_at),
                        ended=moment(run.ended_at),
                        outcome=run.outcome.value,
                        report=run.report,
                        said=run.said if may_search else "",
                    )
                    for run in found
                ]
            )
        )

    async def run(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, RunAsked)
        async with changing():
            task = await self._named(request.arguments["task"])
            if not body.dry_run:
                _check_may(request, task)
            is_done = await self._desk.ask(task, caller_of(request), is_dry=body.dry_run)
        if not is_done:
            raise HttpError(409, "CONFLICT", "it is asked for already")
        return Response(status=202)

    async def cancel(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            task = await self._named(request.arguments["task"])
            is_done = await self._desk.cancel(task, caller_of(request))
        if not is_done:
            raise HttpError(409, "CONFLICT", "it does nothing right now")
        return Response(status=204)

    async def _switch(self, is_enabled: bool, request: Request) -> Response:
        async with changing():
            task = await self._named(request.arguments["task"])
            if is_enabled:
                _check_may(request, task)
            change = partial(self._desk.switch, is_enabled=is_enabled)
            await self._say(change, task, request)
        return Response(status=204)

    async def _say(
        self, change: Callable[[Task, Caller], Awaitable[None]], task: Task, request: Request
    ) -> None:
        try:
            await change(task, caller_of(request))
        except TaskError as error:
            raise HttpError(400, "INVALID_REQUEST", str(error)) from error

    def _described(self, name: str, body: TaskDescribed) -> Task:
        try:
            task = new_task(
                name,
                body.kind,
                body.schedule,
                zone=body.zone or self._desk.zone,
                description=body.description,
                parameters=body.parameters,
                timeout=body.timeout,
                retries=body.retries,
                retry_seconds=body.retry_after,
            )
        except (TaskError, ScheduleError) as error:
            raise HttpError(400, "INVALID_REQUEST", str(error)) from error
        return replace(task, is_enabled=body.enabled)

    async def _named(self, name: str) -> Task:
        task = await self._desk.get(name)
        if task is None:
            raise not_found("task")
        return task


def check_may(request: Request, task: Task) -> None:
    """Whether a caller may do themselves what a task does: else `configure` were all of them.

    Raises:
        HttpError: they may not (403).
        TaskError: the parameters of the task are none.
    """
    lacking = _needs_of(task) - what_may(request.caller)
    if lacking:
        words = ", ".join(sorted(lacking))
        raise HttpError(403, "NOT_ALLOWED", f"the policy does not give what the task does: {words}")


def _check_may(request: Request, task: Task) -> None:
    try:
        check_may(request, task)
    except TaskError as error:
        raise HttpError(400, "INVALID_REQUEST", str(error)) from error


def _needs_of(task: Task) -> frozenset[str]:
    """What a route would need that did the same, beside `configure`."""
    if task.kind is TaskKind.CLEANUP:
        return frozenset({"delete"})
    if task.kind is not TaskKind.SYNC:
        return frozenset()
    options = sync_options(task.parameters)
    needs = {
        "write": options.direction.pulls,
        "export": options.direction.pushes,
        # To overwrite what one of both has is to delete it.
        "delete": options.deletes
        or options.resolution is Resolution.REMOTE
        or (options.resolution is Resolution.LOCAL and options.direction.pushes),
    }
    return frozenset(need for need, is_needed in needs.items() if is_needed)


def _shown(task: Task) -> TaskShown:
    return TaskShown(
        name=task.name,
        kind=task.kind.value,
        schedule=task.schedule.text,
        zone=task.schedule.zone,
        description=task.description,
        parameters=dict(task.parameters),
        enabled=task.is_enabled,
        timeout=task.timeout,
        retries=task.retries,
        retry_after=task.retry_seconds,
        next=moment(task.next_at) if task.is_enabled else None,
        is_running=task.is_running,
        obstacle=task.obstacle,
    )
