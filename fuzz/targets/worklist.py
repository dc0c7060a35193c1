"""Invariant: any identifier is keys or is refused; keys judge any entry, and answer all they ask.

Input: a byte for the transfer syntax, the identifier.
"""

from __future__ import annotations

from typing import Final

from wording import check_fault

from isocenter.engine.dataset import encoding_of, read_data_set
from isocenter.engine.dimse.status import Status
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.dicom.attribute_list import AttributeList, items_of
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.query_retrieve.matching_keys import (
    IdentifierError,
)
from isocenter.services.service_classes.worklist.entry import Entry, parse_entry
from isocenter.services.service_classes.worklist.query_keys import Key, parse_keys

_SYNTAXES: Final = (
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)
#: What an entry has to have, and codes two sequences deep.
_ENTRY: Final = {
    "PatientID": "SEED",
    "PatientSex": "O",
    "PatientWeight": "70.5",
    "PregnancyStatus": "4",
    "StudyInstanceUID": "1.2.3",
    "AccessionNumber": "A1",
    "RequestedProcedureID": "RP1",
    "(0040,0100)[0].(0008,0060)": "CT",
    "(0040,0100)[0].(0040,0001)": "CT_01\\CT_02",
    "(0040,0100)[0].(0040,0002)": "20260228",
    "(0040,0100)[0].(0040,0003)": "235959.5",
    "(0040,0100)[0].(0040,0009)": "SPS1",
    "(0040,0100)[0].(0040,0008)[0].(0008,0100)": "CHEST",
    "(0040,0100)[0].(0040,0008)[0].(0008,0102)": "99SEED",
}
_NAMES: Final = {
    (): "SEED^ONE",
    ("ISO_IR 100",): "M\u00dcLLER^J\u00d6RG",
    ("", "ISO 2022 IR 87"): "YAMADA^TAROU=\u5c71\u7530^\u592a\u90ce",
    ("ISO_IR 192",): "\u0391\u03b3\u03ac\u03c0\u03b7^\U0001f600*?\\X",
}


def _entries() -> tuple[Entry, ...]:
    found = []
    for character_set, name in _NAMES.items():
        keys = (*_ENTRY.items(), ("PatientName", name))
        data_set = build_identifier(
            keys, None, EXPLICIT_VR_LITTLE_ENDIAN, character_set=character_set
        )
        attributes = AttributeList.read(data_set, EXPLICIT_VR_LITTLE_ENDIAN)
        found.append(parse_entry(attributes, "an entry"))
    return tuple(found)


ENTRIES: Final = _entries()


def run(data: bytes) -> None:
    if not data:
        return
    try:
        keys = parse_keys(data[1:], _SYNTAXES[data[0] & 3])
    except IdentifierError as fault:
        check_fault(fault)
        _check_status(fault.status)
        return
    asks_nothing = not any(key.is_criterion for key in keys.keys) and keys.combined is None
    for entry in ENTRIES:
        assert keys.matches(entry.attributes) or not asks_nothing
        answer = keys.response(entry.attributes)
        _check_asked(keys.keys, answer)
        for syntax in _SYNTAXES:
            said = read_data_set(answer.encode(syntax), encoding_of(syntax))
            assert said.keys() == answer.elements.keys()
            assert list(said) == sorted(said)


def _check_status(status: int) -> None:
    assert status in (Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, Status.CANNOT_UNDERSTAND)


def _check_asked(keys: tuple[Key, ...], answer: AttributeList) -> None:
    """All that was asked for is there, in each item that is."""
    todo = [(keys, answer.elements)]
    while todo:
        asked, found = todo.pop()
        assert {key.tag for key in asked} <= found.keys()
        todo += [(key.item, item) for key in asked for item in items_of(found, key.tag)]
