"""Print management SCU (PS3.4 H.4): films printed over an association of ours.

async with open_association(printer, contexts(is_colour=False)) as association:
    job = await print_films(association, [FilmPage(images=images)], PrintOptions(copies=2))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final

from isocenter.engine.dataset import Element
from isocenter.engine.dimse.message_codec import NEventReportRequest, response_to
from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.services.association.operation import Operation
from isocenter.services.association.requestor import Context
from isocenter.services.dicom.attribute_list import AttributeList, text_of
from isocenter.services.dicom.pixels.image import (
    BITS_ALLOCATED,
    BITS_STORED,
    COLUMNS,
    HIGH_BIT,
    PHOTOMETRIC_INTERPRETATION,
    PIXEL_REPRESENTATION,
    PLANAR_CONFIGURATION,
    ROWS,
    SAMPLES_PER_PIXEL,
    ImageDescription,
)
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.dicom.uids import new_uid
from isocenter.services.errors import NoPresentationContextError, OperationError, has_failed
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.normalized.operations import (
    NServiceResponse,
    n_action,
    n_create,
    n_delete,
    n_get,
    n_set,
)
from isocenter.services.service_classes.print import attributes as tags
from isocenter.services.service_classes.print.attributes import (
    PrintError,
    attribute_list,
    number_element,
    references,
    text_element,
)

PRINT: Final = 1
_PIXEL_DATA: Final = 0x7FE00010
_LONGEST_LABEL: Final = 64


def contexts(*, is_colour: bool) -> list[Context]:
    """What is proposed to a printer: what a film needs, and what can be used beside."""
    meta = tags.COLOR_META if is_colour else tags.GRAYSCALE_META
    optional = (
        tags.PRINT_JOB, tags.PRESENTATION_LUT, tags.ANNOTATION_BOX, tags.PRINTER_CONFIGURATION,
    )  # fmt: skip
    return [(uid, BASIC_SYNTAXES) for uid in (meta, *optional)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintImage:
    """An image for a box: gray of 8 or 16 allocated bits, or colours by plane.

    Attributes:
        pixels: one native frame, little endian.
    """

    image: ImageDescription
    pixels: bytes = field(repr=False)
    is_reverse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmPage:
    """A film with its images, by position.

    Attributes:
        texts: annotations by position, where the printer has them.
    """

    images: Sequence[PrintImage | None]
    texts: Mapping[int, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintOptions:
    """What is asked of the printer; what is empty is left to it.

    Attributes:
        lut_shape: of the presentation LUT: IDENTITY or LIN OD; empty: none is named.
        annotation_format: Annotation Display Format ID (2010,0030).
    """

    copies: int = 1
    priority: str = "MED"
    medium: str = ""
    destination: str = ""
    label: str = field(default="", repr=False)
    display_format: str = "STANDARD\\1,1"
    orientation: str = ""
    film_size: str = ""
    magnification: str = ""
    border_density: str = ""
    empty_density: str = ""
    min_density: int | None = None
    max_density: int | None = None
    trim: str = ""
    resolution: str = ""
    lut_shape: str = ""
    annotation_format: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedFilms:
    """What the printer answered.

    Attributes:
        job_uids: SOP Instance UIDs of print jobs, where it has them.
        warnings: statuses and what they are about.
    """

    films: int
    job_uids: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


async def take_event(operation: Operation) -> None:
    """Provider of an association with a printer: takes what it tells of itself and of jobs.

    How they are is asked for where it matters; a printer that is not answered would stop.
    """
    async for _ in operation.fragments():
        pass
    request = operation.request
    if not isinstance(request, NEventReportRequest):
        await operation.respond(response_to(request, Status.UNRECOGNIZED_OPERATION))
        return
    await operation.respond(response_to(request, Status.SUCCESS))


def meta_of(association: ClientAssociation) -> str:
    """The meta SOP class that the printer accepted.

    Raises:
        NoPresentationContextError: none.
    """
    for context in association.contexts:
        if context.as_scu and context.abstract_syntax in (tags.GRAYSCALE_META, tags.COLOR_META):
            return context.abstract_syntax
    raise NoPresentationContextError("the peer does not accept print management")


def accepts(association: ClientAssociation, abstract_syntax: str) -> bool:
    """Whether the printer accepted a SOP class."""
    return any(
        each.as_scu and each.abstract_syntax == abstract_syntax for each in association.contexts
    )


async def printer_status(
    association: ClientAssociation, attributes: Sequence[int] = ()
) -> AttributeList:
    """What the printer says of itself: its attributes, all or some.

    Raises:
        AnswerError, AssociationError, NoPresentationContextError: see `n_create`.
    """
    answer = await n_get(
        association, tags.PRINTER, tags.PRINTER_INSTANCE, attributes, context=meta_of(association)
    )
    return answer.attributes or AttributeList({})


async def printer_configuration(association: ClientAssociation) -> AttributeList:
    """What the printer says that it can; raises as `printer_status`."""
    answer = await n_get(
        association, tags.PRINTER_CONFIGURATION, tags.PRINTER_CONFIGURATION_INSTANCE
    )
    return answer.attributes or AttributeList({})


async def job_status(association: ClientAssociation, job_uid: str) -> AttributeList:
    """What the printer says of a print job; raises as `printer_status`."""
    answer = await n_get(association, tags.PRINT_JOB, job_uid)
    return answer.attributes or AttributeList({})


async def print_films(
    association: ClientAssociation, pages: Sequence[FilmPage], options: PrintOptions
) -> PrintedFilms:
    """Print films, one after the other, in one film session.

    Whatever goes wrong, the film session is deleted if the association still stands.

    Raises:
        AnswerError: the printer refused something; nothing that comes after it is printed.
        PrintError: it has fewer image boxes than there are images.
        AssociationError, NoPresentationContextError: see `n_create`.
    """
    meta = meta_of(association)
    warnings: list[str] = []
    session = new_uid()
    answer = await n_create(
        association, tags.FILM_SESSION, session, _session_list(options), context=meta
    )
    session = answer.sop_instance_uid or session
    _note(warnings, "film session", answer)
    jobs: list[str] = []
    try:
        lut = ""
        if options.lut_shape and accepts(association, tags.PRESENTATION_LUT):
            lut = await _create_lut(association, options.lut_shape)
        for number, page in enumerate(pages, 1):
            jobs += await _print_page(
                association, meta, session, lut, page, options, f"film {number}", warnings
            )
    except OperationError:
        await _delete_quietly(association, session, meta)
        raise
    await n_delete(association, tags.FILM_SESSION, session, context=meta)
    return PrintedFilms(films=len(pages), job_uids=tuple(jobs), warnings=tuple(warnings))


async def _delete_quietly(association: ClientAssociation, session: str, meta: str) -> None:
    try:
        await n_delete(association, tags.FILM_SESSION, session, context=meta)
    except OperationError:
        pass  # what went wrong first is what counts


async def _create_lut(association: ClientAssociation, shape: str) -> str:
    lut = new_uid()
    attributes = attribute_list(text_element(tags.PRESENTATION_LUT_SHAPE, "CS", shape))
    answer = await n_create(association, tags.PRESENTATION_LUT, lut, attributes)
    return answer.sop_instance_uid or lut


async def _print_page(
    association: ClientAssociation,
    meta: str,
    session: str,
    lut: str,
    page: FilmPage,
    options: PrintOptions,
    what: str,
    warnings: list[str],
) -> list[str]:
    """Print one film; the UIDs of its print jobs."""
    film_box = new_uid()
    answer = await n_create(
        association, tags.FILM_BOX, film_box, _box_list(session, lut, options), context=meta
    )
    film_box = answer.sop_instance_uid or film_box
    _note(warnings, what, answer)
    made = answer.attributes or AttributeList({})
    boxes = _named(made, tags.REFERENCED_IMAGE_BOXES)
    if len(boxes) < len(page.images):
        raise PrintError(
            Status.PROCESSING_FAILURE,
            f"the printer has {len(boxes)} image boxes for {len(page.images)} images",
        )
    for position, (image, (image_class, uid)) in enumerate(
        zip(page.images, boxes, strict=False), 1
    ):
        if image is not None:
            answer = await n_set(
                association, image_class, uid, _image_list(image, position), context=meta
            )
            _note(warnings, f"{what}, image {position}", answer)
    notes = _named(made, tags.REFERENCED_ANNOTATION_BOXES)
    for position, text in page.texts.items():
        if 1 <= position <= len(notes):
            attributes = attribute_list(
                Element(0x00080005, "CS", b"ISO_IR 192"),
                number_element(tags.ANNOTATION_POSITION, position),
                Element(tags.TEXT_STRING, "LO", text[:_LONGEST_LABEL].encode()),
            )
            await n_set(association, tags.ANNOTATION_BOX, notes[position - 1][1], attributes)
    answer = await n_action(association, tags.FILM_BOX, film_box, PRINT, context=meta)
    _note(warnings, what, answer)
    jobs = [uid for _, uid in _named(answer.attributes, tags.REFERENCED_PRINT_JOBS)]
    await n_delete(association, tags.FILM_BOX, film_box, context=meta)
    return jobs


def _note(warnings: list[str], what: str, answer: NServiceResponse) -> None:
    if answer.status and not has_failed(answer.status):
        text = f"{what}: {answer.status:04X}H"
        warnings.append(f"{text} {answer.text}".rstrip())


def _named(attributes: AttributeList | None, tag: int) -> list[tuple[str, str]]:
    """SOP class and instance of each reference of a sequence."""
    items = () if attributes is None else attributes.items(tag)
    return [
        (
            text_of(item, tags.REFERENCED_SOP_CLASS_UID),
            text_of(item, tags.REFERENCED_SOP_INSTANCE_UID),
        )
        for item in items
    ]


def _session_list(options: PrintOptions) -> AttributeList:
    found = [
        text_element(tags.NUMBER_OF_COPIES, "IS", str(options.copies)),
        text_element(tags.PRINT_PRIORITY, "CS", options.priority),
    ]
    for tag, text in (
        (tags.MEDIUM_TYPE, options.medium),
        (tags.FILM_DESTINATION, options.destination),
    ):
        if text:
            found.append(text_element(tag, "CS", text))
    if options.label:
        found.append(Element(0x00080005, "CS", b"ISO_IR 192"))
        label = options.label[:_LONGEST_LABEL].encode()
        found.append(Element(tags.FILM_SESSION_LABEL, "LO", label))
    return attribute_list(*found)


def _box_list(session: str, lut: str, options: PrintOptions) -> AttributeList:
    found = [
        text_element(tags.IMAGE_DISPLAY_FORMAT, "ST", options.display_format),
        references(tags.REFERENCED_FILM_SESSIONS, [(tags.FILM_SESSION, session)]),
    ]
    if lut:
        named = [(tags.PRESENTATION_LUT, lut)]
        found.append(references(tags.REFERENCED_PRESENTATION_LUTS, named))
    for tag, text in (
        (tags.FILM_ORIENTATION, options.orientation),
        (tags.FILM_SIZE, options.film_size),
        (tags.MAGNIFICATION_TYPE, options.magnification),
        (tags.BORDER_DENSITY, options.border_density),
        (tags.EMPTY_IMAGE_DENSITY, options.empty_density),
        (tags.TRIM, options.trim),
        (tags.RESOLUTION, options.resolution),
        (tags.ANNOTATION_FORMAT, options.annotation_format),
    ):
        if text:
            found.append(text_element(tag, "CS", text))
    for tag, number in (
        (tags.MIN_DENSITY, options.min_density),
        (tags.MAX_DENSITY, options.max_density),
    ):
        if number is not None:
            found.append(number_element(tag, number))
    return attribute_list(*found)


def _image_list(image: PrintImage, position: int) -> AttributeList:
    described = image.image
    is_colour = described.samples_per_pixel > 1
    found = [
        number_element(SAMPLES_PER_PIXEL, described.samples_per_pixel),
        text_element(PHOTOMETRIC_INTERPRETATION, "CS", described.photometric_interpretation),
        number_element(ROWS, described.rows),
        number_element(COLUMNS, described.columns),
        number_element(BITS_ALLOCATED, described.bits_allocated),
        number_element(BITS_STORED, described.bits_stored),
        number_element(HIGH_BIT, described.high_bit),
        number_element(PIXEL_REPRESENTATION, described.pixel_representation),
        Element(
            _PIXEL_DATA,
            "OW" if described.bits_allocated > 8 else "OB",
            image.pixels + b"\0" * (len(image.pixels) % 2),
        ),
    ]
    if is_colour:
        found.append(number_element(PLANAR_CONFIGURATION, described.planar_configuration))
    return attribute_list(
        number_element(tags.IMAGE_POSITION, position),
        text_element(tags.POLARITY, "CS", "REVERSE" if image.is_reverse else "NORMAL"),
        Element(
            tags.COLOR_IMAGES if is_colour else tags.GRAYSCALE_IMAGES,
            "SQ",
            (dict(attribute_list(*found).elements),),
        ),
    )
