"""Values of DER (X.690), taken apart and put together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31
#: Context-specific [0] and [1], constructed.
CONTEXT_0: Final = 0xA0
CONTEXT_1: Final = 0xA1
_LONG: Final = 0x80
_MOST_LENGTH_BYTES: Final = 4
_HIGH_TAG: Final = 0x1F


class DerError(ValueError):
    """What was read is no DER, or not what it should be."""


class Value(NamedTuple):
    """One value.

    Attributes:
        content: without tag and length.
        whole: with them.
    """

    tag: int
    content: bytes
    whole: bytes

    def inner(self) -> list[Value]:
        """The values in it."""
        return list(values(self.content))


def values(raw: bytes) -> Iterator[Value]:
    """The values that *raw* consists of.

    Raises:
        DerError: it does not consist of values of definite length.
    """
    at = 0
    while at < len(raw):
        start = at
        if len(raw) - at < 2 or raw[at] & _HIGH_TAG == _HIGH_TAG:
            raise DerError
        tag, length = raw[at], raw[at + 1]
        at += 2
        if length >= _LONG:
            count = length & ~_LONG
            if not 0 < count <= _MOST_LENGTH_BYTES or len(raw) - at < count:
                raise DerError
            length = int.from_bytes(raw[at : at + count], "big")
            at += count
        if len(raw) - at < length:
            raise DerError
        yield Value(tag, raw[at : at + length], raw[start : at + length])
        at += length


def one(raw: bytes, tag: int) -> Value:
    """The one value that *raw* is, of that tag.

    Raises:
        DerError: it is not.
    """
    found = list(values(raw))
    if len(found) != 1 or found[0].tag != tag:
        raise DerError
    return found[0]


def encoded(tag: int, *parts: bytes) -> bytes:
    """A value with these contents."""
    content = b"".join(parts)
    length = len(content)
    if length < _LONG:
        return bytes((tag, length)) + content
    packed = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG | len(packed))) + packed + content


def integer(number: int) -> bytes:
    """A value of INTEGER."""
    return encoded(INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def identifier(raw: str) -> bytes:
    """A value of OBJECT IDENTIFIER."""
    first, second, *rest = map(int, raw.split("."))
    content = bytearray()
    for number in (40 * first + second, *rest):
        septets = [number & 0x7F]
        while number := number >> 7:
            septets.append(0x80 | number & 0x7F)
        content += bytes(reversed(septets))
    return encoded(OBJECT_IDENTIFIER, bytes(content))
