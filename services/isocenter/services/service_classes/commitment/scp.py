"""Storage commitment push model as SCP (PS3.4 J.3): N-ACTION in, N-EVENT-REPORT out.

The request is in the database before it is answered, and each step that follows is in
one transaction: what was verified and the report that says so; the report and its delivery.
Whatever ends in between, this process or another one goes on from there.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import Final

import trio

from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dimse.message_codec import NActionRequest, NActionResponse
from isocenter.engine.dimse.status import Status
from isocenter.engine.errors import AssociationError, LocalProtocolError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Offer, PresentationContext
from isocenter.services.association.invoker import Invoker
from isocenter.services.association.operation import Operation
from isocenter.services.association.service_registry import Statuses
from isocenter.services.concurrency import Broadcast
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.uid_registry import IDENTIFIER_SYNTAXES
from isocenter.services.dicom.uids import UidRule
from isocenter.services.errors import OperationError, StorageError
from isocenter.services.notices import CommitmentDone, Notices
from isocenter.services.service_classes.commitment.instance_check import InstanceChecker
from isocenter.services.service_classes.commitment.ports import BeginResult, Commitments
from isocenter.services.service_classes.commitment.transaction import (
    REFERENCED_SOP_SEQUENCE,
    REQUEST,
    STORAGE_COMMITMENT,
    TRANSACTION_UID,
    WELL_KNOWN_INSTANCE,
    FailureReason,
    Reference,
    Transaction,
    TransactionState,
    check_uid,
    checked_references,
    references_of,
    result_of,
)
from isocenter.services.service_classes.normalized.operations import read_attribute_list
from isocenter.services.service_classes.normalized.ports import ClaimedReport, NewReport
from isocenter.services.service_classes.normalized.report_delivery import (
    CLAIM_SECONDS,
    LOOK_SECONDS,
    EventReportSender,
)

log = logging.getLogger("isocenter.commitment")

#: Transactions of one process that are verified at once; their files share a bound of their own.
_AT_ONCE: Final = 4
#: A claim is renewed when this part of it is over.
_RENEW_AFTER: Final = 1 / 3
#: How long a transaction rests when the index could not be asked.
_POSTPONE_SECONDS: Final = 30.0

_OFFER: Final = Offer(transfer_syntaxes=IDENTIFIER_SYNTAXES)


@dataclass(frozen=True, slots=True)
class _Asker:
    """The association that asked: the report goes there while it is open."""

    association: Invoker
    context: PresentationContext


class StorageCommitmentScp:
    """Performs N-ACTION of storage commitment, and sees to it that the outcome arrives.

    Args:
        reporter: delivers reports; its `run` is the caller's to start.
        retrieve_ae_title: where committed instances can be retrieved.
        same_association: report on the association that asked while it is open; some SCUs
            cannot take it there.
        notices: hears what was verified.
    """

    name = "storage commitment"
    statuses: Final[Statuses] = {
        Status.SUCCESS: "the request is taken; the outcome follows by N-EVENT-REPORT",
        Status.PROCESSING_FAILURE: "the data set cannot be read, or as for all",
        Status.NO_SUCH_SOP_INSTANCE: "the instance is not the well-known one",
        Status.INVALID_ARGUMENT_VALUE: "a UID is none",
        Status.MISSING_ATTRIBUTE: "there is no data set, or an attribute is not in it",
        Status.MISSING_ATTRIBUTE_VALUE: "an attribute has no value, or a sequence no item",
        Status.NO_SUCH_ACTION_TYPE: "the action type is not 1",
        Status.RESOURCE_LIMITATION: "the data set is over a limit",
    }

    def __init__(
        self,
        commitments: Commitments,
        verifier: InstanceChecker,
        reporter: EventReportSender,
        *,
        retrieve_ae_title: str,
        same_association: bool = True,
        notices: Notices | None = None,
    ) -> None:
        self._commitments = commitments
        self._verifier = verifier
        self._reporter = reporter
        self._worker = reporter.worker
        self._retrieve_ae_title = retrieve_ae_title
        self._same_association = same_association
        self._askers: dict[str, _Asker] = {}
        self._begun: deque[str] = deque()
        self._reports: deque[tuple[ClaimedReport, _Asker]] = deque()
        self._settling: set[str] = set()
        #: Begun over the web by this process, and not settled.
        self._awaited: set[str] = set()
        self._settled = Broadcast()
        self._notices = Notices() if notices is None else notices
        self._wanted = trio.Event()

    def offer(self, abstract_syntax: str) -> Offer | None:
        return _OFFER if abstract_syntax == STORAGE_COMMITMENT else None

    # The request.

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        if not isinstance(request, NActionRequest):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        if request.requested_sop_instance_uid != WELL_KNOWN_INSTANCE:
            raise OperationError(
                Status.NO_SUCH_SOP_INSTANCE, f"the instance is {WELL_KNOWN_INSTANCE}"
            )
        if request.action_type_id != REQUEST:
            raise OperationError(Status.NO_SUCH_ACTION_TYPE, f"the action type is {REQUEST}")
        attributes = await read_attribute_list(operation)
        transaction_uid, references = _asked(attributes)
        asker = _Asker(operation.association, operation.context)
        negotiated = operation.association.negotiated
        calling, called = negotiated.calling_ae_title, negotiated.called_ae_title
        begun = await self._commitments.begin(
            transaction_uid=transaction_uid,
            requester=calling,
            called_ae_title=called,
            references=references,
            worker=self._worker,
            seconds=CLAIM_SECONDS,
        )
        report: ClaimedReport | None = None
        if begun is BeginResult.AGAIN:
            report = await self._outcome_again(transaction_uid, asker)
        elif begun is BeginResult.IN_USE:
            report = await self._refusal(transaction_uid, calling, called, references)
        try:
            await operation.respond(
                NActionResponse(
                    message_id_being_responded_to=request.message_id,
                    status=Status.SUCCESS,
                    affected_sop_class_uid=STORAGE_COMMITMENT,
                    affected_sop_instance_uid=WELL_KNOWN_INSTANCE,
                )
            )
        finally:
            # It is in the database and goes on, also when nobody heard that.  But not before:
            # the outcome must not overtake the response.
            if begun is BeginResult.NEW:
                self._expect(transaction_uid, asker)
                self._begun.append(transaction_uid)
            elif report is not None:
                self._reports.append((report, asker))
            self._wanted.set()

    # The request over the web, whose outcome is fetched.

    async def take(
        self, transaction_uid: str, references: Sequence[Reference], requester: str
    ) -> bool:
        """Begin a transaction that nobody wants a report of; it is durable then.

        False: the UID is that of another one, or of the same.
        """
        begun = await self._commitments.begin(
            transaction_uid=transaction_uid,
            requester=requester,
            called_ae_title="",
            references=references,
            worker=self._worker,
            seconds=CLAIM_SECONDS,
        )
        if begun is not BeginResult.NEW:
            return False
        self._awaited.add(transaction_uid)
        self._begun.append(transaction_uid)
        self._wanted.set()
        return True

    async def outcome(
        self, transaction_uid: str, *, wait_seconds: float = 0.0
    ) -> Transaction | None:
        """A transaction, as soon as it is complete or the time is over; None: there is none.

        Only what was begun by this process is waited for.
        """
        with trio.move_on_after(wait_seconds):
            while transaction_uid in self._awaited:
                await self._settled.wait()
        return await self._commitments.get(transaction_uid)

    def _expect(self, transaction_uid: str, asker: _Asker | None) -> None:
        """Who waits for the report now; while verifying goes on, its association is not idle."""
        before = self._askers.pop(transaction_uid, None)
        if before is not None:
            before.association.expected_requests -= 1
            before.association.restart_idle()
        if asker is not None and self._same_association:
            self._askers[transaction_uid] = asker
            asker.association.expected_requests += 1

    async def _outcome_again(self, transaction_uid: str, asker: _Asker) -> ClaimedReport | None:
        transaction = await self._commitments.get(transaction_uid)
        if transaction is None or transaction.failures is None:
            if transaction_uid in self._askers:  # it is ours, and under way
                self._expect(transaction_uid, asker)
            return None
        report = self._result(transaction, transaction.failures)
        return await self._commitments.report(report, self._worker, claim_seconds=CLAIM_SECONDS)

    async def _refusal(
        self, transaction_uid: str, calling: str, called: str, references: tuple[Reference, ...]
    ) -> ClaimedReport:
        """Of another request with a transaction UID that is taken; that one goes on as it was."""
        transaction = Transaction(
            transaction_uid=transaction_uid,
            requester=calling,
            called_ae_title=called,
            state=TransactionState.FAILED,
            requested_at=0,
            completed_at=None,
            references=references,
            failures=None,
        )
        failures = [FailureReason.DUPLICATE_TRANSACTION_UID] * len(references)
        report = self._result(transaction, failures)
        return await self._commitments.report(report, self._worker, claim_seconds=CLAIM_SECONDS)

    def _result(self, transaction: Transaction, failures: Sequence[int]) -> NewReport:
        return result_of(transaction, failures, retrieve_ae_title=self._retrieve_ae_title)

    # What follows.

    async def run(self) -> None:
        """Verify and report what was asked, by whichever process, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._wanted = trio.Event()
                while self._reports:
                    nursery.start_soon(self._deliver, *self._reports.popleft())
                for transaction_uid in await self._next():
                    self._settling.add(transaction_uid)
                    nursery.start_soon(self._settle, transaction_uid)
                with trio.move_on_after(LOOK_SECONDS):
                    await self._wanted.wait()

    async def _next(self) -> list[str]:
        """Transactions to verify now: those that were asked here first, then those that a
        process left which has ended."""
        room = _AT_ONCE - len(self._settling)
        chosen: list[str] = []
        while self._begun and len(chosen) < room:
            chosen.append(self._begun.popleft())
        if len(chosen) < room:
            try:
                chosen += await self._commitments.claim(
                    self._worker, CLAIM_SECONDS, room - len(chosen)
                )
            except StorageError as error:
                log.error("storage commitments have to wait: %s", error)
        return [uid for uid in dict.fromkeys(chosen) if uid not in self._settling]

    async def _settle(self, transaction_uid: str) -> None:
        try:
            # It may have waited here for longer than its claim was good.
            if await self._commitments.renew(transaction_uid, self._worker, CLAIM_SECONDS):
                transaction = await self._commitments.get(transaction_uid)
                assert transaction is not None
                failures = await self._verify(transaction)
                if failures is not None:
                    await self._complete(transaction, failures)
        except* StorageError as group:
            log.error("a storage commitment has to wait: %s", _first(group))
            try:
                await self._commitments.postpone(transaction_uid, self._worker, _POSTPONE_SECONDS)
            except StorageError:
                pass  # its claim ends by itself
        finally:
            self._settling.discard(transaction_uid)
            self._awaited.discard(transaction_uid)
            self._settled.send()
            self._expect(transaction_uid, None)
            self._wanted.set()

    async def _verify(self, transaction: Transaction) -> list[int] | None:
        """The failures; None: another process has it now."""
        failures: list[int] | None = None

        async def renew(scope: trio.CancelScope) -> None:
            while True:
                await trio.sleep(CLAIM_SECONDS * _RENEW_AFTER)
                if not await self._commitments.renew(
                    transaction.transaction_uid, self._worker, CLAIM_SECONDS
                ):
                    scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(renew, nursery.cancel_scope)
            failures = await self._verifier.failures(transaction.references)
            nursery.cancel_scope.cancel()
        return failures

    async def _complete(self, transaction: Transaction, failures: Sequence[int]) -> None:
        asker = self._askers.get(transaction.transaction_uid)
        if asker is not None and not self._is_open(asker):
            asker = None
        is_reported = bool(transaction.called_ae_title)
        completed = await self._commitments.complete(
            transaction.transaction_uid,
            self._worker,
            failures,
            self._result(transaction, failures) if is_reported else None,
            claim_seconds=0.0 if asker is None else CLAIM_SECONDS,
        )
        if completed is None:
            return
        failed = sum(map(bool, failures))
        log.info(
            "storage commitment %s of %s: %d instances committed, %d not",
            transaction.transaction_uid,
            transaction.requester,
            len(failures) - failed,
            failed,
        )
        self._notices.publish(_done(transaction, failures))
        if completed.report is None:
            return
        if asker is None:
            self._reporter.wake()
        else:
            await self._deliver(completed.report, asker)

    def _is_open(self, asker: _Asker) -> bool:
        return self._same_association and asker.association.is_established

    async def _deliver(self, claimed: ClaimedReport, asker: _Asker) -> None:
        """On the association that asked; when it has ended, on one of ours."""
        try:
            if self._is_open(asker):
                try:
                    await self._reporter.deliver_over(asker.association, asker.context, claimed)
                    return
                except (AssociationError, LocalProtocolError) as error:
                    log.info("the report goes on an association of its own: %s", error)
            await self._reporter.take_over(claimed)
        except StorageError as error:
            # Its claim ends by itself; what did arrive may arrive once more.
            log.error("what became of an event report cannot be kept: %s", error)


def _asked(attributes: AttributeList) -> tuple[str, tuple[Reference, ...]]:
    """Transaction UID and references of a request (Table J.3-1).

    Raises:
        OperationError: 0120H, 0121H: something is missing or empty; 0115H: a UID is none.
    """
    for tag in (TRANSACTION_UID, REFERENCED_SOP_SEQUENCE):
        if tag not in attributes.elements:
            raise OperationError(Status.MISSING_ATTRIBUTE, f"{tag_text(tag)} is missing")
    transaction_uid = attributes.text(TRANSACTION_UID)
    references = [each for each, _ in references_of(attributes, REFERENCED_SOP_SEQUENCE)]
    if not references:
        raise OperationError(
            Status.MISSING_ATTRIBUTE_VALUE, f"{tag_text(REFERENCED_SOP_SEQUENCE)} has no item"
        )
    check_uid(TRANSACTION_UID, transaction_uid, UidRule.STRICT)
    return transaction_uid, checked_references(references)


def _first(group: BaseExceptionGroup[StorageError]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _done(transaction: Transaction, failures: Sequence[int]) -> CommitmentDone:
    by_outcome: dict[bool, list[str]] = {True: [], False: []}
    for reference, failure in zip(transaction.references, failures, strict=True):
        by_outcome[bool(failure)].append(reference.sop_instance_uid)
    return CommitmentDone(
        requester=transaction.requester,
        transaction_uid=transaction.transaction_uid,
        committed=tuple(by_outcome[False]),
        failed=tuple(by_outcome[True]),
    )
