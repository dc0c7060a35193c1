"""Validation beside dciodvfy of dicom3tools: what it misses in an image, we miss as well."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pydicom
import pytest

from isocenter.services.dicom.iod.validation import validate_file

pytestmark = pytest.mark.interop("dciodvfy")

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
_MISSING = re.compile(
    r"^Error - </(\w+)\([^>]*> - Missing attribute for Type ([12])C? ", re.MULTILINE
)
_EMPTY = re.compile(
    r"^Error - </(\w+)\([^>]*> - Empty attribute \(no value\) for Type 1", re.MULTILINE
)
_ENUMERATED = re.compile(r"^Error - </(\w+)\([^>]*> - Unrecognized enumerated value", re.MULTILINE)
_OURS = re.compile(r"\w+-TYPE([12])C?-(MISSING|EMPTY)|\w+-(ENUMERATED)-VALUE")
#: Whether these are needed depends on what no data set says; dciodvfy asks for them always.
_NOT_JUDGED = {("missing", "Laterality")}

Found = set[tuple[str, str]]


def theirs(path: Path) -> Found:
    done = subprocess.run(
        ["dciodvfy", "-new", str(path)], capture_output=True, timeout=60, check=False
    )
    text = (done.stdout + done.stderr).decode("latin-1")
    found = {("missing", name) for name, _ in _MISSING.findall(text)}
    found |= {("empty", name) for name in _EMPTY.findall(text)}
    return found | {("enumerated", name) for name in _ENUMERATED.findall(text)}


def ours(path: Path) -> Found:
    found: Found = set()
    for finding in validate_file(path).findings:
        match = _OURS.fullmatch(finding.code)
        if match and "." not in finding.path:
            found.add(((match[2] or match[3]).lower(), finding.path))
    return found


@pytest.mark.parametrize(
    ("name", "without", "empty"),
    [
        ("CT_small.dcm", "", ""),
        ("CT_small.dcm", "PatientName StudyInstanceUID Modality FrameOfReferenceUID", "Rows"),
        ("CT_small.dcm", "ImageType RescaleSlope KVP PixelSpacing ImagePositionPatient", ""),
        ("CT_small.dcm", "SOPInstanceUID SliceThickness PatientID StudyID", "SamplesPerPixel"),
        ("MR_small.dcm", "ScanningSequence EchoTime MRAcquisitionType", "SequenceVariant"),
        ("MR_small.dcm", "SeriesInstanceUID AccessionNumber Columns", "ImageType"),
        ("rtplan.dcm", "RTPlanLabel RTPlanGeometry", ""),
    ],
)
def test_both_miss_the_same(name: str, without: str, empty: str, tmp_path: Path) -> None:
    data_set = pydicom.dcmread(DATA / name)
    for keyword in without.split():
        if keyword in data_set:
            delattr(data_set, keyword)
    for keyword in empty.split():
        setattr(data_set, keyword, None)
    path = tmp_path / name
    data_set.save_as(path, enforce_file_format=False)
    expected = {each for each in theirs(path) if each not in _NOT_JUDGED}
    assert ours(path) == expected
    assert len(expected) >= len(without.split()) + len(empty.split())
