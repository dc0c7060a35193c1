"""Plans of corrections: what they would change, checked and counted before anything is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final

from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.coercion.edits import (
    AddOtherPatientId,
    Correcting,
    MoveToStudy,
    RemoveAttribute,
    SetValue,
    check_edit,
)
from isocenter.services.archive.corrections.correctable import LEVEL_OF
from isocenter.services.archive.corrections.values import (
    BIRTH_DATE,
    ISSUER_OF_PATIENT_ID,
    PATIENT_ID,
    PATIENT_NAME,
    SERIES_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    CorrectionKind,
    PatientKey,
    Scope,
    attributes_after,
)
from isocenter.services.archive.index.attributes import BY_TAG, STORED_TAGS, Level
from isocenter.services.archive.index.query import (
    Criterion,
    EmptyValue,
    Query,
    SingleValue,
    ValueList,
)
from isocenter.services.archive.ports import Index, InstanceRecord
from isocenter.services.dicom.data_dictionary import keyword_for_tag
from isocenter.services.dicom.uids import new_uid

#: What identifies a patient, and goes with a study that gets another one.
PATIENT_TAGS: Final = (
    PATIENT_NAME,
    PATIENT_ID,
    ISSUER_OF_PATIENT_ID,
    BIRTH_DATE,
    0x00100032,  # Patient's Birth Time
    0x00100040,  # Patient's Sex
)
#: What identifies a study, and goes with objects that get into another one.
_STUDY_TAGS: Final = (
    0x00080020,  # Study Date
    0x00080030,  # Study Time
    0x00080050,  # Accession Number
    0x00200010,  # Study ID
    0x00080090,  # Referring Physician's Name
    0x00081030,  # Study Description
)
#: Sequences that say more of an ID, and would be wrong of another one.
_OF_ISSUER: Final = 0x00100024
_REFERENCES: Final = (
    "series and instances keep their UIDs; references in other objects (reports, key images, "
    "presentation states) stay as they are: they lead to the instances, and may name the study "
    "that these were in"
)
#: Records in one question to the index.
_AT_ONCE: Final = 500
#: Values before that are shown of one attribute.
_MOST_VALUES: Final = 20


class CorrectionError(IsocenterError):
    """A correction that cannot be; the message shows no value."""

    error_code = ErrorCode.CORRECTION


@dataclass(frozen=True, slots=True)
class Difference:
    """What becomes of one attribute.

    Attributes:
        before: values that objects have now, with how many have each; the first of them.
        after: what all are to have; None: it is removed.
    """

    tag: int
    name: str
    before: Sequence[tuple[str, int]] = field(repr=False)
    after: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionPlan:
    """What a correction would change.

    Attributes:
        instances, series, studies: for which it would hold now.
        changed: instances of which the index would say something else.
        size: bytes of Part 10 files: so much room the corrected forms need, about.
        new_study_instance_uid: of a study that it makes; empty: it makes none.
        notes: what else is to be known, in words without values.
    """

    kind: CorrectionKind
    scopes: tuple[Scope, ...]
    edits: tuple[Correcting, ...] = field(repr=False)
    instances: int
    series: int
    studies: int
    changed: int
    size: int
    differences: Sequence[Difference] = ()
    new_study_instance_uid: str = ""
    notes: tuple[str, ...] = ()


class Planner:
    """Makes plans for one archive; nothing is changed by it.

    All methods raise `CorrectionError` for what cannot be done.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    async def correct(self, scope: Scope, changes: Mapping[int, str | None]) -> CorrectionPlan:
        """Give attributes other values.

        Args:
            scope: a patient, a study or a series.
            changes: tag → value; None: the attribute is removed.
        """
        if not changes:
            raise CorrectionError("say which attributes are to have which values")
        level = _level_of(scope)
        for tag in changes:
            _check_level(tag, level)
        edits: list[Correcting] = [
            RemoveAttribute(tag) if value is None else SetValue(tag, value)
            for tag, value in changes.items()
        ]
        if PATIENT_ID in changes or ISSUER_OF_PATIENT_ID in changes:
            edits.append(RemoveAttribute(_OF_ISSUER))
        return await self._plan(CorrectionKind.CORRECT, (scope,), edits)

    async def merge_patients(
        self,
        source: PatientKey,
        target: PatientKey,
        attributes: Mapping[int, str] | None = None,
    ) -> CorrectionPlan:
        """Have all objects of *source* be of *target*; its ID is kept among the other IDs.

        Args:
            attributes: of *target*, where it is known from elsewhere; None: of its objects.
        """
        if source == target:
            raise CorrectionError("both are the same patient")
        edits = await self._to_patient(target, attributes)
        if source.patient_id:
            edits.append(AddOtherPatientId(source.patient_id, source.issuer))
        return await self._plan(CorrectionKind.MERGE_PATIENTS, (Scope(patient=source),), edits)

    async def move_study(
        self,
        study_instance_uid: str,
        target: PatientKey,
        attributes: Mapping[int, str] | None = None,
    ) -> CorrectionPlan:
        """Have a study be of another patient; of the one before nothing is kept in it, but in its
        Original Attributes Sequence."""
        edits = await self._to_patient(target, attributes)
        scope = Scope(study_instance_uid=study_instance_uid)
        return await self._plan(CorrectionKind.MOVE_STUDY, (scope,), edits)

    async def merge_studies(self, source: str, target: str) -> CorrectionPlan:
        """Have all objects of a study be of another one, and of its patient."""
        if source == target:
            raise CorrectionError("both are the same study")
        edits = await self._to_study(target)
        scope = Scope(study_instance_uid=source)
        return await self._plan(CorrectionKind.MERGE_STUDIES, (scope,), edits)

    async def move_series(
        self, study_instance_uid: str, series: Sequence[str], target: str
    ) -> CorrectionPlan:
        """Have series of a study be of another study, and of its patient."""
        if study_instance_uid == target:
            raise CorrectionError("the series are in that study already")
        edits = await self._to_study(target)
        return await self._plan(
            CorrectionKind.MOVE_SERIES, _series(study_instance_uid, series), edits
        )

    async def split_study(
        self, study_instance_uid: str, series: Sequence[str], new_study_instance_uid: str = ""
    ) -> CorrectionPlan:
        """Have series of a study be a study of their own, of the same patient.

        Args:
            new_study_instance_uid: of that study; empty: one is made.
        """
        uid = new_study_instance_uid or new_uid()
        if (await self._records(_of_study(uid), 1)) != []:
            raise CorrectionError(f"the archive has a study {uid}; move the series there instead")
        plan = await self._plan(
            CorrectionKind.SPLIT_STUDY,
            _series(study_instance_uid, series),
            [MoveToStudy(uid)],
            new_study_instance_uid=uid,
        )
        others = await self._series_of(study_instance_uid) - set(series)
        if plan.instances and not others:
            raise CorrectionError("that is all of the study; there would be nothing to split")
        return plan

    async def study_of(self, series_instance_uid: str) -> str:
        """The study that a series is in."""
        query = Query(
            level=Level.SERIES,
            criteria=(Criterion(SERIES_INSTANCE_UID, ValueList((series_instance_uid,))),),
        )
        async with self._index.instances(query) as blocks:
            studies = {each.study_instance_uid async for block in blocks for each in block}
        if len(studies) > 1:
            raise CorrectionError(f"more than one study has the series {series_instance_uid}")
        if not studies:
            raise CorrectionError(f"the archive has no series {series_instance_uid}")
        return studies.pop()

    # -- What is there ----------------------------------------------------------------

    async def _to_patient(
        self, target: PatientKey, attributes: Mapping[int, str] | None
    ) -> list[Correcting]:
        if attributes is None:
            records = await self._records(_of_patient(target), 1, target)
            if not records:
                raise CorrectionError("the archive has nothing of the patient that is to stay")
            attributes = records[0].attributes
        attributes = {
            **attributes,
            PATIENT_ID: target.patient_id,
            ISSUER_OF_PATIENT_ID: target.issuer,
        }
        return [*_set_all(attributes, PATIENT_TAGS), RemoveAttribute(_OF_ISSUER)]

    async def _to_study(self, target: str) -> list[Correcting]:
        records = await self._records(_of_study(target), 1)
        if not records:
            raise CorrectionError(f"the archive has no study {target}")
        attributes = records[0].attributes
        return [
            MoveToStudy(target),
            *_set_all(attributes, PATIENT_TAGS),
            RemoveAttribute(_OF_ISSUER),
            *_set_all(attributes, _STUDY_TAGS),
        ]

    async def _series_of(self, study: str) -> set[str]:
        async with self._index.instances(_of_study(study)) as blocks:
            return {each.series_instance_uid async for block in blocks for each in block}

    async def _records(
        self, query: Query, limit: int, patient: PatientKey | None = None
    ) -> list[InstanceRecord]:
        found: list[InstanceRecord] = []
        async with self._index.instances(query) as blocks:
            async for block in blocks:
                uids = [each.sop_instance_uid for each in block]
                for record in (await self._index.records(uids)).values():
                    if patient is None or PatientKey.of(record.attributes) == patient:
                        found.append(record)
                        if len(found) == limit:
                            return found
        return found

    async def _plan(
        self,
        kind: CorrectionKind,
        scopes: tuple[Scope, ...],
        edits: Sequence[Correcting],
        *,
        new_study_instance_uid: str = "",
    ) -> CorrectionPlan:
        for edit in edits:
            try:
                check_edit(edit)
            except ValueError as error:
                raise CorrectionError(str(error)) from error
        tally = _Tally(edits)
        for scope in scopes:
            async with self._index.instances(_query_of(scope)) as blocks:
                async for block in blocks:
                    for start in range(0, len(block), _AT_ONCE):
                        uids = [each.sop_instance_uid for each in block[start : start + _AT_ONCE]]
                        for record in (await self._index.records(uids)).values():
                            if (
                                scope.patient is None
                                or PatientKey.of(record.attributes) == scope.patient
                            ):
                                tally.count(record)
        return CorrectionPlan(
            kind=kind,
            scopes=scopes,
            edits=tuple(edits),
            instances=tally.instances,
            series=len(tally.series),
            studies=len(tally.studies),
            changed=tally.changed,
            size=tally.size,
            differences=tally.differences(),
            new_study_instance_uid=new_study_instance_uid,
            notes=tuple(_notes(edits)),
        )


class _Tally:
    """What a correction would change, counted."""

    def __init__(self, edits: Sequence[Correcting]) -> None:
        self._edits = edits
        self.instances = self.changed = self.size = 0
        self.studies: set[str] = set()
        self.series: set[tuple[str, str]] = set()
        self._before: dict[int, dict[str, int]] = {
            edit.tag: {} for edit in edits if edit.tag in STORED_TAGS
        }

    def count(self, record: InstanceRecord) -> None:
        self.instances += 1
        self.size += record.size
        self.studies.add(record.study_instance_uid)
        self.series.add((record.study_instance_uid, record.series_instance_uid))
        said = {
            **record.attributes,
            STUDY_INSTANCE_UID: record.study_instance_uid,
            SERIES_INSTANCE_UID: record.series_instance_uid,
        }
        for tag, values in self._before.items():
            value = said.get(tag, "")
            if value in values or len(values) < _MOST_VALUES:
                values[value] = values.get(value, 0) + 1
        after = attributes_after(said, self._edits)
        # What the index does not keep may change as well.
        is_known = all(tag in STORED_TAGS for tag in (edit.tag for edit in self._edits))
        self.changed += not is_known or _without_empty(after) != _without_empty(said)

    def differences(self) -> list[Difference]:
        found = []
        for edit in self._edits:
            match edit:
                case SetValue():
                    after: str | None = edit.value
                case MoveToStudy():
                    after = edit.uid
                case RemoveAttribute():
                    after = None
                case AddOtherPatientId():
                    after = edit.patient_id
            if edit.tag == _OF_ISSUER:
                continue
            before = list(self._before.get(edit.tag, {}).items())
            known = BY_TAG.get(edit.tag)
            name = keyword_for_tag(edit.tag) if known is None else known.keyword
            found.append(Difference(edit.tag, name, before, after))
        return found


def _without_empty(attributes: Mapping[int, str]) -> dict[int, str]:
    return {tag: text for tag, text in attributes.items() if text}


def _notes(edits: Sequence[Correcting]) -> list[str]:
    if not any(isinstance(edit, MoveToStudy) for edit in edits):
        return []
    return [_REFERENCES]


def _set_all(attributes: Mapping[int, str], tags: Sequence[int]) -> list[Correcting]:
    return [
        SetValue(tag, attributes[tag]) if attributes.get(tag) else RemoveAttribute(tag)
        for tag in tags
    ]


def _level_of(scope: Scope) -> Level:
    if scope.patient is not None:
        return Level.PATIENT
    return Level.SERIES if scope.series_instance_uid else Level.STUDY


def _check_level(tag: int, level: Level) -> None:
    name = f"{tag_text(tag)} {keyword_for_tag(tag)}".rstrip()
    known = LEVEL_OF.get(tag)
    if known is None:
        raise CorrectionError(
            f"{name} is no attribute of patient, study or series that can be corrected"
        )
    if known is level or (known is Level.PATIENT and level is Level.STUDY):
        return
    cure = {
        Level.PATIENT: "name the patient, or a study",
        Level.STUDY: "name the study",
        Level.SERIES: "name the series",
    }[known]
    raise CorrectionError(f"{name} is an attribute of the {known.value.lower()}: {cure}")


def _series(study: str, series: Sequence[str]) -> tuple[Scope, ...]:
    if not series:
        raise CorrectionError("say which series")
    return tuple(
        Scope(study_instance_uid=study, series_instance_uid=each) for each in dict.fromkeys(series)
    )


def _of_study(*uids: str) -> Query:
    return Query(
        level=Level.STUDY, criteria=(Criterion(STUDY_INSTANCE_UID, ValueList(tuple(uids))),)
    )


def _of_patient(patient: PatientKey) -> Query:
    """Objects of a patient, and perhaps of others with the ID."""
    if patient.patient_id:
        criteria = [Criterion(PATIENT_ID, SingleValue(patient.patient_id))]
    else:
        criteria = [Criterion(PATIENT_ID, EmptyValue())]
        if patient.name:
            criteria.append(Criterion(PATIENT_NAME, SingleValue(patient.name)))
    return Query(level=Level.PATIENT, criteria=tuple(criteria))


def _query_of(scope: Scope) -> Query:
    if scope.patient is not None:
        return _of_patient(scope.patient)
    if not scope.series_instance_uid:
        return _of_study(scope.study_instance_uid)
    return Query(
        level=Level.SERIES,
        criteria=(
            Criterion(STUDY_INSTANCE_UID, ValueList((scope.study_instance_uid,))),
            Criterion(SERIES_INSTANCE_UID, ValueList((scope.series_instance_uid,))),
        ),
    )
