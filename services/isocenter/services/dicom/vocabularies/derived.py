"""Vocabularies of segmentations, structured reports and waveforms (PS3.3 A.34, A.35, A.51)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from isocenter.services.dicom.vocabularies.terms import Term


class SegmentationType(Term):
    """Segmentation Type (0062,0001) (C.8.20.2)."""

    BINARY = "BINARY"
    FRACTIONAL = "FRACTIONAL"
    LABELMAP = "LABELMAP"


class FractionalType(Term):
    """Segmentation Fractional Type (0062,0010) (C.8.20.2)."""

    PROBABILITY = "PROBABILITY"
    OCCUPANCY = "OCCUPANCY"


class SegmentAlgorithm(Term):
    """Segment Algorithm Type (0062,0008) (C.8.20.4)."""

    AUTOMATIC = "AUTOMATIC"
    SEMIAUTOMATIC = "SEMIAUTOMATIC"
    MANUAL = "MANUAL"


class CodedTerm(NamedTuple):
    """A code of a code sequence (PS3.3 8.8)."""

    value: str
    scheme: str
    meaning: str


#: sRGB of segments whose colours nobody said, by their labels: far apart, and none gray.
_COLOURS: Final = (
    (128, 174, 128), (241, 214, 145), (177, 122, 101), (111, 184, 210), (216, 101, 79),
    (221, 130, 101), (144, 238, 144), (192, 104, 88), (220, 245, 20), (78, 63, 0),
    (255, 250, 220), (230, 220, 70),
)  # fmt: skip
_WHITE: Final = (0.95047, 1.0, 1.08883)  # D65, as CIELab of sRGB has it


def recommended_colour(label: int) -> tuple[int, int, int]:
    """Recommended Display CIELab Value (0062,000D) for a segment that has none, by its label.

    Raises:
        ValueError: labels begin with 1.
    """
    if label < 1:
        raise ValueError("the labels of segments begin with 1")
    return cielab_of_rgb(_COLOURS[(label - 1) % len(_COLOURS)])


def cielab_of_rgb(rgb: Sequence[int]) -> tuple[int, int, int]:
    """sRGB of 0 to 255 as the three US of a CIELab value (C.10.7.1.1)."""
    red, green, blue = (_linear(value / 255) for value in rgb)
    xyz = (
        0.4124564 * red + 0.3575761 * green + 0.1804375 * blue,
        0.2126729 * red + 0.7151522 * green + 0.0721750 * blue,
        0.0193339 * red + 0.1191920 * green + 0.9503041 * blue,
    )
    x, y, z = (_root(value / white) for value, white in zip(xyz, _WHITE, strict=True))
    lightness, a, b = 116 * y - 16, 500 * (x - y), 200 * (y - z)
    return _scaled(lightness, 0, 100), _scaled(a, -128, 127), _scaled(b, -128, 127)


def rgb_of_cielab(encoded: Sequence[int]) -> tuple[int, int, int]:
    """The other way round; what no screen shows becomes the nearest that it does."""
    raw_lightness, raw_a, raw_b = encoded
    lightness = raw_lightness / 65535 * 100
    a, b = (value / 65535 * 255 - 128 for value in (raw_a, raw_b))
    y = (lightness + 16) / 116
    x, z = y + a / 500, y - b / 200
    at = [_cubed(value) * white for value, white in zip((x, y, z), _WHITE, strict=True)]
    linear = (
        3.2404542 * at[0] - 1.5371385 * at[1] - 0.4985314 * at[2],
        -0.9692660 * at[0] + 1.8760108 * at[1] + 0.0415560 * at[2],
        0.0556434 * at[0] - 0.2040259 * at[1] + 1.0572252 * at[2],
    )
    red, green, blue = (round(255 * _gamma(min(max(value, 0.0), 1.0))) for value in linear)
    return red, green, blue


def _scaled(value: float, low: float, high: float) -> int:
    return round(min(max((value - low) / (high - low), 0.0), 1.0) * 65535)


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def _gamma(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else float(1.055 * value ** (1 / 2.4) - 0.055)


def _root(value: float) -> float:
    return float(value ** (1 / 3)) if value > 216 / 24389 else (24389 / 27 * value + 16) / 116


def _cubed(value: float) -> float:
    return float(value**3) if value**3 > 216 / 24389 else (116 * value - 16) * 27 / 24389


class ValueType(Term):
    """Value Type (0040,A040) of content items (C.17.3.2.1)."""

    TEXT = "TEXT"
    NUM = "NUM"
    CODE = "CODE"
    DATETIME = "DATETIME"
    DATE = "DATE"
    TIME = "TIME"
    UIDREF = "UIDREF"
    PNAME = "PNAME"
    COMPOSITE = "COMPOSITE"
    IMAGE = "IMAGE"
    WAVEFORM = "WAVEFORM"
    SCOORD = "SCOORD"
    SCOORD3D = "SCOORD3D"
    TCOORD = "TCOORD"
    CONTAINER = "CONTAINER"
    TABLE = "TABLE"


class Relationship(Term):
    """Relationship Type (0040,A010) of content items (C.17.3.2.4)."""

    CONTAINS = "CONTAINS"
    HAS_PROPERTIES = "HAS PROPERTIES"
    HAS_OBS_CONTEXT = "HAS OBS CONTEXT"
    HAS_ACQ_CONTEXT = "HAS ACQ CONTEXT"
    INFERRED_FROM = "INFERRED FROM"
    SELECTED_FROM = "SELECTED FROM"
    HAS_CONCEPT_MOD = "HAS CONCEPT MOD"


class Completion(Term):
    """Completion Flag (0040,A491) (C.17.2)."""

    PARTIAL = "PARTIAL"
    COMPLETE = "COMPLETE"


class Verification(Term):
    """Verification Flag (0040,A493) (C.17.2)."""

    UNVERIFIED = "UNVERIFIED"
    VERIFIED = "VERIFIED"


#: Root templates of reports (PS3.16 A), by their identifiers.
REPORT_TEMPLATES: Final = {
    "1500": "Measurement Report",
    "2000": "Basic Diagnostic Imaging Report",
    "2010": "Key Object Selection",
    "4000": "Mammography CAD Document Root",
    "4100": "Chest CAD Document Root",
    "4200": "Breast Imaging Report",
    "10001": "Projection X-Ray Radiation Dose",
    "10011": "CT Radiation Dose",
}

#: Waveform SOP classes and what is recorded in them.
WAVEFORM_KINDS: Final = {
    "1.2.840.10008.5.1.4.1.1.9.1.1": "ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.2": "ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.3": "ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.4": "ECG",
    "1.2.840.10008.5.1.4.1.1.9.2.1": "hemodynamic",
    "1.2.840.10008.5.1.4.1.1.9.3.1": "electrophysiology",
    "1.2.840.10008.5.1.4.1.1.9.4.1": "audio",
    "1.2.840.10008.5.1.4.1.1.9.4.2": "audio",
    "1.2.840.10008.5.1.4.1.1.9.5.1": "arterial pulse",
    "1.2.840.10008.5.1.4.1.1.9.6.1": "respiratory",
    "1.2.840.10008.5.1.4.1.1.9.6.2": "respiratory",
    "1.2.840.10008.5.1.4.1.1.9.7.1": "EEG",
    "1.2.840.10008.5.1.4.1.1.9.7.2": "EMG",
    "1.2.840.10008.5.1.4.1.1.9.7.3": "EOG",
    "1.2.840.10008.5.1.4.1.1.9.7.4": "EEG",
    "1.2.840.10008.5.1.4.1.1.9.8.1": "body position",
}
