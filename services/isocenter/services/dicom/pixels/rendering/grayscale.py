"""Grayscale transformations, from stored values to the gray of a picture (PS3.3 C.11)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.rendering.elements import (
    DOUBLE_PIXEL_PADDING_LIMIT,
    DOUBLE_PIXEL_PADDING_VALUE,
    FLOAT_PIXEL_PADDING_LIMIT,
    FLOAT_PIXEL_PADDING_VALUE,
    FRAME_VOI_LUTS,
    MODALITY_LUTS,
    PIXEL_INTENSITY_RELATIONSHIP,
    PIXEL_PADDING_RANGE_LIMIT,
    PIXEL_PADDING_VALUE,
    PIXEL_VALUE_TRANSFORMATIONS,
    PRESENTATION_LUT_SHAPE,
    PRESENTATION_LUTS,
    RESCALE_INTERCEPT,
    RESCALE_SLOPE,
    SOP_CLASS_UID,
    Elements,
    FrameElements,
)
from isocenter.services.dicom.pixels.rendering.lookup_tables import (
    LookupTable,
    read_lookup_table,
    tables_of,
)
from isocenter.services.dicom.pixels.rendering.options import RenderOptions
from isocenter.services.dicom.pixels.rendering.stored_values import StoredValues
from isocenter.services.dicom.pixels.rendering.voi import Voi, VoiChoices, spread

Values = NDArray[Any]
TOP: Final = 255
#: Values of so many bits go through a table of all of them.
_TABLE_BITS: Final = 16
#: Images of no more bits than a picture has show all of them where nothing else is said.
_PICTURE_BITS: Final = 8
#: XA and XRF images, single, multi-frame and enhanced.
_X_RAY: Final = tuple(f"1.2.840.10008.5.1.4.1.1.12.{end}" for end in ("1", "1.1", "2", "2.1"))


@dataclass(frozen=True, slots=True)
class ModalityTransformation:
    """Stored values to what they mean (PS3.3 C.11.1): a table, or a slope and an intercept."""

    slope: float = 1.0
    intercept: float = 0.0
    table: LookupTable | None = None

    def apply(self, values: Values) -> Values:
        if self.table is not None:
            return self.table.apply(values)
        if self.slope == 1 and self.intercept == 0:
            return values
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(np.float64) * self.slope + self.intercept

    @classmethod
    def of(cls, elements: Elements, *, signed: bool) -> ModalityTransformation:
        """What a data set, or an item, says.

        Args:
            signed: stored values are.
        """
        for item in tables_of(elements, MODALITY_LUTS)[:1]:
            return cls(table=read_lookup_table(item, signed=signed))
        slope, intercept = elements.decimal(RESCALE_SLOPE), elements.decimal(RESCALE_INTERCEPT)
        # A slope of 0 would make all pixels the same: what some write who have none.
        return cls(slope or 1.0, intercept or 0.0)

    @classmethod
    def of_frame(cls, frame: FrameElements, *, signed: bool) -> ModalityTransformation:
        """What an image says of one of its frames.

        Of angiography with pixels that are made for display, or for subtraction, the table leads
        elsewhere than to the screen (PS3.3 C.8.7.1.1.2).
        """
        root = frame.root
        relationship = root.text(PIXEL_INTENSITY_RELATIONSHIP)
        if root.text(SOP_CLASS_UID) in _X_RAY and relationship in ("LOG", "DISP"):
            return cls()
        return cls.of(frame.holder(PIXEL_VALUE_TRANSFORMATIONS), signed=signed)

    def extent(self, stored: StoredValues) -> tuple[float, float]:
        """What it gives for the lowest and the highest value that can be stored, in order."""
        if self.table is not None:
            return 0, self.table.top
        top = (1 << stored.bits) - 1
        low, high = (-(top + 1) // 2, top // 2) if stored.is_signed else (0, top)
        ends = (low * self.slope + self.intercept, high * self.slope + self.intercept)
        return min(ends), max(ends)


@dataclass(frozen=True, slots=True)
class PresentationTransformation:
    """What the VOI gives, to P-values (PS3.3 C.11.4, C.11.6)."""

    is_inverse: bool = False
    table: LookupTable | None = None

    def apply(self, values: Values) -> Values:
        if self.table is not None:
            places = np.rint(values * (len(self.table.entries) - 1)) + self.table.first
            return self.table.apply(places) / self.table.top
        return 1 - values if self.is_inverse else values

    @classmethod
    def of(cls, elements: Elements, photometric: str) -> PresentationTransformation:
        """What a data set says; of an image that says nothing, what its photometry means."""
        for item in tables_of(elements, PRESENTATION_LUTS)[:1]:
            return cls(table=read_lookup_table(item, signed=False))
        shape = elements.text(PRESENTATION_LUT_SHAPE).upper()
        if shape in ("IDENTITY", "INVERSE"):
            return cls(shape == "INVERSE")
        return cls(photometric == "MONOCHROME1")


def padding_of(root: Elements, stored: StoredValues) -> tuple[float, float] | None:
    """The lowest and highest stored value that is no image (PS3.3 C.7.5.1.1.2)."""
    if not stored.is_float:
        value = root.word(PIXEL_PADDING_VALUE, signed=stored.is_signed)
        limit = root.word(PIXEL_PADDING_RANGE_LIMIT, signed=stored.is_signed)
        if value is None:
            return None
        return min(value, value if limit is None else limit), max(
            value, value if limit is None else limit
        )
    is_double = stored.bits == 64
    tags = (
        (DOUBLE_PIXEL_PADDING_VALUE, DOUBLE_PIXEL_PADDING_LIMIT)
        if is_double
        else (FLOAT_PIXEL_PADDING_VALUE, FLOAT_PIXEL_PADDING_LIMIT)
    )
    ends = [each for tag in tags for each in root.floats(tag, double=is_double)[:1]]
    return (min(ends), max(ends)) if ends else None


@dataclass(frozen=True, slots=True)
class GrayscaleRules:
    """Which transformations a frame goes through.

    Attributes:
        voi: None: the values that the frame has, or may have.
        is_automatic: those that it has, whatever it may have.
    """

    modality: ModalityTransformation
    voi: Voi | None
    presentation: PresentationTransformation
    padding: tuple[float, float] | None = None
    is_automatic: bool = False

    @classmethod
    def of_image(
        cls, frame: FrameElements, stored: StoredValues, photometric: str, options: RenderOptions
    ) -> GrayscaleRules:
        """Those of an image that is shown as it says itself."""
        root = frame.root
        modality = ModalityTransformation.of_frame(frame, signed=stored.is_signed)
        signed = modality.extent(stored)[0] < 0
        choices = VoiChoices.of(frame.macro(FRAME_VOI_LUTS) or [root])
        return cls(
            modality,
            choices.choose(options, signed=signed),
            PresentationTransformation.of(root, photometric),
            padding_of(root, stored),
            options.is_automatic,
        )


def render_grayscale(stored: StoredValues, rules: GrayscaleRules) -> Values:
    """The gray of each pixel, 0 to 255."""
    if stored.is_float or stored.bits > _TABLE_BITS:
        values = stored.values
        return _gray(values, rules, stored, lambda: _is_image(values, rules.padding))
    patterns = stored.patterns
    every = np.arange(1 << stored.bits, dtype=np.int64)
    values = stored.of_patterns(every)

    def in_use() -> Values:
        counts = np.bincount(patterns.reshape(-1), minlength=len(every))
        used: Values = (counts > 0) & _is_image(values, rules.padding)
        return used

    return _gray(values, rules, stored, in_use).take(patterns)


def _gray(
    values: Values, rules: GrayscaleRules, stored: StoredValues, in_use: Callable[[], Values]
) -> Values:
    meant = rules.modality.apply(values)
    if rules.voi is not None:
        shown = rules.voi(meant)
    else:
        if rules.is_automatic or stored.is_float or stored.bits > _PICTURE_BITS:
            used = meant[in_use()]
            low, high = (float(used.min()), float(used.max())) if used.size else (0.0, 0.0)
        else:
            low, high = rules.modality.extent(stored)
        shown = spread(meant, low, high)
    return to_octets(rules.presentation.apply(shown))


def _is_image(values: Values, padding: tuple[float, float] | None) -> Values:
    is_number = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if padding is None:
        return is_number
    found: Values = is_number & ~((values >= padding[0]) & (values <= padding[1]))
    return found


def to_octets(values: Values) -> Values:
    """Numbers from 0 to 1, and those that are none, as 0 to 255."""
    return np.floor(np.nan_to_num(values, nan=0.0) * TOP + 0.5).clip(0, TOP).astype(np.uint8)
