"""The text of each fault: what was wrong, by how much, and the clause that says so.

A fault is read by people, in a log or from an exception, and often without the bytes.  The
texts hold numbers and the standard's names, nothing that a peer could have put into them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from engine.wire import (
    ASSOCIATE_AC,
    ASSOCIATE_RQ,
    C_ECHO,
    C_ECHO_COMMAND,
    ECHO_CONTEXT,
    P_DATA_ECHO,
    REQUEST,
    STORE_CONTEXT,
    UNRECOGNIZED,
    answer,
    end_in,
    established,
    p_data,
    pdu_of,
    pdv,
    requesting,
)
from isocenter.engine import pdu
from isocenter.engine.association import Association
from isocenter.engine.commands import (
    AcceptAssociation,
    AcceptRelease,
    Command,
    RequestAssociation,
    RequestRelease,
    SendDataSet,
    SendMessage,
)
from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.engine.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from isocenter.engine.items import ContextResult
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import Role
from isocenter.engine.pdu import Abort, AssociateAccept, AssociateReject, AssociateRequest
from isocenter.engine.states import Sta

STORE = CStoreRequest(message_id=1, affected_sop_class_uid="1.2", affected_sop_instance_uid="1.3")


def header(pdu_type: int, length: int) -> bytes:
    return struct.pack(">BxI", pdu_type, length)


def fault_of(end: Association, data: bytes) -> RemoteProtocolError:
    (cause,) = [
        cause for effect in end.receive_data(data) if (cause := getattr(effect, "cause", None))
    ]
    assert isinstance(cause, RemoteProtocolError)
    return cause


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (UNRECOGNIZED, "unrecognized PDU type 5AH (PS3.8 9.3.1)"),
        (
            header(4, 131_073),
            (
                "P-DATA-TF announces 131073 bytes; the maximum length that we announced "
                "allows 131072 (PS3.8 D.1)"
            ),
        ),
        (header(4, 5), "P-DATA-TF without a PDV (PS3.8 9.3.5)"),
        (header(1, 1_048_577), "A-ASSOCIATE-RQ announces 1048577 bytes, more than 1048576"),
        (header(5, 5), "A-RELEASE-RQ announces 5 bytes instead of 4 (PS3.8 9.3)"),
        (
            pdu_of(4, b"\0\0\0\x09\x01\x03" + bytes(6)),
            "PDV of 9 bytes in a P-DATA-TF with 12 bytes left (PS3.8 9.3.5.1)",
        ),
        (
            pdu_of(4, pdv(1, 1, b"ab") + b"\0"),
            "the PDVs do not fill their P-DATA-TF (PS3.8 9.3.5)",
        ),
        (p_data(pdv(2, 3, C_ECHO_COMMAND)), "presentation context ID 2 is even (PS3.8 9.3.2.2)"),
        (
            p_data(pdv(5, 3, C_ECHO_COMMAND)),
            "P-DATA-TF on presentation context 5, which was not accepted (PS3.8 9.3.5.1)",
        ),
        (
            ASSOCIATE_AC,
            (
                "A-ASSOCIATE-AC in Sta6 (association established, ready for data transfer; PS3.8 "
                "Table 9-10)"
            ),
        ),
    ],
)
def test_a_peers_fault(data: bytes, text: str) -> None:
    assert str(fault_of(established(), data)) == text


def test_data_where_none_belongs() -> None:
    assert str(fault_of(end_in(Sta.STA8), P_DATA_ECHO)) == (
        "P-DATA-TF in Sta8 (awaiting the local A-RELEASE response; PS3.8 Table 9-10)"
    )


def test_a_maximum_length_that_carries_nothing() -> None:
    position = ASSOCIATE_AC.index(b"\x51\0\0\4") + 4
    accept = ASSOCIATE_AC[:position] + struct.pack(">I", 15) + ASSOCIATE_AC[position + 4 :]
    assert str(fault_of(requesting(), accept)) == (
        "maximum length received of 15 bytes cannot carry a fragment (PS3.8 D.1)"
    )


def test_a_context_that_was_not_proposed() -> None:
    text = (
        "A-ASSOCIATE-AC accepts presentation context 9 with a transfer syntax that was not "
        "proposed (PS3.8 9.3.3.2)"
    )
    accept = AssociateAccept(
        called_ae_title="A",
        calling_ae_title="B",
        presentation_contexts=(ContextResult(9, 0, "1.2"),),
        user_information=answer().user_information,
    )
    assert str(fault_of(requesting(), pdu.encode_associate_accept(accept))) == text
    with pytest.raises(LocalProtocolError) as caught:
        end_in(Sta.STA3).send(AcceptAssociation(accept))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("data", "limit"),
    [(header(1, 1 << 21), "associate_pdu"), (header(4, 1 << 21), "max_pdu_length")],
)
def test_a_limit_is_named(data: bytes, limit: str) -> None:
    fault = fault_of(established(), data)
    assert isinstance(fault, LimitExceeded)
    assert fault.limit == limit


# A PDU that is decoded as a whole.

FIXED = ASSOCIATE_RQ[6:74]
APPLICATION_CONTEXT = ASSOCIATE_RQ[74:99]
CONTEXT = b"\x20\0\0\x12\1\0\0\0" + b"\x30\0\0\x03" + b"1.2" + b"\x40\0\0\x03" + b"1.2"
USER_INFORMATION = b"\x50\0\0\0"


@pytest.mark.parametrize(
    ("pdu_type", "body", "text"),
    [
        (4, b"", "PDU type 04H is not one to be decoded whole (PS3.8 9.3.1)"),
        (5, b"\0\0\0", "A-RELEASE-RQ of 3 bytes instead of 4 (PS3.8 9.3)"),
        (1, bytes(67), "A-ASSOCIATE-RQ of 67 bytes; its fixed part has 68 (PS3.8 9.3)"),
        (1, FIXED, "A-ASSOCIATE-RQ without an application context item (PS3.8 9.3)"),
        (
            1,
            FIXED + APPLICATION_CONTEXT * 2,
            "a second application context item (PS3.8 9.3)",
        ),
        (1, FIXED + b"\x10\0\0\1x", "the application context name is not a UID (PS3.8 9.3)"),
        (2, FIXED + APPLICATION_CONTEXT + CONTEXT, "item 20H in A-ASSOCIATE-AC (PS3.8 9.3)"),
        (
            1,
            FIXED + APPLICATION_CONTEXT + USER_INFORMATION * 2,
            "a second user information item (PS3.8 9.3)",
        ),
        (
            1,
            FIXED + APPLICATION_CONTEXT + CONTEXT * 2,
            "presentation context IDs are not unique (PS3.8 9.3)",
        ),
        (
            1,
            FIXED
            + APPLICATION_CONTEXT
            + b"".join(CONTEXT[:4] + bytes((n % 256,)) + CONTEXT[5:] for n in range(1, 259, 2)),
            "more than 128 presentation contexts",
        ),
    ],
)
def test_a_pdu_that_cannot_be_decoded(pdu_type: int, body: bytes, text: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        pdu.decode_pdu(pdu_type, body, DEFAULT_LIMITS)
    assert str(caught.value) == text


# What we may not do.


def sending() -> Association:
    """In the middle of a data set."""
    end = established()
    end.send(SendMessage(STORE_CONTEXT, STORE, has_data_set=True))
    return end


def asked_for_release() -> Association:
    """In Sta8, in the middle of a data set."""
    end = sending()
    end.receive_data(bytes.fromhex("05 00 00000004 00000000"))
    return end


def ended() -> Association:
    end = end_in(Sta.STA13)
    end.transport_closed()
    return end


@pytest.mark.parametrize(
    ("start", "command", "text"),
    [
        (
            lambda: Association(Role.ACCEPTOR),
            RequestAssociation(REQUEST),
            "an association acceptor requests no association",
        ),
        (
            ended,
            RequestAssociation(REQUEST),
            "this association has ended; each needs its own object",
        ),
        (
            sending,
            RequestRelease(),
            "A-RELEASE request before the end of a data set (PS3.7 6.3.1)",
        ),
        (
            asked_for_release,
            AcceptRelease(),
            "A-RELEASE response before the end of a data set (PS3.7 6.3.1)",
        ),
        (
            sending,
            SendMessage(ECHO_CONTEXT, C_ECHO),
            "another message before the end of a data set (PS3.7 6.3.1)",
        ),
        (
            established,
            SendDataSet(STORE_CONTEXT, b"", is_last=True),
            "no message on this presentation context awaits a data set",
        ),
        (established, SendMessage(5, C_ECHO), "presentation context 5 was not accepted"),
        (
            lambda: end_in(Sta.STA7),
            SendMessage(ECHO_CONTEXT, C_ECHO),
            "Evt9 (P-DATA request (local user)) is not allowed in Sta7 (PS3.8 Table 9-10)",
        ),
    ],
)
def test_a_command_that_is_refused(
    start: Callable[[], Association], command: Command, text: str
) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        start().send(command)
    assert str(caught.value) == text


def request_with(
    protocol_version: int = 1, context_ids: tuple[int, ...] = (1,)
) -> AssociateRequest:
    context = REQUEST.presentation_contexts[0]
    return AssociateRequest(
        called_ae_title="A",
        calling_ae_title="B",
        presentation_contexts=tuple(
            type(context)(number, context.abstract_syntax, context.transfer_syntaxes)
            for number in context_ids
        ),
        user_information=REQUEST.user_information,
        protocol_version=protocol_version,
    )


@pytest.mark.parametrize(
    ("encode", "text"),
    [
        (
            lambda: pdu.encode_associate_request(request_with(protocol_version=-1)),
            "protocol version -1",
        ),
        (
            lambda: pdu.encode_associate_request(request_with(context_ids=(1, 3, 1))),
            "presentation context IDs are not unique (PS3.8 9.3.2.2)",
        ),
        (
            lambda: pdu.encode_abort(Abort(1, 0)),
            "Abort(source=1, reason=0) is not in PS3.8 Table 9-26",
        ),
        (
            lambda: pdu.encode_associate_reject(AssociateReject(1, 1, 0)),
            "AssociateReject(result=1, source=1, reason=0) is not in PS3.8 Table 9-21",
        ),
    ],
)
def test_what_cannot_be_encoded(encode: Callable[[], bytes], text: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode()
    assert str(caught.value) == text
