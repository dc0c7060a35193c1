"""Sub-items of user information (PS3.8 D.1, PS3.7 D.3.3), one by one, and AE titles."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine import items
from isocenter.engine.ae import (
    ae_title_of,
    check_ae_title,
    is_ae_title,
    is_padded_ae_title,
    printable_ae_title,
)
from isocenter.engine.errors import (
    INVALID_PDU_PARAMETER_VALUE,
    UNEXPECTED_PDU_PARAMETER,
    LocalProtocolError,
    RemoteProtocolError,
)
from isocenter.engine.items import (
    AsynchronousOperationsWindow,
    CommonExtendedNegotiation,
    ContextResult,
    ExtendedNegotiation,
    RoleSelection,
    UserIdentity,
    UserInformation,
)


def refusal(decode: Callable[..., object], *arguments: object) -> int | None:
    """The reason of the A-ABORT that these bytes would get, None when they mean something."""
    try:
        decode(*arguments)
    except RemoteProtocolError as fault:
        return fault.reason
    return None


def item(item_type: int, value: bytes) -> bytes:
    return struct.pack(">BxH", item_type, len(value)) + value


@pytest.mark.parametrize(
    ("encoded", "fields"),
    [
        (item(0x51, b"\0\0\x40\0"), {"max_pdu_length": 16_384}),
        (item(0x51, b"\0\0\0\0"), {"max_pdu_length": 0}),
        (item(0x52, b"1.2.3"), {"implementation_class_uid": "1.2.3"}),
        (
            item(0x53, b"\0\0\xff\xff"),
            {"asynchronous_operations_window": AsynchronousOperationsWindow(0, 65_535)},
        ),
        (
            item(0x54, b"\0\x031.2\1\0"),
            {"role_selections": (RoleSelection("1.2", scu_role=True, scp_role=False),)},
        ),
        (item(0x55, b"NAME_1"), {"implementation_version_name": "NAME_1"}),
        (
            item(0x56, b"\0\x031.2\1\2\3"),
            {"extended_negotiations": (ExtendedNegotiation("1.2", b"\1\2\3"),)},
        ),
        (
            item(0x57, b"\0\x031.2\0\x031.3\0\x0a\0\x031.4\0\x031.5"),
            {
                "common_extended_negotiations": (
                    CommonExtendedNegotiation("1.2", "1.3", ("1.4", "1.5")),
                )
            },
        ),
        (
            item(0x58, b"\x05\0\0\x03a.b\0\0"),
            {"user_identity": UserIdentity(5, False, b"a.b")},
        ),
        (item(0x59, b"\0\0"), {"user_identity_response": b""}),
    ],
)
def test_each_sub_item(encoded: bytes, fields: dict[str, Any]) -> None:
    info = UserInformation(**fields)
    assert items.decode_user_information(encoded) == info
    whole = items.encode_user_information(info)
    assert encoded in whole
    assert items.decode_user_information(whole) == info


@pytest.mark.parametrize(
    "encoded",
    [
        item(0x51, b"\0\0\0"),
        item(0x51, b"\0\0\0\0\0"),
        item(0x53, b"\0\1\0"),
        item(0x53, b"\0\1\0\1\0"),
        item(0x54, b""),
        item(0x54, b"\0"),
        item(0x54, b"\0\x041.2\1"),
        item(0x54, b"\0\x031.2\1"),
        item(0x54, b"\0\x031.2\1\1\0"),
        item(0x54, b"\0\x031/2\1\1"),
        item(0x56, b"\0\x03"),
        item(0x56, b"\0\0"),
        item(0x57, b"\0\x031.2"),
        item(0x57, b"\0\x031.2\0\x031.3"),
        item(0x57, b"\0\x031.2\0\x031.3\0\x04\0\x031."),
        item(0x58, b"\1"),
        item(0x58, b"\1\0\0\x05name"),
        item(0x58, b"\1\0\0\x04name"),
        item(0x58, b"\1\0\0\x04name\0\0\0"),
        item(0x59, b"\0\1"),
        item(0x59, b"\0\1ab"),
        b"\x51",
        b"\x51\0\0\x04",
    ],
)
def test_malformed_sub_items(encoded: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        items.decode_user_information(encoded)
    assert caught.value.reason == INVALID_PDU_PARAMETER_VALUE


def test_later_versions_of_common_extended_negotiation_may_be_longer() -> None:
    """PS3.7 D.3.3.6.1: the rest of the item is reserved and not tested."""
    encoded = item(0x57, b"\0\x031.2\0\x031.3\0\0later")
    assert items.decode_user_information(encoded).common_extended_negotiations == (
        CommonExtendedNegotiation("1.2", "1.3"),
    )


def test_text_of_peers_is_kept_as_it_is() -> None:
    encoded = item(0x52, b"not a uid\0") + item(0x55, b" V\xe9 \0")
    info = items.decode_user_information(encoded)
    assert info.implementation_class_uid == "not a uid"
    assert info.implementation_version_name == "V\xe9"


@given(st.binary(max_size=120))
def test_any_user_information(data: bytes) -> None:
    assert refusal(items.decode_user_information, data) in {None, INVALID_PDU_PARAMETER_VALUE}


@given(st.binary(max_size=120))
def test_any_contexts(data: bytes) -> None:
    for decode in (items.decode_proposed_context, items.decode_context_result):
        reason = refusal(decode, data)
        assert reason in {None, INVALID_PDU_PARAMETER_VALUE, UNEXPECTED_PDU_PARAMETER}


def test_the_transfer_syntax_of_a_refused_context_is_not_read() -> None:
    refused = b"\x05\0\x04\0" + item(0x40, b"no UID")
    assert items.decode_context_result(refused) == ContextResult(5, 4)


def test_an_accepted_context_has_one_transfer_syntax() -> None:
    with pytest.raises(RemoteProtocolError, match="without a syntax"):
        items.decode_context_result(b"\x05\0\0\0")
    with pytest.raises(RemoteProtocolError) as caught:
        items.decode_context_result(b"\x05\0\0\0" + item(0x40, b"1.2") * 2)
    assert caught.value.reason == UNEXPECTED_PDU_PARAMETER


def test_split_items_names_the_fault() -> None:
    with pytest.raises(RemoteProtocolError, match="item 51H announces 5 of 4 bytes"):
        list(items.split_items(b"\x51\0\0\x05\0\0\0\0", 0, 8))


@pytest.mark.parametrize(
    ("text", "title"),
    [("A", "A"), ("  STORE SCP ", "STORE SCP"), ("x" * 16, "x" * 16), ("!~[]", "!~[]")],
)
def test_ae_titles(text: str, title: str) -> None:
    assert check_ae_title(text) == title
    assert is_padded_ae_title(text)
    assert is_ae_title(title)
    assert is_ae_title(text) == (text == title)


@pytest.mark.parametrize("text", ["", "    ", "x" * 17, "a\\b", "a\tb", "a\0", "\x7f", "é", "a\n"])
def test_texts_that_are_no_ae_titles(text: str) -> None:
    assert not is_ae_title(text)
    with pytest.raises(LocalProtocolError, match="AE title"):
        check_ae_title(text)


@given(field=st.binary(max_size=32))
def test_whatever_stands_in_an_ae_title_field_can_be_shown(field: bytes) -> None:
    text = ae_title_of(field)
    shown = printable_ae_title(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert (shown == text) or not is_ae_title(text)


def test_what_is_no_ae_title_is_shown_escaped() -> None:
    assert printable_ae_title("STORE SCP") == "STORE SCP"
    assert printable_ae_title("M\xdcLLER\n") == "M\\xdcLLER\\n"
    assert printable_ae_title("A\\B") == "A\\\\B"
