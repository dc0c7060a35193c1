"""The PDUs of the upper layer as values (PS3.8 9.3).

P-DATA-TF is not among them: its fragments pass through `isocenter.engine.framing`
as views and are never gathered.

`decode_pdu` ignores what the standard tells it to ignore (reserved fields, unknown
items) and judges only form; what a proposal means is `isocenter.engine.negotiation`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from struct import Struct
from typing import Final

from isocenter.engine.ae import AE_TITLE_LENGTH, ae_title_of, encode_ae_title
from isocenter.engine.associate_cache import AssociateRequests
from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.errors import (
    ABORT_REASONS,
    INVALID_PDU_PARAMETER_VALUE,
    SERVICE_PROVIDER,
    SERVICE_USER,
    UNRECOGNIZED_PDU,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
)
from isocenter.engine.fast_init import dataclass
from isocenter.engine.items import (
    APPLICATION_CONTEXT_ITEM,
    USER_INFORMATION_ITEM,
    ContextResult,
    ProposedContext,
    UserInformation,
    check_context_id,
    decode_context_result,
    decode_proposed_context,
    decode_uid,
    decode_user_information,
    encode_context_result,
    encode_item,
    encode_proposed_context,
    encode_uid_item,
    encode_user_information,
    split_items,
    unexpected_item,
)
from isocenter.engine.limits import Limits
from isocenter.engine.uid import APPLICATION_CONTEXT


class PduType(IntEnum):
    """PDU types (PS3.8 9.3.1); prints the standard's name."""

    A_ASSOCIATE_RQ = 0x01
    A_ASSOCIATE_AC = 0x02
    A_ASSOCIATE_RJ = 0x03
    P_DATA_TF = 0x04
    A_RELEASE_RQ = 0x05
    A_RELEASE_RP = 0x06
    A_ABORT = 0x07

    def __str__(self) -> str:
        return self.name.replace("_", "-")

    def __format__(self, format_spec: str) -> str:
        return format(str(self), format_spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2).

    AE titles are without their padding.  One that a peer sent may be none, or empty:
    `isocenter.engine.negotiation.negotiate` rejects it.
    """

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[ProposedContext, ...]
    user_information: UserInformation
    application_context_name: str = APPLICATION_CONTEXT
    protocol_version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociateAccept:
    """A-ASSOCIATE-AC (PS3.8 9.3.3).  The AE titles echo the request and are not tested."""

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[ContextResult, ...]
    user_information: UserInformation
    application_context_name: str = APPLICATION_CONTEXT
    protocol_version: int = 1


@dataclass(frozen=True, slots=True)
class AssociateReject:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4, Table 9-21)."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """A-RELEASE-RQ (PS3.8 9.3.6)."""


@dataclass(frozen=True, slots=True)
class ReleaseResponse:
    """A-RELEASE-RP (PS3.8 9.3.7)."""


@dataclass(frozen=True, slots=True)
class Abort:
    """A-ABORT (PS3.8 9.3.8, Table 9-26)."""

    source: int
    reason: int


Pdu = (
    AssociateRequest | AssociateAccept | AssociateReject | ReleaseRequest | ReleaseResponse | Abort
)

#: PDU type, reserved, length of what follows.
_HEADER: Final = Struct(">BxI")
#: Protocol version, two reserved bytes, called and calling AE title, 32 reserved bytes.
_ASSOCIATE: Final = Struct(f">H2x{AE_TITLE_LENGTH}s{AE_TITLE_LENGTH}s32x")
#: Reserved, then result, source, reason; of A-ABORT the first of them is reserved too.
_FOUR: Final = Struct(">xBBB")
_EMPTY_BODY: Final = bytes(4)
_OF_FOUR_BYTES: Final = frozenset(
    {PduType.A_ASSOCIATE_RJ, PduType.A_RELEASE_RQ, PduType.A_RELEASE_RP, PduType.A_ABORT}
)
#: As plain numbers: to look up a member of an `Enum` costs as much as a call.
_A_ASSOCIATE_RQ: Final = int(PduType.A_ASSOCIATE_RQ)
_A_ASSOCIATE_AC: Final = int(PduType.A_ASSOCIATE_AC)
#: Results and sources of an A-ASSOCIATE-RJ (PS3.8 Table 9-21).
_REJECT_RESULTS: Final = (1, 2)
_REJECT_SOURCES: Final = (1, 2, 3)
_UINT16_MAX: Final = 0xFFFF
_UINT8_MAX: Final = 0xFF
_RELEASE_REQUEST: Final = _HEADER.pack(PduType.A_RELEASE_RQ, 4) + _EMPTY_BODY
_RELEASE_RESPONSE: Final = _HEADER.pack(PduType.A_RELEASE_RP, 4) + _EMPTY_BODY
#: Bounded, and the same for every association: what bytes mean does not depend on who sent them.
_REQUESTS: Final[AssociateRequests[AssociateRequest]] = AssociateRequests()


def encode_associate_request(pdu: AssociateRequest) -> bytes:
    """A whole A-ASSOCIATE-RQ.

    Raises:
        LocalProtocolError: an AE title, a UID, a context ID or the number of contexts
            breaks a rule of PS3.8 9.3.2.
    """
    contexts = pdu.presentation_contexts
    _check_context_ids([context.context_id for context in contexts])
    return _encode_associate(
        PduType.A_ASSOCIATE_RQ, pdu, b"".join(map(encode_proposed_context, contexts))
    )


def encode_associate_accept(pdu: AssociateAccept) -> bytes:
    """A whole A-ASSOCIATE-AC.

    Raises:
        LocalProtocolError: see `encode_associate_request`.
    """
    contexts = pdu.presentation_contexts
    _check_context_ids([context.context_id for context in contexts])
    return _encode_associate(
        PduType.A_ASSOCIATE_AC, pdu, b"".join(map(encode_context_result, contexts))
    )


def encode_associate_reject(pdu: AssociateReject) -> bytes:
    """A whole A-ASSOCIATE-RJ.

    Raises:
        LocalProtocolError: a result, source or reason that PS3.8 Table 9-21 does not have.
    """
    if (
        pdu.result not in _REJECT_RESULTS
        or pdu.source not in _REJECT_SOURCES
        or not 0 < pdu.reason <= _UINT8_MAX
    ):
        raise LocalProtocolError(f"{pdu} is not in PS3.8 Table 9-21")
    return _HEADER.pack(PduType.A_ASSOCIATE_RJ, 4) + _FOUR.pack(pdu.result, pdu.source, pdu.reason)


def encode_release_request() -> bytes:
    """A whole A-RELEASE-RQ."""
    return _RELEASE_REQUEST


def encode_release_response() -> bytes:
    """A whole A-RELEASE-RP."""
    return _RELEASE_RESPONSE


def encode_abort(pdu: Abort) -> bytes:
    """A whole A-ABORT.

    Raises:
        LocalProtocolError: a source or reason that PS3.8 Table 9-26 does not have.
    """
    if pdu.source not in (SERVICE_USER, SERVICE_PROVIDER) or pdu.reason not in ABORT_REASONS:
        raise LocalProtocolError(f"{pdu} is not in PS3.8 Table 9-26")
    return _HEADER.pack(PduType.A_ABORT, 4) + _FOUR.pack(0, pdu.source, pdu.reason)


def decode_pdu(pdu_type: int, body: Buffer, limits: Limits) -> Pdu:
    """The body of a PDU other than P-DATA-TF, six-byte header excluded.

    Raises:
        RemoteProtocolError: a length that its parent does not allow, a value that is none
            (reason 6), an item that belongs elsewhere (reason 5), not one of the six
            PDU types (reason 1).
    """
    data = bytes(octets(body))
    if pdu_type == _A_ASSOCIATE_RQ:
        return _REQUESTS.find(data, limits) or _decode_request(data, limits)
    if pdu_type == _A_ASSOCIATE_AC:
        return _decode_associate(PduType.A_ASSOCIATE_AC, data, limits)
    if pdu_type not in _OF_FOUR_BYTES:
        raise RemoteProtocolError(
            f"PDU type {int(pdu_type):02X}H is not one to be decoded whole (PS3.8 9.3.1)",
            UNRECOGNIZED_PDU,
        )
    if len(data) != _FOUR.size:
        raise _invalid(f"{PduType(pdu_type)} of {len(data)} bytes instead of 4")
    first, second, reason = _FOUR.unpack(data)
    match PduType(pdu_type):
        case PduType.A_RELEASE_RQ:
            return ReleaseRequest()
        case PduType.A_RELEASE_RP:
            return ReleaseResponse()
        case PduType.A_ASSOCIATE_RJ:
            return AssociateReject(first, second, reason)
        case _:
            return Abort(second, reason)


def _encode_associate(
    pdu_type: PduType, pdu: AssociateRequest | AssociateAccept, contexts: bytes
) -> bytes:
    if not 0 <= pdu.protocol_version <= _UINT16_MAX:
        raise LocalProtocolError(f"protocol version {pdu.protocol_version}")
    body = b"".join(
        (
            _ASSOCIATE.pack(
                pdu.protocol_version,
                encode_ae_title(pdu.called_ae_title),
                encode_ae_title(pdu.calling_ae_title),
            ),
            encode_uid_item(APPLICATION_CONTEXT_ITEM, pdu.application_context_name),
            contexts,
            encode_item(USER_INFORMATION_ITEM, encode_user_information(pdu.user_information)),
        )
    )
    return _HEADER.pack(pdu_type, len(body)) + body


def _check_context_ids(ids: list[int]) -> None:
    if len(set(ids)) != len(ids):
        raise LocalProtocolError("presentation context IDs are not unique (PS3.8 9.3.2.2)")
    for context_id in ids:
        check_context_id(context_id)


def _decode_request(data: bytes, limits: Limits) -> AssociateRequest:
    request = _decode_associate(PduType.A_ASSOCIATE_RQ, data, limits)
    assert isinstance(request, AssociateRequest)
    _REQUESTS.remember(data, limits, request)
    return request


def _decode_associate(
    pdu_type: PduType, data: bytes, limits: Limits
) -> AssociateRequest | AssociateAccept:
    if len(data) < _ASSOCIATE.size:
        raise _invalid(f"{pdu_type} of {len(data)} bytes; its fixed part has {_ASSOCIATE.size}")
    version, called, calling = _ASSOCIATE.unpack_from(data)
    is_request = pdu_type is PduType.A_ASSOCIATE_RQ
    application_context = ""
    proposed: list[ProposedContext] = []
    results: list[ContextResult] = []
    user_information: UserInformation | None = None
    for item_type, value in split_items(data, _ASSOCIATE.size, len(data)):
        match item_type:
            case 0x10:
                if application_context:
                    raise unexpected_item("a second application context item")
                application_context = decode_uid(value, "application context name")
            case 0x20 if is_request:
                _check_room(proposed, limits)
                proposed.append(decode_proposed_context(value, limits))
            case 0x21 if not is_request:
                _check_room(results, limits)
                results.append(decode_context_result(value))
            case 0x20 | 0x21:
                raise unexpected_item(f"item {item_type:02X}H in {pdu_type}")
            case 0x50:
                if user_information is not None:
                    raise unexpected_item("a second user information item")
                user_information = decode_user_information(value)
            case _:
                pass  # PS3.8 9.3.1: unrecognized items are ignored
    if not application_context:
        raise _invalid(f"{pdu_type} without an application context item")
    ids = [*(context.context_id for context in proposed)]
    ids += [context.context_id for context in results]
    if len(set(ids)) != len(ids):
        raise _invalid("presentation context IDs are not unique")
    if is_request:
        return AssociateRequest(
            called_ae_title=ae_title_of(called),
            calling_ae_title=ae_title_of(calling),
            presentation_contexts=tuple(proposed),
            user_information=user_information or UserInformation(),
            application_context_name=application_context,
            protocol_version=version,
        )
    # The AE titles of an -AC are not tested when received (PS3.8 9.3.3).
    return AssociateAccept(
        called_ae_title=ae_title_of(called),
        calling_ae_title=ae_title_of(calling),
        presentation_contexts=tuple(results),
        user_information=user_information or UserInformation(),
        application_context_name=application_context,
        protocol_version=version,
    )


def _check_room(
    contexts: Sequence[ProposedContext] | Sequence[ContextResult], limits: Limits
) -> None:
    if len(contexts) == limits.presentation_contexts:
        raise LimitExceeded(
            f"more than {limits.presentation_contexts} presentation contexts",
            "presentation_contexts",
        )


def _invalid(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"{what} (PS3.8 9.3)", INVALID_PDU_PARAMETER_VALUE)
