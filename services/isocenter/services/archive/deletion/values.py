"""Requests to the trash and their results, as values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field
from enum import Enum

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.archive.deletion.ports import Obstacles
from isocenter.services.archive.deletion.records import DeletedStudy, DeletionCause
from isocenter.services.archive.selection import Selection


class NotPermittedError(IsocenterError):
    """Whoever asked may not delete, export or correct."""

    error_code = ErrorCode.PERMISSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """Who has something deleted, restored, removed for good, exported or corrected.

    Attributes:
        name: for the audit trail.
        may_delete: whether a policy, where one is asked, gives ``study:delete``; whoever may
            write the data directory needs no other.
        may_export: the same of ``study:export``; whoever may read the data directory needs none.
        may_correct: the same of ``study:write`` and ``metadata:write``.
    """

    name: str
    may_delete: bool = True
    may_export: bool = True
    may_correct: bool = True

    def check(self) -> None:
        """Raises:
        NotPermittedError: ``study:delete`` is lacking.
        """
        if not self.may_delete:
            raise NotPermittedError(f"{self.name} lacks study:delete")

    def check_export(self) -> None:
        """Raises:
        NotPermittedError: ``study:export`` is lacking.
        """
        if not self.may_export:
            raise NotPermittedError(f"{self.name} lacks study:export")

    def check_correction(self) -> None:
        """Raises:
        NotPermittedError: ``study:write`` or ``metadata:write`` is lacking.
        """
        if not self.may_correct:
            raise NotPermittedError(f"{self.name} lacks study:write or metadata:write")


class TrashChange(Enum):
    """What became of objects."""

    DELETED = "deleted"
    RESTORED = "restored"
    PURGED = "purged"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashChanged:
    """What is to be said of some objects of one study in the audit trail."""

    what: TrashChange
    study: DeletedStudy
    cause: DeletionCause
    actor: str
    reason: str
    deletion_id: str


#: Has it recorded; what it raises keeps the objects in their state, to be told of again.
Recorder = Callable[[Sequence[TrashChanged]], Awaitable[None]]


async def record_nothing(happened: Sequence[TrashChanged]) -> None:
    """For archives without an audit trail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Selection):
    """What a deletion would take, study by study."""

    obstacles: Obstacles


@dataclass(slots=True)
class Deleted:
    """What became of a plan.

    Attributes:
        deletion_id: for `TrashChoice`; empty: nothing was deleted.
        changed: instances that were not what the plan says any more; they stay.
        refused: Study Instance UIDs of those that were passed over.
    """

    deletion_id: str = ""
    instances: int = 0
    changed: int = 0
    refused: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Restored:
    """What became of objects that were to be restored.

    Attributes:
        there: SOP Instance UIDs that the archive has again; what is in the trash stays there.
        damaged: those whose file is gone, or is not what was stored.
    """

    instances: int = 0
    there: CountedFindings = field(default_factory=CountedFindings)
    damaged: CountedFindings = field(default_factory=CountedFindings)


@dataclass(slots=True)
class Adopted:
    """What was found in the folder of the trash.

    Attributes:
        instances: that the book did not know.
        damaged: files that are no objects.
    """

    instances: int = 0
    damaged: CountedFindings = field(default_factory=CountedFindings)
