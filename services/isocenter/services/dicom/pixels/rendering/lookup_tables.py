"""Lookup tables of modality, VOI and presentation (PS3.3 C.11.1, C.11.2, C.11.6).

Of real tables some say another number of bits than their values have, hold bytes where they say
words, or are shorter than announced: what their values say counts.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.rendering.elements import (
    LUT_DATA,
    LUT_DESCRIPTOR,
    Elements,
)

_MOST_ENTRIES: Final = 1 << 16
_DESCRIPTOR_VALUES: Final = 3
_SIGN_BIT: Final = 1 << 15


@dataclass(frozen=True, slots=True)
class LookupTable:
    """Numbers that stand for the integers from *first* on.

    Attributes:
        bits: of the largest number that it may give.
    """

    entries: NDArray[Any]
    first: int
    bits: int

    @property
    def top(self) -> int:
        """The largest number that it may give."""
        return (1 << self.bits) - 1

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        """What stands for *values*; what lies outside gets the first or last entry."""
        places = np.floor(values) if values.dtype.kind == "f" else values.astype(np.int64)
        places = (places - self.first).clip(0, len(self.entries) - 1)
        return self.entries[places.astype(np.int64)]


def tables_of(elements: Elements, sequence: int) -> list[Elements]:
    """The items of a LUT sequence; some write one with nothing in it where there is no table."""
    return [item for item in elements.items(sequence) if LUT_DATA in item or LUT_DESCRIPTOR in item]


def descriptor_of(elements: Elements, tag: int, *, signed: bool) -> tuple[int, int, int]:
    """Number of entries, first value that is mapped, and bits for each entry.

    Args:
        signed: whether the first value is, where the data set does not say.
    """
    words = elements.words(tag)
    if len(words) < _DESCRIPTOR_VALUES:
        raise ImageError("a lookup table has no descriptor of three numbers (PS3.3 C.11.1.1)")
    entries, first, bits = words[:_DESCRIPTOR_VALUES]
    said = elements.is_signed(tag)
    if first >= _SIGN_BIT and (signed if said is None else said or signed):
        first -= 2 * _SIGN_BIT
    return entries or _MOST_ENTRIES, first, bits


def entries_of(elements: Elements, tag: int, count: int) -> NDArray[Any]:
    """At most so many entries, of a byte or a word each."""
    raw = elements.values.get(tag, b"")
    if len(raw) < 2:
        raise ImageError("a lookup table has no data (PS3.3 C.11.1.1)")
    words = np.frombuffer(raw[: len(raw) // 2 * 2], ">u2" if elements.is_big_endian else "<u2")
    if len(raw) in (count, count + count % 2) and count > 1:
        # Two to a word, the first in the lower half.
        octets = words.astype("<u2").view(np.uint8) if len(raw) % 2 == 0 else None
        if octets is None:
            octets = np.frombuffer(raw, np.uint8)
        return octets[:count]
    return words[:count].astype(np.uint16)


def read_lookup_table(
    elements: Elements,
    *,
    signed: bool,
    descriptor: int = LUT_DESCRIPTOR,
    data: int = LUT_DATA,
) -> LookupTable:
    """The table of an item of a LUT sequence.

    Raises:
        ImageError: it is none.
    """
    count, first, bits = descriptor_of(elements, descriptor, signed=signed)
    entries = entries_of(elements, data, count)
    needed = int(entries.max()).bit_length()
    if not 1 <= bits <= 16 or needed > bits:
        bits = max(needed, 8)
    return LookupTable(entries, first, bits)
