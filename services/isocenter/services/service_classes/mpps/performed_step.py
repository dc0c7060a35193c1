"""Performed procedure step as a value, and rules of its creation and change.

Pure functions: PS3.4 F.1.5 (states), F.7.2.1.3 (N-CREATE), F.7.2.2.3 (N-SET).  Where steps
are kept, the port says (`isocenter.services.service_classes.mpps.ports`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import Enum
from functools import cached_property
from typing import Final

from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dimse.status import STEP_MAY_NO_LONGER_BE_UPDATED, Status
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import (
    AttributeList,
    items_of,
    text_of,
)
from isocenter.services.dicom.uids import UidRule
from isocenter.services.service_classes.mpps.requirements import (
    Fault,
    RequirementColumn,
    Violation,
    violations,
)
from isocenter.services.service_classes.normalized.refusal import RequestRefusedError

MPPS: Final = "1.2.840.10008.3.1.2.3.3"
MPPS_RETRIEVE: Final = "1.2.840.10008.3.1.2.3.4"
MPPS_NOTIFICATION: Final = "1.2.840.10008.3.1.2.3.5"

SCHEDULED_STEP_ATTRIBUTES: Final = 0x00400270
STUDY_INSTANCE_UID: Final = 0x0020000D
ACCESSION_NUMBER: Final = 0x00080050
REQUESTED_PROCEDURE_ID: Final = 0x00401001
SCHEDULED_STEP_ID: Final = 0x00400009
PERFORMED_STEP_ID: Final = 0x00400253
STATION_AE_TITLE: Final = 0x00400241
START_DATE: Final = 0x00400244
START_TIME: Final = 0x00400245
STATUS: Final = 0x00400252
MODALITY: Final = 0x00080060
PERFORMED_SERIES: Final = 0x00400340
SERIES_INSTANCE_UID: Final = 0x0020000E
REFERENCED_IMAGES: Final = 0x00081140
REFERENCED_NON_IMAGES: Final = 0x00400220
REFERENCED_SOP_CLASS_UID: Final = 0x00081150
REFERENCED_SOP_INSTANCE_UID: Final = 0x00081155

#: Table F.7.2-2, word for word: peers compare it.
NO_LONGER: Final = "Performed Procedure Step Object may no longer be updated"


class StepState(Enum):
    """Performed Procedure Step Status (0040,0252) (PS3.4 F.1.5)."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"

    @property
    def is_final(self) -> bool:
        """Whether nothing may change any more."""
        return self is not StepState.IN_PROGRESS


class StepEvent(Enum):
    """Event types of the notification SOP class (PS3.4 Table F.9.2-1)."""

    IN_PROGRESS = 1
    COMPLETED = 2
    DISCONTINUED = 3
    UPDATED = 4


class StepError(RequestRefusedError):
    """A request that breaks a rule; nothing has changed."""

    error_code = ErrorCode.STEP_STATE


@dataclass(frozen=True, slots=True)
class ScheduledStep:
    """What was asked for, of what was done: an item of (0040,0270)."""

    study_instance_uid: str
    accession_number: str
    requested_procedure_id: str
    scheduled_step_id: str


@dataclass(frozen=True, slots=True)
class PerformedSeries:
    """A series that came of it: an item of (0040,0340).

    Attributes:
        instances: SOP Class UID and SOP Instance UID of each instance that it names.
    """

    series_instance_uid: str
    instances: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class PerformedStep:
    """One step.

    Attributes:
        source_ae_title: who created it.
        created_at, changed_at: seconds since 1970.
    """

    sop_instance_uid: str
    state: StepState
    source_ae_title: str
    created_at: float
    changed_at: float
    attributes: AttributeList

    def __repr__(self) -> str:
        # What it says of a patient stays out of logs and tracebacks.
        return f"PerformedStep({self.sop_instance_uid!r}, {self.state.value})"

    @cached_property
    def scheduled(self) -> tuple[ScheduledStep, ...]:
        """The scheduled steps that it performs; one without IDs where nothing was scheduled."""
        declared = self.attributes.character_set
        return tuple(
            ScheduledStep(
                study_instance_uid=text_of(item, STUDY_INSTANCE_UID),
                accession_number=text_of(item, ACCESSION_NUMBER, declared),
                requested_procedure_id=text_of(item, REQUESTED_PROCEDURE_ID, declared),
                scheduled_step_id=text_of(item, SCHEDULED_STEP_ID, declared),
            )
            for item in self.attributes.items(SCHEDULED_STEP_ATTRIBUTES)
        )

    @cached_property
    def series(self) -> tuple[PerformedSeries, ...]:
        """The series that it made, each with the instances that it names."""
        return tuple(
            PerformedSeries(
                text_of(item, SERIES_INSTANCE_UID),
                tuple(
                    (
                        text_of(reference, REFERENCED_SOP_CLASS_UID),
                        text_of(reference, REFERENCED_SOP_INSTANCE_UID),
                    )
                    for tag in (REFERENCED_IMAGES, REFERENCED_NON_IMAGES)
                    for reference in items_of(item, tag)
                ),
            )
            for item in self.attributes.items(PERFORMED_SERIES)
        )


def step_of_create(
    sop_instance_uid: str,
    attributes: AttributeList,
    *,
    source_ae_title: str,
    now: float,
    strict: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> PerformedStep:
    """The step that an N-CREATE makes.

    Args:
        strict: refuse it also for type 2 attributes that are missing.

    Raises:
        StepError: 0120H, 0121H: an attribute, or its value, is missing; 0106H: a value that it
            may not have; 0213H: it is too large.
    """
    _refuse(violations(attributes.elements, RequirementColumn.CREATE, type_2=strict))
    _judged(attributes, StepState.IN_PROGRESS)
    step = PerformedStep(
        sop_instance_uid=sop_instance_uid,
        state=StepState.IN_PROGRESS,
        source_ae_title=source_ae_title,
        created_at=now,
        changed_at=now,
        attributes=attributes,
    )
    _check_values(step, limits)
    return step


def step_after_set(
    step: PerformedStep,
    changes: AttributeList,
    *,
    now: float,
    strict: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> PerformedStep:
    """What an N-SET makes of *step*.

    An attribute that may not be set any more does no harm with the value that it has already;
    many modalities send all of them again.

    Raises:
        StepError: 0110H with Error ID A710H: the step is final; 0105H: an attribute may not
            be set; 0120H, 0121H: it lacks something, in the final state also of what was to be
            set before; 0106H: a value that it may not have; 0213H: it becomes too large.
    """
    if step.state.is_final:
        raise StepError(
            Status.PROCESSING_FAILURE, NO_LONGER, error_id=STEP_MAY_NO_LONGER_BE_UPDATED
        )
    merged = step.attributes.updated(changes)
    found = violations(changes.elements, RequirementColumn.SET, type_2=strict)
    _refuse(
        violation
        for violation in found
        if violation.fault is not Fault.NOT_ALLOWED
        or not step.attributes.has_same(violation.path[0], changes)
    )
    state = step.state if STATUS not in changes.elements else _judged(merged)
    if state.is_final:
        _refuse(violations(merged.elements, RequirementColumn.FINAL, type_2=strict))
    result = replace(step, state=state, changed_at=now, attributes=merged)
    _check_values(result, limits)
    return result


def step_event(before: PerformedStep | None, after: PerformedStep) -> StepEvent:
    """What a notification says of a change (PS3.4 F.9.2)."""
    if before is not None and before.state is after.state:
        return StepEvent.UPDATED
    return StepEvent[after.state.name]


def _judged(attributes: AttributeList, only: StepState | None = None) -> StepState:
    text = attributes.text(STATUS)
    if not text:
        raise StepError(Status.MISSING_ATTRIBUTE_VALUE, f"{tag_text(STATUS)} empty", [STATUS])
    allowed = list(StepState) if only is None else [only]
    for state in allowed:
        if state.value == text:
            return state
    names = " or ".join(state.value for state in allowed)
    raise StepError(
        Status.INVALID_ATTRIBUTE_VALUE, f"{tag_text(STATUS)} has to be {names}", [STATUS]
    )


_STATUSES: Final = {
    Fault.MISSING: Status.MISSING_ATTRIBUTE,
    Fault.EMPTY: Status.MISSING_ATTRIBUTE_VALUE,
    Fault.NO_SEQUENCE: Status.INVALID_ATTRIBUTE_VALUE,
    Fault.NOT_ALLOWED: Status.NO_SUCH_ATTRIBUTE,
}


def _refuse(found: Iterable[Violation]) -> None:
    """Raise for the first kind of fault that there is, with all attributes of that kind."""
    named = list(found)
    for fault, status in _STATUSES.items():
        of_kind = [violation for violation in named if violation.fault is fault]
        if of_kind:
            more = f" and {len(of_kind) - 1} more" if len(of_kind) > 1 else ""
            raise StepError(
                status, f"{of_kind[0]}{more}", [violation.path[-1] for violation in of_kind]
            )


def _check_values(step: PerformedStep, limits: Limits) -> None:
    # What objects may be called (`storage.uids`), a step may name.
    safe, strict = UidRule.SAFE, UidRule.STRICT
    uids = [(STUDY_INSTANCE_UID, each.study_instance_uid, safe) for each in step.scheduled]
    for series in step.series:
        uids.append((SERIES_INSTANCE_UID, series.series_instance_uid, safe))
        for sop_class_uid, sop_instance_uid in series.instances:
            uids.append((REFERENCED_SOP_CLASS_UID, sop_class_uid, strict))
            uids.append((REFERENCED_SOP_INSTANCE_UID, sop_instance_uid, safe))
    for tag, uid, rule in uids:
        if not rule.allows(uid):
            raise StepError(Status.INVALID_ATTRIBUTE_VALUE, f"{tag_text(tag)} is no UID", [tag])
    # One N-SET is bounded; many of them would not be.
    if len(step.attributes.encode(EXPLICIT_VR_LITTLE_ENDIAN)) > limits.identifier:
        raise StepError(Status.RESOURCE_LIMITATION, f"longer than {limits.identifier} bytes")
