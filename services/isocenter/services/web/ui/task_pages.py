"""Pages of tasks and of their runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.forms import read_fields
from isocenter.services.web.principal import caller_of
from isocenter.services.web.rest.tasks import check_may
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.web.ui.reasoned_forms import to, unavailable
from isocenter.services.workflow.tasks.desk import TaskDesk
from isocenter.services.workflow.tasks.schedule import FORMS, ScheduleError
from isocenter.services.workflow.tasks.task import TASK_KINDS, Task, TaskError, new_task
from isocenter.services.workflow.tasks.works import PARAMETERS

_ONE: Final = "/tasks/{task}"
_MOST_RUNS: Final = 100
_WORDS: Final = {
    "run": "Have a task run now.",
    "try": "Say what a task would do.",
    "cancel": "End what a task does right now.",
    "pause": "Have a task run only when somebody asks.",
    "resume": "Have a task run by its schedule again.",
    "remove": "Forget a task and its runs.",
}


class TaskPages:
    """Answers with tasks, takes new ones, and steers them."""

    def __init__(self, desk: TaskDesk, layout: Layout) -> None:
        self._desk = desk
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are, and their forms."""
        yield page("/tasks", "state", self.list, "Tasks, and when each runs next.")
        yield action("/tasks", "configure", self.add, "Add a task.")
        yield page(_ONE, "state", self.show, "One task, and its runs.")
        for word, text in _WORDS.items():
            yield action(f"{_ONE}/{word}", "configure", partial(self.steer, word), text)

    async def list(self, request: Request) -> Response:
        """The handler of the page."""
        return await self._list(request, "", {})

    async def add(self, request: Request) -> Response:
        """The handler of its form."""
        fields = await read_fields(request)
        try:
            task = new_task(
                fields.get("name", "").strip(),
                fields.get("kind", ""),
                fields.get("schedule", ""),
                zone=fields.get("zone", "").strip() or self._desk.zone,
                description=fields.get("description", "").strip(),
                parameters=_parameters(fields.get("parameters", "")),
                timeout=_seconds(fields.get("timeout", "")),
            )
            check_may(request, task)
            await self._desk.add(task, caller_of(request))
        except (TaskError, ScheduleError) as error:
            return await self._list(request, str(error), fields)
        except StorageError as error:
            raise unavailable() from error
        return to("/tasks")

    async def show(self, request: Request) -> Response:
        """The handler of the page of one task."""
        task = await self._named(request)
        try:
            runs = await self._desk.runs(task.name, limit=_MOST_RUNS)
        except StorageError as error:
            raise unavailable() from error
        return self._layout.page(request, "task.html", section="tasks", task=task, runs=runs)

    async def steer(self, word: str, request: Request) -> Response:
        """The handler of the buttons of a task."""
        task = await self._named(request)
        caller = caller_of(request)
        is_done = True
        try:
            if word in ("run", "resume"):
                check_may(request, task)
            match word:
                case "run" | "try":
                    is_done = await self._desk.ask(task, caller, is_dry=word == "try")
                case "cancel":
                    is_done = await self._desk.cancel(task, caller)
                case "remove":
                    await self._desk.remove(task, caller)
                case _:
                    await self._desk.switch(task, caller, is_enabled=word == "resume")
        except StorageError as error:
            raise unavailable() from error
        except TaskError as error:
            raise HttpError(409, "CONFLICT", str(error)) from error
        if not is_done:
            raise HttpError(409, "CONFLICT", "it is in no state for that any more")
        return to("/tasks" if word == "remove" else f"/tasks/{task.name}")

    async def _named(self, request: Request) -> Task:
        try:
            task = await self._desk.get(request.arguments["task"])
        except StorageError as error:
            raise unavailable() from error
        if task is None:
            raise HttpError(404, "NOT_FOUND", "there is no such task")
        return task

    async def _list(self, request: Request, fault: str, fields: Mapping[str, str]) -> Response:
        try:
            tasks = await self._desk.all()
        except StorageError as error:
            raise unavailable() from error
        return self._layout.page(
            request,
            "tasks.html",
            status=400 if fault else 200,
            section="tasks",
            tasks=tasks,
            kinds=[kind.value for kind in TASK_KINDS],
            forms=FORMS,
            parameters=[(kind.value, ", ".join(names)) for kind, names in PARAMETERS.items()],
            zone=self._desk.zone,
            fault=fault,
            fields=fields,
        )


def _parameters(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, equals, value = line.partition("=")
        if not equals:
            raise TaskError("a parameter is a line NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def _seconds(text: str) -> float:
    text = text.strip() or "0"
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise TaskError("a time is a number of seconds")
    return float(text)
