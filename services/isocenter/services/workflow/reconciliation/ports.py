"""Port of reconciliation: attempts, and links between patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from isocenter.services.workflow.reconciliation.values import (
    Attempt,
    Contradiction,
    Identifier,
    IdentityConflict,
    PatientLink,
)


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
        """Link two patients, who are not told apart any more; False: they are linked already.

        Raises:
            ToldApartError: others of whom this would make one person are told apart.
        """
        ...

    async def unlink(self, link: PatientLink) -> bool:
        """Link two patients no more; False: they are not.  Those who would go on to be linked, by
        way of others, are told apart from then on."""
        ...

    async def group(self, one: Identifier, other: Identifier) -> Sequence[PatientLink]:
        """All links of the group that both are in; none: they are not in one."""
        ...

    async def contradictions(self, *, limit: int) -> Sequence[Contradiction]:
        """Pairs who were told apart, and are in one group of links."""
        ...

    async def tell_apart(self, link: PatientLink) -> bool:
        """Remember that two patients are two persons; False: that is known already."""
        ...

    async def conflicts(
        self, *, after: Sequence[str] = (), limit: int
    ) -> Sequence[IdentityConflict]:
        """Patients who may be one person: neither linked nor told apart.

        Args:
            after: the `IdentityConflict.place` of the last that was seen.
        """
        ...

    async def links(self, *, patient_id: str = "", limit: int) -> Sequence[PatientLink]:
        """Links, the latest first; of a patient with this ID, unless that is empty."""
        ...
