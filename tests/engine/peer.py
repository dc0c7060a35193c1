"""A service-user and its engine, and all that the user can know, built from commands and effects.

A second, independent account of what `Association` does: when a command is allowed, in which
order effects may come, which operations are under way.  `test_two_peers` compares.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from engine.inside import bytes_held
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
    CEchoResponse,
    CFindRequest,
    CFindResponse,
    CStoreRequest,
    CStoreResponse,
    Message,
    is_request,
)
from isocenter.engine.effects import (
    CloseTransport,
    Effect,
    OpenTransport,
    PeerFault,
    SendBytes,
    StartArtim,
    StopArtim,
)
from isocenter.engine.events import (
    AssociationAborted,
    AssociationAccepted,
    AssociationRejected,
    AssociationReleased,
    AssociationRequested,
    CancelReceived,
    DataSetReceived,
    MessageReceived,
    ProviderAborted,
    ReleaseRequested,
)
from isocenter.engine.limits import Limits
from isocenter.engine.negotiation import Role
from isocenter.engine.pdu import AssociateRequest
from isocenter.engine.states import Sta

PENDING: Final = 0xFF00

#: Which response belongs to which request (PS3.7 9.1).
RESPONSE_OF: Final[dict[type[Message], type[Message]]] = {
    CEchoRequest: CEchoResponse,
    CStoreRequest: CStoreResponse,
    CFindRequest: CFindResponse,
}

#: An association in Sta6 without anything on its way, and what it was negotiated from.
HELD_AT_REST: Final = 16_384
#: One operation between request and final response, whatever came with the request.
HELD_FOR_AN_OPERATION: Final = 512
#: A growing `bytearray` takes an eighth more than it has, and is copied into `bytes` once.
GATHERING: Final = 2.2


def most_held(limits: Limits, operations: int) -> float:
    """The bound that ``isocenter.engine.association`` states, in bytes of Python objects."""
    return (
        HELD_AT_REST
        + GATHERING * (limits.associate_pdu + limits.command_set)
        + operations * HELD_FOR_AN_OPERATION
    )


@dataclass
class Said:
    """A data set as far as it was sent or received."""

    context_id: int
    data: bytearray
    is_whole: bool


@dataclass
class Peer:
    """A user and its engine, and what the user can know: built from commands and effects alone."""

    end: Association
    #: Bytes on their way to this side.
    incoming: bytearray = field(default_factory=bytearray)
    is_connected: bool = False
    #: The other side has closed: after what is on its way comes the end.
    is_ending: bool = False
    has_opening: bool = False
    is_over: bool = False
    artim: bool = False
    sending_on: int | None = None
    receiving_on: int | None = None
    invoked: dict[int, tuple[int, Message]] = field(default_factory=dict)
    performed: dict[int, tuple[int, Message]] = field(default_factory=dict)
    #: What was said to the other side, and what this side was told of it.
    said: list[object] = field(default_factory=list)
    told: list[object] = field(default_factory=list)
    #: How the association ended, by word of the engine and by our own.
    ends: list[Effect] = field(default_factory=list)
    has_ended_it: bool = False
    has_begun: bool = False
    request: AssociateRequest | None = None
    faults: list[Effect] = field(default_factory=list)

    @property
    def operations(self) -> int:
        return len(self.invoked) + len(self.performed)

    @property
    def listens(self) -> bool:
        """Whether the engine takes what comes, and hands it up."""
        return self.end.state not in {Sta.STA1, Sta.STA13}

    def may_send_data(self) -> bool:
        return self.end.state in {Sta.STA6, Sta.STA8} and self.sending_on is None

    def is_asked_to_release(self) -> bool:
        return self.end.state in {Sta.STA8, Sta.STA9, Sta.STA12}

    def sees_the_end(self) -> bool:
        """Whether all has come that was on its way before the other side closed."""
        return self.is_connected and self.is_ending and not self.incoming

    # What a user may ask for.

    def may(self, command: Command) -> bool:
        """Whether PS3.8 Table 9-10, PS3.7 and what was negotiated allow *command* now."""
        sta = self.end.state
        match command:
            case RequestAssociation():
                return sta is Sta.STA1 and self.end.role is Role.REQUESTOR and not self.is_over
            case AcceptAssociation() | RejectAssociation():
                return sta is Sta.STA3
            case SendMessage(context_id, message, data, has_data_set):
                return (
                    self.may_send_data()
                    and not (is_cancel((0, message)) and (has_data_set or data is not None))
                    and context_id in self._contexts()
                    and self._may_send(context_id, message)
                )
            case SendDataSet(context_id):
                return sta in {Sta.STA6, Sta.STA8} and self.sending_on == context_id
            case RequestRelease():
                return sta is Sta.STA6 and self.sending_on is None
            case AcceptRelease():
                return self.is_asked_to_release() and self.sending_on is None
            case Abort():
                return sta not in {Sta.STA1, Sta.STA2, Sta.STA13}

    def _contexts(self) -> Iterable[int]:
        assert self.end.negotiated is not None
        return self.end.negotiated.contexts

    def _may_send(self, context_id: int, message: Message) -> bool:
        if is_request(message):
            assert self.end.negotiated is not None
            window = self.end.negotiated.operations_invoked
            return message.message_id not in self.invoked and (
                not window or len(self.invoked) < window
            )
        if isinstance(message, CCancelRequest):
            held = self.invoked.get(message.message_id_being_responded_to)
            return held is not None and held[0] == context_id and isinstance(held[1], CFindRequest)
        held = self.performed.get(answered_by(message))
        return (
            held is not None
            and held[0] == context_id
            and RESPONSE_OF.get(type(held[1])) is type(message)
        )

    # What happens.

    def did(self, command: Command) -> None:
        """The engine took *command*."""
        match command:
            case SendMessage(context_id, message, data, has_data_set):
                self.said.append((context_id, message))
                if is_request(message):
                    self.invoked[message.message_id] = (context_id, message)
                elif not isinstance(message, CCancelRequest):
                    end_operation(self.performed, message)
                if data is not None or has_data_set:
                    self.said.append(Said(context_id, bytearray(data or b""), data is not None))
                    self.sending_on = None if data is not None else context_id
            case SendDataSet(_, data, is_last):
                data_set = self.said[-1]
                assert isinstance(data_set, Said)
                data_set.data += data
                data_set.is_whole = is_last
                if is_last:
                    self.sending_on = None
            case RequestAssociation(request):
                self.has_begun = True
                self.said.append(request)
            case AcceptAssociation(accept):
                self.said.append(accept)
            case RejectAssociation(reject):
                self.has_ended_it = True
                self.said.append(AssociationRejected(reject))
            case RequestRelease():
                self.said.append("A-RELEASE-RQ")
            case AcceptRelease():
                # In a collision the acceptor's response is the last word, the requestor's is not.
                self.has_ended_it = self.end.state is Sta.STA13
                self.said.append(AssociationReleased())
            case Abort():
                self.has_ended_it = True
                self.said.append(AssociationAborted(0, 0))

    def see(self, effect: Effect) -> None:
        """Check one effect against all before it."""
        assert not self.is_over, f"{effect} after the end"
        match effect:
            case OpenTransport():
                assert not self.has_opening
                self.has_opening = True
            case SendBytes(buffers):
                assert self.is_connected
                assert buffers
            case CloseTransport():
                assert self.is_connected or self.has_opening
                assert not self.artim
                self.is_connected = False
                self.is_over = True
            case StartArtim():
                assert self.is_connected
                self.artim = True
            case StopArtim():
                self.artim = False
            case PeerFault():
                assert self.artim
                self.faults.append(effect)
            case MessageReceived(context_id, message, has_data_set):
                self._see_message(context_id, message)
                self.receiving_on = context_id if has_data_set else None
                if is_request(message):
                    self.performed[message.message_id] = (context_id, message)
                else:
                    end_operation(self.invoked, message)
                if has_data_set:
                    self.told.append(Said(context_id, bytearray(), is_whole=False))
            case CancelReceived(context_id, message):
                self._see_message(context_id, message)
            case DataSetReceived(context_id, data, is_last):
                assert not self.ends
                assert context_id == self.receiving_on
                data_set = self.told[-1]
                assert isinstance(data_set, Said)
                data_set.data += data
                data_set.is_whole = is_last
                if is_last:
                    self.receiving_on = None
            case AssociationRequested(request):
                assert self.end.role is Role.ACCEPTOR
                assert not self.has_begun
                self.has_begun = True
                self.request = request
                self.told.append(request)
            case AssociationAccepted(accept, negotiated):
                assert self.end.role is Role.REQUESTOR
                assert negotiated is self.end.negotiated
                self.told.append(accept)
            case ReleaseRequested(is_collision):
                assert is_collision == ("A-RELEASE-RQ" in self.said)
                self.told.append("A-RELEASE-RQ")
            case (
                AssociationRejected() | AssociationReleased() | AssociationAborted()
                | ProviderAborted()
            ):  # fmt: skip
                self._see_end(effect)

    def _see_message(self, context_id: int, message: Message) -> None:
        assert not self.ends
        assert self.receiving_on is None, "a message within a data set"
        assert context_id in self._contexts()
        self.told.append((context_id, message))

    def _see_end(self, effect: Effect) -> None:
        assert not self.has_ended_it, f"{effect} though the user had ended it"
        if self.ends:
            # After a release collision the acceptor has its confirmation (AR-10) and still owes
            # its own response: only there an abort or a loss can follow an end (Sta12).
            assert self.ends == [AssociationReleased()]
            assert self.end.role is Role.ACCEPTOR
            assert isinstance(effect, AssociationAborted | ProviderAborted)
        self.ends.append(effect)
        match effect:
            case ProviderAborted(_, cause, transport_lost):
                assert cause is None or not transport_lost
                if cause is not None:
                    self.faults.append(effect)
                elif not transport_lost:
                    self.told.append(effect)
            case AssociationRejected(by_peer=False):
                self.faults.append(effect)
            case _:
                self.told.append(effect)

    def rests(self) -> None:
        """What holds between any two calls."""
        sta = self.end.state
        assert self.artim == (sta in {Sta.STA2, Sta.STA13}), f"ARTIM in {sta}"
        assert self.is_connected == (sta not in {Sta.STA1, Sta.STA4})
        if sta is Sta.STA1 and self.has_begun:
            assert self.ends or self.has_ended_it, "nobody was told of the end"
        assert self.end.is_sending_data_set == (self.sending_on is not None)
        held = bytes_held(self.end)
        assert held <= most_held(self.end._limits, self.operations), held


def answered_by(message: Message) -> int:
    message_id = getattr(message, "message_id_being_responded_to", 0)
    assert isinstance(message_id, int)
    return message_id


def end_operation(held: dict[int, tuple[int, Message]], response: Message) -> None:
    """Forget what *response* answers, unless more will come."""
    message_id = answered_by(response)
    if message_id not in held:
        return
    is_find = isinstance(held[message_id][1], CFindRequest)
    if not (is_find and getattr(response, "status", 0) == PENDING):
        del held[message_id]


def is_beginning(told: list[object], said: list[object], may_miss: set[int]) -> bool:
    """Whether *told* is what was *said*, up to some point within it.

    A C-CANCEL-RQ whose operation had ended (*may_miss*) is not handed up.
    """
    place = 0
    for position, what in enumerate(told):
        while (
            place < len(said)
            and said[place] != what
            and isinstance(said[place], tuple)
            and isinstance(said[place][1], CCancelRequest)  # type: ignore[index]
            and answered_by(said[place][1]) in may_miss  # type: ignore[index]
        ):
            place += 1
        if place == len(said):
            return False
        other = said[place]
        place += 1
        if isinstance(what, Said) and isinstance(other, Said) and position == len(told) - 1:
            if what.context_id != other.context_id or not other.data.startswith(what.data):
                return False
            if what.is_whole and not (other.is_whole and what.data == other.data):
                return False
        elif what != other:
            return False
    return True


def is_cancel(what: object) -> bool:
    return isinstance(what, tuple) and isinstance(what[1], CCancelRequest)
