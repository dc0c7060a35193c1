"""Frames of MLLP: the same messages whatever the chunks, and never more than one held."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.integration.hl7.mllp import (
    FrameEvent,
    MessageTooLong,
    MessageUnfinished,
    MllpDecoder,
    MllpMessage,
    frame,
)

LIMIT = 64


def events_of(chunks: list[bytes]) -> tuple[list[FrameEvent], int]:
    framer = MllpDecoder(LIMIT)
    return [event for chunk in chunks for event in framer.receive(chunk)], framer.stray


def test_a_frame_is_a_message() -> None:
    assert events_of([b"\x0bMSH|\x1c\r"]) == ([MllpMessage(b"MSH|")], 0)


def test_two_messages_in_one_packet() -> None:
    events, stray = events_of([frame(b"one") + frame(b"two")])
    assert events == [MllpMessage(b"one"), MllpMessage(b"two")]
    assert stray == 0


def test_the_return_after_the_end_is_not_waited_for() -> None:
    assert events_of([b"\x0bone\x1c"])[0] == [MllpMessage(b"one")]
    assert events_of([b"\x0bone\x1c\x0btwo\x1c\r"]) == (
        [MllpMessage(b"one"), MllpMessage(b"two")], 0,
    )  # fmt: skip


def test_bytes_between_messages_are_counted() -> None:
    events, stray = events_of([b"\r\nhello", frame(b"one"), b"\r\n", frame(b"two")])
    assert events == [MllpMessage(b"one"), MllpMessage(b"two")]
    assert stray == len(b"\r\nhello" + b"\r\n")


def test_a_start_within_a_message_begins_anew() -> None:
    events, _ = events_of([b"\x0bhalf\x0bwhole\x1c\r"])
    assert events == [MessageUnfinished(4), MllpMessage(b"whole")]


def test_a_message_over_the_limit_is_told_with_its_head() -> None:
    (event,), _ = events_of([b"\x0b", b"MSH|", b"x" * LIMIT, b"y" * 10_000, b"\x1c\r"])
    assert isinstance(event, MessageTooLong)
    assert event.length == 4 + LIMIT + 10_000
    assert event.head == b"MSH|" + b"x" * (LIMIT - 4)


def test_a_message_of_the_limit_is_none_too_many() -> None:
    assert events_of([frame(b"x" * LIMIT)])[0] == [MllpMessage(b"x" * LIMIT)]


@given(
    st.lists(st.sampled_from([b"\x0b", b"\x1c", b"\r", b"A", b"bc" * 20]), max_size=40),
    st.lists(st.integers(0, 200), max_size=10),
)
def test_chunks_change_nothing(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    cut_up = [data[start:end] for start, end in pairwise(ends)]
    whole = events_of([data])
    assert events_of(cut_up) == whole
    assert events_of([bytes([byte]) for byte in data]) == whole
    for event in whole[0]:
        if isinstance(event, MllpMessage):
            assert not {0x0B, 0x1C} & set(event.data)
            assert len(event.data) <= LIMIT
