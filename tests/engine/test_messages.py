"""DIMSE messages (PS3.7 9.3, E.1): vectors, round trips, bad command sets, a second opinion."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pynetdicom.dimse_messages as their_messages
import pynetdicom.dimse_primitives as their_primitives
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.pdu_primitives import P_DATA

from isocenter.engine.dimse.message_codec import (
    COMMAND_FIELDS,
    CCancelRequest,
    CEchoRequest,
    CEchoResponse,
    CFindRequest,
    CFindResponse,
    CGetRequest,
    CGetResponse,
    CMoveRequest,
    CMoveResponse,
    CStoreRequest,
    CStoreResponse,
    Message,
    UnrecognizedMessage,
    UnrecognizedMessageResponse,
    decode_message,
    encode_message,
    is_request,
    response_to,
    sop_class_of,
)
from isocenter.engine.dimse.status import Status
from isocenter.engine.errors import (
    INVALID_PDU_PARAMETER_VALUE,
    LocalProtocolError,
    RemoteProtocolError,
)
from vectors.reader import read_vector

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2"
US = struct.Struct("<H")

VECTORS: dict[str, tuple[Message, bool]] = {
    "c_echo_rq": (CEchoRequest(message_id=7, affected_sop_class_uid=VERIFICATION), False),
    "c_echo_rsp": (
        CEchoResponse(
            message_id_being_responded_to=7, status=0, affected_sop_class_uid=VERIFICATION
        ),
        False,
    ),
    "c_store_rq": (
        CStoreRequest(
            message_id=65_535,
            affected_sop_class_uid=CT,
            affected_sop_instance_uid="1.2.3.45",
            priority=2,
            move_originator_ae_title="MOVER",
            move_originator_message_id=42,
        ),
        True,
    ),
    "c_store_rsp": (
        CStoreResponse(
            message_id_being_responded_to=65_535,
            status=0xB006,
            affected_sop_class_uid=CT,
            affected_sop_instance_uid="1.2.3.45",
            offending_elements=(0x0009_1001,),
        ),
        False,
    ),
    "c_find_rq": (
        CFindRequest(message_id=8, affected_sop_class_uid=f"{STUDY_ROOT}.1", priority=1),
        True,
    ),
    "c_find_rsp": (
        CFindResponse(
            message_id_being_responded_to=8,
            status=0xFF00,
            affected_sop_class_uid=f"{STUDY_ROOT}.1",
        ),
        True,
    ),
    "c_cancel_rq": (CCancelRequest(message_id_being_responded_to=8), False),
    "c_get_rq": (CGetRequest(message_id=10, affected_sop_class_uid=f"{STUDY_ROOT}.3"), True),
    "c_get_rsp": (
        CGetResponse(
            message_id_being_responded_to=10,
            status=0xFF00,
            affected_sop_class_uid=f"{STUDY_ROOT}.3",
            number_of_remaining_suboperations=300,
            number_of_completed_suboperations=2,
            number_of_failed_suboperations=1,
            number_of_warning_suboperations=0,
        ),
        False,
    ),
    "c_move_rq": (
        CMoveRequest(
            message_id=9, affected_sop_class_uid=f"{STUDY_ROOT}.2", move_destination="STORE SCP"
        ),
        True,
    ),
    "c_move_rsp": (
        CMoveResponse(
            message_id_being_responded_to=9,
            status=0xB000,
            affected_sop_class_uid="1.2.840.10008.5.1.4.1.2.2.2",
            offending_elements=(0x0008_0018, 0x0020_000D),
            error_comment="2 lost",
            number_of_completed_suboperations=5,
            number_of_failed_suboperations=2,
            number_of_warning_suboperations=1,
        ),
        True,
    ),
}

numbers = st.integers(0, 0xFFFF)
uids = st.lists(st.integers(0, 99_999), min_size=1, max_size=6).map(
    lambda parts: ".".join(map(str, parts))
)
ae_titles = st.text("ABCXYZ019_- ", min_size=1, max_size=16).filter(
    lambda text: text == text.strip()
)
comments = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\"), max_size=64
).filter(lambda text: text == text.strip())
tags = st.lists(st.integers(0, 0xFFFF_FFFF), max_size=4).map(tuple)
request_fields: dict[str, Any] = {"message_id": numbers, "affected_sop_class_uid": uids}
response_fields: dict[str, Any] = {
    "message_id_being_responded_to": numbers,
    "status": numbers,
    "affected_sop_class_uid": uids | st.just(""),
    "offending_elements": tags,
    "error_comment": comments,
}
priorities = st.integers(0, 2)
counters: dict[str, Any] = {
    f"number_of_{kind}_suboperations": st.none() | numbers
    for kind in ("remaining", "completed", "failed", "warning")
}
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(CEchoRequest, **request_fields),
    st.builds(CEchoResponse, **response_fields),
    st.builds(
        CStoreRequest,
        **request_fields,
        affected_sop_instance_uid=uids,
        priority=priorities,
        move_originator_ae_title=ae_titles | st.just(""),
        move_originator_message_id=st.none() | numbers,
    ),
    st.builds(CStoreResponse, **response_fields, affected_sop_instance_uid=uids | st.just("")),
    st.builds(CFindRequest, **request_fields, priority=priorities),
    st.builds(CFindResponse, **response_fields),
    st.builds(CGetRequest, **request_fields, priority=priorities),
    st.builds(CGetResponse, **response_fields, **counters),
    st.builds(CMoveRequest, **request_fields, move_destination=ae_titles, priority=priorities),
    st.builds(CMoveResponse, **response_fields, **counters),
    st.builds(CCancelRequest, message_id_being_responded_to=numbers),
)


def refusal(decode: Callable[..., object], *arguments: object) -> int | None:
    """The reason of the A-ABORT that these bytes would get, None when they mean something."""
    try:
        decode(*arguments)
    except RemoteProtocolError as fault:
        return fault.reason
    return None


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value


def command(elements: dict[int, bytes]) -> bytes:
    return b"".join(element(number, value) for number, value in elements.items())


#: A C-STORE-RQ, element by element.
STORE = {
    0x0002: b"1.2",
    0x0100: b"\x01\0",
    0x0110: b"\x05\0",
    0x0700: b"\0\0",
    0x0800: b"\x01\0",
    0x1000: b"1.2.3",
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    message, has_data_set = VECTORS[name]
    assert decode_message(read_vector(name)) == (message, has_data_set)
    assert encode_message(message, has_data_set) == read_vector(name)


@given(messages, st.booleans())
def test_round_trip(message: Message, has_data_set: bool) -> None:
    decoded = decode_message(encode_message(message, has_data_set))
    # A C-CANCEL-RQ has no data set (PS3.7 9.3.2.3), whatever it says.
    has_data_set = has_data_set and not isinstance(message, CCancelRequest)
    assert decoded == (message, has_data_set)


@given(messages)
def test_elements_ascend_and_are_even(message: Message) -> None:
    """PS3.7 6.3.1, PS3.5 7.1: ascending tags, even lengths, the group length first."""
    data = encode_message(message, False)
    position, seen = 0, []
    while position < len(data):
        _, number, length = struct.unpack_from("<HHI", data, position)
        assert length % 2 == 0
        seen.append(number)
        position += 8 + length
    assert seen == sorted(set(seen))
    assert seen[0] == 0
    assert struct.unpack_from("<I", data, 8) == (len(data) - 12,)


def test_an_error_comment_is_cut_at_64_characters() -> None:
    answer = CEchoResponse(message_id_being_responded_to=1, status=0x0110, error_comment="x" * 99)
    decoded, _ = decode_message(encode_message(answer, False))
    assert isinstance(decoded, CEchoResponse)
    assert decoded.error_comment == "x" * 64


def test_an_error_comment_is_one_line_and_one_value() -> None:
    answer = CEchoResponse(message_id_being_responded_to=1, status=0x0110, error_comment="a\\b\nc")
    assert element(0x0902, b"a/b c ") in encode_message(answer, False)


def test_order_padding_and_group_length_of_peers() -> None:
    shuffled = dict(reversed(STORE.items())) | {0: b"\1\0\0\0", 0x1000: b"1.2.3\0\0 ", 0x7777: b"?"}
    assert decode_message(command(shuffled)) == (
        CStoreRequest(
            message_id=5, affected_sop_class_uid="1.2", affected_sop_instance_uid="1.2.3"
        ),
        True,
    )


def test_a_missing_priority_is_medium() -> None:
    without = {number: value for number, value in STORE.items() if number != 0x0700}
    message, _ = decode_message(command(without))
    assert isinstance(message, CStoreRequest)
    assert message.priority == 0


def test_uids_are_not_judged_here() -> None:
    message, _ = decode_message(command(STORE | {0x1000: b"../../etc/passwd"}))
    assert isinstance(message, CStoreRequest)
    assert message.affected_sop_instance_uid == "../../etc/passwd"


# Requests that can be answered, though not performed.


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({0x0002: None}, Status.MISTYPED_ARGUMENT),
        ({0x1000: None}, Status.MISTYPED_ARGUMENT),
        ({0x0800: None}, Status.MISTYPED_ARGUMENT),
        ({0x0800: b""}, Status.MISTYPED_ARGUMENT),
        ({0x0800: b"\0\0\0\0"}, Status.MISTYPED_ARGUMENT),
        ({0x0700: b"\0\0\0\0"}, Status.MISTYPED_ARGUMENT),
        ({0x1031: b"\0"}, Status.MISTYPED_ARGUMENT),
        ({0x0100: b"\x42\0"}, Status.UNRECOGNIZED_OPERATION),
        ({0x0100: b"\x60\x01"}, Status.UNRECOGNIZED_OPERATION),
    ],
)
def test_requests_that_cannot_be_performed(
    changed: dict[int, bytes | None], status: Status
) -> None:
    elements = {number: value for number, value in (STORE | changed).items() if value is not None}
    message, has_data_set = decode_message(command(elements))
    assert is_request(message)
    assert isinstance(message, UnrecognizedMessage)
    assert (message.message_id, message.status) == (5, status)
    assert message.error
    assert has_data_set == (elements.get(0x0800) == b"\x01\0")
    answer = response_to(message, message.status, error_comment=message.error)
    assert isinstance(answer, UnrecognizedMessageResponse)
    assert answer.command_field == message.command_field | 0x8000
    data = encode_message(answer, False)
    assert element(0x0120, b"\5\0") in data
    assert element(0x0900, US.pack(status)) in data


def test_an_unrecognized_message_is_never_sent() -> None:
    message = UnrecognizedMessage(command_field=0x42, message_id=1, status=0x211, error="")
    with pytest.raises(LocalProtocolError):
        encode_message(message, False)


# Command sets that cannot even be answered.

RESPONSE = {0x0100: b"\x01\x80", 0x0120: b"\5\0", 0x0800: b"\1\1", 0x0900: b"\0\0"}
CANCEL = {0x0100: b"\xff\x0f", 0x0120: b"\5\0", 0x0800: b"\1\1"}


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {0x0110: b"\5\0", 0x0800: b"\1\1"},
        STORE | {0x0100: b"\1"},
        STORE | {0x0110: b""},
        {number: value for number, value in STORE.items() if number != 0x0110},
        STORE | {0x0100: b"\x42\0", 0x0110: b"\1\2\3"},
        RESPONSE | {0x0900: b""},
        {number: value for number, value in RESPONSE.items() if number != 0x0120},
        RESPONSE | {0x0100: b"\x42\x80"},
        CANCEL | {0x0120: b"\5"},
        {number: value for number, value in CANCEL.items() if number != 0x0120},
    ],
)
def test_what_cannot_be_answered(elements: dict[int, bytes]) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_message(command(elements))
    assert caught.value.reason == INVALID_PDU_PARAMETER_VALUE


def test_a_response_says_the_same_without_a_malformed_optional_field() -> None:
    assert decode_message(command(RESPONSE | {0x0901: b"\0\0\0"})) == (
        CStoreResponse(message_id_being_responded_to=5, status=0),
        False,
    )


def test_a_response_may_leave_out_the_data_set_type() -> None:
    without = {number: value for number, value in RESPONSE.items() if number != 0x0800}
    assert decode_message(command(without))[1] is False


@settings(max_examples=300)
@given(st.data())
def test_mutated_command_sets(data: st.DataObject) -> None:
    encoded = bytearray(read_vector(data.draw(st.sampled_from(sorted(VECTORS)))))
    for _ in range(data.draw(st.integers(0, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    del encoded[data.draw(st.integers(0, len(encoded))) :]
    reason = refusal(decode_message, encoded)
    if reason is not None:
        assert reason == INVALID_PDU_PARAMETER_VALUE
        return
    message, has_data_set = decode_message(encoded)
    if is_request(message):
        # Whatever was asked for gets an answer that can be sent and read.
        encode_message(response_to(message, Status.PROCESSING_FAILURE), has_data_set)


@given(st.dictionaries(st.sampled_from([*STORE, *CANCEL, 0x0901, 0x1031]), st.binary(max_size=9)))
def test_any_elements(elements: dict[int, bytes]) -> None:
    reason = refusal(decode_message, command(elements))
    if reason is None:
        message, _ = decode_message(command(elements))
        assert is_request(message) or elements[0x0120]
    else:
        assert reason == INVALID_PDU_PARAMETER_VALUE


# What we may not send.


@pytest.mark.parametrize(
    "message",
    [
        CEchoRequest(message_id=1 << 16, affected_sop_class_uid="1.2"),
        CEchoRequest(message_id=-1, affected_sop_class_uid="1.2"),
        CEchoRequest(message_id=1, affected_sop_class_uid=""),
        CEchoResponse(message_id_being_responded_to=1, status=1 << 16),
        CEchoResponse(message_id_being_responded_to=1, status=0, offending_elements=(-1,)),
        CGetResponse(
            message_id_being_responded_to=1, status=0, number_of_failed_suboperations=1 << 16
        ),
    ],
)
def test_what_we_may_not_send(message: Message) -> None:
    with pytest.raises(LocalProtocolError):
        encode_message(message, False)


# Responses.


@given(messages)
def test_responses_belong_to_their_requests(message: Message) -> None:
    if not is_request(message):
        return
    answer = response_to(message, 0x0110, error_comment="why", offending_elements=(0x0008_0016,))
    requested = {number for number, kind in COMMAND_FIELDS.items() if kind is type(message)}
    answered = {number for number, kind in COMMAND_FIELDS.items() if kind is type(answer)}
    assert answered == {number | 0x8000 for number in requested}
    assert answer.message_id_being_responded_to == message.message_id
    assert answer.status == 0x0110
    assert answer.error_comment == "why"
    assert answer.offending_elements == (0x0008_0016,)
    assert answer.affected_sop_class_uid == sop_class_of(message)


def test_a_garbled_uid_is_echoed() -> None:
    message, _ = decode_message(command(STORE | {0x0002: b"\xff\xfe\x80"}))
    assert isinstance(message, CStoreRequest)
    data = encode_message(response_to(message, Status.SOP_CLASS_NOT_SUPPORTED), False)
    assert element(0x0002, b"\xff\xfe\x80\0") in data


def test_is_request() -> None:
    assert not is_request(CCancelRequest(message_id_being_responded_to=1))
    assert not is_request(CEchoResponse(message_id_being_responded_to=1, status=0))
    assert is_request(CEchoRequest(message_id=1, affected_sop_class_uid="1.2"))


# pynetdicom as a second opinion.

#: Our field names in pynetdicom's spelling, where they are not the keyword in snake case.
KEYWORDS = {
    "message_id": "MessageID",
    "message_id_being_responded_to": "MessageIDBeingRespondedTo",
    "affected_sop_class_uid": "AffectedSOPClassUID",
    "affected_sop_instance_uid": "AffectedSOPInstanceUID",
    "priority": "Priority",
    "status": "Status",
    "error_comment": "ErrorComment",
    "offending_elements": "OffendingElement",
    "move_destination": "MoveDestination",
    "move_originator_ae_title": "MoveOriginatorApplicationEntityTitle",
    "move_originator_message_id": "MoveOriginatorMessageID",
    "number_of_remaining_suboperations": "NumberOfRemainingSuboperations",
    "number_of_completed_suboperations": "NumberOfCompletedSuboperations",
    "number_of_failed_suboperations": "NumberOfFailedSuboperations",
    "number_of_warning_suboperations": "NumberOfWarningSuboperations",
}
THEIRS: dict[type[Message], str] = {
    CEchoRequest: "C_ECHO_RQ",
    CEchoResponse: "C_ECHO_RSP",
    CStoreRequest: "C_STORE_RQ",
    CStoreResponse: "C_STORE_RSP",
    CFindRequest: "C_FIND_RQ",
    CFindResponse: "C_FIND_RSP",
    CGetRequest: "C_GET_RQ",
    CGetResponse: "C_GET_RSP",
    CMoveRequest: "C_MOVE_RQ",
    CMoveResponse: "C_MOVE_RSP",
    CCancelRequest: "C_CANCEL_RQ",
}


def command_set_of_theirs(message: Message) -> Any:
    """*message* as pynetdicom decodes our bytes."""
    primitive = P_DATA()
    primitive.presentation_data_value_list.append((1, b"\x03" + encode_message(message, False)))
    other = their_messages.DIMSEMessage()
    assert other.decode_msg(primitive)
    assert type(other).__name__ == THEIRS[type(message)]
    return other.command_set


@settings(max_examples=60)
@given(messages)
def test_pynetdicom_reads_our_messages(message: Message) -> None:
    other = command_set_of_theirs(message)
    for field in fields(message):
        mine = getattr(message, field.name)
        value = other.get(KEYWORDS[field.name])
        if mine in ("", None, ()):
            assert value in (None, "")
        elif isinstance(mine, tuple):
            values = [value] if isinstance(value, int) else value
            assert tuple(int(tag) for tag in values) == mine
        else:
            assert value == mine


#: Fields that pynetdicom checks against the standard's values, each with one of them.
SENDABLE: list[Message] = [
    *(message for message, _ in VECTORS.values()),
    CStoreResponse(
        message_id_being_responded_to=3,
        status=0,
        affected_sop_class_uid=CT,
        affected_sop_instance_uid="1.2.3",
    ),
    CFindRequest(message_id=4, affected_sop_class_uid=CT, priority=1),
    CFindResponse(message_id_being_responded_to=4, status=0xFF00, affected_sop_class_uid=CT),
    CFindResponse(
        message_id_being_responded_to=4,
        status=0xA900,
        affected_sop_class_uid=CT,
        offending_elements=(0x0020_000D,),
        error_comment="no level",
    ),
    CGetRequest(message_id=5, affected_sop_class_uid=CT, priority=2),
    CGetResponse(
        message_id_being_responded_to=5,
        status=0xFF00,
        affected_sop_class_uid=CT,
        number_of_remaining_suboperations=3,
        number_of_completed_suboperations=2,
        number_of_failed_suboperations=1,
        number_of_warning_suboperations=0,
    ),
    CMoveRequest(message_id=6, affected_sop_class_uid=CT, move_destination="STORE SCP"),
    CCancelRequest(message_id_being_responded_to=6),
]


@pytest.mark.parametrize("message", SENDABLE, ids=lambda message: type(message).__name__)
def test_we_write_what_pynetdicom_writes(message: Message) -> None:
    """Byte for byte, and read it back to the same values."""
    name = THEIRS[type(message)]
    primitive = getattr(their_primitives, name.rsplit("_", 1)[0])()
    for field in fields(message):
        value = getattr(message, field.name)
        if value not in ("", None, ()):
            keyword = KEYWORDS[field.name]
            setattr(primitive, keyword, list(value) if isinstance(value, tuple) else value)
    other = getattr(their_messages, name)()
    other.primitive_to_message(primitive)
    (pdata,) = other.encode_msg(1, 16_384)
    ((_, fragment),) = pdata.presentation_data_value_list
    assert decode_message(fragment[1:]) == (message, False)
    assert encode_message(message, False) == fragment[1:]


@pytest.mark.parametrize(
    ("field", "title"),
    [(b"DEST  ", "DEST"), (b"DEST\0 ", "DEST"), (b"DE\0ST\xff", "DE"), (b"\0DEST ", "")],
)
def test_ae_titles_of_a_command_end_at_the_first_nul(field: bytes, title: str) -> None:
    """As those of an association do (PS3.5 6.2 asks for spaces alone)."""
    request = CMoveRequest(
        message_id=1, affected_sop_class_uid="1.2.840.10008.5.1.4.1.2.2.2", move_destination="DEST"
    )
    encoded = encode_message(request, has_data_set=True)
    odd = struct.pack("<HHI", 0, 0x0600, len(field)) + field
    usual = struct.pack("<HHI", 0, 0x0600, 4) + b"DEST"
    length = int.from_bytes(encoded[8:12], "little") + len(odd) - len(usual)
    encoded = encoded[:8] + length.to_bytes(4, "little") + encoded[12:].replace(usual, odd)
    message, _ = decode_message(encoded)
    assert isinstance(message, CMoveRequest)
    assert message.move_destination == title
