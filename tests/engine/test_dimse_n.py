"""DIMSE-N messages, and the one table of all messages (PS3.7 9.3, 10.3): a second copy of it,
vectors, round trips and pynetdicom's opinion, both ways."""

from __future__ import annotations

import struct
from dataclasses import MISSING, fields
from typing import Any

import pynetdicom.dimse_messages as their_messages
import pynetdicom.dimse_primitives as their_primitives
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pynetdicom.pdu_primitives import P_DATA

from isocenter.engine.dimse.message_codec import (
    COMMAND_FIELDS,
    CCancelRequest,
    CEchoRequest,
    CFindRequest,
    CStoreRequest,
    Message,
    NActionRequest,
    NActionResponse,
    NCreateRequest,
    NCreateResponse,
    NDeleteRequest,
    NDeleteResponse,
    NEventReportRequest,
    NEventReportResponse,
    NGetRequest,
    NGetResponse,
    NSetRequest,
    NSetResponse,
    Request,
    UnrecognizedMessage,
    decode_message,
    encode_message,
    is_request,
    response_to,
    sop_class_of,
    sop_instance_of,
)
from isocenter.engine.dimse.message_fields import FIELDS, FORGIVEN, MESSAGES, MessageRule, Presence
from isocenter.engine.dimse.status import STEP_MAY_NO_LONGER_BE_UPDATED, Status
from isocenter.engine.errors import (
    INVALID_PDU_PARAMETER_VALUE,
    LocalProtocolError,
    RemoteProtocolError,
)
from vectors.reader import read_vector

COMMITMENT = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
PRINTER = "1.2.840.10008.5.1.1.16"
PRINTER_INSTANCE = "1.2.840.10008.5.1.1.17"
FILM_BOX = "1.2.840.10008.5.1.1.2"
MPPS = "1.2.840.10008.3.1.2.3.3"

VECTORS: dict[str, tuple[Message, bool]] = {
    "n_event_report_rq": (
        NEventReportRequest(
            message_id=3,
            affected_sop_class_uid=COMMITMENT,
            affected_sop_instance_uid=COMMITMENT_INSTANCE,
            event_type_id=2,
        ),
        True,
    ),
    "n_event_report_rsp": (
        NEventReportResponse(
            message_id_being_responded_to=3,
            status=0x0113,
            affected_sop_class_uid=COMMITMENT,
            affected_sop_instance_uid=COMMITMENT_INSTANCE,
            event_type_id=2,
            error_comment="which?",
            error_id=0xFFFF,
        ),
        False,
    ),
    "n_get_rq": (
        NGetRequest(
            message_id=256,
            requested_sop_class_uid=PRINTER,
            requested_sop_instance_uid=PRINTER_INSTANCE,
            attribute_identifier_list=(0x2110_0010, 0x2110_0020),
        ),
        False,
    ),
    "n_get_rsp": (
        NGetResponse(
            message_id_being_responded_to=256,
            status=0x0107,
            affected_sop_class_uid=PRINTER,
            affected_sop_instance_uid=PRINTER_INSTANCE,
            attribute_identifier_list=(0x2110_0020,),
        ),
        True,
    ),
    "n_set_rq": (
        NSetRequest(
            message_id=1, requested_sop_class_uid=MPPS, requested_sop_instance_uid="1.2.3.4"
        ),
        True,
    ),
    "n_set_rsp": (
        NSetResponse(
            message_id_being_responded_to=1,
            status=0x0110,
            affected_sop_class_uid=MPPS,
            affected_sop_instance_uid="1.2.3.4",
            error_comment="is final",
            error_id=STEP_MAY_NO_LONGER_BE_UPDATED,
        ),
        False,
    ),
    "n_action_rq": (
        NActionRequest(
            message_id=2,
            requested_sop_class_uid=COMMITMENT,
            requested_sop_instance_uid=COMMITMENT_INSTANCE,
            action_type_id=1,
        ),
        True,
    ),
    "n_action_rsp": (
        NActionResponse(
            message_id_being_responded_to=2,
            status=0,
            affected_sop_class_uid=COMMITMENT,
            affected_sop_instance_uid=COMMITMENT_INSTANCE,
            action_type_id=1,
        ),
        False,
    ),
    "n_create_rq": (NCreateRequest(message_id=4, affected_sop_class_uid=FILM_BOX), True),
    "n_create_rsp": (
        NCreateResponse(
            message_id_being_responded_to=4,
            status=0,
            affected_sop_class_uid=FILM_BOX,
            affected_sop_instance_uid="1.2.3.44",
        ),
        True,
    ),
    "n_delete_rq": (
        NDeleteRequest(
            message_id=5, requested_sop_class_uid=FILM_BOX, requested_sop_instance_uid="1.2.3.44"
        ),
        False,
    ),
    "n_delete_rsp": (
        NDeleteResponse(
            message_id_being_responded_to=5,
            status=0x0112,
            affected_sop_class_uid=FILM_BOX,
            affected_sop_instance_uid="1.2.3.44",
        ),
        False,
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    message, has_data_set = VECTORS[name]
    assert decode_message(read_vector(name)) == (message, has_data_set)
    assert encode_message(message, has_data_set) == read_vector(name)


# The table.

#: Typed a second time from PS3.7 9.1, 9.3, 10.1 and 10.3: what must be there, what may, and the
#: data set.  Annex C adds the companions of a status: 0901, 0902, and in DIMSE-N 0903 and 1005.
PRINTED = """
C-STORE-RQ         0001 M 0002 0110 0700 1000      U 1030 1031          D M
C-STORE-RSP        8001 M 0120 0900                U 0002 1000 0901 0902 D -
C-GET-RQ           0010 M 0002 0110 0700           U                    D M
C-GET-RSP          8010 M 0120 0900 U 0002 0901 0902 1020 1021 1022 1023 D U
C-FIND-RQ          0020 M 0002 0110 0700           U                    D M
C-FIND-RSP         8020 M 0120 0900                U 0002 0901 0902     D C
C-MOVE-RQ          0021 M 0002 0110 0600 0700      U                    D M
C-MOVE-RSP         8021 M 0120 0900 U 0002 0901 0902 1020 1021 1022 1023 D U
C-ECHO-RQ          0030 M 0002 0110                U                    D -
C-ECHO-RSP         8030 M 0120 0900                U 0002 0901 0902     D -
C-CANCEL-RQ        0FFF M 0120                     U                    D -
N-EVENT-REPORT-RQ  0100 M 0002 0110 1000 1002      U                    D U
N-EVENT-REPORT-RSP 8100 M 0120 0900 U 0002 1000 1002 0901 0902 0903     D C
N-GET-RQ           0110 M 0003 0110 1001           U 1005               D -
N-GET-RSP          8110 M 0120 0900 U 0002 1000 1005 0901 0902 0903     D C
N-SET-RQ           0120 M 0003 0110 1001           U                    D M
N-SET-RSP          8120 M 0120 0900 U 0002 1000 1005 0901 0902 0903     D U
N-ACTION-RQ        0130 M 0003 0110 1001 1008      U                    D U
N-ACTION-RSP       8130 M 0120 0900 U 0002 1000 1008 0901 0902 0903     D C
N-CREATE-RQ        0140 M 0002 0110                U 1000               D U
N-CREATE-RSP       8140 M 0120 0900 U 0002 1000 1005 0901 0902 0903     D U
N-DELETE-RQ        0150 M 0003 0110 1001           U                    D -
N-DELETE-RSP       8150 M 0120 0900 U 0002 1000 0901 0902 0903          D -
"""


def test_the_table_is_the_standards() -> None:
    printed = {}
    for line in PRINTED.strip().splitlines():
        name, number, rest = line.split(maxsplit=2)
        mandatory, rest = rest.removeprefix("M").split("U", 1)
        optional, data_set = rest.split("D")
        printed[name] = (
            int(number, 16),
            {int(element, 16) for element in mandatory.split()},
            {int(element, 16) for element in optional.split()},
            data_set.strip(),
        )
    assert {
        rule.name: (
            rule.command_field,
            {FIELDS[f].element for f, p in rule.fields.items() if p is Presence.MANDATORY},
            {FIELDS[f].element for f, p in rule.fields.items() if p is not Presence.MANDATORY},
            rule.data_set_presence.value,
        )
        for rule in MESSAGES
    } == printed


@pytest.mark.parametrize("rule", MESSAGES, ids=lambda rule: rule.name)
def test_classes_are_as_the_table_says(rule: MessageRule) -> None:
    """Fields, and that a value cannot be made without what is mandatory."""
    declared = {field.name: field.default is MISSING for field in fields(rule.message_class)}
    assert declared == {
        name: presence is Presence.MANDATORY and name not in FORGIVEN
        for name, presence in rule.fields.items()
    }
    assert (rule.data_set == "") == (rule.data_set_presence is Presence.NEVER)
    assert rule.clause in (rule.message_class.__doc__ or "")
    assert (rule.message_class.__doc__ or "").startswith(rule.name)


def test_elements_are_as_the_dictionary_says() -> None:
    """PS3.7 Annex E, as pydicom has it."""
    for field in FIELDS.values():
        assert dictionary_VR(field.element) == field.vr
        words = field.name.replace("-", "").replace(" ", "")
        assert keyword_for_tag(field.element).lower() == words.lower()
    elements = [field.element for field in FIELDS.values()]
    assert elements == sorted(set(elements))


def keyword(name: str) -> str:
    return keyword_for_tag(FIELDS[name].element)


MADE_BY_THE_CODEC = {"CommandGroupLength", "CommandField", "CommandDataSetType"}


def known_to_pynetdicom(rule: MessageRule) -> set[str]:
    return set(their_messages._COMMAND_SET_KEYWORDS[rule.name]) - MADE_BY_THE_CODEC


@pytest.mark.parametrize("rule", MESSAGES, ids=lambda rule: rule.name)
def test_pynetdicom_has_the_same_fields(rule: MessageRule) -> None:
    """But for two companions of a status (PS3.7 Annex C), which it leaves out of some responses."""
    ours, theirs = {keyword(name) for name in rule.fields}, known_to_pynetdicom(rule)
    assert theirs <= ours
    left_out = {"OffendingElement", "AttributeIdentifierList"} if "status" in rule.fields else set()
    assert ours - theirs <= left_out


# Generated from the table.

numbers = st.integers(0, 0xFFFF)
uids = st.lists(st.integers(0, 99_999), min_size=2, max_size=6).map(
    lambda parts: ".".join(map(str, [1, *parts]))
)
plain_text = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\"),
    min_size=1,
    max_size=16,
).filter(lambda text: text == text.strip())
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "UI": uids,
    "US": numbers,
    "AE": plain_text,
    "LO": plain_text,
    "AT": st.lists(st.integers(0, 0xFFFF_FFFF), min_size=1, max_size=4).map(tuple),
}
EMPTY: dict[str, Any] = {"UI": "", "US": None, "AE": "", "LO": "", "AT": ()}


def values_of(name: str, presence: Presence) -> st.SearchStrategy[Any]:
    vr = FIELDS[name].vr
    values = st.integers(0, 2) if name == "priority" else VALUES[vr]
    return values if presence is Presence.MANDATORY else values | st.just(EMPTY[vr])


def built(rule: MessageRule) -> st.SearchStrategy[Message]:
    return st.builds(rule.message_class, **{n: values_of(n, p) for n, p in rule.fields.items()})


messages = st.sampled_from(MESSAGES).flatmap(built)
RULES = {rule.message_class: rule for rule in MESSAGES}


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value


@settings(max_examples=400)
@given(messages, st.booleans())
def test_round_trip(message: Message, has_data_set: bool) -> None:
    has_data_set = has_data_set and not isinstance(message, CCancelRequest)
    assert decode_message(encode_message(message, has_data_set)) == (message, has_data_set)


def without(data: bytes, number: int) -> bytes:
    """The command set *data* without an element, group length and all that follows it left."""
    kept, position = b"", 0
    while position < len(data):
        _, found, length = struct.unpack_from("<HHI", data, position)
        if found != number:
            kept += data[position : position + 8 + length]
        position += 8 + length
    return kept


MANDATORY = [
    pytest.param(rule, name, id=f"{rule.name} {FIELDS[name].name}")
    for rule in MESSAGES
    for name, presence in rule.fields.items()
    if presence is Presence.MANDATORY
]


def plain(rule: MessageRule) -> Message:
    """A message of this kind with its mandatory fields."""
    values: dict[str, Any] = {"UI": "1.2", "US": 7, "AE": "AE", "AT": (1,), "LO": "x"}
    return rule.message_class(
        **{
            name: values[FIELDS[name].vr]
            for name, presence in rule.fields.items()
            if presence is Presence.MANDATORY
        }
    )


@pytest.mark.parametrize(("rule", "name"), MANDATORY)
def test_what_a_peer_leaves_out(rule: MessageRule, name: str) -> None:
    """Forgiven, answered 0212H, or nothing that can be answered: then A-ABORT reason 6."""
    data = without(encode_message(plain(rule), False), FIELDS[name].element)
    if not is_request(plain(rule)) or name == "message_id":
        with pytest.raises(RemoteProtocolError) as caught:
            decode_message(data)
        assert caught.value.reason == INVALID_PDU_PARAMETER_VALUE
        return
    message, _ = decode_message(data)
    if name in FORGIVEN:
        assert type(message) is rule.message_class
    else:
        assert isinstance(message, UnrecognizedMessage)
        assert message.command_field == rule.command_field
        assert message.status == Status.MISTYPED_ARGUMENT
        assert message.error == f"(0000,{FIELDS[name].element:04X}) is missing"


@pytest.mark.parametrize(("rule", "name"), MANDATORY)
def test_what_we_do_not_leave_out(rule: MessageRule, name: str) -> None:
    values = {f.name: getattr(plain(rule), f.name) for f in fields(rule.message_class)}
    values[name] = EMPTY[FIELDS[name].vr]
    with pytest.raises(LocalProtocolError, match=f"without {name}"):
        encode_message(rule.message_class(**values), False)


@pytest.mark.parametrize(
    ("message", "number", "value"),
    [
        (NActionRequest, 0x1008, b"\1"),
        (NEventReportRequest, 0x1002, b"\1\0\0\0"),
        (NGetRequest, 0x1005, b"\x10\x21\x10"),
    ],
)
def test_a_field_of_a_wrong_length(message: type[Message], number: int, value: bytes) -> None:
    data = without(encode_message(plain(RULES[message]), False), number) + element(number, value)
    decoded, _ = decode_message(data)
    assert isinstance(decoded, UnrecognizedMessage)
    assert decoded.status == Status.MISTYPED_ARGUMENT
    assert decoded.error == f"(0000,{number:04X}) has a wrong length"


def test_an_unrecognized_request_keeps_the_requested_sop_class() -> None:
    message, _ = decode_message(without(encode_message(plain(RULES[NSetRequest]), True), 0x1001))
    assert isinstance(message, UnrecognizedMessage)
    assert sop_class_of(message) == "1.2"
    assert sop_instance_of(message) == ""
    answer = response_to(message, message.status, error_comment=message.error)
    assert element(0x0100, b"\x20\x81") in encode_message(answer, False)


def test_type_ids_and_error_ids_of_zero_are_sent() -> None:
    answer = NActionResponse(
        message_id_being_responded_to=0, status=0, action_type_id=0, error_id=0
    )
    data = encode_message(answer, False)
    assert element(0x1008, b"\0\0") in data
    assert element(0x0903, b"\0\0") in data
    assert decode_message(data) == (answer, False)


# What is asked of a message.


@given(messages)
def test_responses_echo_their_requests(message: Message) -> None:
    if not is_request(message):
        return
    answer = response_to(message, 0x0124, error_comment="why", offending_elements=(0x0008_0016,))
    assert type(answer) is COMMAND_FIELDS[RULES[type(message)].command_field | 0x8000]
    assert answer.message_id_being_responded_to == message.message_id
    assert answer.status == 0x0124
    assert answer.error_comment == "why"
    assert answer.offending_elements == (0x0008_0016,)
    assert answer.affected_sop_class_uid == sop_class_of(message)
    for name in ("event_type_id", "action_type_id"):
        assert getattr(answer, name, None) == getattr(message, name, None)
    if "affected_sop_instance_uid" in RULES[type(answer)].fields:
        instance: str = getattr(answer, "affected_sop_instance_uid")  # noqa: B009
        assert instance == sop_instance_of(message)
    assert decode_message(encode_message(answer, False)) == (answer, False)


@pytest.mark.parametrize(
    ("request_", "sop_class", "instance"),
    [
        (CEchoRequest(message_id=1, affected_sop_class_uid="1.1"), "1.1", ""),
        (CFindRequest(message_id=1, affected_sop_class_uid="1.1"), "1.1", ""),
        (plain(RULES[CStoreRequest]), "1.2", "1.2"),
        (VECTORS["n_event_report_rq"][0], COMMITMENT, COMMITMENT_INSTANCE),
        (VECTORS["n_get_rq"][0], PRINTER, PRINTER_INSTANCE),
        (VECTORS["n_set_rq"][0], MPPS, "1.2.3.4"),
        (VECTORS["n_action_rq"][0], COMMITMENT, COMMITMENT_INSTANCE),
        (VECTORS["n_create_rq"][0], FILM_BOX, ""),
        (VECTORS["n_delete_rq"][0], FILM_BOX, "1.2.3.44"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_request_is_about(request_: Request, sop_class: str, instance: str) -> None:
    assert sop_class_of(request_) == sop_class
    assert sop_instance_of(request_) == instance


# pynetdicom, both ways, generated.


def is_empty(value: object) -> bool:
    return value is None or value in ("", (), [])


@settings(max_examples=300)
@given(messages)
def test_pynetdicom_reads_what_we_write(message: Message) -> None:
    primitive = P_DATA()
    primitive.presentation_data_value_list.append((1, b"\x03" + encode_message(message, False)))
    theirs = their_messages.DIMSEMessage()
    assert theirs.decode_msg(primitive)
    assert type(theirs).__name__ == RULES[type(message)].name.replace("-", "_")
    for name in RULES[type(message)].fields:
        ours, value = getattr(message, name), theirs.command_set.get(keyword(name))
        if is_empty(ours):
            assert is_empty(value)
        elif isinstance(ours, tuple):
            values = [value] if isinstance(value, int) else value
            assert tuple(int(tag) for tag in values) == ours
        else:
            assert value == ours


def written_by_pynetdicom(message: Message) -> bytes:
    name = RULES[type(message)].name.replace("-", "_")
    theirs = getattr(their_messages, name)()
    primitive = getattr(their_primitives, name.rsplit("_", 1)[0])()
    for field in fields(message):
        value = getattr(message, field.name)
        if not is_empty(value):
            listed = list(value) if isinstance(value, tuple) else value
            setattr(primitive, keyword(field.name), listed)
    theirs.primitive_to_message(primitive)
    (pdata,) = theirs.encode_msg(1, 0)
    ((_, fragment),) = pdata.presentation_data_value_list
    return bytes(fragment[1:])


@settings(max_examples=300)
@given(st.data())
def test_we_read_and_write_what_pynetdicom_writes(data: st.DataObject) -> None:
    """Byte for byte, whatever it can be made to send."""
    rule = data.draw(st.sampled_from(MESSAGES))
    known = known_to_pynetdicom(rule)
    values = {
        name: data.draw(values_of(name, presence))
        for name, presence in rule.fields.items()
        if keyword(name) in known
    }
    message = rule.message_class(**values)
    theirs = written_by_pynetdicom(message)
    assert decode_message(theirs) == (message, False)
    assert encode_message(message, False) == theirs
