"""Two engines and a wire: whole associations, collisions, aborts, and a wire that breaks."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.wire import (
    ASSOCIATE_RQ,
    CT,
    ECHO_CONTEXT,
    REQUEST,
    STORE_CONTEXT,
    Wire,
    joined,
    only,
    sent,
)
from isocenter.engine.commands import (
    Abort,
    AcceptRelease,
    Command,
    RequestAssociation,
    RequestRelease,
    SendDataSet,
    SendMessage,
)
from isocenter.engine.dimse.message_codec import (
    CEchoRequest,
    CStoreRequest,
    CStoreResponse,
    is_request,
    response_to,
)
from isocenter.engine.effects import PeerFault, SendBytes, StartArtim, StopArtim
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.events import (
    AssociationAborted,
    AssociationAccepted,
    AssociationRejected,
    AssociationReleased,
    DataSetReceived,
    MessageReceived,
    ProviderAborted,
    ReleaseRequested,
)
from isocenter.engine.negotiation import Acceptor
from isocenter.engine.states import Sta
from isocenter.engine.uid import VERIFICATION

REQUESTOR, ACCEPTOR = 0, 1
STORE = CStoreRequest(message_id=3, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3")


def done(wire: Wire, end: int) -> list[object]:
    """What happened at *end* since the last time, timers and bytes left out."""
    effects = joined(
        effect
        for effect in wire.effects[end]
        if not isinstance(effect, SendBytes | StartArtim | StopArtim)
    )
    wire.effects[end].clear()
    return effects


def test_echo() -> None:
    wire = Wire().associate()
    assert wire.states == (Sta.STA6, Sta.STA6)
    only(wire.effects[REQUESTOR], AssociationAccepted)
    request = CEchoRequest(message_id=1, affected_sop_class_uid=VERIFICATION)
    wire.do(REQUESTOR, SendMessage(ECHO_CONTEXT, request))
    wire.carry()
    received = only(wire.effects[ACCEPTOR], MessageReceived)
    assert received == MessageReceived(ECHO_CONTEXT, request, has_data_set=False)
    assert is_request(received.message)
    response = response_to(received.message, 0)
    wire.do(ACCEPTOR, SendMessage(ECHO_CONTEXT, response))
    wire.carry()
    assert only(wire.effects[REQUESTOR], MessageReceived).message == response
    wire.do(REQUESTOR, RequestRelease())
    wire.carry()
    wire.do(ACCEPTOR, AcceptRelease())
    wire.carry()
    assert wire.states == (Sta.STA1, Sta.STA1)
    only(wire.effects[REQUESTOR], AssociationReleased)


@pytest.mark.parametrize("size", [0, 1, 2, 16_384, 16_378, 16_379, 100_001])
@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("max_chunk", [1 << 20, 999])
def test_a_data_set_arrives_as_it_left(size: int, in_parts: bool, max_chunk: int) -> None:
    wire = Wire().associate()
    wire.max_chunk = max_chunk
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    if in_parts:
        wire.do(REQUESTOR, SendMessage(STORE_CONTEXT, STORE, has_data_set=True))
        assert wire.ends[REQUESTOR].is_sending_data_set
        third = size // 3
        wire.do(REQUESTOR, SendDataSet(STORE_CONTEXT, data[:third], is_last=False))
        wire.do(REQUESTOR, SendDataSet(STORE_CONTEXT, b"", is_last=False))
        wire.do(REQUESTOR, SendDataSet(STORE_CONTEXT, memoryview(data)[third:], is_last=True))
    else:
        wire.do(REQUESTOR, SendMessage(STORE_CONTEXT, STORE, data))
    assert not wire.ends[REQUESTOR].is_sending_data_set
    done(wire, ACCEPTOR)
    wire.carry()
    assert done(wire, ACCEPTOR) == [
        MessageReceived(STORE_CONTEXT, STORE, has_data_set=True),
        (STORE_CONTEXT, data),
    ]


def test_each_direction_keeps_to_what_the_other_announced() -> None:
    """PS3.8 D.1: the requestor announces 16,384, the acceptor 4,096."""
    wire = Wire(how=Acceptor(offer=Wire().how.offer, max_pdu_length=4_096)).associate()
    for end, length in ((REQUESTOR, 4_096), (ACCEPTOR, 16_384)):
        wire.effects[end].clear()
        wire.do(end, SendMessage(STORE_CONTEXT, STORE, bytes(50_000)))
        stream = sent(wire.effects[end])
        lengths = []
        position = 0
        while position < len(stream):
            lengths.append(int.from_bytes(stream[position + 2 : position + 6], "big"))
            position += 6 + lengths[-1]
        assert max(lengths) == length
        wire.carry()
    assert wire.states == (Sta.STA6, Sta.STA6)


def test_a_requestor_holds_the_acceptor_to_what_it_announced() -> None:
    """PS3.8 D.1.1: what the A-ASSOCIATE-RQ said, 0 being no limit but ours."""
    for announced, length, is_taken in (
        (16_384, 16_384, True),
        (16_384, 16_385, False),
        (0, 1 << 30, True),
        (0, (1 << 30) + 1, False),
    ):
        info = replace(REQUEST.user_information, max_pdu_length=announced)
        wire = Wire().associate(replace(REQUEST, user_information=info))
        effects = wire.ends[REQUESTOR].receive_data(struct.pack(">BxI", 4, length))
        assert (effects == ()) is is_taken


def test_rejected() -> None:
    request = type(REQUEST)(
        called_ae_title="ISOCENTER",
        calling_ae_title="CT1",
        presentation_contexts=REQUEST.presentation_contexts,
        user_information=REQUEST.user_information,
        protocol_version=2,
    )
    wire = Wire().associate(request)
    rejected = only(wire.effects[REQUESTOR], AssociationRejected)
    assert rejected.by_peer
    assert (rejected.reject.result, rejected.reject.source, rejected.reject.reason) == (1, 2, 2)
    # The requestor closes at once, and that ends the acceptor's Sta13.
    assert wire.states == (Sta.STA1, Sta.STA1)


def test_release_collision() -> None:
    """PS3.8 7.2.2.7: the requestor answers first."""
    wire = Wire().associate()
    wire.do(REQUESTOR, RequestRelease())
    wire.do(ACCEPTOR, RequestRelease())
    wire.carry()
    assert wire.states == (Sta.STA9, Sta.STA10)
    for end in (REQUESTOR, ACCEPTOR):
        assert only(wire.effects[end], ReleaseRequested).is_collision
    with pytest.raises(LocalProtocolError):
        wire.do(ACCEPTOR, AcceptRelease())
    wire.do(REQUESTOR, AcceptRelease())
    wire.carry()
    assert wire.states == (Sta.STA11, Sta.STA12)
    only(wire.effects[ACCEPTOR], AssociationReleased)
    wire.do(ACCEPTOR, AcceptRelease())
    wire.carry()
    assert wire.states == (Sta.STA1, Sta.STA1)
    only(wire.effects[REQUESTOR], AssociationReleased)


def test_data_after_a_release_request_still_arrives() -> None:
    """AR-6 and AR-7: who was asked to release may send what is still due."""
    wire = Wire().associate()
    wire.do(REQUESTOR, SendMessage(STORE_CONTEXT, STORE, b"data"))
    wire.do(REQUESTOR, RequestRelease())
    wire.carry()
    assert wire.states == (Sta.STA7, Sta.STA8)
    response = CStoreResponse(message_id_being_responded_to=3, status=0)
    wire.do(ACCEPTOR, SendMessage(STORE_CONTEXT, response))
    wire.carry()
    assert only(wire.effects[REQUESTOR], MessageReceived).message == response
    wire.do(ACCEPTOR, AcceptRelease())
    wire.carry()
    assert wire.states == (Sta.STA1, Sta.STA1)


#: Commands that bring two ends into every pair of states that can be reached by them.
STEPS: dict[str, list[tuple[int, Command] | None]] = {
    "established": [],
    "release asked": [(0, RequestRelease())],
    "release indicated": [(0, RequestRelease()), None],
    "release of the acceptor": [(1, RequestRelease()), None],
    "collision on its way": [(0, RequestRelease()), (1, RequestRelease())],
    "collision": [(0, RequestRelease()), (1, RequestRelease()), None],
    "collision, answered": [
        (0, RequestRelease()),
        (1, RequestRelease()),
        None,
        (0, AcceptRelease()),
        None,
    ],
    "in a data set": [(0, SendMessage(STORE_CONTEXT, STORE, has_data_set=True)), None],
    "in a data set, on its way": [(1, SendMessage(STORE_CONTEXT, STORE, has_data_set=True))],
}


@pytest.mark.parametrize("who", [REQUESTOR, ACCEPTOR])
@pytest.mark.parametrize("steps", STEPS.values(), ids=list(STEPS))
def test_abort_in_every_state(who: int, steps: list[tuple[int, Command] | None]) -> None:
    wire = Wire().associate()
    for step in steps:
        if step is None:
            wire.carry()
        else:
            wire.do(*step)
    wire.do(who, Abort())
    wire.carry()
    assert wire.states == (Sta.STA1, Sta.STA1)
    assert only(wire.effects[1 - who], AssociationAborted) == AssociationAborted(0, 0)


def test_both_abort() -> None:
    wire = Wire().associate()
    wire.do(REQUESTOR, Abort())
    wire.do(ACCEPTOR, Abort())
    wire.carry()
    assert wire.states == (Sta.STA1, Sta.STA1)


def test_abort_before_the_answer() -> None:
    wire = Wire()
    wire.do(REQUESTOR, RequestAssociation(REQUEST))
    wire.do(REQUESTOR, Abort())
    wire.carry()
    assert wire.states == (Sta.STA1, Sta.STA1)


def whole_story() -> tuple[bytes, bytes]:
    """What each end sends in an association with one C-STORE and a release."""
    wire = Wire().associate()
    wire.do(REQUESTOR, SendMessage(STORE_CONTEXT, STORE, bytes(300)))
    wire.carry()
    wire.do(ACCEPTOR, SendMessage(STORE_CONTEXT, response_to(STORE, 0)))
    wire.carry()
    wire.do(REQUESTOR, RequestRelease())
    wire.carry()
    wire.do(ACCEPTOR, AcceptRelease())
    wire.carry()
    return sent(wire.effects[REQUESTOR]), sent(wire.effects[ACCEPTOR])


def test_loss_after_every_byte() -> None:
    """Whatever has arrived: the loss is told exactly once, as A-P-ABORT where one was due."""
    towards_acceptor, towards_requestor = whole_story()
    assert towards_acceptor.startswith(ASSOCIATE_RQ)
    for end, stream in ((ACCEPTOR, towards_acceptor), (REQUESTOR, towards_requestor)):
        for length in range(len(stream) + 1):
            wire = Wire()
            # Only one end, driven by a recording of the other.
            wire.is_open = True
            if end is REQUESTOR:
                wire.ends[end].send(RequestAssociation(REQUEST))
            wire.did(end, wire.ends[end].transport_opened())
            for byte in stream[:length]:
                was_established = wire.ends[end].state is Sta.STA6
                wire.did(end, wire.ends[end].receive_data(bytes((byte,))))
                is_established = wire.ends[end].state is Sta.STA6
                if end is REQUESTOR and is_established and not was_established:
                    wire.do(end, SendMessage(STORE_CONTEXT, STORE, bytes(300)))
                    wire.do(end, RequestRelease())
            before = wire.ends[end].state
            wire.effects[end].clear()
            wire.is_open = False
            wire.did(end, wire.ends[end].transport_closed())
            assert wire.ends[end].state is Sta.STA1
            told = done(wire, end)
            if before in {Sta.STA1, Sta.STA2, Sta.STA13}:
                assert told == []
            else:
                assert told == [ProviderAborted(0, transport_lost=True)]
            assert wire.ends[end].transport_closed() == ()


@pytest.mark.parametrize("who", [REQUESTOR, ACCEPTOR])
def test_an_unfinished_data_set_never_ends(who: int) -> None:
    """The wire breaks at any byte of a C-STORE: no `DataSetReceived` says that it was the last."""
    reference = Wire().associate()
    reference.effects[who].clear()
    reference.do(who, SendMessage(STORE_CONTEXT, STORE, bytes(90)))
    message = sent(reference.effects[who])
    for length in range(len(message)):
        wire = Wire().associate()
        other = 1 - who
        wire.did(other, wire.ends[other].receive_data(message[:length]))
        wire.lose()
        parts = [effect for effect in wire.effects[other] if isinstance(effect, DataSetReceived)]
        assert not any(part.is_last for part in parts)
        assert wire.states == (Sta.STA1, Sta.STA1)


class TwoEnds(RuleBasedStateMachine):
    """Random commands, delays, garbage and loss; every run can be ended in Sta1."""

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire()

    def try_to(self, end: int, command: Command) -> None:
        before = self.wire.ends[end].state
        try:
            self.wire.do(end, command)
        except LocalProtocolError:
            assert self.wire.ends[end].state is before

    @rule()
    def associate(self) -> None:
        self.try_to(REQUESTOR, RequestAssociation(REQUEST))

    @rule(
        end=st.sampled_from([0, 1]),
        command=st.sampled_from(
            [
                RequestRelease(),
                AcceptRelease(),
                SendMessage(STORE_CONTEXT, STORE, b"data set"),
                SendMessage(STORE_CONTEXT, STORE, has_data_set=True),
                SendMessage(5, STORE, b"not accepted"),
                SendDataSet(STORE_CONTEXT, b"part", is_last=False),
                SendDataSet(STORE_CONTEXT, b"part", is_last=True),
                SendDataSet(ECHO_CONTEXT, b"part", is_last=True),
            ]
        ),
    )
    def command(self, end: int, command: Command) -> None:
        self.try_to(end, command)

    @rule(end=st.sampled_from([0, 1]))
    def abort(self, end: int) -> None:
        self.try_to(end, Abort())

    @rule(end=st.sampled_from([0, 1]), most=st.integers(1, 400))
    def deliver(self, end: int, most: int) -> None:
        self.wire.max_chunk = most
        self.wire.deliver(end)

    @rule()
    def carry(self) -> None:
        self.wire.carry()

    @rule(end=st.sampled_from([0, 1]), garbage=st.binary(min_size=1, max_size=20))
    def garbage(self, end: int, garbage: bytes) -> None:
        if self.wire.is_open:
            self.wire.towards[end].extend(garbage)

    @rule(end=st.sampled_from([0, 1]))
    def artim(self, end: int) -> None:
        if self.wire.artim[end]:
            self.wire.did(end, self.wire.ends[end].timer_expired())

    @rule()
    def lose(self) -> None:
        self.wire.lose()

    @invariant()
    def artim_runs_where_it_must(self) -> None:
        for end in (0, 1):
            state = self.wire.ends[end].state
            if state in {Sta.STA2, Sta.STA13}:
                assert self.wire.artim[end]

    @invariant()
    def faults_come_only_where_nobody_is_told(self) -> None:
        for end in (0, 1):
            if any(isinstance(effect, PeerFault) for effect in self.wire.effects[end]):
                assert self.wire.ends[end].state in {Sta.STA13, Sta.STA1}

    def teardown(self) -> None:
        self.wire.finish()
        if self.wire.ends[ACCEPTOR].state is Sta.STA2:
            self.wire.did(ACCEPTOR, self.wire.ends[ACCEPTOR].timer_expired())
        assert set(self.wire.states) == {Sta.STA1}, self.wire.states


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(max_examples=60, stateful_step_count=25)
