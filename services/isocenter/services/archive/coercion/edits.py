"""Edits of attributes, checked before any object comes.

Standard: PS3.3 C.12.1.1.9 (reasons of modification), PS3.5 6.1, 6.2 (values).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final, assert_never

from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.vr import SPACE_PADDED_VRS
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.coercion.head import (
    ORIGINAL_ATTRIBUTES_SEQUENCE,
)
from isocenter.services.archive.index.extraction import (
    SPECIFIC_CHARACTER_SET,
)
from isocenter.services.dicom.data_dictionary import dictionary_vr
from isocenter.services.dicom.element_values import (
    NUMBER_VRS,
    UTF_8,
    encode_numbers,
    encode_text,
)
from isocenter.services.dicom.uids import UidRule

OTHER_PATIENT_IDS_SEQUENCE: Final = 0x00101002
_PATIENT_ID: Final = 0x00100020
_ISSUER_OF_PATIENT_ID: Final = 0x00100021

#: With another of these it would be another object, or its text would mean something else.
_FIXED: Final = frozenset(
    [
        SPECIFIC_CHARACTER_SET,
        0x00080016,  # SOP Class UID
        0x00080018,  # SOP Instance UID
        0x0020000D,  # Study Instance UID
        0x0020000E,  # Series Instance UID
        ORIGINAL_ATTRIBUTES_SEQUENCE,
    ]
)
#: Before it are command sets, File Meta Information and directories (PS3.7, PS3.10).
_FIRST_GROUP: Final = 0x0008
TEXT_VRS: Final = SPACE_PADDED_VRS | {"UI"}
#: A backslash is a character there.
_ONE_VALUE_VRS: Final = frozenset(["LT", "ST", "UT", "UR"])
#: Control characters, and those that may be in text of these (PS3.5 6.1.3).
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LINE_CONTROLS: Final = dict.fromkeys(map(ord, "\t\n\f\r"))


@dataclass(frozen=True, slots=True)
class SetValue:
    """The attribute has this value (several joined by a backslash), even if it was not there."""

    tag: int
    value: str


@dataclass(frozen=True, slots=True)
class RemoveAttribute:
    """The attribute is not there."""

    tag: int


@dataclass(frozen=True, slots=True)
class MapValue:
    """The attribute has what the table makes of its value, of several joined by a backslash.

    Without a value it stays as it is.

    Attributes:
        default: for a value that is not in the table; None, and it stays.
    """

    tag: int
    table: Mapping[str, str]
    default: str | None


@dataclass(frozen=True, slots=True)
class MoveToStudy:
    """The object belongs to another study: its Study Instance UID is this one."""

    uid: str
    tag: int = 0x0020000D


@dataclass(frozen=True, slots=True)
class AddOtherPatientId:
    """The patient has another ID beside its own: an item more of (0010,1002), unless it has it.

    Attributes:
        issuer: Issuer of Patient ID; empty: there is none.
    """

    patient_id: str
    issuer: str
    tag: int = OTHER_PATIENT_IDS_SEQUENCE


#: What rules say.
Edit = SetValue | RemoveAttribute | MapValue
#: What corrections of stored objects say.
Correcting = SetValue | RemoveAttribute | MoveToStudy | AddOtherPatientId
AnyEdit = Edit | Correcting


class ModificationReason(Enum):
    """Reason for the Attribute Modification (0400,0565), its defined terms."""

    #: To agree with what the receiver knows.
    COERCE = "COERCE"
    #: Something was wrong.
    CORRECT = "CORRECT"


def check_edit(edit: AnyEdit) -> None:
    """Refuse, before any object comes, an edit that could be applied to none.

    Raises:
        ValueError: a tag that may not be edited, or a value that its VR cannot have.
    """
    match edit:
        case MoveToStudy():
            if not UidRule.SAFE.allows(edit.uid):
                raise ValueError("a study has a UID (PS3.5 9.1)")
            return
        case AddOtherPatientId():
            check_edit(SetValue(_PATIENT_ID, edit.patient_id))
            check_edit(SetValue(_ISSUER_OF_PATIENT_ID, edit.issuer))
            return
        case SetValue():
            values = [edit.value]
        case MapValue():
            values = [*edit.table.values(), edit.default or ""]
        case RemoveAttribute():
            values = []
        case _:
            assert_never(edit)
    check_tag(edit.tag)
    if not values:
        return
    vr = dictionary_vr(edit.tag)
    if vr == "UN":
        return  # the data set may say what it is
    if not is_text_or_number(vr):
        raise ValueError(f"{tag_text(edit.tag)} has VR {vr}, which is no text and no number")
    for value in values:
        try:
            encode_value(value, vr, UTF_8, big_endian=False)
            _check_text(value, vr)
        except ValueError as error:
            raise ValueError(f"{tag_text(edit.tag)}: {error}") from error


def _check_text(text: str, vr: str) -> None:
    if vr in NUMBER_VRS:
        return
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    is_one = vr in _ONE_VALUE_VRS
    for value in [text] if is_one else text.split("\\"):
        try:
            validate_value(vr, value, RAISE)
            is_good = not _CONTROLS.search(value.translate(_LINE_CONTROLS) if is_one else value)
        except ValueError:
            is_good = False
        if not is_good:
            # Without the value, which may be of a patient.
            raise ValueError(f"a new value is none of VR {vr} (PS3.5 6.2)")


def check_tag(tag: int) -> None:
    """Raises:
    ValueError: what has this tag may not be changed by an edit.
    """
    if tag in _FIXED or tag >> 16 < _FIRST_GROUP or not tag & 0xFFFF:
        raise ValueError(f"{tag_text(tag)} may not be changed on arrival")
    check_wanted(tag)


def check_wanted(tag: int) -> None:
    """Raises:
    ValueError: what has this tag is not in the head.
    """
    if tag > ORIGINAL_ATTRIBUTES_SEQUENCE:
        raise ValueError(
            f"{tag_text(tag)} comes behind {tag_text(ORIGINAL_ATTRIBUTES_SEQUENCE)}: attributes "
            "up to there can be looked at and changed on arrival"
        )


def is_text_or_number(vr: str) -> bool:
    """Whether a value of this VR can be set."""
    return vr in TEXT_VRS or vr in NUMBER_VRS


def encode_value(text: str, vr: str, character_set: tuple[str, ...], *, big_endian: bool) -> bytes:
    """The bytes of a value, padded (PS3.5 6.2); ValueError when it cannot be one."""
    if vr in NUMBER_VRS:
        try:
            return encode_numbers(text, vr, big_endian=big_endian)
        except ValueError:
            # Without its cause, which may show the value.
            raise ValueError(f"the new value is none of VR {vr}") from None
    raw = encode_text(text, vr, character_set)
    return raw + (b" " if vr in SPACE_PADDED_VRS else b"\0") * (len(raw) & 1)
