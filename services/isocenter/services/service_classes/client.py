"""SCU of the composite services over one association: echo, store, find, get, move.

async with open_association(Peer("ARCHIVE", "127.0.0.1", 11112), [(VERIFICATION, …)]) as archive:
    await archive.echo()
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio

from isocenter.engine.buffers import Buffer
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
    Request,
    response_to,
)
from isocenter.engine.dimse.status import Status, StatusClass, classify
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import AssociationError, LocalProtocolError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.items import (
    CommonExtendedNegotiation,
    ExtendedNegotiation,
    UserIdentity,
)
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import Negotiated, PresentationContext
from isocenter.engine.pdu import AssociateAccept
from isocenter.engine.uid import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    VERIFICATION,
)
from isocenter.services.association import AssociationDriver
from isocenter.services.association.invoker import ReceivedResponse
from isocenter.services.association.operation import Operation, Provider
from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import (
    Context,
    association_request,
    request_association,
)
from isocenter.services.association.sender import Part
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pydicom_datasets import read_identifier
from isocenter.services.dicom.uids import names_an_instance
from isocenter.services.errors import (
    NoPresentationContextError,
    OperationError,
    has_failed,
)
from isocenter.services.net.peer_log import PeerLog
from isocenter.services.net.transport import Transport
from isocenter.services.service_classes.query_retrieve.find_scu import FindResults
from isocenter.services.service_classes.query_retrieve.queries import Query
from isocenter.services.service_classes.storage.scu import store_object

if TYPE_CHECKING:
    import pydicom

log = logging.getLogger("isocenter.client")

_OUR_AE_TITLE: Final = "ISOCENTER"

#: Takes one object that C-GET brings: reads the data set, returns the status for its response.
Receiver = Callable[[Operation, CStoreRequest], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class RetrieveResult:
    """What a C-GET or C-MOVE came to.

    Attributes:
        status: of the final response.
        completed, failed, warning: numbers of sub-operations that ended so.
        failed_uids: SOP Instance UIDs that the peer names as failed (0008,0058).
        comment: Error Comment (0000,0902).
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

    error_code = ErrorCode.RETRIEVE_SUBOPERATION

    def __init__(self, result: RetrieveResult) -> None:
        # Of a warning (B000H) the comment of the peer says less than the counter.
        super().__init__(result.status, result.comment or f"{result.failed} objects failed")
        self.result = result


@dataclass(frozen=True, slots=True)
class RetrieveProgress:
    """Numbers of sub-operations in a pending response; None where the peer did not give one.

    Attributes:
        remaining: that are still to come.
        completed, failed, warning: that have ended so.
    """

    remaining: int | None
    completed: int | None
    failed: int | None
    warning: int | None


class ClientAssociation:
    """An established association of which we are the requestor; `open_association` makes it.

    One rule for what the peer answers: a success or a warning is returned, any other status raises
    `OperationError`.  All calls also raise `AssociationError` when the association ends before
    they do, `DeadlineExceeded` when the peer is too slow, and `NoPresentationContextError` when it
    did not accept what they need.

    Cancelled, `find`, `get` and `move` send C-CANCEL-RQ, and the association goes on; `store` in
    the middle of its data set aborts the association; of the others the response is not waited for.
    """

    def __init__(self, driver: AssociationDriver) -> None:
        self._driver = driver
        self._receiver: Receiver | None = None
        self._takes_raw_uids = False

    # The association.

    @property
    def contexts(self) -> Sequence[PresentationContext]:
        """What was accepted."""
        return tuple(self._driver.negotiated.contexts.values())

    @property
    def accept(self) -> AssociateAccept:
        """The A-ASSOCIATE-AC."""
        accept = self._driver.accept
        assert accept is not None, "whoever opens an association waits for it"
        return accept

    @property
    def negotiated(self) -> Negotiated:
        """The parameters that both sides agreed on."""
        return self._driver.negotiated

    @property
    def limits(self) -> Limits:
        """How much of the peer is held in memory."""
        return self._driver.limits

    @property
    def peer_log(self) -> PeerLog:
        """Log lines about the peer, bounded."""
        return self._driver.peer_log

    @property
    def ended(self) -> trio.Event:
        """Set when the association is over, however it came to that."""
        return self._driver.ended

    def end_reason(self) -> AssociationError:
        """Why it ended, as an exception for whoever waited on it."""
        return self._driver.end_reason()

    async def release(self) -> None:
        """A-RELEASE, and wait for its confirmation; after `Deadlines.release` abort.

        Whoever leaves `open_association` need not call it.  One that has ended stays ended.
        """
        await self._driver.release()

    async def abort(self) -> None:
        """A-ABORT now: operations that are outstanding raise `AssociationError`."""
        await self._driver.abort()

    # Any operation with a single response.

    def next_message_id(self) -> int:
        """A Message ID that no outstanding operation of ours uses (PS3.7 9.1)."""
        return self._driver.next_message_id()

    async def invoke(
        self,
        context_id: int,
        request: Request,
        data_set: Buffer | AsyncGenerator[Part, None] | None = None,
    ) -> ReceivedResponse:
        """An operation with a single response, whatever its status is.

        Raises:
            AssociationError: the association ended first.
            DeadlineExceeded: no response came in time.
            LocalProtocolError: not allowed now; nothing was sent.
        """
        return await self._driver.invoke(context_id, request, data_set)

    # The composite services.

    async def echo(self) -> int:
        """C-ECHO (PS3.7 9.1.5); the status, 0000H as a rule.

        Raises:
            OperationError: the peer answered with a failure.
        """
        request = CEchoRequest(
            message_id=self._driver.next_message_id(), affected_sop_class_uid=VERIFICATION
        )
        received = await self._driver.invoke(self._context(VERIFICATION).context_id, request)
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
            NoPresentationContextError: none that was accepted can carry it, also not converted.
        """
        if not isinstance(item, DicomObject):
            item = DicomObject.from_dataset(item)
        return await store_object(self, item, priority=priority)

    def search(self, query: Query, *, priority: int = 0) -> FindResults:
        """C-FIND for what `patients`, `studies`, `series` or `instances` describe; as `find`."""
        return self.find(query, sop_class_uid=query.sop_class_uid, priority=priority)

    def find(
        self,
        identifier: bytes | Callable[[str], bytes],
        *,
        sop_class_uid: str = sop_classes.STUDY_ROOT_FIND,
        priority: int = 0,
    ) -> FindResults:
        """C-FIND (PS3.7 9.1.2): an async iterator of matches.

        Args:
            identifier: encoded in the context's transfer syntax, or a function that
                encodes it for a transfer syntax UID (see `build_identifier`).

        Leaving the loop, or the context when used with ``async with``, sends C-CANCEL-RQ
        if the peer is not done.

        Raises:
            NoPresentationContextError: the peer did not accept *sop_class_uid*.  What it answers is
                raised by the iterator.
        """
        context = self._context(sop_class_uid)
        request = CFindRequest(
            message_id=self._driver.next_message_id(),
            affected_sop_class_uid=sop_class_uid,
            priority=priority,
        )
        return FindResults(self._driver, context, request, _encoded(identifier, context))

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
            progress: called with each pending response.
            receive: gets no object whose SOP Instance UID could not be the name of a file
                (`UidRule.SAFE`; the peer has 0117H).
            takes_raw_uids: it does, and judges them itself.

        Raises:
            RetrieveError: the peer answered with a failure, or some objects failed.
        """
        self._refuse_second_get()
        # One that was cancelled may still bring objects, and nobody could tell whose they are.
        await self._driver.wait_until_none_outstanding(CGetRequest)
        self._refuse_second_get()
        context = self._context(sop_class_uid)
        request = CGetRequest(
            message_id=self._driver.next_message_id(),
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
            message_id=self._driver.next_message_id(),
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
        task = self._driver
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
        for context in self._driver.negotiated.contexts.values():
            if context.abstract_syntax == abstract_syntax:
                return context
        raise NoPresentationContextError(
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
    related: Sequence[CommonExtendedNegotiation] = (),
    user_identity: UserIdentity | None = None,
    operations_window: int = 1,
    max_pdu_length: int | None = None,
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID,
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME,
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
        related: service class and general SOP classes of SOP classes that the peer may not know, so
            that it can take them as a general one (PS3.7 D.3.3.6).
        implementation_class_uid, implementation_version_name: which program asks, for products that
            are made with this library.
        operations_window: operations that may be outstanding at once, each way.
        provider: performs what the peer requests, as it came (`ServiceRegistry.perform` looks at
            its UIDs); default: C-STORE for `ClientAssociation.get`.
        transport: a connection with the peer that stands already and is closed at the end;
            None: one is made.

    Raises:
        ConnectError: no connection, or no TLS.
        AssociationRejectedError: the peer said no; the message says why.
        AssociationError: it ended before it was established.
        LocalProtocolError: the proposal breaks a rule (an AE title over 16 characters …), or a
            peer that wants TLS has no context for it.
    """
    request = association_request(
        peer,
        contexts,
        calling_ae_title=calling_ae_title,
        scp_roles=scp_roles,
        extended=extended,
        related=related,
        user_identity=user_identity,
        operations_window=operations_window,
        implementation_class_uid=implementation_class_uid,
        implementation_version_name=implementation_version_name,
        max_pdu_length=limits.max_pdu_length if max_pdu_length is None else max_pdu_length,
    )
    client: ClientAssociation

    async def perform(operation: Operation) -> None:
        await (provider or client.perform)(operation)

    async with request_association(
        peer,
        request,
        provider=perform,
        tls=tls,
        transport=transport,
        deadlines=deadlines,
        limits=limits,
    ) as driver:
        client = ClientAssociation(driver)
        yield client
