"""The queue of what is to be forwarded, in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.archive.coercion.edits import RemoveAttribute
from isocenter.services.archive.deletion.ports import StudyHold
from isocenter.services.archive.deletion.records import DeletedStudy, Deletion, DeletionCause
from isocenter.services.archive.orders import ForwardPriority, Route
from isocenter.services.archive.ports import AddResult, InstanceRecord
from isocenter.services.archive.rules.ports import RuleCount
from isocenter.services.archive.sent_form import SentForm
from isocenter.services.concurrency import Backoff
from isocenter.services.errors import StorageError
from isocenter.services.service_classes.commitment.transaction import Reference
from isocenter.services.workflow.events.ports import EventSelection
from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.services.workflow.forwarding.ports import (
    Delivered,
    DueForward,
    Failed,
    ForwardState,
    ForwardSummary,
)
from isocenter.services.workflow.jobs.job import JobKind
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.events.event_hooks import EventHooks
from isocenter.storage.database.events.event_log import DatabaseEventLog
from isocenter.storage.database.forwarding import records
from isocenter.storage.database.forwarding.queue import DatabaseForwards
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.jobs.queue import DatabaseJobs
from isocenter.storage.database.retention import DatabaseHolds
from isocenter.storage.database.rule_history import DatabaseRuleHistory
from storage.databases import open_database

CT = "1.2.840.10008.5.1.4.1.1.2"
pytestmark = pytest.mark.usefixtures("each_database")
DUE, SENT, COMMITTING = ForwardState.DUE, ForwardState.SENT, ForwardState.COMMITTING
DELETING, DONE, FAILED = ForwardState.DELETING, ForwardState.DONE, ForwardState.FAILED
BACKOFF = Backoff(first_seconds=5.0, longest_seconds=60.0, give_up_after_seconds=1_000.0)


class Clock:
    """The time of day of a test."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Queue(DatabaseForwards):
    """On an index of its own, with a clock that the test moves."""

    def __init__(self, database: Database, *, although_promised: bool = False) -> None:
        self.clock = Clock()
        super().__init__(database, although_promised=although_promised, now=self.clock)
        self.database = database
        self.on_add = [self.queue_added]
        self.index = DatabaseIndex(database, on_add=[self._added])

    def _added(self, *added: Any) -> None:
        for each in self.on_add:
            each(*added)

    async def store(
        self, number: int, *routes: Route, replace: bool = False, digest: int = 0
    ) -> AddResult:
        added = await self.index.add([record(number, *routes, digest=digest)], replace=replace)
        return added[0]

    async def all_due(self, destination: str = "A", *, limit: int = 100) -> Sequence[DueForward]:
        return await self.take(destination, limit)

    async def uids(
        self, destination: str = "A", *, limit: int = 100, without: Sequence[DueForward] = ()
    ) -> list[int]:
        found = await self.take(destination, limit, without=[each.number for each in without])
        return [int(each.sop_instance_uid.rpartition(".")[2]) for each in found]

    async def states(self) -> dict[tuple[int, str], ForwardState]:
        return {
            (int(row.sop_instance_uid.rpartition(".")[2]), row.destination): row.state
            for row in await self.rows(limit=100)
        }

    async def only_row(self) -> ForwardSummary:
        (row,) = await self.rows(limit=100)
        return row


def to(destination: str = "A", **values: object) -> Route:
    return Route(destination=destination, rule="r", **values)  # type: ignore[arg-type]


def uid(number: int) -> str:
    return f"1.2.3.{number}"


def record(number: int, *routes: Route, digest: int = 0) -> InstanceRecord:
    return InstanceRecord(
        sop_instance_uid=uid(number),
        sop_class_uid=CT,
        study_instance_uid="1.2.1",
        series_instance_uid="1.2.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        object_key=f"ab/{uid(number)}.dcm",
        size=1000,
        data_set_offset=350,
        digest=f"{digest:064x}",
        attributes={0x00100020: "ID"},
        routes=routes,
    )


@pytest.fixture
async def queue() -> AsyncIterator[Queue]:
    async with open_database() as database:
        yield Queue(database)


@asynccontextmanager
async def on_disk(path: Path) -> AsyncIterator[Queue]:
    async with open_database(path) as database:
        yield Queue(database)


async def test_one_record_for_each_object_and_destination(queue: Queue) -> None:
    await queue.store(1, to("A", priority=ForwardPriority.HIGH), to("B", delay=60.0))
    await queue.store(2)
    assert await queue.states() == {(1, "A"): DUE, (1, "B"): DUE}
    assert await queue.due() == ["A"]
    queue.clock.now += 60
    assert await queue.due() == ["A", "B"]
    assert await queue.due(not_for=["A"]) == ["B"]
    assert dict(await queue.counts()) == {("A", DUE): 1, ("B", DUE): 1}


async def test_it_is_the_transaction_that_stores_the_object(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    async with on_disk(path) as queue:
        # What fails beside takes both with it.
        def fail(connection: Connection, added: object) -> None:
            raise StorageError("no")

        queue.on_add.append(fail)
        with pytest.raises(StorageError):
            await queue.store(1, to())
        assert await queue.index.get([uid(1)]) == {}
        assert await queue.rows(limit=9) == []
        queue.on_add.remove(fail)
        await queue.store(1, to())
    async with on_disk(path) as queue:
        assert list(await queue.index.get([uid(1)])) == [uid(1)]
        assert await queue.states() == {(1, "A"): DUE}


async def test_the_order_is_priority_then_age(queue: Queue) -> None:
    for number, priority in enumerate(
        (ForwardPriority.LOW, ForwardPriority.NORMAL, ForwardPriority.URGENT) * 2
    ):
        await queue.store(number, to(priority=priority))
    assert await queue.uids(limit=4) == [2, 5, 1, 4]
    assert await queue.uids() == [2, 5, 1, 4, 0, 3]
    first = await queue.all_due(limit=4)
    assert await queue.uids(without=first) == [0, 3]


async def test_what_has_a_project_is_hidden_from_programs_that_know_none(queue: Queue) -> None:
    """They look for the priorities that there are, and would send it as it is."""
    await queue.store(1, to(form=SentForm("trial")), to("B"))
    queue.clock.now += 1
    await queue.store(2, to(), to("B", form=SentForm("trial"), priority=ForwardPriority.URGENT))

    def seen(connection: Connection) -> list[str]:
        rows = connection.execute(
            "SELECT destination, sop_instance_uid FROM forward WHERE state = 'due' "
            "AND priority IN (0, 1, 2, 3)"
        )
        return sorted(f"{destination} {text}" for destination, text in rows.fetchall())

    assert await queue.database.read(seen) == [f"A {uid(2)}", f"B {uid(1)}"]
    assert sorted(await queue.due()) == ["A", "B"]
    assert await queue.uids() == [1, 2]
    assert await queue.uids("B") == [2, 1]
    assert await queue.uids("B", limit=1) == [2]
    first = (await queue.all_due("B"))[0]
    assert (first.form, first.priority) == (SentForm("trial"), ForwardPriority.URGENT)
    shown = {(row.sop_instance_uid, row.destination): row for row in await queue.rows(limit=9)}
    assert shown[uid(2), "B"].priority is ForwardPriority.URGENT
    # Nor do those find what is changed that know of projects alone.
    form = SentForm("trial", (RemoveAttribute(0x00104000),), "1.2.840.10008.1.2.4.80")
    await queue.store(3, to("C", form=form, priority=ForwardPriority.HIGH))
    (changed,) = await queue.all_due("C")
    assert (changed.form, changed.priority) == (form, ForwardPriority.HIGH)
    assert (await queue.rows(limit=1))[0].priority is ForwardPriority.HIGH
    stored = await queue.database.read(
        lambda connection: connection.execute(
            "SELECT priority FROM forward WHERE destination = 'C'"
        ).fetchone()
    )
    assert stored[0] > 13
    # The rule has changed: it goes as it is, and everybody may send it.
    await queue.store(1, to(), replace=True, digest=1)
    assert await queue.database.read(seen) == [f"A {uid(1)}", f"A {uid(2)}", f"B {uid(1)}"]


async def test_what_failed_goes_behind_what_was_not_tried(queue: Queue) -> None:
    for number in range(4):
        await queue.store(number, to("A"))
        queue.clock.now += 1
    claimed = await queue.all_due(limit=2)
    await queue.settle([Failed(each, "x", 10.0) for each in claimed])
    queue.clock.now += 60
    assert await queue.uids() == [2, 3, 0, 1]


async def test_what_is_said_a_second_time_counts_for_nothing(queue: Queue) -> None:
    """Whoever lost its job while it was away may still wake up."""
    await queue.store(1, to())
    (record,) = await queue.all_due()
    await queue.settle([Delivered(record)])
    await queue.settle([Failed(record, "too late", 5.0)])
    assert (await queue.only_row()).state is DONE


async def test_what_arrives_and_what_is_given_up_stands_in_the_numbers_of_the_job(
    queue: Queue,
) -> None:
    jobs = DatabaseJobs(queue.database, now=queue.clock)
    for number in range(1, 4):
        await queue.store(number, to("A"))
    job = await jobs.take(JobKind.FORWARD, "A", "w", 60.0)
    assert job is not None
    one, other, third = await queue.all_due()
    outcomes = [Delivered(one, 700), Failed(other, "no", None), Failed(third, "later", 5.0)]
    await queue.settle(outcomes, job.number)
    await queue.settle([Delivered(one, 700)], job.number)
    now = await jobs.get(job.job_id)
    assert now is not None
    assert (now.progress.done, now.progress.failed, now.progress.size) == (1, 1, 700)


async def test_what_became_of_records(queue: Queue) -> None:
    for number in range(4):
        await queue.store(number, to())
    claimed = await queue.all_due()
    await queue.settle(
        [
            Delivered(claimed[0]),
            Failed(claimed[1], "x" * 1000, 7.0),
            Failed(claimed[2], "gone", None),
        ]
    )
    rows = {row.sop_instance_uid: row for row in await queue.rows(limit=9)}
    assert [rows[uid(n)].state for n in range(4)] == [DONE, DUE, FAILED, DUE]
    assert [rows[uid(n)].attempts for n in range(4)] == [1, 1, 1, 0]
    assert [len(rows[uid(n)].last_fault) for n in range(4)] == [0, 500, 4, 0]
    assert await queue.uids() == [3]
    queue.clock.now += 7
    (_, again) = await queue.all_due()
    assert (again.number, again.attempts) == (claimed[1].number, 1)


async def test_an_object_that_is_replaced_is_sent_anew_as_it_is(queue: Queue) -> None:
    await queue.store(1, to("A"), to("B", commit=True), to("C", commit=True))
    (a,) = await queue.all_due("A")
    (b,) = await queue.all_due("B")
    (c,) = await queue.all_due("C")
    await queue.settle([Delivered(b), Delivered(c)])
    await queue.begin_commitment("C", "2.25.1", wait=60.0, limit=9)
    # The rule that sends to B and C is gone by now: what is on its way goes there all the same.
    await queue.store(1, to("A"), replace=True, digest=1)
    assert await queue.states() == {(1, "A"): DUE, (1, "B"): DUE, (1, "C"): DUE}
    # What is said of the old object counts for nothing.
    await queue.settle([Delivered(a)])
    reference = Reference(CT, uid(1))
    assert not await queue.commitment_reported("2.25.1", "C", [reference], [], BACKOFF)
    assert await queue.states() == {(1, "A"): DUE, (1, "B"): DUE, (1, "C"): DUE}
    (anew,) = await queue.all_due("A")
    assert (anew.number, anew.version) == (a.number, a.version + 2)
    await queue.settle([Delivered(anew)])
    # What was done stays done, unless a rule queues it once more.
    await queue.store(1, replace=True, digest=2)
    assert (await queue.states())[1, "A"] is DONE
    await queue.store(1, to("A"), replace=True, digest=3)
    assert (await queue.states())[1, "A"] is DUE


async def test_what_is_replaced_again_and_again_ends_and_says_why(queue: Queue) -> None:
    """Two archives that change an object and forward it to each other."""
    await queue.store(1, to("A"))
    for number in range(records.MOST_ROUNDS):
        queue.clock.now += 60.0
        await queue.store(1, to("A"), replace=True, digest=number + 1)
        assert await queue.uids() == [1]
    await queue.store(1, to("A"), replace=True, digest=99)
    row = await queue.only_row()
    assert (row.state, row.last_fault) == (FAILED, records.IN_A_CIRCLE)
    assert row.ended_at == queue.clock.now
    assert await queue.uids() == []
    # Somebody has mended the rules.
    assert await queue.retry() == 1
    assert await queue.uids() == [1]
    await queue.store(1, to("A"), replace=True, digest=100)
    assert await queue.uids() == [1]


async def test_what_is_replaced_now_and_then_goes_in_no_circle(queue: Queue) -> None:
    await queue.store(1, to("A"))
    for number in range(2 * records.MOST_ROUNDS):
        queue.clock.now += 4_000.0
        await queue.store(1, to("A"), replace=True, digest=number + 1)
        assert await queue.uids() == [1]


async def test_what_arrives_and_what_is_given_up_is_counted_by_rule(queue: Queue) -> None:
    for number in range(1, 5):
        await queue.store(number, to("A"))
    one, other, third, _ = await queue.all_due()
    await queue.settle([Delivered(one), Failed(other, "no", None), Failed(third, "later", 5.0)])
    await queue.settle([Delivered(one)])
    history = DatabaseRuleHistory(queue.database)
    assert await history.counts() == {"r": RuleCount(sent=1, failed=1)}
    queue.clock.now += 2_000.0
    await queue.destination_failed("A", "away", BACKOFF)
    assert (await history.counts())["r"].failed == 3


async def test_a_duplicate_that_is_not_kept_is_not_queued(queue: Queue) -> None:
    await queue.store(1)
    await queue.store(1, to("A"), digest=1)
    assert await queue.states() == {}


async def test_a_destination_that_fails_is_left_alone_ever_longer(queue: Queue) -> None:
    for number in range(3):
        await queue.store(number, to("A"), to("B"))
    waits = []
    for _ in range(6):
        claimed = await queue.all_due("A")
        assert len(claimed) == 3
        seconds, given_up = await queue.destination_failed("A", "refused", BACKOFF)
        assert (await queue.all_due("A"), given_up) == ([], 0)
        assert await queue.due() == ["B"]
        waits.append(seconds)
        queue.clock.now += seconds
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert await queue.due() == ["A", "B"]
    assert await queue.uids("A", limit=1) == [0]
    await queue.destination_succeeded("A")
    assert await queue.uids("A") == [0, 1, 2]
    row = next(row for row in await queue.destinations() if row.destination == "A")
    assert (row.counts, row.failures, row.last_fault) == ({DUE: 3}, 0, "")


async def test_what_waits_for_too_long_is_given_up(queue: Queue) -> None:
    await queue.store(1, to())
    queue.clock.now += 600
    await queue.store(2, to())
    await queue.store(3, to(delay=600.0))
    queue.clock.now += 400
    (_, given_up) = await queue.destination_failed("A", "refused", BACKOFF)
    assert given_up == 1
    assert await queue.states() == {(1, "A"): FAILED, (2, "A"): DUE, (3, "A"): DUE}


async def test_retry_has_what_failed_sent_now(queue: Queue) -> None:
    for number in range(3):
        await queue.store(number, to("A"), to("B", delay=60.0))
    first, second, third = await queue.all_due("A")
    await queue.settle([Failed(first, "x", None), Failed(second, "y", 900.0), Delivered(third)])
    assert await queue.retry(destination="C") == 0
    assert await queue.retry([first.number]) == 1
    assert await queue.uids("A") == [0]
    assert await queue.retry(destination="A") == 1
    assert await queue.uids("A") == [0, 1]
    assert await queue.uids("B") == []
    await queue.destination_failed("A", "down", BACKOFF)
    assert await queue.retry(destination="B") == 0
    assert await queue.retry(destination="A") == 1
    assert (await queue.destinations())[0].failures == 0


async def test_purging_forgets_records_and_no_objects(queue: Queue) -> None:
    for number in range(4):
        await queue.store(number, to("A"), to("B"))
    claimed = await queue.all_due("A")
    await queue.settle([*map(Delivered, claimed[:2]), Failed(claimed[2], "x", None)])
    assert await queue.purge(FAILED, destination="B") == 0
    assert await queue.purge(FAILED, [claimed[0].number]) == 0
    assert await queue.purge(FAILED, [claimed[2].number]) == 1
    assert await queue.purge_done(queue.clock.now) == 0
    assert await queue.purge_done(queue.clock.now + 1) == 2
    assert set((await queue.states()).values()) == {DUE}
    assert (await queue.index.statistics()).instances == 4


async def sent(queue: Queue, *numbers: int, destination: str = "A") -> None:
    claimed = await queue.all_due(destination)
    assert len(claimed) == len(numbers)
    await queue.settle(list(map(Delivered, claimed)))


async def test_what_is_committed_leaves_the_archive(queue: Queue) -> None:
    for number in (1, 2, 3):
        await queue.store(number, to("A", commit=True, delete_after=number != 3), to("B"))
    await sent(queue, 1, 2, 3)
    assert sorted(await queue.due()) == ["A", "B"]
    references = await queue.begin_commitment("A", "2.25.1", wait=60.0, limit=9)
    assert references == [Reference(CT, uid(number)) for number in (1, 2, 3)]
    assert await queue.begin_commitment("A", "2.25.2", wait=60.0, limit=9) == []
    assert not await queue.commitment_reported("2.25.9", "A", references, [], BACKOFF)
    assert not await queue.commitment_reported("2.25.1", "EVIL", references, [], BACKOFF)
    assert not await queue.commitment_reported("", "A", references, [], BACKOFF)
    refused = [(references[1], 0x0112)]
    assert await queue.commitment_reported(
        "2.25.1", "A", [references[0], references[2]], refused, BACKOFF
    )
    states = await queue.states()
    assert [states[n, "A"] for n in (1, 2, 3)] == [DELETING, DUE, DONE]
    # B still waits for it.
    assert not (await queue.delete_committed(9)).instances
    await sent(queue, 1, 2, 3, destination="B")
    (removed,) = (await queue.delete_committed(9)).instances
    assert removed.object_key == f"ab/{uid(1)}.dcm"
    assert sorted(await queue.index.get([uid(1), uid(2), uid(3)])) == [uid(2), uid(3)]
    assert (await queue.states())[1, "A"] is DONE
    assert await queue.leaving() == [removed.object_key]
    await queue.deleted([removed.object_key])
    assert await queue.leaving() == []
    assert (await queue.index.statistics()).instances == 2
    assert await queue.index.check() == []
    # What was not committed is sent again.
    queue.clock.now += 60
    assert await queue.uids("A") == [2]


async def test_what_is_said_to_be_committed_and_refused_is_kept(queue: Queue) -> None:
    await queue.store(1, to("A", commit=True, delete_after=True))
    await sent(queue, 1)
    (reference,) = await queue.begin_commitment("A", "2.25.1", wait=60.0, limit=9)
    failed = [(reference, 0x0110)]
    assert await queue.commitment_reported("2.25.1", "A", [reference], failed, BACKOFF)
    assert (await queue.only_row()).state is DUE


@pytest.mark.parametrize(
    ("requester", "theirs", "failure", "although_promised", "leaves"),
    [
        ("MODALITY", "2.25.7", 0, False, False),
        ("MODALITY", "2.25.7", 0, True, True),
        # It is being verified: what is promised comes later.
        ("MODALITY", "2.25.7", None, False, False),
        ("MODALITY", "2.25.7", 0x0110, False, True),
        # Of two that rely on each other none deletes, whatever is set.
        ("A", "2.25.7", 0, True, False),
        ("A", "2.25.7", None, True, False),
        ("A", "2.25.7", 0x0110, True, True),
        # We are our own destination, under another name.
        ("OURSELVES", "2.25.1", 0, True, False),
    ],
)
async def test_what_is_promised_is_not_deleted(
    requester: str, theirs: str, failure: int | None, although_promised: bool, leaves: bool
) -> None:
    async with open_database() as database:
        queue = Queue(database, although_promised=although_promised)
        await queue.store(1, to("A", commit=True, delete_after=True))
        await queue.store(2)
        await sent(queue, 1)
        (reference,) = await queue.begin_commitment("A", "2.25.1", wait=60.0, limit=9)

        def promise(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO commitment (transaction_uid, requester, called_ae_title, state, "
                "requested_at, num_references, due_at) VALUES (?, ?, 'US', 'success', 1, 1, 1)",
                (theirs, requester),
            )
            connection.execute(
                "INSERT INTO commitment_reference (commitment_pk, position, sop_class_uid, "
                "sop_instance_uid, failure_reason) "
                "SELECT commitment_pk, 0, ?, ?, ? FROM commitment",
                (CT, uid(1), failure),
            )

        await database.write(promise)
        assert await queue.commitment_reported("2.25.1", "A", [reference], [], BACKOFF)
        deletion = await queue.delete_committed(9)
        assert [stored.sop_instance_uid for stored in deletion.instances] == [uid(1)] * leaves
        assert deletion.kept == ([] if leaves else [uid(1)])
        assert bool(await queue.index.get([uid(1)])) is not leaves
        row = await queue.only_row()
        assert row.state is (DONE if leaves else FAILED)
        assert leaves or "promised" in row.last_fault
        assert leaves or although_promised or requester in row.last_fault
        # Nothing is looked at again and again.
        assert await queue.delete_committed(9) == Deletion()


@pytest.mark.parametrize("although_promised", [False, True])
async def test_what_is_held_is_not_deleted(although_promised: bool) -> None:
    async with open_database() as database:
        queue = Queue(database, although_promised=although_promised)
        await queue.store(1, to("A", commit=True, delete_after=True))
        await sent(queue, 1)
        (reference,) = await queue.begin_commitment("A", "2.25.1", wait=60.0, limit=9)
        assert await queue.commitment_reported("2.25.1", "A", [reference], [], BACKOFF)
        study = (await queue.index.get([uid(1)]))[uid(1)].study_instance_uid
        holds = DatabaseHolds(database)
        await holds.add(StudyHold(study_instance_uid=study, reason="x", actor="y", at=0.0))
        deletion = await queue.delete_committed(9)
        assert (list(deletion.instances), list(deletion.kept)) == ([], [uid(1)])
        assert await queue.index.get([uid(1)])
        row = await queue.only_row()
        assert row.state is FAILED
        assert "is held" in row.last_fault


async def test_what_leaves_is_an_event_in_the_same_transaction(queue: Queue) -> None:
    writer = EventHooks(CompletionRules(), include_patient=True, now=queue.clock)
    fails: list[str] = []

    def broken(
        connection: Connection, studies: Sequence[DeletedStudy], cause: DeletionCause
    ) -> None:
        writer.deleted(connection, studies, cause)
        if fails:
            raise StorageError(fails[0])

    forwards = DatabaseForwards(queue.database, on_delete=[broken], now=queue.clock)
    for number in (1, 2, 3):
        await queue.store(number, to("A", commit=True, delete_after=number < 3))
    await sent(queue, 1, 2, 3)
    references = await queue.begin_commitment("A", "2.25.1", wait=60.0, limit=9)
    assert await queue.commitment_reported("2.25.1", "A", references, [], BACKOFF)
    desk = DatabaseEventLog(queue.database)
    fails.append("no room")
    with pytest.raises(StorageError):
        await forwards.delete_committed(9)
    assert await desk.events(EventSelection()) == []
    fails.clear()
    (study,) = (await forwards.delete_committed(9)).studies
    assert (study.instances, study.remaining, study.sop_classes) == (2, 1, {CT: 2})
    assert "ID" not in repr(study)
    (event,) = await desk.events(EventSelection())
    assert (event.kind, event.study_instance_uid) == ("instances.deleted", "1.2.1")
    said = event.members()
    assert (said["instances"], said["remaining"]) == (2, 1)
    assert said["cause"] == "committed elsewhere"
    assert said["patient"] == {"patient_id": "ID", "patient_name": "", "birth_date": ""}


async def test_a_destination_that_never_says_anything_is_not_asked_for_ever(queue: Queue) -> None:
    await queue.store(1, to("A", commit=True, delete_after=True))
    queue.clock.now += 2 * BACKOFF.give_up_after_seconds
    await sent(queue, 1)
    await queue.begin_commitment("A", "2.25.1", wait=60.0, limit=9)
    queue.clock.now += 60
    assert await queue.give_up_asking("A", BACKOFF) == 0
    assert len(await queue.begin_commitment("A", "2.25.2", wait=60.0, limit=9)) == 1
    queue.clock.now += BACKOFF.give_up_after_seconds
    assert await queue.give_up_asking("B", BACKOFF) == 0
    assert await queue.give_up_asking("A", BACKOFF) == 1
    row = await queue.only_row()
    assert (row.state, row.last_fault[:31]) == (FAILED, "the destination has never said ")
    assert await queue.retry() == 1


async def test_what_may_still_lie_in_the_store_is_not_forgotten(queue: Queue) -> None:
    await queue.store(1, to("A", commit=True, delete_after=True))
    await sent(queue, 1)
    (reference,) = await queue.begin_commitment("A", "2.25.1", wait=60.0, limit=9)
    assert await queue.commitment_reported("2.25.1", "A", [reference], [], BACKOFF)
    (removed,) = (await queue.delete_committed(9)).instances
    queue.clock.now += 1
    assert await queue.purge_done(queue.clock.now) == 0
    await queue.deleted([removed.object_key])
    assert await queue.purge_done(queue.clock.now) == 1


async def test_many_records_are_forgotten_and_retried(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = [to(f"D{number}") for number in range(25)]
    monkeypatch.setattr(records, "DELETE", records.DELETE.replace("LIMIT 1000", "LIMIT 10"))
    monkeypatch.setattr(
        records, "RETRY_SENDING", records.RETRY_SENDING.replace("LIMIT 1000", "LIMIT 10")
    )
    await queue.store(1, *routes)
    for route in routes:
        (claimed,) = await queue.all_due(route.destination)
        await queue.settle([Failed(claimed, "x", None)])
    assert await queue.retry() == 25
    assert await queue.retry() == 0
    assert await queue.purge(DUE) == 25


async def test_a_dead_letter_keeps_the_object(queue: Queue) -> None:
    await queue.store(1, to("A", commit=True, delete_after=True), to("B"))
    await sent(queue, 1)
    (claimed,) = await queue.all_due("B")
    await queue.settle([Failed(claimed, "x", None)])
    (reference,) = await queue.begin_commitment("A", "2.25.1", wait=60.0, limit=9)
    assert await queue.commitment_reported("2.25.1", "A", [reference], [], BACKOFF)
    assert not (await queue.delete_committed(9)).instances
    await queue.purge(FAILED)
    assert len((await queue.delete_committed(9)).instances) == 1


async def test_a_replacement_is_not_deleted_for_what_was_committed_before(queue: Queue) -> None:
    await queue.store(1, to("A", commit=True, delete_after=True))
    await sent(queue, 1)
    (reference,) = await queue.begin_commitment("A", "2.25.1", wait=60.0, limit=9)
    assert await queue.commitment_reported("2.25.1", "A", [reference], [], BACKOFF)
    await queue.store(1, replace=True, digest=1)
    assert not (await queue.delete_committed(9)).instances
    assert await queue.uids() == [1]


async def test_commitment_is_asked_for_until_something_is_said(queue: Queue) -> None:
    await queue.store(1, to("A", commit=True))
    await sent(queue, 1)
    await queue.begin_commitment("A", "2.25.1", wait=60.0, limit=9)
    await queue.commitment_not_asked("2.25.1", "nobody listens", BACKOFF)
    row = await queue.only_row()
    assert (row.state, row.last_fault) == (SENT, "nobody listens")
    assert await queue.due() == []
    queue.clock.now += 10
    assert await queue.due() == ["A"]
    assert len(await queue.begin_commitment("A", "2.25.2", wait=60.0, limit=9)) == 1
    assert await queue.due() == []
    queue.clock.now += 60
    # No report came.
    assert await queue.due() == ["A"]
    (reference,) = await queue.begin_commitment("A", "2.25.3", wait=60.0, limit=9)
    assert not await queue.commitment_reported("2.25.2", "A", [reference], [], BACKOFF)
    assert await queue.commitment_reported("2.25.3", "A", [], [], BACKOFF)
    row = await queue.only_row()
    assert (row.state, row.last_fault) == (DUE, "the destination says nothing of it in its report")
    queue.clock.now += 10_000
    await sent(queue, 1)
    await queue.begin_commitment("A", "2.25.4", wait=60.0, limit=9)
    assert await queue.retry(destination="A") == 1
    await queue.begin_commitment("A", "2.25.5", wait=60.0, limit=9)
    queue.clock.now += 10_000
    await queue.commitment_not_asked("2.25.5", "still nobody", BACKOFF)
    assert (await queue.only_row()).state is FAILED
