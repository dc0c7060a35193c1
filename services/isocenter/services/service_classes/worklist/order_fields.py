"""Flat fields of a worklist entry, in JSON, for people and programs.

A field is a name of `FIELDS`, or one that other worklist servers use for it (`OTHER_NAMES`);
whatever has none can be given under ``attributes``, by path::

    {"step_id": "SPS1", "accession_no": "A1", "patient_id": "12345", "patient_name": "DOE^JOHN",
     "modality": "CT", "station_ae": "CT_01", "scheduled_datetime": "20261124093000",
     "procedure_desc": "CT CHEST", "attributes": {"PatientWeight": "70"}}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from uuid import UUID, uuid5

from isocenter.engine.dataset import DataSetError
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.index.matching import normalize
from isocenter.services.dicom.attribute_list import AttributeList, items_of, text_of
from isocenter.services.dicom.attribute_path import KeySyntaxError, parse_attribute_path, quoted
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.worklist.entry import (
    Entry,
    EntryState,
    InvalidEntryError,
    parse_entry,
)
from isocenter.services.service_classes.worklist.query_keys import START_DATE, START_TIME

#: Field → path of the attribute.
FIELDS: Final = {
    "step_id": "(0040,0100)[0].(0040,0009)",
    "station_ae": "(0040,0100)[0].(0040,0001)",
    "station_name": "(0040,0100)[0].(0040,0010)",
    "location": "(0040,0100)[0].(0040,0011)",
    "modality": "(0040,0100)[0].(0008,0060)",
    "procedure_desc": "(0040,0100)[0].(0040,0007)",
    "performing_phys": "(0040,0100)[0].(0040,0006)",
    "premedication": "(0040,0100)[0].(0040,0012)",
    "contrast_agent": "(0040,0100)[0].(0032,1070)",
    "accession_no": "(0008,0050)",
    "institution": "(0008,0080)",
    "referring_phys": "(0008,0090)",
    "patient_name": "(0010,0010)",
    "patient_id": "(0010,0020)",
    "issuer_of_patient_id": "(0010,0021)",
    "birth_date": "(0010,0030)",
    "sex": "(0010,0040)",
    "patient_weight": "(0010,1030)",
    "medical_alerts": "(0010,2000)",
    "allergies": "(0010,2110)",
    "pregnancy_status": "(0010,21C0)",
    "patient_state": "(0038,0500)",
    "study_uid": "(0020,000D)",
    "requesting_phys": "(0032,1032)",
    "requesting_service": "(0032,1033)",
    "requested_procedure_desc": "(0032,1060)",
    "admission_id": "(0038,0010)",
    "patient_location": "(0038,0300)",
    "requested_proc_id": "(0040,1001)",
    "reason": "(0040,1002)",
    "priority": "(0040,1003)",
    "comments": "(0040,1400)",
    "placer_order_no": "(0040,2016)",
    "filler_order_no": "(0040,2017)",
}
#: Fields that become several attributes: date and time; a code as ``value^scheme^meaning``.
DATE_TIME: Final = "scheduled_datetime"
CODES: Final = {
    "protocol_code": "(0040,0100)[0].(0040,0008)",
    "requested_procedure_code": "(0032,1064)",
}
#: Code Value, Coding Scheme Designator, Code Meaning.
CODE_TAGS: Final = (0x00080100, 0x00080102, 0x00080104)
#: What other worklist servers call a field in their JSON files → our name of it.
OTHER_NAMES: Final = {
    "patientId": "patient_id",
    "patientName": "patient_name",
    "patientBirthDate": "birth_date",
    "patientSex": "sex",
    "studyInstanceUid": "study_uid",
    "accessionNumber": "accession_no",
    "referringPhysician": "referring_phys",
    "studyDescription": "requested_procedure_desc",
    "requestedProcedureId": "requested_proc_id",
    "requestedProcedureDescription": "requested_procedure_desc",
    "scheduledStationAeTitle": "station_ae",
    "scheduledProcedureStepId": "step_id",
    "scheduledProcedureStepDescription": "procedure_desc",
    "scheduledProcedureStepLocation": "location",
    "scheduledPerformingPhysician": "performing_phys",
}
#: Date and time, which they keep apart.
_OTHER_DATE: Final = "scheduledProcedureStepStartDate"
_OTHER_TIME: Final = "scheduledProcedureStepStartTime"
ATTRIBUTES: Final = "attributes"
STEP_STATUS: Final = "step_status"
#: Of the worklist itself, as it lists entries; ignored when they come back.
_KEPT_BY_THE_WORKLIST: Final = frozenset({"pk", "created_at", "changed_at", "updated_at", "source"})
#: There is no DICOM attribute for it; the field of the shape is taken and not kept.
_WITHOUT_ATTRIBUTE: Final = frozenset({"referring_phys_id"})

_DATE_TIME: Final = re.compile(
    r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})"
    r"(?:[T ]?([0-9]{2}):?([0-9]{2})(?::?([0-9]{2})(\.[0-9]{1,6})?)?)?",
    re.ASCII,
)
#: Names of studies are made in here.
_STUDIES: Final = UUID("1c8ee5f0-9d6c-5c0b-8f8e-3f3f1c2a7d42")
_START_DATE: Final = "(0040,0100)[0].(0040,0002)"
_START_TIME: Final = "(0040,0100)[0].(0040,0003)"
#: Of a time, as `normalize` writes it.
_NO_FRACTION: Final = ".000000"
#: Which field a fault is about.
FIELD_OF_TAG: Final = {parse_attribute_path(path)[1]: name for name, path in FIELDS.items()} | {
    START_DATE: DATE_TIME,
    START_TIME: DATE_TIME,
}
#: Coding scheme of a code that names none: local, by PS3.16 Annex 8.
_LOCAL_SCHEME: Final = "99LOCAL"


def entry_of_order(order: Mapping[str, object], place: str) -> tuple[Entry, EntryState]:
    """The entry that *order* describes, and its ``step_status``.

    A missing ``study_uid`` is made from the key of the entry, always the same; a missing
    ``requested_proc_id`` is the accession number, else the step ID; a missing
    ``requested_procedure_desc`` is ``procedure_desc``.

    Raises:
        InvalidEntryError: a field that there is not, or whose value cannot be; a missing one.
    """
    fields = _texts(order, place)
    state = state_of(fields.pop(STEP_STATUS, ""), place)
    more = order.get(ATTRIBUTES, {})
    if not isinstance(more, dict):
        raise InvalidEntryError(f"{place}: {ATTRIBUTES} has to be an object of path and text")
    step_id, accession = fields.get("step_id", ""), fields.get("accession_no", "")
    if not fields.get("study_uid"):
        fields["study_uid"] = _study_of(accession, step_id)
    if not fields.get("requested_proc_id"):
        fields["requested_proc_id"] = accession or step_id
    if not fields.get("requested_procedure_desc"):
        fields["requested_procedure_desc"] = fields.get("procedure_desc", "")
    fields = {"accession_no": "", "step_id": "", **fields}
    keys = [(FIELDS[name], value) for name, value in fields.items() if name in FIELDS]
    if DATE_TIME in fields:
        keys += _date_time(fields[DATE_TIME], place)
    for name, path in CODES.items():
        if fields.get(name):
            keys += _code(fields[name], path, name, place)
    for path, value in more.items():
        if not isinstance(path, str) or not isinstance(value, str):
            raise InvalidEntryError(f"{place}: {ATTRIBUTES} has to be an object of path and text")
        keys.append((path, value))
    try:
        data_set = build_identifier(keys, None, EXPLICIT_VR_LITTLE_ENDIAN)
        attributes = AttributeList.read(data_set, EXPLICIT_VR_LITTLE_ENDIAN)
    except (KeySyntaxError, DataSetError) as error:
        raise InvalidEntryError(f"{place}: {error}") from error
    return parse_entry(attributes, place), state


def entry_of_fields(order: Mapping[str, object], place: str) -> tuple[Entry, EntryState]:
    """As `entry_of_order`; faults name the field, too, for whoever wrote it."""
    try:
        return entry_of_order(order, place)
    except InvalidEntryError as fault:
        name = FIELD_OF_TAG.get(fault.tag)
        if name is None:
            raise
        raise InvalidEntryError(f"{fault} (field {name})", fault.tag) from None


def entry_fields(entry: Entry) -> dict[str, str]:
    """The flat fields of *entry*, those that have a value; of several codes the first."""
    order: dict[str, str] = {}
    for name, path in FIELDS.items():
        sequences, tag = parse_attribute_path(path)
        text = entry.step_text(tag) if sequences else entry.text(tag)
        if text:
            order[name] = text
    # As it can be read again: DICOM leaves out the end of a time, and has had delimiters.
    order[DATE_TIME] = normalize("DA", entry.step_text(START_DATE)) + normalize(
        "TM", entry.step_text(START_TIME)
    ).removesuffix(_NO_FRACTION)
    for name, path in CODES.items():
        sequences, tag = parse_attribute_path(path)
        around = entry.step if sequences else entry.attributes.elements
        for code in items_of(around, tag)[:1]:
            parts = [text_of(code, each, entry.attributes.character_set) for each in CODE_TAGS]
            if parts[0]:
                order[name] = "^".join(parts)
    return order


def _study_of(accession: str, step_id: str) -> str:
    """A UID made of a UUID that is made of a name (PS3.5 B.2)."""
    return f"2.25.{uuid5(_STUDIES, f'{accession}^{step_id}').int}"


def _texts(order: Mapping[str, object], place: str) -> dict[str, str]:
    known = {*FIELDS, *CODES, DATE_TIME, STEP_STATUS}
    texts = {}
    for name, value in _our_names(order, place).items():
        if name == ATTRIBUTES or name in _KEPT_BY_THE_WORKLIST or name in _WITHOUT_ATTRIBUTE:
            continue
        if name not in known:
            raise InvalidEntryError(
                f"{place}: {quoted(name)} is no field; what has no field goes under {ATTRIBUTES}"
            )
        if not isinstance(value, str):
            raise InvalidEntryError(f"{place}: {name} has to be text")
        texts[name] = value.strip()
    return texts


def _our_names(order: Mapping[str, object], place: str) -> Mapping[str, object]:
    """The same with our names of fields; of two values for one, the empty one goes."""
    theirs = order.keys() & {*OTHER_NAMES, _OTHER_DATE, _OTHER_TIME}
    if not theirs:
        return order
    found = {name: value for name, value in order.items() if name not in theirs}
    if theirs & {_OTHER_DATE, _OTHER_TIME}:
        parts = [order.get(name, "") for name in (_OTHER_DATE, _OTHER_TIME)]
        if not all(isinstance(part, str) for part in parts):
            raise InvalidEntryError(f"{place}: {_OTHER_DATE} and {_OTHER_TIME} have to be text")
        found[DATE_TIME] = "".join(map(str, parts))
    for name in sorted(theirs & OTHER_NAMES.keys()):
        ours = OTHER_NAMES[name]
        if not found.get(ours):
            found[ours] = order[name]
        elif order[name] and order[name] != found[ours] and name != "studyDescription":
            raise InvalidEntryError(f"{place}: {name} and {ours} say different things")
    return found


def state_of(text: str, place: str) -> EntryState:
    """The state that ``step_status`` names; SCHEDULED when it is empty.

    Raises:
        InvalidEntryError: there is no such state.
    """
    if not text:
        return EntryState.SCHEDULED
    try:
        return EntryState(text)
    except ValueError:
        names = ", ".join(state.value for state in EntryState)
        raise InvalidEntryError(f"{place}: {STEP_STATUS} is none of {names}") from None


def _date_time(text: str, place: str) -> list[tuple[str, str]]:
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        raise InvalidEntryError(f"{place}: {DATE_TIME} is no YYYYMMDDHHMMSS")
    year, month, day, hour, minute, second, fraction = found.groups()
    time = f"{hour or '00'}{minute or '00'}{second or '00'}{fraction or ''}"
    return [(_START_DATE, year + month + day), (_START_TIME, time)]


def _code(text: str, path: str, name: str, place: str) -> list[tuple[str, str]]:
    """``value^scheme^meaning``; without a scheme it is a local one, without a meaning the value."""
    value, *rest = text.split("^")
    if not value or len(rest) > 2:
        raise InvalidEntryError(f"{place}: {name} is no value^scheme^meaning")
    scheme, meaning = [*rest, "", ""][:2]
    return [
        (f"{path}[0].(0008,0100)", value),
        (f"{path}[0].(0008,0102)", scheme or _LOCAL_SCHEME),
        (f"{path}[0].(0008,0104)", meaning or value),
    ]
