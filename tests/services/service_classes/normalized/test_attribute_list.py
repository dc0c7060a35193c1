"""Attribute lists: whatever bytes come, they are read whole or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from isocenter.engine.dataset import EXPLICIT_LITTLE, DataSetError, Element, write_data_set
from isocenter.engine.limits import Limits
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.dicom.attribute_list import AttributeList, number_of, text_of
from services.service_classes.mpps.samples import begun, ended

SYNTAXES = (
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)
BOTH = begun()
BOTH.update(ended())
WHOLE = AttributeList.from_dataset(BOTH)
ENCODED = {syntax: WHOLE.encode(syntax) for syntax in SYNTAXES}


def reads(data: bytes, syntax: str) -> None:
    try:
        attributes = AttributeList.read(data, syntax)
    except DataSetError:
        return
    # What was read can be written in any encoding, and combined with anything.
    for target in SYNTAXES:
        again = AttributeList.read(attributes.encode(target), target)
        assert again.elements.keys() == attributes.elements.keys()
    merged = WHOLE.updated(attributes)
    assert merged.elements.keys() >= attributes.elements.keys() - {0x00080005}
    merged.encode(EXPLICIT_VR_LITTLE_ENDIAN)


@given(st.binary(max_size=200), st.sampled_from(SYNTAXES))
def test_any_bytes(data: bytes, syntax: str) -> None:
    reads(data, syntax)


@given(
    st.sampled_from(SYNTAXES),
    st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 5_000),
)
def test_damaged_steps(syntax: str, changes: list[tuple[int, int]], length: int) -> None:
    data = bytearray(ENCODED[syntax])
    for position, value in changes:
        data[position % len(data)] = value
    reads(bytes(data[: length or None]), syntax)


def test_an_unknown_vr_is_kept_as_unknown() -> None:
    data = b"\x09\x00\x10\x10ZZ\x00\x00\x04\x00\x00\x00abcd"
    attributes = AttributeList.read(data, EXPLICIT_VR_LITTLE_ENDIAN)
    assert attributes.elements == {0x00091010: Element(0x00091010, "UN", b"abcd")}
    assert attributes.encode(EXPLICIT_VR_LITTLE_ENDIAN) == data.replace(b"ZZ", b"UN")


def test_group_lengths_go_and_order_comes() -> None:
    data = (
        b"\x08\x00\x00\x00UL\x04\x00\xff\xff\x00\x00"
        b"\x08\x00\x60\x00CS\x02\x00CT"
        b"\x08\x00\x50\x00SH\x02\x00A1"
    )
    attributes = AttributeList.read(data, EXPLICIT_VR_LITTLE_ENDIAN)
    assert list(attributes.elements) == [0x00080050, 0x00080060]


def test_bounds() -> None:
    def nested(depth: int) -> bytes:
        item: list[tuple[int, str, object]] = []
        for _ in range(depth):
            item = [(0x00081120, "SQ", [item])]
        return write_data_set(item, EXPLICIT_LITTLE)  # type: ignore[arg-type]

    AttributeList.read(nested(60), EXPLICIT_VR_LITTLE_ENDIAN)
    for data, limits, limit in (
        (nested(70), Limits(), "nesting"),
        (ENCODED[EXPLICIT_VR_LITTLE_ENDIAN], Limits(identifier=500), "identifier"),
        (ENCODED[EXPLICIT_VR_LITTLE_ENDIAN], Limits(identifier_elements=10), "identifier_elements"),
    ):
        with pytest.raises(DataSetError) as caught:
            AttributeList.read(data, EXPLICIT_VR_LITTLE_ENDIAN, limits)
        assert caught.value.limit == limit
    deflated = AttributeList({0x00091001: Element(0x00091001, "UT", b"x" * (1 << 20))}).encode(
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    )
    assert len(deflated) < 8_000
    with pytest.raises(DataSetError):
        AttributeList.read(deflated, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)


def test_encapsulated_values_have_no_place() -> None:
    data = (
        b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff"
        b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    )
    with pytest.raises(DataSetError):
        AttributeList.read(data, EXPLICIT_VR_LITTLE_ENDIAN)


def test_values_that_are_none() -> None:
    item = {0x00081197: Element(0x00081197, "US", b"\x12\x01"), 1: Element(1, "SQ", ())}
    assert number_of(item, 0x00081197) == 0x0112
    assert number_of(item, 1) == number_of(item, 2) == 0
    assert text_of(item, 1) == text_of(item, 2) == ""


def test_an_item_may_have_a_character_set_of_its_own() -> None:
    inner = [
        (0x00080005, "CS", b"ISO_IR 192"),
        (0x00400007, "LO", "Schädel".encode()),
    ]
    outer = [
        (0x00080005, "CS", b"ISO_IR 100"),
        (0x00100010, "PN", "Müller".encode("latin-1")),
        (0x00400270, "SQ", [inner]),
    ]
    mine = AttributeList.read(write_data_set(outer, EXPLICIT_LITTLE), EXPLICIT_VR_LITTLE_ENDIAN)
    greek = Dataset()
    greek.SpecificCharacterSet = "ISO_IR 126"
    greek.PatientComments = "Διονυσιος"
    merged = mine.updated(AttributeList.from_dataset(greek))
    assert merged.character_set == ("ISO_IR 192",)
    assert merged.text(0x00100010) == "Müller"
    assert merged.text(0x00104000) == "Διονυσιος"
    (item,) = merged.items(0x00400270)
    assert item == {0x00400007: Element(0x00400007, "LO", "Schädel".encode())}
