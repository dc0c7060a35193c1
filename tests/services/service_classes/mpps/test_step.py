"""How a step comes to be and changes: PS3.4 F.7.2.1.3, F.7.2.2.3."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydicom.dataset import Dataset

from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.mpps.performed_step import (
    NO_LONGER,
    PerformedStep,
    ScheduledStep,
    StepError,
    StepEvent,
    StepState,
    step_after_set,
    step_event,
    step_of_create,
)
from isocenter.services.service_classes.mpps.scu import empty_series
from services.service_classes.mpps.samples import UID, begun, ended
from support.studies import CT_IMAGE_STORAGE, instance


def create(dataset: Dataset, **options: bool) -> PerformedStep:
    attributes = AttributeList.from_dataset(dataset)
    return step_of_create(UID, attributes, source_ae_title="CT1", now=1.0, **options)


def change(step: PerformedStep, dataset: Dataset, **options: bool) -> PerformedStep:
    return step_after_set(step, AttributeList.from_dataset(dataset), now=2.0, **options)


def only(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def refused(dataset: Dataset, step: PerformedStep | None = None, **options: bool) -> StepError:
    try:
        if step is None:
            create(dataset, **options)
        else:
            change(step, dataset, **options)
    except StepError as fault:
        return fault
    raise AssertionError("nothing was refused")


def test_a_step_says_what_was_scheduled_and_what_came_of_it() -> None:
    step = create(begun())
    assert step.state is StepState.IN_PROGRESS
    assert step.scheduled == (ScheduledStep(str(instance().StudyInstanceUID), "A1", "RP1", "SPS1"),)
    assert step.series == ()
    done = change(step, ended())
    assert done.state is StepState.COMPLETED
    (series,) = done.series
    assert series.series_instance_uid == str(instance().SeriesInstanceUID)
    assert series.instances == tuple(
        (CT_IMAGE_STORAGE, str(instance(number=number).SOPInstanceUID)) for number in (1, 2)
    )
    assert (done.created_at, done.changed_at) == (1.0, 2.0)


def test_it_begins_in_progress_and_nowhere_else() -> None:
    for state in ("COMPLETED", "DISCONTINUED", "SCHEDULED", "DONE"):
        step = begun()
        step.PerformedProcedureStepStatus = state
        fault = refused(step)
        assert (fault.status, fault.attributes) == (0x0106, (0x00400252,))


def test_what_is_missing_goes_before_what_is_empty_and_all_of_it_is_named() -> None:
    step = begun()
    del step.PerformedStationAETitle, step.PerformedProcedureStepStartDate
    step.Modality = ""
    fault = refused(step)
    assert (fault.status, fault.attributes) == (0x0120, (0x00400241, 0x00400244))
    assert fault.comment == "(0040,0241) missing and 1 more"
    step = begun()
    step.Modality = ""
    assert refused(step).status == 0x0121


def test_strict_asks_for_type_2_as_well() -> None:
    step = begun()
    del step.PatientID
    assert create(step).state is StepState.IN_PROGRESS
    assert refused(step, strict=True).attributes == (0x00100020,)


@pytest.mark.parametrize("state", [StepState.COMPLETED, StepState.DISCONTINUED])
def test_a_final_state_is_final(state: StepState) -> None:
    step = change(create(begun()), ended(state))
    assert step.state is state
    for changes in (ended(), only(PerformedProcedureStepStatus="IN PROGRESS"), Dataset()):
        fault = refused(changes, step)
        assert (fault.status, fault.error_id, fault.comment) == (0x0110, 0xA710, NO_LONGER)


def test_it_may_be_updated_until_then() -> None:
    step = create(begun())
    for text in ("first", "second"):
        step = change(step, only(PerformedProcedureStepDescription=text))
        assert step.attributes.text(0x00400254) == text
        assert step.state is StepState.IN_PROGRESS
    step = change(step, only(PerformedProcedureStepStatus="IN PROGRESS"))
    assert refused(only(PerformedProcedureStepStatus="DONE"), step).status == 0x0106
    assert refused(only(PerformedProcedureStepStatus=""), step).status == 0x0121


def test_the_end_needs_its_attributes_wherever_they_were_set() -> None:
    step = create(begun())
    fault = refused(only(PerformedProcedureStepStatus="COMPLETED"), step)
    assert (fault.status, fault.attributes) == (0x0121, (0x00400250, 0x00400251, 0x00400340))
    changes = ended()
    del changes.PerformedProcedureStepStatus
    step = change(step, changes)
    assert step.state is StepState.IN_PROGRESS
    assert change(step, only(PerformedProcedureStepStatus="DISCONTINUED")).state.is_final


def test_a_series_suffices_without_any_instance() -> None:
    changes = ended(StepState.DISCONTINUED)
    changes.PerformedSeriesSequence = [empty_series("1.2.3", "SCOUT")]
    assert change(create(begun()), changes).series[0].instances == ()


def test_what_may_not_be_set_does_no_harm_when_it_is_as_it_was() -> None:
    step = create(begun())
    same = begun()  # in another character set, as some modalities do it
    same.SpecificCharacterSet = "ISO_IR 192"
    assert change(step, same).attributes.text(0x00100010) == "Müller^Jörg"
    other = only(PatientName="Meier^Jörg", SpecificCharacterSet="ISO_IR 100", Modality="CT")
    fault = refused(other, step)
    assert (fault.status, fault.attributes) == (0x0105, (0x00100010,))
    assert refused(only(AdmissionID="1"), step).attributes == (0x00380010,)


def test_sequences_are_replaced_whole() -> None:
    step = change(create(begun()), ended())
    assert step.state.is_final
    step = create(begun())
    changes = ended()
    del changes.PerformedProcedureStepStatus
    step = change(step, changes)
    changes.PerformedSeriesSequence = [empty_series("1.2.3", "SCOUT")]
    step = change(step, changes)
    assert [series.series_instance_uid for series in step.series] == ["1.2.3"]


def test_character_sets_are_combined() -> None:
    """F.7.2.2.3: what was not changed reads as it did before."""
    step = create(begun())
    assert step.attributes.character_set == ("ISO_IR 100",)
    changes = only(
        SpecificCharacterSet=["", "ISO 2022 IR 87"], PerformedProcedureStepDescription="頭部"
    )
    step = change(step, changes)
    assert step.attributes.character_set == ("ISO_IR 192",)
    assert step.attributes.text(0x00400254) == "頭部"
    assert step.attributes.text(0x00100010) == "Müller^Jörg"
    again = step.attributes.to_dataset()
    scheduled = again.ScheduledStepAttributesSequence[0]
    assert scheduled.ScheduledProcedureStepDescription == "Schädel nativ"
    # One character set that has room for both stays.
    step = change(create(begun()), only(SpecificCharacterSet="ISO_IR 192", Modality="CT"))
    assert step.attributes.character_set == ("ISO_IR 100",)


@pytest.mark.parametrize("uid", ["../../etc", "1.2/3", "*", "1." + "2" * 70])
def test_uids_are_uids(uid: str) -> None:
    attributes = AttributeList.from_dataset(ended())
    item = dict(attributes.items(0x00400340)[0])
    item[0x0020000E] = item[0x0020000E]._replace(value=uid.encode())
    sequence = attributes.elements[0x00400340]._replace(value=(item,))
    damaged = AttributeList({**attributes.elements, 0x00400340: sequence})
    with pytest.raises(StepError) as caught:
        step_after_set(create(begun()), damaged, now=2.0)
    assert (caught.value.status, caught.value.attributes) == (0x0106, (0x0020000E,))
    assert uid not in str(caught.value)


def test_many_updates_come_to_an_end() -> None:
    limits = replace(DEFAULT_LIMITS, identifier=8_000)
    step = create(begun())
    statuses = []
    for number in range(16):
        private = Dataset()
        private.add_new(0x00190010, "LO", "TEST")
        private.add_new(0x00191000 + number, "LT", "x" * 1_000)
        attributes = AttributeList.from_dataset(private)
        try:
            step = step_after_set(step, attributes, now=2.0, limits=limits)
        except StepError as fault:
            statuses.append(fault.status)
    assert 0 < len(statuses) < 16
    assert set(statuses) == {0x0213}


def test_events() -> None:
    step = create(begun())
    assert step_event(None, step) is StepEvent.IN_PROGRESS
    assert step_event(step, change(step, only(StudyID=""))) is StepEvent.UPDATED
    assert step_event(step, change(step, ended())) is StepEvent.COMPLETED
    discontinued = change(step, ended(StepState.DISCONTINUED))
    assert step_event(step, discontinued) is StepEvent.DISCONTINUED


def test_nothing_of_the_patient_in_its_name() -> None:
    assert repr(create(begun())) == f"PerformedStep('{UID}', IN PROGRESS)"
