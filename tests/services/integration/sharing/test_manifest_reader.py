"""Manifests as they are read from the index."""

from __future__ import annotations

from typing import Any

import pytest

from isocenter.services.integration.sharing.manifest import (
    AssigningAuthorities,
    ManifestError,
    Retrieval,
)
from isocenter.services.integration.sharing.manifest_reader import ManifestReader, whole_number
from isocenter.storage.database.index.memory import MemoryIndex
from storage.index_contract import make_record

PATIENT = {"PatientID": "P1", "PatientName": "Doe^Jane", "PatientSex": "F"}


def reader(index: MemoryIndex) -> ManifestReader:
    return ManifestReader(
        index, Retrieval(wado_rs="https://a.example/dicomweb"), AssigningAuthorities()
    )


async def archive(*records: Any) -> MemoryIndex:
    index = MemoryIndex()
    await index.add(records)
    return index


async def test_series_and_instances_stand_in_the_order_of_their_numbers() -> None:
    index = await archive(
        make_record("3.2", "2.1", SeriesNumber="2", InstanceNumber="10", **PATIENT),
        make_record("3.1", "2.1", SeriesNumber="2", InstanceNumber="9", **PATIENT),
        make_record("3.3", "2.1", SeriesNumber="2", NumberOfFrames="4", **PATIENT),
        make_record(
            "3.4", "2.2", SeriesNumber="1", Modality="MR", InstitutionName="Clinic", **PATIENT
        ),
        make_record("9.9", "8.8", "7.7", **PATIENT),
    )
    found = await reader(index).read("1.1")
    assert found is not None
    assert [one.series_instance_uid for one in found.series] == ["2.2", "2.1"]
    assert [one.sop_instance_uid for one in found.series[1].instances] == ["3.1", "3.2", "3.3"]
    assert [one.number for one in found.series[1].instances] == [9, 10, None]
    assert found.series[1].instances[2].frames == 4
    assert found.patient.patient_id == "P1"
    assert found.institution == "Clinic"
    assert (found.instance_count, found.modalities) == (4, ("MR",))
    assert found.retrieval.wado_rs == "https://a.example/dicomweb"


async def test_a_study_that_is_not_there_has_no_manifest() -> None:
    assert await reader(await archive()).read("1.1") is None


async def test_a_study_of_two_patients_is_refused() -> None:
    index = await archive(make_record("3.1", PatientID="P1"), make_record("3.2", PatientID="P2"))
    with pytest.raises(ManifestError, match="more than one patient"):
        await reader(index).read("1.1")


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7), (" +7 ", 7), ("-1", -1), ("", None), ("7.0", None), ("٣", None), ("9" * 13, None)],
)
def test_numbers_are_read_as_objects_have_them(text: str, number: int | None) -> None:
    assert whole_number(text) == number
