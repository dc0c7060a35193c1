"""Two engines, two users who do anything at any time, and a wire that may do anything to the bytes.

`TwoPeers` is a stateful property test of the contract of `Association`:

* what the peer or the wire does never raises; what a user may not do raises
  `LocalProtocolError` in exactly the cases that `Peer.may` tells, and changes nothing;
* effects come in a legal order: nothing after `CloseTransport`, bytes only while there is a
  connection, ARTIM in Sta2 and Sta13 and nowhere else, a message before its data set, one
  end of the association and no more (`Peer.see`, `Peer.rests`);
* while the wire keeps the bytes as they are, each side is told what the other said, in order,
  and nobody finds a fault;
* what an association holds stays within `most_held`;
* wherever a run comes to rest, the association can be ended, by either user, by the timer and
  by the transport: both sides are in Sta1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.inside import bytes_held, clone, picture
from engine.peer import (
    PENDING,
    RESPONSE_OF,
    Peer,
    answered_by,
    is_beginning,
    is_cancel,
    most_held,
)
from engine.wire import (
    A_ABORT,
    ACCEPTOR,
    ASSOCIATE_AC,
    CT,
    ECHO_CONTEXT,
    PDUS,
    REJECT,
    REQUEST,
    STORE_CONTEXT,
    answer,
    established,
    in_chunks,
    listening,
    p_data,
    pdu_of,
    pdv,
    sent,
)
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
    encode_message,
    is_request,
)
from isocenter.engine.effects import CloseTransport, Effect, SendBytes
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.events import DataSetReceived
from isocenter.engine.items import (
    AsynchronousOperationsWindow,
    ProposedContext,
    RoleSelection,
    UserInformation,
)
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import Acceptor, Role
from isocenter.engine.pdu import AssociateRequest, encode_associate_request
from isocenter.engine.states import Sta
from isocenter.engine.uid import VERIFICATION

#: Small, so that garbage reaches them.
LIMITS: Final = Limits(associate_pdu=2_000, command_set=400, empty_fragments=3)
REQUESTOR, ACCEPTS = 0, 1
NOT_ACCEPTED: Final = 5

# What is drawn.

ENDS = st.sampled_from([REQUESTOR, ACCEPTS])
MESSAGE_IDS = st.integers(1, 3)
CONTEXTS = st.sampled_from([STORE_CONTEXT] * 3 + [ECHO_CONTEXT, NOT_ACCEPTED])
#: Pieces that are so long are never copied.
LONG: Final = 512
DATA = st.binary(max_size=50) | st.integers(LONG, 2 * LONG).map(bytes)
LENGTHS = st.sampled_from([16_384, 16, 17, 64, 0])
WINDOWS = st.sampled_from([0, 1, 2])
STATUSES = st.sampled_from([0, PENDING, 0xA700])
SIZES = st.lists(st.integers(1, 40) | st.integers(41, 1_000), min_size=1, max_size=6)


def echo(message_id: int) -> Message:
    return CEchoRequest(message_id=message_id, affected_sop_class_uid=VERIFICATION)


def store(message_id: int) -> Message:
    return CStoreRequest(
        message_id=message_id, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3"
    )


def find(message_id: int) -> Message:
    return CFindRequest(message_id=message_id, affected_sop_class_uid=CT)


def response(kind: type[Message], message_id: int, status: int) -> Message:
    return kind(message_id_being_responded_to=message_id, status=status)  # type: ignore[call-arg]


REQUESTS = (
    st.builds(find, MESSAGE_IDS) | st.builds(store, MESSAGE_IDS) | st.builds(echo, MESSAGE_IDS)
)
MESSAGES = (
    REQUESTS
    | st.builds(
        response,
        st.sampled_from([CEchoResponse, CStoreResponse, CFindResponse]),
        MESSAGE_IDS,
        STATUSES,
    )
    | st.builds(CCancelRequest, message_id_being_responded_to=MESSAGE_IDS)
)
#: Anything, mostly not allowed.
COMMANDS: st.SearchStrategy[Command] = (
    st.builds(SendMessage, CONTEXTS, MESSAGES)
    | st.builds(SendMessage, CONTEXTS, MESSAGES, DATA)
    | st.builds(SendMessage, CONTEXTS, MESSAGES, has_data_set=st.just(value=True))
    | st.builds(SendDataSet, CONTEXTS, DATA, st.booleans())
    | st.sampled_from(
        [
            RequestAssociation(REQUEST),
            AcceptAssociation(answer()),
            RejectAssociation(REJECT),
            RequestRelease(),
            AcceptRelease(),
            Abort(),
        ]
    )
)
#: What the requestor asks for and how the acceptor answers.
How = tuple[AssociateRequest, Acceptor]


@st.composite
def agreements(draw: st.DrawFn) -> How:
    window = draw(st.none() | st.tuples(WINDOWS, WINDOWS))
    info = replace(
        REQUEST.user_information,
        max_pdu_length=draw(LENGTHS),
        asynchronous_operations_window=window and AsynchronousOperationsWindow(*window),
    )
    return replace(REQUEST, user_information=info), replace(
        ACCEPTOR,
        max_pdu_length=draw(LENGTHS),
        max_operations_invoked=draw(WINDOWS),
        max_operations_performed=draw(WINDOWS),
    )


HOW = agreements()
#: The first steps of an association, done before anything else happens.
BEGINNING: Final = ("request", "connect", "deliver", "answer", "deliver")
#: Mostly all of them; then one or both sides may have asked for release.
STEPS = st.sampled_from([5] * 8 + [4, 3, 2, 1, 0])
REJECTS = st.sampled_from([False] * 9 + [True])
RELEASES = st.sampled_from([(), (), (), (), (REQUESTOR,), (ACCEPTS,), (REQUESTOR, ACCEPTS)])
GARBAGE = st.sampled_from(list(PDUS.values())) | st.binary(min_size=1, max_size=12)

#: What shows whether two ends are alike: everything that can be done to one.
PROBES: Final[dict[str, Callable[[Association], tuple[Effect, ...]]]] = {
    "abort": lambda end: end.send(Abort()),
    "release": lambda end: end.send(RequestRelease()),
    "echo": lambda end: end.send(SendMessage(ECHO_CONTEXT, echo(9))),
    "data": lambda end: end.send(SendDataSet(STORE_CONTEXT, b"data", is_last=True)),
    "opened": lambda end: end.transport_opened(),
    "closed": lambda end: end.transport_closed(),
    "ARTIM": lambda end: end.timer_expired(),
    "PDUs": lambda end: end.receive_data(b"".join(PDUS.values())),
    "A-ASSOCIATE-AC": lambda end: end.receive_data(ASSOCIATE_AC),
    "A-ABORT": lambda end: end.receive_data(A_ABORT),
}


def probe(end: Association, name: str) -> object:
    """What *end* would answer."""
    other = clone(end)
    try:
        return picture(PROBES[name](other)), other.state
    except LocalProtocolError as error:
        return str(error)


class TwoPeers(RuleBasedStateMachine):
    """See the module's docstring.

    Args:
        loses: the connection may break.
        garbles: bytes may be changed, and others put among them.
        seen: counts what happened, for the test of the test.
    """

    def __init__(self, loses: bool, garbles: bool, seen: Counter[str]) -> None:
        super().__init__()
        self.loses = loses
        self.garbles = garbles
        self.seen = seen

    def one(self, at: int, fits: Callable[[Peer], object]) -> int:
        """*at*, or the other side when only that fits."""
        return at if fits(self.peers[at]) else 1 - at

    def either(self, fits: Callable[[Peer], object]) -> bool:
        return any(map(fits, self.peers))

    # How words and bytes travel.

    def ask(self, at: int, command: Command, name: str = "abort") -> None:
        """Give *command*; what is refused changes nothing, and nothing that *name* would show."""
        peer = self.peers[at]
        if peer.may(command):
            effects = peer.end.send(command)
            peer.did(command)
            self.carry_out(at, effects)
            return
        before, answered = picture(peer.end), probe(peer.end, name)
        with pytest.raises(LocalProtocolError):
            peer.end.send(command)
        assert picture(peer.end) == before
        assert probe(peer.end, name) == answered
        self.seen["refused"] += 1

    def carry_out(self, at: int, effects: tuple[Effect, ...]) -> None:
        peer, other = self.peers[at], self.peers[1 - at]
        for effect in effects:
            peer.see(effect)
            self.seen[type(effect).__name__] += 1
            if isinstance(effect, SendBytes) and other.is_connected:
                other.incoming += sent([effect])
            elif isinstance(effect, CloseTransport):
                self.hang_up(at)

    def hang_up(self, at: int) -> None:
        """One side is gone: nothing more for it, and after what it sent the other will know."""
        self.peers[at].incoming.clear()
        self.peers[1 - at].is_ending = True

    def hand_over(self, at: int, most: int) -> None:
        peer = self.peers[at]
        chunk = bytes(peer.incoming[:most])
        if not chunk:
            return
        del peer.incoming[:most]
        effects = peer.end.receive_data(chunk)
        for effect in effects:
            if isinstance(effect, SendBytes):
                # All that an engine says by itself is A-ABORT or A-ASSOCIATE-RJ.
                assert not self.is_clean
            elif isinstance(effect, DataSetReceived) and len(effect.data) >= LONG:
                assert effect.data.obj is chunk
        self.carry_out(at, effects)

    def carry_if(self, arrives: bool) -> None:
        if arrives:
            self.carry()

    def lose_connection(self, at: int) -> None:
        peer = self.peers[at]
        effects = peer.end.transport_closed()
        assert not any(isinstance(effect, SendBytes | CloseTransport) for effect in effects)
        self.carry_out(at, effects)
        peer.is_connected = False
        peer.is_over = True
        self.hang_up(at)
        assert peer.end.state is Sta.STA1

    # Beginnings.

    @initialize(how=HOW, steps=STEPS, rejects=REJECTS, releases=RELEASES)
    def begin(self, how: How, steps: int, rejects: bool, releases: tuple[int, ...]) -> None:
        """Two new ends, and some of the first *steps* of an association done already."""
        self.peers = (
            Peer(Association(Role.REQUESTOR, LIMITS)),
            Peer(Association(Role.ACCEPTOR, LIMITS)),
        )
        self.is_clean = True
        self.request, self.how = how
        for step in BEGINNING[:steps]:
            match step:
                case "request":
                    self.associate()
                case "connect":
                    self.connect(succeeds=True)
                case "deliver":
                    self.carry()
                case "answer":
                    self.answer(rejects)
        if steps == len(BEGINNING) and not rejects:
            for at in releases:
                self.ask(at, RequestRelease())
            self.carry()

    @precondition(lambda self: not self.either(lambda peer: not peer.is_over))
    @rule(how=HOW, steps=STEPS, rejects=REJECTS, releases=RELEASES)
    def begin_again(self, how: How, steps: int, rejects: bool, releases: tuple[int, ...]) -> None:
        self.begin(how, steps, rejects, releases)

    # What the users do.

    @rule(at=ENDS, command=COMMANDS, name=st.sampled_from(list(PROBES)))
    def do_anything(self, at: int, command: Command, name: str) -> None:
        self.ask(at, command, name)

    @precondition(lambda self: not self.peers[0].has_begun)
    @rule()
    def associate(self) -> None:
        self.ask(REQUESTOR, RequestAssociation(self.request))

    @precondition(lambda self: self.peers[1].end.state is Sta.STA3)
    @rule(rejects=st.booleans())
    def answer(self, rejects: bool) -> None:
        request = self.peers[ACCEPTS].request
        assert request is not None
        if rejects:
            self.ask(ACCEPTS, RejectAssociation(REJECT))
            return
        self.ask(ACCEPTS, AcceptAssociation(answer(request, self.how)))

    @precondition(lambda self: self.either(Peer.may_send_data))
    @rule(
        at=ENDS,
        message=REQUESTS,
        data=st.none() | DATA,
        follows=st.booleans(),
        arrives=st.booleans(),
    )
    def request_operation(
        self, at: int, message: Message, data: bytes | None, follows: bool, arrives: bool
    ) -> None:
        at = self.one(at, Peer.may_send_data)
        self.ask(at, SendMessage(STORE_CONTEXT, message, data, follows), "echo")
        self.carry_if(arrives)

    @precondition(lambda self: self.either(lambda peer: peer.sending_on))
    @rule(at=ENDS, data=DATA, is_last=st.booleans(), arrives=st.booleans())
    def go_on_with_the_data_set(self, at: int, data: bytes, is_last: bool, arrives: bool) -> None:
        at = self.one(at, lambda peer: peer.sending_on)
        context_id = self.peers[at].sending_on
        assert context_id is not None
        self.ask(at, SendDataSet(context_id, data, is_last), "data")
        self.carry_if(arrives)

    @precondition(lambda self: self.either(lambda peer: peer.performed))
    @rule(at=ENDS, status=STATUSES, data=st.none() | DATA, arrives=st.booleans())
    def respond(self, at: int, status: int, data: bytes | None, arrives: bool) -> None:
        """To what was asked first."""
        at = self.one(at, lambda peer: peer.performed)
        message_id, (context_id, request) = next(iter(self.peers[at].performed.items()))
        kind = RESPONSE_OF.get(type(request))
        if kind is not None:  # bytes that were changed may have made it any other
            message = response(kind, message_id, status)
            self.ask(at, SendMessage(context_id, message, data), "echo")
            self.carry_if(arrives)

    @precondition(lambda self: self.either(lambda peer: peer.invoked))
    @rule(at=ENDS, arrives=st.booleans())
    def cancel(self, at: int, arrives: bool) -> None:
        at = self.one(at, lambda peer: peer.invoked)
        message_id, (context_id, _) = next(iter(self.peers[at].invoked.items()))
        message = CCancelRequest(message_id_being_responded_to=message_id)
        self.ask(at, SendMessage(context_id, message), "echo")
        self.carry_if(arrives)

    @precondition(lambda self: self.peers[0].listens and self.peers[1].listens)
    @rule(at=ENDS, both=st.booleans(), happens=st.integers(0, 2))
    def ask_for_release(self, at: int, both: bool, happens: int) -> None:
        if happens:  # not so often that nothing else is done
            return
        self.ask(at, RequestRelease(), "release")
        if both:
            self.ask(1 - at, RequestRelease(), "release")
            self.carry()

    @precondition(lambda self: self.either(Peer.is_asked_to_release))
    @rule(at=ENDS, arrives=st.booleans())
    def agree_to_release(self, at: int, arrives: bool) -> None:
        self.ask(self.one(at, Peer.is_asked_to_release), AcceptRelease(), "release")
        self.carry_if(arrives)

    # What the world does.

    @precondition(lambda self: self.peers[0].end.state is Sta.STA4)
    @rule(succeeds=st.sampled_from([True, True, True, True, False]))
    def connect(self, succeeds: bool) -> None:
        if not succeeds:
            self.lose_connection(REQUESTOR)
            return
        for at in (ACCEPTS, REQUESTOR):
            peer = self.peers[at]
            peer.is_connected = True
            self.carry_out(at, peer.end.transport_opened())

    @precondition(lambda self: self.peers[0].end.state is not Sta.STA4)
    @rule(at=ENDS)
    def connect_out_of_turn(self, at: int) -> None:
        end = self.peers[at].end
        if self.peers[at].has_begun or end.role is Role.REQUESTOR:
            before = picture(end)
            with pytest.raises(LocalProtocolError):
                end.transport_opened()
            assert picture(end) == before

    @precondition(lambda self: self.either(lambda peer: peer.incoming))
    @rule(at=ENDS, sizes=SIZES)
    def deliver(self, at: int, sizes: list[int]) -> None:
        at = self.one(at, lambda peer: peer.incoming)
        for size in sizes:
            self.hand_over(at, size)

    @precondition(lambda self: self.either(lambda peer: peer.incoming))
    @rule()
    def carry(self) -> None:
        while self.either(lambda peer: peer.incoming):
            for at in (REQUESTOR, ACCEPTS):
                self.hand_over(at, len(self.peers[at].incoming))

    @precondition(lambda self: self.either(Peer.sees_the_end))
    @rule(at=ENDS)
    def see_the_end(self, at: int) -> None:
        """The other side had closed."""
        self.lose_connection(self.one(at, Peer.sees_the_end))

    @precondition(lambda self: self.loses and self.either(lambda peer: peer.is_connected))
    @rule(at=ENDS, lost=st.integers(0, 200), happens=st.integers(0, 4))
    def lose(self, at: int, lost: int, happens: int) -> None:
        """The connection breaks: for one side now, for the other *lost* bytes early."""
        if happens:
            return
        at = self.one(at, lambda peer: peer.is_connected)
        incoming = self.peers[1 - at].incoming
        del incoming[max(0, len(incoming) - lost) :]
        self.lose_connection(at)

    @rule(at=ENDS)
    def time_passes(self, at: int) -> None:
        """ARTIM runs out; where it does not run a late report means nothing."""
        peer = self.peers[at]
        before = None if peer.artim else picture(peer.end)
        effects = peer.end.timer_expired()
        if before is not None:
            assert effects == ()
            assert picture(peer.end) == before
        self.carry_out(at, effects)

    @precondition(lambda self: self.garbles and self.either(lambda peer: peer.incoming))
    @rule(at=ENDS, where=st.integers(0, 1_000), flip=st.integers(1, 255))
    def change_a_byte(self, at: int, where: int, flip: int) -> None:
        incoming = self.peers[self.one(at, lambda peer: peer.incoming)].incoming
        self.is_clean = False
        incoming[where % len(incoming)] ^= flip
        self.seen["a byte changed"] += 1

    @precondition(lambda self: self.garbles and self.either(lambda peer: peer.is_connected))
    @rule(at=ENDS, where=st.integers(0, 1_000), garbage=GARBAGE)
    def insert_garbage(self, at: int, where: int, garbage: bytes) -> None:
        peer = self.peers[self.one(at, lambda peer: peer.is_connected)]
        self.is_clean = False
        place = where % (len(peer.incoming) + 1)
        peer.incoming[place:place] = garbage
        self.seen["garbage"] += 1

    @precondition(lambda self: self.either(lambda peer: not peer.is_connected))
    @rule(at=ENDS, garbage=GARBAGE)
    def bytes_without_a_connection(self, at: int, garbage: bytes) -> None:
        end = self.peers[self.one(at, lambda peer: not peer.is_connected)].end
        before = picture(end)
        assert end.receive_data(garbage) == ()
        assert picture(end) == before

    # What always holds.

    @invariant()
    def each_side_is_in_order(self) -> None:
        for peer in self.peers:
            peer.rests()
            self.seen[f"{peer.end.role.value} in {peer.end.state}"] += 1

    @invariant()
    def each_is_told_what_the_other_said(self) -> None:
        if not self.is_clean:
            return
        for peer, other in (self.peers, self.peers[::-1]):
            assert not peer.faults, peer.faults
            answered = {
                answered_by(what[1])
                for what in peer.said
                if isinstance(what, tuple) and not is_request(what[1])
            }
            assert is_beginning(peer.told, other.said, answered), (peer.told, other.said)
            if peer.listens and other.is_connected and not peer.incoming:
                told, said = (
                    [what for what in words if not is_cancel(what)]
                    for words in (peer.told, other.said)
                )
                assert told == said

    @invariant()
    def each_side_can_be_ended_alone(self) -> None:
        """By losing the connection; by an abort and then the timer."""
        for peer in self.peers:
            end = clone(peer.end)
            end.transport_closed()
            assert end.state is Sta.STA1
            if peer.may(Abort()):
                end = clone(peer.end)
                end.send(Abort())
                end.timer_expired()
                assert end.state is Sta.STA1
            elif peer.is_connected:  # Sta2, Sta13
                end = clone(peer.end)
                end.timer_expired()
                assert end.state is Sta.STA1

    def teardown(self) -> None:
        """Both users give up, what was sent arrives, and time passes."""
        for at, peer in enumerate(self.peers):
            if peer.may(Abort()):
                self.ask(at, Abort())
        self.carry()
        for at, peer in enumerate(self.peers):
            if peer.artim:
                self.time_passes(at)
        for at, peer in enumerate(self.peers):
            if peer.sees_the_end():
                self.lose_connection(at)
        for peer in self.peers:
            assert peer.end.state is Sta.STA1
            peer.rests()
            assert peer.end.receive_data(A_ABORT) == ()
            assert peer.end.transport_closed() == peer.end.timer_expired() == ()


#: Where each side can come (PS3.8 9.2.1).
REQUESTOR_STATES: Final = {1, 4, 5, 6, 7, 8, 9, 11, 13}
ACCEPTOR_STATES: Final = {1, 2, 3, 6, 7, 8, 10, 12, 13}
#: What must have happened for a run to have meant anything.
HAPPENED: Final = {
    *(f"requestor in Sta{number}" for number in REQUESTOR_STATES),
    *(f"acceptor in Sta{number}" for number in ACCEPTOR_STATES),
    *("MessageReceived", "DataSetReceived", "CancelReceived", "AssociationRejected"),
    *("AssociationReleased", "AssociationAborted", "ProviderAborted", "PeerFault", "refused"),
}


def test_two_peers() -> None:
    seen: Counter[str] = Counter()
    for loses, garbles in ((False, False), (True, False), (False, True)):
        run_state_machine_as_test(
            lambda: TwoPeers(loses, garbles, seen),  # type: ignore[arg-type]  # noqa: B023 (called at once)
            settings=settings(stateful_step_count=30),
        )
        assert ("PeerFault" in seen) == garbles
    assert seen.keys() >= HAPPENED, HAPPENED - seen.keys()


# The bound, pressed by somebody who wants to.


def a_large_request() -> bytes:
    """An A-ASSOCIATE-RQ that is made to take as much as it can when it is understood."""
    syntaxes = tuple(f"1.{number}" for number in range(DEFAULT_LIMITS.transfer_syntaxes))
    contexts = tuple(
        ProposedContext(2 * number + 1, f"1.2.{number}", syntaxes)
        for number in range(DEFAULT_LIMITS.presentation_contexts)
    )
    roles = tuple(RoleSelection(f"1.{number}", True, True) for number in range(1_000, 5_000))
    return encode_associate_request(
        replace(
            REQUEST,
            presentation_contexts=contexts,
            user_information=UserInformation(role_selections=roles),
        )
    )


def echoes(count: int) -> bytes:
    return b"".join(
        p_data(pdv(ECHO_CONTEXT, 3, encode_message(echo(message_id), has_data_set=False)))
        for message_id in range(1, count + 1)
    )


PRESSED: Final[dict[str, tuple[Callable[[], Association], Callable[[], bytes], int]]] = {
    "an A-ASSOCIATE-RQ without its last byte": (
        listening,
        lambda: pdu_of(1, bytes(DEFAULT_LIMITS.associate_pdu))[:-1],
        0,
    ),
    "a large A-ASSOCIATE-RQ": (listening, a_large_request, 0),
    "a command set without its end": (
        established,
        lambda: p_data(pdv(ECHO_CONTEXT, 1, bytes(DEFAULT_LIMITS.command_set))),
        0,
    ),
    "empty fragments": (
        established,
        lambda: p_data(pdv(ECHO_CONTEXT, 1, b"")) * DEFAULT_LIMITS.empty_fragments,
        0,
    ),
    "a data set of ten megabytes": (
        established,
        lambda: (
            p_data(
                pdv(STORE_CONTEXT, 3, encode_message(store(1), has_data_set=True)),
            )
            + p_data(pdv(STORE_CONTEXT, 0, bytes(100_000))) * 100
        ),
        1,
    ),
    "operations that nobody answers": (established, lambda: echoes(2_000), 2_000),
}


@pytest.mark.parametrize("name", PRESSED)
@pytest.mark.parametrize("chunk", [1_000, 1 << 24])
def test_what_a_peer_can_make_us_hold(name: str, chunk: int) -> None:
    start, stream, operations = PRESSED[name]
    end = start()
    most = most_held(DEFAULT_LIMITS, operations)
    before = end.state
    for part in in_chunks(stream(), chunk):
        end.receive_data(part)
        assert bytes_held(end) <= most
    assert end.state is (Sta.STA3 if "large" in name else before), "it was refused"
