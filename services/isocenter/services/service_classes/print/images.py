"""Images and presentation LUTs of print requests, read and judged (PS3.3 C.13.5, C.11.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, TypeVar

from isocenter.engine.dataset import Item
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dimse.status import Status
from isocenter.services.dicom.attribute_list import AttributeList, text_of
from isocenter.services.dicom.film.film import (
    FilmImage,
    Magnification,
    PresentationLut,
    TooLarge,
)
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.image import (
    BITS_ALLOCATED,
    BITS_STORED,
    COLUMNS,
    DESCRIBING,
    HIGH_BIT,
    PHOTOMETRIC_INTERPRETATION,
    PIXEL_REPRESENTATION,
    ROWS,
    SAMPLES_PER_PIXEL,
    ImageDescription,
)
from isocenter.services.service_classes.print import attributes as tags
from isocenter.services.service_classes.print.attributes import PrintError
from isocenter.services.service_classes.print.film_session import plain_bytes, wrong

T = TypeVar("T")
_PIXEL_DATA: Final = 0x7FE00010
_REQUIRED: Final = (
    SAMPLES_PER_PIXEL, PHOTOMETRIC_INTERPRETATION, ROWS, COLUMNS, BITS_ALLOCATED, BITS_STORED,
    HIGH_BIT, PIXEL_REPRESENTATION, _PIXEL_DATA,
)  # fmt: skip
_GRAYSCALE: Final = ("MONOCHROME1", "MONOCHROME2")
#: Sides of an image: what a film of the largest size and resolution has, four times over.
MAX_SIDE: Final = 1 << 15
_ODDEST_SHAPE: Final = 20.0
#: Of a film, in millimetres.
_WIDEST: Final = 1000.0
_WORD: Final = 2
_MOST_ENTRIES: Final = 1 << 16
_TABLE_BITS: Final = range(8, 17)
_DESCRIPTOR_BYTES: Final = 6


def image_of(given: AttributeList, sequence: int) -> FilmImage | None:
    """The image that an N-SET brings; None: it takes away the one that is there.

    Args:
        sequence: the tag of the image sequence.

    Raises:
        PrintError: 0106H, 0120H, 0121H: there is no image, or none that can be printed.
    """
    items = given.items(sequence)
    if not items:
        return None
    if len(items) > 1:
        raise wrong(sequence, "has more than one item")
    item = items[0]
    for tag in _REQUIRED:
        if tag not in item:
            raise PrintError(Status.MISSING_ATTRIBUTE, f"{tag_text(tag)} missing", [sequence, tag])
        if not plain_bytes(item, tag):
            raise PrintError(
                Status.MISSING_ATTRIBUTE_VALUE, f"{tag_text(tag)} empty", [sequence, tag]
            )
    described = _described(item, sequence)
    pixels = plain_bytes(item, _PIXEL_DATA)
    length = described.frame_length
    # Odd lengths are padded; what lies behind an image is not part of it.
    if len(pixels) < length:
        raise PrintError(
            Status.INVALID_ATTRIBUTE_VALUE,
            f"{len(pixels)} bytes of pixels; the image has {length}",
            [sequence, _PIXEL_DATA],
        )
    return FilmImage(image=described, data=pixels[:length], shape=_shape(item))


def _described(item: Item, sequence: int) -> ImageDescription:
    try:
        described = ImageDescription.from_values(
            {tag: plain_bytes(item, tag) for tag in DESCRIBING if tag in item}
        )
    except ImageError as error:
        raise PrintError(Status.INVALID_ATTRIBUTE_VALUE, str(error), [sequence]) from error
    is_colour = sequence == tags.COLOR_IMAGES
    photometric = described.photometric_interpretation
    fault = ""
    if described.samples_per_pixel != (3 if is_colour else 1):
        fault = f"Samples per Pixel is {described.samples_per_pixel}"
    elif photometric not in (("RGB",) if is_colour else _GRAYSCALE):
        fault = f"{photometric} is not printed" if photometric.isprintable() else "photometry"
    elif described.bits_allocated not in ((8,) if is_colour else (8, 16)):
        fault = f"Bits Allocated is {described.bits_allocated}"
    elif described.is_signed:
        fault = "Pixel Representation is 1"
    elif max(described.rows, described.columns) > MAX_SIDE:
        fault = f"an image of more than {MAX_SIDE} pixels a side"
    elif described.number_of_frames not in (None, 1):
        fault = "an image of several frames"
    if fault:
        raise PrintError(Status.INVALID_ATTRIBUTE_VALUE, fault, [sequence])
    return described


def _shape(item: Item) -> float:
    """Pixel Aspect Ratio: vertical by horizontal size."""
    parts = text_of(item, tags.PIXEL_ASPECT_RATIO).split("\\")
    try:
        vertical, horizontal = (int(each) for each in parts)
    except ValueError:
        return 1.0
    if vertical <= 0 or horizontal <= 0:
        return 1.0
    shape = vertical / horizontal
    return shape if 1 / _ODDEST_SHAPE <= shape <= _ODDEST_SHAPE else 1.0


def with_request(image: FilmImage, given: AttributeList) -> FilmImage:
    """The image as its box is asked to show it.

    Raises:
        PrintError: 0106H: a value that the attribute may not have.
    """
    polarity = _term(given, tags.POLARITY, {"NORMAL": False, "REVERSE": True})
    magnification = _term(
        given, tags.MAGNIFICATION_TYPE, {each.value: each for each in Magnification}
    )
    too_large = _term(given, tags.DECIMATE_CROP, {each.value: each for each in TooLarge})
    return replace(
        image,
        is_reverse=bool(polarity),
        magnification=magnification,
        too_large=too_large,
        requested_width=_width(given),
    )


def _term(given: AttributeList, tag: int, terms: Mapping[str, T]) -> T | None:
    value = given.text(tag).strip().upper()
    if not value:
        return None
    if value not in terms:
        raise wrong(tag, f"has to be {', '.join(terms)}")
    return terms[value]


def _width(given: AttributeList) -> float | None:
    text = given.text(tags.REQUESTED_IMAGE_SIZE).strip()
    if not text:
        return None
    try:
        width = float(text)
    except ValueError:
        width = 0.0
    if not 0 < width <= _WIDEST:
        raise wrong(tags.REQUESTED_IMAGE_SIZE, f"has to be up to {_WIDEST:g} mm")
    return width


def lut_of(given: AttributeList) -> PresentationLut:
    """The presentation LUT that an N-CREATE brings.

    Raises:
        PrintError: 0106H, 0120H: it is none.
    """
    items = given.items(tags.PRESENTATION_LUTS)
    shape = given.text(tags.PRESENTATION_LUT_SHAPE).strip().upper()
    if items and shape:
        raise wrong(tags.PRESENTATION_LUT_SHAPE, "beside a table")
    if shape:
        if shape not in ("IDENTITY", "LIN OD"):
            raise wrong(tags.PRESENTATION_LUT_SHAPE, "has to be IDENTITY or LIN OD")
        return PresentationLut(shape)
    if not items:
        raise PrintError(
            Status.MISSING_ATTRIBUTE,
            "neither a shape nor a table",
            [tags.PRESENTATION_LUTS, tags.PRESENTATION_LUT_SHAPE],
        )
    if len(items) > 1:
        raise wrong(tags.PRESENTATION_LUTS, "has more than one item")
    return _table(items[0])


def _table(item: Item) -> PresentationLut:
    descriptor = plain_bytes(item, tags.LUT_DESCRIPTOR)
    entries = plain_bytes(item, tags.LUT_DATA)
    if len(descriptor) != _DESCRIPTOR_BYTES:
        raise wrong(tags.LUT_DESCRIPTOR, "has to be three numbers")
    count, first, bits = (
        int.from_bytes(descriptor[place : place + _WORD], "little") for place in (0, 2, 4)
    )
    count = count or _MOST_ENTRIES
    if bits not in _TABLE_BITS:
        raise wrong(tags.LUT_DESCRIPTOR, "has to be of 8 to 16 bits")
    if len(entries) < count * _WORD:
        raise wrong(tags.LUT_DATA, "has fewer numbers than described")
    return PresentationLut("", entries[: count * _WORD], first, bits)
