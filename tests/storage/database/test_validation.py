"""Marks of validation, in each database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from isocenter.services.archive.ports import InstanceRecord
from isocenter.services.archive.validation.mark import BrokenRule, RefusedObject, ValidationMark
from isocenter.storage.database import validation
from isocenter.storage.stores import Stores, join_stores
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

STUDY, OTHER = "1.2.1", "1.2.2"


def rule(code: str, severity: str = "error", path: str = "Rows") -> BrokenRule:
    return BrokenRule(code=code, severity=severity, path=path)


def record(
    number: int, *rules: BrokenRule, study: str = STUDY, sender: str = "CT1",
    is_marked: bool = True, digest: str = "0",
) -> InstanceRecord:  # fmt: skip
    mark = ValidationMark(
        sender=sender,
        device="CT ACME X",
        errors=sum(each.severity == "error" for each in rules),
        warnings=sum(each.severity == "warning" for each in rules),
        rules=rules,
    )
    return InstanceRecord(
        sop_instance_uid=f"1.3.{number}",
        sop_class_uid="1.4",
        study_instance_uid=study,
        series_instance_uid=f"{study}.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        object_key=f"k{number}{digest}",
        size=10,
        data_set_offset=1,
        digest=digest,
        validation=mark if is_marked else None,
    )


@asynccontextmanager
async def stores() -> AsyncIterator[Stores]:
    async with open_database() as database:
        yield join_stores(database)


async def test_objects_of_a_study() -> None:
    async with stores() as there:
        assert (await there.validation.of_study(STUDY)).objects == 0
        await there.index.add(
            [
                record(1, rule("A"), rule("W", "warning"), rule("W", "warning", "Columns")),
                record(2, rule("A"), rule("B")),
                record(3),
                record(4, is_marked=False),
                record(5, rule("C"), study=OTHER),
            ]
        )
        found = await there.validation.of_study(STUDY)
    assert (found.objects, found.not_valid) == (3, 2)
    assert list(found.rules) == [("A", 2), ("B", 1), ("W", 1)]


async def test_rules_by_sender_and_device() -> None:
    async with stores() as there:
        await there.index.add(
            [
                record(1, rule("A")),
                record(2, rule("A"), rule("A", path="Columns")),
                record(3, rule("B"), sender="MR1"),
            ]
        )
        book = there.validation
        await book.count()
        found = await book.rules_broken(limit=10)
        assert [(one.sender, one.code, one.objects) for one in found] == [
            ("CT1", "A", 2), ("MR1", "B", 1),
        ]  # fmt: skip
        assert found[0].device == "CT ACME X"
        assert [one.code for one in await book.rules_broken(sender="MR1", limit=10)] == ["B"]
        assert [one.sender for one in await book.rules_broken(code="A", limit=10)] == ["CT1"]
        assert len(await book.rules_broken(limit=1, offset=1)) == 1
        totals = await book.totals()
        assert (totals.objects, totals.not_valid) == (3, 3)


async def test_an_object_that_takes_the_place_of_another_takes_its_mark() -> None:
    async with stores() as there:
        await there.index.add([record(1, rule("A"))])
        await there.index.add([record(1, rule("B"), digest="1")])  # a duplicate: not kept
        assert [code for code, _ in (await there.validation.of_study(STUDY)).rules] == ["A"]
        await there.index.add([record(1, rule("B"), digest="1")], replace=True)
        assert [code for code, _ in (await there.validation.of_study(STUDY)).rules] == ["B"]
        await there.index.add([record(1, is_marked=False, digest="2")], replace=True)
        assert (await there.validation.of_study(STUDY)).objects == 0


async def test_what_has_left_the_index_counts_no_more() -> None:
    async with stores() as there:
        await there.index.add([record(1, rule("A")), record(2)])
        before = await there.validation.totals()
        assert (before.objects, before.not_valid) == (2, 1)  # nobody had counted
        await there.index.remove(["1.3.1"])
        # A page reads no marks: it says as of when it is.
        assert await there.validation.totals() == before
        await there.validation.count()
        after = await there.validation.totals()
        assert (after.objects, after.not_valid) == (1, 0)
        assert after.counted_at >= before.counted_at
        assert not await there.validation.rules_broken(limit=10)


def refused(number: int, sender: str = "CT1", why: str = "CT-TYPE1-MISSING Rows") -> RefusedObject:
    return RefusedObject(
        sop_instance_uid=f"1.3.{number}", sop_class_uid="1.4", sender=sender, device="CT ACME X",
        why=why,
    )  # fmt: skip


async def test_what_was_refused_is_recorded_once_with_how_often() -> None:
    async with stores() as there:
        book = there.validation
        for one in (refused(1), refused(2, "MR1"), refused(1, why="VR Rows")):
            await book.refused(one)
        found = {one.sop_instance_uid: one for one in await book.refusals(limit=10)}
        assert (found["1.3.1"].times, found["1.3.1"].why) == (2, "VR Rows")
        assert found["1.3.1"].first_at <= found["1.3.1"].last_at
        assert [one.sender for one in await book.refusals(sender="MR1", limit=10)] == ["MR1"]
        assert len(await book.refusals(limit=1, offset=1)) == 1


async def test_the_oldest_of_many_refusals_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "MOST_REFUSALS", 3)
    moments = iter(range(100))
    async with open_database() as database:
        book = validation.DatabaseValidation(database, now=lambda: float(next(moments)))
        for number in range(6):
            await book.refused(refused(number))
        found = await book.refusals(limit=10)
        assert [one.sop_instance_uid for one in found] == ["1.3.5", "1.3.4", "1.3.3"]
