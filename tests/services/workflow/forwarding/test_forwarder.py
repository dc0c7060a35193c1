"""The driver of the queue, against destinations in the same event loop whose every answer is
scripted."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
import pytest
import trio
import trio.testing

from isocenter.engine.buffers import Buffer
from isocenter.engine.dimse.message_codec import CStoreRequest, response_to
from isocenter.engine.pdv import parts_of
from isocenter.services import composition
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import InstanceRecord, Route, StoredInstance
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.association.destination_slots import Places
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.concurrency import Backoff, Latch
from isocenter.services.dicom import objects
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.errors import ConnectError, StorageError
from isocenter.services.notices import (
    ForwardAttempted,
    ForwardQueueMeasured,
    InstancesSent,
    Notice,
    Notices,
    TransferStarted,
)
from isocenter.services.service_classes.commitment.transaction import STORAGE_COMMITMENT
from isocenter.services.settings.loading import load_settings
from isocenter.services.workflow.forwarding import batch as sending
from isocenter.services.workflow.forwarding import commitment
from isocenter.services.workflow.forwarding.batch import (
    DestinationRun,
    ForwardingContext,
    SendOptions,
)
from isocenter.services.workflow.forwarding.forwarder import finish_deletions
from isocenter.services.workflow.forwarding.ports import ForwardSummary
from isocenter.storage.database.forwarding.queue import DatabaseForwards
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import CT, STUDY, data_set, keys_of, store, uid
from support.ports import free_port
from support.serving import Scripted, port_of, serving

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
            scripted = Scripted([CT, STORAGE_COMMITMENT], each.perform)
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
        registry = composition.build_services(settings, parts.archive, parts.stores, None, notices)
        found = World(parts.archive, parts.stores.forwards)
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

    async def settle(self: DatabaseForwards, outcomes: Any) -> None:
        if failures:
            raise failures.pop()
        await plain(self, outcomes)

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


async def test_claims_of_a_visit_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a visit could not say is free again, though its process goes on."""
    claims: dict[tuple[str, str], None] = {}
    renewed = trio.Event()
    plain_claim, plain_renew = DatabaseForwards.claim, DatabaseForwards.renew

    async def claim(self: DatabaseForwards, worker: str, *rest: Any) -> Any:
        claims["claim", worker] = None
        return await plain_claim(self, worker, *rest)

    async def renew(self: DatabaseForwards, worker: str, seconds: float) -> None:
        claims["renew", worker] = None
        await plain_renew(self, worker, seconds)
        renewed.set()

    monkeypatch.setattr(DatabaseForwards, "claim", claim)
    monkeypatch.setattr(DatabaseForwards, "renew", renew)
    monkeypatch.setattr(sending, "_RENEW_SECONDS", 0.0)
    async with open_sqlite_database(":memory:") as database:
        queue = DatabaseForwards(database)
        index = DatabaseIndex(database, on_add=[queue.queue_added])
        archive = Archive(MemoryStore(), index)
        record = InstanceRecord(
            sop_instance_uid="1.2.3", sop_class_uid=CT, study_instance_uid="1.2.1",
            series_instance_uid="1.2.2", transfer_syntax_uid="1.2.840.10008.1.2.1",
            object_key="1.2.3.dcm", size=1, data_set_offset=0, digest="0" * 64, attributes={},
            routes=(Route(destination="A", rule="r"),),
        )  # fmt: skip
        await index.add([record], replace=False)

        @asynccontextmanager
        async def slow(*_: object, **__: object) -> AsyncIterator[Any]:
            with trio.fail_after(PATIENCE):
                await renewed.wait()
            raise ConnectError("nobody listens")
            yield

        parts = ForwardingContext(
            queue=queue, archive=archive, connect=slow, backoff=Backoff(give_up_after_seconds=9e9),
            options=SendOptions(), notices=Notices(), now=lambda: 2e9, places=Places(1),
        )  # fmt: skip
        for _ in range(2):
            renewed = trio.Event()
            await DestinationRun(parts, "A", Peer("A", "h", 1)).send_all()
    first, second = dict.fromkeys(name for _, name in claims)
    wanted = [("claim", first), ("renew", first), ("claim", second), ("renew", second)]
    assert list(claims) == wanted


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
            assert len(await here.queue.claim("other", "A", 60.0, 100)) == 5

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
