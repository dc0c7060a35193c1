"""Tasks and their runs as values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from enum import Enum
from types import MappingProxyType
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.workflow.tasks.schedule import Schedule, parse_schedule

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST_DESCRIPTION: Final = 500
_MOST_SECONDS: Final = 366 * 86_400.0
_MOST_RETRIES: Final = 100
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class TaskError(IsocenterError):
    """A task that is none, or cannot be changed so; the message says what to do."""

    error_code = ErrorCode.TASK


class TaskKind(Enum):
    """What a task does."""

    #: Delete studies that are past their time.
    CLEANUP = "cleanup"
    #: Compare index and objects, with their digests.
    VERIFICATION = "verification"
    #: Run a program that the settings name.
    PROGRAM = "program"
    #: Look at the worklist for patients whose priors are at other nodes.
    PREFETCH = "prefetch"
    #: Keep this archive and a remote node alike.
    SYNC = "sync"
    #: A newer version of this program, on another node, has it.
    UNKNOWN = "unknown"


#: Those that there are.
TASK_KINDS: Final = tuple(kind for kind in TaskKind if kind is not TaskKind.UNKNOWN)


class RunOutcome(Enum):
    """What became of a run."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    #: Its process died.
    INTERRUPTED = "interrupted"

    @property
    def has_failed(self) -> bool:
        """Whether it is tried again."""
        return self in (self.FAILED, self.TIMED_OUT, self.INTERRUPTED)


class RunCause(Enum):
    """Why a task runs."""

    SCHEDULE = "schedule"
    RETRY = "retry"
    #: Somebody asked for it.
    HAND = "hand"
    #: The same, to see what it would do.
    DRY_RUN = "dry run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task.  Times are seconds since 1970.

    Attributes:
        name: by which people call it; unique.
        parameters: what the kind of task needs to know.
        is_enabled: it runs by its schedule; else only when somebody asks.
        timeout: seconds after which a run is cancelled; 0: never.
        retries: how often a run that failed is tried again.
        retry_seconds: how long after.
        version: changes whenever the fields above do.
        next_at: when it runs next; None: not by its schedule.
        is_running: somebody works on it.
        is_asked: somebody has asked for it, and nobody has begun.
        obstacle: why it is neither due nor changed on this machine; other nodes may run it.
    """

    name: str
    kind: TaskKind
    schedule: Schedule
    description: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    is_enabled: bool = True
    timeout: float = 0.0
    retries: int = 0
    retry_seconds: float = 60.0
    version: int = 1
    next_at: float | None = None
    is_running: bool = False
    is_asked: bool = False
    obstacle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """One run of a task.

    Attributes:
        report: what came of it, in words, without patients.
        said: the last of what a program said, which may name patients.
    """

    number: int
    task: str
    cause: RunCause
    attempt: int
    started_at: float
    ended_at: float | None
    outcome: RunOutcome
    report: str
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedTask:
    """A task that is to be run now.

    Attributes:
        run: the number of its run.
    """

    task: Task
    run: int
    cause: RunCause
    attempt: int


def new_task(
    name: str,
    kind: str,
    schedule: str,
    *,
    zone: str,
    description: str = "",
    parameters: Mapping[str, str] = _NOTHING,
    timeout: float = 0.0,
    retries: int = 0,
    retry_seconds: float = 60.0,
) -> Task:
    """A task that people have described; its parameters are not looked at.

    Raises:
        TaskError, ScheduleError: it is none; the message says what it has to be.
    """
    if not _NAME.fullmatch(name):
        raise TaskError(
            "a name of a task has up to 64 letters, digits, '.', '_' and '-', and begins with a "
            "letter or a digit"
        )
    kinds = {each.value: each for each in TASK_KINDS}
    if kind not in kinds:
        raise TaskError(f"a task is one of {', '.join(kinds)}")
    if not 0.0 <= timeout <= _MOST_SECONDS or not 1.0 <= retry_seconds <= _MOST_SECONDS:
        raise TaskError("a time is a number of seconds up to a year")
    if not 0 <= retries <= _MOST_RETRIES:
        raise TaskError(f"a task is tried again at most {_MOST_RETRIES} times")
    if len(description) > _MOST_DESCRIPTION or not description.isprintable():
        raise TaskError(f"a description is one line of at most {_MOST_DESCRIPTION} characters")
    return Task(
        name=name,
        kind=kinds[kind],
        schedule=parse_schedule(schedule, zone),
        description=description,
        parameters=dict(parameters),
        timeout=timeout,
        retries=retries,
        retry_seconds=retry_seconds,
    )
