"""Works of tasks: what each kind does, and the parameters that it knows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import time
from typing import Final

import orjson

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.retention.fullness import Excess
from isocenter.services.archive.retention.ports import RetentionBook
from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.services.archive.retention.service import apply_once, look
from isocenter.services.archive.verification import verify
from isocenter.services.system.environment import environment_of_programs
from isocenter.services.system.programs import run_program
from isocenter.services.workflow.synchronization.options import SYNC_PARAMETERS, sync_options
from isocenter.services.workflow.tasks.runner import TaskReport, TaskWork
from isocenter.services.workflow.tasks.task import Task, TaskError, TaskKind

_MOST_DELETED: Final = 100
_DAYS: Final = ("study_days", "arrived_days", "unused_days")
_MOST_NUMBER: Final = 10**9
_YES: Final = {"yes": True, "true": True, "no": False, "false": False}
TASK_VARIABLE: Final = "ISOCENTER_TASK"

#: The parameters of each kind of task, and what each means.
PARAMETERS: Final[Mapping[TaskKind, Mapping[str, str]]] = {
    TaskKind.CLEANUP: {
        "modalities": "all of the study's are among these, separated by commas",
        "study_days": "Study Date is longer ago",
        "arrived_days": "its last object came longer ago",
        "unused_days": "nothing of it was retrieved for so long",
        "keep_newest": "except the newest so many studies of each patient",
        "disk_percent": "only while the disk is fuller than that",
        "although_promised": "yes: also what the archive has promised to keep",
        "most": f"studies of one run; {_MOST_DELETED} unless said otherwise",
    },
    TaskKind.VERIFICATION: {
        "checksums": "no: compare sizes only",
    },
    TaskKind.PROGRAM: {
        "program": "its name in schedules.programs of the settings",
    },
    TaskKind.PREFETCH: {},
    TaskKind.SYNC: SYNC_PARAMETERS,
    TaskKind.UNKNOWN: {},
}


class TaskFaultError(IsocenterError):
    """A task has done its work, and found faults; the message counts them."""

    error_code = ErrorCode.TASK


def check_parameters(task: Task, programs: Sequence[str]) -> None:
    """Raise `TaskError` where the parameters of a task are none.

    Args:
        programs: names of those that tasks may run.
    """
    known = PARAMETERS[task.kind]
    for name in task.parameters:
        if name not in known:
            names = ", ".join(known) or "none"
            raise TaskError(f"{task.kind.value} has no parameter {name[:64]!r}; there are: {names}")
    match task.kind:
        case TaskKind.CLEANUP:
            rule_of(task)
            _number(task, "most", _MOST_DELETED)
        case TaskKind.VERIFICATION:
            _flag(task, "checksums", otherwise=True)
        case TaskKind.PROGRAM:
            program = task.parameters.get("program", "")
            if program not in programs:
                names = ", ".join(programs) or "none"
                raise TaskError(
                    f"there is no program {program[:64]!r} in schedules.programs of the settings; "
                    f"there are: {names}"
                )
        case TaskKind.PREFETCH | TaskKind.UNKNOWN:
            pass
        case TaskKind.SYNC:
            sync_options(task.parameters)


def rule_of(task: Task) -> RetentionRule:
    """The rule that a cleanup keeps to.

    Raises:
        TaskError: the parameters are none.
    """
    modalities = task.parameters.get("modalities", "").upper().split(",")
    rule = RetentionRule(
        name=task.name,
        modalities=tuple(sorted({each.strip() for each in modalities if each.strip()})),
        study_days=_number(task, "study_days"),
        arrived_days=_number(task, "arrived_days"),
        unused_days=_number(task, "unused_days"),
        keep_newest=_number(task, "keep_newest"),
        disk_percent=_number(task, "disk_percent"),
        although_promised=_flag(task, "although_promised", otherwise=False),
    )
    if not any(getattr(rule, name) for name in _DAYS):
        raise TaskError(f"a cleanup needs one of {', '.join(_DAYS)}, or it would delete all")
    if rule.disk_percent > 99:
        raise TaskError("disk_percent is at most 99")
    return rule


def _number(task: Task, name: str, otherwise: int = 0) -> int:
    text = task.parameters.get(name, str(otherwise))
    if not (text.isascii() and text.isdecimal() and len(text) < 11 and int(text) <= _MOST_NUMBER):
        raise TaskError(f"{name} is a number")
    return int(text)


def _flag(task: Task, name: str, *, otherwise: bool) -> bool:
    text = task.parameters.get(name, "yes" if otherwise else "no").lower()
    if text not in _YES:
        raise TaskError(f"{name} is yes or no")
    return _YES[text]


class TaskWorks:
    """Does what tasks say.

    Args:
        trash: None: nothing can be deleted.
        argv_of: a program by its name; None: the settings name none.
        prefetch: looks at the worklist; how many jobs came of it.  None: nothing is prefetched.
        synchronize: as of `Synchronizer.run`; None: there are no remote nodes.
        now: seconds since 1970.
    """

    def __init__(
        self,
        archive: Archive,
        retention: RetentionBook,
        trash: Trash | None,
        excess: Excess,
        argv_of: Callable[[str], Sequence[str] | None],
        prefetch: Callable[[], Awaitable[int]] | None,
        synchronize: Callable[[Task, bool], Awaitable[str]] | None = None,
        *,
        now: Callable[[], float] = time,
    ) -> None:
        self._archive = archive
        self._retention = retention
        self._trash = trash
        self._excess = excess
        self._argv_of = argv_of
        self._prefetch = prefetch
        self._synchronize = synchronize
        self._now = now

    def by_kind(self) -> Mapping[TaskKind, TaskWork]:
        """What is possible here."""
        found: dict[TaskKind, TaskWork] = {
            TaskKind.VERIFICATION: self.verify,
            TaskKind.PROGRAM: self.run_program,
        }
        if self._trash is not None:
            found[TaskKind.CLEANUP] = self.clean_up
        if self._prefetch is not None:
            found[TaskKind.PREFETCH] = self.prefetch
        if self._synchronize is not None:
            found[TaskKind.SYNC] = self._synchronize
        return found

    async def clean_up(self, task: Task, is_dry: bool) -> str:
        """Delete studies that are past their time, into the trash."""
        assert self._trash is not None
        rule = rule_of(task)
        most = _number(task, "most", _MOST_DELETED)
        found = await look(
            rule, self._retention, self._trash, self._excess, self._now(), limit=most
        )
        kept = f"; {len(found.kept)} more stay" if found.kept else ""
        if is_dry:
            return (
                f"would delete {len(found.going)} studies, {found.instances} instances, "
                f"{found.size} bytes{kept}"
            )
        requester = Requester(name="isocenter")
        done = await apply_once(rule, found, self._trash, requester, f"task {task.name}")
        used = f"; {len(done.refused)} are in use" if done.refused else ""
        return f"deleted {done.instances} instances ({done.deletion_id or 'none'}){used}{kept}"

    async def verify(self, task: Task, is_dry: bool) -> str:
        """Compare index and objects."""
        if is_dry:
            count = (await self._archive.index.statistics()).instances
            return f"would read {count} instances"
        report = await verify(self._archive, checksums=_flag(task, "checksums", otherwise=True))
        text = f"{report.instances} instances, {report.objects} objects"
        if not report.is_good:
            raise TaskFaultError(f"{text}, and faults; isocenter db verify names them")
        return f"{text}, no fault"

    async def run_program(self, task: Task, is_dry: bool) -> TaskReport:
        """Run a program of the user, which reads the task as JSON from its standard input."""
        name = task.parameters.get("program", "")
        argv = self._argv_of(name)
        if argv is None:
            raise TaskError(f"there is no program {name[:64]!r} in schedules.programs any more")
        if is_dry:
            return TaskReport(f"would run {argv[0]}")
        data = orjson.dumps({"task": task.name, "description": task.description})
        said = await run_program(argv, data, environment_of_programs() | {TASK_VARIABLE: task.name})
        return TaskReport("it has ended well", said)

    async def prefetch(self, task: Task, is_dry: bool) -> str:
        """Look at the worklist now."""
        assert self._prefetch is not None
        if is_dry:
            return "would look at the worklist"
        return f"{await self._prefetch()} studies are asked for"
