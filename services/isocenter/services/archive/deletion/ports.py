"""The trash, as values and as the ports behind which it is kept.

A deletion takes objects out of the index in one transaction: from then on nobody finds them, gets
them or is promised them.  Their files follow into the trash, where they stay as they are until
somebody restores them or their time is over.  One record for each object::

    leaving ──► kept ──► purging ──► gone
                │  ▲
                ▼  │ (it cannot be restored, or a crash came)
             returning ──► returned ──► gone from the trash

Each arrow is one transaction.  What is to be done to files, and to be said in the audit trail,
follows from the state alone, and may be done once more: whoever comes next, after a crash or
beside a command that was killed, brings to its end what is not ``kept``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from enum import Enum
from typing import Final, Protocol

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.ports import InstanceRecord, StoredInstance
from isocenter.services.dicom.object_reader import ObjectReader

#: Causes of what lies in the trash until its time is over.
OF_TRASH: Final = tuple(cause for cause in DeletionCause if not cause.withholds)
#: All that there are.
OF_ANY_CAUSE: Final = tuple(DeletionCause)
#: When the time of what is withheld is over: the last second that dates can say.
NEVER: Final = 253_402_300_799.0


class TrashState(Enum):
    """Where a deleted object is on its way."""

    #: The index has it no more; its file is yet to be moved.
    LEAVING = "leaving"
    KEPT = "kept"
    #: Its file is on its way back; the index is yet to take it up.
    RETURNING = "returning"
    #: The index has it again; the name in the trash is yet to go.
    RETURNED = "returned"
    #: Its file is yet to be removed for good.
    PURGING = "purging"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionRecord:
    """Who deleted something, when and why.

    Attributes:
        at, purge_at: seconds since 1970; from *purge_at* on it may be removed for good.
    """

    deletion_id: str
    cause: DeletionCause
    at: float
    purge_at: float
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashedInstance:
    """A deleted object.

    Attributes:
        number: of its record.
        stored: as the index had it.
        remaining: objects of its study that were left when it was deleted.
        target_key: of one that returns, where it goes.
        at, purge_at: as of its `DeletionRecord`.
        actor: who has it deleted, restored or purged.
    """

    number: int
    deletion_id: str
    state: TrashState
    stored: StoredInstance
    remaining: int
    target_key: str
    cause: DeletionCause
    at: float
    purge_at: float
    actor: str
    reason: str
    patient_id: str = field(repr=False)
    patient_name: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacles:
    """Why instances are not to be deleted: how many instances each of these is about.

    Attributes:
        held: their study is held; that cannot be overruled.
        locked: their study is read or changed right now; that cannot be overruled.
        asked: storage commitment is being decided right now; that cannot be overruled.
        promised: somebody was promised that they are kept (PS3.4 Annex J).
        queued: they have yet to reach a destination.
        away: nobody can reach where they are; that cannot be overruled.
    """

    held: int = 0
    asked: int = 0
    promised: int = 0
    queued: int = 0
    locked: int = 0
    away: int = 0

    def __bool__(self) -> bool:
        return any((self.held, self.asked, self.promised, self.queued, self.locked, self.away))

    def forbid(self, *, overrule: bool) -> bool:
        """Whether nothing may be deleted."""
        return bool(self.held or self.asked or self.locked or self.away) or (
            bool(self) and not overrule
        )

    def forbid_withholding(self) -> bool:
        """Whether nothing may be withheld: what is, is kept, and may be held or promised."""
        return bool(self.asked or self.locked or self.away)

    def texts(self) -> list[str]:
        """In words, one for each kind."""
        kinds = (
            (self.held, "of studies that are held (isocenter hold list)"),
            (self.asked, "for which storage commitment is being decided right now"),
            (self.promised, "that this archive has promised to keep (storage commitment)"),
            (self.locked, "of studies that are in use right now (isocenter lock list)"),
            (self.away, "in a storage tier that is not connected"),
            (self.queued, "that have yet to reach a destination (isocenter queue list)"),
        )
        return [f"{count} {text}" for count, text in kinds if count]


class DeletionRefusedError(IsocenterError):
    """Nothing was deleted, because of *obstacles*.

    Args:
        holder: who has a study that is locked.
    """

    error_code = ErrorCode.DELETION

    def __init__(self, obstacles: Obstacles, holder: str = "") -> None:
        text = "there are instances: " + "; ".join(obstacles.texts())
        super().__init__(f"{text}: {holder}" if holder else text)
        self.obstacles = obstacles


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionSummary:
    """A deletion, and what of it is in the trash now.  *size* in bytes of Part 10 files."""

    deletion: DeletionRecord
    studies: int
    series: int
    instances: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashStatistics:
    """What is in the trash; *deleted* and *deleted_size* count all that ever came there.

    Attributes:
        instances, size: with what is withheld.
        quarantined, rejected: instances that are withheld.
        purgeable_size: bytes of what is not.
    """

    instances: int
    size: int
    deleted: int
    deleted_size: int
    quarantined: int = 0
    rejected: int = 0
    purgeable_size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashChoice:
    """Which deleted objects are meant; what is empty leaves that open.

    Attributes:
        causes: why they left the archive; what is withheld is in no trash.
        expired_at: those whose time was over then; None: all.
        unless_held: without those of studies that are held.
    """

    deletion_ids: tuple[str, ...] = ()
    study_instance_uids: tuple[str, ...] = ()
    sop_instance_uids: tuple[str, ...] = ()
    causes: tuple[DeletionCause, ...] = OF_TRASH
    expired_at: float | None = None
    unless_held: bool = False


@dataclass(frozen=True, slots=True)
class TrashContent:
    """Files of one deletion, some at a time; *manifest*: what `TrashFiles.begin` was given."""

    deletion_id: str
    manifest: bytes
    keys: tuple[str, ...]


class TrashBook(Protocol):
    """Keeps the records of deleted objects.  Failures are `StorageError`."""

    async def obstacles(self, instances: Sequence[StoredInstance]) -> Obstacles:
        """What is against deleting them."""
        ...

    async def take(
        self, deletion: DeletionRecord, instances: Sequence[StoredInstance], *, overrule: bool
    ) -> int:
        """Take instances out of the index, in one transaction; how many.

        Left out is what has changed: an instance that is not there any more, or whose place
        another object has taken.  What was yet to be sent of them is given up.

        Raises:
            DeletionRefusedError: something is against it, and nothing was changed.
        """
        ...

    async def unfinished(self, limit: int) -> Sequence[TrashedInstance]:
        """Records that are not `TrashState.KEPT`, in the order of their numbers."""
        ...

    async def chosen(
        self, choice: TrashChoice, *, after: int = 0, limit: int
    ) -> Sequence[TrashedInstance]:
        """Records that are `TrashState.KEPT`, in the order of their numbers, behind *after*."""
        ...

    async def purge(self, numbers: Sequence[int], actor: str) -> None:
        """What is kept is to be removed for good."""
        ...

    async def discard(self, deletion: DeletionRecord) -> int:
        """What was withheld by a deletion of this ID is deleted, by *deletion*; how many
        instances.  They are on their way once more.

        Raises:
            DeletionRefusedError: a study is held, or was promised; nothing was changed.
        """
        ...

    async def begin_return(self, targets: Mapping[int, str], actor: str) -> None:
        """What is kept goes back, each to its key."""
        ...

    async def give_back(self, records: Mapping[int, InstanceRecord]) -> Sequence[int]:
        """Have the index take up, in one transaction, what returns; the numbers of those that
        it took.  The others are there already, with another object."""
        ...

    async def settle(self, numbers: Sequence[int]) -> None:
        """They are kept now."""
        ...

    async def forget(self, numbers: Sequence[int]) -> Sequence[str]:
        """They are gone; the deletions of which nothing is left."""
        ...

    async def adopt(self, deletion: DeletionRecord, records: Sequence[InstanceRecord]) -> int:
        """Take up files of the trash that the book does not know; how many were new."""
        ...

    async def rows(self, causes: Sequence[DeletionCause] = OF_TRASH) -> Sequence[DeletionSummary]:
        """Deletions of these causes of which something is there, the latest first."""
        ...

    async def statistics(self) -> TrashStatistics: ...


class TrashFiles(Protocol):
    """Keeps the files of deleted objects.  Failures are `StorageError`.

    All but `open` and `contents` are for whoever is within `locked`.
    """

    def locked(self) -> AbstractAsyncContextManager[None]:
        """Of all tasks and processes one."""
        ...

    async def begin(self, deletion_id: str, manifest: bytes) -> None:
        """Durably note what is being deleted, unless that was done."""
        ...

    async def take(self, deletion_id: str, keys: Sequence[str]) -> Sequence[str]:
        """Move objects out of the store, durably; may be repeated.  Those that are nowhere."""
        ...

    async def is_taken(self, key: str) -> bool:
        """Whether the store has something under *key*."""
        ...

    async def give_back(self, deletion_id: str, key: str, target: str) -> None:
        """Put an object back into the store, durably, under *target*.

        Raises:
            FileExistsError: something is there, nothing was changed.
            KeyError: the object is gone.
        """
        ...

    async def take_again(self, deletion_id: str, key: str, target: str) -> None:
        """Undo `give_back`, as far as it came."""
        ...

    async def remove(self, deletion_id: str, keys: Sequence[str]) -> None:
        """Remove objects from the trash for good; a missing one is no error."""
        ...

    async def end(self, deletion_id: str) -> None:
        """Nothing is left of a deletion."""
        ...

    async def open(self, deletion_id: str, key: str) -> ObjectReader:
        """Read an object in the trash.

        Raises:
            KeyError: it is gone.
        """
        ...

    def contents(self) -> AbstractAsyncContextManager[AsyncIterator[TrashContent]]:
        """All that there is, deletion after deletion."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyHold:
    """A study that nobody and nothing deletes until the hold is taken away.

    Attributes:
        at: seconds since 1970.
        is_here: whether the archive has the study.
    """

    study_instance_uid: str
    reason: str
    actor: str
    at: float
    is_here: bool = True


class Holds(Protocol):
    """Keeps holds.  Failures are `StorageError`."""

    async def add(self, hold: StudyHold) -> bool:
        """Hold a study; False: it is held already, and nothing was changed."""
        ...

    async def remove(self, study_instance_uid: str) -> bool:
        """Take a hold away; False: there is none."""
        ...

    async def all(self) -> Sequence[StudyHold]:
        """All of them, the oldest first."""
        ...
