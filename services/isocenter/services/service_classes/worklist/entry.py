"""Worklist entry as a value, and the attributes that it needs.

An entry is one scheduled procedure step with all that a modality may ask of it: patient,
visit, requested procedure, imaging service request (PS3.3 C.4.10 to C.4.15; return keys of
PS3.4 Table K.6-1).  Where entries are kept, the port says
(`isocenter.services.service_classes.worklist.ports`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from enum import Enum
from functools import cached_property
from typing import Final

from isocenter.engine.ae import is_ae_title
from isocenter.engine.dataset import Element, Item
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, is_safe_uid
from isocenter.services.archive.index.matching import is_range_comparable, normalize, split_values
from isocenter.services.dicom.attribute_list import AttributeList, text_of
from isocenter.services.service_classes.worklist.query_keys import (
    SCHEDULED_STEPS,
    START_DATE,
    START_TIME,
    STEP_STATUS,
)

__all__ = [
    "Entry",
    "InvalidEntryError",
    "EntryKey",
    "EntryState",
    "parse_entry",
]

MODALITY_WORKLIST_FIND: Final = "1.2.840.10008.5.1.4.31"

ACCESSION_NUMBER: Final = 0x00080050
MODALITY: Final = 0x00080060
PATIENT_NAME: Final = 0x00100010
PATIENT_ID: Final = 0x00100020
STUDY_INSTANCE_UID: Final = 0x0020000D
STATION_AE_TITLE: Final = 0x00400001
STEP_ID: Final = 0x00400009
REQUESTED_PROCEDURE_ID: Final = 0x00401001


class EntryState(Enum):
    """What became of a scheduled step."""

    SCHEDULED = "SCHEDULED"
    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


class InvalidEntryError(IsocenterError, ValueError):
    """What was to be an entry is none; the message names the entry's place and the key, no value.

    Attributes:
        tag: the key that is wrong; 0: no single one.
    """

    error_code = ErrorCode.WORKLIST_ENTRY

    def __init__(self, message: str, tag: int = 0) -> None:
        super().__init__(message)
        self.tag = tag


@dataclass(frozen=True, slots=True)
class EntryKey:
    """What tells entries apart: Scheduled Procedure Step ID and Accession Number."""

    step_id: str
    accession_number: str


@dataclass(frozen=True)
class Entry:
    """One entry, checked: made by `parse_entry`."""

    attributes: AttributeList

    @cached_property
    def step(self) -> Item:
        """The one item of (0040,0100)."""
        return self.attributes.items(SCHEDULED_STEPS)[0]

    def text(self, tag: int) -> str:
        """The decoded value of an attribute outside of (0040,0100); empty when there is none."""
        return self.attributes.text(tag)

    def step_text(self, tag: int) -> str:
        """The decoded value of an attribute of the scheduled procedure step."""
        return text_of(self.step, tag, self.attributes.character_set)

    @property
    def key(self) -> EntryKey:
        return EntryKey(self.step_text(STEP_ID), self.text(ACCESSION_NUMBER))


def _is_date(text: str) -> bool:
    normalized = normalize("DA", text)
    try:
        date.fromisoformat(normalized)
    except ValueError:
        return False
    return is_range_comparable("DA", normalized)


def _is_time(text: str) -> bool:
    return _TIME_OF_DAY.fullmatch(normalize("TM", text)) is not None


def _is_code(text: str) -> bool:
    return _CODE_STRING.fullmatch(text) is not None


def _is_short(text: str) -> bool:
    return len(text) <= _SHORT_STRING


def _is_long(text: str) -> bool:
    return len(text) <= _LONG_STRING


def _all(check: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: all(map(check, split_values("AE", text)))


_CODE_STRING: Final = re.compile(r"[A-Z0-9 _]{1,16}", re.ASCII)
#: As `normalize` writes it; 60 is a leap second (PS3.5 6.2).
_TIME_OF_DAY: Final = re.compile(
    r"(?:[01][0-9]|2[0-3])[0-5][0-9](?:[0-5][0-9]|60)\.[0-9]{6}", re.ASCII
)
_SHORT_STRING: Final = 16
_LONG_STRING: Final = 64

#: What has to be there with a value, and how it has to look (PS3.4 Table K.6-1, type 1).
STEP_NEEDS: Final = {
    STATION_AE_TITLE: ("AE titles", _all(is_ae_title)),
    START_DATE: ("a date (YYYYMMDD)", _is_date),
    START_TIME: ("a time (HHMMSS)", _is_time),
    MODALITY: ("a modality: capitals, digits, underscore", _is_code),
    STEP_ID: ("an ID of at most 16 characters", _is_short),
}
NEEDS: Final = {
    PATIENT_NAME: ("a person's name", lambda text: True),
    PATIENT_ID: ("an ID of at most 64 characters", _is_long),
    STUDY_INSTANCE_UID: ("a UID", is_safe_uid),
    REQUESTED_PROCEDURE_ID: ("an ID of at most 16 characters", _is_short),
}
#: What may be missing or empty, but not anything else.
_MAY_HAVE: Final = {
    ACCESSION_NUMBER: ("an accession number of at most 16 characters", _is_short),
    0x00100030: ("a date (YYYYMMDD)", _is_date),
    0x00100040: ("M, F or O", frozenset("MFO").__contains__),
}


def parse_entry(attributes: AttributeList, place: str, limits: Limits = DEFAULT_LIMITS) -> Entry:
    """The entry that *attributes* are.

    (0040,0020), Scheduled Procedure Step Status, is left out: the worklist itself knows it.

    Args:
        place: for the message: ``entry 3``, ``orders.json, entry 3``, ``line 5`` …

    Raises:
        InvalidEntryError: a key is missing, or its value is not what it has to be.
    """
    items = attributes.items(SCHEDULED_STEPS)
    if len(items) != 1:
        raise InvalidEntryError(
            f"{place}: {tag_text(SCHEDULED_STEPS)} needs one item, the scheduled procedure step; "
            f"it has {len(items)}",
            SCHEDULED_STEPS,
        )
    step = {tag: element for tag, element in items[0].items() if tag != STEP_STATUS}
    elements = {**attributes.elements, SCHEDULED_STEPS: Element(SCHEDULED_STEPS, "SQ", (step,))}
    entry = Entry(AttributeList(elements))
    for tag, (what, is_one) in _MAY_HAVE.items():
        value = entry.text(tag)
        if value and not is_one(value):
            raise InvalidEntryError(f"{place}: {tag_text(tag)} is not {what}", tag)
    for needs, text, where in (
        (STEP_NEEDS, entry.step_text, f"{tag_text(SCHEDULED_STEPS)}>"),
        (NEEDS, entry.text, ""),
    ):
        for tag, (what, is_one) in needs.items():
            value = text(tag)
            if not value:
                raise InvalidEntryError(f"{place}: {where}{tag_text(tag)} is missing: {what}", tag)
            if not is_one(value):
                raise InvalidEntryError(f"{place}: {where}{tag_text(tag)} is not {what}", tag)
    if len(entry.attributes.encode(EXPLICIT_VR_LITTLE_ENDIAN)) > limits.identifier:
        raise InvalidEntryError(f"{place}: longer than {limits.identifier} bytes")
    return entry
