"""Which wait ends next: one clock for each state, and what restarts it."""

from __future__ import annotations

from math import inf

import pytest

from engine.wire import (
    C_ECHO,
    ECHO_CONTEXT,
    P_DATA_ECHO,
    STORE_CONTEXT,
    end_in,
    established,
    p_data,
    pdv,
)
from isocenter.engine.association import Association
from isocenter.engine.commands import SendMessage
from isocenter.engine.deadlines import Clock, Deadlines, Moments, next_deadline
from isocenter.engine.dimse.message_codec import CStoreRequest, encode_message
from isocenter.engine.negotiation import Role
from isocenter.engine.states import Sta

#: Each of another length, so that none is taken for another.
DEADLINES = Deadlines(
    connect=1,
    association_request=2,
    association_response=3,
    idle=4,
    response=5,
    release=6,
    write_blocked=7,
)


def due(end: Association, busy: bool | None = None, **moments: float) -> tuple[float, Clock]:
    return next_deadline(end, Moments(**moments), DEADLINES, busy=busy)


def without_artim(end: Association, busy: bool | None = None) -> tuple[float, Clock]:
    return due(end, busy, connecting=200, asked=300, received=400, writing=500)


def expected(sta: Sta) -> tuple[float, Clock]:
    return {
        Sta.STA4: (201.0, Clock.CONNECT),
        Sta.STA5: (303.0, Clock.ASSOCIATION),
        Sta.STA6: (404.0, Clock.IDLE),
        Sta.STA7: (306.0, Clock.RELEASE),
        Sta.STA10: (306.0, Clock.RELEASE),
        Sta.STA11: (306.0, Clock.RELEASE),
    }.get(sta, (507.0, Clock.WRITE))


@pytest.mark.parametrize("sta", Sta)
def test_each_state_has_its_clock(sta: Sta) -> None:
    assert without_artim(end_in(sta)) == expected(sta)
    assert due(end_in(sta), artim=100, connecting=200, asked=300, received=400, writing=500) == (
        102.0,
        Clock.ARTIM,
    )
    assert due(end_in(sta), writing=-10, artim=100, connecting=200, asked=300, received=400) == (
        -3.0,
        Clock.WRITE,
    )


@pytest.mark.parametrize("sta", Sta)
def test_what_is_not_going_on_never_ends(sta: Sta) -> None:
    assert due(end_in(sta))[0] == inf


def storing(end: Association) -> Association:
    request = CStoreRequest(
        message_id=9, affected_sop_class_uid="1.2", affected_sop_instance_uid="1.2"
    )
    end.receive_data(p_data(pdv(STORE_CONTEXT, 3, encode_message(request, True))))
    return end


def performing(end: Association) -> Association:
    end.receive_data(P_DATA_ECHO)
    return end


def invoking(end: Association) -> Association:
    end.send(SendMessage(ECHO_CONTEXT, C_ECHO))
    return end


SCU, SCP = Role.REQUESTOR, Role.ACCEPTOR


@pytest.mark.parametrize(
    ("end", "busy", "clock"),
    [
        (established(SCP), None, Clock.IDLE),
        (established(SCP), True, Clock.WRITE),  # whoever performs for it knows better
        (performing(established(SCP)), None, Clock.WRITE),  # it waits for us
        (performing(established(SCP)), False, Clock.IDLE),
        (storing(established(SCP)), None, Clock.IDLE),  # in the middle of a data set
        (storing(established(SCP)), True, Clock.IDLE),
        (established(SCU), None, Clock.WRITE),  # we are the one who asks
        (storing(established(SCU)), None, Clock.IDLE),
        (invoking(established(SCU)), None, Clock.RESPONSE),
        (invoking(established(SCP)), None, Clock.RESPONSE),
    ],
)
def test_when_silence_counts(end: Association, busy: bool | None, clock: Clock) -> None:
    assert without_artim(end, busy)[1] is clock


def test_a_response_that_is_late_comes_before_an_idle_peer() -> None:
    end = storing(invoking(established(SCP)))
    assert due(end, asked=300, received=400) == (305.0, Clock.RESPONSE)
    assert due(end, asked=500, received=400) == (404.0, Clock.IDLE)
