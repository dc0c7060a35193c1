"""Patients, studies, series and instances as the API shows them."""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Final

import msgspec

from isocenter.services.archive.index.attributes import BY_KEYWORD, UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, EmptyValue, Query, SingleValue
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.web.rest.bodies import Body

_PATIENT_FIELDS: Final = (
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex",
)  # fmt: skip
_FIELDS: Final = {
    Level.PATIENT: (
        *_PATIENT_FIELDS, "OtherPatientIDs", "EthnicGroup", "PatientComments",
        "NumberOfPatientRelatedStudies",
    ),
    Level.STUDY: (
        *_PATIENT_FIELDS, "StudyInstanceUID", "StudyID", "StudyDate", "StudyTime",
        "AccessionNumber", "ReferringPhysicianName", "StudyDescription", "ModalitiesInStudy",
        "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
    ),
    Level.SERIES: (
        "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription",
        "BodyPartExamined", "StationName", "NumberOfSeriesRelatedInstances",
    ),
    Level.IMAGE: ("SOPInstanceUID", "InstanceNumber", "NumberOfFrames"),
}  # fmt: skip
RETURNED: Final = {
    level: tuple(BY_KEYWORD[keyword].tag for keyword in keywords)
    for level, keywords in _FIELDS.items()
}


class Patient(Body):
    """A patient; `pk` names it in paths, as its Patient ID does where that is not used twice."""

    pk: str
    patient_id: str
    issuer_of_patient_id: str
    patient_name: str
    birth_date: str
    sex: str
    other_ids: str
    ethnic_group: str
    comments: str
    num_studies: int


class Study(Body):
    """A study, with whose it is."""

    patient_pk: str
    patient_id: str
    patient_name: str
    birth_date: str
    sex: str
    study_instance_uid: str
    study_id: str
    study_date: str
    study_time: str
    accession_number: str
    referring_physician: str
    study_description: str
    modalities_in_study: list[str]
    num_series: int
    num_instances: int


class Series(Body):
    """A series."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    series_number: int | None
    series_description: str
    body_part_examined: str
    station_name: str
    num_instances: int


class Instance(Body):
    """An instance; `file_size` in bytes of its file."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax: str
    instance_number: int | None
    number_of_frames: int
    file_size: int


#: Tag → value.
Match = Mapping[int, str]


def equals(keyword: str, text: str) -> Criterion:
    """An attribute has a value; an empty one: it has none."""
    return Criterion(BY_KEYWORD[keyword].tag, SingleValue(text) if text else EmptyValue())


def within(level: Level, *, study: str = "", series: str = "") -> Query:
    """All of a level below a study, or a series."""
    criteria = tuple(
        Criterion(UNIQUE_KEY[one], SingleValue(uid))
        for one, uid in ((Level.STUDY, study), (Level.SERIES, series))
        if uid
    )
    return Query(level=level, criteria=criteria)


# -- Matches ------------------------------------------------------------------------------


def value_of(match: Match, keyword: str) -> str:
    """A value; empty: it has none."""
    return match.get(BY_KEYWORD[keyword].tag, "")


def number_of(match: Match, keyword: str) -> int | None:
    """A whole number; None: there is none."""
    text = value_of(match, keyword).strip()
    return int(text) if re.fullmatch(r"[+-]?\d{1,12}", text) else None


#: Patients are told apart by these; the last two where there is no ID.
KEY_FIELDS: Final = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")


def _key_of(match: Match) -> tuple[str, ...]:
    fields = KEY_FIELDS[:2] if value_of(match, "PatientID") else KEY_FIELDS
    return tuple(value_of(match, keyword) for keyword in fields)


def patient_pk(match: Match) -> str:
    """What names a patient, whatever its ID is."""
    return urlsafe_b64encode(msgspec.json.encode(_key_of(match))).rstrip(b"=").decode("ascii")


def read_patient_pk(text: str) -> tuple[str, ...]:
    """What `patient_pk` made, taken apart; empty: it is none."""
    try:
        content = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        found = msgspec.json.decode(content, type=tuple[str, ...])
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        return ()
    return found if len(found) in (2, 4) else ()


def criteria_of_patient(match: Match) -> tuple[Criterion, ...]:
    """What holds of all that is of a patient."""
    return tuple(
        equals(keyword, text) for keyword, text in zip(KEY_FIELDS, _key_of(match), strict=False)
    )


def patient_row(match: Match) -> Patient:
    """A patient."""
    return Patient(
        pk=patient_pk(match),
        patient_id=value_of(match, "PatientID"),
        issuer_of_patient_id=value_of(match, "IssuerOfPatientID"),
        patient_name=value_of(match, "PatientName"),
        birth_date=value_of(match, "PatientBirthDate"),
        sex=value_of(match, "PatientSex"),
        other_ids=value_of(match, "OtherPatientIDs"),
        ethnic_group=value_of(match, "EthnicGroup"),
        comments=value_of(match, "PatientComments"),
        num_studies=number_of(match, "NumberOfPatientRelatedStudies") or 0,
    )


def study_row(match: Match) -> Study:
    """A study."""
    modalities = value_of(match, "ModalitiesInStudy")
    return Study(
        patient_pk=patient_pk(match),
        patient_id=value_of(match, "PatientID"),
        patient_name=value_of(match, "PatientName"),
        birth_date=value_of(match, "PatientBirthDate"),
        sex=value_of(match, "PatientSex"),
        study_instance_uid=value_of(match, "StudyInstanceUID"),
        study_id=value_of(match, "StudyID"),
        study_date=value_of(match, "StudyDate"),
        study_time=value_of(match, "StudyTime"),
        accession_number=value_of(match, "AccessionNumber"),
        referring_physician=value_of(match, "ReferringPhysicianName"),
        study_description=value_of(match, "StudyDescription"),
        modalities_in_study=modalities.split("\\") if modalities else [],
        num_series=number_of(match, "NumberOfStudyRelatedSeries") or 0,
        num_instances=number_of(match, "NumberOfStudyRelatedInstances") or 0,
    )


def series_row(match: Match) -> Series:
    """A series."""
    return Series(
        study_instance_uid=value_of(match, "StudyInstanceUID"),
        series_instance_uid=value_of(match, "SeriesInstanceUID"),
        modality=value_of(match, "Modality"),
        series_number=number_of(match, "SeriesNumber"),
        series_description=value_of(match, "SeriesDescription"),
        body_part_examined=value_of(match, "BodyPartExamined"),
        station_name=value_of(match, "StationName"),
        num_instances=number_of(match, "NumberOfSeriesRelatedInstances") or 0,
    )


def instance_row(match: Match, stored: StoredInstance) -> Instance:
    """An instance, with what the archive has of it."""
    return Instance(
        study_instance_uid=stored.study_instance_uid,
        series_instance_uid=stored.series_instance_uid,
        sop_instance_uid=stored.sop_instance_uid,
        sop_class_uid=stored.sop_class_uid,
        transfer_syntax=stored.transfer_syntax_uid,
        instance_number=number_of(match, "InstanceNumber"),
        number_of_frames=number_of(match, "NumberOfFrames") or 1,
        file_size=stored.size,
    )
