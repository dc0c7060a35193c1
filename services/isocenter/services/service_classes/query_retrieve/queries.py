"""Queries for patients, studies, series and instances, by typed arguments.

async with association.search(studies(patient_name="DOE*", date=(monday, None))) as found:
    async for study in found:
        print(study.StudyInstanceUID)
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import Level
from isocenter.services.dicom.uid_registry import PATIENT_ROOT_FIND, STUDY_ROOT_FIND
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier

#: A day or a moment, a range of them (either end may be open), or text as DICOM writes it.
Day = str | date | tuple[date | None, date | None]
Hour = str | time | tuple[time | None, time | None]
#: One value, or several of which one is enough (a list of UIDs, PS3.4 C.2.2.2.2).
Uids = str | Sequence[str]

_PATIENT: Final = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY: Final = (
    *_PATIENT, "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "StudyDescription",
    "ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
    "StudyInstanceUID",
)  # fmt: skip
_SERIES: Final = (
    "Modality", "SeriesNumber", "SeriesDescription", "NumberOfSeriesRelatedInstances",
    "SeriesInstanceUID",
)  # fmt: skip
_INSTANCE: Final = ("InstanceNumber", "SOPClassUID", "SOPInstanceUID")


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for, and at which level; `ClientAssociation.search` takes it.

    Attributes:
        sop_class_uid: of the information model.
        keys: keyword → text; an empty one is only asked for.
    """

    level: Level
    sop_class_uid: str
    keys: tuple[tuple[str, str], ...]

    def __call__(self, transfer_syntax_uid: str) -> bytes:
        """The identifier, encoded (PS3.4 C.4.1.1.3).

        Raises:
            KeySyntaxError: a value is none of its attribute.
        """
        return build_identifier(self.keys, self.level, transfer_syntax_uid)

    def asking_for(self, *keywords: str) -> Query:
        """The same, and these attributes are asked for as well."""
        named = {name for name, _ in self.keys}
        more = tuple((keyword, "") for keyword in keywords if keyword not in named)
        return Query(self.level, self.sop_class_uid, self.keys + more)


def patients(*, name: str = "", patient_id: str = "", birth_date: Day = "", sex: str = "") -> Query:
    """Patients, in the Patient Root model.

    Args:
        name: with ``*`` and ``?`` as wild cards, as `patient_id`.
        sex: ``F``, ``M`` or ``O``.
    """
    wanted = {
        "PatientName": name,
        "PatientID": patient_id,
        "PatientBirthDate": _days(birth_date),
        "PatientSex": sex,
    }
    return _query(Level.PATIENT, PATIENT_ROOT_FIND, _PATIENT, wanted)


def studies(
    *,
    patient_id: str = "",
    patient_name: str = "",
    study_uid: Uids = "",
    date: Day = "",
    time: Hour = "",
    accession_number: str = "",
    modality: str = "",
    description: str = "",
) -> Query:
    """Studies, in the Study Root model.

    Args:
        study_uid: one, or several of which each is looked for.
        modality: of any of its series.
    """
    wanted = {
        "PatientID": patient_id,
        "PatientName": patient_name,
        "StudyInstanceUID": _uids(study_uid),
        "StudyDate": _days(date),
        "StudyTime": _hours(time),
        "AccessionNumber": accession_number,
        "ModalitiesInStudy": modality,
        "StudyDescription": description,
    }
    return _query(Level.STUDY, STUDY_ROOT_FIND, _STUDY, wanted)


def series(
    study_uid: str,
    *,
    series_uid: Uids = "",
    modality: str = "",
    number: int | None = None,
) -> Query:
    """Series of a study, in the Study Root model, which needs the study (PS3.4 C.4.1.2.1)."""
    wanted = {
        "StudyInstanceUID": _one(study_uid, "a study"),
        "SeriesInstanceUID": _uids(series_uid),
        "Modality": modality,
        "SeriesNumber": "" if number is None else str(number),
    }
    return _query(Level.SERIES, STUDY_ROOT_FIND, _SERIES, wanted)


def instances(
    study_uid: str, series_uid: str, *, sop_instance_uid: Uids = "", number: int | None = None
) -> Query:
    """Instances of a series, in the Study Root model, which needs study and series."""
    wanted = {
        "StudyInstanceUID": _one(study_uid, "a study"),
        "SeriesInstanceUID": _one(series_uid, "a series"),
        "SOPInstanceUID": _uids(sop_instance_uid),
        "InstanceNumber": "" if number is None else str(number),
    }
    return _query(Level.IMAGE, STUDY_ROOT_FIND, _INSTANCE, wanted)


def _query(level: Level, sop_class_uid: str, asked: Sequence[str], wanted: dict[str, str]) -> Query:
    keys = {**dict.fromkeys(asked, ""), **wanted}
    return Query(level, sop_class_uid, tuple(keys.items()))


def _one(uid: str, what: str) -> str:
    if not uid:
        raise ValueError(f"which one? Queries below need the UID of {what}")
    return uid


def _uids(uids: Uids) -> str:
    return uids if isinstance(uids, str) else "\\".join(uids)


def _days(day: Day) -> str:
    match day:
        case str():
            return day
        case (first, last):
            return _range(*("" if one is None else f"{one:%Y%m%d}" for one in (first, last)))
        case datetime() | date():
            return f"{day:%Y%m%d}"
    raise TypeError(f"{day!r} is no day")


def _hours(hour: Hour) -> str:
    match hour:
        case str():
            return hour
        case (first, last):
            return _range(*("" if one is None else f"{one:%H%M%S}" for one in (first, last)))
        case time():
            return f"{hour:%H%M%S}"
    raise TypeError(f"{hour!r} is no time")


def _range(first: str, last: str) -> str:
    """Of both ends; nothing, if both are open."""
    return f"{first}-{last}" if first or last else ""
