"""DIMSE messages ↔ presentation data values (PS3.7 6.3.1, PS3.8 Annex E).

Inbound, `MessageAssembler` gathers command sets under their limit and lets data
set fragments pass as views.  Outbound, `encode_fragments` cuts buffers into
P-DATA-TF PDUs without copying them.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dimse.message_codec import CCancelRequest, message_of
from isocenter.engine.errors import (
    INVALID_PDU_PARAMETER_VALUE,
    LimitExceeded,
    RemoteProtocolError,
)
from isocenter.engine.events import CancelReceived, DataSetReceived, MessageReceived
from isocenter.engine.framing import Fragment
from isocenter.engine.limits import Limits

#: P-DATA-TF header and PDV header in one: PDU type, reserved, PDU length, item length,
#: presentation context ID, message control header (PS3.8 9.3.5, E.2).
_HEADERS: Final = Struct(">BxIIBB")
_P_DATA_TF: Final = 4
#: What a P-DATA-TF with one PDV holds beside its fragment.
PDV_OVERHEAD: Final = 6
_COMMAND: Final = 1
_LAST: Final = 2


class MessageAssembler:
    """Where we are in the stream of fragments: between messages, in a command or in a data set.

    Holds at most one command set (`Limits.command_set`).  `receive` raises
    `RemoteProtocolError` for what PS3.8 E and PS3.7 6.3.1 forbid: fragments of
    one message on two contexts, data before its command, a command while the
    data set of the last one is not complete.
    """

    __slots__ = ("_command", "_context_id", "_empty", "_limits", "is_in_data_set")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._command = bytearray()
        self._context_id: int | None = None
        self.is_in_data_set = False
        self._empty = 0

    def receive(
        self, fragment: Fragment
    ) -> MessageReceived | DataSetReceived | CancelReceived | None:
        """Take the next fragment; what it completes or carries, if anything."""
        context_id, is_command, is_last, data, remaining = fragment
        if self._context_id is None:
            if is_command and is_last and 0 < len(data) <= self._limits.command_set:
                # A whole command set in one fragment, as most are.
                return self._complete(context_id, data)
            self._context_id = context_id
        elif self._context_id != context_id:
            raise _violation(
                f"a fragment on presentation context {context_id} within a message on "
                f"{self._context_id}"
            )
        if not data and not remaining:
            self._empty += 1
            if self._empty > self._limits.empty_fragments:
                raise LimitExceeded("too many empty fragments in one message", "empty_fragments")
        if is_command:
            return self._receive_command(context_id, is_last, data, remaining)
        if not self.is_in_data_set:
            raise _violation("a data set fragment before the command set was complete")
        if is_last:
            self._end()
        elif not data:
            return None
        return DataSetReceived(context_id, data, is_last)

    def _receive_command(
        self, context_id: int, is_last: bool, data: memoryview, remaining: int
    ) -> MessageReceived | CancelReceived | None:
        if self.is_in_data_set:
            raise _violation("a command set fragment within a data set")
        if len(self._command) + len(data) + remaining > self._limits.command_set:
            raise LimitExceeded(
                f"command set longer than {self._limits.command_set} bytes", "command_set"
            )
        if not is_last:
            self._command += data
            return None
        self._command += data
        command, self._command = bytes(self._command), bytearray()
        self._context_id = None
        event = self._complete(context_id, command)
        if not self.is_in_data_set:
            self._empty = 0
        return event

    def _complete(self, context_id: int, command: Buffer) -> MessageReceived | CancelReceived:
        message, has_data_set = message_of(command)
        if has_data_set:
            self.is_in_data_set = True
            self._context_id = context_id
        if type(message) is CCancelRequest:
            return CancelReceived(context_id, message)
        return MessageReceived(context_id, message, has_data_set)

    def _end(self) -> None:
        self._context_id = None
        self.is_in_data_set = False
        self._empty = 0


def _violation(text: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"{text} (PS3.8 E)", INVALID_PDU_PARAMETER_VALUE)


def encode_fragments(
    context_id: int, data: Buffer, *, is_command: bool, is_last: bool, max_length: int
) -> list[Buffer]:
    """Cut *data* into P-DATA-TF PDUs with one PDV each: headers and views in turn.

    Args:
        max_length: the longest PDU body in bytes; more than `PDV_OVERHEAD`.
        is_last: whether the last of them ends the command set or the data set.

    Returns:
        Buffers to be written in order; those of *data* are views.  Without data,
        one empty fragment if *is_last*, nothing otherwise.

    Raises:
        LocalProtocolError: *data* is no buffer that can be cut.
    """
    control = _COMMAND if is_command else 0
    # Fragments of even length: PS3.5 7.1.1 makes all values even, and some peers count on it.
    step = (max_length - PDV_OVERHEAD) & ~1
    if type(data) is not bytes:
        data = octets(data)
    length = len(data)
    pack = _HEADERS.pack
    if length <= step:
        if not length and not is_last:
            return []
        control |= _LAST if is_last else 0
        return [
            pack(_P_DATA_TF, length + PDV_OVERHEAD, length + 2, context_id, control),
            data,
        ]
    view = memoryview(data)
    buffers: list[Buffer] = []
    position = 0
    while length - position > step:
        buffers.append(pack(_P_DATA_TF, step + PDV_OVERHEAD, step + 2, context_id, control))
        buffers.append(view[position : position + step])
        position += step
    rest = length - position
    control |= _LAST if is_last else 0
    buffers.append(pack(_P_DATA_TF, rest + PDV_OVERHEAD, rest + 2, context_id, control))
    buffers.append(view[position:])
    return buffers


class Part(NamedTuple):
    """Where a part of a file begins, how long it is, and whether it is the last; in bytes."""

    start: int
    length: int
    is_last: bool


def parts_of(start: int, end: int, length: int = 262_144) -> Iterator[Part]:
    """The parts to send of what lies from *start* to *end*; one, which is empty, of nothing.

    The last is known from the length of the file, so that none need be read ahead of it.  All
    but the last are *length* long; let it be even: each part ends a fragment, and some peers
    count on even ones.
    """
    while end - start > length:
        yield Part(start, length, is_last=False)
        start += length
    yield Part(start, end - start, is_last=True)
