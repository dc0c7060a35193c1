"""Operations under way: Message IDs, windows, cancel, and answers to nobody (PS3.7 9.1)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.wire import (
    CT,
    ECHO_CONTEXT,
    REQUEST,
    STORE_CONTEXT,
    Wire,
    in_chunks,
    joined,
    p_data,
    pdv,
)
from isocenter.engine.commands import SendMessage
from isocenter.engine.dimse.message_codec import (
    CCancelRequest,
    CEchoRequest,
    CEchoResponse,
    CFindRequest,
    CFindResponse,
    CStoreRequest,
    CStoreResponse,
    Message,
    UnrecognizedMessage,
    UnrecognizedMessageResponse,
    encode_message,
    response_to,
)
from isocenter.engine.dimse.operations import Operations
from isocenter.engine.dimse.status import Status
from isocenter.engine.effects import Effect
from isocenter.engine.errors import LocalProtocolError, RemoteProtocolError
from isocenter.engine.events import CancelReceived, MessageReceived, ProviderAborted
from isocenter.engine.items import AsynchronousOperationsWindow
from isocenter.engine.negotiation import Acceptor, Offer, Role
from isocenter.engine.states import Sta
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION

CONTEXT = 3


def echo(message_id: int) -> CEchoRequest:
    return CEchoRequest(message_id=message_id, affected_sop_class_uid=VERIFICATION)


def find(message_id: int) -> CFindRequest:
    return CFindRequest(message_id=message_id, affected_sop_class_uid=CT)


def store(message_id: int) -> CStoreRequest:
    return CStoreRequest(
        message_id=message_id, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3"
    )


def matches(message_id: int, status: int) -> CFindResponse:
    return CFindResponse(message_id_being_responded_to=message_id, status=status)


def cancel(message_id: int) -> CCancelRequest:
    return CCancelRequest(message_id_being_responded_to=message_id)


def snapshot(operations: Operations) -> tuple[object, ...]:
    return dict(operations.invoked), dict(operations.performed), operations.window


# What we send.


def test_an_operation_is_outstanding_until_its_final_response() -> None:
    ours = Operations(window=0)
    ours.send(CONTEXT, find(7))
    assert ours.invoked[7].kind is CFindRequest
    ours.receive(CONTEXT, matches(7, Status.PENDING))
    ours.receive(CONTEXT, matches(7, Status.PENDING_WARNING))
    assert 7 in ours.invoked
    ours.receive(CONTEXT, matches(7, Status.SUCCESS))
    assert not ours.invoked


def test_performed_operations_end_with_our_final_response() -> None:
    ours = Operations()
    ours.receive(CONTEXT, find(7))
    ours.send(CONTEXT, matches(7, Status.PENDING))
    assert 7 in ours.performed
    ours.send(CONTEXT, matches(7, Status.CANCEL))
    assert not ours.performed


def test_a_pending_status_ends_what_has_no_pending_responses() -> None:
    """PS3.7 9.1.1: C-STORE has one response."""
    ours = Operations()
    ours.send(CONTEXT, store(7))
    ours.receive(CONTEXT, CStoreResponse(message_id_being_responded_to=7, status=Status.PENDING))
    assert not ours.invoked


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (echo(1), "Message ID 1 is outstanding"),
        (echo(3), "2 operations are outstanding"),
        (matches(9, Status.SUCCESS), "Message ID 9, which asks for none"),
        (CEchoResponse(message_id_being_responded_to=5, status=0), "which asks for none"),
        (cancel(1), "nothing that can be cancelled"),
        (cancel(9), "nothing that can be cancelled"),
    ],
)
def test_what_we_may_not_send_changes_nothing(message: Message, why: str) -> None:
    ours = Operations(window=2)
    ours.send(CONTEXT, store(1))
    ours.send(CONTEXT, find(2))
    ours.receive(CONTEXT, find(5))
    before = snapshot(ours)
    with pytest.raises(LocalProtocolError, match=why):
        ours.send(CONTEXT, message)
    assert snapshot(ours) == before


def test_responses_and_cancels_keep_to_the_context_of_the_request() -> None:
    ours = Operations(window=2)
    ours.send(CONTEXT, find(1))
    ours.receive(CONTEXT, find(1))  # both directions count for themselves
    before = snapshot(ours)
    with pytest.raises(LocalProtocolError, match="presentation context 5"):
        ours.send(5, matches(1, Status.SUCCESS))
    with pytest.raises(LocalProtocolError, match="nothing that can be cancelled"):
        ours.send(5, cancel(1))
    assert snapshot(ours) == before


def test_message_ids_come_in_turn_and_skip_what_is_outstanding() -> None:
    ours = Operations(window=0)
    assert [ours.next_message_id() for _ in range(3)] == [1, 2, 3]
    ours.send(CONTEXT, echo(5))
    assert [ours.next_message_id() for _ in range(3)] == [4, 6, 7]
    for message_id in range(8, 0x10000):
        assert ours.next_message_id() == message_id
    assert ours.next_message_id() == 1


def test_all_message_ids_taken() -> None:
    ours = Operations(window=0)
    for message_id in range(1, 0x10000):
        ours.send(CONTEXT, echo(message_id))
    with pytest.raises(LocalProtocolError, match="all Message IDs"):
        ours.next_message_id()


@pytest.mark.parametrize(("window", "room"), [(0, 100), (1, 1), (3, 3)])
def test_the_window_is_full_when_as_many_are_outstanding(window: int, room: int) -> None:
    ours = Operations(window)
    for message_id in range(1, room + 1):
        assert not ours.is_window_full
        ours.send(CONTEXT, echo(message_id))
    assert ours.is_window_full == (window > 0)


# What the peer sends.


def test_a_message_id_that_is_taken_gets_duplicate_invocation() -> None:
    ours = Operations()
    ours.receive(CONTEXT, find(7))
    answer = ours.receive(CONTEXT, store(7))
    assert isinstance(answer, UnrecognizedMessage)
    assert answer.status == Status.DUPLICATE_INVOCATION
    response = response_to(answer, answer.status, error_comment=answer.error)
    ours.send(CONTEXT, response)
    assert ours.performed[7].kind is CFindRequest, "the first goes on"
    assert isinstance(response, UnrecognizedMessageResponse)
    assert response.command_field == 0x8001, "a C-STORE-RSP"
    ours.send(CONTEXT, matches(7, Status.SUCCESS))
    assert ours.receive(CONTEXT, store(7)) == store(7), "free again"


@pytest.mark.parametrize(
    ("context_id", "response", "why"),
    [
        (CONTEXT, matches(8, Status.SUCCESS), "Message ID 8, which is not outstanding"),
        (
            CONTEXT,
            CEchoResponse(message_id_being_responded_to=7, status=0),
            "C-ECHO-RSP to a C-FIND-RQ",
        ),
        (5, matches(7, Status.PENDING), "presentation context 5"),
    ],
)
def test_an_answer_to_what_was_not_asked(context_id: int, response: Message, why: str) -> None:
    ours = Operations()
    ours.send(CONTEXT, find(7))
    with pytest.raises(RemoteProtocolError, match=why):
        ours.receive(context_id, response)


def test_a_second_final_response_is_a_fault() -> None:
    ours = Operations()
    ours.send(CONTEXT, find(7))
    ours.receive(CONTEXT, matches(7, Status.SUCCESS))
    with pytest.raises(RemoteProtocolError):
        ours.receive(CONTEXT, matches(7, Status.SUCCESS))


def test_a_cancel_may_cross_the_final_response() -> None:
    """Some SCPs answer it all the same, with FE00H."""
    ours = Operations()
    ours.send(CONTEXT, find(7))
    ours.send(CONTEXT, cancel(7))
    assert ours.receive(CONTEXT, matches(7, Status.PENDING)) is not None
    assert ours.receive(CONTEXT, matches(7, Status.SUCCESS)) is not None
    assert ours.receive(CONTEXT, matches(7, Status.CANCEL)) is None
    with pytest.raises(RemoteProtocolError):  # once
        ours.receive(CONTEXT, matches(7, Status.CANCEL))


def test_cancel_is_handed_up_while_it_means_something() -> None:
    ours = Operations()
    ours.receive(CONTEXT, find(7))
    ours.receive(CONTEXT, store(8))
    assert ours.receive(CONTEXT, cancel(7)) == cancel(7)
    assert ours.performed[7].is_cancelled
    assert ours.receive(CONTEXT, cancel(8)) is None, "a C-STORE cannot be cancelled"
    assert ours.receive(CONTEXT, cancel(9)) is None, "nothing outstanding"
    ours.send(CONTEXT, matches(7, Status.CANCEL))
    assert ours.receive(CONTEXT, cancel(7)) is None, "too late"


# The same through whole associations.


def received(wire: Wire, end: int) -> list[Effect]:
    return [
        effect
        for effect in wire.effects[end]
        if isinstance(effect, MessageReceived | CancelReceived)
    ]


def windowed(invoked: int, performed: int) -> Wire:
    request = replace(
        REQUEST,
        user_information=replace(
            REQUEST.user_information,
            asynchronous_operations_window=AsynchronousOperationsWindow(invoked, performed),
        ),
    )
    how = Acceptor(
        offer=lambda _: Offer(transfer_syntaxes=(IMPLICIT_VR_LITTLE_ENDIAN,)),
        max_pdu_length=16_384,
        max_operations_invoked=4,
        max_operations_performed=4,
    )
    return Wire(how=how).associate(request)


def test_the_negotiated_window_bounds_what_we_send() -> None:
    wire = windowed(3, 1)
    for message_id in (1, 2, 3):
        wire.do(0, SendMessage(ECHO_CONTEXT, echo(message_id)))
    with pytest.raises(LocalProtocolError, match="3 operations are outstanding"):
        wire.do(0, SendMessage(ECHO_CONTEXT, echo(4)))
    wire.carry()
    assert len(received(wire, 1)) == 3
    wire.do(1, SendMessage(ECHO_CONTEXT, response_to(echo(2), 0)))  # in any order
    wire.carry()
    wire.do(0, SendMessage(ECHO_CONTEXT, echo(4)))
    assert sorted(wire.ends[0].operations.invoked) == [1, 3, 4]


def test_without_negotiation_operations_are_synchronous() -> None:
    wire = Wire().associate()
    wire.do(0, SendMessage(ECHO_CONTEXT, echo(1)))
    with pytest.raises(LocalProtocolError, match="1 operations are outstanding"):
        wire.do(0, SendMessage(ECHO_CONTEXT, echo(2)))


def test_both_directions_at_once() -> None:
    """As in C-GET: the peer's C-STOREs come before the answer to our request."""
    wire = Wire().associate()
    wire.do(0, SendMessage(STORE_CONTEXT, find(1), b"keys"))
    wire.carry()
    wire.do(1, SendMessage(STORE_CONTEXT, store(1), b"data"))
    wire.carry()
    wire.do(0, SendMessage(STORE_CONTEXT, response_to(store(1), 0)))
    wire.carry()
    wire.do(1, SendMessage(STORE_CONTEXT, matches(1, Status.SUCCESS)))
    wire.carry()
    assert [end.operations.invoked for end in wire.ends] == [{}, {}]
    assert [end.operations.performed for end in wire.ends] == [{}, {}]


def test_a_response_to_nothing_aborts_the_association() -> None:
    wire = Wire().associate()
    response = encode_message(CEchoResponse(message_id_being_responded_to=1, status=0), False)
    wire.did(0, wire.ends[0].receive_data(p_data(pdv(ECHO_CONTEXT, 3, response))))
    (ended,) = (effect for effect in wire.effects[0] if isinstance(effect, ProviderAborted))
    assert "not outstanding (PS3.7 9.1)" in str(ended.cause)
    wire.carry()
    assert wire.ends[1].state is Sta.STA1


def test_a_refused_send_leaves_the_association_usable() -> None:
    wire = Wire().associate()
    with pytest.raises(LocalProtocolError):
        wire.do(
            0, SendMessage(ECHO_CONTEXT, CEchoResponse(message_id_being_responded_to=1, status=0))
        )
    with pytest.raises(LocalProtocolError):
        wire.do(0, SendMessage(ECHO_CONTEXT, echo(0x1_0000)))  # no US
    assert not wire.ends[0].operations.invoked
    wire.do(0, SendMessage(ECHO_CONTEXT, echo(1)))


def test_a_cancel_has_no_data_set() -> None:
    """PS3.7 9.3.2.3; a peer would take the fragments for those of no message."""
    wire = Wire().associate()
    wire.do(0, SendMessage(STORE_CONTEXT, find(1), b"keys"))
    for command in (
        SendMessage(STORE_CONTEXT, cancel(1), b"keys"),
        SendMessage(STORE_CONTEXT, cancel(1), has_data_set=True),
    ):
        with pytest.raises(
            LocalProtocolError, match=r"^a C-CANCEL-RQ has no data set \(PS3.7 9.3.2.3\)$"
        ):
            wire.do(0, command)
    assert not wire.ends[0].operations.invoked[1].is_cancelled
    wire.do(0, SendMessage(STORE_CONTEXT, cancel(1)))
    assert wire.ends[0].operations.invoked[1].is_cancelled


@pytest.mark.parametrize("size", [1, 1_000])
def test_with_an_ignored_response_its_data_set_is_ignored(size: int) -> None:
    """A second final response after C-CANCEL: nothing of it is handed up, all else is."""
    wire = Wire().associate()
    wire.do(0, SendMessage(STORE_CONTEXT, find(1), b"keys"))
    wire.do(0, SendMessage(STORE_CONTEXT, cancel(1)))
    answers = [
        (matches(1, Status.SUCCESS), b""),
        (matches(1, Status.CANCEL), b"late"),
        (store(1), b"data"),
    ]
    stream = b""
    for message, data in answers:
        stream += p_data(pdv(STORE_CONTEXT, 3, encode_message(message, bool(data))))
        if data:
            stream += p_data(pdv(STORE_CONTEXT, 0, data[:2]), pdv(STORE_CONTEXT, 2, data[2:]))
    wire.effects[0].clear()
    for chunk in in_chunks(stream, size):
        wire.did(0, wire.ends[0].receive_data(chunk))
    assert joined(wire.effects[0]) == [
        MessageReceived(STORE_CONTEXT, matches(1, Status.SUCCESS), has_data_set=False),
        MessageReceived(STORE_CONTEXT, store(1), has_data_set=True),
        (STORE_CONTEXT, b"data"),
    ]


@pytest.mark.parametrize("data", [b"", b"data"])
def test_a_duplicate_is_handed_up_where_it_came(data: bytes) -> None:
    """With its context and its data set, so that whoever answers it 0210H reads on behind it."""
    wire = Wire().associate()
    first, second = (
        p_data(pdv(STORE_CONTEXT, 3, encode_message(store(1), has_data_set)))
        for has_data_set in (False, bool(data))
    )
    end = wire.ends[1]
    end.receive_data(first)
    stream = second + (p_data(pdv(STORE_CONTEXT, 2, data)) if data else b"")
    event, *rest = end.receive_data(stream)
    assert isinstance(event, MessageReceived)
    assert isinstance(event.message, UnrecognizedMessage)
    assert event.message.status == Status.DUPLICATE_INVOCATION
    assert (event.context_id, event.has_data_set) == (STORE_CONTEXT, bool(data))
    assert joined(rest) == ([(STORE_CONTEXT, data)] if data else [])


def test_each_end_knows_its_role() -> None:
    ends = Wire().associate().ends
    assert [end.negotiated.role for end in ends if end.negotiated] == [
        Role.REQUESTOR,
        Role.ACCEPTOR,
    ]
