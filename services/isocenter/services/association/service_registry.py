"""Service registry: the service of each SOP class, and responses for what it raises.

A service class is one module with a `Service`; a server is put together from a
list of them.  `ServiceRegistry` is what negotiation offers and what performs operations.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, NoReturn, Protocol, runtime_checkable

from isocenter.engine.describe import describe
from isocenter.engine.dimse.message_codec import (
    NGetRequest,
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
from isocenter.engine.negotiation import Offer, PresentationContext, general_offer
from isocenter.engine.refusal import refusal_of
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
class OnlyGets(Protocol):
    """A service that performs N-GET and nothing else: where N-GET is not answered on a SOP class,
    it is not offered there."""

    only_gets: bool


@runtime_checkable
class GivesDeidentified(Protocol):
    """A service whose answers have nothing that names a patient for callers of a project of
    de-identification (`Operation.project`); no other is performed for them: 0124H."""

    gives_deidentified: bool


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
    gives_deidentified: bool = False

    def may_see(self, request: Request) -> bool:
        return self.takes_raw_uids or names_an_instance(request)


class ServiceRegistry:
    """The services of one server; the last that offers an abstract syntax has it.

    Args:
        background_tasks: what services do on their own as long as the server runs.
        n_get_sop_classes: on which N-GET is answered; empty: on all on which a service does.
    """

    def __init__(
        self,
        services: Iterable[Service],
        *,
        background_tasks: Iterable[Callable[[], Awaitable[None]]] = (),
        n_get_sop_classes: Iterable[str] = (),
    ) -> None:
        self.services = tuple(services)
        self._n_get = frozenset(n_get_sop_classes)
        self.background_tasks = tuple(background_tasks)
        #: Needed for each association and each request: all services are asked once for each
        #: abstract syntax; whose it is may change what it offers.
        self._found: dict[str, _Found] = {}

    def offer(self, abstract_syntax: str) -> Offer | None:
        """What negotiation accepts for *abstract_syntax*, as of now."""
        service = self._service_of(abstract_syntax).service
        return None if service is None else service.offer(abstract_syntax)

    def _offered(self, abstract_syntax: str) -> tuple[Service, Offer] | None:
        for service in reversed(self.services):
            offer = service.offer(abstract_syntax)
            if offer is None:
                continue
            only_gets = isinstance(service, OnlyGets) and service.only_gets
            if only_gets and not self._is_gettable(abstract_syntax):
                continue
            return service, offer
        return None

    def _is_gettable(self, sop_class_uid: str) -> bool:
        """Whether N-GET is answered on a SOP class."""
        return not self._n_get or sop_class_uid in self._n_get

    def _service_of(self, abstract_syntax: str) -> _Found:
        found = self._found.get(abstract_syntax)
        if found is None:
            if len(self._found) >= _SYNTAXES_KEPT:
                self._found.clear()
            found = self._found[abstract_syntax] = self._find_service(abstract_syntax)
        return found

    def _service_for(self, context: PresentationContext) -> _Found:
        """A SOP class that is nobody's is served as the general one that it was accepted as."""
        found = self._service_of(context.abstract_syntax)
        if found.service is None and context.related is not None:
            general = general_offer(self.offer, context.related)
            if general is not None:
                return self._service_of(general[0])
        return found

    def _find_service(self, abstract_syntax: str) -> _Found:
        found = self._offered(abstract_syntax)
        if found is None:
            return _Found()
        service, offer = found
        return _Found(
            service,
            offer.members,
            service if isinstance(service, ImmediateService) else None,
            isinstance(service, TakesRawUids) and service.takes_raw_uids,
            isinstance(service, GivesDeidentified) and service.gives_deidentified,
        )

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
            found = self._service_for(operation.context)
            if found.service is None:
                raise OperationError(Status.SOP_CLASS_NOT_SUPPORTED)
            if operation.project and not found.gives_deidentified:
                _deny(
                    operation,
                    "it is given de-identified objects only ([[deidentification]]), and the "
                    f"service {found.service.name} answers with what is stored",
                )
            refusal = refusal_of(operation.context, request, found.members)
            if refusal is not None:
                raise OperationError(*refusal)
            if isinstance(request, NGetRequest) and not (
                self._is_gettable(operation.context.abstract_syntax)
                or self._is_gettable(request.requested_sop_class_uid)
            ):
                raise OperationError(
                    Status.UNRECOGNIZED_OPERATION, "N-GET is not answered on this SOP class"
                )
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
        operation.comment = comment
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
        _deny(operation, why)


def _deny(operation: Operation, why: str) -> NoReturn:
    association, request = operation.association, operation.request
    association.notices.publish(
        AccessDenied(
            caller=association.caller,
            command=operation_name(type(request)),
            sop_class_uid=sop_class_of(request),
            why=why,
        )
    )
    raise OperationError(Status.NOT_AUTHORIZED, log_detail=why)
