"""Measurements on images: their types, units, and values that follow from the image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, Final, Self

import orjson

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.viewing import geometry
from isocenter.services.viewing.geometry import GeometryError, Point, PointRule, check_points
from isocenter.services.viewing.pixel_size import PixelSize
from isocenter.services.viewing.region_statistics import Statistics

#: How far what a client says may be from what is computed, of the value.
_TOLERANCE: Final = 0.02
#: The same of statistics: which pixels of an edge count is a matter of taste.
_STATISTICS_TOLERANCE: Final = 0.05
#: Of lengths and areas always, in pixels and their squares; of others in their unit.
_LEAST_TOLERANCE: Final = 1.0


class MeasurementError(IsocenterError, ValueError):
    """There is no such measurement; the message says why."""

    error_code = ErrorCode.DOCUMENT


class OtherValueError(MeasurementError):
    """What a client says is not what follows from the image."""


class MeasurementType(Enum):
    """What is measured."""

    LENGTH = "length"
    AREA = "area"
    ANGLE = "angle"
    HOUNSFIELD = "hounsfield"
    SUV = "suv"
    ELLIPSE_AREA = "ellipse_area"
    POLYGON_AREA = "polygon_area"


#: Of the pixels in a region, not of its shape.
OF_PIXELS: Final = frozenset((MeasurementType.HOUNSFIELD, MeasurementType.SUV))


class Shape(Enum):
    """The shape that a measurement is taken of."""

    PATH = "path"
    ANGLE = "angle"
    POINT = "point"
    RECTANGLE = "rectangle"
    ELLIPSE = "ellipse"
    POLYGON = "polygon"


_POINT_RULES: Final[Mapping[Shape, PointRule]] = {
    Shape.PATH: geometry.PATH,
    Shape.ANGLE: geometry.ANGLE,
    Shape.POINT: geometry.ONE_PLACE,
    Shape.RECTANGLE: geometry.CORNERS,
    Shape.ELLIPSE: geometry.ELLIPSE,
    Shape.POLYGON: geometry.OUTLINE,
}
_REGIONS: Final = (Shape.POINT, Shape.RECTANGLE, Shape.ELLIPSE, Shape.POLYGON)
#: Type → the shapes that it is taken of.
SHAPES: Final[Mapping[MeasurementType, tuple[Shape, ...]]] = {
    MeasurementType.LENGTH: (Shape.PATH,),
    MeasurementType.ANGLE: (Shape.ANGLE,),
    MeasurementType.AREA: (Shape.POLYGON, Shape.RECTANGLE, Shape.ELLIPSE),
    MeasurementType.POLYGON_AREA: (Shape.POLYGON,),
    MeasurementType.ELLIPSE_AREA: (Shape.ELLIPSE,),
    MeasurementType.HOUNSFIELD: _REGIONS,
    MeasurementType.SUV: _REGIONS,
}
#: Type → unit → what a value in it is multiplied with to be in the first of them.
UNITS: Final[Mapping[MeasurementType, Mapping[str, float]]] = {
    MeasurementType.LENGTH: {"mm": 1.0, "cm": 10.0, "um": 0.001, "px": 0.0},
    MeasurementType.ANGLE: {"deg": 1.0, "°": 1.0, "rad": 180 / math.pi},
    MeasurementType.HOUNSFIELD: {"HU": 1.0, "[hnsf'U]": 1.0},
    MeasurementType.SUV: {"g/ml": 1.0, "SUV": 1.0, "g/ml{SUVbw}": 1.0},
}
_AREAS: Final = {"mm2": 1.0, "mm²": 1.0, "cm2": 100.0, "cm²": 100.0, "px2": 0.0, "px²": 0.0}
_PIXELS: Final = {"px": "px", "px2": "px2", "px²": "px2"}


def units_of(kind: MeasurementType) -> Mapping[str, float]:
    """The units of a type: see `UNITS`."""
    return UNITS.get(kind, _AREAS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A measurement, without what says on which image and whose it is.

    Attributes:
        value: None: it is yet to be computed.
        unit: the first one of its type, or pixels (``px``, ``px2``).
        is_computed: the value follows from the image; otherwise somebody has said so.
        statistics: of the pixels in the region; None: of another type, or not computed.
    """

    type: MeasurementType
    shape: Shape
    points: Sequence[Point]
    value: float | None = None
    unit: str = ""
    label: str = ""
    is_computed: bool = False
    statistics: Statistics | None = None

    def content(self) -> str:
        """All of it but the type, JSON."""
        statistics = self.statistics
        return orjson.dumps(
            {
                "shape": self.shape.value,
                "points": self.points,
                "value": self.value,
                "unit": self.unit,
                "label": self.label,
                "is_computed": self.is_computed,
                "statistics": None if statistics is None else statistics.to_json(),
            }
        ).decode()

    @classmethod
    def of(cls, form: str, content: str) -> Self:
        """That which `content` wrote."""
        said: dict[str, Any] = orjson.loads(content)
        statistics = said["statistics"]
        return cls(
            type=MeasurementType(form),
            shape=Shape(said["shape"]),
            points=[(x, y) for x, y in said["points"]],
            value=said["value"],
            unit=said["unit"],
            label=said["label"],
            is_computed=said["is_computed"],
            statistics=None if statistics is None else Statistics(**statistics),
        )

    def outline(self) -> Sequence[Point]:
        """Of a region: what is around it.

        Raises:
            GeometryError: it is none.
        """
        match self.shape:
            case Shape.RECTANGLE:
                return geometry.corners_of(self.points)
            case Shape.ELLIPSE:
                return geometry.outline_of_ellipse(self.points)
            case Shape.POLYGON:
                return self.points
            case _:
                raise GeometryError(f"a {self.shape.value} encloses nothing")


def shape_for(kind: MeasurementType, name: str, points: int) -> Shape:
    """The shape that is named, or the only one that it can be.

    Raises:
        MeasurementError: a name of none, or of one that the type is not taken of.
    """
    allowed = SHAPES[kind]
    if name:
        found = next((one for one in allowed if one.value == name), None)
        if found is None:
            names = ", ".join(one.value for one in allowed)
            raise MeasurementError(f"the shape of a {kind.value} is one of {names}")
        return found
    fitting = [
        one for one in allowed if _POINT_RULES[one].least <= points <= _POINT_RULES[one].most
    ]
    return fitting[0] if fitting else allowed[0]


def checked(
    measurement: Measurement, columns: int, rows: int, value: float | None, unit: str
) -> Measurement:
    """A measurement on an image of that size, with a value that somebody says, in its own unit.

    Raises:
        MeasurementError, GeometryError: it makes no sense there.
    """
    kind = measurement.type
    points = check_points(measurement.points, _POINT_RULES[measurement.shape], columns, rows)
    if measurement.shape is Shape.ELLIPSE:
        geometry.ends_of_axes(points)
    units = units_of(kind)
    first = next(iter(units))
    unit = unit or first
    if unit not in units:
        raise MeasurementError(f"the unit of a {kind.value} is one of {', '.join(units)}")
    if value is not None and not math.isfinite(value):
        raise MeasurementError("value: a number")
    if unit in _PIXELS:
        unit = _PIXELS[unit]
    else:
        value = None if value is None else value * units[unit]
        unit = first
    return replace(measurement, points=points, value=value, unit=unit)


def computed(measurement: Measurement, size: PixelSize | None) -> Measurement:
    """The same with the value that follows from its shape, if it does.

    Args:
        size: of pixels; None: nobody knows how large they are.

    Raises:
        OtherValueError: it has another value.
        MeasurementError: it has none, and none follows.
        GeometryError: nothing follows from the shape.
    """
    in_pixels = measurement.unit in _PIXELS
    if size is None and measurement.type is not MeasurementType.ANGLE and not in_pixels:
        if measurement.value is None:
            raise MeasurementError(
                "the image does not say how large its pixels are: say the value, or measure in "
                "pixels (unit px, px2)"
            )
        return measurement
    if size is None or in_pixels:
        size = PixelSize(1.0, 1.0)
    points, width, height = measurement.points, size.width, size.height
    pixel = 1.0
    match measurement.shape:
        case Shape.PATH:
            found, pixel = geometry.length_of(points, width, height), max(width, height)
        case Shape.ANGLE:
            found = geometry.angle_of(points, width, height)
        case Shape.ELLIPSE:
            found, pixel = geometry.ellipse_area(points, width, height), width * height
        case Shape.RECTANGLE:
            corners = geometry.corners_of(points)
            found, pixel = geometry.area_of(corners, width, height), width * height
        case _:
            found, pixel = geometry.area_of(points, width, height), width * height
    least = pixel * _LEAST_TOLERANCE
    return _agreed(measurement, found, max(least, abs(found) * _TOLERANCE))


def with_statistics(measurement: Measurement, found: Statistics) -> Measurement:
    """The same with the mean of its pixels as its value.

    Raises:
        OtherValueError: it has another value.
    """
    tolerance = max(_LEAST_TOLERANCE, abs(found.mean) * _STATISTICS_TOLERANCE)
    if measurement.type is MeasurementType.SUV:
        tolerance = max(0.05, abs(found.mean) * _STATISTICS_TOLERANCE)
    return replace(_agreed(measurement, found.mean, tolerance), statistics=found)


def _agreed(measurement: Measurement, found: float, tolerance: float) -> Measurement:
    said = measurement.value
    if said is not None and abs(said - found) > tolerance:
        raise OtherValueError(
            f"the value follows from the image: {found:.6g} {measurement.unit}; leave it out, or "
            "say that"
        )
    return replace(measurement, value=found, is_computed=True)
