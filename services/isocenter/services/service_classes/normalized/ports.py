"""Event reports as values, and the port that keeps them until delivery.

`isocenter.services.service_classes.normalized.report_delivery` delivers them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final, Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS

#: Bounds of a data set of ours: more than any request that it answers.
REPORT_LIMITS: Final = replace(DEFAULT_LIMITS, identifier=1 << 30, identifier_elements=1 << 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReport:
    """What is to be reported, before it has a place in the database.

    Attributes:
        destination: AE title of the SCU.
        calling_ae_title: what it called us: it knows us by that name (PS3.4 J.3.3.1.2).
        transaction_uid: of the storage commitment that it is about; empty: none.
        data_set: Event Information in explicit VR little endian; empty: none.
    """

    destination: str
    calling_ae_title: str
    sop_class_uid: str
    sop_instance_uid: str
    event_type: int
    transaction_uid: str = ""
    data_set: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedReport:
    """A report that is ours to deliver.

    Attributes:
        attempts: those before this one.
        created_at: seconds since 1970.
    """

    number: int
    report: NewReport
    attempts: int
    created_at: float


class ReportQueue(Protocol):
    """Keeps reports, durably.  Failures are `StorageError`."""

    async def claim(
        self, worker: str, seconds: float, limit: int, *, not_for: Collection[str] = ()
    ) -> Sequence[ClaimedReport]:
        """Reports that are due and that nobody has claimed, for *worker* alone, oldest first.

        Those for the destinations *not_for* are left.

        The claim ends with `delivered` or `failed`, or after *seconds*.
        """
        ...

    async def delivered(self, number: int) -> None:
        """It has arrived."""
        ...

    async def failed(self, number: int, fault: str, retry_in: float | None) -> None:
        """It has not arrived; due again in *retry_in* seconds, None: given up."""
        ...

    async def release(self, number: int) -> None:
        """It is due for whoever claims it next; this was no attempt."""
        ...
