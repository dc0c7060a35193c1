"""Statuses of DIMSE operations and what they mean.

PS3.7 Annex C gives the classes and what holds for every service; PS3.4 gives each
service class its own (B.2.3, C.4, F.7.2, H.4, J.3, K.4.1.1.4, CC.2).  The class of a
status is the same everywhere, its words are not: A700H of C-STORE speaks of storage,
B000H of C-MOVE of sub-operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Final


class StatusClass(Enum):
    """PS3.7 C.1 to C.6."""

    SUCCESS = "success"
    PENDING = "pending"
    CANCEL = "cancel"
    WARNING = "warning"
    FAILURE = "failure"


class ServiceClass(Enum):
    """Whose words a status is read in; C-MOVE and C-GET of one service class differ."""

    VERIFICATION = "verification"
    STORAGE = "storage"
    FIND = "query"
    MOVE = "retrieve by C-MOVE"
    GET = "retrieve by C-GET"
    WORKLIST = "modality worklist"
    PROCEDURE_STEP = "modality performed procedure step"
    STORAGE_COMMITMENT = "storage commitment"
    PRINT = "print management"
    UNIFIED_PROCEDURE_STEP = "unified procedure step"


class Status(IntEnum):
    """Statuses by their names in the standard: those of PS3.7 and of the oldest services."""

    SUCCESS = 0x0000
    WARNING = 0x0001
    NO_SUCH_ATTRIBUTE = 0x0105
    INVALID_ATTRIBUTE_VALUE = 0x0106
    ATTRIBUTE_LIST_ERROR = 0x0107
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    NO_SUCH_SOP_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    NO_SUCH_ARGUMENT = 0x0114
    INVALID_ARGUMENT_VALUE = 0x0115
    ATTRIBUTE_VALUE_OUT_OF_RANGE = 0x0116
    INVALID_SOP_INSTANCE = 0x0117
    NO_SUCH_SOP_CLASS = 0x0118
    CLASS_INSTANCE_CONFLICT = 0x0119
    MISSING_ATTRIBUTE = 0x0120
    MISSING_ATTRIBUTE_VALUE = 0x0121
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION_TYPE = 0x0123
    NOT_AUTHORIZED = 0x0124
    DUPLICATE_INVOCATION = 0x0210
    UNRECOGNIZED_OPERATION = 0x0211
    MISTYPED_ARGUMENT = 0x0212
    RESOURCE_LIMITATION = 0x0213
    OUT_OF_RESOURCES = 0xA700
    UNABLE_TO_CALCULATE_MATCHES = 0xA701
    UNABLE_TO_PERFORM_SUBOPERATIONS = 0xA702
    MOVE_DESTINATION_UNKNOWN = 0xA801
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS = 0xA900
    SUBOPERATIONS_WITH_FAILURES = 0xB000
    #: The same number, as C-STORE means it (PS3.4 Table B.2-1).
    COERCION_OF_DATA_ELEMENTS = 0xB000
    ELEMENTS_DISCARDED = 0xB006
    DATA_SET_MISMATCH = 0xB007
    CANNOT_UNDERSTAND = 0xC000
    UNABLE_TO_PROCESS = 0xC001
    CANCEL = 0xFE00
    PENDING = 0xFF00
    PENDING_WARNING = 0xFF01


#: As plain numbers: each response is asked for, and a member of an `Enum` costs as much as a call.
_PENDING: Final = frozenset({int(Status.PENDING), int(Status.PENDING_WARNING)})
_CANCEL: Final = int(Status.CANCEL)
_WARNINGS: Final = frozenset(
    {Status.WARNING, Status.ATTRIBUTE_LIST_ERROR, Status.ATTRIBUTE_VALUE_OUT_OF_RANGE}
)
_TEXTS: Final[dict[int, str]] = {
    Status.SUCCESS: "success",
    Status.WARNING: "requested optional attributes are not supported",
    Status.NO_SUCH_ATTRIBUTE: "no such attribute",
    Status.INVALID_ATTRIBUTE_VALUE: "invalid attribute value",
    Status.ATTRIBUTE_LIST_ERROR: "attribute list error",
    Status.PROCESSING_FAILURE: "processing failure",
    Status.DUPLICATE_SOP_INSTANCE: "duplicate SOP instance",
    Status.NO_SUCH_SOP_INSTANCE: "no such SOP instance",
    Status.NO_SUCH_EVENT_TYPE: "no such event type",
    Status.NO_SUCH_ARGUMENT: "no such argument",
    Status.INVALID_ARGUMENT_VALUE: "invalid argument value",
    Status.ATTRIBUTE_VALUE_OUT_OF_RANGE: "attribute value out of range",
    Status.INVALID_SOP_INSTANCE: "invalid SOP instance",
    Status.NO_SUCH_SOP_CLASS: "no such SOP class",
    Status.CLASS_INSTANCE_CONFLICT: "class-instance conflict",
    Status.MISSING_ATTRIBUTE: "missing attribute",
    Status.MISSING_ATTRIBUTE_VALUE: "missing attribute value",
    Status.SOP_CLASS_NOT_SUPPORTED: "SOP class not supported",
    Status.NO_SUCH_ACTION_TYPE: "no such action type",
    Status.NOT_AUTHORIZED: "refused: not authorized",
    Status.DUPLICATE_INVOCATION: "duplicate invocation",
    Status.UNRECOGNIZED_OPERATION: "unrecognized operation",
    Status.MISTYPED_ARGUMENT: "mistyped argument",
    Status.RESOURCE_LIMITATION: "resource limitation",
    Status.OUT_OF_RESOURCES: "refused: out of resources",
    Status.UNABLE_TO_CALCULATE_MATCHES: "refused: unable to calculate number of matches",
    Status.UNABLE_TO_PERFORM_SUBOPERATIONS: "refused: unable to perform sub-operations",
    Status.MOVE_DESTINATION_UNKNOWN: "refused: move destination unknown",
    Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS: "data set or identifier does not match SOP class",
    Status.SUBOPERATIONS_WITH_FAILURES: "warning: coercion, or sub-operations with failures",
    Status.ELEMENTS_DISCARDED: "warning: elements discarded",
    Status.DATA_SET_MISMATCH: "warning: data set does not match",
    Status.CANNOT_UNDERSTAND: "error: cannot understand",
    Status.UNABLE_TO_PROCESS: "unable to process",
    Status.CANCEL: "cancelled",
    Status.PENDING: "pending",
    Status.PENDING_WARNING: "pending, optional keys not supported",
}
#: Ranges that leave the low bits to the implementation (PS3.7 C.4, C.5; PS3.4 B.2.3, C.4).
_RANGES: Final = (
    (0xFF00, 0xA700, "refused: out of resources"),
    (0xFF00, 0xA900, "data set or identifier does not match SOP class"),
    (0xF000, 0xA000, "failure"),
    (0xF000, 0xB000, "warning"),
    (0xF000, 0xC000, "error: cannot understand or process"),
)


#: C000H and all above: the low bits say what the performer likes.
_LEFT_TO_PERFORMER: Final = 0xF000

_Meanings = Mapping[int, str]

#: Of every C-FIND (PS3.4 C.4.1.1.4, K.4.1.1.4).
_FIND: Final[_Meanings] = {
    0xA700: "refused: out of resources",
    0xA710: "invalid prior record key",
    0xA900: "identifier does not match SOP class",
    0xB001: "warning: response limit reached, another request may return more matches",
    0xC000: "unable to process",
    0xFE00: "matching terminated by cancel",
    0xFF00: "matches are continuing",
    0xFF01: "matches are continuing, optional keys not supported",
}
#: Of C-MOVE and C-GET (PS3.4 C.4.2.1.5, C.4.3.1.4), also for frames and without bulk data (Y, Z).
_RETRIEVE: Final[_Meanings] = {
    0xA701: "refused: out of resources, unable to calculate number of matches",
    0xA702: "refused: out of resources, unable to perform sub-operations",
    0xA900: "identifier does not match SOP class",
    0xAA00: "none of the frames requested were found in the SOP instance",
    0xAA01: "unable to create new object for this SOP class",
    0xAA02: "unable to extract frames",
    0xAA03: "time-based request for an instance that is not time-based",
    0xAA04: "invalid request",
    0xB000: "sub-operations complete, with failures or warnings",
    0xC000: "unable to process",
    0xFE00: "sub-operations terminated by cancel",
    0xFF00: "sub-operations are continuing",
}
#: Where a service class has words of its own (PS3.4).
MEANINGS: Final[Mapping[ServiceClass, _Meanings]] = {
    ServiceClass.VERIFICATION: {},
    ServiceClass.STORAGE: {  # B.2.3
        0xA700: "refused: out of resources",
        0xA900: "data set does not match SOP class",
        0xB000: "warning: coercion of data elements",
        0xB006: "warning: elements discarded",
        0xB007: "warning: data set does not match SOP class",
        0xC000: "cannot understand",
    },
    ServiceClass.FIND: _FIND,
    ServiceClass.MOVE: {**_RETRIEVE, 0xA801: "refused: move destination unknown"},
    ServiceClass.GET: _RETRIEVE,
    ServiceClass.WORKLIST: _FIND,
    ServiceClass.PROCEDURE_STEP: {  # F.7.2.1.3, F.7.2.2.3
        0x0110: "processing failure (error ID A710H: the step may no longer be updated)",
    },
    ServiceClass.STORAGE_COMMITMENT: {  # also Failure Reason (0008,1197), PS3.3 C.14.1.1
        0x0112: "no such object instance",
        0x0119: "class/instance conflict",
        0x0122: "referenced SOP class not supported",
        0x0131: "duplicate transaction UID",
    },
    ServiceClass.PRINT: {  # H.4
        0xB600: "warning: memory allocation not supported",
        0xB601: "warning: film session printing (collation) is not supported",
        0xB602: "warning: film session without image boxes, empty pages",
        0xB603: "warning: film box without image boxes, empty page",
        0xB604: "warning: image demagnified to fit its image box",
        0xB605: "warning: density outside of the printer's range, its own limit is used",
        0xB609: "warning: image cropped to fit its image box",
        0xB60A: "warning: image decimated to fit its image box",
        0xC600: "film session without film boxes",
        0xC601: "no print job: the print queue is full (film session)",
        0xC602: "no print job: the print queue is full (film box)",
        0xC603: "image is larger than its image box",
        0xC605: "insufficient memory in the printer to store the image",
        0xC613: "combined print image is larger than its image box",
        0xC616: "the last film box has not been printed, and sessions cannot be",
    },
    ServiceClass.UNIFIED_PROCEDURE_STEP: {  # CC.2
        **_FIND,
        0xB300: "warning: the UPS was created with modifications",
        0xB301: "warning: deletion lock not granted",
        0xB304: "warning: the UPS is already CANCELED",
        0xB305: "warning: coerced invalid values to valid values",
        0xB306: "warning: the UPS is already COMPLETED",
        0xC300: "the UPS may no longer be updated",
        0xC301: "the correct transaction UID was not provided",
        0xC302: "the UPS is already IN PROGRESS",
        0xC303: "the UPS may only become SCHEDULED by N-CREATE",
        0xC304: "the UPS does not meet the requirements of the final state",
        0xC307: "no such UPS instance at this SCP",
        0xC308: "receiving AE title is unknown to this SCP",
        0xC309: "the UPS state was not SCHEDULED",
        0xC310: "the UPS is not yet IN PROGRESS",
        0xC311: "the UPS is already COMPLETED",
        0xC312: "the performer cannot be contacted",
        0xC313: "the performer chooses not to cancel",
        0xC314: "the action is not appropriate for this instance",
        0xC315: "the SCP does not support event reports",
    },
}
#: Error ID (0000,0903) of 0110H when a performed procedure step is final (PS3.4 F.7.2.2.3).
STEP_MAY_NO_LONGER_BE_UPDATED: Final = 0xA710

_SERVICE_CLASSES: Final = {
    "1.2.840.10008.1.1": ServiceClass.VERIFICATION,
    "1.2.840.10008.1.20.1": ServiceClass.STORAGE_COMMITMENT,
    "1.2.840.10008.5.1.4.31": ServiceClass.WORKLIST,
    **dict.fromkeys(
        (f"1.2.840.10008.3.1.2.3.{part}" for part in (3, 4, 5)), ServiceClass.PROCEDURE_STEP
    ),
    **dict.fromkeys(
        (f"1.2.840.10008.5.1.4.34.6.{part}" for part in (1, 2, 3, 4, 5)),
        ServiceClass.UNIFIED_PROCEDURE_STEP,
    ),
    **dict.fromkeys(
        (
            f"1.2.840.10008.5.1.1.{part}"
            for part in ("1", "2", "4", "4.1", "9", "14", "16", "16.376", "18")
        ),
        ServiceClass.PRINT,
    ),
}


def service_class_of(sop_class_uid: str) -> ServiceClass | None:
    """The service class of a SOP class whose messages do not tell it; None for all others.

    C-STORE, C-FIND, C-MOVE and C-GET tell it themselves, but for the worklist and the UPS.
    """
    return _SERVICE_CLASSES.get(sop_class_uid)


def classify(status: int) -> StatusClass:
    """What kind of status *status* is; what the standard does not know is a failure."""
    if status == 0:
        return StatusClass.SUCCESS
    if status in _PENDING:
        return StatusClass.PENDING
    if status == _CANCEL:
        return StatusClass.CANCEL
    if status & 0xF000 == 0xB000 or status in _WARNINGS:
        return StatusClass.WARNING
    return StatusClass.FAILURE


def is_final(status: int) -> bool:
    """Whether no response comes after one with *status*: every status but pending."""
    return status not in _PENDING


def describe_status(status: int, service: ServiceClass | None = None) -> str:
    """A few words for any status, the standard's where it has some.

    Args:
        service: whose words; without it, those that hold for all of them.
    """
    if service is not None:
        meanings = MEANINGS[service]
        text = meanings.get(status)
        if text is None and status & _LEFT_TO_PERFORMER == Status.CANNOT_UNDERSTAND:
            text = meanings.get(Status.CANNOT_UNDERSTAND)
        if text is not None:
            return text
    text = _text(status)
    if text is not None:
        return text
    for mask, value, words in _RANGES:
        if status & mask == value:
            return words
    return "unknown status"


def _text(status: int) -> str | None:
    return _TEXTS.get(status)
