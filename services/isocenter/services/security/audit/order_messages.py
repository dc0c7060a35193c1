"""Audit messages of orders that somebody has changed (PS3.15 A.5.3.13)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from isocenter.services.notices import OrderAction, OrderChanged
from isocenter.services.security.audit.codes import EventId
from isocenter.services.security.audit.messages import Action, AuditMessage, Outcome
from isocenter.services.security.audit.participants import (
    ActiveProcess,
    Patient,
    patient_object,
    peer_participant,
    study_object,
)

_ACTIONS: Final = {
    OrderAction.ADDED: Action.CREATE,
    OrderAction.CHANGED: Action.UPDATE,
    OrderAction.REMOVED: Action.DELETE,
}


def order_changed(here: ActiveProcess, changed: OrderChanged) -> AuditMessage:
    """A.5.3.13: an entry of the worklist was added, changed or removed by hand."""
    study = study_object(changed.study_instance_uid, {})
    accession = changed.accession_number.encode("utf-8", "backslashreplace")
    return AuditMessage(
        event=EventId.ORDER_RECORD,
        action=_ACTIONS[changed.action],
        outcome=Outcome.SUCCESS,
        participants=(
            here.participant(None),
            peer_participant(changed.caller, None, is_requestor=True),
        ),
        objects=(
            replace(study, details={"Accession Number": accession} if accession else {}),
            patient_object(Patient(id=changed.patient_id, name=changed.patient_name)),
        ),
    )
