"""Forwarding as standing work of the job queue.

Each destination has a job of its own, so that one which is slow or dead delays no other.  What
fails for a reason of its own waits for its own next attempt; a destination that cannot be
reached, or says that it is out of resources, is left alone as a whole.  Of several
worker processes the one that has claimed its job sends.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deletion.records import DeletionCause, InstancesDeleted
from isocenter.services.archive.locks.lock import StudyLockedError
from isocenter.services.association.peer import Peer
from isocenter.services.concurrency import Backoff, Latch
from isocenter.services.errors import StorageError
from isocenter.services.notices import ForwardQueueMeasured
from isocenter.services.workflow.forwarding.batch import DimseSender
from isocenter.services.workflow.forwarding.commitment import CommitmentRequester
from isocenter.services.workflow.forwarding.node_batch import NodeSender
from isocenter.services.workflow.forwarding.ports import ForwardQueue
from isocenter.services.workflow.forwarding.visit import BatchSender, ForwardingContext, Visit
from isocenter.services.workflow.nodes.node import Node
from isocenter.services.workflow.nodes.ports import OpenNode

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
    """Sends what rules have queued (`isocenter.services.workflow.jobs.ports.StandingWork`).

    Args:
        target_of: where a destination listens, or the node that does not speak DIMSE; None when it
            is not known.
        open_node: speaks to such a node.
        asker: asks for storage commitment of what was sent.

    Attributes:
        wanted: set when something may be due.
        look_seconds: how often to look without that.
    """

    def __init__(
        self,
        parts: ForwardingContext,
        *,
        target_of: Callable[[str], Awaitable[Peer | Node | None]],
        open_node: OpenNode,
        asker: CommitmentRequester,
    ) -> None:
        self._parts = parts
        self._queue = parts.queue
        self._target_of = target_of
        self._open_node = open_node
        self._asker = asker
        self.wanted: Latch = parts.archive.routed
        self.look_seconds = min(LOOK_SECONDS, parts.backoff.first_seconds)

    async def due(self, not_for: Collection[str]) -> Sequence[str]:
        """See `StandingWork.due`."""
        if self._parts.archive.is_store_away:
            return ()
        return await self._queue.due(not_for=not_for)

    def patience(self, destination: str) -> tuple[Backoff, float]:
        """See `StandingWork.patience`."""
        limit = self._parts.limit_of(destination)
        return limit.backoff(self._parts.backoff), limit.released_at

    async def work(self, destination: str, job: int) -> tuple[str, bool]:
        """See `StandingWork.work`."""
        target = await self._target_of(destination)
        if target is None:
            fault = (
                f"where {destination} listens is not known; add --peer {destination}@host:port,"
                " or a node of that name (isocenter node add)"
            )
            return fault, False
        sender: BatchSender
        if isinstance(target, Node):
            sender = NodeSender(target, self._open_node)
        else:
            sender = DimseSender(self._parts, destination, target)
        visit = Visit(self._parts, destination, job)
        await visit.send_all(sender)
        fault = visit.account.fault
        if not fault:
            fault = await self._ask_to_commit(destination, target)
        return fault, bool(visit.account.delivered)

    async def _ask_to_commit(self, destination: str, target: Peer | Node) -> str:
        """Why the destination is to be left alone; empty: it is not."""
        made = self._parts.archive.deidentification
        if isinstance(target, Node):  # it was another one when the rule was made
            why = "DICOMweb has no storage commitment"
        elif made is not None and made.project_of_destination(target.ae_title) is not None:
            # Should it say that it keeps what has the same UID, the original would be deleted.
            why = "what it is sent is de-identified: it would commit another object"
        else:
            return await self._asker.request(destination, target)
        await self._asker.refuse(destination, why)
        return ""


class ForwardingDuties:
    """What is done beside sending, in each process, as long as the server runs.

    Args:
        keep_days: for so long records of what is done are kept.
    """

    def __init__(
        self, parts: ForwardingContext, asker: CommitmentRequester, *, keep_days: int
    ) -> None:
        self._parts = parts
        self._queue = parts.queue
        self._keep_days = keep_days
        self._reported = Latch()
        asker.on_report = self._on_report

    def _on_report(self) -> None:
        self._reported.set()
        self._parts.archive.routed.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_every, _PURGE_SECONDS, self._purge)
            nursery.start_soon(_every, _COUNT_SECONDS, self._count)
            nursery.start_soon(_every, _DELETE_SECONDS, self._delete_committed, self._reported)

    async def _delete_committed(self) -> None:
        for study in await self._queue.deletable():
            locks = self._parts.archive.locks
            try:
                # Whoever reads it, reads it to its end; the next look finds it free.
                async with locks.exclusive(study, "forwarding", "committed elsewhere", wait=0):
                    await self._delete_within(study)
            except StudyLockedError as error:
                log.info("what is committed elsewhere stays for now: %s", error)

    async def _delete_within(self, study_instance_uid: str) -> None:
        while True:
            deletion = await self._queue.delete_committed(_DELETED_AT_ONCE, study_instance_uid)
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
    await archive.remove_unnamed(
        [key for key, is_in in zip(keys, indexed, strict=True) if not is_in]
    )
    await queue.deleted(keys)


async def _every(
    seconds: float, duty: Callable[[], Awaitable[None]], wanted: Latch | None = None
) -> None:
    """Do it now and again and again, or when it is wanted; the database may be out of reach for a
    while."""
    wanted = wanted or Latch()
    while True:
        wanted.clear()
        try:
            await duty()
        except StorageError as error:
            log.error("the queue of what is to be forwarded cannot be looked after: %s", error)
        except Exception as error:
            # A fault of ours, and no reason for the server to end.
            log.error("looking after forwarding: internal error (%s)", type(error).__name__)
        with trio.move_on_after(seconds):
            await wanted.wait()
