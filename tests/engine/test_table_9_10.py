"""PS3.8 Table 9-10: all 247 cells against a second copy, typed by hand and read differently."""

from __future__ import annotations

import itertools

import pytest

from engine.wire import COMMANDS, PDUS, REJECT, REQUEST, abort_pdu, end_in, kinds, sent
from isocenter.engine.effects import (
    CloseTransport,
    Effect,
    OpenTransport,
    PeerFault,
    SendBytes,
    StartArtim,
    StopArtim,
)
from isocenter.engine.errors import LocalProtocolError, RemoteProtocolError
from isocenter.engine.events import (
    AssociationAborted,
    AssociationAccepted,
    AssociationRejected,
    AssociationReleased,
    AssociationRequested,
    MessageReceived,
    ProviderAborted,
    ReleaseRequested,
)
from isocenter.engine.negotiation import Role
from isocenter.engine.pdu import Abort, AssociateReject
from isocenter.engine.states import EVENTS, STATES, Action, Evt, Sta
from isocenter.engine.upper_layer import (
    NEXT_STATE,
    TABLE_9_10,
    StepInput,
    UpperLayerState,
    step,
)

#: Event number → (action, the numbers of the states in which it stands), as in the standard.
CELLS: dict[int, list[tuple[str, set[int]]]] = {
    1: [("AE-1", {1})],
    2: [("AE-2", {4})],
    3: [("AA-1", {2}), ("AA-8", {3, 6, 7, 8, 9, 10, 11, 12}), ("AE-3", {5}), ("AA-6", {13})],
    4: [("AA-1", {2}), ("AA-8", {3, 6, 7, 8, 9, 10, 11, 12}), ("AE-4", {5}), ("AA-6", {13})],
    5: [("AE-5", {1})],
    6: [("AE-6", {2}), ("AA-8", {3, 5, 6, 7, 8, 9, 10, 11, 12}), ("AA-7", {13})],
    7: [("AE-7", {3})],
    8: [("AE-8", {3})],
    9: [("DT-1", {6}), ("AR-7", {8})],
    10: [
        ("AA-1", {2}),
        ("AA-8", {3, 5, 8, 9, 10, 11, 12}),
        ("DT-2", {6}),
        ("AR-6", {7}),
        ("AA-6", {13}),
    ],
    11: [("AR-1", {6})],
    12: [
        ("AA-1", {2}),
        ("AA-8", {3, 5, 8, 9, 10, 11, 12}),
        ("AR-2", {6}),
        ("AR-8", {7}),
        ("AA-6", {13}),
    ],
    13: [
        ("AA-1", {2}),
        ("AA-8", {3, 5, 6, 8, 9, 12}),
        ("AR-3", {7, 11}),
        ("AR-10", {10}),
        ("AA-6", {13}),
    ],
    14: [("AR-4", {8, 12}), ("AR-9", {9})],
    15: [("AA-1", {3, 5, 6, 7, 8, 9, 10, 11, 12}), ("AA-2", {4})],
    16: [("AA-2", {2, 13}), ("AA-3", {3, 5, 6, 7, 8, 9, 10, 11, 12})],
    17: [("AA-5", {2}), ("AA-4", {3, 4, 5, 6, 7, 8, 9, 10, 11, 12}), ("AR-5", {13})],
    18: [("AA-2", {2, 13})],
    19: [("AA-1", {2}), ("AA-8", {3, 5, 6, 7, 8, 9, 10, 11, 12}), ("AA-7", {13})],
}
COPY = {
    (Evt(f"Evt{event}"), Sta(f"Sta{state}")): action
    for event, row in CELLS.items()
    for action, states in row
    for state in states
}
#: The number of the state after each action (PS3.8 Tables 9-6 to 9-9).
AFTER = {
    "AE-1": 4, "AE-2": 5, "AE-3": 6, "AE-4": 1, "AE-5": 2, "AE-6": 3, "AE-7": 6, "AE-8": 13,
    "DT-1": 6, "DT-2": 6,
    "AR-1": 7, "AR-2": 8, "AR-3": 1, "AR-4": 13, "AR-5": 1, "AR-6": 7, "AR-7": 8, "AR-8": 9,
    "AR-9": 11, "AR-10": 12,
    "AA-1": 13, "AA-2": 1, "AA-3": 1, "AA-4": 1, "AA-5": 1, "AA-6": 13, "AA-7": 13, "AA-8": 13,
}  # fmt: skip

FAULT = RemoteProtocolError("a fault", 6)
INDICATION = AssociationRequested(REQUEST)
RELEASE_RQ = bytes.fromhex("05 00 00000004 00000000")
RELEASE_RP = bytes.fromhex("06 00 00000004 00000000")
RJ = bytes.fromhex("03 00 00000004 00 01 01 07")
RJ_OF_PROVIDER = bytes.fromhex("03 00 00000004 00 01 02 02")
PROVIDER_REJECT = AssociateReject(1, 2, 2)

#: Each action: what it is given, and all its effects in the order of the standard's sentence.
ACTIONS: list[tuple[str, StepInput, list[object]]] = [
    ("AE-1", StepInput(), [OpenTransport()]),
    ("AE-2", StepInput(encoded=b"rq"), [b"rq"]),
    ("AE-3", StepInput(indication=INDICATION), [INDICATION]),
    ("AE-4", StepInput(received=REJECT), [AssociationRejected(REJECT), CloseTransport()]),
    ("AE-5", StepInput(), [StartArtim()]),
    ("AE-6", StepInput(indication=INDICATION), [StopArtim(), INDICATION]),
    ("AE-7", StepInput(encoded=b"ac"), [b"ac"]),
    ("AE-8", StepInput(reject=REJECT), [RJ, StartArtim()]),
    ("DT-1", StepInput(), []),
    ("DT-2", StepInput(), []),
    ("AR-1", StepInput(), [RELEASE_RQ]),
    ("AR-2", StepInput(), [ReleaseRequested(is_collision=False)]),
    ("AR-3", StepInput(), [AssociationReleased(), CloseTransport()]),
    ("AR-4", StepInput(), [RELEASE_RP, StartArtim()]),
    ("AR-5", StepInput(), [StopArtim()]),
    ("AR-6", StepInput(), []),
    ("AR-7", StepInput(), []),
    ("AR-8", StepInput(), [ReleaseRequested(is_collision=True)]),
    ("AR-9", StepInput(), [RELEASE_RP]),
    ("AR-10", StepInput(), [AssociationReleased()]),
    ("AA-1", StepInput(), [abort_pdu(0, 0), StartArtim()]),
    ("AA-1", StepInput(cause=FAULT), [abort_pdu(0, 0), StartArtim(), PeerFault(FAULT)]),
    ("AA-2", StepInput(), [StopArtim(), CloseTransport()]),
    ("AA-3", StepInput(received=Abort(0, 0)), [AssociationAborted(0, 0), CloseTransport()]),
    ("AA-3", StepInput(received=Abort(2, 5)), [ProviderAborted(5), CloseTransport()]),
    ("AA-4", StepInput(), [ProviderAborted(0, transport_lost=True)]),
    ("AA-5", StepInput(), [StopArtim()]),
    ("AA-6", StepInput(), []),
    ("AA-7", StepInput(cause=FAULT), [abort_pdu(2, 6), PeerFault(FAULT)]),
    ("AA-8", StepInput(cause=FAULT), [abort_pdu(2, 6), ProviderAborted(6, FAULT), StartArtim()]),
]
#: What each action may be given so that it can be carried out in any of its cells.
ENOUGH = StepInput(encoded=b"pdu", indication=INDICATION, cause=FAULT)

#: Evt2 and Evt5 are the transport's, but only our own driver can tell them at a wrong time.
LOCAL = {"Evt1", "Evt2", "Evt5", "Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"}

PDU_EVENTS = {
    "A-ASSOCIATE-AC": Evt.EVT3,
    "A-ASSOCIATE-RJ": Evt.EVT4,
    "A-ASSOCIATE-RQ": Evt.EVT6,
    "P-DATA-TF": Evt.EVT10,
    "A-RELEASE-RQ": Evt.EVT12,
    "A-RELEASE-RP": Evt.EVT13,
    "A-ABORT": Evt.EVT16,
    "unrecognized": Evt.EVT19,
}
#: What an end of `wire` shows of each action: the kinds of its effects.
SHOWN: dict[str, list[type[Effect]]] = {
    "AE-1": [OpenTransport],
    "AE-2": [SendBytes],
    "AE-3": [AssociationAccepted],
    "AE-4": [AssociationRejected, CloseTransport],
    "AE-5": [StartArtim],
    "AE-6": [StopArtim, AssociationRequested],
    "AE-7": [SendBytes],
    "AE-8": [SendBytes, StartArtim],
    "DT-1": [SendBytes],
    "DT-2": [MessageReceived],
    "AR-1": [SendBytes],
    "AR-2": [ReleaseRequested],
    "AR-3": [AssociationReleased, CloseTransport],
    "AR-4": [SendBytes, StartArtim],
    "AR-5": [StopArtim],
    "AR-6": [MessageReceived],
    "AR-7": [SendBytes],
    "AR-8": [ReleaseRequested],
    "AR-9": [SendBytes],
    "AR-10": [AssociationReleased],
    "AA-2": [StopArtim, CloseTransport],
    "AA-3": [AssociationAborted, CloseTransport],
    "AA-4": [ProviderAborted],
    "AA-5": [StopArtim],
    "AA-6": [],
    "AA-7": [SendBytes, PeerFault],
    "AA-8": [SendBytes, ProviderAborted, StartArtim],
}


def as_values(effects: tuple[Effect, ...]) -> list[object]:
    return [sent([effect]) if isinstance(effect, SendBytes) else effect for effect in effects]


def next_state(action: str, role: Role) -> Sta:
    if action == "AR-8" and role is Role.ACCEPTOR:
        return Sta.STA10
    return Sta(f"Sta{AFTER[action]}")


def enough_for(action: str) -> StepInput:
    received: Abort | AssociateReject | None = None
    if action in {"AE-4", "AA-3"}:
        received = REJECT if action == "AE-4" else Abort(0, 0)
    reject = REJECT if action == "AE-8" else None
    return StepInput(
        encoded=b"pdu", indication=INDICATION, cause=FAULT, received=received, reject=reject
    )


def test_the_table_is_complete() -> None:
    assert len(Evt) * len(Sta) == 247
    assert len(COPY) == 123
    assert set(EVENTS) == set(Evt)
    assert set(STATES) == set(Sta)
    assert {str(action) for action in Action} == set(AFTER)
    assert set(COPY.values()) == set(AFTER)


@pytest.mark.parametrize("sta", Sta, ids=str)
@pytest.mark.parametrize("evt", Evt, ids=str)
def test_cell(evt: Evt, sta: Sta) -> None:
    """The action, the state after it, and no answer at all where the cell is empty."""
    action = TABLE_9_10.get((evt, sta))
    expected = COPY.get((evt, sta))
    assert (None if action is None else str(action)) == expected
    for role in Role:
        state = UpperLayerState(sta, role)
        if expected is None:
            with pytest.raises(LocalProtocolError, match=rf"^{evt} \(.*\) is not allowed in {sta}"):
                step(state, evt, ENOUGH)
        else:
            after, _ = step(state, evt, enough_for(expected))
            assert after == UpperLayerState(next_state(expected, role), role)


def test_next_states() -> None:
    assert {str(action): str(sta) for action, sta in NEXT_STATE.items()} == {
        action: f"Sta{number}" for action, number in AFTER.items()
    }


@pytest.mark.parametrize(
    ("action", "given", "effects"), ACTIONS, ids=[action for action, _, _ in ACTIONS]
)
def test_effects_of_each_action(action: str, given: StepInput, effects: list[object]) -> None:
    """The same in every cell in which the action stands, and for both roles."""
    cells = [cell for cell, standing in COPY.items() if standing == action]
    assert cells
    for (evt, sta), role in itertools.product(cells, Role):
        _, done = step(UpperLayerState(sta, role), evt, given)
        assert as_values(done) == effects


def test_every_action_has_its_effects_tested() -> None:
    assert {action for action, _, _ in ACTIONS} == set(AFTER)


def test_AE_6_when_the_provider_rejects() -> None:
    """Table 9-6: otherwise issue A-ASSOCIATE-RJ, (re)start ARTIM, next state Sta13."""
    state = UpperLayerState(Sta.STA2, Role.ACCEPTOR)
    after, effects = step(state, Evt.EVT6, StepInput(indication=INDICATION, reject=PROVIDER_REJECT))
    assert after.sta is Sta.STA13
    assert as_values(effects) == [
        RJ_OF_PROVIDER,
        StartArtim(),
        AssociationRejected(PROVIDER_REJECT, by_peer=False),
    ]


@pytest.mark.parametrize(("role", "sta"), [(Role.REQUESTOR, "Sta9"), (Role.ACCEPTOR, "Sta10")])
def test_AR_8_by_role(role: Role, sta: str) -> None:
    after, _ = step(UpperLayerState(Sta.STA7, role), Evt.EVT12)
    assert str(after.sta) == sta


# The same through an association: bytes and commands instead of events.


@pytest.mark.parametrize("name", PDU_EVENTS)
@pytest.mark.parametrize("sta", Sta, ids=str)
def test_every_pdu_in_every_state(name: str, sta: Sta) -> None:
    end = end_in(sta)
    effects = end.receive_data(PDUS[name])
    action = COPY.get((PDU_EVENTS[name], sta))
    if action is None:  # Sta1 and Sta4: there is no connection that bytes could come from
        assert (effects, end.state) == ((), sta)
        return
    # In Sta2 the A-ABORT was called for by a PDU, which is told for the log.
    shown = [SendBytes, StartArtim, PeerFault] if action == "AA-1" else SHOWN[action]
    assert kinds(effects) == shown
    assert end.state is next_state(action, end.role)


@pytest.mark.parametrize("evt", COMMANDS)
@pytest.mark.parametrize("sta", Sta, ids=str)
def test_every_command_in_every_state(evt: str, sta: Sta) -> None:
    end = end_in(sta)
    before = dict(vars(end))
    action = COPY.get((Evt(evt), sta))
    if action is None:
        with pytest.raises(LocalProtocolError):
            end.send(COMMANDS[evt])
        assert dict(vars(end)) == before
        return
    effects = end.send(COMMANDS[evt])
    assert kinds(effects) == ([SendBytes, StartArtim] if action == "AA-1" else SHOWN[action])
    assert end.state is next_state(action, end.role)


@pytest.mark.parametrize("sta", Sta, ids=str)
def test_transport_events_in_every_state(sta: Sta) -> None:
    opened = COPY.get((Evt.EVT2, sta))
    end = end_in(sta)
    if opened is None:
        if sta is not Sta.STA1:  # for an acceptor Evt5 is legal there, for a requestor nothing
            with pytest.raises(LocalProtocolError):
                end.transport_opened()
            assert end.state is sta
    else:
        assert kinds(end.transport_opened()) == SHOWN[opened]

    end = end_in(sta)
    closed = COPY.get((Evt.EVT17, sta))
    assert kinds(end.transport_closed()) == ([] if closed is None else SHOWN[closed])
    assert end.state is Sta.STA1

    end = end_in(sta)
    expired = COPY.get((Evt.EVT18, sta))
    assert kinds(end.timer_expired()) == ([] if expired is None else SHOWN[expired])
    assert end.state is (sta if expired is None else Sta.STA1)


def test_local_events_are_those_that_leave_cells_empty() -> None:
    """Whatever the peer does has an answer in every state in which there is a connection."""
    for evt in Evt:
        if str(evt) in LOCAL or evt is Evt.EVT18:
            continue
        empty = {sta for sta in Sta if (evt, sta) not in COPY}
        assert empty <= {Sta.STA1, Sta.STA4}
