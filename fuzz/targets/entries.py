"""Invariant: a file is entries of the worklist or is refused with a reason; entries come back.

Input: the file: a text dump, JSON or DICOM.
"""

from __future__ import annotations

import warnings
from typing import Final

import orjson
from wording import check_fault

from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.worklist.entry import Entry, InvalidEntryError, parse_entry
from isocenter.services.service_classes.worklist.entry_files import entries_in
from isocenter.services.service_classes.worklist.order_fields import entry_fields

_PLACE: Final = "a file"
#: In which an entry says its VRs; some say others than the data dictionary.
_SYNTAXES: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)


def run(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of values that break a rule
        try:
            found = entries_in(data, _PLACE)
        except InvalidEntryError as fault:
            _check_fault(fault)
            return
    assert len({entry.key for entry, _ in found}) == len(found)
    for entry, _ in found:
        _check(entry)


def _check_fault(fault: InvalidEntryError) -> None:
    check_fault(fault)
    assert str(fault).startswith(_PLACE)


def _check(entry: Entry) -> None:
    """It can be listed, and answered in every transfer syntax, and is the same entry then."""
    orjson.dumps(entry_fields(entry))
    entry.attributes.encode(IMPLICIT_VR_LITTLE_ENDIAN)
    for syntax in _SYNTAXES:
        read = AttributeList.read(entry.attributes.encode(syntax), syntax)
        assert parse_entry(read, _PLACE).key == entry.key
