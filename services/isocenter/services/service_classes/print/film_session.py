"""Film session, film boxes and their contents, of one association (PS3.4 H.4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import Final

from isocenter.engine.dataset import Element, Item
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.attribute_list import SPECIFIC_CHARACTER_SET, AttributeList, text_of
from isocenter.services.dicom.data_dictionary import dictionary_vr
from isocenter.services.dicom.film.display_format import DisplayFormat, DisplayFormatError
from isocenter.services.dicom.film.film import (
    ANNOTATIONS,
    FILM_SIZES,
    IDENTITY,
    FilmImage,
    Magnification,
    PresentationLut,
)
from isocenter.services.dicom.uids import new_uid
from isocenter.services.service_classes.print import attributes as tags
from isocenter.services.service_classes.print.attributes import PrintError
from isocenter.services.service_classes.print.job import PRIORITIES

#: Copies of one job.
MAX_COPIES: Final = 99
#: Bytes of a value that is kept as long as its association: those of an ST in any character set
#: (PS3.5 6.2).  No more than that has to be counted as memory.
LONGEST_VALUE: Final = 4096
_LARGEST_US: Final = 65_535
_DENSITY_WORDS: Final = ("BLACK", "WHITE")
_DENSITY: Final = re.compile(r"[0-9]{1,4}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_CODE: Final = re.compile(r"[A-Z0-9_ ]{1,16}", re.ASCII)
_RESOLUTIONS: Final = ("STANDARD", "HIGH")

#: Whether a value may be; the text is what it has to be instead.
Check = Callable[[str], str]


def is_short_number(value: str) -> bool:
    """Whether it is a number without a sign that is no longer than an IS (PS3.5 6.2)."""
    return _NUMBER.fullmatch(value) is not None


def _one_of(terms: Sequence[str], value: str) -> str:
    return "" if value in terms else f"has to be {', '.join(terms)}"


def _code(value: str) -> str:
    return "" if _CODE.fullmatch(value) else "is no code string"


def _copies(value: str) -> str:
    is_number = is_short_number(value) and 1 <= int(value) <= MAX_COPIES
    return "" if is_number else f"has to be 1 to {MAX_COPIES}"


def _density(value: str) -> str:
    if value in _DENSITY_WORDS or _DENSITY.fullmatch(value):
        return ""
    return "has to be BLACK, WHITE or a number"


def _display_format(value: str) -> str:
    try:
        DisplayFormat.parse(value)
    except DisplayFormatError:
        return "has to be STANDARD, ROW or COL with numbers"
    return ""


def _number(value: str) -> str:
    return "" if is_short_number(value) and int(value) <= _LARGEST_US else "is no number"


def _anything(_: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What an attribute may be.

    Attributes:
        default: what it is where nobody says; empty: nothing.
        is_settable: N-SET may change it.
    """

    check: Check = _anything
    default: str = ""
    is_settable: bool = True


SESSION_RULES: Final[Mapping[int, Rule]] = {
    tags.NUMBER_OF_COPIES: Rule(_copies, "1"),
    tags.PRINT_PRIORITY: Rule(partial(_one_of, PRIORITIES), "MED"),
    tags.MEDIUM_TYPE: Rule(_code, "BLUE FILM"),
    tags.FILM_DESTINATION: Rule(_code, "MAGAZINE"),
    tags.FILM_SESSION_LABEL: Rule(),
    tags.OWNER_ID: Rule(),
}
#: What an image may have of its own.
DENSITIES: Final = (tags.MIN_DENSITY, tags.MAX_DENSITY, tags.ILLUMINATION, tags.AMBIENT_LIGHT)
BOX_RULES: Final[Mapping[int, Rule]] = {
    tags.IMAGE_DISPLAY_FORMAT: Rule(_display_format, is_settable=False),
    tags.ANNOTATION_FORMAT: Rule(_code, is_settable=False),
    tags.FILM_ORIENTATION: Rule(
        partial(_one_of, ("PORTRAIT", "LANDSCAPE")), "PORTRAIT", is_settable=False
    ),
    tags.FILM_SIZE: Rule(partial(_one_of, tuple(FILM_SIZES)), "8INX10IN", is_settable=False),
    tags.MAGNIFICATION_TYPE: Rule(
        partial(_one_of, tuple(each.value for each in Magnification)), "BILINEAR"
    ),
    tags.SMOOTHING_TYPE: Rule(_code),
    tags.BORDER_DENSITY: Rule(_density, "BLACK"),
    tags.EMPTY_IMAGE_DENSITY: Rule(_density, "BLACK"),
    tags.MIN_DENSITY: Rule(_number),
    tags.MAX_DENSITY: Rule(_number),
    tags.TRIM: Rule(partial(_one_of, ("YES", "NO")), "NO"),
    tags.CONFIGURATION_INFORMATION: Rule(),
    tags.ILLUMINATION: Rule(_number),
    tags.AMBIENT_LIGHT: Rule(_number),
    tags.RESOLUTION: Rule(partial(_one_of, _RESOLUTIONS), "STANDARD", is_settable=False),
}


def created(rules: Mapping[int, Rule], given: AttributeList) -> AttributeList:
    """What an N-CREATE makes of *given*: what we know of it, and defaults for the rest.

    Raises:
        PrintError: 0106H: a value that the attribute may not have.
    """
    found = _checked(rules, given)
    for tag, rule in rules.items():
        if rule.default and not given.text(tag):
            found[tag] = tags.text_element(tag, dictionary_vr(tag), rule.default)
    return AttributeList(dict(sorted(found.items())))


def changed(
    rules: Mapping[int, Rule], standing: AttributeList, given: AttributeList
) -> AttributeList:
    """What an N-SET makes of *standing*.

    What may not be set does no harm with the value that it has already.

    Raises:
        PrintError: 0105H: an attribute may not be set; 0106H: a value that it may not have.
    """
    found = _checked(rules, given)
    for tag in found:
        if (
            tag in rules
            and not rules[tag].is_settable
            and not (tag in standing.elements and standing.has_same(tag, given))
        ):
            raise PrintError(
                Status.NO_SUCH_ATTRIBUTE, f"{tag_text(tag)} can only be set when created", [tag]
            )
    return standing.updated(AttributeList(found))


def _checked(rules: Mapping[int, Rule], given: AttributeList) -> dict[int, Element]:
    found: dict[int, Element] = {}
    for tag, element in given.elements.items():
        is_character_set = tag == SPECIFIC_CHARACTER_SET
        if not (is_character_set or tag in rules) or not element.value:
            continue
        if not isinstance(element.value, bytes):
            raise wrong(tag, "is no sequence")
        if len(element.value) > LONGEST_VALUE:
            raise wrong(tag, f"is longer than {LONGEST_VALUE} bytes")
        if is_character_set:
            found[tag] = element
            continue
        value = given.text(tag)
        if dictionary_vr(tag) == "CS":
            value = value.strip().upper()
            element = tags.text_element(tag, "CS", value)
        fault = rules[tag].check(value)
        if fault:
            raise wrong(tag, fault)
        found[tag] = element
    return found


def wrong(tag: int, fault: str) -> PrintError:
    """0106H: the value of *tag* may not be."""
    return PrintError(Status.INVALID_ATTRIBUTE_VALUE, f"{tag_text(tag)} {fault}", [tag])


def referenced_uid(given: AttributeList, tag: int) -> str:
    """The SOP Instance UID that the one item of a sequence names; empty: there is no item.

    Raises:
        PrintError: 0106H: there are several items, or it names none.
    """
    items = given.items(tag)
    if not items:
        return ""
    uid = text_of(items[0], tags.REFERENCED_SOP_INSTANCE_UID)
    if len(items) != 1 or not uid:
        raise wrong(tag, "has to name one instance")
    return uid


@dataclass(slots=True)
class ImageBox:
    """The place of one image.

    Attributes:
        requested: the densities that were asked for it.
        held: bytes of memory that its image takes.
    """

    sop_instance_uid: str
    position: int
    image: FilmImage | None = None
    requested: AttributeList = field(default_factory=lambda: AttributeList({}))

    @property
    def held(self) -> int:
        return 0 if self.image is None else len(self.image.data)


@dataclass(slots=True)
class AnnotationBox:
    """The place of one text."""

    sop_instance_uid: str
    position: int
    text: str = field(default="", repr=False)


@dataclass(slots=True)
class FilmBox:
    """One film with its boxes.

    Attributes:
        image_class: SOP class of its image boxes.
        lut: None: values are P-values.
    """

    sop_instance_uid: str
    attributes: AttributeList
    image_class: str
    image_boxes: list[ImageBox]
    annotation_boxes: list[AnnotationBox] = field(default_factory=list)
    lut: PresentationLut = IDENTITY

    @classmethod
    def create(
        cls, uid: str, attributes: AttributeList, image_class: str, *, has_annotations: bool
    ) -> FilmBox:
        """A film box with empty boxes; *attributes* are those that `created` gave."""
        text = attributes.text(tags.IMAGE_DISPLAY_FORMAT)
        count = len(DisplayFormat.parse(text).boxes)
        return cls(
            uid,
            attributes,
            image_class,
            [ImageBox(new_uid(), position) for position in range(1, count + 1)],
            [AnnotationBox(new_uid(), position) for position in range(1, ANNOTATIONS + 1)]
            if has_annotations
            else [],
        )

    @property
    def held(self) -> int:
        """Bytes of its images."""
        return sum(box.held for box in self.image_boxes)

    @property
    def is_empty(self) -> bool:
        return all(box.image is None for box in self.image_boxes)

    def described(self, session_uid: str) -> AttributeList:
        """Its attributes, with what it refers to."""
        boxes = [(self.image_class, box.sop_instance_uid) for box in self.image_boxes]
        found = [
            *self.attributes.elements.values(),
            tags.references(tags.REFERENCED_FILM_SESSIONS, [(tags.FILM_SESSION, session_uid)]),
            tags.references(tags.REFERENCED_IMAGE_BOXES, boxes),
        ]
        if self.annotation_boxes:
            named = [(tags.ANNOTATION_BOX, box.sop_instance_uid) for box in self.annotation_boxes]
            found.append(tags.references(tags.REFERENCED_ANNOTATION_BOXES, named))
        return tags.attribute_list(*found)


@dataclass(slots=True)
class FilmSession:
    """The film session of an association."""

    sop_instance_uid: str
    attributes: AttributeList
    film_boxes: dict[str, FilmBox] = field(default_factory=dict)

    def image_box(self, uid: str) -> tuple[FilmBox, ImageBox] | None:
        """An image box and its film box."""
        for film_box in self.film_boxes.values():
            for box in film_box.image_boxes:
                if box.sop_instance_uid == uid:
                    return film_box, box
        return None

    def annotation_box(self, uid: str) -> AnnotationBox | None:
        for film_box in self.film_boxes.values():
            for box in film_box.annotation_boxes:
                if box.sop_instance_uid == uid:
                    return box
        return None

    @property
    def held(self) -> int:
        """Bytes of its images."""
        return sum(box.held for box in self.film_boxes.values())


def plain_bytes(item: Item, tag: int) -> bytes:
    """The value of an element that is no sequence; empty: there is none."""
    element = item.get(tag)
    return element.value if element is not None and isinstance(element.value, bytes) else b""
