"""Reconciliation of patients: demands of other systems become corrections of the archive.

A demand is answered when the corrections that follow from it are ordered, durably; they show
within a second or so.  Every attempt is kept, also the one that fails.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.corrections.planning import (
    PATIENT_TAGS,
    CorrectionError,
    CorrectionPlan,
)
from isocenter.services.archive.corrections.ports import CorrectionRefusedError
from isocenter.services.archive.corrections.service import Corrections
from isocenter.services.archive.corrections.values import (
    ISSUER_OF_PATIENT_ID,
    PATIENT_ID,
    PatientKey,
    Scope,
)
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.ports import Index
from isocenter.services.archive.reconciled import PatientReconciled
from isocenter.services.notices import Notices
from isocenter.services.workflow.reconciliation.ports import ReconciliationBook
from isocenter.services.workflow.reconciliation.values import (
    Attempt,
    AttemptOutcome,
    Demand,
    Identifier,
    PatientLink,
    ReconciliationError,
    ReconciliationKind,
    UnknownPatientError,
)
from isocenter.services.workflow.reconciliation.worklist import PatientEntries

log = logging.getLogger("isocenter.reconciliation")

_ACCESSION_NUMBER: Final = 0x00080050
_STUDY_INSTANCE_UID: Final = 0x0020000D
#: IDs of one patient that are looked at.
_MOST_IDENTIFIERS: Final = 20


@dataclass(frozen=True, slots=True)
class _Known:
    """A patient that the archive has, and what is shown of it."""

    key: PatientKey
    attributes: Mapping[int, str]


class Reconciliation:
    """Does what other systems demand.

    Args:
        entries: entries of the worklist follow as well; None: there is none.
        accepts_unknown: a demand about a patient of whom nothing is here is done; else it fails.
        now: seconds since 1970.
    """

    def __init__(
        self,
        index: Index,
        corrections: Corrections,
        book: ReconciliationBook,
        notices: Notices | None = None,
        *,
        entries: PatientEntries | None = None,
        accepts_unknown: bool = True,
        now: Callable[[], float] = time,
    ) -> None:
        self.book = book
        self._index = index
        self._corrections = corrections
        self._notices = Notices() if notices is None else notices
        self._entries = entries
        self._accepts_unknown = accepts_unknown
        self._now = now

    async def do(self, demand: Demand, *, actor: str, message: str) -> Attempt:
        """Order what a demand says.

        Args:
            actor, message: as of `Attempt`.

        Raises:
            ReconciliationError: it cannot be done; that it was attempted is kept.
            StorageError: it cannot be done now.
        """
        reason = f"HL7 {message}"
        plans = await self.check(demand, actor=actor, message=message)
        try:
            numbers = [
                await self._corrections.order(plan, Requester(name=actor), reason) for plan in plans
            ]
            linked = await self._link(demand, actor)
            entries = 0 if self._entries is None else await self._entries.follow(demand)
        except (CorrectionRefusedError, ReconciliationError) as error:
            await self.failed(demand, actor=actor, message=message, fault=str(error))
            raise ReconciliationError(str(error)) from error
        return await self._note(
            demand,
            actor,
            message,
            AttemptOutcome.DONE if numbers or linked or entries else AttemptOutcome.NOTHING,
            instances=sum(plan.instances for plan in plans),
            corrections=tuple(numbers),
        )

    async def check(self, demand: Demand, *, actor: str, message: str) -> list[CorrectionPlan]:
        """Whether a demand can be done: what it would order; nothing is changed.

        Raises:
            ReconciliationError: it cannot; that it was attempted is kept.
            StorageError: it cannot be known now.
        """
        try:
            plans = await self._plans(demand)
            if demand.others and demand.patients[0] == demand.others[0]:
                raise ReconciliationError("a patient cannot be linked with itself")
            is_link = demand.kind in (ReconciliationKind.LINK, ReconciliationKind.UNLINK)
            if not (plans or is_link or self._accepts_unknown or await self._is_known(demand)):
                raise UnknownPatientError("the archive has nothing of that patient")
        except (CorrectionError, ReconciliationError) as error:
            await self.failed(demand, actor=actor, message=message, fault=str(error))
            if isinstance(error, ReconciliationError):
                raise
            raise ReconciliationError(str(error)) from error
        return plans

    async def failed(self, demand: Demand, *, actor: str, message: str, fault: str) -> None:
        """Keep that something was attempted which could not even be begun."""
        await self._note(demand, actor, message, AttemptOutcome.FAILED, fault=fault)

    async def _note(
        self,
        demand: Demand,
        actor: str,
        message: str,
        outcome: AttemptOutcome,
        *,
        instances: int = 0,
        corrections: tuple[int, ...] = (),
        fault: str = "",
    ) -> Attempt:
        nobody = Identifier("")
        attempt = Attempt(
            kind=demand.kind,
            patient=next(iter(demand.patients), nobody),
            other=next(iter(demand.others), nobody),
            actor=actor,
            message=message,
            at=self._now(),
            outcome=outcome,
            instances=instances,
            corrections=corrections,
            fault=fault,
        )
        await self.book.note(attempt)
        self._notices.publish(
            PatientReconciled(
                kind=demand.kind.value,
                patient_id=attempt.patient.patient_id,
                other_patient_id=attempt.other.patient_id,
                actor=actor,
                message=message,
                outcome=outcome.value,
                instances=instances,
                fault=fault,
            )
        )
        return attempt

    # -- What follows from a demand ---------------------------------------------------

    async def _plans(self, demand: Demand) -> list[CorrectionPlan]:
        match demand.kind:
            case ReconciliationKind.UPDATE:
                return await self._updates(demand)
            case ReconciliationKind.MERGE:
                return await self._merges(demand)
            case ReconciliationKind.MOVE_STUDY:
                return await self._moves(demand)
            case _:  # of those nothing of the archive changes
                return []

    async def _updates(self, demand: Demand) -> list[CorrectionPlan]:
        plans = [
            await self._corrections.planner.correct(Scope(patient=known.key), demand.attributes)
            for known in await self._known(demand.patients)
            if demand.attributes
        ]
        return [plan for plan in plans if plan.changed]

    async def _merges(self, demand: Demand) -> list[CorrectionPlan]:
        """Those of whom objects are here become the one that stays, who is also as is said."""
        if set(demand.patients) & set(demand.others):
            raise ReconciliationError("a patient cannot be merged with itself")
        gone = await self._known(demand.others)
        target, shown = await self._target(demand)
        plans = []
        for known in gone:
            if known.key == target:
                continue
            attributes = _merged(shown or known.attributes, demand.attributes)
            plans.append(
                await self._corrections.planner.merge_patients(known.key, target, attributes)
            )
        return plans + await self._updates(demand)

    async def _moves(self, demand: Demand) -> list[CorrectionPlan]:
        """Studies of one patient become those of another."""
        target, shown = await self._target(demand)
        plans = []
        for study, attributes in await self._studies(demand.studies, demand.others):
            said = _merged(shown or attributes, demand.attributes)
            plan = await self._corrections.planner.move_study(study, target, said)
            if plan.changed:
                plans.append(plan)
        return plans

    async def _target(self, demand: Demand) -> tuple[PatientKey, Mapping[int, str] | None]:
        """The patient that stays, and what the archive shows of it; None: nothing."""
        first = demand.patients[0]
        known = await self._known(demand.patients)
        if known:
            best = min(known, key=lambda one: one.key.issuer != first.issuer)
            return best.key, best.attributes
        # Whoever goes tells by which name the archive knows the issuer, if by any.
        gone = await self._known(demand.others)
        issuer = first.issuer
        if gone and not gone[0].key.issuer:
            issuer = ""
        return PatientKey(first.patient_id, issuer), None

    async def _studies(
        self, names: Sequence[str], owners: Sequence[Identifier]
    ) -> list[tuple[str, Mapping[int, str]]]:
        keys = {known.key for known in await self._known(owners)} if owners else set()
        found: dict[str, Mapping[int, str]] = {}
        for name in names:
            for tag in (_STUDY_INSTANCE_UID, _ACCESSION_NUMBER):
                query = Query(
                    level=Level.STUDY,
                    criteria=(Criterion(tag, SingleValue(name)),),
                    return_tags=PATIENT_TAGS,
                )
                async with self._index.find(query) as blocks:
                    async for block in blocks:
                        for match in block:
                            if not owners or PatientKey.of(match) in keys:
                                found.setdefault(match[_STUDY_INSTANCE_UID], match)
        return list(found.items())

    async def _known(self, identifiers: Sequence[Identifier]) -> list[_Known]:
        """Patients of whom something is here, by one of these IDs.

        Where the archive does not say who gave an ID, it may be any; where the demand does not
        say it, the archive must know one such patient only.
        """
        found: dict[PatientKey, _Known] = {}
        for identifier in identifiers[:_MOST_IDENTIFIERS]:
            query = Query(
                level=Level.PATIENT,
                criteria=(Criterion(PATIENT_ID, SingleValue(identifier.patient_id)),),
                return_tags=PATIENT_TAGS,
            )
            here: dict[PatientKey, _Known] = {}
            async with self._index.find(query) as blocks:
                async for block in blocks:
                    for match in block:
                        key = PatientKey.of(match)
                        if key.patient_id == identifier.patient_id and (
                            not identifier.issuer or key.issuer in ("", identifier.issuer)
                        ):
                            here[key] = _Known(key, match)
            if not identifier.issuer and len(here) > 1:
                raise ReconciliationError(
                    "more than one issuer has given that Patient ID, and the message names none"
                )
            found |= here
        return list(found.values())

    async def _is_known(self, demand: Demand) -> bool:
        named = (*demand.patients, *demand.others)
        if await self._known(named):
            return True
        return self._entries is not None and await self._entries.has(named)

    async def _link(self, demand: Demand, actor: str) -> bool:
        if demand.kind not in (ReconciliationKind.LINK, ReconciliationKind.UNLINK):
            return False
        one, other = demand.patients[0], demand.others[0]
        link = PatientLink(one=one, other=other, actor=actor, at=self._now())
        if demand.kind is ReconciliationKind.UNLINK:
            # Who says that of two patients knows that they are two persons.
            was_linked = await self.book.unlink(link)
            return await self.book.tell_apart(link) or was_linked
        return await self.book.link(link)


def _merged(shown: Mapping[int, str], said: Mapping[int, str | None]) -> dict[int, str]:
    """What is known of a patient, with what a message says of it."""
    known = {tag: shown.get(tag, "") for tag in PATIENT_TAGS}
    known |= {tag: value or "" for tag, value in said.items()}
    return {
        tag: value for tag, value in known.items() if tag not in (PATIENT_ID, ISSUER_OF_PATIENT_ID)
    }
