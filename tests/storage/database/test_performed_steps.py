"""Contract of the port of performed procedure steps, on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.mpps.performed_step import (
    MPPS_NOTIFICATION,
    PerformedStep,
    StepState,
    step_after_set,
    step_of_create,
)
from isocenter.storage.stores import Stores, StoresOptions, join_stores
from services.service_classes.mpps.samples import UID, begun, ended
from storage.databases import open_database

NOW = 1_000.0


@pytest.fixture
async def stores(each_database: str) -> AsyncIterator[Stores]:
    async with open_database() as database:
        yield join_stores(database, StoresOptions(now=lambda: NOW))


async def create(stores: Stores, number: int = 1, *notify: str) -> PerformedStep:
    attributes = AttributeList.from_dataset(begun())
    step = step_of_create(f"{UID}.{number}", attributes, source_ae_title="CT1", now=NOW + number)
    assert await stores.steps.create(step, notify=notify, as_ae_title="US")
    return step


def encoded(step: PerformedStep) -> bytes:
    return step.attributes.encode(EXPLICIT_VR_LITTLE_ENDIAN)


def end(step: PerformedStep) -> PerformedStep:
    return step_after_set(step, AttributeList.from_dataset(ended()), now=NOW + 100)


async def test_a_step_comes_back_as_it_was_kept(stores: Stores) -> None:
    step = await create(stores)
    assert await stores.steps.get(step.sop_instance_uid) == step
    assert await stores.steps.get("1.2.3") is None


async def test_a_step_is_created_once(stores: Stores) -> None:
    step = await create(stores)
    other = replace(step, source_ae_title="OTHER")
    assert not await stores.steps.create(other, notify=["RIS"], as_ae_title="US")
    assert await stores.steps.get(step.sop_instance_uid) == step
    assert list(await stores.reports.claim("w", 60, 10)) == []


async def test_a_change_takes_the_place_of_the_step(stores: Stores) -> None:
    step = await create(stores)
    after = await stores.steps.change(
        step.sop_instance_uid, end, notify=["RIS", "PACS"], as_ae_title="US"
    )
    assert after.state is StepState.COMPLETED
    kept = await stores.steps.get(step.sop_instance_uid)
    assert kept is not None
    assert (kept.state, kept.changed_at) == (after.state, after.changed_at)
    assert encoded(kept) == encoded(after)
    reports = [each.report for each in await stores.reports.claim("w", 60, 10)]
    assert sorted(each.destination for each in reports) == ["PACS", "RIS"]
    assert {each.sop_class_uid for each in reports} == {MPPS_NOTIFICATION}
    assert {each.sop_instance_uid for each in reports} == {step.sop_instance_uid}


async def test_what_a_change_raises_changes_nothing(stores: Stores) -> None:
    step = await create(stores)

    def refuse(step: PerformedStep) -> PerformedStep:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await stores.steps.change(step.sop_instance_uid, refuse, notify=["RIS"], as_ae_title="US")
    with pytest.raises(KeyError):
        await stores.steps.change("1.2.3", end, notify=["RIS"], as_ae_title="US")
    assert await stores.steps.get(step.sop_instance_uid) == step
    assert list(await stores.reports.claim("w", 60, 10)) == []


async def test_steps_are_listed_newest_first(stores: Stores) -> None:
    for number in (1, 2, 3):
        step = await create(stores, number)
    await stores.steps.change(step.sop_instance_uid, end, notify=(), as_ae_title="US")
    rows = await stores.steps.rows()
    assert [row.sop_instance_uid for row in rows] == [f"{UID}.{n}" for n in (3, 2, 1)]
    assert (rows[0].state, rows[0].series, rows[0].instances, rows[0].arrived) == (
        StepState.COMPLETED, 1, 2, 0,
    )  # fmt: skip
    assert len(await stores.steps.rows(limit=2)) == 2
    (only,) = await stores.steps.rows(state=StepState.COMPLETED)
    assert only == rows[0]
    (study,) = only.studies
    assert list(await stores.steps.rows(study_instance_uid=study)) == list(rows)
    assert list(await stores.steps.rows(study_instance_uid="1.2.3")) == []
    assert list(await stores.steps.rows(sop_instance_uid=f"{UID}.2")) == [rows[1]]
