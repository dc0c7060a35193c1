"""Events that follow from stored and deleted objects: pure functions of facts.

Whoever keeps objects, steps and commitments gathers the facts in the transaction, asks here what
happened, and writes the events in the same transaction.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.corrections.ports import CorrectedStudy
from isocenter.services.archive.deletion.records import DeletedStudy, DeletionCause
from isocenter.services.archive.ports import (
    AddOutcome,
    AddResult,
    InstanceRecord,
    StoredInstance,
)
from isocenter.services.service_classes.mpps.performed_step import MODALITY as STEP_MODALITY
from isocenter.services.service_classes.mpps.performed_step import (
    STATION_AE_TITLE,
    PerformedStep,
)
from isocenter.services.workflow.events.event import (
    CommitmentAsked,
    CommitmentDone,
    DeletedSeries,
    Event,
    InstanceCompressed,
    InstancesDeleted,
    InstancesRestored,
    InstanceStored,
    MppsChanged,
    Patient,
    SeriesOpened,
    StudyCorrected,
    StudyOpened,
    StudyOtherPatient,
    StudyReopened,
)
from isocenter.services.workflow.events.study_completion import CompletionRules

_MODALITY, _ACCESSION_NUMBER = 0x00080060, 0x00080050

#: What was added, with what became of it.
Added = Sequence[tuple[InstanceRecord, AddResult]]


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What there is of a series and its study once objects were added to it.

    Attributes:
        of_study, of_series: instances, with those that were added.
        is_receiving: the study was being received before.
    """

    of_study: int
    of_series: int
    is_receiving: bool


@dataclass(frozen=True, slots=True)
class Reception:
    """Objects of one study that came; *due_at*: when it may be complete."""

    study_instance_uid: str
    count: int
    due_at: float


def events_of_stored(
    added: Added, facts: Mapping[tuple[str, str], SeriesFacts], *, include_patient: bool
) -> list[Event]:
    """What happened when objects were added.

    Args:
        facts: by Study and Series Instance UID, of each series that is among them.
        include_patient: events of studies say whose they are.
    """
    events: list[Event] = []
    new = _new_in(added)
    studies: set[str] = set()
    series_seen: set[tuple[str, str]] = set()
    for record, outcome in added:
        study, series = record.study_instance_uid, record.series_instance_uid
        patient = Patient.of(record.attributes) if include_patient else None
        if (study, series) not in series_seen:
            here = facts[study, series]
            # One that is being received and has no older object was removed meanwhile.
            is_new = here.of_study == new[study, ""]
            if study not in studies and (is_new or not here.is_receiving):
                events.append(_study_opened(record, patient, is_new=is_new))
            if here.of_series == new[study, series]:
                events.append(_series_opened(record, patient))
            studies.add(study)
            series_seen.add((study, series))
        other = outcome.other_patient
        if other is not None and other.is_first:
            events.append(
                StudyOtherPatient(
                    study_instance_uid=study,
                    series_instance_uid=series,
                    sop_instance_uid=record.sop_instance_uid,
                    other_sop_instance_uid=other.sop_instance_uid,
                    accession_number=_text(record, _ACCESSION_NUMBER),
                    source_ae_title=record.source_ae_title,
                    patient=patient,
                )
            )
        events.append(
            InstanceStored(
                study_instance_uid=study,
                series_instance_uid=series,
                sop_instance_uid=record.sop_instance_uid,
                sop_class_uid=record.sop_class_uid,
                transfer_syntax_uid=record.transfer_syntax_uid,
                size=record.size,
                modality=_text(record, _MODALITY),
                accession_number=_text(record, _ACCESSION_NUMBER),
                source_ae_title=record.source_ae_title,
                replaced=outcome.outcome is AddOutcome.REPLACED,
                patient=patient,
            )
        )
    return events


def receptions_of(added: Added, rules: CompletionRules, now: float) -> list[Reception]:
    """Which studies received something, and when each may be complete."""
    counts: Counter[str] = Counter()
    due: dict[str, float] = {}
    for record, _ in added:
        study = record.study_instance_uid
        counts[study] += 1
        first_look = now + rules.first_look(_text(record, _MODALITY))
        due[study] = max(due.get(study, 0.0), first_look)
    return [Reception(study, count, due[study]) for study, count in counts.items()]


def events_of_step(step: PerformedStep) -> list[MppsChanged]:
    """What happened when a performed procedure step was created or changed: one for each study."""
    events = []
    for study in dict.fromkeys(each.study_instance_uid for each in step.scheduled):
        scheduled = [each for each in step.scheduled if each.study_instance_uid == study]
        numbers = (each.accession_number for each in scheduled if each.accession_number)
        events.append(
            MppsChanged(
                study_instance_uid=study,
                sop_instance_uid=step.sop_instance_uid,
                state=step.state.value,
                accession_number=next(numbers, ""),
                scheduled_step_ids=tuple(
                    each.scheduled_step_id for each in scheduled if each.scheduled_step_id
                ),
                modality=step.attributes.text(STEP_MODALITY),
                station_ae_title=step.attributes.text(STATION_AE_TITLE),
                series=len(step.series),
                instances=sum(len(series.instances) for series in step.series),
            )
        )
    return events


def event_of_commitment(
    study_instance_uid: str,
    transaction_uid: str,
    requester: str,
    *,
    is_pending: bool,
    instances: int,
    failed: int,
) -> Event:
    """What happened to the instances of one study in a storage commitment.

    Args:
        study_instance_uid: empty: of instances that are not here.
        is_pending: it was asked for; otherwise it was answered.
        failed: of *instances*, those that are not committed.
    """
    if is_pending:
        return CommitmentAsked(
            study_instance_uid=study_instance_uid,
            transaction_uid=transaction_uid,
            requester=requester,
            instances=instances,
        )
    return CommitmentDone(
        study_instance_uid=study_instance_uid,
        transaction_uid=transaction_uid,
        requester=requester,
        committed=instances - failed,
        failed=failed,
    )


def events_of_deletion(
    studies: Sequence[DeletedStudy], cause: DeletionCause, *, include_patient: bool
) -> list[InstancesDeleted]:
    """What happened when instances were deleted: one for each study."""
    return [
        InstancesDeleted(
            study_instance_uid=study.study_instance_uid,
            accession_number=study.accession_number,
            instances=study.instances,
            remaining=study.remaining,
            cause=cause.value,
            series=_series_of(study),
            patient=Patient(
                patient_id=study.patient_id,
                patient_name=study.patient_name,
                birth_date=study.birth_date,
            )
            if include_patient
            else None,
        )
        for study in studies
    ]


def events_of_return(studies: Sequence[str]) -> list[InstancesRestored]:
    """What happened when instances were restored, given the study of each."""
    return [
        InstancesRestored(study_instance_uid=study, instances=count)
        for study, count in Counter(studies).items()
    ]


def events_of_correction(corrected: CorrectedStudy) -> list[StudyCorrected]:
    """What happened when objects were exchanged for their corrected forms: one for each study."""
    counts = Counter(after.study_instance_uid for _, after in corrected.instances)
    return [
        StudyCorrected(
            study_instance_uid=study,
            previous_study_instance_uid=corrected.study_instance_uid,
            instances=count,
            corrections=corrected.numbers,
        )
        for study, count in counts.items()
    ]


def event_of_compression(before: StoredInstance, after: StoredInstance) -> InstanceCompressed:
    """An object is kept in another form."""
    return InstanceCompressed(
        study_instance_uid=after.study_instance_uid,
        series_instance_uid=after.series_instance_uid,
        sop_instance_uid=after.sop_instance_uid,
        sop_class_uid=after.sop_class_uid,
        transfer_syntax_uid=after.transfer_syntax_uid,
        size=after.size,
        previous_transfer_syntax_uid=before.transfer_syntax_uid,
        previous_size=before.size,
    )


def _study_opened(
    record: InstanceRecord, patient: Patient | None, *, is_new: bool
) -> StudyOpened | StudyReopened:
    kind = StudyOpened if is_new else StudyReopened
    return kind(
        study_instance_uid=record.study_instance_uid,
        accession_number=_text(record, _ACCESSION_NUMBER),
        source_ae_title=record.source_ae_title,
        patient=patient,
    )


def _series_opened(record: InstanceRecord, patient: Patient | None) -> SeriesOpened:
    return SeriesOpened(
        study_instance_uid=record.study_instance_uid,
        series_instance_uid=record.series_instance_uid,
        modality=_text(record, _MODALITY),
        accession_number=_text(record, _ACCESSION_NUMBER),
        source_ae_title=record.source_ae_title,
        patient=patient,
    )


def _text(record: InstanceRecord, tag: int) -> str:
    return record.attributes.get(tag, "")


def _series_of(study: DeletedStudy) -> list[DeletedSeries]:
    gone: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for each in study.gone:
        gone[each.series_instance_uid][each.sop_class_uid].append(each.sop_instance_uid)
    return [
        DeletedSeries(series_instance_uid=series, sop_instance_uids=dict(classes))
        for series, classes in gone.items()
    ]


def _new_in(added: Added) -> Counter[tuple[str, str]]:
    """How many objects each series, and under ``''`` each study, has now and had not before."""
    new: Counter[tuple[str, str]] = Counter()
    for record, outcome in added:
        study, series = record.study_instance_uid, record.series_instance_uid
        old = outcome.previous if outcome.outcome is AddOutcome.REPLACED else None
        if old is None or old.study_instance_uid != study:
            new[study, ""] += 1
            new[study, series] += 1
        elif old.series_instance_uid != series:
            new[study, series] += 1
    return new
