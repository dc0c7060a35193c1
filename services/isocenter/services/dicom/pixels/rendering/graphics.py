"""Graphic annotations of presentation states: lines, shapes and texts (PS3.3 C.10.5, C.10.7)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.rendering.colour import rgb_of_lab
from isocenter.services.dicom.pixels.rendering.elements import Elements, decoded_text
from isocenter.services.dicom.pixels.rendering.geometry import Geometry
from isocenter.services.dicom.pixels.rendering.lettering import put
from isocenter.services.dicom.pixels.rendering.presentation_state import PresentationState
from isocenter.services.dicom.pixels.rendering.shutters import polygon_mask

Points = NDArray[Any]
#: Gray, or red, green and blue, 0 to 255.
Tone = int | tuple[int, int, int]

_ANNOTATIONS: Final = 0x00700001
_LAYER: Final = 0x00700002
_BOX_UNITS: Final = 0x00700003
_ANCHOR_UNITS: Final = 0x00700004
_GRAPHIC_UNITS: Final = 0x00700005
_TEXT: Final = 0x00700006
_TEXTS: Final = 0x00700008
_GRAPHICS: Final = 0x00700009
_BOX_TOP_LEFT: Final = 0x00700010
_BOX_BOTTOM_RIGHT: Final = 0x00700011
_JUSTIFICATION: Final = 0x00700012
_ANCHOR: Final = 0x00700014
_ANCHOR_IS_VISIBLE: Final = 0x00700015
_DATA: Final = 0x00700022
_TYPE: Final = 0x00700023
_IS_FILLED: Final = 0x00700024
_LAYERS: Final = 0x00700060
_LAYER_ORDER: Final = 0x00700062
_LAYER_GRAY: Final = 0x00700066
_LAYER_COLOUR: Final = 0x00700401
_NO_LAYER: Final = Elements()

#: Graphics and texts of one frame.
_MOST_OBJECTS: Final = 5000
#: Points of one of them, and steps of all lines together.
_MOST_POINTS: Final = 20_000
_MOST_STEPS: Final = 4_000_000
#: Beyond it lies no image.
_FAR: Final = 1e7
#: Of a curve, between two of its points; and of a circle.
_CURVE_STEPS: Final = 16
_CIRCLE_STEPS: Final = 180
#: Half of a cross that marks a point, and what picture has lines of one pixel.
_CROSS: Final = 4
_THIN: Final = 768
#: Letters of a text that has no box: this part of the picture.
_LETTERS: Final = 32
_LINE_HEIGHT: Final = 1.4
_JUSTIFIED: Final = {"LEFT": 0.0, "CENTER": 0.5, "RIGHT": 1.0}
_WORD: Final = 0xFFFF
_WHITE: Final = 255


def draw_annotations(
    picture: NDArray[Any], state: PresentationState, geometry: Geometry
) -> NDArray[Any]:
    """The picture with the annotations of a state, lower layers first.

    Raises:
        ImageError: there are more than make sense, or texts, and nothing that draws them.
    """
    layers = {item.text(_LAYER): item for item in state.root.items(_LAYERS)}

    def layer_of(annotation: Elements) -> Elements:
        return layers.get(annotation.text(_LAYER), _NO_LAYER)

    found = sorted(
        state.applicable(_ANNOTATIONS),
        key=lambda each: layer_of(each).integer(_LAYER_ORDER) or 0,
    )
    is_gray = picture.ndim == 2 and not any(_LAYER_COLOUR in layer_of(each) for each in found)
    picture = picture.copy() if is_gray or picture.ndim == 3 else np.stack((picture,) * 3, axis=2)
    canvas = _Canvas(picture, geometry)
    for annotation in found:
        value = _tone_of(layer_of(annotation), is_gray=is_gray)
        for item in annotation.items(_GRAPHICS):
            canvas.graphic(item, value)
        for item in annotation.items(_TEXTS):
            canvas.text(item, state)
    return canvas.picture


def _tone_of(layer: Elements, *, is_gray: bool) -> Tone:
    """What a layer recommends; white where it recommends nothing."""
    lab = layer.words(_LAYER_COLOUR)
    if not is_gray and len(lab) >= 3:
        return rgb_of_lab(*lab[:3])
    gray = layer.word(_LAYER_GRAY)
    value = _WHITE if gray is None else round(gray * _WHITE / _WORD)
    return value if is_gray else (value, value, value)


@dataclass(slots=True)
class _Canvas:
    """A picture that is drawn into.

    Attributes:
        objects, steps: drawn so far.
    """

    picture: NDArray[Any]
    geometry: Geometry
    objects: int = 0
    steps: int = 0

    def _count(self) -> None:
        self.objects += 1
        if self.objects > _MOST_OBJECTS:
            raise ImageError(f"the presentation state has more than {_MOST_OBJECTS} annotations")

    def _placed(self, points: Points, units: str) -> Points:
        """Points in pixels of the picture."""
        if units == "DISPLAY":
            found = points * np.array([self.geometry.width, self.geometry.height])
        else:
            x, y = self.geometry.to_picture(points[:, 0], points[:, 1])
            found = np.stack((x, y), axis=1)
        # Beyond the picture it makes no difference where.
        far = 4 * max(self.geometry.width, self.geometry.height)
        near: Points = np.nan_to_num(found).clip(-far, 2 * far)
        return near

    def graphic(self, item: Elements, value: Tone) -> None:
        self._count()
        numbers = item.floats(_DATA)[: 2 * _MOST_POINTS]
        points = np.array(numbers[: len(numbers) // 2 * 2], np.float64).reshape(-1, 2)
        points = np.nan_to_num(points).clip(-_FAR, _FAR)
        if not len(points):
            return
        units = item.text(_GRAPHIC_UNITS).upper()
        kind = item.text(_TYPE).upper()
        if kind == "POINT":
            self._cross(self._placed(points[:1], units)[0], value)
            return
        outline = self._placed(_outline(kind, points), units)
        is_closed = len(outline) > 2 and bool(np.abs(outline[0] - outline[-1]).max() < 1)
        if item.text(_IS_FILLED).upper() == "Y" and is_closed:
            size = self.picture.shape[:2]
            self.picture[polygon_mask(outline[:, 1] - 0.5, outline[:, 0] - 0.5, size)] = value
        self._line(outline, value)

    def _cross(self, point: Points, value: Tone) -> None:
        for across, down in ((_CROSS, 0), (0, _CROSS)):
            arm = np.array([across, down])
            self._line(np.stack((point - arm, point + arm)), value)

    def _line(self, points: Points, value: Tone) -> None:
        rows, columns = self.picture.shape[:2]
        thickness = max(round(max(rows, columns) / _THIN), 1)
        for start, end in pairwise(points):
            steps = int(np.abs(end - start).max() * 2) + 1
            self.steps += steps
            if self.steps > _MOST_STEPS:
                raise ImageError("the lines of the presentation state are too long to be drawn")
            part = np.linspace(0, 1, steps + 1)[:, None]
            at = np.floor(start + (end - start) * part).astype(np.int64) - (thickness - 1) // 2
            for across in range(thickness):
                for down in range(thickness):
                    x, y = at[:, 0] + across, at[:, 1] + down
                    inside = (x >= 0) & (y >= 0) & (x < columns) & (y < rows)
                    self.picture[y[inside], x[inside]] = value

    def text(self, item: Elements, state: PresentationState) -> None:
        self._count()
        text = decoded_text(state.root, item.values.get(_TEXT, b""), "ST")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        anchor = self._point(item, _ANCHOR, _ANCHOR_UNITS)
        corners = [self._point(item, tag, _BOX_UNITS) for tag in (_BOX_TOP_LEFT, _BOX_BOTTOM_RIGHT)]
        height = max(self.picture.shape[0] // _LETTERS, 1)
        first, second = corners
        if first is not None and second is not None:
            low, high = np.minimum(first, second), np.maximum(first, second)
            lines = text.count("\n") + 1
            height = min(height, int((high[1] - low[1]) / (lines * _LINE_HEIGHT)))
            part = _JUSTIFIED.get(item.text(_JUSTIFICATION).upper(), 0.0)
            x, y = low[0] + (high[0] - low[0]) * part, low[1]
            if anchor is not None and item.text(_ANCHOR_IS_VISIBLE).upper() == "Y":
                self._line(np.stack((anchor.clip(low, high), anchor)), _WHITE)
        elif anchor is not None:
            (x, y), part = anchor, 0.0
        else:
            return
        if text.strip():
            self.picture = put(self.picture, text.rstrip(), height, x, y, (part, 0.0))

    def _point(self, item: Elements, tag: int, units: int) -> Points | None:
        numbers = item.floats(tag)
        if len(numbers) < 2:
            return None
        point: Points = self._placed(np.array([numbers[:2]]), item.text(units).upper())[0]
        return point


def _outline(kind: str, points: Points) -> Points:
    """The line that a graphic is, as points close to each other."""
    if kind == "CIRCLE" and len(points) >= 2:
        return _ellipse(points[0], *_radii(points[1] - points[0]))
    if kind == "ELLIPSE" and len(points) >= 4:
        a, b, c, d = points[:4]
        return _ellipse((a + b) / 2, (b - a) / 2, (d - c) / 2)
    if kind == "INTERPOLATED" and len(points) > 2:
        return np.concatenate(list(_curve(points)))
    return points


def _radii(radius: Points) -> tuple[Points, Points]:
    return radius, np.array([-radius[1], radius[0]])


def _ellipse(center: Points, first: Points, second: Points) -> Points:
    angles = np.linspace(0, 2 * np.pi, _CIRCLE_STEPS + 1)[:, None]
    found: Points = center + first * np.cos(angles) + second * np.sin(angles)
    return found


def _curve(points: Points) -> Iterator[Points]:
    """A curve through all points, smooth at each (Catmull-Rom)."""
    is_closed = bool((points[0] == points[-1]).all())
    before = points[-2] if is_closed else points[0]
    after = points[1] if is_closed else points[-1]
    whole = np.concatenate((before[None], points, after[None]))
    t = np.linspace(0, 1, _CURVE_STEPS + 1)[:, None]
    for place in range(1, len(whole) - 2):
        p0, p1, p2, p3 = whole[place - 1 : place + 3]
        yield (
            2 * p1
            + (p2 - p0) * t
            + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
            + (3 * p1 - p0 - 3 * p2 + p3) * t**3
        ) / 2
