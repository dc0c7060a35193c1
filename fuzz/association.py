"""Invariant: receive_data never raises, memory held is bounded, every association can be ended.

One input is a stream of bytes from a peer, cut into chunks; its first byte chooses which
side we are and in which state the stream meets us.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.engine import commands, pdu
from isocenter.engine.association import Association
from isocenter.engine.dimse.messages import (
    CFindRequest,
    CStoreRequest,
    encode_message,
    is_request,
    response_to,
)
from isocenter.engine.effects import CloseTransport, Effect
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.events import AssociationRequested, MessageReceived, ReleaseRequested
from isocenter.engine.items import (
    AsynchronousOperationsWindow,
    ProposedContext,
    RoleSelection,
    UserIdentity,
    UserInformation,
)
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import Acceptor, Offer, Role, negotiate
from isocenter.engine.pdu import AssociateAccept, AssociateRequest
from isocenter.engine.states import Sta
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION

_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_REQUEST: Final = AssociateRequest(
    called_ae_title="ISOCENTER",
    calling_ae_title="FUZZ",
    presentation_contexts=(
        ProposedContext(1, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)),
        ProposedContext(3, _CT, (IMPLICIT_VR_LITTLE_ENDIAN,)),
    ),
    user_information=UserInformation(
        max_pdu_length=16_384,
        asynchronous_operations_window=AsynchronousOperationsWindow(0, 1),
        role_selections=(RoleSelection(_CT, scu_role=True, scp_role=True),),
        user_identity=UserIdentity(2, True, b"name", b"word"),
    ),
)
_ACCEPTOR: Final = Acceptor(
    offer=lambda _: Offer(transfer_syntaxes=(IMPLICIT_VR_LITTLE_ENDIAN,), scp_role=True),
    max_pdu_length=DEFAULT_LIMITS.max_pdu_length,
)
#: What an association may hold whatever comes: one control PDU, decoded, and one command
#: set, with room for the interpreter's own.
MOST_HELD: Final = 4 * (DEFAULT_LIMITS.associate_pdu + DEFAULT_LIMITS.command_set) + (1 << 20)


def _accept() -> AssociateAccept:
    accept = negotiate(_REQUEST, _ACCEPTOR)
    assert isinstance(accept, AssociateAccept)
    return accept


_ASSOCIATE_RQ: Final = pdu.encode_associate_request(_REQUEST)
_ASSOCIATE_AC: Final = pdu.encode_associate_accept(_accept())


def _p_data(context_id: int, control: int, fragment: bytes) -> bytes:
    length = len(fragment) + 2
    head = bytes((4, 0)) + (length + 4).to_bytes(4, "big") + length.to_bytes(4, "big")
    return head + bytes((context_id, control)) + fragment


_STORE: Final = encode_message(
    CStoreRequest(message_id=1, affected_sop_class_uid=_CT, affected_sop_instance_uid="1.2"), True
)
_FIND: Final = encode_message(CFindRequest(message_id=2, affected_sop_class_uid=_CT), True)
_RELEASE_RQ: Final = pdu.encode_release_request()


def seeds() -> tuple[bytes, ...]:
    """Streams from which mutation starts; all of them make sense to somebody."""
    data = _p_data(3, 3, _STORE) + _p_data(3, 0, bytes(64)) + _p_data(3, 2, b"end")
    return (
        b"\0" + _ASSOCIATE_RQ + data + _RELEASE_RQ,
        b"\1" + data + _p_data(3, 1, _FIND[:30]) + _p_data(3, 3, _FIND[30:]) + _p_data(3, 2, b"?"),
        b"\2" + _ASSOCIATE_AC + data + pdu.encode_release_response(),
        b"\3" + data + _RELEASE_RQ + pdu.encode_release_response(),
        b"\4" + _RELEASE_RQ + pdu.encode_abort(pdu.Abort(2, 1)),
        b"\0" + pdu.encode_associate_reject(pdu.AssociateReject(1, 1, 7)) + _ASSOCIATE_RQ * 2,
    )


def _end(kind: int) -> Association:
    """An association in the state that *kind* chooses."""
    if kind in {2, 3}:
        end = Association(Role.REQUESTOR)
        end.send(commands.RequestAssociation(_REQUEST))
        end.transport_opened()
        if kind == 3:
            end.receive_data(_ASSOCIATE_AC)
            end.send(commands.RequestRelease())
        return end
    end = Association(Role.ACCEPTOR)
    end.transport_opened()
    if kind in {1, 4}:
        end.receive_data(_ASSOCIATE_RQ)
        end.send(commands.AcceptAssociation(_accept()))
        if kind == 4:
            end.send(commands.Abort())
    return end


def _chunks(data: bytes, seed: int) -> Iterator[bytes]:
    """Chunks of lengths that depend on *seed* alone."""
    position = 0
    while position < len(data):
        seed = (seed * 1_103_515_245 + 12_345) & 0x7FFF_FFFF
        length = 1 + (seed >> 8) % 97
        yield data[position : position + length]
        position += length


def _answer(end: Association, effects: tuple[Effect, ...]) -> None:
    """What a service-user does, so that the stream meets later states too."""
    for effect in effects:
        try:
            match effect:
                case AssociationRequested(request):
                    accept = negotiate(request, _ACCEPTOR)
                    if isinstance(accept, AssociateAccept):
                        end.send(commands.AcceptAssociation(accept))
                case ReleaseRequested():
                    end.send(commands.AcceptRelease())
                case MessageReceived(context_id, message, _) if is_request(message):
                    end.send(commands.SendMessage(context_id, response_to(message, 0)))
        except LocalProtocolError:
            # The stream went on, and may have ended what it asked for.
            assert end.state is not Sta.STA3


def run(data: bytes) -> None:
    """Raises whatever is wrong with us, never for what is wrong with *data*."""
    if not data:
        return
    end = _end(data[0] % 5)
    stream = data[1:]
    for chunk in _chunks(stream, len(stream)):
        _answer(end, end.receive_data(chunk))
    # Every association can be ended: by ARTIM where it runs, by an A-ABORT elsewhere.
    if end.state not in {Sta.STA1, Sta.STA2, Sta.STA13}:
        end.send(commands.Abort())
    if end.state is not Sta.STA1:
        assert end.state in {Sta.STA2, Sta.STA13}
        assert any(isinstance(effect, CloseTransport) for effect in end.timer_expired())
    assert end.state is Sta.STA1
    assert end.receive_data(stream) == ()
