"""Films as Secondary Captures in the archive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest

from isocenter.services import composition
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Query
from isocenter.services.archive.selection import select
from isocenter.services.service_classes.print.captures import ArchiveCaptures
from isocenter.services.service_classes.print.spooler import OutputError
from isocenter.services.settings.loading import load_settings
from services.archive_support import STUDY, store
from services.integration.ai.ai_world import STUDY as CT_STUDY
from services.integration.ai.ai_world import ct_image, keep
from services.service_classes.print.samples import pattern
from services.service_classes.print.test_spooler import a_job, film


@pytest.fixture
async def archive() -> AsyncIterator[Any]:
    settings = load_settings(environ={}, overrides={"storage.data_dir": ":memory:"})
    async with composition.open_archive_parts(settings) as parts:
        yield parts.archive


async def objects(archive: Any) -> list[pydicom.Dataset]:
    found = await select(archive.index, Query(level=Level.IMAGE, criteria=(), return_tags=()))
    read = []
    for study in found.studies:
        for stored in study:
            async with await archive.open(stored) as reader:
                read.append(pydicom.dcmread(BytesIO(await reader.read(0, reader.size))))
    return sorted(read, key=lambda each: (each.Modality, each.get("InstanceNumber") or 0))


async def test_films_of_a_printer_are_a_study_without_a_patient(archive: Any) -> None:
    captures = ArchiveCaptures(archive, "ISOCENTER")
    for _ in range(2):  # as after an attempt that was interrupted
        await captures.put(a_job(), [film(), film()])
    first, second = await objects(archive)
    assert first.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert np.array_equal(first.pixel_array, pattern(30, 20))
    assert (first.PatientName, first.PatientID) == ("", "")
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert [each.InstanceNumber for each in (first, second)] == [1, 2]


async def test_films_of_a_study_are_a_series_of_it(archive: Any) -> None:
    await store(archive, 1)
    job = replace(a_job(), study_instance_uid=STUDY)
    await ArchiveCaptures(archive, "ISOCENTER").put(job, [film()])
    image, capture = await objects(archive)
    assert capture.Modality == "OT"
    assert capture.StudyInstanceUID == image.StudyInstanceUID
    assert capture.SeriesInstanceUID != image.SeriesInstanceUID
    assert capture.PatientID == image.PatientID
    assert str(capture.PatientName) == str(image.get("PatientName", ""))


async def test_films_of_a_study_name_the_issuer_of_its_patient(archive: Any) -> None:
    await keep(archive, ct_image(1, IssuerOfPatientID="HOSPITAL"))
    job = replace(a_job(), study_instance_uid=CT_STUDY)
    await ArchiveCaptures(archive, "ISOCENTER").put(job, [film()])
    _, capture = await objects(archive)
    assert capture.IssuerOfPatientID == "HOSPITAL"


async def test_an_archive_that_is_full_is_a_fault(archive: Any) -> None:
    archive.intake.sop_classes = frozenset({"1.2.3"})
    with pytest.raises(OutputError, match="the archive does not take the films"):
        await ArchiveCaptures(archive, "ISOCENTER").put(a_job(), [film()])
