"""Empties the queue: what is due goes to its destination until it has arrived.

Each destination has a task of its own, so that one which is slow or dead delays no other.  What
fails for a reason of its own waits for its own next attempt; a destination that cannot be
reached, or says that it is out of resources, is left alone as a whole.  Of several
worker processes the one that has claimed a record sends it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final

import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deletion.records import DeletionCause, InstancesDeleted
from isocenter.services.association.peer import Peer
from isocenter.services.errors import StorageError
from isocenter.services.notices import ForwardQueueMeasured
from isocenter.services.workflow.forwarding.batch import DestinationRun, ForwardingContext
from isocenter.services.workflow.forwarding.commitment import CommitmentRequester
from isocenter.services.workflow.forwarding.ports import ForwardQueue

log = logging.getLogger("isocenter.forward")

#: How often the database is asked for what became due, or was left by others.
LOOK_SECONDS: Final = 2.0
_COUNT_SECONDS: Final = 15.0
#: And for what may leave: that is a look at all that waits for a second destination.
_DELETE_SECONDS: Final = 10.0
_PURGE_SECONDS: Final = 3_600.0
_DAY_SECONDS: Final = 86_400.0
#: Objects that leave the archive in one transaction.
_DELETED_AT_ONCE: Final = 100


class Forwarder:
    """Sends what rules have queued; `run` does it as long as the server does.

    Args:
        peer_of: where an AE title listens; None when it is not known.
        asker: asks for storage commitment of what was sent.
        keep_days: for so long records of what is done are kept.
    """

    def __init__(
        self,
        parts: ForwardingContext,
        *,
        peer_of: Callable[[str], Peer | None],
        asker: CommitmentRequester,
        keep_days: int,
    ) -> None:
        self._parts = parts
        self._queue = parts.queue
        self._peer_of = peer_of
        self._asker = asker
        self._keep_days = keep_days
        self._wanted = parts.archive.routed
        self._delete_at = -inf
        asker.on_report = self._reported

    def _reported(self) -> None:
        self._delete_at = -inf
        self.wake()

    def wake(self) -> None:
        """Something is due now."""
        self._wanted.set()

    async def run(self) -> None:
        """Send what is due, until cancelled."""
        busy: set[str] = set()
        async with trio.open_nursery() as nursery:
            for duty, seconds in (
                (self._purge, _PURGE_SECONDS),
                (self._count, _COUNT_SECONDS),
            ):
                nursery.start_soon(_every, seconds, duty)
            while True:
                self._wanted.clear()
                try:
                    if trio.current_time() >= self._delete_at:
                        self._delete_at = trio.current_time() + _DELETE_SECONDS
                        await self._delete_committed()
                    due = (
                        ()
                        if self._parts.archive.is_store_away
                        else await self._queue.due(not_for=busy)
                    )
                    for destination in due:
                        busy.add(destination)
                        nursery.start_soon(self._serve, destination, busy)
                except StorageError as error:
                    log.error("what is to be forwarded has to wait: %s", error)
                with trio.move_on_after(min(LOOK_SECONDS, self._parts.backoff.first_seconds)):
                    await self._wanted.wait()

    async def _serve(self, destination: str, busy: set[str]) -> None:
        """Send and ask for what is due at one destination."""
        try:
            peer = self._peer_of(destination)
            if peer is None:
                fault = (
                    f"where {destination} listens is not known; add --peer {destination}@host:port"
                )
            else:
                visit = DestinationRun(self._parts, destination, peer)
                await visit.send_all()
                fault = visit.fault or await self._asker.request(destination, peer)
                if visit.delivered or not fault:
                    await self._queue.destination_succeeded(destination)
            if fault:
                await self._leave_alone(destination, fault)
            self.wake()
        except StorageError as error:
            # Claims end by themselves; what did arrive may arrive once more.
            log.error("what became of forwarded objects cannot be kept: %s", error)
            await trio.sleep(LOOK_SECONDS)
        finally:
            busy.discard(destination)

    async def _leave_alone(self, destination: str, fault: str) -> None:
        seconds, given_up = await self._queue.destination_failed(
            destination, fault, self._parts.backoff
        )
        log.warning("forwarding to %s waits %.3g s: %s", destination, seconds, fault)
        if given_up:
            log.error(
                "%d objects for %s were given up; see isocenter queue list", given_up, destination
            )

    async def _delete_committed(self) -> None:
        while True:
            deletion = await self._queue.delete_committed(_DELETED_AT_ONCE)
            for study in deletion.studies:
                self._parts.notices.publish(
                    InstancesDeleted(study=study, cause=DeletionCause.COMMITTED_ELSEWHERE)
                )
            if deletion.kept:
                log.warning(
                    "%d objects are committed elsewhere, but promised to others or held, and stay; "
                    "see isocenter queue list --state failed",
                    len(deletion.kept),
                )
            keys = [stored.object_key for stored in deletion.instances]
            if keys:
                await self._parts.archive.store.remove(keys)
                await self._queue.deleted(keys)
                log.info("%d objects are committed elsewhere and have left the archive", len(keys))
            elif not deletion.kept:
                return

    async def _purge(self) -> None:
        await self._queue.purge_done(self._parts.now() - self._keep_days * _DAY_SECONDS)

    async def _count(self) -> None:
        counts = await self._queue.counts()
        self._parts.notices.publish(
            ForwardQueueMeasured(
                counts={(name, state.value): n for (name, state), n in counts.items()}
            )
        )


async def finish_deletions(queue: ForwardQueue, archive: Archive) -> None:
    """After a crash, and before anything is received: what has left the index leaves the store.

    Raises:
        StorageError: it cannot.
    """
    keys = await queue.leaving()
    if not keys:
        return
    indexed = await archive.are_indexed(keys)
    await archive.store.remove([key for key, is_in in zip(keys, indexed, strict=True) if not is_in])
    await queue.deleted(keys)


async def _every(seconds: float, duty: Callable[[], Awaitable[None]]) -> None:
    """Do it now and again and again; the database may be out of reach for a while."""
    while True:
        try:
            await duty()
        except StorageError as error:
            log.error("the queue of what is to be forwarded cannot be looked after: %s", error)
        await trio.sleep(seconds)
