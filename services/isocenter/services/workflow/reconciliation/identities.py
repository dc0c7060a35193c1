"""Identities of patients: who may be one person, and what people say of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from isocenter.services.archive.reconciled import PatientReconciled
from isocenter.services.notices import Notices
from isocenter.services.workflow.reconciliation.ports import ReconciliationBook
from isocenter.services.workflow.reconciliation.values import (
    Attempt,
    AttemptOutcome,
    Contradiction,
    Identifier,
    IdentityConflict,
    PatientLink,
    ReconciliationError,
    ReconciliationKind,
)

#: That are shown at once.
_MOST_CONTRADICTIONS: Final = 100


class PatientIdentities:
    """Shows conflicts, and keeps how people settle them, as attempts like those of messages.

    Args:
        now: seconds since 1970.
    """

    def __init__(
        self, book: ReconciliationBook, notices: Notices, *, now: Callable[[], float]
    ) -> None:
        self.book = book
        self._notices = notices
        self._now = now

    async def conflicts(
        self, *, after: Sequence[str] = (), limit: int
    ) -> Sequence[IdentityConflict]:
        """See `ReconciliationBook.conflicts`."""
        return await self.book.conflicts(after=after, limit=limit)

    async def settle(
        self,
        kind: ReconciliationKind,
        one: Identifier,
        other: Identifier,
        *,
        actor: str,
        reason: str,
    ) -> bool:
        """Link two patients, take that back, or tell them apart; False: nothing was to be done.

        Raises:
            ReconciliationError: it cannot be.
            StorageError: it cannot be kept now.
        """
        if not (one.patient_id and other.patient_id):
            raise ReconciliationError("name both patients by their IDs")
        if one == other:
            raise ReconciliationError("a patient cannot be linked with itself")
        link = PatientLink(one=one, other=other, actor=actor, at=self._now())
        match kind:
            case ReconciliationKind.LINK:
                is_done = await self.book.link(link)
            case ReconciliationKind.UNLINK:
                is_done = await self.book.unlink(link)
            case ReconciliationKind.TELL_APART:
                await self._check_not_linked(one, other)
                is_done = await self.book.tell_apart(link)
            case _:
                raise ReconciliationError("that is done by a correction")
        outcome = AttemptOutcome.DONE if is_done else AttemptOutcome.NOTHING
        attempt = Attempt(
            kind=kind,
            patient=one,
            other=other,
            actor=actor,
            message=f"by hand: {reason}",
            at=self._now(),
            outcome=outcome,
        )
        try:
            await self.book.note(attempt)
        finally:  # it is so, and the trail is told, whether or not the list of attempts shows it
            self._notices.publish(
                PatientReconciled(
                    kind=kind.value,
                    patient_id=one.patient_id,
                    other_patient_id=other.patient_id,
                    actor=actor,
                    message=attempt.message,
                    outcome=outcome.value,
                )
            )
        return is_done

    async def contradictions(self) -> Sequence[Contradiction]:
        """Some of those told apart who are linked by way of others; queries follow none of the
        links of theirs."""
        return await self.book.contradictions(limit=_MOST_CONTRADICTIONS)

    async def _check_not_linked(self, one: Identifier, other: Identifier) -> None:
        links = await self.book.group(one, other)
        if any({link.one, link.other} == {one, other} for link in links):
            raise ReconciliationError("they are linked, as one person; take the link back first")
        if links:
            raise ReconciliationError(
                "they are linked by way of others; take one of those links back first"
            )
