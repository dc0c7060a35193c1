"""Who waits for which response, and the window when several begin at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire import ECHO_CONTEXT, REQUEST, established, p_data, pdv
from isocenter.engine.association import Association
from isocenter.engine.commands import SendMessage
from isocenter.engine.dimse.message_codec import CEchoRequest, CEchoResponse, encode_message
from isocenter.engine.dimse.operations import Operations
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.events import MessageReceived
from isocenter.engine.negotiation import Role
from isocenter.engine.uid import VERIFICATION
from isocenter.engine.waiting import Waiting


def echo(message_id: int) -> CEchoRequest:
    return CEchoRequest(message_id=message_id, affected_sop_class_uid=VERIFICATION)


def response(message_id: int) -> CEchoResponse:
    return CEchoResponse(message_id_being_responded_to=message_id, status=0)


def hear(end: Association, message_id: int) -> CEchoResponse:
    command = encode_message(response(message_id), False)
    (event,) = end.receive_data(p_data(pdv(ECHO_CONTEXT, 3, command)))
    assert isinstance(event, MessageReceived)
    assert isinstance(event.message, CEchoResponse)
    return event.message


def requestor(window: int) -> Association:
    end = established(Role.REQUESTOR, request=REQUEST)
    end.operations.window = window
    return end


def test_each_response_finds_who_asked_whatever_the_order() -> None:
    end = requestor(3)
    waiting = Waiting[str](end.operations)
    for number, name in enumerate(("one", "two", "three"), 1):
        waiting.begin(number, name)
        end.send(SendMessage(ECHO_CONTEXT, echo(number)))
    assert [waiting.of(hear(end, n)) for n in (3, 1, 2)] == ["three", "one", "two"]
    assert sorted(waiting) == ["one", "three", "two"]
    assert waiting.leave(2, "two")
    assert not waiting.leave(2, "two")
    assert len(waiting) == 2


def test_what_nobody_waits_for_any_more_is_owed() -> None:
    end = requestor(2)
    waiting = Waiting[str](end.operations)
    waiting.begin(1, "one")
    end.send(SendMessage(ECHO_CONTEXT, echo(1)))
    assert waiting.owed == frozenset()
    waiting.leave(1, "one")
    assert waiting.owed == {1}
    assert waiting.of(hear(end, 1)) is None
    assert waiting.owed == frozenset()


def test_a_message_id_that_was_given_again_is_not_its_former_owners() -> None:
    waiting = Waiting[str](Operations())
    waiting.begin(1, "former")
    waiting.leave(1, "former")
    waiting.begin(1, "now")
    assert not waiting.leave(1, "former")
    assert waiting.of(response(1)) == "now"


def test_who_begins_has_a_place_until_it_has_sent_or_left() -> None:
    operations = Operations(window=1)
    waiting = Waiting[str](operations)
    waiting.begin(1, "first")
    assert operations.is_window_full
    with pytest.raises(LocalProtocolError, match="as many as were negotiated"):
        operations.send(ECHO_CONTEXT, echo(2))
    operations.send(ECHO_CONTEXT, echo(1))
    assert operations.is_window_full
    operations.receive(ECHO_CONTEXT, response(1))
    assert not operations.is_window_full
    waiting.leave(1, "first")
    waiting.begin(2, "second")
    assert operations.next_message_id() == 1, "2 is taken"
    waiting.leave(2, "second")
    assert not operations.is_window_full
    operations.give_up(2)


@given(st.integers(1, 4), st.lists(st.sampled_from(["reserve", "send", "give up", "end"])))
def test_the_window_is_never_overrun(window: int, steps: list[str]) -> None:
    operations = Operations(window)
    reserved: list[int] = []
    for step in steps:
        if step == "reserve" and not operations.is_window_full:
            reserved.append(operations.next_message_id())
            operations.reserve(reserved[-1])
        elif step == "send" and reserved:
            operations.send(ECHO_CONTEXT, echo(reserved.pop(0)))
        elif step == "give up" and reserved:
            operations.give_up(reserved.pop())
        elif step == "end" and operations.invoked:
            operations.receive(ECHO_CONTEXT, response(next(iter(operations.invoked))))
        taken = len(reserved) + len(operations.invoked)
        assert taken <= window
        assert operations.is_window_full is (taken == window)
