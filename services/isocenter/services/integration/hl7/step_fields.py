"""One step of an order message as the flat fields of a worklist entry.

Fields are taken where IHE has them (RAD TF-2 4.4 and TF-2x Appendix B): OBR and ZDS of ORM^O01
and OMG^O19, IPC and TQ1 of OMI^O23.  What is often left out has a fallback, and what each
becomes stands in the how-to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.integration.hl7.data_types import (
    code,
    identifier,
    person_of_provider,
    truncated,
)
from isocenter.services.integration.hl7.errors import (
    DATA_TYPE_ERROR,
    REQUIRED_FIELD_MISSING,
    Hl7Error,
    Location,
)
from isocenter.services.integration.hl7.message import Segment
from isocenter.services.integration.hl7.procedure_steps import Step, StepIdentifiers
from isocenter.services.service_classes.worklist.order_fields import DATE_TIME

#: Lengths of SH, LO and LT (PS3.5 6.2).
_SHORT_STRING: Final = 16
_LONG_STRING: Final = 64
_LONG_TEXT: Final = 10_240
#: In `OrderRules`, the key that fits where no other does.
ANY: Final = "*"
#: HL7 Table 0485 → (0040,1003), after IHE RAD TF-2x Appendix B.
_PRIORITIES: Final = {
    "S": "STAT", "A": "HIGH", "R": "ROUTINE", "P": "HIGH", "C": "HIGH", "T": "MEDIUM",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRules:
    """What a site has to say about its messages.

    Attributes:
        stations: AE title by station name, location or modality, or `ANY`, for orders
            that name none.
        modalities: modality by what the sender calls it, or `ANY`, for orders without one.
        processing_ids: MSH-11 that is taken.
        character_set: of messages without MSH-18 (HL7 Table 0211).
    """

    stations: Mapping[str, str] = field(default_factory=dict)
    modalities: Mapping[str, str] = field(default_factory=dict)
    processing_ids: frozenset[str] = frozenset({"P"})
    character_set: str = "ASCII"


def step_fields(step: Step, ids: StepIdentifiers, rules: OrderRules) -> dict[str, str]:
    """Of order, procedure and step, without those of the patient; empty ones too.

    Raises:
        Hl7Error: a start that is missing or none; an order number that is none.
    """
    orc = step.orc
    modality = _modality(step, rules)
    provider = step.obr if step.obr is not None and step.obr.text(16, 2) else None
    start = _start(step)
    if not start:
        raise Hl7Error(
            "the start of the step is missing", step.place(DATE_TIME), REQUIRED_FIELD_MISSING
        )
    procedure = _requested_procedure(step)
    protocol = _protocol(step)
    priority = (
        step.other("TQ1", 9) or orc.text(7, 6) or step.text("OBR", 27, 6) or step.text("OBR", 5)
    )
    return {
        "step_id": ids.step_id,
        "accession_no": ids.accession,
        "study_uid": step.text("IPC", 3) or step.text("ZDS", 1) or ids.study_uid(),
        "modality": modality,
        "station_ae": _station(step, modality, rules),
        "station_name": truncated(step.text("IPC", 7), _SHORT_STRING),
        "location": truncated(step.text("IPC", 8, 2) or step.text("IPC", 8), _SHORT_STRING),
        DATE_TIME: start,
        "procedure_desc": truncated(
            protocol[2] or procedure[2] or protocol[0] or procedure[0], _LONG_STRING
        ),
        "protocol_code": code(*protocol),
        "requested_procedure_desc": truncated(procedure[2] or procedure[0], _LONG_STRING),
        "requested_procedure_code": code(*procedure),
        "performing_phys": person_of_provider(step.obr, 34, in_subcomponents=True),
        "requesting_phys": (
            person_of_provider(orc, 12) if provider is None else person_of_provider(provider, 16)
        ),
        "requesting_service": truncated(orc.text(17, 2) or orc.text(17), _LONG_STRING),
        "reason": truncated(
            step.text("OBR", 31, 2) or step.text("OBR", 31) or step.other("DG1", 3, 2),
            _LONG_STRING,
        ),
        "priority": _PRIORITIES.get(priority, ""),
        "patient_state": truncated(step.text("OBR", 12, 2) or step.text("OBR", 12), _LONG_STRING),
        "medical_alerts": truncated(step.text("OBR", 13), _LONG_STRING),
        "comments": truncated(step.others.joined("NTE", 3), _LONG_TEXT),
        "placer_order_no": identifier(orc.text(2) or step.text("OBR", 2), orc.place(2)),
        "filler_order_no": identifier(orc.text(3) or step.text("OBR", 3), orc.place(3)),
    }


def _modality(step: Step, rules: OrderRules) -> str:
    said = step.text("IPC", 5) or step.text("OBR", 24)
    if not said:
        return rules.modalities.get(ANY, "")
    return rules.modalities.get(said, said)


def _station(step: Step, modality: str, rules: OrderRules) -> str:
    """The AE title: as sent, else by the table, where the narrower name counts first."""
    if said := step.text("IPC", 9):
        return rules.stations.get(said, said)
    names = (
        step.text("IPC", 7), step.text("IPC", 8), step.text("IPC", 8, 2), step.text("OBR", 21),
    )  # fmt: skip
    for name in names:
        if name and name in rules.stations:
            return rules.stations[name]
    return (
        step.text("OBR", 21)
        or step.orc.text(18)
        or rules.stations.get(modality, "")
        or rules.stations.get(ANY, "")
    )


_TRIPLE = tuple[str, str, str]


def _coded(segment: Segment | None, field: int, first: int = 1) -> _TRIPLE:
    """Code, coding scheme and meaning of a CE, whose order is another."""
    if segment is None:
        return ("", "", "")
    value, meaning, scheme = (segment.text(field, first + index) for index in range(3))
    return value, scheme, meaning


def _requested_procedure(step: Step) -> _TRIPLE:
    procedure = _coded(step.obr, 44)
    return procedure if procedure[0] else _coded(step.obr, 4)


def _protocol(step: Step) -> _TRIPLE:
    """IPC-6, else the alternate components of OBR-4 (RAD TF-2 4.4.4.1.2)."""
    protocol = _coded(step.ipc, 6)
    return protocol if protocol[0] else _coded(step.obr, 4, first=4)


_TIME_STAMP: Final = re.compile(
    r"([0-9]{8})(?:([0-9]{2})([0-9]{2})?([0-9]{2})?(?:\.[0-9]{1,4})?)?([+-][0-9]{4})?", re.ASCII
)


def _start(step: Step) -> str:
    """``YYYYMMDDHHMMSS``; a time with an offset from UTC becomes local."""
    sources = (
        (Location("TQ1", 7), step.other("TQ1", 7)),
        (step.orc.place(7), step.orc.text(7, 4)),
        (Location("OBR", 27), step.text("OBR", 27, 4)),
        (Location("OBR", 36), step.text("OBR", 36)),
    )
    for place, text in sources:
        if text:
            return _local_time(text, place)
    return ""


def _local_time(text: str, place: Location) -> str:
    found = _TIME_STAMP.fullmatch(text)
    if found is None:
        raise Hl7Error("no date and time (YYYYMMDDHHMM)", place, DATA_TYPE_ERROR)
    date, hour, minute, second, offset = found.groups()
    digits = f"{date}{hour or '00'}{minute or '00'}{second or '00'}"
    try:
        if not offset:
            datetime.strptime(digits, "%Y%m%d%H%M%S")  # noqa: DTZ007 - local, as DICOM has it
            return digits
        moment = datetime.strptime(digits + offset, "%Y%m%d%H%M%S%z").astimezone()
    except (ValueError, OverflowError) as error:
        raise Hl7Error("there is no such date and time", place, DATA_TYPE_ERROR) from error
    return moment.strftime("%Y%m%d%H%M%S")
