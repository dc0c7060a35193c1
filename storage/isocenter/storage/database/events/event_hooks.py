"""Hooks that write events in the transactions of what they tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import time
from typing import Final

from isocenter.services.archive.corrections.ports import CorrectedStudy
from isocenter.services.archive.deletion.records import DeletedStudy, DeletionCause
from isocenter.services.archive.ports import AddResult, InstanceRecord, StoredInstance
from isocenter.services.service_classes.mpps.performed_step import PerformedStep
from isocenter.services.service_classes.ups.workitem import STUDY_INSTANCE_UID, Workitem
from isocenter.services.service_classes.worklist.ports import StoredEntry
from isocenter.services.workflow.events.event import JobChanged, NodeChanged, WorkitemChanged
from isocenter.services.workflow.events.stored_events import (
    SeriesFacts,
    event_of_commitment,
    event_of_compression,
    events_of_correction,
    events_of_deletion,
    events_of_step,
    events_of_stored,
    receptions_of,
)
from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.services.workflow.events.worklist_events import event_of_entry
from isocenter.storage.database.database import Connection, Cursor
from isocenter.storage.database.dialect import smaller
from isocenter.storage.database.events.outbox import insert_event, insert_events

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


class EventHooks:
    """Gathers the facts of a transaction, and writes the events that follow from them.

    What follows is decided by `isocenter.services.workflow.events.stored_events`.

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
        """Objects were added (`isocenter.storage.database.index.records.AddHook`)."""
        now = self._now()
        asked = _ask_facts(
            connection,
            dict.fromkeys((each.study_instance_uid, each.series_instance_uid) for each, _ in added),
        )
        received = []
        for each in receptions_of(added, self._rules, now):
            values = {
                "study": each.study_instance_uid,
                "now": now,
                "due_at": each.due_at,
                "count": each.count,
            }
            # The usual case touches no index: a look that comes too soon finds out by itself.
            received.append((values, connection.execute(_RECEIVE_MORE, values)))
        # What was so before that: it is in the answers already, or asked for before.
        events = events_of_stored(added, _facts(asked), include_patient=self._include_patient)
        for values, cursor in received:
            if not cursor.rowcount:
                connection.execute(_RECEIVE, values)
        insert_events(connection, events, now)

    def step_changed(
        self, connection: Connection, _before: PerformedStep | None, step: PerformedStep
    ) -> None:
        """A performed procedure step was created or changed (`performed_steps.ChangeHook`)."""
        now = self._now()
        for event in events_of_step(step):
            insert_event(connection, event, now)
            self._look_soon(connection, event.study_instance_uid, now)

    def commitment_changed(self, connection: Connection, commitment_pk: int) -> None:
        """A storage commitment was asked for or answered (`commitments.ChangeHook`)."""
        now = self._now()
        transaction_uid, requester, state = connection.execute(
            "SELECT transaction_uid, requester, state FROM commitment WHERE commitment_pk = ?",
            (commitment_pk,),
        ).fetchone()
        is_pending = state == "pending"
        rows = connection.execute(
            "SELECT coalesce(study_instance_uid, ''), count(*), count(nullif(failure_reason, 0)) "
            "FROM commitment_reference LEFT JOIN instance USING (sop_instance_uid) "
            "LEFT JOIN series USING (series_pk) LEFT JOIN study USING (study_pk) "
            "WHERE commitment_pk = ? GROUP BY 1",
            (commitment_pk,),
        ).fetchall()
        for study, instances, failed in rows:
            event = event_of_commitment(
                study,
                transaction_uid,
                requester,
                is_pending=is_pending,
                instances=instances,
                failed=failed,
            )
            if is_pending:
                self._look_soon(connection, study, now)
            insert_event(connection, event, now)

    def deleted(
        self,
        connection: Connection,
        studies: Sequence[DeletedStudy],
        cause: DeletionCause,
    ) -> None:
        """Instances were deleted (`isocenter.storage.database.deletion.DeleteHook`)."""
        events = events_of_deletion(studies, cause, include_patient=self._include_patient)
        insert_events(connection, events, self._now())

    def compressed(
        self, connection: Connection, before: StoredInstance, after: StoredInstance
    ) -> None:
        """An object is kept in another form (`compression.ExchangeHook`); one that was signed,
        and nothing else, is not another one to look at."""
        if before.transfer_syntax_uid == after.transfer_syntax_uid:
            return
        insert_event(connection, event_of_compression(before, after), self._now())

    def corrected(self, connection: Connection, corrected: CorrectedStudy) -> None:
        """Objects show what was corrected (`corrections.exchange.CorrectHook`)."""
        insert_events(connection, events_of_correction(corrected), self._now())

    def entry_changed(
        self, connection: Connection, before: StoredEntry | None, after: StoredEntry | None
    ) -> None:
        """The worklist was changed (`isocenter.storage.database.worklist.ChangeHook`)."""
        insert_event(connection, event_of_entry(before, after), self._now())

    def workitem_changed(
        self, connection: Connection, before: Workitem | None, after: Workitem
    ) -> None:
        """A workitem was created or changed (`workitems.ChangeHook`); progress is no event."""
        if before is None or before.state is not after.state:
            event = WorkitemChanged(
                study_instance_uid=after.attributes.text(STUDY_INSTANCE_UID),
                sop_instance_uid=after.sop_instance_uid,
                state=after.state.value,
            )
            insert_event(connection, event, self._now())

    def job_changed(self, connection: Connection, job: JobChanged) -> None:
        """A job was asked for, or has another state (`jobs.telling.ChangeHook`)."""
        insert_event(connection, job, self._now())

    def node_changed(self, connection: Connection, node: NodeChanged) -> None:
        """A node answers, or answers no more (`nodes.ChangeHook`)."""
        insert_event(connection, node, self._now())

    def _look_soon(self, connection: Connection, study: str, now: float) -> None:
        connection.execute(
            f"UPDATE study_completion SET due_at = {smaller('due_at', '?')} "  # noqa: S608
            "WHERE study_instance_uid = ? AND state = 'receiving'",
            (now + self._rules.settle_seconds, study),
        )


_FACTS: Final = (
    "SELECT study.num_instances, series.num_instances, (SELECT state FROM "
    "study_completion c WHERE c.study_instance_uid = study.study_instance_uid) "
    "FROM study JOIN series USING (study_pk) "
    "WHERE study_instance_uid = ? AND series_instance_uid = ?"
)


def _ask_facts(
    connection: Connection, series: Iterable[tuple[str, str]]
) -> list[tuple[tuple[str, str], Cursor]]:
    """By Study and Series Instance UID."""
    return [(each, connection.execute(_FACTS, each)) for each in series]


def _facts(
    asked: Iterable[tuple[tuple[str, str], Cursor]],
) -> dict[tuple[str, str], SeriesFacts]:
    facts = {}
    for each, cursor in asked:
        of_study, of_series, state = cursor.fetchone()
        facts[each] = SeriesFacts(of_study, of_series, state == "receiving")
    return facts
