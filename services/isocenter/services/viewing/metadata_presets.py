"""Attributes that viewers ask for together, and attributes as plain JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from isocenter.services.dicom.data_dictionary import keyword_for_tag, tag_for_keyword
from isocenter.services.dicom.model_reader import Model

#: Name of a preset → keywords.
PRESETS: Final[Mapping[str, Sequence[str]]] = {
    "image_display": (
        "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
        "PhotometricInterpretation", "SamplesPerPixel", "PlanarConfiguration", "NumberOfFrames",
        "PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio", "PixelPaddingValue",
        "PresentationLUTShape", "LossyImageCompression", "BurnedInAnnotation",
    ),
    "window_level": (
        "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction",
        "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence",
        "VOILUTSequence", "SmallestImagePixelValue", "LargestImagePixelValue",
    ),
    "patient_info": (
        "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
        "PatientAge", "PatientSize", "PatientWeight",
    ),
    "acquisition": (
        "Modality", "Manufacturer", "ManufacturerModelName", "StationName", "ProtocolName",
        "BodyPartExamined", "ContrastBolusAgent", "AcquisitionDate", "AcquisitionTime",
        "AcquisitionNumber", "KVP", "ExposureTime", "XRayTubeCurrent", "Exposure",
        "ConvolutionKernel", "RepetitionTime", "EchoTime", "FlipAngle", "MagneticFieldStrength",
        "SliceThickness", "SpacingBetweenSlices",
    ),
    "positioning": (
        "ImagePositionPatient", "ImageOrientationPatient", "SliceLocation", "PixelSpacing",
        "SliceThickness", "SpacingBetweenSlices", "FrameOfReferenceUID", "PatientPosition",
        "PatientOrientation", "Laterality", "ImageLaterality", "ViewPosition",
    ),
    "multiframe": (
        "NumberOfFrames", "FrameIncrementPointer", "FrameTime", "FrameTimeVector", "FrameDelay",
        "RecommendedDisplayFrameRate", "CineRate", "StartTrim", "StopTrim",
        "DimensionIndexSequence", "SharedFunctionalGroupsSequence",
    ),
}  # fmt: skip
#: Tags in one request.
MOST_TAGS: Final = 500
_HEX: Final = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")
_PRIVATE: Final = 0x00010000


def tag_of(text: str) -> int:
    """A tag as a keyword, ``00280010``, ``0028,0010`` or ``(0028,0010)``.

    Raises:
        ValueError: it is none of these; in words.
    """
    found = _HEX.fullmatch(text)
    if found:
        return int(found[1] + found[2], 16)
    tag = tag_for_keyword(text)
    if tag is None:
        raise ValueError(f"{text!r} is no keyword and no tag: write Rows, or 00280010")
    return tag


def preset_tags(name: str) -> list[int]:
    """The tags of a preset.

    Raises:
        ValueError: there is none of that name; in words.
    """
    if name not in PRESETS:
        raise ValueError(f"presets are {', '.join(PRESETS)}")
    return [tag_of(keyword) for keyword in PRESETS[name]]


def plain_tags(
    model: Model, tags: Iterable[int] | None, *, include_private: bool
) -> dict[str, Any]:
    """Attributes of a data set by keyword, or by tag where they have none; several values are an
    array, one is itself, none is null.

    Args:
        tags: which; those that are not there are left out.  None: all.
        include_private: also private ones, of those.
    """
    wanted = None if tags is None else frozenset(tags)
    found: dict[str, Any] = {}
    for key, element in model.items():
        tag = int(key, 16)
        if wanted is not None and tag not in wanted:
            continue
        if tag & _PRIVATE and not include_private:
            continue
        found[keyword_for_tag(tag) or key] = _plain(element, include_private=include_private)
    return found


def _plain(element: Mapping[str, Any], *, include_private: bool) -> Any:
    if "BulkDataURI" in element:
        return {"BulkDataURI": element["BulkDataURI"]}
    if "InlineBinary" in element:
        return {"InlineBinary": element["InlineBinary"]}
    values = element.get("Value", [])
    if element.get("vr") == "SQ":
        return [plain_tags(one or {}, None, include_private=include_private) for one in values]
    plain = [_value(value) for value in values]
    return None if not plain else plain[0] if len(plain) == 1 else plain


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):  # a name
        groups = [str(value.get(one, "")) for one in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    return value
