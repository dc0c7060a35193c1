"""Workitems of orders: made, told and withdrawn with their entry, on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from isocenter.engine.dataset import Element
from isocenter.services.dicom.attribute_list import SPECIFIC_CHARACTER_SET, AttributeList
from isocenter.services.service_classes.ups.orders import workitem_uid
from isocenter.services.service_classes.ups.ports import Channel, Subscriber
from isocenter.services.service_classes.ups.rules import workitem_after_action
from isocenter.services.service_classes.ups.workitem import LABEL, Workitem, WorkitemState
from isocenter.services.service_classes.worklist.entry import (
    SCHEDULED_STEPS,
    EntryState,
    parse_entry,
)
from isocenter.storage.database import ordered_workitems
from isocenter.storage.stores import Stores, StoresOptions, join_stores
from services.service_classes.ups.samples import LOCK
from services.service_classes.worklist.samples import entry
from storage.databases import open_database

NOW = 1_000.0


@pytest.fixture
async def stores(each_database: str) -> AsyncIterator[Stores]:
    async with open_database() as database:
        options = StoresOptions(now=lambda: NOW, orders_of=("CT",))
        yield join_stores(database, options)


async def workitem_of(stores: Stores, number: int = 1) -> Workitem | None:
    stored = await stores.worklist.get(entry(number).key)
    assert stored is not None
    return await stores.workitems.get(workitem_uid(stored.entry, stored.number))


async def test_an_order_becomes_a_workitem(stores: Stores) -> None:
    everybody = Subscriber(ae_title="AI", channel=Channel.WEB, as_ae_title="US")
    await stores.workitems.subscribe_globally(everybody, None)
    await stores.worklist.put([entry(1), entry(2, modality="MR")], source="test")
    workitem = await workitem_of(stores)
    assert workitem is not None
    assert workitem.state is WorkitemState.SCHEDULED
    made = workitem.attributes.to_dataset()
    assert (made.PatientID, made.PatientName, made.WorklistLabel) == ("PAT1", "DOE^JANE", "CT")
    assert made.ScheduledProcedureStepStartDateTime == "20261124093000"
    assert made.ReferencedRequestSequence[0].AccessionNumber == "A1"
    assert made.ScheduledWorkitemCodeSequence[0].CodeValue == "CHEST1"
    assert await workitem_of(stores, 2) is None
    told = await stores.workitems.waiting_events("AI", "", 10)
    assert [one.sop_instance_uid for one in told] == [workitem.sop_instance_uid]
    # The same order again is the same workitem.
    await stores.worklist.put([entry(1, patient_name="ROE^JANE")], source="test")
    assert len(await stores.workitems.rows()) == 1


async def test_a_workitem_that_nobody_has_begun_changes_with_its_order(stores: Stores) -> None:
    await stores.worklist.put([entry(1)], source="test")
    workitem = await workitem_of(stores)
    assert workitem is not None
    uid = workitem.sop_instance_uid
    label = Element(LABEL, "LO", b"By hand ")

    def labelled(before: Workitem) -> Sequence[Workitem]:
        return [
            replace(before, attributes=before.attributes.updated(AttributeList({LABEL: label})))
        ]

    await stores.workitems.change(uid, labelled)
    await stores.worklist.put([entry(1, patient_name="RÖE^JANE")], source="test")
    changed = await stores.workitems.get(uid)
    assert changed is not None
    made = changed.attributes.to_dataset()
    assert (made.PatientName, made.PatientID) == ("RÖE^JANE", "PAT1")
    assert made.ProcedureStepLabel == "By hand"  # the order says the same of that as before
    await stores.worklist.put([entry(1, modality="MR")], source="test")
    gone = await stores.workitems.get(uid)
    assert gone is not None
    assert gone.state is WorkitemState.CANCELED


async def test_an_order_that_is_given_to_a_modality_becomes_a_workitem(stores: Stores) -> None:
    await stores.worklist.put([entry(1, modality="MR")], source="test")
    assert await workitem_of(stores) is None
    await stores.worklist.put([entry(1)], source="test")
    assert await workitem_of(stores) is not None


async def test_an_order_that_comes_back_becomes_another_workitem(stores: Stores) -> None:
    """One that is cancelled stays so."""
    await stores.worklist.put([entry(1)], source="test")
    for turn in (1, 2):
        if turn == 1:
            await stores.worklist.put([entry(1, modality="MR")], source="test")
            await stores.worklist.put([entry(1)], source="test")
        else:
            await stores.worklist.set_state(entry(1).key, EntryState.DISCONTINUED)
            await stores.worklist.set_state(entry(1).key, EntryState.SCHEDULED)
        stored = await stores.worklist.get(entry(1).key)
        assert stored is not None
        found = [
            await stores.workitems.get(workitem_uid(stored.entry, stored.number, one))
            for one in range(turn + 2)
        ]
        states = [None if one is None else one.state for one in found]
        ended = [WorkitemState.CANCELED] * turn
        assert states == [*ended, WorkitemState.SCHEDULED, None]
    # It is the last one that follows the order, also where those before were forgotten.
    await stores.worklist.put([entry(1, patient_name="ROE^JANE")], source="test")
    await stores.workitems.remove_ended(NOW + 1)
    await stores.worklist.put([entry(1, patient_name="POE^JANE")], source="test")
    (row,) = await stores.workitems.rows()
    last = await stores.workitems.get(row.sop_instance_uid)
    assert last is not None
    assert last.attributes.to_dataset().PatientName == "POE^JANE"
    await stores.worklist.remove([entry(1).key])
    (row,) = await stores.workitems.rows()
    assert row.state is WorkitemState.CANCELED


async def test_who_withdraws_an_order_withdraws_its_workitem(stores: Stores) -> None:
    await stores.worklist.put([entry(1), entry(3)], source="test")
    first, third = await workitem_of(stores), await workitem_of(stores, 3)
    assert first is not None
    assert third is not None
    await stores.worklist.remove([entry(1).key])
    await stores.worklist.set_state(entry(3).key, EntryState.DISCONTINUED)
    for each in (first, third):
        found = await stores.workitems.get(each.sop_instance_uid)
        assert found is not None
        assert found.state is WorkitemState.CANCELED
    # Whoever orders it once more orders another one.
    await stores.worklist.put([entry(1)], source="test")
    again = await workitem_of(stores)
    assert again is not None
    assert again.sop_instance_uid != first.sop_instance_uid


async def test_what_somebody_performs_is_left_to_its_performer(stores: Stores) -> None:
    await stores.worklist.put([entry(1)], source="test")
    workitem = await workitem_of(stores)
    assert workitem is not None

    def begin(before: Workitem) -> Sequence[Workitem]:
        return [workitem_after_action(before, "IN PROGRESS", LOCK, now=NOW)[0]]

    await stores.workitems.change(workitem.sop_instance_uid, begin)
    await stores.worklist.put([entry(1, patient_name="ROE^JANE")], source="test")
    untouched = await stores.workitems.get(workitem.sop_instance_uid)
    assert untouched is not None
    assert untouched.attributes.to_dataset().PatientName == "DOE^JANE"
    await stores.worklist.remove([entry(1).key])
    found = await stores.workitems.get(workitem.sop_instance_uid)
    assert found is not None
    assert found.state is WorkitemState.IN_PROGRESS


async def test_an_order_in_any_script_becomes_a_workitem(stores: Stores) -> None:
    await stores.worklist.put([entry(1, procedure_desc="頭部 Größe")], source="test")
    workitem = await workitem_of(stores)
    assert workitem is not None
    assert workitem.attributes.to_dataset().ProcedureStepLabel == "頭部 Größe"


async def test_an_order_in_a_character_set_that_it_does_not_name(stores: Stores) -> None:
    known = dict(entry(1).attributes.elements)
    step = dict(entry(1).step)
    step[0x00400007] = Element(0x00400007, "LO", b"Sch\xe4del ")
    known[SCHEDULED_STEPS] = Element(SCHEDULED_STEPS, "SQ", (step,))
    known.pop(SPECIFIC_CHARACTER_SET, None)
    order = parse_entry(AttributeList(known), "the entry")
    await stores.worklist.put([order], source="test")
    workitem = await workitem_of(stores)
    assert workitem is not None
    assert workitem.attributes.elements[LABEL].value == b"Sch\xe4del "
    assert [row.label for row in await stores.workitems.rows()] == ["Schädel"]


async def test_an_order_stays_one_whatever_making_its_workitem_does(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ordered_workitems, "attributes_of_order", broken)
    await stores.worklist.put([entry(1)], source="test")
    assert await stores.worklist.get(entry(1).key) is not None
    assert await workitem_of(stores) is None


async def test_an_order_is_withdrawn_whatever_cancelling_its_workitem_does(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    await stores.worklist.put([entry(1)], source="test")
    before = await workitem_of(stores)
    assert before is not None
    monkeypatch.setattr(ordered_workitems, "cancelled_before_begun", broken)
    await stores.worklist.remove([entry(1).key])
    assert await stores.worklist.get(entry(1).key) is None
    left = await stores.workitems.get(before.sop_instance_uid)
    assert left is not None
    assert left.state is WorkitemState.SCHEDULED
