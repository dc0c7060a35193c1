"""Open studies: kept in the transactions that bring their objects.

`EventWriter` has the functions that go into those transactions; `DatabaseOpenStudies` declares
studies complete.
"""

# ruff: noqa: S608  (conditions come from constants, values are bound)

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from time import time
from typing import Final

from isocenter.services.archive.deletion.records import DeletedStudy, DeletionCause
from isocenter.services.archive.ports import AddOutcome, AddResult, InstanceRecord
from isocenter.services.service_classes.mpps.performed_step import MODALITY as STEP_MODALITY
from isocenter.services.service_classes.mpps.performed_step import (
    STATION_AE_TITLE,
    PerformedStep,
    StepState,
)
from isocenter.services.workflow.events.event import (
    CommitmentAsked,
    CommitmentDone,
    DeletedSeries,
    Event,
    InstancesDeleted,
    InstanceStored,
    MppsChanged,
    Patient,
    SeriesOpened,
    StudyComplete,
    StudyOpened,
    StudyOtherPatient,
    StudyReopened,
    utc_timestamp,
)
from isocenter.services.workflow.events.study_completion import (
    CompleteStudy,
    CompletionRules,
    ReceivingStudy,
    StepFacts,
    StudyFacts,
    decide_completion,
)
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import smaller
from isocenter.storage.database.events.outbox import insert_event, insert_events
from isocenter.storage.database.index.records import STUDY_AS_SAID_LAST

_MODALITY, _ACCESSION_NUMBER = 0x00080060, 0x00080050
#: Study, now, when it may be complete, and how many objects came.
_RECEIVE_MORE: Final = (
    "UPDATE study_completion SET last_at = :now, num_received = num_received + :count "
    "WHERE study_instance_uid = :study AND state = 'receiving' AND due_at <= :due_at"
)
_RECEIVE: Final = (
    "INSERT INTO study_completion (study_instance_uid, state, first_at, last_at, due_at, "
    "num_received) VALUES (:study, 'receiving', :now, :now, :due_at, :count) "
    "ON CONFLICT (study_instance_uid) DO UPDATE SET "
    "last_at = :now, due_at = :due_at, state = 'receiving', first_at = "
    "CASE study_completion.state WHEN 'receiving' THEN study_completion.first_at ELSE :now END, "
    "num_received = :count + "
    "CASE study_completion.state WHEN 'receiving' THEN study_completion.num_received ELSE 0 END"
)
#: Studies that are forgotten in one transaction.
_FORGOTTEN: Final = 1_000
#: Studies that are judged in one transaction: those of thousands of instances take milliseconds.
_AT_ONCE: Final = 16


class EventWriter:
    """What is written beside objects, steps and commitments, in their transactions.

    Args:
        include_patient: events of studies say whose they are.
        now: seconds since 1970.
    """

    def __init__(
        self,
        rules: CompletionRules,
        *,
        include_patient: bool = False,
        now: Callable[[], float] = time,
    ) -> None:
        self._rules = rules
        self._include_patient = include_patient
        self._now = now

    def stored(
        self, connection: Connection, added: Sequence[tuple[InstanceRecord, AddResult]]
    ) -> None:
        """Beside objects (`isocenter.storage.database.index.records.AddHook`)."""
        now = self._now()
        events: list[Event] = []
        new = _new_in(added)
        received: Counter[str] = Counter()
        due: dict[str, float] = {}
        opened: set[tuple[str, str]] = set()
        for record, outcome in added:
            study, series = record.study_instance_uid, record.series_instance_uid
            get = record.attributes.get
            modality, accession_number = get(_MODALITY, ""), get(_ACCESSION_NUMBER, "")
            patient = Patient.of(record.attributes) if self._include_patient else None
            if (study, series) not in opened:
                is_first = study not in received
                opened.add((study, series))
                events += self._opened(
                    connection, record, modality, accession_number, patient, new, is_first
                )
            other = outcome.other_patient
            if other is not None and other.is_first:
                events.append(
                    StudyOtherPatient(
                        study_instance_uid=study,
                        series_instance_uid=series,
                        sop_instance_uid=record.sop_instance_uid,
                        other_sop_instance_uid=other.sop_instance_uid,
                        accession_number=accession_number,
                        source_ae_title=record.source_ae_title,
                        patient=patient,
                    )
                )
            received[study] += 1
            due[study] = max(due.get(study, 0.0), now + self._rules.first_look(modality))
            events.append(
                InstanceStored(
                    study_instance_uid=study,
                    series_instance_uid=series,
                    sop_instance_uid=record.sop_instance_uid,
                    sop_class_uid=record.sop_class_uid,
                    transfer_syntax_uid=record.transfer_syntax_uid,
                    size=record.size,
                    modality=modality,
                    accession_number=accession_number,
                    source_ae_title=record.source_ae_title,
                    replaced=outcome.outcome is AddOutcome.REPLACED,
                    patient=patient,
                )
            )
        for study, count in received.items():
            values = {"study": study, "now": now, "due_at": due[study], "count": count}
            # The usual case touches no index: a look that comes too soon finds out by itself.
            if not connection.execute(_RECEIVE_MORE, values).rowcount:
                connection.execute(_RECEIVE, values)
        insert_events(connection, events, now)

    def _opened(
        self,
        connection: Connection,
        record: InstanceRecord,
        modality: str,
        accession_number: str,
        patient: Patient | None,
        new: Counter[tuple[str, str]],
        is_first: bool,
    ) -> list[Event]:
        """What the first object of a series in this transaction opens."""
        study, series = record.study_instance_uid, record.series_instance_uid
        of_study, of_series, state = connection.execute(
            "SELECT study.num_instances, series.num_instances, (SELECT state FROM "
            "study_completion c WHERE c.study_instance_uid = study.study_instance_uid) "
            "FROM study JOIN series USING (study_pk) "
            "WHERE study_instance_uid = ? AND series_instance_uid = ?",
            (study, series),
        ).fetchone()
        events: list[Event] = []
        if is_first and (state != "receiving" or of_study == new[study, ""]):
            # One that is being received and has no older object was removed meanwhile.
            kind = StudyOpened if of_study == new[study, ""] else StudyReopened
            events.append(
                kind(
                    study_instance_uid=study,
                    accession_number=accession_number,
                    source_ae_title=record.source_ae_title,
                    patient=patient,
                )
            )
        if of_series == new[study, series]:
            events.append(
                SeriesOpened(
                    study_instance_uid=study,
                    series_instance_uid=series,
                    modality=modality,
                    accession_number=accession_number,
                    source_ae_title=record.source_ae_title,
                    patient=patient,
                )
            )
        return events

    def step_changed(
        self, connection: Connection, _before: PerformedStep | None, step: PerformedStep
    ) -> None:
        """Beside performed procedure steps (`database.performed_steps.Beside`)."""
        now = self._now()
        for study in dict.fromkeys(each.study_instance_uid for each in step.scheduled):
            scheduled = [each for each in step.scheduled if each.study_instance_uid == study]
            numbers = (each.accession_number for each in scheduled if each.accession_number)
            insert_event(
                connection,
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
                ),
                now,
            )
            self._look_soon(connection, study, now)

    def commitment_changed(self, connection: Connection, commitment_pk: int) -> None:
        """Beside storage commitments (`isocenter.storage.database.commitments.Beside`)."""
        now = self._now()
        transaction_uid, requester, state = connection.execute(
            "SELECT transaction_uid, requester, state FROM commitment WHERE commitment_pk = ?",
            (commitment_pk,),
        ).fetchone()
        rows = connection.execute(
            "SELECT coalesce(study_instance_uid, ''), count(*), count(nullif(failure_reason, 0)) "
            "FROM commitment_reference LEFT JOIN instance USING (sop_instance_uid) "
            "LEFT JOIN series USING (series_pk) LEFT JOIN study USING (study_pk) "
            "WHERE commitment_pk = ? GROUP BY 1",
            (commitment_pk,),
        ).fetchall()
        for study, instances, failed in rows:
            event: Event
            if state == "pending":
                event = CommitmentAsked(
                    study_instance_uid=study,
                    transaction_uid=transaction_uid,
                    requester=requester,
                    instances=instances,
                )
                self._look_soon(connection, study, now)
            else:
                event = CommitmentDone(
                    study_instance_uid=study,
                    transaction_uid=transaction_uid,
                    requester=requester,
                    committed=instances - failed,
                    failed=failed,
                )
            insert_event(connection, event, now)

    def deleted(
        self,
        connection: Connection,
        studies: Sequence[DeletedStudy],
        cause: DeletionCause,
    ) -> None:
        """Beside deletions (`isocenter.storage.database.deletion.DeleteHook`)."""
        insert_events(
            connection,
            [
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
                    if self._include_patient
                    else None,
                )
                for study in studies
            ],
            self._now(),
        )

    def _look_soon(self, connection: Connection, study: str, now: float) -> None:
        connection.execute(
            f"UPDATE study_completion SET due_at = {smaller('due_at', '?')} "
            "WHERE study_instance_uid = ? AND state = 'receiving'",
            (now + self._rules.settle_seconds, study),
        )


def _series_of(study: DeletedStudy) -> list[DeletedSeries]:
    gone: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for each in study.gone:
        gone[each.series_instance_uid][each.sop_class_uid].append(each.sop_instance_uid)
    return [
        DeletedSeries(series_instance_uid=series, sop_instance_uids=dict(classes))
        for series, classes in gone.items()
    ]


def _new_in(added: Sequence[tuple[InstanceRecord, AddResult]]) -> Counter[tuple[str, str]]:
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


class DatabaseOpenStudies:
    """See `isocenter.services.workflow.events.ports.OpenStudies`.

    Args:
        include_patient: as of `EventWriter`.
        now: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        *,
        include_patient: bool = False,
        now: Callable[[], float] = time,
    ) -> None:
        self._database = database
        self._include_patient = include_patient
        self._now = now

    async def declare(self, rules: CompletionRules) -> float | None:
        """See `OpenStudies.declare`; costs no write when nothing is due."""
        due_at, last_due_at = await self._database.read(_dues)
        now = self._now()
        if last_due_at is not None and last_due_at > now + 2 * rules.longest_wait_seconds:
            await self._database.write(_mend_times, now, now + rules.longest_wait_seconds)
            due_at = await self._database.read(_next_due)
        while due_at is not None and due_at <= self._now():
            due_at = await self._database.write(_declare, rules, self._include_patient, self._now())
        return due_at

    async def count(self) -> int:
        """See `OpenStudies.count`."""
        return await self._database.read(_count)

    async def forget(self, keep_seconds: float) -> int:
        """See `OpenStudies.forget`; costs no write when there is nothing to forget."""
        before = self._now() - keep_seconds
        gone = await self._database.read(_gone, before)
        return await self._database.write(_forget, gone) if gone else 0


def _next_due(connection: Connection) -> float | None:
    row = connection.execute(
        "SELECT due_at FROM study_completion WHERE state = 'receiving' ORDER BY due_at LIMIT 1"
    ).fetchone()
    return None if row is None else row[0]


def _dues(connection: Connection) -> tuple[float | None, float | None]:
    """When the first and the last open study is due."""
    row = connection.execute(
        "SELECT due_at FROM study_completion WHERE state = 'receiving' ORDER BY due_at DESC LIMIT 1"
    ).fetchone()
    return _next_due(connection), None if row is None else row[0]


def _mend_times(connection: Connection, now: float, ahead: float) -> None:
    """Studies that a wrong clock, set back since, has open until after *ahead* came now."""
    connection.execute(
        f"UPDATE study_completion SET last_at = {smaller('last_at', ':now')}, "
        f"first_at = {smaller('first_at', ':now')}, due_at = :now "
        "WHERE state = 'receiving' AND due_at > :ahead",
        {"now": now, "ahead": ahead},
    )


#: Complete, and not here any more.
_GONE: Final = (
    "state = 'complete' AND NOT EXISTS (SELECT 1 FROM study "
    "WHERE study.study_instance_uid = study_completion.study_instance_uid)"
)


def _gone(connection: Connection, before: float) -> list[tuple[str]]:
    return connection.execute(
        f"SELECT study_instance_uid FROM study_completion WHERE completed_at < ? AND {_GONE} "
        "LIMIT ?",
        (before, _FORGOTTEN),
    ).fetchall()


def _forget(connection: Connection, studies: Sequence[tuple[str]]) -> int:
    # One may have come back meanwhile.
    return connection.executemany(
        f"DELETE FROM study_completion WHERE study_instance_uid = ? AND {_GONE}", studies
    ).rowcount


def _count(connection: Connection) -> int:
    (count,) = connection.execute(
        "SELECT count(*) FROM study_completion WHERE state = 'receiving'"
    ).fetchone()
    return int(count)


def _declare(
    connection: Connection, rules: CompletionRules, include_patient: bool, now: float
) -> float | None:
    """Judge some of those that are due, on what the transaction sees; when the next is due."""
    due = connection.execute(
        "SELECT study_instance_uid, first_at, last_at, num_received, times_complete "
        "FROM study_completion WHERE state = 'receiving' AND due_at <= ? "
        "ORDER BY due_at LIMIT ?",
        (now, _AT_ONCE),
    ).fetchall()
    for study, first_at, last_at, received, times in due:
        held = connection.execute(
            "SELECT study.study_pk, accession_number, study.num_series, study.num_instances, "
            f"patient_id, patient_name, birth_date FROM {STUDY_AS_SAID_LAST} "
            "WHERE study_instance_uid = ?",
            (study,),
        ).fetchone()
        if held is None:  # removed meanwhile
            connection.execute(
                "DELETE FROM study_completion WHERE study_instance_uid = ?", (study,)
            )
            continue
        facts = _facts(connection, study, held[0], last_at)
        match decide_completion(facts, rules, now):
            case ReceivingStudy(due_at):
                connection.execute(
                    "UPDATE study_completion SET due_at = ? WHERE study_instance_uid = ?",
                    (due_at, study),
                )
            case CompleteStudy(reason):
                connection.execute(
                    "UPDATE study_completion SET state = 'complete', completed_at = ?, "
                    "reason = ?, times_complete = ? WHERE study_instance_uid = ?",
                    (now, reason, times + 1, study),
                )
                event = StudyComplete(
                    study_instance_uid=study,
                    accession_number=held[1],
                    modalities=facts.modalities,
                    series=held[2],
                    instances=held[3],
                    received=received,
                    reason=reason,
                    first_at=utc_timestamp(first_at),
                    last_at=utc_timestamp(last_at),
                    times=times + 1,
                    patient=Patient(patient_id=held[4], patient_name=held[5], birth_date=held[6])
                    if include_patient
                    else None,
                )
                insert_event(connection, event, now)
    return _next_due(connection)


def _facts(connection: Connection, study: str, study_pk: int, last_at: float) -> StudyFacts:
    modalities = connection.execute(
        "SELECT DISTINCT modality FROM series_statement "
        "WHERE study_pk = ? AND modality <> '' ORDER BY 1",
        (study_pk,),
    ).fetchall()
    steps = connection.execute(
        "SELECT state, changed_at, "
        "(SELECT count(*) FROM performed_step_instance i WHERE i.step_pk = s.step_pk), "
        "(SELECT count(*) FROM performed_step_instance i WHERE i.step_pk = s.step_pk "
        "AND NOT EXISTS (SELECT 1 FROM instance "
        "WHERE instance.sop_instance_uid = i.sop_instance_uid)) "
        "FROM performed_step s WHERE step_pk IN "
        "(SELECT step_pk FROM performed_step_scheduled WHERE study_instance_uid = ?)",
        (study,),
    ).fetchall()
    # The first instance that nobody asked for ends the search: mostly the first of all.
    (asked_at,) = connection.execute(
        "SELECT CASE WHEN NOT EXISTS (SELECT 1 FROM series JOIN instance i USING (series_pk) "
        "WHERE study_pk = :study_pk AND NOT EXISTS (SELECT 1 FROM commitment_reference r "
        "WHERE r.sop_instance_uid = i.sop_instance_uid)) "
        "THEN (SELECT max(requested_at) FROM series JOIN instance i USING (series_pk) "
        "JOIN commitment_reference r ON r.sop_instance_uid = i.sop_instance_uid "
        "JOIN commitment USING (commitment_pk) WHERE study_pk = :study_pk) END",
        {"study_pk": study_pk},
    ).fetchone()
    return StudyFacts(
        last_at=last_at,
        modalities=tuple(modality for (modality,) in modalities),
        steps=tuple(
            StepFacts(
                is_final=StepState(state).is_final,
                changed_at=changed_at,
                named=named,
                missing=missing,
            )
            for state, changed_at, named, missing in steps
        ),
        asked_at=asked_at,
    )
