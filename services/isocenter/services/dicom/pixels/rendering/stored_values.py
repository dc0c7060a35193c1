"""Stored values of a decoded frame, with their sign (PS3.5 8.1.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.image import ImageDescription

_WIDTHS = (8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class StoredValues:
    """The samples of a frame.

    Attributes:
        words: as they lie in the frame: Bits Allocated each, unsigned unless they are floating
            point numbers; rows, columns, and samples where there are several.
        bits: that count.
        shift: bits below them.
    """

    words: NDArray[Any]
    bits: int
    shift: int
    is_signed: bool

    @property
    def is_float(self) -> bool:
        return self.words.dtype.kind == "f"

    @property
    def patterns(self) -> NDArray[Any]:
        """The bits that count, as unsigned numbers."""
        words = self.words
        if self.shift:
            words = words >> words.dtype.type(self.shift)
        if self.bits + self.shift < 8 * words.dtype.itemsize:
            words = words & words.dtype.type((1 << self.bits) - 1)
        return words

    def of_patterns(self, patterns: NDArray[Any]) -> NDArray[Any]:
        """The values that *patterns* stand for."""
        if not self.is_signed:
            return patterns
        wide = patterns.astype(np.int64)
        half = 1 << (self.bits - 1)
        return np.where(wide >= half, wide - 2 * half, wide)

    @property
    def values(self) -> NDArray[Any]:
        """The stored values."""
        return self.words if self.is_float else self.of_patterns(self.patterns)


def stored_values(samples: bytes, image: ImageDescription, *, is_aligned: bool) -> StoredValues:
    """The samples of a decoded frame.

    Args:
        is_aligned: the samples are those of a codestream, which has no bits below them.

    Raises:
        ImageError: there is no array of such samples.
    """
    if image.is_float:
        words = np.frombuffer(samples, f"<f{image.bits_allocated // 8}").reshape(image.shape)
        return StoredValues(words, image.bits_allocated, 0, is_signed=True)
    allocated = max(image.bits_allocated, 8)
    if allocated not in _WIDTHS:
        raise ImageError(f"Bits Allocated is {allocated}: such pixels are not rendered")
    words = np.frombuffer(samples, f"<u{allocated // 8}").reshape(image.shape)
    shift = 0 if is_aligned else max(image.high_bit + 1 - image.bits_stored, 0)
    if image.bits_stored + shift > allocated:
        shift = 0
    return StoredValues(words, image.bits_stored, shift, is_signed=image.is_signed)
