"""Modality performed procedure step SCU (PS3.4 F.7, F.8).

uid = new_uid()
step = new_step(performed_step_id="P1", station_ae_title="CT1", modality="CT", started=now)
answer = await create_step(association, uid, step)
series = performed_series(images, protocol_name="ABDOMEN")
answer = await set_step(association, uid, final_step(COMPLETED, ended=now, series=series))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from isocenter.services.association.requestor import Context
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES, name_of
from isocenter.services.dicom.uids import new_uid
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.mpps.performed_step import MPPS, MPPS_RETRIEVE, StepState
from isocenter.services.service_classes.normalized.operations import (
    NServiceResponse,
    n_create,
    n_get,
    n_set,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: What is proposed to create and set steps, and to get them.
CONTEXTS: Final[Sequence[Context]] = ((MPPS, BASIC_SYNTAXES), (MPPS_RETRIEVE, BASIC_SYNTAXES))

#: Of a worklist entry, what goes into an item of Scheduled Step Attributes Sequence: type 2
#: keywords, of the entry itself and of its Scheduled Procedure Step Sequence item.
_SCHEDULED: Final = (
    "AccessionNumber", "ReferencedStudySequence", "RequestedProcedureID",
    "RequestedProcedureDescription",
)  # fmt: skip
_SCHEDULED_STEP: Final = (
    "ScheduledProcedureStepID", "ScheduledProcedureStepDescription",
    "ScheduledProtocolCodeSequence",
)  # fmt: skip
_SCHEDULED_OPTIONAL: Final = ("RequestedProcedureCodeSequence",)
_PATIENT: Final = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "ReferencedPatientSequence",
)  # fmt: skip
#: Type 2 at creation, to be known later or never.
_LATER: Final = (
    "PerformedStationName", "PerformedLocation", "PerformedProcedureStepDescription",
    "PerformedProcedureTypeDescription", "ProcedureCodeSequence", "PerformedProcedureStepEndDate",
    "PerformedProcedureStepEndTime", "StudyID", "PerformedProtocolCodeSequence",
    "PerformedSeriesSequence", "PerformedProcedureStepDiscontinuationReasonCodeSequence",
)  # fmt: skip


def new_step(
    *,
    performed_step_id: str,
    station_ae_title: str,
    modality: str,
    started: datetime,
    worklist_entry: Dataset | None = None,
    study_instance_uid: str = "",
) -> Dataset:
    """The attributes of an N-CREATE: everything that Table F.7.2-1 has as type 1 or 2.

    Args:
        performed_step_id, station_ae_title, modality: type 1; *modality* may be empty when
            *worklist_entry* has one.
        worklist_entry: as a worklist query gives it; what it says of patient, order and
            schedule is taken over.  None: the step was not scheduled.
        study_instance_uid: where *worklist_entry* has none; by default a new one.
    """
    entry = _empty() if worklist_entry is None else worklist_entry
    scheduled = _first_item(entry, "ScheduledProcedureStepSequence")
    step = _empty()
    if "SpecificCharacterSet" in entry:
        step.SpecificCharacterSet = entry.SpecificCharacterSet
    item = _empty()
    item.StudyInstanceUID = study_instance_uid or entry.get("StudyInstanceUID") or new_uid()
    _take_over(item, entry, _SCHEDULED)
    _take_over(item, scheduled, _SCHEDULED_STEP)
    _take_over(item, entry, [name for name in _SCHEDULED_OPTIONAL if name in entry])
    step.ScheduledStepAttributesSequence = [item]
    _take_over(step, entry, _PATIENT)
    step.PerformedProcedureStepID = performed_step_id
    step.PerformedStationAETitle = station_ae_title
    step.PerformedProcedureStepStartDate = started.strftime("%Y%m%d")
    step.PerformedProcedureStepStartTime = started.strftime("%H%M%S")
    step.PerformedProcedureStepStatus = StepState.IN_PROGRESS.value
    step.Modality = modality or scheduled.get("Modality", "")
    _take_over(step, _empty(), _LATER)
    step.PerformedProcedureStepDescription = scheduled.get("ScheduledProcedureStepDescription", "")
    return step


def final_step(
    state: StepState,
    *,
    ended: datetime,
    series: Sequence[Dataset],
    reason: Dataset | None = None,
) -> Dataset:
    """The attributes of the N-SET that ends a step.

    Args:
        series: items of Performed Series Sequence, at least one (see `performed_series`).
        reason: code item for (0040,0281), of a step that is discontinued (CID 9300).
    """
    changes = _empty()
    changes.PerformedProcedureStepStatus = state.value
    changes.PerformedProcedureStepEndDate = ended.strftime("%Y%m%d")
    changes.PerformedProcedureStepEndTime = ended.strftime("%H%M%S")
    changes.PerformedSeriesSequence = list(series)
    if reason is not None:
        changes.PerformedProcedureStepDiscontinuationReasonCodeSequence = [reason]
    return changes


def performed_series(
    objects: Iterable[Dataset], *, protocol_name: str, retrieve_ae_title: str = ""
) -> list[Dataset]:
    """Items of Performed Series Sequence for some objects, of which the headers suffice.

    Args:
        protocol_name: type 1, for series whose objects have none.
    """
    found: dict[str, Dataset] = {}
    for each in objects:
        series = found.get(str(each.SeriesInstanceUID))
        if series is None:
            series = found[str(each.SeriesInstanceUID)] = empty_series(
                str(each.SeriesInstanceUID), each.get("ProtocolName") or protocol_name
            )
            for name in ("PerformingPhysicianName", "OperatorsName", "SeriesDescription"):
                if each.get(name):
                    setattr(series, name, each.get(name))
            series.RetrieveAETitle = retrieve_ae_title
        reference = _empty()
        reference.ReferencedSOPClassUID = each.SOPClassUID
        reference.ReferencedSOPInstanceUID = each.SOPInstanceUID
        if "Image" in name_of(str(each.SOPClassUID)):
            series.ReferencedImageSequence.append(reference)
        else:
            series.ReferencedNonImageCompositeSOPInstanceSequence.append(reference)
    return list(found.values())


def empty_series(series_instance_uid: str, protocol_name: str) -> Dataset:
    """An item of Performed Series Sequence without instances: a step has to have a series, also
    when nothing came of it (Table F.7.2-1, note 2)."""
    series = _empty()
    series.PerformingPhysicianName = ""
    series.ProtocolName = protocol_name
    series.OperatorsName = ""
    series.SeriesInstanceUID = series_instance_uid
    series.SeriesDescription = ""
    series.RetrieveAETitle = ""
    series.ReferencedImageSequence = []
    series.ReferencedNonImageCompositeSOPInstanceSequence = []
    return series


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence (PS3.3 8.8)."""
    item = _empty()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


async def create_step(
    association: ClientAssociation, sop_instance_uid: str, step: Dataset
) -> NServiceResponse:
    """N-CREATE of a step; see `normalized.create`."""
    return await n_create(association, MPPS, sop_instance_uid, AttributeList.from_dataset(step))


async def set_step(
    association: ClientAssociation, sop_instance_uid: str, changes: Dataset
) -> NServiceResponse:
    """N-SET of a step; see `normalized.set_attributes`."""
    attributes = AttributeList.from_dataset(changes)
    return await n_set(association, MPPS, sop_instance_uid, attributes)


async def get_step(
    association: ClientAssociation, sop_instance_uid: str, tags: Sequence[int] = ()
) -> NServiceResponse:
    """N-GET of a step, whole or some attributes of it; see `n_get`."""
    return await n_get(association, MPPS_RETRIEVE, sop_instance_uid, tags)


def _empty() -> Dataset:
    from pydicom import Dataset

    return Dataset()


def _first_item(dataset: Dataset, keyword: str) -> Dataset:
    items = dataset.get(keyword) or [_empty()]
    first: Dataset = items[0]
    return first


def _take_over(target: Dataset, source: Dataset, keywords: Iterable[str]) -> None:
    """Type 2 attributes: empty where there is nothing."""
    for keyword in keywords:
        is_sequence = keyword.endswith("Sequence")
        setattr(target, keyword, source.get(keyword) or ([] if is_sequence else ""))
