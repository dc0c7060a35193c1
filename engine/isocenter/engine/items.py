"""Items of A-ASSOCIATE PDUs (PS3.8 9.3.2–3, D.1; PS3.7 D.3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from struct import Struct
from typing import Any, Final

from isocenter.engine.errors import (
    INVALID_PDU_PARAMETER_VALUE,
    UNEXPECTED_PDU_PARAMETER,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
)
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, is_safe_uid

APPLICATION_CONTEXT_ITEM: Final = 0x10
PROPOSED_CONTEXT_ITEM: Final = 0x20
CONTEXT_RESULT_ITEM: Final = 0x21
ABSTRACT_SYNTAX_ITEM: Final = 0x30
TRANSFER_SYNTAX_ITEM: Final = 0x40
USER_INFORMATION_ITEM: Final = 0x50
MAXIMUM_LENGTH_ITEM: Final = 0x51
IMPLEMENTATION_CLASS_UID_ITEM: Final = 0x52
ASYNCHRONOUS_OPERATIONS_ITEM: Final = 0x53
ROLE_SELECTION_ITEM: Final = 0x54
IMPLEMENTATION_VERSION_NAME_ITEM: Final = 0x55
EXTENDED_NEGOTIATION_ITEM: Final = 0x56
COMMON_EXTENDED_NEGOTIATION_ITEM: Final = 0x57
USER_IDENTITY_ITEM: Final = 0x58
USER_IDENTITY_RESPONSE_ITEM: Final = 0x59


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """Presentation context item of an A-ASSOCIATE-RQ (PS3.8 9.3.2.2, type 20H)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContextResult:
    """Presentation context item of an A-ASSOCIATE-AC (PS3.8 9.3.3.2, type 21H).

    ``result``: 0 acceptance, 1 user-rejection, 2 no reason (provider rejection),
    3 abstract syntax not supported, 4 transfer syntaxes not supported.
    ``transfer_syntax`` has a meaning only when ``result`` is 0.
    """

    context_id: int
    result: int
    transfer_syntax: str = ""


@dataclass(frozen=True, slots=True)
class AsynchronousOperationsWindow:
    """PS3.7 D.3.3.3 (53H).  0 means no limit."""

    invoked: int
    performed: int


@dataclass(frozen=True, slots=True)
class RoleSelection:
    """PS3.7 D.3.3.4 (54H), roles of the association requestor."""

    sop_class_uid: str
    scu_role: bool
    scp_role: bool


@dataclass(frozen=True, slots=True)
class ExtendedNegotiation:
    """SOP class extended negotiation, PS3.7 D.3.3.5 (56H)."""

    sop_class_uid: str
    application_information: bytes


@dataclass(frozen=True, slots=True)
class CommonExtendedNegotiation:
    """SOP class common extended negotiation, PS3.7 D.3.3.6 (57H)."""

    sop_class_uid: str
    service_class_uid: str
    related_general_sop_class_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """PS3.7 D.3.3.7 (58H).

    ``identity_type``: 1 username, 2 username and passcode, 3 Kerberos, 4 SAML, 5 JWT.
    """

    identity_type: int
    positive_response_requested: bool
    primary_field: bytes
    secondary_field: bytes = b""

    def __repr__(self) -> str:  # secrets stay out of logs
        return f"UserIdentity(identity_type={self.identity_type}, …)"


@dataclass(frozen=True, slots=True)
class UserInformation:
    """User information item (50H) with its sub-items; unknown ones were ignored."""

    max_pdu_length: int = 0
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    asynchronous_operations_window: AsynchronousOperationsWindow | None = None
    role_selections: tuple[RoleSelection, ...] = ()
    extended_negotiations: tuple[ExtendedNegotiation, ...] = ()
    common_extended_negotiations: tuple[CommonExtendedNegotiation, ...] = ()
    user_identity: UserIdentity | None = None
    #: 59H, in an A-ASSOCIATE-AC only.
    user_identity_response: bytes | None = None


#: Item type, reserved, length of what follows (PS3.8 9.3.2.1 and all after it).
_ITEM: Final = Struct(">BxH")
_UINT16: Final = Struct(">H")
_UINT32: Final = Struct(">I")
_TWO_UINT16: Final = Struct(">HH")
_VERSION_NAME_LENGTH: Final = 16
#: Each has 64 characters at most.
_UIDS_REMEMBERED: Final = 1024
_UINT8_MAX: Final = 0xFF
_UINT16_MAX: Final = 0xFFFF
_UINT32_MAX: Final = 0xFFFF_FFFF
#: Context ID, reserved, result or reserved, reserved (PS3.8 Tables 9-13 and 9-18).
_CONTEXT_HEAD_LENGTH: Final = 4
#: Transfer syntaxes not supported, the highest result (PS3.8 Table 9-18).
_LAST_RESULT: Final = 4


def encode_item(item_type: int, value: bytes) -> bytes:
    """An item of any type.

    Raises:
        LocalProtocolError: *value* does not fit the 16-bit length.
    """
    if len(value) > _UINT16_MAX:
        raise LocalProtocolError(f"item {item_type:02X}H of {len(value)} bytes is too long")
    return _ITEM.pack(item_type, len(value)) + value


def split_items(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The items between *start* and *end*: type and value.

    Raises:
        RemoteProtocolError: an item is longer than what holds it (reason 6).
    """
    position = start
    while position < end:
        if end - position < _ITEM.size:
            raise _invalid("an item header is cut short")
        item_type, length = _ITEM.unpack_from(data, position)
        position += _ITEM.size
        if length > end - position:
            raise _invalid(f"item {item_type:02X}H announces {length} of {end - position} bytes")
        yield item_type, data[position : position + length]
        position += length


def encode_uid(uid: str) -> bytes:
    """A UID as A-ASSOCIATE carries it: without padding (PS3.8 F).

    Raises:
        LocalProtocolError: *uid* is none.
    """
    if not is_safe_uid(uid):
        raise LocalProtocolError(f"{uid!r} is not a UID (PS3.5 9.1)")
    return uid.encode("ascii")


@lru_cache(_UIDS_REMEMBERED)
def encode_uid_item(item_type: int, uid: str) -> bytes:
    """An item that holds a UID and nothing else; SOP classes and transfer syntaxes are few.

    Raises:
        LocalProtocolError: *uid* is none.
    """
    return encode_item(item_type, encode_uid(uid))


def decode_uid(value: bytes, name: str) -> str:
    """A UID; some peers pad it.

    Raises:
        RemoteProtocolError: it is none (reason 6).
    """
    text = value.rstrip(b"\0 ").decode("latin-1")
    if not is_safe_uid(text):
        raise _invalid(f"the {name} is not a UID")
    return text


def encode_proposed_context(context: ProposedContext) -> bytes:
    """PS3.8 9.3.2.2.

    Raises:
        LocalProtocolError: an even context ID, no transfer syntax, or a name that is no UID.
    """
    check_context_id(context.context_id)
    if not context.transfer_syntaxes:
        raise LocalProtocolError("a presentation context needs a transfer syntax (PS3.8 9.3.2.2)")
    parts = [
        bytes((context.context_id, 0, 0, 0)),
        encode_uid_item(ABSTRACT_SYNTAX_ITEM, context.abstract_syntax),
    ]
    parts += [encode_uid_item(TRANSFER_SYNTAX_ITEM, uid) for uid in context.transfer_syntaxes]
    return encode_item(PROPOSED_CONTEXT_ITEM, b"".join(parts))


def decode_proposed_context(value: bytes, limits: Limits = DEFAULT_LIMITS) -> ProposedContext:
    """PS3.8 9.3.2.2; context ID, three reserved bytes, abstract syntax, transfer syntaxes.

    Raises:
        RemoteProtocolError: one of them is malformed or missing (reason 6), or a second
            abstract syntax (reason 5).
    """
    context_id = _context_id(value)
    abstract_syntax = ""
    transfer_syntaxes: list[str] = []
    for item_type, content in split_items(value, _CONTEXT_HEAD_LENGTH, len(value)):
        if item_type == ABSTRACT_SYNTAX_ITEM:
            if abstract_syntax:
                raise unexpected_item("a second abstract syntax sub-item")
            abstract_syntax = decode_uid(content, "abstract syntax name")
        elif item_type == TRANSFER_SYNTAX_ITEM:
            if len(transfer_syntaxes) == limits.transfer_syntaxes:
                raise LimitExceeded(
                    f"more than {limits.transfer_syntaxes} transfer syntaxes in a presentation "
                    "context",
                    "transfer_syntaxes",
                )
            transfer_syntaxes.append(decode_uid(content, "transfer syntax name"))
    if not abstract_syntax or not transfer_syntaxes:
        raise _invalid(f"presentation context {context_id} lacks an abstract or transfer syntax")
    return ProposedContext(context_id, abstract_syntax, tuple(transfer_syntaxes))


def encode_context_result(context: ContextResult) -> bytes:
    """PS3.8 9.3.3.2; a transfer syntax sub-item always stands, also where it means nothing.

    There it names the default one: peers ignore it, but not all take an empty name.

    Raises:
        LocalProtocolError: an even context ID, a result that the standard does not have, or
            acceptance without a transfer syntax.
    """
    check_context_id(context.context_id)
    if not 0 <= context.result <= _LAST_RESULT:
        raise LocalProtocolError(f"presentation context result {context.result} (PS3.8 9.3.3.2)")
    if context.result == 0 and not context.transfer_syntax:
        raise LocalProtocolError(
            f"presentation context {context.context_id} accepted without a transfer syntax"
        )
    syntax = context.transfer_syntax or IMPLICIT_VR_LITTLE_ENDIAN
    return encode_item(
        CONTEXT_RESULT_ITEM,
        bytes((context.context_id, 0, context.result, 0))
        + encode_uid_item(TRANSFER_SYNTAX_ITEM, syntax),
    )


def decode_context_result(value: bytes) -> ContextResult:
    """PS3.8 9.3.3.2; the transfer syntax is read only where it has a meaning."""
    context_id, result = _context_id(value), value[2]
    transfer_syntax = ""
    if result == 0:
        for item_type, content in split_items(value, _CONTEXT_HEAD_LENGTH, len(value)):
            if item_type == TRANSFER_SYNTAX_ITEM:
                if transfer_syntax:
                    raise unexpected_item("a second transfer syntax in an accepted context")
                transfer_syntax = decode_uid(content, "transfer syntax name")
        if not transfer_syntax:
            raise _invalid(f"presentation context {context_id} was accepted without a syntax")
    return ContextResult(context_id, result, transfer_syntax)


def check_context_id(context_id: int) -> None:
    """Raises: LocalProtocolError: not an odd number up to 255 (PS3.8 9.3.2.2)."""
    if not (context_id & 1 and 0 < context_id <= _UINT8_MAX):
        raise LocalProtocolError(
            f"presentation context ID {context_id} is not an odd number up to 255"
        )


def _context_id(value: bytes) -> int:
    if len(value) < _CONTEXT_HEAD_LENGTH:
        raise _invalid("a presentation context item is cut short")
    if not value[0] & 1:
        raise _invalid(f"presentation context ID {value[0]} is even")
    return value[0]


def encode_user_information(info: UserInformation) -> bytes:
    """The value of the user information item: its sub-items in ascending order of type.

    Raises:
        LocalProtocolError: a number, a text or a UID that its field cannot hold.
    """
    _check_range("maximum length", info.max_pdu_length, _UINT32_MAX)
    parts = [encode_item(MAXIMUM_LENGTH_ITEM, _UINT32.pack(info.max_pdu_length))]
    if info.implementation_class_uid:
        parts.append(encode_uid_item(IMPLEMENTATION_CLASS_UID_ITEM, info.implementation_class_uid))
    window = info.asynchronous_operations_window
    if window is not None:
        _check_range("operations invoked", window.invoked, _UINT16_MAX)
        _check_range("operations performed", window.performed, _UINT16_MAX)
        parts.append(
            encode_item(
                ASYNCHRONOUS_OPERATIONS_ITEM, _TWO_UINT16.pack(window.invoked, window.performed)
            )
        )
    parts += [
        encode_item(
            ROLE_SELECTION_ITEM,
            _counted(encode_uid(role.sop_class_uid)) + bytes((role.scu_role, role.scp_role)),
        )
        for role in info.role_selections
    ]
    if info.implementation_version_name:
        name = info.implementation_version_name
        _check_version_name(name)
        parts.append(encode_item(IMPLEMENTATION_VERSION_NAME_ITEM, name.encode("ascii")))
    parts += [
        encode_item(
            EXTENDED_NEGOTIATION_ITEM,
            _counted(encode_uid(extended.sop_class_uid)) + extended.application_information,
        )
        for extended in info.extended_negotiations
    ]
    for common in info.common_extended_negotiations:
        related = b"".join(
            _counted(encode_uid(uid)) for uid in common.related_general_sop_class_uids
        )
        parts.append(
            encode_item(
                COMMON_EXTENDED_NEGOTIATION_ITEM,
                _counted(encode_uid(common.sop_class_uid))
                + _counted(encode_uid(common.service_class_uid))
                + _counted(related),
            )
        )
    identity = info.user_identity
    if identity is not None:
        _check_range("user identity type", identity.identity_type, _UINT8_MAX)
        parts.append(
            encode_item(
                USER_IDENTITY_ITEM,
                bytes((identity.identity_type, identity.positive_response_requested))
                + _counted(identity.primary_field)
                + _counted(identity.secondary_field),
            )
        )
    if info.user_identity_response is not None:
        parts.append(
            encode_item(USER_IDENTITY_RESPONSE_ITEM, _counted(info.user_identity_response))
        )
    return b"".join(parts)


def check_implementation(class_uid: str, version_name: str) -> None:
    """Raises:
    LocalProtocolError: *class_uid* is no UID, or *version_name* neither empty nor one (PS3.7
        D.3.3.2)."""
    if not is_safe_uid(class_uid):
        raise LocalProtocolError(
            f"implementation class UID {class_uid!r} is not a UID, which every implementation has "
            "(PS3.7 D.3.3.2.1)"
        )
    if version_name:
        _check_version_name(version_name)


def _check_version_name(name: str) -> None:
    if not name.isascii() or not name.isprintable() or len(name) > _VERSION_NAME_LENGTH:
        raise LocalProtocolError(
            f"implementation version name {name!r} is not 1 to {_VERSION_NAME_LENGTH} "
            "characters of ASCII (PS3.7 D.3.3.2.3)"
        )


def decode_user_information(value: bytes) -> UserInformation:
    """The sub-items of the user information item; unknown ones are ignored (PS3.8 9.3.1).

    Raises:
        RemoteProtocolError: one of them is malformed (reason 6).
    """
    found: dict[str, Any] = {}
    roles: list[RoleSelection] = []
    extended: list[ExtendedNegotiation] = []
    common: list[CommonExtendedNegotiation] = []
    for item_type, content in split_items(value, 0, len(value)):
        fields = _Fields(content, item_type)
        match item_type:
            case 0x51:
                found["max_pdu_length"] = fields.uint32()
                fields.end()
            case 0x52:
                found["implementation_class_uid"] = content.rstrip(b"\0 ").decode("latin-1")
            case 0x53:
                found["asynchronous_operations_window"] = AsynchronousOperationsWindow(
                    fields.uint16(), fields.uint16()
                )
                fields.end()
            case 0x54:
                uid = decode_uid(fields.counted(), "SOP class of a role selection")
                # 1 supports the role, 0 does not; some peers send other numbers for yes.
                roles.append(RoleSelection(uid, bool(fields.byte()), bool(fields.byte())))
                fields.end()
            case 0x55:
                found["implementation_version_name"] = content.strip(b"\0 ").decode("latin-1")
            case 0x56:
                uid = decode_uid(fields.counted(), "SOP class of an extended negotiation")
                extended.append(ExtendedNegotiation(uid, fields.rest()))
            case 0x57:
                # What follows is reserved for later versions and not tested (D.3.3.6.1).
                sop_class = decode_uid(fields.counted(), "SOP class of common extended negotiation")
                service = decode_uid(fields.counted(), "service class")
                related = _Fields(fields.counted(), item_type)
                uids = []
                while related.has_more:
                    uids.append(decode_uid(related.counted(), "related general SOP class"))
                common.append(CommonExtendedNegotiation(sop_class, service, tuple(uids)))
            case 0x58:
                kind, wants_response = fields.byte(), fields.byte()
                found["user_identity"] = UserIdentity(
                    kind, bool(wants_response), fields.counted(), fields.counted()
                )
                fields.end()
            case 0x59:
                found["user_identity_response"] = fields.counted()
                fields.end()
    return UserInformation(
        role_selections=tuple(roles),
        extended_negotiations=tuple(extended),
        common_extended_negotiations=tuple(common),
        **found,
    )


class _Fields:
    """Reads the fields of one item in order, never past its end."""

    __slots__ = ("_data", "_item_type", "_position")

    def __init__(self, data: bytes, item_type: int) -> None:
        self._data = data
        self._item_type = item_type
        self._position = 0

    @property
    def has_more(self) -> bool:
        return self._position < len(self._data)

    def take(self, length: int) -> bytes:
        start, self._position = self._position, self._position + length
        if self._position > len(self._data):
            raise _invalid(f"item {self._item_type:02X}H is cut short")
        return self._data[start : self._position]

    def byte(self) -> int:
        return self.take(1)[0]

    def uint16(self) -> int:
        number: int = _UINT16.unpack(self.take(2))[0]
        return number

    def uint32(self) -> int:
        number: int = _UINT32.unpack(self.take(4))[0]
        return number

    def counted(self) -> bytes:
        """A field behind its own 16-bit length."""
        return self.take(self.uint16())

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._position)

    def end(self) -> None:
        """Nothing may follow."""
        if self.has_more:
            raise _invalid(f"item {self._item_type:02X}H is longer than its fields")


def _counted(value: bytes) -> bytes:
    if len(value) > _UINT16_MAX:
        raise LocalProtocolError(f"a field of {len(value)} bytes is too long for its item")
    return _UINT16.pack(len(value)) + value


def _check_range(name: str, value: int, highest: int) -> None:
    if not 0 <= value <= highest:
        raise LocalProtocolError(f"{name} {value} is not between 0 and {highest}")


def unexpected_item(what: str) -> RemoteProtocolError:
    """The fault of an item that may not stand where it stands (reason 5)."""
    return RemoteProtocolError(f"{what} (PS3.8 9.3)", UNEXPECTED_PDU_PARAMETER)


def _invalid(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"{what} (PS3.8 9.3)", INVALID_PDU_PARAMETER_VALUE)
