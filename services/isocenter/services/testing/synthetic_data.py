"""Synthetic patients, images and orders: the same for the same seed, and of nobody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.4"
CR_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.1"

#: UIDs that no installation has: below the one that the authors of pydicom give out for tests.
UID_ROOT: Final = "1.2.826.0.1.3680043.10.999"
_FAMILY_NAMES: Final = ("Abel", "Berg", "Castro", "Dvořák", "Ekström", "Fonseca", "Götz", "Hoang")
_GIVEN_NAMES: Final = ("Anna", "Béla", "Chloé", "David", "Eszter", "Finn", "Greta", "Hugo")
_FIRST_BIRTH: Final = date(1930, 1, 1)
_BIRTH_DAYS: Final = 30_000
_FIRST_DAY: Final = datetime(2026, 1, 2, 8, 0)  # noqa: DTZ001 - DICOM times name no zone
#: Stored bits of each modality, and what a value of 0 is (Rescale Intercept).
_DEPTHS: Final = {"CT": (12, -1024), "MR": (12, None), "CR": (10, None)}
_SOP_CLASSES: Final = {
    "CT": CT_IMAGE_STORAGE, "MR": MR_IMAGE_STORAGE, "CR": CR_IMAGE_STORAGE,
}  # fmt: skip
_THICKNESS: Final = 2.5


@dataclass(frozen=True)
class SyntheticPatient:
    """Somebody who does not exist."""

    patient_id: str
    name: str
    birth_date: str
    sex: str


@dataclass
class SyntheticData:
    """Makes patients, images and worklist entries.

    Attributes:
        root: of all UIDs.
        seed: makes the same data again.
        rows, columns: of images.
    """

    root: str = UID_ROOT
    seed: int = 1
    rows: int = 32
    columns: int = 32

    def patient(self, number: int = 1) -> SyntheticPatient:
        """The patient of that number, always the same."""
        random = self._random("patient", number)
        family, given = random.choice(_FAMILY_NAMES), random.choice(_GIVEN_NAMES)
        born = _FIRST_BIRTH + timedelta(days=random.randrange(_BIRTH_DAYS))
        return SyntheticPatient(
            f"SYN{number:05}", f"{family}^{given}", f"{born:%Y%m%d}", random.choice("FMO")
        )

    def ct(self, study: int = 1, series: int = 1, instance: int = 1, **more: Any) -> Dataset:
        """A slice of a CT: a gradient with a round body in it, in Hounsfield units."""
        item = self._image("CT", study, series, instance, more)
        item.KVP, item.SliceThickness, item.PixelSpacing = "120", str(_THICKNESS), ["0.7", "0.7"]
        item.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        item.ImagePositionPatient = ["0", "0", str(_THICKNESS * (instance - 1))]
        item.FrameOfReferenceUID = f"{self.root}.{self.seed}.{study}.0"
        item.RescaleSlope, item.RescaleIntercept = "1", str(_DEPTHS["CT"][1])
        item.WindowCenter, item.WindowWidth = "40", "400"
        return self._finished(item, more)

    def mr(self, study: int = 1, series: int = 1, instance: int = 1, **more: Any) -> Dataset:
        """A slice of an MR."""
        item = self._image("MR", study, series, instance, more)
        item.ScanningSequence, item.SequenceVariant, item.ScanOptions = "SE", "SK", ""
        item.MRAcquisitionType, item.EchoTime, item.EchoTrainLength = "2D", "20", "1"
        item.RepetitionTime, item.SliceThickness, item.PixelSpacing = "500", "5", ["1", "1"]
        item.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        item.ImagePositionPatient = ["0", "0", str(5 * (instance - 1))]
        item.FrameOfReferenceUID = f"{self.root}.{self.seed}.{study}.0"
        return self._finished(item, more)

    def cr(self, study: int = 1, series: int = 1, instance: int = 1, **more: Any) -> Dataset:
        """A radiograph."""
        item = self._image("CR", study, series, instance, more)
        item.BodyPartExamined, item.ViewPosition = "CHEST", "PA"
        return self._finished(item, more)

    def study(
        self, study: int = 1, *, modality: str = "CT", series: int = 1, instances: int = 3
    ) -> Iterator[Dataset]:
        """All images of a study, one after the other."""
        make = {"CT": self.ct, "MR": self.mr, "CR": self.cr}[modality]
        for one in range(1, series + 1):
            for number in range(1, instances + 1):
                yield make(study, one, number)

    def write(self, folder: Path, images: Iterator[Dataset]) -> list[Path]:
        """Part 10 files of *images* in a folder, which is made; named by their UIDs."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for image in images:
            path = folder / f"{image.SOPInstanceUID}.dcm"
            image.save_as(path, enforce_file_format=True)
            written.append(path)
        return written

    def worklist_entry(self, number: int = 1, *, modality: str = "CT") -> dict[str, str]:
        """An order, by the fields that `isocenter worklist add` and its files have."""
        patient = self.patient(number)
        starts = _FIRST_DAY + timedelta(minutes=15 * number)
        return {
            "step_id": f"SPS{number}",
            "accession_no": f"ACC{number}",
            "requested_proc_id": f"RP{number}",
            "study_uid": f"{self.root}.{self.seed}.{number}",
            "patient_id": patient.patient_id,
            "patient_name": patient.name,
            "birth_date": patient.birth_date,
            "sex": patient.sex,
            "modality": modality,
            "station_ae": f"{modality}_01",
            "scheduled_datetime": f"{starts:%Y%m%d%H%M%S}",
            "procedure_desc": f"{modality} CHEST",
        }

    def _image(
        self, modality: str, study: int, series: int, instance: int, more: dict[str, Any]
    ) -> Dataset:
        patient = more.pop("patient", None) or self.patient(study)
        taken = _FIRST_DAY + timedelta(minutes=15 * study)
        item = Dataset()
        item.SpecificCharacterSet = "ISO_IR 192"
        item.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "M"]
        item.SOPClassUID = _SOP_CLASSES[modality]
        place = f"{self.root}.{self.seed}.{study}"
        item.StudyInstanceUID = place
        item.SeriesInstanceUID = f"{place}.{series}"
        item.SOPInstanceUID = f"{place}.{series}.{instance}"
        item.StudyDate = item.SeriesDate = item.ContentDate = f"{taken:%Y%m%d}"
        item.StudyTime = item.SeriesTime = item.ContentTime = f"{taken:%H%M%S}"
        item.AcquisitionNumber = series
        item.AccessionNumber, item.StudyID = f"ACC{study}", str(study)
        item.Modality, item.Manufacturer = modality, "Synthetic"
        item.StudyDescription = f"{modality} CHEST"
        item.SeriesDescription = f"{modality} {series}"
        item.ReferringPhysicianName = ""
        item.PatientName, item.PatientID = patient.name, patient.patient_id
        item.PatientBirthDate, item.PatientSex = patient.birth_date, patient.sex
        item.SeriesNumber, item.InstanceNumber = series, instance
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.Rows, item.Columns = self.rows, self.columns
        bits, _ = _DEPTHS[modality]
        item.BitsAllocated, item.BitsStored, item.HighBit = 16, bits, bits - 1
        item.PixelRepresentation = 0
        item.PixelData = self._pixels(bits, instance)
        return item

    def _pixels(self, bits: int, instance: int) -> bytes:
        """A gradient from top to bottom, and a disc that grows from slice to slice."""
        top = (1 << bits) - 1
        middle_row, middle_column = self.rows / 2, self.columns / 2
        radius = min(self.rows, self.columns) / 4 * (1 + instance % 8 / 8)
        found = bytearray()
        for row in range(self.rows):
            for column in range(self.columns):
                away = (row - middle_row) ** 2 + (column - middle_column) ** 2
                value = top * 3 // 4 if away < radius**2 else top * row // (4 * self.rows)
                found += value.to_bytes(2, "little")
        return bytes(found)

    def _finished(self, item: Dataset, more: dict[str, Any]) -> Dataset:
        for keyword, value in more.items():
            setattr(item, keyword, value)
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = item.SOPClassUID
        meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
        item.file_meta = meta
        return item

    def _random(self, kind: str, number: int) -> Random:
        return Random(f"{self.seed}/{kind}/{number}")  # noqa: S311 - no secret
