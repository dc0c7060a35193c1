"""Invariant: the decoders raise nothing but RemoteProtocolError, and what they accept is bounded.

One input: a byte that chooses the decoder, then what is decoded.
"""

from __future__ import annotations

from typing import Final

from isocenter.engine import pdu
from isocenter.engine.dimse.messages import (
    CEchoRequest,
    CMoveResponse,
    CStoreRequest,
    decode_message,
    encode_message,
    is_request,
    response_to,
)
from isocenter.engine.errors import RemoteProtocolError
from isocenter.engine.items import (
    ExtendedNegotiation,
    ProposedContext,
    RoleSelection,
    UserInformation,
    decode_user_information,
    encode_user_information,
)
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.pdu import AssociateRequest
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION

#: Decoded values, counted against their input.
MOST_HELD: Final = 1 << 20
_INFORMATION: Final = UserInformation(
    max_pdu_length=16_384,
    implementation_class_uid="1.2.3",
    role_selections=(RoleSelection("1.2.3", scu_role=True, scp_role=False),),
    extended_negotiations=(ExtendedNegotiation("1.2.3", b"\1\2"),),
)


def seeds() -> tuple[bytes, ...]:
    request = AssociateRequest(
        called_ae_title="ISOCENTER",
        calling_ae_title="FUZZ",
        presentation_contexts=(ProposedContext(1, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)),),
        user_information=_INFORMATION,
    )
    store = CStoreRequest(
        message_id=1, affected_sop_class_uid="1.2", affected_sop_instance_uid="1.3", priority=2
    )
    moved = CMoveResponse(
        message_id_being_responded_to=1,
        status=0xFF00,
        offending_elements=(0x0010_0020,),
        number_of_remaining_suboperations=1,
    )
    echo = CEchoRequest(message_id=1, affected_sop_class_uid=VERIFICATION)
    return (
        b"\1" + pdu.encode_associate_request(request)[6:],
        b"\2" + pdu.encode_associate_request(request)[6:],
        b"\3\0\1\1\1",
        b"\7\0\0\2\1",
        b"\10" + encode_message(store, has_data_set=True),
        b"\10" + encode_message(moved, has_data_set=False),
        b"\10" + encode_message(echo, has_data_set=False),
        b"\11" + encode_user_information(_INFORMATION),
    )


def run(data: bytes) -> None:
    if not data:
        return
    kind, body = data[0] % 10, data[1:]
    try:
        if kind == 8:
            message, _ = decode_message(body)
            if is_request(message):  # whatever it says, it can be answered
                encode_message(response_to(message, 0xC000), has_data_set=False)
        elif kind == 9:
            decode_user_information(body)
        else:
            pdu.decode_pdu(kind, body, DEFAULT_LIMITS)
    except RemoteProtocolError:
        pass  # the peer's fault, told with a reason
