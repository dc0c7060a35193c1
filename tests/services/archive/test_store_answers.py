"""Answers to store requests: what each outcome of the index means for who sent the object."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isocenter.engine.dimse.status import Status
from isocenter.services.archive.object_scan import OtherPatientError, StoreError
from isocenter.services.archive.ports import (
    AddOutcome,
    AddResult,
    DuplicatePolicy,
    InstanceRecord,
    OtherPatient,
    OtherPatientPolicy,
)
from isocenter.services.archive.store_answers import (
    StoreAnswers,
    StoreOutcome,
    StoreResult,
    superfluous_key,
)

RECORD = InstanceRecord(
    sop_instance_uid="1.2.3.4",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    study_instance_uid="1.2",
    series_instance_uid="1.2.3",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    object_key="new",
    size=10,
    data_set_offset=4,
    digest="a" * 64,
)
SAME = replace(RECORD, object_key="old")
OTHER = replace(SAME, digest="b" * 64)
ANOTHER_PATIENT = OtherPatient("1.2.3.5", is_first=True)


def answers(
    duplicates: DuplicatePolicy = DuplicatePolicy.IGNORE,
    other_patient: OtherPatientPolicy = OtherPatientPolicy.WARN,
) -> StoreAnswers:
    return StoreAnswers(duplicates, other_patient)


@pytest.mark.parametrize(
    ("added", "outcome", "status"),
    [
        (AddResult(AddOutcome.ADDED), StoreOutcome.STORED, Status.SUCCESS),
        (AddResult(AddOutcome.REPLACED, OTHER), StoreOutcome.REPLACED, Status.SUCCESS),
        (AddResult(AddOutcome.DUPLICATE, SAME), StoreOutcome.ALREADY_STORED, Status.SUCCESS),
        (AddResult(AddOutcome.DUPLICATE, OTHER), StoreOutcome.KEPT_OTHER, Status.DATA_SET_MISMATCH),
        (AddResult(AddOutcome.QUARANTINED), StoreOutcome.QUARANTINED, Status.SUCCESS),
        (AddResult(AddOutcome.ALREADY_QUARANTINED), StoreOutcome.QUARANTINED, Status.SUCCESS),
        (AddResult(AddOutcome.IGNORED), StoreOutcome.IGNORED, Status.SUCCESS),
    ],
)
def test_what_is_kept_is_success_or_a_warning(
    added: AddResult, outcome: StoreOutcome, status: Status
) -> None:
    answer = answers().of_added(RECORD, added)
    assert isinstance(answer, StoreResult)
    assert (answer.outcome, answer.status) == (outcome, status)


def test_an_object_that_is_kept_otherwise_than_it_came_is_known_again() -> None:
    compressed = replace(OTHER, received_digest=RECORD.digest)
    answer = answers().of_duplicate(RECORD, compressed)
    assert answer == StoreResult(StoreOutcome.ALREADY_STORED, compressed)


def test_what_a_note_has_rejected_is_refused_with_its_title() -> None:
    answer = answers().of_added(RECORD, AddResult(AddOutcome.REFUSED, rejection="113037"))
    assert isinstance(answer, StoreError)
    assert answer.status == Status.NOT_AUTHORIZED
    assert "113037" in answer.comment


def test_duplicates_are_refused_where_they_are_to_be() -> None:
    answer = answers(DuplicatePolicy.REJECT).of_duplicate(RECORD, SAME)
    assert isinstance(answer, StoreError)
    assert answer.status == Status.DUPLICATE_SOP_INSTANCE


@pytest.mark.parametrize("policy", [OtherPatientPolicy.WARN, OtherPatientPolicy.ACCEPT])
def test_another_patient_is_a_warning_where_it_is_to_be(policy: OtherPatientPolicy) -> None:
    added = AddResult(AddOutcome.ADDED, other_patient=ANOTHER_PATIENT)
    answer = answers(other_patient=policy).of_added(RECORD, added)
    assert isinstance(answer, StoreResult)
    is_warning = answer.status == Status.COERCION_OF_DATA_ELEMENTS
    assert is_warning is (policy is OtherPatientPolicy.WARN)


def test_another_patient_is_refused_by_the_index() -> None:
    answer = answers(other_patient=OtherPatientPolicy.REJECT).of_added(
        RECORD, AddResult(AddOutcome.OTHER_PATIENT, other_patient=ANOTHER_PATIENT)
    )
    assert isinstance(answer, OtherPatientError)
    assert answer.status == Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS


@pytest.mark.parametrize(
    ("added", "key"),
    [
        (AddResult(AddOutcome.ADDED), None),
        (AddResult(AddOutcome.REPLACED, OTHER), "old"),
        (AddResult(AddOutcome.DUPLICATE, SAME), "new"),
        (AddResult(AddOutcome.DUPLICATE, RECORD), None),
        (AddResult(AddOutcome.REPLACED, RECORD), None),
        (AddResult(AddOutcome.OTHER_PATIENT), "new"),
        (AddResult(AddOutcome.OTHER_PATIENT, SAME), "new"),
        (AddResult(AddOutcome.OTHER_PATIENT, RECORD), None),
        (AddResult(AddOutcome.QUARANTINED), None),
        (AddResult(AddOutcome.ALREADY_QUARANTINED), "new"),
        (AddResult(AddOutcome.REFUSED, rejection="113037"), "new"),
        (AddResult(AddOutcome.IGNORED), "new"),
    ],
)
def test_one_object_of_two_is_superfluous(added: AddResult, key: str | None) -> None:
    assert superfluous_key(RECORD, added) == key
