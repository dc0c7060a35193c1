"""Studies made to order for a viewer: geometry that fits, pictures that can be told apart."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pydicom
from imagecodecs import jpeg8_encode
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

ROOT: Final = "1.2.826.0.1.3680043.10.998"
SLICES: Final = 24
SIZE: Final = 128
SPACING: Final = 1.5
ULTRASOUND_FRAMES: Final = 8

CT: Final = f"{ROOT}.1"
ENHANCED: Final = f"{ROOT}.2"
ULTRASOUND: Final = f"{ROOT}.3"
DOCUMENT: Final = f"{ROOT}.4"


def _object(study: str, series: int, number: int, sop_class: str, modality: str) -> Dataset:
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 192"
    item.SOPClassUID = sop_class
    item.SOPInstanceUID = f"{study}.{series}.{number}"
    item.StudyDate = item.SeriesDate = item.ContentDate = "20260102"
    item.StudyTime = item.SeriesTime = item.ContentTime = "101500"
    item.AccessionNumber = "A1"
    item.Modality = modality
    item.Manufacturer = "Isocenter"
    item.ReferringPhysicianName = ""
    item.StudyDescription = f"Study {study.rpartition('.')[2]}"
    item.SeriesDescription = f"Series {series}"
    item.PatientName, item.PatientID = "Viewer^Vera", "V1"
    item.PatientBirthDate, item.PatientSex = "19700102", "O"
    item.StudyInstanceUID = study
    item.SeriesInstanceUID = f"{study}.{series}"
    item.FrameOfReferenceUID = f"{study}.0"
    item.PositionReferenceIndicator = ""
    item.StudyID = "1"
    item.SeriesNumber, item.InstanceNumber = series, number
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.file_meta.MediaStorageSOPClassUID = sop_class
    item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
    return item


def _grey(item: Dataset, pixels: np.ndarray, *, frames: int = 1) -> None:
    item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
    item.Rows, item.Columns = pixels.shape[-2:]
    item.BitsAllocated = item.BitsStored = 16
    item.HighBit, item.PixelRepresentation = 15, 1
    if frames > 1:
        item.NumberOfFrames = frames
    item.PixelData = pixels.astype("<i2").tobytes()


def _slice(number: int) -> np.ndarray:
    """A disc that grows with the number, in a gradient."""
    y, x = np.mgrid[:SIZE, :SIZE]
    disc = (x - SIZE / 2) ** 2 + (y - SIZE / 2) ** 2 < (10 + 2 * number) ** 2
    return np.where(disc, 300, x - 200)


def ct() -> Iterator[Dataset]:
    """A CT of `SLICES` images."""
    for number in range(1, SLICES + 1):
        item = _object(CT, 1, number, "1.2.840.10008.5.1.4.1.1.2", "CT")
        item.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        item.KVP = "120"
        item.SliceThickness = SPACING
        item.PixelSpacing = [SPACING, SPACING]
        item.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        item.ImagePositionPatient = [0, 0, SPACING * number]
        item.RescaleIntercept, item.RescaleSlope, item.RescaleType = 0, 1, "HU"
        item.WindowCenter, item.WindowWidth = 40, 400
        _grey(item, _slice(number))
        yield item


def segmentation() -> Dataset:
    """The discs of the CT, in every fourth of its images."""
    images = list(ct())[::4]
    item = _object(CT, 2, 1, "1.2.840.10008.5.1.4.1.1.66.4", "SEG")
    item.ImageType = ["DERIVED", "PRIMARY"]
    item.ManufacturerModelName = item.SoftwareVersions = item.DeviceSerialNumber = "1"
    item.ContentLabel, item.ContentDescription = "DISC", "Discs"
    item.ContentCreatorName = "Maker^Mara"
    item.SegmentationType = "BINARY"
    item.LossyImageCompression = "00"
    item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
    item.Rows = item.Columns = SIZE
    item.BitsAllocated = item.BitsStored = 1
    item.HighBit = item.PixelRepresentation = 0
    item.NumberOfFrames = len(images)
    tissue = _code("85756007", "SCT", "Tissue")
    item.SegmentSequence = Items(
        [
            _items(
                SegmentNumber=1,
                SegmentLabel="Disc",
                SegmentAlgorithmType="MANUAL",
                SegmentedPropertyCategoryCodeSequence=Items([tissue]),
                SegmentedPropertyTypeCodeSequence=Items([tissue]),
                RecommendedDisplayCIELabValue=[40000, 50000, 30000],
            )
        ]
    )
    item.ReferencedSeriesSequence = Items(
        [
            _items(
                SeriesInstanceUID=images[0].SeriesInstanceUID,
                ReferencedInstanceSequence=Items([_reference(image) for image in images]),
            )
        ]
    )
    organization = _items(DimensionOrganizationUID=f"{CT}.9")
    item.DimensionOrganizationSequence = Items([organization])
    item.DimensionIndexSequence = Items(
        [
            _items(
                DimensionOrganizationUID=f"{CT}.9",
                DimensionIndexPointer=pointer,
                FunctionalGroupPointer=group,
            )
            for pointer, group in ((0x0062000B, 0x0062000A), (0x00200032, 0x00209113))
        ]
    )
    item.SharedFunctionalGroupsSequence = Items([_shared()])
    item.PerFrameFunctionalGroupsSequence = Items(
        [
            _items(
                FrameContentSequence=Items([_items(DimensionIndexValues=[1, place])]),
                PlanePositionSequence=Items(
                    [_items(ImagePositionPatient=image.ImagePositionPatient)]
                ),
                SegmentIdentificationSequence=Items([_items(ReferencedSegmentNumber=1)]),
                DerivationImageSequence=Items(
                    [
                        _items(
                            SourceImageSequence=Items([_source(image)]),
                            DerivationCodeSequence=Items([_code("113076", "DCM", "Segmentation")]),
                        )
                    ]
                ),
            )
            for place, image in enumerate(images, 1)
        ]
    )
    masks = np.stack([_slice(int(image.InstanceNumber)) == 300 for image in images])
    item.PixelData = np.packbits(masks.ravel(), bitorder="little").tobytes()
    return item


def enhanced() -> Dataset:
    """The CT as one enhanced multi-frame object."""
    item = _object(ENHANCED, 1, 1, "1.2.840.10008.5.1.4.1.1.2.1", "CT")
    item.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    item.BurnedInAnnotation, item.LossyImageCompression = "NO", "00"
    item.PresentationLUTShape = "IDENTITY"
    item.SharedFunctionalGroupsSequence = Items([_shared()])
    item.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence = Items(
        [_items(WindowCenter=40, WindowWidth=400)]
    )
    item.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = Items(
        [_items(RescaleIntercept=0, RescaleSlope=1, RescaleType="HU")]
    )
    item.PerFrameFunctionalGroupsSequence = Items(
        [
            _items(
                FrameContentSequence=Items(
                    [
                        _items(
                            StackID="1", InStackPositionNumber=number, DimensionIndexValues=[number]
                        )
                    ]
                ),
                PlanePositionSequence=Items(
                    [_items(ImagePositionPatient=[0, 0, SPACING * number])]
                ),
            )
            for number in range(1, SLICES + 1)
        ]
    )
    _grey(item, np.stack([_slice(n) for n in range(1, SLICES + 1)]), frames=SLICES)
    return item


def ultrasound() -> Dataset:
    """A clip in colour, JPEG baseline."""
    item = _object(ULTRASOUND, 1, 1, "1.2.840.10008.5.1.4.1.1.3.1", "US")
    item.ImageType = ["ORIGINAL", "PRIMARY"]
    item.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    item.SamplesPerPixel, item.PhotometricInterpretation = 3, "YBR_FULL_422"
    item.PlanarConfiguration = 0
    item.Rows = item.Columns = SIZE
    item.BitsAllocated = item.BitsStored = 8
    item.HighBit, item.PixelRepresentation = 7, 0
    item.NumberOfFrames = ULTRASOUND_FRAMES
    item.FrameTime = "40"
    item.FrameIncrementPointer = 0x00181063
    item.LossyImageCompression = "01"
    frames = []
    for number in range(ULTRASOUND_FRAMES):
        picture = np.zeros((SIZE, SIZE, 3), "u1")
        picture[..., 0] = np.arange(SIZE)[None] * 2
        picture[..., 1 + number % 2] = 200
        frames.append(jpeg8_encode(picture, level=90))
    item.PixelData = encapsulate(frames)
    item["PixelData"].VR = "OB"
    return item


def document() -> Dataset:
    """A PDF of one page."""
    item = _object(DOCUMENT, 1, 1, "1.2.840.10008.5.1.4.1.1.104.1", "DOC")
    item.ConversionType = "WSD"
    item.BurnedInAnnotation = "NO"
    item.DocumentTitle = "A page"
    item.ConceptNameCodeSequence = Items([])
    item.MIMETypeOfEncapsulatedDocument = "application/pdf"
    # Longer than what metadata hold inline.
    pdf = _pdf("A page of a document") + b"% comment\n" * 2_000
    item.EncapsulatedDocumentLength = len(pdf)
    item.EncapsulatedDocument = pdf + b"\0" * (len(pdf) & 1)
    return item


def all_objects() -> Sequence[Dataset]:
    """Everything."""
    return [*ct(), segmentation(), enhanced(), ultrasound(), document()]


def written(item: Dataset) -> bytes:
    """As a Part 10 file."""
    target = io.BytesIO()
    pydicom.dcmwrite(target, item, enforce_file_format=True)
    return target.getvalue()


def _items(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _items(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _reference(image: Dataset) -> Dataset:
    return _items(
        ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID
    )


def _source(image: Dataset) -> Dataset:
    item = _reference(image)
    item.PurposeOfReferenceCodeSequence = Items(
        [_code("121322", "DCM", "Source image for image processing operation")]
    )
    return item


def _shared() -> Dataset:
    return _items(
        PixelMeasuresSequence=Items(
            [
                _items(
                    SliceThickness=SPACING,
                    SpacingBetweenSlices=SPACING,
                    PixelSpacing=[SPACING, SPACING],
                )
            ]
        ),
        PlaneOrientationSequence=Items([_items(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]),
    )


def _pdf(text: str) -> bytes:
    content = f"BT /F1 24 Tf 40 100 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 200] /Contents 4 0 R /Resources 6 0 R >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Font << /F1 5 0 R >> >>",
    ]
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        start,
    )
    return bytes(out)
