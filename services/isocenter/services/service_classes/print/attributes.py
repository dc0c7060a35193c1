"""SOP classes, attributes and statuses of print management (PS3.4 H, PS3.3 C.13)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.engine.dataset import Element
from isocenter.engine.error_codes import ErrorCode
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.normalized.refusal import RequestRefusedError

GRAYSCALE_META: Final = "1.2.840.10008.5.1.1.9"
COLOR_META: Final = "1.2.840.10008.5.1.1.18"
FILM_SESSION: Final = "1.2.840.10008.5.1.1.1"
FILM_BOX: Final = "1.2.840.10008.5.1.1.2"
GRAYSCALE_IMAGE_BOX: Final = "1.2.840.10008.5.1.1.4"
COLOR_IMAGE_BOX: Final = "1.2.840.10008.5.1.1.4.1"
PRINT_JOB: Final = "1.2.840.10008.5.1.1.14"
ANNOTATION_BOX: Final = "1.2.840.10008.5.1.1.15"
PRINTER: Final = "1.2.840.10008.5.1.1.16"
PRINTER_INSTANCE: Final = "1.2.840.10008.5.1.1.17"
PRINTER_CONFIGURATION: Final = "1.2.840.10008.5.1.1.16.376"
PRINTER_CONFIGURATION_INSTANCE: Final = "1.2.840.10008.5.1.1.17.376"
PRESENTATION_LUT: Final = "1.2.840.10008.5.1.1.23"

SOP_CLASSES_SUPPORTED: Final = 0x0008115A
MANUFACTURER: Final = 0x00080070
MODEL_NAME: Final = 0x00081090
REFERENCED_SOP_CLASS_UID: Final = 0x00081150
REFERENCED_SOP_INSTANCE_UID: Final = 0x00081155
SOFTWARE_VERSIONS: Final = 0x00181020
ITEM_NUMBER: Final = 0x00200019
ROWS: Final = 0x00280010
COLUMNS: Final = 0x00280011
PIXEL_ASPECT_RATIO: Final = 0x00280034
LUT_DESCRIPTOR: Final = 0x00283002
LUT_DATA: Final = 0x00283006
NUMBER_OF_COPIES: Final = 0x20000010
CONFIGURATION_SEQUENCE: Final = 0x2000001E
PRINT_PRIORITY: Final = 0x20000020
MEDIUM_TYPE: Final = 0x20000030
FILM_DESTINATION: Final = 0x20000040
FILM_SESSION_LABEL: Final = 0x20000050
MEMORY_ALLOCATION: Final = 0x20000060
MAXIMUM_MEMORY: Final = 0x20000061
MEMORY_BIT_DEPTH: Final = 0x200000A0
PRINTING_BIT_DEPTH: Final = 0x200000A1
MEDIA_INSTALLED: Final = 0x200000A2
OTHER_MEDIA: Final = 0x200000A4
SUPPORTED_FORMATS: Final = 0x200000A8
IMAGE_DISPLAY_FORMAT: Final = 0x20100010
ANNOTATION_FORMAT: Final = 0x20100030
FILM_ORIENTATION: Final = 0x20100040
FILM_SIZE: Final = 0x20100050
PRINTER_RESOLUTION: Final = 0x20100052
DEFAULT_RESOLUTION: Final = 0x20100054
MAGNIFICATION_TYPE: Final = 0x20100060
SMOOTHING_TYPE: Final = 0x20100080
DEFAULT_MAGNIFICATION: Final = 0x201000A6
OTHER_MAGNIFICATIONS: Final = 0x201000A7
DEFAULT_SMOOTHING: Final = 0x201000A8
OTHER_SMOOTHING: Final = 0x201000A9
BORDER_DENSITY: Final = 0x20100100
EMPTY_IMAGE_DENSITY: Final = 0x20100110
MIN_DENSITY: Final = 0x20100120
MAX_DENSITY: Final = 0x20100130
TRIM: Final = 0x20100140
CONFIGURATION_INFORMATION: Final = 0x20100150
CONFIGURATION_DESCRIPTION: Final = 0x20100152
MAXIMUM_COLLATED: Final = 0x20100154
ILLUMINATION: Final = 0x2010015E
AMBIENT_LIGHT: Final = 0x20100160
PRINTER_PIXEL_SPACING: Final = 0x20100376
REFERENCED_FILM_SESSIONS: Final = 0x20100500
REFERENCED_IMAGE_BOXES: Final = 0x20100510
REFERENCED_ANNOTATION_BOXES: Final = 0x20100520
IMAGE_POSITION: Final = 0x20200010
POLARITY: Final = 0x20200020
REQUESTED_IMAGE_SIZE: Final = 0x20200030
DECIMATE_CROP: Final = 0x20200040
RESOLUTION: Final = 0x20200050
DECIMATE_CROP_RESULT: Final = 0x202000A2
IMAGE_SIZE_FLAG: Final = 0x202000A0
GRAYSCALE_IMAGES: Final = 0x20200110
COLOR_IMAGES: Final = 0x20200111
ANNOTATION_POSITION: Final = 0x20300010
TEXT_STRING: Final = 0x20300020
PRESENTATION_LUTS: Final = 0x20500010
PRESENTATION_LUT_SHAPE: Final = 0x20500020
REFERENCED_PRESENTATION_LUTS: Final = 0x20500500
EXECUTION_STATUS: Final = 0x21000020
EXECUTION_STATUS_INFO: Final = 0x21000030
CREATION_DATE: Final = 0x21000040
CREATION_TIME: Final = 0x21000050
ORIGINATOR: Final = 0x21000070
OWNER_ID: Final = 0x21000160
REFERENCED_PRINT_JOBS: Final = 0x21000500
PRINTER_STATUS: Final = 0x21100010
PRINTER_STATUS_INFO: Final = 0x21100020
PRINTER_NAME: Final = 0x21100030


class PrintStatus:
    """Statuses of the service (PS3.4 H.4); those of all normalized services are in `Status`."""

    MEMORY_ALLOCATION_NOT_SUPPORTED: Final = 0xB600
    EMPTY_SESSION: Final = 0xB602
    EMPTY_PAGE: Final = 0xB603
    DEMAGNIFIED: Final = 0xB604
    DENSITY_OUT_OF_RANGE: Final = 0xB605
    CROPPED: Final = 0xB609
    DECIMATED: Final = 0xB60A
    NO_FILM_BOX: Final = 0xC600
    QUEUE_FULL_FOR_SESSION: Final = 0xC601
    QUEUE_FULL_FOR_BOX: Final = 0xC602
    IMAGE_TOO_LARGE: Final = 0xC603
    INSUFFICIENT_MEMORY: Final = 0xC605


class PrintError(RequestRefusedError):
    """A request of print management that is refused; nothing has changed."""

    error_code = ErrorCode.PRINT_FAILED


def text_element(tag: int, vr: str, text: str) -> Element:
    """An element with a text of the default repertoire."""
    return Element(tag, vr, text.encode("ascii", "replace"))


def number_element(tag: int, number: int) -> Element:
    """An element with a US."""
    return Element(tag, "US", number.to_bytes(2, "little"))


def references(tag: int, named: Sequence[tuple[str, str]]) -> Element:
    """A sequence of references: SOP class and instance."""
    return Element(
        tag,
        "SQ",
        tuple(
            {
                REFERENCED_SOP_CLASS_UID: text_element(
                    REFERENCED_SOP_CLASS_UID, "UI", sop_class_uid
                ),
                REFERENCED_SOP_INSTANCE_UID: text_element(
                    REFERENCED_SOP_INSTANCE_UID, "UI", sop_instance_uid
                ),
            }
            for sop_class_uid, sop_instance_uid in named
        ),
    )


def attribute_list(*elements: Element) -> AttributeList:
    """An attribute list of these elements."""
    return AttributeList({each.tag: each for each in sorted(elements, key=lambda one: one.tag)})
