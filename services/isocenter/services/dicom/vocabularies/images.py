"""Vocabularies of images: ultrasound, X-ray, mammography, nuclear medicine and PET (PS3.3 C.8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final

from isocenter.services.dicom.vocabularies.terms import Term


class UltrasoundPhotometry(Term):
    """Photometric Interpretation (0028,0004) of ultrasound (C.8.5.6.1.2), uncompressed."""

    MONOCHROME1 = "MONOCHROME1"
    MONOCHROME2 = "MONOCHROME2"
    PALETTE_COLOR = "PALETTE COLOR"
    RGB = "RGB"
    YBR_FULL = "YBR_FULL"
    YBR_FULL_422 = "YBR_FULL_422"


class RegionSpatialFormat(IntEnum):
    """Region Spatial Format (0018,6012) (C.8.5.5.1.1)."""

    NONE = 0
    TWO_DIMENSIONAL = 1
    M_MODE = 2
    SPECTRAL = 3
    WAVEFORM = 4
    GRAPHICS = 5


class RegionDataType(IntEnum):
    """Region Data Type (0018,6014) (C.8.5.5.1.2)."""

    NONE = 0x0
    TISSUE = 0x1
    COLOR_FLOW = 0x2
    PW_SPECTRAL_DOPPLER = 0x3
    CW_SPECTRAL_DOPPLER = 0x4
    DOPPLER_MEAN_TRACE = 0x5
    DOPPLER_MODE_TRACE = 0x6
    DOPPLER_MAX_TRACE = 0x7
    VOLUME_TRACE = 0x8
    VOLUME_DERIVATIVE = 0x9
    ECG_TRACE = 0xA
    PULSE_TRACE = 0xB
    PHONOCARDIOGRAM_TRACE = 0xC
    GRAY_BAR = 0xD
    COLOR_BAR = 0xE
    INTEGRATED_BACKSCATTER = 0xF
    AREA_TRACE = 0x10
    AREA_DERIVATIVE = 0x11


class PositionerMotion(Term):
    """Positioner Motion (0018,1500) of X-ray angiography (C.8.7.5)."""

    STATIC = "STATIC"
    DYNAMIC = "DYNAMIC"


#: Frames a second at which a run is shown that does not say it.
DEFAULT_CINE_RATE: Final = 15.0


def primary_angle_text(degrees: float) -> str:
    """Positioner Primary Angle (0018,1510) as people say it: LAO 30, RAO 15.

    Raises:
        ValueError: it is not between −180 and 180.
    """
    if not -180 <= degrees <= 180:
        raise ValueError(f"{degrees:g} is no primary angle: it lies between -180 and 180")
    return _angle(degrees, "LAO", "RAO")


def secondary_angle_text(degrees: float) -> str:
    """Positioner Secondary Angle (0018,1511) likewise: CRA 20, CAU 10.

    Raises:
        ValueError: it is not between −90 and 90.
    """
    if not -90 <= degrees <= 90:
        raise ValueError(f"{degrees:g} is no secondary angle: it lies between -90 and 90")
    return _angle(degrees, "CRA", "CAU")


def _angle(degrees: float, positive: str, negative: str) -> str:
    if not degrees:
        return "0"
    return f"{positive if degrees > 0 else negative} {abs(degrees):g}"


def magnification_of(source_to_detector: float, source_to_patient: float) -> float:
    """Estimated Radiographic Magnification Factor (0018,1114): SID by SOD, in one unit.

    Raises:
        ValueError: a distance is not above 0, or the patient behind the detector.
    """
    if not 0 < source_to_patient <= source_to_detector:
        raise ValueError("the patient is between source and detector, at distances above 0")
    return source_to_detector / source_to_patient


def spacing_at_isocenter(
    imager_spacing: Sequence[float], source_to_detector: float, source_to_isocenter: float
) -> tuple[float, float]:
    """Pixel spacing in the plane of the isocenter, of Imager Pixel Spacing (0018,1164).

    Raises:
        ValueError: as of `magnification_of`; it is no pair.
    """
    factor = magnification_of(source_to_detector, source_to_isocenter)
    rows, columns = imager_spacing
    return rows / factor, columns / factor


class PresentationIntent(Term):
    """Presentation Intent Type (0008,0068) of digital X-ray (C.8.11.1)."""

    PRESENTATION = "FOR PRESENTATION"
    PROCESSING = "FOR PROCESSING"


class DetectorType(Term):
    """Detector Type (0018,7004) (C.8.11.4)."""

    DIRECT = "DIRECT"
    SCINTILLATOR = "SCINTILLATOR"
    STORAGE = "STORAGE"
    FILM = "FILM"


class ViewPosition(Term):
    """View Position (0018,5101) (C.8.1.1, C.7.3.1)."""

    AP = "AP"
    PA = "PA"
    LEFT_LATERAL = "LL"
    RIGHT_LATERAL = "RL"
    RIGHT_LATERAL_DECUBITUS = "RLD"
    LEFT_LATERAL_DECUBITUS = "LLD"
    RIGHT_LATERAL_OBLIQUE = "RLO"
    LEFT_LATERAL_OBLIQUE = "LLO"

    @property
    def is_lateral(self) -> bool:
        """Whether it is taken from the side."""
        return self in (ViewPosition.LEFT_LATERAL, ViewPosition.RIGHT_LATERAL)


class BreastSide(Term):
    """Image Laterality (0020,0062) of mammography (C.8.11.7)."""

    RIGHT = "R"
    LEFT = "L"
    BOTH = "B"


class MammographyView(Term):
    """Views of mammography, by the abbreviations of the ACR (PS3.16 CID 4014)."""

    CRANIO_CAUDAL = "CC"
    MEDIO_LATERAL_OBLIQUE = "MLO"
    MEDIO_LATERAL = "ML"
    LATERO_MEDIAL = "LM"
    LATERO_MEDIAL_OBLIQUE = "LMO"
    EXAGGERATED_LATERALLY = "XCCL"
    EXAGGERATED_MEDIALLY = "XCCM"
    FROM_BELOW = "FB"
    SUPERO_INFERIOR_OBLIQUE = "SIO"
    INFERO_SUPERIOR_OBLIQUE = "ISO"
    CLEAVAGE = "CV"
    AXILLARY_TAIL = "AT"


class ViewModifier(Term):
    """Modifiers of such views (PS3.16 CID 4015)."""

    SPOT = "S"
    MAGNIFICATION = "M"
    ROLLED_LATERAL = "RL"
    ROLLED_MEDIAL = "RM"
    ROLLED_SUPERIOR = "RS"
    ROLLED_INFERIOR = "RI"
    TANGENTIAL = "TAN"
    IMPLANT_DISPLACED = "ID"


#: What a screening examination has.
SCREENING_SET: Final = frozenset(
    (side, view)
    for side in (BreastSide.RIGHT, BreastSide.LEFT)
    for view in (MammographyView.CRANIO_CAUDAL, MammographyView.MEDIO_LATERAL_OBLIQUE)
)
#: Newton, and millimetres, between which compression is plausible.
PLAUSIBLE_COMPRESSION_FORCE: Final = (20.0, 300.0)
PLAUSIBLE_THICKNESS: Final = (10.0, 150.0)


def is_valid_view(side: BreastSide, view: MammographyView) -> bool:
    """Whether there is such an image: both breasts at once are shown between them only."""
    return side is not BreastSide.BOTH or view is MammographyView.CLEAVAGE


def missing_of_screening(
    views: Iterable[tuple[BreastSide, MammographyView]],
) -> frozenset[tuple[BreastSide, MammographyView]]:
    """What a screening examination with these views lacks."""
    return SCREENING_SET - frozenset(views)


class NuclearImageType(Term):
    """Value 3 of Image Type (0008,0008) of nuclear medicine (C.8.4.9.1.1)."""

    STATIC = "STATIC"
    DYNAMIC = "DYNAMIC"
    GATED = "GATED"
    WHOLE_BODY = "WHOLE BODY"
    TOMO = "TOMO"
    GATED_TOMO = "GATED TOMO"
    RECON_TOMO = "RECON TOMO"
    RECON_GATED_TOMO = "RECON GATED TOMO"


class CollimatorType(Term):
    """Collimator Type (0018,1181) (C.8.4.11)."""

    PARALLEL = "PARA"
    PINHOLE = "PINH"
    FAN_BEAM = "FANB"
    CONE_BEAM = "CONE"
    SLANT_HOLE = "SLNT"
    ASTIGMATIC = "ASTG"
    DIVERGING = "DIVG"
    NONE = "NONE"
    UNKNOWN = "UNKN"


class RotationDirection(Term):
    """Rotation Direction (0018,1140) of detectors (C.8.4.12)."""

    CLOCKWISE = "CW"
    COUNTER_CLOCKWISE = "CC"


class WholeBodyTechnique(Term):
    """Whole Body Technique (0018,1301) (C.8.4.9)."""

    ONE_SWEEP = "1PS"
    TWO_SWEEPS = "2PS"
    CONTOUR_FOLLOWING = "PCN"
    MULTIPLE_STATIC = "MSP"


#: keV of the photons that are counted.
PHOTOPEAKS: Final = {
    "Tc-99m": 140.0,
    "I-131": 364.0,
    "I-123": 159.0,
    "Tl-201": 71.0,
    "Ga-67": 93.0,
    "In-111": 171.0,
    "F-18": 511.0,
}


class PetUnits(Term):
    """Units (0054,1001) of PET (C.8.9.1)."""

    CNTS = "CNTS"
    NONE = "NONE"
    CM2 = "CM2"
    CM2ML = "CM2ML"
    PCNT = "PCNT"
    CPS = "CPS"
    BQML = "BQML"
    MGMINML = "MGMINML"
    UMOLMINML = "UMOLMINML"
    MLMING = "MLMING"
    MLG = "MLG"
    PER_CM = "1CM"
    UMOLML = "UMOLML"
    PROPCNTS = "PROPCNTS"
    PROPCPS = "PROPCPS"
    MLMINML = "MLMINML"
    MLML = "MLML"
    GML = "GML"
    STDDEV = "STDDEV"

    @property
    def may_be_suv(self) -> bool:
        """Whether values may be standardized uptake values (SUV Type says which)."""
        return self in (PetUnits.GML, PetUnits.CM2ML)


class SuvType(Term):
    """SUV Type (0054,1006) (C.8.9.1)."""

    BODY_SURFACE_AREA = "BSA"
    BODY_WEIGHT = "BW"
    LEAN_BODY_MASS = "LBM"
    LEAN_BODY_MASS_JAMES_128 = "LBMJAMES128"
    LEAN_BODY_MASS_JANMAHASATIAN = "LBMJANMA"
    IDEAL_BODY_WEIGHT = "IBW"
