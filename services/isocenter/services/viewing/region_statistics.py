"""Statistics of the pixels in a region, in Hounsfield units or standardized uptake values."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.pool import DecodedFrame
from isocenter.services.viewing.attribute_view import AttributeView
from isocenter.services.viewing.display_values import voi_values
from isocenter.services.viewing.geometry import GeometryError, Point, rows_within

_CODES: Final = {(1, 0): "B", (1, 1): "b", (2, 0): "H", (2, 1): "h", (4, 0): "I", (4, 1): "i"}
_FLOATS: Final = {4: "f", 8: "d"}
_KILO: Final = 1000.0
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Of all pixels whose centre is in the region; *deviation* is the standard deviation."""

    pixels: int
    mean: float
    minimum: float
    maximum: float
    deviation: float

    def to_json(self) -> dict[str, Any]:
        """Its fields by their names."""
        return {
            "pixels": self.pixels,
            "mean": self.mean,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "deviation": self.deviation,
        }


def statistics_of(
    frame: DecodedFrame, outline: Sequence[Point], convert: Callable[[float], float]
) -> Statistics:
    """Of the pixels that an outline encloses; of one point, the pixel that it is in.

    Args:
        convert: what a stored value means; it is linear.

    Raises:
        GeometryError: no pixel is in it.
    """
    image = frame.image
    samples = _samples(frame)
    if len(outline) == 1:
        ((x, y),) = outline
        column, row = min(int(x), image.columns - 1), min(int(y), image.rows - 1)
        runs = [(row, column, column + 1)]
    else:
        runs = list(rows_within(outline, image.columns, image.rows))
    count, total, squares = 0, 0.0, 0.0
    lowest, highest = math.inf, -math.inf
    for row, first, behind in runs:
        start = row * image.columns
        values = samples[start + first : start + behind]
        count += len(values)
        total += math.fsum(values)
        squares += math.fsum(value * value for value in values)
        least, most = min(values), max(values)
        lowest, highest = min(lowest, least), max(highest, most)
    if not count:
        raise GeometryError("no pixel is in the region")
    mean = total / count
    deviation = math.sqrt(max(squares / count - mean * mean, 0.0))
    slope = convert(1.0) - convert(0.0)
    ends = sorted((convert(lowest), convert(highest)))
    return Statistics(
        pixels=count,
        mean=convert(mean),
        minimum=ends[0],
        maximum=ends[1],
        deviation=deviation * abs(slope),
    )


def _samples(frame: DecodedFrame) -> Sequence[float]:
    """The values of the pixels, sign and all."""
    image = frame.image
    width = max(image.bits_allocated // 8, 1)
    code = _FLOATS.get(width) if image.is_float else _CODES.get((width, int(image.is_signed)))
    if code is None or image.samples_per_pixel != 1:
        raise GeometryError("these pixels have no one value each")
    samples = array(code)
    samples.frombytes(frame.samples)
    if sys.byteorder == "big":
        samples.byteswap()
    low = image.high_bit + 1 - image.bits_stored
    if image.is_float or (low == 0 and image.bits_stored == image.bits_allocated):
        return samples
    mask, top = (1 << image.bits_stored) - 1, 1 << image.bits_stored - 1
    if image.is_signed:
        return array("q", ((((one >> low) & mask) ^ top) - top for one in samples))
    return array("Q", ((one >> low) & mask for one in samples))


def hounsfield(image: AttributeView, frame: int) -> Callable[[float], float] | None:
    """What stored values of a frame are in Hounsfield units; None: the image does not say so."""
    voi = voi_values(image, frame)
    modality = image.text("Modality").upper()
    is_said = voi.rescale_type.upper() == "HU" or (modality == "CT" and not voi.rescale_type)
    if not is_said or voi.has_tables or "LOCALIZER" in image.texts("ImageType"):
        return None
    return lambda stored: stored * voi.rescale_slope + voi.rescale_intercept


def standardized_uptake(image: AttributeView, frame: int) -> Callable[[float], float] | None:
    """What stored values of a frame are as SUV by body weight, in g/ml; None: the image does not
    say all that this needs.

    Activity is that of the time to which the image was corrected for decay: its start, or the
    administration (PS3.3 C.8.9.1.1.2).
    """
    voi = voi_values(image, frame)
    units = image.text("Units").upper()
    if image.text("Modality").upper() != "PT" or voi.has_tables:
        return None
    slope, intercept = voi.rescale_slope, voi.rescale_intercept
    if units == "GML" and image.text("SUVType").upper() in ("", "BW"):
        return lambda stored: stored * slope + intercept
    dose = _dose_at_correction(image)
    weight = image.number("PatientWeight")
    if units != "BQML" or dose is None or not weight or weight <= 0:
        return None
    factor = weight * _KILO / dose
    return lambda stored: (stored * slope + intercept) * factor


def _dose_at_correction(image: AttributeView) -> float | None:
    """Becquerels that were left when the image says its values are of."""
    given = image.item("RadiopharmaceuticalInformationSequence")
    dose = given.number("RadionuclideTotalDose")
    if not dose or dose <= 0:
        return None
    correction = image.text("DecayCorrection").upper()
    if correction == "ADMIN":
        return dose
    half_life = given.number("RadionuclideHalfLife")
    scanned = _moment(image.text("SeriesDate"), image.text("SeriesTime"))
    acquired = _moment(image.text("AcquisitionDate"), image.text("AcquisitionTime"))
    if correction != "START" or not half_life or half_life <= 0 or scanned is None:
        return None
    if acquired is not None and scanned > acquired:
        return None  # the series was made again later: its time is not that of the scan
    injected = _moment(given.text("RadiopharmaceuticalStartDateTime"), "")
    if injected is None:
        injected = _moment(image.text("SeriesDate"), given.text("RadiopharmaceuticalStartTime"))
        if injected is not None and injected > scanned:
            injected -= _DAY
    if injected is None or not timedelta(0) <= scanned - injected <= _DAY:
        return None
    return float(dose * 0.5 ** ((scanned - injected).total_seconds() / half_life))


def _moment(day: str, time: str) -> datetime | None:
    digits = (day.strip() + time.strip()).partition(".")[0].partition("+")[0][:14]
    if len(digits) < 10 or not digits.isdecimal():
        return None
    try:
        return datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S")  # noqa: DTZ007 - local
    except ValueError:
        return None
