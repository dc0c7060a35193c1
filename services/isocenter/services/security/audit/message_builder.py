"""Builders of audit messages from notices, one for each (PS3.15 A.5.3).

A message is about one patient, and here about one study, too.  Who took part is told in the
form of A.5.2: of us the process ID, as it stands in the system's logs, of a peer the most
certain name that is known (proven user, certificate, AE title), AE titles as alternative IDs.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.deletion.records import InstancesDeleted
from isocenter.services.archive.export.values import ExportedStudy
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.errors import has_failed
from isocenter.services.notices import (
    AccessDenied,
    AssociationEnded,
    AssociationEstablished,
    AssociationRejected,
    AssociationRevoked,
    Caller,
    ConfigurationReloaded,
    ConnectionRefused,
    InstancesCompressed,
    InstancesSent,
    PluginOperationEnded,
    PluginStarted,
    QueryAnswered,
    RetrieveFailed,
    TransferStarted,
)
from isocenter.services.security.audit import codes
from isocenter.services.security.audit.codes import Code, EventId, EventType
from isocenter.services.security.audit.messages import (
    Action,
    AuditMessage,
    ObjectKind,
    Outcome,
    Participant,
    ParticipantObject,
)
from isocenter.services.system.users import acting_user

#: As much of an identifier is in its message: with it, a collector that takes 128 KiB takes
#: every message.  No sensible query is as long; a longer one says how long, with its SHA-256.
LONGEST_QUERY: Final = 64 << 10
#: Of the text of an alert: a peer has a say in it.
_LONGEST_TEXT: Final = 2_000

_CONFIGURATIONS: Final = {
    "certificates": EventType.SECURITY_CONFIGURATION,
    "policy": EventType.SECURITY_CONFIGURATION,
    "peers": EventType.NETWORK_CONFIGURATION,
}


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


@dataclass(frozen=True, slots=True)
class Patient:
    """Whom a study is of, as far as the index knows."""

    id: str = field(default="", repr=False)
    name: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveProcess:
    """This process as a participant.

    Attributes:
        machine: its name: the network access point in every message (A.5.2.4).
        user: who runs it.
    """

    ae_titles: tuple[str, ...]
    process_name: str = "isocenter"
    process_id: int = field(default_factory=os.getpid)
    machine: str = field(default_factory=socket.gethostname)
    user: str = field(default_factory=acting_user)

    def participant(self, role: Code | None, *, is_requestor: bool = False) -> Participant:
        return Participant(
            user_id=str(self.process_id),
            ae_titles=self.ae_titles,
            user_name=self.process_name,
            is_requestor=is_requestor,
            role=role,
            access_point=self.machine,
        )

    def person(self, role: Code | None, *, is_requestor: bool = True) -> Participant:
        return Participant(
            user_id=f"{self.user}@{self.machine}",
            is_requestor=is_requestor,
            role=role,
            access_point=self.machine,
        )


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


def begin_transferring(
    here: ActiveProcess, begun: TransferStarted, study: str, patient: Patient
) -> AuditMessage:
    """A.5.3.3: a C-MOVE or C-GET is about to send instances of *study*."""
    return AuditMessage(
        event=EventId.BEGIN_TRANSFERRING,
        action=Action.EXECUTE,
        participants=_retrieval(here, begun),
        objects=(
            _study(study, _of_one_class(begun.sop_classes, begun.studies[study])),
            _patient(patient),
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
        objects=(_study(study, _of_one_class(sent.sop_classes, count)), _patient(patient)),
    )


def retrieve_failed(
    here: ActiveProcess, failed: RetrieveFailed, study: str, patient: Patient
) -> AuditMessage:
    """A.5.3.7: a C-MOVE or C-GET was answered with a failure before anything was sent."""
    objects = (_patient(patient),)
    return AuditMessage(
        event=EventId.INSTANCES_TRANSFERRED,
        action=Action.READ,
        outcome=Outcome.MINOR_FAILURE,
        description=_failure(
            f"{failed.command} to {failed.destination} failed, status {failed.status:04X}H",
            failed.why,
        ),
        participants=_retrieval(here, failed),
        objects=(_study(study, {"": 0}), *objects) if study else objects,
    )


def _failure(what: str, why: str) -> str:
    return f"{what}: {why}"[:_LONGEST_TEXT] if why else what


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
            _peer(caller, codes.SOURCE, is_requestor=True),
            here.participant(codes.DESTINATION),
        ),
        objects=(
            _study(study, sop_classes, is_encrypted=caller.is_tls),
            _patient(patient),
        ),
    )


def instances_imported(
    here: ActiveProcess, media: Path, study: str, sop_classes: Mapping[str, int], patient: Patient
) -> AuditMessage:
    """A.5.3.5: files were taken into the archive."""
    source = Participant(
        user_id=media.absolute().as_uri(),
        is_requestor=False,
        role=codes.SOURCE_MEDIA,
        media=codes.MEDIA_URI,
    )
    return AuditMessage(
        event=EventId.IMPORT,
        action=Action.CREATE,
        participants=(
            here.person(codes.DESTINATION),
            here.participant(codes.DESTINATION),
            source,
        ),
        objects=(_study(study, sop_classes), _patient(patient)),
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
        access_point=here.machine,
    )
    return AuditMessage(
        event=EventId.EXPORT,
        action=Action.READ,
        participants=(person, here.participant(codes.SOURCE), media),
        objects=(
            _study(exported.study_instance_uid, exported.sop_classes),
            _patient(patient),
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
            _study(study.study_instance_uid, study.sop_classes),
            _patient(Patient(study.patient_id, study.patient_name)),
        ),
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
            _study(compressed.study_instance_uid, compressed.sop_classes),
            _patient(patient),
        ),
    )


def query(here: ActiveProcess, answered: QueryAnswered) -> AuditMessage:
    """A.5.3.10: a C-FIND."""
    identifier = answered.identifier
    details = {
        "TransferSyntax": answered.transfer_syntax_uid.encode("ascii", "replace"),
        "NumberOfMatches": str(answered.matches).encode("ascii"),
    }
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
            _peer(answered.caller, codes.SOURCE, is_requestor=True),
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
            _peer(ended.caller, None, is_requestor=True),
            here.participant(None),
        ),
        objects=(subject, _study(study, {}), _patient(patient)) if study else (subject,),
    )


def plugin_started(here: ActiveProcess, started: PluginStarted) -> AuditMessage:
    """A.5.3.11: code of others serves."""
    text = f"the plug-in {started.name} serves: {started.distribution} {started.version}"
    subject = _resource(
        ObjectKind.CONFIGURATION,
        f"urn:isocenter:configuration:plugin:{quote(started.name, safe='')}",
        text,
    )
    return AuditMessage(
        event=EventId.SECURITY_ALERT,
        type=EventType.SOFTWARE_CONFIGURATION,
        action=Action.EXECUTE,
        participants=(here.participant(None), here.person(None, is_requestor=False)),
        objects=(subject,),
    )


def user_authenticated(
    here: ActiveProcess, notice: AssociationEstablished | AssociationEnded
) -> AuditMessage:
    """A.5.3.12: a peer has proven who its user is, or the association of that user is over."""
    is_login = isinstance(notice, AssociationEstablished)
    return AuditMessage(
        event=EventId.USER_AUTHENTICATION,
        type=EventType.LOGIN if is_login else EventType.LOGOUT,
        action=Action.EXECUTE,
        participants=(
            _peer(notice.caller, None, is_requestor=True),
            here.participant(None),
        ),
    )


def association_rejected(here: ActiveProcess, rejected: AssociationRejected) -> AuditMessage:
    """A.5.3.11: a node that is not who it says, or is not admitted."""
    return _alert(
        here,
        EventType.NODE_AUTHENTICATION,
        rejected.why,
        performer=_peer(rejected.caller, None),
        subject=_node(rejected.caller.address),
    )


def association_revoked(here: ActiveProcess, revoked: AssociationRevoked) -> AuditMessage:
    """A.5.3.11: a node whose certificate is worth nothing any more, in the middle of an
    association."""
    return _alert(
        here,
        EventType.NODE_AUTHENTICATION,
        f"the association is ended: {revoked.why}",
        performer=_peer(revoked.caller, None),
        subject=_node(revoked.caller.address),
    )


def connection_refused(here: ActiveProcess, refused: ConnectionRefused) -> AuditMessage:
    """A.5.3.11: a secure connection that could not be established."""
    return _alert(
        here,
        EventType.NODE_AUTHENTICATION,
        refused.detail,
        performer=_address(refused.address),
        subject=_node(refused.address),
    )


def access_denied(here: ActiveProcess, denied: AccessDenied) -> AuditMessage:
    """A.5.3.11: an operation that the caller may not ask for."""
    return _alert(
        here,
        EventType.USE_OF_RESTRICTED_FUNCTION,
        f"{denied.command} of {denied.sop_class_uid}: {denied.why}",
        performer=_peer(denied.caller, None),
        subject=_node(denied.caller.address),
    )


def repeated(message: AuditMessage, count: int, node: str = "") -> AuditMessage:
    """An alert that stands for *count* more of its kind that came after it.

    Args:
        node: whom they came from; empty: as that one.
    """
    return AuditMessage(
        event=message.event,
        type=message.type,
        action=message.action,
        outcome=message.outcome,
        participants=message.participants[:1] if node else message.participants,
        objects=tuple(
            ParticipantObject(
                kind=item.kind,
                id=node or item.id,
                id_type=item.id_type,
                details={
                    "Alert Description": f"{count} more like the one before".encode(),
                    "Occurrences": str(count).encode("ascii"),
                },
            )
            for item in message.objects
        ),
    )


def configuration_reloaded(here: ActiveProcess, reloaded: ConfigurationReloaded) -> AuditMessage:
    """A.5.3.11: what decides who is admitted has changed, or could not be read."""
    text = f"{reloaded.what} read again"
    if reloaded.fault:
        text = f"{reloaded.what} could not be read again, the old stay: {reloaded.fault}"
    name = quote(reloaded.what, safe="")
    subject = _resource(ObjectKind.CONFIGURATION, f"urn:isocenter:configuration:{name}", text)
    return AuditMessage(
        event=EventId.SECURITY_ALERT,
        type=_CONFIGURATIONS.get(reloaded.what, EventType.SOFTWARE_CONFIGURATION),
        action=Action.EXECUTE,
        outcome=Outcome.MINOR_FAILURE if reloaded.fault else Outcome.SUCCESS,
        participants=(here.participant(None), here.person(None, is_requestor=False)),
        objects=(subject,),
    )


def restricted_function_used(here: ActiveProcess, subject: Path, text: str) -> AuditMessage:
    """A.5.3.11: somebody had the whole archive copied, or put back."""
    resource = _resource(ObjectKind.SECURITY_RESOURCE, subject.absolute().as_uri(), text)
    return AuditMessage(
        event=EventId.SECURITY_ALERT,
        type=EventType.USE_OF_RESTRICTED_FUNCTION,
        action=Action.EXECUTE,
        outcome=Outcome.SUCCESS,
        participants=(here.participant(None), here.person(None, is_requestor=True)),
        objects=(resource,),
    )


def hold_changed(
    here: ActiveProcess, study: str, reason: str, patient: Patient, *, is_held: bool
) -> AuditMessage:
    """A.5.3.11: from now on nobody may delete a study, or whoever may delete can again."""
    what = "the study is held" if is_held else "the study is held no more; it was"
    return AuditMessage(
        event=EventId.SECURITY_ALERT,
        type=EventType.OBJECT_SECURITY_ATTRIBUTES_CHANGED,
        action=Action.EXECUTE,
        participants=(here.participant(None), here.person(None)),
        objects=(
            replace(_study(study, {}), details=_description(f"{what}: {reason}")),
            _patient(patient),
        ),
    )


def recording_resumed(here: ActiveProcess, trail: Path, text: str) -> AuditMessage:
    """A.5.3.11: something was wrong with the trail itself, and it is recorded again."""
    return AuditMessage(
        event=EventId.SECURITY_ALERT,
        type=EventType.AUDIT_RECORDING_STARTED,
        action=Action.EXECUTE,
        outcome=Outcome.MINOR_FAILURE,
        participants=(here.participant(None),),
        objects=(_resource(ObjectKind.SECURITY_RESOURCE, trail.absolute().as_uri(), text),),
    )


# -- Who, and what ------------------------------------------------------------------------


def _alert(
    here: ActiveProcess,
    kind: EventType,
    text: str,
    *,
    performer: Participant,
    subject: ParticipantObject,
) -> AuditMessage:
    """The caller was kept out: a minor failure by the words of A.5.3.11."""
    described = ParticipantObject(
        kind=subject.kind, id=subject.id, id_type=subject.id_type, details=_description(text)
    )
    return AuditMessage(
        event=EventId.SECURITY_ALERT,
        type=kind,
        action=Action.EXECUTE,
        outcome=Outcome.MINOR_FAILURE,
        participants=(here.participant(None), performer),
        objects=(described,),
    )


def _description(text: str) -> dict[str, bytes]:
    return {"Alert Description": text[:_LONGEST_TEXT].encode("utf-8", "backslashreplace")}


def _resource(kind: ObjectKind, uri: str, text: str) -> ParticipantObject:
    return ParticipantObject(kind=kind, id=uri, id_type=codes.URI, details=_description(text))


def _node(address: str) -> ParticipantObject:
    return ParticipantObject(
        kind=ObjectKind.SECURITY_RESOURCE, id=host_of(address), id_type=codes.NODE_ID
    )


def _peer(caller: Caller, role: Code | None, *, is_requestor: bool = False) -> Participant:
    titles = (caller.calling_ae_title,) if caller.calling_ae_title else ()
    return Participant(
        user_id=caller.user or caller.certificate or caller.calling_ae_title or caller.address,
        ae_titles=titles,
        is_requestor=is_requestor,
        role=role,
        access_point=host_of(caller.address),
    )


def _address(address: str) -> Participant:
    host = host_of(address)
    return Participant(user_id=host, is_requestor=False, access_point=host)


def _retrieval(
    here: ActiveProcess, sent: InstancesSent | TransferStarted | RetrieveFailed
) -> tuple[Participant, ...]:
    """Us as the source, who gets it, and of a C-MOVE who asked; what a rule sends on (C-STORE)
    nobody but we ourselves have asked for."""
    if sent.command == "C-GET":
        return (
            here.participant(codes.SOURCE),
            _peer(sent.caller, codes.DESTINATION, is_requestor=True),
        )
    destination = Participant(
        user_id=sent.destination,
        ae_titles=(sent.destination,),
        is_requestor=False,
        role=codes.DESTINATION,
        access_point="" if isinstance(sent, RetrieveFailed) else host_of(sent.destination_address),
    )
    if sent.command == "C-STORE":
        return (here.participant(codes.SOURCE, is_requestor=True), destination)
    return (
        here.participant(codes.SOURCE),
        destination,
        _peer(sent.caller, None, is_requestor=True),
    )


def host_of(address: str) -> str:
    """Of ``host:port``, with brackets around IPv6."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal():
        return address
    return host.removeprefix("[").removesuffix("]")


def _study(
    uid: str, sop_classes: Mapping[str, int], *, is_encrypted: bool | None = None
) -> ParticipantObject:
    return ParticipantObject(
        kind=ObjectKind.REPORT,
        id=uid,
        id_type=codes.STUDY_INSTANCE_UID,
        name="DICOM Study",
        sop_classes=sop_classes,
        is_encrypted=is_encrypted,
    )


def _of_one_class(sop_classes: Sequence[str] | frozenset[str], count: int) -> dict[str, int]:
    """How many instances; of which class, where only one comes into question."""
    (uid,) = sop_classes if len(sop_classes) == 1 else ("",)
    return {uid: count}


def _patient(patient: Patient) -> ParticipantObject:
    return ParticipantObject(
        kind=ObjectKind.PATIENT,
        id=patient.id,
        id_type=codes.PATIENT_NUMBER,
        name=patient.name,
    )
