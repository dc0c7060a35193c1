"""Workitem as a value: attributes and states (PS3.4 CC.1, PS3.3 C.30)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from isocenter.engine.dataset import Element
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.normalized.refusal import RequestRefusedError

#: Of all instances, on whatever SOP class they are asked for (CC.3.1).
UPS_PUSH: Final = "1.2.840.10008.5.1.4.34.6.1"
UPS_WATCH: Final = "1.2.840.10008.5.1.4.34.6.2"
UPS_PULL: Final = "1.2.840.10008.5.1.4.34.6.3"
UPS_EVENT: Final = "1.2.840.10008.5.1.4.34.6.4"
UPS_QUERY: Final = "1.2.840.10008.5.1.4.34.6.5"
#: Instances that are subscribed to in the place of all workitems, and of those that match (CC.2.3).
GLOBAL_SUBSCRIPTION: Final = "1.2.840.10008.5.1.4.34.5"
FILTERED_SUBSCRIPTION: Final = "1.2.840.10008.5.1.4.34.5.1"

SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
PATIENT_NAME: Final = 0x00100010
PATIENT_ID: Final = 0x00100020
STUDY_INSTANCE_UID: Final = 0x0020000D
TRANSACTION_UID: Final = 0x00081195
DISCONTINUATION_REASON: Final = 0x0074100E
SCHEDULED_START: Final = 0x00404005
MODIFIED: Final = 0x00404010
STATION_NAME: Final = 0x00404025
HUMAN_PERFORMERS: Final = 0x00404034
HUMAN_PERFORMER: Final = 0x00404009
PERFORMER_ORGANIZATION: Final = 0x00404036
INPUT_INFORMATION: Final = 0x00404021
OUTPUT_INFORMATION: Final = 0x00404033
INPUT_READINESS: Final = 0x00404041
CANCELLED_AT: Final = 0x00404052
STATE: Final = 0x00741000
PROGRESS_INFORMATION: Final = 0x00741002
PROGRESS: Final = 0x00741004
CONTACT_URI: Final = 0x0074100A
CONTACT_NAME: Final = 0x0074100C
PRIORITY: Final = 0x00741200
WORKLIST_LABEL: Final = 0x00741202
LABEL: Final = 0x00741204
PERFORMED_PROCEDURE: Final = 0x00741216
DELETION_LOCK: Final = 0x00741230
RECEIVING_AE: Final = 0x00741234
REQUESTING_AE: Final = 0x00741236
CANCELLATION_REASON: Final = 0x00741238


class UpsStatus:
    """Statuses of the service (PS3.4 CC.2); those of all normalized services are in `Status`."""

    CREATED_WITH_MODIFICATIONS: Final = 0xB300
    DELETION_LOCK_NOT_GRANTED: Final = 0xB301
    ALREADY_CANCELED: Final = 0xB304
    COERCED: Final = 0xB305
    ALREADY_COMPLETED: Final = 0xB306
    NO_LONGER_UPDATED: Final = 0xC300
    WRONG_TRANSACTION: Final = 0xC301
    ALREADY_IN_PROGRESS: Final = 0xC302
    SCHEDULED_BY_CREATE_ONLY: Final = 0xC303
    FINAL_STATE_NOT_MET: Final = 0xC304
    NO_SUCH_WORKITEM: Final = 0xC307
    RECEIVER_UNKNOWN: Final = 0xC308
    NOT_CREATED_SCHEDULED: Final = 0xC309
    NOT_YET_IN_PROGRESS: Final = 0xC310
    IS_COMPLETED: Final = 0xC311
    PERFORMER_NOT_REACHED: Final = 0xC312
    ACTION_NOT_APPROPRIATE: Final = 0xC314


class WorkitemState(Enum):
    """Procedure Step State (0074,1000) (CC.1.1)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"

    @property
    def is_final(self) -> bool:
        """Whether nothing may change any more."""
        return self in (WorkitemState.COMPLETED, WorkitemState.CANCELED)


class UpsError(RequestRefusedError):
    """A request that breaks a rule; nothing has changed."""


@dataclass(frozen=True, kw_only=True)
class Workitem:
    """One unified procedure step.

    Attributes:
        transaction_uid: the lock of whoever performs it; empty: nobody does.
        created_at, changed_at: seconds since 1970.
        attributes: all that may be told of it: never the Transaction UID (0008,1195).
    """

    sop_instance_uid: str
    state: WorkitemState
    transaction_uid: str = ""
    created_at: float
    changed_at: float
    attributes: AttributeList

    def __repr__(self) -> str:
        # What it says of a patient, and the lock, stay out of logs and tracebacks.
        return f"Workitem({self.sop_instance_uid!r}, {self.state.value})"


def with_elements(attributes: AttributeList, elements: Iterable[Element]) -> AttributeList:
    """*attributes* with elements in the place of those of their tags; none has text that is not
    ASCII."""
    changed = dict(attributes.elements) | {element.tag: element for element in elements}
    return AttributeList(dict(sorted(changed.items())))


def without(attributes: AttributeList, *tags: int) -> AttributeList:
    """*attributes* without some."""
    return AttributeList({tag: e for tag, e in attributes.elements.items() if tag not in tags})


def element(tag: int, vr: str, text: str) -> Element:
    """One of ASCII text, padded."""
    raw = text.encode("ascii", "replace")
    if len(raw) & 1:
        raw += b"\0" if vr == "UI" else b" "
    return Element(tag, vr, raw)


def sequence(tag: int, *items: Mapping[int, Element]) -> Element:
    """A sequence of these items."""
    return Element(tag, "SQ", tuple(dict(sorted(item.items())) for item in items))


def date_time(at: float) -> str:
    """A value of VR DT, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%d%H%M%S+0000")
