"""TCP reassembly: captured segments into streams (RFC 9293).

Segments may come twice, late, overlapping, cut short, or not at all.  What is missing is
known to be missing when its receiver has acknowledged it and it still does not come;
`BytesMissing` stands in the stream where the bytes would have been.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import field
from typing import Final, NamedTuple

from isocenter.engine.fast_init import dataclass
from isocenter.services.diagnostics.dissect.capture_events import (
    BytesCaptured,
    BytesMissing,
    Captured,
    CaptureEnded,
    ConnectionClosed,
    ConnectionOpened,
)

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10

_SEQUENCES: Final = 1 << 32
_HALF_WAY: Final = 1 << 31
#: Bytes that wait for what belongs before them, all connections together.  No window is
#: larger in practice, so that what has not come by then will not come.
_MOST_WAITING: Final = 64 << 20
#: Segments that are held back because they acknowledge what has not been seen: several
#: queues of one network card may well be captured in the wrong order, but not by more.
_MOST_HELD_BACK: Final = 32
#: Connections that are remembered, open or closed; the one that was heard of longest ago goes.
_MOST_CONNECTIONS: Final = 10_000


class Segment(NamedTuple):
    """One TCP segment.

    Attributes:
        time: seconds.
        source, destination: ``host:port``.
        flags: as in the header; `FIN`, `SYN`, `RST` and `ACK` matter.
        payload: as much of it as was captured.
    """

    time: float
    source: str
    destination: str
    sequence: int
    acknowledgement: int
    flags: int
    payload: bytes


@dataclass(slots=True)
class _Half:
    """One direction.  Positions are sequence numbers that go on counting beyond 32 bits."""

    by_client: bool
    #: Of the byte that comes next; None: nothing is known yet.
    next: int | None = None
    #: What came too early: position and payload, the lowest position first.
    waiting: list[tuple[int, bytes]] = field(default_factory=list)
    #: Where the stream ends.
    fin: int | None = None
    is_closed: bool = False


@dataclass(slots=True)
class _Connection:
    number: int
    halves: dict[str, _Half]
    #: Sequence number of its SYN, where that was captured.
    initial: int | None
    #: Segments that acknowledge what has not been seen, in the order of the capture.
    held_back: deque[Segment] = field(default_factory=deque)
    is_open: bool = True

    def acknowledges_unseen(self, segment: Segment) -> bool:
        """Whether *segment* answers what the other side is not known to have sent."""
        seen = self.halves[segment.destination].next
        if not segment.flags & ACK or seen is None:
            return False
        # One beyond may be a SYN or a FIN.
        return _position(segment.acknowledgement, seen) - seen > 1


class Reassembler:
    """Put segments in, in the order of the capture; get what they carried, in theirs."""

    def __init__(self) -> None:
        self._connections: dict[tuple[str, str], _Connection] = {}
        self._numbers = itertools.count(1)
        self._time = 0.0
        self._waiting_bytes = 0

    def feed(self, segment: Segment) -> Iterator[Captured]:
        """What this segment carries, and what was waiting for it."""
        self._time = segment.time
        source, destination = segment.source, segment.destination
        key = (source, destination) if source < destination else (destination, source)
        connection = self._connections.pop(key, None)
        is_first = segment.flags & (SYN | ACK) == SYN
        if connection is not None and is_first and connection.initial != segment.sequence:
            yield from self._end(connection)  # the same ports once more
            connection = None
        if connection is None:
            if not segment.payload and not segment.flags & SYN:
                return  # the tail of something that began before the capture
            while len(self._connections) >= _MOST_CONNECTIONS:
                yield from self._end(self._connections.pop(next(iter(self._connections))))
            connection = _connection(next(self._numbers), segment)
            is_answer = segment.flags & (SYN | ACK) == SYN | ACK
            client, server = (destination, source) if is_answer else (source, destination)
            is_complete = bool(segment.flags & SYN)
            yield ConnectionOpened(
                connection.number, segment.time, client, server, is_complete, at=segment.time
            )
        self._connections[key] = connection
        if connection.is_open:
            yield from self._arrange(connection, segment)

    def finish(self) -> Iterator[Captured]:
        """The capture ends."""
        for connection in self._connections.values():
            yield from self._end(connection)
        self._connections.clear()

    # The order in which segments left.

    def _arrange(self, connection: _Connection, segment: Segment) -> Iterator[Captured]:
        held_back = connection.held_back
        held_back.append(segment)
        self._waiting_bytes += len(segment.payload)
        while connection.is_open and held_back:
            ready = next((s for s in held_back if not connection.acknowledges_unseen(s)), None)
            if ready is None:
                # Each side waits for the other, or one for too long: what the oldest of them
                # acknowledges was lost on the way into the capture.
                is_mutual = len({each.source for each in held_back}) > 1
                if not is_mutual and len(held_back) <= _MOST_HELD_BACK:
                    return
                ready = held_back[0]
            held_back.remove(ready)
            self._waiting_bytes -= len(ready.payload)
            yield from self._take(connection, ready)

    # The streams.

    def _take(self, connection: _Connection, segment: Segment) -> Iterator[Captured]:
        number, time = connection.number, segment.time
        half = connection.halves[segment.source]
        other = connection.halves[segment.destination]
        sequence = (segment.sequence + bool(segment.flags & SYN)) % _SEQUENCES
        if half.next is None:
            half.next = sequence
        if segment.flags & ACK:
            if other.next is None:
                other.next = segment.acknowledgement
            upto = _position(segment.acknowledgement, other.next)
            yield from self._fill(other, number, time, upto)
        position = _position(sequence, half.next)
        if segment.flags & FIN:
            half.fin = position + len(segment.payload)
        if segment.payload:
            heapq.heappush(half.waiting, (position, segment.payload))
            self._waiting_bytes += len(segment.payload)
            yield from self._drain(half, number, time)
            if self._waiting_bytes > _MOST_WAITING and half.waiting:
                yield from self._fill(half, number, time, half.waiting[0][0])
        if segment.flags & RST:
            yield from self._flush(connection)
            yield ConnectionClosed(number, time, half.by_client, was_reset=True)
            yield from self._close(connection)
            return
        for each in (half, other):
            if each.fin is not None and not each.is_closed and each.fin <= (each.next or 0):
                each.is_closed = True
                yield ConnectionClosed(number, time, each.by_client)
        if half.is_closed and other.is_closed:
            yield from self._close(connection)

    def _drain(self, half: _Half, number: int, time: float) -> Iterator[Captured]:
        """What has become contiguous."""
        assert half.next is not None
        while half.waiting and half.waiting[0][0] <= half.next:
            position, payload = heapq.heappop(half.waiting)
            self._waiting_bytes -= len(payload)
            fresh = payload[half.next - position :]
            if fresh:
                half.next += len(fresh)
                yield BytesCaptured(number, time, half.by_client, fresh)

    def _fill(self, half: _Half, number: int, time: float, upto: int) -> Iterator[Captured]:
        """What has not come of the bytes before *upto* will not come any more."""
        assert half.next is not None
        while half.next < upto:
            gap = (min(half.waiting[0][0], upto) if half.waiting else upto) - half.next
            if not half.waiting:
                if half.fin is not None:
                    gap = min(gap, half.fin - half.next)
                elif gap == 1:
                    return  # a FIN that was not captured: acknowledged like a byte
            if gap <= 0:
                return
            half.next += gap
            yield BytesMissing(number, time, half.by_client, gap)
            yield from self._drain(half, number, time)

    def _flush(self, connection: _Connection) -> Iterator[Captured]:
        """Nothing more comes: what waited is all there is."""
        for half in connection.halves.values():
            while half.waiting:
                yield from self._fill(half, connection.number, self._time, half.waiting[0][0])

    def _end(self, connection: _Connection) -> Iterator[Captured]:
        """Nobody sends any more, or the capture knows no more."""
        while connection.is_open and connection.held_back:
            segment = connection.held_back.popleft()
            self._waiting_bytes -= len(segment.payload)
            yield from self._take(connection, segment)
        yield from self._close(connection)

    def _close(self, connection: _Connection) -> Iterator[Captured]:
        if connection.is_open:
            connection.is_open = False
            self._waiting_bytes -= sum(len(each.payload) for each in connection.held_back)
            connection.held_back.clear()
            yield from self._flush(connection)
            yield CaptureEnded(connection.number, self._time)


def _connection(number: int, segment: Segment) -> _Connection:
    """Whoever sends its first segment is the client, unless it answers a SYN."""
    by_client = segment.flags & (SYN | ACK) != SYN | ACK
    halves = {segment.source: _Half(by_client), segment.destination: _Half(not by_client)}
    initial = segment.sequence if segment.flags & (SYN | ACK) == SYN else None
    return _Connection(number, halves, initial)


def _position(sequence: int, near: int) -> int:
    """The position closest to *near* that a sequence number can mean."""
    return near + (sequence - near + _HALF_WAY) % _SEQUENCES - _HALF_WAY
