"""Values of FHIR that are made of DICOM attributes: identifiers, names, dates, codes."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import date, datetime, tzinfo
from enum import Enum
from typing import Any, Final

from isocenter.services.dicom.element_texts import person_name_groups
from isocenter.services.integration.sharing.manifest import AssigningAuthorities, ManifestPatient

#: A resource, or an element of one.
Json = dict[str, Any]

DICOM_UID: Final = "urn:dicom:uid"
DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_TYPES: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"
_UNKNOWN: Final = {
    "extension": [
        {
            "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
            "valueCode": "unknown",
        }
    ]
}
_REPRESENTATION: Final = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
_GROUPS: Final = ("ABC", "IDE", "SYL")
_GENDERS: Final = {"M": "male", "F": "female", "O": "other"}
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
_OID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+")
_DATE: Final = re.compile(r"([0-9]{4})\.?([0-9]{2})\.?([0-9]{2})")
_TIME: Final = re.compile(r"([0-9]{2}):?([0-9]{2})(?::?([0-9]{2})(?:\.[0-9]{1,6})?)?")
#: Parts Patient ID and issuer within the id of a resource.
_PART: Final = "\x1f"


class FhirRelease(Enum):
    """Releases of FHIR that are spoken."""

    R4 = "r4"
    R5 = "r5"

    @property
    def version(self) -> str:
        """As a CapabilityStatement has it."""
        return {"r4": "4.0.1", "r5": "5.0.0"}[self.value]


def is_id(text: str) -> bool:
    """Whether a text can be the id of a resource, or a value of that type."""
    return _ID.fullmatch(text) is not None


def is_oid(text: str) -> bool:
    """Whether a text is an object identifier."""
    return len(text) <= 64 and _OID.fullmatch(text) is not None


def uid_urn(uid: str) -> str:
    """A UID as a URI; what is no OID stays as it is."""
    return f"urn:oid:{uid}" if is_oid(uid) else uid


def uid_of(value: str) -> str:
    """The UID of the value of an identifier, with or without ``urn:oid:``."""
    return value.removeprefix("urn:oid:")


def codeable(code: str, system: str = DCM, display: str = "") -> Json:
    """A CodeableConcept of one code."""
    return {"coding": [coding(code, system, display)]}


def coding(code: str, system: str = DCM, display: str = "") -> Json:
    """A Coding."""
    found = {"system": system, "code": code}
    return found | {"display": display} if display else found


def unknown() -> Json:
    """In place of what has to be there and is not known."""
    return dict(_UNKNOWN)


def study_identifier(uid: str) -> Json:
    """The Study Instance UID."""
    return {
        "use": "official",
        "type": codeable("110180", display="Study Instance UID"),
        "system": DICOM_UID,
        "value": uid_urn(uid),
    }


def accession_identifier(number: str, authorities: AssigningAuthorities) -> Json:
    """The Accession Number."""
    found: Json = {"type": codeable("ACSN", _TYPES, "Accession ID"), "value": number}
    if authorities.accession_numbers:
        found["system"] = uid_urn(authorities.accession_numbers)
    return found


def patient_identifier(patient: ManifestPatient, authorities: AssigningAuthorities) -> Json:
    """The Patient ID, with who gave it as far as that is known."""
    found: Json = {
        "use": "usual",
        "type": codeable("MR", _TYPES, "Medical record number"),
        "value": patient.patient_id,
    }
    oid = authorities.of_patient(patient.issuer)
    if oid:
        found["system"] = uid_urn(oid)
    if patient.issuer:
        found["assigner"] = {"display": patient.issuer}
    return found


def patient_key(patient: ManifestPatient) -> str:
    """The id of the resource of a patient; empty: its Patient ID is missing, or too long for one,
    and it is named by its identifier alone."""
    if not patient.patient_id:
        return ""
    text = patient.patient_id + (_PART + patient.issuer if patient.issuer else "")
    made = urlsafe_b64encode(text.encode()).decode().rstrip("=")
    # An id has no underscore; a full stop is no letter of base64.
    key = made.replace("_", ".")
    return key if is_id(key) else ""


def read_patient_key(key: str) -> tuple[str, str] | None:
    """Patient ID and issuer of the id of a resource; None: it is none of ours."""
    text = key.replace(".", "_")
    try:
        whole = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return None
    patient_id, _, issuer = whole.partition(_PART)
    # Only what `patient_key` makes: base64 has more than one text for some bytes.
    if not patient_id or patient_key(ManifestPatient(patient_id=patient_id, issuer=issuer)) != key:
        return None
    return patient_id, issuer


def human_names(text: str) -> list[Json]:
    """A PN: one name for each of its component groups."""
    found: list[Json] = []
    groups = person_name_groups(text)
    for kind, group in zip(_GROUPS, groups, strict=False):
        parts = [part.strip() for part in group.split("^")] + [""] * 4
        family, given, middle, prefix, suffix = parts[:5]
        name: Json = {"use": "official"}
        if family:
            name["family"] = family
        all_given = [*given.split(), *middle.split()]
        if all_given:
            name["given"] = all_given
        if prefix:
            name["prefix"] = [prefix]
        if suffix:
            name["suffix"] = [suffix]
        if len(name) == 1:
            continue
        if len(groups) > 1:
            name["extension"] = [{"url": _REPRESENTATION, "valueCode": kind}]
        found.append(name)
    return found


def display_name(text: str) -> str:
    """A PN on one line; empty: there is none."""
    parts = [part.strip() for part in person_name_groups(text)[0].split("^")] if text else []
    parts += [""] * (4 - len(parts))
    family, given, middle, prefix = parts[:4]
    return " ".join(filter(None, (prefix, given, middle, family)))


def gender(sex: str) -> str:
    """Patient's Sex (0010,0040) as an administrative gender."""
    return _GENDERS.get(sex.strip().upper(), "unknown")


def date_of(text: str) -> str:
    """A DA as a date; empty: it is none."""
    found = _DATE.fullmatch(text.strip())
    if found is None:
        return ""
    try:
        date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return ""
    return f"{found[1]}-{found[2]}-{found[3]}"


def date_time_of(day_text: str, time: str, zone: tzinfo | None) -> str:
    """A DA and a TM as a dateTime; empty: there is no date.

    Args:
        zone: of the times; None: that of this machine.  A time without a zone is none in FHIR.
    """
    day = date_of(day_text)
    found = _TIME.fullmatch(time.strip())
    if not day or found is None:
        return day
    try:
        moment = datetime.fromisoformat(f"{day}T{found[1]}:{found[2]}:{found[3] or '00'}")
        placed = moment.astimezone() if zone is None else moment.replace(tzinfo=zone)
        return placed.isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # a leap second, no time, or a year of legends
        return day


def search_token(system: str, code: str) -> str:
    """A token of a search for just that code (FHIR 3.1.1.5): a comma in it begins no other one."""
    escaped = "".join(f"\\{c}" if c in "\\,$|" else c for c in code)
    return f"{system}|{escaped}"


def single_line(text: str) -> str:
    """Text without what FHIR does not take in a string: no control characters, no ends."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
