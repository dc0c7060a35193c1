"""Jobs, their objects, and how far they are.

::

    waiting ──► running ──► completed
      │  ▲         ├──────► failed      some objects did not arrive, or nothing went
      ▼  │         ├──────► cancelled
    paused ◄───────┘
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import Level
from isocenter.services.dicom.attribute_path import parse_attribute_path


class JobKind(Enum):
    """What a job does."""

    #: Have studies of a node here.
    RETRIEVE = "retrieve"
    #: Have studies from here at a node.
    SEND = "send"


class JobState(Enum):
    """How far a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in _FINAL


_FINAL: Final = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class JobPriority(IntEnum):
    """Which job comes first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    URGENT = 3


class ItemState(Enum):
    """What became of one object of a job."""

    DUE = "due"
    DONE = "done"
    #: It was there already.
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What somebody wants to have done.

    Attributes:
        node: the name of the node that it is about.
        keys: which studies: attribute and value of a query at *level*; none: all of them.
        again: objects that are there already as well.
        requested_by: who wants it, for those who read the list.
    """

    kind: JobKind
    node: str
    keys: tuple[tuple[str, str], ...] = ()
    priority: JobPriority = JobPriority.NORMAL
    again: bool = False
    requested_by: str = ""

    def check(self) -> None:
        """Raise `KeySyntaxError` where a key is none."""
        for name, _ in self.keys:
            parse_attribute_path(name)

    @property
    def level(self) -> Level:
        """Of the query."""
        return Level.STUDY


@dataclass(frozen=True, slots=True, kw_only=True)
class JobItem:
    """One object of a job."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    state: ItemState = ItemState.DUE
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """How many objects, and what they amount to.

    Attributes:
        total: None: not known yet.
        size: bytes of those that are done.
    """

    total: int | None = None
    done: int = 0
    skipped: int = 0
    failed: int = 0
    size: int = 0

    @property
    def ended(self) -> int:
        return self.done + self.skipped + self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it stands.  Times are seconds since 1970.

    Attributes:
        number: by which the database calls it.
        job_id: by which everybody else does, 32 hexadecimal digits.
        attempts: how often it was begun, since it was asked for.
        claim: how often it was begun at all: whoever has an earlier one has no say any more.
        since: when it was asked for, or asked for again.
        wish: what somebody wants a running job to do: ``pause``, ``cancel``, or nothing.
    """

    number: int
    job_id: str
    request: JobRequest
    state: JobState
    progress: JobProgress
    attempts: int
    claim: int
    created_at: float
    since: float
    due_at: float
    started_at: float | None
    ended_at: float | None
    last_fault: str
    wish: str = ""
