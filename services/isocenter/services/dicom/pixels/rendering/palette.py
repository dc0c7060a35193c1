"""Palette colour lookup tables, plain and segmented (PS3.3 C.7.6.3.1.5, C.7.9.2)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.rendering.elements import (
    PALETTE_DATA,
    PALETTE_DESCRIPTORS,
    SEGMENTED_PALETTE_DATA,
    Elements,
)
from isocenter.services.dicom.pixels.rendering.lookup_tables import descriptor_of, entries_of

_DISCRETE: Final = 0
_LINEAR: Final = 1
_INDIRECT: Final = 2
#: Of the offset in an indirect segment, in bytes.
_OFFSET_LENGTH: Final = 4
_OCTET: Final = 0xFF
_WORD: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours that stand for the integers from *first* on.

    Attributes:
        colours: red, green and blue of each, 0 to 255.
    """

    colours: NDArray[Any]
    first: int

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        """The colour of each value; what lies outside has the first or last colour."""
        places = (values.astype(np.int64) - self.first).clip(0, len(self.colours) - 1)
        found: NDArray[Any] = self.colours[places]
        return found


def read_palette(elements: Elements, *, signed: bool) -> Palette:
    """The palette of an image.

    Args:
        signed: stored values are.

    Raises:
        ImageError: there is none, or it makes no sense.
    """
    columns = []
    firsts = []
    for descriptor, plain, segmented in zip(
        PALETTE_DESCRIPTORS, PALETTE_DATA, SEGMENTED_PALETTE_DATA, strict=True
    ):
        if descriptor not in elements:
            raise ImageError("the image has no palette of three colours (PS3.3 C.7.9)")
        count, first, bits = descriptor_of(elements, descriptor, signed=signed)
        if plain in elements:
            entries = entries_of(elements, plain, count)
        elif segmented in elements:
            entries = _segments_of(elements, segmented, bits).expand(count)
        else:
            raise ImageError("a colour of the palette has no data (PS3.3 C.7.9)")
        columns.append((entries, bits))
        firsts.append(first)
    # Some say 16 bits of what has 8, or the other way round: for all three the same.
    top = max(int(entries.max()) for entries, _ in columns)
    is_wide = top > _OCTET and any(bits > 8 for _, bits in columns)
    length = max(len(entries) for entries, _ in columns)
    colours = np.zeros((length, 3), np.uint8)
    for place, (entries, _) in enumerate(columns):
        octets = np.rint(entries * (_OCTET / _WORD)) if is_wide else entries & _OCTET
        if not is_wide and top > _OCTET:
            octets = entries >> 8
        colours[: len(entries), place] = octets
        colours[len(entries) :, place] = octets[-1]
    return Palette(colours, firsts[0])


def _segments_of(elements: Elements, tag: int, bits: int) -> Segments:
    """The codes of segmented data: bytes, or words."""
    raw = elements.values[tag]
    if bits > 8:
        order = ">" if elements.is_big_endian else "<"
        words = np.frombuffer(raw[: len(raw) // 2 * 2], f"{order}u2")
        return Segments(words.tolist(), 2)
    octets = np.frombuffer(raw, np.uint8)
    if elements.is_big_endian and len(raw) % 2 == 0:
        octets = octets.reshape(-1, 2)[:, ::-1].reshape(-1)
    return Segments(octets.tolist(), 1)


@dataclass(frozen=True, slots=True)
class Segments:
    """The codes of a segmented palette.

    Attributes:
        width: of each, in bytes.
    """

    codes: list[int]
    width: int

    def expand(self, count: int) -> NDArray[Any]:
        """The entries that they stand for; at most *count*.

        Raises:
            ImageError: they are no segments.
        """
        entries: list[int] = []
        pos = 0
        # What is left over behind the last entry is padding.
        while pos + 1 < len(self.codes) and len(entries) < count:
            pos = self._segment(pos, entries, count, is_copy=False)
        if not entries:
            raise ImageError("a segmented palette has no segments (PS3.3 C.7.9.2)")
        return np.array(entries[:count], np.uint16)

    def _segment(self, pos: int, entries: list[int], count: int, *, is_copy: bool) -> int:
        """Take in the segment at *pos*; where the next one is."""
        codes = self.codes
        opcode, length = codes[pos : pos + 2] if pos + 1 < len(codes) else (-1, 0)
        body = pos + 2
        if opcode == _DISCRETE:
            entries += codes[body : body + length]
            return body + length
        if opcode == _LINEAR and body < len(codes) and length:
            if not entries:
                raise ImageError("a palette begins with a linear segment (PS3.3 C.7.9.2.2)")
            first, last = entries[-1], codes[body]
            entries += [
                int(first + (last - first) * step / length + 0.5) for step in range(1, length + 1)
            ]
            return body + 1
        width = _OFFSET_LENGTH // self.width
        if opcode == _INDIRECT and not is_copy and body + width <= len(codes):
            parts = [code.to_bytes(self.width, "little") for code in codes[body : body + width]]
            copied = int.from_bytes(b"".join(parts), "little") // self.width
            for _ in range(length):
                if len(entries) >= count:
                    break
                copied = self._segment(copied, entries, count, is_copy=True)
            return body + width
        raise ImageError("a segment of a palette makes no sense (PS3.3 C.7.9.2)")
