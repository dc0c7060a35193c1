"""Port of the records of corrections, and its values.

A correction is written in one transaction with what is to be done for it: a record for each
object that it holds for, with what that was when it came::

    due ──► made ──► done      the index names its corrected form
     │ ▲      │       │
     │ └──────┴───────┘  (another correction, or one that was undone)
     └────► failed: it cannot be corrected, and stays as it was

*made*: the corrected form is durable beside the original, and nobody sees it.  When all objects of
a study are made, one transaction has the index name them, with the counts, metadata and events
that follow.  So a crash leaves a study as it was or as it is to be; what was made is used.

The original stays in its place for as long as the archive has the object.  A corrected form is
always made of the original, by all corrections that hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Protocol

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.corrections.values import Correction, PatientKey
from isocenter.services.archive.ports import InstanceRecord, StoredInstance


class CorrectionRefusedError(IsocenterError):
    """A correction that is not to be; nothing was changed."""

    error_code = ErrorCode.CORRECTION


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionWork:
    """An object whose corrected form is to be made.

    Attributes:
        version: changes when other corrections hold; what is said of an earlier one counts for
            nothing.
        original: what it was when it came.
        corrections: that hold for it, in their order; none: it is to be what it was.
    """

    sop_instance_uid: str
    version: int
    original: InstanceRecord
    corrections: tuple[Correction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedStudy:
    """What one transaction has exchanged in the index.

    Attributes:
        study_instance_uid: what its objects were found under before.
        instances: before and after.
        numbers: of the corrections that hold for some of them now.
        leaving: keys of objects that are to leave the store.
    """

    study_instance_uid: str
    instances: Sequence[tuple[StoredInstance, StoredInstance]] = field(repr=False)
    numbers: tuple[int, ...]
    leaving: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionSummary:
    """A correction, and how far it is.

    Attributes:
        instances: for which it holds; *done*: that show it; *failed*: that cannot be corrected.
        undone_at: since when it holds no more, in seconds since 1970; None: it does.
        fault: of one of those that failed.
    """

    correction: Correction
    instances: int
    done: int
    failed: int
    undone_at: float | None = None
    undone_by: str = ""
    undo_reason: str = field(default="", repr=False)
    fault: str = ""


class CorrectionBook(Protocol):
    """Keeps corrections and their work.  Failures are `StorageError`."""

    async def order(self, correction: Correction) -> tuple[int, int]:
        """Have a correction hold from now on, durably: its number, and for how many objects.

        Raises:
            CorrectionRefusedError: it moves objects of a study that is held.
        """
        ...

    async def undo(self, number: int, *, actor: str, reason: str, at: float) -> int:
        """Have a correction hold no more; for how many objects it did.

        Raises:
            CorrectionRefusedError: there is none, or it was undone already.
        """
        ...

    async def studies(self, limit: int) -> Sequence[str]:
        """Study Instance UIDs of what is to be done, those that wait longest first."""
        ...

    async def due(self, study_instance_uid: str, limit: int) -> Sequence[CorrectionWork]:
        """Objects of a study whose corrected form is to be made."""
        ...

    async def made(self, forms: Sequence[tuple[CorrectionWork, InstanceRecord]]) -> Sequence[bool]:
        """Corrected forms are durable; of each whether it is wanted: other corrections may hold
        by now."""
        ...

    async def failed(self, work: CorrectionWork, fault: str) -> None:
        """There is none; the object stays as it was."""
        ...

    async def exchange(self, study_instance_uid: str) -> CorrectedStudy | None:
        """Have the index name what was made, all of a study in one transaction; None: something
        of it is due."""
        ...

    async def sweep(self) -> None:
        """Give up originals of objects that neither archive nor trash have any more."""
        ...

    async def leaving(self) -> Sequence[str]:
        """Keys of objects that nothing names any more, and that perhaps have not left the store."""
        ...

    async def removed(self, object_keys: Sequence[str]) -> None:
        """They have."""
        ...

    async def kept_size(self) -> int:
        """Bytes of the files of originals that the index does not name."""
        ...

    async def retry(self, number: int) -> int:
        """What has failed is due again; how many objects."""
        ...

    async def kept(self, object_keys: Sequence[str]) -> Mapping[str, StoredInstance]:
        """Those that are in the store though the index does not name them: originals, and
        what was made for an exchange."""
        ...

    async def awaited(self, sop_instance_uid: str = "") -> bool:
        """Whether the index says of an object that came just now what another form of it will
        say, which is still to come; empty: of any."""
        ...

    async def originals(self, *, after: str, limit: int) -> Sequence[StoredInstance]:
        """Originals of corrected objects, by SOP Instance UID, behind *after*."""
        ...

    async def touched(self, number: int) -> Mapping[str, Mapping[str, int]]:
        """For what a correction holds, or did until it was undone just now: by study, how many
        instances of each SOP class."""
        ...

    # For people.

    async def rows(self, *, before: int = 0, limit: int) -> Sequence[CorrectionSummary]:
        """Corrections, the latest first; *before* a number, unless that is 0."""
        ...

    async def get(self, number: int) -> CorrectionSummary | None:
        """One of them."""
        ...


class LinkedPatients(Protocol):
    """Knows who is linked.  Failures are `StorageError`."""

    async def linked(self, patient_id: str, issuer: str | None) -> Sequence[PatientKey]:
        """Patients that are linked to one, directly or by others, without that one.

        None, where two of all of them were told apart: one of the links is wrong, and nobody knows
        which.

        Args:
            issuer: None: of any issuer.
        """
        ...
