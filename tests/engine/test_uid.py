"""UIDs as PS3.5 9.1 writes them, and as real archives hold them."""

from __future__ import annotations

import pytest

from isocenter.engine.uid import is_safe_uid, is_uid

LONGEST = "1." + "2" * 62

UIDS = ["1.2", "1.2.840.10008.1.1", "2.25.0", "0.0", "1", LONGEST]
#: Leading zeros are wrong and harmless.
TOLERATED = ["1.02", "01.2", "1.2.00"]
NONE = [
    *("", ".", "..", "1.", ".1", "1..2", "1.2\n", "1.2\0", " 1.2", "1.2 ", "1,2", "-1.2", "1.2a"),
    *("../1", "1/2", "1\\2", "１.２", "1.²", LONGEST + "2"),
]


@pytest.mark.parametrize("text", UIDS)
def test_uids(text: str) -> None:
    assert is_uid(text)
    assert is_safe_uid(text)


@pytest.mark.parametrize("text", TOLERATED)
def test_uids_with_leading_zeros(text: str) -> None:
    assert not is_uid(text)
    assert is_safe_uid(text)


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_uid(text: str) -> None:
    assert not is_uid(text)
    assert not is_safe_uid(text)
