"""The short way to read a command set says what the long way says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.test_message_faults import COMPLETE
from isocenter.engine.dimse import command_set_cache as layouts
from isocenter.engine.dimse import message_codec as messages
from isocenter.engine.dimse.command_set_cache import Layouts
from isocenter.engine.dimse.message_codec import CEchoRequest, Message, encode_message
from isocenter.engine.errors import RemoteProtocolError


def outcome(data: bytes) -> object:
    try:
        return messages.decode_message(data)
    except RemoteProtocolError as error:
        return str(error)


def the_long_way(data: bytes, monkeypatch: pytest.MonkeyPatch) -> object:
    with monkeypatch.context() as patch:
        patch.setattr(messages, "_LAYOUTS", Layouts())
        return outcome(data)


@given(
    st.sampled_from(COMPLETE),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
)
def test_both_ways_agree(
    message: Message, has_data_set: bool, changes: list[tuple[int, int]]
) -> None:
    """Also for bytes that differ a little from what came before, of the same length."""
    data = bytearray(encode_message(message, has_data_set))
    messages.decode_message(bytes(data))  # remembered
    for position, value in changes:
        data[position % len(data)] = value
    with pytest.MonkeyPatch.context() as patch:
        assert outcome(bytes(data)) == the_long_way(bytes(data), patch)


@pytest.mark.parametrize("message", COMPLETE, ids=lambda message: type(message).__name__)
def test_the_second_of_a_look_goes_the_short_way(
    message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode_message(message, has_data_set=True)
    first = messages.decode_message(data)

    def never(_: object) -> None:
        raise AssertionError("the long way")

    monkeypatch.setattr(messages, "_decode", never)
    assert messages.decode_message(data) == first
    assert messages.decode_message(memoryview(data)) == first


def test_an_element_that_stands_twice_is_not_remembered() -> None:
    echo = encode_message(CEchoRequest(message_id=1, affected_sop_class_uid="1.2"), False)
    again = echo + bytes.fromhex("0000 1001 02000000 0900".replace(" ", ""))
    for _ in range(2):
        message, _ = messages.decode_message(again)
        assert isinstance(message, CEchoRequest)
        assert message.message_id == 9, "the last one counts"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Layouts()
    monkeypatch.setattr(messages, "_LAYOUTS", seen)
    for length in range(0, 2_000, 2):
        echo = CEchoRequest(message_id=1, affected_sop_class_uid="1" * length or "1")
        for has_data_set in (True, False):
            messages.decode_message(encode_message(echo, has_data_set))
    kept = seen._by_length
    assert len(kept) <= layouts._MOST_LENGTHS
    assert max(kept) <= layouts._LONGEST
    assert all(len(of_a_length) <= layouts._MOST_OF_A_LENGTH for of_a_length in kept.values())
