"""A whole association: a service-user who does what a script says, and a peer who sends bytes.

The user checks all that the engine tells: the order of effects, that what we send are
PDUs the peer can read, that a command which is refused changes nothing, that each
effect has a line for the log, and that the association can be ended from where it is.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final, assert_never

from wording import check_fault, check_line

from isocenter.engine import pdu
from isocenter.engine.association import Association
from isocenter.engine.commands import (
    Abort,
    AcceptAssociation,
    AcceptRelease,
    Command,
    RejectAssociation,
    RequestAssociation,
    RequestRelease,
    SendDataSet,
    SendMessage,
)
from isocenter.engine.dimse.message_codec import (
    CCancelRequest,
    CEchoRequest,
    CFindRequest,
    CGetRequest,
    CMoveRequest,
    CStoreRequest,
    NActionRequest,
    NEventReportRequest,
    Request,
    UnrecognizedMessageResponse,
    is_request,
    response_to,
)
from isocenter.engine.dimse.status import Status
from isocenter.engine.effects import (
    CloseTransport,
    Effect,
    OpenTransport,
    PeerFault,
    SendBytes,
    StartArtim,
    StopArtim,
)
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.events import (
    AssociationRequested,
    DataSetReceived,
    MessageReceived,
    ReleaseRequested,
    end_reason,
)
from isocenter.engine.framing import ControlPdu, DataHeader, Fragment, Framer
from isocenter.engine.items import (
    AsynchronousOperationsWindow,
    ExtendedNegotiation,
    ProposedContext,
    RoleSelection,
    UserIdentity,
    UserInformation,
)
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import ANY, Acceptor, Offer, Role, negotiate
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest
from isocenter.engine.pdv import MessageAssembler
from isocenter.engine.states import Sta
from isocenter.engine.uid import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
COMMITMENT: Final = "1.2.840.10008.1.20.1"
_COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
ECHO_CONTEXT, STORE_CONTEXT, FIND_CONTEXT, COMMITMENT_CONTEXT, NO_CONTEXT = 1, 3, 5, 7, 9
REQUEST: Final = AssociateRequest(
    called_ae_title="ISOCENTER",
    calling_ae_title="FUZZ",
    presentation_contexts=(
        ProposedContext(ECHO_CONTEXT, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)),
        ProposedContext(STORE_CONTEXT, CT, (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)),
        ProposedContext(FIND_CONTEXT, FIND, (IMPLICIT_VR_LITTLE_ENDIAN,)),
        ProposedContext(COMMITMENT_CONTEXT, COMMITMENT, (IMPLICIT_VR_LITTLE_ENDIAN,)),
        ProposedContext(NO_CONTEXT, "1.2.3.4", (IMPLICIT_VR_LITTLE_ENDIAN,)),
    ),
    user_information=UserInformation(
        max_pdu_length=16_384,
        implementation_class_uid="1.2.3",
        implementation_version_name="FUZZ",
        asynchronous_operations_window=AsynchronousOperationsWindow(3, 2),
        role_selections=(RoleSelection(CT, scu_role=True, scp_role=True),),
        extended_negotiations=(ExtendedNegotiation(FIND, b"\1\1"),),
        user_identity=UserIdentity(2, True, b"name", b"word"),
    ),
)
ACCEPTOR: Final = Acceptor(
    offer=lambda uid: (
        None
        if uid == "1.2.3.4"
        else Offer(
            transfer_syntaxes=(IMPLICIT_VR_LITTLE_ENDIAN, ANY),
            scp_role=True,
            extended=lambda asked: asked,
        )
    ),
    max_pdu_length=DEFAULT_LIMITS.max_pdu_length,
    max_operations_invoked=2,
    max_operations_performed=3,
)
_LIMITS: Final = (
    DEFAULT_LIMITS,
    Limits(associate_pdu=700, command_set=160, empty_fragments=3, max_pdu_length=0),
)
#: Of a peer that takes whatever we send.
_NO_LIMITS: Final = Limits(max_pdu_length=0)
_REJECT: Final = AssociateReject(1, 1, 7)
#: Script bytes from here on are a `Step`; below, the length of a chunk.
FIRST_STEP: Final = 0xC0
#: Chunk lengths above it are counted in such units.
_SHORT_CHUNKS: Final = 128
_UNIT: Final = 32
_MOST_REQUESTS: Final = 64


def accept() -> AssociateAccept:
    """What `ACCEPTOR` answers to `REQUEST`."""
    answer = negotiate(REQUEST, ACCEPTOR)
    assert isinstance(answer, AssociateAccept)
    return answer


_ASSOCIATE_RQ: Final = pdu.encode_associate_request(REQUEST)
_ASSOCIATE_AC: Final = pdu.encode_associate_accept(accept())


class Step(IntEnum):
    """What a user does, or the clock, or the network."""

    ACCEPT = 0
    REJECT = auto()
    ANSWER = auto()
    ANSWER_PENDING = auto()
    ANSWER_FAILED = auto()
    ANSWER_CANCELLED = auto()
    SEND_PART = auto()
    SEND_END = auto()
    SEND_LONG_END = auto()
    ECHO = auto()
    ECHO_ON_NO_CONTEXT = auto()
    ECHO_WITH_A_USED_ID = auto()
    STREAM = auto()
    STORE = auto()
    FIND = auto()
    GET = auto()
    MOVE = auto()
    CANCEL = auto()
    CANCEL_WITH_DATA = auto()
    ACTION = auto()
    REPORT = auto()
    ASK_RELEASE = auto()
    GRANT_RELEASE = auto()
    ABORT = auto()
    ARTIM = auto()
    LOSE = auto()
    OPEN = auto()
    ASSOCIATE = auto()
    OBLIGE = auto()


class User:
    """A service-user, its engine and its transport, as a script moves them."""

    def __init__(self, role: Role, limits: Limits) -> None:
        self.end = Association(role, limits)
        self._is_connected = False
        self._is_over = False
        self._artim = False
        self._receiving_on: int | None = None
        self._association: AssociateRequest | None = None
        self._asked: list[tuple[int, Request]] = []
        self._wants_release = False
        #: What the peer understands less than we do, as it made the command up.
        self._is_answering_the_unknown = False
        self._peer = Framer(_NO_LIMITS)
        self._peer_messages = MessageAssembler(_NO_LIMITS)

    def begin(self) -> None:
        if self.end.role is Role.REQUESTOR:
            self.do(RequestAssociation(REQUEST))
        self.open()

    def open(self) -> None:
        try:
            effects = self.end.transport_opened()
        except LocalProtocolError as fault:
            check_fault(fault)
            return
        self._is_connected = True
        self.told(effects)

    def receive(self, chunk: bytes) -> None:
        self.told(self.end.receive_data(chunk))

    def lose(self) -> None:
        self.told(self.end.transport_closed())
        if self._is_connected:
            self._is_connected, self._is_over, self._artim = False, True, False
            assert self.end.state is Sta.STA1

    def expire(self) -> None:
        self._artim = False
        self.told(self.end.timer_expired())

    def do(self, command: Command) -> None:
        check_line(command)
        before = self._picture()
        self._is_answering_the_unknown = isinstance(command, SendMessage) and isinstance(
            command.message, UnrecognizedMessageResponse
        )
        try:
            effects = self.end.send(command)
        except LocalProtocolError as fault:
            check_fault(fault)
            self._check_unchanged(before)
            return
        assert not self._is_over or not effects
        self.told(effects)

    def _check_unchanged(self, before: object) -> None:
        assert self._picture() == before

    def _picture(self) -> object:
        end = self.end
        operations = end.operations
        return (
            end.state,
            end.is_sending_data_set,
            end.negotiated,
            dict(operations.invoked),
            dict(operations.performed),
            operations.window,
        )

    # What the engine tells.

    def told(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            assert not self._is_over, f"{type(effect).__name__} after the end"
            check_line(effect)
            match effect:
                case SendBytes(buffers):
                    assert self._is_connected
                    self._check_sent(b"".join(buffers))
                case CloseTransport():
                    assert not self._artim
                    self._is_connected, self._is_over = False, True
                case StartArtim():
                    self._artim = True
                case StopArtim():
                    self._artim = False
                case OpenTransport():
                    assert not self._is_connected
                case PeerFault():
                    assert self._artim
                case _:
                    self._hear(effect)
        sta = self.end.state
        assert self._is_over or self._artim == (sta in {Sta.STA2, Sta.STA13})

    def _hear(self, event: Effect) -> None:
        end_reason(event)  # type: ignore[arg-type]
        match event:
            case AssociationRequested(request):
                self._association = request
            case MessageReceived(context_id, message, has_data_set):
                assert self._receiving_on is None
                self._receiving_on = context_id if has_data_set else None
                if is_request(message) and len(self._asked) < _MOST_REQUESTS:
                    self._asked.append((context_id, message))
            case DataSetReceived(context_id, data, is_last):
                assert self._receiving_on == context_id
                assert is_last or len(data)
                if is_last:
                    self._receiving_on = None
            case ReleaseRequested():
                self._wants_release = True

    def _check_sent(self, data: bytes) -> None:
        """What we send are whole PDUs, none longer than the peer takes, with whole messages."""
        negotiated = self.end.negotiated
        most = negotiated.peer_max_pdu_length if negotiated else 0
        for cut in self._peer.feed(data):
            match cut:
                case ControlPdu(pdu_type, body):
                    pdu.decode_pdu(pdu_type, body, DEFAULT_LIMITS)
                case DataHeader(length):
                    assert not most or length <= most
                case Fragment() if not self._is_answering_the_unknown:
                    self._peer_messages.receive(cut)
        assert self._peer.is_between_pdus

    # What the user does.

    def step(self, step: Step) -> None:  # noqa: C901 (a flat list)
        match step:
            case Step.ACCEPT:
                self._accept()
            case Step.REJECT:
                self.do(RejectAssociation(_REJECT))
            case Step.ANSWER:
                self._respond(Status.SUCCESS)
            case Step.ANSWER_PENDING:
                self._respond(Status.PENDING, b"\x10\0\x20\0\2\0\0\0x ")
            case Step.ANSWER_FAILED:
                self._respond(Status.OUT_OF_RESOURCES)
            case Step.ANSWER_CANCELLED:
                self._respond(Status.CANCEL)
            case Step.SEND_PART:
                self._send_data(b"part", is_last=False)
            case Step.SEND_END:
                self._send_data(b"end ", is_last=True)
            case Step.SEND_LONG_END:
                self._send_data(bytes(40_000), is_last=True)
            case Step.ECHO:
                self._request(ECHO_CONTEXT, self._echo())
            case Step.ECHO_ON_NO_CONTEXT:
                self._request(NO_CONTEXT, self._echo())
            case Step.ECHO_WITH_A_USED_ID:
                echo = CEchoRequest(message_id=1, affected_sop_class_uid=VERIFICATION)
                self._request(ECHO_CONTEXT, echo)
            case Step.STREAM:
                self._request(STORE_CONTEXT, self._store(), streamed=True)
            case Step.STORE:
                self._request(STORE_CONTEXT, self._store(), b"data")
            case Step.FIND:
                find = CFindRequest(message_id=self._next_id(), affected_sop_class_uid=FIND)
                self._request(FIND_CONTEXT, find, b"id")
            case Step.GET:
                get = CGetRequest(message_id=self._next_id(), affected_sop_class_uid=FIND)
                self._request(FIND_CONTEXT, get, b"id")
            case Step.MOVE:
                move = CMoveRequest(
                    message_id=self._next_id(), affected_sop_class_uid=FIND, move_destination="AE"
                )
                self._request(FIND_CONTEXT, move, b"id")
            case Step.CANCEL:
                self._cancel()
            case Step.CANCEL_WITH_DATA:
                cancel = CCancelRequest(message_id_being_responded_to=1)
                self.do(SendMessage(FIND_CONTEXT, cancel, data_set=b"id"))
            case Step.ACTION:
                action = NActionRequest(
                    message_id=self._next_id(),
                    requested_sop_class_uid=COMMITMENT,
                    requested_sop_instance_uid=_COMMITMENT_INSTANCE,
                    action_type_id=1,
                )
                self._request(COMMITMENT_CONTEXT, action, b"info")
            case Step.REPORT:
                report = NEventReportRequest(
                    message_id=self._next_id(),
                    affected_sop_class_uid=COMMITMENT,
                    affected_sop_instance_uid=_COMMITMENT_INSTANCE,
                    event_type_id=1,
                )
                self._request(COMMITMENT_CONTEXT, report)
            case Step.ASK_RELEASE:
                self.do(RequestRelease())
            case Step.GRANT_RELEASE:
                self.do(AcceptRelease())
            case Step.ABORT:
                self.do(Abort())
            case Step.ARTIM:
                if self._artim:
                    self.expire()
            case Step.LOSE:
                self.lose()
            case Step.OPEN:
                self.open()
            case Step.ASSOCIATE:
                self.do(RequestAssociation(REQUEST))
            case Step.OBLIGE:
                self.oblige()
            case _:
                assert_never(step)

    def oblige(self) -> None:
        """Answer whatever waits for an answer."""
        if self.end.state is Sta.STA3:
            self._accept()
        while self._asked:
            waiting = len(self._asked)
            self._respond(Status.SUCCESS)
            assert len(self._asked) < waiting
        if self._wants_release:
            self._wants_release = False
            self.do(AcceptRelease())

    def _accept(self) -> None:
        request = self._association or REQUEST
        answer = negotiate(request, ACCEPTOR)
        if isinstance(answer, AssociateAccept):
            self.do(AcceptAssociation(answer))
        else:
            self.do(RejectAssociation(answer))

    def _respond(self, status: int, data_set: bytes | None = None) -> None:
        if not self._asked:
            return
        context_id, request = self._asked[0]
        if status != Status.PENDING:
            del self._asked[0]
        response = response_to(request, status, error_comment="no", offending_elements=(0x20,))
        self.do(SendMessage(context_id, response, data_set=data_set))

    def _send_data(self, data: bytes, is_last: bool) -> None:
        for context_id in (STORE_CONTEXT, FIND_CONTEXT):
            self.do(SendDataSet(context_id, data, is_last))

    def _request(
        self, context_id: int, request: Request, data: bytes | None = None, streamed: bool = False
    ) -> None:
        self.do(SendMessage(context_id, request, data_set=data, has_data_set=streamed))

    def _cancel(self) -> None:
        invoked = self.end.operations.invoked
        message_id = next(reversed(invoked), 1)
        self.do(SendMessage(FIND_CONTEXT, CCancelRequest(message_id_being_responded_to=message_id)))

    def _next_id(self) -> int:
        return self.end.operations.next_message_id()

    def _echo(self) -> CEchoRequest:
        return CEchoRequest(message_id=self._next_id(), affected_sop_class_uid=VERIFICATION)

    def _store(self) -> CStoreRequest:
        return CStoreRequest(
            message_id=self._next_id(), affected_sop_class_uid=CT, affected_sop_instance_uid="1.2"
        )


def chunk_length(code: int) -> int:
    """How many bytes a script byte below `FIRST_STEP` delivers: 1 to 128, or up to 2,080."""
    return code + 1 if code < _SHORT_CHUNKS else (code - _SHORT_CHUNKS + 2) * _UNIT


def chunk_code(length: int) -> int:
    """The script byte for the longest chunk of at most *length* bytes."""
    return max(code for code in range(FIRST_STEP) if chunk_length(code) <= length)


def play(role: Role, data: bytes) -> None:
    """Run one association.

    *data*: a byte (bit 0: it begins established, bit 1: small limits, bit 2: how it ends,
    bit 3: the user answers by itself after the script), the length of the script, the
    script, and what the peer sends.
    """
    if len(data) < 2:
        return
    how, script, stream = data[0], data[2 : 2 + data[1]], data[2 + data[1] :]
    user = User(role, _LIMITS[how >> 1 & 1])
    user.begin()
    if how & 1:
        user.receive(_ASSOCIATE_AC if role is Role.REQUESTOR else _ASSOCIATE_RQ)
        user.oblige()
    position = 0
    for code in script:
        if code >= FIRST_STEP:
            user.step(Step((code - FIRST_STEP) % len(Step)))
            continue
        length = chunk_length(code)
        user.receive(stream[position : position + length])
        position += length
    user.receive(stream[position:])
    if how & 8:
        user.oblige()
    _end(user, by_transport=bool(how & 4))


def _end(user: User, by_transport: bool) -> None:
    """Every association can be ended: by the transport, or by an A-ABORT and ARTIM."""
    end = user.end
    if by_transport:
        user.lose()
    else:
        if end.state not in {Sta.STA1, Sta.STA2, Sta.STA13}:
            user.do(Abort())
        if end.state is not Sta.STA1:
            assert end.state in {Sta.STA2, Sta.STA13}
            user.expire()
    assert end.state is Sta.STA1
    assert end.receive_data(b"\1\0\0\0\0\4") == ()
    assert end.timer_expired() == ()
