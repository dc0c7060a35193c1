"""Which events follow from what a transaction stored, decided without a database."""

from __future__ import annotations

import pytest

from isocenter.services.archive.ports import AddOutcome, AddResult, InstanceRecord, OtherPatient
from isocenter.services.workflow.events.stored_events import (
    SeriesFacts,
    event_of_commitment,
    events_of_return,
    events_of_stored,
    receptions_of,
)
from isocenter.services.workflow.events.study_completion import CompletionRules

ADDED = AddResult(AddOutcome.ADDED)


def record(number: int, *, study: str = "1.1", series: str = "1.1.1") -> InstanceRecord:
    return InstanceRecord(
        sop_instance_uid=f"{series}.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        study_instance_uid=study,
        series_instance_uid=series,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        object_key=f"{series}/{number}",
        size=10,
        data_set_offset=4,
        digest="0" * 64,
        attributes={0x00080060: "CT", 0x00080050: "A1", 0x00100020: "P1"},
        source_ae_title="CT1",
    )


def kinds(
    *added: tuple[InstanceRecord, AddResult], is_receiving: bool = False, older: int = 0
) -> list[str]:
    studies = [each.study_instance_uid for each, _ in added]
    series = [each.series_instance_uid for each, _ in added]
    facts = {
        (each.study_instance_uid, each.series_instance_uid): SeriesFacts(
            of_study=studies.count(each.study_instance_uid) + older,
            of_series=series.count(each.series_instance_uid) + older,
            is_receiving=is_receiving,
        )
        for each, _ in added
    }
    events = events_of_stored(added, facts, include_patient=False)
    return [event.kind.value for event in events]


def test_the_first_objects_open_study_and_series_once() -> None:
    found = kinds((record(1), ADDED), (record(2), ADDED), (record(1, series="1.1.2"), ADDED))
    assert found == [
        "study.opened", "series.opened", "instance.stored", "instance.stored",
        "series.opened", "instance.stored",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("is_receiving", "older", "expected"),
    [
        (False, 3, ["study.reopened", "instance.stored"]),
        (True, 3, ["instance.stored"]),
        # It is being received, and what had come was removed meanwhile.
        (True, 0, ["study.opened", "series.opened", "instance.stored"]),
    ],
)
def test_a_study_that_is_known(is_receiving: bool, older: int, expected: list[str]) -> None:
    assert kinds((record(1), ADDED), is_receiving=is_receiving, older=older) == expected


def test_an_object_that_moves_is_new_to_the_study_it_moves_to() -> None:
    before = record(1, study="1.9", series="1.9.1")
    moved = AddResult(AddOutcome.REPLACED, before)
    assert kinds((record(1), moved)) == ["study.opened", "series.opened", "instance.stored"]
    same = AddResult(AddOutcome.REPLACED, record(1))
    # What took the place of itself had opened its series before.
    assert kinds((record(1), same)) == ["study.reopened", "instance.stored"]


@pytest.mark.parametrize("is_first", [True, False])
def test_another_patient_is_told_once(is_first: bool) -> None:
    other = AddResult(AddOutcome.ADDED, None, OtherPatient("1.2.3", is_first=is_first))
    found = kinds((record(1), other), is_receiving=True, older=1)
    assert found.count("study.other_patient") == is_first


def test_events_say_whose_they_are_only_if_asked() -> None:
    facts = {("1.1", "1.1.1"): SeriesFacts(1, 1, False)}
    for include_patient in (True, False):
        events = events_of_stored([(record(1), ADDED)], facts, include_patient=include_patient)
        assert all((event.patient is not None) is include_patient for event in events)  # type: ignore[attr-defined]


def test_a_study_is_looked_at_when_the_slowest_of_its_objects_says() -> None:
    rules = CompletionRules(quiet_seconds=60, settle_seconds=5, longest_wait_seconds=1_000)
    added = [
        (record(1), ADDED),
        (record(2), ADDED),
        (record(1, study="1.2", series="1.2.1"), ADDED),
    ]
    found = receptions_of(added, rules, 100.0)
    assert [(each.study_instance_uid, each.count) for each in found] == [("1.1", 2), ("1.2", 1)]
    assert all(each.due_at == 100.0 + rules.first_look("CT") for each in found)


def test_a_commitment_is_asked_or_done() -> None:
    asked = event_of_commitment("1", "2.25.1", "CT1", is_pending=True, instances=3, failed=0)
    done = event_of_commitment("1", "2.25.1", "CT1", is_pending=False, instances=3, failed=1)
    assert asked.kind.value == "commitment.asked"
    assert asked.instances == 3  # type: ignore[union-attr]
    assert (done.kind.value, done.committed, done.failed) == ("commitment.done", 2, 1)  # type: ignore[union-attr]


def test_what_returns_is_counted_by_study() -> None:
    found = events_of_return(["1", "2", "1"])
    assert [(each.study_instance_uid, each.instances) for each in found] == [("1", 2), ("2", 1)]
