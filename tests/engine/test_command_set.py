"""Command sets as bytes (PS3.7 6.3.1, E): group 0000, implicit VR little endian."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine.dimse import command_set as cs
from isocenter.engine.errors import (
    INVALID_PDU_PARAMETER_VALUE,
    LocalProtocolError,
    RemoteProtocolError,
)


def refusal(decode: Callable[..., object], *arguments: object) -> int | None:
    """The reason of the A-ABORT that these bytes would get, None when they mean something."""
    try:
        decode(*arguments)
    except RemoteProtocolError as fault:
        return fault.reason
    return None


def element(number: int, value: bytes, group: int = 0) -> bytes:
    return struct.pack("<HHI", group, number, len(value)) + value


def test_elements_in_any_order_wrong_group_length_and_unknown_elements() -> None:
    data = (
        element(0x0900, b"\0\0")
        + element(cs.GROUP_LENGTH, b"\xff\xff\xff\xff")
        + element(0x5555, b"odd")
        + element(0x0002, b"")
    )
    assert cs.decode_command_set(data) == {
        0x0900: b"\0\0",
        cs.GROUP_LENGTH: b"\xff\xff\xff\xff",
        0x5555: b"odd",
        0x0002: b"",
    }
    assert cs.decode_command_set(b"") == {}


def test_any_buffer() -> None:
    data = element(0x0100, b"\x30\x00")
    for buffer in (data, bytearray(data), memoryview(data)):
        assert cs.decode_command_set(buffer) == {0x0100: b"\x30\x00"}


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"\0", "cut short"),
        (element(0x0100, b"\0\0")[:7], "cut short"),
        (element(0x0100, b"\0\0")[:9], "longer than"),
        (struct.pack("<HHI", 0, 0x0002, 0xFFFF_FFFF), "longer than"),
        (element(0x0010, b"NAME", group=0x0010), "group 0010"),
        (element(0x0100, b"\0\0") + element(0x0100, b"\0\0", group=1), "group 0001"),
        (b"GET / HTTP/1.1\r\n\r\n", "group 4547"),
    ],
)
def test_what_is_no_command_set(data: bytes, fault: str) -> None:
    with pytest.raises(RemoteProtocolError, match=fault) as caught:
        cs.decode_command_set(data)
    assert caught.value.reason == INVALID_PDU_PARAMETER_VALUE


@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    reason = refusal(cs.decode_command_set, data)
    if reason is None:
        elements = cs.decode_command_set(data)
        assert sum(len(value) for value in elements.values()) <= len(data)
    else:
        assert reason == INVALID_PDU_PARAMETER_VALUE


@given(
    st.dictionaries(st.integers(1, 0xFFFF), st.binary(max_size=20)).map(
        lambda elements: dict(sorted(elements.items()))
    )
)
def test_round_trip(elements: dict[int, bytes]) -> None:
    whole = cs.encode_command_set(element(number, value) for number, value in elements.items())
    decoded = cs.decode_command_set(whole)
    assert struct.unpack("<I", decoded.pop(cs.GROUP_LENGTH)) == (len(whole) - 12,)
    assert decoded == elements


@given(st.integers(0, 0xFFFF))
def test_us(value: int) -> None:
    whole = cs.encode_us(0x0110, value)
    assert whole == element(0x0110, struct.pack("<H", value))
    assert cs.decode_us(whole[8:]) == value


@pytest.mark.parametrize("value", [-1, 0x1_0000])
def test_numbers_that_are_no_us(value: int) -> None:
    with pytest.raises(LocalProtocolError, match="0000,0110"):
        cs.encode_us(0x0110, value)


@pytest.mark.parametrize("value", [b"", b"\0", b"\0\0\0", b"\0\0\0\0"])
def test_values_that_are_no_us(value: bytes) -> None:
    with pytest.raises(ValueError, match="US"):
        cs.decode_us(value)


def test_padding() -> None:
    """UI with NUL, text with a space; whatever comes is taken off (PS3.5 6.2)."""
    assert cs.encode_uid(0x0002, "1.2") == element(0x0002, b"1.2\0")
    assert cs.encode_uid(0x0002, "1.23") == element(0x0002, b"1.23")
    assert cs.encode_text(0x0600, "AET") == element(0x0600, b"AET ")
    assert cs.decode_uid(b"1.2 ") == cs.decode_uid(b"1.2\0\0") == "1.2"
    assert cs.decode_text(b" AET\0 ") == "AET"


def test_text_beyond_its_repertoire_does_not_stop_an_answer() -> None:
    """A response echoes the UID of its request, and a comment may quote anything."""
    assert cs.encode_uid(0x0002, cs.decode_uid(b"\xff\xfe")) == element(0x0002, b"\xff\xfe")
    assert cs.encode_text(0x0902, "日") == element(0x0902, b"? ")


@given(st.lists(st.integers(0, 0xFFFF_FFFF), max_size=5).map(tuple))
def test_tags(tags: tuple[int, ...]) -> None:
    assert cs.decode_tags(cs.encode_tags(0x0901, tags)[8:]) == tags


def test_tags_are_written_group_first() -> None:
    assert cs.encode_tags(0x0901, (0x0008_0018,)) == element(0x0901, b"\x08\x00\x18\x00")
    with pytest.raises(LocalProtocolError):
        cs.encode_tags(0x0901, (1 << 32,))
    with pytest.raises(ValueError, match="AT"):
        cs.decode_tags(b"\0\0")
