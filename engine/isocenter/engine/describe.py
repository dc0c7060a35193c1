"""One line for anything that goes through the engine: for logs, errors and tools.

A line says what it is in the standard's words, with UIDs, AE titles, sizes,
counters and statuses.  It never holds what may be a patient's: no byte of a data
set, no error comment of a peer, nothing of a user identity beyond its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, assert_never

from isocenter.engine import commands, effects, events, pdu
from isocenter.engine.dimse import message_codec as dimse
from isocenter.engine.dimse.message_fields import MESSAGES, NAMES
from isocenter.engine.dimse.status import ServiceClass, describe_status, service_class_of
from isocenter.engine.errors import (
    ABORT_REASONS,
    REJECT_REASONS,
    SERVICE_PROVIDER,
    SERVICE_USER,
    RemoteProtocolError,
)
from isocenter.engine.items import UserIdentity, UserInformation

#: No line is longer, in characters; what is cut ends with an ellipsis.
MAX_LENGTH: Final = 200
#: No text of the peer takes more of it; a UID has 64.
_TEXT_LENGTH: Final = 64
#: Tags of a list that are spelled out.
_TAGS: Final = 4

_COMMAND_NAMES: Final = {rule.command_field: rule.name for rule in MESSAGES}
_SERVICES: Final[dict[type[object], ServiceClass]] = {
    dimse.CEchoResponse: ServiceClass.VERIFICATION,
    dimse.CStoreResponse: ServiceClass.STORAGE,
    dimse.CFindResponse: ServiceClass.FIND,
    dimse.CMoveResponse: ServiceClass.MOVE,
    dimse.CGetResponse: ServiceClass.GET,
}
_IDENTITIES: Final = {
    1: "username",
    2: "username and passcode",
    3: "Kerberos",
    4: "SAML",
    5: "JSON web token",
}
_PRIORITIES: Final = {0: "", 1: ", high priority", 2: ", low priority"}
_SOURCES: Final = {SERVICE_USER: "service-user", SERVICE_PROVIDER: "service-provider"}
_REJECT_RESULTS: Final = {1: "permanently", 2: "for now"}


def describe(item: object) -> str:
    """One line for a PDU value, command, event, effect or DIMSE message; never raises.

    At most `MAX_LENGTH` characters, all printable: control characters of the peer are
    escaped.  Anything else is named by its type alone.
    """
    try:
        line = _describe(item)
    except Exception:
        # Fields of the wrong type: a line for the log must not be what fails.
        line = f"{_text(type(item).__name__)} (malformed)"
    return line if len(line) <= MAX_LENGTH else line[: MAX_LENGTH - 1] + "…"


def _describe(item: object) -> str:
    if isinstance(item, dimse.Message):
        return _message(item)
    if isinstance(item, pdu.Pdu):
        return _pdu(item)
    if isinstance(item, commands.Command):
        return _command(item)
    if isinstance(item, events.Event):
        return _event(item)
    if isinstance(item, effects.Effect):
        return _effect(item)
    return _text(type(item).__name__)


# PDUs (PS3.8 9.3).


def _pdu(item: pdu.Pdu) -> str:
    match item:
        case pdu.AssociateRequest():
            return (
                f"A-ASSOCIATE-RQ from {_ae(item.calling_ae_title)} to "
                f"{_ae(item.called_ae_title)}, "
                f"{_count(len(item.presentation_contexts), 'presentation context')} proposed"
                f"{_user_information(item.user_information)}"
            )
        case pdu.AssociateAccept():
            accepted = sum(not context.result for context in item.presentation_contexts)
            return (
                f"A-ASSOCIATE-AC from {_ae(item.called_ae_title)} to "
                f"{_ae(item.calling_ae_title)}, {accepted} of "
                f"{_count(len(item.presentation_contexts), 'presentation context')} accepted"
                f"{_user_information(item.user_information)}"
            )
        case pdu.AssociateReject(result, source, reason):
            kind = _REJECT_RESULTS.get(result, "")
            text = REJECT_REASONS.get((source, reason), "reserved reason")
            return (
                f"A-ASSOCIATE-RJ {kind}: {text} (result {result:d}, source {source:d}, "
                f"reason {reason:d})"
            )
        case pdu.ReleaseRequest():
            return "A-RELEASE-RQ"
        case pdu.ReleaseResponse():
            return "A-RELEASE-RP"
        case pdu.Abort(source, reason):
            return f"A-ABORT {_abort(source, reason)}"
        case _:
            assert_never(item)


def _user_information(item: UserInformation) -> str:
    parts = [
        f"maximum length {item.max_pdu_length:d}" if item.max_pdu_length else "no maximum length"
    ]
    if item.implementation_version_name or item.implementation_class_uid:
        parts.append(_text(item.implementation_version_name or item.implementation_class_uid))
    window = item.asynchronous_operations_window
    if window is not None:
        parts.append(f"window {window.invoked:d}/{window.performed:d}")
    if item.role_selections:
        parts.append(_count(len(item.role_selections), "role selection"))
    if item.user_identity is not None:
        parts.append(_identity(item.user_identity))
    return "".join(f", {part}" for part in parts)


def _identity(item: UserIdentity) -> str:
    return f"user identity by {_IDENTITIES.get(item.identity_type, 'an unknown type')}"


def _abort(source: int, reason: int) -> str:
    text = f"by the {_SOURCES.get(source, 'reserved source')} (source {source:d}"
    if source == SERVICE_PROVIDER:
        text += f", reason {reason:d}: {ABORT_REASONS.get(reason, 'reserved reason')}"
    return text + ")"


# DIMSE messages (PS3.7 9.3, 10.3).


def _message(item: dimse.Message) -> str:
    if isinstance(item, dimse.UnrecognizedMessage):
        return (
            f"{_command_name(item.command_field)} {item.message_id:d} that cannot be performed: "
            f"{item.status:04X}H {describe_status(item.status)}: {_text(item.error)}"
        )
    if isinstance(item, dimse.UnrecognizedMessageResponse):
        return _response(item, f"response to {_command_name(item.command_field & 0x7FFF)}")
    name = NAMES[type(item)]
    if isinstance(item, dimse.CCancelRequest):
        return f"{name} of {item.message_id_being_responded_to:d}"
    if isinstance(item, dimse.Request):
        return f"{name} {item.message_id:d}: {_request(item)}"
    return _response(item, name)


def _command_name(command_field: int) -> str:
    return _COMMAND_NAMES.get(command_field, f"command {command_field:04X}H")


def _request(item: dimse.Request) -> str:
    text = f"SOP class {_text(dimse.sop_class_of(item))}"
    instance = dimse.sop_instance_of(item)
    if instance:
        text += f", instance {_text(instance)}"
    match item:
        case dimse.CStoreRequest(priority=priority):
            text += _priority(priority)
            if item.move_originator_ae_title:
                text += f", moved for {_ae(item.move_originator_ae_title)}"
            if item.move_originator_message_id is not None:
                text += f", C-MOVE-RQ {item.move_originator_message_id:d}"
        case dimse.CMoveRequest(priority=priority, move_destination=destination):
            text += f", to {_ae(destination)}{_priority(priority)}"
        case dimse.CFindRequest(priority=priority) | dimse.CGetRequest(priority=priority):
            text += _priority(priority)
        case dimse.NEventReportRequest(event_type_id=event_type_id):
            text += f", event type {event_type_id:d}"
        case dimse.NActionRequest(action_type_id=action_type_id):
            text += f", action type {action_type_id:d}"
        case dimse.NGetRequest(attribute_identifier_list=attributes):
            text += f", {_tags('attribute', attributes)}" if attributes else ", all attributes"
        case _:
            pass  # class and instance say it all
    return text


def _priority(priority: int) -> str:
    return _PRIORITIES.get(priority, f", priority {priority:d}")


def _response(item: dimse.Response, name: str) -> str:
    service = _SERVICES.get(type(item))
    if service in (None, ServiceClass.FIND):
        service = service_class_of(item.affected_sop_class_uid) or service
    text = (
        f"{name} to {item.message_id_being_responded_to:d}: {item.status:04X}H "
        f"{describe_status(item.status, service)}"
    )
    if isinstance(item, dimse.CGetResponse | dimse.CMoveResponse):
        text += _counters(item)
    if isinstance(item, dimse.CStoreResponse | dimse.NResponse) and item.affected_sop_instance_uid:
        text += f", instance {_text(item.affected_sop_instance_uid)}"
    if isinstance(item, dimse.NResponse) and item.error_id is not None:
        text += f", error ID {item.error_id:04X}H"
    if item.offending_elements:
        text += f", {_tags('offending element', item.offending_elements)}"
    if item.error_comment:
        # It may name a patient: that there is one must do.
        text += f", error comment of {_count(len(item.error_comment), 'character')}"
    return text


def _counters(item: dimse.CGetResponse | dimse.CMoveResponse) -> str:
    counters = (
        ("remaining", item.number_of_remaining_suboperations),
        ("completed", item.number_of_completed_suboperations),
        ("failed", item.number_of_failed_suboperations),
        ("warning", item.number_of_warning_suboperations),
    )
    return "".join(f", {number:d} {kind}" for kind, number in counters if number is not None)


# Commands, events, effects.


def _command(item: commands.Command) -> str:
    match item:
        case commands.RequestAssociation(request):
            return f"A-ASSOCIATE request: {_pdu(request)}"
        case commands.AcceptAssociation(accept):
            return f"A-ASSOCIATE response: {_pdu(accept)}"
        case commands.RejectAssociation(reject):
            return f"A-ASSOCIATE response: {_pdu(reject)}"
        case commands.SendMessage(context_id, message, data_set, has_data_set):
            if data_set is not None:
                tail = f", data set of {_count(_length(data_set), 'byte')}"
            else:
                tail = ", data set follows" if has_data_set else ""
            return f"P-DATA request, context {context_id:d}{tail}: {_message(message)}"
        case commands.SendDataSet(context_id, data, is_last):
            return f"P-DATA request, context {context_id:d}: {_fragment(_length(data), is_last)}"
        case commands.RequestRelease():
            return "A-RELEASE request"
        case commands.AcceptRelease():
            return "A-RELEASE response"
        case commands.Abort():
            return "A-ABORT request"
        case _:
            assert_never(item)


def _event(item: events.Event) -> str:
    match item:
        case events.AssociationRequested(request):
            return f"A-ASSOCIATE indication: {_pdu(request)}"
        case events.AssociationAccepted(accept, _):
            return f"A-ASSOCIATE confirmation: {_pdu(accept)}"
        case events.AssociationRejected(reject, by_peer):
            return f"A-ASSOCIATE {'confirmation' if by_peer else 'refused by us'}: {_pdu(reject)}"
        case events.MessageReceived(context_id, message, has_data_set):
            tail = ", data set follows" if has_data_set else ""
            return f"P-DATA indication, context {context_id:d}{tail}: {_message(message)}"
        case events.DataSetReceived(context_id, data, is_last):
            size = _length(data)
            return f"P-DATA indication, context {context_id:d}: {_fragment(size, is_last)}"
        case events.CancelReceived(context_id, message):
            return f"P-DATA indication, context {context_id:d}: {_message(message)}"
        case events.ReleaseRequested(is_collision):
            return f"A-RELEASE indication{' (release collision)' if is_collision else ''}"
        case events.AssociationReleased():
            return "A-RELEASE confirmation"
        case events.AssociationAborted(source, reason):
            return f"A-ABORT indication {_abort(source, reason)}"
        case events.ProviderAborted(_, _, True):
            return "A-P-ABORT indication: the transport connection was lost"
        case events.ProviderAborted(reason, cause, _):
            text = ABORT_REASONS.get(reason, "reserved reason")
            return f"A-P-ABORT indication: {text} (reason {reason:d}){_because(cause)}"
        case _:
            assert_never(item)


def _effect(item: effects.Effect) -> str:
    match item:
        case effects.OpenTransport():
            return "open the transport connection"
        case effects.SendBytes(buffers):
            return f"send {_count(sum(map(_length, buffers)), 'byte')}{_first_pdu(buffers)}"
        case effects.CloseTransport():
            return "close the transport connection"
        case effects.StartArtim():
            return "start ARTIM"
        case effects.StopArtim():
            return "stop ARTIM"
        case effects.PeerFault(cause):
            return f"the peer broke the protocol{_because(cause)}"
        case _:
            return _event(item)


def _first_pdu(buffers: Sequence[bytes | bytearray | memoryview]) -> str:
    # Whole PDUs: the first byte is a PDU type.
    if buffers and len(buffers[0]) and buffers[0][0] in set(pdu.PduType):
        return f": {pdu.PduType(buffers[0][0])}"
    return ""


def _fragment(size: int, is_last: bool) -> str:
    return f"{'end' if is_last else 'part'} of a data set, {_count(size, 'byte')}"


def _because(cause: RemoteProtocolError | None) -> str:
    # Our own words of what the peer did; they hold no values.
    return f": {_text(str(cause), MAX_LENGTH)}" if cause is not None else ""


# Words.


def _length(data: bytes | bytearray | memoryview) -> int:
    return data.nbytes if isinstance(data, memoryview) else len(data)


def _count(number: int, noun: str) -> str:
    return f"{number:d} {noun}{'' if number == 1 else 's'}"


def _tags(noun: str, tags: Sequence[int]) -> str:
    shown = " ".join(f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in tags[:_TAGS])
    more = f" and {len(tags) - _TAGS} more" if len(tags) > _TAGS else ""
    return f"{noun}{'' if len(tags) == 1 else 's'} {shown}{more}"


def _ae(title: str) -> str:
    return _text(title) or "(no AE title)"


def _text(text: str, length: int = _TEXT_LENGTH) -> str:
    """*text* in printable characters, on one line, bounded; a backslash is doubled."""
    head = text[:length]
    if not (head.isprintable() and "\\" not in head):
        head = "".join(
            character
            if character.isprintable() and character != "\\"
            else character.encode("unicode_escape").decode("ascii")
            for character in head
        )
    return head if len(text) <= length else head + "…"
