"""What every database must do for tiers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.ports import InstanceRecord, StoredInstance
from isocenter.services.archive.tiers.ports import TierBook, TierMove, TierOrder, TierPin
from isocenter.services.archive.tiers.tier import Tier, TierRule, key_in, key_within, tier_of
from isocenter.storage.stores import Stores, join_stores
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

NOW = 4_000_000_000.0
DAY = 86_400.0
OLD = TierRule(name="old", tier=Tier.COLD, arrived_days=1)


def record(number: int, study: str = "1.2", modality: str = "CT") -> InstanceRecord:
    return InstanceRecord(
        sop_instance_uid=f"1.9.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        study_instance_uid=study,
        series_instance_uid=f"{study}.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        object_key=f"{study}/{study}.1/1.9.{number}.dcm",
        size=100,
        data_set_offset=10,
        digest=f"{number:064x}",
        attributes={0x00080060: modality, 0x00100020: f"P{study}", 0x00080020: "20200101"},
    )


@asynccontextmanager
async def stores(*records: InstanceRecord) -> AsyncIterator[Stores]:
    async with open_database() as database:
        opened = join_stores(database)
        if records:
            await opened.index.add(records)
        yield opened


async def to_cold(book: TierBook, instances: Sequence[StoredInstance]) -> list[TierMove]:
    moves = [
        TierMove(stored=each, target_key=key_in(Tier.COLD, key_within(each.object_key)))
        for each in instances
    ]
    assert all(await book.begin(moves, "me", 100.0))
    return moves


async def moved(book: TierBook, study: str = "1.2") -> None:
    moves = await to_cold(book, await book.instances(study, Tier.COLD, limit=100))
    assert all(await book.exchange(moves, "me"))
    await book.end([each.stored.sop_instance_uid for each in moves])


async def test_a_study_is_a_candidate_until_all_of_it_has_moved() -> None:
    async with stores(record(1), record(2), record(3, "1.3")) as opened:
        book = opened.tiers
        assert await book.candidates(OLD, NOW, limit=9) == ["1.2", "1.3"]
        assert await book.candidates(OLD, NOW, limit=1) == ["1.2"]
        assert await book.candidates(OLD, 0.0, limit=9) == []
        instances = await book.instances("1.2", Tier.COLD, limit=1)
        assert [each.sop_instance_uid for each in instances] == ["1.9.1"]
        (move,) = await to_cold(book, instances)
        assert await book.exchange([move], "me") == [True]
        await book.end(["1.9.1"])
        assert await book.candidates(OLD, NOW, limit=9) == ["1.2", "1.3"]
        await moved(book)
        assert await book.candidates(OLD, NOW, limit=9) == ["1.3"]
        usage = [(each.tier, each.instances, each.size) for each in await book.usage()]
        assert usage == [(Tier.HOT, 1, 100), (Tier.COLD, 2, 200)]
        # A rule for the warm tier does not take it out of the cold one.
        warm = replace(OLD, tier=Tier.WARM)
        assert await book.candidates(warm, NOW, limit=9) == ["1.3"]
        assert len(await book.instances("1.2", Tier.HOT, limit=9)) == 2


async def test_rules_look_at_age_modality_size_state_and_use() -> None:
    async with stores(record(1), record(2, "1.3", "US")) as opened:
        book = opened.tiers

        async def found(**options: object) -> Sequence[str]:
            return await book.candidates(replace(OLD, **options), NOW, limit=9)  # type: ignore[arg-type]

        assert await found(modalities=("US",)) == ["1.3"]
        assert await found(study_days=30, arrived_days=0) == ["1.2", "1.3"]
        assert await found(least_size=101) == []
        assert await found(least_size=100, is_complete=True) == ["1.2", "1.3"]
        await opened.retention.note_use([], NOW - 60 * DAY)
        await opened.retention.note_use(["1.2"], NOW - 20 * DAY)
        await opened.retention.note_use(["1.3"], NOW - 3 * DAY)
        assert await found(unused_days=30) == []
        assert await found(unused_days=10) == ["1.2"]
        # What was used this week stays, whatever the rule says.
        assert await found() == ["1.2"]


async def test_two_do_not_move_one_object() -> None:
    async with stores(record(1)) as opened:
        book = opened.tiers
        (move,) = await to_cold(book, await book.instances("1.2", Tier.COLD, limit=9))
        assert await book.begin([move], "another", 100.0) == [False]
        assert await book.instances("1.2", Tier.COLD, limit=9) == []
        assert await book.exchange([move], "another") == [False]
        assert await book.exchange([move], "me") == [True]
        assert await book.exchange([move], "me") == [False]


async def test_what_was_replaced_meanwhile_does_not_move() -> None:
    async with stores(record(1)) as opened:
        book = opened.tiers
        (move,) = await to_cold(book, await book.instances("1.2", Tier.COLD, limit=9))
        await opened.index.add(
            [replace(record(1), object_key="1.2/other.dcm", digest="f" * 64)], replace=True
        )
        assert await book.exchange([move], "me") == [False]
        (left,) = await book.superfluous("me", ["1.9.1"])
        assert left.gone_key == move.target_key
        assert (await opened.index.get(["1.9.1"]))["1.9.1"].object_key == "1.2/other.dcm"


async def test_what_a_process_left_is_taken_over_when_its_time_is_over() -> None:
    async with stores(record(1), record(2)) as opened:
        book = opened.tiers
        moves = await to_cold(book, await book.instances("1.2", Tier.COLD, limit=9))
        assert await book.exchange(moves[:1], "me") == [True]
        assert await book.unfinished("another", 100.0) == []
        # No time is left to it.
        await book.renew("me", -1.0)
        left = {each.sop_instance_uid: each.gone_key for each in
                await book.unfinished("another", 100.0)}  # fmt: skip
        assert left == {
            "1.9.1": moves[0].stored.object_key,
            "1.9.2": moves[1].target_key,
        }
        # Whoever wakes up then does nothing.
        assert await book.exchange(moves[1:], "me") == [False]
        assert await book.superfluous("me", ["1.9.2"]) == []
        await book.end(list(left))
        assert await book.unfinished("another", 100.0) == []


async def test_what_cannot_move_is_left_for_a_day_and_named() -> None:
    async with stores(record(1)) as opened:
        book = opened.tiers
        (move,) = await to_cold(book, await book.instances("1.2", Tier.COLD, limit=9))
        await book.failed(move, "it is damaged")
        assert await book.instances("1.2", Tier.COLD, limit=9) == []
        assert await book.candidates(OLD, 2_000_000_000.0, limit=9) == ["1.2"]
        (fault,) = await book.faults(limit=9)
        assert (fault.sop_instance_uid, fault.fault) == ("1.9.1", "it is damaged")
        await book.end(["1.9.1"])
        assert len(await book.faults(limit=9)) == 1
        # It may be tried again by hand, and then it is no fault any more.
        assert await book.begin([move], "me", 100.0) == [True]
        assert await book.faults(limit=9) == []


async def test_pins_keep_rules_away() -> None:
    async with stores(record(1)) as opened:
        book = opened.tiers
        pin = TierPin(study_instance_uid="1.2", tier=Tier.HOT, actor="me", reason="x", at=1.0)
        await book.pin(pin)
        await book.pin(replace(pin, reason="y"))
        assert await book.pins() == [replace(pin, reason="y")]
        assert await book.candidates(OLD, NOW, limit=9) == []
        assert await book.unpin("1.2")
        assert not await book.unpin("1.2")
        assert await book.candidates(OLD, NOW, limit=9) == ["1.2"]


async def test_an_order_that_was_changed_meanwhile_is_not_fulfilled() -> None:
    async with stores() as opened:
        book = opened.tiers
        order = TierOrder(study_instance_uid="1.2", tier=Tier.COLD, actor="me", at=1.0)
        await book.order([order])
        assert await book.orders(limit=9) == [order]
        await book.order([replace(order, tier=Tier.HOT)])
        await book.fulfilled(order)
        assert [each.tier for each in await book.orders(limit=9)] == [Tier.HOT]


async def test_tiers_of_what_a_query_found() -> None:
    async with stores(record(1), record(2), record(3, "1.3")) as opened:
        book = opened.tiers
        moves = await to_cold(book, (await book.instances("1.2", Tier.COLD, limit=1)))
        await book.exchange(moves, "me")
        hot: frozenset[Tier] = frozenset()
        assert await book.tiers_of(Level.STUDY, [("P", "1.3"), ("P", "1.2")]) == [hot, {Tier.COLD}]
        assert await book.tiers_of(Level.PATIENT, [("P1.3",), ("P1.2",)]) == [hot, {Tier.COLD}]
        series = [("P", "1.2", "1.2.1"), ("P", "1.3", "1.2.1"), ("P", "1.3", "1.3.1")]
        assert await book.tiers_of(Level.SERIES, series) == [{Tier.COLD}, hot, hot]
        images = [("P", "1.2", "1.2.1", f"1.9.{number}") for number in (2, 1)]
        assert await book.tiers_of(Level.IMAGE, images) == [hot, {Tier.COLD}]
        assert await book.studies_in(Tier.COLD, after="", limit=9) == ["1.2"]
        assert await book.studies_in(Tier.COLD, after="1.2", limit=9) == []


def test_keys_name_their_tiers(tmp_path: Path) -> None:
    assert tier_of("1.2/3.dcm") is Tier.HOT
    assert tier_of("~cold/1.2/3.dcm") is Tier.COLD
    assert tier_of("~other/1.2/3.dcm") is Tier.HOT
    for tier in Tier:
        assert tier_of(key_in(tier, "1.2/3.dcm")) is tier
        assert key_within(key_in(tier, "1.2/3.dcm")) == "1.2/3.dcm"
