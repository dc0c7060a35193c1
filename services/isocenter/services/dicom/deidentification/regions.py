"""Regions of images, with what becomes of the pixels (PS3.15 E.3.1)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.data_set_nodes import ItemNode
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.pool import DecodedFrame

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ULTRASOUND_REGIONS: Final = 0x00186011
#: Region Location Min X0, Min Y0, Max X1, Max Y1 (PS3.3 C.8.5.5.1.15).
_CORNERS: Final = (0x00186018, 0x0018601A, 0x0018601C, 0x0018601E)
_MIDDLE: Final = {8: 128, 16: 1 << 15}


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of pixels, its first column and row from 0 on."""

    x: int
    y: int
    width: int
    height: int

    def meets(self, other: Region) -> bool:
        """Whether the two have a pixel in common."""
        return (
            max(self.x, other.x) < min(self.x + self.width, other.x + other.width)
            and max(self.y, other.y) < min(self.y + self.height, other.y + other.height)
        )  # fmt: skip

    def covers(self, other: Region) -> bool:
        """Whether it has all pixels of *other*."""
        return (
            self.x <= other.x
            and self.y <= other.y
            and self.x + self.width >= other.x + other.width
            and self.y + self.height >= other.y + other.height
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelMask:
    """What becomes of the pixels of an image.

    Attributes:
        blackened: rectangles in which nothing stays.
        kept: rectangles outside of which nothing stays; none: everything may.
        clears_unused_bits: whether bits that hold no sample, and so may hold an overlay, are
            cleared.
    """

    blackened: tuple[Region, ...] = ()
    kept: tuple[Region, ...] = ()
    clears_unused_bits: bool = False

    def __bool__(self) -> bool:
        return bool(self.blackened or self.kept or self.clears_unused_bits)

    def blackens_some(self, rows: int, columns: int) -> bool:
        """Whether rectangles blacken some of an image of that size: one for a larger image, or a
        picture that fills the whole, say nothing of where somebody is named."""
        whole = Region(0, 0, columns, rows)
        return any(region.meets(whole) for region in self.blackened) or (
            bool(self.kept) and not any(region.covers(whole) for region in self.kept)
        )

    def apply(self, frame: DecodedFrame) -> DecodedFrame:
        """The frame without what has to go."""
        import numpy as np

        image = frame.image
        kind = "f" if image.is_float else "i" if image.is_signed else "u"
        width = max(image.bits_allocated // 8, 1)
        pixels = np.frombuffer(frame.samples, f"<{kind}{width}").reshape(image.shape).copy()
        if self.clears_unused_bits:
            _clear_unused_bits(pixels, image)
        black = _black(pixels, image)
        if self.kept:
            outside = np.ones(image.shape[:2], bool)
            for region in self.kept:
                outside[_slices(region)] = False
            pixels[outside] = black
        for region in self.blackened:
            pixels[_slices(region)] = black
        return DecodedFrame(pixels.tobytes(), image)


def _slices(region: Region) -> tuple[slice, slice]:
    x, y = max(region.x, 0), max(region.y, 0)
    return (
        slice(y, max(region.y + region.height, 0)),
        slice(x, max(region.x + region.width, 0)),
    )


def _black(pixels: NDArray[Any], image: ImageDescription) -> Any:
    """What a viewer shows as black, within the range of the samples that are there."""
    term = image.photometric_interpretation
    if term.startswith("YBR"):
        middle = _MIDDLE.get(image.bits_allocated, 128)
        return (0, middle, middle)
    if term == "MONOCHROME1":
        return pixels.max()
    if image.samples_per_pixel == 1 and term == "MONOCHROME2":
        return pixels.min()
    return 0


def _clear_unused_bits(pixels: NDArray[Any], image: ImageDescription) -> None:
    """Clear bits above and below those of a sample; above signed ones stands the sign."""
    if image.is_float or image.bits_allocated in (image.bits_stored, 1):
        return
    lowest = image.high_bit + 1 - image.bits_stored
    used = ((1 << image.bits_stored) - 1) << max(lowest, 0)
    if image.is_signed:
        used |= -1 << image.high_bit
    pixels &= pixels.dtype.type(used)


def ultrasound_regions(tree: DataSetTree) -> tuple[Region, ...]:
    """Where the picture is, in an image that also shows who it is of."""
    found = []
    for node in tree.root.all(_ULTRASOUND_REGIONS):
        for item in node.items or ():
            corners = [_number(tree, item, tag) for tag in _CORNERS]
            x0, y0, x1, y1 = corners
            if None in corners or x0 is None or y0 is None or x1 is None or y1 is None:
                continue
            if x1 > x0 and y1 > y0:
                found.append(Region(x0, y0, x1 - x0 + 1, y1 - y0 + 1))
    return tuple(found)


def _number(tree: DataSetTree, item: ItemNode, tag: int) -> int | None:
    for node in item.all(tag):
        if node.items is None and tree.length(node) >= 4:
            sign = ">" if node.codec.big_endian else "<"
            (number,) = struct.unpack_from(f"{sign}I", tree.value(node))
            return int(number)
    return None
