"""Workitems that completed ones make, on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from pydicom.dataset import Dataset

from isocenter.services.service_classes.ups.follow_ups import FollowUp, follow_up_uid
from isocenter.services.service_classes.ups.rules import (
    workitem_after_action,
    workitem_after_set,
    workitem_of_create,
)
from isocenter.services.service_classes.ups.workitem import Workitem, WorkitemState
from isocenter.storage.database import workitems
from isocenter.storage.stores import Stores, StoresOptions, join_stores
from services.service_classes.ups.samples import LOCK, UID, attributes, performed, scheduled
from storage.databases import open_database

NOW = 1_000.0
READ = FollowUp(
    name="read it", after="AI", label="Read the study", worklist_label="READING", priority="HIGH"
)
REPORT = FollowUp(name="report it", after="READING", label="Report", worklist_label="REPORTS")


@pytest.fixture
async def stores(each_database: str) -> AsyncIterator[Stores]:
    async with open_database() as database:
        options = StoresOptions(now=lambda: NOW, follow_ups=(READ, REPORT))
        yield join_stores(database, options)


async def complete(stores: Stores, uid: str, made: str = "") -> None:
    done = performed()
    done.TransactionUID = LOCK
    if made:
        output = Dataset()
        output.StudyInstanceUID = made
        done.UnifiedProcedureStepPerformedProcedureSequence[0].OutputInformationSequence = [output]

    def begin(workitem: Workitem) -> Sequence[Workitem]:
        return [workitem_after_action(workitem, "IN PROGRESS", LOCK, now=NOW)[0]]

    def end(workitem: Workitem) -> Sequence[Workitem]:
        with_results = workitem_after_set(workitem, attributes(done), now=NOW)
        return [with_results, workitem_after_action(with_results, "COMPLETED", LOCK, now=NOW)[0]]

    await stores.workitems.change(uid, begin)
    await stores.workitems.change(uid, end)


async def test_what_is_completed_is_followed_by_what_a_rule_says(stores: Stores) -> None:
    first = scheduled(PatientName="Müller^Änne", PatientID="P1", StudyInstanceUID=f"{UID}.7")
    first.SpecificCharacterSet = "ISO_IR 192"
    workitem, _ = workitem_of_create(UID, attributes(first), now=NOW)
    await stores.workitems.create(workitem)
    await complete(stores, UID, made=f"{UID}.8")
    reading = await stores.workitems.get(follow_up_uid(READ, UID))
    assert reading is not None
    assert reading.state is WorkitemState.SCHEDULED
    made = reading.attributes.to_dataset()
    assert (made.PatientName, made.PatientID) == ("Müller^Änne", "P1")
    assert (made.ProcedureStepLabel, made.WorklistLabel) == ("Read the study", "READING")
    assert made.ScheduledProcedureStepPriority == "HIGH"
    assert made.StudyInstanceUID == f"{UID}.7"
    assert made.InputInformationSequence[0].StudyInstanceUID == f"{UID}.8"
    # It has made nothing: what follows has its input.
    await complete(stores, reading.sop_instance_uid)
    report = await stores.workitems.get(follow_up_uid(REPORT, reading.sop_instance_uid))
    assert report is not None
    made = report.attributes.to_dataset()
    assert made.InputInformationSequence[0].StudyInstanceUID == f"{UID}.8"
    assert made.ScheduledProcedureStepPriority == "HIGH"
    assert len(await stores.workitems.rows()) == 3


@pytest.mark.parametrize("place", ["follow_ups_of", "workitem_of_create"])
async def test_what_is_completed_is_so_whatever_cannot_follow(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    workitem, _ = workitem_of_create(UID, attributes(scheduled(WorklistLabel="AI")), now=NOW)
    await stores.workitems.create(workitem)

    def fail(*_arguments: object, **_named: object) -> object:
        raise ValueError(place)

    monkeypatch.setattr(workitems, place, fail)
    await complete(stores, UID)
    completed = await stores.workitems.get(UID)
    assert completed is not None
    assert completed.state is WorkitemState.COMPLETED
    assert len(await stores.workitems.rows()) == 1


async def test_what_has_another_label_or_does_not_end_is_followed_by_nothing(
    stores: Stores,
) -> None:
    for number, label in ((1, "OTHER"), (2, "AI")):
        workitem, _ = workitem_of_create(
            f"{UID}.{number}", attributes(scheduled(WorklistLabel=label)), now=NOW
        )
        await stores.workitems.create(workitem)
    await complete(stores, f"{UID}.1")
    assert len(await stores.workitems.rows()) == 2
