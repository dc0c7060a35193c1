"""Runner of jobs, a few at once.

It claims what is due, and works it off.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from math import inf
from typing import Final

import trio

from isocenter.engine.errors import AssociationError, DeadlineExceeded, IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.concurrency import Backoff, Latch
from isocenter.services.errors import StorageError, text_of
from isocenter.services.net.http.client_errors import BrokenAnswerError, ServerUnreachableError
from isocenter.services.workflow.jobs.job import ItemState, Job, JobKind, JobState
from isocenter.services.workflow.jobs.ports import JobQueue, Wish
from isocenter.services.workflow.jobs.retrieving import retrieve
from isocenter.services.workflow.jobs.sending import send
from isocenter.services.workflow.nodes.node import Node
from isocenter.services.workflow.nodes.ports import OpenNode, RemoteArchive

log = logging.getLogger("isocenter.jobs")

#: How often the database is asked for what became due.
LOOK_SECONDS: Final = 2.0
#: How long a claim holds; it is renewed long before.
CLAIM_SECONDS: Final = 60.0
#: How often it is renewed, and looked whether somebody wants the job to stop.
_RENEW_SECONDS: Final = 1.0
_PURGE_SECONDS: Final = 3_600.0
#: What ends when the server stops has so long to say it.
_GOODBYE_SECONDS: Final = 2.0

_LOST: Final = "lost"

_Work = Callable[[Job, JobQueue, Archive, RemoteArchive], Awaitable[None]]
_WORK: Final[Mapping[JobKind, _Work]] = {JobKind.RETRIEVE: retrieve, JobKind.SEND: send}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """How jobs are worked off.

    Attributes:
        at_once: jobs of one process.
        at_once_per_node: of those, with one node.
        backoff: intervals between attempts of a job, and of calls of a node that does not answer.
        keep_seconds: for how long a job is remembered after its end.
    """

    at_once: int = 4
    at_once_per_node: int = 1
    backoff: Backoff
    keep_seconds: float = 30 * 86_400.0


class JobRunner:
    """Works jobs off; `run` does it as long as the server does.

    Args:
        node_of: a node by its name.
        now: seconds since 1970.
    """

    def __init__(
        self,
        queue: JobQueue,
        archive: Archive,
        node_of: Callable[[str], Awaitable[Node | None]],
        open_node: OpenNode,
        options: JobOptions,
        *,
        now: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._archive = archive
        self._node_of = node_of
        self._open_node = open_node
        self._options = options
        self._now = now
        self._name = secrets.token_hex(8)
        self._running: dict[str, trio.CancelScope] = {}
        #: Jobs that are to stop, and how.
        self._wishes: dict[str, str] = {}
        self._busy: Counter[str] = Counter()
        self._resting: dict[str, _Rest] = {}
        self._latch = Latch()

    def wake(self) -> None:
        """A job may be due."""
        self._latch.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew)
            purge_at = -inf
            while True:
                self._latch.clear()
                try:
                    if trio.current_time() >= purge_at:
                        purge_at = trio.current_time() + _PURGE_SECONDS
                        await self._queue.purge(self._now() - self._options.keep_seconds)
                    while job := await self._claim():
                        nursery.start_soon(self._work_on, job)
                except StorageError as error:
                    log.error("jobs have to wait: %s", error)
                with trio.move_on_after(LOOK_SECONDS):
                    await self._latch.wait()

    async def run_one(self, job_id: str) -> None:
        """Work on jobs that are due until that one is over, or paused."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run)
            while True:
                job = await self._queue.get(job_id)
                if job is None or job.state.is_final or job.state is JobState.PAUSED:
                    nursery.cancel_scope.cancel()
                    return
                await trio.sleep(_RENEW_SECONDS)

    async def _claim(self) -> Job | None:
        if len(self._running) >= self._options.at_once:
            return None
        now = trio.current_time()
        not_for = {
            name for name, count in self._busy.items() if count >= self._options.at_once_per_node
        }
        not_for |= {name for name, rest in self._resting.items() if rest.until > now}
        job = await self._queue.claim(self._name, CLAIM_SECONDS, not_for=not_for)
        if job is not None:
            # Before anything else can be claimed.
            self._running[job.job_id] = trio.CancelScope()
            self._busy[job.request.node] += 1
        return job

    async def _work_on(self, job: Job) -> None:
        scope = self._running[job.job_id]
        try:
            with scope:
                await self._attempt(job)
            wish = self._wishes.get(job.job_id)
            if scope.cancelled_caught and wish != _LOST:
                state = JobState.PAUSED if wish == Wish.PAUSE.value else JobState.CANCELLED
                await self._queue.end(job, state)
        except StorageError as error:
            # Its claim runs out, and it goes on where it stands.
            log.error("job %s has to wait: %s", job.job_id, error)
        except trio.Cancelled:
            with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
                await self._release(job)
            raise
        finally:
            del self._running[job.job_id]
            self._wishes.pop(job.job_id, None)
            self._busy[job.request.node] -= 1
            self._latch.set()

    async def _release(self, job: Job) -> None:
        try:
            await self._queue.release(job)
        except StorageError as error:
            log.error("job %s has to wait: %s", job.job_id, error)

    async def _attempt(self, job: Job) -> None:
        name = job.request.node
        node = await self._node_of(name)
        if node is None or not node.is_enabled:
            await self._queue.end(job, JobState.FAILED, f"there is no node {name!r} to be asked")
            return
        try:
            async with self._open_node(node) as remote:
                await _WORK[job.request.kind](job, self._queue, self._archive, remote)
        except StorageError:
            raise
        except (
            AssociationError,
            DeadlineExceeded,
            ServerUnreachableError,
            BrokenAnswerError,
            OSError,
        ) as error:
            self._rest(name)
            await self._try_again(job, text_of(error))
            return
        except IsocenterError as error:
            await self._try_again(job, str(error))
            return
        except Exception as error:
            # A fault of ours, and no reason for the server to end; its text may name a patient.
            fault = f"internal error ({type(error).__name__})"
            log.error("job %s: %s", job.job_id, fault)
            await self._try_again(job, fault)
            return
        self._resting.pop(name, None)
        await self._judge(job)

    async def _judge(self, job: Job) -> None:
        """All of it was tried."""
        now = await self._queue.get(job.job_id)
        if now is None:
            return
        if not now.progress.failed:
            await self._queue.end(job, JobState.COMPLETED)
            return
        (first, *_) = await self._queue.items(job.job_id, (ItemState.FAILED,), 1)
        fault = f"{now.progress.failed} of {now.progress.total} objects failed: {first.fault}"
        await self._try_again(job, fault)

    async def _try_again(self, job: Job, fault: str) -> None:
        seconds = self._options.backoff.next_interval(job.attempts, self._now() - job.since)
        if seconds is None:
            log.warning("job %s was given up: %s", job.job_id, fault)
            await self._queue.end(job, JobState.FAILED, fault)
        else:
            log.info("job %s is tried again in %.0f s: %s", job.job_id, seconds, fault)
            await self._queue.again(job, fault, seconds)

    def _rest(self, name: str) -> None:
        """It does not answer: what else is for it waits, too."""
        rest = self._resting.setdefault(name, _Rest())
        rest.failures += 1
        rest.until = trio.current_time() + self._options.backoff.interval(rest.failures)

    async def _renew(self) -> None:
        while True:
            await trio.sleep(_RENEW_SECONDS)
            if not self._running:
                continue
            try:
                wishes = await self._queue.renew(self._name, CLAIM_SECONDS)
            except StorageError as error:
                log.error("jobs may be done twice: %s", error)
                continue
            for job_id, scope in list(self._running.items()):
                # We were away for longer than a claim holds: it is somebody else's by now.
                wish = wishes.get(job_id, _LOST)
                if wish:
                    self._wishes[job_id] = wish
                    scope.cancel()


@dataclass(slots=True)
class _Rest:
    """A node that is left alone for a while."""

    failures: int = 0
    until: float = field(default=-inf)
