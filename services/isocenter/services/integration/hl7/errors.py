"""Faults of HL7 messages: place, code and words, never a value."""

from __future__ import annotations

from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True)
class MessageErrorCode:
    """A row of HL7 Table 0357."""

    number: int
    meaning: str


SEGMENT_SEQUENCE_ERROR: Final = MessageErrorCode(100, "Segment sequence error")
REQUIRED_FIELD_MISSING: Final = MessageErrorCode(101, "Required field missing")
DATA_TYPE_ERROR: Final = MessageErrorCode(102, "Data type error")
TABLE_VALUE_NOT_FOUND: Final = MessageErrorCode(103, "Table value not found")
UNSUPPORTED_MESSAGE_TYPE: Final = MessageErrorCode(200, "Unsupported message type")
UNSUPPORTED_EVENT_CODE: Final = MessageErrorCode(201, "Unsupported event code")
UNSUPPORTED_PROCESSING_ID: Final = MessageErrorCode(202, "Unsupported processing id")
UNSUPPORTED_VERSION_ID: Final = MessageErrorCode(203, "Unsupported version id")
UNKNOWN_KEY_IDENTIFIER: Final = MessageErrorCode(204, "Unknown key identifier")
DUPLICATE_KEY_IDENTIFIER: Final = MessageErrorCode(205, "Duplicate key identifier")
RECORD_LOCKED: Final = MessageErrorCode(206, "Application record locked")
APPLICATION_INTERNAL_ERROR: Final = MessageErrorCode(207, "Application internal error")


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a message.

    Attributes:
        number: which segment of that name, from 1.
        field: from 1; 0: the segment.
    """

    segment: str
    field: int = 0
    number: int = 1

    def __str__(self) -> str:
        nth = f" (the {self.number}. one)" if self.number > 1 else ""
        return f"{self.segment}-{self.field}{nth}" if self.field else f"{self.segment}{nth}"


class Hl7Error(IsocenterError):
    """A message that cannot be done; the message of this error has the place in front.

    Attributes:
        is_reject: AR: nothing in its content would help; else AE, the sender can correct it.
    """

    error_code = ErrorCode.HL7

    def __init__(
        self, text: str, place: Location, code: MessageErrorCode, *, is_reject: bool = False
    ) -> None:
        super().__init__(f"{place}: {text}")
        self.place = place
        self.code = code
        self.is_reject = is_reject
