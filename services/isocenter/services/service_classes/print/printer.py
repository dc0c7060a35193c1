"""Printer as a value, and what N-GET tells of it (PS3.3 C.13.9, C.13.13)."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from isocenter.engine.dataset import Element
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.film.density import DEFAULT_MAX_DENSITY, DEFAULT_MIN_DENSITY
from isocenter.services.dicom.film.display_format import DisplayFormat
from isocenter.services.dicom.film.film import (
    FILM_SIZES,
    MILLIMETRES_PER_INCH,
    Film,
    Magnification,
    TooLarge,
)
from isocenter.services.service_classes.print import attributes as tags
from isocenter.services.service_classes.print.attributes import (
    attribute_list,
    number_element,
    text_element,
)
from isocenter.services.service_classes.print.job import PrintJob, PrintJobState

_MANUFACTURER: Final = "Isocenter"
_MODEL: Final = "Isocenter"
_USUAL_FORMATS: Final = ("STANDARD\\1,1", "STANDARD\\1,2", "STANDARD\\2,2", "STANDARD\\3,4")


class PrinterStatus(Enum):
    """Printer Status (2110,0010), and Printer Status Info (2110,0020) with it (C.13.9.1)."""

    NORMAL = ("NORMAL", "NORMAL", 1)
    WARNING = ("WARNING", "CHECK PRINTER", 2)
    FAILURE = ("FAILURE", "PRINTER DOWN", 3)

    def __init__(self, term: str, info: str, event_type: int) -> None:
        self.term = term
        self.info = info
        #: Of the N-EVENT-REPORT that tells of it (PS3.4 H.4.6.2.1).
        self.event_type = event_type


@dataclass(frozen=True, slots=True, kw_only=True)
class Printer:
    """What prints.

    Attributes:
        dots_per_inch: of STANDARD resolution; HIGH has twice as many.
        lowest, highest: densities, in hundredths of OD.
        size: Film Size ID where nobody says.
        has_annotations: texts can be printed.
    """

    name: str = "ISOCENTER"
    dots_per_inch: int = 150
    lowest: int = DEFAULT_MIN_DENSITY
    highest: int = DEFAULT_MAX_DENSITY
    size: str = "8INX10IN"
    has_annotations: bool = True

    def attributes(self, status: PrinterStatus) -> AttributeList:
        """What N-GET of the Printer SOP Class gives."""
        return attribute_list(
            text_element(tags.PRINTER_STATUS, "CS", status.term),
            text_element(tags.PRINTER_STATUS_INFO, "CS", status.info),
            text_element(tags.PRINTER_NAME, "LO", self.name),
            text_element(tags.MANUFACTURER, "LO", _MANUFACTURER),
            text_element(tags.MODEL_NAME, "LO", _MODEL),
            text_element(tags.SOFTWARE_VERSIONS, "LO", _version()),
        )

    def configuration(self, *, films: int) -> AttributeList:
        """What N-GET of the Printer Configuration Retrieval SOP Class gives: a configuration for
        grayscale, and one for colour.

        Args:
            films: of one film session.
        """
        items = []
        for meta, image_box, bits in (
            (tags.GRAYSCALE_META, tags.GRAYSCALE_IMAGE_BOX, 16),
            (tags.COLOR_META, tags.COLOR_IMAGE_BOX, 8),
        ):
            supported = [
                meta, tags.FILM_SESSION, tags.FILM_BOX, image_box, tags.PRINTER, tags.PRINT_JOB,
                tags.PRESENTATION_LUT, *([tags.ANNOTATION_BOX] if self.has_annotations else []),
            ]  # fmt: skip
            item = attribute_list(
                text_element(tags.SOP_CLASSES_SUPPORTED, "UI", "\\".join(supported)),
                text_element(tags.MANUFACTURER, "LO", _MANUFACTURER),
                text_element(tags.MODEL_NAME, "LO", _MODEL),
                text_element(tags.SOFTWARE_VERSIONS, "LO", _version()),
                text_element(tags.PRINTER_NAME, "LO", self.name),
                # Nothing is set aside for a film session (C.13.13).
                text_element(tags.MAXIMUM_MEMORY, "IS", "0"),
                number_element(tags.MEMORY_BIT_DEPTH, bits),
                number_element(tags.PRINTING_BIT_DEPTH, 8),
                Element(tags.MEDIA_INSTALLED, "SQ", tuple(self._media())),
                Element(tags.OTHER_MEDIA, "SQ", ()),
                Element(tags.SUPPORTED_FORMATS, "SQ", tuple(self._formats())),
                text_element(tags.DEFAULT_RESOLUTION, "CS", "STANDARD"),
                text_element(tags.DEFAULT_MAGNIFICATION, "CS", Magnification.BILINEAR.value),
                text_element(
                    tags.OTHER_MAGNIFICATIONS,
                    "CS",
                    "\\".join(
                        each.value for each in Magnification if each is not Magnification.BILINEAR
                    ),
                ),
                text_element(tags.DEFAULT_SMOOTHING, "CS", ""),
                text_element(tags.OTHER_SMOOTHING, "CS", ""),
                text_element(tags.CONFIGURATION_DESCRIPTION, "LT", ""),
                text_element(tags.MAXIMUM_COLLATED, "IS", str(films)),
                text_element(tags.DECIMATE_CROP_RESULT, "CS", TooLarge.DECIMATE.value),
            )
            items.append(dict(item.elements))
        return attribute_list(Element(tags.CONFIGURATION_SEQUENCE, "SQ", tuple(items)))

    def _media(self) -> list[dict[int, Element]]:
        """One item for each film size; the default first."""
        sizes = [self.size, *(each for each in FILM_SIZES if each != self.size)]
        return [
            {
                tags.ITEM_NUMBER: text_element(tags.ITEM_NUMBER, "IS", str(number)),
                tags.MEDIUM_TYPE: text_element(tags.MEDIUM_TYPE, "CS", "BLUE FILM"),
                tags.FILM_SIZE: text_element(tags.FILM_SIZE, "CS", size),
                tags.MIN_DENSITY: number_element(tags.MIN_DENSITY, self.lowest),
                tags.MAX_DENSITY: number_element(tags.MAX_DENSITY, self.highest),
            }
            for number, size in enumerate(sizes, 1)
        ]

    def _formats(self) -> list[dict[int, Element]]:
        """Some of the usual layouts, and what an image box of each has room for."""
        found = []
        for text in _USUAL_FORMATS:
            film = Film(
                display_format=DisplayFormat.parse(text),
                size=self.size,
                dots_per_inch=self.dots_per_inch,
            )
            box = film.boxes()[0]
            spacing = f"{MILLIMETRES_PER_INCH / self.dots_per_inch:.4f}"
            item = attribute_list(
                number_element(tags.ROWS, box.height),
                number_element(tags.COLUMNS, box.width),
                text_element(tags.IMAGE_DISPLAY_FORMAT, "ST", text),
                text_element(tags.FILM_ORIENTATION, "CS", "PORTRAIT"),
                text_element(tags.FILM_SIZE, "CS", self.size),
                text_element(tags.PRINTER_RESOLUTION, "CS", "STANDARD"),
                text_element(tags.PRINTER_PIXEL_SPACING, "DS", f"{spacing}\\{spacing}"),
                text_element(tags.IMAGE_SIZE_FLAG, "CS", "YES"),
            )
            found.append(dict(item.elements))
        return found


def _version() -> str:
    try:
        return version("isocenter")
    except PackageNotFoundError:
        return ""


#: Execution Status (2100,0020) and Execution Status Info (2100,0030) of a job, and the type of the
#: N-EVENT-REPORT that tells of it (PS3.4 H.4.5).
JOB_TERMS: Final = {
    PrintJobState.PENDING: ("PENDING", "QUEUED", 1),
    PrintJobState.PRINTING: ("PRINTING", "NORMAL", 2),
    PrintJobState.DONE: ("DONE", "NORMAL", 3),
    PrintJobState.FAILED: ("FAILURE", "CHECK PRINTER", 4),
    PrintJobState.CANCELLED: ("FAILURE", "CHECK PRINTER", 4),
}


def job_attributes(job: PrintJob, printer: Printer) -> AttributeList:
    """What N-GET of the Print Job SOP Class gives (PS3.3 C.13.8)."""
    term, info, _ = JOB_TERMS[job.state]
    created = datetime.fromtimestamp(job.created_at, UTC).astimezone()
    return attribute_list(
        text_element(tags.EXECUTION_STATUS, "CS", term),
        text_element(tags.EXECUTION_STATUS_INFO, "CS", info),
        text_element(tags.CREATION_DATE, "DA", created.strftime("%Y%m%d")),
        text_element(tags.CREATION_TIME, "TM", created.strftime("%H%M%S")),
        text_element(tags.PRINT_PRIORITY, "CS", job.priority),
        text_element(tags.PRINTER_NAME, "LO", printer.name),
        text_element(tags.ORIGINATOR, "AE", job.originator[:16]),
    )
