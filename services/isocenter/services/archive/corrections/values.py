"""Corrections as values: what they are about, and what they change.

A correction names a patient, a study or series of one, and edits.  It holds for every object that
is of them, also for those that come later; several that hold for one object are applied one
after the other, each to what those before it have made.  So what an object is follows from what
it was when it came, and from the corrections that hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import Enum
from typing import Any, Final, assert_never

import orjson

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.coercion.edits import (
    AddOtherPatientId,
    Correcting,
    MoveToStudy,
    RemoveAttribute,
    SetValue,
)

PATIENT_ID: Final = 0x00100020
ISSUER_OF_PATIENT_ID: Final = 0x00100021
PATIENT_NAME: Final = 0x00100010
BIRTH_DATE: Final = 0x00100030
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E


class CorrectionKind(Enum):
    """What somebody wanted; the words are those of events and audit messages."""

    CORRECT = "correct"
    MERGE_PATIENTS = "merge patients"
    MERGE_STUDIES = "merge studies"
    MOVE_STUDY = "move study"
    MOVE_SERIES = "move series"
    SPLIT_STUDY = "split study"


@dataclass(frozen=True, slots=True)
class PatientKey:
    """Which patient, as the index tells patients apart.

    Attributes:
        name, birth_date: they count where there is no ID.
    """

    patient_id: str = field(repr=False)
    issuer: str = field(default="", repr=False)
    name: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)

    @classmethod
    def of(cls, attributes: Mapping[int, str]) -> PatientKey:
        """Of an object, from what the index keeps of it."""
        get = attributes.get
        patient_id, issuer = get(PATIENT_ID, ""), get(ISSUER_OF_PATIENT_ID, "")
        if patient_id:
            return cls(patient_id, issuer)
        return cls("", issuer, get(PATIENT_NAME, ""), get(BIRTH_DATE, ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which objects: all of a patient, of a study, or of a series in a study.

    Attributes:
        patient: None: whose they are does not matter.
        series_instance_uid: empty: all of the study.
    """

    patient: PatientKey | None = None
    study_instance_uid: str = ""
    series_instance_uid: str = ""

    @property
    def key(self) -> str:
        """The same for the same objects, and for no others."""
        if self.patient is not None:
            patient = self.patient
            parts = [patient.patient_id, patient.issuer]
            if not patient.patient_id:
                parts += [patient.name, patient.birth_date]
            return "patient " + orjson.dumps([_plain(part) for part in parts]).decode()
        if self.series_instance_uid:
            return f"series {self.study_instance_uid} {self.series_instance_uid}"
        return f"study {self.study_instance_uid}"


def keys_of(attributes: Mapping[int, str]) -> tuple[str, ...]:
    """The keys of all scopes that an object is in."""
    study, series = attributes[STUDY_INSTANCE_UID], attributes[SERIES_INSTANCE_UID]
    return (
        Scope(patient=PatientKey.of(attributes)).key,
        Scope(study_instance_uid=study).key,
        Scope(study_instance_uid=study, series_instance_uid=series).key,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What is corrected, and why.

    Attributes:
        at: seconds since 1970.
        actor: who wants it.
        reason: why; it stands in the audit trail.
        number: of its record; 0: it has none yet.
    """

    kind: CorrectionKind
    scopes: tuple[Scope, ...]
    edits: tuple[Correcting, ...] = field(repr=False)
    at: float
    actor: str
    reason: str = field(repr=False)
    number: int = 0

    @property
    def moves(self) -> bool:
        """Whether objects get into another study."""
        return any(isinstance(edit, MoveToStudy) for edit in self.edits)


def attributes_after(attributes: Mapping[int, str], edits: Sequence[Correcting]) -> dict[int, str]:
    """What the index keeps of an object when *edits* have been applied to it.

    An ID more of the patient is in a sequence, of which the index keeps nothing.
    """
    after = dict(attributes)
    for edit in edits:
        match edit:
            case SetValue():
                after[edit.tag] = edit.value
            case MoveToStudy():
                after[edit.tag] = edit.uid
            case RemoveAttribute():
                after.pop(edit.tag, None)
            case AddOtherPatientId():
                pass
            case _:
                assert_never(edit)
    return after


def content_of(correction: Correction) -> bytes:
    """Scopes and edits as JSON."""
    scopes = [
        {
            "patient": None
            if (patient := scope.patient) is None
            else [patient.patient_id, patient.issuer, patient.name, patient.birth_date],
            "study": scope.study_instance_uid,
            "series": scope.series_instance_uid,
        }
        for scope in correction.scopes
    ]
    return orjson.dumps({"scopes": scopes, "edits": [_written(e) for e in correction.edits]})


def read_content(content: str | bytes) -> tuple[tuple[Scope, ...], tuple[Correcting, ...]]:
    """What `content_of` wrote."""
    read = orjson.loads(content)
    scopes = tuple(
        Scope(
            patient=None if each["patient"] is None else PatientKey(*each["patient"]),
            study_instance_uid=each["study"],
            series_instance_uid=each["series"],
        )
        for each in read["scopes"]
    )
    return scopes, tuple(map(_read, read["edits"]))


def _written(edit: Correcting) -> list[Any]:
    match edit:
        case SetValue():
            return ["set", edit.tag, _plain(edit.value)]
        case RemoveAttribute():
            return ["remove", edit.tag]
        case MoveToStudy():
            return ["move to study", edit.uid]
        case AddOtherPatientId():
            return ["add other patient ID", _plain(edit.patient_id), _plain(edit.issuer)]
        case _:
            assert_never(edit)


def _read(written: list[Any]) -> Correcting:
    match written:
        case ["set", tag, value]:
            return SetValue(tag, value)
        case ["remove", tag]:
            return RemoveAttribute(tag)
        case ["move to study", uid]:
            return MoveToStudy(uid)
        case ["add other patient ID", patient_id, issuer]:
            return AddOtherPatientId(patient_id, issuer)
        case _:
            raise ValueError("a correction of a newer version")


def _plain(text: str) -> str:
    """Without what JSON cannot have."""
    return text.encode("utf-8", "replace").decode()
