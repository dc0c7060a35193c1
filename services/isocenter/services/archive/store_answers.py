"""Answers to store requests, and what they follow from."""

from __future__ import annotations

from enum import Enum
from typing import Final, assert_never

from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.object_scan import OtherPatientError, StoreError
from isocenter.services.archive.ports import (
    AddOutcome,
    AddResult,
    DuplicatePolicy,
    InstanceRecord,
    OtherPatientPolicy,
    StoredInstance,
)
from isocenter.services.notices import Caller, InstanceStored

_PATIENT_NAME: Final = 0x00100010
_PATIENT_ID: Final = 0x00100020


class StoreOutcome(Enum):
    """What became of an object that was accepted."""

    STORED = "stored"
    #: The archive had it, byte for byte.
    ALREADY_STORED = "already stored"
    #: The archive has another object of this SOP Instance UID and kept that.
    KEPT_OTHER = "kept other"
    #: It took the place of another object of this SOP Instance UID.
    REPLACED = "replaced"
    #: It is kept, and withheld until somebody releases it.
    QUARANTINED = "quarantined"
    #: It was rejected before, and nobody is told that it is not wanted again.
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class StoreResult:
    """The answer to a store request that did not fail.

    Attributes:
        instance: what the archive has now under the SOP Instance UID.
        is_of_other_patient: it names another patient than its study came with, and whoever
            sent it is to be told.
        changes: what of it was changed on arrival, in words.
        not_valid: why it is not valid by its IOD, where whoever sent it is to be told.
        forgiven: what of it breaks the standard and was taken all the same, in words that show
            no value.
    """

    outcome: StoreOutcome
    instance: StoredInstance
    is_of_other_patient: bool = False
    changes: tuple[str, ...] = ()
    forgiven: tuple[str, ...] = ()
    not_valid: str = ""

    @property
    def status(self) -> int:
        """Of the C-STORE-RSP: 0000H, or the warning B007H when another object was kept or it is
        not valid, or B000H when attributes were changed or another patient is named."""
        if self.outcome is StoreOutcome.KEPT_OTHER or self.not_valid:
            return Status.DATA_SET_MISMATCH
        is_odd = self.changes or self.is_of_other_patient
        return Status.COERCION_OF_DATA_ELEMENTS if is_odd else Status.SUCCESS

    @property
    def comment(self) -> str:
        """What the warning is about, for Error Comment (0000,0902)."""
        if self.outcome is StoreOutcome.KEPT_OTHER:
            return "another object with this SOP Instance UID is kept"
        other = ("kept; other objects of the study name another patient",)
        faults = (f"kept; {self.not_valid}",) if self.not_valid else ()
        return "; ".join((*faults, *(other if self.is_of_other_patient else ()), *self.changes))


@dataclass(frozen=True, slots=True)
class StoreAnswers:
    """Which answer an object gets, under the policies of an archive."""

    duplicates: DuplicatePolicy
    other_patient: OtherPatientPolicy

    def of_added(self, record: InstanceRecord, added: AddResult) -> StoreResult | StoreError:
        """To an object that was published, and that the index took up or not."""
        is_of_other = (
            added.other_patient is not None and self.other_patient is OtherPatientPolicy.WARN
        )
        match added.outcome:
            case AddOutcome.ADDED:
                return StoreResult(StoreOutcome.STORED, record, is_of_other_patient=is_of_other)
            case AddOutcome.REPLACED:
                return StoreResult(StoreOutcome.REPLACED, record, is_of_other_patient=is_of_other)
            case AddOutcome.OTHER_PATIENT:
                return OtherPatientError(
                    Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
                    "refused: other objects of the study name another patient",
                    (_PATIENT_ID,),
                )
            case AddOutcome.QUARANTINED | AddOutcome.ALREADY_QUARANTINED:
                return StoreResult(StoreOutcome.QUARANTINED, record)
            case AddOutcome.IGNORED:
                return StoreResult(StoreOutcome.IGNORED, record)
            case AddOutcome.REFUSED:
                return StoreError(
                    Status.NOT_AUTHORIZED,
                    f"refused: a rejection note ({added.rejection}, DCM) has rejected it",
                )
            case AddOutcome.DUPLICATE:
                return self.of_duplicate(record, added.previous or record)
            case _:
                assert_never(added.outcome)

    def of_duplicate(
        self, record: InstanceRecord, previous: StoredInstance
    ) -> StoreResult | StoreError:
        """To an object whose SOP Instance UID the archive has, in *previous*, which it keeps."""
        if self.duplicates is DuplicatePolicy.REJECT:
            return StoreError(
                Status.DUPLICATE_SOP_INSTANCE, "the archive has this SOP instance already"
            )
        if record.digest in (previous.digest, previous.received_digest):
            return StoreResult(StoreOutcome.ALREADY_STORED, previous)
        return StoreResult(StoreOutcome.KEPT_OTHER, previous)


def superfluous_key(record: InstanceRecord, added: AddResult) -> str | None:
    """The key of the object that no row of the index points to any more."""
    previous = added.previous
    if added.outcome.is_kept_out:
        return None if added.outcome is AddOutcome.QUARANTINED else record.object_key
    if added.outcome is AddOutcome.OTHER_PATIENT:
        is_there = previous is not None and previous.object_key == record.object_key
        return None if is_there else record.object_key
    if previous is None or previous.object_key == record.object_key:
        return None
    return previous.object_key if added.outcome is AddOutcome.REPLACED else record.object_key


def stored_notice(caller: Caller, record: InstanceRecord, outcome: StoreOutcome) -> InstanceStored:
    """What is told in this process of an object that was accepted."""
    return InstanceStored(
        caller=caller,
        study_instance_uid=record.study_instance_uid,
        series_instance_uid=record.series_instance_uid,
        sop_class_uid=record.sop_class_uid,
        sop_instance_uid=record.sop_instance_uid,
        size=record.size - record.data_set_offset,
        outcome=outcome.value,
        patient_id=record.attributes.get(_PATIENT_ID, ""),
        patient_name=record.attributes.get(_PATIENT_NAME, ""),
    )
