"""Command sets as bytes: group 0000 in implicit VR little endian (PS3.7 6.3.1, E).

Only what the wire needs is known here: tags, and how a value of a VR is written
and read.  Which elements a message has is the table of `messages`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.errors import (
    INVALID_PDU_PARAMETER_VALUE,
    LocalProtocolError,
    RemoteProtocolError,
)

#: Group, element, value length.
_HEADER: Final = Struct("<HHI")
_HEADER_LENGTH: Final = 8
_US_LENGTH: Final = 2
_AT: Final = Struct("<HH")
_GROUP_LENGTH: Final = Struct("<HHII")
_US_ELEMENT: Final = Struct("<HHIH")

_US_MAX: Final = 0xFFFF
_AT_MAX: Final = 0xFFFF_FFFF

GROUP_LENGTH: Final = 0x0000
COMMAND_FIELD: Final = 0x0100
MESSAGE_ID: Final = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO: Final = 0x0120
COMMAND_DATA_SET_TYPE: Final = 0x0800
STATUS: Final = 0x0900

#: Command Data Set Type when there is none (PS3.7 E.1-1); anything else says there is one.
NO_DATA_SET: Final = 0x0101
DATA_SET_PRESENT: Final = 0x0001


def value_places(buffer: Buffer) -> Iterator[tuple[int, int, int]]:
    """Element number, and start and length of its value in bytes, for each element.

    Raises:
        RemoteProtocolError: these bytes are no command set: an element is cut, or one of
            another group stands among them (reason 6).
    """
    position, end = 0, len(buffer)
    unpack = _HEADER.unpack_from
    while position < end:
        if end - position < _HEADER_LENGTH:
            raise _malformed("an element is cut short")
        group, element, length = unpack(buffer, position)
        if group:
            raise _malformed(f"an element of group {group:04X}")
        position += _HEADER_LENGTH
        if position + length > end:
            raise _malformed(f"element (0000,{element:04X}) is longer than the command set")
        yield element, position, length
        position += length


def decode_command_set(buffer: Buffer) -> dict[int, bytes]:
    """Element number → value as it came, padding still on.

    Raises:
        RemoteProtocolError: as `value_places`.
    """
    data = bytes(buffer)
    return {element: data[start : start + length] for element, start, length in value_places(data)}


def _malformed(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"malformed command set: {what} (PS3.7 E)", INVALID_PDU_PARAMETER_VALUE
    )


def encode_command_set(elements: Iterable[bytes]) -> bytes:
    """Encoded elements in ascending order, behind their group length (0000,0000)."""
    body = b"".join(elements)
    return _GROUP_LENGTH.pack(0, GROUP_LENGTH, 4, len(body)) + body


def encode_us(element: int, value: int) -> bytes:
    """Raises: LocalProtocolError: *value* does not fit 16 bits."""
    if not 0 <= value <= _US_MAX:
        raise LocalProtocolError(f"(0000,{element:04X}) cannot hold {value}: it is a US")
    return _US_ELEMENT.pack(0, element, 2, value)


def encode_uid(element: int, value: str) -> bytes:
    """Padded with NUL; not checked, as a response echoes whatever the request named."""
    data = value.encode("latin-1", "replace")
    if len(data) & 1:
        data += b"\0"
    return _HEADER.pack(0, element, len(data)) + data


def encode_text(element: int, value: str) -> bytes:
    """Padded with a space; what ISO 8859-1 does not have becomes a question mark."""
    data = value.encode("latin-1", "replace")
    if len(data) & 1:
        data += b" "
    return _HEADER.pack(0, element, len(data)) + data


def encode_tags(element: int, tags: tuple[int, ...]) -> bytes:
    """Raises: LocalProtocolError: one of *tags* does not fit 32 bits."""
    if tags and not 0 <= min(tags) <= max(tags) <= _AT_MAX:
        raise LocalProtocolError(f"(0000,{element:04X}) cannot hold these tags: it is an AT")
    data = b"".join(_AT.pack(tag >> 16, tag & 0xFFFF) for tag in tags)
    return _HEADER.pack(0, element, len(data)) + data


def decode_us(value: bytes) -> int:
    """Raises: ValueError: not two bytes."""
    if len(value) != _US_LENGTH:
        raise ValueError("not a US of two bytes")
    return value[0] | value[1] << 8


def decode_uid(value: bytes) -> str:
    """Without padding, whatever it is; not checked for being a UID."""
    return value.rstrip(b"\0 ").decode("latin-1")


def decode_text(value: bytes) -> str:
    """Without padding on either side, which means nothing in AE and LO (PS3.5 6.2)."""
    return value.strip(b"\0 ").decode("latin-1")


def decode_tags(value: bytes) -> tuple[int, ...]:
    """Raises: ValueError: not a multiple of four bytes."""
    if len(value) % _AT.size:
        raise ValueError("not a list of AT")
    return tuple(group << 16 | element for group, element in _AT.iter_unpack(value))
