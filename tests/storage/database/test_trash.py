"""Contract of the port that keeps records of deleted objects, on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from isocenter.services.archive.deletion.ports import (
    DeletionRecord,
    DeletionRefusedError,
    StudyHold,
    TrashChoice,
    TrashState,
)
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.orders import CompressionOrder, Route
from isocenter.services.archive.ports import AddOutcome, InstanceRecord, StoredInstance
from isocenter.services.concurrency import Backoff
from isocenter.services.service_classes.commitment.transaction import Reference
from isocenter.services.workflow.events.ports import EventSelection
from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.storage.stores import Stores, StoresOptions, join_stores
from storage.databases import open_database

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY = "1.1"


def uid(number: int) -> str:
    return f"{STUDY}.1.{number}"


def record(number: int) -> InstanceRecord:
    return InstanceRecord(
        sop_instance_uid=uid(number),
        sop_class_uid=CT,
        study_instance_uid=STUDY,
        series_instance_uid=f"{STUDY}.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        object_key=f"{number}.dcm",
        size=100,
        data_set_offset=10,
        digest="0" * 64,
        attributes={0x00100020: "P1", 0x00100010: "Zenobia^Wanda", 0x00080060: "CT"},
    )


def deletion(name: str = "d1", *, purge_at: float = 500.0) -> DeletionRecord:
    return DeletionRecord(
        deletion_id=name,
        cause=DeletionCause.REQUESTED,
        at=100.0,
        purge_at=purge_at,
        actor="someone",
        reason="asked to",
    )


@pytest.fixture
async def stores(each_database: str) -> AsyncIterator[Stores]:
    options = StoresOptions(completion=CompletionRules(), now=lambda: 1_000.0)
    async with open_database() as database:
        stores = join_stores(database, options)
        await stores.index.add([record(number) for number in (1, 2, 3)])
        yield stores


async def known(stores: Stores, *numbers: int) -> list[StoredInstance]:
    found = await stores.index.get([uid(number) for number in numbers])
    return [found[uid(number)] for number in numbers if uid(number) in found]


async def take(stores: Stores, *numbers: int, name: str = "d1", overrule: bool = False) -> int:
    return await stores.trash.take(deletion(name), await known(stores, *numbers), overrule=overrule)


async def kept(stores: Stores, *numbers: int) -> Sequence[int]:
    """Take them, and have them kept; the numbers of their records."""
    await take(stores, *numbers)
    records = await stores.trash.unfinished(10)
    await stores.trash.settle([each.number for each in records])
    return [each.number for each in records]


async def test_what_is_taken_leaves_the_index_and_is_on_its_way(stores: Stores) -> None:
    assert await take(stores, 1, 2) == 2
    assert [each.sop_instance_uid for each in await known(stores, 1, 2, 3)] == [uid(3)]
    found = await stores.trash.unfinished(10)
    assert [each.stored.sop_instance_uid for each in found] == [uid(1), uid(2)]
    first = found[0]
    assert (first.state, first.remaining, first.deletion_id) == (TrashState.LEAVING, 1, "d1")
    assert (first.patient_id, first.actor, first.reason) == ("P1", "someone", "asked to")
    assert len(await stores.trash.unfinished(1)) == 1
    (told,) = [
        each
        for each in await stores.event_log.events(EventSelection(after=0))
        if each.kind == "instances.deleted"
    ]
    assert told.study_instance_uid == STUDY
    assert await stores.index.check() == []


async def test_what_has_changed_is_left_out(stores: Stores) -> None:
    planned = await known(stores, 1, 2)
    await stores.index.remove([uid(1)])
    assert await stores.trash.take(deletion(), planned, overrule=False) == 1
    assert await stores.trash.take(deletion("d2"), planned, overrule=False) == 0


async def test_what_is_held_or_promised_stays(stores: Stores) -> None:
    await stores.commitments.begin(
        transaction_uid="2.25.1",
        requester="CT1",
        called_ae_title="US",
        references=[Reference(CT, uid(1))],
        worker="w",
        seconds=60,
    )
    obstacles = await stores.trash.obstacles(await known(stores, 1, 2))
    assert (obstacles.asked, obstacles.held, obstacles.queued) == (1, 0, 0)
    with pytest.raises(DeletionRefusedError):
        await take(stores, 1, overrule=True)
    hold = StudyHold(study_instance_uid=STUDY, reason="court", actor="someone", at=1.0)
    assert await stores.holds.add(hold)
    assert not await stores.holds.add(hold)
    with pytest.raises(DeletionRefusedError) as refused:
        await take(stores, 2, 3, overrule=True)
    assert refused.value.obstacles.held == 2
    assert len(await known(stores, 1, 2, 3)) == 3
    assert list(await stores.holds.all()) == [hold]
    assert await stores.holds.remove(STUDY)
    assert await take(stores, 2, 3) == 2


async def test_what_is_kept_is_chosen_and_purged(stores: Stores) -> None:
    first, second = await kept(stores, 1, 2)
    chosen = await stores.trash.chosen(TrashChoice(), limit=10)
    assert [each.number for each in chosen] == [first, second]
    behind = await stores.trash.chosen(TrashChoice(), after=first, limit=10)
    assert [each.number for each in behind] == [second]
    one = TrashChoice(sop_instance_uids=(uid(2),), study_instance_uids=(STUDY,))
    assert [each.number for each in await stores.trash.chosen(one, limit=10)] == [second]
    assert await stores.trash.chosen(TrashChoice(expired_at=499.0), limit=10) == []
    assert len(await stores.trash.chosen(TrashChoice(expired_at=500.0), limit=10)) == 2
    await stores.trash.purge([first], "purger")
    (going,) = await stores.trash.unfinished(10)
    assert (going.state, going.actor) == (TrashState.PURGING, "purger")
    assert await stores.trash.forget([first]) == []
    assert list(await stores.trash.forget([second])) == ["d1"]


async def test_what_returns_is_known_again(stores: Stores) -> None:
    first, second = await kept(stores, 1, 2)
    await stores.trash.begin_return({first: "a.dcm", second: "b.dcm"}, "someone")
    found = await stores.trash.unfinished(10)
    assert [(each.state, each.target_key) for each in found] == [
        (TrashState.RETURNING, "a.dcm"), (TrashState.RETURNING, "b.dcm"),
    ]  # fmt: skip
    # Another object came meanwhile under the name of the second.
    await stores.index.add([record(2)])
    returned = await stores.trash.give_back({first: record(1), second: record(2)})
    assert list(returned) == [first]
    assert len(await known(stores, 1, 2, 3)) == 3
    states = {each.number: each.state for each in await stores.trash.unfinished(10)}
    assert states == {first: TrashState.RETURNED, second: TrashState.RETURNING}


async def test_what_only_the_files_know_is_adopted(stores: Stores) -> None:
    assert await stores.trash.adopt(deletion("d9"), [record(7), record(8)]) == 2
    assert await stores.trash.adopt(deletion("d9"), [record(8), record(9)]) == 1
    (row,) = await stores.trash.rows()
    assert (row.deletion, row.studies, row.series, row.instances, row.size) == (
        deletion("d9"), 1, 1, 3, 300,
    )  # fmt: skip
    statistics = await stores.trash.statistics()
    assert (statistics.instances, statistics.size, statistics.deleted) == (3, 300, 3)


async def test_what_a_rule_quarantines_is_in_the_trash_and_in_no_index(stores: Stores) -> None:
    doubtful = replace(record(8), quarantine="no Patient ID")
    results = await stores.index.add([record(9), doubtful])
    assert [each.outcome for each in results] == [AddOutcome.ADDED, AddOutcome.QUARANTINED]
    assert list(await stores.index.get([uid(8), uid(9)])) == [uid(9)]
    (row,) = await stores.trash.unfinished(9)
    assert (row.state, row.cause, row.reason, row.actor) == (
        TrashState.LEAVING, DeletionCause.QUARANTINED, "no Patient ID", "",
    )  # fmt: skip
    (again,) = await stores.index.add([record(8)])
    assert again.outcome is AddOutcome.ALREADY_QUARANTINED
    await stores.trash.settle([row.number])
    choice = TrashChoice(causes=(DeletionCause.QUARANTINED,))
    assert [one.number for one in await stores.trash.chosen(choice, limit=9)] == [row.number]
    assert not await stores.trash.chosen(TrashChoice(), limit=9)
    assert (await stores.trash.statistics()).quarantined == 1
    await stores.trash.begin_return({row.number: "8.dcm"}, "someone")
    assert await stores.trash.give_back({row.number: record(8)}) == [row.number]
    events = await stores.event_log.events(EventSelection())
    kinds = [each.kind for each in sorted(events, key=lambda each: each.number)]
    assert kinds.count("instances.deleted") == 1
    # What was withheld when it came is told now as coming.
    assert kinds[-1] == "instance.stored"
    assert "instances.restored" not in kinds


async def test_what_is_withheld_for_long_is_tried_as_long_as_others_when_it_is_released(
    each_database: str,
) -> None:
    """Nothing can be done about it meanwhile, so no time for it passes."""
    clock = [0.0]
    backoff = Backoff(first_seconds=10, longest_seconds=10, give_up_after_seconds=100)
    order = CompressionOrder(transfer_syntax_uid="1.2.840.10008.1.2.4.80", rule="r")
    doubtful = replace(
        record(8),
        quarantine="no Patient ID",
        routes=(Route(destination="A", rule="r"),),
        compression=order,
    )
    async with open_database() as database:
        stores = join_stores(database, StoresOptions(now=lambda: clock[0]))
        await stores.index.add([doubtful])
        (row,) = await stores.trash.unfinished(9)
        await stores.trash.settle([row.number])
        clock[0] = 1_000.0
        # Its destination is away.
        assert await stores.forwards.destination_failed("A", "no route", backoff) == (10.0, 0)
        await stores.trash.begin_return({row.number: "8.dcm"}, "someone")
        assert await stores.trash.give_back({row.number: record(8)}) == [row.number]
        (job,) = await stores.compressions.due(9)
        assert await stores.compressions.failed(job, "no room", backoff)
        assert await stores.forwards.destination_failed("A", "no route", backoff) == (10.0, 0)
        clock[0] += 20
        (waiting,) = await stores.forwards.take("A", 9)
        assert waiting.since == 1_000.0
        clock[0] += 100
        assert await stores.forwards.destination_failed("A", "no route", backoff) == (10.0, 1)


async def test_what_was_quarantined_by_hand_is_told_as_restored(stores: Stores) -> None:
    await stores.index.add([record(1)])
    withheld = replace(deletion(), cause=DeletionCause.QUARANTINED)
    assert await stores.trash.take(withheld, [record(1)], overrule=False) == 1
    (row,) = await stores.trash.unfinished(9)
    await stores.trash.settle([row.number])
    deleted = replace(deletion(), cause=DeletionCause.REQUESTED, reason="no use")
    assert await stores.trash.discard(deleted) == 1
    (row,) = await stores.trash.unfinished(9)
    assert (row.state, row.cause, row.reason) == (
        TrashState.LEAVING, DeletionCause.REQUESTED, "no use",
    )  # fmt: skip
    assert await stores.trash.discard(deleted) == 0
