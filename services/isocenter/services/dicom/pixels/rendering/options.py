"""Options of rendering: window, viewport, quality, and what is drawn (PS3.18 8.3.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, Self

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass

JPEG: Final = "image/jpeg"
PNG: Final = "image/png"
GIF: Final = "image/gif"
MEDIA_TYPES: Final = (JPEG, PNG, GIF)
#: Width and height of a viewport.
MAX_SIDE: Final = 1 << 14
_MAX_TEXT: Final = 200
_VIEWPORT_VALUES: Final = 6
_WINDOW_VALUES: Final = 3
#: Largest number that a parameter may have.
_MAX_NUMBER: Final = 1e12


class RenderOptionError(IsocenterError, ValueError):
    """An option of rendering makes no sense; the message says what it has to be."""

    error_code = ErrorCode.ARGUMENTS


class VoiFunction(Enum):
    """How a window maps values (PS3.3 C.11.2.1.2, C.11.2.1.3)."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


@dataclass(frozen=True, slots=True)
class Window:
    """A window, in the units of what the modality LUT gives."""

    center: float
    width: float
    function: VoiFunction = VoiFunction.LINEAR

    @property
    def is_possible(self) -> bool:
        """Whether its width is one: at least 1 where it is LINEAR, else more than 0."""
        if not (math.isfinite(self.center) and math.isfinite(self.width)):
            return False
        return self.width >= 1 if self.function is VoiFunction.LINEAR else self.width > 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """The parameter ``window``: center, width and, if it is not linear, the function.

        Raises:
            RenderOptionError: it is none.
        """
        parts = text.split(",")
        function = VoiFunction.LINEAR
        if len(parts) == _WINDOW_VALUES:
            name = parts.pop().strip().upper().replace("-", "_")
            try:
                function = VoiFunction(name)
            except ValueError:
                raise RenderOptionError(
                    "the function of a window is linear, linear-exact or sigmoid"
                ) from None
        if len(parts) != _WINDOW_VALUES - 1:
            raise RenderOptionError("a window is CENTER,WIDTH or CENTER,WIDTH,FUNCTION")
        center, width = (_number(each, "a window") for each in parts)
        made = cls(center, width, function)
        made.check()
        return made

    def check(self) -> None:
        """Raise `RenderOptionError` where this can be no window."""
        if not self.is_possible:
            raise RenderOptionError(
                "the width of a window is at least 1; of linear-exact and sigmoid, more than 0"
            )


#: Names of usual windows, in Hounsfield units of CT.
WINDOW_PRESETS: Final = {
    "ct-abdomen": Window(40, 400),
    "ct-angio": Window(300, 600),
    "ct-bone": Window(400, 1800),
    "ct-brain": Window(40, 80),
    "ct-liver": Window(60, 160),
    "ct-lung": Window(-600, 1500),
    "ct-mediastinum": Window(50, 350),
    "ct-stroke": Window(35, 35),
}


@dataclass(frozen=True, slots=True)
class Viewport:
    """Where the picture goes, and which part of the image it is (PS3.18 8.3.5.1.3).

    The part is scaled until its width or its height fills the viewport; it keeps its shape.

    Attributes:
        width, height: of the viewport, in pixels.
        x, y: the top left corner of the part, in pixels of the image.
        region_width, region_height: of the part; None: up to the edge of the image; negative:
            flipped left to right, or top to bottom.
    """

    width: int
    height: int
    x: float = 0
    y: float = 0
    region_width: float | None = None
    region_height: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The parameter ``viewport``: ``vw,vh`` or ``vw,vh,sx,sy,sw,sh``, some of them left out.

        Raises:
            RenderOptionError: it is none.
        """
        parts: list[str] = [each.strip() for each in text.split(",")]
        if not 2 <= len(parts) <= _VIEWPORT_VALUES:
            raise RenderOptionError("a viewport is WIDTH,HEIGHT or WIDTH,HEIGHT,SX,SY,SW,SH")
        if not all(each.isascii() and each.isdigit() for each in parts[:2]):
            raise RenderOptionError("width and height of a viewport are whole numbers from 1 on")
        found = [_number(each, "a viewport") if each else None for each in parts[2:]]
        found += [None] * (_VIEWPORT_VALUES - 2 - len(found))
        x, y, width, height = found
        # What counts of a corner is its absolute value.
        made = cls(int(parts[0]), int(parts[1]), abs(x or 0), abs(y or 0), width, height)
        made.check()
        return made

    def check(self) -> None:
        """Raise `RenderOptionError` where this can be no viewport."""
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise RenderOptionError(
                f"width and height of a viewport are whole numbers from 1 to {MAX_SIDE}"
            )
        numbers = (self.x, self.y, self.region_width or 1, self.region_height or 1)
        if not all(math.isfinite(each) and abs(each) <= _MAX_NUMBER for each in numbers):
            raise RenderOptionError("the region of a viewport is not made of numbers")
        if self.x < 0 or self.y < 0 or self.region_width == 0 or self.region_height == 0:
            raise RenderOptionError("the region of a viewport is empty, or begins before the image")


class ColourSpace(Enum):
    """What becomes of colours: the parameter ``iccprofile`` (PS3.18 8.3.5.1.4)."""

    #: Nothing is converted, and no profile is in the picture.
    AS_STORED = "no"
    #: The profile of the image goes into the picture, if there is one.
    WITH_PROFILE = "yes"
    SRGB = "srgb"
    ADOBE_RGB = "adobergb"
    DISPLAY_P3 = "displayp3"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """How a frame is shown; what is left out is as the object says.

    Attributes:
        media_type: one of `MEDIA_TYPES`.
        quality: of JPEG, 1 to 100.
        window: wins over whatever the object says; grayscale images only.
        window_number: which window of the object, from 1 on.
        voi_lut_number: which VOI LUT of the object, from 1 on.
        window_name: the window or VOI LUT of the object with this explanation.
        is_automatic: the window is what the values of the frame need, padding left out.
        viewport: None: as many pixels as the image has.
        has_overlays: overlays are drawn.
        has_shutter: what the display shutter of the object covers is not shown.
        has_graphics: graphics and texts of a presentation state are drawn.
        has_square_pixels: pixels that are not square are made so.
        colour_space: what becomes of colours.
        is_quick: each pixel of a picture much smaller than the image is made of some pixels of it,
            not of all.
        has_patient_label, has_technique_label: texts are drawn into the picture (PS3.18
            8.3.5.1.1, ``annotation``).
    """

    media_type: str = JPEG
    quality: int = 90
    window: Window | None = None
    window_number: int | None = None
    voi_lut_number: int | None = None
    window_name: str = ""
    is_automatic: bool = False
    viewport: Viewport | None = None
    has_overlays: bool = True
    has_shutter: bool = True
    has_graphics: bool = True
    has_square_pixels: bool = True
    colour_space: ColourSpace = ColourSpace.WITH_PROFILE
    is_quick: bool = False
    has_patient_label: bool = False
    has_technique_label: bool = False

    def check(self) -> None:
        """Raise `RenderOptionError` where they make no sense."""
        if self.media_type not in MEDIA_TYPES:
            raise RenderOptionError(f"a picture is one of {', '.join(MEDIA_TYPES)}")
        if not 1 <= self.quality <= 100:
            raise RenderOptionError("the quality is a number from 1 to 100")
        for number in (self.window_number, self.voi_lut_number):
            if number is not None and number < 1:
                raise RenderOptionError("windows and VOI LUTs are numbered from 1 on")
        if len(self.window_name) > _MAX_TEXT:
            raise RenderOptionError(f"the name of a window has at most {_MAX_TEXT} characters")
        asked = (
            self.window is not None, self.window_number is not None,
            self.voi_lut_number is not None, bool(self.window_name), self.is_automatic,
        )  # fmt: skip
        if sum(asked) > 1:
            raise RenderOptionError(
                "one window at a time: by its values, its number, its name, or automatic"
            )
        if self.window is not None:
            self.window.check()
        if self.viewport is not None:
            self.viewport.check()

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes the same options of."""
        window, viewport = self.window, self.viewport
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "colour_space": self.colour_space.value,
            "window": window and [window.center, window.width, window.function.value],
            "viewport": viewport and [getattr(viewport, name) for name in _VIEWPORT_FIELDS],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """The options that `to_json` made this of."""
        window, viewport = found["window"], found["viewport"]
        return cls(
            **{name: found[name] for name in _PLAIN},
            colour_space=ColourSpace(found["colour_space"]),
            window=window and Window(window[0], window[1], VoiFunction(window[2])),
            viewport=viewport and Viewport(*viewport),
        )


_PLAIN: Final = (
    "media_type", "quality", "window_number", "voi_lut_number", "window_name", "is_automatic",
    "has_overlays", "has_shutter", "has_graphics", "has_square_pixels", "is_quick",
    "has_patient_label", "has_technique_label",
)  # fmt: skip
_VIEWPORT_FIELDS: Final = ("width", "height", "x", "y", "region_width", "region_height")


def _number(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if "_" in text or not math.isfinite(number) or abs(number) > _MAX_NUMBER:
        raise RenderOptionError(f"{what} is made of decimal numbers")
    return number
