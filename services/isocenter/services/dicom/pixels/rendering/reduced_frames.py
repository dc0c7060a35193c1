"""Frames at a lower resolution, for pictures much smaller than they are.

Only HTJ2K can be decoded so here, and only where a sample has bits to spare: the low frequencies
of a wavelet transform go a little beyond the values of the image, and would come round at the end
of the numbers.  Of other frames a quick picture takes samples.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from isocenter.services.dicom.pixels.codestreams import check_codestream, read_codestream
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.rendering.geometry import Geometry
from isocenter.services.dicom.pixels.rendering.stored_values import StoredValues
from isocenter.services.dicom.pixels.transfer_syntaxes import Codec

#: Each one halves the image.
_MOST_LEVELS: Final = 3
_WORD_BITS: Final = 16
#: Of a quick picture, in a row or column for each of its pixels.
_SAMPLES: Final = 4


def levels_for(geometry: Geometry, image: ImageDescription, codec: Codec | None) -> int:
    """How often the image can be halved, and still has more pixels than the picture."""
    is_possible = (
        codec is Codec.HTJ2K
        and image.samples_per_pixel == 1
        and image.bits_allocated == _WORD_BITS
        and image.bits_stored < _WORD_BITS
    )
    if not is_possible or geometry.quarters % 2:
        return 0
    ratio = min(
        (geometry.right - geometry.left) / geometry.width,
        (geometry.bottom - geometry.top) / geometry.height,
    )
    return min(int(math.log2(ratio)), _MOST_LEVELS) if ratio > 1 else 0


def decode_reduced(data: bytes, image: ImageDescription, levels: int) -> StoredValues | None:
    """The samples of a frame that was halved so often; None: its codestream does not offer that.

    Raises:
        ImageError: it is not what the data set says.
    """
    import imagecodecs

    found = read_codestream(Codec.HTJ2K, data)
    assert found is not None
    check_codestream(Codec.HTJ2K, found, image)
    try:
        samples = imagecodecs.htj2k_decode(data[found.start :], skipres=levels)
    except MemoryError:
        raise
    except Exception:
        return None  # fewer levels than that, or damaged: the whole frame tells
    step = 1 << levels
    if samples.shape != (-(-image.rows // step), -(-image.columns // step)):
        return None
    if samples.dtype.itemsize * 8 != _WORD_BITS:
        return None
    half = 1 << (image.bits_stored - 1)
    low, high = (-half, half - 1) if image.is_signed else (0, 2 * half - 1)
    words = samples.view(np.int16).clip(low, high).astype(np.int16).view(np.uint16)
    return StoredValues(words, image.bits_stored, 0, is_signed=image.is_signed)


def sampled(stored: StoredValues, step: int) -> StoredValues:
    """Every so many rows and columns."""
    return replace(stored, words=np.ascontiguousarray(stored.words[::step, ::step]))


def step_for(geometry: Geometry) -> int:
    """Every how many rows and columns still make each pixel of the picture of four by four."""
    ratio = min(
        (geometry.right - geometry.left) / geometry.width,
        (geometry.bottom - geometry.top) / geometry.height,
    )
    return 1 if geometry.quarters % 2 else max(int(ratio / _SAMPLES), 1)


def geometry_of_reduced(geometry: Geometry, step: int) -> Geometry:
    """The same part of an image of which every so many rows and columns are left."""

    def scaled(edge: float) -> float:
        return (edge - 0.5) / step + 0.5

    return replace(
        geometry,
        left=scaled(geometry.left),
        top=scaled(geometry.top),
        right=scaled(geometry.right),
        bottom=scaled(geometry.bottom),
    )
