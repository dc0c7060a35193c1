"""Rules of workitems: each violation has its status (PS3.4 Table CC.1.1-2, CC.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydicom.dataset import Dataset

from isocenter.engine.limits import Limits
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.ups.events import EventType, events_of
from isocenter.services.service_classes.ups.rules import (
    cancelled_before_begun,
    final_state_faults,
    workitem_after_action,
    workitem_after_set,
    workitem_of_create,
)
from isocenter.services.service_classes.ups.workitem import (
    PERFORMED_PROCEDURE,
    PROGRESS_INFORMATION,
    TRANSACTION_UID,
    UpsError,
    Workitem,
    WorkitemState,
)
from services.service_classes.ups.samples import (
    LOCK,
    UID,
    attributes,
    cancelled,
    performed,
    progress,
    scheduled,
)

OTHER = "1.2.826.0.1.3680043.10.999.90"
S, P, D, C = WorkitemState


def made(state: WorkitemState = S, lock: str = LOCK) -> Workitem:
    """A workitem in a state, with all that both final states want."""
    dataset = scheduled()
    workitem, status = workitem_of_create(UID, attributes(dataset), now=1.0)
    assert status == 0
    if state is S:
        return workitem
    workitem, _ = workitem_after_action(workitem, P.value, lock, now=2.0)
    for changes in (performed(), cancelled()):
        workitem = workitem_after_set(workitem, with_lock(changes, lock), now=3.0)
    if state is not P:
        workitem, _ = workitem_after_action(workitem, state.value, lock, now=4.0)
    return workitem


def with_lock(dataset: Dataset, lock: str = LOCK) -> AttributeList:
    if lock:
        dataset.TransactionUID = lock
    return attributes(dataset)


def status_of(act: Callable[[], Any]) -> int:
    try:
        result = act()
    except UpsError as error:
        return error.status
    return result[1] if isinstance(result, tuple) else 0


# From, to, with the right lock → status.  Table CC.1.1-2, row by row.
CHANGES = [
    (S, P, True, 0x0000), (P, P, True, 0xC302), (D, P, True, 0xC300), (C, P, True, 0xC300),
    (P, P, False, 0xC301), (D, P, False, 0xC301), (C, P, False, 0xC301),
    (S, S, True, 0xC303), (P, S, True, 0xC303), (D, S, True, 0xC303), (C, S, True, 0xC303),
    (S, S, False, 0xC303), (P, S, False, 0xC303), (D, S, False, 0xC303), (C, S, False, 0xC303),
    (S, D, True, 0xC310), (P, D, True, 0x0000), (D, D, True, 0xB306), (C, D, True, 0xC300),
    (P, D, False, 0xC301), (D, D, False, 0xC301), (C, D, False, 0xC301),
    (S, C, True, 0xC310), (P, C, True, 0x0000), (D, C, True, 0xC300), (C, C, True, 0xB304),
    (P, C, False, 0xC301), (D, C, False, 0xC301), (C, C, False, 0xC301),
]  # fmt: skip


@pytest.mark.parametrize(("before", "wanted", "is_right", "status"), CHANGES)
def test_each_change_of_state(
    before: WorkitemState, wanted: WorkitemState, is_right: bool, status: int
) -> None:
    workitem = made(before)
    lock = LOCK if is_right else OTHER
    assert status_of(lambda: workitem_after_action(workitem, wanted.value, lock, now=9.0)) == status


@pytest.mark.parametrize("before", list(WorkitemState))
@pytest.mark.parametrize("wanted", [P, D, C])
def test_no_change_of_state_without_a_lock(before: WorkitemState, wanted: WorkitemState) -> None:
    workitem = made(before)
    for lock in ("", "no UID"):
        with pytest.raises(UpsError) as caught:
            workitem_after_action(workitem, wanted.value, lock, now=9.0)
        assert caught.value.status == 0xC301


def test_a_state_that_there_is_not() -> None:
    assert status_of(lambda: workitem_after_action(made(), "DONE", LOCK, now=9.0)) == 0x0115


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 0x0000),
        ({"WorklistLabel": ""}, 0xB300),
        ({"ProcedureStepState": "IN PROGRESS"}, 0xC309),
        ({"ProcedureStepState": ""}, 0x0121),
        ({"ProcedureStepState": None}, 0x0120),
        ({"ScheduledProcedureStepPriority": None}, 0x0120),
        ({"ScheduledProcedureStepPriority": "URGENT"}, 0x0106),
        ({"InputReadinessState": "MAYBE"}, 0x0106),
        ({"TransactionUID": LOCK}, 0x0106),
        ({"SOPInstanceUID": OTHER}, 0x0106),
        ({"SOPInstanceUID": UID}, 0x0000),
        ({"PatientName": None}, 0x0000),
    ],
)
def test_each_creation(change: dict[str, Any], status: int) -> None:
    dataset = scheduled()
    for keyword, value in change.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    assert status_of(lambda: workitem_of_create(UID, attributes(dataset), now=1.0)) == status


def test_a_strict_creation_wants_type_2_and_a_large_one_is_too_large() -> None:
    dataset = scheduled()
    del dataset.PatientName
    create = lambda **how: workitem_of_create(UID, attributes(dataset), now=1.0, **how)  # noqa: E731
    assert status_of(lambda: create(strict=True)) == 0x0120
    assert status_of(lambda: create(limits=Limits(identifier=100))) == 0x0213
    progress_given = scheduled()
    progress_given.update(progress("10"))
    assert status_of(lambda: workitem_of_create(UID, attributes(progress_given), now=1.0)) == 0x0106


@pytest.mark.parametrize(
    ("state", "lock", "status"),
    [
        (S, "", 0x0000), (S, LOCK, 0xC310), (P, LOCK, 0x0000), (P, OTHER, 0xC301), (P, "", 0xC301),
        (D, LOCK, 0xC300), (C, LOCK, 0xC300), (D, "", 0xC300),
    ],
)  # fmt: skip
def test_each_set(state: WorkitemState, lock: str, status: int) -> None:
    workitem, changes = made(state), with_lock(progress("50"), lock)
    assert status_of(lambda: workitem_after_set(workitem, changes, now=9.0)) == status


@pytest.mark.parametrize(
    ("keyword", "value", "status"),
    [
        ("ProcedureStepState", "COMPLETED", 0x0105),
        ("ProcedureStepState", "SCHEDULED", 0x0000),
        ("PatientID", "OTHER", 0x0105),
        ("StudyInstanceUID", OTHER, 0x0105),
        ("ScheduledProcedureStepPriority", "HIGH", 0x0000),
        ("ScheduledProcedureStepPriority", "", 0x0106),
        ("InputReadinessState", "INCOMPLETE", 0x0000),
    ],
)
def test_what_may_be_set(keyword: str, value: str, status: int) -> None:
    changes = Dataset()
    setattr(changes, keyword, value)
    found = status_of(lambda: workitem_after_set(made(), attributes(changes), now=9.0))
    assert found == status


def test_final_states_want_what_was_done() -> None:
    begun, _ = workitem_after_action(made(), P.value, LOCK, now=2.0)
    for state in (D, C):
        act = lambda: workitem_after_action(begun, state.value, LOCK, now=3.0)  # noqa: B023, E731
        assert status_of(act) == 0xC304
    assert final_state_faults(begun.attributes, D) == [PERFORMED_PROCEDURE]
    assert final_state_faults(begun.attributes, C) == [PROGRESS_INFORMATION]
    for keyword in (
        "PerformedProcedureStepStartDateTime", "PerformedProcedureStepEndDateTime",
        "PerformedStationNameCodeSequence", "PerformedWorkitemCodeSequence",
        "OutputInformationSequence",
    ):  # fmt: skip
        incomplete = performed()
        delattr(incomplete.UnifiedProcedureStepPerformedProcedureSequence[0], keyword)
        half = workitem_after_set(begun, with_lock(incomplete), now=3.0)
        assert len(final_state_faults(half.attributes, D)) == 1


def test_the_lock_is_in_no_attribute() -> None:
    for state in WorkitemState:
        assert TRANSACTION_UID not in made(state).attributes.elements


def test_what_nobody_performs_is_cancelled_by_way_of_in_progress() -> None:
    reasons = Dataset()
    reasons.SpecificCharacterSet = "ISO_IR 192"
    reasons.ReasonForCancellation = "nicht mehr nötig"
    begun, ended = cancelled_before_begun(made(), attributes(reasons), now=5.0)
    assert (begun.state, ended.state) == (P, C)
    item = ended.attributes.to_dataset().ProcedureStepProgressInformationSequence[0]
    assert item.ReasonForCancellation == "nicht mehr nötig"
    assert item.ProcedureStepCancellationDateTime
    assert status_of(lambda: workitem_after_action(ended, C.value, LOCK, now=9.0)) == 0xB304
    kinds = [event.kind for event in events_of(begun, ended)]
    assert kinds == [EventType.STATE_REPORT, EventType.PROGRESS_REPORT]


def test_each_change_has_its_events() -> None:
    def kinds(before: Workitem | None, after: Workitem) -> list[int]:
        return [int(event.kind) for event in events_of(before, after)]

    workitem = made()
    assert kinds(None, workitem) == [1]
    assert kinds(workitem, made(P)) == [1, 3]
    readiness = Dataset()
    readiness.InputReadinessState = "INCOMPLETE"
    assert kinds(workitem, workitem_after_set(workitem, attributes(readiness), now=2.0)) == [1]
    performer = Dataset()
    performer.ScheduledStationNameCodeSequence = performed()[0x00741216][0][0x00404028].value
    (assigned,) = events_of(workitem, workitem_after_set(workitem, attributes(performer), now=2.0))
    assert assigned.kind is EventType.ASSIGNED
    assert assigned.information.items(0x00404025)
    priority = Dataset()
    priority.ScheduledProcedureStepPriority = "HIGH"
    assert kinds(workitem, workitem_after_set(workitem, attributes(priority), now=2.0)) == []
