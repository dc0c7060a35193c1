"""Small series of images in an archive, for tests of what viewers ask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pydicom
from pydicom.data import get_testdata_file

from isocenter.services.archive.archive import Archive
from isocenter.services.dicom.objects import DicomObject

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY, SERIES = "1.2.3", "1.2.3.1"
ROWS, COLUMNS = 32, 48


def uid(number: int, series: str = SERIES) -> str:
    return f"{series}.{number}"


def image(number: int = 1, *, series: str = SERIES, study: str = STUDY, **values: Any) -> Any:
    """A CT image of a series whose numbers run against the direction of its planes."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    for keyword in ("PixelPaddingValue", "DataSetTrailingPadding"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.SOPInstanceUID = uid(number, series)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.PatientName, dataset.PatientID = "Zenobia^Wanda", "P1"
    dataset.StudyDate, dataset.StudyTime = "20260102", "101112"
    dataset.InstanceNumber, dataset.Rows, dataset.Columns = number, ROWS, COLUMNS
    dataset.PixelSpacing = [0.5, 0.25]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [0, 0, 100 - 5 * number]
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = pixels().tobytes()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    if "SOPClassUID" in values:
        dataset.file_meta.MediaStorageSOPClassUID = values["SOPClassUID"]
    return dataset


def pixels() -> Any:
    """Stored values that are their column, times ten."""
    return np.tile(np.arange(COLUMNS, dtype="<i2") * 10, (ROWS, 1))


async def put(archive: Archive, *datasets: Any) -> None:
    """Store objects."""
    for dataset in datasets:
        made = DicomObject.from_dataset(dataset)
        async with await archive.receive(
            sop_class_uid=made.sop_class_uid,
            sop_instance_uid=made.sop_instance_uid,
            transfer_syntax_uid=made.transfer_syntax_uid,
            source_ae_title="",
        ) as ingest:
            async for part, _ in made.parts():
                await ingest.write([part])
            await ingest.commit()
