"""Steps as a good modality sends them, for tests to damage."""

from __future__ import annotations

from datetime import UTC, datetime

from pydicom.dataset import Dataset

from isocenter.services.service_classes.mpps.performed_step import StepState
from isocenter.services.service_classes.mpps.scu import final_step, new_step, performed_series
from support.studies import instance

UID = "1.2.826.0.1.3680043.10.999.77"
BEGAN = datetime(2026, 1, 2, 10, 15, tzinfo=UTC)
ENDED = datetime(2026, 1, 2, 10, 45, tzinfo=UTC)


def worklist_entry() -> Dataset:
    scheduled = Dataset()
    scheduled.Modality = "CT"
    scheduled.ScheduledProcedureStepID = "SPS1"
    scheduled.ScheduledProcedureStepDescription = "Schädel nativ"
    entry = Dataset()
    entry.SpecificCharacterSet = "ISO_IR 100"
    entry.AccessionNumber = "A1"
    entry.PatientName, entry.PatientID = "Müller^Jörg", "P1"
    entry.PatientBirthDate, entry.PatientSex = "19700102", "O"
    entry.StudyInstanceUID = str(instance().StudyInstanceUID)
    entry.RequestedProcedureID = "RP1"
    entry.RequestedProcedureDescription = "Schädel"
    entry.ScheduledProcedureStepSequence = [scheduled]
    return entry


def begun() -> Dataset:
    """An N-CREATE with all attributes of type 1 and 2."""
    return new_step(
        performed_step_id="PPS1",
        station_ae_title="CT1",
        modality="",
        started=BEGAN,
        worklist_entry=worklist_entry(),
    )


def ended(state: StepState = StepState.COMPLETED) -> Dataset:
    """The N-SET that ends it, with two images."""
    images = [instance(number=1), instance(number=2)]
    return final_step(state, ended=ENDED, series=performed_series(images, protocol_name="ABDOMEN"))
