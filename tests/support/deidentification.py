"""Data sets of synthetic patients, and their de-identification, for tests."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from isocenter.services.dicom.data_set_file import DataSetFile, open_data_set
from isocenter.services.dicom.deidentification.deidentifier import Deidentified, Deidentifier
from isocenter.services.dicom.deidentification.files import deidentify_file
from isocenter.services.dicom.deidentification.profile import Profile
from isocenter.services.dicom.deidentification.pseudonyms import Pseudonyms

KEY = bytes(range(32))
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
BASIC = Profile()


def patient(**values: Any) -> Dataset:
    """A data set of a CT image of the patient of these tests, with more values by keyword."""
    made = Dataset()
    made.SOPClassUID = CT_IMAGE
    made.SOPInstanceUID = "1.2.3.4.5"
    made.StudyInstanceUID = "1.2.3.4"
    made.SeriesInstanceUID = "1.2.3.4.1"
    made.PatientName = "Quixotebaum^Zenobia"
    made.PatientID = "ZQ-471100"
    made.PatientBirthDate = "19430912"
    made.AccessionNumber = "ACC998877"
    made.Modality = "CT"
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def file_bytes(data_set: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A Part 10 file of it, with a sender in its header and something in its preamble."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    meta.SourceApplicationEntityTitle = "ZENOBIA_CT"
    data_set.file_meta = meta
    data_set.preamble = b"QUIXOTEBAUM".ljust(128, b"\0")
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, data_set, enforce_file_format=True)
    return stream.getvalue()


def deidentified(
    data_set: Dataset | bytes,
    profile: Profile = BASIC,
    *,
    pseudonyms: Pseudonyms | None = None,
    syntax: str = ExplicitVRLittleEndian,
    known: tuple[str, ...] = (),
    wants_values: bool = False,
) -> tuple[pydicom.FileDataset, Deidentified]:
    """What becomes of it under *profile*, read by pydicom, and what was done."""
    content = data_set if isinstance(data_set, bytes) else file_bytes(data_set, syntax)
    deidentifier = Deidentifier(
        profile,
        pseudonyms or Pseudonyms(KEY),
        wants_changes=True,
        wants_values=wants_values,
        known=known,
    )
    target = io.BytesIO()
    with opened(content) as source:
        made = deidentify_file(source, deidentifier)
        made.write(target)
    return pydicom.dcmread(io.BytesIO(target.getvalue())), made.done


@contextmanager
def opened(content: bytes) -> Iterator[DataSetFile]:
    """A file of such content, open."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        with open_data_set(file) as source:
            yield source


def all_text(data_set: Dataset) -> str:
    """Every value of it as text, names of sequences and all."""
    parts = []
    for element in data_set.iterall():
        if element.VR != "SQ":
            value = element.value
            parts.append(value.decode("latin-1") if isinstance(value, bytes) else str(value))
    return "\n".join(parts)


def values(data_set: Dataset) -> Mapping[str, Any]:
    """Keyword → value, of the data set itself."""
    return {element.keyword: element.value for element in data_set if element.keyword}
