"""Statuses and their classes (PS3.7 Annex C), compared with a second, hand-typed list."""

from __future__ import annotations

import pytest
from pynetdicom.status import GENERAL_STATUS, code_to_category

from isocenter.engine.dimse.status import Status, StatusClass, classify, describe_status

#: Status: class and a word of its description.
KNOWN = {
    0x0000: ("success", "success"),
    0x0001: ("warning", "optional"),
    0x0105: ("failure", "no such attribute"),
    0x0106: ("failure", "invalid attribute value"),
    0x0107: ("warning", "attribute list error"),
    0x0110: ("failure", "processing failure"),
    0x0111: ("failure", "duplicate SOP instance"),
    0x0112: ("failure", "no such SOP instance"),
    0x0113: ("failure", "no such event type"),
    0x0114: ("failure", "no such argument"),
    0x0115: ("failure", "invalid argument value"),
    0x0116: ("warning", "out of range"),
    0x0117: ("failure", "invalid SOP instance"),
    0x0118: ("failure", "no such SOP class"),
    0x0119: ("failure", "class-instance conflict"),
    0x0120: ("failure", "missing attribute"),
    0x0121: ("failure", "missing attribute value"),
    0x0122: ("failure", "SOP class not supported"),
    0x0123: ("failure", "no such action"),
    0x0124: ("failure", "not authorized"),
    0x0210: ("failure", "duplicate invocation"),
    0x0211: ("failure", "unrecognized operation"),
    0x0212: ("failure", "mistyped argument"),
    0x0213: ("failure", "resource limitation"),
    0xA700: ("failure", "out of resources"),
    0xA701: ("failure", "number of matches"),
    0xA702: ("failure", "sub-operations"),
    0xA801: ("failure", "destination unknown"),
    0xA900: ("failure", "does not match SOP class"),
    0xB000: ("warning", "warning"),
    0xB006: ("warning", "discarded"),
    0xB007: ("warning", "does not match"),
    0xC000: ("failure", "cannot understand"),
    0xC001: ("failure", "unable to process"),
    0xFE00: ("cancel", "cancel"),
    0xFF00: ("pending", "pending"),
    0xFF01: ("pending", "pending"),
}
#: Statuses whose low bits are the implementation's.
RANGES = {
    0xA7FE: ("failure", "out of resources"),
    0xA9FF: ("failure", "does not match SOP class"),
    0xA123: ("failure", "failure"),
    0xBABE: ("warning", "warning"),
    0xCAFE: ("failure", "cannot understand"),
    0x4242: ("failure", "unknown"),
    0xFF02: ("failure", "unknown"),
}


@pytest.mark.parametrize("status", KNOWN | RANGES)
def test_class_and_words(status: int) -> None:
    kind, words = (KNOWN | RANGES)[status]
    assert classify(status) is StatusClass(kind)
    assert words in describe_status(status)


def test_every_name_is_known() -> None:
    assert {int(status) for status in Status} == set(KNOWN)


def test_every_16_bit_value_has_a_class_and_words() -> None:
    for status in range(1 << 16):
        assert isinstance(classify(status), StatusClass)
        assert describe_status(status)


@pytest.mark.parametrize("status", GENERAL_STATUS)
def test_pynetdicom_agrees(status: int) -> None:
    assert classify(status).value == code_to_category(status).lower()
