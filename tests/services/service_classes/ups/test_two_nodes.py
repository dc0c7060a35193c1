"""Workitems on two processes of one archive: two nodes on PostgreSQL, two workers on SQLite."""

from __future__ import annotations

from collections import defaultdict

import pytest
import trio
import trio.testing

from isocenter.engine.dimse.message_codec import response_to
from isocenter.engine.dimse.messages import NEventReportRequest
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import Offer
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.association.operation import Operation
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.ups.manager import WorkitemManager
from isocenter.services.service_classes.ups.ports import Channel, Subscriber
from isocenter.services.service_classes.ups.workitem import (
    GLOBAL_SUBSCRIPTION,
    STATE,
    TRANSACTION_UID,
    UPS_EVENT,
    UPS_PUSH,
    UpsError,
    UpsStatus,
    WorkitemState,
    element,
)
from services.service_classes.ups.samples import (
    LOCK,
    UID,
    attributes,
    performed,
    progress,
    scheduled,
)
from services.workflow.test_two_nodes import PATIENCE, Nodes, nodes, place
from support.serving import port_of, serving

__all__ = ["place"]

WORKITEMS = [f"{UID}.{number}" for number in range(6)]
#: Event Type IDs of one workitem: it is there, begun, has come further, is completed.
STATE_REPORT, PROGRESS_REPORT = 1, 3
TOLD = [STATE_REPORT, STATE_REPORT, PROGRESS_REPORT, PROGRESS_REPORT, STATE_REPORT]


class Listener:
    """A subscriber; it hears by N-EVENT-REPORT."""

    name = "subscriber"

    def __init__(self) -> None:
        self.heard: defaultdict[str, list[int]] = defaultdict(list)

    def offer(self, abstract_syntax: str) -> Offer | None:
        offer = Offer(
            transfer_syntaxes=(EXPLICIT_VR_LITTLE_ENDIAN,),
            scu_role=True,
            scp_role=True,
            members=frozenset({UPS_PUSH}),
        )
        return offer if abstract_syntax == UPS_EVENT else None

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        assert isinstance(request, NEventReportRequest)
        async for _ in operation.fragments():
            pass
        self.heard[request.affected_sop_instance_uid].append(request.event_type_id)
        await operation.respond(response_to(request, 0x0000))


def wanted(state: str, lock: str) -> AttributeList:
    found = [element(STATE, "CS", state), element(TRANSACTION_UID, "UI", lock)]
    return AttributeList({one.tag: one for one in found})


def managers(here: Nodes) -> tuple[WorkitemManager, WorkitemManager]:
    one, other = here.one.workflow.workitems, here.other.workflow.workitems
    assert one is not None
    assert other is not None
    return one, other


async def test_one_performs_and_each_event_is_told_once(
    place: dict[str, dict[str, object]],
) -> None:
    listener = Listener()
    won: defaultdict[str, list[str]] = defaultdict(list)
    refused: list[int] = []

    async def begin(manager: WorkitemManager, uid: str, lock: str) -> None:
        try:
            await manager.change_state(uid, wanted("IN PROGRESS", lock))
        except UpsError as error:
            refused.append(error.status)
        else:
            won[uid].append(lock)

    async with (
        serving(listener) as server,
        nodes(place, "[]", f"SUB@127.0.0.1:{port_of(server)}") as here,
    ):
        one, other = managers(here)
        subscriber = Subscriber(ae_title="SUB", channel=Channel.DIMSE, as_ae_title="US")
        await one.subscribe(GLOBAL_SUBSCRIPTION, subscriber, AttributeList({}))
        for number, uid in enumerate(WORKITEMS):
            creator = one if number % 2 else other
            await creator.create(uid, attributes(scheduled()), limits=DEFAULT_LIMITS)
        async with trio.open_nursery() as nursery:
            for uid in WORKITEMS:
                for number, manager in enumerate((one, other, one, other)):
                    nursery.start_soon(begin, manager, uid, f"{LOCK}.{number}")
        assert {uid: len(locks) for uid, locks in won.items()} == dict.fromkeys(WORKITEMS, 1)
        assert refused == [UpsStatus.WRONG_TRANSACTION] * 3 * len(WORKITEMS)
        for uid in WORKITEMS:
            # Whoever performs may be sent to another node with each message.
            (lock,) = won[uid]
            for manager, percent in ((other, "10"), (one, "50")):
                changes = progress(percent)
                changes.TransactionUID = lock
                await manager.change(uid, attributes(changes), limits=DEFAULT_LIMITS)
            last = performed()
            last.TransactionUID = lock
            await one.change(uid, attributes(last), limits=DEFAULT_LIMITS)
            await other.change_state(uid, wanted("COMPLETED", lock))
            found = await one.get(uid)
            assert found is not None
            assert found.state is WorkitemState.COMPLETED
        with trio.fail_after(PATIENCE):
            while sum(len(listener.heard[uid]) for uid in WORKITEMS) < len(TOLD) * len(WORKITEMS):
                await trio.testing.wait_all_tasks_blocked(0.01)
        await trio.testing.wait_all_tasks_blocked(0.05)
    # Whether it subscribed before the start of the archive was told is a matter of time.
    assert listener.heard.pop(GLOBAL_SUBSCRIPTION, [4]) == [4]
    assert dict(listener.heard) == dict.fromkeys(WORKITEMS, TOLD)


@pytest.mark.parametrize("attempt", range(3))
async def test_what_is_completed_is_changed_by_nobody_any_more(
    place: dict[str, dict[str, object]], attempt: int
) -> None:
    done: list[str] = []
    refused: list[int] = []
    async with nodes(place) as here:
        one, other = managers(here)
        await one.create(UID, attributes(scheduled()), limits=DEFAULT_LIMITS)
        await one.change_state(UID, wanted("IN PROGRESS", LOCK))
        last = performed()
        last.TransactionUID = LOCK
        await other.change(UID, attributes(last), limits=DEFAULT_LIMITS)

        async def complete() -> None:
            await one.change_state(UID, wanted("COMPLETED", LOCK))
            done.append("completed")

        async def change(percent: str) -> None:
            changes = progress(percent)
            changes.TransactionUID = LOCK
            try:
                await other.change(UID, attributes(changes), limits=DEFAULT_LIMITS)
            except UpsError as error:
                refused.append(error.status)
            else:
                done.append(percent)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                if number == 2 * attempt:
                    nursery.start_soon(complete)
                nursery.start_soon(change, f"{number}")
        kept = await other.get(UID)
    assert kept is not None
    assert kept.state is WorkitemState.COMPLETED
    assert len(refused) + len(done) == 9
    assert set(refused) <= {UpsStatus.NO_LONGER_UPDATED}
