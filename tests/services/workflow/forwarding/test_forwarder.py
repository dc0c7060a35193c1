"""The driver of the queue, against destinations in the same event loop whose every answer is
scripted."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import orjson
import pytest
import trio
import trio.testing
from pydicom import dcmread

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError
from isocenter.engine.dimse.message_codec import CStoreRequest, response_to
from isocenter.engine.pdv import parts_of
from isocenter.services import composition
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.coercion.edits import RemoveAttribute, SetValue
from isocenter.services.archive.deidentification.ports import DeidentificationMapping
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.deidentification.service import Deidentification
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.orders import Route
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.retention.service import always, apply_once, keep_to, look
from isocenter.services.archive.rules.evaluation import Rule, Rules
from isocenter.services.archive.sent_form import AS_IT_IS, SentForm
from isocenter.services.association.operation import Operation
from isocenter.services.association.pool import AssociationTaken
from isocenter.services.composition.retention import retention_rules
from isocenter.services.concurrency import Latch
from isocenter.services.dicom import objects
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.errors import StorageError
from isocenter.services.notices import (
    ForwardAttempted,
    ForwardQueueMeasured,
    InstancesSent,
    Notice,
    Notices,
    TransferStarted,
)
from isocenter.services.service_classes.commitment.transaction import STORAGE_COMMITMENT
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings
from isocenter.services.web.client.client import DicomWebClient
from isocenter.services.workflow.forwarding import commitment, forwarder
from isocenter.services.workflow.forwarding.forwarder import finish_deletions
from isocenter.services.workflow.forwarding.ports import ForwardSummary
from isocenter.services.workflow.forwarding.visit import BatchSender, Visit
from isocenter.services.workflow.jobs.job import JobKind, JobState
from isocenter.services.workflow.jobs.ports import JobQueue, Wish
from isocenter.services.workflow.nodes.limits import DestinationLimit
from isocenter.services.workflow.nodes.node import new_node
from isocenter.services.workflow.nodes.ports import LimitBook, NodeBook
from isocenter.storage.database.forwarding.queue import DatabaseForwards
from services.archive_support import CT, STUDY, data_set, keys_of, store, uid
from support.deidentification import KEY
from support.ports import free_port
from support.serving import Scripted, port_of, serving
from support.web_archive import dicomweb_serving

PATIENCE = 60.0
OK, WARNING, OUT_OF_RESOURCES, REFUSED = 0x0000, 0xB007, 0xA700, 0xC000


class Destination:
    """Answers C-STORE with what stands next in the script of the object, at the end with 0000H."""

    def __init__(self, name: str, *script: int, window: int = 1) -> None:
        self.name = name
        self.script = script
        self.asked: Counter[str] = Counter()
        self.received: list[str] = []
        self.priorities: list[int] = []
        self.window = window
        self.data: dict[str, bytes] = {}
        #: Called before each answer.
        self.before: Callable[[Operation], Any] = lambda operation: None

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        assert isinstance(request, CStoreRequest)
        data = b"".join([bytes(b) async for buffers in operation.fragments() for b in buffers])
        number = self.asked[request.affected_sop_instance_uid]
        self.asked[request.affected_sop_instance_uid] += 1
        waiting = self.before(operation)
        if waiting is not None:
            await waiting
        status = self.script[number] if number < len(self.script) else OK
        if status == OK:
            self.received.append(request.affected_sop_instance_uid)
            self.priorities.append(request.priority)
            self.data[request.affected_sop_instance_uid] = data
        await operation.respond(response_to(request, status))


@dataclass
class World:
    """An archive with rules, and what can be seen of its queue."""

    archive: Archive
    queue: DatabaseForwards
    jobs: JobQueue
    deidentification: DeidentificationMapping
    limits: LimitBook
    nodes: NodeBook
    settings: Settings
    parts: composition.ArchiveParts
    #: Take up what has changed of limits.
    look: Callable[[], Awaitable[None]]
    heard: list[Notice] = field(default_factory=list)
    came: trio.Event = field(default_factory=trio.Event)
    #: Called when nobody forwards any more.
    afterwards: Callable[[], Awaitable[None]] | None = None

    def on_notice(self, notice: Notice) -> None:
        self.heard.append(notice)
        self.came.set()
        self.came = trio.Event()

    async def until(
        self, is_so: Callable[[Sequence[ForwardSummary]], bool]
    ) -> Sequence[ForwardSummary]:
        """Wait until the queue is so; it is told of each change."""
        with trio.fail_after(PATIENCE):
            while True:
                came = self.came
                rows = (await self.queue.rows(limit=1000))[::-1]
                if is_so(rows):
                    return rows
                await came.wait()

    async def done(self, count: int) -> Sequence[ForwardSummary]:
        return await self.until(lambda rows: [r.state.value for r in rows].count("done") == count)

    async def fault_of(self, destination: str) -> str:
        """Why it is left alone, once it is."""
        with trio.fail_after(PATIENCE):
            while True:
                for row in await self.queue.destinations():
                    if row.destination == destination and row.failures:
                        return row.last_fault
                await trio.testing.wait_all_tasks_blocked(0.01)


@asynccontextmanager
async def world(
    *destinations: Destination | str, rules: Sequence[dict[str, Any]], **options: object
) -> AsyncIterator[World]:
    """*destinations*: by name alone, one where nobody listens."""
    notices = Notices()
    async with AsyncExitStack() as stack:
        peers = []
        for each in destinations:
            if isinstance(each, str):
                peers.append(f"{each}@127.0.0.1:{free_port()}")
                continue
            scripted = Scripted(
                [CT, STORAGE_COMMITMENT],
                lambda operation, each=each: each.perform(operation),  # type: ignore[misc]
            )
            server = await stack.enter_async_context(
                serving(scripted, operations_window=each.window)
            )
            peers.append(f"{each.name}@127.0.0.1:{port_of(server)}")
        text = ", ".join(toml({"name": f"r{n}", **rule}) for n, rule in enumerate(rules))
        overrides = {
            "storage.data_dir": ":memory:",
            "peers": peers,
            "rules": f"[{text}]",
            "forwarding.first_retry": 0.05,
        }
        settings = load_settings(
            environ={},
            overrides=overrides | {k.replace("__", "."): v for k, v in options.items()},
        )
        parts = await stack.enter_async_context(composition.open_archive_parts(settings))
        registry, workflow = composition.build_services_and_workflow(
            settings, parts.archive, parts.stores, None, notices
        )
        assert workflow.destinations is not None
        found = World(
            parts.archive,
            parts.stores.forwards,
            parts.stores.jobs,
            parts.stores.deidentification,
            parts.stores.limits,
            parts.stores.nodes,
            settings,
            parts,
            workflow.destinations.look,
        )
        notices.subscribe(found.on_notice)
        async with trio.open_nursery() as nursery:
            for work in registry.background_tasks:
                nursery.start_soon(work)
            yield found
            nursery.cancel_scope.cancel()
        if found.afterwards is not None:
            await found.afterwards()


def toml(value: object) -> str:
    """An inline value."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
    return orjson.dumps(value).decode()


async def test_what_is_stored_goes_to_where_the_rule_says() -> None:
    a, b = Destination("A"), Destination("B", window=16)
    rules = [
        {"when": {"modality": "CT"}, "forward": ["A", "B"], "forward_priority": "high"},
        {"when": {"modality": "MR"}, "forward": ["C"]},
    ]
    async with world(a, b, "C", rules=rules) as here:
        for number in range(1, 31):
            await store(here.archive, number)
        rows = await here.done(60)
        with trio.fail_after(PATIENCE):
            while not any(isinstance(n, InstancesSent) for n in here.heard):
                await here.came.wait()
    assert sorted(a.received) == sorted(b.received) == sorted(map(uid, range(1, 31)))
    assert a.data[uid(7)] == data_set(7)
    assert set(a.priorities) == {1}
    assert {row.attempts for row in rows} == {1}
    # The audit trail is told what left, and to whom.
    begun = [n for n in here.heard if isinstance(n, TransferStarted)]
    ended = [n for n in here.heard if isinstance(n, InstancesSent)]
    assert {n.destination for n in begun} == {"A", "B"}
    assert {n.command for n in ended} == {"C-STORE"}
    assert sum(n.sent[STUDY] for n in ended) == 60
    attempted = [n for n in here.heard if isinstance(n, ForwardAttempted)]
    assert sum(n.objects for n in attempted if n.outcome == "delivered") == 60
    assert any(isinstance(n, ForwardQueueMeasured) for n in here.heard)


async def test_it_never_goes_back_to_where_it_came_from() -> None:
    sender, other = Destination("SENDER"), Destination("B")
    async with world(sender, other, rules=[{"forward": ["SENDER", "B"]}]) as here:
        await store(here.archive, 1)
        await here.done(1)
    assert (sender.received, other.received) == ([], [uid(1)])


@pytest.mark.parametrize("status", [OUT_OF_RESOURCES, WARNING, REFUSED])
async def test_only_success_is_success(status: int) -> None:
    a = Destination("A", status, status)
    async with world(a, rules=[{"forward": "A"}]) as here:
        await store(here.archive, 1)
        (row,) = await here.done(1)
    assert (row.attempts, a.asked[uid(1)], row.last_fault) == (3, 3, "")


async def test_a_warning_is_success_where_the_settings_say_so() -> None:
    a = Destination("A", WARNING)
    async with world(a, rules=[{"forward": "A"}], forwarding__warnings="accept") as here:
        await store(here.archive, 1)
        (row,) = await here.done(1)
    assert (row.attempts, a.asked[uid(1)]) == (1, 1)


async def test_a_destination_without_resources_is_not_asked_for_each_object() -> None:
    a = Destination("A", OUT_OF_RESOURCES)
    options = {"forwarding__first_retry": 60.0}
    async with world(a, rules=[{"forward": "A"}], **options) as here:
        for number in range(1, 10):
            await store(here.archive, number)
        assert "A700H refused: out of resources" in await here.fault_of("A")
    assert a.asked.total() == 1


async def test_what_is_refused_waits_for_itself_alone() -> None:
    a = Destination("A")
    bad = uid(1)
    a.before = lambda operation: None
    script: dict[str, int] = {bad: REFUSED}

    class Picky(Destination):
        async def perform(self, operation: Operation) -> None:
            request = operation.request
            assert isinstance(request, CStoreRequest)
            async for _ in operation.fragments():
                pass
            name = request.affected_sop_instance_uid
            self.received += [name] if name not in script else []
            await operation.respond(response_to(request, script.get(name, OK)))

    options = {"forwarding__first_retry": 60.0}
    async with world(picky := Picky("A"), rules=[{"forward": "A"}], **options) as here:
        for number in range(1, 5):
            await store(here.archive, number)
        rows = await here.done(3)
    assert sorted(picky.received) == [uid(2), uid(3), uid(4)]
    assert rows[0].last_fault.startswith("the peer answered C000H")
    assert (rows[0].state.value, rows[0].attempts) == ("due", 1)


async def test_a_dead_and_a_slow_destination_delay_no_other() -> None:
    slow, quick = Destination("SLOW"), Destination("QUICK")
    never = trio.Event()
    slow.before = lambda operation: never.wait()
    rules = [{"forward": ["DEAD", "SLOW", "QUICK"]}]
    async with world("DEAD", slow, quick, rules=rules) as here:
        for number in range(1, 11):
            await store(here.archive, number)
        rows = await here.done(10)
        states = await here.queue.destinations()
        assert len(quick.received) == 10
        never.set()
        await here.done(20)
    assert {row.destination for row in rows if row.state.value == "done"} == {"QUICK"}
    dead = next(row for row in states if row.destination == "DEAD")
    assert "connection refused" in dead.last_fault
    # Of the dead one, no object was tried: it was not there for any of them.
    assert {row.attempts for row in rows if row.destination == "DEAD"} == {0}


async def test_a_peer_that_aborts_gets_the_rest_on_another_association() -> None:
    a = Destination("A")
    poison = uid(3)

    def abort(operation: Operation) -> Any:
        request = operation.request
        assert isinstance(request, CStoreRequest)
        if request.affected_sop_instance_uid == poison and a.asked[poison] < 3:
            return operation.association.abort()
        return None

    a.before = abort
    async with world(a, rules=[{"forward": "A"}]) as here:
        for number in range(1, 8):
            await store(here.archive, number)
        rows = await here.done(7)
    assert sorted(set(a.received)) == sorted(map(uid, range(1, 8)))
    assert [row.attempts for row in rows if row.sop_instance_uid == poison] == [3]


@pytest.mark.parametrize("status", [None, OUT_OF_RESOURCES])
async def test_one_object_that_a_peer_cannot_bear_blocks_no_other(status: int | None) -> None:
    poison = uid(1)

    class Delicate(Destination):
        async def perform(self, operation: Operation) -> None:
            request = operation.request
            assert isinstance(request, CStoreRequest)
            if request.affected_sop_instance_uid != poison:
                await super().perform(operation)
            elif status is None:
                await operation.association.abort()
            else:
                async for _ in operation.fragments():
                    pass
                await operation.respond(response_to(request, status))

    async with world(a := Delicate("A"), rules=[{"forward": "A"}]) as here:
        here.archive.intake.routed, wanted = Latch(), here.archive.intake.routed
        for number in range(1, 8):
            await store(here.archive, number)
        wanted.set()
        rows = await here.done(6)
    assert sorted(a.received) == sorted(map(uid, range(2, 8)))
    assert [r.state.value for r in rows if r.sop_instance_uid == poison] == ["due"]


async def test_an_object_that_cannot_be_read_tells_nothing_against_the_destination(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Torn:
        """Ends in the middle of what was to be sent."""

        def __init__(self, inner: ObjectReader) -> None:
            self.inner = inner
            self.size = inner.size
            self.begun = False

        async def read(self, offset: int, length: int) -> bytes:
            return await self.inner.read(offset, length)

        async def view(self, offset: int, length: int) -> Buffer:
            if self.begun:
                raise StorageError("the disk cannot be read")
            self.begun = True
            return await self.inner.read(offset, length)

        async def __aenter__(self) -> Self:
            await self.inner.__aenter__()
            return self

        async def __aexit__(self, *exc: object) -> None:
            await self.inner.__aexit__(*exc)

    a = Destination("A")
    blamed: list[object] = []

    async def destination_failed(self: DatabaseForwards, *told: object) -> tuple[float, int]:
        blamed.append(told)
        return 60.0, 0

    monkeypatch.setattr(DatabaseForwards, "destination_failed", destination_failed)
    monkeypatch.setattr(objects, "parts_of", lambda start, end, _: parts_of(start, end, 100))
    async with world(a, rules=[{"forward": "A"}], forwarding__first_retry=60.0) as here:
        plain = here.archive.open

        async def open_torn(stored: StoredInstance) -> Any:
            reader = await plain(stored)
            return Torn(reader) if stored.sop_instance_uid == uid(1) else reader

        monkeypatch.setattr(here.archive, "open", open_torn)
        here.archive.intake.routed, wanted = Latch(), here.archive.intake.routed
        for number in range(1, 8):
            await store(here.archive, number)
        wanted.set()
        rows = await here.done(6)
    assert rows[0].last_fault == "it cannot be read: the disk cannot be read"
    assert blamed == []


async def test_an_answer_is_not_forgotten_when_it_cannot_be_written_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a = Destination("A")
    failures = [StorageError("the database is locked")]
    plain = DatabaseForwards.settle

    async def settle(self: DatabaseForwards, outcomes: Any, job: int = 0) -> None:
        if failures:
            raise failures.pop()
        await plain(self, outcomes, job)

    monkeypatch.setattr(DatabaseForwards, "settle", settle)
    async with world(a, rules=[{"forward": "A"}]) as here:
        await store(here.archive, 1)
        await here.done(1)
    assert a.asked.total() == 1


async def test_what_becomes_due_is_sent_between_two_requests_for_commitment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commitment, "_REFERENCES", 1)
    monkeypatch.setattr(commitment, "_STAY_SECONDS", 0.0)
    seen: list[str] = []
    asked_for_all = trio.Event()

    class Committing(Destination):
        async def perform(self, operation: Operation) -> None:
            request = operation.request
            if isinstance(request, CStoreRequest):
                seen.append("store")
                await super().perform(operation)
                return
            seen.append("commit")
            if seen.count("commit") == 1:
                await store(here.archive, 4)
            async for _ in operation.fragments():
                pass
            await operation.respond(response_to(request, OK))
            if seen.count("commit") == 4:
                asked_for_all.set()

    async with world(Committing("A"), rules=[{"forward": "A", "commit": True}]) as here:
        here.archive.intake.routed, wanted = Latch(), here.archive.intake.routed
        for number in range(1, 4):
            await store(here.archive, number)
        here.archive.intake.routed = wanted
        wanted.set()
        with trio.fail_after(PATIENCE):
            await asked_for_all.wait()
    assert seen == [*["store"] * 3, "commit", "store", *["commit"] * 3]


async def test_a_destination_has_one_job_that_rests_and_begins_anew() -> None:
    async with world(Destination("A"), rules=[{"forward": "A"}]) as here:
        seen = []
        for number in (1, 2):
            await store(here.archive, number)
            await here.done(number)
            with trio.fail_after(PATIENCE):
                while not (jobs := await here.jobs.jobs(limit=9))[0].state.is_final:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            seen += jobs
        # What comes one by one goes over one association.
    assert [n.is_reused for n in here.heard if isinstance(n, AssociationTaken)] == [False, True]
    first, second = seen
    assert first.job_id == second.job_id
    assert (first.request.kind, first.request.node) == (JobKind.FORWARD, "A")
    assert [job.state for job in seen] == [JobState.COMPLETED] * 2
    assert [job.progress.done for job in seen] == [1, 1]
    assert first.progress.size == first.progress.done * second.progress.size


async def test_one_worker_at_a_time_has_the_job_of_a_destination() -> None:
    a = Destination("A")
    reached, never = trio.Event(), trio.Event()

    async def block() -> None:
        reached.set()
        await never.wait()

    a.before = lambda operation: block()
    async with world(a, rules=[{"forward": "A"}]) as here:
        await store(here.archive, 1)
        await reached.wait()
        assert await here.jobs.take(JobKind.FORWARD, "A", "another", 60.0) is None
        never.set()
        await here.done(1)
        # Nobody asks for it, and nobody ends it: its destination is held instead.
        (job,) = await here.jobs.jobs(limit=9)
        for wish in (Wish.PAUSE, Wish.CANCEL, Wish.RETRY):
            assert not await here.jobs.wish(job.job_id, wish)


async def test_an_object_that_has_left_the_archive_is_a_dead_letter() -> None:
    async with world("A", rules=[{"forward": "A"}], forwarding__first_retry=0.2) as here:
        await store(here.archive, 1)
        await here.archive.remove([uid(1)])
        (row,) = await here.until(lambda rows: rows[0].state.value == "failed")
        assert row.last_fault == "the archive has it no more"
        told = [n.outcome for n in here.heard if isinstance(n, ForwardAttempted)]
        assert told == ["given_up"]


async def test_a_server_that_stops_leaves_no_claims_and_forgets_no_answer() -> None:
    a = Destination("A")
    reached, never = trio.Event(), trio.Event()

    async def block() -> None:
        reached.set()
        await never.wait()

    a.before = lambda operation: block() if a.asked.total() == 4 else None
    async with world(a, rules=[{"forward": "A"}], forwarding__first_retry=60.0) as here:
        await store(here.archive, 1)
        await here.done(1)
        # All of one batch: the forwarder looks once they are there.
        here.archive.intake.routed, wanted = Latch(), here.archive.intake.routed
        for number in range(2, 9):
            await store(here.archive, number)
        wanted.set()
        await reached.wait()

        async def look_again() -> None:
            rows = await here.queue.rows(limit=100)
            assert [row.state.value for row in rows].count("done") == 3
            assert len(await here.queue.take("A", 100)) == 5
            job = await here.jobs.take(JobKind.FORWARD, "A", "another", 60.0)
            assert job is not None

        here.afterwards = look_again


async def test_what_a_crash_left_of_a_deletion_is_finished() -> None:
    rule = {"forward": "A", "commit": True, "delete_after": True}
    async with world("A", rules=[rule], forwarding__first_retry=60.0) as here:
        first = await store(here.archive, 1)
        await store(here.archive, 2)
        database = here.archive.index._database  # type: ignore[attr-defined]

        def commit(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE forward SET state = 'deleting' WHERE forward_pk = 1")

        await database.write(commit)
        # The process ends between the index and the store.
        (removed,) = (await here.queue.delete_committed(9)).instances
        assert removed.object_key in await keys_of(here.archive)
        await finish_deletions(here.queue, here.archive)
        assert first.instance.object_key not in await keys_of(here.archive)
        assert len(await keys_of(here.archive)) == 1
        assert await here.queue.leaving() == []
        await finish_deletions(here.queue, here.archive)


async def test_what_somebody_reads_is_not_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarder, "_DELETE_SECONDS", 0.02)
    rule = {"forward": "A", "commit": True, "delete_after": True}
    async with world("A", rules=[rule], forwarding__first_retry=60.0) as here:
        await store(here.archive, 1)
        looked = trio.Event()
        plain = here.queue.deletable

        async def deletable() -> Sequence[str]:
            found = await plain()
            if found:
                looked.set()
            return found

        monkeypatch.setattr(here.queue, "deletable", deletable)
        async with here.archive.locks.reading([STUDY], "somebody"):
            database = here.archive.index._database  # type: ignore[attr-defined]

            def commit(connection: sqlite3.Connection) -> None:
                connection.execute("UPDATE forward SET state = 'deleting'")

            await database.write(commit)
            with trio.fail_after(PATIENCE):
                await looked.wait()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert uid(1) in await here.archive.index.get([uid(1)])
        await here.until(lambda rows: rows[0].state.value == "done")
        with trio.fail_after(PATIENCE):
            while await keys_of(here.archive):
                await trio.lowlevel.checkpoint()


async def test_what_is_not_taken_in_time_is_given_up_and_sent_when_somebody_says_so() -> None:
    a = Destination("A", REFUSED, REFUSED)
    options = {"forwarding__give_up_after": 1e-6}
    async with world(a, rules=[{"forward": "A"}], **options) as here:
        await store(here.archive, 1)
        (row,) = await here.until(lambda rows: rows[0].state.value == "failed")
        assert row.last_fault.startswith("the peer answered C000H")
        await here.queue.retry([row.number])
        await here.until(lambda rows: a.asked[uid(1)] == 2 and rows[0].state.value == "failed")
        await here.queue.retry(destination="A")
        await here.done(1)


async def test_a_kind_of_object_that_the_peer_does_not_take_says_so() -> None:
    a = Destination("A")
    other = "1.2.840.10008.5.1.4.1.1.4"
    async with world(a, rules=[{"forward": "A"}], forwarding__first_retry=60.0) as here:
        await store(here.archive, 1, data_set(1, sop_class=other), sop_class_uid=other)
        await store(here.archive, 2)
        rows = await here.until(
            lambda rows: [r.state.value for r in rows] == ["due", "done"] and rows[0].attempts == 1
        )
    assert "no presentation context for MR Image Storage" in rows[0].last_fault


async def test_more_associations_share_a_long_queue() -> None:
    a = Destination("A")
    at_once = peak = 0

    async def busy() -> None:
        nonlocal at_once, peak
        at_once += 1
        peak = max(peak, at_once)
        await trio.testing.wait_all_tasks_blocked(0.005)
        at_once -= 1

    a.before = lambda operation: busy()
    rules = [{"forward": "A", "when": {"calling_ae": "SENDER"}}]
    options = {
        "forwarding__associations": 4, "forwarding__batch": 5, "query__move_associations": 3,
    }  # fmt: skip
    async with world(a, rules=rules, **options) as here:
        async with trio.open_nursery() as nursery:
            for number in range(1, 61):
                nursery.start_soon(store, here.archive, number)
        await here.done(60)
    assert peak == 3
    assert a.asked.total() == 60


async def test_a_destination_that_is_no_peer_any_more_is_named() -> None:
    a = Destination("A")
    async with world(a, rules=[{"forward": "A"}]) as here:
        # The peers of a running server are exchanged at reload.
        here.archive.exchange_rules(
            Rules(
                load_settings(
                    environ={},
                    overrides={"peers": ["GONE@h:1"], "rules": '[{name = "x", forward = "GONE"}]'},
                ).rules
            )
        )
        await store(here.archive, 1)
        fault = await here.fault_of("GONE")
    assert fault.startswith("where GONE listens is not known; add --peer GONE@")


async def test_attempts_are_not_spent_while_objects_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_away, looked = True, 0
    often = trio.Event()

    def is_store_away(archive: Archive) -> bool:
        nonlocal looked
        looked += 1
        if looked == 5:
            often.set()
        return is_away

    monkeypatch.setattr(Archive, "is_store_away", property(is_store_away))
    a = Destination("A")
    async with world(a, rules=[{"forward": ["A"]}]) as here:
        await store(here.archive, 1)
        with trio.fail_after(PATIENCE):
            await often.wait()
        (row,) = await here.queue.rows(limit=9)
        assert (row.attempts, a.received) == (0, [])
        is_away = False
        await here.done(1)


async def test_what_is_for_a_held_destination_waits_until_it_is_released() -> None:
    held, other = Destination("A"), Destination("B")
    async with world(held, other, rules=[{"forward": ["A", "B"]}]) as here:
        await here.limits.hold("A", is_held=True)
        await here.look()
        for number in (1, 2, 3):
            await store(here.archive, number)
        await here.until(lambda rows: sum(r.state.value == "done" for r in rows) == 3)
        assert not held.asked
        assert {row.last_fault for row in await here.queue.rows(limit=9)} == {""}
        await here.limits.hold("A", is_held=False)
        await here.look()
        here.archive.routed.set()
        await here.done(6)
    assert len(held.received) == 3


async def test_hours_that_end_in_the_middle_end_the_visit_after_a_batch() -> None:
    a = Destination("A")
    options = {"forwarding__batch": 2, "forwarding__associations": 1}
    async with world(a, rules=[{"forward": "A"}], **options) as here:

        async def hold(operation: Operation) -> None:
            if a.asked.total() == 1:
                await here.limits.hold("A", is_held=True)
                await here.look()

        a.before = hold
        here.archive.intake.routed, wanted = Latch(), here.archive.intake.routed
        for number in range(1, 8):
            await store(here.archive, number)
        wanted.set()
        await here.until(lambda rows: sum(r.state.value == "done" for r in rows) >= 2)
        await trio.testing.wait_all_tasks_blocked(0.01)
        rows = await here.queue.rows(limit=9)
    assert Counter(row.state.value for row in rows) == {"done": 2, "due": 5}


async def test_a_destination_has_its_own_number_of_associations() -> None:
    a = Destination("A")
    at_once: list[int] = []
    open_now: set[int] = set()

    async def count(operation: Operation) -> None:
        open_now.add(id(operation.association))
        at_once.append(len(open_now))
        await trio.testing.wait_all_tasks_blocked(0.01)
        open_now.discard(id(operation.association))

    a.before = count
    options = {"forwarding__batch": 2, "query__move_associations": 4, "forwarding__associations": 4}
    async with world(a, rules=[{"forward": "A"}], **options) as here:
        await here.limits.set_limit(DestinationLimit(destination="A", associations=1))
        await here.look()
        here.archive.intake.routed, wanted = Latch(), here.archive.intake.routed
        for number in range(1, 21):
            await store(here.archive, number)
        wanted.set()
        await here.done(20)
    assert max(at_once) == 1


async def test_a_node_that_speaks_dicomweb_is_a_destination_like_any_other() -> None:
    async with (
        dicomweb_serving() as service,
        world(rules=[]) as here,
    ):
        await here.nodes.add(new_node(service, "cloud"))
        here.archive.exchange_rules(Rules([Rule(name="web", routes=(to_cloud,))]))
        for number in range(1, 6):
            await store(here.archive, number)
        gone = uid(6)
        here.archive.intake.routed, wanted = Latch(), here.archive.intake.routed
        await store(here.archive, 6)
        await here.archive.remove([gone])
        wanted.set()
        rows = await here.until(lambda rows: [r.state.value for r in rows].count("done") == 5)
        await here.until(lambda rows: any(r.state.value == "failed" for r in rows))
        async with DicomWebClient(service) as client:
            found = [one async for one in client.search(Level.IMAGE, limit=9)]
    assert len(found) == 5
    assert {row.destination for row in rows} == {"cloud"}
    begun = [n for n in here.heard if isinstance(n, InstancesSent)]
    assert {n.command for n in begun} == {"STOW-RS"}


async def test_a_dicomweb_service_that_is_away_is_left_alone() -> None:
    async with world(rules=[], forwarding__first_retry=60.0) as here:
        await here.nodes.add(new_node(f"http://127.0.0.1:{free_port()}/dicom-web", "cloud"))
        here.archive.exchange_rules(Rules([Rule(name="web", routes=(to_cloud,))]))
        for number in (1, 2):
            await store(here.archive, number)
        assert await here.fault_of("cloud")
        rows = await here.queue.rows(limit=9)
        assert [(row.state.value, row.attempts) for row in rows] == [("due", 0)] * 2


@pytest.mark.parametrize("destination", ["A", "cloud"])
@pytest.mark.parametrize("error", [DataSetError("it is odd", 0), ValueError("of patient Bäcker")])
async def test_an_object_that_cannot_be_made_ready_blocks_no_other(
    destination: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        dicomweb_serving() as service,
        world(Destination("A"), rules=[], forwarding__first_retry=60.0) as here,
    ):
        await here.nodes.add(new_node(service, "cloud"))
        leaving = here.archive.leaving

        async def odd(item: DicomObject, to: str, form: SentForm = AS_IT_IS) -> DicomObject:
            if item.sop_instance_uid == uid(1):
                raise error
            return await leaving(item, to)

        monkeypatch.setattr(here.archive, "leaving", odd)
        route = Route(destination=destination, rule="r")
        here.archive.exchange_rules(Rules([Rule(name="r", routes=(route,))]))
        here.archive.intake.routed, wanted = Latch(), here.archive.intake.routed
        for number in range(1, 5):
            await store(here.archive, number)
        wanted.set()
        rows = await here.done(3)
        assert [(r.sop_instance_uid, r.attempts) for r in rows if r.state.value == "due"] == [
            (uid(1), 1)
        ]
        assert "Bäcker" not in rows[0].last_fault
        assert not any(each.failures for each in await here.queue.destinations())


@pytest.mark.parametrize("destination", ["A", "cloud"])
async def test_what_a_rule_sends_de_identified_is_and_else_is_not_sent(destination: str) -> None:
    a = Destination("A")
    async with (
        dicomweb_serving() as service,
        world(a, rules=[], forwarding__first_retry=60.0) as here,
    ):
        await here.nodes.add(new_node(service, "cloud"))
        route = Route(destination=destination, rule="r", form=SentForm("trial"))
        here.archive.exchange_rules(Rules([Rule(name="r", routes=(route,))]))
        await store(here.archive, 1)
        # Nobody has set up that project, or it is gone by now.
        rows = await here.until(lambda rows: rows[0].attempts == 1)
        assert "not de-identified: there is no project 'trial'" in rows[0].last_fault
        project = Project(name="trial")
        here.archive.deidentification = Deidentification(
            [project], {"trial": KEY}, here.deidentification
        )
        await here.queue.retry([rows[0].number])
        here.archive.routed.set()
        await here.done(1)
        async with DicomWebClient(service) as client:
            found = [one async for one in client.search(Level.IMAGE, limit=9)]
        made = await here.archive.deidentification.uid_of(uid(1), project)
    if destination == "A":
        assert a.received == [made]
        assert "Bäcker".encode("latin-1") not in a.data[made]
        assert "Bäcker".encode() not in a.data[made]
    else:
        assert [one["00080018"]["Value"] for one in found] == [[made]]


@pytest.mark.parametrize("destination", ["A", "cloud"])
async def test_what_a_rule_changes_on_the_way_is_changed_there_alone(destination: str) -> None:
    a = Destination("A")
    edits = (SetValue(0x00080080, "Nord"), RemoveAttribute(0x00100010))
    syntax = "1.2.840.10008.1.2"  # it came in explicit VR
    async with (
        dicomweb_serving() as service,
        world(a, rules=[], forwarding__first_retry=60.0) as here,
    ):
        await here.nodes.add(new_node(service, "cloud"))
        form = SentForm(edits=edits, transfer_syntax_uid=syntax)
        route = Route(destination=destination, rule="r", form=form)
        here.archive.exchange_rules(Rules([Rule(name="r", routes=(route,))]))
        for number in (1, 2):
            await store(here.archive, number)
        await here.done(2)
        found = await here.archive.index.get([uid(1)])
        async with await here.archive.open(found[uid(1)]) as reader:
            kept = await reader.read(found[uid(1)].data_set_offset, reader.size)
        assert kept == data_set(1)
        async with DicomWebClient(service) as client:
            told = [one async for one in client.search(Level.IMAGE, limit=9)]
    if destination == "A":
        assert sorted(a.received) == [uid(1), uid(2)]
        got = dcmread(BytesIO(a.data[uid(1)]), force=True)
        assert got.InstitutionName == "Nord"
        assert "PatientName" not in got
        (item,) = got.OriginalAttributesSequence
        assert item.ReasonForTheAttributeModification == "COERCE"
        assert item.ModifiedAttributesSequence[0].PatientName
    else:
        assert {one["00080018"]["Value"][0] for one in told} == {uid(1), uid(2)}
        assert not any(one.get("00100010", {}).get("Value") for one in told)


@pytest.mark.parametrize(
    ("tag", "why"),
    [(0x00091001, "(0009,1001)"), (0x00080005, "this version cannot make what the rule wanted")],
)
async def test_what_cannot_be_changed_on_the_way_is_not_sent(tag: int, why: str) -> None:
    a = Destination("A")
    async with world(a, rules=[], forwarding__first_retry=60.0) as here:
        form = SentForm(edits=(SetValue(tag, "x"),))
        rule = Rule(name="r", routes=(Route(destination="A", rule="r", form=form),))
        here.archive.exchange_rules(Rules([rule]))
        await store(here.archive, 1)
        rows = await here.until(lambda rows: rows[0].attempts == 1)
    assert f"not changed: {why}" in rows[0].last_fault
    assert not a.received


@pytest.mark.parametrize("duplicates", ["ignore", "replace", "reject"])
async def test_what_a_destination_gives_back_stays_though_it_was_sent(
    tmp_path: Path, duplicates: str
) -> None:
    """The destination is this archive under another name, or one that keeps nothing itself."""
    back = Destination("BACK")
    rules = [{"name": "transit", "forward": ["BACK"], "delete_after_days": 30}]
    options = {"storage__data_dir": str(tmp_path / "data"), "storage__duplicates": duplicates}
    async with world(back, rules=rules, **options) as here:
        stores, clock = here.parts.stores, here.parts.stores.clock
        (rule,) = retention_rules(here.settings, here.archive)
        trash = composition.trash_of(here.settings, here.parts, "test")
        assert trash is not None

        async def looked() -> Sequence[str]:
            now = clock() + 31 * 86_400.0
            found = await look(rule, stores.retention, trash, always, now, limit=9)
            return [one.study_instance_uid for one in found.going]

        await store(here.archive, 1)
        await here.done(1)
        assert await looked() == [STUDY]
        # Who has missed the answer sends it again.
        with suppress(StoreError):
            await store(here.archive, 1)
        assert await looked() == [STUDY]
        with suppress(StoreError):
            await store(here.archive, 1, source_ae_title=here.settings.server.ae_title)
        assert await looked() == []


@pytest.mark.parametrize("is_of_ours", [True, False])
async def test_an_archive_that_forwards_to_itself_keeps_what_it_has(
    tmp_path: Path, is_of_ours: bool
) -> None:
    own = Destination("MIRROR")
    rules = [{"name": "transit", "forward": ["MIRROR"], "delete_after_days": 30}]
    async with world(own, rules=rules, storage__data_dir=str(tmp_path / "data")) as here:
        if is_of_ours:
            own.perform = StorageScp(here.archive).perform  # type: ignore[method-assign]
        await store(here.archive, 1)
        await here.done(1)
        (rule,) = retention_rules(here.settings, here.archive)
        now = here.parts.stores.clock() + 31 * 86_400.0
        found = await here.parts.stores.retention.candidates(rule, now, limit=9)
        assert [one.study_instance_uid for one in found] == ([] if is_of_ours else [STUDY])


async def test_what_all_destinations_have_leaves_when_its_rule_says(tmp_path: Path) -> None:
    a, b = Destination("A"), Destination("B", REFUSED)
    rules = [{"name": "transit", "forward": ["A", "B"], "delete_after_days": 30}]
    options = {"storage__data_dir": str(tmp_path / "data"), "forwarding__first_retry": 3600.0}
    async with world(a, b, rules=rules, **options) as here:
        await store(here.archive, 1)
        await here.until(lambda rows: {row.attempts for row in rows} == {1})
        stores, clock = here.parts.stores, here.parts.stores.clock
        (rule,) = retention_rules(here.settings, here.archive)
        assert rule.in_words() == [
            "the rule transit has matched all of it",
            "all destinations have had it for 30 days",
        ]
        trash = composition.trash_of(here.settings, here.parts, "test")
        assert trash is not None
        ahead = 0.0

        async def looked() -> Sequence[str]:
            now = clock() + ahead
            found = await look(rule, stores.retention, trash, always, now, limit=9)
            return [one.study_instance_uid for one in found.going]

        ahead = 31 * 86_400.0
        assert await looked() == [], "one of them has it not yet"
        (waiting,) = [row for row in await here.queue.rows(limit=9) if row.state.value == "due"]
        await here.queue.retry([waiting.number])
        here.archive.routed.set()
        await here.done(2)
        assert await looked() == [STUDY]
        ahead = 29 * 86_400.0
        assert await looked() == []
        ahead = 31 * 86_400.0
        async with here.archive.locks.exclusive(STUDY, "test", "is corrected", wait=0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    partial(
                        keep_to,
                        lambda: retention_rules(here.settings, here.archive),
                        stores.retention,
                        trash,
                        studies_per_minute=9,
                        now=lambda: clock() + ahead,
                    )
                )
                await trio.testing.wait_all_tasks_blocked(0.05)
                nursery.cancel_scope.cancel()
            assert await here.archive.index.get([uid(1)])
        found = await look(rule, stores.retention, trash, always, clock() + ahead, limit=9)
        requester = Requester(name="isocenter")
        await apply_once(rule, found, trash, requester, "retention rule transit")
        assert not await here.archive.index.get([uid(1)])
        assert (await stores.rule_history.counts())["transit"].deleted == 1
        (row,) = await trash.book.rows()
        assert row.deletion.cause is DeletionCause.RETENTION


@pytest.mark.parametrize("destination", ["A", "cloud"])
async def test_what_another_object_came_of_is_never_committed(destination: str) -> None:
    """A project or another node may have taken the place since the rule was made."""
    actions: list[str] = []

    class Committing(Destination):
        async def perform(self, operation: Operation) -> None:
            if not isinstance(operation.request, CStoreRequest):
                actions.append(type(operation.request).__name__)
            await super().perform(operation)

    async with (
        dicomweb_serving() as service,
        world(Committing("A"), rules=[], forwarding__first_retry=60.0) as here,
    ):
        await here.nodes.add(new_node(service, "cloud"))
        project = Project(name="trial", destinations=("A",))
        here.archive.deidentification = Deidentification(
            [project], {"trial": KEY}, here.deidentification
        )
        route = Route(destination=destination, rule="r", commit=True, delete_after=True)
        here.archive.exchange_rules(Rules([Rule(name="r", routes=(route,))]))
        await store(here.archive, 1)
        with trio.fail_after(PATIENCE):
            while not (rows := await here.queue.rows(limit=9)) or not rows[0].last_fault:
                await trio.testing.wait_all_tasks_blocked(0.01)
            while (await here.jobs.jobs(limit=1))[0].state is not JobState.COMPLETED:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert rows[0].state.value == "sent"
        assert rows[0].due_at > rows[0].created_at + 10.0, "it is not looked at again and again"
        why = "de-identified" if destination == "A" else "DICOMweb has no storage commitment"
        assert why in rows[0].last_fault
        assert not await here.queue.deletable()
    assert not actions


to_cloud = Route(destination="cloud", rule="web")


async def test_a_fault_of_ours_ends_neither_forwarding_nor_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forwarder, "LOOK_SECONDS", 0.02)
    faults = [RuntimeError("of patient Bäcker"), KeyError("x")]

    class Faulty(Visit):
        async def send_all(self, sender: BatchSender) -> None:
            if faults:
                raise faults.pop()
            await super().send_all(sender)

    monkeypatch.setattr(forwarder, "Visit", Faulty)
    a = Destination("A")
    async with world(a, rules=[{"forward": "A"}]) as here:
        await store(here.archive, 1)
        await here.done(1)
    assert a.received == [uid(1)]
    assert "internal error (RuntimeError)" in caplog.text
    assert "Bäcker" not in caplog.text
