"""Command sets that peers get wrong (PS3.7 E): forgiven, answered with a status, or Evt19."""

from __future__ import annotations

import struct
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.engine.buffers import Buffer
from isocenter.engine.dimse import message_codec as dimse
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
    decode_message,
    encode_message,
    is_request,
    response_to,
)
from isocenter.engine.errors import RemoteProtocolError
from isocenter.engine.limits import DEFAULT_LIMITS

CT = "1.2.840.10008.5.1.4.1.1.2"
words = st.integers(0, 0xFFFF)
#: One complete message of each kind.
COMPLETE: list[Message] = [
    CStoreRequest(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2"),
    CStoreResponse(message_id_being_responded_to=1, status=0),
    CFindRequest(message_id=1, affected_sop_class_uid=CT),
    CFindResponse(message_id_being_responded_to=1, status=0xFF00),
    CGetRequest(message_id=1, affected_sop_class_uid=CT),
    CGetResponse(message_id_being_responded_to=1, status=0xFF00),
    CMoveRequest(message_id=1, affected_sop_class_uid=CT, move_destination="AE"),
    CMoveResponse(message_id_being_responded_to=1, status=0xFF00),
    CEchoRequest(message_id=1, affected_sop_class_uid=CT),
    CEchoResponse(message_id_being_responded_to=1, status=0),
    CCancelRequest(message_id_being_responded_to=1),
]


def elements_of(data: bytes) -> dict[int, bytes]:
    found = {}
    position = 0
    while position < len(data):
        _, number, length = struct.unpack_from("<HHI", data, position)
        found[number] = data[position + 8 : position + 8 + length]
        position += 8 + length
    return found


def encoded(elements: dict[int, bytes]) -> bytes:
    return b"".join(
        struct.pack("<HHI", 0, number, len(value)) + value for number, value in elements.items()
    )


def test_command_fields_of_the_standard() -> None:
    """PS3.7 Table E.1-1, its DIMSE-C part."""
    assert {
        number: kind.__name__
        for number, kind in COMMAND_FIELDS.items()
        if kind.__name__.startswith("C")
    } == {
        0x0001: "CStoreRequest",
        0x8001: "CStoreResponse",
        0x0010: "CGetRequest",
        0x8010: "CGetResponse",
        0x0020: "CFindRequest",
        0x8020: "CFindResponse",
        0x0021: "CMoveRequest",
        0x8021: "CMoveResponse",
        0x0030: "CEchoRequest",
        0x8030: "CEchoResponse",
        0x0FFF: "CCancelRequest",
    }


# What a peer may leave out, and what not.


def without(message: Message, *numbers: int) -> bytes:
    elements = elements_of(encode_message(message, has_data_set=False))
    return encoded({k: v for k, v in elements.items() if k not in numbers})


@pytest.mark.parametrize("message", COMPLETE, ids=lambda message: type(message).__name__)
def test_each_element_left_out(message: Message) -> None:
    """A request lacks what it cannot do without: 0212H.  Nobody to answer: Evt19."""
    for number in elements_of(encode_message(message, has_data_set=False)):
        data = without(message, number)
        unanswerable = {0x0100, 0x0110}
        if not is_request(message):
            unanswerable |= {0x0120, 0x0900}
        if number in unanswerable:
            with pytest.raises(RemoteProtocolError) as caught:
                decode_message(data)
            assert caught.value.reason == 6
            continue
        decoded, has_data_set = decode_message(data)
        assert not has_data_set
        if is_request(message) and number in {0x0002, 0x1000, 0x0800}:
            assert isinstance(decoded, UnrecognizedMessage)
            assert decoded.status == 0x0212
            assert decoded.message_id == 1
            assert f"(0000,{number:04X})" in decoded.error
        elif number == 0x0600:
            # An unknown destination is A801H, so that is what the user may answer.
            assert isinstance(message, CMoveRequest)
            assert decoded == replace(message, move_destination="")
        else:
            assert decoded == message


@pytest.mark.parametrize("number", [0x0700, 0x1031])
@pytest.mark.parametrize("value", [b"\1", b"\1\2\3"])
def test_a_number_of_wrong_length_in_a_request(number: int, value: bytes) -> None:
    elements = elements_of(encode_message(COMPLETE[0], has_data_set=True)) | {number: value}
    decoded, has_data_set = decode_message(encoded(elements))
    assert isinstance(decoded, UnrecognizedMessage)
    assert decoded.status == 0x0212
    assert decoded.affected_sop_class_uid == CT
    assert has_data_set


@pytest.mark.parametrize("number", [0x0901, 0x1020, 0x1021])
def test_optional_fields_of_wrong_length_in_a_response(number: int) -> None:
    elements = elements_of(encode_message(COMPLETE[5], has_data_set=True)) | {number: b"\1"}
    assert decode_message(encoded(elements)) == (COMPLETE[5], True)


@pytest.mark.parametrize("kind", [0x0000, 0x0001, 0x0102, 0xFFFF])
def test_any_data_set_type_but_0101_says_that_there_is_one(kind: int) -> None:
    elements = elements_of(encode_message(COMPLETE[0], has_data_set=False))
    data = encoded(elements | {0x0800: kind.to_bytes(2, "little")})
    assert decode_message(data) == (COMPLETE[0], True)


def test_unknown_elements_are_ignored() -> None:
    """Retired ones, for example: Message Length (0000,0001)."""
    elements = elements_of(encode_message(COMPLETE[8], has_data_set=False))
    data = encoded(elements | {0x0001: b"\0\0\0\0", 0x5020: b"?"})
    assert decode_message(data) == (COMPLETE[8], False)


# Responses.


@pytest.mark.parametrize(
    "request_", [message for message in COMPLETE if is_request(message)],
    ids=lambda message: type(message).__name__,
)  # fmt: skip
def test_response_to(request_: dimse.Request) -> None:
    response = response_to(request_, 0xC001, error_comment="why", offending_elements=(0x0010_0010,))
    assert type(response).__name__ == type(request_).__name__.replace("Request", "Response")
    assert response.message_id_being_responded_to == 1
    assert response.affected_sop_class_uid == CT
    assert response.status == 0xC001
    assert response.error_comment == "why"
    assert response.offending_elements == (0x0010_0010,)
    if isinstance(request_, CStoreRequest):
        assert isinstance(response, CStoreResponse)
        assert response.affected_sop_instance_uid == "1.2"


# Whatever comes.


def decoded_or_fault(data: Buffer) -> Message | None:
    try:
        return decode_message(data)[0]
    except RemoteProtocolError as fault:
        reason = fault.reason
    assert reason == 6
    return None


@pytest.mark.parametrize("message", COMPLETE, ids=lambda message: type(message).__name__)
def test_truncations(message: Message) -> None:
    data = encode_message(message, has_data_set=False)
    for end in range(len(data)):
        decoded = decoded_or_fault(data[:end])
        assert decoded in (None, message) or isinstance(decoded, UnrecognizedMessage)


@settings(max_examples=400)
@given(st.sampled_from(COMPLETE), st.lists(st.tuples(st.integers(0), words), max_size=5))
def test_mutations(message: Message, changes: list[tuple[int, int]]) -> None:
    data = bytearray(encode_message(message, has_data_set=True))
    for position, value in changes:
        data[position % len(data)] = value & 0xFF
    decoded = decoded_or_fault(memoryview(data))
    if is_request(decoded):
        # Whatever we took for a request can be answered.
        encode_message(response_to(decoded, 0xC000), has_data_set=False)


@pytest.mark.parametrize("size", [0, 1, 2, 8])
def test_memory_is_bounded_by_the_input(size: int) -> None:
    count = DEFAULT_LIMITS.command_set // (8 + size)
    data = encoded(dict.fromkeys(range(8192, 8192 + count), b"\xa5" * size))
    tracemalloc.start()
    with pytest.raises(RemoteProtocolError):
        decode_message(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(data) + (1 << 20)
