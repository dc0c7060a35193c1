"""A storage commitment as values: what was asked, and what came of it.

Standard: PS3.4 J.3; PS3.3 C.14 (Storage Commitment module).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, IntEnum
from typing import Final

from isocenter.engine.dataset import EXPLICIT_LITTLE, WritableElement, write_data_set
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList, number_of, text_of
from isocenter.services.dicom.uids import UidRule
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.normalized.ports import (
    REPORT_LIMITS,
    NewReport,
)

STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
#: The one instance of it, which nobody creates (J.3.5).
WELL_KNOWN_INSTANCE: Final = "1.2.840.10008.1.20.1.1"

#: Action Type ID: Request Storage Commitment (Table J.3-1).
REQUEST: Final = 1

RETRIEVE_AE_TITLE: Final = 0x00080054
REFERENCED_SOP_CLASS_UID: Final = 0x00081150
REFERENCED_SOP_INSTANCE_UID: Final = 0x00081155
TRANSACTION_UID: Final = 0x00081195
FAILURE_REASON: Final = 0x00081197
FAILED_SOP_SEQUENCE: Final = 0x00081198
REFERENCED_SOP_SEQUENCE: Final = 0x00081199


class CommitmentEvent(IntEnum):
    """Event types (Table J.3-2)."""

    SUCCESSFUL = 1
    FAILURES_EXIST = 2


class FailureReason(IntEnum):
    """Failure Reason (0008,1197) (PS3.3 C.14.1.1)."""

    PROCESSING_FAILURE = Status.PROCESSING_FAILURE
    NO_SUCH_OBJECT_INSTANCE = Status.NO_SUCH_SOP_INSTANCE
    CLASS_INSTANCE_CONFLICT = Status.CLASS_INSTANCE_CONFLICT
    REFERENCED_SOP_CLASS_NOT_SUPPORTED = Status.SOP_CLASS_NOT_SUPPORTED
    DUPLICATE_TRANSACTION_UID = 0x0131
    RESOURCE_LIMITATION = Status.RESOURCE_LIMITATION


#: Failure reasons in words.
REASONS: Final[Mapping[int, str]] = {
    FailureReason.PROCESSING_FAILURE: "processing failure: not readable, or not what was stored",
    FailureReason.NO_SUCH_OBJECT_INSTANCE: "no such object instance",
    FailureReason.CLASS_INSTANCE_CONFLICT: "the instance has another SOP class",
    FailureReason.REFERENCED_SOP_CLASS_NOT_SUPPORTED: "SOP class not supported",
    FailureReason.DUPLICATE_TRANSACTION_UID: "duplicate transaction UID",
    FailureReason.RESOURCE_LIMITATION: "resource limitation",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance that commitment is asked for.

    Attributes:
        study_instance_uid, series_instance_uid: where the request says that it is; empty: it does
            not say.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str = ""
    series_instance_uid: str = ""


class TransactionState(Enum):
    """What is known of a transaction."""

    PENDING = "pending"
    #: All instances are committed, some, or none.
    SUCCESS = "success"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One storage commitment.

    Attributes:
        requester: AE title of the SCU; over the web, who it was.
        called_ae_title: what it called us; empty: it asked over the web, and gets no report.
        requested_at, completed_at: seconds since 1970; None: not yet.
        failures: for each reference 0 or its failure reason; None while nothing is known.
    """

    transaction_uid: str
    requester: str
    called_ae_title: str
    state: TransactionState
    requested_at: float
    completed_at: float | None
    references: tuple[Reference, ...]
    failures: tuple[int, ...] | None


def state_of(failures: Sequence[int]) -> TransactionState:
    """What a transaction with these failures is."""
    if not any(failures):
        return TransactionState.SUCCESS
    return TransactionState.FAILED if all(failures) else TransactionState.PARTIAL


def result_of(
    transaction: Transaction, failures: Sequence[int], *, retrieve_ae_title: str
) -> NewReport:
    """The Storage Commitment Result (Table J.3-2).

    Args:
        failures: for each reference 0 or its failure reason.
        retrieve_ae_title: where committed instances can be retrieved; empty: not said.
    """
    committed, failed = [], []
    for reference, failure in zip(transaction.references, failures, strict=True):
        item = _item(reference)
        if failure:
            failed.append([*item, (FAILURE_REASON, "US", failure.to_bytes(2, "little"))])
        else:
            committed.append(item)
    elements: list[WritableElement] = []
    if committed and retrieve_ae_title:
        elements.append((RETRIEVE_AE_TITLE, "AE", retrieve_ae_title.encode("ascii")))
    elements.append((TRANSACTION_UID, "UI", transaction.transaction_uid.encode("ascii")))
    if failed:
        elements.append((FAILED_SOP_SEQUENCE, "SQ", failed))
    if committed:
        elements.append((REFERENCED_SOP_SEQUENCE, "SQ", committed))
    return NewReport(
        destination=transaction.requester,
        calling_ae_title=transaction.called_ae_title,
        sop_class_uid=STORAGE_COMMITMENT,
        sop_instance_uid=WELL_KNOWN_INSTANCE,
        event_type=CommitmentEvent.FAILURES_EXIST if failed else CommitmentEvent.SUCCESSFUL,
        transaction_uid=transaction.transaction_uid,
        data_set=write_data_set(elements, EXPLICIT_LITTLE),
    )


def request_of(transaction_uid: str, references: Sequence[Reference]) -> AttributeList:
    """The Action Information of a Storage Commitment Request (Table J.3-1)."""
    elements: list[WritableElement] = [
        (TRANSACTION_UID, "UI", transaction_uid.encode("ascii")),
        (REFERENCED_SOP_SEQUENCE, "SQ", [_item(reference) for reference in references]),
    ]
    data_set = write_data_set(elements, EXPLICIT_LITTLE)
    return AttributeList.read(data_set, EXPLICIT_VR_LITTLE_ENDIAN, REPORT_LIMITS)


def _item(reference: Reference) -> list[WritableElement]:
    return [
        (REFERENCED_SOP_CLASS_UID, "UI", reference.sop_class_uid.encode("ascii")),
        (REFERENCED_SOP_INSTANCE_UID, "UI", reference.sop_instance_uid.encode("ascii")),
    ]


def references_of(attributes: AttributeList, sequence: int) -> list[tuple[Reference, int]]:
    """What a sequence of references names, as it says it, each with its failure reason or 0."""
    return [
        (
            Reference(
                text_of(item, REFERENCED_SOP_CLASS_UID), text_of(item, REFERENCED_SOP_INSTANCE_UID)
            ),
            number_of(item, FAILURE_REASON),
        )
        for item in attributes.items(sequence)
    ]


def checked_references(references: Iterable[Reference]) -> tuple[Reference, ...]:
    """References of a request, each once (PS3.4 J.3.2.1.1.3).

    Raises:
        OperationError: 0121H: a UID is empty; 0115H: it is none.
    """
    found = tuple(dict.fromkeys(references))
    for each in found:
        check_uid(REFERENCED_SOP_CLASS_UID, each.sop_class_uid, UidRule.STRICT)
        # Whether such an instance may be stored is not asked here, only whether it was.
        check_uid(REFERENCED_SOP_INSTANCE_UID, each.sop_instance_uid, UidRule.SAFE)
    return found


def check_uid(tag: int, uid: str, rule: UidRule) -> None:
    """Whether the value of an attribute of a request may be what it is.

    Raises:
        OperationError: 0121H: it is empty; 0115H: it is no UID.
    """
    if not uid:
        raise OperationError(Status.MISSING_ATTRIBUTE_VALUE, f"{tag_text(tag)} has no value")
    if not rule.allows(uid):
        raise OperationError(Status.INVALID_ARGUMENT_VALUE, f"{tag_text(tag)} is no UID")
