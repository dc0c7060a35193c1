"""Geometry of pictures: region, rotation, flip and scale (PS3.3 C.10.4, C.10.6; PS3.18 8.3.5)."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.rendering.options import MAX_SIDE

#: Shapes of pixels that differ by less are square.
_SAME_SHAPE: Final = 0.001
#: Shapes beyond make no sense, in files as in people.
_ODDEST_SHAPE: Final = 20.0
_QUARTERS: Final = 4
#: Samples for each pixel of the result that are looked at, where more lie under it.
_MOST_TAPS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Which part of an image is seen, and how.

    Attributes:
        left, top, right, bottom: edges of the part, in pixels of the image; the first pixel
            lies between 0 and 1.  It may go beyond the image.
        quarters: turns to the right, by 90 degrees each.
        is_flipped: left to right, after turning.
        is_flipped_vertically: top to bottom, after that.
        width, height: of the picture, in pixels.
    """

    left: float
    top: float
    right: float
    bottom: float
    width: int
    height: int
    quarters: int = 0
    is_flipped: bool = False
    is_flipped_vertically: bool = False

    def to_picture(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Where points of the image, in pixels of it, lie in the picture."""
        u = (x - self.left) / (self.right - self.left)
        v = (y - self.top) / (self.bottom - self.top)
        for _ in range(self.quarters % _QUARTERS):
            u, v = 1 - v, u
        u = 1 - u if self.is_flipped else u
        v = 1 - v if self.is_flipped_vertically else v
        return u * self.width, v * self.height

    def apply(self, picture: NDArray[Any]) -> NDArray[Any]:
        """The part of a picture, as it is seen; black where the part goes beyond it."""
        rows, columns = picture.shape[:2]
        is_turned = self.quarters % 2 == 1
        width, height = (self.height, self.width) if is_turned else (self.width, self.height)
        across = _Axis.of(columns, self.left, self.right, width)
        down = _Axis.of(rows, self.top, self.bottom, height)
        made = np.zeros((height, width, *picture.shape[2:]), np.uint8)
        if across is not None and down is not None:
            part, down = down.coarse(picture, 0)
            part, across = across.coarse(part, 1)
            part = across.resample(down.resample(part, 0), 1)
            made[down.start : down.stop, across.start : across.stop] = part
        if self.quarters:
            made = np.rot90(made, -self.quarters)
        if self.is_flipped:
            made = made[:, ::-1]
        if self.is_flipped_vertically:
            made = made[::-1]
        return np.ascontiguousarray(made)


@dataclass(frozen=True, slots=True)
class _Axis:
    """Rows or columns: which of the picture come of which of the image.

    Attributes:
        start, stop: those of the picture that lie within the image.
        low, step: where the first of them begins in the image, and how long each is.
        length: of the image.
    """

    start: int
    stop: int
    low: float
    step: float
    length: int

    @classmethod
    def of(cls, length: int, low: float, high: float, count: int) -> _Axis | None:
        """None: no pixel of the picture lies within the image."""
        step = (high - low) / count
        # Centers that lie within.
        start = max(math.ceil(-low / step - 0.5), 0)
        stop = min(math.ceil((length - low) / step - 0.5), count)
        return cls(start, stop, low + start * step, step, length) if start < stop else None

    def coarse(self, picture: NDArray[Any], axis: int) -> tuple[NDArray[Any], _Axis]:
        """The picture with means of some of its pixels, where many come to one; and its axis.

        Sums of neighbours in memory cost a fraction of what weights cost.
        """
        count = min(int(self.step // 4), _MOST_TAPS)
        if count <= 1 or self.step == int(self.step):
            return picture, self
        whole = self.length // count
        shape = list(picture.shape)
        shape[axis : axis + 1] = [whole, count]
        taken = picture[: whole * count] if axis == 0 else picture[:, : whole * count]
        sums = np.add.reduce(taken.reshape(shape), axis=axis + 1, dtype=np.uint16)
        means = ((sums + count // 2) // count).astype(np.uint8)
        rest = self.length - whole * count
        if rest:
            last = picture[-rest:] if axis == 0 else picture[:, -rest:]
            mean = np.rint(last.mean(axis=axis, keepdims=True)).astype(np.uint8)
            means = np.concatenate((means, mean), axis=axis)
        low, step = self.low / count, self.step / count
        return means, _Axis(self.start, self.stop, low, step, means.shape[axis])

    def resample(self, picture: NDArray[Any], axis: int) -> NDArray[Any]:
        count = self.stop - self.start
        if self.step == 1 and self.low == int(self.low):
            first = int(self.low)
            taken = slice(first, first + count)
            return picture[taken] if axis == 0 else picture[:, taken]
        is_whole = self.step == int(self.step) and self.low == int(self.low)
        if is_whole and 0 <= self.low <= self.length - count * self.step:
            return self._means(picture, axis, count)
        places, weights = self._taps(count)
        total: NDArray[Any] | None = None
        shape = [1] * picture.ndim
        shape[axis] = count
        for tap in range(places.shape[1]):
            part = picture.take(places[:, tap], axis=axis) * weights[:, tap].reshape(shape)
            total = part if total is None else total + part
        assert total is not None
        return np.floor(total + np.float32(0.5)).astype(np.uint8)

    def _means(self, picture: NDArray[Any], axis: int, count: int) -> NDArray[Any]:
        """The usual case: each pixel of the picture is the mean of whole pixels of the image."""
        step, first = int(self.step), int(self.low)
        places = range(first, first + step, max(step // _MOST_TAPS, 1))
        total: NDArray[Any] | None = None
        for place in places:
            taken = slice(place, place + (count - 1) * step + 1, step)
            part = picture[taken] if axis == 0 else picture[:, taken]
            total = part.astype(np.uint16) if total is None else total + part
        assert total is not None
        return ((total + len(places) // 2) // len(places)).astype(np.uint8)

    def _taps(self, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """For each pixel of the picture those of the image, and what they weigh.

        Fewer pixels: each is the mean of what it covers.  More: between the two nearest.
        """
        index = np.arange(count)
        if self.step > 1:
            begin = self.low + index * self.step
            end = begin + self.step
            most = min(math.ceil(self.step) + 1, _MOST_TAPS)
            if most < _MOST_TAPS:
                places = np.floor(begin)[:, None] + np.arange(most)
                covered = np.minimum(places + 1, end[:, None]) - np.maximum(places, begin[:, None])
                weights = covered.clip(0, 1)
            else:
                places = np.floor(begin[:, None] + (np.arange(most) + 0.5) * (self.step / most))
                weights = np.ones(places.shape)
        else:
            center = self.low + (index + 0.5) * self.step - 0.5
            first = np.floor(center)
            part = center - first
            places = np.stack((first, first + 1), axis=1)
            weights = np.stack((1 - part, part), axis=1)
        weights = weights / weights.sum(axis=1, keepdims=True)
        inside = places.clip(0, self.length - 1).astype(np.int64)
        return inside, weights.astype(np.float32)


def fit(width: float, height: float, most_width: int, most_height: int) -> tuple[int, int]:
    """The largest size of that shape within a viewport."""
    scale = min(most_width / width, most_height / height)
    return (
        min(max(round(width * scale), 1), most_width),
        min(max(round(height * scale), 1), most_height),
    )


def natural_size(width: float, height: float, shape: float) -> tuple[int, int]:
    """The size of a picture of so many pixels of the image, none of them lost.

    Args:
        shape: height of a pixel by its width.

    Raises:
        ImageError: it is larger than a picture may be.
    """
    found = (round(width), round(height * shape)) if shape >= 1 else (
        round(width / shape), round(height)
    )  # fmt: skip
    if max(found) > MAX_SIDE:
        raise ImageError(
            f"a picture of {found[0]} × {found[1]} pixels; at most {MAX_SIDE} either way are "
            "rendered: ask for a viewport"
        )
    return max(found[0], 1), max(found[1], 1)


def pixel_shape(ratio: list[float], spacing: list[float]) -> float:
    """Height of a pixel by its width.

    Args:
        ratio: Pixel Aspect Ratio, vertical and horizontal.
        spacing: between the centers of rows, and of columns.
    """
    for pair in (ratio, spacing):
        if len(pair) >= 2 and pair[0] > 0 and pair[1] > 0:
            shape = pair[0] / pair[1]
            if not 1 / _ODDEST_SHAPE <= shape <= _ODDEST_SHAPE:
                continue
            return 1.0 if abs(shape - 1) < _SAME_SHAPE else shape
    return 1.0
