"""Print management as SCP (PS3.4 H.4): film sessions, films, print jobs and the printer.

A film is composed when N-ACTION asks for it, and its job is durable when the response leaves.
Film sessions are of one association, and gone with it.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from isocenter.engine.describe import describe
from isocenter.engine.dimse.message_codec import (
    NActionRequest,
    NCreateRequest,
    NDeleteRequest,
    NGetRequest,
    NSetRequest,
)
from isocenter.engine.dimse.status import Status
from isocenter.engine.negotiation import Offer
from isocenter.services.association.invoker import Invoker
from isocenter.services.association.operation import Operation
from isocenter.services.association.service_registry import Statuses
from isocenter.services.dicom.uid_registry import IDENTIFIER_SYNTAXES
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.normalized.refusal import refusal
from isocenter.services.service_classes.print import attributes as tags
from isocenter.services.service_classes.print.attributes import PrintError, PrintStatus
from isocenter.services.service_classes.print.desk import Compose, PrinterDesk
from isocenter.services.service_classes.print.events import PrintEvents
from isocenter.services.service_classes.print.hierarchy import FilmHierarchy
from isocenter.services.service_classes.print.job import PrintJob
from isocenter.services.service_classes.print.manager import PrintJobManager
from isocenter.services.service_classes.print.printer import (
    Printer,
)
from isocenter.services.service_classes.print.scope import (
    AssociationScope,
    PrintLimits,
)

log = logging.getLogger("isocenter.operation")

PRINT: Final = 1
_META_MEMBERS: Final = {
    tags.GRAYSCALE_META: (
        tags.FILM_SESSION, tags.FILM_BOX, tags.GRAYSCALE_IMAGE_BOX, tags.PRINTER,
    ),
    tags.COLOR_META: (tags.FILM_SESSION, tags.FILM_BOX, tags.COLOR_IMAGE_BOX, tags.PRINTER),
}  # fmt: skip
#: Members of the meta SOP classes are taken alone, too: some SCUs propose them so.
_ALONE: Final = (
    tags.FILM_SESSION, tags.FILM_BOX, tags.GRAYSCALE_IMAGE_BOX, tags.COLOR_IMAGE_BOX, tags.PRINTER,
    tags.PRINT_JOB, tags.PRESENTATION_LUT, tags.ANNOTATION_BOX, tags.PRINTER_CONFIGURATION,
)  # fmt: skip


class PrintScp:
    """Performs what is asked of film sessions, their boxes, print jobs and the printer.

    Args:
        compose: makes the picture of a film, or raises `PixelError`.
    """

    name = "print management"
    statuses: Final[Statuses] = {
        Status.SUCCESS: "it is done; of a print, the job is durable",
        Status.NO_SUCH_ATTRIBUTE: "an attribute that can only be set when its film box is created",
        Status.INVALID_ATTRIBUTE_VALUE: "a value that the attribute may not have, a layout that is "
        "not printed, an image that is none, or a reference to what there is not",
        Status.ATTRIBUTE_LIST_ERROR: "without the attributes that the printer does not have",
        Status.PROCESSING_FAILURE: "the data set cannot be read, a film cannot be composed, or as "
        "for all",
        Status.DUPLICATE_SOP_INSTANCE: "there is a film session, or such an instance, already",
        Status.NO_SUCH_SOP_INSTANCE: "there is no such instance on this association, or no such "
        "print job of this calling AE title",
        Status.INVALID_SOP_INSTANCE: "the SOP Instance UID is none",
        Status.MISSING_ATTRIBUTE: "there is no data set, or an attribute is not in it",
        Status.MISSING_ATTRIBUTE_VALUE: "an attribute has no value",
        Status.NO_SUCH_ACTION_TYPE: "another action than to print",
        Status.RESOURCE_LIMITATION: "too many films, lookup tables or attributes, a film that "
        "is too large, or whose images are together, or no room on the disk",
        PrintStatus.MEMORY_ALLOCATION_NOT_SUPPORTED: "memory was to be set aside; it never is",
        PrintStatus.EMPTY_SESSION: "printed, though no film of the session has an image",
        PrintStatus.EMPTY_PAGE: "printed, though the film has no image",
        PrintStatus.DEMAGNIFIED: "the image was made smaller to fit its box",
        PrintStatus.DENSITY_OUT_OF_RANGE: "the printer's own limits of density are used",
        PrintStatus.CROPPED: "as it was asked for, of the image is seen what fits into its box",
        PrintStatus.DECIMATED: "as it was asked for, the image was made smaller to fit its box",
        PrintStatus.NO_FILM_BOX: "the film session has no film box",
        PrintStatus.QUEUE_FULL_FOR_SESSION: "as many jobs wait as may (a film session)",
        PrintStatus.QUEUE_FULL_FOR_BOX: "as many jobs wait as may (a film box)",
        PrintStatus.IMAGE_TOO_LARGE: "the image is larger than its box, and was not to be changed",
        PrintStatus.INSUFFICIENT_MEMORY: "the images of all films take as much memory as they may",
    }

    def __init__(
        self,
        printer: Printer,
        manager: PrintJobManager,
        compose: Compose,
        *,
        limits: PrintLimits | None = None,
    ) -> None:
        limits = limits or PrintLimits()
        self._hierarchy = FilmHierarchy(printer, limits)
        self._memory = self._hierarchy.memory
        self._desk = PrinterDesk(printer, manager, compose, limits, self._memory)
        self._events = PrintEvents(printer, manager.jobs, self._desk)
        self._scopes: dict[Invoker, AssociationScope] = {}
        self._nursery: trio.Nursery | None = None
        self._offers = {
            uid: Offer(transfer_syntaxes=IDENTIFIER_SYNTAXES, members=frozenset(members))
            for uid, members in _META_MEMBERS.items()
        }
        for uid in _ALONE:
            if uid != tags.ANNOTATION_BOX or printer.has_annotations:
                self._offers[uid] = Offer(transfer_syntaxes=IDENTIFIER_SYNTAXES)

    def offer(self, abstract_syntax: str) -> Offer | None:
        return self._offers.get(abstract_syntax)

    async def perform(self, operation: Operation) -> None:
        scope = self._scope_of(operation.association)
        request = operation.request
        try:
            async with scope.turn:
                match request:
                    case NCreateRequest():
                        await self._hierarchy.create(operation, request, scope)
                    case NSetRequest():
                        await self._hierarchy.set(operation, request, scope)
                    case NDeleteRequest():
                        await self._hierarchy.delete(operation, request, scope)
                    case NGetRequest():
                        await self._desk.get(operation, request)
                    case NActionRequest():
                        await self._desk.act(operation, request, scope)
                    case _:
                        raise OperationError(Status.UNRECOGNIZED_OPERATION)
        except PrintError as fault:
            operation.association.peer_log.write(
                log, logging.WARNING, "%s: %s", describe(request), fault
            )
            await operation.respond(refusal(request, fault))

    # -- Scope ---------------------------------------------------------------------------

    def job_changed(self, job: PrintJob) -> None:
        """A job is another than it was: who printed it is told."""
        self._events.wake()

    async def run(self) -> None:
        """Tell associations of their jobs, and forget film sessions with them, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                for association in tuple(self._scopes):
                    nursery.start_soon(self._watch, association)
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def _scope_of(self, association: Invoker) -> AssociationScope:
        found = self._scopes.get(association)
        if found is None:
            for other in [each for each in self._scopes if each.ended.is_set()]:
                self._forget(other)
            found = self._scopes[association] = AssociationScope()
            if self._nursery is not None:
                self._nursery.start_soon(self._watch, association)
        return found

    async def _watch(self, association: Invoker) -> None:
        scope = self._scopes.get(association)
        if scope is None:
            return  # it ended, and was forgotten, before this began
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._events.tell, association, scope)
            await association.ended.wait()
            nursery.cancel_scope.cancel()
        self._forget(association)

    def _forget(self, association: Invoker) -> None:
        scope = self._scopes.pop(association, None)
        if scope is not None:
            self._memory.give(scope.held)
            scope.session = None
