"""Engines without sockets: an end in any state, and two ends with the bytes between them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from isocenter.engine import pdu
from isocenter.engine.association import Association
from isocenter.engine.buffers import Buffer
from isocenter.engine.commands import (
    Abort,
    AcceptAssociation,
    AcceptRelease,
    Command,
    RejectAssociation,
    RequestAssociation,
    RequestRelease,
    SendMessage,
)
from isocenter.engine.dimse.message_codec import CEchoRequest, encode_message
from isocenter.engine.effects import (
    CloseTransport,
    Effect,
    OpenTransport,
    SendBytes,
    StartArtim,
    StopArtim,
)
from isocenter.engine.events import AssociationRequested, DataSetReceived
from isocenter.engine.items import ProposedContext, UserInformation
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import Acceptor, Offer, Role, negotiate
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest
from isocenter.engine.states import Sta
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
ECHO_CONTEXT: Final = 1
STORE_CONTEXT: Final = 3

REQUEST: Final = AssociateRequest(
    called_ae_title="ISOCENTER",
    calling_ae_title="CT1",
    presentation_contexts=(
        ProposedContext(ECHO_CONTEXT, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)),
        ProposedContext(STORE_CONTEXT, CT, (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)),
        ProposedContext(5, "1.2.3.4", (IMPLICIT_VR_LITTLE_ENDIAN,)),
    ),
    user_information=UserInformation(max_pdu_length=16_384, implementation_class_uid="1.2.3"),
)
ACCEPTOR: Final = Acceptor(
    offer=lambda uid: (
        Offer(transfer_syntaxes=(EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN))
        if uid in {VERIFICATION, CT}
        else None
    ),
    max_pdu_length=DEFAULT_LIMITS.max_pdu_length,
)
REJECT: Final = AssociateReject(1, 1, 7)
C_ECHO: Final = CEchoRequest(message_id=1, affected_sop_class_uid=VERIFICATION)


def answer(request: AssociateRequest = REQUEST, acceptor: Acceptor = ACCEPTOR) -> AssociateAccept:
    accept = negotiate(request, acceptor)
    assert isinstance(accept, AssociateAccept)
    return accept


# PDUs as bytes.


def pdu_of(pdu_type: int, body: bytes) -> bytes:
    return struct.pack(">BxI", pdu_type, len(body)) + body


def pdv(context_id: int, control: int, fragment: bytes) -> bytes:
    """Item length, context ID, message control header (1: command, 2: last), fragment."""
    return struct.pack(">IBB", len(fragment) + 2, context_id, control) + fragment


def p_data(*pdvs: bytes) -> bytes:
    return pdu_of(4, b"".join(pdvs))


def abort_pdu(source: int, reason: int) -> bytes:
    return bytes((7, 0, 0, 0, 0, 4, 0, 0, source, reason))


ASSOCIATE_RQ: Final = pdu.encode_associate_request(REQUEST)
ASSOCIATE_AC: Final = pdu.encode_associate_accept(answer())
ASSOCIATE_RJ: Final = bytes.fromhex("03 00 00000004 00 01 01 07")
RELEASE_RQ: Final = bytes.fromhex("05 00 00000004 00000000")
RELEASE_RP: Final = bytes.fromhex("06 00 00000004 00000000")
A_ABORT: Final = abort_pdu(0, 0)
C_ECHO_COMMAND: Final = encode_message(C_ECHO, has_data_set=False)
P_DATA_ECHO: Final = p_data(pdv(ECHO_CONTEXT, 3, C_ECHO_COMMAND))
UNRECOGNIZED: Final = pdu_of(0x5A, b"\0\0\0\0")

#: Every PDU of PS3.8 9.3, and one that is none.
PDUS: Final = {
    "A-ASSOCIATE-RQ": ASSOCIATE_RQ,
    "A-ASSOCIATE-AC": ASSOCIATE_AC,
    "A-ASSOCIATE-RJ": ASSOCIATE_RJ,
    "P-DATA-TF": P_DATA_ECHO,
    "A-RELEASE-RQ": RELEASE_RQ,
    "A-RELEASE-RP": RELEASE_RP,
    "A-ABORT": A_ABORT,
    "unrecognized": UNRECOGNIZED,
}


# One end, in any state.


def idle_requestor(limits: Limits = DEFAULT_LIMITS) -> Association:
    return Association(Role.REQUESTOR, limits)


def opening(request: AssociateRequest = REQUEST, limits: Limits = DEFAULT_LIMITS) -> Association:
    """A requestor in Sta4."""
    end = idle_requestor(limits)
    end.send(RequestAssociation(request))
    return end


def requesting(request: AssociateRequest = REQUEST, limits: Limits = DEFAULT_LIMITS) -> Association:
    """A requestor in Sta5."""
    end = opening(request, limits)
    end.transport_opened()
    return end


def listening(limits: Limits = DEFAULT_LIMITS) -> Association:
    """An acceptor in Sta2."""
    end = Association(Role.ACCEPTOR, limits)
    end.transport_opened()
    return end


def requested(request: AssociateRequest = REQUEST, limits: Limits = DEFAULT_LIMITS) -> Association:
    """An acceptor in Sta3."""
    end = listening(limits)
    end.receive_data(pdu.encode_associate_request(request))
    return end


def established(
    role: Role = Role.ACCEPTOR,
    limits: Limits = DEFAULT_LIMITS,
    request: AssociateRequest = REQUEST,
    acceptor: Acceptor = ACCEPTOR,
) -> Association:
    """Either role in Sta6."""
    if role is Role.ACCEPTOR:
        end = requested(request, limits)
        end.send(AcceptAssociation(answer(request, acceptor)))
    else:
        end = requesting(request, limits)
        end.receive_data(pdu.encode_associate_accept(answer(request, acceptor)))
    return end


def end_in(sta: Sta, limits: Limits = DEFAULT_LIMITS) -> Association:
    """An association in *sta*, reached by legal steps only."""
    match sta:
        case Sta.STA1:
            end = idle_requestor(limits)
        case Sta.STA2:
            end = listening(limits)
        case Sta.STA3:
            end = requested(limits=limits)
        case Sta.STA4:
            end = opening(limits=limits)
        case Sta.STA5:
            end = requesting(limits=limits)
        case Sta.STA6:
            end = established(limits=limits)
        case Sta.STA7:
            end = established(limits=limits)
            end.send(RequestRelease())
        case Sta.STA8:
            end = established(limits=limits)
            end.receive_data(RELEASE_RQ)
        case Sta.STA9 | Sta.STA11:
            end = established(Role.REQUESTOR, limits)
            end.send(RequestRelease())
            end.receive_data(RELEASE_RQ)
            if sta is Sta.STA11:
                end.send(AcceptRelease())
        case Sta.STA10 | Sta.STA12:
            end = established(Role.ACCEPTOR, limits)
            end.send(RequestRelease())
            end.receive_data(RELEASE_RQ)
            if sta is Sta.STA12:
                end.receive_data(RELEASE_RP)
        case Sta.STA13:
            end = established(limits=limits)
            end.send(Abort())
    assert end.state is sta
    return end


#: One command for each local event of Table 9-10 that is one.
COMMANDS: Final[dict[str, Command]] = {
    "Evt1": RequestAssociation(REQUEST),
    "Evt7": AcceptAssociation(answer()),
    "Evt8": RejectAssociation(REJECT),
    "Evt9": SendMessage(ECHO_CONTEXT, C_ECHO),
    "Evt11": RequestRelease(),
    "Evt14": AcceptRelease(),
    "Evt15": Abort(),
}


# What effects say.


def sent(effects: Iterable[Effect]) -> bytes:
    """All bytes of the `SendBytes` among *effects*."""
    return b"".join(
        bytes(buffer)
        for effect in effects
        if isinstance(effect, SendBytes)
        for buffer in effect.buffers
    )


def kinds(effects: Iterable[Effect]) -> list[type[Effect]]:
    return [type(effect) for effect in effects]


Kind = TypeVar("Kind")


def only(effects: Iterable[Effect], kind: type[Kind]) -> Kind:
    """The one effect of this kind."""
    found = [effect for effect in effects if isinstance(effect, kind)]
    assert len(found) == 1, found
    return found[0]


def joined(effects: Iterable[Effect]) -> list[object]:
    """Effects with the views of one data set joined, and faults by what they say."""
    result: list[object] = []
    data: bytes | None = None
    for effect in effects:
        if isinstance(effect, DataSetReceived):
            data = (data or b"") + bytes(effect.data)
            if effect.is_last:
                result.append((effect.context_id, data))
                data = None
            continue
        if data is not None:
            result.append(("unfinished", data))
            data = None
        cause = getattr(effect, "cause", None)
        if isinstance(effect, SendBytes):
            result.append(sent([effect]))
        elif cause is not None:
            result.append((type(effect), cause.reason, str(cause)))
        else:
            result.append(effect)
    if data is not None:
        result.append(("unfinished", data))
    return result


def in_chunks(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


# Two ends.


class Wire:
    """Two engines and the bytes between them; a test moves the bytes.

    Drives both as a driver must: closes the transport when told to, tells the other end,
    keeps ARTIM, and answers what only a service-user can answer where *auto* is set.
    """

    def __init__(
        self,
        requestor: Association | None = None,
        acceptor: Association | None = None,
        how: Acceptor = ACCEPTOR,
    ) -> None:
        self.ends = (requestor or idle_requestor(), acceptor or Association(Role.ACCEPTOR))
        self.how = how
        #: What each end has received as events, and what it was told to do.
        self.effects: tuple[list[Effect], list[Effect]] = ([], [])
        #: Bytes on their way *to* each end.
        self.towards = (bytearray(), bytearray())
        self.is_open = False
        self.artim = [False, False]
        self.max_chunk = 1 << 20

    @property
    def states(self) -> tuple[Sta, Sta]:
        return self.ends[0].state, self.ends[1].state

    def do(self, end: int, command: Command) -> None:
        self.did(end, self.ends[end].send(command))

    def did(self, end: int, effects: Iterable[Effect]) -> None:
        for effect in effects:
            self.effects[end].append(effect)
            match effect:
                case OpenTransport():
                    self.is_open = True
                    self.did(1, self.ends[1].transport_opened())
                    self.did(0, self.ends[0].transport_opened())
                case SendBytes(buffers):
                    if self.is_open:
                        for buffer in buffers:
                            self.towards[1 - end].extend(bytes(buffer))
                case CloseTransport():
                    self.close(end)
                case StartArtim():
                    self.artim[end] = True
                case StopArtim():
                    self.artim[end] = False
                # The A-ABORT may have come in the same chunk.
                case AssociationRequested(request) if self.ends[end].state is Sta.STA3:
                    accept = negotiate(request, self.how)
                    if isinstance(accept, AssociateReject):
                        self.do(end, RejectAssociation(accept))
                    else:
                        self.do(end, AcceptAssociation(accept))

    def close(self, end: int) -> None:
        """*end* has closed: what it sent still arrives, then the other end learns of it."""
        if not self.is_open:
            return
        other = 1 - end
        while self.deliver(other):
            pass
        self.is_open = False
        self.towards[end].clear()
        self.did(other, self.ends[other].transport_closed())

    def lose(self) -> None:
        """The connection breaks for both ends, with what was on its way."""
        self.is_open = False
        for end in (0, 1):
            self.towards[end].clear()
            self.did(end, self.ends[end].transport_closed())

    def deliver(self, end: int) -> bool:
        """Give *end* what has arrived for it."""
        if not self.towards[end]:
            return False
        chunk = bytes(self.towards[end][: self.max_chunk])
        del self.towards[end][: self.max_chunk]
        self.did(end, self.ends[end].receive_data(chunk))
        return True

    def carry(self) -> None:
        """Deliver until both ends are quiet."""
        while self.deliver(0) | self.deliver(1):
            pass

    def associate(self, request: AssociateRequest = REQUEST) -> Wire:
        self.do(0, RequestAssociation(request))
        self.carry()
        return self

    def finish(self) -> None:
        """Time passes: bytes arrive, ARTIM runs out where it runs, and who waits, aborts."""
        self.carry()
        for end in (0, 1):
            if self.artim[end]:
                self.did(end, self.ends[end].timer_expired())
            if self.ends[end].state not in {Sta.STA1, Sta.STA2, Sta.STA13}:
                self.do(end, Abort())
        self.carry()
        for end in (0, 1):
            if self.artim[end]:
                self.did(end, self.ends[end].timer_expired())


def echo_bytes(context_id: int = ECHO_CONTEXT, command: Buffer = C_ECHO_COMMAND) -> bytes:
    return p_data(pdv(context_id, 3, bytes(command)))
