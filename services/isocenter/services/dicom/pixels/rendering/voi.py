"""VOI windows and lookup tables, from values to 0 to 1 (PS3.3 C.11.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.rendering.elements import (
    LUT_EXPLANATION,
    VOI_LUT_FUNCTION,
    VOI_LUTS,
    WINDOW_CENTER,
    WINDOW_EXPLANATION,
    WINDOW_WIDTH,
    Elements,
)
from isocenter.services.dicom.pixels.rendering.lookup_tables import read_lookup_table, tables_of
from isocenter.services.dicom.pixels.rendering.options import RenderOptions, VoiFunction, Window

Values = NDArray[Any]
#: Values in, numbers from 0 to 1 out.
Voi = Callable[[Values], Values]


def apply_window(values: Values, window: Window) -> Values:
    """Values through a window, as numbers from 0 to 1."""
    x = values.astype(np.float64, copy=False)
    center, width = window.center, window.width
    if window.function is VoiFunction.SIGMOID:
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-4 * (x - center) / width))
    if window.function is VoiFunction.LINEAR:
        center, width = center - 0.5, width - 1
    if width == 0:
        return (x > center).astype(np.float64)
    return ((x - center) / width + 0.5).clip(0, 1)


def spread(values: Values, low: float, high: float) -> Values:
    """Values from *low* to *high* as numbers from 0 to 1."""
    x = values.astype(np.float64, copy=False)
    # Halves, as the difference of two doubles may be none.
    width = high / 2 - low / 2
    if not width > 0:
        return np.where(x > high, 1.0, np.where(x < low, 0.0, 0.5 if low else 0.0))
    return ((x / 2 - low / 2) / width).clip(0, 1)


def whole_range(low: float, high: float) -> Voi:
    """What shows all values from *low* to *high*."""
    return lambda values: spread(values, low, high)


@dataclass(frozen=True, slots=True)
class VoiChoices:
    """The windows and VOI LUTs that an object offers, in their order.

    Attributes:
        windows, names: and their explanations; None: no possible window.
        tables, table_names: items of the VOI LUT Sequence.
    """

    windows: Sequence[Window | None]
    names: Sequence[str]
    tables: Sequence[Elements]
    table_names: Sequence[str]

    @classmethod
    def of(cls, holders: Sequence[Elements]) -> VoiChoices:
        """What a data set, or some items, offer."""
        windows: list[Window | None] = []
        names: list[str] = []
        tables: list[Elements] = []
        for elements in holders:
            found = _windows_of(elements)
            # As many names as windows, whatever the object says.
            explained = [*elements.texts(WINDOW_EXPLANATION), *[""] * len(found)][: len(found)]
            windows += [each if each.is_possible else None for each in found]
            names += explained
            tables += tables_of(elements, VOI_LUTS)
        return cls(windows, names, tables, [each.text(LUT_EXPLANATION) for each in tables])

    def choose(self, options: RenderOptions, *, signed: bool) -> Voi | None:
        """What the options ask for, else the first window or table; None: there is none.

        Args:
            signed: values may be negative.

        Raises:
            ImageError: what is asked for is not there.
        """
        if options.window is not None:
            return _through(options.window)
        if options.is_automatic:
            return None
        if options.window_number is not None:
            return _through(self._window(options.window_number - 1))
        if options.voi_lut_number is not None:
            return self._table(options.voi_lut_number - 1, signed=signed)
        if options.window_name:
            wanted = options.window_name.strip().casefold()
            for place, name in enumerate(self.names):
                if name.casefold() == wanted:
                    return _through(self._window(place))
            for place, name in enumerate(self.table_names):
                if name.casefold() == wanted:
                    return self._table(place, signed=signed)
            raise ImageError("the object has no window of that name")
        for window in self.windows:
            if window is not None:
                return _through(window)
        return self._table(0, signed=signed) if self.tables else None

    def _window(self, place: int) -> Window:
        window = self.windows[place] if place < len(self.windows) else None
        if window is None:
            raise ImageError(
                f"the object has {len(self.windows)} windows, and none with the number {place + 1}"
            )
        return window

    def _table(self, place: int, *, signed: bool) -> Voi:
        if place >= len(self.tables):
            raise ImageError(
                f"the object has {len(self.tables)} VOI LUTs, and none with the number {place + 1}"
            )
        table = read_lookup_table(self.tables[place], signed=signed)
        return lambda values: table.apply(values) / table.top


def _windows_of(elements: Elements) -> list[Window]:
    centers, widths = elements.decimals(WINDOW_CENTER), elements.decimals(WINDOW_WIDTH)
    try:
        function = VoiFunction(elements.text(VOI_LUT_FUNCTION).upper() or "LINEAR")
    except ValueError:
        function = VoiFunction.LINEAR
    pairs = zip(centers, widths)  # noqa: B905  # the shorter counts
    return [Window(center, width, function) for center, width in pairs]


def _through(window: Window) -> Voi:
    return lambda values: apply_window(values, window)
