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
from isocenter.services.workflow.jobs.asker import Asker


class JobKind(Enum):
    """What a job does."""

    #: Have studies of a node here.
    RETRIEVE = "retrieve"
    #: Have studies from here at a node.
    SEND = "send"
    #: Compare objects here with their digests.
    VERIFY = "verify"
    #: Write studies to a folder of this machine.
    EXPORT = "export"
    #: Take in files of a folder, a ZIP or a file-set of this machine.
    IMPORT = "import"
    #: Have objects here kept in a smaller lossless transfer syntax.
    COMPRESS = "compress"
    #: Ask a node which studies it has, and keep the answer.
    QUERY = "query"
    #: Have the manifest of a study in a repository, or have it there no more.
    PUBLISH = "publish"
    #: Have the study of a manifest here, from its imaging document source.
    FETCH = "fetch"
    #: Have at a destination what rules have queued for it.
    FORWARD = "forward"
    #: Have a series analysed by an AI service.
    ANALYSE = "analyse"
    #: A newer version of this program, on another node, has it.
    UNKNOWN = "unknown"

    @property
    def is_local(self) -> bool:
        """Whether it asks no node."""
        return self in (
            self.VERIFY,
            self.EXPORT,
            self.IMPORT,
            self.COMPRESS,
            self.ANALYSE,
            self.PUBLISH,
            self.FETCH,
        )

    @property
    def is_of_one_node(self) -> bool:
        """Whether only the node of this archive can do it at which it was asked for: what it is
        about lies in a folder there."""
        return self is self.IMPORT

    @property
    def is_standing(self) -> bool:
        """Whether nobody asks for it: a destination has one such job, which begins anew whenever
        something is queued for it, and is held where the destination is."""
        return self is self.FORWARD


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
        node: the name of the node that it is about, or ``ai:`` and that of an AI service, or
            ``repository:`` and that of a repository; empty: of none.
        keys: which studies: attribute and value of a query at *level*; none: all of them.
        again: objects that are there already as well.
        detail: of an import the folder or file, of compression the keyword of the transfer syntax,
            of a fetch the manifest and the OID of the repository that has it.
        requested_by: who wants it, for those who read the list.
        asker: by what the policy knows that one; None: it is nobody whom the policy knows.
        host: the node of this archive that alone can do it; empty: any of them.
    """

    kind: JobKind
    node: str
    keys: tuple[tuple[str, str], ...] = ()
    priority: JobPriority = JobPriority.NORMAL
    again: bool = False
    detail: str = ""
    requested_by: str = ""
    asker: Asker | None = None
    host: str = ""

    def check(self) -> None:
        """Raise `KeySyntaxError` where a key is none."""
        for name, _ in self.keys:
            parse_attribute_path(name)

    @property
    def what(self) -> str:
        """What of the node, or of the archive, for people."""
        if self.kind.is_standing:
            return "what rules have queued"
        if self.kind is JobKind.IMPORT:
            return self.detail
        keys = " ".join(f"{name}={value}" for name, value in self.keys)
        return " ".join(filter(None, (keys or "everything", self.detail)))

    @property
    def level(self) -> Level:
        """Of the query: studies, or single objects of those that are to be sent."""
        names = {name for name, _ in self.keys}
        return Level.IMAGE if "SOPInstanceUID" in names else Level.STUDY


@dataclass(frozen=True, slots=True, kw_only=True)
class JobItem:
    """One object of a job; of an import one file, whose name stands in place of the SOP Instance
    UID."""

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

    def why_not(self, what: str) -> str:
        """Why *what* cannot be done with it."""
        if self.request.kind.is_standing:
            return (
                f"it sends what rules have queued for {self.request.node}: it cannot {what}; hold "
                "the destination (isocenter node hold), or see isocenter queue"
            )
        return f"the job is {self.state.value}: it cannot {what}"
