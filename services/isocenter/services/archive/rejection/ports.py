"""Port of rejection notes: which there are, and what they reject."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.rejection.reasons import RejectionReason


class NoteState(Enum):
    """How far a Key Object Selection is."""

    #: It was stored, and is yet to be looked at.
    DUE = "due"
    #: What it rejects is rejected.
    APPLIED = "applied"
    #: It is being taken back.
    REVOKING = "revoking"
    #: It cannot be read, or is not obeyed.
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRow:
    """A note that the archive has.

    Attributes:
        reason: None: nobody has looked yet.
        actor: who has rejected; an AE title, or a person.
        text: why, in words; where it was made here.
        at: when it was stored, in seconds since 1970.
        instances: objects that it rejects.
        fault: why it is not obeyed.
    """

    sop_instance_uid: str
    study_instance_uid: str
    state: NoteState
    reason: RejectionReason | None
    actor: str
    text: str
    at: float
    instances: int = 0
    fault: str = ""


class RejectionBook(Protocol):
    """Keeps notes and what they reject.  Failures are `StorageError`.

    That a Key Object Selection was stored is written in the transaction that adds it; it is
    `NoteState.DUE` from then on.
    """

    async def announce(self, note: NoteRow, data_set: bytes) -> None:
        """A note is made here, and is yet to be stored."""
        ...

    async def announced(self, sop_instance_uid: str) -> bytes | None:
        """The data set of a note that is yet to be stored; None: there is none."""
        ...

    async def unfinished(self, limit: int) -> Sequence[NoteRow]:
        """Those that are due, or being revoked, the oldest first."""
        ...

    async def rows(self, *, limit: int) -> Sequence[NoteRow]:
        """Notes that reject, or were to, the latest first."""
        ...

    async def one(self, sop_instance_uid: str) -> NoteRow | None:
        """A note; None: the archive has no such."""
        ...

    async def reject(
        self, sop_instance_uid: str, reason: RejectionReason, instances: Sequence[str]
    ) -> None:
        """From now on these are rejected by a note."""
        ...

    async def settle(self, sop_instance_uid: str, state: NoteState, fault: str = "") -> None:
        """How far a note is."""
        ...

    async def rejected_by(self, sop_instance_uid: str, *, alone: bool) -> Sequence[str]:
        """SOP Instance UIDs that a note rejects; *alone*: and no other note does."""
        ...

    async def forget(self, sop_instance_uid: str) -> None:
        """It is no note any more, or never was, and rejects nothing."""
        ...

    async def look_again(self) -> int:
        """Have all Key Object Selections looked at that are not known; how many."""
        ...
