"""Workitems made of orders: what a worklist entry says, as an N-CREATE would."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from typing import Final

from isocenter.engine.dataset import Element
from isocenter.services.dicom.attribute_list import (
    SPECIFIC_CHARACTER_SET,
    AttributeList,
    text_of,
)
from isocenter.services.service_classes.ups.workitem import (
    INPUT_READINESS,
    LABEL,
    PRIORITY,
    SCHEDULED_START,
    STATE,
    STUDY_INSTANCE_UID,
    WORKLIST_LABEL,
    WorkitemState,
    element,
    sequence,
)
from isocenter.services.service_classes.worklist.entry import (
    ACCESSION_NUMBER,
    MODALITY,
    Entry,
)

ANY_MODALITY: Final = "*"
_START_DATE: Final = 0x00400002
_START_TIME: Final = 0x00400003
_STEP_DESCRIPTION: Final = 0x00400007
_PROTOCOL_CODES: Final = 0x00400008
_WORKITEM_CODES: Final = 0x00404018
_PROCEDURE_DESCRIPTION: Final = 0x00321060
_PROCEDURE_PRIORITY: Final = 0x00401003
_REFERENCED_REQUEST: Final = 0x0040A370
_PRIORITIES: Final = {"STAT": "HIGH", "HIGH": "HIGH", "LOW": "LOW"}
#: Of the patient, taken over as they stand; type 2 of a workitem.
_PATIENT: Final = (0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00100040, 0x00380010)
#: Of the order, into the item of Referenced Request Sequence.
_REQUEST: Final = (
    STUDY_INSTANCE_UID, ACCESSION_NUMBER, 0x00321060, 0x00321064, 0x00401001, 0x00402016,
    0x00402017,
)  # fmt: skip
#: Type 2 of a workitem, and nothing that an order says.
_EMPTY_SEQUENCES: Final = (0x00404021, 0x00404025, 0x00404026, 0x00404027, 0x00741210)
_NO_LABEL: Final = "Perform the procedure"
_TIME_LENGTH: Final = 6


def is_wanted(entry: Entry, modalities: Collection[str]) -> bool:
    """Whether an order of these modalities becomes a workitem."""
    return ANY_MODALITY in modalities or entry.step_text(MODALITY) in modalities


def workitem_uid(entry: Entry, number: int, turn: int = 0) -> str:
    """The UID of the workitem of an entry; always the same.

    Args:
        number: of the entry in the worklist, which no other one gets.
        turn: how many were cancelled before, as the order was withdrawn from it: one that is
            cancelled stays so.
    """
    name = f"{number}\0{entry.key.step_id}\0{entry.key.accession_number}"
    name += f"\0{turn}" if turn else ""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"


def attributes_of_order(entry: Entry) -> AttributeList:
    """What a new workitem says of an order."""
    known = entry.attributes.elements
    found: dict[int, Element] = {tag: known[tag] for tag in _PATIENT if tag in known}
    for tag in (SPECIFIC_CHARACTER_SET, STUDY_INSTANCE_UID):
        if tag in known:
            found[tag] = known[tag]
    codes = entry.step.get(_PROTOCOL_CODES)
    request: Mapping[int, Element] = {tag: known[tag] for tag in _REQUEST if tag in known}
    priority = _PRIORITIES.get(entry.text(_PROCEDURE_PRIORITY), "MEDIUM")
    time = entry.step_text(_START_TIME).replace(":", "")
    start = entry.step_text(_START_DATE) + (time if len(time) >= _TIME_LENGTH else "")
    made = [
        element(STATE, "CS", WorkitemState.SCHEDULED.value),
        element(PRIORITY, "CS", priority),
        element(INPUT_READINESS, "CS", "READY"),
        element(SCHEDULED_START, "DT", start),
        element(WORKLIST_LABEL, "LO", entry.step_text(MODALITY)),
        _label(entry),
        Element(_WORKITEM_CODES, "SQ", codes.value if codes is not None else ()),
        sequence(_REFERENCED_REQUEST, request),
        *(sequence(tag) for tag in _EMPTY_SEQUENCES),
    ]
    found |= {one.tag: one for one in made}
    return AttributeList(dict(sorted(found.items())))


def _label(entry: Entry) -> Element:
    """What is to be done, in the bytes of the order: it may be in no character set at all."""
    for item, tag in (
        (entry.step, _STEP_DESCRIPTION),
        (entry.attributes.elements, _PROCEDURE_DESCRIPTION),
    ):
        if text_of(item, tag, entry.attributes.character_set):
            return item[tag]._replace(tag=LABEL, vr="LO")
    return element(LABEL, "LO", _NO_LABEL)
