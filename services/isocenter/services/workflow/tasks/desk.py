"""Tasks as people and programs set them up, told with who did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from isocenter.services.notices import Caller, Notices, TasksChanged
from isocenter.services.workflow.tasks.ports import TaskBook
from isocenter.services.workflow.tasks.task import Task, TaskError, TaskRun


class TaskDesk:
    """Takes, shows and steers tasks.

    Args:
        check: raises `TaskError` where the parameters of a task are none.
        zone: of schedules that name none.
    """

    def __init__(
        self, book: TaskBook, check: Callable[[Task], None], notices: Notices, *, zone: str
    ) -> None:
        self._book = book
        self._check = check
        self._notices = notices
        self.zone = zone

    async def all(self) -> Sequence[Task]:
        """By name."""
        return await self._book.all()

    async def get(self, name: str) -> Task | None:
        """A task by its name."""
        return await self._book.get(name)

    async def runs(self, name: str = "", *, limit: int) -> Sequence[TaskRun]:
        """See `TaskBook.runs`."""
        return await self._book.runs(name, limit=limit)

    async def add(self, task: Task, caller: Caller) -> None:
        """Take a task.

        Raises:
            TaskError: its parameters are none, or there is one of its name.
        """
        self._check(task)
        if not await self._book.add(task):
            raise TaskError(f"there is a task {task.name!r} already; give another name")
        self._tell(caller, task, "was added")

    async def exchange(self, task: Task, caller: Caller) -> None:
        """Change what is said of a task.

        Raises:
            TaskError: its parameters are none, this machine cannot tell when it is due, or somebody
                else was quicker.
        """
        if task.obstacle:
            raise TaskError(f"this machine cannot change it: {task.obstacle}")
        self._check(task)
        if not await self._book.update(task):
            raise TaskError("it was changed or removed meanwhile; look at it again")
        self._tell(caller, task, "was changed")

    async def switch(self, task: Task, caller: Caller, *, is_enabled: bool) -> None:
        """Have it run by its schedule, or only when somebody asks.

        Raises:
            TaskError: somebody else was quicker.
        """
        await self.exchange(replace(task, is_enabled=is_enabled), caller)

    async def remove(self, task: Task, caller: Caller) -> None:
        """Forget a task and its runs; one that is under way is cancelled."""
        if await self._book.remove(task.name):
            self._tell(caller, task, "was removed")

    async def ask(self, task: Task, caller: Caller, *, is_dry: bool) -> bool:
        """Have it run now, or say what it would do; False: it is asked for already."""
        is_asked = await self._book.ask(task.name, is_dry=is_dry)
        if is_asked and not is_dry:
            self._tell(caller, task, "was asked for")
        return is_asked

    async def cancel(self, task: Task, caller: Caller) -> bool:
        """End the run that is under way; False: there is none."""
        is_cancelled = await self._book.cancel(task.name)
        if is_cancelled:
            self._tell(caller, task, "was cancelled")
        return is_cancelled

    def _tell(self, caller: Caller, task: Task, what: str) -> None:
        text = f"task {task.name} {what}: {task.kind.value}, {task.schedule.text}"
        self._notices.publish(TasksChanged(caller=caller, what=text))
