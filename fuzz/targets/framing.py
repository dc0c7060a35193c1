"""Invariant: however a stream is cut, the framer gives the same cuts, and they are the stream.

Input: a byte for the chunks, a byte that chooses the limits, the stream.
"""

from __future__ import annotations

from typing import Final

from cutting import chunks
from wording import check_fault

from isocenter.engine.errors import RemoteProtocolError
from isocenter.engine.framing import ControlPdu, Cut, DataHeader, Fragment, Framer
from isocenter.engine.limits import DEFAULT_LIMITS, Limits

_LIMITS: Final = (DEFAULT_LIMITS, Limits(associate_pdu=100, max_pdu_length=60))
_P_DATA_TF: Final = 4
_HEADER_LENGTH: Final = 6
#: Command and last, of a message control header; the other bits are ignored (PS3.8 E.2).
_CONTROL_BITS: Final = 3


def run(data: bytes) -> None:
    if len(data) < 2:
        return
    limits = _LIMITS[data[1] % len(_LIMITS)]
    stream = data[2:]
    whole, fault = _cuts((stream,), limits)
    assert _cuts(tuple(chunks(stream, data[0])), limits) == (whole, fault)
    _compare(whole, stream, bool(fault), limits)


def _cuts(pieces: tuple[bytes, ...], limits: Limits) -> tuple[list[Cut], str]:
    """All cuts, the pieces of each fragment joined, and what ended them."""
    framer = Framer(limits)
    cuts: list[Cut] = []
    try:
        for piece in pieces:
            for cut in framer.feed(piece):
                last = cuts[-1] if cuts else None
                if isinstance(cut, Fragment) and isinstance(last, Fragment) and last.remaining:
                    assert not last.is_last, "more of it comes"
                    assert last.remaining == len(cut.data) + cut.remaining
                    joined = memoryview(bytes(last.data) + cut.data)
                    cuts[-1] = cut._replace(data=joined)
                else:
                    cuts.append(cut)
    except RemoteProtocolError as error:
        check_fault(error)
        _check_end(framer)
        return cuts, str(error)
    return cuts, ""


def _check_end(framer: Framer) -> None:
    """After a fault nothing more is read."""
    assert framer.is_discarding
    assert list(framer.feed(b"\5\0\0\0\0\4\0\0\0\0")) == []


def _compare(cuts: list[Cut], stream: bytes, has_fault: bool, limits: Limits) -> None:
    """The bytes of *cuts* are those of *stream*, as far as it could be read."""
    position = 0
    end_of_pdu = 0
    for cut in cuts:
        match cut:
            case ControlPdu(pdu_type, body):
                assert position == end_of_pdu
                assert stream[position] == pdu_type
                assert len(body) <= limits.associate_pdu
                assert _number(stream, position + 2) == len(body)
                position += _HEADER_LENGTH
                assert stream[position : position + len(body)] == body
                position += len(body)
                end_of_pdu = position
            case DataHeader(length):
                assert position == end_of_pdu
                assert stream[position] == _P_DATA_TF
                assert _number(stream, position + 2) == length <= limits.max_pdu_length
                position += _HEADER_LENGTH
                end_of_pdu = position + length
            case Fragment(context_id, is_command, is_last, data, remaining):
                length = len(data) + remaining
                assert _number(stream, position) == length + 2
                assert stream[position + 4] == context_id
                control = is_command | is_last << 1
                # Whether it is the last is told with its last byte.
                bits = _CONTROL_BITS if not remaining else 1
                assert stream[position + 5] & bits == control
                position += _HEADER_LENGTH
                assert stream[position : position + len(data)] == data
                position += len(data)
                assert position + remaining <= end_of_pdu
                assert not remaining or position == len(stream)
    assert position <= len(stream)
    if not has_fault and position == end_of_pdu:
        # What is left is a header that is cut short, or a control PDU that is.
        rest = stream[position:]
        assert len(rest) < _HEADER_LENGTH or len(rest) < _HEADER_LENGTH + _number(rest, 2)


def _number(data: bytes, start: int) -> int:
    return int.from_bytes(data[start : start + 4], "big")
