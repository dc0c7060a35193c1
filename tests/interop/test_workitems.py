"""Unified procedure steps with pynetdicom in both roles: two performers, two subscribers."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    UnifiedProcedureStepEvent,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepQuery,
    UnifiedProcedureStepWatch,
)

from isocenter.services.association.peer import Peer
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.ups import scu
from isocenter.services.service_classes.ups.workitem import GLOBAL_SUBSCRIPTION, WorkitemState
from services.service_classes.ups.samples import LOCK, UID, performed, progress, scheduled
from support.ports import free_port
from support.processes import ServedArchive, served_archive
from support.pynetdicom_threads import Checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]
SECONDS = 120.0
CLASSES = (
    UnifiedProcedureStepPush, UnifiedProcedureStepPull, UnifiedProcedureStepWatch,
    UnifiedProcedureStepQuery,
)  # fmt: skip


class Subscriber:
    """pynetdicom as SCU of the Event SOP class: what it was told, in order."""

    def __init__(self, ae_title: str) -> None:
        self.ae_title, self.port = ae_title, free_port()
        self.events: queue.Queue[tuple[int, str, Dataset]] = queue.Queue()
        self.refusals = 0
        self.listener: Any = None

    def take(self, event: Any) -> tuple[int, None]:
        request = event.request
        assert request.AffectedSOPClassUID == UnifiedProcedureStepPush
        if self.refusals:
            self.refusals -= 1
            return 0x0110, None
        self.events.put(
            (request.EventTypeID, str(request.AffectedSOPInstanceUID), event.event_information)
        )
        return 0x0000, None

    def listen(self) -> None:
        entity = AE(self.ae_title)
        entity.add_supported_context(UnifiedProcedureStepEvent, scu_role=True, scp_role=True)
        self.listener = entity.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.take)],
        )

    def next(self) -> tuple[int, str, Dataset]:
        return self.events.get(timeout=SECONDS)

    def next_state(self) -> str:
        kind, _, information = self.next()
        assert kind == 1
        assert "TransactionUID" not in information
        return str(information.ProcedureStepState)


@contextmanager
def subscribers(*ae_titles: str) -> Iterator[list[Subscriber]]:
    made = [Subscriber(ae_title) for ae_title in ae_titles]
    for one in made:
        one.listen()
    try:
        yield made
    finally:
        for one in made:
            one.listener.shutdown()


@contextmanager
def served(folder: Path, *known: Subscriber) -> Iterator[ServedArchive]:
    config = folder / "isocenter.toml"
    peers = ", ".join(f'"{one.ae_title}@127.0.0.1:{one.port}"' for one in known)
    config.write_text(f"peers = [{peers}]\n[commitment]\nlongest_retry = 1\n")
    with served_archive(folder / "archive", "--config", config) as archive:
        yield archive


class Caller:
    """pynetdicom, associated: as its documentation does it."""

    def __init__(self, association: Any) -> None:
        self._association = association

    def create(self, workitem: Dataset, uid: str = UID) -> int:
        return int(
            self._association.send_n_create(workitem, UnifiedProcedureStepPush, uid)[0].Status
        )

    def act(self, kind: int, model: Any, uid: str = UID, **values: Any) -> int:
        information = Dataset()
        for keyword, value in values.items():
            setattr(information, keyword, value)
        status, _ = self._association.send_n_action(
            information, kind, UnifiedProcedureStepPush, uid, meta_uid=model
        )
        return int(status.Status)

    def state(self, state: str, lock: str = LOCK) -> int:
        return self.act(1, UnifiedProcedureStepPull, ProcedureStepState=state, TransactionUID=lock)

    def set(self, changes: Dataset, lock: str = LOCK) -> int:
        changes.TransactionUID = lock
        status, _ = self._association.send_n_set(
            changes, UnifiedProcedureStepPush, UID, meta_uid=UnifiedProcedureStepPull
        )
        return int(status.Status)

    def get(self, *tags: int) -> tuple[int, Dataset]:
        status, got = self._association.send_n_get(
            list(tags), UnifiedProcedureStepPush, UID, meta_uid=UnifiedProcedureStepWatch
        )
        return int(status.Status), got

    def find(self, model: Any, **keys: str) -> list[Dataset]:
        asked = Dataset()
        for keyword, value in keys.items():
            setattr(asked, keyword, value)
        return [found for _, found in self._association.send_c_find(asked, model) if found]

    def subscribe(self, ae_title: str, uid: str = GLOBAL_SUBSCRIPTION, kind: int = 3) -> int:
        return self.act(
            kind, UnifiedProcedureStepWatch, uid, ReceivingAE=ae_title, DeletionLock="FALSE"
        )


@contextmanager
def calling(archive: ServedArchive, ae_title: str = "RIS") -> Iterator[Caller]:
    entity = AE(ae_title)
    for each in CLASSES:
        entity.add_requested_context(each)
    association = entity.associate("127.0.0.1", archive.port, ae_title="ISOCENTER")
    assert association.is_established
    association._reactor_checkpoint = Checkpoint(association)
    try:
        yield Caller(association)
    finally:
        association.release()


def test_a_whole_life_with_two_performers_and_two_subscribers(tmp_path: Path) -> None:
    with (
        subscribers("ALL", "ONE") as (everybody, one),
        served(tmp_path, everybody, one) as archive,
        calling(archive) as ris,
        calling(archive, "AI1") as first,
        calling(archive, "AI2") as second,
    ):
        assert ris.subscribe("ALL") == 0
        assert ris.subscribe("NOBODY") == 0xC308
        assert ris.create(scheduled()) == 0
        assert ris.subscribe("ONE", UID) == 0
        assert [everybody.next_state(), one.next_state()] == ["SCHEDULED"] * 2
        (found,) = second.find(UnifiedProcedureStepPull, ProcedureStepState="SCHEDULED")
        assert (found.SOPInstanceUID, found.SOPClassUID) == (UID, UnifiedProcedureStepPush)
        assert first.state("IN PROGRESS") == 0
        assert second.state("IN PROGRESS", f"{LOCK}.1") == 0xC301
        assert [everybody.next_state(), one.next_state()] == ["IN PROGRESS"] * 2
        assert second.set(progress("10"), f"{LOCK}.1") == 0xC301
        assert first.set(progress("10")) == 0
        for each in (everybody, one):
            kind, uid, information = each.next()
            assert (kind, uid) == (3, UID)
            item = information.ProcedureStepProgressInformationSequence[0]
            assert item.ProcedureStepProgress == 10
        assert ris.act(2, UnifiedProcedureStepPush, ReasonForCancellation="a mistake") == 0
        for each in (everybody, one):
            kind, _, information = each.next()
            assert (kind, information.RequestingAE) == (2, "RIS")
            assert information.ReasonForCancellation == "a mistake"
        assert first.state("COMPLETED") == 0xC304
        assert first.set(performed()) == 0
        assert first.state("COMPLETED") == 0
        assert [everybody.next_state(), one.next_state()] == ["COMPLETED"] * 2
        status, got = ris.get()
        assert (status, got.ProcedureStepState) == (0, "COMPLETED")
        assert "TransactionUID" not in got
        assert ris.get(0x00081195)[0] == 0x0001
        # Nobody learns the lock by asking for it.
        assert ris.find(UnifiedProcedureStepQuery, TransactionUID=LOCK) == []
        (found,) = ris.find(UnifiedProcedureStepQuery, TransactionUID="")
        assert "TransactionUID" not in found
        assert ris.subscribe("ALL", kind=5) == 0
        assert ris.subscribe("ONE", UID, 4) == 0
        assert ris.create(scheduled(), f"{UID}.2") == 0
        assert everybody.events.empty()
        assert one.events.empty()
    assert LOCK not in archive.log.read_text()


def test_events_wait_for_a_subscriber_and_come_in_order_also_across_kill_9(tmp_path: Path) -> None:
    with subscribers("ONE") as (one,):
        one.listener.shutdown()
        with served(tmp_path, one) as archive, calling(archive) as ris:
            assert ris.create(scheduled()) == 0
            assert ris.subscribe("ONE", UID) == 0
            assert ris.state("IN PROGRESS") == 0
            assert ris.set(progress("1")) == 0
            archive.kill()
        one.refusals = 1
        one.listen()
        with served(tmp_path, one) as archive, calling(archive) as ris:
            assert ris.set(progress("2")) == 0
            # The server has started again (4), with all that it had.
            told = [one.next()[0] for _ in range(5)]
            assert told == [1, 1, 3, 4, 3]


def test_state_and_lock_outlive_kill_9_in_each_state(tmp_path: Path) -> None:
    steps: list[tuple[Callable[[Caller], int], str]] = [
        (lambda ris: ris.create(scheduled()), "SCHEDULED"),
        (lambda ris: ris.state("IN PROGRESS"), "IN PROGRESS"),
        (lambda ris: ris.set(performed()), "IN PROGRESS"),
        (lambda ris: ris.state("COMPLETED"), "COMPLETED"),
    ]
    for step, state in steps:
        with served(tmp_path) as archive:
            with calling(archive) as ris:
                assert step(ris) == 0
            archive.kill()
        with served(tmp_path) as archive, calling(archive) as ris:
            (found,) = ris.find(UnifiedProcedureStepPull, ProcedureStepState="")
            assert found.ProcedureStepState == state
            if state == "IN PROGRESS":
                assert ris.state("COMPLETED", f"{LOCK}.1") == 0xC301
            if state == "COMPLETED":
                assert ris.set(progress("1")) == 0xC300


class Archive:
    """pynetdicom's UPS SCP, as its documentation shows one: it has what it was given."""

    def __init__(self) -> None:
        self.workitems: dict[str, Dataset] = {}
        self.actions: list[tuple[int, str, Dataset]] = []

    def create(self, event: Any) -> tuple[int, None]:
        self.workitems[str(event.request.AffectedSOPInstanceUID)] = event.attribute_list
        return 0x0000, None

    def set(self, event: Any) -> tuple[int, None]:
        uid = str(event.request.RequestedSOPInstanceUID)
        if uid not in self.workitems:
            return 0xC307, None
        self.workitems[uid].update(event.modification_list)
        return 0x0000, None

    def get(self, event: Any) -> tuple[int, Dataset | None]:
        return 0x0000, self.workitems[str(event.request.RequestedSOPInstanceUID)]

    def act(self, event: Any) -> tuple[int, None]:
        uid = str(event.request.RequestedSOPInstanceUID)
        self.actions.append((event.request.ActionTypeID, uid, event.action_information))
        return 0x0000, None

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for workitem in self.workitems.values():
            yield 0xFF00, workitem
        yield 0x0000, None


async def test_our_client_asks_pynetdicom() -> None:
    theirs, port = Archive(), free_port()
    entity = AE("RIS")
    for each in CLASSES:
        entity.add_supported_context(each)
    listener = entity.start_server(
        ("127.0.0.1", port),
        block=False,
        evt_handlers=[
            (evt.EVT_N_CREATE, theirs.create), (evt.EVT_N_SET, theirs.set),
            (evt.EVT_N_GET, theirs.get), (evt.EVT_N_ACTION, theirs.act),
            (evt.EVT_C_FIND, theirs.find),
        ],
    )  # fmt: skip
    try:
        peer = Peer("RIS", "127.0.0.1", port)
        async with open_association(peer, scu.CONTEXTS, calling_ae_title="AI") as association:
            answer = await scu.create_workitem(association, UID, scheduled())
            assert answer.status == 0
            await scu.change_state(association, UID, WorkitemState.IN_PROGRESS, LOCK)
            await scu.set_workitem(association, UID, progress("50"), LOCK)
            await scu.request_cancel(association, UID)
            await scu.subscribe(association, "AI", has_lock=True)
            await scu.suspend(association, "AI")
            await scu.unsubscribe(association, "AI")
            got = await scu.get_workitem(association, UID)
            assert got.attributes is not None
            assert got.attributes.to_dataset().TransactionUID == LOCK
            keys = Dataset()
            keys.ProcedureStepState = ""
            found = [match async for match in scu.find_workitems(association, keys)]
            assert len(found) == 1
    finally:
        listener.shutdown()
    assert [(kind, uid) for kind, uid, _ in theirs.actions] == [
        (1, UID), (2, UID), (3, GLOBAL_SUBSCRIPTION), (5, GLOBAL_SUBSCRIPTION),
        (4, GLOBAL_SUBSCRIPTION),
    ]  # fmt: skip
    assert theirs.actions[2][2].DeletionLock == "TRUE"
