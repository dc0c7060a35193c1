"""A CT Image as scanners send it: what the benchmarks read, store and find."""

from __future__ import annotations

import io

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage

#: A slice of 512 by 512 pixels of 16 bits.
PIXELS = 512 * 512 * 2


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
    """A Part 10 file of the image, its pixels zero."""
    return part_10(ct_image(), transfer_syntax, bytes(PIXELS))


def part_10(ds: Dataset, transfer_syntax: str, pixels: bytes) -> bytes:
    """A Part 10 file of *ds* with *pixels*."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.add_new(0x7FE00010, "OW", pixels)
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
