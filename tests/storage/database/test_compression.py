"""The queue of what is to be compressed, in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from isocenter.services.archive.deletion.ports import StudyHold
from isocenter.services.archive.orders import CompressionOrder
from isocenter.services.archive.ports import AddOutcome, AddResult, InstanceRecord, StoredInstance
from isocenter.services.concurrency import Backoff
from isocenter.services.workflow.compression.ports import CompressionState
from isocenter.storage.database.compression import DatabaseCompressions
from isocenter.storage.database.database import Database
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.retention import DatabaseHolds
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")
JPEG_LS = "1.2.840.10008.1.2.4.80"
BACKOFF = Backoff(first_seconds=5.0, longest_seconds=60.0, give_up_after_seconds=100.0)
WAITING, DUE, DONE, KEPT, FAILED = CompressionState


class Clock:
    """The time of day of a test."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def record(number: int, order: CompressionOrder | None = None, digest: int = 1) -> InstanceRecord:
    return InstanceRecord(
        sop_instance_uid=f"1.2.9.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        study_instance_uid="1.2.1",
        series_instance_uid="1.2.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        object_key=f"ab/1.2.9.{number}.dcm",
        size=1000,
        data_set_offset=350,
        digest=f"{digest:064x}",
        attributes={0x00100020: "ID"},
        compression=order,
    )


def compressed(stored: StoredInstance, digest: int = 2) -> StoredInstance:
    names = StoredInstance.__dataclass_fields__
    return replace(
        StoredInstance(**{name: getattr(stored, name) for name in names}),
        transfer_syntax_uid=JPEG_LS,
        object_key=stored.object_key.replace(".dcm", f"~0000000{digest}.dcm"),
        size=400,
        data_set_offset=360,
        digest=f"{digest:064x}",
        received_digest="",
    )


def soon(when_complete: bool = False) -> CompressionOrder:
    return CompressionOrder(transfer_syntax_uid=JPEG_LS, rule="r", when_complete=when_complete)


class Queue(DatabaseCompressions):
    """On an index of its own, with a clock that the test moves."""

    def __init__(self, database: Database, **options: Any) -> None:
        self.clock = Clock()
        super().__init__(database, now=self.clock, on_exchange=[self._exchanged], **options)
        self.database = database
        self.exchanged: list[tuple[StoredInstance, StoredInstance]] = []
        self.index = DatabaseIndex(database, on_add=[self.queue_added])

    def _exchanged(self, _: Any, before: StoredInstance, after: StoredInstance) -> None:
        self.exchanged.append((before, after))

    async def store(self, one: InstanceRecord, **options: Any) -> AddResult:
        return (await self.index.add([one], **options))[0]

    async def stored(self, number: int) -> StoredInstance:
        uid = f"1.2.9.{number}"
        return (await self.index.get([uid]))[uid]

    async def states(self) -> list[CompressionState]:
        return [row.state for row in await self.rows(limit=100)]


@pytest.fixture
async def queue() -> AsyncIterator[Queue]:
    async with open_database() as database:
        yield Queue(database)


async def test_only_what_a_rule_wants_is_queued(queue: Queue) -> None:
    await queue.store(record(1))
    await queue.store(record(2, soon()))
    await queue.store(record(3, soon(when_complete=True)))
    (job,) = await queue.due(10)
    assert (job.sop_instance_uid, job.transfer_syntax_uid, job.rule) == ("1.2.9.2", JPEG_LS, "r")
    assert await queue.states() == [WAITING, DUE]


async def test_a_complete_study_makes_due_what_waits_for_it(queue: Queue) -> None:
    await queue.store(record(1, soon(when_complete=True)))
    await queue.database.write(queue.study_complete, "1.2.77", queue.clock())
    assert await queue.due(10) == []
    await queue.database.write(queue.study_complete, "1.2.1", queue.clock())
    assert len(await queue.due(10)) == 1


async def test_what_waits_in_vain_is_due_some_day(queue: Queue) -> None:
    await queue.store(record(1, soon(when_complete=True)))
    await queue.purge(queue.clock() - 1.0)
    assert await queue.states() == [WAITING]
    await queue.purge(queue.clock() + 1.0)
    assert await queue.states() == [DUE]


async def test_nothing_waits_where_studies_are_never_complete() -> None:
    async with open_database() as database:
        queue = Queue(database, completes=False)
        await queue.store(record(1, soon(when_complete=True)))
        assert await queue.states() == [DUE]


async def test_an_exchange_is_one_transaction(queue: Queue) -> None:
    await queue.store(record(1, soon()))
    (job,) = await queue.due(10)
    before = await queue.stored(1)
    after = compressed(before)
    assert await queue.exchange(job, before, after)
    now = await queue.stored(1)
    assert now == replace(after, received_digest=before.digest)
    assert (await queue.index.statistics()).size == 400
    assert await queue.index.check() == []
    assert queue.exchanged == [(before, after)]
    assert await queue.leaving() == [before.object_key]
    await queue.removed([before.object_key])
    assert await queue.leaving() == []
    totals = await queue.totals()
    assert (totals.counts, totals.received_size, totals.size) == ({DONE: 1}, 1000, 400)


@pytest.mark.parametrize("what", ["deleted", "replaced", "held", "done"])
async def test_an_exchange_that_comes_too_late_changes_nothing(queue: Queue, what: str) -> None:
    await queue.store(record(1, soon()))
    (job,) = await queue.due(10)
    before = await queue.stored(1)
    match what:
        case "deleted":
            await queue.index.remove(["1.2.9.1"])
        case "replaced":
            await queue.store(record(1, soon(), digest=7), replace=True)
        case "held":
            hold = StudyHold(study_instance_uid="1.2.1", reason="r", actor="a", at=0.0)
            await DatabaseHolds(queue.database).add(hold)
            assert await queue.due(10) == []
        case _:
            await queue.keep(job, "it has no pixels")
    was = await queue.index.get(["1.2.9.1"])
    assert not await queue.exchange(job, before, compressed(before))
    assert await queue.index.get(["1.2.9.1"]) == was
    assert queue.exchanged == []
    assert await queue.leaving() == []


async def test_what_came_first_is_known_when_it_comes_again(queue: Queue) -> None:
    first = record(1, soon())
    await queue.store(first)
    (job,) = await queue.due(10)
    before = await queue.stored(1)
    await queue.exchange(job, before, compressed(before))
    for is_replacing in (False, True):
        again = await queue.store(first, replace=is_replacing, unless_same=True)
        assert again.outcome is AddOutcome.DUPLICATE
        assert again.previous == await queue.stored(1)
    assert await queue.states() == [DONE]
    healed = await queue.store(first, replace=True)
    assert healed.outcome is AddOutcome.REPLACED
    assert (await queue.stored(1)).received_digest == ""
    assert await queue.states() == [DUE]


async def test_another_object_in_its_place_says_nothing_of_the_first(queue: Queue) -> None:
    await queue.store(record(1, soon()))
    (job,) = await queue.due(10)
    before = await queue.stored(1)
    await queue.exchange(job, before, compressed(before))
    other = await queue.store(record(1, digest=9), replace=True, unless_same=True)
    assert other.outcome is AddOutcome.REPLACED
    assert (await queue.stored(1)).received_digest == ""
    assert await queue.states() == [KEPT]
    assert await queue.leaving() == [before.object_key], "it has to leave all the same"


async def test_a_second_exchange_remembers_what_came_first(queue: Queue) -> None:
    await queue.store(record(1, soon()))
    (job,) = await queue.due(10)
    before = await queue.stored(1)
    await queue.exchange(job, before, compressed(before))
    middle = await queue.stored(1)
    assert await queue.order([middle], "1.2.840.10008.1.2.4.201", "by hand") == 1
    (job,) = await queue.due(10)
    await queue.exchange(job, middle, compressed(middle, 3))
    now = await queue.stored(1)
    assert (now.digest, now.received_digest) == (f"{3:064x}", before.digest)


async def test_failures_are_tried_again_until_they_are_given_up(queue: Queue) -> None:
    await queue.store(record(1, soon()))
    (job,) = await queue.due(10)
    assert await queue.failed(job, "the disk is full", BACKOFF)
    assert await queue.due(10) == []
    queue.clock.now += 5.0
    (job,) = await queue.due(10)
    assert job.attempts == 1
    queue.clock.now += 100.0
    assert not await queue.failed(job, "the disk is full", BACKOFF)
    assert await queue.states() == [FAILED]
    assert (await queue.totals()).reasons == [(FAILED, "the disk is full", 1)]
    assert await queue.retry() == 1
    assert len(await queue.due(10)) == 1


async def test_retry_looks_again_at_what_stays_where_it_is_named(queue: Queue) -> None:
    await queue.store(record(1, soon()))
    (job,) = await queue.due(10)
    await queue.keep(job, "it has no pixels")
    assert await queue.retry() == 0
    assert await queue.retry([job.number]) == 1
    assert await queue.states() == [DUE]


async def test_what_says_nothing_any_more_is_forgotten(queue: Queue) -> None:
    for number in (1, 2, 3):
        await queue.store(record(number, soon(), digest=10 * number))
    kept, done, gone = await queue.due(10)
    await queue.keep(kept, "it has no pixels")
    for number, job in ((2, done), (3, gone)):
        before = await queue.stored(number)
        await queue.exchange(job, before, compressed(before, number))
        await queue.removed([before.object_key])
    await queue.index.remove(["1.2.9.3"])
    assert await queue.purge(queue.clock() - 1.0) == 0
    assert await queue.purge(queue.clock() + 1.0) == 2
    assert [row.sop_instance_uid for row in await queue.rows(limit=10)] == ["1.2.9.2"]
    assert (await queue.stored(2)).received_digest


async def test_what_is_no_more_is_forgotten_at_once(queue: Queue) -> None:
    await queue.store(record(1, soon()))
    (job,) = await queue.due(10)
    await queue.forget(job)
    assert await queue.rows(limit=10) == []
