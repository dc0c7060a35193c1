"""Storage commitment SCU (PS3.4 J.3): request, and result, whichever way it comes.

    results = CommitmentResults()
    async with results.listening(ListenAddress(host="127.0.0.1", port=11113)):
        result = await request_commitment(
            lambda provider: open_association(archive, CONTEXTS, provider=provider),
            references, results, stay=10, wait=300,
        )

The peer reports on the association that asked, or on one of its own to where we listen
under our AE title (J.3.3.1.2); one call waits for both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final

import trio

from isocenter.engine.dimse.message_codec import NEventReportRequest, NEventReportResponse
from isocenter.engine.dimse.status import Status
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Offer
from isocenter.services.association.access import AeTitleRules
from isocenter.services.association.operation import Operation, Provider
from isocenter.services.association.requestor import Context
from isocenter.services.association.server import Server, ServerOptions, serve_on
from isocenter.services.association.service_registry import ServiceRegistry, Statuses
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES, IDENTIFIER_SYNTAXES
from isocenter.services.dicom.uids import new_uid
from isocenter.services.errors import OperationError
from isocenter.services.net.listeners import ListenAddress, open_listener
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.commitment.transaction import (
    FAILED_SOP_SEQUENCE,
    REFERENCED_SOP_SEQUENCE,
    REQUEST,
    RETRIEVE_AE_TITLE,
    STORAGE_COMMITMENT,
    TRANSACTION_UID,
    WELL_KNOWN_INSTANCE,
    CommitmentEvent,
    Reference,
    references_of,
    request_of,
)
from isocenter.services.service_classes.normalized.operations import n_action, read_attribute_list
from isocenter.services.service_classes.verification import VerificationScp

#: What is proposed to ask for commitment.
CONTEXTS: Final[Sequence[Context]] = ((STORAGE_COMMITMENT, BASIC_SYNTAXES),)
#: A peer that connects to us to report is SCP there.
REPORT_OFFER: Final = Offer(transfer_syntaxes=IDENTIFIER_SYNTAXES, scu_role=True, scp_role=True)
#: How long the listener may take to say goodbye.
_GOODBYE_SECONDS: Final = 2.0


class ReportTimeoutError(IsocenterError):
    """The request was taken, and its outcome did not come in time."""

    error_code = ErrorCode.RECEIVE_TIMEOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentResult:
    """What the peer says of a request.

    Attributes:
        retrieve_ae_title: where it says that committed instances can be retrieved; may be empty.
        failed: with the failure reasons (`transaction.FailureReason`).
        unmentioned: what was asked for and is in neither list: the peer promises nothing.
    """

    transaction_uid: str
    retrieve_ae_title: str
    committed: tuple[Reference, ...]
    failed: tuple[tuple[Reference, int], ...]
    unmentioned: tuple[Reference, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether everything that was asked for is committed."""
        return not self.failed and not self.unmentioned


#: Of N-EVENT-REPORT as we answer it.
RESULT_STATUSES: Final[Statuses] = {
    Status.SUCCESS: "the outcome is taken down",
    Status.PROCESSING_FAILURE: "the data set cannot be read, or as for all",
    Status.NO_SUCH_SOP_INSTANCE: "the instance is not the well-known one",
    Status.NO_SUCH_EVENT_TYPE: "the event type is neither 1 nor 2",
    Status.INVALID_ARGUMENT_VALUE: "nobody asked for that transaction",
    Status.MISSING_ATTRIBUTE: "there is no data set",
    Status.RESOURCE_LIMITATION: "the data set is over a limit",
}


class CommitmentResults:
    """Takes Storage Commitment Results: a service for our associations and our listener.

    Attributes:
        is_listening: whether peers can report on associations of their own.
    """

    name = "storage commitment results"
    statuses: Final[Statuses] = RESULT_STATUSES

    def __init__(self) -> None:
        self._expected: dict[str, trio.Event] = {}
        self._came: dict[str, CommitmentResult] = {}
        self.is_listening = False
        registry = ServiceRegistry([self])
        #: Performs what the peer asks of us on an association of ours.
        self.provider: Provider = registry.perform

    def offer(self, abstract_syntax: str) -> Offer | None:
        return REPORT_OFFER if abstract_syntax == STORAGE_COMMITMENT else None

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        result = await read_result(operation)
        transaction_uid = result.transaction_uid
        arrived = self._expected.get(transaction_uid)
        if arrived is None:
            raise OperationError(Status.INVALID_ARGUMENT_VALUE, "transaction UID is not known")
        self._came[transaction_uid] = result
        try:
            await operation.respond(
                NEventReportResponse(
                    message_id_being_responded_to=request.message_id,
                    status=Status.SUCCESS,
                    affected_sop_class_uid=STORAGE_COMMITMENT,
                    affected_sop_instance_uid=WELL_KNOWN_INSTANCE,
                )
            )
        finally:
            arrived.set()  # after the response, which the end of the association would cut

    def has(self, transaction_uid: str) -> bool:
        """Whether the result has come."""
        return transaction_uid in self._came

    def expect(self, transaction_uid: str) -> None:
        """From now on the result of this transaction is taken."""
        self._expected[transaction_uid] = trio.Event()

    def forget(self, transaction_uid: str) -> None:
        """Nobody waits for it any more."""
        self._expected.pop(transaction_uid, None)
        self._came.pop(transaction_uid, None)

    async def wait(self, transaction_uid: str) -> CommitmentResult:
        """The result of a transaction that is expected."""
        await self._expected[transaction_uid].wait()
        return self._came[transaction_uid]

    @asynccontextmanager
    async def listening(
        self, bind: ListenAddress, *, access: AeTitleRules | None = None
    ) -> AsyncIterator[Server]:
        """Listen for results for as long as the context lasts.

        Args:
            access: who may report; default: anybody, over TLS whoever has a certificate.

        Raises:
            OSError: the address cannot be bound; the message names fault and cure.
        """
        listeners = [(sock, bind) for sock in open_listener(bind)]
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(
                partial(
                    serve_on,
                    ServiceRegistry([VerificationScp(), self]),
                    listeners,
                    ServerOptions(access=access or AeTitleRules(certificate_owns_ae_title=False)),
                )
            )
            self.is_listening = True
            try:
                yield server
                server.stop()
                with trio.move_on_after(_GOODBYE_SECONDS):
                    await server.stopped.wait()
            except Exception as error:
                failure = error  # the nursery would wrap it
            finally:
                self.is_listening = False
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


async def read_result(operation: Operation) -> CommitmentResult:
    """What a peer reports by N-EVENT-REPORT (J.3.3); the response is the caller's.

    Raises:
        OperationError: it is no Storage Commitment Result.
    """
    request = operation.request
    if not isinstance(request, NEventReportRequest):
        raise OperationError(Status.UNRECOGNIZED_OPERATION)
    if request.affected_sop_instance_uid != WELL_KNOWN_INSTANCE:
        raise OperationError(Status.NO_SUCH_SOP_INSTANCE)
    if request.event_type_id not in list(CommitmentEvent):
        raise OperationError(Status.NO_SUCH_EVENT_TYPE)
    information = await read_attribute_list(operation)
    failed = tuple(references_of(information, FAILED_SOP_SEQUENCE))
    refused = {reference for reference, _ in failed}
    return CommitmentResult(
        transaction_uid=information.text(TRANSACTION_UID),
        retrieve_ae_title=information.text(RETRIEVE_AE_TITLE),
        committed=tuple(
            reference
            for reference, _ in references_of(information, REFERENCED_SOP_SEQUENCE)
            if reference not in refused
        ),
        failed=failed,
    )


#: Opens an association with the SCP, with `CONTEXTS` and a provider for what it asks of us.
Open = Callable[[Provider], AbstractAsyncContextManager[ClientAssociation]]


async def request_commitment(
    open_association: Open,
    references: Sequence[Reference],
    results: CommitmentResults,
    *,
    transaction_uid: str = "",
    stay: float,
    wait: float,
) -> CommitmentResult:
    """Ask for commitment of *references*, and return what comes of it.

    Args:
        open_association: see `Open`.
        transaction_uid: a new one when empty.
        stay: seconds to keep the association open for the report; then it has to come to where
            *results* listen.
        wait: seconds for the report, from our request on.

    Raises:
        OperationError: the peer does not take the request.
        ReportTimeoutError: no report came in time.
        AssociationError, NoPresentationContextError: it could not be asked.
    """
    transaction_uid = transaction_uid or new_uid()
    results.expect(transaction_uid)
    try:
        until = trio.current_time() + wait
        async with open_association(results.provider) as association:
            await n_action(
                association,
                STORAGE_COMMITMENT,
                WELL_KNOWN_INSTANCE,
                REQUEST,
                request_of(transaction_uid, references),
            )
            with trio.move_on_at(min(until, trio.current_time() + stay)):
                await _result_or_end(results, transaction_uid, association)
        if results.has(transaction_uid) or results.is_listening:
            with trio.move_on_at(until):
                return _compared(await results.wait(transaction_uid), references)
        else:
            raise ReportTimeoutError(
                "the peer took the request, and its report did not come on the same association "
                f"(transaction {transaction_uid}); listen for it, on a port that the peer knows"
            )
        raise ReportTimeoutError(
            f"the peer took the request, but sent no report within {wait:g} s (transaction "
            f"{transaction_uid}); does it know where this AE title listens?"
        )
    finally:
        results.forget(transaction_uid)


async def _result_or_end(
    results: CommitmentResults, transaction_uid: str, association: ClientAssociation
) -> None:
    """Until the result has come, on whichever association, or this one has ended."""
    async with trio.open_nursery() as nursery:

        async def ended() -> None:
            await association.ended.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(ended)
        await results.wait(transaction_uid)
        nursery.cancel_scope.cancel()


def _compared(result: CommitmentResult, asked: Sequence[Reference]) -> CommitmentResult:
    """*result*, with what the peer forgot to mention."""
    mentioned = {*result.committed, *(reference for reference, _ in result.failed)}
    return replace(
        result,
        unmentioned=tuple(each for each in dict.fromkeys(asked) if each not in mentioned),
    )
