"""Port of the compression queue, and its values.

One record for each object that a rule wants compressed, signed, or both, written in the transaction
that stores the object::

    waiting ──► due ──► done     its bytes are others now
                 │ └──► kept     it stays as it is, for a reason
                 └────► failed: given up, until somebody says `isocenter compress retry`

*waiting* becomes *due* in the transaction that declares the study complete.  A record of what is
done stays as long as the object: it says what that was when it came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.concurrency import Backoff


class CompressionState(Enum):
    """What has become of a record."""

    #: Its study is not complete.
    WAITING = "waiting"
    DUE = "due"
    DONE = "done"
    #: It stays as it came; the record says why.
    KEPT = "kept"
    #: Given up.
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionJob:
    """A record that is due.

    Attributes:
        version: changes when another object takes the place of this one; what is said of an
            earlier version counts for nothing.
        transfer_syntax_uid: what it is to become; empty: what it is.
        signs: it is given a digital signature.
        attempts: those before this one.
    """

    number: int
    version: int
    sop_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    rule: str
    signs: bool = False
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionSummary:
    """A record as it is shown.  Times are seconds since 1970, sizes bytes of files."""

    number: int
    sop_instance_uid: str
    study_instance_uid: str
    rule: str
    transfer_syntax_uid: str
    signs: bool
    state: CompressionState
    attempts: int
    created_at: float
    due_at: float
    ended_at: float | None
    last_fault: str
    received_size: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionTotals:
    """All records, counted.

    Attributes:
        received_size, size: bytes of what was compressed, before and after.
        reasons: of what was kept and of what failed: how many for each reason, the most frequent
            first.
    """

    counts: Mapping[CompressionState, int]
    received_size: int
    size: int
    reasons: Sequence[tuple[CompressionState, str, int]] = ()


class CompressionQueue(Protocol):
    """Keeps the records.  Failures are `StorageError`."""

    async def due(self, limit: int) -> Sequence[CompressionJob]:
        """Records that are due, those that have been so longest first; none of a held study."""
        ...

    async def exchange(
        self, job: CompressionJob, before: StoredInstance, after: StoredInstance
    ) -> bool:
        """Have the index say *after* where it says *before*, in one transaction with the record
        and what else is written of it; False: the archive has something else by now, or the study
        is held, and nothing was changed.

        The bytes of *before* are to be removed then, and to be told of by `removed`.
        """
        ...

    async def removed(self, object_keys: Sequence[str]) -> None:
        """Objects have left the store."""
        ...

    async def leaving(self) -> Sequence[str]:
        """Keys of objects that have left the index, and perhaps not the store."""
        ...

    async def keep(self, job: CompressionJob, reason: str) -> None:
        """The object stays as it is."""
        ...

    async def failed(self, job: CompressionJob, fault: str, backoff: Backoff) -> bool:
        """It could not be done this time; whether there is to be another attempt."""
        ...

    async def forget(self, job: CompressionJob) -> None:
        """The archive has the object no more."""
        ...

    async def purge(self, before: float) -> int:
        """Forget records that say nothing any more: of what was kept or given up before that time,
        and of objects that neither archive nor trash have; how many.

        What waited since before that time for a study that is not being received is due.
        """
        ...

    # For people.

    async def rows(
        self, *, state: CompressionState | None = None, limit: int
    ) -> Sequence[CompressionSummary]:
        """Records, the latest first."""
        ...

    async def of(self, uids: Sequence[str]) -> Mapping[str, CompressionSummary]:
        """The records of objects, by SOP Instance UID."""
        ...

    async def totals(self) -> CompressionTotals:
        """All of them, counted."""
        ...

    async def retry(self, numbers: Sequence[int] = ()) -> int:
        """Have what was given up tried again now, and what was kept looked at again where it is
        named by its number; how many."""
        ...

    async def order(
        self, instances: Sequence[StoredInstance], transfer_syntax_uid: str, rule: str
    ) -> int:
        """Queue objects that the archive has; how many."""
        ...
