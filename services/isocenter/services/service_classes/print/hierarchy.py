"""Film session, boxes and lookup tables: N-CREATE, N-SET, N-DELETE (PS3.4 H.4)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import trio

from isocenter.engine.dataset import DataSetError, DataSetLimitError
from isocenter.engine.dimse.message_codec import (
    NCreateRequest,
    NCreateResponse,
    NDeleteRequest,
    NDeleteResponse,
    NSetRequest,
    NSetResponse,
)
from isocenter.engine.dimse.status import Status
from isocenter.services.association.operation import Operation
from isocenter.services.dicom.attribute_list import AttributeList, number_of
from isocenter.services.dicom.film.film import ANNOTATIONS, PresentationLut
from isocenter.services.dicom.uids import new_uid
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.normalized.operations import read_attribute_list
from isocenter.services.service_classes.print import attributes as tags
from isocenter.services.service_classes.print.attributes import PrintError, PrintStatus
from isocenter.services.service_classes.print.film_session import (
    BOX_RULES,
    DENSITIES,
    LONGEST_VALUE,
    SESSION_RULES,
    FilmBox,
    FilmSession,
    ImageBox,
    changed,
    created,
    is_short_number,
    referenced_uid,
    wrong,
)
from isocenter.services.service_classes.print.films import (
    densities_of,
    film_of,
    fitted,
    with_densities,
)
from isocenter.services.service_classes.print.images import image_of, lut_of, with_request
from isocenter.services.service_classes.print.printer import (
    Printer,
)
from isocenter.services.service_classes.print.scope import (
    AssociationScope,
    ImageMemory,
    PrintLimits,
    check_uid,
    film_box_of,
    film_session,
    has_context,
)

_SUCCESS: Final = int(Status.SUCCESS)
#: Attribute lists of images that are read at once, by all associations.
_READ_AT_ONCE: Final = 2


class FilmHierarchy:
    """Creates, changes and deletes what belongs to the film session of an association.

    Attributes:
        memory: for images.
    """

    def __init__(self, printer: Printer, limits: PrintLimits) -> None:
        self.memory = ImageMemory(limits.memory_bytes)
        self._printer = printer
        self._limits = limits
        self._reading = trio.CapacityLimiter(_READ_AT_ONCE)

    # -- N-CREATE ------------------------------------------------------------------------

    async def create(
        self, operation: Operation, request: NCreateRequest, scope: AssociationScope
    ) -> None:
        uid = request.affected_sop_instance_uid or new_uid()
        check_uid(uid)
        given = await self._attribute_list(operation, is_optional=True)
        status = _SUCCESS
        match request.affected_sop_class_uid:
            case tags.FILM_SESSION:
                status, told = self._create_session(uid, given, scope)
            case tags.FILM_BOX:
                status, told = self._create_box(operation, uid, given, scope)
            case tags.PRESENTATION_LUT:
                told = self._create_lut(uid, given, scope)
            case _:
                raise OperationError(Status.UNRECOGNIZED_OPERATION)
        await operation.respond(
            NCreateResponse(
                message_id_being_responded_to=request.message_id,
                status=status,
                affected_sop_class_uid=request.affected_sop_class_uid,
                affected_sop_instance_uid=uid,
            ),
            told.encode(operation.context.transfer_syntax),
        )

    def _create_session(
        self, uid: str, given: AttributeList, scope: AssociationScope
    ) -> tuple[int, AttributeList]:
        if scope.session is not None:
            raise PrintError(
                Status.DUPLICATE_SOP_INSTANCE, "there is a film session on this association"
            )
        told = created(SESSION_RULES, given)
        scope.session = FilmSession(uid, told)
        return _memory_status(given), told

    def _create_box(
        self, operation: Operation, uid: str, given: AttributeList, scope: AssociationScope
    ) -> tuple[int, AttributeList]:
        session = scope.session
        named = referenced_uid(given, tags.REFERENCED_FILM_SESSIONS)
        if not named:
            raise PrintError(
                Status.MISSING_ATTRIBUTE,
                "no film session is named",
                [tags.REFERENCED_FILM_SESSIONS],
            )
        if session is None or named != session.sop_instance_uid:
            raise wrong(tags.REFERENCED_FILM_SESSIONS, "names no film session of here")
        if uid in session.film_boxes:
            raise PrintError(Status.DUPLICATE_SOP_INSTANCE, "there is such a film box already")
        if len(session.film_boxes) >= self._limits.films:
            raise PrintError(
                Status.RESOURCE_LIMITATION, f"more than {self._limits.films} films in one session"
            )
        if not given.text(tags.IMAGE_DISPLAY_FORMAT):
            is_there = tags.IMAGE_DISPLAY_FORMAT in given.elements
            raise PrintError(
                Status.MISSING_ATTRIBUTE_VALUE if is_there else Status.MISSING_ATTRIBUTE,
                "no image display format",
                [tags.IMAGE_DISPLAY_FORMAT],
            )
        rules = {**BOX_RULES}
        rules[tags.FILM_SIZE] = replace(rules[tags.FILM_SIZE], default=self._printer.size)
        told = created(rules, given)
        box = FilmBox.create(
            uid,
            told,
            _image_class_of(operation),
            has_annotations=bool(told.text(tags.ANNOTATION_FORMAT))
            and has_context(operation, tags.ANNOTATION_BOX),
        )
        lut = referenced_uid(given, tags.REFERENCED_PRESENTATION_LUTS)
        if lut:
            box.lut = _lut(scope, lut)
        width, height = film_of(box, self._printer).pixel_size
        if width * height > self._limits.film_pixels:
            raise PrintError(
                Status.RESOURCE_LIMITATION, f"a film of {width} x {height} pixels is too large"
            )
        session.film_boxes[uid] = box
        status = _SUCCESS
        if densities_of(told, self._printer)[1]:
            status = PrintStatus.DENSITY_OUT_OF_RANGE
        return status, box.described(session.sop_instance_uid)

    def _create_lut(self, uid: str, given: AttributeList, scope: AssociationScope) -> AttributeList:
        if uid in scope.luts:
            raise PrintError(Status.DUPLICATE_SOP_INSTANCE, "there is such a lookup table already")
        if len(scope.luts) >= self._limits.luts:
            raise PrintError(
                Status.RESOURCE_LIMITATION, f"more than {self._limits.luts} lookup tables"
            )
        scope.luts[uid] = lut_of(given)
        return given

    # -- N-SET ---------------------------------------------------------------------------

    async def set(
        self, operation: Operation, request: NSetRequest, scope: AssociationScope
    ) -> None:
        uid = request.requested_sop_instance_uid
        check_uid(uid)
        told: AttributeList | None = None
        match request.requested_sop_class_uid:
            case tags.FILM_SESSION:
                session = film_session(scope, uid)
                given = await self._attribute_list(operation)
                session.attributes = changed(SESSION_RULES, session.attributes, given)
                status, told = _memory_status(given), session.attributes
            case tags.FILM_BOX:
                box = film_box_of(scope, uid)
                given = await self._attribute_list(operation)
                status, told = self._set_box(box, given, scope)
            case tags.ANNOTATION_BOX:
                given = await self._attribute_list(operation)
                status = _set_annotation(scope, uid, given)
            case tags.GRAYSCALE_IMAGE_BOX | tags.COLOR_IMAGE_BOX as image_class:
                status = await self._set_image(operation, uid, image_class, scope)
            case _:
                raise OperationError(Status.UNRECOGNIZED_OPERATION)
        await operation.respond(
            NSetResponse(
                message_id_being_responded_to=request.message_id,
                status=status,
                affected_sop_class_uid=request.requested_sop_class_uid,
                affected_sop_instance_uid=uid,
            ),
            None if told is None else told.encode(operation.context.transfer_syntax),
        )

    def _set_box(
        self, box: FilmBox, given: AttributeList, scope: AssociationScope
    ) -> tuple[int, AttributeList]:
        told = changed(BOX_RULES, box.attributes, given)
        lut = referenced_uid(given, tags.REFERENCED_PRESENTATION_LUTS)
        found = _lut(scope, lut) if lut else box.lut
        box.attributes, box.lut = told, found
        is_beyond = densities_of(told, self._printer)[1]
        return PrintStatus.DENSITY_OUT_OF_RANGE if is_beyond else _SUCCESS, told

    async def _set_image(
        self, operation: Operation, uid: str, image_class: str, scope: AssociationScope
    ) -> int:
        found = None if scope.session is None else scope.session.image_box(uid)
        if found is None or scope.session is None:
            raise PrintError(Status.NO_SUCH_SOP_INSTANCE, "there is no such image box")
        film_box, box = found
        if film_box.image_class != image_class:
            raise PrintError(
                Status.NO_SUCH_SOP_INSTANCE, "the image box is one of the other SOP class"
            )
        given, gathered = await self._image_list(operation)
        try:
            if scope.session is None:  # its association ended meanwhile
                raise PrintError(Status.NO_SUCH_SOP_INSTANCE, "the film session is gone")
            status, made = self._judged_image(film_box, box, image_class, given, scope)
        finally:
            self.memory.give(gathered)
        if made.held and not self.memory.take(made.held - box.held):
            raise PrintError(PrintStatus.INSUFFICIENT_MEMORY, "no memory for another image")
        if not made.held:
            self.memory.give(box.held)
        film_box.image_boxes[box.position - 1] = made
        return status

    def _judged_image(
        self,
        film_box: FilmBox,
        box: ImageBox,
        image_class: str,
        given: AttributeList,
        scope: AssociationScope,
    ) -> tuple[int, ImageBox]:
        """The box with what came, and the status of that."""
        if tags.IMAGE_POSITION not in given.elements:
            raise PrintError(
                Status.MISSING_ATTRIBUTE, "no image box position", [tags.IMAGE_POSITION]
            )
        if number_of(given.elements, tags.IMAGE_POSITION) != box.position:
            raise wrong(tags.IMAGE_POSITION, f"of this image box is {box.position}")
        is_colour = image_class == tags.COLOR_IMAGE_BOX
        sequence = tags.COLOR_IMAGES if is_colour else tags.GRAYSCALE_IMAGES
        if sequence not in given.elements:
            raise PrintError(Status.MISSING_ATTRIBUTE, "no image", [sequence])
        image = image_of(given, sequence)
        if image is None:
            return _SUCCESS, ImageBox(box.sop_instance_uid, box.position)
        image = with_request(image, given)
        lut = referenced_uid(given, tags.REFERENCED_PRESENTATION_LUTS)
        if lut:
            image = replace(image, lut=_lut(scope, lut))
        # The rest would stay in memory that nobody counts.
        requested = AttributeList(
            {
                tag: each
                for tag, each in given.elements.items()
                if tag in DENSITIES and is_short_number(given.text(tag))
            }
        )
        made = ImageBox(box.sop_instance_uid, box.position, image, requested)
        film = film_of(film_box, self._printer)
        status = fitted(film, made, lambda pixels: pixels <= self._limits.film_pixels)
        if with_densities(film, made, self._printer) and status == _SUCCESS:
            status = PrintStatus.DENSITY_OUT_OF_RANGE
        return status, made

    # -- N-DELETE ------------------------------------------------------------------------

    async def delete(
        self, operation: Operation, request: NDeleteRequest, scope: AssociationScope
    ) -> None:
        uid = request.requested_sop_instance_uid
        check_uid(uid)
        match request.requested_sop_class_uid:
            case tags.FILM_SESSION:
                session = film_session(scope, uid)
                self.memory.give(session.held)
                scope.session = None
            case tags.FILM_BOX:
                box = film_box_of(scope, uid)
                self.memory.give(box.held)
                assert scope.session is not None
                del scope.session.film_boxes[uid]
            case tags.PRESENTATION_LUT:
                if scope.luts.pop(uid, None) is None:
                    raise PrintError(Status.NO_SUCH_SOP_INSTANCE, "there is no such lookup table")
            case _:
                raise OperationError(Status.UNRECOGNIZED_OPERATION)
        await operation.respond(
            NDeleteResponse(
                message_id_being_responded_to=request.message_id,
                status=Status.SUCCESS,
                affected_sop_class_uid=request.requested_sop_class_uid,
                affected_sop_instance_uid=uid,
            )
        )

    # -- Data sets -----------------------------------------------------------------------

    async def _attribute_list(
        self, operation: Operation, *, is_optional: bool = False
    ) -> AttributeList:
        if not operation.has_data_set and is_optional:
            return AttributeList({})
        return await read_attribute_list(operation)

    async def _image_list(self, operation: Operation) -> tuple[AttributeList, int]:
        """The attribute list of an image box, and how many bytes of memory are taken for it.

        Raises:
            PrintError: C605H: there is not so much memory.
        """
        if not operation.has_data_set:
            raise PrintError(Status.MISSING_ATTRIBUTE, "request without a data set")
        most = self._limits.image_bytes
        gathered = bytearray()
        try:
            async for group in operation.fragments():
                for data in group:
                    if len(gathered) + len(data) > most or not self.memory.take(len(data)):
                        raise PrintError(
                            PrintStatus.INSUFFICIENT_MEMORY, "no memory for such an image"
                        )
                    gathered += data
            limits = replace(operation.association.limits, identifier=most)
            syntax = operation.context.transfer_syntax
            try:
                given = await trio.to_thread.run_sync(
                    AttributeList.read, gathered, syntax, limits, limiter=self._reading
                )
            except DataSetLimitError as error:
                raise PrintError(
                    Status.RESOURCE_LIMITATION, f"the data set passes {error.limit}"
                ) from error
            except DataSetError as error:
                raise PrintError(
                    Status.PROCESSING_FAILURE, "the data set cannot be read"
                ) from error
        except BaseException:
            self.memory.give(len(gathered))
            raise
        return given, len(gathered)


def _image_class_of(operation: Operation) -> str:
    """The SOP class of the image boxes of films that are created on this context."""
    context = operation.context.abstract_syntax
    is_colour = context == tags.COLOR_META or (
        context == tags.FILM_BOX
        and has_context(operation, tags.COLOR_IMAGE_BOX)
        and not has_context(operation, tags.GRAYSCALE_IMAGE_BOX)
    )
    return tags.COLOR_IMAGE_BOX if is_colour else tags.GRAYSCALE_IMAGE_BOX


def _memory_status(given: AttributeList) -> int:
    asked = given.text(tags.MEMORY_ALLOCATION)
    return PrintStatus.MEMORY_ALLOCATION_NOT_SUPPORTED if asked else _SUCCESS


def _lut(scope: AssociationScope, uid: str) -> PresentationLut:
    if uid not in scope.luts:
        raise wrong(tags.REFERENCED_PRESENTATION_LUTS, "names no lookup table of here")
    return scope.luts[uid]


def _set_annotation(scope: AssociationScope, uid: str, given: AttributeList) -> int:
    box = None if scope.session is None else scope.session.annotation_box(uid)
    if box is None:
        raise PrintError(Status.NO_SUCH_SOP_INSTANCE, "there is no such annotation box")
    if tags.ANNOTATION_POSITION not in given.elements:
        raise PrintError(
            Status.MISSING_ATTRIBUTE, "no annotation position", [tags.ANNOTATION_POSITION]
        )
    position = number_of(given.elements, tags.ANNOTATION_POSITION)
    if not 1 <= position <= ANNOTATIONS:
        raise wrong(tags.ANNOTATION_POSITION, f"has to be 1 to {ANNOTATIONS}")
    # Spoolers take the first box for whatever position they are configured to.
    text = " ".join(given.text(tags.TEXT_STRING).split())
    if len(text) > LONGEST_VALUE:
        raise wrong(tags.TEXT_STRING, f"is longer than {LONGEST_VALUE} characters")
    box.position = position
    box.text = text
    return _SUCCESS
