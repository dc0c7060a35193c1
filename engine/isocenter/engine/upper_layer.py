"""PS3.8 Table 9-10, executable: one cell is one call of `step`.

How to read this file.  The table is the standard's, as printed: one row per
event, one column per state, ``.`` where the standard leaves a cell empty.  An
empty cell in the row of a *local* event is our own mistake and raises
`LocalProtocolError`; no event of the *peer* or the *transport* meets an empty
cell in a state in which a connection exists.

`step` is pure.  It knows no bytes beyond the PDUs that it sends and nothing of
DIMSE: what travels inside P-DATA is the business of
`isocenter.engine.association`, which asks here only whether it may.

Two rules for whoever edits it: everything that decides about states lives here;
and nothing that is not in Tables 9-6 to 9-10 is added here.  Deadlines beyond
ARTIM belong to the driver.
"""

from __future__ import annotations

from typing import Final

from isocenter.engine import pdu
from isocenter.engine.effects import (
    CloseTransport,
    Effect,
    OpenTransport,
    PeerFault,
    SendBytes,
    StartArtim,
    StopArtim,
)
from isocenter.engine.errors import (
    REASON_NOT_SPECIFIED,
    SERVICE_PROVIDER,
    SERVICE_USER,
    LocalProtocolError,
    RemoteProtocolError,
)
from isocenter.engine.events import (
    AssociationAborted,
    AssociationRejected,
    AssociationReleased,
    Event,
    ProviderAborted,
    ReleaseRequested,
)
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Role
from isocenter.engine.states import EVENTS, Action, Evt, Sta

_TABLE_9_10: Final = """
       Sta1  Sta2  Sta3  Sta4  Sta5  Sta6  Sta7  Sta8  Sta9  Sta10 Sta11 Sta12 Sta13
Evt1   AE-1  .     .     .     .     .     .     .     .     .     .     .     .
Evt2   .     .     .     AE-2  .     .     .     .     .     .     .     .     .
Evt3   .     AA-1  AA-8  .     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt4   .     AA-1  AA-8  .     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt5   AE-5  .     .     .     .     .     .     .     .     .     .     .     .
Evt6   .     AE-6  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
Evt7   .     .     AE-7  .     .     .     .     .     .     .     .     .     .
Evt8   .     .     AE-8  .     .     .     .     .     .     .     .     .     .
Evt9   .     .     .     .     .     DT-1  .     AR-7  .     .     .     .     .
Evt10  .     AA-1  AA-8  .     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt11  .     .     .     .     .     AR-1  .     .     .     .     .     .     .
Evt12  .     AA-1  AA-8  .     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt13  .     AA-1  AA-8  .     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
Evt14  .     .     .     .     .     .     .     AR-4  AR-9  .     .     AR-4  .
Evt15  .     .     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  .
Evt16  .     AA-2  AA-3  .     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
Evt17  .     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
Evt18  .     AA-2  .     .     .     .     .     .     .     .     .     .     AA-2
Evt19  .     AA-1  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
"""


def _read_table(printed: str) -> dict[tuple[Evt, Sta], Action]:
    header, *rows = printed.strip().splitlines()
    states = [Sta(name) for name in header.split()]
    table = {}
    for row in rows:
        event, *cells = row.split()
        for state, cell in zip(states, cells, strict=True):
            if cell != ".":
                table[Evt(event), state] = Action(cell)
    return table


#: The 123 cells that the standard fills; a missing key is an empty cell.
TABLE_9_10: Final = _read_table(_TABLE_9_10)

#: The state after each action (Tables 9-6 to 9-9).  AE-6 and AR-8 have a choice: see `step`.
NEXT_STATE: Final = {
    Action.AE_1: Sta.STA4,
    Action.AE_2: Sta.STA5,
    Action.AE_3: Sta.STA6,
    Action.AE_4: Sta.STA1,
    Action.AE_5: Sta.STA2,
    Action.AE_6: Sta.STA3,
    Action.AE_7: Sta.STA6,
    Action.AE_8: Sta.STA13,
    Action.DT_1: Sta.STA6,
    Action.DT_2: Sta.STA6,
    Action.AR_1: Sta.STA7,
    Action.AR_2: Sta.STA8,
    Action.AR_3: Sta.STA1,
    Action.AR_4: Sta.STA13,
    Action.AR_5: Sta.STA1,
    Action.AR_6: Sta.STA7,
    Action.AR_7: Sta.STA8,
    Action.AR_8: Sta.STA9,
    Action.AR_9: Sta.STA11,
    Action.AR_10: Sta.STA12,
    Action.AA_1: Sta.STA13,
    Action.AA_2: Sta.STA1,
    Action.AA_3: Sta.STA1,
    Action.AA_4: Sta.STA1,
    Action.AA_5: Sta.STA1,
    Action.AA_6: Sta.STA13,
    Action.AA_7: Sta.STA13,
    Action.AA_8: Sta.STA13,
}

#: What the sentence of an action says beyond its PDU, indication and timer is nothing:
#: these only let P-DATA pass, or ignore it.
PASSES_DATA: Final = frozenset({Action.DT_1, Action.DT_2, Action.AR_6, Action.AR_7})

#: Those that tell what the peer did wrong (`StepInput.cause`).
NEEDS_CAUSE: Final = frozenset({Action.AA_1, Action.AA_7, Action.AA_8})

#: What is to be done by those actions that do the same whatever came with the event.
_ALWAYS_THE_SAME: Final[dict[Action, tuple[Effect, ...]]] = {
    Action.AE_1: (OpenTransport(),),
    Action.AE_5: (StartArtim(),),
    Action.DT_1: (),
    Action.DT_2: (),
    Action.AR_1: (SendBytes((pdu.encode_release_request(),)),),
    Action.AR_2: (ReleaseRequested(),),
    Action.AR_3: (AssociationReleased(), CloseTransport()),
    Action.AR_4: (SendBytes((pdu.encode_release_response(),)), StartArtim()),
    Action.AR_5: (StopArtim(),),
    Action.AR_6: (),
    Action.AR_7: (),
    Action.AR_9: (SendBytes((pdu.encode_release_response(),)),),
    Action.AR_10: (AssociationReleased(),),
    Action.AA_2: (StopArtim(), CloseTransport()),
    Action.AA_4: (ProviderAborted(REASON_NOT_SPECIFIED, transport_lost=True),),
    Action.AA_5: (StopArtim(),),
    Action.AA_6: (),
}


@dataclass(frozen=True, slots=True)
class UpperLayerState:
    """All that the upper layer remembers: the state, and which side we are."""

    sta: Sta
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInput:
    """What came with an event; each action reads the part that its sentence speaks of."""

    #: The PDU to send with AE-2 and AE-7, encoded.
    encoded: bytes = b""
    #: The indication or confirmation of AE-3 and AE-6.
    indication: Event | None = None
    #: AE-6: the provider itself rejects the request.  AE-8: what the user rejects with.
    reject: pdu.AssociateReject | None = None
    #: The A-ABORT or A-ASSOCIATE-RJ received (AA-3, AE-4).
    received: pdu.Abort | pdu.AssociateReject | None = None
    #: What the peer did wrong (AA-1, AA-7, AA-8).
    cause: RemoteProtocolError | None = None


NO_INPUT: Final = StepInput()


def step(
    state: UpperLayerState, evt: Evt, given: StepInput = NO_INPUT
) -> tuple[UpperLayerState, tuple[Effect, ...]]:
    """One cell of Table 9-10: the next state, and what is to be done in this order.

    Raises:
        LocalProtocolError: the cell is empty; nothing has changed.

    Standard: PS3.8 9.2.2 (Tables 9-6 to 9-10).
    """
    action = TABLE_9_10.get((evt, state.sta))
    if action is None:
        raise LocalProtocolError(
            f"{evt} ({EVENTS[evt]}) is not allowed in {state.sta} (PS3.8 Table 9-10)"
        )
    sta = NEXT_STATE[action]
    effects = _ALWAYS_THE_SAME.get(action)
    if effects is not None:
        return UpperLayerState(sta, state.role), effects
    match action:
        case Action.AE_2 | Action.AE_7:
            effects = (SendBytes((given.encoded,)),)
        case Action.AE_3:
            effects = () if given.indication is None else (given.indication,)
        case Action.AE_4:
            assert isinstance(given.received, pdu.AssociateReject)
            effects = (AssociationRejected(given.received), CloseTransport())
        case Action.AE_6:
            if given.reject is not None:
                sta = Sta.STA13
                effects = (
                    SendBytes((pdu.encode_associate_reject(given.reject),)),
                    StartArtim(),
                    AssociationRejected(given.reject, by_peer=False),
                )
            else:
                assert given.indication is not None
                effects = (StopArtim(), given.indication)
        case Action.AE_8:
            assert given.reject is not None
            effects = (SendBytes((pdu.encode_associate_reject(given.reject),)), StartArtim())
        case Action.AR_8:
            if state.role is Role.ACCEPTOR:
                sta = Sta.STA10
            effects = (ReleaseRequested(is_collision=True),)
        case Action.AA_1:
            abort = pdu.encode_abort(pdu.Abort(SERVICE_USER, REASON_NOT_SPECIFIED))
            effects = (SendBytes((abort,)), StartArtim())
            if given.cause is not None:
                effects += (PeerFault(given.cause),)
        case Action.AA_3:
            assert isinstance(given.received, pdu.Abort)
            aborted: Event = (
                AssociationAborted(given.received.source, given.received.reason)
                if given.received.source == SERVICE_USER
                else ProviderAborted(given.received.reason)
            )
            effects = (aborted, CloseTransport())
        case Action.AA_7 | Action.AA_8:
            reason = given.cause.reason if given.cause else REASON_NOT_SPECIFIED
            effects = (SendBytes((pdu.encode_abort(pdu.Abort(SERVICE_PROVIDER, reason)),)),)
            if action is Action.AA_8:
                effects += (ProviderAborted(reason, given.cause), StartArtim())
            elif given.cause is not None:
                effects += (PeerFault(given.cause),)
        case _:
            raise AssertionError(f"{action} has no effects")
    return UpperLayerState(sta, state.role), effects
