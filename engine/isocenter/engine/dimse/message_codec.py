"""Codec of DIMSE messages and command sets (PS3.7 6.3.1, 9.3, 10.3).

The classes stand in `message_types`, their fields and presence rules in
`message_table`; both come from here too.

`decode_message` never guesses.  A request that can be answered but not understood
becomes an `UnrecognizedMessage` with the status to answer; what cannot even be
answered is the peer's protocol error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeGuard

from isocenter.engine.ae import ae_title_of
from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dimse import command_set as cs
from isocenter.engine.dimse.command_set_cache import Layouts
from isocenter.engine.dimse.message_fields import (
    COMMAND_FIELDS,
    FIELDS,
    FORGIVEN,
    MESSAGES,
    RESPONSE_BIT,
    RESPONSES,
    UNRECOGNIZED_RESPONSE_FIELDS,
    Presence,
)
from isocenter.engine.dimse.messages import (
    CCancelRequest,
    CEchoRequest,
    CEchoResponse,
    CFindRequest,
    CFindResponse,
    CGetRequest,
    CGetResponse,
    CMoveRequest,
    CMoveResponse,
    CRequest,
    CResponse,
    CStoreRequest,
    CStoreResponse,
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
    NRequest,
    NResponse,
    NSetRequest,
    NSetResponse,
    Request,
    Response,
    UnrecognizedMessage,
    UnrecognizedMessageResponse,
)
from isocenter.engine.dimse.status import Status
from isocenter.engine.errors import (
    INVALID_PDU_PARAMETER_VALUE,
    LocalProtocolError,
    RemoteProtocolError,
)

__all__ = [
    "CCancelRequest",
    "CEchoRequest",
    "CEchoResponse",
    "CFindRequest",
    "CFindResponse",
    "CGetRequest",
    "CGetResponse",
    "CMoveRequest",
    "CMoveResponse",
    "CRequest",
    "CResponse",
    "CStoreRequest",
    "CStoreResponse",
    "NActionRequest",
    "NActionResponse",
    "NCreateRequest",
    "NCreateResponse",
    "NDeleteRequest",
    "NDeleteResponse",
    "NEventReportRequest",
    "NEventReportResponse",
    "NGetRequest",
    "NGetResponse",
    "NRequest",
    "NResponse",
    "NSetRequest",
    "NSetResponse",
    "UnrecognizedMessage",
    "UnrecognizedMessageResponse",
    "Message",
    "Request",
    "Response",
    "COMMAND_FIELDS",
    "RESPONSE_BIT",
    "encode_message",
    "decode_message",
    "is_request",
    "is_response",
    "response_to",
    "sop_class_of",
    "sop_instance_of",
]

#: Error Comment (0000,0902) is an LO.
_ERROR_COMMENT_LENGTH: Final = 64
_NOT_IN_LO: Final = {ord("\\"): "/"} | dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " ")
_US_LENGTH: Final = 2
_UID_LENGTH: Final = 64
_NO_DATA_SET: Final = cs.NO_DATA_SET.to_bytes(2, "little")
_AFFECTED_SOP_CLASS_UID: Final = FIELDS["affected_sop_class_uid"].element
_REQUESTED_SOP_CLASS_UID: Final = FIELDS["requested_sop_class_uid"].element

#: The few SOP classes that are spoken of on every association.
_encode_known_uid = lru_cache(256)(cs.encode_uid)
_decode_known_uid = lru_cache(256)(cs.decode_uid)

_Encode = Callable[[int, Any], bytes]
_Decode = Callable[[bytes], Any]


# What is too long for a UID (PS3.5 9.1) would stay in the memory of the process.
def _encode_class_uid(element: int, uid: str) -> bytes:
    return (_encode_known_uid if len(uid) <= _UID_LENGTH else cs.encode_uid)(element, uid)


def _decode_class_uid(value: bytes) -> str:
    return (_decode_known_uid if len(value) <= _UID_LENGTH else cs.decode_uid)(value)


def _encode_comment(element: int, text: str) -> bytes:
    # A backslash would make two values of it, and an LO has no control characters (PS3.5 6.2).
    return cs.encode_text(element, text[:_ERROR_COMMENT_LENGTH].translate(_NOT_IN_LO))


#: How the values of a VR are written and read.
_CODECS: Final[dict[str, tuple[_Encode, _Decode]]] = {
    "UI": (cs.encode_uid, cs.decode_uid),
    "US": (cs.encode_us, cs.decode_us),
    "AE": (cs.encode_text, ae_title_of),
    "LO": (_encode_comment, cs.decode_text),
    "AT": (cs.encode_tags, cs.decode_tags),
}


def _codec_of(name: str, vr: str) -> tuple[_Encode, _Decode]:
    return (_encode_class_uid, _decode_class_uid) if name.endswith("class_uid") else _CODECS[vr]


class _Encoder(NamedTuple):
    """One step of encoding: a field, or (without ``encode``) what the codec itself makes."""

    element: int
    name: str
    encode: _Encode | None
    is_mandatory: bool


class _Decoder(NamedTuple):
    element: int
    name: str
    decode: _Decode
    is_mandatory: bool


def _encoders(presence: Mapping[str, Presence]) -> tuple[_Encoder, ...]:
    steps = [
        _Encoder(element, name, _codec_of(name, vr)[0], presence[name] is Presence.MANDATORY)
        for name, (element, vr, _) in FIELDS.items()
        if name in presence
    ]
    steps += [
        _Encoder(element, "", None, True)
        for element in (cs.COMMAND_FIELD, cs.COMMAND_DATA_SET_TYPE)
    ]
    return tuple(sorted(steps))  # elements ascend (PS3.7 6.3.1)


def _decoders(presence: Mapping[str, Presence]) -> tuple[_Decoder, ...]:
    return tuple(
        _Decoder(
            element,
            name,
            _codec_of(name, vr)[1],
            presence[name] is Presence.MANDATORY and name not in FORGIVEN,
        )
        for name, (element, vr, _) in FIELDS.items()
        if name in presence
    )


_ENCODERS: Final = {
    rule.message_class: (
        cs.encode_us(cs.COMMAND_FIELD, rule.command_field),
        _encoders(rule.fields),
    )
    for rule in MESSAGES
}
_UNRECOGNIZED_ENCODERS: Final = _encoders(UNRECOGNIZED_RESPONSE_FIELDS)
_DATA_SET_TYPES: Final = (
    cs.encode_us(cs.COMMAND_DATA_SET_TYPE, cs.NO_DATA_SET),
    cs.encode_us(cs.COMMAND_DATA_SET_TYPE, cs.DATA_SET_PRESENT),
)
#: By Command Field as it comes.
_DECODERS: Final = {
    rule.command_field.to_bytes(2, "little"): (rule.message_class, _decoders(rule.fields))
    for rule in MESSAGES
}
_REQUESTS: Final = frozenset({*RESPONSES, UnrecognizedMessage})
_RESPONSES: Final = frozenset({*RESPONSES.values(), UnrecognizedMessageResponse})
#: What a response says again of its request (``(=)`` in PS3.7 9.1 and 10.1): its field, and
#: the field of the request.
_ECHOED: Final = {
    "affected_sop_class_uid": ("affected_sop_class_uid", "requested_sop_class_uid"),
    "affected_sop_instance_uid": ("affected_sop_instance_uid", "requested_sop_instance_uid"),
    "event_type_id": ("event_type_id",),
    "action_type_id": ("action_type_id",),
}
_RULES: Final = {rule.message_class: rule for rule in MESSAGES}
_RESPONSE_PARTS: Final[dict[type[Message], tuple[type[Any], tuple[tuple[str, str], ...]]]] = {
    request: (
        response,
        tuple(
            (name, source)
            for name, sources in _ECHOED.items()
            if name in _RULES[response].fields
            for source in sources
            if source in _RULES[request].fields
        ),
    )
    for request, response in RESPONSES.items()
}


def is_request(message: object) -> TypeGuard[Request]:
    """Whether *message* asks for an operation or notification, which gets a response."""
    return type(message) in _REQUESTS


def is_response(message: object) -> TypeGuard[Response]:
    """Whether *message* answers a request; neither this nor `is_request` holds for C-CANCEL-RQ."""
    return type(message) in _RESPONSES


def sop_class_of(request: Request) -> str:
    """The SOP class that *request* is about: the Affected or the Requested one, as it came."""
    uid: str = getattr(request, _SOP_CLASS_FIELDS[type(request)])
    return uid


def sop_instance_of(request: Request) -> str:
    """The SOP instance that *request* names, affected or requested; empty when it names none."""
    field = _SOP_INSTANCE_FIELDS.get(type(request))
    return getattr(request, field) if field is not None else ""


#: They name what is there already (PS3.7 10.1.2 to 10.1.4, 10.1.6).
_REQUESTED: Final = frozenset({NGetRequest, NSetRequest, NActionRequest, NDeleteRequest})
_SOP_CLASS_FIELDS: Final[Mapping[type, str]] = {
    kind: "requested_sop_class_uid" if kind in _REQUESTED else "affected_sop_class_uid"
    for kind in _REQUESTS
}
_SOP_INSTANCE_FIELDS: Final[Mapping[type, str]] = {
    **dict.fromkeys(_REQUESTED, "requested_sop_instance_uid"),
    **dict.fromkeys(
        (CStoreRequest, NEventReportRequest, NCreateRequest), "affected_sop_instance_uid"
    ),
}


def encode_message(message: Message, has_data_set: bool) -> bytes:
    """The command set, group length and Command Data Set Type (0000,0800) included.

    Raises:
        LocalProtocolError: a number that its field cannot hold, or an empty mandatory field.
    """
    known = _ENCODERS.get(type(message))
    if known is not None:
        command_field, encoders = known
    elif isinstance(message, UnrecognizedMessageResponse):
        command_field = cs.encode_us(cs.COMMAND_FIELD, message.command_field)
        encoders = _UNRECOGNIZED_ENCODERS
    else:
        raise LocalProtocolError(f"{type(message).__name__} is only received, never sent")
    parts: list[bytes] = []
    for element, name, encode, is_mandatory in encoders:
        if encode is None:
            parts.append(
                command_field if element == cs.COMMAND_FIELD else _DATA_SET_TYPES[has_data_set]
            )
            continue
        value = getattr(message, name)
        if value or value == 0:  # neither "" nor () nor None
            parts.append(encode(element, value))
        elif is_mandatory:
            raise LocalProtocolError(f"{type(message).__name__} without {name} (PS3.7 E.1)")
    return cs.encode_command_set(parts)


#: Bounded, and the same for every association: what bytes mean does not depend on who sent them.
_LAYOUTS: Final = Layouts()


def decode_message(buffer: Buffer) -> tuple[Message, bool]:
    """A message and whether a data set follows.

    Raises:
        RemoteProtocolError: no command set, no command field, a request without Message
            ID, or a response that is not complete (reason 6).
        LocalProtocolError: *buffer* is no buffer that can be cut.
    """
    if type(buffer) is not bytes:
        buffer = octets(buffer)
    return _LAYOUTS.read(buffer) or _decode(buffer)


def message_of(buffer: Buffer) -> tuple[Message, bool]:
    """As `decode_message`, of what has passed the door already."""
    return _LAYOUTS.read(buffer) or _decode(buffer)


def _decode(buffer: Buffer) -> tuple[Message, bool]:
    elements = cs.decode_command_set(buffer)
    get = elements.get
    data_set_type = get(cs.COMMAND_DATA_SET_TYPE, b"")
    has_data_set = len(data_set_type) == _US_LENGTH and data_set_type != _NO_DATA_SET
    known = _DECODERS.get(get(cs.COMMAND_FIELD, b""))
    if known is None:
        number = _required_us(elements, cs.COMMAND_FIELD, "Command Field")
        return _unrecognized(
            elements, Status.UNRECOGNIZED_OPERATION, f"command field {number:04X}H"
        ), has_data_set
    message_class, decoders = known
    values: dict[str, Any] = {}
    for element, name, decode, is_mandatory in decoders:
        raw = get(element)
        if not raw and not is_mandatory:
            continue
        if raw is None:
            return _unrecognized(
                elements, Status.MISTYPED_ARGUMENT, f"(0000,{element:04X}) is missing"
            ), has_data_set
        try:
            values[name] = decode(raw)
        except ValueError:
            if not is_mandatory and message_class not in _REQUESTS:
                continue  # a response says the same without it
            return _unrecognized(
                elements, Status.MISTYPED_ARGUMENT, f"(0000,{element:04X}) has a wrong length"
            ), has_data_set
    # Without it nobody knows whether a data set follows.  A C-CANCEL-RQ and most responses
    # have none, and some peers leave it out there.
    if len(data_set_type) != _US_LENGTH and message_class in _REQUESTS:
        return _unrecognized(
            elements, Status.MISTYPED_ARGUMENT, "(0000,0800) is missing or no US"
        ), False
    # A C-CANCEL-RQ has no data set (PS3.7 9.3.2.3), whatever it says.
    has_data_set = has_data_set and message_class is not CCancelRequest
    _LAYOUTS.remember(
        buffer,
        {element: (name, decode) for element, name, decode, _ in decoders if name in values},
        message_class,
        has_data_set,
    )
    return message_class(**values), has_data_set


def _unrecognized(elements: dict[int, bytes], status: int, error: str) -> UnrecognizedMessage:
    number = _required_us(elements, cs.COMMAND_FIELD, "Command Field")
    if number & RESPONSE_BIT or COMMAND_FIELDS.get(number) is CCancelRequest:
        raise RemoteProtocolError(
            f"command {number:04X}H cannot be understood: {error} (PS3.7 E)",
            INVALID_PDU_PARAMETER_VALUE,
        )
    sop_class_uid = elements.get(_AFFECTED_SOP_CLASS_UID) or elements.get(
        _REQUESTED_SOP_CLASS_UID, b""
    )
    return UnrecognizedMessage(
        command_field=number,
        message_id=_required_us(elements, cs.MESSAGE_ID, "Message ID"),
        status=status,
        error=error,
        affected_sop_class_uid=cs.decode_uid(sop_class_uid),
    )


def _required_us(elements: dict[int, bytes], element: int, name: str) -> int:
    try:
        return cs.decode_us(elements[element])
    except (KeyError, ValueError):
        raise RemoteProtocolError(
            f"command set without {name} (0000,{element:04X}) (PS3.7 E)",
            INVALID_PDU_PARAMETER_VALUE,
        ) from None


def response_to(
    request: Request,
    status: int,
    *,
    error_comment: str = "",
    offending_elements: tuple[int, ...] = (),
) -> Response:
    """A response without a data set: the fields that echo the request, and *status*.

    For N-CREATE-RQ without an instance UID the performer adds the one it made.
    """
    if isinstance(request, UnrecognizedMessage):
        return UnrecognizedMessageResponse(
            command_field=request.command_field | RESPONSE_BIT,
            message_id_being_responded_to=request.message_id,
            status=status,
            error_comment=error_comment,
            offending_elements=offending_elements,
            affected_sop_class_uid=request.affected_sop_class_uid,
        )
    response_class, echoed = _RESPONSE_PARTS[type(request)]
    response: Response = response_class(
        message_id_being_responded_to=request.message_id,
        status=status,
        error_comment=error_comment,
        offending_elements=offending_elements,
        **{name: getattr(request, source) for name, source in echoed},
    )
    return response
