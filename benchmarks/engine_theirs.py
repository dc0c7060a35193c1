"""pynetdicom's side of `engine.py`, and pydicom's: the same calls with their codecs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from io import BytesIO
from itertools import cycle
from typing import Any, Final

import pydicom
from engine_cases import (
    ABSTRACT_SYNTAXES,
    CT,
    EXPLICIT,
    FILES,
    IMPLICIT,
    INSTANCES,
    LARGE,
    MAX_PDU_LENGTH,
    SMALL,
    STREAM,
    TRANSFER_SYNTAXES,
    VERIFICATION,
)
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, build_context
from pynetdicom.dimse_messages import (
    C_ECHO_RQ,
    C_ECHO_RSP,
    C_STORE_RQ,
    C_STORE_RSP,
    DIMSEMessage,
)
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import negotiate_as_acceptor, negotiate_as_requestor

from isocenter.services.archive.index.extraction import SCANNED_TAGS

Call = Callable[[], object]


def written(message: Any, max_length: int = MAX_PDU_LENGTH) -> list[bytes]:
    stream = []
    for primitive in message.encode_msg(1, max_length):
        pdu = P_DATA_TF()
        pdu.from_primitive(primitive)
        stream.append(pdu.encode())
    return stream


def read(stream: list[bytes]) -> Any:
    message = DIMSEMessage()
    for data in stream:
        pdu = P_DATA_TF()
        pdu.decode(data)
        if message.decode_msg(pdu.to_primitive()):
            return message.message_to_primitive()
    raise AssertionError("the message is not complete")


def message_of(message: Any, primitive: Any) -> Any:
    message.primitive_to_message(primitive)
    return message


def echo() -> Call:
    numbers = cycle(number for number, _ in INSTANCES)

    def call() -> None:
        request = C_ECHO()
        request.MessageID = next(numbers)
        request.AffectedSOPClassUID = VERIFICATION
        asked = read(written(message_of(C_ECHO_RQ(), request)))
        response = C_ECHO()
        response.MessageIDBeingRespondedTo = asked.MessageID
        response.AffectedSOPClassUID = asked.AffectedSOPClassUID
        response.Status = 0
        read(written(message_of(C_ECHO_RSP(), response)))

    return call


def store_request(message_id: int, sop_instance_uid: str, data_set: bytes = b"\0\0") -> Any:
    request = C_STORE()
    request.MessageID = message_id
    request.AffectedSOPClassUID = CT
    request.AffectedSOPInstanceUID = sop_instance_uid
    request.Priority = 2
    request.DataSet = BytesIO(data_set)
    return message_of(C_STORE_RQ(), request)


def store_response(message_id: int, sop_instance_uid: str) -> Any:
    response = C_STORE()
    response.MessageIDBeingRespondedTo = message_id
    response.AffectedSOPClassUID = CT
    response.AffectedSOPInstanceUID = sop_instance_uid
    response.Status = 0
    return message_of(C_STORE_RSP(), response)


def store(data_set: bytes) -> Call:
    instances = cycle(INSTANCES)

    def call() -> None:
        asked = read(written(store_request(*next(instances), data_set)))
        read(written(store_response(asked.MessageID, asked.AffectedSOPInstanceUID)))

    return call


def associate(contexts: int) -> Call:
    abstract_syntaxes = ABSTRACT_SYNTAXES[:contexts]
    supported = [build_context(each, list(TRANSFER_SYNTAXES)) for each in abstract_syntaxes]

    def information() -> list[Any]:
        length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
        length.maximum_length_received = MAX_PDU_LENGTH
        implementation.implementation_class_uid = PYNETDICOM_IMPLEMENTATION_UID
        return [length, implementation]

    def base() -> Any:
        primitive = A_ASSOCIATE()
        primitive.application_context_name = "1.2.840.10008.3.1.1.1"
        primitive.calling_ae_title = "BENCH"
        primitive.called_ae_title = "ISOCENTER"
        primitive.user_information = information()
        return primitive

    def passed(pdu: Any, primitive: Any) -> Any:
        pdu.from_primitive(primitive)
        received = type(pdu)()
        received.decode(pdu.encode())
        return received.to_primitive()

    def call() -> None:
        proposed = [build_context(each, list(TRANSFER_SYNTAXES)) for each in abstract_syntaxes]
        for number, context in enumerate(proposed):
            context.context_id = 2 * number + 1
        request = base()
        request.presentation_context_definition_list = proposed
        asked = passed(A_ASSOCIATE_RQ(), request)
        results, _ = negotiate_as_acceptor(asked.presentation_context_definition_list, supported)
        accept = base()
        accept.result = 0
        accept.result_source = 1
        accept.presentation_context_definition_results_list = results
        answered = passed(A_ASSOCIATE_AC(), accept)
        agreed = negotiate_as_requestor(
            proposed, answered.presentation_context_definition_results_list
        )
        assert len(agreed) == contexts

    return call


def encode(make: Callable[[int, str], Any]) -> Call:
    """The command set as the one P-DATA-TF that it needs: their messages do not encode it bare."""
    instances = cycle(INSTANCES)
    return lambda: next(make(*next(instances)).encode_msg(1, MAX_PDU_LENGTH))


def decode(make: Callable[[int, str], Any]) -> Call:
    commands = cycle(
        [next(make(*instance).encode_msg(1, MAX_PDU_LENGTH)) for instance in INSTANCES]
    )

    def call() -> object:
        message = DIMSEMessage()
        message.decode_msg(next(commands))
        return message.message_to_primitive()

    return call


def receive(max_length: int) -> Call:
    stream = written(store_request(1, "1.2.3", STREAM), max_length)
    return lambda: read(stream)


def send(max_length: int) -> Call:
    return lambda: deque(written(store_request(1, "1.2.3", STREAM), max_length), maxlen=0)


def scan(syntax: str, *, decoded: bool = False) -> Call:
    file, tags = FILES[syntax], sorted(SCANNED_TAGS)

    def call() -> object:
        found = pydicom.dcmread(BytesIO(file), stop_before_pixels=True, specific_tags=tags)
        return [str(element.value) for element in found] if decoded else found

    return call


THEIRS: Final[Mapping[str, Callable[[], Call]]] = {
    "echo": echo,
    "store-12k": lambda: store(SMALL),
    "store-512k": lambda: store(LARGE),
    "associate-1": lambda: associate(1),
    "associate-128": lambda: associate(128),
    "encode-request": lambda: encode(store_request),
    "decode-request": lambda: decode(store_request),
    "encode-response": lambda: encode(store_response),
    "decode-response": lambda: decode(store_response),
    "receive-16k": lambda: receive(16 << 10),
    "receive-128k": lambda: receive(128 << 10),
    "send-16k": lambda: send(16 << 10),
    "send-128k": lambda: send(128 << 10),
    "scan": lambda: scan(EXPLICIT),
    "scan-implicit": lambda: scan(IMPLICIT),
    "index-row": lambda: scan(EXPLICIT, decoded=True),
}
