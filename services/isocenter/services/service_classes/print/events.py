"""Events of print jobs and printer, told while an association stands (PS3.4 H.4.5, H.4.6)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import trio

from isocenter.engine.dimse.message_codec import NEventReportRequest
from isocenter.engine.errors import AssociationError, LocalProtocolError
from isocenter.engine.negotiation import PresentationContext
from isocenter.services.association.invoker import Invoker
from isocenter.services.concurrency import Broadcast
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.errors import StorageError
from isocenter.services.service_classes.print import attributes as tags
from isocenter.services.service_classes.print.attributes import attribute_list, text_element
from isocenter.services.service_classes.print.desk import PrinterDesk
from isocenter.services.service_classes.print.ports import PrintJobs
from isocenter.services.service_classes.print.printer import JOB_TERMS, Printer, PrinterStatus
from isocenter.services.service_classes.print.scope import AssociationScope

log = logging.getLogger("isocenter.operation")

#: How often is looked what became of jobs: another process may print them.
LOOK_SECONDS: Final = 2.0
_META: Final = (tags.GRAYSCALE_META, tags.COLOR_META, tags.PRINTER)


class PrintEvents:
    """Tells whoever prints how its jobs, and the printer, are from now on."""

    def __init__(self, printer: Printer, jobs: PrintJobs, desk: PrinterDesk) -> None:
        self._printer = printer
        self._jobs = jobs
        self._desk = desk
        self._changed = Broadcast()

    def wake(self) -> None:
        """A job is another than it was."""
        self._changed.send()

    async def tell(self, association: Invoker, scope: AssociationScope) -> None:
        """Tell one association, until cancelled or it has ended."""
        known: PrinterStatus | None = None
        while not association.ended.is_set():
            try:
                known = await self._tell_of_printer(association, known)
                await self._tell_of_jobs(association, scope)
            except StorageError as error:
                log.error("how print jobs are cannot be told: %s", error)
            except (AssociationError, LocalProtocolError):
                return
            except Exception as error:
                # A fault of ours, and no reason for the server to end.
                log.error("telling of print jobs: internal error (%s)", type(error).__name__)
                return
            with trio.move_on_after(LOOK_SECONDS):
                await self._changed.wait()

    async def _tell_of_printer(
        self, association: Invoker, known: PrinterStatus | None
    ) -> PrinterStatus:
        status = await self._desk.printer_status()
        context = _context(association, _META)
        if known is not None and status is not known and context is not None:
            information = attribute_list(
                text_element(tags.PRINTER_STATUS_INFO, "CS", status.info),
                text_element(tags.PRINTER_NAME, "LO", self._printer.name),
            )
            await _report(
                association, context, tags.PRINTER, tags.PRINTER_INSTANCE, status.event_type,
                information,
            )  # fmt: skip
        return status

    async def _tell_of_jobs(self, association: Invoker, scope: AssociationScope) -> None:
        context = _context(association, (tags.PRINT_JOB,))
        if not scope.jobs or context is None:
            return
        states = await self._jobs.states(list(scope.jobs))
        for job_uid, told in tuple(scope.jobs.items()):
            state = states.get(job_uid, told)
            if state is not told:
                scope.jobs[job_uid] = state
                _, info, event_type = JOB_TERMS[state]
                information = attribute_list(
                    text_element(tags.EXECUTION_STATUS_INFO, "CS", info),
                    text_element(tags.PRINTER_NAME, "LO", self._printer.name),
                )
                await _report(
                    association, context, tags.PRINT_JOB, job_uid, event_type, information
                )
            if state.is_final:
                del scope.jobs[job_uid]


def _context(association: Invoker, abstract_syntaxes: Sequence[str]) -> PresentationContext | None:
    """The first context for one of them."""
    for context in association.negotiated.contexts.values():
        if context.abstract_syntax in abstract_syntaxes:
            return context
    return None


async def _report(
    association: Invoker,
    context: PresentationContext,
    sop_class_uid: str,
    sop_instance_uid: str,
    event_type: int,
    information: AttributeList,
) -> None:
    """Send an event; what the peer answers changes nothing."""
    request = NEventReportRequest(
        message_id=association.next_message_id(),
        affected_sop_class_uid=sop_class_uid,
        affected_sop_instance_uid=sop_instance_uid,
        event_type_id=event_type,
    )
    await association.invoke(
        context.context_id, request, information.encode(context.transfer_syntax)
    )
