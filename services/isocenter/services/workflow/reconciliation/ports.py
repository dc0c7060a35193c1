"""Port of reconciliation: attempts, and links between patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from isocenter.services.workflow.reconciliation.values import Attempt, Identifier, PatientLink


class ReconciliationBook(Protocol):
    """Keeps what was attempted, and links.  Failures are `StorageError`."""

    async def note(self, attempt: Attempt) -> int:
        """Keep an attempt; its number."""
        ...

    async def attempts(
        self, *, patient_id: str = "", before: int = 0, limit: int
    ) -> Sequence[Attempt]:
        """Attempts, the latest first.

        Args:
            patient_id: those that name it, on whatever side; empty: all.
            before: a number; 0: from the latest on.
        """
        ...

    async def link(self, link: PatientLink) -> bool:
        """Link two patients; False: they are linked already."""
        ...

    async def unlink(self, one: Identifier, other: Identifier) -> bool:
        """Link them no more; False: they are not."""
        ...

    async def links(self, *, patient_id: str = "", limit: int) -> Sequence[PatientLink]:
        """Links, the latest first; of a patient with this ID, unless that is empty."""
        ...
