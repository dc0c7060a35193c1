"""Queries by the names of what one looks for."""

from __future__ import annotations

from datetime import date, time

import pytest

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services import STUDY_ROOT_FIND, Query, instances, patients, series, studies
from isocenter.services.dicom.attribute_path import KeySyntaxError
from isocenter.services.dicom.pydicom_datasets import read_identifier
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES, PATIENT_ROOT_FIND
from isocenter.services.service_classes.query_retrieve.find_scp import FindScp
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.services.testing import SyntheticData, associated, open_test_archive
from isocenter.services.testing.synthetic_data import CT_IMAGE_STORAGE

CONTEXTS = [(uid, BASIC_SYNTAXES) for uid in (CT_IMAGE_STORAGE, STUDY_ROOT_FIND, PATIENT_ROOT_FIND)]


async def test_each_level_down_to_an_instance() -> None:
    data = SyntheticData()
    first = data.ct()
    async with open_test_archive() as archive:
        services = [StorageScp(archive), FindScp(archive.index, ae_title="TEST_SCP")]
        async with associated(services, CONTEXTS) as association:
            for study in (1, 2):
                for image in data.study(study, series=2, instances=2):
                    await association.store(image)

            async def found(query: Query, keyword: str) -> list[str]:
                async with association.search(query) as matches:
                    return [str(match[keyword].value) async for match in matches]

            name = str(first.PatientName)
            assert await found(patients(name=f"{name[:3]}*"), "PatientID") == [first.PatientID]
            assert len(await found(studies(), "StudyInstanceUID")) == 2
            one = studies(patient_id=first.PatientID, modality="CT").asking_for("StudyID")
            assert await found(one, "StudyID") == ["1"]
            uids = [data.ct(study).StudyInstanceUID for study in (1, 2)]
            assert sorted(await found(studies(study_uid=uids), "StudyInstanceUID")) == uids
            day = date(2026, 1, 2)
            assert len(await found(studies(date=day), "StudyID")) == 2
            assert (
                len(await found(studies(date=(day, None), time=(time(8, 20), None)), "StudyID"))
                == 1
            )
            assert await found(studies(date=(None, date(2025, 12, 31))), "StudyID") == []
            study = first.StudyInstanceUID
            assert await found(series(study, number=2), "SeriesInstanceUID") == [f"{study}.2"]
            assert await found(
                instances(study, first.SeriesInstanceUID, number=1), "SOPInstanceUID"
            ) == [first.SOPInstanceUID]


def test_what_is_asked_for_and_what_is_matched() -> None:
    query = studies(patient_name="DOE*", accession_number="A1")
    identifier = read_identifier(query(EXPLICIT_VR_LITTLE_ENDIAN), EXPLICIT_VR_LITTLE_ENDIAN)
    assert identifier.QueryRetrieveLevel == "STUDY"
    assert (identifier.PatientName, identifier.AccessionNumber) == ("DOE*", "A1")
    assert identifier.NumberOfStudyRelatedInstances is None
    assert query.asking_for("StudyDate") == query


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="UID of a study"):
        series("")
    with pytest.raises(ValueError, match="UID of a series"):
        instances("1.2", "")
    with pytest.raises(KeySyntaxError):
        studies().asking_for("NoSuchKeyword")(EXPLICIT_VR_LITTLE_ENDIAN)
    with pytest.raises(TypeError):
        studies(date=5)  # type: ignore[arg-type]
