"""Film of a film box: what its attributes mean (PS3.3 C.13.3, C.13.5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from isocenter.engine.dimse.status import Status
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.film.density import (
    DEFAULT_AMBIENT_LIGHT,
    DEFAULT_ILLUMINATION,
    DensityRange,
)
from isocenter.services.dicom.film.display_format import DisplayFormat
from isocenter.services.dicom.film.film import ANNOTATIONS, Film, Fitting, Magnification
from isocenter.services.service_classes.print import attributes as tags
from isocenter.services.service_classes.print.attributes import PrintError, PrintStatus
from isocenter.services.service_classes.print.film_session import (
    FilmBox,
    ImageBox,
    is_short_number,
)
from isocenter.services.service_classes.print.printer import Printer

_STATUSES: Final = {
    Fitting.FITS: int(Status.SUCCESS),
    Fitting.DEMAGNIFIED: PrintStatus.DEMAGNIFIED,
    Fitting.DECIMATED: PrintStatus.DECIMATED,
    Fitting.CROPPED: PrintStatus.CROPPED,
}


def film_of(box: FilmBox, printer: Printer) -> Film:
    """The film that a film box describes, with the images that it has so far."""
    told = box.attributes
    densities, _ = densities_of(told, printer)
    is_high = told.text(tags.RESOLUTION) == "HIGH"
    magnification = Magnification(told.text(tags.MAGNIFICATION_TYPE))
    return Film(
        display_format=DisplayFormat.parse(told.text(tags.IMAGE_DISPLAY_FORMAT)),
        size=told.text(tags.FILM_SIZE),
        is_landscape=told.text(tags.FILM_ORIENTATION) == "LANDSCAPE",
        dots_per_inch=printer.dots_per_inch * (2 if is_high else 1),
        magnification=magnification,
        densities=densities,
        border=_density(told.text(tags.BORDER_DENSITY), densities),
        empty=_density(told.text(tags.EMPTY_IMAGE_DENSITY), densities),
        has_trim=told.text(tags.TRIM) == "YES",
        lut=box.lut,
        annotations=_annotations(box),
        images=tuple(each.image for each in box.image_boxes),
    )


def _annotations(box: FilmBox) -> tuple[str, ...]:
    """Texts by position; none: there is no room for any."""
    if not box.annotation_boxes:
        return ()
    texts = {each.position: each.text for each in box.annotation_boxes if each.text}
    return tuple(texts.get(position, "") for position in range(1, ANNOTATIONS + 1))


def _density(text: str, densities: DensityRange) -> int:
    if text == "WHITE":
        return densities.lowest
    return densities.highest if text == "BLACK" else int(text)


def densities_of(
    told: AttributeList, printer: Printer, default: DensityRange | None = None
) -> tuple[DensityRange, bool]:
    """The densities that attributes ask for, and whether one of them cannot be printed.

    Args:
        default: where they do not say; None: those of the printer.
    """
    default = default or DensityRange(lowest=printer.lowest, highest=printer.highest)
    lowest = _number(told, tags.MIN_DENSITY, default.lowest)
    highest = _number(told, tags.MAX_DENSITY, default.highest)
    possible = range(printer.lowest, printer.highest + 1)
    is_beyond = lowest not in possible or highest not in possible
    lowest, highest = (min(max(each, possible[0]), possible[-1]) for each in (lowest, highest))
    if lowest > highest:
        lowest, highest = printer.lowest, printer.highest
        is_beyond = True
    return (
        DensityRange(
            lowest=lowest,
            highest=highest,
            illumination=_number(told, tags.ILLUMINATION, default.illumination)
            or DEFAULT_ILLUMINATION,
            ambient_light=_number(told, tags.AMBIENT_LIGHT, default.ambient_light)
            or DEFAULT_AMBIENT_LIGHT,
        ),
        is_beyond,
    )


def _number(told: AttributeList, tag: int, default: int) -> int:
    text = told.text(tag)
    return int(text) if is_short_number(text) else default


def fitted(film: Film, box: ImageBox, can_hold: Callable[[int], bool]) -> int:
    """The status of an image that comes into a box of *film*.

    Raises:
        PrintError: C603H: it is larger than the box, and that was not to be.
    """
    image = box.image
    assert image is not None
    found = film.placement(image, film.boxes()[box.position - 1])
    if found.fitting is Fitting.FAILED:
        raise PrintError(PrintStatus.IMAGE_TOO_LARGE, "the image is larger than its image box")
    if not can_hold(found.width * found.height):
        # Of a crop at a size that nobody could print.
        raise PrintError(PrintStatus.IMAGE_TOO_LARGE, "the image would be larger than any film")
    return _STATUSES[found.fitting]


def with_densities(film: Film, box: ImageBox, printer: Printer) -> bool:
    """Give the image of a box the densities that were asked for it; whether one cannot be."""
    image = box.image
    assert image is not None
    if not any(tag in box.requested.elements for tag in (tags.MIN_DENSITY, tags.MAX_DENSITY)):
        return False
    densities, is_beyond = densities_of(box.requested, printer, film.densities)
    box.image = replace(image, densities=densities)
    return is_beyond
