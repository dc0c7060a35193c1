"""Deadlines of an association: each wait, and the next one to end.

The standard knows one timer, ARTIM; everything else that may last for ever is the driver's to end.
The engine has no clock: moments and deadlines are seconds by whatever clock the driver reads.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from operator import itemgetter
from typing import Final

from isocenter.engine.association import Association
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Role
from isocenter.engine.states import Sta


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each wait may last, in seconds; progress restarts those that measure progress."""

    #: From connecting to the transport connection, TLS included (requestor).
    connect: float = 10.0
    #: TLS handshake (requestor); an acceptor counts it into `association_request`.
    tls_handshake: float = 5.0
    #: ARTIM, and an acceptor's one clock from accept over TLS to A-ASSOCIATE-AC.
    association_request: float = 5.0
    #: For A-ASSOCIATE-AC after A-ASSOCIATE-RQ (requestor).
    association_response: float = 30.0
    #: Nothing received, nothing to do: A-ABORT.
    idle: float = 60.0
    #: A DIMSE response, or the next of several.
    response: float = 60.0
    #: A-RELEASE-RP, or the end of operations when the peer asks for release.
    release: float = 10.0
    #: The socket takes no byte.
    write_blocked: float = 30.0
    #: Closing an association that failed: A-ABORT out, connection closed.
    abort: float = 2.0


DEFAULT_DEADLINES = Deadlines()


class Clock(Enum):
    """What runs out: the timer of the standard, and six of ours."""

    #: Tell the engine: ``timer_expired()``.
    ARTIM = "the A-ASSOCIATE-RQ, or the peer's closing (ARTIM)"
    #: Of these five: ``send(Abort())``.
    CONNECT = "the connection"
    ASSOCIATION = "the A-ASSOCIATE-AC"
    RESPONSE = "a response"
    RELEASE = "the A-RELEASE-RP"
    IDLE = "anything from the peer"
    #: Close the connection: an A-ABORT cannot leave either.
    WRITE = "the peer to take what is sent"


@dataclass(slots=True)
class Moments:
    """When what began, by the driver's clock; infinite: it is not going on.

    Attributes:
        artim: `StartArtim` was carried out last; infinite again with `StopArtim`, and after it
            ran out.
        connecting: `OpenTransport` was carried out.
        asked: we asked for the association, an operation or release, or the last response came.
        received: bytes came last.
        writing: the transport took a byte last, while something waits to be written.
    """

    artim: float = inf
    connecting: float = inf
    asked: float = inf
    received: float = inf
    writing: float = inf


def next_deadline(
    association: Association,
    moments: Moments,
    deadlines: Deadlines = DEFAULT_DEADLINES,
    *,
    busy: bool | None = None,
) -> tuple[float, Clock]:
    """When the next wait is over, and what is given up then; infinite: nothing is waited for.

    In Sta3, Sta8, Sta9 and Sta12 the peer waits for us, and no clock but that of writing runs.

    Args:
        busy: whether the peer has a reason to be silent between two messages, since it waits for
            us; None: that an operation of either side is outstanding.
    """
    waits = [
        (moments.artim + deadlines.association_request, Clock.ARTIM),
        (moments.writing + deadlines.write_blocked, Clock.WRITE),
    ]
    sta = association.state
    if sta is Sta.STA6:
        operations = association.operations
        if busy is None:
            busy = bool(operations.invoked or operations.performed)
        may_be_silent = busy or association.role is Role.REQUESTOR
        if association.is_receiving_data_set or not may_be_silent:
            waits.append((moments.received + deadlines.idle, Clock.IDLE))
        if operations.invoked:
            waits.append((moments.asked + deadlines.response, Clock.RESPONSE))
    elif sta is Sta.STA4:
        waits.append((moments.connecting + deadlines.connect, Clock.CONNECT))
    elif sta is Sta.STA5:
        waits.append((moments.asked + deadlines.association_response, Clock.ASSOCIATION))
    elif sta in _AWAITING_RELEASE:
        waits.append((moments.asked + deadlines.release, Clock.RELEASE))
    return min(waits, key=itemgetter(0))


_AWAITING_RELEASE: Final = frozenset({Sta.STA7, Sta.STA10, Sta.STA11})
