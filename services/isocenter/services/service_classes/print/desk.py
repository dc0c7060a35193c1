"""Printer desk: print jobs of films, answers about printer and jobs (PS3.4 H.4)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from isocenter.engine.dimse.message_codec import (
    NActionRequest,
    NActionResponse,
    NGetRequest,
    NGetResponse,
)
from isocenter.engine.dimse.status import Status
from isocenter.services.association.operation import Operation
from isocenter.services.dicom.film.film import Film
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.uids import new_uid
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.print import attributes as tags
from isocenter.services.service_classes.print.attributes import PrintError, PrintStatus
from isocenter.services.service_classes.print.film_session import (
    FilmBox,
    FilmSession,
)
from isocenter.services.service_classes.print.films import (
    film_of,
)
from isocenter.services.service_classes.print.job import (
    ComposedFilm,
    NewPrintJob,
    PrintJob,
    PrintJobState,
)
from isocenter.services.service_classes.print.manager import PrintJobManager
from isocenter.services.service_classes.print.printer import (
    Printer,
    PrinterStatus,
    job_attributes,
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

log = logging.getLogger("isocenter.operation")

PRINT: Final = 1
_SUCCESS: Final = int(Status.SUCCESS)
_WELL_KNOWN: Final = {
    tags.PRINTER: tags.PRINTER_INSTANCE,
    tags.PRINTER_CONFIGURATION: tags.PRINTER_CONFIGURATION_INSTANCE,
}
#: Makes a picture of a film.
Compose = Callable[[Film], Awaitable[bytes]]


class PrinterDesk:
    """Makes print jobs of films, and tells of jobs and printer.

    Args:
        compose: makes the picture of a film, or raises `PixelError`.
        memory: for what is composed, beside the images.
    """

    def __init__(
        self,
        printer: Printer,
        manager: PrintJobManager,
        compose: Compose,
        limits: PrintLimits,
        memory: ImageMemory,
    ) -> None:
        self._printer = printer
        self._manager = manager
        self._jobs = manager.jobs
        self._compose = compose
        self._limits = limits
        self._memory = memory

    # -- N-GET ---------------------------------------------------------------------------

    async def get(self, operation: Operation, request: NGetRequest) -> None:
        uid, sop_class_uid = request.requested_sop_instance_uid, request.requested_sop_class_uid
        check_uid(uid)
        if sop_class_uid in _WELL_KNOWN and uid != _WELL_KNOWN[sop_class_uid]:
            raise PrintError(Status.NO_SUCH_SOP_INSTANCE, "there is no such printer")
        match sop_class_uid:
            case tags.PRINTER:
                told = self._printer.attributes(await self.printer_status())
            case tags.PRINTER_CONFIGURATION:
                told = self._printer.configuration(films=self._limits.films)
            case tags.PRINT_JOB:
                job = await self._jobs.get(uid)
                if job is None or not _may_know(operation, job):
                    raise PrintError(Status.NO_SUCH_SOP_INSTANCE, "there is no such print job")
                told = job_attributes(job, self._printer)
            case _:
                raise OperationError(Status.UNRECOGNIZED_OPERATION)
        asked = request.attribute_identifier_list
        unknown = [tag for tag in asked if tag not in told.elements]
        if asked:
            told = told.only(asked)
        await operation.respond(
            NGetResponse(
                message_id_being_responded_to=request.message_id,
                status=Status.ATTRIBUTE_LIST_ERROR if unknown else Status.SUCCESS,
                affected_sop_class_uid=sop_class_uid,
                affected_sop_instance_uid=uid,
                attribute_identifier_list=tuple(unknown),
            ),
            told.encode(operation.context.transfer_syntax),
        )

    async def printer_status(self) -> PrinterStatus:
        if await self._manager.is_full():
            return PrinterStatus.FAILURE
        return PrinterStatus.WARNING if await self._jobs.last_fault() else PrinterStatus.NORMAL

    # -- N-ACTION ------------------------------------------------------------------------

    async def act(
        self, operation: Operation, request: NActionRequest, scope: AssociationScope
    ) -> None:
        uid = request.requested_sop_instance_uid
        check_uid(uid)
        is_session = request.requested_sop_class_uid == tags.FILM_SESSION
        if not is_session and request.requested_sop_class_uid != tags.FILM_BOX:
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        session = film_session(scope, uid) if is_session else scope.session
        boxes = list(session.film_boxes.values()) if is_session and session else []
        if not is_session:
            boxes = [film_box_of(scope, uid)]
        if request.action_type_id != PRINT:
            raise PrintError(Status.NO_SUCH_ACTION_TYPE, "the action is 1, to print")
        assert session is not None
        if not boxes:
            raise PrintError(PrintStatus.NO_FILM_BOX, "the film session has no film box")
        full = PrintStatus.QUEUE_FULL_FOR_SESSION if is_session else PrintStatus.QUEUE_FULL_FOR_BOX
        if await self._manager.is_full():
            raise PrintError(full, "the print queue is full")
        if any(box.held > self._limits.film_bytes for box in boxes):
            raise PrintError(
                Status.RESOURCE_LIMITATION,
                f"the images of a film have more than {self._limits.film_bytes} bytes",
            )
        job = await self._job_of(operation, session, boxes)
        if not await self._manager.submit(job, operation.association.caller):
            raise PrintError(full, "the print queue is full")
        scope.jobs[job.job_uid] = PrintJobState.PENDING
        log.info("print job %s of %d films", job.job_uid, len(job.films))
        status = _SUCCESS
        if all(box.is_empty for box in boxes):
            status = PrintStatus.EMPTY_SESSION if is_session else PrintStatus.EMPTY_PAGE
        has_jobs = has_context(operation, tags.PRINT_JOB)
        reply = tags.attribute_list(
            tags.references(tags.REFERENCED_PRINT_JOBS, [(tags.PRINT_JOB, job.job_uid)])
        )
        await operation.respond(
            NActionResponse(
                message_id_being_responded_to=request.message_id,
                status=status,
                affected_sop_class_uid=request.requested_sop_class_uid,
                affected_sop_instance_uid=uid,
                action_type_id=PRINT,
            ),
            reply.encode(operation.context.transfer_syntax) if has_jobs else None,
        )

    async def _job_of(
        self, operation: Operation, session: FilmSession, boxes: Sequence[FilmBox]
    ) -> NewPrintJob:
        """The job of these films, composed."""
        told = session.attributes
        films = []
        length = 0
        try:
            for box in boxes:
                film = film_of(box, self._printer)
                try:
                    png = await self._compose(film)
                except PixelError as error:
                    raise PrintError(
                        Status.PROCESSING_FAILURE, f"the film cannot be composed: {error}"
                    ) from error
                # While a job is made, its films are in memory, too.
                if not self._memory.take(len(png)):
                    raise PrintError(Status.RESOURCE_LIMITATION, "no memory for another film")
                length += len(png)
                width, height = film.pixel_size
                films.append(
                    ComposedFilm(
                        png=png, width=width, height=height, dots_per_inch=film.dots_per_inch
                    )
                )
        finally:
            self._memory.give(length)
        return NewPrintJob(
            job_uid=new_uid(),
            originator=operation.association.negotiated.calling_ae_title,
            films=tuple(films),
            copies=int(told.text(tags.NUMBER_OF_COPIES)),
            priority=told.text(tags.PRINT_PRIORITY),
            medium=told.text(tags.MEDIUM_TYPE),
            destination=told.text(tags.FILM_DESTINATION),
            label=told.text(tags.FILM_SESSION_LABEL),
        )


def _may_know(operation: Operation, job: PrintJob) -> bool:
    """Whether the caller made a job, or may by policy have the images of any study as well."""
    association = operation.association
    if association.negotiated.calling_ae_title == job.originator:
        return True
    return association.grant is not None and association.grant.is_given("C-GET")
