"""Our side of `engine.py`: name of the line → what makes the call that is timed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import cycle
from typing import Final

from engine_cases import (
    ABSTRACT_SYNTAXES,
    CHUNK,
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

from isocenter.engine import (
    AcceptAssociation,
    Acceptor,
    AssociateAccept,
    AssociateRequest,
    Association,
    AssociationRequested,
    CEchoRequest,
    CStoreRequest,
    CStoreResponse,
    DataSetReceived,
    Effect,
    MessageReceived,
    Offer,
    RequestAssociation,
    Role,
    SendBytes,
    SendMessage,
    UserInformation,
    negotiate,
    propose,
    response_to,
)
from isocenter.engine.dataset import ElementScanner, encoding_of, read_file_meta
from isocenter.engine.dimse.message_codec import decode_message, encode_message
from isocenter.engine.pdv import encode_fragments
from isocenter.services.archive.index.extraction import (
    SCANNED_SEQUENCES,
    SCANNED_TAGS,
    attributes_of,
)

Call = Callable[[], object]

ACCEPTOR: Final = Acceptor(
    offer=lambda _: Offer(transfer_syntaxes=TRANSFER_SYNTAXES), max_pdu_length=MAX_PDU_LENGTH
)


def sent(effects: tuple[Effect, ...]) -> bytes:
    """One write: what a driver hands to the system, which copies it once."""
    (effect,) = (effect for effect in effects if type(effect) is SendBytes)
    return b"".join(effect.buffers)


def request_of(abstract_syntaxes: Iterable[str]) -> AssociateRequest:
    (contexts,) = propose((each, TRANSFER_SYNTAXES) for each in abstract_syntaxes)
    return AssociateRequest(
        called_ae_title="ISOCENTER",
        calling_ae_title="BENCH",
        presentation_contexts=contexts,
        user_information=UserInformation(max_pdu_length=MAX_PDU_LENGTH),
    )


def established(request: AssociateRequest) -> tuple[Association, Association]:
    """Two ends in Sta6, by way of the bytes that they exchange."""
    requestor, acceptor = Association(Role.REQUESTOR), Association(Role.ACCEPTOR)
    requestor.send(RequestAssociation(request))
    acceptor.transport_opened()
    asked = acceptor.receive_data(sent(requestor.transport_opened()))
    (indication,) = (effect for effect in asked if isinstance(effect, AssociationRequested))
    accept = negotiate(indication.request, ACCEPTOR)
    assert isinstance(accept, AssociateAccept)
    requestor.receive_data(sent(acceptor.send(AcceptAssociation(accept))))
    assert requestor.negotiated is not None
    return requestor, acceptor


def associate(contexts: int) -> Call:
    abstract_syntaxes = ABSTRACT_SYNTAXES[:contexts]
    return lambda: established(request_of(abstract_syntaxes))


def echo() -> Call:
    requestor, acceptor = established(request_of([VERIFICATION]))
    numbers = cycle(number for number, _ in INSTANCES)

    def call() -> None:
        request = CEchoRequest(message_id=next(numbers), affected_sop_class_uid=VERIFICATION)
        (event,) = acceptor.receive_data(sent(requestor.send(SendMessage(1, request))))
        assert type(event) is MessageReceived
        response = response_to(event.message, 0)  # type: ignore[arg-type]
        (event,) = requestor.receive_data(sent(acceptor.send(SendMessage(1, response))))
        assert type(event) is MessageReceived

    return call


def store(data_set: bytes) -> Call:
    requestor, acceptor = established(request_of([CT]))
    instances = cycle(INSTANCES)

    def call() -> None:
        stream = memoryview(
            sent(requestor.send(SendMessage(1, store_request(*next(instances)), data_set)))
        )
        length = 0
        for start in range(0, len(stream), CHUNK):
            for event in acceptor.receive_data(stream[start : start + CHUNK]):
                if type(event) is DataSetReceived:
                    length += len(event.data)
                else:
                    assert type(event) is MessageReceived
                    request = event.message
        assert length == len(data_set)
        response = response_to(request, 0)  # type: ignore[arg-type]
        (event,) = requestor.receive_data(sent(acceptor.send(SendMessage(1, response))))
        assert type(event) is MessageReceived

    return call


def store_request(message_id: int, sop_instance_uid: str) -> CStoreRequest:
    return CStoreRequest(
        message_id=message_id,
        affected_sop_class_uid=CT,
        affected_sop_instance_uid=sop_instance_uid,
    )


def store_response(message_id: int, sop_instance_uid: str) -> CStoreResponse:
    return CStoreResponse(
        message_id_being_responded_to=message_id,
        status=0,
        affected_sop_class_uid=CT,
        affected_sop_instance_uid=sop_instance_uid,
    )


def encode(make: Callable[[int, str], CStoreRequest | CStoreResponse], has_data_set: bool) -> Call:
    instances = cycle(INSTANCES)
    return lambda: encode_message(make(*next(instances)), has_data_set)


def decode(make: Callable[[int, str], CStoreRequest | CStoreResponse], has_data_set: bool) -> Call:
    encoded = cycle([encode_message(make(*instance), has_data_set) for instance in INSTANCES])
    return lambda: decode_message(next(encoded))


def receive(max_length: int) -> Call:
    """A data set comes; command and last fragment are part of it, so that it can come again."""
    _, acceptor = established(request_of([CT]))
    parts = encode_fragments(
        1,
        encode_message(store_request(1, "1.2.3"), True),
        is_command=True,
        is_last=True,
        max_length=max_length,
    )
    parts += encode_fragments(1, STREAM, is_command=False, is_last=True, max_length=max_length)
    stream = memoryview(b"".join(parts))
    chunks = [stream[start : start + CHUNK] for start in range(0, len(stream), CHUNK)]
    answer = SendMessage(1, store_response(1, "1.2.3"))

    def call() -> None:
        for chunk in chunks:
            acceptor.receive_data(chunk)
        acceptor.send(answer)

    return call


def send(max_length: int) -> Call:
    def call() -> None:
        deque(
            encode_fragments(1, STREAM, is_command=False, is_last=True, max_length=max_length),
            maxlen=0,
        )

    return call


def scan(syntax: str, *, decoded: bool = False) -> Call:
    file, encoding = FILES[syntax], encoding_of(syntax)
    data_set = memoryview(file)[read_file_meta(file).data_set_offset :][:CHUNK]

    def call() -> object:
        scanner = ElementScanner(encoding, SCANNED_TAGS, sequences=SCANNED_SEQUENCES)
        scanner.feed(data_set)
        return attributes_of(scanner.values, encoding) if decoded else scanner.values

    return call


OURS: Final[Mapping[str, Callable[[], Call]]] = {
    "echo": echo,
    "store-12k": lambda: store(SMALL),
    "store-512k": lambda: store(LARGE),
    "associate-1": lambda: associate(1),
    "associate-128": lambda: associate(128),
    "encode-request": lambda: encode(store_request, True),
    "decode-request": lambda: decode(store_request, True),
    "encode-response": lambda: encode(store_response, False),
    "decode-response": lambda: decode(store_response, False),
    "receive-16k": lambda: receive(16 << 10),
    "receive-128k": lambda: receive(128 << 10),
    "send-16k": lambda: send(16 << 10),
    "send-128k": lambda: send(128 << 10),
    "scan": lambda: scan(EXPLICIT),
    "scan-implicit": lambda: scan(IMPLICIT),
    "index-row": lambda: scan(EXPLICIT, decoded=True),
}
