"""Small studies made to order: Part 10 files whose every value is known."""

from __future__ import annotations

from pathlib import Path
from random import Random

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
ROOT = "1.2.826.0.1.3680043.10.999"


def instance(
    study: int = 1, series: int = 1, number: int = 1, *, patient: str = "P1", rows: int = 16
) -> Dataset:
    """One CT image; its UIDs are its numbers under `ROOT`."""
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 192"
    item.SOPClassUID = CT_IMAGE_STORAGE
    item.SOPInstanceUID = f"{ROOT}.{study}.{series}.{number}"
    item.StudyDate, item.StudyTime = "20260102", "101500"
    item.AccessionNumber = f"A{study}"
    item.Modality = "CT"
    item.ReferringPhysicianName = "Recommends^Anna"
    item.StudyDescription = f"Study {study}"
    item.PatientName, item.PatientID = "Müller^Jörg", patient
    item.PatientBirthDate, item.PatientSex = "19700102", "O"
    item.StudyInstanceUID = f"{ROOT}.{study}"
    item.SeriesInstanceUID = f"{ROOT}.{study}.{series}"
    item.StudyID = str(study)
    item.SeriesNumber, item.InstanceNumber = series, number
    item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
    item.Rows = item.Columns = rows
    item.BitsAllocated = item.BitsStored = 16
    item.HighBit, item.PixelRepresentation = 15, 0
    seed = (study * 1_000 + series) * 1_000 + number
    item.PixelData = Random(seed).randbytes(2 * rows * rows)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.file_meta = meta
    return item


def write_studies(
    folder: Path, *, studies: int = 2, series: int = 2, instances: int = 2, rows: int = 16
) -> list[Path]:
    """Files of all instances, named by their numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for study in range(1, studies + 1):
        for serie in range(1, series + 1):
            for number in range(1, instances + 1):
                path = folder / f"{study}-{serie}-{number}.dcm"
                instance(study, serie, number, rows=rows).save_as(path, enforce_file_format=True)
                written.append(path)
    return written
