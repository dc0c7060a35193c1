"""Film values: size, image boxes, and the images in them (PS3.3 C.13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field, replace
from enum import Enum
from typing import Any, Final, Self

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.film.density import DensityRange
from isocenter.services.dicom.film.display_format import DisplayFormat
from isocenter.services.dicom.pixels.image import ImageDescription

MILLIMETRES_PER_INCH: Final = 25.4
#: Width and height in portrait, in millimetres, by Film Size ID (2010,0050).
FILM_SIZES: Final[Mapping[str, tuple[float, float]]] = {
    "8INX10IN": (203.2, 254.0),
    "8_5INX11IN": (215.9, 279.4),
    "10INX12IN": (254.0, 304.8),
    "10INX14IN": (254.0, 355.6),
    "11INX14IN": (279.4, 355.6),
    "11INX17IN": (279.4, 431.8),
    "14INX14IN": (355.6, 355.6),
    "14INX17IN": (355.6, 431.8),
    "24CMX24CM": (240.0, 240.0),
    "24CMX30CM": (240.0, 300.0),
    "A4": (210.0, 297.0),
    "A3": (297.0, 420.0),
}
#: Texts of one film: three at its top, three at its bottom, from left to right.
ANNOTATIONS: Final = 6
#: Between two image boxes.
_GAP_MILLIMETRES: Final = 1.0
#: Height of the strips of annotations.
_STRIP_MILLIMETRES: Final = 7.0
#: What two sizes may differ by and be the same.
_SAME: Final = 1e-6


class Magnification(Enum):
    """Magnification Type (2010,0060): how an image is brought to the size of its box."""

    REPLICATE = "REPLICATE"
    BILINEAR = "BILINEAR"
    CUBIC = "CUBIC"
    #: It is not: a pixel of the image is one of the film.
    NONE = "NONE"


class TooLarge(Enum):
    """Requested Decimate/Crop Behavior (2020,0040): what becomes of an image larger than its
    box."""

    DECIMATE = "DECIMATE"
    CROP = "CROP"
    FAIL = "FAIL"


class Fitting(Enum):
    """What became of an image that was asked for larger than its box."""

    FITS = "fits"
    DEMAGNIFIED = "demagnified"
    DECIMATED = "decimated"
    CROPPED = "cropped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PresentationLut:
    """What makes P-values of pixel values (PS3.3 C.11.4).

    Attributes:
        shape: IDENTITY or LIN OD; empty: there is a table.
        entries: of the table, 16 bits each, little endian.
        first, bits: from its LUT Descriptor.
    """

    shape: str = "IDENTITY"
    entries: bytes = field(default=b"", repr=False)
    first: int = 0
    bits: int = 0


IDENTITY: Final = PresentationLut()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmImage:
    """An image in its box.

    Attributes:
        data: one native frame, little endian.
        shape: height of a pixel by its width.
        is_reverse: Polarity (2020,0020).
        magnification: None: that of the film.
        requested_width: of the image on the film, in millimetres.
        too_large: what is done if it is larger than its box; None: nobody says.
        lut: None: that of the film.
        densities: None: those of the film.
    """

    image: ImageDescription
    data: bytes = field(repr=False)
    shape: float = 1.0
    is_reverse: bool = False
    magnification: Magnification | None = None
    requested_width: float | None = None
    too_large: TooLarge | None = None
    lut: PresentationLut | None = None
    densities: DensityRange | None = None


@dataclass(frozen=True, slots=True)
class PixelBox:
    """A rectangle of the film, in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Placement:
    """How large an image becomes; where that is more than its box, its middle is seen."""

    width: int
    height: int
    fitting: Fitting


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """One film.

    Attributes:
        size: a key of `FILM_SIZES`.
        border, empty: density between images, and of boxes without one, in hundredths of OD.
        has_trim: a line is drawn around each image.
        annotations: texts by position, `ANNOTATIONS` of them, or none if there is no room kept
            for them.
        images: by position; None: the box is empty.
    """

    display_format: DisplayFormat
    size: str = "8INX10IN"
    is_landscape: bool = False
    dots_per_inch: int = 150
    magnification: Magnification = Magnification.BILINEAR
    densities: DensityRange = field(default_factory=DensityRange)
    border: int | None = None
    empty: int | None = None
    has_trim: bool = False
    lut: PresentationLut = IDENTITY
    annotations: tuple[str, ...] = field(default=(), repr=False)
    images: tuple[FilmImage | None, ...] = ()

    @property
    def pixel_size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = FILM_SIZES[self.size]
        if self.is_landscape:
            width, height = height, width
        return self._pixels(width), self._pixels(height)

    def _pixels(self, millimetres: float) -> int:
        return max(round(millimetres / MILLIMETRES_PER_INCH * self.dots_per_inch), 1)

    @property
    def strip(self) -> int:
        """Height of the strips of annotations at top and bottom, in pixels."""
        return self._pixels(_STRIP_MILLIMETRES) if self.annotations else 0

    def boxes(self) -> list[PixelBox]:
        """Where the images go, by position."""
        width, height = self.pixel_size
        gap, strip = self._pixels(_GAP_MILLIMETRES), self.strip
        height -= 2 * strip
        found = []
        for box in self.display_format.boxes:
            left, right = round(box.left * width), round((box.left + box.width) * width)
            top, bottom = round(box.top * height), round((box.top + box.height) * height)
            found.append(
                PixelBox(
                    left + (gap + 1) // 2,
                    strip + top + (gap + 1) // 2,
                    max(right - left - gap, 1),
                    max(bottom - top - gap, 1),
                )
            )
        return found

    def placement(self, image: FilmImage, box: PixelBox) -> Placement:
        """How large an image becomes in its box."""
        columns, rows = float(image.image.columns), float(image.image.rows)
        if image.shape >= 1:
            rows *= image.shape
        else:
            columns /= image.shape
        scale = min(box.width / columns, box.height / rows)
        magnification = image.magnification or self.magnification
        wanted = None
        if image.requested_width is not None:
            wanted = image.requested_width / MILLIMETRES_PER_INCH * self.dots_per_inch / columns
        elif magnification is Magnification.NONE:
            wanted = 1.0
        fitting = Fitting.FITS
        if wanted is not None and wanted > scale * (1 + _SAME):
            match image.too_large:
                case None:
                    fitting = Fitting.DEMAGNIFIED
                case TooLarge.DECIMATE:
                    fitting = Fitting.DECIMATED
                case TooLarge.CROP:
                    fitting, scale = Fitting.CROPPED, wanted
                case TooLarge.FAIL:
                    fitting = Fitting.FAILED
        elif wanted is not None:
            scale = wanted
        size = max(round(columns * scale), 1), max(round(rows * scale), 1)
        if fitting is not Fitting.CROPPED:
            size = min(size[0], box.width), min(size[1], box.height)
        return Placement(*size, fitting)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes the same film of, but for the pixels."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "display_format": self.display_format.text,
            "magnification": self.magnification.value,
            "densities": asdict(self.densities),
            "lut": _lut_to_json(self.lut),
            "annotations": list(self.annotations),
            "images": [image and _image_to_json(image) for image in self.images],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """The film that `to_json` made this of, with no pixels."""
        return cls(
            **{name: found[name] for name in _PLAIN},
            display_format=DisplayFormat.parse(found["display_format"]),
            magnification=Magnification(found["magnification"]),
            densities=DensityRange(**found["densities"]),
            lut=_lut_from_json(found["lut"]),
            annotations=tuple(found["annotations"]),
            images=tuple(image and _image_from_json(image) for image in found["images"]),
        )

    def with_pixels(self, pixels: bytes) -> Self:
        """With pixels that lie one image after the other."""
        images: list[FilmImage | None] = []
        place = 0
        for image in self.images:
            if image is not None:
                length = image.image.frame_length
                image = replace(image, data=pixels[place : place + length])
                place += length
            images.append(image)
        return replace(self, images=tuple(images))


_PLAIN: Final = ("size", "is_landscape", "dots_per_inch", "border", "empty", "has_trim")


def _lut_to_json(lut: PresentationLut) -> list[Any]:
    return [lut.shape, lut.entries.hex(), lut.first, lut.bits]


def _lut_from_json(found: list[Any]) -> PresentationLut:
    return PresentationLut(found[0], bytes.fromhex(found[1]), found[2], found[3])


def _image_to_json(image: FilmImage) -> dict[str, Any]:
    return {
        "image": asdict(image.image),
        "shape": image.shape,
        "is_reverse": image.is_reverse,
        "magnification": image.magnification and image.magnification.value,
        "requested_width": image.requested_width,
        "too_large": image.too_large and image.too_large.value,
        "lut": image.lut and _lut_to_json(image.lut),
        "densities": image.densities and asdict(image.densities),
    }


def _image_from_json(found: Mapping[str, Any]) -> FilmImage:
    return FilmImage(
        image=ImageDescription(**found["image"]),
        data=b"",
        shape=found["shape"],
        is_reverse=found["is_reverse"],
        magnification=found["magnification"] and Magnification(found["magnification"]),
        requested_width=found["requested_width"],
        too_large=found["too_large"] and TooLarge(found["too_large"]),
        lut=found["lut"] and _lut_from_json(found["lut"]),
        densities=found["densities"] and DensityRange(**found["densities"]),
    )
