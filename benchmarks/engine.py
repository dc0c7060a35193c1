"""What the protocol costs, beside pynetdicom: C-ECHO round trips in memory, and framing.

Run it from the repository::

    PYTHONPATH=engine python benchmarks/engine.py

Prints round trips per second and MiB per second (the best of several rounds).  pynetdicom's
figures are its codec alone (PDU and DIMSE classes), without its threads, sockets and queues.
"""

from __future__ import annotations

import platform
import time
from collections import deque
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pynetdicom
from pynetdicom import dimse_messages, dimse_primitives
from pynetdicom.pdu import P_DATA_TF

from isocenter.engine.association import Association
from isocenter.engine.commands import AcceptAssociation, RequestAssociation, SendMessage
from isocenter.engine.dimse.fragments import encode_fragments
from isocenter.engine.dimse.messages import (
    CEchoRequest,
    CStoreRequest,
    encode_message,
    is_request,
    response_to,
)
from isocenter.engine.effects import Effect, SendBytes
from isocenter.engine.events import AssociationRequested, MessageReceived
from isocenter.engine.items import ProposedContext, UserInformation
from isocenter.engine.negotiation import Acceptor, Offer, Role, negotiate
from isocenter.engine.pdu import AssociateAccept, AssociateRequest
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION

ROUNDS = 5
ECHOES = 5_000
DATA_SET = bytes(32 << 20)
#: What one read of a socket brings.
CHUNK = 256 << 10
ACCEPTOR = Acceptor(
    offer=lambda _: Offer(transfer_syntaxes=(IMPLICIT_VR_LITTLE_ENDIAN,)), max_pdu_length=131_072
)


def sent(effects: tuple[Effect, ...]) -> bytes:
    """One write: whole PDUs, joined as a driver would hand them to the system."""
    return b"".join(
        bytes(buffer)
        for effect in effects
        if isinstance(effect, SendBytes)
        for buffer in effect.buffers
    )


def established() -> tuple[Association, Association]:
    requestor, acceptor = Association(Role.REQUESTOR), Association(Role.ACCEPTOR)
    request = AssociateRequest(
        called_ae_title="ISOCENTER",
        calling_ae_title="BENCH",
        presentation_contexts=(ProposedContext(1, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)),),
        user_information=UserInformation(max_pdu_length=131_072),
    )
    requestor.send(RequestAssociation(request))
    acceptor.transport_opened()
    asked = acceptor.receive_data(sent(requestor.transport_opened()))
    (indication,) = (effect for effect in asked if isinstance(effect, AssociationRequested))
    accept = negotiate(indication.request, ACCEPTOR)
    assert isinstance(accept, AssociateAccept)
    requestor.receive_data(sent(acceptor.send(AcceptAssociation(accept))))
    assert requestor.negotiated is not None
    return requestor, acceptor


def best(run: Callable[[], None]) -> float:
    """Seconds of the fastest of several rounds."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def our_echoes() -> None:
    requestor, acceptor = established()
    for number in range(ECHOES):
        echo = CEchoRequest(message_id=number, affected_sop_class_uid=VERIFICATION)
        (event,) = acceptor.receive_data(sent(requestor.send(SendMessage(1, echo))))
        assert isinstance(event, MessageReceived)
        assert is_request(event.message)
        response = response_to(event.message, 0)
        (event,) = requestor.receive_data(sent(acceptor.send(SendMessage(1, response))))
        assert isinstance(event, MessageReceived)


def their_message(message: Any, max_length: int) -> list[bytes]:
    stream = []
    for primitive in message.encode_msg(1, max_length):
        whole = P_DATA_TF()
        whole.from_primitive(primitive)
        stream.append(whole.encode())
    return stream


def their_read(stream: list[bytes]) -> Any:
    message = dimse_messages.DIMSEMessage()
    for data in stream:
        whole = P_DATA_TF()
        whole.decode(data)
        if message.decode_msg(whole.to_primitive()):
            return message.message_to_primitive()
    raise AssertionError("the message is not complete")


def their_echoes() -> None:
    for number in range(ECHOES // 10):
        request = dimse_primitives.C_ECHO()
        request.MessageID = number
        request.AffectedSOPClassUID = VERIFICATION
        asked: Any = dimse_messages.C_ECHO_RQ()
        asked.primitive_to_message(request)
        response = their_read(their_message(asked, 131_072))
        answer = dimse_primitives.C_ECHO()
        answer.MessageIDBeingRespondedTo = response.MessageID
        answer.AffectedSOPClassUID = response.AffectedSOPClassUID
        answer.Status = 0
        answered: Any = dimse_messages.C_ECHO_RSP()
        answered.primitive_to_message(answer)
        their_read(their_message(answered, 131_072))


STORE = CStoreRequest(
    message_id=1, affected_sop_class_uid=VERIFICATION, affected_sop_instance_uid="1.2.3"
)


def stream_of(max_length: int) -> bytes:
    parts = encode_fragments(
        1, encode_message(STORE, True), is_command=True, is_last=True, max_length=max_length
    ) + encode_fragments(1, DATA_SET, is_command=False, is_last=True, max_length=max_length)
    return b"".join(bytes(part) for part in parts)


def our_receiving(stream: bytes) -> None:
    _, acceptor = established()
    view = memoryview(stream)
    for start in range(0, len(stream), CHUNK):
        acceptor.receive_data(view[start : start + CHUNK])


def our_sending(max_length: int) -> None:
    buffers = encode_fragments(1, DATA_SET, is_command=False, is_last=True, max_length=max_length)
    deque(buffers, maxlen=0)


def their_store() -> Any:
    primitive = dimse_primitives.C_STORE()
    primitive.MessageID = 1
    primitive.AffectedSOPClassUID = VERIFICATION
    primitive.AffectedSOPInstanceUID = "1.2.3"
    primitive.Priority = 2
    primitive.DataSet = BytesIO(DATA_SET)
    message: Any = dimse_messages.C_STORE_RQ()
    message.primitive_to_message(primitive)
    return message


def main() -> None:
    print(f"Python {platform.python_version()}, pynetdicom {pynetdicom.__version__}")
    ours = ECHOES / best(our_echoes)
    theirs = ECHOES // 10 / best(their_echoes)
    row("C-ECHO round trips/s", ours, theirs)
    size = len(DATA_SET) / (1 << 20)
    for max_length in (16 << 10, 128 << 10):
        stream = stream_of(max_length)
        ours = size / best(lambda stream=stream: our_receiving(stream))  # type: ignore[misc]
        whole = their_message(their_store(), max_length)
        theirs = size / best(lambda whole=whole: void(their_read(whole)))  # type: ignore[misc]
        row(f"receiving, PDUs of {max_length >> 10} KiB, MiB/s", ours, theirs)
        ours = size / best(lambda length=max_length: our_sending(length))  # type: ignore[misc]
        theirs = size / best(
            lambda length=max_length: void(their_message(their_store(), length))  # type: ignore[misc]
        )
        row(f"sending, PDUs of {max_length >> 10} KiB, MiB/s", ours, theirs)


def void(_: object) -> None:
    """Takes a result that only its making is measured for."""


def row(name: str, ours: float, theirs: float) -> None:
    print(f"{name:36} {ours:12,.0f}   pynetdicom {theirs:10,.0f}   {ours / theirs:7.1f} times")


if __name__ == "__main__":
    main()
