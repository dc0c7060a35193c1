"""Table E.1-1: what the rows say, from which edition, and what options make of them."""

from __future__ import annotations

from collections import Counter

from isocenter.services.dicom.deidentification.options import BASIC_PROFILE, Option
from isocenter.services.dicom.deidentification.rules import (
    Action,
    attribute_rows,
    attribute_rules,
    settled,
    table_lines,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
SR = "1.2.840.10008.5.1.4.1.1.88.33"


def test_the_table_has_the_rows_of_both_editions_and_says_from_which_they_are() -> None:
    rows = attribute_rows()
    assert len(rows) == 655 + 1  # 2026c, and the row of private attributes
    assert Counter(row.edition for row in rows.values()) == {"2026c": 655, "2025a": 1}
    # What both sources have, what only the newer one has, and what was added to that by hand.
    assert Counter(row.source for row in rows.values()) == {"ik": 620, "k": 18, "kh": 17, "i": 1}


def test_actions_are_counted_as_the_standard_has_them() -> None:
    old = [row for row in attribute_rows().values() if "i" in row.source]
    assert Counter(row.action for row in old) == {
        "X": 384, "D": 92, "U": 54, "Z": 42, "X/D": 22, "X/Z": 11, "X/Z/D": 8, "Z/D": 6,
        "X/Z/U*": 2,
    }  # fmt: skip
    counts = Counter(option for row in old for option in row.options)
    assert counts == {
        Option.FULL_DATES: 165, Option.MODIFIED_DATES: 165, Option.DESCRIPTORS: 125,
        Option.UIDS: 59, Option.DEVICE: 57, Option.PATIENT: 13, Option.INSTITUTION: 10,
        Option.GRAPHICS: 4, Option.STRUCTURED: 3, Option.PRIVATE: 1,
    }  # fmt: skip


def test_every_option_that_retains_dates_retains_or_modifies_the_same_ones() -> None:
    for row in attribute_rows().values():
        assert (Option.FULL_DATES in row.options) is (Option.MODIFIED_DATES in row.options)


def test_an_action_that_depends_on_the_iod_is_settled_by_the_type_there() -> None:
    # Acquisition Date is of Type 3 in a CT Image; Content Date of Type 2C.
    assert settled("X/Z", "00080022", CT, is_nested=False) is Action.REMOVE
    assert settled("Z/D", "00080023", CT, is_nested=False) is Action.EMPTY
    # Content Date is of Type 1 in a document.
    assert settled("Z/D", "00080023", SR, is_nested=False) is Action.DUMMY
    assert settled("X/Z/U*", "00081140", CT, is_nested=False) is Action.UID
    # Of an object that nobody knows everything stays that may be needed.
    assert settled("X/Z/D", "00080080", "1.2.3", is_nested=False) is Action.DUMMY


def test_an_option_overrides_the_profile() -> None:
    basic = attribute_rules(frozenset(), CT)
    with_device = attribute_rules(frozenset([Option.DEVICE]), CT)
    assert basic.root[0x00181000] is not Action.KEEP
    assert with_device.root[0x00181000] is Action.KEEP
    described = attribute_rules(frozenset([Option.DESCRIPTORS]), CT)
    assert basic.root[0x00081030] is Action.REMOVE
    assert described.root[0x00081030] is Action.CLEAN
    assert described.cleaned_by[0x00081030] is Option.DESCRIPTORS


def test_concepts_and_safe_private_elements_are_those_of_the_standard() -> None:
    concepts = {tuple(row[:3]): row[3:] for row in table_lines("concepts")}
    assert concepts["121022", "DCM", "TEXT"] == ["X", ""]
    assert concepts["113795", "DCM", "IMAGE"] == ["D", "K:uids"]
    private = {tuple(row) for row in table_lines("safe_private")}
    assert ("705300", "Philips PET Private Group") in private
    assert ("00190C", "SIEMENS MR HEADER") in private
    assert ("7FD111", "SIEMENS SYNGO ULTRA-SOUND TOYON DATA STREAMING") in private


def test_the_codes_are_those_of_context_group_7050() -> None:
    from pydicom.sr._concepts_dict import concepts

    known = {code: found[0] for each in concepts["DCM"].values() for code, found in each.items()}
    assert known[BASIC_PROFILE[0]] == BASIC_PROFILE[1]
    for option in Option:
        assert known[option.code] == option.meaning
