"""Attributes of a payload that follow from its bytes (PS3.3 C.7.6, C.24)."""

from __future__ import annotations

from typing import Final

from isocenter.services.dicom.creation.documents import Document
from isocenter.services.dicom.creation.picture import Picture
from isocenter.services.dicom.creation.video import Video

#: Keyword → text; ``\`` parts values.
Texts = dict[str, str]

_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
#: Single-frame and multi-frame Secondary Capture Image Storage.
SECONDARY_CAPTURE: Final = f"{_ROOT}7"
VISIBLE_LIGHT: Final = f"{_ROOT}77.1."
#: Endoscopic, microscopic, slide coordinates, photographic.
_OF_ONE_FRAME: Final = frozenset(f"{VISIBLE_LIGHT}{number}" for number in (1, 2, 3, 4))


def has_many_frames(sop_class_uid: str) -> bool:
    """Whether a Secondary Capture or Visible Light SOP class is a multi-frame one."""
    return not has_one_frame(sop_class_uid) and sop_class_uid.startswith(
        (f"{SECONDARY_CAPTURE}.", VISIBLE_LIGHT)
    )


def has_one_frame(sop_class_uid: str) -> bool:
    """Whether a SOP class has images of one frame only."""
    return sop_class_uid == SECONDARY_CAPTURE or sop_class_uid in _OF_ONE_FRAME


def describe_picture(picture: Picture, sop_class_uid: str) -> Texts:
    """Image Pixel, Multi-frame and lossy compression of a picture."""
    image = picture.image
    found = {
        "SamplesPerPixel": str(image.samples_per_pixel),
        "PhotometricInterpretation": image.photometric_interpretation,
        "Rows": str(image.rows),
        "Columns": str(image.columns),
        "BitsAllocated": str(image.bits_allocated),
        "BitsStored": str(image.bits_stored),
        "HighBit": str(image.high_bit),
        "PixelRepresentation": str(image.pixel_representation),
    }
    if image.samples_per_pixel > 1:
        found["PlanarConfiguration"] = "0"
    if picture.lossy_method:
        found |= {
            "LossyImageCompression": "01",
            "LossyImageCompressionRatio": f"{max(picture.ratio, 1):.4g}",
            "LossyImageCompressionMethod": picture.lossy_method,
        }
    elif sop_class_uid.startswith(VISIBLE_LIGHT):
        found["LossyImageCompression"] = "00"
    if has_many_frames(sop_class_uid) or len(picture.frames) > 1:
        found["NumberOfFrames"] = str(len(picture.frames))
    return found


def image_type(picture: Picture) -> str:
    """Image Type (0008,0008) of a picture of which nothing else is known."""
    return "DERIVED\\SECONDARY" if picture.lossy_method else "ORIGINAL\\PRIMARY"


def describe_pages(picture: Picture) -> Texts:
    """What a multi-frame Secondary Capture has beside: frames are pages, in their order; nobody
    knows of a time between them (C.8.6.3, C.7.6.6)."""
    count = len(picture.frames)
    found: Texts = {}
    if count > 1:
        found["PageNumberVector"] = "\\".join(str(page) for page in range(1, count + 1))
        found["FrameIncrementPointer"] = "00182001"
    if picture.image.samples_per_pixel == 1:
        found |= {
            "PresentationLUTShape": "IDENTITY",
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "RescaleType": "US",
        }
    return found


def describe_document(document: Document, size: int) -> Texts:
    """Encapsulated Document of a document of *size* bytes."""
    found = {
        "MIMETypeOfEncapsulatedDocument": document.mime_type,
        "EncapsulatedDocumentLength": str(size),
    }
    if document.hl7_instance_identifier:
        found["HL7InstanceIdentifier"] = document.hl7_instance_identifier
    return found


def describe_video(video: Video, size: int) -> Texts:
    """Image Pixel, Cine and Multi-frame of a stream of *size* bytes."""
    native = video.rows * video.columns * 3 * video.frames
    return {
        "SamplesPerPixel": "3",
        "PhotometricInterpretation": "YBR_PARTIAL_420",
        "PlanarConfiguration": "0",
        "Rows": str(video.rows),
        "Columns": str(video.columns),
        "BitsAllocated": "8",
        "BitsStored": "8",
        "HighBit": "7",
        "PixelRepresentation": "0",
        "NumberOfFrames": str(video.frames),
        "FrameTime": f"{video.frame_time:.10g}",
        "FrameIncrementPointer": "00181063",
        "CineRate": str(max(round(1000 / video.frame_time), 1)),
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": f"{max(native / max(size, 1), 1):.4g}",
        "LossyImageCompressionMethod": video.lossy_method,
    }
