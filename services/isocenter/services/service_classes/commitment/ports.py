"""Port of storage commitments: where transactions are kept."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.service_classes.commitment.transaction import (
    Reference,
    Transaction,
    TransactionState,
)
from isocenter.services.service_classes.normalized.ports import ClaimedReport, NewReport


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentSummary:
    """One line of a list of transactions.

    Attributes:
        report: ``due``, ``delivered`` or ``given up``; empty: there is none yet.
        report_attempts, report_fault: how often it was tried, and why it last failed.
    """

    transaction_uid: str
    requester: str
    state: TransactionState
    requested_at: float
    completed_at: float | None
    references: int
    failed: int
    report: str
    report_attempts: int
    report_fault: str


@dataclass(frozen=True, slots=True)
class Completed:
    """A transaction whose outcome is kept; *report*: of it, None: nobody wants one."""

    report: ClaimedReport | None


class BeginResult(Enum):
    """What became of a request to begin a transaction."""

    NEW = "new"
    #: The same SCU asks for the same once more: it did not see our response, or the outcome.
    AGAIN = "again"
    #: The transaction UID belongs to another request (J.3.3.1.2).
    IN_USE = "in use"


class Commitments(Protocol):
    """Keeps transactions, durably.  Failures are `StorageError`.

    A transaction is claimed by a worker process while that verifies it, so that only one does.
    """

    async def begin(
        self,
        *,
        transaction_uid: str,
        requester: str,
        called_ae_title: str,
        references: Sequence[Reference],
        worker: str,
        seconds: float,
    ) -> BeginResult:
        """Keep a new transaction, claimed by *worker* for *seconds*.

        Args:
            requester, called_ae_title: as of `Transaction`.
        """
        ...

    async def claim(self, worker: str, seconds: float, limit: int) -> Sequence[str]:
        """Transaction UIDs that are pending and that nobody has claimed, oldest first."""
        ...

    async def renew(self, transaction_uid: str, worker: str, seconds: float) -> bool:
        """Claim it for *seconds* from now; False: somebody else has it, or it is complete."""
        ...

    async def postpone(self, transaction_uid: str, worker: str, seconds: float) -> None:
        """It cannot be verified now; due again in *seconds*."""
        ...

    async def get(self, transaction_uid: str) -> Transaction | None: ...

    async def complete(
        self,
        transaction_uid: str,
        worker: str,
        failures: Sequence[int],
        report: NewReport | None,
        *,
        claim_seconds: float,
    ) -> Completed | None:
        """Keep the outcome, and the report of it in the same transaction of the database.

        Args:
            report: None: whoever asked will come for the outcome.
            claim_seconds: how long *worker* has the report for itself; 0: it is due for anybody.

        Returns:
            None: somebody else has completed it, and nothing was changed.
        """
        ...

    async def report(
        self, report: NewReport, worker: str, *, claim_seconds: float
    ) -> ClaimedReport:
        """Keep a report that goes with no change of a transaction."""
        ...

    async def rows(
        self, *, state: TransactionState | None = None, limit: int = 100
    ) -> Sequence[CommitmentSummary]:
        """The latest transactions, newest first."""
        ...
