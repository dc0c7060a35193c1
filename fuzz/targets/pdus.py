"""Invariant: a PDU is decoded or refused; what was decoded can be said again, and answered.

Input: a byte for the PDU type, a byte for how we negotiate, the body.
"""

from __future__ import annotations

from typing import Final

from wording import check_fault, check_line

from isocenter.engine import pdu
from isocenter.engine.ae import is_ae_title
from isocenter.engine.errors import LocalProtocolError, RemoteProtocolError
from isocenter.engine.extended_negotiation import FindFlags, RetrieveFlags, StorageSupport
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import ANY, Acceptor, Offer, Role, negotiate, negotiated_from
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest
from isocenter.engine.uid import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)

_LIMITS: Final = (DEFAULT_LIMITS, Limits(presentation_contexts=2, transfer_syntaxes=2))
_HEADER_LENGTH: Final = 6
#: What stands before the items (PS3.8 9.3.2).
_FIXED_LENGTH: Final = 68
_USER_INFORMATION_ITEM: Final = 0x50
_FIND: Final = "1.2.840.10008.5.1.4.1.2.1.1"


def _offer(abstract_syntax: str) -> Offer | None:
    if abstract_syntax == VERIFICATION:
        return Offer(transfer_syntaxes=(IMPLICIT_VR_LITTLE_ENDIAN,))
    if abstract_syntax == _FIND:
        return Offer(
            transfer_syntaxes=(EXPLICIT_VR_LITTLE_ENDIAN, ANY),
            extended=lambda asked: (
                FindFlags.decode(asked).both(FindFlags(relational=True)).encode()
            ),
        )
    if abstract_syntax.endswith("9"):
        return None
    return Offer(transfer_syntaxes=(ANY,), scp_role=True, extended=lambda asked: asked or None)


def run(data: bytes) -> None:
    if len(data) < 2:
        return
    how = data[1]
    try:
        value = pdu.decode_pdu(data[0], data[2:], _LIMITS[how & 1])
    except RemoteProtocolError as fault:
        check_fault(fault)
        return
    check_line(value)
    if isinstance(value, AssociateRequest | AssociateAccept):
        _check_filled(data[2 + _FIXED_LENGTH :])
    encoded = _encode(value)
    if encoded:
        assert _decode(encoded) == value
    if isinstance(value, AssociateRequest):
        _answer(value, how)


def _check_filled(items: bytes, *, are_sub_items: bool = False) -> None:
    """The items of what was accepted fill it to the last byte, and so do their sub-items."""
    position = 0
    while position < len(items):
        item_type, length = (
            items[position],
            int.from_bytes(items[position + 2 : position + 4], "big"),
        )
        position += 4
        assert position + length <= len(items)
        if item_type == _USER_INFORMATION_ITEM and not are_sub_items:
            _check_filled(items[position : position + length], are_sub_items=True)
        position += length
    assert position == len(items)


def _answer(request: AssociateRequest, how: int) -> None:
    """Whatever is asked for has an answer, and both sides understand the same."""
    acceptor = Acceptor(
        offer=_offer,
        max_pdu_length=16_384,
        prefer=Role.REQUESTOR if how & 2 else Role.ACCEPTOR,
        max_operations_invoked=how >> 2 & 3,
        max_operations_performed=how >> 4 & 3,
    )
    answer = negotiate(request, acceptor)
    if isinstance(answer, AssociateReject):
        assert _decode(pdu.encode_associate_reject(answer)) == answer
        return
    assert is_ae_title(request.called_ae_title)
    assert is_ae_title(request.calling_ae_title)
    encoded = pdu.encode_associate_accept(answer)
    assert _decode(encoded) == answer
    ours = negotiated_from(request, answer, Role.ACCEPTOR)
    theirs = negotiated_from(request, answer, Role.REQUESTOR)
    assert ours.contexts.keys() == theirs.contexts.keys()
    for context_id, context in ours.contexts.items():
        other = theirs.contexts[context_id]
        assert (context.as_scu, context.as_scp) == (other.as_scp, other.as_scu)
        assert context.transfer_syntax == other.transfer_syntax
    assert ours.operations_invoked == theirs.operations_performed
    assert ours.operations_performed == theirs.operations_invoked
    for extended in request.user_information.extended_negotiations:
        information = extended.application_information
        for flags in (FindFlags.decode(information), RetrieveFlags.decode(information)):
            assert type(flags).decode(flags.encode()) == flags
        support = StorageSupport.decode(information)
        assert support is None or StorageSupport.decode(support.encode()) == support


def _encode(value: pdu.Pdu) -> bytes:
    """*value* as we would say it; empty for what we would not say, but take from others."""
    try:
        match value:
            case AssociateRequest():
                return pdu.encode_associate_request(value)
            case AssociateAccept():
                return pdu.encode_associate_accept(value)
            case AssociateReject():
                return pdu.encode_associate_reject(value)
            case pdu.ReleaseRequest():
                return pdu.encode_release_request()
            case pdu.ReleaseResponse():
                return pdu.encode_release_response()
            case pdu.Abort():
                return pdu.encode_abort(value)
    except LocalProtocolError as fault:
        check_fault(fault)
        return b""


def _decode(encoded: bytes) -> pdu.Pdu:
    assert int.from_bytes(encoded[2:_HEADER_LENGTH], "big") == len(encoded) - _HEADER_LENGTH
    return pdu.decode_pdu(encoded[0], encoded[_HEADER_LENGTH:], DEFAULT_LIMITS)
