"""What `allows` says is what `send` does, in every state; and `is_over` holds in every case."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.streams import traffic
from engine.wire import (
    A_ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    COMMANDS,
    CT,
    ECHO_CONTEXT,
    PDUS,
    RELEASE_RP,
    RELEASE_RQ,
    STORE_CONTEXT,
    UNRECOGNIZED,
    answer,
    end_in,
    established,
    listening,
    requesting,
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
    UnrecognizedMessage,
    UnrecognizedMessageResponse,
)
from isocenter.engine.effects import CloseTransport, SendBytes, StartArtim, StopArtim
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.events import AssociationReleased, Event
from isocenter.engine.negotiation import Role, associate_request
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest
from isocenter.engine.states import Sta
from isocenter.engine.uid import VERIFICATION

numbers = st.sampled_from([0, 1, 2, 7, 8, 0xFFFF, 0x10000, -1])
uids = st.sampled_from([VERIFICATION, CT, "1.2.3", "", "no UID", "1.2\N{BULLET}", "1." * 60])
contexts = st.sampled_from([ECHO_CONTEXT, STORE_CONTEXT, 5, 2, -1, 300])
statuses = st.sampled_from([0, 0xFF00, 0xFE00, 0x0110, -1, 0x10000])
messages = st.one_of(
    st.builds(CEchoRequest, message_id=numbers, affected_sop_class_uid=uids),
    st.builds(
        CStoreRequest,
        message_id=numbers,
        affected_sop_class_uid=uids,
        affected_sop_instance_uid=uids,
    ),
    st.builds(CFindRequest, message_id=numbers, affected_sop_class_uid=uids),
    st.builds(CCancelRequest, message_id_being_responded_to=numbers),
    st.builds(CEchoResponse, message_id_being_responded_to=numbers, status=statuses),
    st.builds(CStoreResponse, message_id_being_responded_to=numbers, status=statuses),
    st.builds(CFindResponse, message_id_being_responded_to=numbers, status=statuses),
    st.just(UnrecognizedMessage(command_field=1, message_id=1, status=1, error="")),
    st.builds(
        UnrecognizedMessageResponse,
        command_field=numbers,
        message_id_being_responded_to=numbers,
        status=statuses,
        error_comment=st.sampled_from(["", "x" * 100]),
    ),
)
buffers = st.sampled_from([b"", b"data", bytes(40_000), memoryview(b"no")[::2], bytearray(3)])


def asking(called: str, window: int, syntax: str) -> RequestAssociation:
    return RequestAssociation(
        associate_request(called, "B", [(syntax, ["1.2"])], operations_invoked=window)
    )


def accepting(length: int, titles: str) -> AcceptAssociation:
    accept = answer()
    info = accept.user_information
    return AcceptAssociation(
        AssociateAccept(
            called_ae_title=titles,
            calling_ae_title=accept.calling_ae_title,
            presentation_contexts=accept.presentation_contexts,
            user_information=type(info)(max_pdu_length=length, implementation_class_uid="1.2.3"),
        )
    )


titles = st.sampled_from(["A", "", " ", "x" * 17, "\\", "\N{BULLET}"])
commands: st.SearchStrategy[Command] = st.one_of(
    st.sampled_from([*COMMANDS.values()]),
    st.builds(SendMessage, contexts, messages, st.none() | buffers, st.booleans()),
    st.builds(SendDataSet, contexts, buffers, st.booleans()),
    st.builds(RejectAssociation, st.builds(AssociateReject, numbers, numbers, numbers)),
    st.builds(asking, titles, numbers, uids),
    st.builds(accepting, st.sampled_from([0, 16_384, -1, 1 << 32]), titles),
    st.sampled_from([RequestRelease(), AcceptRelease(), Abort()]),
)


def inside(value: object) -> object:
    """All that *value* holds, as text."""
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    names = [*getattr(value, "__dict__", {}), *slots]
    return {name: repr(getattr(value, name)) for name in names}


def all_of(end: Association) -> object:
    return [inside(each) for each in (end, end.operations, end._framer, end._assembler)]


def ask(end: Association, command: Command) -> bool:
    """Whether it is allowed; that `send` says the same, and that the question changes nothing."""
    before = all_of(end)
    refusal, allows = end.refusal(command), end.allows(command)
    assert all_of(end) == before
    assert allows is (refusal is None)
    try:
        end.send(command)
    except LocalProtocolError as error:
        raised = error
    else:
        assert refusal is None
        return True
    assert str(refusal) == str(raised)
    assert all_of(end) == before
    return False


@pytest.mark.parametrize("sta", Sta)
@given(data=st.data())
def test_allows_is_what_send_does(sta: Sta, data: st.DataObject) -> None:
    end = end_in(sta)
    for _ in range(4):
        ask(end, data.draw(commands))


inputs = st.one_of(
    commands,
    st.sampled_from([*PDUS.values(), ASSOCIATE_RQ + A_ABORT, RELEASE_RQ + RELEASE_RP]),
    traffic,
    st.sampled_from(["opened", "closed", "expired"]),
)


def put(end: Association, what: Command | bytes | str) -> None:
    match what:
        case bytes():
            end.receive_data(what)
        case "opened":
            try:
                end.transport_opened()
            except LocalProtocolError:
                pass
        case "closed":
            end.transport_closed()
        case "expired":
            end.timer_expired()
        case _:
            ask(end, what)  # type: ignore[arg-type]


@given(st.sampled_from(Role), st.lists(inputs, max_size=12), st.lists(commands, max_size=3))
def test_whatever_came_before_allows_is_exact_and_an_end_is_one(
    role: Role, history: list[Command | bytes | str], then: list[Command]
) -> None:
    end = listening() if role is Role.ACCEPTOR else Association(role)
    was_over = False
    for what in history:
        put(end, what)
        assert end.is_over or not was_over, "an association came back"
        was_over = end.is_over
    for command in then:
        over = end.is_over
        assert not (ask(end, command) and over), "something was sent after the end"


def over_by_release_of_the_peer() -> Association:
    end = established()
    end.receive_data(RELEASE_RQ)
    assert not end.is_over, "our answer is still owed"
    end.send(AcceptRelease())
    return end


def over_by_release_of_ours() -> Association:
    end = established()
    end.send(RequestRelease())
    assert not end.is_over
    end.receive_data(RELEASE_RP)
    return end


def over_by_collision(role: Role) -> Association:
    end = established(role)
    end.send(RequestRelease())
    end.receive_data(RELEASE_RQ)
    assert not end.is_over
    if role is Role.REQUESTOR:
        end.send(AcceptRelease())
        assert not end.is_over, "the peer's answer is still to come"
        end.receive_data(RELEASE_RP)
    else:
        assert end.receive_data(RELEASE_RP) == (AssociationReleased(),)
        assert not end.is_over, "it was released, and the peer waits for our answer"
        end.send(AcceptRelease())
    return end


def told(end: Association, chunk: bytes) -> Association:
    assert not end.is_over
    end.receive_data(chunk)
    return end


def did(end: Association, command: Command) -> Association:
    assert not end.is_over
    end.send(command)
    return end


def lost(end: Association) -> Association:
    assert not end.is_over
    end.transport_closed()
    return end


def expired(end: Association) -> Association:
    assert not end.is_over
    end.timer_expired()
    return end


ENDS = {
    "the peer releases": over_by_release_of_the_peer,
    "we release": over_by_release_of_ours,
    "collision, requestor": lambda: over_by_collision(Role.REQUESTOR),
    "collision, acceptor": lambda: over_by_collision(Role.ACCEPTOR),
    "the peer aborts": lambda: told(established(), A_ABORT),
    "the peer rejects": lambda: told(requesting(), ASSOCIATE_RJ),
    "the peer is wrong": lambda: told(established(), UNRECOGNIZED),
    "the peer is wrong at once": lambda: told(listening(), ASSOCIATE_AC),
    "version not supported": lambda: told(
        listening(), ASSOCIATE_RQ[:6] + b"\0\2" + ASSOCIATE_RQ[8:]
    ),
    "we abort": lambda: did(established(), Abort()),
    "we abort while connecting": lambda: did(end_in(Sta.STA4), Abort()),
    "we reject": lambda: did(end_in(Sta.STA3), RejectAssociation(AssociateReject(1, 1, 7))),
    "lost": lambda: lost(established()),
    "lost while connecting": lambda: lost(end_in(Sta.STA4)),
    "lost before a word": lambda: lost(listening()),
    "ARTIM": lambda: expired(listening()),
}


@pytest.mark.parametrize("how", ENDS)
def test_is_over_holds_however_it_ended(how: str) -> None:
    end = ENDS[how]()
    assert end.is_over
    assert not any(map(end.allows, COMMANDS.values()))
    end.transport_closed()
    end.timer_expired()
    assert end.is_over
    assert not any(map(end.allows, COMMANDS.values()))


@pytest.mark.parametrize("sta", [sta for sta in Sta if sta is not Sta.STA13])
def test_is_over_is_false_before_the_end(sta: Sta) -> None:
    assert not end_in(sta).is_over


EVENTS = get_args(Event)


@given(st.sampled_from([established, listening, requesting]), st.lists(traffic, max_size=3))
def test_what_follows_an_event_in_an_answer_is_another_event_or_the_end(
    begin: object, chunks: list[bytes]
) -> None:
    """So a handler may call `send` at once: no bytes of the engine are to leave before its own."""
    end: Association = begin()  # type: ignore[operator]
    for chunk in chunks:
        effects = end.receive_data(chunk)
        events = [isinstance(effect, EVENTS) for effect in effects]
        orders = [
            isinstance(effect, SendBytes | CloseTransport | StartArtim | StopArtim)
            for effect in effects
        ]
        if True in events and True in orders[events.index(True) :]:
            assert end.is_over


def test_the_request_is_one_that_both_sides_know() -> None:
    """The strategies above make commands that are allowed, too."""
    request = asking("A", 4, VERIFICATION).request
    assert isinstance(request, AssociateRequest)
    assert ask(Association(Role.REQUESTOR), RequestAssociation(request))
    assert ask(end_in(Sta.STA3), accepting(16_384, "A"))
    end = established(Role.REQUESTOR)
    store = CStoreRequest(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2")
    assert ask(end, SendMessage(STORE_CONTEXT, store, has_data_set=True))
    assert not ask(end, RequestRelease())
    assert ask(end, SendDataSet(STORE_CONTEXT, b"data", is_last=True))
    assert not ask(end, SendMessage(STORE_CONTEXT, store)), "the window is full"
