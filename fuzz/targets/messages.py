"""Invariant: a command set is decoded or refused, always the same way; each request has an answer.

Input: a byte for the status of the answer, the command set.
"""

from __future__ import annotations

from typing import Final

from wording import check_fault, check_line

from isocenter.engine.dimse import message_codec as messages
from isocenter.engine.dimse.command_set_cache import Layouts
from isocenter.engine.dimse.message_codec import (
    Message,
    UnrecognizedMessage,
    UnrecognizedMessageResponse,
    decode_message,
    encode_message,
    is_request,
    response_to,
    sop_class_of,
    sop_instance_of,
)
from isocenter.engine.errors import LocalProtocolError, RemoteProtocolError

_STATUSES: Final = (0x0000, 0xFF00, 0xFE00, 0xA700, 0xB000, 0x0122, 0xC123, 0xFFFF)
#: What no LO can hold must not come into an Error Comment.
_COMMENT: Final = "a\\b\x00\x1b\u0142 " * 12

#: How far apart bytes are changed for command sets that look nearly alike, and how.
_STRIDE: Final = 16
_TWIST: Final = 0x11

_Decoded = tuple[Message, bool] | str


def run(data: bytes) -> None:
    if not data:
        return
    body = data[1:]
    # What was seen before must not decide what this input shows.
    setattr(messages, "_LAYOUTS", Layouts())  # noqa: B010 (it is final)
    decoded = _decode(body)
    # The short way, which remembers what command sets look like, says what the long way says.
    assert decoded == _decode_the_long_way(body)
    assert decoded == _decode(memoryview(body))
    for position in range(data[0] % _STRIDE, len(body), _STRIDE):
        other = body[:position] + bytes((body[position] ^ _TWIST,)) + body[position + 1 :]
        assert _decode(other) == _decode_the_long_way(other)
    if isinstance(decoded, str):
        return
    message, has_data_set = decoded
    check_line(message)
    if is_request(message):
        sop_class_of(message)
        sop_instance_of(message)
        status = _STATUSES[data[0] % len(_STATUSES)]
        response = response_to(
            message, status, error_comment=_COMMENT, offending_elements=(0x0010_0020,)
        )
        encoded = encode_message(response, has_data_set=False)
        if not isinstance(response, UnrecognizedMessageResponse):
            again, has_answer_data = decode_message(encoded)
            assert type(again) is type(response)
            assert not has_answer_data
            assert not is_request(again)
            assert getattr(again, "message_id_being_responded_to") == message.message_id  # noqa: B009
    if isinstance(message, UnrecognizedMessage):
        return  # it is received, never sent
    try:
        encoded = encode_message(message, has_data_set)
    except LocalProtocolError as fault:
        check_fault(fault)
        return
    # Padding, order, unknown elements and what no LO can hold are gone after the first time.
    normalized = decode_message(encoded)
    assert decode_message(encode_message(*normalized)) == normalized


def _decode(body: bytes | memoryview) -> _Decoded:
    try:
        return decode_message(body)
    except RemoteProtocolError as fault:
        check_fault(fault)
        return str(fault)


def _decode_the_long_way(body: bytes) -> _Decoded:
    try:
        return messages._decode(body)
    except RemoteProtocolError as fault:
        return str(fault)
