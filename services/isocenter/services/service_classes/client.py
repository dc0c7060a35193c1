"""Associations that we open: verify, store, find, get and move as SCU.

async with open_association(Peer("ARCHIVE", "127.0.0.1", 11112), [(VERIFICATION, …)]) as archive:
    await archive.echo()
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

import pydicom
import trio

from isocenter.engine.deadlines import DEFAULT_DEADLINES, Deadlines
from isocenter.engine.dimse.message_codec import (
    CEchoRequest,
    CFindRequest,
    CGetRequest,
    CGetResponse,
    CMoveRequest,
    CMoveResponse,
    CStoreRequest,
    CStoreResponse,
    response_to,
)
from isocenter.engine.dimse.status import Status, StatusClass, classify
from isocenter.engine.driving import associate_request
from isocenter.engine.errors import DeadlineExceeded, LocalProtocolError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.items import (
    AsynchronousOperationsWindow,
    ExtendedNegotiation,
    RoleSelection,
    UserIdentity,
)
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import MOST_CONTEXTS, PresentationContext, Role
from isocenter.engine.pdu import AssociateRequest
from isocenter.engine.uid import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)
from isocenter.services.association import AssociationTask
from isocenter.services.association.operation import Operation, Provider
from isocenter.services.association.peer import Peer
from isocenter.services.concurrency import alone
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.objects import DicomObject, contexts_for
from isocenter.services.dicom.pydicom_datasets import read_identifier
from isocenter.services.dicom.uids import names_an_instance
from isocenter.services.errors import (
    NoPresentationContext,
    OperationError,
    has_failed,
)
from isocenter.services.net.connect import connect
from isocenter.services.net.transport import Transport
from isocenter.services.service_classes.query_retrieve.find_scu import Matches
from isocenter.services.service_classes.storage.scu import send_object

log = logging.getLogger("isocenter.client")

_ANY_CALLED_AE_TITLE: Final = "ANY-SCP"
_OUR_AE_TITLE: Final = "ISOCENTER"

#: An abstract syntax and its transfer syntaxes, as proposed.
Context = tuple[str, Sequence[str]]
#: Takes one object that C-GET brings: reads the data set, returns the status for its response.
Receiver = Callable[[Operation, CStoreRequest], Awaitable[int]]

#: For services whose data sets are identifiers.
BASIC_SYNTAXES: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)

T = TypeVar("T")


class Connector(Protocol):
    """Opens associations with the settings of whoever made it."""

    def __call__(
        self, peer: Peer, contexts: Sequence[Context], *, operations_window: int = 1
    ) -> AbstractAsyncContextManager[ClientAssociation]: ...


@dataclass(frozen=True, slots=True)
class RetrieveResult:
    """What a C-GET or C-MOVE came to.

    Attributes:
        status: of the final response.
        failed_uids: SOP Instance UIDs that the peer names as failed (0008,0058).
    """

    status: int
    completed: int
    failed: int
    warning: int
    failed_uids: tuple[str, ...] = ()
    comment: str = ""


class RetrieveError(OperationError):
    """A C-GET or C-MOVE that did not bring all that was asked for.

    Attributes:
        result: what it came to.
    """

    def __init__(self, result: RetrieveResult) -> None:
        # Of a warning (B000H) the comment of the peer says less than the counter.
        super().__init__(result.status, result.comment or f"{result.failed} objects failed")
        self.result = result


@dataclass(frozen=True, slots=True)
class RetrieveProgress:
    """Counters of a pending response; None where the peer did not give one."""

    remaining: int | None
    completed: int | None
    failed: int | None
    warning: int | None


class ClientAssociation:
    """An established association of which we are the requestor; `open_association` makes it.

    One rule for what the peer answers: a success or a warning is returned, any other status raises
    `OperationError`.  All calls also raise `AssociationError` when the association ends before
    they do, and `NoPresentationContext` when the peer did not accept what they need.
    """

    def __init__(self, task: AssociationTask) -> None:
        self.task = task
        self._receiver: Receiver | None = None
        self._takes_raw_uids = False

    @property
    def contexts(self) -> Sequence[PresentationContext]:
        """What was accepted."""
        return tuple(self.task.negotiated.contexts.values())

    async def echo(self) -> int:
        """C-ECHO (PS3.7 9.1.5); the status, 0000H as a rule.

        Raises:
            OperationError: the peer answered with a failure.
        """
        request = CEchoRequest(
            message_id=self.task.next_message_id(), affected_sop_class_uid=VERIFICATION
        )
        received = await self.task.invoke(self._context(VERIFICATION).context_id, request)
        status = received.message.status
        if has_failed(status):
            raise OperationError(status, received.message.error_comment)
        return status

    async def store(
        self, item: DicomObject | pydicom.Dataset, *, priority: int = 0
    ) -> CStoreResponse:
        """C-STORE (PS3.7 9.1.1) of one object, streamed; the response, a success or a warning.

        Raises:
            OperationError: the peer did not keep it.
            NoPresentationContext: none that was accepted can carry it, also not converted.
        """
        if isinstance(item, pydicom.Dataset):
            item = DicomObject.from_dataset(item)
        response = await send_object(self.task, item, priority=priority)
        if response is None:
            raise NoPresentationContext(
                f"the peer accepted no presentation context for "
                f"{sop_classes.name_of(item.sop_class_uid)} in "
                f"{sop_classes.name_of(item.transfer_syntax_uid)}"
            )
        if has_failed(response.status):
            raise OperationError(
                response.status, response.error_comment, response.offending_elements
            )
        return response

    def find(
        self,
        identifier: bytes | Callable[[str], bytes],
        *,
        sop_class_uid: str = sop_classes.STUDY_ROOT_FIND,
        priority: int = 0,
    ) -> Matches:
        """C-FIND (PS3.7 9.1.2): an async iterator of matches.

        Args:
            identifier: encoded in the context's transfer syntax, or a function that
                encodes it for a transfer syntax UID (see `build_identifier`).

        Leaving the loop, or the context when used with ``async with``, sends C-CANCEL-RQ
        if the peer is not done.
        """
        context = self._context(sop_class_uid)
        request = CFindRequest(
            message_id=self.task.next_message_id(),
            affected_sop_class_uid=sop_class_uid,
            priority=priority,
        )
        return Matches(self.task, context, request, _encoded(identifier, context))

    async def get(
        self,
        identifier: bytes | Callable[[str], bytes],
        receive: Receiver,
        *,
        sop_class_uid: str = sop_classes.STUDY_ROOT_GET,
        priority: int = 0,
        progress: Callable[[RetrieveProgress], None] | None = None,
        takes_raw_uids: bool = False,
    ) -> RetrieveResult:
        """C-GET (PS3.7 9.1.3): objects come to *receive* on this association.

        The association needs contexts for their SOP classes with the SCP role (see
        `open_association`).  Cancelled, it sends C-CANCEL-RQ and lets the peer finish in
        the background.

        Args:
            receive: gets no object whose SOP Instance UID could not be the name of a file
                (`UidRule.SAFE`; the peer has 0117H).
            takes_raw_uids: it does, and judges them itself.

        Raises:
            RetrieveError: the peer answered with a failure, or some objects failed.
        """
        self._refuse_second_get()
        # One that was cancelled may still bring objects, and nobody could tell whose they are.
        await self.task.no_more_of(CGetRequest)
        self._refuse_second_get()
        context = self._context(sop_class_uid)
        request = CGetRequest(
            message_id=self.task.next_message_id(),
            affected_sop_class_uid=sop_class_uid,
            priority=priority,
        )
        self._receiver = receive
        self._takes_raw_uids = takes_raw_uids
        try:
            return await self._retrieve(context, request, identifier, progress)
        finally:
            self._receiver = None

    def _refuse_second_get(self) -> None:
        if self._receiver is not None:
            raise LocalProtocolError("another C-GET is under way on this association")

    async def move(
        self,
        identifier: bytes | Callable[[str], bytes],
        destination: str,
        *,
        sop_class_uid: str = sop_classes.STUDY_ROOT_MOVE,
        priority: int = 0,
        progress: Callable[[RetrieveProgress], None] | None = None,
    ) -> RetrieveResult:
        """C-MOVE (PS3.7 9.1.4): the peer sends to the AE title *destination*.

        Cancelled, it sends C-CANCEL-RQ and lets the peer finish in the background.

        Raises:
            RetrieveError: the peer answered with a failure, or some objects failed.
        """
        context = self._context(sop_class_uid)
        request = CMoveRequest(
            message_id=self.task.next_message_id(),
            affected_sop_class_uid=sop_class_uid,
            priority=priority,
            move_destination=destination,
        )
        return await self._retrieve(context, request, identifier, progress)

    async def _retrieve(
        self,
        context: PresentationContext,
        request: CGetRequest | CMoveRequest,
        identifier: bytes | Callable[[str], bytes],
        progress: Callable[[RetrieveProgress], None] | None,
    ) -> RetrieveResult:
        task = self.task
        invocation = await task.begin(context.context_id, request, _encoded(identifier, context))
        try:
            while True:
                received = await invocation.next()
                response = received.message
                assert isinstance(response, CGetResponse | CMoveResponse)
                if classify(response.status) is not StatusClass.PENDING:
                    break
                if progress is not None:
                    progress(
                        RetrieveProgress(
                            response.number_of_remaining_suboperations,
                            response.number_of_completed_suboperations,
                            response.number_of_failed_suboperations,
                            response.number_of_warning_suboperations,
                        )
                    )
        except trio.Cancelled:
            with trio.move_on_after(task.deadlines.abort, shield=True):
                await invocation.cancel_and_drain()
            raise
        finally:
            task.finish(invocation)
        failed: tuple[str, ...] = ()
        if received.data_set:
            listed = read_identifier(received.data_set, context.transfer_syntax)
            failed = _uids_of(listed.get("FailedSOPInstanceUIDList"))
        result = RetrieveResult(
            status=response.status,
            completed=response.number_of_completed_suboperations or 0,
            failed=response.number_of_failed_suboperations or 0,
            warning=response.number_of_warning_suboperations or 0,
            failed_uids=failed,
            comment=response.error_comment,
        )
        if has_failed(result.status) or result.failed:
            raise RetrieveError(result)
        return result

    def _context(self, abstract_syntax: str) -> PresentationContext:
        for context in self.task.negotiated.contexts.values():
            if context.abstract_syntax == abstract_syntax:
                return context
        raise NoPresentationContext(
            f"the peer did not accept {sop_classes.name_of(abstract_syntax)}"
        )

    async def perform(self, operation: Operation) -> None:
        """What the peer may ask of us: C-STORE while a C-GET is under way, and C-ECHO never."""
        request = operation.request
        status: int
        if self._receiver is None or not isinstance(request, CStoreRequest):
            status = Status.UNRECOGNIZED_OPERATION
        elif not self._takes_raw_uids and not names_an_instance(request):
            log.error("an object was refused: its SOP Instance UID is not a UID")
            status = Status.INVALID_SOP_INSTANCE
        else:
            try:
                status = await self._receiver(operation, request)
            except OperationError as error:
                log.error("%s", error)
                status = error.status
            except OSError as error:
                log.error("an object cannot be kept: %s", error)
                status = Status.OUT_OF_RESOURCES
        await operation.respond(response_to(request, status))


def _uids_of(value: Any) -> tuple[str, ...]:
    """The UIDs of a value as pydicom gives it."""
    if isinstance(value, bytes):
        # Too long for the two bytes of a length that a UI has: so it comes as UN (PS3.5 6.2.2).
        value = value.decode("ascii", "replace").rstrip("\0 ").split("\\")
    elif isinstance(value, str):
        value = (value,)
    return tuple(str(uid) for uid in value or ())


def _encoded(identifier: bytes | Callable[[str], bytes], context: PresentationContext) -> bytes:
    return identifier if isinstance(identifier, bytes) else identifier(context.transfer_syntax)


@asynccontextmanager
async def open_association(
    peer: Peer,
    contexts: Sequence[Context],
    *,
    calling_ae_title: str = _OUR_AE_TITLE,
    tls: ssl.SSLContext | None = None,
    scp_roles: Iterable[str] = (),
    extended: Sequence[ExtendedNegotiation] = (),
    user_identity: UserIdentity | None = None,
    operations_window: int = 1,
    max_pdu_length: int | None = None,
    provider: Provider | None = None,
    transport: Transport | None = None,
    deadlines: Deadlines = DEFAULT_DEADLINES,
    limits: Limits = DEFAULT_LIMITS,
) -> AsyncIterator[ClientAssociation]:
    """An association with *peer*, released at the end, aborted when the body raises.

    When the body raises, is cancelled or interrupted (Ctrl-C), the peer is told: C-CANCEL-RQ for
    what is outstanding and can be cancelled, then A-ABORT.  For the end of what was cancelled, and
    for the peer to close, it waits for `Deadlines.abort` each at most; cancellation from outside
    does not cut that short.  What the body raised goes on as it is, in no exception group.

    Args:
        contexts: abstract syntaxes with their transfer syntaxes, at most 128; the same abstract
            syntax may stand several times.
        tls: for DICOM over TLS, made by `client_context`; None: in the clear.
        scp_roles: SOP classes for which we offer to be SCP (C-GET, PS3.7 D.3.3.4).
        operations_window: operations that may be outstanding at once, each way.
        provider: performs what the peer requests, as it came (`Registry.perform` looks at its
            UIDs); default: C-STORE for `ClientAssociation.get`.
        transport: a connection with the peer that stands already and is closed at the end;
            None: one is made.

    Raises:
        ConnectError: no connection, or no TLS.
        AssociationRejectedError: the peer said no; the message says why.
        AssociationError: it ended before it was established.
        LocalProtocolError: the proposal breaks a rule (an AE title over 16 characters …).
    """
    request = _associate_request(
        peer,
        contexts,
        calling_ae_title=calling_ae_title,
        scp_roles=scp_roles,
        extended=extended,
        user_identity=user_identity,
        operations_window=operations_window,
        max_pdu_length=limits.max_pdu_length if max_pdu_length is None else max_pdu_length,
    )
    if transport is None:
        transport = await connect(peer.host, peer.port, tls, deadlines)
    client: ClientAssociation

    async def perform(operation: Operation) -> None:
        await (provider or client.perform)(operation)

    task = AssociationTask(
        transport, Role.REQUESTOR, provider=perform, deadlines=deadlines, limits=limits
    )
    client = ClientAssociation(task)
    failure: BaseException | None = None
    fault: BaseException | None = None
    finished = trio.Event()
    # Who is cancelled still has to tell the peer, and what the peer says then has to be read: so
    # the reader outlives the body, and ends by `reading` and nothing else.
    reading, using = trio.CancelScope(shield=True), trio.CancelScope()

    async def read() -> None:
        nonlocal fault
        try:
            with reading:
                await task.run()
        except BaseException as error:  # a nursery would wrap it
            fault = alone(error)
            using.cancel()
        finally:
            finished.set()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            try:
                try:
                    with using:
                        await _establish(task, request)
                        yield client
                        await task.release()
                except BaseException as error:
                    failure = error
                    await task.give_up()
                with trio.move_on_after(deadlines.abort, shield=True):
                    await task.closed.wait()
            finally:
                reading.cancel()
            with trio.CancelScope(shield=True):
                await finished.wait()
    finally:
        with trio.CancelScope(shield=True):
            await transport.aclose()
    # Whoever opened the association sees its own, and not a group of it.
    if fault is not None:
        raise fault
    if failure is not None:
        raise failure


async def _establish(task: AssociationTask, request: AssociateRequest) -> None:
    with trio.move_on_after(task.deadlines.association_response) as scope:
        await task.request_association(request)
        await task.established_or_ended()
    if scope.cancelled_caught:
        raise DeadlineExceeded(
            f"no answer to A-ASSOCIATE-RQ within {task.deadlines.association_response:g} s"
        )
    if not task.established.is_set():
        raise task.end_reason()


def _associate_request(
    peer: Peer,
    contexts: Sequence[Context],
    *,
    calling_ae_title: str,
    scp_roles: Iterable[str],
    extended: Sequence[ExtendedNegotiation],
    user_identity: UserIdentity | None,
    operations_window: int,
    max_pdu_length: int,
) -> AssociateRequest:
    request = associate_request(
        peer.ae_title, calling_ae_title, contexts, max_pdu_length=max_pdu_length
    )
    window = (
        AsynchronousOperationsWindow(operations_window, operations_window)
        if operations_window != 1
        else None
    )
    return replace(
        request,
        user_information=replace(
            request.user_information,
            asynchronous_operations_window=window,
            role_selections=tuple(
                RoleSelection(uid, scu_role=False, scp_role=True)
                for uid in dict.fromkeys(scp_roles)
            ),
            extended_negotiations=tuple(extended),
            user_identity=user_identity,
        ),
    )


def plan_associations(
    items: Sequence[T], kind_of: Callable[[T], tuple[str, str]]
) -> list[tuple[list[Context], list[T]]]:
    """Split what is to be sent over as few associations as its presentation contexts need.

    *kind_of* gives (SOP class UID, transfer syntax UID).  Each result is the contexts to
    propose, at most 128, and the items that they serve, in order.
    """
    by_kind: dict[tuple[str, str], list[T]] = {}
    for item in items:
        by_kind.setdefault(kind_of(item), []).append(item)
    plans: list[tuple[list[Context], list[T]]] = []
    kinds: list[tuple[str, str]] = []
    for kind in by_kind:
        if kinds and len(contexts_for([*kinds, kind])) > MOST_CONTEXTS:
            plans.append(_plan(kinds, by_kind))
            kinds = []
        kinds.append(kind)
    if kinds:
        plans.append(_plan(kinds, by_kind))
    return plans


def _plan(
    kinds: Sequence[tuple[str, str]], by_kind: dict[tuple[str, str], list[T]]
) -> tuple[list[Context], list[T]]:
    return list(contexts_for(kinds)), [item for kind in kinds for item in by_kind[kind]]
