"""Sending what is due for one destination: batches, associations, and what answers mean."""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, assert_never

import trio

from isocenter.engine.dataset import DataSetError
from isocenter.engine.dimse.status import ServiceClass, StatusClass, classify, describe_status
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import ForwardPriority, StoredInstance
from isocenter.services.archive.read_ahead import ReadAhead, reading_ahead
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.association.destination_slots import Place, Places
from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import Connector, Context, InvokingAssociation
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.transcoder import Transcoder, cure_for
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.errors import StorageError
from isocenter.services.notices import ForwardAttempted, Notices
from isocenter.services.service_classes.storage.contexts import no_targets, plan_associations
from isocenter.services.service_classes.storage.scu import OPERATIONS_WINDOW, Transfer, send_object
from isocenter.services.service_classes.storage.sent_account import SentAccount
from isocenter.services.workflow.forwarding.ports import (
    ClaimedForward,
    Clock,
    Delivered,
    Failed,
    ForwardQueue,
    Outcome,
    Returned,
)

log = logging.getLogger("isocenter.forward")

#: How long a claim holds; those of a visit that goes on are renewed long before.
CLAIM_SECONDS: Final = 180.0
_RENEW_SECONDS: Final = CLAIM_SECONDS / 4
#: Statuses A7xxH of C-STORE (PS3.4 Table B.2-1): the destination cannot, whatever it is sent.
_OUT_OF_RESOURCES: Final = 0xA700
_STATUS_KIND: Final = 0xFF00
#: What came of objects is written down after so many, or so many seconds: what a crash loses of
#: it is sent once more.
_SETTLED_AT_ONCE: Final = 16
_SETTLE_SECONDS: Final = 1.0
#: Associations in a row on which a destination answers nothing: it is tried again later anyway.
_PATIENCE: Final = 3
#: How long that may take when the server stops.
_GOODBYE_SECONDS: Final = 2.0

#: Priority (0000,0700) of a C-STORE-RQ (PS3.7 9.1.1.1).
_DIMSE_PRIORITY: Final[Mapping[ForwardPriority, int]] = {
    ForwardPriority.LOW: 2,
    ForwardPriority.NORMAL: 0,
    ForwardPriority.HIGH: 1,
    ForwardPriority.URGENT: 1,
}

_Job = tuple[ClaimedForward, StoredInstance]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOptions:
    """How the queue is emptied.

    Attributes:
        associations: with one destination at once.
        batch: objects that are claimed for one association.
        accept_warnings: an object that the destination took with a warning has arrived.
    """

    associations: int = 2
    batch: int = 100
    accept_warnings: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingContext:
    """What sending needs.

    Attributes:
        connect: how associations to destinations are opened.
        now: seconds since 1970.
        places: how many associations with one destination may be requested at once.
        transcoder: makes what a destination takes, where it does not take what is stored.
    """

    queue: ForwardQueue
    archive: Archive
    connect: Connector
    backoff: Backoff
    options: SendOptions
    notices: Notices
    now: Clock
    places: Places
    transcoder: Transcoder | None = None


class DestinationRun:
    """Sends all that is due for one destination, over a few associations at once.

    Attributes:
        fault: why the destination is to be left alone; empty: it is not.
        delivered: how many objects it took.
    """

    def __init__(self, parts: ForwardingContext, destination: str, peer: Peer) -> None:
        self._parts = parts
        #: Claims are of this visit: what it cannot say any more is free some time after its end.
        self._name = secrets.token_hex(8)
        self._destination = destination
        self._peer = peer
        self._outcomes: list[Outcome] = []
        self._settled_at = trio.current_time()
        self.fault = ""
        self.delivered = 0

    async def send_all(self) -> None:
        """Until nothing is due, or the destination has failed.

        Raises:
            StorageError: what became of it cannot be kept.
        """
        options, places = self._parts.options, self._parts.places
        failures: list[StorageError] = []
        running = 1

        async def send_batch() -> bool:
            """Whether there was one."""
            nonlocal running
            batch = () if self.fault else await self._claim()
            if not batch:
                return False
            if len(batch) == options.batch and running < options.associations:
                place = places.take_now(self._destination)
                if place is not None:
                    running += 1
                    nursery.start_soon(work, place)
            await self._send(batch)
            await self._settle()
            return True

        async def work(place: Place) -> None:
            nonlocal running
            try:
                goes_on = True
                while goes_on:
                    with place:
                        goes_on = await send_batch() and not self.fault
                    if goes_on:
                        # Between two batches it is the turn of others that wait.
                        place = await places.take(self._destination)
            except StorageError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()
            finally:
                running -= 1
                # The server stops: what was answered need not be sent again, the rest is free.
                with trio.move_on_after(_GOODBYE_SECONDS, shield=True), suppress(StorageError):
                    await self._settle()

        first = await places.take(self._destination)
        async with trio.open_nursery() as around:
            around.start_soon(self._renew)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work, first)
            around.cancel_scope.cancel()
        if failures:
            raise failures[0]

    async def _claim(self) -> Sequence[ClaimedForward]:
        parts = self._parts
        return await parts.queue.claim(
            self._name, self._destination, CLAIM_SECONDS, parts.options.batch
        )

    async def _renew(self) -> None:
        while True:
            await trio.sleep(_RENEW_SECONDS)
            try:
                await self._parts.queue.renew(self._name, CLAIM_SECONDS)
            except StorageError as error:
                log.error("what is being forwarded may be sent twice: %s", error)

    async def _send(self, batch: Sequence[ClaimedForward]) -> None:
        known = await self._parts.archive.index.get([claimed.sop_instance_uid for claimed in batch])
        jobs: list[_Job] = []
        for claimed in batch:
            stored = known.get(claimed.sop_instance_uid)
            if stored is not None:
                jobs.append((claimed, stored))
            else:
                fault = "the archive has it no more"
                self._outcomes.append(self._missed(claimed, fault, is_final=True))
        transcoder = self._parts.transcoder
        plans = plan_associations(
            jobs,
            lambda job: (job[1].sop_class_uid, job[1].transfer_syntax_uid),
            no_targets if transcoder is None else transcoder.targets,
        )
        for contexts, group in plans:
            instances = [stored for _, stored in group]
            async with reading_ahead(self._parts.archive, instances) as ahead:
                await self._send_group(contexts, group, ahead)

    async def _send_group(
        self, contexts: Sequence[Context], group: Sequence[_Job], ahead: ReadAhead
    ) -> None:
        """What one association can carry."""
        account = SentAccount(
            self._destination,
            f"{self._peer.host}:{self._peer.port}",
            [stored for _, stored in group],
        )

        def take_down(stored: StoredInstance, outcome: Outcome) -> None:
            self._outcomes.append(outcome)
            self.delivered += isinstance(outcome, Delivered)
            if not isinstance(outcome, Returned):
                account.count(stored, outcome.fault if isinstance(outcome, Failed) else "")

        async def send(association: InvokingAssociation, job: _Job) -> None:
            claimed, stored = job
            take_down(stored, await self._deliver(association, claimed, stored, ahead))

        def lose(job: _Job, error: IsocenterError) -> None:
            # Maybe it was this very object that the peer could not bear.
            claimed, stored = job
            take_down(stored, self._missed(claimed, str(error)))

        @asynccontextmanager
        async def associate() -> AsyncIterator[InvokingAssociation]:
            async with self._parts.connect(
                self._peer, contexts, operations_window=OPERATIONS_WINDOW
            ) as association:
                account.begin(self._parts.notices)
                yield association

        transfer = Transfer(
            group,
            send=send,
            lose=lose,
            is_over=lambda: bool(self.fault),
            after=self._settle_now_and_then,
            patience=_PATIENCE,
        )
        try:
            await transfer.send_over_associations(associate)
        finally:
            self._outcomes += [Returned(claimed) for claimed, _ in transfer.left]
            account.end(self._parts.notices)
        if transfer.fault is not None:
            self.fault = str(transfer.fault)

    async def _deliver(
        self,
        association: InvokingAssociation,
        claimed: ClaimedForward,
        stored: StoredInstance,
        ahead: ReadAhead,
    ) -> Outcome:
        """Send one object; what came of it.

        Raises:
            AssociationError: the association ended first.
        """
        send = partial(
            send_object,
            association,
            priority=_DIMSE_PRIORITY[claimed.priority],
            transcoder=self._parts.transcoder,
        )
        try:
            try:
                response = await send(stored_object(stored, ahead.open))
            except KeyError:
                now = await self._parts.archive.compressed_since(stored)
                if now is None:
                    raise
                response = await send(stored_object(now, ahead.open))
        except KeyError:
            # Removed, or another object has its place: the next attempt looks again.
            return self._missed(claimed, "it was removed or replaced meanwhile")
        except (StorageError, DataSetError, OSError) as error:
            return self._missed(claimed, f"it cannot be read: {error}")
        except PixelError as error:
            return self._missed(claimed, f"it cannot be transcoded: {error}")
        if response is None:
            fault = (
                "the peer accepted no presentation context for "
                f"{name_of(stored.sop_class_uid)} in {name_of(stored.transfer_syntax_uid)}"
                f"{cure_for(stored.transfer_syntax_uid)}"
            )
            return self._missed(claimed, fault)
        status = response.status
        kind = classify(status)
        if kind is StatusClass.SUCCESS or (
            kind is StatusClass.WARNING and self._parts.options.accept_warnings
        ):
            return Delivered(claimed)
        fault = f"the peer answered {status:04X}H {describe_status(status, ServiceClass.STORAGE)}"
        if status & _STATUS_KIND == _OUT_OF_RESOURCES:
            self.fault = fault
        return self._missed(claimed, fault)

    def _missed(self, claimed: ClaimedForward, fault: str, *, is_final: bool = False) -> Failed:
        parts = self._parts
        retry_in = (
            None
            if is_final
            else parts.backoff.next_interval(claimed.attempts + 1, parts.now() - claimed.since)
        )
        uid = claimed.sop_instance_uid
        if retry_in is None:
            log.error("instance %s for %s was given up: %s", uid, self._destination, fault)
        elif not claimed.attempts:
            # Once: the later attempts stand in the queue.
            log.warning("instance %s for %s has to wait: %s", uid, self._destination, fault)
        return Failed(claimed, fault, retry_in)

    async def _settle_now_and_then(self) -> None:
        is_late = trio.current_time() - self._settled_at > _SETTLE_SECONDS
        if len(self._outcomes) >= _SETTLED_AT_ONCE or is_late:
            await self._settle()

    async def _settle(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        self._settled_at = trio.current_time()
        if not outcomes:
            return
        try:
            await self._parts.queue.settle(outcomes)
        except StorageError:
            self._outcomes = outcomes + self._outcomes
            raise
        for name, count in Counter(map(_name_of_outcome, outcomes)).items():
            if name:
                self._parts.notices.publish(
                    ForwardAttempted(destination=self._destination, outcome=name, objects=count)
                )


def _name_of_outcome(outcome: Outcome) -> str:
    match outcome:
        case Delivered():
            return "delivered"
        case Failed():
            return "given_up" if outcome.retry_in is None else "failed"
        case Returned():
            return ""
        case _:
            assert_never(outcome)
