"""Frames of the Minimal Lower Layer Protocol: bytes in, messages out, whatever the chunks.

A frame is ``<VT> message <FS> <CR>`` (HL7 v2 Appendix C; Transport Specification: MLLP,
release 1).  Neither VT nor FS may be in a message, so that each of them always means one
thing; the CR after FS is expected and not waited for, as some senders leave it out.  What
stands between frames is no message: it is counted.
"""

from __future__ import annotations

from dataclasses import field
from typing import Final

from isocenter.engine.fast_init import dataclass

START_BLOCK: Final = 0x0B
END_BLOCK: Final = 0x1C
_CARRIAGE_RETURN: Final = 0x0D
#: Of a message that is too long, so much is kept: the header, to answer with.
_KEPT_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True)
class MllpMessage:
    """A whole frame; *data* is what stood in it."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class MessageTooLong:
    """A frame that has ended and was longer than allowed.

    Attributes:
        head: its beginning.
        length: in bytes, of all of it.
    """

    head: bytes = field(repr=False)
    length: int


@dataclass(frozen=True, slots=True)
class MessageUnfinished:
    """A frame began within another one, which never ended and is dropped."""

    length: int


FrameEvent = MllpMessage | MessageTooLong | MessageUnfinished


class MllpDecoder:
    """Takes chunks, gives what they complete; holds one message at most.

    Attributes:
        stray: bytes seen outside of frames so far, the CR after FS aside.

    Args:
        max_bytes: of one message.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._data = bytearray()
        self._length = 0
        self._is_inside = False
        self._has_just_ended = False
        self.stray = 0

    @property
    def is_inside(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._is_inside

    def receive(self, chunk: bytes) -> list[FrameEvent]:
        """What *chunk* completes, in order."""
        events: list[FrameEvent] = []
        position = 0
        while position < len(chunk):
            if not self._is_inside:
                position = self._skip(chunk, position)
                continue
            start = chunk.find(START_BLOCK, position)
            end = chunk.find(END_BLOCK, position, None if start < 0 else start)
            stop = end if end >= 0 else start if start >= 0 else len(chunk)
            self._take(chunk[position:stop])
            position = stop + 1
            if end >= 0:
                events.append(self._completed())
                self._is_inside, self._has_just_ended = False, True
            elif start >= 0:
                events.append(MessageUnfinished(self._length))
                self._begin()
        return events

    def _skip(self, chunk: bytes, position: int) -> int:
        """Go to behind the next start block, or to the end."""
        start = chunk.find(START_BLOCK, position)
        stop = len(chunk) if start < 0 else start
        if stop > position:
            if self._has_just_ended and chunk[position] == _CARRIAGE_RETURN:
                position += 1
            self._has_just_ended = False
            self.stray += stop - position
        if start >= 0:
            self._is_inside, self._has_just_ended = True, False
            self._begin()
        return stop + 1

    def _begin(self) -> None:
        self._data, self._length = bytearray(), 0

    def _take(self, piece: bytes) -> None:
        self._data += piece[: max(0, self._max_bytes - self._length)]
        self._length += len(piece)

    def _completed(self) -> FrameEvent:
        data, self._data = self._data, bytearray()
        if self._length > self._max_bytes:
            return MessageTooLong(bytes(data[:_KEPT_BYTES]), self._length)
        return MllpMessage(bytes(data))


def frame(message: bytes) -> bytes:
    """*message* as it goes over the wire."""
    return bytes([START_BLOCK]) + message + bytes([END_BLOCK, _CARRIAGE_RETURN])
