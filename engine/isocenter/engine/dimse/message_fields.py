"""Table of DIMSE message fields and their presence (PS3.7 9.3, 10.3, E.1).

The codec, the tests and the reference in the documentation all read this one table.
Beside the fields named here every message has Command Group Length (0000,0000),
Command Field (0000,0100) and Command Data Set Type (0000,0800); the codec makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from isocenter.engine.dimse import command_set as cs
from isocenter.engine.dimse import messages as types


class Presence(Enum):
    """Whether a parameter is there, in the letters of PS3.7 (7.3, 9.1, 10.1).

    ``(=)``: when it is there, it has the value that the request had.
    """

    MANDATORY = "M"
    USER_OPTION = "U"
    USER_OPTION_EQUAL = "U(=)"
    CONDITIONAL = "C"
    CONDITIONAL_EQUAL = "C(=)"
    #: Only said of data sets: the message never has one.
    NEVER = "-"


class Field(NamedTuple):
    """An element of group 0000: number, VR, and its name in the standard (PS3.7 E.1, E.2)."""

    element: int
    vr: str
    name: str


#: Field of a message class → element.
FIELDS: Final[Mapping[str, Field]] = MappingProxyType(
    {
        "affected_sop_class_uid": Field(0x0002, "UI", "Affected SOP Class UID"),
        "requested_sop_class_uid": Field(0x0003, "UI", "Requested SOP Class UID"),
        "message_id": Field(cs.MESSAGE_ID, "US", "Message ID"),
        "message_id_being_responded_to": Field(
            cs.MESSAGE_ID_BEING_RESPONDED_TO, "US", "Message ID Being Responded To"
        ),
        "move_destination": Field(0x0600, "AE", "Move Destination"),
        "priority": Field(0x0700, "US", "Priority"),
        "status": Field(cs.STATUS, "US", "Status"),
        "offending_elements": Field(0x0901, "AT", "Offending Element"),
        "error_comment": Field(0x0902, "LO", "Error Comment"),
        "error_id": Field(0x0903, "US", "Error ID"),
        "affected_sop_instance_uid": Field(0x1000, "UI", "Affected SOP Instance UID"),
        "requested_sop_instance_uid": Field(0x1001, "UI", "Requested SOP Instance UID"),
        "event_type_id": Field(0x1002, "US", "Event Type ID"),
        "attribute_identifier_list": Field(0x1005, "AT", "Attribute Identifier List"),
        "action_type_id": Field(0x1008, "US", "Action Type ID"),
        "number_of_remaining_suboperations": Field(
            0x1020, "US", "Number of Remaining Sub-operations"
        ),
        "number_of_completed_suboperations": Field(
            0x1021, "US", "Number of Completed Sub-operations"
        ),
        "number_of_failed_suboperations": Field(0x1022, "US", "Number of Failed Sub-operations"),
        "number_of_warning_suboperations": Field(0x1023, "US", "Number of Warning Sub-operations"),
        "move_originator_ae_title": Field(0x1030, "AE", "Move Originator Application Entity Title"),
        "move_originator_message_id": Field(0x1031, "US", "Move Originator Message ID"),
    }
)


class MessageRule(NamedTuple):
    """What the standard says of one message.

    Attributes:
        name: in the standard's spelling, ``C-STORE-RQ``.
        command_field: (0000,0100).
        clause: of PS3.7.
        data_set: what the standard calls its data set; empty when it never has one.
        fields: by name, in the order of their elements.
    """

    message_class: type[types.Message]
    name: str
    command_field: int
    clause: str
    data_set: str
    data_set_presence: Presence
    fields: Mapping[str, Presence]


_M: Final = Presence.MANDATORY
_U: Final = Presence.USER_OPTION
_UE: Final = Presence.USER_OPTION_EQUAL
_C: Final = Presence.CONDITIONAL
_CE: Final = Presence.CONDITIONAL_EQUAL

_Fields = Mapping[str, Presence]

#: C-requests, N-EVENT-REPORT-RQ and N-CREATE-RQ name what they affect, …
_AFFECTS: Final[_Fields] = {"message_id": _M, "affected_sop_class_uid": _M}
_C_REQUEST: Final[_Fields] = {**_AFFECTS, "priority": _M}
#: … the others what they are addressed to.
_REQUESTED: Final[_Fields] = {
    "message_id": _M,
    "requested_sop_class_uid": _M,
    "requested_sop_instance_uid": _M,
}
#: Status with its optional companions (PS3.7 Annex C).
_ANSWER: Final[_Fields] = {
    "message_id_being_responded_to": _M,
    "status": _M,
    "offending_elements": _C,
    "error_comment": _C,
}
_C_ANSWER: Final[_Fields] = {**_ANSWER, "affected_sop_class_uid": _UE}
_N_ANSWER: Final[_Fields] = {
    **_ANSWER,
    "error_id": _C,
    "affected_sop_class_uid": _U,
    "affected_sop_instance_uid": _U,
}
#: C-GET and C-MOVE count (PS3.7 9.1.3.1, 9.1.4.1).
_COUNTERS: Final[_Fields] = {
    f"number_of_{kind}_suboperations": _C
    for kind in ("remaining", "completed", "failed", "warning")
}
_NO_DATA_SET: Final = ("", Presence.NEVER)


def _rule(
    message_class: type[types.Message],
    name: str,
    command_field: int,
    clause: str,
    data_set: tuple[str, Presence],
    fields: _Fields,
) -> MessageRule:
    ordered = {field: fields[field] for field in FIELDS if field in fields}
    return MessageRule(
        message_class, name, command_field, clause, *data_set, MappingProxyType(ordered)
    )


# fmt: off
#: Every message of PS3.7 9.3 and 10.3; presence as in the tables of 9.1 and 10.1.
MESSAGES: Final = (
    _rule(types.CStoreRequest, "C-STORE-RQ", 0x0001, "9.3.1.1", ("Data Set", _M),
          {**_C_REQUEST, "affected_sop_instance_uid": _M,
           "move_originator_ae_title": _U, "move_originator_message_id": _U}),
    _rule(types.CStoreResponse, "C-STORE-RSP", 0x8001, "9.3.1.2", _NO_DATA_SET,
          {**_C_ANSWER, "affected_sop_instance_uid": _UE}),
    _rule(types.CGetRequest, "C-GET-RQ", 0x0010, "9.3.3.1", ("Identifier", _M), _C_REQUEST),
    _rule(types.CGetResponse, "C-GET-RSP", 0x8010, "9.3.3.2", ("Identifier", _U),
          {**_C_ANSWER, **_COUNTERS}),
    _rule(types.CFindRequest, "C-FIND-RQ", 0x0020, "9.3.2.1", ("Identifier", _M), _C_REQUEST),
    _rule(types.CFindResponse, "C-FIND-RSP", 0x8020, "9.3.2.2", ("Identifier", _C), _C_ANSWER),
    _rule(types.CMoveRequest, "C-MOVE-RQ", 0x0021, "9.3.4.1", ("Identifier", _M),
          {**_C_REQUEST, "move_destination": _M}),
    _rule(types.CMoveResponse, "C-MOVE-RSP", 0x8021, "9.3.4.2", ("Identifier", _U),
          {**_C_ANSWER, **_COUNTERS}),
    _rule(types.CEchoRequest, "C-ECHO-RQ", 0x0030, "9.3.5.1", _NO_DATA_SET, _AFFECTS),
    _rule(types.CEchoResponse, "C-ECHO-RSP", 0x8030, "9.3.5.2", _NO_DATA_SET, _C_ANSWER),
    _rule(types.CCancelRequest, "C-CANCEL-RQ", 0x0FFF, "9.3.2.3", _NO_DATA_SET,
          {"message_id_being_responded_to": _M}),
    _rule(types.NEventReportRequest, "N-EVENT-REPORT-RQ", 0x0100, "10.3.1.1",
          ("Event Information", _U),
          {**_AFFECTS, "affected_sop_instance_uid": _M, "event_type_id": _M}),
    _rule(types.NEventReportResponse, "N-EVENT-REPORT-RSP", 0x8100, "10.3.1.2",
          ("Event Reply", _C),
          {**_N_ANSWER, "affected_sop_class_uid": _UE, "affected_sop_instance_uid": _UE,
           "event_type_id": _CE}),
    _rule(types.NGetRequest, "N-GET-RQ", 0x0110, "10.3.2.1", _NO_DATA_SET,
          {**_REQUESTED, "attribute_identifier_list": _U}),
    _rule(types.NGetResponse, "N-GET-RSP", 0x8110, "10.3.2.2", ("Attribute List", _C),
          {**_N_ANSWER, "attribute_identifier_list": _C}),
    _rule(types.NSetRequest, "N-SET-RQ", 0x0120, "10.3.3.1", ("Modification List", _M),
          _REQUESTED),
    _rule(types.NSetResponse, "N-SET-RSP", 0x8120, "10.3.3.2", ("Attribute List", _U),
          {**_N_ANSWER, "attribute_identifier_list": _C}),
    _rule(types.NActionRequest, "N-ACTION-RQ", 0x0130, "10.3.4.1", ("Action Information", _U),
          {**_REQUESTED, "action_type_id": _M}),
    _rule(types.NActionResponse, "N-ACTION-RSP", 0x8130, "10.3.4.2", ("Action Reply", _C),
          {**_N_ANSWER, "action_type_id": _CE}),
    _rule(types.NCreateRequest, "N-CREATE-RQ", 0x0140, "10.3.5.1", ("Attribute List", _U),
          {**_AFFECTS, "affected_sop_instance_uid": _U}),
    _rule(types.NCreateResponse, "N-CREATE-RSP", 0x8140, "10.3.5.2", ("Attribute List", _U),
          {**_N_ANSWER, "affected_sop_class_uid": _UE, "affected_sop_instance_uid": _C,
           "attribute_identifier_list": _C}),
    _rule(types.NDeleteRequest, "N-DELETE-RQ", 0x0150, "10.3.6.1", _NO_DATA_SET, _REQUESTED),
    _rule(types.NDeleteResponse, "N-DELETE-RSP", 0x8150, "10.3.6.2", _NO_DATA_SET, _N_ANSWER),
)
# fmt: on

#: The bit of the command field that makes a response of it (PS3.7 E.1-1).
RESPONSE_BIT: Final = 0x8000
#: Command fields (PS3.7 E.1-1) and their classes.
COMMAND_FIELDS: Final[dict[int, type[types.Message]]] = {
    rule.command_field: rule.message_class for rule in MESSAGES
}
#: Class → its name in the standard.
NAMES: Final[dict[type[object], str]] = {rule.message_class: rule.name for rule in MESSAGES}
_OPERATIONS: Final[dict[type[object], str]] = {
    kind: name.removesuffix("-RQ") for kind, name in NAMES.items()
} | {types.UnrecognizedMessage: "unrecognized"}


def operation_name(request: type[types.Message]) -> str:
    """The operation that a class of requests asks for: ``C-STORE``."""
    return _OPERATIONS[request]


#: Class of each request → class of its response.
RESPONSES: Final[dict[type[types.Message], type[types.Message]]] = {
    rule.message_class: COMMAND_FIELDS[rule.command_field | RESPONSE_BIT]
    for rule in MESSAGES
    if not rule.command_field & RESPONSE_BIT and rule.message_class is not types.CCancelRequest
}
#: Mandatory in the standard, but peers leave them out, and what that means is plain: a
#: missing priority is medium (0), a missing move destination an unknown one (A801H).
FORGIVEN: Final = frozenset({"priority", "move_destination"})
#: What the answer to a command field that nobody knows can carry.
UNRECOGNIZED_RESPONSE_FIELDS: Final[_Fields] = _C_ANSWER
