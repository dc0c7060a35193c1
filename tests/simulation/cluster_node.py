"""A node of several: the real archive, jobs, leases, events and upkeep, process after process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import count
from typing import Any, Final

import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.trash_upkeep import run_trash_upkeep
from isocenter.services.archive.locks.keeper import StudyLocks
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.sweeping.sweeper import Sweeper
from isocenter.services.cluster.member import NodeIdentity
from isocenter.services.cluster.membership import Membership, give_up_lost
from isocenter.services.cluster.worker_names import NODE
from isocenter.services.concurrency import Backoff
from isocenter.services.errors import StorageError
from isocenter.services.notices import Notices
from isocenter.services.workflow.events.consumer import Availability, Consumer
from isocenter.services.workflow.events.event import StoredEvent
from isocenter.services.workflow.events.service import EventService
from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.services.workflow.events.targets import DeliveryError
from isocenter.services.workflow.jobs.job import Job, JobKind
from isocenter.services.workflow.jobs.local_works import LocalWorks
from isocenter.services.workflow.jobs.runner import JobOptions, JobRunner
from isocenter.services.workflow.nodes.node import Node, new_node
from isocenter.storage.objects.cloud.store import CloudStore
from isocenter.storage.objects.cloud.trash import CloudTrash
from isocenter.storage.stores import Stores, StoresOptions, join_stores
from simulation.judge import JudgedDatabase, WatchedLeasing
from simulation.links import Link, LinkedBucket, Objects, Trouble
from simulation.world import World
from support.virtual_database import DatabaseServer, database_clock

_TODAY: Final = date(2026, 11, 20)
RULES: Final = CompletionRules(quiet_seconds=20.0, settle_seconds=2.0)
CONSUMER: Final = Consumer(
    name="consumer", target=Availability("RIS"), timeout=20.0, longest_retry=20.0,
    give_up_after=1e9,
)  # fmt: skip
#: What was begun so long ago, and came to nothing, is swept.
SWEEP_SECONDS: Final = 120.0
_BACKOFF: Final = Backoff(first_seconds=1.0, longest_seconds=20.0, give_up_after_seconds=60.0)
KEEP_DAYS: Final = 1_000.0
REMOTE: Final = new_node("FAR@far:104", "FAR")


class ProcessGoneError(Exception):
    """The process that was asked ended before it answered."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a job, or a delivery, did to the world outside.

    Attributes:
        what: the object, or the number of the event.
        claim: of the job, by which it was done.
    """

    node: str
    what: str
    claim: int
    at: float
    resumed_at: float


class Outside:
    """A remote node and a consumer of events, which all nodes of the archive speak to."""

    def __init__(self, world: World, failure: float) -> None:
        self.world = world
        self.failure = failure
        #: By job, what was sent for it; by study, the numbers of events that arrived.
        self.sent: dict[str, list[Effect]] = {}
        self.told: dict[str, list[Effect]] = {}
        self.received: dict[str, bytes] = {}


class _Remote:
    """See `isocenter.services.workflow.nodes.ports.RemoteArchive`; it takes what is sent."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def send(
        self, instances: Sequence[StoredInstance], told: Callable[[StoredInstance, str], None]
    ) -> None:
        process, world = self._process, self._process.link.world
        outside = process.node.outside
        for stored in instances:
            try:
                async with await process.archive.open(stored) as reader:
                    data = await reader.read(stored.data_set_offset, reader.size)
            except KeyError:
                told(stored, "it is gone")
                continue
            await trio.sleep(world.random.choice((0.1, 1.0, 10.0)))
            await process.link.gate()
            if process.link.is_dead:
                return
            if world.happens(outside.failure):
                told(stored, "A700H")
                continue
            outside.received[stored.sop_instance_uid] = data
            told(stored, "")


class Process:
    """One process of a node."""

    def __init__(self, node: ClusterNode, number: int) -> None:
        self.node = node
        self.number = number
        self.link = Link(node.world, f"{node.name}.{number}", node.trouble)
        self.scope = trio.CancelScope()
        self.nursery: trio.Nursery
        self.archive: Archive
        self.stores: Stores
        self.trash: Trash
        self.is_up = trio.Event()
        self.has_ended = trio.Event()

    def now(self) -> float:
        """As a process knows the clock of the database."""
        return database_clock() + self.node.clock_error

    async def run(self) -> None:
        """Until it is killed."""
        NODE.set(self.node.name)
        with self.scope:
            await self._run()
        self.has_ended.set()

    async def _run(self) -> None:
        node, world = self.node, self.node.world
        database = JudgedDatabase(node.server, self.link)
        options = StoresOptions(completion=RULES, notes_keys=True, node=node.name, now=self.now)
        self.stores = stores = join_stores(database, options)
        identity = NodeIdentity(name=node.name, place=node.name)
        leasing = WatchedLeasing(stores.leases)
        bucket = LinkedBucket(self.link, node.objects)
        store = CloudStore(bucket, stores.staged_keys, "/nonexistent")
        serial = count(1)

        def token() -> str:
            return f"{node.number:02x}{self.number:02x}{next(serial):04x}"

        await self._insist(lambda: stores.members.join(identity))
        await self._insist(lambda: stores.members.free_claims(identity))
        async with Archive(
            store,
            stores.index,
            unique_keys=True,
            kept=stores.corrections,
            locks=StudyLocks(stores.locks, process=f"{node.name}/{self.number}"),
            memory_budget=1 << 20,
            today=lambda: _TODAY,
            token=token,
        ) as archive, trio.open_nursery() as nursery:  # fmt: skip
            self.archive, self.nursery = archive, nursery
            self.trash = Trash(
                archive,
                stores.trash,
                CloudTrash(store, partial(leasing.hold, "trash")),
                keep_days=KEEP_DAYS,
                now=self.now,
                token=token,
            )
            events = EventService(
                stores.outbox,
                stores.open_studies,
                rules=RULES,
                consumers=[CONSUMER],
                keep_seconds=1e9,
                on_duty=partial(leasing.run, "events"),
                notices=Notices(),
                notify_availability=self._notify,
                now=self.now,
            )
            await self._insist(events.begin)
            membership = Membership(
                stores.members,
                identity,
                on_drain=lambda: None,
                # Its own clock is hours off; nothing may depend on it.
                now=lambda: database_clock() + node.own_clock_error,
            )
            sweeper = Sweeper(archive, stores.staged_keys, age_seconds=SWEEP_SECONDS, now=self.now)
            nursery.start_soon(membership.run)
            nursery.start_soon(leasing.run, "members", partial(give_up_lost, stores.members))
            nursery.start_soon(
                leasing.run,
                "trash upkeep",
                lambda: run_trash_upkeep(self.trash, Notices(), now=self.now),
            )
            nursery.start_soon(sweeper.run)
            nursery.start_soon(self._runner().run)
            nursery.start_soon(events.run)
            world.note(f"{self.link.name} serves")
            self.is_up.set()
            await trio.sleep_forever()

    @staticmethod
    async def _insist(action: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await action()
            except StorageError:
                await trio.sleep(2)
            else:
                return

    def _runner(self) -> JobRunner:
        stores = self.stores
        local = LocalWorks(self.archive, None, None)

        @asynccontextmanager
        async def open_node(node: Node) -> Any:
            yield _Remote(self)

        async def node_of(name: str) -> Node:
            return REMOTE

        queue = _WatchedQueue(stores.jobs, self)
        return JobRunner(
            queue,
            self.archive,
            node_of,
            open_node,
            JobOptions(at_once=2, at_once_per_node=2, backoff=_BACKOFF),
            forwards=stores.forwards,
            closed=lambda: (),
            local={JobKind.VERIFY: local.verify},
            now=self.now,
        )

    async def _notify(self, ae_title: str, event: StoredEvent) -> None:
        world, outside = self.link.world, self.node.outside
        await trio.sleep(world.random.choice((0.0, 0.1, 2.0)))
        await self.link.gate()
        if self.link.is_dead or world.happens(outside.failure):
            raise DeliveryError("it does not answer")
        self._effect(outside.told, event.study_instance_uid, str(event.number), 0)
        await trio.sleep(world.random.choice((0.0, 0.1)))

    def _effect(self, of: dict[str, list[Effect]], whose: str, what: str, claim: int) -> None:
        of.setdefault(whose, []).append(
            Effect(self.link.name, what, claim, trio.current_time(), self.link.resumed_at)
        )

    def did(self, job: Job) -> None:
        """Somebody looks for the next objects of a job that it has claimed."""
        self._effect(self.node.outside.sent, job.job_id, "", job.claim)

    def kill(self) -> None:
        """kill -9."""
        self.link.is_dead = True
        self.scope.cancel()

    async def call(self, action: Callable[[Process], Awaitable[Any]]) -> Any:
        """As a client has it done by this process.

        Raises:
            ProcessGoneError: nobody knows whether it was.
        """
        results: list[Any] = []
        done = trio.Event()

        async def act() -> None:
            try:
                results.append(await action(self))
            except Exception as error:
                results.append(error)
            done.set()

        async def wait_for(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        if self.has_ended.is_set() or self.link.is_dead or not self.is_up.is_set():
            raise ProcessGoneError
        self.nursery.start_soon(act)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for, done)
            nursery.start_soon(wait_for, self.has_ended)
        if self.link.is_dead or not results:
            raise ProcessGoneError
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0]


class _WatchedQueue:
    """The queue of a process, which notes by which claims it works."""

    def __init__(self, queue: Any, process: Process) -> None:
        self._queue = queue
        self._process = process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def settle(self, job: Job, outcomes: Any) -> None:
        self._process.did(job)
        await self._queue.settle(job, outcomes)


class ClusterNode:
    """One of several nodes."""

    def __init__(
        self,
        world: World,
        number: int,
        server: DatabaseServer,
        objects: Objects,
        outside: Outside,
        trouble: Trouble,
    ) -> None:
        self.world = world
        self.number = number
        self.name = f"node{number}"
        self.server = server
        self.objects = objects
        self.outside = outside
        self.trouble = trouble
        self.clock_error = world.random.choice((0.0, 0.01, -0.01))
        self.own_clock_error = world.random.choice((0.0, 3_600.0, -86_400.0))
        self.process: Process | None = None
        self._processes = 0

    async def run(self) -> None:
        """One process after the other."""
        while True:
            self._processes += 1
            self.process = Process(self, self._processes)
            self.world.note(f"{self.process.link.name} starts")
            await self.process.run()
            await trio.sleep(0 if self.world.calm else self.world.random.choice((0, 3, 30)))
