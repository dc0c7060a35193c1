"""Patient and visit of an order: PID, PV1, AL1 and OBX."""

from __future__ import annotations

import re
from typing import Final

from isocenter.services.integration.hl7.data_types import (
    identifier,
    person_of_patient,
    person_of_provider,
    truncated,
)
from isocenter.services.integration.hl7.errors import (
    DATA_TYPE_ERROR,
    SEGMENT_SEQUENCE_ERROR,
    Hl7Error,
    Location,
)
from isocenter.services.integration.hl7.message import Message, Segment

#: HL7 Table 0001 → (0010,0040); all else is unknown, and left empty.
_SEXES: Final = {"M": "M", "F": "F", "O": "O", "A": "O"}
_DATE: Final = re.compile(r"([0-9]{8})[0-9.+-]*", re.ASCII)
#: PV1-15 of HL7 Table 0009: pregnant → definitely pregnant, (0010,21C0).
_PREGNANT: Final = "B6"
_DEFINITELY_PREGNANT: Final = "3"
_LONG_STRING: Final = 64
#: LOINC codes in OBX-3 → attribute, and by unit (OBX-6) the factor to that of DICOM.
_KILOGRAMS: Final = {"kg": 1.0, "g": 0.001, "lb": 0.45359237, "lbs": 0.45359237}
_METRES: Final = {"m": 1.0, "cm": 0.01, "in": 0.0254}
_MEASURES: Final = {
    "29463-7": ("PatientWeight", _KILOGRAMS),
    "3141-9": ("PatientWeight", _KILOGRAMS),
    "8302-2": ("PatientSize", _METRES),
    "3137-7": ("PatientSize", _METRES),
}


def patient_fields(message: Message) -> dict[str, str]:
    """Of PID, PV1-15 and AL1.

    Raises:
        Hl7Error: there is no PID, or its date of birth is none.
    """
    pid = message.first("PID")
    if pid is None:
        raise Hl7Error("there is no patient in it", Location("PID"), SEGMENT_SEQUENCE_ERROR)
    born = pid.text(7)
    date = _DATE.fullmatch(born)
    if born and date is None and len(born) >= len("YYYYMMDD"):
        raise Hl7Error("no date (YYYYMMDD)", Location("PID", 7), DATA_TYPE_ERROR)
    pv1 = message.first("PV1")
    ambulatory = [] if pv1 is None else [
        pv1.text(15, repetition=n + 1) for n in range(pv1.repetitions(15))
    ]  # fmt: skip
    return {
        "patient_id": identifier(pid.text(3), pid.place(3)),
        "issuer_of_patient_id": truncated(pid.text(3, 4), _LONG_STRING),
        "patient_name": person_of_patient(pid, 5),
        "birth_date": date[1] if date else "",
        "sex": _SEXES.get(pid.text(8), ""),
        "pregnancy_status": _DEFINITELY_PREGNANT if _PREGNANT in ambulatory else "",
        "allergies": allergies(message),
    }


def visit_fields(message: Message) -> dict[str, str]:
    """Of PV1; PID-18 where there is no visit number (IHE RAD TF-2x Appendix B)."""
    pid, pv1 = message.first("PID"), message.first("PV1")
    account = "" if pid is None else pid.text(18)
    if pv1 is None:
        return {"admission_id": identifier(account, Location("PID", 18))}
    return {
        "admission_id": identifier(pv1.text(19) or account, pv1.place(19)),
        "patient_location": truncated(_location(pv1), _LONG_STRING),
        "referring_phys": person_of_provider(pv1, 8),
    }


def _location(pv1: Segment) -> str:
    """Point of care, room and bed of PV1-3."""
    return " ".join(filter(None, (pv1.text(3, n) for n in (1, 2, 3))))


def allergies(message: Message) -> str:
    """AL1-3, what the patient is allergic to, joined as values of an LO."""
    names = (truncated(al1.text(3, 2) or al1.text(3), _LONG_STRING) for al1 in message.all("AL1"))
    return "\\".join(dict.fromkeys(filter(None, names)))


def measures(message: Message) -> dict[str, str]:
    """Weight in kg and size in m, by keyword, from OBX with a LOINC code."""
    found: dict[str, str] = {}
    for obx in message.all("OBX"):
        keyword, factors = _MEASURES.get(obx.text(3), ("", {}))
        factor = factors.get(obx.text(6).lower())
        if factor is None:
            continue
        try:
            value = float(obx.text(5)) * factor
        except ValueError:
            continue
        if 0 < value < _IMPOSSIBLE:
            found[keyword] = f"{value:.4g}"
    return found


_IMPOSSIBLE: Final = 10_000.0
