"""Statuses of DIMSE operations and what they mean (PS3.7 Annex C, PS3.4 B.2.3, C.4)."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final


class StatusClass(Enum):
    """PS3.7 C.1 to C.6."""

    SUCCESS = "success"
    PENDING = "pending"
    CANCEL = "cancel"
    WARNING = "warning"
    FAILURE = "failure"


class Status(IntEnum):
    """Statuses by their names in the standard."""

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
    ELEMENTS_DISCARDED = 0xB006
    DATA_SET_MISMATCH = 0xB007
    CANNOT_UNDERSTAND = 0xC000
    UNABLE_TO_PROCESS = 0xC001
    CANCEL = 0xFE00
    PENDING = 0xFF00
    PENDING_WARNING = 0xFF01


_WARNINGS: Final = frozenset(
    {Status.WARNING, Status.ATTRIBUTE_LIST_ERROR, Status.ATTRIBUTE_VALUE_OUT_OF_RANGE}
)
_TEXTS: Final = {
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


def classify(status: int) -> StatusClass:
    """What kind of status *status* is; what the standard does not know is a failure."""
    if status == Status.SUCCESS:
        return StatusClass.SUCCESS
    if status in (Status.PENDING, Status.PENDING_WARNING):
        return StatusClass.PENDING
    if status == Status.CANCEL:
        return StatusClass.CANCEL
    if status & 0xF000 == 0xB000 or status in _WARNINGS:
        return StatusClass.WARNING
    return StatusClass.FAILURE


def describe_status(status: int) -> str:
    """A few words for any status, the standard's where it has some."""
    text = _TEXTS.get(status)  # type: ignore[call-overload]
    if text is not None:
        return str(text)
    for mask, value, words in _RANGES:
        if status & mask == value:
            return words
    return "unknown status"
