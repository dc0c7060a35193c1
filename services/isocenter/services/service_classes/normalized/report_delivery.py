"""N-EVENT-REPORTs of ours that have to arrive: kept in the database until they do.

An event report goes from SCP to SCU (PS3.7 10.1.1): on the association that asked for it while
that is open, else on a new one on which we, as requestor, propose the SCP role for ourselves
(PS3.7 D.3.3.4).  What fails is tried again, at ever longer intervals, until it is
delivered or given up.  Of several worker processes the one that has claimed a report delivers it.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from time import time
from typing import Final

import trio

from isocenter.engine.dimse.message_codec import NEventReportRequest
from isocenter.engine.dimse.status import StatusClass, classify, describe_status, service_class_of
from isocenter.engine.errors import AssociationError, LocalProtocolError
from isocenter.engine.negotiation import PresentationContext
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import Context, InvokingAssociation
from isocenter.services.cluster.worker_names import new_worker_name
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.errors import StorageError
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.normalized.ports import (
    REPORT_LIMITS,
    ClaimedReport,
    ReportQueue,
)

log = logging.getLogger("isocenter.reports")

#: How long a claim holds: longer than an attempt can take by the default deadlines.
CLAIM_SECONDS: Final = 180.0
#: How often the database is asked for what other processes left behind.
LOOK_SECONDS: Final = 5.0
#: Reports that are claimed at once.
_BATCH: Final = 64

#: Where instances have another SOP class than the one that their events are negotiated by: a UPS is
#: always one of UPS Push (PS3.4 CC.3.1).
_INSTANCE_CLASSES: Final = {"1.2.840.10008.5.1.4.34.6.4": "1.2.840.10008.5.1.4.34.6.1"}
#: Opens an association with a peer, proposing to be SCP of some SOP classes, under an AE title.
ReportConnector = Callable[
    [Peer, Sequence[Context], str], AbstractAsyncContextManager[ClientAssociation]
]


#: How reports are tried by default: for a week.
DEFAULT_BACKOFF: Final = Backoff(give_up_after_seconds=7 * 86_400.0)


class EventReportSender:
    """Delivers event reports; `run` does it as long as the server does.

    Args:
        peer_of: where an AE title listens; None when it is not known.
        now: seconds since 1970.

    Attributes:
        worker: what this process claims reports as.
    """

    def __init__(
        self,
        queue: ReportQueue,
        *,
        peer_of: Callable[[str], Peer | None],
        connect: ReportConnector,
        backoff: Backoff = DEFAULT_BACKOFF,
        now: Callable[[], float] = time,
    ) -> None:
        self.worker = new_worker_name()
        self._queue = queue
        self._peer_of = peer_of
        self._connect = connect
        self._backoff = backoff
        self._now = now
        self._wanted = trio.Event()

    def wake(self) -> None:
        """Something is due now."""
        self._wanted.set()

    async def run(self) -> None:
        """Deliver what is due, until cancelled.  One destination that is slow delays no other."""
        busy: set[str] = set()
        async with trio.open_nursery() as nursery:
            while True:
                self._wanted = trio.Event()
                groups: defaultdict[str, list[ClaimedReport]] = defaultdict(list)
                try:
                    for each in await self._queue.claim(
                        self.worker, CLAIM_SECONDS, _BATCH, not_for=busy
                    ):
                        groups[each.report.destination].append(each)
                except StorageError as error:
                    log.error("event reports have to wait: %s", error)
                for destination, group in groups.items():
                    busy.add(destination)
                    nursery.start_soon(self._deliver_group, destination, group, busy)
                with trio.move_on_after(LOOK_SECONDS):
                    await self._wanted.wait()

    async def _deliver_group(
        self, destination: str, group: Sequence[ClaimedReport], busy: set[str]
    ) -> None:
        try:
            peer = self._peer_of(destination)
            if peer is None:
                fault = (
                    f"where {destination} listens is not known; add --peer {destination}@host:port"
                )
                for claimed in group:
                    await self._failed(claimed, fault)
                return
            by_name: defaultdict[str, list[ClaimedReport]] = defaultdict(list)
            for claimed in group:
                by_name[claimed.report.calling_ae_title].append(claimed)
            for calling_ae_title, reports in by_name.items():
                await self._deliver_to(peer, calling_ae_title, reports)
        except StorageError as error:
            # Claims end by themselves; what did arrive may arrive once more.
            log.error("what became of event reports cannot be kept: %s", error)
        finally:
            busy.discard(destination)
            self.wake()

    async def _deliver_to(
        self, peer: Peer, calling_ae_title: str, reports: Sequence[ClaimedReport]
    ) -> None:
        """Over one association of ours; what is left when it ends has failed with it."""
        contexts = [
            (uid, BASIC_SYNTAXES) for uid in dict.fromkeys(r.report.sop_class_uid for r in reports)
        ]
        todo = deque(reports)
        # Whoever claims what is left must not find it under way.
        until = trio.current_time() + CLAIM_SECONDS / 2
        try:
            async with self._connect(peer, contexts, calling_ae_title) as association:
                while todo and trio.current_time() < until:
                    is_delivered = await self._deliver_one(association, todo[0])
                    done = todo.popleft()
                    if not is_delivered and done.report.sop_class_uid in _INSTANCE_CLASSES:
                        await self._hold_back(todo, done)
        except (AssociationError, LocalProtocolError) as error:
            for claimed in todo:
                await self._failed(claimed, str(error))
        else:
            for claimed in todo:
                await self._queue.release(claimed.number)

    async def _hold_back(self, todo: deque[ClaimedReport], failed: ClaimedReport) -> None:
        """What follows one that has to come again waits for it, as far as it is of its instance."""
        uid = failed.report.sop_instance_uid
        for claimed in [each for each in todo if each.report.sop_instance_uid == uid]:
            todo.remove(claimed)
            await self._queue.release(claimed.number)

    async def _deliver_one(self, association: ClientAssociation, claimed: ClaimedReport) -> bool:
        sop_class_uid = claimed.report.sop_class_uid
        for context in association.contexts:
            if context.abstract_syntax == sop_class_uid:
                return await self.deliver_over(association, context, claimed)
        await self._failed(
            claimed,
            f"the peer does not take {sop_classes.name_of(sop_class_uid)} from us as its SCP",
        )
        return False

    async def deliver_over(
        self, association: InvokingAssociation, context: PresentationContext, claimed: ClaimedReport
    ) -> bool:
        """Deliver a report that is ours over an association that stands; whether it was taken.

        What the peer answers is kept in the database.

        Raises:
            AssociationError, LocalProtocolError: it ended first; the report is still ours.
            StorageError: what became of it cannot be kept.
        """
        report = claimed.report
        data_set = None
        if report.data_set:
            # Thousands of references take a while to encode anew.
            data_set = await trio.to_thread.run_sync(
                _encoded, report.data_set, context.transfer_syntax
            )
        request = NEventReportRequest(
            message_id=association.next_message_id(),
            affected_sop_class_uid=_INSTANCE_CLASSES.get(
                report.sop_class_uid, report.sop_class_uid
            ),
            affected_sop_instance_uid=report.sop_instance_uid,
            event_type_id=report.event_type,
        )
        received = await association.invoke(context.context_id, request, data_set)
        status = received.message.status
        if classify(status) in (StatusClass.SUCCESS, StatusClass.WARNING):
            await self._queue.delivered(claimed.number)
            log.info(
                "%s of type %d was delivered to %s",
                sop_classes.name_of(report.sop_class_uid),
                report.event_type,
                report.destination,
            )
            return True
        text = describe_status(status, service_class_of(report.sop_class_uid))
        await self._failed(claimed, f"the peer answered {status:04X}H {text}")
        return False

    async def _failed(self, claimed: ClaimedReport, fault: str) -> None:
        interval = self._backoff.next_interval(
            claimed.attempts + 1, self._now() - claimed.created_at
        )
        await self._queue.failed(claimed.number, fault, interval)
        report = claimed.report
        what = f"{sop_classes.name_of(report.sop_class_uid)} to {report.destination}"
        if interval is None:
            log.error("%s was given up after %d attempts: %s", what, claimed.attempts + 1, fault)
        else:
            log.warning("%s waits %.0f s for its next attempt: %s", what, interval, fault)

    async def take_over(self, claimed: ClaimedReport) -> None:
        """It could not be delivered on the association that asked: due at once on a new one."""
        await self._queue.release(claimed.number)
        self.wake()


def _encoded(data_set: bytes, transfer_syntax_uid: str) -> bytes:
    if transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN:
        return data_set
    attributes = AttributeList.read(data_set, EXPLICIT_VR_LITTLE_ENDIAN, REPORT_LIMITS)
    return attributes.encode(transfer_syntax_uid)
