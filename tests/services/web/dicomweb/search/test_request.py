"""Searches as queries: names, values, lists, and what cannot be asked."""

from __future__ import annotations

import pytest

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import (
    CombinedRange,
    Criterion,
    Match,
    NameComparison,
    NameMatch,
    Range,
    SequenceMatch,
    SingleValue,
    ValueList,
    WildCard,
)
from isocenter.services.net.http.messages import HttpError
from isocenter.services.web.dicomweb.search.object_attributes import satisfies
from isocenter.services.web.dicomweb.search.request import SearchRequest, parse_search

NAME, UID, MODALITIES, DATE, TIME = 0x00100010, 0x0020000D, 0x00080061, 0x00080020, 0x00080030


def parse(*parameters: tuple[str, str], level: Level = Level.STUDY) -> SearchRequest:
    return parse_search(level, {}, parameters)


def criteria(*parameters: tuple[str, str], level: Level = Level.STUDY) -> dict[int, Match]:
    return {one.tag: one.match for one in parse(*parameters, level=level).query.criteria}


@pytest.mark.parametrize("name", ["PatientName", "00100010"])
def test_by_keyword_and_by_tag(name: str) -> None:
    assert criteria((name, "Doe*")) == {NAME: WildCard("Doe*")}
    assert criteria((name, "")) == criteria((name, "*")) == {}


@pytest.mark.parametrize(
    "parameters",
    [
        [("StudyInstanceUID", "1.2,3.4")],
        [("StudyInstanceUID", "1.2\\3.4")],
        [("StudyInstanceUID", "1.2"), ("0020000d", "3.4")],
    ],
)
def test_lists_of_uids(parameters: list[tuple[str, str]]) -> None:
    assert criteria(*parameters) == {UID: ValueList(("1.2", "3.4"))}


def test_modalities() -> None:
    assert criteria(("ModalitiesInStudy", "CT,MR")) == {MODALITIES: ValueList(("CT", "MR"))}
    assert criteria(("Modality", "CT")) == {MODALITIES: SingleValue("CT")}
    assert criteria(("Modality", "CT"), level=Level.SERIES) == {0x00080060: SingleValue("CT")}


def test_a_comma_belongs_to_a_name() -> None:
    assert criteria(("PatientName", "a,b")) == {NAME: SingleValue("a,b")}


def test_ranges() -> None:
    assert criteria(("StudyDate", "20260101-")) == {DATE: Range("20260101", None)}
    found = parse(("StudyDate", "20260101-20260102"), ("StudyTime", "10-11")).query
    assert found.criteria == ()
    (combined,) = found.combined
    assert isinstance(combined, CombinedRange)
    assert (combined.date_tag, combined.time_tag) == (DATE, TIME)


@pytest.mark.parametrize(
    "name",
    [
        "RequestAttributesSequence.RequestedProcedureID",
        "00400275.00401001",
        "00400275.RequestedProcedureID",
    ],
)
def test_an_attribute_of_a_sequence(name: str) -> None:
    inner = (Criterion(0x00401001, SingleValue("P1")),)
    assert criteria((name, "P1"), level=Level.SERIES) == {0x00400275: SequenceMatch(inner)}


def test_what_answers_show() -> None:
    plain = set(parse().shown)
    assert {NAME, UID, MODALITIES, 0x00201206, 0x00201208} <= plain
    assert 0x00101010 not in plain
    for parameters in (
        [("includefield", "PatientAge")],
        [("includefield", "00101010,00200010")],
        [("includefield", "StudyID"), ("includefield", "00101010")],
        [("includefield", "all")],
        [("PatientAge", "")],
    ):
        assert 0x00101010 in parse(*parameters).shown
    # Nothing of a level below, and nothing that nobody knows.
    assert set(parse(("includefield", "SOPInstanceUID"), ("includefield", "x")).shown) == plain


def test_levels_in_the_path_are_not_repeated() -> None:
    all_series = parse_search(Level.SERIES, {}, [])
    of_a_study = parse_search(Level.SERIES, {Level.STUDY: "1.2"}, [])
    assert NAME in all_series.shown
    assert NAME not in of_a_study.shown
    assert Criterion(UID, SingleValue("1.2")) in of_a_study.query.criteria


def test_what_is_not_done_is_told() -> None:
    found = parse(("KVP", "120"), ("nonsense", "1"), ("limit", "5"))
    assert found.query.criteria == ()
    assert found.warnings == ()
    assert [one.given for one in found.keys] == ["120"]
    (unmatched,) = parse(("RetrieveURL", "x"), ("00080005", "ISO_IR 100")).warnings
    assert unmatched.endswith(": RetrieveURL, SpecificCharacterSet")


@pytest.mark.parametrize(("given", "is_fuzzy"), [("true", True), ("TRUE", True), ("false", False)])
def test_names_are_compared_as_is_wished(given: str, is_fuzzy: bool) -> None:
    found = parse(("fuzzymatching", given), ("PatientName", "Mueller"), ("OperatorsName", "Meyer"))
    fuzzy = NameMatch(("Mueller",), NameComparison.FUZZY)
    assert [one.match for one in found.query.criteria] == [
        fuzzy if is_fuzzy else SingleValue("Mueller")
    ]
    (of_objects,) = found.keys
    assert of_objects.names is (NameComparison.FUZZY if is_fuzzy else NameComparison.LITERAL)
    assert satisfies(
        {"00081070": {"vr": "PN", "Value": [{"Alphabetic": "Maier"}]}}, found.keys
    ) is (is_fuzzy)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "-1"),
        ("limit", "x"),
        ("offset", "1e3"),
        ("offset", "9" * 30),
        ("StudyDate", "20260101-x"),
        ("StudyInstanceUID", "1.2.x"),
        ("StudyInstanceUID", "1.2*"),
        ("PatientName", "*a" * 40),
        ("RequestAttributesSequence", "x"),
        ("StudyDate", "yesterday"),
        ("StudyDate", "2026-01-02"),
        ("StudyDate", "202601"),
        ("StudyTime", "25 o'clock"),
        ("SeriesNumber", "first"),
        ("KVP", "high"),
        ("AcquisitionDateTime", "2026/01/01"),
        ("PixelData", "x"),
        ("ReferencedImageSequence", "x"),
    ],
)
def test_a_broken_value_is_400(name: str, value: str) -> None:
    with pytest.raises(HttpError) as caught:
        parse((name, value))
    assert caught.value.status == 400
    assert name in caught.value.message
    assert value not in caught.value.message.removeprefix(name)
