"""Security alerts as audit messages (PS3.15 A.5.3.11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from isocenter.services.archive.locks.lock import StudyLock
from isocenter.services.archive.object_signing import ObjectSigned
from isocenter.services.archive.signature_marks.verifier import SignaturesVerified
from isocenter.services.association.server import AssociationEndedByHand
from isocenter.services.notices import (
    AccessDenied,
    AssociationRejected,
    AssociationRevoked,
    Caller,
    ConfigurationReloaded,
    ConnectionRefused,
    FunctionUsed,
    NodesChanged,
    PluginStarted,
    RulesChanged,
    SettingsChanged,
    TasksChanged,
)
from isocenter.services.security.access.failed_sign_ins import SignInFailed
from isocenter.services.security.access.policy_changes import PolicyChanged
from isocenter.services.security.access.ports import ApiToken, ShareLink
from isocenter.services.security.audit import codes
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
    address_participant,
    node_object,
    patient_object,
    peer_participant,
    study_object,
)
from isocenter.services.security.certificates.changes import CertificateChanged

#: Of the text of an alert: a peer has a say in it.
LONGEST_TEXT: Final = 2_000


_CONFIGURATIONS: Final = {
    "certificates": EventType.SECURITY_CONFIGURATION,
    "policy": EventType.SECURITY_CONFIGURATION,
    "peers": EventType.NETWORK_CONFIGURATION,
    "nodes": EventType.NETWORK_CONFIGURATION,
}


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


def association_rejected(here: ActiveProcess, rejected: AssociationRejected) -> AuditMessage:
    """A.5.3.11: a node that is not who it says, or is not admitted."""
    return _alert(
        here,
        EventType.NODE_AUTHENTICATION,
        rejected.why,
        performer=peer_participant(rejected.caller, None),
        subject=node_object(rejected.caller.address),
    )


def association_revoked(here: ActiveProcess, revoked: AssociationRevoked) -> AuditMessage:
    """A.5.3.11: a node whose certificate is worth nothing any more, in the middle of an
    association."""
    return _alert(
        here,
        EventType.NODE_AUTHENTICATION,
        f"the association is ended: {revoked.why}",
        performer=peer_participant(revoked.caller, None),
        subject=node_object(revoked.caller.address),
    )


def association_ended_by_hand(here: ActiveProcess, ended: AssociationEndedByHand) -> AuditMessage:
    """A.5.3.11: somebody has ended an association of others."""
    message = _alert(
        here,
        EventType.USE_OF_RESTRICTED_FUNCTION,
        f"the association of {ended.caller.calling_ae_title} is ended by hand",
        performer=peer_participant(ended.by, None, is_requestor=True),
        subject=node_object(ended.caller.address),
    )
    return replace(message, outcome=Outcome.SUCCESS)


def signatures_verified(here: ActiveProcess, verified: SignaturesVerified) -> AuditMessage:
    """A.5.3.11: what the signatures of an object are worth; a failure where they do not hold."""
    caller = verified.caller
    performer = (
        here.person(None, is_requestor=True)
        if caller is None
        else peer_participant(caller, None, is_requestor=True)
    )
    message = _alert(
        here,
        EventType.OBJECT_SECURITY_ATTRIBUTES_CHANGED,
        f"the digital signatures of instance {verified.sop_instance_uid} were verified: "
        f"{verified.state}" + (f", signed by {verified.signer}" if verified.signer else ""),
        performer=performer,
        subject=study_object(verified.study_instance_uid, {}),
    )
    return replace(message, outcome=Outcome.SUCCESS) if verified.state == "valid" else message


def object_signed(here: ActiveProcess, signed: ObjectSigned) -> AuditMessage:
    """A.5.3.11: an object was given a signature of ours."""
    if signed.destination:
        why, subject = f"for {signed.destination}", node_object(signed.destination)
    else:
        why, subject = f"by rule {signed.rule}", study_object(signed.study_instance_uid, {})
    message = _alert(
        here,
        EventType.OBJECT_SECURITY_ATTRIBUTES_CHANGED,
        f"instance {signed.sop_instance_uid} was signed {why}: signature {signed.signature_uid}",
        performer=here.person(None, is_requestor=True),
        subject=subject,
    )
    return replace(message, outcome=Outcome.SUCCESS)


def connection_refused(here: ActiveProcess, refused: ConnectionRefused) -> AuditMessage:
    """A.5.3.11: a secure connection that could not be established."""
    return _alert(
        here,
        EventType.NODE_AUTHENTICATION,
        refused.detail,
        performer=address_participant(refused.address),
        subject=node_object(refused.address),
    )


def access_denied(here: ActiveProcess, denied: AccessDenied) -> AuditMessage:
    """A.5.3.11: an operation that the caller may not ask for."""
    of = f" of {denied.sop_class_uid}" if denied.sop_class_uid else ""
    return _alert(
        here,
        EventType.USE_OF_RESTRICTED_FUNCTION,
        f"{denied.command}{of}: {denied.why}",
        performer=peer_participant(denied.caller, None),
        subject=node_object(denied.caller.address),
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


def policy_changed(
    here: ActiveProcess, changed: PolicyChanged | CertificateChanged
) -> AuditMessage:
    """A.5.3.11: somebody has changed who may do what, or by which certificate."""
    name = "policy" if isinstance(changed, PolicyChanged) else "certificates"
    return configuration_changed(here, name, changed.what, changed.caller)


def settings_changed(here: ActiveProcess, changed: SettingsChanged) -> AuditMessage:
    """A.5.3.11: somebody has changed settings while the server ran."""
    return configuration_changed(here, "settings", settings_text(changed.keys), changed.caller)


def settings_text(keys: Sequence[str]) -> str:
    """Which settings were changed, without their values: some are secrets."""
    return f"settings changed: {', '.join(keys)}"


def nodes_changed(here: ActiveProcess, changed: NodesChanged) -> AuditMessage:
    """A.5.3.11: somebody has changed whom this archive speaks to."""
    return configuration_changed(here, "nodes", changed.what, changed.caller)


def rules_changed(here: ActiveProcess, changed: RulesChanged) -> AuditMessage:
    """A.5.3.11: somebody has changed what this archive does with objects that come."""
    return configuration_changed(here, "rules", changed.what, changed.caller)


def tasks_changed(here: ActiveProcess, changed: TasksChanged) -> AuditMessage:
    """A.5.3.11: somebody has changed what this archive does by itself."""
    return configuration_changed(here, "tasks", changed.what, changed.caller)


def configuration_changed(
    here: ActiveProcess, name: str, text: str, caller: Caller | None = None
) -> AuditMessage:
    """A.5.3.11: somebody has changed how the archive behaves.

    Args:
        name: of what is changed: ``policy``, ``settings`` …
        caller: who has; None: whoever runs this process.
    """
    subject = _resource(ObjectKind.CONFIGURATION, f"urn:isocenter:configuration:{name}", text)
    who = here.person(None) if caller is None else peer_participant(caller, None, is_requestor=True)
    return AuditMessage(
        event=EventId.SECURITY_ALERT,
        type=_CONFIGURATIONS.get(name, EventType.SOFTWARE_CONFIGURATION),
        action=Action.EXECUTE,
        outcome=Outcome.SUCCESS,
        participants=(here.participant(None), who),
        objects=(subject,),
    )


def function_used(here: ActiveProcess, used: FunctionUsed) -> AuditMessage:
    """A.5.3.11: somebody has used what is not for everybody."""
    message = _alert(
        here,
        EventType.USE_OF_RESTRICTED_FUNCTION,
        used.what,
        performer=peer_participant(used.caller, None, is_requestor=True),
        subject=node_object(used.caller.address),
    )
    return replace(message, outcome=Outcome.SUCCESS)


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


def lock_released(
    here: ActiveProcess, lock: StudyLock, actor: str, reason: str, patient: Patient
) -> AuditMessage:
    """A.5.3.11: somebody took the lock of a study away from whoever had it."""
    text = _description(f"the lock of {lock.holder} was released: {reason}")
    return AuditMessage(
        event=EventId.SECURITY_ALERT,
        type=EventType.USE_OF_RESTRICTED_FUNCTION,
        action=Action.EXECUTE,
        outcome=Outcome.SUCCESS,
        participants=(
            here.participant(None, is_requestor=False),
            Participant(user_id=actor, is_requestor=True, access_point=here.machine),
        ),
        objects=(
            replace(study_object(lock.study_instance_uid, {}), details=text),
            patient_object(patient),
        ),
    )


def hold_changed(
    here: ActiveProcess, study: str, reason: str, patient: Patient, actor: str, *, is_held: bool
) -> AuditMessage:
    """A.5.3.11: from now on nobody may delete a study, or whoever may delete can again."""
    what = "the study is held" if is_held else "the study is held no more; it was"
    return AuditMessage(
        event=EventId.SECURITY_ALERT,
        type=EventType.OBJECT_SECURITY_ATTRIBUTES_CHANGED,
        action=Action.EXECUTE,
        participants=(
            here.participant(None, is_requestor=False),
            Participant(user_id=actor, is_requestor=True, access_point=here.machine),
        ),
        objects=(
            replace(study_object(study, {}), details=_description(f"{what}: {reason}")),
            patient_object(patient),
        ),
    )


def study_placed(
    here: ActiveProcess, study: str, what: str, patient: Patient, actor: str
) -> AuditMessage:
    """A.5.3.11: somebody says in which storage tier a study is to be."""
    return AuditMessage(
        event=EventId.SECURITY_ALERT,
        type=EventType.USE_OF_RESTRICTED_FUNCTION,
        action=Action.EXECUTE,
        outcome=Outcome.SUCCESS,
        participants=(
            here.participant(None, is_requestor=False),
            Participant(user_id=actor, is_requestor=True, access_point=here.machine),
        ),
        objects=(
            replace(study_object(study, {}), details=_description(f"the study {what}")),
            patient_object(patient),
        ),
    )


def token_changed(
    here: ActiveProcess, token: ApiToken, *, is_new: bool, by: Caller | None = None
) -> AuditMessage:
    """A.5.3.11: a program can sign in with a new API token, or with one not any more.

    Args:
        by: who has made or revoked it; None: whoever runs this program.
    """
    scopes = f", for {' '.join(token.scopes)}" if token.scopes else ""
    holder = f"user {token.user}" if token.user else f"roles {' '.join(token.roles)}"
    what = "was made" if is_new else "was revoked"
    subject = _resource(
        ObjectKind.SECURITY_RESOURCE,
        f"urn:isocenter:token:{token.token_id}",
        f"the API token {token.name} {what}: {holder}{scopes}",
    )
    return AuditMessage(
        event=EventId.SECURITY_ALERT,
        type=EventType.USER_SECURITY_ATTRIBUTES_CHANGED,
        action=Action.EXECUTE,
        participants=(
            here.participant(None),
            here.person(None) if by is None else peer_participant(by, None, is_requestor=True),
        ),
        objects=(subject,),
    )


def link_changed(
    here: ActiveProcess, link: ShareLink, *, is_new: bool, caller: Caller | None = None
) -> AuditMessage:
    """A.5.3.11: somebody who has a link can see a study, or not any more.

    Args:
        caller: who has done it over the web; None: who runs this process.
    """
    end = datetime.fromtimestamp(link.expires_at, UTC).isoformat(timespec="minutes")
    may = "to look and download" if link.may_download else "to look"
    kind = "for a viewer" if link.is_for_viewer else "to a study"
    what = "was made" if is_new else "was revoked"
    subject = _resource(
        ObjectKind.SECURITY_RESOURCE,
        f"urn:isocenter:link:{link.link_id}",
        f"the link {link.link_id} {kind} {what}: {may}, until {end}",
    )
    performer = (
        here.person(None) if caller is None else peer_participant(caller, None, is_requestor=True)
    )
    return AuditMessage(
        event=EventId.SECURITY_ALERT,
        type=EventType.USER_SECURITY_ATTRIBUTES_CHANGED,
        action=Action.EXECUTE,
        participants=(here.participant(None), performer),
        objects=(subject, study_object(link.study_instance_uid, {})),
    )


def sign_in_failed(here: ActiveProcess, failed: SignInFailed) -> AuditMessage:
    """A.5.3.11: somebody could not prove who it is, over HTTP."""
    return _alert(
        here,
        EventType.NODE_AUTHENTICATION,
        f"{failed.kind} refused: {failed.why}",
        performer=peer_participant(failed.caller, None),
        subject=node_object(failed.caller.address),
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
    return {"Alert Description": text[:LONGEST_TEXT].encode("utf-8", "backslashreplace")}


def _resource(kind: ObjectKind, uri: str, text: str) -> ParticipantObject:
    return ParticipantObject(kind=kind, id=uri, id_type=codes.URI, details=_description(text))
