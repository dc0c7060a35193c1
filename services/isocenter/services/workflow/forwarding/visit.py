"""Visit of a destination: what is due there is sent in batches, and settled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.association.destination_slots import Place, Places
from isocenter.services.association.requestor import Connector
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.errors import StorageError
from isocenter.services.notices import Notices
from isocenter.services.workflow.forwarding.account import VisitAccount
from isocenter.services.workflow.forwarding.ports import Clock, DueForward, Failed, ForwardQueue
from isocenter.services.workflow.nodes.limits import DestinationLimit, unlimited

log = logging.getLogger("isocenter.forward")

#: How long it may take, when the server stops, to write down what was answered.
_GOODBYE_SECONDS: Final = 2.0

#: What is to be sent, and the object as the archive has it now.
SendTask = tuple[DueForward, StoredInstance]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOptions:
    """How the queue is emptied.

    Attributes:
        associations: with one destination at once.
        batch: objects that are taken for one association.
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
        limit_of: what a destination may be sent, and when.
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
    limit_of: Callable[[str], DestinationLimit] = unlimited
    transcoder: Transcoder | None = None


class BatchSender(Protocol):
    """Sends batches to one destination, by its own ways."""

    async def send(self, tasks: Sequence[SendTask], visit: Visit) -> None:
        """Send objects of one batch; *visit* hears what became of each.

        Of whom it hears nothing, that object stays due.
        """
        ...


class Visit:
    """Sends all that is due for one destination, in a few batches at once.

    Args:
        job: the number of the job of the destination.
    """

    def __init__(self, parts: ForwardingContext, destination: str, job: int) -> None:
        self._parts = parts
        self._destination = destination
        self.account = VisitAccount(parts.queue, parts.notices, destination, job)
        #: Numbers of records that are being sent.
        self._in_hand: set[int] = set()
        self._taking = trio.Lock()

    async def send_all(self, sender: BatchSender) -> None:
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
            batch = await self._take() if self._goes_on else ()
            if not batch:
                return False
            try:
                if len(batch) == options.batch and running < options.associations:
                    place = places.take_now(self._destination)
                    if place is not None:
                        running += 1
                        nursery.start_soon(work, place)
                await self._send(batch, sender)
                await self.account.settle()
            finally:
                self._in_hand.difference_update(record.number for record in batch)
            return True

        async def work(place: Place) -> None:
            nonlocal running
            try:
                goes_on = True
                while goes_on:
                    with place:
                        goes_on = await send_batch() and self._goes_on
                    if goes_on:
                        # Between two batches it is the turn of others that wait.
                        place = await places.take(self._destination)
            except StorageError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()
            finally:
                running -= 1
                # The server stops: what was answered need not be sent again.
                with trio.move_on_after(_GOODBYE_SECONDS, shield=True), suppress(StorageError):
                    await self.account.settle()

        first = await places.take(self._destination)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, first)
        if failures:
            raise failures[0]

    def missed(self, record: DueForward, fault: str, *, is_final: bool = False) -> None:
        """It has not arrived."""
        parts = self._parts
        retry_in = None
        if not is_final:
            limit = parts.limit_of(self._destination)
            since = max(record.since, limit.released_at)
            backoff = limit.backoff(parts.backoff)
            retry_in = backoff.next_interval(record.attempts + 1, parts.now() - since)
        uid = record.sop_instance_uid
        if retry_in is None:
            log.error("instance %s for %s was given up: %s", uid, self._destination, fault)
        elif not record.attempts:
            # Once: the later attempts stand in the queue.
            log.warning("instance %s for %s has to wait: %s", uid, self._destination, fault)
        self.account.add(Failed(record, fault, retry_in))

    @property
    def _goes_on(self) -> bool:
        """Nothing is against sending more; the destination's hours may have ended meanwhile."""
        parts = self._parts
        return not self.account.fault and parts.limit_of(self._destination).is_open(parts.now())

    async def _take(self) -> Sequence[DueForward]:
        parts = self._parts
        async with self._taking:
            batch = await parts.queue.take(
                self._destination, parts.options.batch, without=self._in_hand
            )
            self._in_hand.update(record.number for record in batch)
            return batch

    async def _send(self, batch: Sequence[DueForward], sender: BatchSender) -> None:
        known = await self._parts.archive.index.get([record.sop_instance_uid for record in batch])
        tasks: list[SendTask] = []
        for record in batch:
            stored = known.get(record.sop_instance_uid)
            if stored is not None:
                tasks.append((record, stored))
            else:
                self.missed(record, "the archive has it no more", is_final=True)
        if tasks:
            await sender.send(tasks, self)
