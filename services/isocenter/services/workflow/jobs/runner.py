"""Runner of jobs, a few at once.

It claims what is due, and works it off.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from math import inf
from typing import Final

import trio

from isocenter.engine.errors import AssociationError, DeadlineExceeded, IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.cluster.worker_names import new_worker_name
from isocenter.services.concurrency import Backoff, Latch, open_plain_nursery
from isocenter.services.errors import StorageError, text_of
from isocenter.services.net.http.client_errors import (
    BrokenAnswerError,
    HttpStatusError,
    ServerUnreachableError,
)
from isocenter.services.workflow.forwarding.ports import ForwardQueue
from isocenter.services.workflow.jobs.job import ItemState, Job, JobKind, JobState
from isocenter.services.workflow.jobs.local_works import LocalWork
from isocenter.services.workflow.jobs.permission import JobPermission
from isocenter.services.workflow.jobs.ports import JobItems, JobQueue, StandingWork, Wish
from isocenter.services.workflow.jobs.querying import query
from isocenter.services.workflow.jobs.retrieving import retrieve
from isocenter.services.workflow.jobs.sending import send
from isocenter.services.workflow.jobs.turns import AskLaterError, Turn, TurnOverError
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

#: For so long a job is left to other processes by one that cannot do it.
_OTHERS_SECONDS: Final = 30.0
_LOST: Final = "lost"
#: Statuses of HTTP by which a service says that it may answer another time.
_NOT_NOW: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

_Work = Callable[[Job, JobItems, Archive, RemoteArchive], Awaitable[None]]
_WORK: Final[Mapping[JobKind, _Work]] = {JobKind.RETRIEVE: retrieve, JobKind.SEND: send}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """How jobs are worked off.

    Attributes:
        at_once: jobs of one process, without those that stand for a destination; 0: none.
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
        forwards: knows which destinations are left alone after a failure, whoever met it.
        closed: the nodes that nothing is asked of, or sent to, now.
        local: what jobs do that ask no node.
        standing: work of which each destination has one job.
        permission: looks whether who asked for a job may still have it done; None: nobody does.
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
        forwards: ForwardQueue,
        closed: Callable[[], Collection[str]],
        local: Mapping[JobKind, LocalWork],
        standing: Mapping[JobKind, StandingWork] | None = None,
        permission: JobPermission | None = None,
        now: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._archive = archive
        self._node_of = node_of
        self._open_node = open_node
        self._options = options
        self._forwards = forwards
        self._closed = closed
        self._local = local
        self._standing = standing or {}
        self._permission = permission
        self._now = now
        self._name = new_worker_name()
        self._running: dict[str, trio.CancelScope] = {}
        #: Jobs that we have claimed and do not work on: somebody is to go on with them.
        self._left: dict[str, Job] = {}
        #: Jobs that are to stop, and how.
        self._wishes: dict[str, str] = {}
        #: Running jobs for whose asker the permission is looked at again.
        self._asked: dict[str, Job] = {}
        #: Why jobs that are to stop may not go on.
        self._forbidden: dict[str, str] = {}
        self._busy: Counter[str] = Counter()
        #: Nodes whose standing job we have, by kind.
        self._taken: set[tuple[JobKind, str]] = set()
        #: Nodes in the order of their last turns.
        self._served: dict[str, None] = {}
        self._latch = Latch()

    def wake(self) -> None:
        """A job may be due."""
        self._latch.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew)
            nursery.start_soon(self._purge)
            for kind, work in self._standing.items():
                nursery.start_soon(
                    self._look_always, work.wanted, work.look_seconds, partial(self._take_due, kind)
                )
            if self._options.at_once:
                nursery.start_soon(self._look_always, self._latch, LOOK_SECONDS, self._claim_due)

    async def _look_always(
        self,
        wanted: Latch,
        seconds: float,
        look: Callable[[trio.Nursery], Awaitable[None]],
    ) -> None:
        """Look for work now, and whenever it is wanted, or so many seconds have passed."""
        async with trio.open_nursery() as nursery:
            while True:
                wanted.clear()
                try:
                    await look(nursery)
                except StorageError as error:
                    log.error("jobs have to wait: %s", error)
                except Exception as error:
                    # A fault of ours, and no reason for the server to end.
                    log.error("jobs have to wait: internal error (%s)", type(error).__name__)
                with trio.move_on_after(seconds):
                    await wanted.wait()

    async def _claim_due(self, nursery: trio.Nursery) -> None:
        while job := await self._claim():
            nursery.start_soon(self._work_on, job)

    async def _take_due(self, kind: JobKind, nursery: trio.Nursery) -> None:
        """Each node's standing job has a task of its own: one that is slow delays no other."""
        work = self._standing[kind]
        not_for = {node for of, node in self._taken if of is kind}.union(self._closed())
        for node in await work.due(not_for):
            until = trio.current_time() + CLAIM_SECONDS
            job = await self._queue.take(kind, node, self._name, CLAIM_SECONDS)
            if job is not None:
                self._running[job.job_id] = trio.CancelScope(deadline=until)
                self._taken.add((kind, node))
                nursery.start_soon(self._work_on, job)

    async def _purge(self) -> None:
        while True:
            try:
                for kind in await self._queue.unknown_kinds():
                    log.error("jobs of the kind %r wait for a newer version of Isocenter", kind)
                await self._queue.purge(self._now() - self._options.keep_seconds)
            except StorageError as error:
                log.error("jobs that are over cannot be forgotten: %s", error)
            except Exception as error:
                # A fault of ours, and no reason for the server to end.
                log.error("forgetting jobs: internal error (%s)", type(error).__name__)
            await trio.sleep(_PURGE_SECONDS)

    async def run_one(self, job_id: str) -> None:
        """Work on jobs that are due until that one is over, or paused."""
        async with open_plain_nursery() as nursery:
            nursery.start_soon(self.run)
            while True:
                job = await self._queue.get(job_id)
                if job is None or job.state.is_final or job.state is JobState.PAUSED:
                    nursery.cancel_scope.cancel()
                    return
                await trio.sleep(_RENEW_SECONDS)

    async def _claim(self) -> Job | None:
        if len(self._running) - len(self._taken) >= self._options.at_once:
            return None
        not_for = {
            name for name, count in self._busy.items() if count >= self._options.at_once_per_node
        }
        not_for.update(self._closed(), await self._forwards.left_alone())
        until = trio.current_time() + CLAIM_SECONDS
        job = await self._queue.claim(
            self._name, CLAIM_SECONDS, not_for=not_for, served=tuple(self._served)
        )
        if job is not None:
            self._served.pop(job.request.node, None)
            self._served[job.request.node] = None
            # Before anything else can be claimed.
            self._running[job.job_id] = trio.CancelScope(deadline=until)
            self._busy[job.request.node] += 1
            if job.request.asker is not None:
                self._asked[job.job_id] = job
        return job

    async def _work_on(self, job: Job) -> None:
        scope = self._running[job.job_id]
        try:
            with scope:
                await self._attempt(job)
            wish = self._wishes.get(job.job_id)
            why = self._forbidden.get(job.job_id)
            if why is not None and scope.cancelled_caught:
                await self._forbid(job, why)
            elif scope.cancelled_caught and wish is None:
                # By its deadline: the database does not answer, and others may have the job.
                log.error("job %s stops: its claim could not be renewed", job.job_id)
                self._left[job.job_id] = job
            elif scope.cancelled_caught and wish != _LOST:
                state = JobState.PAUSED if wish == Wish.PAUSE.value else JobState.CANCELLED
                await self._queue.end(job, state)
        except StorageError as error:
            # It goes on where it stands.
            log.error("job %s has to wait: %s", job.job_id, error)
            self._left[job.job_id] = job
        except Exception as error:
            # A fault of ours, and no reason for the server to end; its text may name a patient.
            log.error("job %s: internal error (%s)", job.job_id, type(error).__name__)
            self._left[job.job_id] = job
        except BaseException:
            # Cancelled, maybe in a group: the server stops.
            with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
                await self._release(job)
            raise
        finally:
            # It may have been claimed here once more, while this was about to end.
            if self._running.get(job.job_id) is scope:
                del self._running[job.job_id]
                self._wishes.pop(job.job_id, None)
                self._asked.pop(job.job_id, None)
                self._forbidden.pop(job.job_id, None)
            kind, node = job.request.kind, job.request.node
            if kind.is_standing:
                self._taken.discard((kind, node))
                self._standing[kind].wanted.set()
            else:
                self._busy[node] -= 1
                self._latch.set()

    async def _release(self, job: Job) -> None:
        try:
            await self._queue.release(job)
        except StorageError as error:
            log.error("job %s has to wait: %s", job.job_id, error)

    async def _forbid(self, job: Job, why: str) -> None:
        """It ends: who asked for it may not have it done any more."""
        assert self._permission is not None
        await self._queue.end(job, JobState.FAILED, why)
        log.warning("job %s ends: who asked for it may not any more", job.job_id)
        self._permission.tell(job, why)

    async def _look_at_permissions(self) -> None:
        """Whoever asked for what runs may have lost a role, or a key, meanwhile."""
        if self._permission is None:
            return
        for job in list(self._asked.values()):
            why = await self._permission.why_not(job)
            scope = self._running.get(job.job_id)
            if why and scope is not None and self._asked.get(job.job_id) is job:
                self._forbidden[job.job_id] = why
                scope.cancel()

    async def _attempt(self, job: Job) -> None:
        if job.request.kind.is_standing:
            await self._attempt_standing(job)
            return
        if self._permission is not None and (why := await self._permission.why_not(job)):
            await self._forbid(job, why)
            return
        if job.request.kind.is_local:
            await self._attempt_here(job)
            return
        name = job.request.node
        node = await self._node_of(name)
        if node is None or not node.is_enabled:
            await self._queue.end(job, JobState.FAILED, f"there is no node {name!r} to be asked")
            return
        turn = Turn(self._queue, job)
        try:
            async with self._open_node(node) as remote:
                if job.request.kind is JobKind.QUERY:
                    await query(job, self._queue, remote)
                else:
                    await _WORK[job.request.kind](job, turn, self._archive, remote)
        except StorageError:
            raise
        except TurnOverError:
            log.info("job %s gives way to another one of node %r", job.job_id, name)
            await self._queue.give_way(job)
            return
        except (
            AssociationError,
            DeadlineExceeded,
            ServerUnreachableError,
            BrokenAnswerError,
            OSError,
        ) as error:
            await self._unreachable(job, text_of(error))
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
        await self._forwards.destination_succeeded(name)
        await self._judge(job)

    async def _attempt_standing(self, job: Job) -> None:
        """What is queued at one destination; each object of it has its own patience."""
        kind, name = job.request.kind, job.request.node
        work = self._standing[kind]
        try:
            fault, has_taken = await work.work(name, job.number)
        except StorageError:
            raise
        except Exception as error:
            # A fault of ours, and no reason for the server to end; its text may name a patient.
            fault = f"internal error ({type(error).__name__})"
            log.error("job %s: %s", job.job_id, fault)
            await self._queue.again(job, fault, work.look_seconds)
            return
        if has_taken or not fault:
            await self._forwards.destination_succeeded(name)
        if not fault:
            await self._queue.end(job, JobState.COMPLETED)
            return
        await self._leave_alone(name, fault, *work.patience(name))
        # Whoever tells that it is there again has it tried at once.
        await self._queue.again(job, fault, 0.0)

    async def _leave_alone(
        self, node: str, fault: str, backoff: Backoff, released_at: float = 0.0
    ) -> None:
        """Nobody speaks to a node for a while, whatever for."""
        seconds, given_up = await self._forwards.destination_failed(
            node, fault, backoff, released_at=released_at
        )
        log.warning("%s is left alone for %.3g s: %s", node, seconds, fault)
        if given_up:
            log.error("%d objects for %s were given up; see isocenter queue list", given_up, node)

    async def _attempt_here(self, job: Job) -> None:
        """One that asks no node; what fails of it would fail again, unless it is a service over
        HTTP that cannot do it now."""
        work = self._local.get(job.request.kind)
        try:
            if work is None:
                # A command works off what is due, and the server can do what it cannot.
                raise AskLaterError(_OTHERS_SECONDS)
            await work(job, self._queue)
        except StorageError:
            raise
        except AskLaterError as later:
            await self._succeeded(job)
            await self._queue.give_way(job, later.seconds)
            return
        except (ServerUnreachableError, BrokenAnswerError, HttpStatusError) as error:
            if isinstance(error, HttpStatusError) and error.status not in _NOT_NOW:
                # What a service says may name whom it is about: that is not for the list of jobs.
                fault = f"the service answered {error.status}"
                await self._queue.end(job, JobState.FAILED, fault)
                return
            fault = f"it answered {error.status}" if isinstance(error, HttpStatusError) else ""
            await self._unreachable(job, fault or text_of(error))
            return
        except OSError as error:
            await self._try_again(job, text_of(error))
            return
        except IsocenterError as error:
            await self._queue.end(job, JobState.FAILED, str(error))
            return
        except Exception as error:
            # A fault of ours, and no reason for the server to end; its text may name a patient.
            fault = f"internal error ({type(error).__name__})"
            log.error("job %s: %s", job.job_id, fault)
            await self._queue.end(job, JobState.FAILED, fault)
            return
        await self._succeeded(job)
        await self._judge(job, is_final=True)

    async def _succeeded(self, job: Job) -> None:
        if job.request.node:
            await self._forwards.destination_succeeded(job.request.node)

    async def _unreachable(self, job: Job, fault: str) -> None:
        """Whoever a job is about is left alone for a while, by all jobs."""
        # What rules have queued for it has its own patience.
        backoff = replace(self._options.backoff, give_up_after_seconds=inf)
        await self._leave_alone(job.request.node, fault, backoff)
        await self._try_again(job, fault)

    async def _judge(self, job: Job, *, is_final: bool = False) -> None:
        """All of it was tried."""
        now = await self._queue.get(job.job_id)
        if now is None:
            return
        if not now.progress.failed:
            await self._queue.end(job, JobState.COMPLETED)
            return
        # Whoever has the job by now may have begun them again.
        first = await self._queue.items(job.job_id, (ItemState.FAILED,), 1)
        said = first[0].fault if first else "they are tried again"
        fault = f"{now.progress.failed} of {now.progress.total} objects failed: {said}"
        if is_final:
            await self._queue.end(job, JobState.FAILED, fault)
            return
        await self._try_again(job, fault)

    async def _try_again(self, job: Job, fault: str) -> None:
        seconds = self._options.backoff.next_interval(job.attempts, self._now() - job.since)
        if seconds is None:
            log.warning("job %s was given up: %s", job.job_id, fault)
            await self._queue.end(job, JobState.FAILED, fault)
        else:
            log.info("job %s is tried again in %.0f s: %s", job.job_id, seconds, fault)
            await self._queue.again(job, fault, seconds)

    async def _renew(self) -> None:
        while True:
            await trio.sleep(_RENEW_SECONDS)
            # What is claimed meanwhile is not in the answer.
            running = list(self._running.items())
            if not running and not self._left:
                continue
            until = trio.current_time() + CLAIM_SECONDS
            try:
                # Before they are renewed with the others, again and again.
                for job in list(self._left.values()):
                    await self._queue.release(job)
                    if self._left.get(job.job_id) is job:
                        del self._left[job.job_id]
                wishes = await self._queue.renew(self._name, CLAIM_SECONDS)
            except StorageError as error:
                log.error("jobs may be done twice: %s", error)
                continue
            except Exception as error:
                # A fault of ours, and no reason for the server to end.
                log.error("jobs may be done twice: internal error (%s)", type(error).__name__)
                continue
            for job_id, scope in running:
                # We were away for longer than a claim holds: it is somebody else's by now.
                wish = wishes.get(job_id, _LOST)
                if not wish:
                    scope.deadline = until
                elif self._running.get(job_id) is scope:
                    self._wishes[job_id] = wish
                    scope.cancel()
            # That it cannot be known who may what keeps nobody from stopping a job.
            try:
                await self._look_at_permissions()
            except StorageError as error:
                log.error("whether jobs may go on cannot be known: %s", error)
            except Exception as error:
                log.error("permission of jobs: internal error (%s)", type(error).__name__)
