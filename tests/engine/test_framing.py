"""Bytes → control PDUs and fragments: lengths judged at their header, no copies, bounded memory."""

from __future__ import annotations

import struct
import tracemalloc

import pytest

from engine.wire import (
    ASSOCIATE_AC,
    ASSOCIATE_RQ,
    C_ECHO_COMMAND,
    RELEASE_RP,
    RELEASE_RQ,
    abort_pdu,
    established,
    in_chunks,
    listening,
    p_data,
    pdu_of,
    pdv,
    requesting,
    sent,
)
from isocenter.engine.buffers import Buffer
from isocenter.engine.errors import LimitExceeded, RemoteProtocolError
from isocenter.engine.events import ProviderAborted
from isocenter.engine.framing import ControlPdu, Cut, DataHeader, Fragment, Framer
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.pdu import PduType
from isocenter.engine.states import Sta

MANY = b"".join(
    [
        ASSOCIATE_RQ,
        p_data(pdv(1, 1, b"comm"), pdv(1, 3, b"and")),
        p_data(pdv(1, 0, b"data " * 20), pdv(1, 0, b""), pdv(1, 2, b"set")),
        RELEASE_RQ,
        RELEASE_RP,
    ]
)
CUTS = [
    ControlPdu(PduType.A_ASSOCIATE_RQ, ASSOCIATE_RQ[6:]),
    DataHeader(19),
    Fragment(1, True, False, memoryview(b"comm"), 0),
    Fragment(1, True, True, memoryview(b"and"), 0),
    DataHeader(121),
    Fragment(1, False, False, memoryview(b"data " * 20), 0),
    Fragment(1, False, False, memoryview(b""), 0),
    Fragment(1, False, True, memoryview(b"set"), 0),
    ControlPdu(PduType.A_RELEASE_RQ, bytes(4)),
    ControlPdu(PduType.A_RELEASE_RP, bytes(4)),
]


def joined(cuts: list[Cut]) -> list[Cut]:
    """The pieces of one fragment put together."""
    result: list[Cut] = []
    for cut in cuts:
        previous = result[-1] if result else None
        if isinstance(cut, Fragment) and isinstance(previous, Fragment) and previous.remaining:
            assert previous.remaining == len(cut.data) + cut.remaining
            result[-1] = cut._replace(data=memoryview(bytes(previous.data) + bytes(cut.data)))
        else:
            result.append(cut)
    return result


def test_one_chunk() -> None:
    framer = Framer(DEFAULT_LIMITS)
    assert list(framer.feed(MANY)) == CUTS
    assert framer.is_between_pdus


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 11, 64, 127])
def test_any_chunks(size: int) -> None:
    framer = Framer(DEFAULT_LIMITS)
    cuts = [cut for chunk in in_chunks(MANY, size) for cut in framer.feed(chunk)]
    assert joined(cuts) == CUTS
    assert framer.is_between_pdus


def test_is_between_pdus() -> None:
    framer = Framer(DEFAULT_LIMITS)
    ends = set()
    position = 0
    while position < len(MANY):
        position += 6 + int.from_bytes(MANY[position + 2 : position + 6], "big")
        ends.add(position)
    for end in range(1, len(MANY) + 1):
        list(framer.feed(MANY[end - 1 : end]))
        assert framer.is_between_pdus == (end in ends)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_fragments_are_views_of_their_chunk(kind: type) -> None:
    data = p_data(pdv(1, 0, bytes(1000)))
    chunk: Buffer = kind(data)
    (fragment,) = [cut for cut in Framer(DEFAULT_LIMITS).feed(chunk) if isinstance(cut, Fragment)]
    assert fragment.data.obj is (data if kind is memoryview else chunk)


def test_after_a_fault_everything_is_dropped() -> None:
    framer = Framer(DEFAULT_LIMITS)
    with pytest.raises(RemoteProtocolError):
        list(framer.feed(pdu_of(9, b"") + RELEASE_RQ))
    assert framer.is_discarding
    assert list(framer.feed(RELEASE_RQ)) == []


# Judged at the header: six bytes (or twelve) are enough for the answer.


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (struct.pack(">BxI", 1, (1 << 20) + 1), 6),
        (struct.pack(">BxI", 1, 0xFFFF_FFFF), 6),
        (struct.pack(">BxI", 2, 1 << 30), 6),
        (struct.pack(">BxI", 3, 5), 6),
        (struct.pack(">BxI", 4, 131_073), 6),
        (struct.pack(">BxI", 4, 0xFFFF_FFFF), 6),
        (struct.pack(">BxI", 4, 5), 6),
        (struct.pack(">BxI", 5, 0xFFFF_FFFF), 6),
        (struct.pack(">BxI", 7, 0), 6),
        (struct.pack(">BxI", 8, 4), 1),
        (struct.pack(">BxIIBB", 4, 100, 97, 1, 3), 6),
        (struct.pack(">BxIIBB", 4, 100, 0xFFFF_FFFF, 1, 3), 6),
        (struct.pack(">BxIIBB", 4, 100, 1, 1, 3), 6),
        (struct.pack(">BxIIBB", 4, 100, 0, 1, 3), 6),
        (struct.pack(">BxIIBB", 4, 100, 91, 1, 3), 6),
        (struct.pack(">BxIIBB", 4, 100, 96, 2, 3), 6),
        (struct.pack(">BxIIBB", 4, 100, 96, 5, 3), 6),
        (struct.pack(">BxIIBB", 4, 100, 96, 1, 2), 6),
        (struct.pack(">BxIIBB", 4, 70_006, 65_538 + 4_464, 1, 3), 6),
    ],
)
def test_the_header_is_enough(head: bytes, reason: int) -> None:
    for chunks in ([head], list(in_chunks(head, 1))):
        end = established()
        *before, last = (end.receive_data(chunk) for chunk in chunks)
        assert not any(before)
        assert sent(last) == abort_pdu(2, reason)
        assert end.state is Sta.STA13


@pytest.mark.parametrize("left", range(1, 6))
def test_what_is_left_of_a_pdu_is_a_pdv_or_nothing(left: int) -> None:
    """Less than a PDV's header cannot be one; six bytes are an empty fragment."""
    head = struct.pack(">BxIIBB", 4, 8 + left, 4, 1, 1)
    with pytest.raises(RemoteProtocolError, match="do not fill"):
        list(Framer(DEFAULT_LIMITS).feed(head))


def test_a_pdv_that_is_only_a_header_fills_its_pdu() -> None:
    stream = p_data(pdv(1, 1, b"ab"), pdv(1, 3, b""))
    assert [
        bytes(cut.data) for cut in Framer(DEFAULT_LIMITS).feed(stream) if isinstance(cut, Fragment)
    ] == [b"ab", b""]


def test_a_control_pdu_without_a_body_is_one() -> None:
    """What it lacks is for its decoder to say, at its header and not with the next PDU."""
    assert list(Framer(DEFAULT_LIMITS).feed(pdu_of(1, b"") + RELEASE_RQ)) == [
        ControlPdu(PduType.A_ASSOCIATE_RQ, b""),
        ControlPdu(PduType.A_RELEASE_RQ, bytes(4)),
    ]
    (cut,) = Framer(DEFAULT_LIMITS).feed(pdu_of(2, b""))
    assert cut == ControlPdu(PduType.A_ASSOCIATE_AC, b"")


@pytest.mark.parametrize("head_and_more", [RELEASE_RQ[:6], RELEASE_RQ[:6] + RELEASE_RQ[:5]])
def test_headers_that_end_a_chunk(head_and_more: bytes) -> None:
    """A whole header at the very end, and one that is cut, are both gone on with."""
    framer = Framer(DEFAULT_LIMITS)
    stream = RELEASE_RQ + RELEASE_RQ
    first = list(framer.feed(stream[: len(head_and_more)]))
    rest = list(framer.feed(stream[len(head_and_more) :]))
    assert first + rest == [ControlPdu(PduType.A_RELEASE_RQ, bytes(4))] * 2
    assert framer.is_between_pdus


def test_limits_are_named() -> None:
    end = established()
    aborted = end.receive_data(struct.pack(">BxI", 4, 131_073))[1]
    assert isinstance(aborted, ProviderAborted)
    assert isinstance(aborted.cause, LimitExceeded)
    assert aborted.cause.limit == "max_pdu_length"
    end = established()
    aborted = end.receive_data(struct.pack(">BxIIBB", 4, 70_006, 70_002, 1, 3))[1]
    assert isinstance(aborted, ProviderAborted)
    assert isinstance(aborted.cause, LimitExceeded)
    assert aborted.cause.limit == "command_set"


def test_exactly_the_limit_is_taken() -> None:
    limits = Limits(associate_pdu=len(ASSOCIATE_RQ) - 6)
    end = listening(limits)
    end.receive_data(ASSOCIATE_RQ)
    assert end.state is Sta.STA3
    end = listening(Limits(associate_pdu=len(ASSOCIATE_RQ) - 7))
    assert sent(end.receive_data(ASSOCIATE_RQ[:6])) == abort_pdu(0, 0)
    end = requesting(limits=Limits(associate_pdu=len(ASSOCIATE_AC) - 7))
    assert sent(end.receive_data(ASSOCIATE_AC[:6])) == abort_pdu(2, 6)
    end = established()
    assert end.receive_data(struct.pack(">BxI", 4, 131_072)) == ()
    assert end.state is Sta.STA6


def test_no_limit_announced_is_still_a_limit() -> None:
    framer = Framer(Limits(max_pdu_length=0))
    assert list(framer.feed(struct.pack(">BxI", 4, 1 << 30))) == [DataHeader(1 << 30)]
    framer = Framer(Limits(max_pdu_length=0))
    with pytest.raises(LimitExceeded):
        list(framer.feed(struct.pack(">BxI", 4, (1 << 30) + 1)))


def test_nothing_is_allocated_for_what_is_announced() -> None:
    end = listening()
    tracemalloc.start()
    end.receive_data(struct.pack(">BxI", 1, 1 << 20) + bytes(100))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert end.state is Sta.STA2
    assert peak < 16_384


def test_data_sets_are_not_held() -> None:
    """A hundred megabytes go through an association that never holds a hundred kilobytes."""
    end = established()
    chunk = p_data(pdv(3, 0, bytes(65_536)))
    command = bytearray(C_ECHO_COMMAND)
    command[-2:] = b"\1\0"  # a data set follows
    end.receive_data(p_data(pdv(3, 3, bytes(command))))
    tracemalloc.start()
    received = 0
    for _ in range(1_600):
        for effect in end.receive_data(chunk):
            received += len(getattr(effect, "data", b""))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert received == 1_600 * 65_536
    assert peak < 100_000
