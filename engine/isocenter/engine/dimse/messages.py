"""DIMSE messages as values: one frozen class each, their fields in one table (PS3.7 9.3, E.1).

`decode_message` never guesses.  A request that can be answered but not understood
becomes an `UnrecognizedMessage` with the status to answer; what cannot even be
answered is the peer's protocol error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final, NamedTuple, TypeGuard

from isocenter.engine.dimse import command_set as cs
from isocenter.engine.dimse.status import Status
from isocenter.engine.errors import (
    INVALID_PDU_PARAMETER_VALUE,
    LocalProtocolError,
    RemoteProtocolError,
)
from isocenter.engine.items import Buffer

#: The bit of the command field that makes a response of it (PS3.7 E.1-1).
RESPONSE_BIT: Final = 0x8000
#: Error Comment (0000,0902) is an LO.
_ERROR_COMMENT_LENGTH: Final = 64
_NOT_IN_LO: Final = {ord("\\"): "/"} | dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class CEchoRequest:
    """C-ECHO-RQ (PS3.7 9.3.5.1)."""

    message_id: int
    affected_sop_class_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CEchoResponse:
    """C-ECHO-RSP (PS3.7 9.3.5.2)."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CStoreRequest:
    """C-STORE-RQ (PS3.7 9.3.1.1).  Priority: 0 medium, 1 high, 2 low."""

    message_id: int
    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    priority: int = 0
    move_originator_ae_title: str = ""
    move_originator_message_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CStoreResponse:
    """C-STORE-RSP (PS3.7 9.3.1.2)."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    affected_sop_instance_uid: str = ""
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CFindRequest:
    """C-FIND-RQ (PS3.7 9.3.2.1)."""

    message_id: int
    affected_sop_class_uid: str
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CFindResponse:
    """C-FIND-RSP (PS3.7 9.3.2.2)."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CGetRequest:
    """C-GET-RQ (PS3.7 9.3.3.1)."""

    message_id: int
    affected_sop_class_uid: str
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CGetResponse:
    """C-GET-RSP (PS3.7 9.3.3.2)."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""
    number_of_remaining_suboperations: int | None = None
    number_of_completed_suboperations: int | None = None
    number_of_failed_suboperations: int | None = None
    number_of_warning_suboperations: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CMoveRequest:
    """C-MOVE-RQ (PS3.7 9.3.4.1)."""

    message_id: int
    affected_sop_class_uid: str
    #: Empty or missing, it is an unknown destination (A801H).
    move_destination: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CMoveResponse:
    """C-MOVE-RSP (PS3.7 9.3.4.2)."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""
    number_of_remaining_suboperations: int | None = None
    number_of_completed_suboperations: int | None = None
    number_of_failed_suboperations: int | None = None
    number_of_warning_suboperations: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CCancelRequest:
    """C-CANCEL-RQ (PS3.7 9.3.2.3, 9.3.3.3, 9.3.4.3)."""

    message_id_being_responded_to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnrecognizedMessage:
    """A request that can be answered but not performed.

    Attributes:
        command_field: as it came.
        status: what to answer: 0211H for an unknown command field, 0212H for a field that
            is missing or has a wrong form.
        error: the fault in words, for Error Comment.
    """

    command_field: int
    message_id: int
    status: int
    error: str
    affected_sop_class_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnrecognizedMessageResponse:
    """The answer to an `UnrecognizedMessage`, whatever its command field was."""

    command_field: int
    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str = ""
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""


Request = (
    CEchoRequest | CStoreRequest | CFindRequest | CGetRequest | CMoveRequest | UnrecognizedMessage
)
Response = (
    CEchoResponse
    | CStoreResponse
    | CFindResponse
    | CGetResponse
    | CMoveResponse
    | UnrecognizedMessageResponse
)
Message = Request | Response | CCancelRequest


class _Kind(NamedTuple):
    """How values of one form are written and read."""

    encode: Callable[[int, Any], bytes]
    decode: Callable[[bytes], Any]


def _encode_comment(element: int, text: str) -> bytes:
    # A backslash would make two values of it, and an LO has no control characters (PS3.5 6.2).
    return cs.encode_text(element, text[:_ERROR_COMMENT_LENGTH].translate(_NOT_IN_LO))


_UI: Final = _Kind(cs.encode_uid, cs.decode_uid)
_US: Final = _Kind(cs.encode_us, cs.decode_us)
_AE: Final = _Kind(cs.encode_text, cs.decode_text)
_LO: Final = _Kind(_encode_comment, cs.decode_text)
_AT: Final = _Kind(cs.encode_tags, cs.decode_tags)

#: Every field of every message: element of group 0000 and its form (PS3.7 E.1, E.2).
_FIELDS: Final = {
    "affected_sop_class_uid": (0x0002, _UI),
    "message_id": (cs.MESSAGE_ID, _US),
    "message_id_being_responded_to": (cs.MESSAGE_ID_BEING_RESPONDED_TO, _US),
    "move_destination": (0x0600, _AE),
    "priority": (0x0700, _US),
    "status": (cs.STATUS, _US),
    "offending_elements": (0x0901, _AT),
    "error_comment": (0x0902, _LO),
    "affected_sop_instance_uid": (0x1000, _UI),
    "number_of_remaining_suboperations": (0x1020, _US),
    "number_of_completed_suboperations": (0x1021, _US),
    "number_of_failed_suboperations": (0x1022, _US),
    "number_of_warning_suboperations": (0x1023, _US),
    "move_originator_ae_title": (0x1030, _AE),
    "move_originator_message_id": (0x1031, _US),
}

#: Command fields (PS3.7 E.1-1) and their classes.
COMMAND_FIELDS: Final[dict[int, type[Message]]] = {
    0x0001: CStoreRequest,
    0x8001: CStoreResponse,
    0x0010: CGetRequest,
    0x8010: CGetResponse,
    0x0020: CFindRequest,
    0x8020: CFindResponse,
    0x0021: CMoveRequest,
    0x8021: CMoveResponse,
    0x0030: CEchoRequest,
    0x8030: CEchoResponse,
    0x0FFF: CCancelRequest,
}

#: Mandatory in the standard, but its absence has one obvious meaning (medium), and peers
#: leave it out.
_FORGIVEN: Final = frozenset({"priority"})
_EMPTY: Final = ("", None, ())


class _Field(NamedTuple):
    name: str
    element: int
    kind: _Kind
    is_mandatory: bool
    #: Where the elements that every message has, Command Field and Data Set Type, stand.
    before_command_field: bool
    before_data_set_type: bool


def _layout(message_class: type[Message]) -> tuple[_Field, ...]:
    layout = []
    for field in fields(message_class):
        if field.name in _FIELDS:
            element, kind = _FIELDS[field.name]
            mandatory = field.default is MISSING and field.name not in _FORGIVEN
            layout.append(
                _Field(
                    field.name,
                    element,
                    kind,
                    mandatory,
                    element < cs.COMMAND_FIELD,
                    element < cs.COMMAND_DATA_SET_TYPE,
                )
            )
    return tuple(sorted(layout, key=lambda field: field.element))


_LAYOUTS: Final = {
    message_class: _layout(message_class)
    for message_class in (*COMMAND_FIELDS.values(), UnrecognizedMessageResponse)
}
#: Name, element, decoder, mandatory: what `decode_message` needs of a layout.
_DECODERS: Final = {
    message_class: tuple(
        (field.name, field.element, field.kind.decode, field.is_mandatory) for field in layout
    )
    for message_class, layout in _LAYOUTS.items()
}
_NUMBERS: Final = {message_class: number for number, message_class in COMMAND_FIELDS.items()}
_REQUESTS: Final = frozenset(
    message_class
    for number, message_class in COMMAND_FIELDS.items()
    if not number & RESPONSE_BIT and message_class is not CCancelRequest
) | {UnrecognizedMessage}
_RESPONSES: Final = {
    message_class: COMMAND_FIELDS[number | RESPONSE_BIT]
    for number, message_class in COMMAND_FIELDS.items()
    if message_class in _REQUESTS
}


def is_request(message: object) -> TypeGuard[Request]:
    """Whether *message* asks for an operation that gets a response."""
    return type(message) in _REQUESTS


def encode_message(message: Message, has_data_set: bool) -> bytes:
    """The command set, group length and Command Data Set Type (0000,0800) included.

    Raises:
        LocalProtocolError: a number that its field cannot hold, or an empty mandatory field.
    """
    layout = _LAYOUTS.get(type(message))
    if layout is None:
        raise LocalProtocolError(f"{type(message).__name__} is only received, never sent")
    number = (
        message.command_field
        if isinstance(message, UnrecognizedMessageResponse)
        else _NUMBERS[type(message)]
    )
    data_set_type = cs.DATA_SET_PRESENT if has_data_set else cs.NO_DATA_SET
    head: list[bytes] = []
    middle: list[bytes] = []
    tail: list[bytes] = []
    for field in layout:
        value = getattr(message, field.name)
        if value in _EMPTY:
            if field.is_mandatory:
                raise LocalProtocolError(
                    f"{type(message).__name__} without {field.name} (PS3.7 E.1)"
                )
            continue
        encoded = field.kind.encode(field.element, value)
        if field.before_command_field:
            head.append(encoded)
        elif field.before_data_set_type:
            middle.append(encoded)
        else:
            tail.append(encoded)
    return cs.encode_command_set(
        (
            *head,
            cs.encode_us(cs.COMMAND_FIELD, number),
            *middle,
            cs.encode_us(cs.COMMAND_DATA_SET_TYPE, data_set_type),
            *tail,
        )
    )


def decode_message(buffer: Buffer) -> tuple[Message, bool]:
    """A message and whether a data set follows.

    Raises:
        RemoteProtocolError: no command set, no command field, a request without Message
            ID, or a response that is not complete (reason 6).
    """
    elements = cs.decode_command_set(buffer)
    number = _required_us(elements, cs.COMMAND_FIELD, "Command Field")
    data_set_type = elements.get(cs.COMMAND_DATA_SET_TYPE, b"")
    has_data_set = len(data_set_type) == _US_LENGTH and data_set_type != _NO_DATA_SET
    message_class = COMMAND_FIELDS.get(number)
    if message_class is None:
        return _unrecognized(
            elements, number, Status.UNRECOGNIZED_OPERATION, f"command field {number:04X}H"
        ), has_data_set
    values: dict[str, Any] = {}
    get = elements.get
    for name, element, decode, is_mandatory in _DECODERS[message_class]:
        raw = get(element)
        if not raw and not is_mandatory:
            continue
        if raw is None:
            return _unrecognized(
                elements, number, Status.MISTYPED_ARGUMENT, f"(0000,{element:04X}) is missing"
            ), has_data_set
        try:
            values[name] = decode(raw)
        except ValueError:
            if number & RESPONSE_BIT and not is_mandatory:
                continue  # a response says the same without it
            return _unrecognized(
                elements,
                number,
                Status.MISTYPED_ARGUMENT,
                f"(0000,{element:04X}) has a wrong length",
            ), has_data_set
    # Without it nobody knows whether a data set follows.  A C-CANCEL-RQ and most responses
    # have none, and some peers leave it out there.
    if len(data_set_type) != _US_LENGTH and message_class in _REQUESTS:
        return _unrecognized(
            elements, number, Status.MISTYPED_ARGUMENT, "(0000,0800) is missing or no US"
        ), False
    # A C-CANCEL-RQ has no data set (PS3.7 9.3.2.3), whatever it says.
    return message_class(**values), has_data_set and message_class is not CCancelRequest


_US_LENGTH: Final = 2
_NO_DATA_SET: Final = cs.NO_DATA_SET.to_bytes(2, "little")


def _unrecognized(
    elements: dict[int, bytes], number: int, status: int, error: str
) -> UnrecognizedMessage:
    if number & RESPONSE_BIT or COMMAND_FIELDS.get(number) is CCancelRequest:
        raise RemoteProtocolError(
            f"command {number:04X}H cannot be understood: {error} (PS3.7 E)",
            INVALID_PDU_PARAMETER_VALUE,
        )
    return UnrecognizedMessage(
        command_field=number,
        message_id=_required_us(elements, cs.MESSAGE_ID, "Message ID"),
        status=status,
        error=error,
        affected_sop_class_uid=cs.decode_uid(elements.get(0x0002, b"")),
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
    """A response without a data set: the fields that echo the request, and *status*."""
    values: dict[str, Any] = {
        "message_id_being_responded_to": request.message_id,
        "status": status,
        "error_comment": error_comment,
        "offending_elements": offending_elements,
        "affected_sop_class_uid": request.affected_sop_class_uid,
    }
    if isinstance(request, UnrecognizedMessage):
        return UnrecognizedMessageResponse(
            command_field=request.command_field | RESPONSE_BIT, **values
        )
    if isinstance(request, CStoreRequest):
        values["affected_sop_instance_uid"] = request.affected_sop_instance_uid
    response: Response = _RESPONSES[type(request)](**values)  # type: ignore[assignment]
    return response
