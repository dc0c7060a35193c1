"""Builders of audit messages from notices, one for each (PS3.15 A.5.3).

A message is about one patient, and here about one study, too.  Security alerts are in
`alert_messages`, who took part is in `participants`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from isocenter.engine.dimse.status import Status
from isocenter.services.archive.deletion.records import InstancesDeleted
from isocenter.services.archive.export.values import ExportedStudy
from isocenter.services.archive.reconciled import PatientReconciled
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.errors import has_failed
from isocenter.services.notices import (
    AssociationEnded,
    AssociationEstablished,
    Caller,
    InstancesCompressed,
    InstancesMarked,
    InstancesSent,
    PluginOperationEnded,
    QueryAnswered,
    RetrieveFailed,
    TransferStarted,
)
from isocenter.services.security.access.sessions import SignedIn, SignedOut
from isocenter.services.security.audit import codes
from isocenter.services.security.audit.alert_messages import LONGEST_TEXT
from isocenter.services.security.audit.codes import EventId, EventType
from isocenter.services.security.audit.messages import (
    Action,
    AuditMessage,
    ObjectKind,
    Outcome,
    Participant,
    ParticipantObject,
)
from isocenter.services.security.audit.participants import (
    ActiveProcess,
    Patient,
    host_of,
    of_one_class,
    patient_object,
    peer_participant,
    study_object,
)

#: As much of an identifier is in its message: with it, a collector that takes 128 KiB takes
#: every message.  No sensible query is as long; a longer one says how long, with its SHA-256.
LONGEST_QUERY: Final = 64 << 10


#: What an operation does to what it is about; of others nobody here knows more than that they are
#: executed.
_ACTIONS: Final = {
    "C-STORE": Action.CREATE,
    "C-FIND": Action.READ,
    "C-GET": Action.READ,
    "C-MOVE": Action.READ,
    "N-CREATE": Action.CREATE,
    "N-GET": Action.READ,
    "N-SET": Action.UPDATE,
    "N-DELETE": Action.DELETE,
}


def application_activity(here: ActiveProcess, *, started: bool) -> AuditMessage:
    """A.5.3.1."""
    return AuditMessage(
        event=EventId.APPLICATION_ACTIVITY,
        type=EventType.APPLICATION_START if started else EventType.APPLICATION_STOP,
        action=Action.EXECUTE,
        participants=(
            here.participant(codes.APPLICATION),
            here.person(codes.APPLICATION_LAUNCHER),
        ),
    )


def network_entry(here: ActiveProcess, *, is_attached: bool) -> AuditMessage:
    """A.5.3.9: this node joins those of the archive, or leaves them, as somebody wants it to."""
    node = replace(here.participant(codes.APPLICATION), user_id=here.node)
    return AuditMessage(
        event=EventId.NETWORK_ENTRY,
        type=EventType.ATTACH if is_attached else EventType.DETACH,
        action=Action.EXECUTE,
        participants=(node,),
    )


def audit_log_used(here: ActiveProcess, trail: Path) -> AuditMessage:
    """A.5.3.2: somebody reads the trail."""
    log = ParticipantObject(
        kind=ObjectKind.SECURITY_RESOURCE,
        id=trail.absolute().as_uri(),
        id_type=codes.URI,
        name="Security Audit Log",
    )
    return AuditMessage(
        event=EventId.AUDIT_LOG_USED,
        action=Action.READ,
        participants=(here.person(None), here.participant(None)),
        objects=(log,),
    )


def audit_trail_read(here: ActiveProcess, trail: Path, caller: Caller) -> AuditMessage:
    """A.5.3.2: the same, on the pages."""
    used = audit_log_used(here, trail)
    reader = peer_participant(caller, None, is_requestor=True)
    return replace(used, participants=(reader, here.participant(None)))


def begin_transferring(
    here: ActiveProcess, begun: TransferStarted, study: str, patient: Patient
) -> AuditMessage:
    """A.5.3.3: a C-MOVE or C-GET is about to send instances of *study*."""
    return AuditMessage(
        event=EventId.BEGIN_TRANSFERRING,
        action=Action.EXECUTE,
        participants=_retrieval(here, begun),
        objects=(
            study_object(study, of_one_class(begun.sop_classes, begun.studies[study])),
            patient_object(patient),
        ),
    )


def instances_sent(
    here: ActiveProcess,
    sent: InstancesSent,
    study: str,
    count: int,
    patient: Patient,
    *,
    failed: bool,
) -> AuditMessage:
    """A.5.3.7: of *study*, *count* instances were sent, or failed to be.

    The action is R: what the receiver had before, nobody here knows.
    """
    return AuditMessage(
        event=EventId.INSTANCES_TRANSFERRED,
        action=Action.READ,
        outcome=Outcome.MINOR_FAILURE if failed else Outcome.SUCCESS,
        description=_failure(f"{sent.command} sub-operations failed", sent.why) if failed else "",
        participants=_retrieval(here, sent),
        objects=(
            study_object(study, of_one_class(sent.sop_classes, count)),
            patient_object(patient),
        ),
    )


def retrieve_failed(
    here: ActiveProcess, failed: RetrieveFailed, study: str, patient: Patient
) -> AuditMessage:
    """A.5.3.7: a C-MOVE or C-GET was answered with a failure before anything was sent."""
    objects = (patient_object(patient),)
    return AuditMessage(
        event=EventId.INSTANCES_TRANSFERRED,
        action=Action.READ,
        outcome=Outcome.MINOR_FAILURE,
        description=_failure(
            f"{failed.command} to {failed.destination} failed, status {failed.status:04X}H",
            failed.why,
        ),
        participants=_retrieval(here, failed),
        objects=(study_object(study, {"": 0}), *objects) if study else objects,
    )


def instances_read(
    here: ActiveProcess,
    caller: Caller,
    study: str,
    sop_classes: Mapping[str, int],
    patient: Patient,
    *,
    is_whole: bool,
) -> AuditMessage:
    """A.5.3.7: instances of *study*, or parts of them, were sent over HTTP."""
    return AuditMessage(
        event=EventId.INSTANCES_TRANSFERRED,
        action=Action.READ,
        outcome=Outcome.SUCCESS if is_whole else Outcome.MINOR_FAILURE,
        description="" if is_whole else "an answer was not sent to its end",
        participants=(
            here.participant(codes.SOURCE),
            peer_participant(caller, codes.DESTINATION, is_requestor=True),
        ),
        objects=(
            study_object(study, sop_classes, is_encrypted=caller.is_tls),
            patient_object(patient),
        ),
    )


def _failure(what: str, why: str) -> str:
    return f"{what}: {why}"[:LONGEST_TEXT] if why else what


def instances_received(
    here: ActiveProcess,
    caller: Caller,
    action: Action,
    study: str,
    sop_classes: Mapping[str, int],
    patient: Patient,
) -> AuditMessage:
    """A.5.3.7: a peer has stored instances of *study*."""
    return AuditMessage(
        event=EventId.INSTANCES_TRANSFERRED,
        action=action,
        participants=(
            peer_participant(caller, codes.SOURCE, is_requestor=True),
            here.participant(codes.DESTINATION),
        ),
        objects=(
            study_object(study, sop_classes, is_encrypted=caller.is_tls),
            patient_object(patient),
        ),
    )


def instances_imported(
    here: ActiveProcess,
    media: Path,
    study: str,
    sop_classes: Mapping[str, int],
    patient: Patient,
    person: str = "",
) -> AuditMessage:
    """A.5.3.5: files were taken into the archive.

    Args:
        person: who asked for it; empty: the user of this process.
    """
    asker = here.person(codes.DESTINATION)
    if person:
        asker = Participant(
            user_id=person,
            is_requestor=True,
            role=codes.DESTINATION,
            access_point=here.machine,
        )
    source = Participant(
        user_id=media.absolute().as_uri(),
        is_requestor=False,
        role=codes.SOURCE_MEDIA,
        media=codes.MEDIA_URI,
    )
    return AuditMessage(
        event=EventId.IMPORT,
        action=Action.CREATE,
        participants=(asker, here.participant(codes.DESTINATION), source),
        objects=(study_object(study, sop_classes), patient_object(patient)),
    )


def instances_exported(
    here: ActiveProcess, exported: ExportedStudy, patient: Patient
) -> AuditMessage:
    """A.5.3.4: objects of a study were written to files outside of the archive."""
    media = Participant(
        user_id=exported.place,
        is_requestor=False,
        role=codes.DESTINATION_MEDIA,
        media=codes.MEDIA_URI,
    )
    person = Participant(
        user_id=exported.actor,
        is_requestor=True,
        role=codes.SOURCE,
        access_point=exported.access_point or here.machine,
    )
    return AuditMessage(
        event=EventId.EXPORT,
        action=Action.READ,
        outcome=Outcome.SUCCESS if exported.is_whole else Outcome.MINOR_FAILURE,
        description="" if exported.is_whole else "cut before all of it had left",
        participants=(person, here.participant(codes.SOURCE), media),
        objects=(
            study_object(exported.study_instance_uid, exported.sop_classes),
            patient_object(patient),
        ),
    )


def instances_deleted(here: ActiveProcess, deleted: InstancesDeleted) -> AuditMessage:
    """A.5.3.8 where all of a study has left the archive; A.5.3.6 where some of it has."""
    study = deleted.study
    participants = [here.participant(None, is_requestor=not deleted.person)]
    if deleted.person:
        participants.insert(
            0, Participant(user_id=deleted.person, is_requestor=True, access_point=here.machine)
        )
    return AuditMessage(
        event=EventId.INSTANCES_ACCESSED if study.remaining else EventId.STUDY_DELETED,
        action=Action.DELETE,
        description=deleted.cause.value,
        participants=tuple(participants),
        objects=(
            study_object(study.study_instance_uid, study.sop_classes),
            patient_object(Patient(study.patient_id, study.patient_name)),
        ),
    )


def patient_reconciled(here: ActiveProcess, notice: PatientReconciled) -> AuditMessage:
    """Patient Record (IHE ITI TF-2 3.30.5.1): another system has changed a patient, or tried to."""
    failed = notice.outcome == "failed"
    ids = dict.fromkeys(filter(None, (notice.patient_id, notice.other_patient_id)))
    text = f"{notice.kind}: {notice.outcome}, {notice.instances} instances, {notice.message}"
    return AuditMessage(
        event=EventId.PATIENT_RECORD,
        action=Action.UPDATE,
        outcome=Outcome.MINOR_FAILURE if failed else Outcome.SUCCESS,
        description=f"{text}: {notice.fault}" if notice.fault else text,
        participants=(
            Participant(user_id=notice.actor, is_requestor=True),
            here.participant(None, is_requestor=False),
        ),
        objects=tuple(patient_object(Patient(each)) for each in ids),
    )


def instances_compressed(
    here: ActiveProcess, compressed: InstancesCompressed, patient: Patient
) -> AuditMessage:
    """A.5.3.6: their bytes are others now, and show the same."""
    syntax = name_of(compressed.target)
    return AuditMessage(
        event=EventId.INSTANCES_ACCESSED,
        action=Action.UPDATE,
        description=f"compressed by rule, without loss: {syntax}",
        participants=(here.participant(None, is_requestor=True),),
        objects=(
            study_object(compressed.study_instance_uid, compressed.sop_classes),
            patient_object(patient),
        ),
    )


def instances_marked(
    here: ActiveProcess, marked: InstancesMarked, patient: Patient
) -> AuditMessage:
    """A.5.3.6: somebody noted something on them, or made objects of that."""
    return AuditMessage(
        event=EventId.INSTANCES_ACCESSED,
        action=Action(marked.action),
        description=marked.what,
        participants=(
            here.participant(None),
            peer_participant(marked.caller, None, is_requestor=True),
        ),
        objects=(
            study_object(
                marked.study_instance_uid, marked.sop_classes, is_encrypted=marked.caller.is_tls
            ),
            patient_object(patient),
        ),
    )


def query(here: ActiveProcess, answered: QueryAnswered) -> AuditMessage:
    """A.5.3.10: a C-FIND, or a search over HTTP, whose query is path and query of its URL."""
    identifier = answered.identifier
    details = {"NumberOfMatches": str(answered.matches).encode("ascii")}
    if answered.transfer_syntax_uid:
        syntax = answered.transfer_syntax_uid.encode("ascii", "replace")
        details = {"TransferSyntax": syntax, **details}
    if len(identifier) > LONGEST_QUERY:
        details["QueryLength"] = str(len(identifier)).encode("ascii")
        details["QuerySHA256"] = hashlib.sha256(identifier).hexdigest().encode("ascii")
    asked = ParticipantObject(
        kind=ObjectKind.REPORT,
        id=answered.sop_class_uid,
        id_type=codes.SOP_CLASS_UID,
        query=identifier[:LONGEST_QUERY],
        details=details,
    )
    outcome, description = _outcome(answered.status)
    return AuditMessage(
        event=EventId.QUERY,
        action=Action.EXECUTE,
        outcome=outcome,
        description=description,
        participants=(
            peer_participant(answered.caller, codes.SOURCE, is_requestor=True),
            here.participant(codes.DESTINATION),
        ),
        objects=(asked,),
    )


def _outcome(status: int | None) -> tuple[Outcome, str]:
    """Of an operation, with what there is to say of a failure."""
    if status is None:
        return Outcome.MINOR_FAILURE, "the association ended before the response"
    if status == Status.CANCEL or not has_failed(status):
        return Outcome.SUCCESS, ""
    return Outcome.MINOR_FAILURE, f"status {status:04X}H"


def plugin_operation(
    here: ActiveProcess, ended: PluginOperationEnded, study: str, patient: Patient
) -> AuditMessage:
    """A.5.3.6: a peer had something done by a plug-in, with *study* if that is known."""
    subject = ParticipantObject(
        kind=ObjectKind.REPORT,
        id=ended.sop_class_uid,
        id_type=codes.SOP_CLASS_UID,
        name=ended.plugin,
        details={"SOPInstanceUID": ended.sop_instance_uid.encode("ascii", "replace")}
        if ended.sop_instance_uid
        else {},
    )
    outcome, description = _outcome(ended.status)
    return AuditMessage(
        event=EventId.INSTANCES_ACCESSED,
        action=_ACTIONS.get(ended.command, Action.EXECUTE),
        outcome=outcome,
        description="; ".join(
            filter(None, (f"{ended.command} by the plug-in {ended.plugin}", description))
        ),
        participants=(
            peer_participant(ended.caller, None, is_requestor=True),
            here.participant(None),
        ),
        objects=(subject, study_object(study, {}), patient_object(patient))
        if study
        else (subject,),
    )


def user_authenticated(
    here: ActiveProcess, notice: AssociationEstablished | AssociationEnded | SignedIn | SignedOut
) -> AuditMessage:
    """A.5.3.12: who a user is was proven, or the association or session of that user is over."""
    is_login = isinstance(notice, AssociationEstablished | SignedIn)
    return AuditMessage(
        event=EventId.USER_AUTHENTICATION,
        type=EventType.LOGIN if is_login else EventType.LOGOUT,
        action=Action.EXECUTE,
        participants=(
            peer_participant(notice.caller, None, is_requestor=True),
            here.participant(None),
        ),
    )


#: Commands of what rules and jobs send.
_SENT_BY_US: Final = ("C-STORE", "STOW-RS")


def _retrieval(
    here: ActiveProcess, sent: InstancesSent | TransferStarted | RetrieveFailed
) -> tuple[Participant, ...]:
    """Us as the source, who gets it, and of a C-MOVE who asked; what a rule or a job sends nobody
    but we ourselves have asked for."""
    if sent.command == "C-GET":
        return (
            here.participant(codes.SOURCE),
            peer_participant(sent.caller, codes.DESTINATION, is_requestor=True),
        )
    destination = Participant(
        user_id=sent.destination,
        ae_titles=(sent.destination,),
        is_requestor=False,
        role=codes.DESTINATION,
        access_point="" if isinstance(sent, RetrieveFailed) else host_of(sent.destination_address),
    )
    if sent.command in _SENT_BY_US:
        return (here.participant(codes.SOURCE, is_requestor=True), destination)
    return (
        here.participant(codes.SOURCE),
        destination,
        peer_participant(sent.caller, None, is_requestor=True),
    )
