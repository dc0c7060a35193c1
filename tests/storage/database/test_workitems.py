"""Contract of the port of workitems, on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import trio
from pydicom.dataset import Dataset

from isocenter.engine.dimse.status import Status
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.ups.events import restarted
from isocenter.services.service_classes.ups.ports import Channel, Subscriber
from isocenter.services.service_classes.ups.query import parse_workitem_keys
from isocenter.services.service_classes.ups.rules import (
    workitem_after_action,
    workitem_after_set,
    workitem_of_create,
)
from isocenter.services.service_classes.ups.workitem import (
    GLOBAL_SUBSCRIPTION,
    UPS_EVENT,
    UpsError,
    Workitem,
    WorkitemState,
)
from isocenter.storage.database import workitem_rows
from isocenter.storage.database import workitem_subscriptions as subscriptions
from isocenter.storage.database.database import Connection
from isocenter.storage.stores import Stores, StoresOptions, join_stores
from services.service_classes.ups.samples import LOCK, UID, attributes, progress, scheduled
from storage.databases import open_database

NOW = 1_000.0


@pytest.fixture
async def stores(each_database: str) -> AsyncIterator[Stores]:
    async with open_database() as database:
        yield join_stores(database, StoresOptions(now=lambda: NOW))


async def create(stores: Stores, number: int = 1, **more: Any) -> Workitem:
    dataset = scheduled(**more)
    workitem, _ = workitem_of_create(f"{UID}.{number}", attributes(dataset), now=NOW + number)
    assert await stores.workitems.create(workitem)
    return workitem


def begin(workitem: Workitem, lock: str = LOCK) -> Sequence[Workitem]:
    return [workitem_after_action(workitem, "IN PROGRESS", lock, now=NOW + 50)[0]]


async def events(stores: Stores, destination: str) -> list[tuple[int, str]]:
    """Type and workitem of the reports that are due; they are delivered."""
    found = await stores.reports.claim("w", 60, 100)
    assert {claimed.report.destination for claimed in found} <= {destination}
    for claimed in found:
        assert claimed.report.sop_class_uid == UPS_EVENT
        await stores.reports.delivered(claimed.number)
    return [(one.report.event_type, one.report.sop_instance_uid) for one in found]


def dimse(ae_title: str, *, has_lock: bool = False) -> Subscriber:
    return Subscriber(ae_title=ae_title, channel=Channel.DIMSE, as_ae_title="US", has_lock=has_lock)


def web(ae_title: str) -> Subscriber:
    return Subscriber(ae_title=ae_title, channel=Channel.WEB, as_ae_title="US")


async def found(stores: Stores, **keys: str) -> list[str]:
    dataset = Dataset()
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    identifier = AttributeList.from_dataset(dataset).encode(EXPLICIT_VR_LITTLE_ENDIAN)
    asked = parse_workitem_keys(identifier, EXPLICIT_VR_LITTLE_ENDIAN)
    async with stores.workitems.find(asked) as blocks:
        return [each.sop_instance_uid async for block in blocks for each in block]


async def test_a_workitem_comes_back_as_it_was_kept(stores: Stores) -> None:
    workitem = await create(stores)
    assert await stores.workitems.get(workitem.sop_instance_uid) == workitem
    assert await stores.workitems.get("1.2.3") is None
    assert not await stores.workitems.create(workitem)
    begun = await stores.workitems.change(workitem.sop_instance_uid, begin)
    assert await stores.workitems.get(workitem.sop_instance_uid) == begun
    assert begun.transaction_uid == LOCK
    with pytest.raises(KeyError):
        await stores.workitems.change("1.2.3", begin)


async def test_of_two_performers_one_has_the_lock(stores: Stores) -> None:
    workitem = await create(stores)
    won: list[str] = []
    lost: list[int] = []

    async def perform(lock: str) -> None:
        try:
            await stores.workitems.change(
                workitem.sop_instance_uid, lambda before: begin(before, lock)
            )
            won.append(lock)
        except UpsError as error:
            lost.append(error.status)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(perform, f"{LOCK}.{number}")
    kept = await stores.workitems.get(workitem.sop_instance_uid)
    assert kept is not None
    assert won == [kept.transaction_uid]
    assert lost == [0xC301] * 7


async def test_a_change_that_is_refused_changes_and_tells_nothing(stores: Stores) -> None:
    workitem = await create(stores)
    await stores.workitems.subscribe(workitem.sop_instance_uid, dimse("ONE"))
    assert await events(stores, "ONE") == [(1, workitem.sop_instance_uid)]

    def refuse(before: Workitem) -> Sequence[Workitem]:
        raise UpsError(0xC300)

    with pytest.raises(UpsError):
        await stores.workitems.change(workitem.sop_instance_uid, refuse)
    assert await stores.workitems.get(workitem.sop_instance_uid) == workitem
    assert await events(stores, "ONE") == []


async def test_searches(stores: Stores) -> None:
    one, two, three = [
        (
            await create(
                stores,
                number,
                ScheduledProcedureStepPriority=priority,
                ScheduledProcedureStepStartDateTime=start,
            )
        ).sop_instance_uid
        for number, priority, start in (
            (1, "HIGH", "20260504120000"),
            (2, "LOW", "20260504100000+0200"),
            (3, "LOW", "20260505"),
        )
    ]
    await stores.workitems.change(three, begin)
    assert await found(stores) == [two, one, three]
    assert await found(stores, ProcedureStepState="SCHEDULED") == [two, one]
    assert await found(stores, ScheduledProcedureStepPriority="LOW") == [two, three]
    assert await found(stores, SOPInstanceUID=one) == [one]
    assert await found(stores, WorklistLabel="A*") == [two, one, three]
    start = "ScheduledProcedureStepStartDateTime"
    assert await found(stores, **{start: "20260504-20260504"}) == [two, one]
    assert await found(stores, **{start: "20260504110000-"}) == [one, three]
    assert await found(stores, **{start: "-202605040800"}) == [two]
    assert await found(stores, **{start: "20260504-202605050000"}) == [two, one, three]
    assert await found(stores, **{start: "2027-2028"}) == []


async def test_subscribers_are_told_in_order_and_only_of_theirs(stores: Stores) -> None:
    one = (await create(stores, 1)).sop_instance_uid
    two = (await create(stores, 2)).sop_instance_uid
    await stores.workitems.subscribe(one, dimse("ONE"))
    await stores.workitems.subscribe(one, dimse("ONE", has_lock=True))
    assert await events(stores, "ONE") == [(1, one)]
    await stores.workitems.subscribe_globally(dimse("ALL"), None)
    with pytest.raises(KeyError):
        await stores.workitems.subscribe("1.2.3", dimse("ONE"))
    await stores.workitems.change(one, begin)
    await stores.workitems.change(
        one, lambda w: [workitem_after_set(w, _locked(progress("5")), now=NOW)]
    )
    await stores.workitems.change(two, begin)
    three = (await create(stores, 3)).sop_instance_uid
    everything = await stores.reports.claim("w", 60, 100)
    told = [
        (each.report.destination, each.report.event_type, each.report.sop_instance_uid)
        for each in everything
    ]
    assert [line[1:] for line in told if line[0] == "ONE"] == [(1, one), (3, one)]
    # How both stood when ALL subscribed, and what came after.
    assert [line[1:] for line in told if line[0] == "ALL"] == [
        (1, one), (1, two), (1, one), (3, one), (1, two), (1, three),
    ]  # fmt: skip
    assert {each.report.calling_ae_title for each in everything} == {"US"}


def _locked(dataset: Dataset) -> AttributeList:
    dataset.TransactionUID = LOCK
    return attributes(dataset)


async def test_a_report_of_a_workitem_waits_for_the_one_before_it(stores: Stores) -> None:
    one = (await create(stores, 1)).sop_instance_uid
    two = (await create(stores, 2)).sop_instance_uid
    for uid in (one, two):
        await stores.workitems.subscribe(uid, dimse("ONE"))
    await stores.workitems.change(one, begin)
    claimed = await stores.reports.claim("w", 60, 100)
    assert [each.report.sop_instance_uid for each in claimed] == [one, two, one]
    # The first has failed, and what was behind it is free again: it has to wait, others have not.
    await stores.reports.failed(claimed[0].number, "no", 30.0)
    await stores.reports.release(claimed[2].number)
    await stores.workitems.change(two, begin)
    await stores.reports.delivered(claimed[1].number)
    again = await stores.reports.claim("w", 60, 100)
    assert [each.report.sop_instance_uid for each in again] == [two]
    await stores.reports.failed(claimed[0].number, "no", None)
    assert [each.number for each in await stores.reports.claim("w", 60, 100)] == [claimed[2].number]


async def test_unsubscribing_and_suspending(stores: Stores) -> None:
    one = (await create(stores, 1)).sop_instance_uid
    await stores.workitems.subscribe_globally(dimse("ALL"), None)
    await stores.workitems.suspend("ALL", Channel.DIMSE)
    two = (await create(stores, 2)).sop_instance_uid
    await stores.workitems.change(one, begin)
    assert await events(stores, "ALL") == [(1, one), (1, one)]
    await stores.workitems.subscribe_globally(dimse("ALL"), None)
    assert await events(stores, "ALL") == [(1, two)]
    await stores.workitems.unsubscribe(two, "ALL", Channel.DIMSE)
    await stores.workitems.change(two, begin)
    assert await events(stores, "ALL") == []
    await stores.workitems.unsubscribe_globally("ALL", Channel.DIMSE)
    await create(stores, 3)
    assert await events(stores, "ALL") == []
    with pytest.raises(KeyError):
        await stores.workitems.unsubscribe("1.2.3", "ALL", Channel.DIMSE)


async def test_a_filtered_subscription_takes_what_comes_to_match(stores: Stores) -> None:
    one = (await create(stores, 1, ScheduledProcedureStepPriority="HIGH")).sop_instance_uid
    two = (await create(stores, 2)).sop_instance_uid
    keys = Dataset()
    keys.ScheduledProcedureStepPriority = "HIGH"
    encoded = attributes(keys).encode(EXPLICIT_VR_LITTLE_ENDIAN)
    await stores.workitems.subscribe_globally(dimse("HIGH"), encoded)
    assert await events(stores, "HIGH") == [(1, one)]
    await create(stores, 3)
    four = (await create(stores, 4, ScheduledProcedureStepPriority="HIGH")).sop_instance_uid
    assert await events(stores, "HIGH") == [(1, four)]
    await stores.workitems.change(two, lambda w: [workitem_after_set(w, attributes(keys), now=NOW)])
    await stores.workitems.change(two, begin)
    assert await events(stores, "HIGH") == [(1, two)]


async def test_events_for_the_web_wait_until_they_were_sent(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = (await create(stores, 1)).sop_instance_uid
    await stores.workitems.subscribe(one, web("PAGE"))
    await stores.workitems.subscribe(one, dimse("PAGE"))
    await stores.workitems.change(one, begin)
    waiting = await stores.workitems.waiting_events("PAGE", "", 10)
    assert [(each.kind, each.sop_instance_uid) for each in waiting] == [(1, one), (1, one)]
    assert await stores.workitems.waiting_events("OTHER", "", 10) == []
    await stores.workitems.sent("PAGE", "", waiting[0].number)
    assert await stores.workitems.waiting_events("PAGE", "", 10) == waiting[1:]
    monkeypatch.setattr(subscriptions, "MOST_WAITING", 2)
    for number in range(5):
        await stores.workitems.change(
            one,
            lambda w, n=number: [workitem_after_set(w, _locked(progress(str(n))), now=NOW)],  # type: ignore[misc]
        )
    waiting = await stores.workitems.waiting_events("PAGE", "", 10)
    assert [each.kind for each in waiting] == [3, 3]
    await stores.workitems.unsubscribe_globally("PAGE", Channel.WEB)
    assert await stores.workitems.waiting_events("PAGE", "", 10) == []


async def test_subscribers_of_the_web_have_a_bound_and_the_known_stay(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "MOST_SUBSCRIBERS", 2)
    one = (await create(stores, 1)).sop_instance_uid
    await stores.workitems.subscribe(one, web("ONE"))
    await stores.workitems.subscribe_globally(web("TWO"), None)
    for subscribing in (
        stores.workitems.subscribe(one, web("THREE")),
        stores.workitems.subscribe_globally(web("THREE"), None),
    ):
        with pytest.raises(UpsError):
            await subscribing
    await stores.workitems.subscribe_globally(web("ONE"), None)
    await stores.workitems.subscribe(one, dimse("THREE"))
    assert await stores.workitems.waiting_events("THREE", "", 10) == []


async def test_an_ae_title_of_the_web_is_its_first_subscribers(stores: Stores) -> None:
    workitems = stores.workitems
    one = (await create(stores, 1)).sop_instance_uid
    hers = Subscriber(ae_title="PAGE", channel=Channel.WEB, as_ae_title="US", owner="user one")
    his = replace(hers, owner="user two")
    await workitems.subscribe(one, hers)
    await workitems.subscribe(one, hers)
    for denied in (
        workitems.subscribe(one, his),
        workitems.subscribe_globally(his, None),
        workitems.unsubscribe(one, "PAGE", Channel.WEB, his.owner),
        workitems.unsubscribe_globally("PAGE", Channel.WEB, his.owner),
        workitems.suspend("PAGE", Channel.WEB, his.owner),
    ):
        with pytest.raises(UpsError) as refused:
            await denied
        assert refused.value.status == Status.NOT_AUTHORIZED
    assert await workitems.may_listen("PAGE", hers.owner)
    assert not await workitems.may_listen("PAGE", his.owner)
    assert await workitems.waiting_events("PAGE", his.owner, 10) == []
    (event,) = await workitems.waiting_events("PAGE", hers.owner, 10)
    await workitems.sent("PAGE", his.owner, event.number)
    assert await workitems.waiting_events("PAGE", hers.owner, 10) == [event]
    # Who may for anybody makes it free, and what waited is nobody's.
    await workitems.unsubscribe_globally("PAGE", Channel.WEB)
    await workitems.subscribe_globally(his, None)
    (event,) = await workitems.waiting_events("PAGE", his.owner, 10)
    assert await workitems.waiting_events("PAGE", hers.owner, 10) == []


async def test_who_subscribed_before_titles_had_owners_is_told_to_do_so_again(
    each_database: str,
) -> None:
    async with open_database() as database:
        stores = join_stores(database, StoresOptions(now=lambda: NOW))
        workitems, one = stores.workitems, (await create(stores, 1)).sop_instance_uid
        hers = replace(web("PAGE"), owner="user one")
        assert await workitems.may_listen("PAGE", hers.owner)
        for uid in (one, GLOBAL_SUBSCRIPTION):
            if uid == one:
                await workitems.subscribe(one, hers)
            else:
                await workitems.subscribe_globally(hers, None)
            await database.write(_forget_owners)
            # Rather than a socket on which nothing ever comes.
            assert not await workitems.may_listen("PAGE", hers.owner)
            await workitems.subscribe(one, hers)
            assert await workitems.may_listen("PAGE", hers.owner)
            await workitems.unsubscribe_globally("PAGE", Channel.WEB, hers.owner)


def _forget_owners(connection: Connection) -> None:
    connection.execute("DELETE FROM workitem_web_subscriber")


async def test_what_a_title_had_before_it_had_an_owner_is_nobodys(each_database: str) -> None:
    """Subscriptions of a version that did not ask whose a title is."""
    async with open_database() as database:
        stores = join_stores(database, StoresOptions(now=lambda: NOW))
        one, two = [(await create(stores, number)).sop_instance_uid for number in (1, 2)]
        await stores.workitems.subscribe_globally(web("PAGE"), None)
        await database.write(
            lambda connection: connection.execute("DELETE FROM workitem_web_subscriber")
        )
        hers = replace(web("PAGE"), owner="user one")
        await stores.workitems.subscribe(two, hers)
        await stores.workitems.change(one, begin)
        told = await stores.workitems.waiting_events("PAGE", hers.owner, 10)
        assert [event.sop_instance_uid for event in told] == [two]


async def test_who_ends_the_last_subscription_gives_the_title_back(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "MOST_SUBSCRIBERS", 1)
    workitems = stores.workitems
    one, two = [(await create(stores, number)).sop_instance_uid for number in (1, 2)]
    hers = replace(web("ONE"), owner="user one")
    his = replace(hers, owner="user two")
    await workitems.subscribe(one, hers)
    await workitems.subscribe(two, hers)
    await workitems.unsubscribe(one, "ONE", Channel.WEB, hers.owner)
    with pytest.raises(UpsError):  # another is left
        await workitems.subscribe(one, web("TWO"))
    await workitems.unsubscribe(two, "ONE", Channel.WEB, hers.owner)
    assert await workitems.waiting_events("ONE", hers.owner, 10) == []
    await workitems.subscribe(one, web("TWO"))
    await workitems.unsubscribe(one, "TWO", Channel.WEB)
    await workitems.subscribe_globally(his, None)
    await workitems.suspend("ONE", Channel.WEB, his.owner)
    with pytest.raises(UpsError):  # what it was subscribed to by that goes on
        await workitems.subscribe(one, hers)
    await workitems.unsubscribe_globally("ONE", Channel.WEB, his.owner)
    await workitems.subscribe(one, hers)


async def test_events_for_whom_nobody_comes_keep_no_title(
    each_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "MOST_SUBSCRIBERS", 1)
    now = [NOW]
    async with open_database() as database:
        stores = join_stores(database, StoresOptions(now=lambda: now[0]))
        one, two = [(await create(stores, number)).sop_instance_uid for number in (1, 2)]
        await stores.workitems.subscribe(one, web("ONE"))
        await database.write(
            lambda connection: connection.execute("DELETE FROM workitem_subscription")
        )
        with pytest.raises(UpsError):  # its last event waits for it
            await stores.workitems.subscribe(two, web("TWO"))
        his = replace(web("ONE"), owner="user two")
        with pytest.raises(UpsError):
            await stores.workitems.subscribe(two, his)
        now[0] += subscriptions.KEPT_SECONDS + 1
        await stores.workitems.subscribe(two, his)
        (event,) = await stores.workitems.waiting_events("ONE", his.owner, 10)
        assert event.sop_instance_uid == two


async def test_a_global_subscription_takes_workitems_block_by_block(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workitem_rows, "BLOCK_ROWS", 2)
    for number in range(1, 5):
        await create(stores, number)
    await stores.workitems.subscribe_globally(web("ALL"), None)
    assert len(await stores.workitems.waiting_events("ALL", "", 10)) == 4
    monkeypatch.setattr(subscriptions, "MOST_WAITING", 3)
    await stores.workitems.subscribe_globally(web("OTHER"), None)
    latest = [
        event.sop_instance_uid for event in await stores.workitems.waiting_events("OTHER", "", 9)
    ]
    assert latest == [f"{UID}.{number}" for number in (2, 3, 4)]


async def test_everybody_hears_of_a_restart_once(stores: Stores) -> None:
    one = (await create(stores, 1)).sop_instance_uid
    two = (await create(stores, 2)).sop_instance_uid
    for uid in (one, two):
        await stores.workitems.subscribe(uid, dimse("ONE"))
    await stores.workitems.subscribe_globally(dimse("ALL"), None)
    for claimed in await stores.reports.claim("w", 60, 100):
        await stores.reports.delivered(claimed.number)
    assert await stores.workitems.tell_all(restarted) == 2
    told = {
        (each.report.destination, each.report.event_type, each.report.sop_instance_uid)
        for each in await stores.reports.claim("w", 60, 100)
    }
    assert told == {("ONE", 4, one), ("ALL", 4, GLOBAL_SUBSCRIPTION)}


async def test_final_ones_are_removed_unless_somebody_has_locked_them(stores: Stores) -> None:
    uids = [(await create(stores, number)).sop_instance_uid for number in (1, 2, 3)]
    await stores.workitems.subscribe(uids[1], dimse("ONE", has_lock=True))
    await stores.workitems.subscribe(uids[0], dimse("ONE"))

    def cancel(before: Workitem) -> Sequence[Workitem]:
        return [replace(before, state=WorkitemState.CANCELED, changed_at=NOW + 60)]

    for uid in uids[:2]:
        await stores.workitems.change(uid, cancel)
    assert await stores.workitems.remove_ended(NOW) == 0
    assert await stores.workitems.remove_ended(NOW + 100) == 1
    assert await stores.workitems.get(uids[0]) is None
    await stores.workitems.unsubscribe(uids[1], "ONE", Channel.DIMSE)
    assert await stores.workitems.remove_ended(NOW + 100) == 1
    rows = await stores.workitems.rows()
    assert [row.sop_instance_uid for row in rows] == [uids[2]]


async def test_rows_say_nothing_of_a_patient(stores: Stores) -> None:
    one = (await create(stores, 1)).sop_instance_uid
    await create(stores, 2)
    await stores.workitems.change(one, begin)
    await stores.workitems.subscribe(one, dimse("ONE"))
    (row,) = await stores.workitems.rows(state=WorkitemState.IN_PROGRESS)
    assert (row.label, row.worklist_label, row.priority) == ("Segment the liver", "AI", "MEDIUM")
    assert row.subscribers == 1
    assert len(await stores.workitems.rows(limit=1)) == 1
