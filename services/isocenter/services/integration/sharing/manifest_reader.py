"""Manifests of studies, read from the index of an archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from isocenter.services.archive.index.attributes import BY_KEYWORD, UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Page, Query, SingleValue
from isocenter.services.archive.ports import Index
from isocenter.services.integration.sharing.manifest import (
    MOST_INSTANCES,
    AssigningAuthorities,
    ManifestError,
    ManifestInstance,
    ManifestPatient,
    ManifestSeries,
    Retrieval,
    StudyManifest,
)

#: Tag → text, as the index answers.
Match = Mapping[int, str]


def _tags(*keywords: str) -> tuple[int, ...]:
    return tuple(BY_KEYWORD[keyword].tag for keyword in keywords)


_PATIENT_TAGS: Final = _tags("PatientID")
STUDY_TAGS: Final = _tags(
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "StudyDescription",
    "ReferringPhysicianName", "ModalitiesInStudy", "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
)  # fmt: skip
SERIES_TAGS: Final = _tags(
    "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription",
    "BodyPartExamined", "Laterality", "SeriesDate", "SeriesTime", "InstitutionName",
    "NumberOfSeriesRelatedInstances",
)  # fmt: skip
_INSTANCE_TAGS: Final = _tags(
    "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "InstanceNumber",
    "NumberOfFrames",
)  # fmt: skip


def value(match: Match, keyword: str) -> str:
    """What a match says of an attribute; empty: nothing."""
    return match.get(BY_KEYWORD[keyword].tag, "")


def whole_number(text: str) -> int | None:
    """An IS; None: there is none, or it is no number."""
    text = text.strip()
    sign, digits = (text[:1], text[1:]) if text[:1] in ("+", "-") else ("", text)
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 12:
        return None
    return int(sign + digits)


class ManifestReader:
    """Makes manifests of what an index has.

    Args:
        retrieval: where the instances can be had.
        authorities: who gives identifiers.
    """

    def __init__(
        self, index: Index, retrieval: Retrieval, authorities: AssigningAuthorities
    ) -> None:
        self._index = index
        self._retrieval = retrieval
        self._authorities = authorities

    async def has(self, study_instance_uid: str) -> bool:
        """Whether the archive has any of the study.

        Raises:
            StorageError: the index cannot be read.
        """
        criterion = Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(study_instance_uid))
        query = Query(level=Level.STUDY, criteria=(criterion,), return_tags=())
        return bool((await self._index.find_page(query, Page(limit=1))).matches)

    async def read(self, study_instance_uid: str) -> StudyManifest | None:
        """The manifest of a study with all its instances; None: the archive has none of them.

        Raises:
            ManifestError: the study says two patients, or is too large.
            StorageError: the index cannot be read.
        """
        studies = await self._all(Level.STUDY, STUDY_TAGS, study_instance_uid)
        if not studies:
            return None
        if len(await self._all(Level.PATIENT, _PATIENT_TAGS, study_instance_uid)) > 1:
            raise ManifestError(
                "the objects of the study name more than one patient; correct that first"
            )
        if (whole_number(value(studies[0], "NumberOfStudyRelatedInstances")) or 0) > MOST_INSTANCES:
            raise ManifestError(f"the study has more than {MOST_INSTANCES} instances")
        instances: dict[str, list[ManifestInstance]] = {}
        for match in await self._all(Level.IMAGE, _INSTANCE_TAGS, study_instance_uid):
            frames = whole_number(value(match, "NumberOfFrames"))
            instances.setdefault(value(match, "SeriesInstanceUID"), []).append(
                ManifestInstance(
                    sop_instance_uid=value(match, "SOPInstanceUID"),
                    sop_class_uid=value(match, "SOPClassUID"),
                    number=whole_number(value(match, "InstanceNumber")),
                    frames=frames if frames is not None and frames > 0 else None,
                )
            )
        rows = await self._all(Level.SERIES, SERIES_TAGS, study_instance_uid)
        series = [
            series_of(row, sorted(instances[uid], key=_instance_order))
            for row in rows
            if (uid := value(row, "SeriesInstanceUID")) in instances
        ]
        if not series:
            return None
        institution = next(filter(None, (value(row, "InstitutionName") for row in rows)), "")
        return self.study_of(studies[0], sorted(series, key=_series_order), institution)

    def study_of(
        self, match: Match, series: Sequence[ManifestSeries] = (), institution: str = ""
    ) -> StudyManifest:
        """What a match at study level says, with some series."""
        return StudyManifest(
            study_instance_uid=value(match, "StudyInstanceUID"),
            patient=patient_of(match),
            date=value(match, "StudyDate"),
            time=value(match, "StudyTime"),
            accession_number=value(match, "AccessionNumber"),
            study_id=value(match, "StudyID"),
            description=value(match, "StudyDescription"),
            referring_physician=value(match, "ReferringPhysicianName"),
            institution=institution,
            series=tuple(series),
            retrieval=self._retrieval,
            authorities=self._authorities,
        )

    async def _all(self, level: Level, tags: Sequence[int], study: str) -> list[Match]:
        criterion = Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(study))
        query = Query(level=level, criteria=(criterion,), return_tags=tuple(tags))
        found: list[Match] = []
        async with self._index.find(query) as blocks:
            async for block in blocks:
                found += block
                if len(found) > MOST_INSTANCES:
                    raise ManifestError(f"the study has more than {MOST_INSTANCES} instances")
        return found


def patient_of(match: Match) -> ManifestPatient:
    """Whose a study is, as a match says it."""
    return ManifestPatient(
        patient_id=value(match, "PatientID"),
        issuer=value(match, "IssuerOfPatientID"),
        name=value(match, "PatientName"),
        birth_date=value(match, "PatientBirthDate"),
        sex=value(match, "PatientSex"),
    )


def series_of(row: Match, instances: Sequence[ManifestInstance] = ()) -> ManifestSeries:
    """What a match at series level says, with some instances."""
    count = whole_number(value(row, "NumberOfSeriesRelatedInstances"))
    return ManifestSeries(
        series_instance_uid=value(row, "SeriesInstanceUID"),
        modality=value(row, "Modality"),
        number=whole_number(value(row, "SeriesNumber")),
        description=value(row, "SeriesDescription"),
        body_part=value(row, "BodyPartExamined"),
        laterality=value(row, "Laterality"),
        date=value(row, "SeriesDate"),
        time=value(row, "SeriesTime"),
        instances=tuple(instances),
        instance_count=len(instances) or count or 0,
    )


def _series_order(series: ManifestSeries) -> tuple[bool, int, str]:
    return series.number is None, series.number or 0, series.series_instance_uid


def _instance_order(instance: ManifestInstance) -> tuple[bool, int, str]:
    return instance.number is None, instance.number or 0, instance.sop_instance_uid
