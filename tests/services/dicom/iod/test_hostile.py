"""Data sets that nobody should send: bounded time and memory, and findings that say what it is."""

from __future__ import annotations

import tracemalloc
from itertools import chain

import pytest

from isocenter.engine.dataset import EXPLICIT_LITTLE, IMPLICIT_LITTLE, write_data_set
from isocenter.services.dicom.iod import attributes, functional_groups
from isocenter.services.dicom.iod import items as items_module
from isocenter.services.dicom.iod.findings import MAX_FINDINGS
from isocenter.services.dicom.iod.table import iod_table
from isocenter.services.dicom.iod.validation import validate_data_set

CT = (0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2\0")


def codes(data: bytes) -> set[str]:
    return validate_data_set(memoryview(data), EXPLICIT_LITTLE).codes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\xff" * 1000,
        b"DICM" * 50,
        bytes(range(256)) * 8,
        b"\x08\x00\x16\x00UI\xff\xff1.2",
        b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff",
    ],
)
def test_what_is_no_data_set_ends_in_findings(data: bytes) -> None:
    for encoding in (EXPLICIT_LITTLE, IMPLICIT_LITTLE):
        result = validate_data_set(memoryview(data), encoding)
        assert not result.is_valid


def test_every_place_where_an_object_may_be_cut() -> None:
    whole = write_data_set(
        [CT, (0x00081140, "SQ", [[(0x00081155, "UI", b"1.2\0")]]), (0x00100010, "PN", b"A^B ")],
        EXPLICIT_LITTLE,
    )
    for length in range(len(whole)):
        assert not validate_data_set(memoryview(whole)[:length], EXPLICIT_LITTLE).is_valid


def test_nesting_beyond_the_bound_is_said() -> None:
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    sequence = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff"
    data = write_data_set([CT], EXPLICIT_LITTLE) + (sequence + item) * 5000
    result = validate_data_set(memoryview(data), EXPLICIT_LITTLE)
    assert "CT-ENCODING" in result.codes()
    assert len(result.findings) < MAX_FINDINGS


def test_thousands_of_values_are_one_finding() -> None:
    values = b"1\\" * 30_000
    data = write_data_set([CT, (0x00280030, "DS", values)], EXPLICIT_LITTLE)
    result = validate_data_set(memoryview(data), EXPLICIT_LITTLE)
    (finding,) = (each for each in result.findings if each.code == "CT-VM")
    assert finding.path == "PixelSpacing"
    assert finding.message.endswith("values, and VM 2")


def test_the_wrong_vr_of_every_element_is_said() -> None:
    data = write_data_set(
        [(0x00080016, "OB", b"1.2.3\0"), (0x00100010, "SQ", [[]]), (0x00280010, "LT", b"12")],
        EXPLICIT_LITTLE,
    )
    result = validate_data_set(memoryview(data), EXPLICIT_LITTLE)
    assert {each.path for each in result.findings if each.code.endswith("-VR")} == {
        "SOPClassUID", "PatientName", "Rows",
    }  # fmt: skip


def test_unknown_elements_beyond_the_bound_are_only_counted() -> None:
    elements = [
        ((0x0050_0000 + group * 0x20000) | element, "LO", b"x ")
        for group in range(4)
        for element in range(1, 500)
    ]
    data = write_data_set([CT, *elements], EXPLICIT_LITTLE)
    result = validate_data_set(memoryview(data), EXPLICIT_LITTLE)
    assert len(result.findings) == MAX_FINDINGS
    assert result.left_out > 0


def test_places_beyond_the_bound_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "MAX_PLACES", 200)
    segmentation = (0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.66.4")
    data = write_data_set([segmentation, (0x00620002, "SQ", [[]] * 500)], EXPLICIT_LITTLE)
    result = validate_data_set(memoryview(data), EXPLICIT_LITTLE)
    assert any(each.code.endswith("-NOT-WHOLE") for each in result.findings)
    assert sum(each.count for each in result.findings) <= 201
    assert not result.is_valid


def test_memory_follows_the_elements_and_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items_module, "MAX_ELEMENTS", 2000)
    item = b"\xfe\xff\x00\xe0\0\0\0\0"
    many = b"\x08\x00\x40\x11SQ\0\0" + (8 * 200_000).to_bytes(4, "little") + item * 200_000
    pixels = b"\xe0\x7f\x10\x00OW\0\0" + (20 << 20).to_bytes(4, "little") + bytes(20 << 20)
    data = b"".join(chain((write_data_set([CT], EXPLICIT_LITTLE),), (many, pixels)))
    codes(write_data_set([CT], EXPLICIT_LITTLE))  # the table is there
    tracemalloc.start()
    result = validate_data_set(memoryview(data), EXPLICIT_LITTLE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "CT-NOT-WHOLE" in result.codes()
    assert peak < 6 << 20


@pytest.mark.parametrize("number", [b"nan ", b"inf ", b"1e999 ", b"9" * 6000])
def test_numbers_that_nobody_can_count_to(number: bytes) -> None:
    for uid in iod_table().sop_classes:
        data = write_data_set(
            [
                (0x00080016, "UI", uid.encode() + b"\0" * (len(uid) & 1)),
                (0x00280008, "IS", number),
                (0x00620002, "SQ", [[(0x00620004, "DS", number)]]),
                (0x300A0070, "SQ", [[(0x300A0080, "DS", number)]]),
                (0x52009230, "SQ", [[], []]),
            ],
            EXPLICIT_LITTLE,
        )
        assert not validate_data_set(memoryview(data), EXPLICIT_LITTLE).is_valid


def test_empty_frames_without_number_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functional_groups, "MAX_FRAMES", 10)
    enhanced_mr = (0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.4.1\0")
    data = write_data_set([enhanced_mr, (0x52009230, "SQ", [[]] * 50)], EXPLICIT_LITTLE)
    result = validate_data_set(memoryview(data), EXPLICIT_LITTLE)
    assert any(each.code.endswith("-NOT-WHOLE") for each in result.findings)
    assert max(each.count for each in result.findings) == 10
