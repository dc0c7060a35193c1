"""Audit message as a value and as XML (PS3.15 A.5.1).

The XML is one line of ASCII: what is not ASCII becomes a character reference.  So it goes
unchanged through a line of JSON and a syslog message, and nothing that a peer says can end
either.  Characters that XML cannot hold are shown as ``\\xNN``.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.security.audit.codes import Code, EventId, EventType


class Action(Enum):
    """Event Action Code."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"


class Outcome(Enum):
    """Event Outcome Indicator.  Of an alert: how far security was kept (A.5.3.11)."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    SERIOUS_FAILURE = "8"
    MAJOR_FAILURE = "12"


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """Somebody, or some process, that took part (Active Participant).

    Attributes:
        user_id: in the form of A.5.2.1.
        ae_titles: become the Alternative User ID (A.5.2.2).
        access_point: where on the network, by name or address.
        media: of a role that is media: what kind.
    """

    user_id: str
    is_requestor: bool
    role: Code | None = None
    ae_titles: tuple[str, ...] = ()
    user_name: str = ""
    access_point: str = ""
    media: Code | None = None


class ObjectKind(Enum):
    """Participant Object Type Code and Role that belong together."""

    PATIENT = ("1", "1")
    #: A study; also the SOP class that a query is for (A.5.3.10).
    REPORT = ("2", "3")
    CONFIGURATION = ("2", "5")
    SECURITY_RESOURCE = ("2", "13")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticipantObject:
    """What it happened to (Participant Object Identification).

    Attributes:
        name: the schema wants a name, or a query; may be empty.
        details: type → value.
        sop_classes: of a study, SOP Class UID → number of instances; "": of whatever class.
        is_encrypted: whether it went over TLS; None: not told.
    """

    kind: ObjectKind
    id: str
    id_type: Code
    name: str = ""
    query: bytes | None = None
    details: Mapping[str, bytes] = field(default_factory=dict)
    sop_classes: Mapping[str, int] = field(default_factory=dict)
    is_encrypted: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditMessage:
    """One event.

    Attributes:
        time: when it happened, with its time zone.
        description: Event Outcome Description; empty: none.
    """

    event: EventId
    action: Action
    participants: tuple[Participant, ...]
    type: EventType | None = None
    outcome: Outcome = Outcome.SUCCESS
    objects: tuple[ParticipantObject, ...] = ()
    description: str = ""
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def ae_titles(self) -> tuple[str, ...]:
        """Of all participants."""
        titles = (title for each in self.participants for title in each.ae_titles)
        return tuple(dict.fromkeys(titles))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSource:
    """Who reports (Audit Source Identification); a PACS is of type 4, an application server."""

    source_id: str
    site_id: str = ""


#: Application server process (A.5.1.2.1).
_APPLICATION_SERVER: Final = "4"

#: Network Access Point Type Code.
_MACHINE_NAME: Final = "1"
_IP_ADDRESS: Final = "2"

_SPECIAL: Final = re.compile(r"[&<>\"']")
_REFERENCES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
#: What XML 1.0 cannot hold, and line ends and tabs, which attributes do not keep.
_UNSAID: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\ufffe\uffff]")


def to_xml(message: AuditMessage, source: AuditSource) -> str:
    """The message as the schema has it: one line of ASCII, XML declaration included."""
    return '<?xml version="1.0" encoding="UTF-8"?>' + _element(
        "AuditMessage",
        {},
        (
            _event(message),
            *(_participant(each) for each in message.participants),
            _source(source),
            *(_object(each) for each in message.objects),
        ),
    )


def timestamp(time: datetime) -> str:
    """In UTC, to the microsecond, as xsd:dateTime and RFC 5424 write it."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _event(message: AuditMessage) -> str:
    children = [_code("EventID", message.event.value)]
    if message.type is not None:
        children.append(_code("EventTypeCode", message.type.value))
    if message.description:
        children.append(_element("EventOutcomeDescription", {}, (_escape(message.description),)))
    attributes = {
        "EventActionCode": message.action.value,
        "EventDateTime": timestamp(message.time),
        "EventOutcomeIndicator": message.outcome.value,
    }
    return _element("EventIdentification", attributes, children)


def _participant(participant: Participant) -> str:
    attributes = {"UserID": participant.user_id}
    if participant.ae_titles:
        attributes["AlternativeUserID"] = f"AETITLES={';'.join(participant.ae_titles)}"
    if participant.user_name:
        attributes["UserName"] = participant.user_name
    attributes["UserIsRequestor"] = _boolean(participant.is_requestor)
    if participant.access_point:
        kind = _IP_ADDRESS if _is_ip_address(participant.access_point) else _MACHINE_NAME
        attributes["NetworkAccessPointID"] = participant.access_point
        attributes["NetworkAccessPointTypeCode"] = kind
    children = []
    if participant.role is not None:
        children.append(_code("RoleIDCode", participant.role))
    if participant.media is not None:
        children.append(_element("MediaIdentifier", {}, (_code("MediaType", participant.media),)))
    return _element("ActiveParticipant", attributes, children)


def _source(source: AuditSource) -> str:
    attributes = {"AuditEnterpriseSiteID": source.site_id} if source.site_id else {}
    attributes["AuditSourceID"] = source.source_id
    kind = _element("AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
    return _element("AuditSourceIdentification", attributes, (kind,))


def _object(item: ParticipantObject) -> str:
    code, role = item.kind.value
    attributes = {
        "ParticipantObjectID": item.id,
        "ParticipantObjectTypeCode": code,
        "ParticipantObjectTypeCodeRole": role,
    }
    children = [_code("ParticipantObjectIDTypeCode", item.id_type)]
    if item.query is not None:
        children.append(_element("ParticipantObjectQuery", {}, (_base64(item.query),)))
    else:
        children.append(_element("ParticipantObjectName", {}, (_escape(item.name),)))
    children += [
        _element("ParticipantObjectDetail", {"type": kind, "value": _base64(value)})
        for kind, value in item.details.items()
    ]
    if item.sop_classes or item.is_encrypted is not None:
        description = [
            _element("SOPClass", ({"UID": uid} if uid else {}) | {"NumberOfInstances": str(count)})
            for uid, count in item.sop_classes.items()
        ]
        if item.is_encrypted is not None:
            description.append(_element("Encrypted", {}, (_boolean(item.is_encrypted),)))
        children.append(_element("ParticipantObjectDescription", {}, description))
    return _element("ParticipantObjectIdentification", attributes, children)


def _code(name: str, code: Code) -> str:
    attributes = {
        "csd-code": code.value,
        "codeSystemName": code.scheme,
        "originalText": code.meaning,
    }
    return _element(name, attributes)


def _element(name: str, attributes: Mapping[str, str], content: Iterable[str] = ()) -> str:
    head = name + "".join(f' {key}="{_escape(value)}"' for key, value in attributes.items())
    inner = "".join(content)
    return f"<{head}>{inner}</{name}>" if inner else f"<{head}/>"


def _escape(text: str) -> str:
    text = _UNSAID.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    text = _SPECIAL.sub(lambda match: _REFERENCES[match[0]], text)
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def _boolean(value: bool) -> str:
    return "true" if value else "false"
