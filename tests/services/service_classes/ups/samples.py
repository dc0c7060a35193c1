"""Workitems of the tests, and what completes or cancels them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydicom.dataset import Dataset

from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.mpps.scu import code_item
from isocenter.services.service_classes.ups.scu import new_workitem

UID = "1.2.826.0.1.3680043.10.999.88"
LOCK = "1.2.826.0.1.3680043.10.999.89"
START = datetime(2026, 5, 4, 10, 20, tzinfo=UTC)


def scheduled(label: str = "Segment the liver", **attributes: Any) -> Dataset:
    """As an N-CREATE has it."""
    made = new_workitem(label, start=START, worklist_label="AI")
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def progress(percent: str, **more: Any) -> Dataset:
    """An N-SET that says how far it is."""
    item = Dataset()
    item.ProcedureStepProgress = percent
    for keyword, value in more.items():
        setattr(item, keyword, value)
    made = Dataset()
    made.ProcedureStepProgressInformationSequence = [item]
    return made


def performed() -> Dataset:
    """What has to be set before it is completed."""
    item = Dataset()
    item.PerformedStationNameCodeSequence = [code_item("AI1", "99TEST", "AI station")]
    item.PerformedProcedureStepStartDateTime = "20260504102000"
    item.PerformedProcedureStepEndDateTime = "20260504103000"
    item.PerformedWorkitemCodeSequence = [code_item("110001", "DCM", "Image Processing")]
    item.OutputInformationSequence = []
    made = Dataset()
    made.UnifiedProcedureStepPerformedProcedureSequence = [item]
    return made


def cancelled() -> Dataset:
    """What has to be set before it is cancelled."""
    return progress("10", ProcedureStepCancellationDateTime="20260504103000")


def attributes(dataset: Dataset) -> AttributeList:
    return AttributeList.from_dataset(dataset)
