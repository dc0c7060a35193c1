"""Storage commitment as SCP: what is promised, how the outcome arrives, and what survives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set
from isocenter.engine.dimse.message_codec import NActionRequest, NCreateRequest, response_to
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.archive.archive import Archive
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.errors import StorageError
from isocenter.services.notices import CommitmentDone, Notice, Notices
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.commitment.scu import (
    CONTEXTS,
    CommitmentResults,
    request_commitment,
)
from isocenter.services.service_classes.commitment.transaction import (
    STORAGE_COMMITMENT,
    WELL_KNOWN_INSTANCE,
    Reference,
    Transaction,
    TransactionState,
    references_of,
    request_of,
    result_of,
)
from isocenter.services.service_classes.normalized.operations import n_action
from isocenter.services.service_classes.normalized.report_delivery import (
    CLAIM_SECONDS,
)
from isocenter.storage.database.commitments import DatabaseCommitments
from isocenter.storage.database.event_reports import DatabaseReports
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.leases import release_stale
from isocenter.storage.database.sqlite.database import SqliteDatabase, open_sqlite_database
from isocenter.storage.objects.files.store import open_file_store
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import CT, opened, store, uid
from services.service_classes.commitment.peers import (
    MODALITY,
    Clock,
    modality,
    opener,
    process,
    references,
)

TRANSACTION = "1.2.826.0.1.3680043.10.999.88"
#: Longer than anything here takes in real time.
PATIENCE = 120.0


@asynccontextmanager
async def archive_of(
    *numbers: int, object_store: Any = None, path: Path | None = None
) -> AsyncIterator[tuple[Archive, SqliteDatabase]]:
    """An archive with these objects, and its index database."""
    async with (
        open_sqlite_database(path or ":memory:") as database,
        opened(object_store or MemoryStore(), DatabaseIndex(database)) as archive,
    ):
        for number in numbers:
            await store(archive, number)
        yield archive, database


async def until(condition: Any) -> None:
    """Until *condition* gives something true; it is asked again and again, in real time."""
    with trio.fail_after(PATIENCE):
        while not (await condition()):
            await trio.lowlevel.checkpoint()


async def report_state(database: SqliteDatabase, transaction_uid: str = TRANSACTION) -> str:
    rows = await DatabaseCommitments(database).rows()
    return next((r.report for r in rows if r.transaction_uid == transaction_uid), "")


async def ask(
    peer: Peer,
    asked: Sequence[Reference],
    transaction_uid: str = TRANSACTION,
    calling: str = MODALITY,
) -> int:
    """The request alone; the association is released at once."""
    async with open_association(peer, CONTEXTS, calling_ae_title=calling) as association:
        information = request_of(transaction_uid, asked)
        answer = await n_action(
            association, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE, 1, information
        )
    return answer.status


# -- The outcome -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax",
    [
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_LITTLE_ENDIAN,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
    ],
)
async def test_a_promise_on_the_same_association(syntax: str) -> None:
    async with (
        archive_of(1, 2) as (archive, database),
        process(archive, database, clock=Clock()) as scp,
    ):
        result = await request_commitment(
            opener(scp.peer, syntaxes=[syntax]),
            references(1, 2),
            CommitmentResults(),
            stay=PATIENCE,
            wait=PATIENCE,
        )
        assert result.is_complete
        assert result.committed == tuple(references(1, 2))
        assert result.retrieve_ae_title == "ISOCENTER"
        await until(lambda: _is(database, "delivered", result.transaction_uid))


async def _is(database: SqliteDatabase, state: str, transaction_uid: str = TRANSACTION) -> bool:
    return await report_state(database, transaction_uid) == state


async def test_the_report_comes_on_a_new_association_when_the_modality_has_left() -> None:
    async with (
        archive_of(1) as (archive, database),
        process(archive, database, clock=Clock()) as scp,
        modality(scp) as results,
    ):
        result = await request_commitment(
            opener(scp.peer), references(1), results, stay=0, wait=PATIENCE
        )
        assert result.is_complete
        assert scp.server.associations == 0


async def test_some_modalities_want_it_there_in_any_case() -> None:
    async with (
        archive_of(1) as (archive, database),
        process(archive, database, clock=Clock(), same_association=False) as scp,
        modality(scp) as results,
    ):
        result = await request_commitment(
            opener(scp.peer), references(1), results, stay=PATIENCE, wait=PATIENCE
        )
        assert result.is_complete


async def test_each_failure_reason() -> None:
    class Exhausted(MemoryStore):
        async def open(self, key: str) -> Any:
            if uid(5) in key:
                raise StorageError("too many open files", out_of_resources=True)
            if uid(6) in key:
                raise StorageError("input/output error")
            return await super().open(key)

    asked = [
        *references(1, 2, 4),
        *references(3, sop_class="1.2.840.10008.5.1.4.1.1.4"),  # it is a CT image
        *references(9),
        Reference("1.2.3.4", "1.9.9"),
        *references(5, 6),
    ]
    object_store = Exhausted()
    async with (
        archive_of(1, 2, 3, 4, 5, 6, object_store=object_store) as (archive, database),
        process(archive, database, clock=Clock()) as scp,
        modality(scp) as results,
    ):
        known = await archive.index.get([uid(2), uid(4)])
        key = known[uid(2)].object_key
        whole = object_store._objects[key]
        object_store._objects[key] = whole[:-1] + bytes([whole[-1] ^ 1])
        await object_store.remove([known[uid(4)].object_key])
        result = await request_commitment(
            opener(scp.peer), asked, results, stay=PATIENCE, wait=PATIENCE
        )
        assert result.committed == tuple(references(1))
        assert [reason for _, reason in result.failed] == [
            0x0110, 0x0110, 0x0119, 0x0112, 0x0122, 0x0213, 0x0110,
        ]  # fmt: skip
        assert [reference for reference, _ in result.failed] == asked[1:]
        (row,) = await DatabaseCommitments(database).rows()
        assert (row.state, row.references, row.failed) == (TransactionState.PARTIAL, 8, 7)


async def test_a_file_that_changed_on_the_disk_is_not_promised(tmp_path: Path) -> None:
    files = await open_file_store(tmp_path / "data")
    async with (
        archive_of(1, object_store=files, path=tmp_path / "index.db") as (archive, database),
        process(archive, database, clock=Clock()) as scp,
        modality(scp) as results,
    ):
        stored = (await archive.index.get([uid(1)]))[uid(1)]
        (path,) = (tmp_path / "data").rglob("*.dcm")
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert len(content) == stored.size
        result = await request_commitment(
            opener(scp.peer), references(1), results, stay=PATIENCE, wait=PATIENCE
        )
        assert result.failed == ((references(1)[0], 0x0110),)
    await files.aclose()


async def test_what_is_told_of_it() -> None:
    heard: list[Notice] = []
    async with (
        archive_of(1) as (archive, database),
        process(archive, database, clock=Clock(), notices=Notices(heard.append)) as scp,
        modality(scp) as results,
    ):
        await request_commitment(
            opener(scp.peer), references(1, 2), results, stay=PATIENCE, wait=PATIENCE
        )
    (done,) = heard
    assert isinstance(done, CommitmentDone)
    assert (done.requester, done.committed, done.failed) == (MODALITY, (uid(1),), (uid(2),))


async def test_the_association_is_not_idle_while_its_objects_are_read() -> None:
    class Slow(MemoryStore):
        reached, go_on = trio.Event(), trio.Event()

        async def open(self, key: str) -> Any:
            self.reached.set()
            await self.go_on.wait()
            return await super().open(key)

    object_store = Slow()
    results = CommitmentResults()
    async with (
        archive_of(1, object_store=object_store) as (archive, database),
        process(archive, database, clock=Clock()) as scp,
        trio.open_nursery() as nursery,
    ):

        async def ask_and_stay() -> None:
            result = await request_commitment(
                opener(scp.peer), references(1), results, stay=PATIENCE, wait=PATIENCE
            )
            assert result.is_complete

        nursery.start_soon(ask_and_stay)
        await object_store.reached.wait()
        (connection,) = scp.server._admission.connections
        task = connection.task
        assert task is not None
        assert task._next_deadline()[0] == float("inf")
        object_store.go_on.set()
        with trio.fail_after(PATIENCE):
            while task.expected_requests:
                await trio.lowlevel.checkpoint()


async def test_nobody_else_delivers_what_is_on_its_way() -> None:
    """The modality takes its time to answer; meanwhile the report is not due."""
    reached, go_on = trio.Event(), trio.Event()
    clock = Clock()

    async def slow(operation: Operation) -> None:
        reached.set()
        await go_on.wait()
        await operation.respond(response_to(operation.request, 0))

    async with (
        archive_of(1) as (archive, database),
        process(archive, database, clock=clock) as scp,
        open_association(
            scp.peer, CONTEXTS, calling_ae_title=MODALITY, provider=slow
        ) as association,
    ):
        asked = request_of(TRANSACTION, references(1))
        await n_action(association, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE, 1, asked)
        await reached.wait()
        others = DatabaseReports(database, now=clock)
        assert await others.claim("other", 60, 10) == ()
        go_on.set()
        await until(lambda: _is(database, "delivered"))


def test_the_result_as_the_standard_has_it() -> None:
    """Table J.3-2: what must be there for each event type, and what may not."""
    transaction = Transaction(
        transaction_uid=TRANSACTION,
        requester=MODALITY,
        called_ae_title="ARCHIVE",
        state=TransactionState.PENDING,
        requested_at=0,
        completed_at=None,
        references=tuple(references(1, 2)),
        failures=None,
    )
    for failures, event_type, there in (
        ([0, 0], 1, {0x00080054, 0x00081195, 0x00081199}),
        ([0, 0x0112], 2, {0x00080054, 0x00081195, 0x00081198, 0x00081199}),
        ([0x0110, 0x0112], 2, {0x00081195, 0x00081198}),
    ):
        report = result_of(transaction, failures, retrieve_ae_title="ISOCENTER")
        assert report.event_type == event_type
        assert (report.destination, report.calling_ae_title) == (MODALITY, "ARCHIVE")
        said = AttributeList.read(report.data_set, EXPLICIT_VR_LITTLE_ENDIAN)
        assert said.elements.keys() == there
        named = references_of(said, 0x00081199) + references_of(said, 0x00081198)
        assert sorted(reason for _, reason in named) == sorted(failures)


async def test_who_has_lost_a_claim_cannot_complete(tmp_path: Path) -> None:
    async with archive_of(path=tmp_path / "index.db") as (_, database):
        commitments = DatabaseCommitments(database, now=Clock())
        await commitments.begin(
            transaction_uid=TRANSACTION,
            requester=MODALITY,
            called_ae_title="A",
            references=references(1),
            worker="one",
            seconds=60,
        )
        transaction = await commitments.get(TRANSACTION)
        assert transaction is not None
        report = result_of(transaction, [0], retrieve_ae_title="")
        for worker, is_done in (("two", False), ("one", True), ("one", False)):
            claimed = await commitments.complete(TRANSACTION, worker, [0], report, claim_seconds=0)
            assert (claimed is not None) is is_done


# -- What is refused -----------------------------------------------------------------------


def information(transaction_uid: bytes | None, items: Any) -> bytes:
    elements: list[Any] = []
    if transaction_uid is not None:
        elements.append((0x00081195, "UI", transaction_uid))
    if items is not None:
        elements.append((0x00081199, "SQ", items))
    return write_data_set(elements, EXPLICIT_LITTLE)


ITEM = [(0x00081150, "UI", CT.encode()), (0x00081155, "UI", b"1.2.3")]


@pytest.mark.parametrize(
    ("status", "data_set"),
    [
        (0x0120, None),
        (0x0120, information(None, [ITEM])),
        (0x0120, information(b"1.2", None)),
        (0x0121, information(b"1.2", [])),
        (0x0121, information(b"", [ITEM])),
        (0x0121, information(b"1.2", [ITEM, ITEM[:1]])),
        (0x0121, information(b"1.2", [ITEM[1:]])),
        (0x0115, information(b"1..2", [ITEM])),
        (0x0115, information(b"1.2", [[ITEM[0], (0x00081155, "UI", b"../x")]])),
        (0x0110, b"\x08\x00\x95\x11UI\xff\xff"),
    ],
)
async def test_requests_that_break_the_rules(status: int, data_set: bytes | None) -> None:
    async with (
        archive_of() as (archive, database),
        process(archive, database, clock=Clock()) as scp,
        open_association(scp.peer, [(STORAGE_COMMITMENT, (EXPLICIT_VR_LITTLE_ENDIAN,))]) as client,
    ):
        request = NActionRequest(
            message_id=1,
            requested_sop_class_uid=STORAGE_COMMITMENT,
            requested_sop_instance_uid=WELL_KNOWN_INSTANCE,
            action_type_id=1,
        )
        received = await client.invoke(client.contexts[0].context_id, request, data_set)
        assert received.message.status == status
        assert await DatabaseCommitments(database).rows() == []


async def test_wrong_actions_instances_and_operations() -> None:
    good = information(b"1.2", [ITEM])
    async with (
        archive_of() as (archive, database),
        process(archive, database, clock=Clock()) as scp,
        open_association(scp.peer, [(STORAGE_COMMITMENT, (EXPLICIT_VR_LITTLE_ENDIAN,))]) as client,
    ):

        async def status(request: Any) -> int:
            received = await client.invoke(client.contexts[0].context_id, request, good)
            return received.message.status

        def action(**values: Any) -> NActionRequest:
            named: dict[str, Any] = {
                "requested_sop_class_uid": STORAGE_COMMITMENT,
                "requested_sop_instance_uid": WELL_KNOWN_INSTANCE,
                "action_type_id": 1,
            }
            return NActionRequest(message_id=1, **named | values)

        assert await status(action(action_type_id=2)) == 0x0123
        assert await status(action(requested_sop_instance_uid="1.2.3")) == 0x0112
        assert await status(action(requested_sop_class_uid="1.2.3")) == 0x0122
        create = NCreateRequest(message_id=1, affected_sop_class_uid=STORAGE_COMMITMENT)
        assert await status(create) == 0x0211
        assert await DatabaseCommitments(database).rows() == []


async def test_a_reference_that_stands_twice_is_one() -> None:
    async with (
        archive_of(1) as (archive, database),
        process(archive, database, clock=Clock()) as scp,
        modality(scp) as results,
    ):
        result = await request_commitment(
            opener(scp.peer), references(1, 1), results, stay=PATIENCE, wait=PATIENCE
        )
        assert result.is_complete
        assert result.committed == tuple(references(1))


# -- Transaction UIDs ----------------------------------------------------------------------


async def test_the_same_request_once_more_gets_the_same_outcome_once_more() -> None:
    """A modality that did not see our response asks again."""
    async with (
        archive_of(1) as (archive, database),
        process(archive, database, clock=Clock()) as scp,
        modality(scp) as results,
    ):
        for _ in range(2):
            result = await request_commitment(
                opener(scp.peer),
                references(1),
                results,
                transaction_uid=TRANSACTION,
                stay=PATIENCE,
                wait=PATIENCE,
            )
            assert result.is_complete
        assert len(await DatabaseCommitments(database).rows()) == 1


async def test_a_transaction_uid_belongs_to_one_request() -> None:
    async with (
        archive_of(1, 2) as (archive, database),
        process(archive, database, clock=Clock()) as scp,
        modality(scp) as results,
    ):
        for calling, numbers in ((MODALITY, [1]), (MODALITY, [1, 2]), ("CT2", [1])):
            result = await request_commitment(
                opener(scp.peer, calling=calling),
                references(*numbers),
                results,
                transaction_uid=TRANSACTION,
                stay=PATIENCE,
                wait=PATIENCE,
            )
            reasons = [reason for _, reason in result.failed]
            expected = [] if (calling, numbers) == (MODALITY, [1]) else [0x0131] * len(numbers)
            assert reasons == expected
        (row,) = await DatabaseCommitments(database).rows()
        assert (row.state, row.requester) == (TransactionState.SUCCESS, MODALITY)


# -- Delivery ------------------------------------------------------------------------------


async def test_it_is_tried_again_at_ever_longer_intervals() -> None:
    clock = Clock()
    async with (
        archive_of(1) as (archive, database),
        process(archive, database, clock=clock) as scp,
    ):
        assert await ask(scp.peer, references(1)) == 0
        await until(lambda: _is(database, "due"))
        waits = []
        for attempt in range(1, 5):

            async def was_tried(attempt: int = attempt) -> bool:
                (row,) = await DatabaseCommitments(database).rows()
                return row.report_attempts == attempt

            await until(was_tried)
            (due_at,) = await database.read(_due_at)
            waits.append(due_at - clock.now)
            clock.now = due_at
            scp.reporter.wake()
        assert waits == [5 * factor for factor in (1, 2, 4, 8)]
        (row,) = await DatabaseCommitments(database).rows()
        assert "--peer CT1@" in row.report_fault
        # The modality is known now, and its turn comes.
        async with modality(scp) as results:
            results.expect(TRANSACTION)
            clock.now += 1e6
            scp.reporter.wake()
            with trio.fail_after(PATIENCE):
                assert (await results.wait(TRANSACTION)).is_complete
            await until(lambda: _is(database, "delivered"))


def _due_at(connection: Any) -> tuple[float, ...]:
    return connection.execute("SELECT due_at FROM event_report").fetchone()


async def test_it_is_given_up_by_policy() -> None:
    clock = Clock()
    async with (
        archive_of(1) as (archive, database),
        process(archive, database, clock=clock, backoff=Backoff(give_up_after_seconds=60)) as scp,
    ):
        assert await ask(scp.peer, references(1)) == 0
        await until(lambda: _is(database, "due"))
        clock.now += 61
        scp.reporter.wake()
        await until(lambda: _is(database, "given up"))
        clock.now += 1e6
        assert await DatabaseReports(database, now=clock).claim("w", 1, 1) == ()


async def test_a_refusal_of_the_modality_is_no_delivery() -> None:
    clock = Clock()
    async with (
        archive_of(1) as (archive, database),
        process(archive, database, clock=clock) as scp,
        modality(scp) as results,
    ):
        # It expects nothing: it answers 0115H.
        assert await ask(scp.peer, references(1)) == 0

        async def was_refused() -> bool:
            (row,) = await DatabaseCommitments(database).rows()
            return "0115H" in row.report_fault

        await until(was_refused)
        results.expect(TRANSACTION)
        clock.now += 1e5
        scp.reporter.wake()
        with trio.fail_after(PATIENCE):
            assert (await results.wait(TRANSACTION)).is_complete


# -- Processes -----------------------------------------------------------------------------


async def test_what_a_process_began_another_one_ends(tmp_path: Path) -> None:
    """It ended right after its response; its claim has to run out first."""
    clock = Clock()
    path = tmp_path / "index.db"
    async with archive_of(1, path=path) as (archive, database):
        async with process(archive, database, clock=clock, runs=False) as ended:
            assert await ask(ended.peer, references(1)) == 0
        async with process(archive, database, clock=clock) as other, modality(other) as results:
            results.expect(TRANSACTION)
            commitments = DatabaseCommitments(database, now=clock)
            assert await commitments.claim("w", 1, 10) == ()
            clock.now += CLAIM_SECONDS
            other.service._wanted.set()
            with trio.fail_after(PATIENCE):
                assert (await results.wait(TRANSACTION)).is_complete


async def test_a_restart_waits_for_no_claim(tmp_path: Path) -> None:
    clock = Clock()
    async with archive_of(1, path=tmp_path / "index.db") as (archive, database):
        async with process(archive, database, clock=clock, runs=False) as ended:
            assert await ask(ended.peer, references(1)) == 0
        await database.write(release_stale)  # as the composition does when it owns the archive
        async with (
            process(archive, database, clock=clock) as restarted,
            modality(restarted) as came,
        ):
            came.expect(TRANSACTION)
            with trio.fail_after(PATIENCE):
                assert (await came.wait(TRANSACTION)).is_complete


async def test_what_was_asked_over_the_web_is_ended_by_whichever_process(tmp_path: Path) -> None:
    clock = Clock()
    async with archive_of(1, path=tmp_path / "index.db") as (archive, database):
        async with process(archive, database, clock=clock, runs=False) as ended:
            assert await ended.service.take(TRANSACTION, references(1, 2), "jane")
            assert not await ended.service.take(TRANSACTION, references(1, 2), "jane")
        async with process(archive, database, clock=clock, runs=False) as other:
            await database.write(release_stale)
            # Nobody there has begun it: it is not waited for.
            before = await other.service.outcome(TRANSACTION, wait_seconds=PATIENCE)
            assert before is not None
            assert before.failures is None
            (claimed,) = await other.service._next()
            await other.service._settle(claimed)
            after = await other.service.outcome(TRANSACTION)
            assert after is not None
            assert after.failures == (0, 0x0112)
            assert not await DatabaseReports(database, now=clock).claim("w", 60, 10)
            assert await other.service.outcome("9.9") is None


async def test_only_one_of_several_processes_delivers(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "index.db"
    async with (
        archive_of(1, path=path) as (archive, database),
        open_sqlite_database(path) as second,
        process(archive, database, clock=clock) as one,
        process(archive, second, clock=clock) as two,
    ):
        came: list[str] = []
        async with modality(one, two) as results:
            for number in range(1, 21):
                results.expect(f"{TRANSACTION}.{number}")
            take = results._came.__class__

            class Noting(take):  # type: ignore[misc, valid-type]
                def __setitem__(self, key: str, value: Any) -> None:
                    came.append(key)
                    super().__setitem__(key, value)

            results._came = Noting()
            for number in range(1, 21):
                scp = one if number % 2 else two
                assert await ask(scp.peer, references(1), f"{TRANSACTION}.{number}") == 0
            with trio.fail_after(PATIENCE):
                for number in range(1, 21):
                    await results.wait(f"{TRANSACTION}.{number}")

            async def all_delivered() -> bool:
                rows = await DatabaseCommitments(database).rows()
                return [row.report for row in rows] == ["delivered"] * 20

            await until(all_delivered)
        assert sorted(came) == sorted(f"{TRANSACTION}.{number}" for number in range(1, 21))


async def test_a_claim_that_was_lost_completes_nothing(tmp_path: Path) -> None:
    clock = Clock()
    async with archive_of(1, path=tmp_path / "index.db") as (archive, database):
        commitments = DatabaseCommitments(database, now=clock)
        async with process(archive, database, clock=clock, runs=False) as slow:
            assert await ask(slow.peer, references(1)) == 0
            clock.now += CLAIM_SECONDS
            assert await commitments.claim("other", 60, 1) == [TRANSACTION]
            assert not await commitments.renew(TRANSACTION, slow.reporter.worker, 60)
            await slow.service._settle(TRANSACTION)
            transaction = await commitments.get(TRANSACTION)
            assert transaction is not None
            assert transaction.state is TransactionState.PENDING


async def test_an_index_that_fails_for_a_while_postpones(tmp_path: Path) -> None:
    clock = Clock()
    async with archive_of(1) as (archive, database):
        failures = [StorageError("locked")]
        real = archive.index.get

        async def get(uids: Sequence[str]) -> Any:
            if failures:
                raise failures.pop()
            return await real(uids)

        archive.index.get = get  # type: ignore[method-assign]
        async with process(archive, database, clock=clock) as scp, modality(scp) as results:
            results.expect(TRANSACTION)
            assert await ask(scp.peer, references(1)) == 0

            async def postponed() -> bool:
                return not failures and not scp.service._settling

            await until(postponed)
            assert await DatabaseCommitments(database, now=clock).claim("w", 1, 1) == ()
            clock.now += 60
            scp.service._wanted.set()
            with trio.fail_after(PATIENCE):
                assert (await results.wait(TRANSACTION)).is_complete


async def test_cancelling_between_any_two_steps_loses_nothing(tmp_path: Path) -> None:
    """Whatever await the process ends at, the next one brings the transaction to its end."""
    clock = Clock()
    for steps in range(0, 60, 3):
        path = tmp_path / f"{steps}.db"
        async with archive_of(1, path=path) as (archive, database):
            async with process(archive, database, clock=clock, runs=False) as scp:
                assert await ask(scp.peer, references(1)) == 0
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(scp.service.run)
                        nursery.start_soon(scp.reporter.run)
                        for _ in range(steps):
                            await trio.lowlevel.checkpoint()
                        scope.cancel()
            await database.write(release_stale)
            async with process(archive, database, clock=clock) as scp, modality(scp) as results:
                results.expect(TRANSACTION)
                clock.now += 1e5
                with trio.fail_after(PATIENCE):
                    assert (await results.wait(TRANSACTION)).is_complete
