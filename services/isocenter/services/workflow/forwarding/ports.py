"""Port of the forwarding queue, and its values.

One record for each object and destination, written in the transaction that stores the object::

    due ──► sent ──► committing ──► deleting ──► done
     │  └────────────────────────────────────────► done   (nothing was asked for but sending)
     └──► failed: given up, until somebody says `isocenter queue retry`

A record is at one place at a time, and each step is one transaction: what ends in between is
done again.  So an object arrives at least once.

Records are what a job of the kind ``forward`` has to do (`isocenter.services.workflow.jobs`): each
destination has one such job, and whoever has claimed that sends what is due there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.deletion.records import Deletion
from isocenter.services.archive.orders import ForwardPriority
from isocenter.services.archive.sent_form import AS_IT_IS, SentForm
from isocenter.services.concurrency import Backoff
from isocenter.services.service_classes.commitment.transaction import Reference


class ForwardState(Enum):
    """What has become of a record."""

    DUE = "due"
    #: It has arrived; storage commitment is to be asked for.
    SENT = "sent"
    #: The destination was asked to commit, and has not said whether it does.
    COMMITTING = "committing"
    #: It is committed, and waits to leave the archive.
    DELETING = "deleting"
    DONE = "done"
    #: Given up: the dead letters.
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DueForward:
    """A record that is ours to send, while we have the job of its destination.

    Attributes:
        version: changes when another object takes the place of this one; what is said of an
            earlier version counts for nothing.
        attempts: those before this one.
        since: when it first was due, or had arrived, in seconds since 1970.
        form: what is made of it before.
    """

    number: int
    version: int
    sop_instance_uid: str
    rule: str
    priority: ForwardPriority
    attempts: int
    since: float
    form: SentForm = AS_IT_IS


@dataclass(frozen=True, slots=True)
class Delivered:
    """It has arrived; *size*: bytes of it."""

    record: DueForward
    size: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """It has not arrived; due again in *retry_in* seconds, None: given up."""

    record: DueForward
    fault: str
    retry_in: float | None


Outcome = Delivered | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardSummary:
    """A record as it is shown.  Times are seconds since 1970."""

    number: int
    sop_instance_uid: str
    study_instance_uid: str
    destination: str
    rule: str
    priority: ForwardPriority
    state: ForwardState
    attempts: int
    created_at: float
    due_at: float
    ended_at: float | None
    last_fault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationStatus:
    """How one destination does.

    Attributes:
        failures: attempts to reach it that failed in a row.
        retry_at: it is left alone until then.
    """

    destination: str
    counts: Mapping[ForwardState, int]
    failures: int = 0
    retry_at: float = 0.0
    last_fault: str = ""


class ForwardQueue(Protocol):
    """Keeps the records, durably, for all processes of a server.  Failures are `StorageError`."""

    async def due(self, *, not_for: Collection[str] = ()) -> Sequence[str]:
        """Destinations for which there is something to send or to ask now.

        Without those *not_for* and those that are left alone after a failure.
        """
        ...

    async def take(
        self, destination: str, limit: int, *, without: Collection[int] = ()
    ) -> Sequence[DueForward]:
        """Records that are due; by priority, then by the time since which they are due.

        None while the destination is left alone.  Whoever takes them has the job of the
        destination.

        Args:
            without: numbers of records that are being sent.
        """
        ...

    async def settle(self, outcomes: Sequence[Outcome], job: int = 0) -> None:
        """What became of records, in one transaction, and in the numbers of the job."""
        ...

    async def left_alone(self) -> Sequence[str]:
        """The destinations that failed, and whose next attempt is not due yet."""
        ...

    async def destination_failed(
        self, destination: str, fault: str, backoff: Backoff, *, released_at: float = 0.0
    ) -> tuple[float, int]:
        """It cannot be reached, or takes nothing: it is left alone for a while.

        What has waited for too long is given up.

        Args:
            released_at: until then it was held, and nothing has waited for it.

        Returns:
            For how many seconds it is left alone, and how many records were given up.
        """
        ...

    async def destination_succeeded(self, destination: str) -> None:
        """It took something: what was against it is forgotten."""
        ...

    # Storage commitment.

    async def begin_commitment(
        self, destination: str, transaction_uid: str, *, wait: float, limit: int
    ) -> Sequence[Reference]:
        """Put what was sent, and is to be committed, under a transaction; its instances.

        Without a report within *wait* seconds they are asked for once more.
        """
        ...

    async def give_up_asking(self, destination: str, backoff: Backoff) -> int:
        """What was sent so long ago, and was asked for again and again, is given up; how many."""
        ...

    async def commitment_not_asked(
        self, transaction_uid: str, fault: str, backoff: Backoff
    ) -> None:
        """The destination could not be asked; so it will be later."""
        ...

    async def commitment_reported(
        self,
        transaction_uid: str,
        reporter: str,
        committed: Sequence[Reference],
        failed: Sequence[tuple[Reference, int]],
        backoff: Backoff,
    ) -> bool:
        """The destination has said what it keeps; False: nobody asked *reporter* that.

        What it does not keep is sent again.
        """
        ...

    async def deletable(self) -> Sequence[str]:
        """Studies with objects that rules have leave the archive; some, if there are many."""
        ...

    async def delete_committed(self, limit: int, study_instance_uid: str = "") -> Deletion:
        """Take out of the index what rules have leave the archive, in one transaction.

        Args:
            study_instance_uid: only of this study, which the caller has locked; empty: of all.

        Only what no other destination waits for, and what is promised to nobody.  The objects
        themselves are the caller's, who says when they are `deleted`.
        """
        ...

    async def deleted(self, object_keys: Sequence[str]) -> None:
        """These objects have left the store, too."""
        ...

    async def leaving(self) -> Sequence[str]:
        """Keys of objects that have left the index, of which nobody said that they left the store:
        after a crash they may be there still."""
        ...

    # For people.

    async def purge_done(self, before: float) -> int:
        """Forget records that were done before a time; how many."""
        ...

    async def counts(self) -> Mapping[tuple[str, ForwardState], int]:
        """Records by destination and state, without those that are done."""
        ...

    async def rows(
        self,
        *,
        state: ForwardState | None = None,
        unsent: bool = False,
        destination: str = "",
        limit: int,
        before: int | None = None,
    ) -> Sequence[ForwardSummary]:
        """Records, the latest first; *unsent*: of what has not arrived; *before*: those with a
        smaller number."""
        ...

    async def destinations(self) -> Sequence[DestinationStatus]:
        """All that have records, and how each of them does."""
        ...

    async def retry(self, numbers: Sequence[int] = (), *, destination: str = "") -> int:
        """Have dead letters, and what waits for its next attempt, sent now; how many records."""
        ...

    async def commit(self, destination: str, study_instance_uid: str) -> int:
        """Have a destination asked whether it keeps what it has of a study, as it is, and was never
        asked for; of how many records.

        What it does not keep is sent again; what it does is at the destination from then on.
        """
        ...

    async def purge(
        self, state: ForwardState, numbers: Sequence[int] = (), *, destination: str = ""
    ) -> int:
        """Forget records; how many."""
        ...


#: Seconds since 1970.
Clock = Callable[[], float]
