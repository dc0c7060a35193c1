"""Events in the transactions of what they tell, open studies, what consumers have yet to get."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.ports import InstanceRecord
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.errors import StorageError
from isocenter.services.service_classes.commitment.transaction import (
    Reference,
    Transaction,
    result_of,
)
from isocenter.services.service_classes.mpps.performed_step import step_after_set, step_of_create
from isocenter.services.workflow.events.event import (
    AssociationRefused,
    StoredEvent,
    WorklistChanged,
)
from isocenter.services.workflow.events.ports import EventSelection, StudyLane
from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.storage.database.commitments import DatabaseCommitments
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.events import open_studies as study_completion_module
from isocenter.storage.database.events import outbox as events_module
from isocenter.storage.database.events.event_hooks import EventHooks
from isocenter.storage.database.events.event_log import DatabaseEventLog
from isocenter.storage.database.events.open_studies import DatabaseOpenStudies
from isocenter.storage.database.events.outbox import DatabaseOutbox, insert_event
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.performed_steps import DatabaseSteps
from services.service_classes.commitment.peers import Clock
from services.service_classes.mpps.samples import begun, ended
from storage.databases import open_database
from support.studies import CT_IMAGE_STORAGE, ROOT

pytestmark = pytest.mark.usefixtures("each_database")
RULES = CompletionRules(quiet_seconds=60, settle_seconds=5, longest_wait_seconds=1_000)
STUDY = f"{ROOT}.1"
ALL = ("study.opened", "series.opened", "instance.stored", "study.complete", "study.reopened",
       "mpps.changed", "commitment.asked", "commitment.done", "association.refused",
       "worklist.changed")  # fmt: skip
PHI = ("Müller", "P1", "19700102")


def record(number: int = 1, *, study: str = STUDY, series: int = 1) -> InstanceRecord:
    return InstanceRecord(
        sop_instance_uid=f"{study}.{series}.{number}",
        sop_class_uid=CT_IMAGE_STORAGE,
        study_instance_uid=study,
        series_instance_uid=f"{study}.{series}",
        transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
        object_key=f"{study}/{series}/{number}",
        size=1_000,
        data_set_offset=400,
        digest="sha256:00",
        attributes={
            0x00080060: "CT",
            0x00080050: "A1",
            0x00100020: "P1",
            0x00100010: "Müller^Jörg",
            0x00100030: "19700102",
        },
        source_ae_title="CT1",
    )


class Desk:
    """An index with everything that belongs to events, at a time that the test moves."""

    def __init__(self, database: Database, *, include_patient: bool = False) -> None:
        self.clock = Clock()
        self.database = database
        writer = EventHooks(RULES, include_patient=include_patient, now=self.clock)
        self.on_add = [writer.stored]
        self.index = DatabaseIndex(database, on_add=[self._added])
        self.studies = DatabaseOpenStudies(
            database, include_patient=include_patient, now=self.clock
        )
        self.outbox = DatabaseOutbox(database, now=self.clock)
        self.desk = DatabaseEventLog(database, now=self.clock)
        self.steps = DatabaseSteps(database, on_change=[writer.step_changed], now=self.clock)
        self.commitments = DatabaseCommitments(
            database, on_change=[writer.commitment_changed], now=self.clock
        )

    def _added(self, *added: Any) -> None:
        for each in self.on_add:
            each(*added)

    async def events(self) -> list[StoredEvent]:
        return list(await self.desk.events(EventSelection(after=0)))

    async def kinds(self, after: int = 0) -> list[str]:
        return [each.kind for each in await self.desk.events(EventSelection(after=after))]

    async def last(self) -> dict[str, Any]:
        return (await self.events())[-1].members()

    async def wait(self, seconds: float) -> float | None:
        """Time passes; when the next study is due, from now on."""
        self.clock.now += seconds
        due_at = await self.studies.declare(RULES)
        return None if due_at is None else due_at - self.clock.now

    async def lanes(self, consumer: str = "ris", *, failing: bool = False) -> list[StudyLane]:
        return list(await self.outbox.lanes(consumer, 100, failing=failing, not_for=()))

    async def route(self) -> list[StudyLane]:
        await self.outbox.route("ris", ALL, await self.outbox.position("ris"))
        return await self.lanes()


@asynccontextmanager
async def opened(path: Path | None = None, **options: Any) -> AsyncIterator[Desk]:
    async with open_database(path) as database:
        yield Desk(database, **options)


# -- What is written ---------------------------------------------------------------------


async def test_another_patient_in_a_study_is_one_event() -> None:
    def of_other(number: int) -> InstanceRecord:
        odd = record(number)
        return replace(odd, attributes={**odd.attributes, 0x00100020: "P2"})

    async with opened(include_patient=True) as desk:
        await desk.index.add([record(1)])
        await desk.index.add([of_other(2), of_other(3)])
        await desk.index.add([of_other(4), record(5)])
        (event,) = [e for e in await desk.events() if e.kind == "study.other_patient"]
        told = event.members()
        assert told["study_instance_uid"] == record(1).study_instance_uid
        assert told["sop_instance_uid"] == record(2).sop_instance_uid
        assert told["other_sop_instance_uid"] == record(1).sop_instance_uid
        assert told["patient"]["patient_id"] == "P2"
        # The study is told of under the patient that was named last.
        await desk.wait(1_000_000)
        assert (await desk.last())["patient"]["patient_id"] == "P1"


async def test_objects_open_studies_and_series() -> None:
    async with opened() as desk:
        await desk.index.add([record(1), record(2), record(1, series=2)])
        await desk.index.add([record(3), record(1, study=f"{ROOT}.2")])
        assert [(e.kind, e.study_instance_uid[-1]) for e in await desk.events()] == [
            ("study.opened", "1"),
            ("series.opened", "1"),
            ("instance.stored", "1"),
            ("instance.stored", "1"),
            ("series.opened", "1"),
            ("instance.stored", "1"),
            ("instance.stored", "1"),
            ("study.opened", "2"),
            ("series.opened", "2"),
            ("instance.stored", "2"),
        ]
        stored = (await desk.events())[2]
        assert stored.members() == {
            "id": 3,
            "kind": "instance.stored",
            "at": "1970-01-12T13:46:40.000+00:00",
            "study_instance_uid": STUDY,
            "series_instance_uid": f"{STUDY}.1",
            "sop_instance_uid": f"{STUDY}.1.1",
            "sop_class_uid": CT_IMAGE_STORAGE,
            "transfer_syntax_uid": EXPLICIT_VR_LITTLE_ENDIAN,
            "size": 1_000,
            "modality": "CT",
            "accession_number": "A1",
            "source_ae_title": "CT1",
            "replaced": False,
            "patient": None,
        }
        assert orjson.loads(stored.json()) == stored.members()


async def test_duplicates_are_no_events_and_replaced_objects_are() -> None:
    async with opened() as desk:
        await desk.index.add([record(1)])
        await desk.index.add([record(1)])
        assert await desk.kinds(3) == []
        await desk.index.add([record(1)], replace=True)
        assert await desk.kinds(3) == ["instance.stored"]
        assert (await desk.last())["replaced"] is True
        # To another series: that one is new, the study is not.
        moved = replace(record(1, series=2), sop_instance_uid=record(1).sop_instance_uid)
        await desk.index.add([moved], replace=True)
        assert await desk.kinds(4) == ["series.opened", "instance.stored"]


async def test_what_is_rolled_back_is_no_event() -> None:
    async with opened() as desk:

        def fail(connection: Connection, added: Sequence[object]) -> None:
            raise StorageError("no")

        desk.on_add.append(fail)
        with pytest.raises(StorageError):
            await desk.index.add([record(1)])
        assert await desk.events() == []
        assert await desk.studies.count() == 0


async def test_patients_only_where_they_are_wanted() -> None:
    for include_patient in (False, True):
        async with opened(include_patient=include_patient) as desk:
            await desk.index.add([record(1)])
            await desk.wait(60)
            await desk.index.add([record(2)])
            for event in await desk.events():
                said = event.json().decode()
                assert [word in said for word in PHI] == [include_patient] * 3, said
                assert event.members()["patient"] == (
                    {"patient_id": "P1", "patient_name": "Müller^Jörg", "birth_date": "19700102"}
                    if include_patient
                    else None
                )
            assert "Müller" not in repr(await desk.kinds())


async def test_a_text_that_cannot_be_encoded_keeps_no_object_away() -> None:
    async with opened(include_patient=True) as desk:
        odd = {0x00080050: "A\udc80", 0x00080060: "CT", 0x00100010: "X\udfff^Y"}
        await desk.index.add([replace(record(1), attributes=odd)])
        last = await desk.last()
        assert (last["accession_number"], last["patient"]["patient_name"]) == ("A?", "X?^Y")


async def test_an_event_of_others() -> None:
    event = WorklistChanged(
        study_instance_uid=STUDY,
        entry_number=7,
        scheduled_step_id="S1",
        accession_number="A1",
        state="STARTED",
    )

    def write(connection: Connection) -> None:
        insert_event(connection, event, 5.0)

    async with opened() as desk:
        await desk.database.write(write)
        assert (await desk.last())["entry_number"] == 7


# -- Studies -----------------------------------------------------------------------------


async def test_a_quiet_study_is_complete_and_opened_again() -> None:
    async with opened() as desk:
        await desk.index.add([record(1)])
        desk.clock.now += 10
        await desk.index.add([record(2)])
        assert await desk.wait(59) == 1
        assert await desk.wait(1) is None
        assert await desk.kinds(4) == ["study.complete"]
        assert await desk.last() == {
            "id": 5,
            "kind": "study.complete",
            "at": "1970-01-12T13:47:50.000+00:00",
            "study_instance_uid": STUDY,
            "accession_number": "A1",
            "modalities": ["CT"],
            "series": 1,
            "instances": 2,
            "received": 2,
            "reason": "quiet",
            "first_at": "1970-01-12T13:46:40.000+00:00",
            "last_at": "1970-01-12T13:46:50.000+00:00",
            "times": 1,
            "patient": None,
        }
        assert await desk.wait(10_000) is None
        await desk.index.add([record(3)])
        assert await desk.kinds(5) == ["study.reopened", "instance.stored"]
        await desk.index.add([record(3)], replace=True)
        assert await desk.wait(60) is None
        assert await desk.kinds(7) == ["instance.stored", "study.complete"]
        last = await desk.last()
        assert (last["times"], last["received"], last["instances"]) == (2, 2, 3)


async def test_a_replaced_object_opens_a_complete_study_again() -> None:
    async with opened() as desk:
        await desk.index.add([record(1)])
        await desk.wait(60)
        await desk.index.add([record(1)], replace=True)
        assert await desk.kinds(4) == ["study.reopened", "instance.stored"]


async def test_a_study_from_before_there_were_events_is_no_new_one() -> None:
    async with opened() as desk:
        (write,) = desk.on_add
        desk.on_add.clear()
        await desk.index.add([record(1)])
        desk.on_add.append(write)
        await desk.index.add([record(2)])
        assert await desk.kinds() == ["study.reopened", "instance.stored"]


async def test_a_study_that_was_removed_is_forgotten_and_opens_anew() -> None:
    async with opened() as desk:
        await desk.index.add([record(1)])
        await desk.index.remove([record(1).sop_instance_uid])
        assert await desk.wait(60) is None
        assert await desk.studies.count() == 0
        assert await desk.kinds(3) == []
        await desk.index.add([record(1)])
        assert await desk.kinds(3) == ["study.opened", "series.opened", "instance.stored"]


async def test_all_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    async with opened(path) as desk:
        await desk.index.add([record(1)])
    async with opened(path) as desk:
        assert await desk.wait(59) == 1
        await desk.wait(1)
        assert await desk.kinds(3) == ["study.complete"]


async def test_many_studies_are_due_at_once() -> None:
    async with opened() as desk:
        await desk.index.add([record(1, study=f"{ROOT}.{number}") for number in range(40)])
        assert await desk.studies.count() == 40
        assert await desk.wait(60) is None
        assert (await desk.kinds(120))[:40] == ["study.complete"] * 40


async def begin_step(desk: Desk) -> None:
    step = step_of_create(
        f"{ROOT}.77",
        AttributeList.from_dataset(begun()),
        source_ae_title="CT1",
        now=desk.clock.now,
    )
    assert await desk.steps.create(step, notify=(), as_ae_title="")


async def end_step(desk: Desk) -> None:
    await desk.steps.change(
        f"{ROOT}.77",
        lambda step: step_after_set(step, AttributeList.from_dataset(ended()), now=desk.clock.now),
        notify=(),
        as_ae_title="",
    )


async def test_a_performed_step_keeps_its_study_open_and_ends_it() -> None:
    async with opened() as desk:
        await begin_step(desk)
        assert await desk.last() == {
            "id": 1,
            "kind": "mpps.changed",
            "at": "1970-01-12T13:46:40.000+00:00",
            "study_instance_uid": STUDY,
            "sop_instance_uid": f"{ROOT}.77",
            "state": "IN PROGRESS",
            "accession_number": "A1",
            "scheduled_step_ids": ["SPS1"],
            "modality": "CT",
            "station_ae_title": "CT1",
            "series": 0,
            "instances": 0,
        }
        await desk.index.add([record(1)])
        assert await desk.wait(500) == 500  # the longest wait
        await end_step(desk)
        assert (await desk.last())["instances"] == 2
        # One instance that it names is not here: quiet since long, but look first.
        await desk.index.add([record(2)])
        assert await desk.wait(4.5) == pytest.approx(0.5)
        assert await desk.wait(0.5) is None
        last = await desk.last()
        assert (last["kind"], last["reason"]) == ("study.complete", "mpps")


async def test_a_step_that_ends_last_ends_its_study() -> None:
    async with opened() as desk:
        await begin_step(desk)
        await desk.index.add([record(1), record(2)])
        assert await desk.wait(100) == 900
        await end_step(desk)
        assert await desk.wait(5) is None
        assert (await desk.last())["reason"] == "mpps"


async def ask(desk: Desk, *numbers: int, uid: str = "2.25.1") -> list[Reference]:
    references = [Reference(CT_IMAGE_STORAGE, record(n).sop_instance_uid) for n in numbers]
    await desk.commitments.begin(
        transaction_uid=uid,
        requester="CT1",
        called_ae_title="ISOCENTER",
        references=references,
        worker="w",
        seconds=60,
    )
    return references


async def test_storage_commitment_of_all_instances_ends_a_study() -> None:
    async with opened() as desk:
        await desk.index.add([record(1), record(2)])
        await ask(desk, 1)
        assert await desk.wait(5) == 55  # the other one was not asked for
        await ask(desk, 2, 9, uid="2.25.2")
        unknown, last = (await desk.events())[-2:]
        assert unknown.study_instance_uid == ""
        assert last.members() == {
            "id": 7,
            "kind": "commitment.asked",
            "at": "1970-01-12T13:46:45.000+00:00",
            "study_instance_uid": STUDY,
            "transaction_uid": "2.25.2",
            "requester": "CT1",
            "instances": 1,
        }
        assert await desk.wait(5) is None
        assert (await desk.last())["reason"] == "commitment"


async def test_the_outcome_of_a_commitment() -> None:
    async with opened() as desk:
        await desk.index.add([record(1), record(2)])
        await ask(desk, 1, 2, 9)
        known = await desk.commitments.get("2.25.1")
        assert isinstance(known, Transaction)
        report = result_of(known, [0, 0x0110, 0x0112], retrieve_ae_title="")
        done = desk.commitments.complete(
            "2.25.1", "w", [0, 0x0110, 0x0112], report, claim_seconds=0
        )
        assert await done is not None
        ended_events = [e.members() for e in await desk.events() if e.kind == "commitment.done"]
        assert [(e["study_instance_uid"], e["committed"], e["failed"]) for e in ended_events] == [
            ("", 0, 1),
            (STUDY, 1, 1),
        ]
        # Asking once more for the same is no news.
        before = len(await desk.events())
        await ask(desk, 1, 2, 9)
        assert len(await desk.events()) == before


# -- Consumers ---------------------------------------------------------------------------


async def test_a_new_consumer_gets_what_comes_from_now_on() -> None:
    async with opened() as desk:
        await desk.index.add([record(1)])
        await desk.outbox.begin(["ris"])
        assert await desk.route() == []
        await desk.index.add([record(1, study=f"{ROOT}.2")])
        await desk.outbox.begin(["ris"])  # as after a restart
        (lane,) = await desk.route()
        assert lane == StudyLane(
            study_instance_uid=f"{ROOT}.2", from_event=4, attempts=0, failing_since=None
        )


async def test_what_is_not_wanted_costs_no_write() -> None:
    async with opened() as desk:
        await desk.outbox.begin(["ris"])
        await desk.index.add([record(1)])
        assert await desk.outbox.route("ris", ["study.complete"], 0) == 3
        assert await desk.outbox.position("ris") == 0
        await desk.outbox.settle("ris", 3)
        assert await desk.outbox.position("ris") == 3
        await desk.wait(60)
        assert await desk.outbox.route("ris", ["study.complete"], 3) == 4
        (lane,) = await desk.lanes()
        assert lane.from_event == 4


async def test_a_lane_ends_when_all_was_delivered_and_not_before() -> None:
    async with opened() as desk:
        await desk.outbox.begin(["ris"])
        await desk.index.add([record(1)])
        (lane,) = await desk.route()
        waiting = await desk.outbox.waiting("ris", ALL, lane, 2)
        assert [event.number for event in waiting] == [1, 2]
        await desk.index.add([record(2)])  # number 4, behind the position
        await desk.outbox.advance("ris", ALL, lane, 3, 2)
        (lane,) = await desk.lanes()
        assert lane.from_event == 3
        assert [e.number for e in await desk.outbox.waiting("ris", ALL, lane, 9)] == [3]
        assert await desk.outbox.backlog("ris", ALL) == 2
        await desk.outbox.advance("ris", ALL, lane, 4, 1)
        assert await desk.lanes() == []
        (lane,) = await desk.route()
        assert lane.from_event == 4
        # One more is put behind the position while the lane is worked on: it stays.
        await desk.index.add([record(3)])
        await desk.route()
        await desk.outbox.advance("ris", ALL, lane, 5, 1)
        (lane,) = await desk.lanes()
        assert lane.from_event == 5
        (row,) = await desk.desk.consumers({"ris": ALL})
        assert (row.delivered, row.waiting, row.held, row.position) == (4, 1, 0, 5)


async def test_a_study_that_fails_waits_alone() -> None:
    async with opened() as desk:
        await desk.outbox.begin(["ris"])
        await desk.index.add([record(1), record(1, study=f"{ROOT}.2")])
        one, _ = await desk.route()
        events = await desk.outbox.waiting("ris", ALL, one, 9)
        await desk.outbox.failed("ris", one, events[1], "HTTP 500", 5.0, 1)
        (two,) = await desk.lanes()
        assert two.study_instance_uid == f"{ROOT}.2"
        assert await desk.lanes(failing=True) == []
        desk.clock.now += 5
        (failing,) = await desk.lanes(failing=True)
        assert (failing.from_event, failing.attempts) == (2, 1)
        assert failing.failing_since == desk.clock.now - 5
        await desk.outbox.failed("ris", failing, events[1], "HTTP 503", 10.0, 0)
        (held,) = await desk.desk.held(["ris"], 9)
        assert (held.event, held.attempts, held.fault) == (2, 2, "HTTP 503")
        assert held.at == desk.clock.now + 10
        # Given up: the next of the study goes on.
        desk.clock.now += 10
        (failing,) = await desk.lanes(failing=True)
        assert failing.failing_since == desk.clock.now - 15
        await desk.outbox.failed("ris", failing, events[1], "HTTP 503", None, 0)
        (dead,) = await desk.desk.held(["ris"], 9)
        assert (dead.event, dead.attempts, dead.is_dead) == (2, 3, True)
        lane = next(each for each in await desk.lanes() if each.study_instance_uid == STUDY)
        # Nothing of it has arrived since: what is as old gets one attempt.
        assert (lane.from_event, lane.failing_since) == (3, desk.clock.now - 15)


async def test_what_fails_after_a_delivery_fails_since_then() -> None:
    async with opened() as desk:
        await desk.outbox.begin(["ris"])
        await desk.index.add([record(1)])
        (lane,) = await desk.route()
        events = await desk.outbox.waiting("ris", ALL, lane, 9)
        await desk.outbox.failed("ris", lane, events[0], "no", 5.0, 0)
        desk.clock.now += 100
        (lane,) = await desk.lanes(failing=True)
        await desk.outbox.failed("ris", lane, events[0], "no", None, 0)
        (lane,) = await desk.lanes()
        # The next arrives, and the one behind it does not.
        await desk.outbox.failed("ris", lane, events[2], "no", 0.0, 1)
        (lane,) = await desk.lanes(failing=True)
        assert (lane.from_event, lane.failing_since) == (3, desk.clock.now)


async def test_replay_while_a_lane_is_worked_on() -> None:
    async with opened() as desk:
        await desk.outbox.begin(["ris"])
        await desk.index.add([record(1)])
        (lane,) = await desk.route()
        await desk.outbox.advance("ris", ALL, lane, 3, 2)
        (lane,) = await desk.lanes()
        assert await desk.desk.replay("ris", ALL, from_event=2) == 1
        # Whoever worked on the lane as it was changes nothing any more.
        await desk.outbox.advance("ris", ALL, lane, 4, 1)
        (lane,) = await desk.lanes()
        assert lane.from_event == 2
        await desk.outbox.failed(
            "ris", replace(lane, from_event=3), (await desk.events())[2], "x", None, 0
        )
        assert await desk.desk.held(["ris"], 9) == []


async def test_replay_chooses() -> None:
    async with opened() as desk:
        await desk.outbox.begin(["ris"])
        await desk.index.add([record(1), record(1, study=f"{ROOT}.2")])
        desk.clock.now += 100
        await desk.index.add([record(2)])
        for lane in await desk.route():
            await desk.outbox.advance("ris", ALL, lane, 8, 3)
        assert await desk.lanes() == []
        assert await desk.desk.replay("ris", ["study.complete"], from_event=1) == 0
        assert await desk.desk.replay("ris", ALL, from_event=8) == 0
        assert await desk.desk.replay("ris", ALL, since=desk.clock.now - 1) == 1
        (lane,) = await desk.lanes()
        assert (lane.study_instance_uid, lane.from_event) == (STUDY, 7)
        assert await desk.desk.replay("ris", ALL, study_instance_uid=f"{ROOT}.2") == 1
        assert sorted(each.from_event for each in await desk.lanes()) == [4, 7]
        # One that asks for less takes nothing back.
        assert await desk.desk.replay("ris", ALL, from_event=6) == 2
        assert sorted(each.from_event for each in await desk.lanes()) == [4, 7]
        assert await desk.desk.replay("ris", ALL, from_event=2) == 2
        assert sorted(each.from_event for each in await desk.lanes()) == [2, 4]
        with pytest.raises(KeyError):
            await desk.desk.replay("nobody", ALL, from_event=1)


async def test_a_replay_takes_back_what_was_given_up() -> None:
    async with opened() as desk:
        await desk.outbox.begin(["ris"])
        await desk.index.add([record(1)])
        (lane,) = await desk.route()
        events = await desk.outbox.waiting("ris", ALL, lane, 9)
        await desk.outbox.failed("ris", lane, events[0], "x", None, 0)
        assert len(await desk.desk.held(["ris"], 9)) == 1
        await desk.desk.replay("ris", ALL, from_event=1)
        assert await desk.desk.held(["ris"], 9) == []


async def test_old_events_go_when_everybody_has_got_them() -> None:
    async with opened() as desk:
        await desk.outbox.begin(["ris", "slow"])
        await desk.index.add([record(1), record(1, study=f"{ROOT}.2")])
        one, two = await desk.route()
        day = 86_400.0
        assert await desk.outbox.trim(["ris"], day) == 0
        desk.clock.now += 2 * day
        assert await desk.outbox.trim(["ris", "slow"], day) == 0  # slow has got nothing
        # One lane is empty, of the other the first is delivered.
        await desk.outbox.advance("ris", ALL, two, 7, 3)
        await desk.outbox.advance("ris", ALL, one, 2, 1)
        assert await desk.outbox.trim(["ris"], day) == 4
        assert [event.number for event in await desk.events()] == [2, 3]
        (lane,) = await desk.lanes()
        await desk.outbox.advance("ris", ALL, lane, 4, 2)
        assert await desk.outbox.trim(["ris", "slow"], day) == 0  # as before, without any lane
        assert await desk.outbox.trim(["ris"], day) == 2
        # Numbers are never given again: positions stay true.
        await desk.index.add([record(2)])
        assert [event.number for event in await desk.events()] == [7]
        await desk.outbox.begin(["new"])
        assert await desk.outbox.position("new") == 7
        # Without consumers only the age counts.
        desk.clock.now += 2 * day
        assert await desk.outbox.trim([], day) == 1


async def test_a_replay_keeps_events_that_were_to_be_forgotten() -> None:
    async with opened() as desk:
        await desk.outbox.begin(["ris"])
        await desk.index.add([record(1)])
        (lane,) = await desk.route()
        await desk.outbox.advance("ris", ALL, lane, 4, 3)
        values = {"consumers": '["ris"]', "before": desk.clock.now + 1, "limit": 99}
        old = await desk.database.read(events_module._trimmable, values)
        assert old == [1, 2, 3]
        await desk.desk.replay("ris", ALL, from_event=2)
        values["old"] = orjson.dumps(old).decode()
        assert await desk.database.write(events_module._trim, values) == 1
        assert [event.number for event in await desk.events()] == [2, 3]


async def test_a_lane_that_a_wrong_clock_made_wait_is_tried() -> None:
    async with opened() as desk:
        await desk.outbox.begin(["ris"])
        await desk.index.add([record(1)])
        (lane,) = await desk.route()
        (event, *_) = await desk.outbox.waiting("ris", ALL, lane, 9)
        await desk.outbox.failed("ris", lane, event, "no", 86_400.0, 0)
        await desk.outbox.correct_future_times(["ris"])
        assert await desk.lanes(failing=True) == []  # as long as any setting makes it wait
        desk.clock.now -= 10 * 86_400
        await desk.outbox.correct_future_times(["other"])
        assert await desk.lanes(failing=True) == []
        await desk.outbox.correct_future_times(["ris"])
        (lane,) = await desk.lanes(failing=True)
        assert (lane.from_event, lane.attempts) == (1, 1)


async def test_studies_that_have_gone_are_forgotten_after_a_while() -> None:
    async with opened() as desk:
        two = f"{ROOT}.2"
        await desk.index.add([record(1), record(1, study=two), record(1, study=f"{ROOT}.3")])
        assert await desk.wait(60) is None
        await desk.index.remove([record(1).sop_instance_uid])
        await desk.index.remove([record(1, study=f"{ROOT}.3").sop_instance_uid])
        assert await desk.studies.forget(100) == 0  # not for long
        await desk.wait(101)
        # One of those that had gone comes again while they are looked for.
        await desk.index.add([record(1, study=f"{ROOT}.3")])
        assert await desk.wait(60) is None
        came_back = [(f"{ROOT}.3",), (STUDY,)]
        assert await desk.database.write(study_completion_module._forget, came_back) == 1
        assert await desk.studies.forget(100) == 0
        rows = {row.study_instance_uid: row.state for row in await desk.desk.studies()}
        assert rows == {two: "complete", f"{ROOT}.3": "complete"}


async def test_a_clock_that_is_set_back_delays_no_study_for_long() -> None:
    async with opened() as desk:
        years = 4 * 365 * 86_400.0
        desk.clock.now += years
        await begin_step(desk)
        await desk.index.add([record(1), record(2)])
        await end_step(desk)
        desk.clock.now -= years
        due_at = await desk.studies.declare(RULES)
        assert due_at is not None
        assert due_at <= desk.clock.now + RULES.longest_wait_seconds
        desk.clock.now += 60
        assert await desk.studies.declare(RULES) is None
        (row,) = await desk.desk.studies()
        assert (row.state, row.reason) == ("complete", "mpps")


async def test_events_of_no_study_have_a_lane_too() -> None:
    async with opened() as desk:
        await desk.outbox.begin(["ris"])
        refused = AssociationRefused(
            what="association",
            address="127.0.0.1",
            calling_ae_title="X",
            called_ae_title="Y",
            why="no",
            count=2,
        )
        await desk.outbox.write([refused])
        (lane,) = await desk.route()
        assert lane.study_instance_uid == ""
        (event,) = await desk.outbox.waiting("ris", ALL, lane, 9)
        assert event.members()["count"] == 2
