"""Display shutters: what of an image is not to be seen (PS3.3 C.7.6.11, C.7.6.15)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.rendering.elements import Elements

_SHAPE: Final = 0x00181600
_LEFT_EDGE: Final = 0x00181602
_RIGHT_EDGE: Final = 0x00181604
_UPPER_EDGE: Final = 0x00181606
_LOWER_EDGE: Final = 0x00181608
_CIRCLE_CENTER: Final = 0x00181610
_CIRCLE_RADIUS: Final = 0x00181612
_VERTICES: Final = 0x00181620
_PRESENTATION_VALUE: Final = 0x00181622
_OVERLAY_GROUP: Final = 0x00181623
#: Corners of a polygon: more than anybody sets by hand.
_MOST_VERTICES: Final = 2000
_WORD: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Shutter:
    """What a shutter covers.

    Attributes:
        covered: True where a pixel is not to be seen.
        gray: what is seen in its place, 0 to 255.
    """

    covered: NDArray[Any]
    gray: int


def shutter_of(elements: Elements, size: tuple[int, int]) -> Shutter | None:
    """The shutter that a data set, or an item, describes; shapes that make no sense are none."""
    shapes = {each.upper() for each in elements.texts(_SHAPE)}
    covered = np.zeros(size, bool)
    if "RECTANGULAR" in shapes:
        covered |= _outside_rectangle(elements, size)
    if "CIRCULAR" in shapes:
        covered |= _outside_circle(elements, size)
    if "POLYGONAL" in shapes:
        covered |= _outside_polygon(elements, size)
    return Shutter(covered, gray_of(elements)) if covered.any() else None


def has_shape(elements: Elements) -> bool:
    """Whether a data set, or an item, describes a shutter."""
    return _SHAPE in elements


def gray_of(elements: Elements) -> int:
    """What is seen where a shutter covers: the Shutter Presentation Value, else black."""
    value = elements.word(_PRESENTATION_VALUE) or 0
    return round(value * 255 / _WORD)


def bitmap_group_of(elements: Elements) -> int | None:
    """The group of the overlay that is the shutter (PS3.3 C.7.6.15); None: none is."""
    shapes = {each.upper() for each in elements.texts(_SHAPE)}
    return elements.word(_OVERLAY_GROUP) if "BITMAP" in shapes else None


def _outside_rectangle(elements: Elements, size: tuple[int, int]) -> NDArray[Any]:
    edges = [elements.integer(tag) for tag in (_LEFT_EDGE, _RIGHT_EDGE, _UPPER_EDGE, _LOWER_EDGE)]
    covered = np.zeros(size, bool)
    left, right, upper, lower = edges
    # What is seen lies between the edges, which are columns and rows, counted from 1.
    if left is None or right is None or upper is None or lower is None:
        return covered
    covered[:] = True
    covered[max(upper, 0) : max(lower - 1, 0), max(left, 0) : max(right - 1, 0)] = False
    return covered


def _outside_circle(elements: Elements, size: tuple[int, int]) -> NDArray[Any]:
    center, radius = elements.decimals(_CIRCLE_CENTER), elements.decimal(_CIRCLE_RADIUS)
    if len(center) < 2 or radius is None or radius < 0:
        return np.zeros(size, bool)
    rows = np.arange(1, size[0] + 1)[:, None] - center[0]
    columns = np.arange(1, size[1] + 1)[None, :] - center[1]
    covered: NDArray[Any] = rows**2 + columns**2 > radius**2
    return covered


def _outside_polygon(elements: Elements, size: tuple[int, int]) -> NDArray[Any]:
    numbers = elements.decimals(_VERTICES)[: 2 * _MOST_VERTICES]
    corners = np.array(numbers[: len(numbers) // 2 * 2]).reshape(-1, 2)
    if len(corners) < 3:
        return np.zeros(size, bool)
    covered: NDArray[Any] = ~polygon_mask(corners[:, 0] - 1, corners[:, 1] - 1, size)
    return covered


def polygon_mask(rows: NDArray[Any], columns: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """What lies within a polygon: the centers of pixels, counted from 0, by the even-odd rule."""
    crossings = np.zeros(size, np.int32)
    ends = np.roll(rows, -1), np.roll(columns, -1)
    every = np.arange(size[0])
    for y0, x0, y1, x1 in zip(rows, columns, *ends, strict=True):
        low, high = min(y0, y1), max(y0, y1)
        crossed = every[(every >= low) & (every < high)]
        if not len(crossed):
            continue
        at = x0 + (crossed - y0) * ((x1 - x0) / (y1 - y0))
        places = np.ceil(at).clip(0, size[1]).astype(np.int64)
        is_inside = places < size[1]
        np.add.at(crossings, (crossed[is_inside], places[is_inside]), 1)
    inside: NDArray[Any] = np.cumsum(crossings, axis=1) % 2 == 1
    return inside
