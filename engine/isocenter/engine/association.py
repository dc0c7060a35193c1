"""One association, sans-IO: bytes and commands in, effects out.

`Association` is the small mutable shell around the pure parts: the framer
(`framing`), the upper layer (`upper_layer`, PS3.8 Table 9-10), negotiation and
the assembly of DIMSE messages (`dimse.fragments`).  It decides nothing that is
not in one of them.

The contract:

* every call returns an ordered tuple of effects;
* the peer cannot make a call raise: what it does wrong becomes an A-ABORT to
  send, a `ProviderAborted` event and a timer to start;
* `send` raises `LocalProtocolError` for what we may not do now, and then nothing
  has changed;
* how the bytes were cut into chunks changes nothing but where views of data
  sets are cut.

Memory held: one header, one control PDU (`Limits.associate_pdu`), one command
set (`Limits.command_set`).
"""

from __future__ import annotations

from typing import Final, assert_never

from isocenter.engine import commands, pdu
from isocenter.engine.buffers import Buffer
from isocenter.engine.commands import Command, SendDataSet, SendMessage
from isocenter.engine.dimse.message_codec import CCancelRequest, Message, encode_message
from isocenter.engine.dimse.operations import Operations
from isocenter.engine.effects import CloseTransport, Effect, SendBytes
from isocenter.engine.errors import (
    INVALID_PDU_PARAMETER_VALUE,
    UNEXPECTED_PDU,
    LocalProtocolError,
    RemoteProtocolError,
)
from isocenter.engine.events import (
    AssociationAccepted,
    AssociationRequested,
    DataSetReceived,
    MessageReceived,
)
from isocenter.engine.framing import ControlPdu, DataHeader, Fragment, Framer
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import Negotiated, Role, negotiated_from, provider_rejection
from isocenter.engine.pdv import PDV_OVERHEAD, MessageAssembler, encode_fragments
from isocenter.engine.states import STATES, Evt, Sta
from isocenter.engine.upper_layer import (
    NEEDS_CAUSE,
    NO_INPUT,
    PASSES_DATA,
    TABLE_9_10,
    StepInput,
    UpperLayerState,
    step,
)

#: The longest P-DATA-TF body that we send to a peer that set no limit: beyond it headers
#: are below 0.005 % and a peer only has to buffer more.
_UNLIMITED_SEND_LENGTH: Final = 131_072
#: A maximum length that leaves less than this for a fragment cannot carry DIMSE sensibly:
#: one megabyte would become 100,000 PDUs.
_SHORTEST_MAX_LENGTH: Final = PDV_OVERHEAD + 10

#: Pieces of a data set that are shorter leave joined, as one by one they would take some
#: forty times their length in memory.
_SHORT_PIECE: Final = 256

#: What is asked for with each message: to look up a member of an `Enum` costs as much as a call.
_STA2: Final = Sta.STA2
_STA6: Final = Sta.STA6
_STA7: Final = Sta.STA7
_STA13: Final = Sta.STA13
_EVT9: Final = Evt.EVT9
#: Before the transport connection opens, and after it has closed.
_WITHOUT_CONNECTION: Final = frozenset({Sta.STA1, Sta.STA4})

_RECEIVED: Final = {
    pdu.AssociateAccept: Evt.EVT3,
    pdu.AssociateReject: Evt.EVT4,
    pdu.AssociateRequest: Evt.EVT6,
    pdu.ReleaseRequest: Evt.EVT12,
    pdu.ReleaseResponse: Evt.EVT13,
    pdu.Abort: Evt.EVT16,
}


class Association:
    """One end of an association, as requestor or acceptor; good for one connection.

    Attributes:
        negotiated: what both sides agreed on, from Sta6 on; None before.
        operations: what is under way, and the next Message ID to use.
        fragments: how many pieces of PDVs have come; a peer that sends crumbs can be told by it.
    """

    def __init__(self, role: Role, limits: Limits = DEFAULT_LIMITS) -> None:
        self.negotiated: Negotiated | None = None
        self.operations = Operations()
        self.fragments = 0
        self._state = UpperLayerState(Sta.STA1, role)
        self._limits = limits
        self._framer = Framer(limits)
        self._assembler = MessageAssembler(limits)
        self._request: pdu.AssociateRequest | None = None
        self._encoded_request = b""
        self._send_length = 0
        self._sending_data_set_on: int | None = None
        #: The command set sent last with a data set, and what it is encoded: each match of a
        #: C-FIND comes with the same one.
        self._last_sent: tuple[int, Message, list[Buffer]] | None = None
        self._ignores_data_set = False
        self._closed = False

    @property
    def role(self) -> Role:
        return self._state.role

    @property
    def state(self) -> Sta:
        """The state of PS3.8 Table 9-10."""
        return self._state.sta

    @property
    def is_over(self) -> bool:
        """Whether the association has ended, in whatever way, and nothing can be sent any more.

        Once true it stays true.  It holds in Sta13, where the connection is still to be closed,
        and when the connection has been closed or was lost; not while one side of a release,
        or of a collision of two, still owes its answer.
        """
        return self._closed or self._state.sta is _STA13

    @property
    def is_receiving_data_set(self) -> bool:
        """Whether a message of the peer that was begun still lacks the end of its data set."""
        return self._assembler.is_in_data_set

    @property
    def is_sending_data_set(self) -> bool:
        """Whether a message that was begun still lacks the end of its data set."""
        return self._sending_data_set_on is not None

    # What the transport tells.

    def transport_opened(self) -> tuple[Effect, ...]:
        """The connection stands: confirmation (Evt2) or indication (Evt5).

        Raises:
            LocalProtocolError: it stood already, was not asked for, or is the second one.
        """
        self._refuse_if_closed()
        evt = Evt.EVT5 if self._state.role is Role.ACCEPTOR else Evt.EVT2
        return self._step(evt, StepInput(encoded=self._encoded_request))

    def receive_data(self, chunk: Buffer) -> tuple[Effect, ...]:
        """Bytes came, at least one; never raises for anything in them.

        Without a connection (Sta1, Sta4) there are none, and nothing happens.

        Raises:
            LocalProtocolError: *chunk* is no buffer that can be cut; nothing changed.
        """
        effects: list[Effect] = []
        if self._closed or self._state.sta in _WITHOUT_CONNECTION:
            return ()
        try:
            for cut in self._framer.feed(chunk):
                try:
                    if type(cut) is Fragment:
                        self._receive_fragment(cut, effects)
                    elif type(cut) is DataHeader:
                        if self._state.sta is not _STA6:
                            self._receive_data_header(effects)
                    else:
                        assert isinstance(cut, ControlPdu)
                        self._receive_control(cut, effects)
                except RemoteProtocolError as fault:
                    self._receive_fault(fault, effects)
                if self._framer.is_discarding:
                    break
        except RemoteProtocolError as fault:  # the framer's: nobody can read on
            self._receive_fault(fault, effects)
        return tuple(effects)

    def transport_closed(self) -> tuple[Effect, ...]:
        """The peer closed the connection, or it broke (Evt17).  Nothing comes after it."""
        if self._closed or self._state.sta is Sta.STA1:
            return ()
        effects = self._step(Evt.EVT17)
        self._close()
        return effects

    def timer_expired(self) -> tuple[Effect, ...]:
        """ARTIM ran out (Evt18); nothing happens if it had been stopped."""
        if (Evt.EVT18, self._state.sta) not in TABLE_9_10:
            return ()
        return self._step(Evt.EVT18)

    # What the service-user asks for.

    def allows(self, command: Command) -> bool:
        """Whether `send` would carry *command* out now; nothing changes."""
        return self.refusal(command) is None

    def refusal(self, command: Command) -> LocalProtocolError | None:
        """What `send` would raise for *command* now; None: nothing.  Nothing changes.

        The peer may have ended the association, or asked for its release, in the same chunk
        as what is being answered: whoever answers an event asks first.
        """
        try:
            match command:
                case SendMessage():
                    self._message(command)
                    self.operations.check(command.context_id, command.message)
                case SendDataSet():
                    self._part(command)
                case _:
                    self._primitive(command)
        except LocalProtocolError as error:
            return error
        return None

    def send(self, command: Command) -> tuple[Effect, ...]:
        """Carry out a request or response primitive.

        Raises:
            LocalProtocolError: not allowed in this state (PS3.8 Table 9-10), on this
                presentation context, or in the middle of a data set; nothing changed.
        """
        if isinstance(command, SendMessage):  # nearly all of them are, or the next
            command_set, data_set = self._message(command)
            self.operations.send(command.context_id, command.message)
            if data_set:
                self._last_sent = (command.context_id, command.message, command_set)
            elif command.has_data_set:
                self._sending_data_set_on = command.context_id
            return (SendBytes((*command_set, *data_set)),)
        if isinstance(command, SendDataSet):
            buffers = self._part(command)
            if command.is_last:
                self._sending_data_set_on = None
            return (SendBytes(tuple(buffers)),) if buffers else ()
        match command:
            case commands.RequestAssociation():
                stepped, given, _ = self._primitive(command)
                self._request, self._encoded_request = command.request, given.encoded
                self._announce(command.request.user_information.max_pdu_length)
            case commands.AcceptAssociation():
                stepped, _, negotiated = self._primitive(command)
                assert negotiated is not None
                self._announce(command.accept.user_information.max_pdu_length)
                self._keep_to(negotiated)
            case _:
                stepped, _, _ = self._primitive(command)
        return self._take(*stepped)

    # Inside.

    def _step(self, evt: Evt, given: StepInput = NO_INPUT) -> tuple[Effect, ...]:
        return self._take(*step(self._state, evt, given))

    def _take(self, state: UpperLayerState, effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
        self._state = state
        if self._state.sta is _STA13:
            self._framer.skip_data()
        if effects and type(effects[-1]) is CloseTransport:  # nothing can follow it
            self._close()
        return effects

    def _close(self) -> None:
        self._closed = True
        self._framer.discard()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise LocalProtocolError("this association has ended; each needs its own object")

    def _announce(self, max_pdu_length: int) -> None:
        self._framer.max_pdu_length = max_pdu_length or self._limits.unlimited_pdu_length

    def _keep_to(self, negotiated: Negotiated) -> None:
        self.negotiated = negotiated
        self._request = None  # a megabyte of proposals is not held for the whole association
        self.operations.window = negotiated.operations_invoked
        self._send_length = negotiated.peer_max_pdu_length or _UNLIMITED_SEND_LENGTH

    def _receive_fault(self, fault: RemoteProtocolError, effects: list[Effect]) -> None:
        # A first fault within a PDU leaves the stream readable, so that an A-ABORT is still
        # understood in Sta13; after a second one nobody listens any more.
        if self._state.sta is _STA13:
            self._framer.discard()
        # Its frames would keep this association and the chunk alive as long as the event.
        fault.__traceback__ = fault.__context__ = None
        effects += self._step(Evt.EVT19, StepInput(cause=fault))

    def _receive_data_header(self, effects: list[Effect]) -> None:
        action = TABLE_9_10[Evt.EVT10, self._state.sta]
        if action not in PASSES_DATA:
            effects += self._step(Evt.EVT10, self._unexpected("P-DATA-TF"))

    def _receive_fragment(self, fragment: Fragment, effects: list[Effect]) -> None:
        sta = self._state.sta
        if sta is not _STA6 and sta is not _STA7:
            return  # of a P-DATA-TF that was answered, or is ignored, since its header
        self.fragments += 1
        negotiated = self.negotiated
        assert negotiated is not None
        if fragment.context_id not in negotiated.contexts:
            raise RemoteProtocolError(
                f"P-DATA-TF on presentation context {fragment.context_id}, which was not accepted "
                "(PS3.8 9.3.5.1)",
                INVALID_PDU_PARAMETER_VALUE,
            )
        event = self._assembler.receive(fragment)
        if event is None:
            return
        if isinstance(event, DataSetReceived):
            if self._ignores_data_set:
                self._ignores_data_set = not event.is_last
                return
            last = effects[-1] if len(event.data) < _SHORT_PIECE and effects else None
            if type(last) is DataSetReceived and len(last.data) < _SHORT_PIECE:
                joined = memoryview(bytes(last.data) + event.data)
                effects[-1] = DataSetReceived(event.context_id, joined, event.is_last)
                return
        else:
            message = self.operations.receive(event.context_id, event.message)
            if message is None:
                self._ignores_data_set = isinstance(event, MessageReceived) and event.has_data_set
                return
            if message is not event.message:
                assert isinstance(event, MessageReceived)
                event = MessageReceived(event.context_id, message, event.has_data_set)
        effects.append(event)

    def _receive_control(self, cut: ControlPdu, effects: list[Effect]) -> None:
        received = pdu.decode_pdu(cut.pdu_type, cut.body, self._limits)
        evt = _RECEIVED[type(received)]
        sta = self._state.sta
        given = self._unexpected(cut.pdu_type) if TABLE_9_10[evt, sta] in NEEDS_CAUSE else NO_INPUT
        if isinstance(received, pdu.AssociateRequest) and self._state.sta is _STA2:
            self._check_max_length(received.user_information.max_pdu_length)
            self._request = received
            given = StepInput(
                indication=AssociationRequested(received), reject=provider_rejection(received)
            )
        elif isinstance(received, pdu.AssociateAccept) and self._state.sta is Sta.STA5:
            assert self._request is not None
            self._check_max_length(received.user_information.max_pdu_length)
            negotiated = negotiated_from(self._request, received, Role.REQUESTOR)
            self._keep_to(negotiated)
            given = StepInput(indication=AssociationAccepted(received, negotiated))
        elif isinstance(received, pdu.AssociateReject | pdu.Abort):
            given = StepInput(received=received, cause=given.cause)
        effects += self._step(evt, given)

    def _unexpected(self, name: object) -> StepInput:
        sta = self._state.sta
        return StepInput(
            cause=RemoteProtocolError(
                f"{name} in {sta} ({STATES[sta]}; PS3.8 Table 9-10)", UNEXPECTED_PDU
            )
        )

    def _check_max_length(self, max_pdu_length: int) -> None:
        if 0 < max_pdu_length < _SHORTEST_MAX_LENGTH:
            raise RemoteProtocolError(
                f"maximum length received of {max_pdu_length} bytes cannot carry a fragment "
                "(PS3.8 D.1)",
                INVALID_PDU_PARAMETER_VALUE,
            )

    def _primitive(
        self,
        command: commands.RequestAssociation
        | commands.AcceptAssociation
        | commands.RejectAssociation
        | commands.RequestRelease
        | commands.AcceptRelease
        | commands.Abort,
    ) -> tuple[tuple[UpperLayerState, tuple[Effect, ...]], StepInput, Negotiated | None]:
        """What a primitive other than P-DATA leads to, and what it is given."""
        given: StepInput = NO_INPUT
        negotiated: Negotiated | None = None
        match command:
            case commands.RequestAssociation():
                self._refuse_if_closed()
                if self._state.role is Role.ACCEPTOR:
                    raise LocalProtocolError("an association acceptor requests no association")
                evt = Evt.EVT1
                given = StepInput(encoded=pdu.encode_associate_request(command.request))
            case commands.AcceptAssociation():
                evt = Evt.EVT7
                if self._state.sta is Sta.STA3:
                    assert self._request is not None
                    given = StepInput(encoded=pdu.encode_associate_accept(command.accept))
                    negotiated = negotiated_from(self._request, command.accept, Role.ACCEPTOR)
            case commands.RejectAssociation(reject):
                evt, given = Evt.EVT8, StepInput(reject=reject)
            case commands.RequestRelease():
                self._refuse_within_data_set("A-RELEASE request")
                evt = Evt.EVT11
            case commands.AcceptRelease():
                self._refuse_within_data_set("A-RELEASE response")
                evt = Evt.EVT14
            case commands.Abort():
                evt = Evt.EVT15
            case _:
                assert_never(command)
        return step(self._state, evt, given), given, negotiated

    def _check_data_allowed(self, context_id: int) -> None:
        if (_EVT9, self._state.sta) not in TABLE_9_10:
            self._step(Evt.EVT9)  # raises with the reason
        assert self.negotiated is not None
        if context_id not in self.negotiated.contexts:
            raise LocalProtocolError(f"presentation context {context_id} was not accepted")

    def _refuse_within_data_set(self, what: str) -> None:
        if self._sending_data_set_on is not None:
            raise LocalProtocolError(f"{what} before the end of a data set (PS3.7 6.3.1)")

    def _message(self, command: SendMessage) -> tuple[list[Buffer], list[Buffer]]:
        """The command set, and the data set that comes with it, as P-DATA-TFs."""
        context_id = command.context_id
        self._check_data_allowed(context_id)
        self._refuse_within_data_set("another message")
        data = command.data_set
        has_data_set = command.has_data_set or data is not None
        if has_data_set and isinstance(command.message, CCancelRequest):
            raise LocalProtocolError("a C-CANCEL-RQ has no data set (PS3.7 9.3.2.3)")
        last = self._last_sent
        if last is not None and last[1] is command.message and last[0] == context_id and data:
            command_set = last[2]
        else:
            command_set = encode_fragments(
                context_id,
                encode_message(command.message, has_data_set),
                is_command=True,
                is_last=True,
                max_length=self._send_length,
            )
        if data is None:
            return command_set, []
        return command_set, encode_fragments(
            context_id, data, is_command=False, is_last=True, max_length=self._send_length
        )

    def _part(self, command: SendDataSet) -> list[Buffer]:
        """The next part of a data set as P-DATA-TFs."""
        context_id = command.context_id
        self._check_data_allowed(context_id)
        if self._sending_data_set_on != context_id:
            raise LocalProtocolError("no message on this presentation context awaits a data set")
        return encode_fragments(
            context_id,
            command.data,
            is_command=False,
            is_last=command.is_last,
            max_length=self._send_length,
        )
