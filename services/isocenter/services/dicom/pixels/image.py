"""Image description: what the Image Pixel Module says of the pixels (PS3.3 C.7.6.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal, Self

from isocenter.engine.dataset import PixelDataMap
from isocenter.engine.dataset.pixel_data import (
    DOUBLE_FLOAT_PIXEL_DATA,
    FLOAT_PIXEL_DATA,
    PIXEL_DATA_TAGS,
)
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.errors import ImageError

SAMPLES_PER_PIXEL: Final = 0x00280002
PHOTOMETRIC_INTERPRETATION: Final = 0x00280004
PLANAR_CONFIGURATION: Final = 0x00280006
NUMBER_OF_FRAMES: Final = 0x00280008
ROWS: Final = 0x00280010
COLUMNS: Final = 0x00280011
BITS_ALLOCATED: Final = 0x00280100
BITS_STORED: Final = 0x00280101
HIGH_BIT: Final = 0x00280102
PIXEL_REPRESENTATION: Final = 0x00280103
#: What a description is made of.
DESCRIBING: Final = frozenset(
    (
        SAMPLES_PER_PIXEL, PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION, NUMBER_OF_FRAMES,
        ROWS, COLUMNS, BITS_ALLOCATED, BITS_STORED, HIGH_BIT, PIXEL_REPRESENTATION,
    )
)  # fmt: skip

_NAMES: Final = {
    SAMPLES_PER_PIXEL: "Samples per Pixel",
    PLANAR_CONFIGURATION: "Planar Configuration",
    ROWS: "Rows",
    COLUMNS: "Columns",
    BITS_ALLOCATED: "Bits Allocated",
    BITS_STORED: "Bits Stored",
    HIGH_BIT: "High Bit",
    PIXEL_REPRESENTATION: "Pixel Representation",
}
_US_LENGTH: Final = 2
#: 1, or a multiple of 8 (PS3.5 8.1.1); 64 is what Double Float Pixel Data has.
_BITS_ALLOCATED: Final = (1, 8, 16, 24, 32, 64)
#: Cr and Cb of two pixels side by side are one (PS3.3 C.7.6.3.1.2).
_HALF_CHROMA: Final = ("YBR_FULL_422", "YBR_PARTIAL_422")
_MAX_SAMPLES: Final = 4
#: Longer than any defined term.
_MAX_TERM: Final = 16
_MAX_IS_LENGTH: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDescription:
    """How the pixels of one image are laid out.

    Attributes:
        pixel_representation: 1: samples are signed.
        planar_configuration: 1: of native frames, all of one sample before the next.
        number_of_frames: None: the data set does not say.
        is_float: samples are floating point numbers.
    """

    rows: int
    columns: int
    samples_per_pixel: int = 1
    bits_allocated: int = 8
    bits_stored: int = 8
    high_bit: int = 7
    pixel_representation: int = 0
    photometric_interpretation: str = "MONOCHROME2"
    planar_configuration: int = 0
    number_of_frames: int | None = None
    is_float: bool = False

    @property
    def is_signed(self) -> bool:
        return self.pixel_representation == 1

    @property
    def has_half_chroma(self) -> bool:
        """Whether native frames hold two samples for each pixel instead of three."""
        return self.samples_per_pixel == 3 and self.photometric_interpretation in _HALF_CHROMA

    @property
    def frame_bits(self) -> int:
        """Of one native frame, as it lies in Pixel Data, padding excluded."""
        samples = 2 if self.has_half_chroma else self.samples_per_pixel
        return self.rows * self.columns * samples * self.bits_allocated

    @property
    def frame_length(self) -> int:
        """Bytes of one native frame that stands alone."""
        return (self.frame_bits + 7) // 8

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a decoded frame as an array: rows, columns, and samples where there are several."""
        size = (self.rows, self.columns)
        return size if self.samples_per_pixel == 1 else (*size, self.samples_per_pixel)

    @property
    def decoded_length(self) -> int:
        """Bytes of one decoded frame: every sample of every pixel; single bits are bytes."""
        width = max(self.bits_allocated // 8, 1)
        return self.rows * self.columns * self.samples_per_pixel * width

    def exchange(self, **changes: Any) -> Self:
        """The same with other attributes."""
        return replace(self, **changes)

    @classmethod
    def of(cls, found: PixelDataMap, *, big_endian: bool = False) -> Self:
        """What a data set says, of which `DESCRIBING` was wanted.

        Attributes that may be missing have the value that follows from the others.

        Raises:
            ImageError: one is missing, impossible, or contradicts another.
        """
        element = found.pixel_data
        tag = None if element is None else element.tag
        return cls.from_values(found.values, big_endian=big_endian, pixel_data=tag)

    @classmethod
    def from_values(
        cls,
        values: Mapping[int, bytes],
        *,
        big_endian: bool = False,
        pixel_data: int | None = None,
    ) -> Self:
        """The same, of tag → raw value.

        Args:
            pixel_data: the tag of what holds the pixels; it tells whether they are floating
                point numbers.
        """
        order: Literal["big", "little"] = "big" if big_endian else "little"

        def number(tag: int, default: int | None = None) -> int:
            value = values.get(tag, b"")
            if len(value) >= _US_LENGTH:
                return int.from_bytes(value[:_US_LENGTH], order)
            if default is None:
                raise ImageError(f"the image has no {_NAMES[tag]}")
            return default

        assert pixel_data is None or pixel_data in PIXEL_DATA_TAGS
        is_float = pixel_data in (FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA)
        if is_float:
            allocated = stored = 64 if pixel_data == DOUBLE_FLOAT_PIXEL_DATA else 32
        else:
            allocated = number(BITS_ALLOCATED)
            stored = number(BITS_STORED, allocated)
        samples = number(SAMPLES_PER_PIXEL, 1)
        term = values.get(PHOTOMETRIC_INTERPRETATION, b"")[:_MAX_TERM].decode("ascii", "replace")
        made = cls(
            rows=number(ROWS),
            columns=number(COLUMNS),
            samples_per_pixel=samples,
            bits_allocated=allocated,
            bits_stored=stored,
            high_bit=number(HIGH_BIT, stored - 1),
            pixel_representation=0 if is_float else number(PIXEL_REPRESENTATION, 0),
            photometric_interpretation=term.strip(" \0").upper()
            or ("MONOCHROME2" if samples == 1 else "RGB"),
            planar_configuration=number(PLANAR_CONFIGURATION, 0) if samples > 1 else 0,
            number_of_frames=_number_of_frames(values.get(NUMBER_OF_FRAMES)),
            is_float=is_float,
        )
        made.check()
        return made

    def check(self) -> None:
        """Raise `ImageError` where this can be no image."""
        if not self.rows or not self.columns:
            raise ImageError(f"an image of {self.rows} × {self.columns} pixels")
        if not 1 <= self.samples_per_pixel <= _MAX_SAMPLES:
            raise ImageError(f"Samples per Pixel is {self.samples_per_pixel}")
        if self.bits_allocated not in _BITS_ALLOCATED:
            raise ImageError(f"Bits Allocated is {self.bits_allocated}")
        if not 1 <= self.bits_stored <= self.bits_allocated:
            raise ImageError(
                f"Bits Stored is {self.bits_stored}, Bits Allocated {self.bits_allocated}"
            )
        if self.pixel_representation not in (0, 1):
            raise ImageError(f"Pixel Representation is {self.pixel_representation}")
        if self.planar_configuration not in (0, 1):
            raise ImageError(f"Planar Configuration is {self.planar_configuration}")


def _number_of_frames(value: bytes | None) -> int | None:
    text = (value or b"").split(b"\\")[0].strip(b" \0")
    if not text:
        return None
    if len(text) > _MAX_IS_LENGTH or not text.lstrip(b"+").isdigit():
        # As good as nothing: the fragments show how many there are.
        return None
    # 0 is what some write who mean that there is one.
    return int(text) or 1
