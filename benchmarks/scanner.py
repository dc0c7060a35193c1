"""What it costs to take the index's elements out of a CT header, beside pydicom.

Run it from the repository::

    PYTHONPATH=engine:services python benchmarks/scanner.py

Prints microseconds per data set (the best of several rounds) and the ratio.
"""

from __future__ import annotations

import io
import platform
import struct
import sys
import timeit
from collections.abc import Callable

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from isocenter.engine.dataset import (
    ElementScanner,
    Encoding,
    Reencoder,
    encoding_of,
    read_data_set,
    read_file_meta,
    write_data_set,
)
from isocenter.engine.limits import Limits
from isocenter.services.attributes import ATTRIBUTES, STORED_TAGS

SEQUENCES = frozenset(a.tag for a in ATTRIBUTES if a.vr == "SQ")
PIXELS = 512 * 512 * 2
FRAGMENT = 16 << 10
ROUNDS = 7
CALLS = 300


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def ct_image() -> Dataset:
    """A CT Image as scanners send it: about 140 elements, five sequences, private blocks."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]
    for keyword in ("InstanceCreationDate", "StudyDate", "SeriesDate", "AcquisitionDate"):
        setattr(ds, keyword, "20240131")
    ds.ContentDate = "20240131"
    for keyword in ("InstanceCreationTime", "StudyTime", "SeriesTime", "AcquisitionTime"):
        setattr(ds, keyword, "101112.000000")
    ds.ContentTime = "101112.000000"
    ds.SOPClassUID = CTImageStorage
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(ds, keyword, f"1.3.12.2.1107.5.1.4.50000.{len(keyword)}.30000024013110111200000001")
    ds.FrameOfReferenceUID = "1.3.12.2.1107.5.1.4.50000.1.30000024013110111200000009"
    ds.AccessionNumber = "A0000001"
    ds.Modality = "CT"
    ds.Manufacturer = "ACME"
    ds.InstitutionName = "General Hospital"
    ds.InstitutionAddress = "1 Main Street"
    ds.ReferringPhysicianName = "Referring^Doctor"
    ds.StationName = "CT01"
    ds.StudyDescription = "Thorax^Routine"
    ds.SeriesDescription = "Thorax 1.0 B70f"
    ds.PerformingPhysicianName = "Performing^Doctor"
    ds.OperatorsName = "Operator"
    ds.ManufacturerModelName = "Model 64"
    ds.PatientName = "Phantom^Benchmark"
    ds.PatientID = "B0000001"
    ds.PatientBirthDate = "19700101"
    ds.PatientSex = "O"
    ds.PatientAge = "054Y"
    ds.PatientSize = "1.75"
    ds.PatientWeight = "75"
    ds.BodyPartExamined = "CHEST"
    ds.ProtocolName = "ThoraxRoutine"
    ds.PatientPosition = "HFS"
    ds.StudyID = "1"
    ds.SeriesNumber = "2"
    ds.AcquisitionNumber = "2"
    ds.InstanceNumber = "100"
    ds.ImagePositionPatient = [-170.5, -330.5, -120.25]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SliceLocation = "-120.25"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = 512
    ds.PixelSpacing = [0.6640625, 0.6640625]
    ds.BitsAllocated = 16
    ds.BitsStored = 12
    ds.HighBit = 11
    ds.PixelRepresentation = 0
    ds.WindowCenter = [50, -600]
    ds.WindowWidth = [350, 1200]
    ds.RescaleIntercept = "-1024"
    ds.RescaleSlope = "1"
    acquisition = (
        "SliceThickness KVP DataCollectionDiameter ReconstructionDiameter "
        "DistanceSourceToDetector DistanceSourceToPatient GantryDetectorTilt TableHeight "
        "ExposureTime XRayTubeCurrent Exposure GeneratorPower FocalSpots"
    )
    for keyword in acquisition.split():
        setattr(ds, keyword, "120")
    for keyword in ("FilterType", "ConvolutionKernel", "RotationDirection", "SoftwareVersions"):
        setattr(ds, keyword, "CW")
    ds.ProcedureCodeSequence = [code_item("CTTHOR", "99LOCAL", "CT Thorax")]
    reference = Dataset()
    reference.ReferencedSOPClassUID = CTImageStorage
    reference.ReferencedSOPInstanceUID = "1.3.12.2.1107.5.1.4.50000.30000024013110111200000002"
    ds.ReferencedStudySequence = [reference]
    ds.ReferencedImageSequence = [reference] * 3
    request = Dataset()
    request.RequestedProcedureID = "RP1"
    request.ScheduledProcedureStepID = "SPS1"
    request.ScheduledProcedureStepDescription = "CT Thorax"
    request.ScheduledProtocolCodeSequence = [code_item("P1", "99LOCAL", "Thorax routine")]
    ds.RequestAttributesSequence = [request]
    ds.PerformedProcedureStepStartDate = "20240131"
    ds.PerformedProcedureStepStartTime = "101100"
    ds.PerformedProcedureStepID = "PPS1"
    for group in (0x0019, 0x0021, 0x0029):
        block = ds.private_block(group, "ACME CT HEADER", create=True)
        for element in range(18):
            block.add_new(element, "LO", f"value {element}")
    return ds


def ct_file(transfer_syntax: str) -> bytes:
    """A Part 10 file of the image."""
    ds = ct_image()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.add_new(0x7FE00010, "OW", bytes(PIXELS))
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def microseconds(call: Callable[[], object]) -> float:
    """The best of some rounds: what the code costs, not what the machine was doing besides."""
    return min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6


def scan(pieces: list[bytes], encoding: Encoding, sequences: frozenset[int]) -> ElementScanner:
    scanner = ElementScanner(encoding, STORED_TAGS, sequences=sequences)
    for piece in pieces:
        scanner.feed(piece)
    scanner.finish()
    return scanner


def report(name: str, value: float, unit: str = "µs") -> None:
    sys.stdout.write(f"{name:<58}{value:10.1f} {unit}\n")


def main() -> None:
    sys.stdout.write(f"Python {platform.python_version()}, pydicom {pydicom.__version__}\n")
    for name, uid in (
        ("explicit VR little endian", ExplicitVRLittleEndian),
        ("implicit VR little endian", ImplicitVRLittleEndian),
    ):
        file = ct_file(uid)
        encoding = encoding_of(uid)
        data_set = file[read_file_meta(file).data_set_offset :]
        fragments = [
            data_set[start : start + FRAGMENT] for start in range(0, len(data_set), FRAGMENT)
        ]
        scanner = scan(fragments, encoding, SEQUENCES)
        elements = read_data_set(data_set, encoding, Limits(identifier=len(data_set)))
        sys.stdout.write(
            f"\n{name}: {len(elements)} elements, {len(data_set) - PIXELS} bytes and the pixels, "
            f"{len(scanner.values)} elements wanted and found\n"
        )
        ours = microseconds(lambda f=fragments, e=encoding: scan(f, e, SEQUENCES))
        theirs = microseconds(
            lambda f=file: pydicom.dcmread(io.BytesIO(f), stop_before_pixels=True)
        )
        report(f"ElementScanner, whole data set in {len(fragments)} fragments", ours)
        report("pydicom.dcmread(stop_before_pixels=True)", theirs)
        report("ratio", theirs / ours, "times")

    identifier = [
        (0x00080005, "CS", b"ISO_IR 192"),
        (0x00080020, "DA", b"20240131"),
        (0x00080030, "TM", b"101112"),
        (0x00080050, "SH", b"A0000001"),
        (0x00080052, "CS", b"STUDY "),
        (0x00080054, "AE", b"ISOCENTER "),
        (0x00080061, "CS", b"CT"),
        (0x00080090, "PN", b"Referring^Doctor"),
        (0x00081030, "LO", b"Thorax^Routine"),
        (0x00100010, "PN", b"Phantom^Benchmark"),
        (0x00100020, "LO", b"B0000001"),
        (0x00100030, "DA", b"19700101"),
        (0x0020000D, "UI", b"1.3.12.2.1107.5.1.4.50000.30000024013110111200000001"),
        (0x00201206, "IS", b"3 "),
        (0x00201208, "IS", b"120 "),
    ]
    sys.stdout.write("\n")
    implicit = encoding_of(ImplicitVRLittleEndian)
    explicit = encoding_of(ExplicitVRLittleEndian)
    encoded = write_data_set(identifier, implicit)
    report(
        "write_data_set, identifier of 15",
        microseconds(lambda: write_data_set(identifier, implicit)),
    )
    report("read_data_set, the same", microseconds(lambda: read_data_set(encoded, implicit)))
    big = encoding_of("1.2.840.10008.1.2.2")
    pixels = struct.pack("<HH2s2xI", 0x7FE0, 0x0010, b"OW", 64 << 20)
    piece = bytes(128 << 10)

    def swap() -> None:
        reencoder = Reencoder(explicit, big, lambda _tag, _creator: "UN")
        reencoder.feed(pixels)
        for _ in range((64 << 20) // len(piece)):
            reencoder.feed(piece)
        reencoder.finish()

    seconds = min(timeit.repeat(swap, number=1, repeat=3))
    report("Reencoder, OW little to big endian, 64 MiB", 64 / seconds, "MiB/s")


if __name__ == "__main__":
    main()
