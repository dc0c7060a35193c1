"""Open studies in the database: adapter of the port that declares them complete."""

# ruff: noqa: S608  (conditions come from constants, values are bound)

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time
from typing import Final

from isocenter.services.service_classes.mpps.performed_step import (
    StepState,
)
from isocenter.services.workflow.events.event import (
    Patient,
    StudyComplete,
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
from isocenter.storage.database.events.outbox import insert_event
from isocenter.storage.database.index.lookup import STUDY_AS_SAID_LAST

#: Studies that are forgotten in one transaction.
_FORGOTTEN: Final = 1_000
#: Studies that are judged in one transaction: those of thousands of instances take milliseconds.
_AT_ONCE: Final = 16

#: Called in the transaction that declares a study complete, with its UID and the time.
CompleteHook = Callable[[Connection, str, float], None]


class DatabaseOpenStudies:
    """See `isocenter.services.workflow.events.ports.OpenStudies`.

    Args:
        include_patient: as of `EventHooks`.
        on_complete: what else is written when a study is complete.
        now: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        *,
        include_patient: bool = False,
        on_complete: Sequence[CompleteHook] = (),
        now: Callable[[], float] = time,
    ) -> None:
        self._database = database
        self._include_patient = include_patient
        self._on_complete = on_complete
        self._now = now

    async def declare(self, rules: CompletionRules) -> float | None:
        """See `OpenStudies.declare`; costs no write when nothing is due."""
        due_at, last_due_at = await self._database.read(_dues)
        now = self._now()
        if last_due_at is not None and last_due_at > now + 2 * rules.longest_wait_seconds:
            await self._database.write(_correct_future_times, now, now + rules.longest_wait_seconds)
            due_at = await self._database.read(_next_due)
        while due_at is not None and due_at <= self._now():
            due_at = await self._database.write(
                _declare, rules, self._include_patient, self._on_complete, self._now()
            )
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


def _correct_future_times(connection: Connection, now: float, ahead: float) -> None:
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
    connection: Connection,
    rules: CompletionRules,
    include_patient: bool,
    on_complete: Sequence[CompleteHook],
    now: float,
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
                for each in on_complete:
                    each(connection, study, now)
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
