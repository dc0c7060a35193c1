"""Service registry: the service of each SOP class, and responses for what it raises.

A service class is one module with a `Service`; a server is put together from a
list of them.  `ServiceRegistry` is what negotiation offers and what performs operations.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, Protocol, runtime_checkable

from isocenter.engine.describe import describe
from isocenter.engine.dimse.message_codec import (
    Request,
    Response,
    UnrecognizedMessage,
    response_to,
    sop_class_of,
)
from isocenter.engine.dimse.message_fields import operation_name
from isocenter.engine.dimse.status import Status, StatusClass, classify, describe_status
from isocenter.engine.errors import AssociationError, LocalProtocolError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Offer, PresentationContext, refusal_of
from isocenter.services.association.operation import Operation, out_of_resources
from isocenter.services.dicom.uids import names_an_instance
from isocenter.services.errors import OperationError, StorageError
from isocenter.services.notices import AccessDenied

log = logging.getLogger("isocenter.operation")

_SYNTAXES_KEPT: Final = 512


#: Statuses of a service, and when it answers them.
Statuses = Mapping[int, str]

#: What any operation may be answered beside the statuses of its service (PS3.7 Annex C).
COMMON_STATUSES: Final[Statuses] = {
    Status.PROCESSING_FAILURE: "a fault of ours, which is in the log, or the database fails",
    Status.INVALID_SOP_INSTANCE: "the SOP Instance UID of the command is none",
    Status.SOP_CLASS_NOT_SUPPORTED: "the SOP class is not that of the presentation context",
    Status.NOT_AUTHORIZED: "the caller has no permission for it",
    Status.DUPLICATE_INVOCATION: "the Message ID is that of an operation under way",
    Status.UNRECOGNIZED_OPERATION: "an operation that the service, or our role, does not have",
    Status.MISTYPED_ARGUMENT: "a field of the command is missing or has a wrong length",
}


class Service(Protocol):
    """One service class as SCP (PS3.4)."""

    @property
    def name(self) -> str:
        """For logs: ``storage``, ``query`` …"""
        ...

    @property
    def statuses(self) -> Statuses:
        """All that it answers, beside `COMMON_STATUSES`; the conformance statement prints them."""
        ...

    def offer(self, abstract_syntax: str) -> Offer | None:
        """What is accepted for *abstract_syntax*; None: it is not this service's."""
        ...

    async def perform(self, operation: Operation) -> None:
        """Perform one operation: read its data set, send its responses.

        Raises:
            OperationError: becomes the response; anything else, 0110H and a traceback, and also
                what returns without a final response.
        """
        ...


@runtime_checkable
class ImmediateService(Protocol):
    """A service with operations that wait for nothing: neither data nor storage."""

    def respond_immediately(
        self, context: PresentationContext, request: Request
    ) -> Response | None:
        """The response; None: it is for `Service.perform`."""
        ...


@runtime_checkable
class TakesRawUids(Protocol):
    """A service that judges the SOP Instance UIDs of commands by itself.

    No other sees one that could not be the name of a file (`UidRule.SAFE`): 0117H.
    """

    takes_raw_uids: bool


@runtime_checkable
class NamesSopClasses(Protocol):
    """A service of SOP classes that PS3.6 does not name: private ones, or younger than our list.

    The conformance statement has them with these names.
    """

    sop_classes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Found:
    """The service of an abstract syntax, and the SOP classes that it takes on it."""

    service: Service | None = None
    members: frozenset[str] = frozenset()
    immediate: ImmediateService | None = None
    takes_raw_uids: bool = False

    def may_see(self, request: Request) -> bool:
        return self.takes_raw_uids or names_an_instance(request)


class ServiceRegistry:
    """The services of one server; the first that offers an abstract syntax has it.

    Args:
        background_tasks: what services do on their own as long as the server runs.
    """

    def __init__(
        self,
        services: Iterable[Service],
        *,
        background_tasks: Iterable[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self.services = tuple(services)
        self.background_tasks = tuple(background_tasks)
        #: Needed for each request: the services are asked once for each abstract syntax.
        self._found: dict[str, _Found] = {}

    def offer(self, abstract_syntax: str) -> Offer | None:
        """What negotiation accepts for *abstract_syntax*."""
        for service in self.services:
            offer = service.offer(abstract_syntax)
            if offer is not None:
                return offer
        return None

    def _service_of(self, abstract_syntax: str) -> _Found:
        found = self._found.get(abstract_syntax)
        if found is None:
            if len(self._found) >= _SYNTAXES_KEPT:
                self._found.clear()
            found = self._found[abstract_syntax] = self._find_service(abstract_syntax)
        return found

    def _find_service(self, abstract_syntax: str) -> _Found:
        for service in self.services:
            offer = service.offer(abstract_syntax)
            if offer is not None:
                return _Found(
                    service,
                    offer.members,
                    service if isinstance(service, ImmediateService) else None,
                    isinstance(service, TakesRawUids) and service.takes_raw_uids,
                )
        return _Found()

    def respond_immediately(
        self, context: PresentationContext, request: Request
    ) -> Response | None:
        """The response to what can be answered at once; None: `perform` it."""
        found = self._service_of(context.abstract_syntax)
        if found.immediate is not None and found.may_see(request):
            return found.immediate.respond_immediately(context, request)
        return None

    async def perform(self, operation: Operation) -> None:
        """Have the right service perform it; whatever happens, the request gets a response."""
        request = operation.request
        peer_log = operation.association.peer_log
        try:
            _authorize(operation)
            found = self._service_of(operation.context.abstract_syntax)
            if found.service is None:
                raise OperationError(Status.SOP_CLASS_NOT_SUPPORTED)
            refusal = refusal_of(operation.context, request, found.members)
            if refusal is not None:
                raise OperationError(*refusal)
            if not found.may_see(request):
                raise OperationError(Status.INVALID_SOP_INSTANCE, "SOP Instance UID is not a UID")
            await found.service.perform(operation)
            if operation.status is None or classify(operation.status) is StatusClass.PENDING:
                # The peer would wait for the rest of its patience.
                raise RuntimeError(f"the service {found.service.name} sent no final response")
        except OperationError as error:
            detail = f" ({error.log_detail})" if error.log_detail else ""
            peer_log.write(log, logging.WARNING, "%s: %s%s", describe(request), error, detail)
            await self._fail(operation, error.status, error.comment, error.offending_elements)
        except StorageError as error:
            status = Status.PROCESSING_FAILURE
            if error.out_of_resources:
                status = out_of_resources(request)
            peer_log.write(log, logging.ERROR, "%s", error)
            await self._fail(operation, status, describe_status(status))
        except (AssociationError, LocalProtocolError):
            raise
        except Exception:
            peer_log.write(log, logging.ERROR, "an operation failed", exc_info=True)
            await self._fail(operation, Status.PROCESSING_FAILURE, "internal error")

    async def _fail(
        self, operation: Operation, status: int, comment: str, elements: tuple[int, ...] = ()
    ) -> None:
        await operation.respond(
            response_to(
                operation.request, status, error_comment=comment, offending_elements=elements
            )
        )


def _authorize(operation: Operation) -> None:
    """Refuse with 0124H what the caller may not ask for; why is for log and audit trail only."""
    association, request = operation.association, operation.request
    if association.grant is None or isinstance(request, UnrecognizedMessage):
        return
    why = association.grant.refusal(operation.context.abstract_syntax, request)
    if why:
        association.notices.publish(
            AccessDenied(
                caller=association.caller,
                command=operation_name(type(request)),
                sop_class_uid=sop_class_of(request),
                why=why,
            )
        )
        raise OperationError(Status.NOT_AUTHORIZED, log_detail=why)
