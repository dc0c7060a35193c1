"""Extended negotiation as named flags (PS3.4 B.3.1, C.5.1.1, C.5.2.1, C.5.3.1)."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine.extended_negotiation import (
    ElementCoercion,
    FindFlags,
    RetrieveFlags,
    SignatureLevel,
    StorageLevel,
    StorageSupport,
)


def test_find_flags_by_byte() -> None:
    """PS3.4 Table C.5-1."""
    names = (
        "relational",
        "combined_date_time",
        "fuzzy_person_names",
        "timezone_adjustment",
        "enhanced_image_conversion",
        "empty_value_matching",
        "multiple_value_matching",
    )
    for position, name in enumerate(names):
        flags = FindFlags(**{name: True})
        assert flags.encode() == bytes(position) + b"\1"
        assert FindFlags.decode(flags.encode()) == flags


def test_retrieve_flags_by_byte() -> None:
    assert RetrieveFlags.decode(b"\1") == RetrieveFlags(relational=True)
    assert RetrieveFlags.decode(b"\0\1") == RetrieveFlags(enhanced_image_conversion=True)
    assert RetrieveFlags().encode() == b"\0"


@given(st.binary(max_size=20))
def test_no_bytes_of_a_peer_raise(information: bytes) -> None:
    flags = FindFlags.decode(information)
    assert FindFlags.decode(flags.encode()) == flags
    assert flags.relational == information.startswith(b"\1")
    support = StorageSupport.decode(information)
    if support is not None:
        assert StorageSupport.decode(support.encode()) == support


def test_only_one_is_yes() -> None:
    assert FindFlags.decode(b"\2\xff\1") == FindFlags(fuzzy_person_names=True)


def test_the_answer_is_what_both_say() -> None:
    ours = FindFlags(relational=True, combined_date_time=True)
    asked = FindFlags(relational=True, fuzzy_person_names=True)
    assert ours.both(asked) == FindFlags(relational=True)


def test_storage_support_by_byte() -> None:
    """PS3.4 Table B.3-1: bytes 1, 3 and 5."""
    for level, signatures, coercion in product(StorageLevel, SignatureLevel, ElementCoercion):
        support = StorageSupport(level=level, signatures=signatures, coercion=coercion)
        assert support.encode() == bytes((level, 0, signatures, 0, coercion, 0))
        assert StorageSupport.decode(support.encode()) == support


@pytest.mark.parametrize("information", [b"\4", b"\0\0\4", b"\0\0\0\0\3"])
def test_storage_support_without_a_meaning(information: bytes) -> None:
    assert StorageSupport.decode(information) is None


def test_short_storage_support() -> None:
    assert StorageSupport.decode(b"\2") == StorageSupport(level=StorageLevel.FULL)
