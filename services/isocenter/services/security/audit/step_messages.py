"""Audit messages of performed and of unified procedure steps (PS3.15 A.5.3.15)."""

from __future__ import annotations

from dataclasses import replace

from isocenter.services.notices import (
    PerformedStepChanged,
    ProcedureRecordRead,
    WorkitemChanged,
)
from isocenter.services.security.audit.codes import EventId
from isocenter.services.security.audit.messages import Action, AuditMessage, Outcome
from isocenter.services.security.audit.participants import (
    ActiveProcess,
    Patient,
    patient_object,
    peer_participant,
    study_object,
)


def step_changed(here: ActiveProcess, changed: PerformedStepChanged) -> AuditMessage:
    """A.5.3.15: a modality has begun, changed or ended a performed procedure step."""
    about = {
        "Performed Procedure Step": changed.sop_instance_uid.encode(),
        "Performed Procedure Step Status": changed.state.encode(),
    }
    return AuditMessage(
        event=EventId.PROCEDURE_RECORD,
        action=Action.CREATE if changed.is_new else Action.UPDATE,
        outcome=Outcome.SUCCESS,
        participants=(
            here.participant(None),
            peer_participant(changed.caller, None, is_requestor=True),
        ),
        objects=(
            *(replace(study_object(uid, {}), details=about) for uid in changed.study_instance_uids),
            patient_object(Patient(id=changed.patient_id, name=changed.patient_name)),
        ),
    )


def workitem_changed(here: ActiveProcess, changed: WorkitemChanged) -> AuditMessage:
    """A.5.3.15: somebody has created or changed a unified procedure step, or asked to cancel it."""
    about = {
        "Unified Procedure Step": changed.sop_instance_uid.encode(),
        "Procedure Step State": changed.state.encode(),
        "What": changed.what.encode(),
    }
    objects = [patient_object(Patient(id=changed.patient_id, name=changed.patient_name))]
    if changed.study_instance_uid:
        objects.insert(0, study_object(changed.study_instance_uid, {}))
    objects[0] = replace(objects[0], details=about)
    return AuditMessage(
        event=EventId.PROCEDURE_RECORD,
        action=Action.CREATE if changed.is_new else Action.UPDATE,
        outcome=Outcome.SUCCESS,
        participants=(
            here.participant(None),
            peer_participant(changed.caller, None, is_requestor=True),
        ),
        objects=tuple(objects),
    )


def step_read(here: ActiveProcess, read: ProcedureRecordRead) -> AuditMessage:
    """A.5.3.15: somebody has read a performed or a unified procedure step."""
    about = {read.kind: read.sop_instance_uid.encode()}
    objects = [
        *(study_object(uid, {}) for uid in read.study_instance_uids),
        patient_object(Patient(id=read.patient_id, name=read.patient_name)),
    ]
    objects[0] = replace(objects[0], details=about)
    return AuditMessage(
        event=EventId.PROCEDURE_RECORD,
        action=Action.READ,
        outcome=Outcome.SUCCESS,
        participants=(
            here.participant(None),
            peer_participant(read.caller, None, is_requestor=True),
        ),
        objects=tuple(objects),
    )
