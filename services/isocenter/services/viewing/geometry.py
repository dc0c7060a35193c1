"""Shapes on images: points in pixels, what they enclose, and how long they are.

The corner at the top left of the first pixel is (0, 0), the one at the bottom right of that pixel
(1, 1), as in presentation states and spatial coordinates of reports (PS3.3 C.10.5, C.18.6).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass

#: (column, row).
Point = tuple[float, float]
#: Of one shape.
MOST_POINTS: Final = 10_000
#: How far beside the image a point may be, in pixels: hands are not steady.
_MARGIN: Final = 1.0
_RIGHT_ANGLE_TOLERANCE: Final = 0.02


class GeometryError(IsocenterError, ValueError):
    """Points make no such shape; the message says why."""

    error_code = ErrorCode.PIXELS


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRule:
    """How many points a shape has.

    Attributes:
        least, most: so many.
        meaning: what they are, for whoever gave too few.
    """

    least: int
    most: int
    meaning: str


TWO_ENDS: Final = PointRule(least=2, most=2, meaning="the two ends")
CORNERS: Final = PointRule(least=2, most=2, meaning="two opposite corners")
ELLIPSE: Final = PointRule(
    least=2, most=4, meaning="two opposite corners of the box around it, or the four ends of its "
    "axes, one axis after the other",
)  # fmt: skip
OUTLINE: Final = PointRule(least=3, most=MOST_POINTS, meaning="the corners, at least 3")
PATH: Final = PointRule(least=2, most=MOST_POINTS, meaning="the points on the way, at least 2")
ONE_PLACE: Final = PointRule(least=1, most=1, meaning="one point")
ANGLE: Final = PointRule(least=3, most=3, meaning="an end, the vertex, and the other end")


def check_points(
    points: Sequence[Point], rule: PointRule, columns: int, rows: int
) -> tuple[Point, ...]:
    """The points of a shape on an image of that size.

    Raises:
        GeometryError: too few or too many, or one is not on the image.
    """
    if not rule.least <= len(points) <= rule.most or (rule is ELLIPSE and len(points) == 3):
        raise GeometryError(f"{len(points)} points; needed: {rule.meaning}")
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            raise GeometryError("a point is two numbers")
        if not (-_MARGIN <= x <= columns + _MARGIN and -_MARGIN <= y <= rows + _MARGIN):
            raise GeometryError(
                f"the point ({x:g}, {y:g}) is not on the image, which has {columns} columns and "
                f"{rows} rows"
            )
    # What is beside it by less than a pixel is meant to be on its edge.
    found = tuple((min(max(x, 0.0), columns), min(max(y, 0.0), rows)) for x, y in points)
    if rule is not ONE_PLACE and len(set(found)) < min(rule.least, 2):
        raise GeometryError("all points are the same")
    return found


def ends_of_axes(points: Sequence[Point]) -> tuple[Point, Point, Point, Point]:
    """Of an ellipse: the ends of its longer axis, then those of the other.

    Raises:
        GeometryError: they are no axes: they do not cross at a right angle in their middles.
    """
    if len(points) == 2:
        (x0, y0), (x1, y1) = points
        middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
        axes = (
            ((min(x0, x1), middle_y), (max(x0, x1), middle_y)),
            (
                (middle_x, min(y0, y1)),
                (middle_x, max(y0, y1)),
            ),
        )
    else:
        a, b, c, d = points
        axes = (a, b), (c, d)
    first, second = axes
    lengths = [_distance(*axis) for axis in axes]
    if not all(lengths):
        raise GeometryError("an axis of the ellipse has no length")
    gap = _distance(_middle(*first), _middle(*second))
    if gap > max(1.0, _RIGHT_ANGLE_TOLERANCE * max(lengths)):
        raise GeometryError("the axes of the ellipse do not cross in their middles")
    (ax, ay), (bx, by) = first
    (cx, cy), (dx, dy) = second
    cosine = ((bx - ax) * (dx - cx) + (by - ay) * (dy - cy)) / (lengths[0] * lengths[1])
    if abs(cosine) > _RIGHT_ANGLE_TOLERANCE and min(lengths) > 2:
        raise GeometryError("the axes of the ellipse do not cross at a right angle")
    longer, shorter = (first, second) if lengths[0] >= lengths[1] else (second, first)
    return (*longer, *shorter)


def corners_of(points: Sequence[Point]) -> tuple[Point, Point, Point, Point]:
    """The four corners of a rectangle, around it."""
    (x0, y0), (x1, y1) = points
    return (x0, y0), (x1, y0), (x1, y1), (x0, y1)


def closed(points: Sequence[Point]) -> tuple[Point, ...]:
    """An outline that ends where it begins."""
    return tuple(points) if points[0] == points[-1] else (*points, points[0])


def length_of(points: Sequence[Point], width: float = 1.0, height: float = 1.0) -> float:
    """Of a path; pixels are so wide and high."""
    return sum(
        math.hypot((x1 - x0) * width, (y1 - y0) * height) for (x0, y0), (x1, y1) in pairwise(points)
    )


def area_of(outline: Sequence[Point], width: float = 1.0, height: float = 1.0) -> float:
    """What an outline encloses.

    Raises:
        GeometryError: it crosses itself: what it encloses means nothing.
    """
    corners = list(outline[:-1] if outline[0] == outline[-1] else outline)
    if _crosses_itself(corners):
        raise GeometryError("the outline crosses itself")
    pairs = zip(corners, [*corners[1:], corners[0]], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2 * width * height


def ellipse_area(points: Sequence[Point], width: float = 1.0, height: float = 1.0) -> float:
    """What an ellipse encloses."""
    a, b, c, d = ends_of_axes(points)
    return math.pi * _distance(a, b) / 2 * _distance(c, d) / 2 * width * height


def angle_of(points: Sequence[Point], width: float = 1.0, height: float = 1.0) -> float:
    """Degrees at the second of three points, from 0 to 180.

    Raises:
        GeometryError: an arm of it has no length.
    """
    (ax, ay), (vx, vy), (bx, by) = points
    first = ((ax - vx) * width, (ay - vy) * height)
    second = ((bx - vx) * width, (by - vy) * height)
    if not any(first) or not any(second):
        raise GeometryError("an arm of the angle has no length")
    cross = first[0] * second[1] - first[1] * second[0]
    dot = first[0] * second[0] + first[1] * second[1]
    return math.degrees(math.atan2(abs(cross), dot))


def rows_within(
    outline: Sequence[Point], columns: int, rows: int
) -> Iterator[tuple[int, int, int]]:
    """The pixels whose centres an outline encloses: row, first column, and the one behind the
    last."""
    edges = list(zip(outline, [*outline[1:], outline[0]], strict=True))
    top = max(0, math.floor(min(y for _, y in outline)))
    bottom = min(rows, math.ceil(max(y for _, y in outline)) + 1)
    for row in range(top, bottom):
        at = row + 0.5
        crossings = sorted(
            x0 + (at - y0) * (x1 - x0) / (y1 - y0)
            for (x0, y0), (x1, y1) in edges
            if (y0 <= at) != (y1 <= at)
        )
        for left, right in zip(crossings[::2], crossings[1::2], strict=False):
            first = max(0, math.ceil(left - 0.5))
            behind = min(columns, math.floor(right - 0.5) + 1)
            if first < behind:
                yield row, first, behind


def outline_of_ellipse(points: Sequence[Point], corners: int = 180) -> tuple[Point, ...]:
    """An ellipse as a polygon of so many corners."""
    a, b, _, d = ends_of_axes(points)
    (mx, my) = _middle(a, b)
    longer = (b[0] - mx, b[1] - my)
    shorter = (d[0] - mx, d[1] - my)
    turns = (2 * math.pi * step / corners for step in range(corners))
    return tuple(
        (
            mx + math.cos(turn) * longer[0] + math.sin(turn) * shorter[0],
            my + math.cos(turn) * longer[1] + math.sin(turn) * shorter[1],
        )
        for turn in turns
    )


def _distance(a: Point, b: Point) -> float:
    return math.hypot(b[0] - a[0], b[1] - a[1])


def _middle(a: Point, b: Point) -> Point:
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2


#: Beyond so many corners nobody looks whether edges cross: it takes their square.
_MOST_COMPARED: Final = 200


def _crosses_itself(corners: Sequence[Point]) -> bool:
    count = len(corners)
    if count > _MOST_COMPARED:
        return False
    edges = list(zip(corners, [*corners[1:], corners[0]], strict=True))
    return any(
        _cross(edges[first], edges[second])
        for first in range(count)
        for second in range(first + 2, count)
        if (first, second) != (0, count - 1)
    )


def _cross(first: tuple[Point, Point], second: tuple[Point, Point]) -> bool:
    def side(a: Point, b: Point, c: Point) -> float:
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    (a, b), (c, d) = first, second
    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
