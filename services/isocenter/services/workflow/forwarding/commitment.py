"""Storage commitment of what was forwarded (PS3.4 Annex J): asked for, and heard.

The report may come on the association that asks, or on any other one that the destination
opens to us, in whichever worker process; so what was asked stands in the database.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import trio

from isocenter.engine.dimse.message_codec import NEventReportRequest, NEventReportResponse
from isocenter.engine.dimse.status import Status
from isocenter.engine.errors import AssociationError, IsocenterError
from isocenter.engine.negotiation import Offer
from isocenter.services.association.operation import Operation, Provider
from isocenter.services.association.peer import Peer
from isocenter.services.association.service_registry import Service, Statuses
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.uids import new_uid
from isocenter.services.errors import OperationError, StorageError
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.commitment.scu import (
    REPORT_OFFER,
    RESULT_STATUSES,
    read_result,
)
from isocenter.services.service_classes.commitment.transaction import (
    REQUEST,
    STORAGE_COMMITMENT,
    WELL_KNOWN_INSTANCE,
    request_of,
)
from isocenter.services.service_classes.normalized.operations import n_action
from isocenter.services.workflow.forwarding.ports import ForwardQueue

log = logging.getLogger("isocenter.forward")

#: Instances of one request: below what archives bound a request to.  Between two requests what
#: has become due is sent.
_REFERENCES: Final = 500
#: For so long the association that asked stays open for the report.
_STAY_SECONDS: Final = 5.0

#: Opens an association with a peer to ask for commitment, with a provider for its report.
AskingConnector = Callable[[Peer, Provider], AbstractAsyncContextManager[ClientAssociation]]


class CommitmentRequester:
    """Asks destinations to commit what they were sent, and takes what they say.

    Args:
        wait: seconds for the report, then it is asked for once more.
        on_report: called when something was reported.
    """

    def __init__(
        self,
        queue: ForwardQueue,
        connect: AskingConnector,
        *,
        backoff: Backoff,
        wait: float,
    ) -> None:
        self._queue = queue
        self._connect = connect
        self._backoff = backoff
        self._wait = wait
        self._expected: dict[str, trio.Event] = {}
        self.on_report: Callable[[], None] = lambda: None

    async def request(self, destination: str, peer: Peer) -> str:
        """Ask for some of what is due; why the destination is to be left alone, or nothing.

        Raises:
            StorageError: what became of it cannot be kept.
        """
        given_up = await self._queue.give_up_asking(destination, self._backoff)
        if given_up:
            log.error("%s never said whether it commits %d objects", destination, given_up)
        transaction_uid = new_uid()
        references = await self._queue.begin_commitment(
            destination, transaction_uid, wait=self._wait, limit=_REFERENCES
        )
        if not references:
            return ""
        self._expected[transaction_uid] = reported = trio.Event()
        is_asked = False

        async def provide(operation: Operation) -> None:
            await self.receive_report(operation, destination)

        try:
            async with self._connect(peer, provide) as association:
                try:
                    await n_action(
                        association,
                        STORAGE_COMMITMENT,
                        WELL_KNOWN_INSTANCE,
                        REQUEST,
                        request_of(transaction_uid, references),
                    )
                except OperationError as error:
                    # Without the words of the peer, which could name a patient.
                    raise OperationError(error.status) from None
                is_asked = True
                with trio.move_on_after(_STAY_SECONDS):
                    await reported.wait()
        except StorageError:
            raise
        except IsocenterError as error:
            if not is_asked:
                fault = f"storage commitment cannot be asked for: {error}"
                await self._queue.commitment_not_asked(transaction_uid, fault, self._backoff)
                return fault if isinstance(error, AssociationError) else ""
        finally:
            del self._expected[transaction_uid]
        return ""

    async def refuse(self, destination: str, why: str) -> None:
        """Ask for nothing of some of what is due: it stays here, and is given up in time.

        Raises:
            StorageError: that cannot be kept.
        """
        transaction_uid = new_uid()
        references = await self._queue.begin_commitment(
            destination, transaction_uid, wait=self._wait, limit=_REFERENCES
        )
        if references:
            log.error("%d objects at %s are not committed: %s", len(references), destination, why)
            await self._queue.commitment_not_asked(transaction_uid, why, self._backoff)

    async def receive_report(self, operation: Operation, reporter: str) -> None:
        """Take a Storage Commitment Result (J.3.3) of *reporter*.

        Raises:
            OperationError: it is none, or of nothing that we have asked *reporter* for.
        """
        result = await read_result(operation)
        is_known = await self._queue.commitment_reported(
            result.transaction_uid, reporter, result.committed, result.failed, self._backoff
        )
        if not is_known:
            raise OperationError(Status.INVALID_ARGUMENT_VALUE, "transaction UID is not known")
        log.info(
            "%s commits %d forwarded objects and refuses %d",
            reporter,
            len(result.committed),
            len(result.failed),
        )
        try:
            await operation.respond(
                NEventReportResponse(
                    message_id_being_responded_to=operation.request.message_id,
                    status=Status.SUCCESS,
                    affected_sop_class_uid=STORAGE_COMMITMENT,
                    affected_sop_instance_uid=WELL_KNOWN_INSTANCE,
                )
            )
        finally:
            self.on_report()
            expected = self._expected.get(result.transaction_uid)
            if expected is not None:
                expected.set()


class CommitmentReports:
    """The service that hears reports on associations which destinations open to us.

    Args:
        scp: what performs the other operations of storage commitment; None: nobody does.
        is_wanted: whether there is anything to be heard.
    """

    name = "storage commitment"

    @property
    def statuses(self) -> Statuses:
        """Those of reports, and of the other operations where somebody performs them."""
        own = RESULT_STATUSES if self._is_wanted() else {}
        others = {} if self._scp is None else self._scp.statuses
        return {
            status: "; ".join(dict.fromkeys(filter(None, (others.get(status), own.get(status)))))
            for status in sorted({*own, *others})
        }

    def __init__(
        self, asker: CommitmentRequester, scp: Service | None, is_wanted: Callable[[], bool]
    ) -> None:
        self._asker = asker
        self._scp = scp
        self._is_wanted = is_wanted

    def offer(self, abstract_syntax: str) -> Offer | None:
        """A destination is SCP there, a modality SCU."""
        if abstract_syntax == STORAGE_COMMITMENT and self._is_wanted():
            return REPORT_OFFER
        return None if self._scp is None else self._scp.offer(abstract_syntax)

    async def perform(self, operation: Operation) -> None:
        """N-EVENT-REPORT is ours."""
        if isinstance(operation.request, NEventReportRequest):
            reporter = operation.association.negotiated.calling_ae_title
            await self._asker.receive_report(operation, reporter)
        elif self._scp is not None:
            await self._scp.perform(operation)
        else:
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
