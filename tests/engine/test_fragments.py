"""Messages ↔ presentation data values (PS3.8 Annex E, PS3.7 6.3.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire import C_ECHO, C_ECHO_COMMAND, CT
from isocenter.engine.dimse.message_codec import CEchoRequest, CFindRequest, encode_message
from isocenter.engine.errors import LimitExceeded, RemoteProtocolError
from isocenter.engine.events import DataSetReceived, MessageReceived
from isocenter.engine.framing import DataHeader, Fragment, Framer
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.pdv import PDV_OVERHEAD, MessageAssembler, encode_fragments
from isocenter.engine.uid import VERIFICATION
from vectors.reader import read_vector

FIND = CFindRequest(message_id=2, affected_sop_class_uid=CT)
FIND_COMMAND = encode_message(FIND, has_data_set=True)


def fragment(
    data: bytes, *, context_id: int = 1, command: bool = False, last: bool = False, left: int = 0
) -> Fragment:
    return Fragment(context_id, command, last, memoryview(data), left)


def begun() -> MessageAssembler:
    assembler = MessageAssembler(DEFAULT_LIMITS)
    received = assembler.receive(fragment(FIND_COMMAND, command=True, last=True))
    assert received == MessageReceived(1, FIND, has_data_set=True)
    return assembler


def test_vector() -> None:
    assembler = MessageAssembler(DEFAULT_LIMITS)
    cuts = list(Framer(DEFAULT_LIMITS).feed(read_vector("p_data_tf")))
    assert cuts[0] == DataHeader(80)
    first, last = (cut for cut in cuts if isinstance(cut, Fragment))
    assert assembler.receive(first) is None
    echo = CEchoRequest(message_id=7, affected_sop_class_uid=VERIFICATION)
    assert assembler.receive(last) == MessageReceived(1, echo, has_data_set=False)


@pytest.mark.parametrize("cut", range(len(C_ECHO_COMMAND) + 1))
def test_a_command_set_in_two_fragments(cut: int) -> None:
    assembler = MessageAssembler(DEFAULT_LIMITS)
    for _ in range(2):  # and nothing of the first stays for the second
        assert assembler.receive(fragment(C_ECHO_COMMAND[:cut], command=True)) is None
        received = assembler.receive(fragment(C_ECHO_COMMAND[cut:], command=True, last=True))
        assert received == MessageReceived(1, C_ECHO, has_data_set=False)


@given(st.integers(16, 400), st.binary(max_size=2_000), st.booleans(), st.booleans())
def test_cut_and_joined(max_length: int, data: bytes, is_command: bool, is_last: bool) -> None:
    buffers = encode_fragments(
        5, data, is_command=is_command, is_last=is_last, max_length=max_length
    )
    stream = b"".join(bytes(buffer) for buffer in buffers)
    cuts = list(Framer(Limits(max_pdu_length=max_length)).feed(stream))
    fragments = [cut for cut in cuts if isinstance(cut, Fragment)]
    assert b"".join(bytes(cut.data) for cut in fragments) == data
    assert len(fragments) == sum(isinstance(cut, DataHeader) for cut in cuts)
    assert [cut.is_last for cut in fragments] == [False] * (len(fragments) - 1) + [is_last] * bool(
        fragments
    )
    assert {(cut.context_id, cut.is_command) for cut in fragments} <= {(5, is_command)}
    # All but the last are of even length and as long as they may be.
    for cut in fragments[:-1]:
        assert len(cut.data) == (max_length - PDV_OVERHEAD) & ~1


def test_nothing_is_copied() -> None:
    data = bytes(1000)
    for max_length in (100, 16_384):
        views = encode_fragments(1, data, is_command=False, is_last=True, max_length=max_length)
        for view in views[1::2]:
            assert view is data or (isinstance(view, memoryview) and view.obj is data)


def test_the_end_of_nothing_is_a_fragment_and_its_middle_is_none() -> None:
    assert encode_fragments(1, b"", is_command=False, is_last=False, max_length=100) == []
    header, empty = encode_fragments(1, b"", is_command=False, is_last=True, max_length=100)
    assert bytes(header) == bytes.fromhex("04 00 00000006 00000002 01 02")
    assert bytes(empty) == b""


# What Annex E forbids.


@pytest.mark.parametrize(
    "second",
    [
        fragment(b"x", context_id=3),
        fragment(b"x", context_id=3, command=True),
        fragment(b"x", command=True),
        fragment(b"", command=True, last=True),
    ],
)
def test_interleaving_within_a_data_set(second: Fragment) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        begun().receive(second)
    assert caught.value.reason == 6
    assembler = begun()
    assembler.receive(fragment(b"data"))
    with pytest.raises(RemoteProtocolError):
        assembler.receive(second)


@pytest.mark.parametrize(
    "second",
    [
        fragment(b"x", context_id=3, command=True),
        fragment(b"x"),
        fragment(b"", last=True),
    ],
)
def test_interleaving_within_a_command_set(second: Fragment) -> None:
    assembler = MessageAssembler(DEFAULT_LIMITS)
    assembler.receive(fragment(C_ECHO_COMMAND[:5], command=True))
    with pytest.raises(RemoteProtocolError):
        assembler.receive(second)


def test_data_comes_after_a_command_that_announced_it() -> None:
    assembler = MessageAssembler(DEFAULT_LIMITS)
    with pytest.raises(RemoteProtocolError, match="before the command set was complete"):
        assembler.receive(fragment(b"data", last=True))
    assembler = MessageAssembler(DEFAULT_LIMITS)
    assembler.receive(fragment(C_ECHO_COMMAND, command=True, last=True))
    with pytest.raises(RemoteProtocolError):
        assembler.receive(fragment(b"data", last=True))


def test_the_next_message_may_come_on_another_context() -> None:
    assembler = begun()
    received = assembler.receive(fragment(b"data", last=True))
    assert isinstance(received, DataSetReceived)
    assert received.is_last
    echo = assembler.receive(fragment(C_ECHO_COMMAND, command=True, last=True, context_id=3))
    assert echo == MessageReceived(3, C_ECHO, has_data_set=False)


# Limits.


def test_a_command_set_is_judged_when_it_is_announced() -> None:
    limits = Limits(command_set=100)
    MessageAssembler(limits).receive(fragment(b"", command=True, left=100))
    with pytest.raises(LimitExceeded) as caught:
        MessageAssembler(limits).receive(fragment(b"", command=True, left=101))
    assert caught.value.limit == "command_set"
    assembler = MessageAssembler(limits)
    assembler.receive(fragment(bytes(60), command=True))
    with pytest.raises(LimitExceeded):
        assembler.receive(fragment(b"", command=True, left=41))


def test_empty_fragments_are_counted_by_message() -> None:
    limits = Limits(empty_fragments=3)
    assembler = MessageAssembler(limits)
    for _ in range(5):
        assembler.receive(fragment(b"", command=True))
        assembler.receive(fragment(FIND_COMMAND, command=True, last=True))
        assert assembler.receive(fragment(b"")) is None
        assembler.receive(fragment(b"data"))
        assembler.receive(fragment(b"", last=True))
    for _ in range(3):
        assembler.receive(fragment(b"", command=True))
    with pytest.raises(LimitExceeded) as caught:
        assembler.receive(fragment(b"", command=True))
    assert caught.value.limit == "empty_fragments"


def test_what_is_still_to_come_is_not_empty() -> None:
    """A chunk that ends with a PDV header is not a fragment without data."""
    assembler = MessageAssembler(Limits(empty_fragments=0))
    for _ in range(3):
        assembler.receive(fragment(b"", command=True, left=len(FIND_COMMAND)))
        assembler.receive(fragment(FIND_COMMAND, command=True, last=True))
        assert assembler.receive(fragment(b"", left=4)) is None
        assert assembler.receive(fragment(b"data", last=True)) is not None
