"""pynetdicom's codec at the other end of the wire: whole messages in P-DATA-TF, both ways.

Single PDUs and command sets are compared in `test_pdu` and `test_messages`.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom import dimse_messages, dimse_primitives
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ, P_DATA_TF

from engine.wire import CT, REQUEST, Wire, joined, sent
from isocenter.engine.commands import RequestAssociation, SendMessage
from isocenter.engine.dimse.message_codec import CFindRequest, CFindResponse, CStoreRequest
from isocenter.engine.events import MessageReceived
from isocenter.engine.states import Sta
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN

STORE = CStoreRequest(
    message_id=9, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3.4", priority=2
)


def their_store(data: bytes) -> Any:
    primitive = dimse_primitives.C_STORE()
    primitive.MessageID = 9
    primitive.AffectedSOPClassUID = CT
    primitive.AffectedSOPInstanceUID = "1.2.3.4"
    primitive.Priority = 2
    primitive.DataSet = BytesIO(data)
    message = dimse_messages.C_STORE_RQ()  # type: ignore[no-untyped-call, unused-ignore]
    message.primitive_to_message(primitive)
    return message


@settings(max_examples=40)
@given(st.binary(min_size=1, max_size=3_000), st.sampled_from([0, 64, 250, 16_384]))
def test_we_read_what_pynetdicom_sends(data: bytes, max_length: int) -> None:
    wire = Wire().associate()
    stream = b""
    for primitive in their_store(data).encode_msg(3, max_length):
        whole = P_DATA_TF()
        whole.from_primitive(primitive)
        stream += whole.encode()
    assert joined(wire.ends[1].receive_data(stream)) == [
        MessageReceived(3, STORE, has_data_set=True),
        (3, data),
    ]


@settings(max_examples=40)
@given(st.binary(min_size=1, max_size=40_000))
def test_pynetdicom_reads_what_we_send(data: bytes) -> None:
    wire = Wire().associate()
    stream = sent(wire.ends[0].send(SendMessage(3, STORE, data)))
    message = dimse_messages.DIMSEMessage()
    is_complete = False
    while stream:
        assert not is_complete
        length = 6 + int.from_bytes(stream[2:6], "big")
        whole = P_DATA_TF()
        whole.decode(stream[:length])
        is_complete = message.decode_msg(whole.to_primitive())
        stream = stream[length:]
    assert is_complete
    assert type(message).__name__ == "C_STORE_RQ"
    assert message.context_id == 3
    primitive = message.message_to_primitive()
    assert isinstance(primitive, dimse_primitives.C_STORE)
    assert primitive.AffectedSOPInstanceUID == "1.2.3.4"
    assert primitive.DataSet is not None
    assert primitive.DataSet.getvalue() == data


@pytest.mark.parametrize("status", [0xFF00, 0x0000, 0xFE00, 0xA900])
def test_responses_with_and_without_an_identifier(status: int) -> None:
    wire = Wire().associate()
    wire.do(0, SendMessage(3, CFindRequest(message_id=1, affected_sop_class_uid=CT), b"keys"))
    wire.carry()
    response = CFindResponse(
        message_id_being_responded_to=1, status=status, affected_sop_class_uid=CT
    )
    identifier = b"identifier" if status == 0xFF00 else None
    stream = sent(wire.ends[1].send(SendMessage(3, response, identifier)))
    message = dimse_messages.DIMSEMessage()
    while stream:
        length = 6 + int.from_bytes(stream[2:6], "big")
        whole = P_DATA_TF()
        whole.decode(stream[:length])
        done = message.decode_msg(whole.to_primitive())
        stream = stream[length:]
    assert done
    primitive = message.message_to_primitive()
    assert isinstance(primitive, dimse_primitives.C_FIND)
    assert primitive.Status == status
    read = primitive.Identifier.getvalue() if primitive.Identifier else b""
    assert read == (identifier or b"")


def test_an_association_through_their_pdus() -> None:
    """Both A-ASSOCIATE PDUs decoded and encoded again by pynetdicom on their way."""
    wire = Wire()
    wire.do(0, RequestAssociation(REQUEST))
    theirs: Any = A_ASSOCIATE_RQ()
    theirs.decode(bytes(wire.towards[1]))
    wire.towards[1][:] = theirs.encode()
    wire.deliver(1)
    theirs = A_ASSOCIATE_AC()
    theirs.decode(bytes(wire.towards[0]))
    results = [(context.context_id, context.result) for context in theirs.presentation_context]
    assert results == [(1, 0), (3, 0), (5, 3)]
    wire.towards[0][:] = theirs.encode()
    wire.carry()
    assert wire.states == (Sta.STA6, Sta.STA6)
    negotiated = wire.ends[0].negotiated
    assert negotiated is not None
    assert negotiated.contexts[3].transfer_syntax == EXPLICIT_VR_LITTLE_ENDIAN
