"""Size of pixels in the patient, where an image says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.viewing.attribute_view import AttributeView
from isocenter.services.viewing.geometry import Point

#: Physical Units X Direction (PS3.3 C.8.5.5.1.15): centimetres.
_CENTIMETRES: Final = 3
_MILLIMETRES: Final = 10.0


@dataclass(frozen=True, slots=True)
class PixelSize:
    """How wide and how high a pixel is, in millimetres."""

    width: float
    height: float


def pixel_size(image: AttributeView, frame: int, points: Sequence[Point]) -> PixelSize | None:
    """Of the pixels of a frame at some points; None: the image does not say it.

    Spacing at the detector is none in the patient, and counts only with the magnification that
    an image says (PS3.3 10.7.1.3).
    """
    spacing = image.group("PixelMeasuresSequence", frame).numbers("PixelSpacing")
    if len(spacing) == 2 and min(spacing) > 0:
        # The first is between rows: how high a pixel is.
        return PixelSize(spacing[1], spacing[0])
    detector = image.numbers("ImagerPixelSpacing")
    magnification = image.number("EstimatedRadiographicMagnificationFactor")
    if len(detector) == 2 and min(detector) > 0 and magnification and magnification > 0:
        return PixelSize(detector[1] / magnification, detector[0] / magnification)
    return _of_ultrasound(image, points)


def _of_ultrasound(image: AttributeView, points: Sequence[Point]) -> PixelSize | None:
    for region in image.items("SequenceOfUltrasoundRegions"):
        if (region.count("PhysicalUnitsXDirection"), region.count("PhysicalUnitsYDirection")) != (
            _CENTIMETRES,
            _CENTIMETRES,
        ):
            continue
        left, top = region.count("RegionLocationMinX0"), region.count("RegionLocationMinY0")
        right, bottom = region.count("RegionLocationMaxX1"), region.count("RegionLocationMaxY1")
        if not all(left <= x <= right + 1 and top <= y <= bottom + 1 for x, y in points):
            continue
        x = abs(region.number("PhysicalDeltaX") or 0.0) * _MILLIMETRES
        y = abs(region.number("PhysicalDeltaY") or 0.0) * _MILLIMETRES
        return PixelSize(x, y) if x > 0 and y > 0 else None
    return None
