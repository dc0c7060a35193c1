"""Words of a patient, however they are written, and what else names somebody in a text."""

from __future__ import annotations

import pytest

from isocenter.services.dicom.deidentification.identity import (
    Identity,
    with_other_uids,
    without_suspects,
)

ZENOBIA = Identity(["Quixotebaum^Zenobia^Maria"], ["ZQ-471100", "12"], ["19430912"])


@pytest.mark.parametrize(
    "text",
    [
        "Quixotebaum", "ZENOBIA", "quixotebaum, zenobia", "Zenobia M. Quixotebaum",
        "for Zenobia's knee", "QUIXOTEBAUM^ZENOBIA", "id zq-471100.", "(ZQ-471100)",
        "born 1943-09-12", "12.09.1943", "09/12/1943", "12.9.1943", "19430912", "Zénobia",
        "quixotebaum_knee", "ZQ471100", "zq 471100", "born 12 09 1943",
    ],
)  # fmt: skip
def test_a_word_is_found_however_it_is_written(text: str) -> None:
    assert ZENOBIA.is_in(text)
    cleaned = ZENOBIA.cleaned(text).lower()
    for word in ("quixotebaum", "zenobia", "zénobia", "471100", "1943"):
        assert word not in cleaned


@pytest.mark.parametrize(
    "text", ["knee", "Zenobiax", "xquixotebaum", "12 slices", "ZQ-4711001", "11943091211", ""]
)
def test_other_words_stay(text: str) -> None:
    assert not ZENOBIA.is_in(text)
    assert ZENOBIA.cleaned(text) == text


def test_what_stands_around_a_word_stays() -> None:
    assert ZENOBIA.cleaned("left knee of Zenobia Quixotebaum, axial") == "left knee of , axial"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Müller^Jörg", "Mueller"), ("Müller^Jörg", "MÜLLER"), ("Mueller^Joerg", "Müller"),
        ("Müller^Jörg", "Mu\u0308ller"), ("Weiß^Rüdiger", "WEISS"), ("Muller", "Müller"),
        ("山田^太郎", "山田さん"), ("Yamada^Tarou=山田^太郎=やまだ^たろう", "やまだ"),
        ("홍^길동", "환자 홍길동"), ("Гордеев^Иван", "гордеев"),
    ],
)  # fmt: skip
def test_umlauts_accents_and_other_scripts_are_compared_as_people_do(name: str, text: str) -> None:
    assert Identity([name]).is_in(text)


def test_words_that_stand_for_nobody_are_no_words() -> None:
    nobody = Identity(["Dr^von^Mr", "Anonymous", "^^"], ["", "1", "n/a"])
    assert not nobody
    assert not nobody.is_in("Dr. von anonymous 1")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("CT chest abdomen pelvis - 55F Dr. Smith", "CT chest abdomen pelvis"),
        ("T1 tse sag 3mm", "T1 tse sag 3mm"),
        ("MRI 2019-04-03 follow up", "MRI follow up"),
        ("call +49 89 1234567 or a.b@example.org", "call or"),
        ("Head 63 y/o male", "Head male"),
        ("MRN12345678 thorax", "thorax"),
        ("Recon 2: 512x512 B30f", "Recon 2: 512x512 B30f"),
    ],
)
def test_descriptions_lose_what_looks_like_somebody(text: str, clean: str) -> None:
    assert without_suspects(text) == clean


def test_uids_in_texts_are_replaced_by_those_of_the_objects() -> None:
    text = "see 1.2.840.113619.2.5.1 and version 1.2.3"
    assert with_other_uids(text, lambda uid: "2.25.7") == "see 2.25.7 and version 1.2.3"
