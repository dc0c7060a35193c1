"""Overlays: planes of single bits over an image (PS3.3 C.9.2), also within its pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.rendering.elements import OVERLAY_GROUPS, Elements
from isocenter.services.dicom.pixels.rendering.stored_values import StoredValues

_ROWS: Final = 0x0010
_COLUMNS: Final = 0x0011
_NUMBER_OF_FRAMES: Final = 0x0015
_TYPE: Final = 0x0040
_ORIGIN: Final = 0x0050
_FRAME_ORIGIN: Final = 0x0051
_BITS_ALLOCATED: Final = 0x0100
_BIT_POSITION: Final = 0x0102
_ACTIVATION_LAYER: Final = 0x1001
_DATA: Final = 0x3000


@dataclass(frozen=True, slots=True)
class Overlay:
    """One plane over one frame.

    Attributes:
        group: in which it is.
        bits: of the size of the image; True where something is drawn.
        is_region: it marks a region of interest, and is no graphics.
        layer: of a presentation state that shows it; empty: none says it.
    """

    group: int
    bits: NDArray[Any]
    is_region: bool
    layer: str


def overlays_of(
    elements: Elements, size: tuple[int, int], frame: int, stored: StoredValues | None
) -> Iterator[Overlay]:
    """The overlays of a frame; what makes no sense is none.

    Args:
        size: of the image, rows and columns.
        frame: its number, from 0 on.
        stored: its pixels, if overlays may be in them: as they were stored, not as a lossy
            codestream has them.
    """
    for group in OVERLAY_GROUPS:
        bits = _plane(elements, group << 16, size, frame, stored)
        if bits is not None and bits.any():
            yield Overlay(
                group,
                bits,
                elements.text(group << 16 | _TYPE).upper() == "R",
                elements.text(group << 16 | _ACTIVATION_LAYER),
            )


def _plane(
    elements: Elements,
    group: int,
    size: tuple[int, int],
    frame: int,
    stored: StoredValues | None,
) -> NDArray[Any] | None:
    rows, columns = elements.word(group | _ROWS), elements.word(group | _COLUMNS)
    if group | _DATA not in elements:
        position = elements.word(group | _BIT_POSITION)
        is_embedded = (elements.word(group | _BITS_ALLOCATED) or 1) > 1
        if stored is None or stored.is_float or position is None or not is_embedded:
            return None
        if not _is_beside(position, stored) or stored.words.ndim != 2:
            return None
        bits: NDArray[Any] = (stored.words >> stored.words.dtype.type(position)) & 1 == 1
        return bits
    if not rows or not columns:
        return None
    number = _frame_of(elements, group, frame)
    if number is None:
        return None
    raw = elements.values[group | _DATA]
    start = number * rows * columns
    octets = np.frombuffer(raw, np.uint8)[start // 8 : (start + rows * columns + 7) // 8]
    if elements.is_big_endian and elements.vrs.get(group | _DATA) == "OW":
        whole = np.frombuffer(raw[: len(raw) // 2 * 2], np.uint8).reshape(-1, 2)[:, ::-1]
        octets = whole.reshape(-1)[start // 8 : (start + rows * columns + 7) // 8]
    plane_bits = np.unpackbits(octets, bitorder="little")[start % 8 :][: rows * columns]
    if len(plane_bits) < rows * columns:
        return None
    return _placed(plane_bits.reshape(rows, columns) == 1, elements, group, size)


def _is_beside(position: int, stored: StoredValues) -> bool:
    """Whether a bit is none of those that count."""
    is_inside = stored.shift <= position < stored.shift + stored.bits
    return not is_inside and position < 8 * stored.words.dtype.itemsize


def _frame_of(elements: Elements, group: int, frame: int) -> int | None:
    """Which plane of the overlay belongs to a frame; None: none does."""
    frames = elements.integer(group | _NUMBER_OF_FRAMES)
    if frames is None:
        return 0  # one for all
    first = elements.word(group | _FRAME_ORIGIN) or 1
    plane = frame - (first - 1)
    return plane if 0 <= plane < max(frames, 1) else None


def _placed(
    bits: NDArray[Any], elements: Elements, group: int, size: tuple[int, int]
) -> NDArray[Any] | None:
    origin = elements.words(group | _ORIGIN, signed=True)
    top, left = (origin[0] - 1, origin[1] - 1) if len(origin) >= 2 else (0, 0)
    whole = np.zeros(size, bool)
    rows = range(max(top, 0), min(top + bits.shape[0], size[0]))
    columns = range(max(left, 0), min(left + bits.shape[1], size[1]))
    if not rows or not columns:
        return None
    whole[rows.start : rows.stop, columns.start : columns.stop] = bits[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    return whole
