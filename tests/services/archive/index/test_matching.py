from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.archive.index.matching import (
    is_wild,
    matches,
    matches_combined,
    matches_text,
    normalize,
    range_bounds,
    split_groups,
    split_values,
)
from isocenter.services.archive.index.query import (
    CombinedRange,
    Criterion,
    EmptyValue,
    Match,
    Range,
    SequenceMatch,
    SingleValue,
    ValueList,
    WildCard,
)
from isocenter.services.dicom.wildcards import wildcard_match


@pytest.mark.parametrize(
    ("vr", "value", "normalized"),
    [
        ("PN", " Doe ^ JOHN ^^ ", "doe^john"),
        ("PN", "^^=", ""),
        ("PN", "DOE=山田^太郎= ", "doe=山田^太郎"),
        ("PN", "=山田", "=山田"),
        ("PN", "STRASSE", "strasse"),
        ("PN", "Straße", "strasse"),
        ("PN", "MU\u0308LLER", "müller"),
        ("DA", "20200131", "20200131"),
        ("DA", "2020.01.31 ", "20200131"),
        ("DA", "2020.0131", "2020.0131"),
        ("DA", "today", "today"),
        ("TM", "10", "100000.000000"),
        ("TM", "1012", "101200.000000"),
        ("TM", "10:12:13.5", "101213.500000"),
        ("TM", "101213.123456", "101213.123456"),
        ("TM", "1", "1"),
        ("IS", " 007 ", "7"),
        ("IS", "-0", "0"),
        ("IS", "+3", "3"),
        ("IS", "٣", "٣"),
        ("IS", "9" * 5000, "9" * 5000),
        ("DS", "1.50e1", "15.0"),
        ("DS", "-0.0", "0.0"),
        ("DS", "1e999", "1e999"),
        ("DS", "nan", "nan"),
        ("US", "512", "512"),
        ("UI", "1.2.3\0", "1.2.3"),
        ("LO", "  Chest ", "Chest"),
        ("LT", "  Chest ", "  Chest"),
    ],
)
def test_normalize(vr: str, value: str, normalized: str) -> None:
    assert normalize(vr, value) == normalized


@given(st.sampled_from(["PN", "DA", "TM", "IS", "DS", "LO", "LT", "UI"]), st.text(max_size=20))
def test_normalize_is_idempotent(vr: str, value: str) -> None:
    once = normalize(vr, value)
    assert normalize(vr, once) == once


def test_accents_count_unless_told_otherwise() -> None:
    assert split_groups("Müller") == ("müller",)
    assert split_groups("Müller", fold_accents=True) == ("muller",)
    assert not matches_text("PN", SingleValue("Muller"), "Müller")
    assert matches_text("PN", SingleValue("Muller"), "Müller", fold_accents=True)
    assert matches_text("PN", WildCard("mul*"), "Müller", fold_accents=True)


@given(st.text("ab*?", max_size=12), st.text("ab*?", max_size=12))
def test_wildcards_mean_what_a_regular_expression_says(pattern: str, text: str) -> None:
    expression = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern)
    assert wildcard_match(pattern, text) == (re.fullmatch(expression, text) is not None)


def test_wildcards_do_not_backtrack() -> None:
    began = time.process_time()
    assert not wildcard_match("a*" * 50 + "b", "a" * 10_000)
    assert time.process_time() - began < 2


PN, LO = "PN", "LO"


@pytest.mark.parametrize(
    ("vr", "match", "text", "expected"),
    [
        (PN, SingleValue("doe^john"), "DOE^JOHN", True),
        (PN, SingleValue("DOE"), "DOE^JOHN", False),
        (PN, SingleValue("DOE^JOHN^^^"), "DOE^JOHN", True),
        (PN, WildCard("d?e*"), "DOE^JOHN", True),
        (PN, SingleValue("山田^太郎"), "Yamada^Tarou=山田^太郎", True),
        (PN, SingleValue("=山田^太郎"), "Yamada^Tarou=山田^太郎", True),
        (PN, SingleValue("=山田^太郎"), "山田^太郎", False),
        (PN, WildCard("yama*=山*"), "Yamada^Tarou=山田^太郎", True),
        (PN, WildCard("yama*=川*"), "Yamada^Tarou=山田^太郎", False),
        (PN, ValueList(("A", "DOE^JOHN")), "X\\Doe^John", True),
        (LO, SingleValue("Chest"), "CHEST", False),
        (LO, SingleValue("B"), "A\\B", True),
        (LO, SingleValue("A\\B"), "A\\B", False),
        (LO, WildCard("*x*"), "axb", True),
        (LO, WildCard("**"), "", False),
        ("LT", SingleValue("a\\b"), "a\\b", True),
        ("CS", ValueList(("CT", "MR")), "US\\MR", True),
        ("CS", ValueList(("CT", "MR")), "US", False),
        ("UI", WildCard("1.*"), "1.2", False),
        ("DA", WildCard("2020*"), "20200101", False),
        ("IS", SingleValue("1"), "001", True),
        ("DS", SingleValue("70"), "7.0e1", True),
        ("TM", SingleValue("10:12"), "101200", True),
        ("DA", Range("20200101", "20200131"), "20200131", True),
        ("DA", Range("20200101", "20200131"), "20200201", False),
        ("DA", Range(None, "20200131"), "1999.12.31", True),
        ("DA", Range("20200101", None), "unknown", False),
        ("DA", Range(None, None), "", False),
        ("TM", Range("10", "11"), "115959.9", True),
        ("TM", Range("10", "11"), "12", False),
        ("TM", Range("1030", None), "10", False),
        ("LO", Range("A", "B"), "A", False),
        ("LO", EmptyValue(), "", True),
        ("LO", EmptyValue(), "\\", True),
        ("PN", EmptyValue(), "^^", True),
        ("LO", EmptyValue(), "A", False),
        ("LO", SingleValue(""), "", False),
        ("LO", ValueList(("",)), "", False),
        ("SQ", EmptyValue(), "", True),
    ],
)
def test_matching(vr: str, match: Match, text: str, expected: bool) -> None:
    assert matches_text(vr, match, text) is expected


SEQUENCE = '[{"00401001":"R1","00400009":"S1"},{"00401001":"R2"}]'


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ((Criterion(0x00401001, SingleValue("R1")),), True),
        (
            (Criterion(0x00401001, SingleValue("R2")), Criterion(0x00400009, SingleValue("S1"))),
            False,
        ),
        ((Criterion(0x00401001, WildCard("R?")), Criterion(0x00400009, EmptyValue())), True),
        ((), True),
    ],
)
def test_sequence_matching(criteria: tuple[Criterion, ...], expected: bool) -> None:
    criterion = Criterion(0x00400275, SequenceMatch(criteria))
    assert matches(criterion, SEQUENCE) is expected
    assert not matches(criterion, "")
    assert not matches(criterion, "[]")
    assert not matches(criterion, "{broken")
    assert not matches(criterion, "[1]")


@pytest.mark.parametrize(
    ("low", "high", "date", "time_", "expected"),
    [
        ("20200101100000.000000", "20200102110000.000000", "20200101", "10", True),
        ("20200101100000.000000", "20200102110000.000000", "20200101", "0959", False),
        ("20200101100000.000000", "20200102110000.000000", "20200102", "110000.1", False),
        ("20200101100000.000000", None, "20200101", "", True),
        (None, "20200101100000.000000", "20200101", "", True),
        (None, "20191231235959.999999", "20200101", "", False),
        (None, None, "", "10", False),
        (None, None, "2020.01.01", "10", True),
    ],
)
def test_combined_date_time(
    low: str | None, high: str | None, date: str, time_: str, expected: bool
) -> None:
    assert (
        matches_combined(CombinedRange(0x00080020, 0x00080030, low, high), date, time_) is expected
    )


def test_small_parts() -> None:
    assert list(split_values("LO", "A\\B")) == ["A", "B"]
    assert list(split_values("ST", "A\\B")) == ["A\\B"]
    assert is_wild("LO", "A*")
    assert not is_wild("DA", "2020*")
    assert range_bounds("TM", Range("10", "10")) == ("100000.000000", "105959.999999")
    assert range_bounds("DA", Range("2020.01.02", None)) == ("20200102", None)
