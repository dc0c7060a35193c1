"""Person names by words and sounds (PS3.4 C.2.2.2.1.1)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.archive.index.matching import is_wild, matches_text
from isocenter.services.archive.index.names import (
    MAX_WORDS,
    fold,
    has_words,
    sound_of,
    wanted_words,
    words_of,
)
from isocenter.services.archive.index.query import (
    EmptyValue,
    NameComparison,
    NameMatch,
    SingleValue,
    ValueList,
    WildCard,
    compared_by,
)


# Published examples of the method, and names that people take for each other.
@pytest.mark.parametrize(
    ("names", "sound"),
    [
        (("Wikipedia",), "3412"),
        (("Breschnew",), "17863"),
        (("Lüdenscheidt",), "52682"),
        (("Müller", "Mueller", "Muller", "Miller", "Möller"), "657"),
        (("Schmidt", "Schmitt", "Schmid", "Smith"), "862"),
        (("Meyer", "Maier", "Mayr", "Meier"), "67"),
        (("Philipp", "Filip", "Phillip"), "351"),
        (("Catherine", "Katharina", "Kathrin"), "4276"),
        (("Swain", "Swayne"), "836"),
        (("Xaver",), "4837"),
        (("Łukasz", "Lukas", "Lucas"), "548"),
    ],
)
def test_names_that_sound_alike_have_one_sound(names: tuple[str, ...], sound: str) -> None:
    found = {sound_of(word) for name in names for word in words_of(name)}
    assert found == {sound}


@pytest.mark.parametrize("word", ["", "j", "42", "doe2", "山田", "жуков"])
def test_what_has_no_sound(word: str) -> None:
    assert sound_of(word) == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("DOE^JOHN^^DR.", ("doe", "john", "dr")),
        ("Ter-Meulen^Anna Maria", ("ter", "meulen", "anna", "maria")),
        ("O'Brien", ("obrien",)),
        ("d`Arc’s", ("darcs",)),
        ("Yamada^Tarou=山田^太郎", ("yamada", "tarou", "山田", "太郎")),
        ("Øvergård^Æneas", ("overgard", "aeneas")),
        ("Doe^Doe", ("doe",)),
        ("^^=", ()),
    ],
)
def test_words_of_a_name(name: str, words: tuple[str, ...]) -> None:
    assert words_of(name) == words


def test_marks_that_make_another_letter_stay() -> None:
    assert fold("ダ") != fold("タ")
    assert fold("É") == fold("e\u0301") == "e"


@pytest.mark.parametrize(
    ("key", "name", "found"),
    [
        ("Mueller^Joerg", "MÜLLER^JÖRG", True),
        ("Jörg Miller", "MÜLLER^JÖRG", True),
        ("Smith^Mary", "Smith, Mary", True),
        ("Swain", "Swayne^Ann", True),
        ("OBrien", "O'BRIEN^PAT", True),
        ("Tarou Yamada", "Yamada^Tarou=山田^太郎", True),
        ("太郎", "Yamada^Tarou=山田^太郎", True),
        ("田", "Yamada^Tarou=山田^太郎", False),
        ("Mül*", "Muller^Joerg", True),
        ("*ller", "Muller^Joerg", True),
        ("*ull*", "Muller^Joerg", True),
        ("M?ller", "Muller^Joerg", True),
        ("Mil*", "Muller^Joerg", False),
        ("Doe^J", "Doe^John", False),
        ("Doe^J*", "Doe^John", True),
        ("Doe^J", "J^Doe", True),
        ("Doe^Jane", "Doe^John", True),
        ("Doe^Robert", "Doe^John", False),
        ("Doe", "", False),
        ("-", "-", True),
        ("-", "Doe", False),
    ],
)
def test_fuzzy_matching(key: str, name: str, found: bool) -> None:
    match = NameMatch((key,), NameComparison.FUZZY)
    assert matches_text("PN", match, name) is found
    assert matches_text("PN", match, f"Nobody^At^All\\{name}") is found


@pytest.mark.parametrize(
    ("key", "name", "found"),
    [
        ("Muller^Jorg", "MÜLLER^JÖRG", True),
        ("MÜLLER^JÖRG", "Muller^Jorg", True),
        ("Mueller^Jorg", "MÜLLER^JÖRG", False),
        ("Lukasz*", "ŁUKASZ^A", True),
        ("Jorg^Muller", "MÜLLER^JÖRG", False),
    ],
)
def test_matching_without_accents(key: str, name: str, found: bool) -> None:
    assert matches_text("PN", NameMatch((key,), NameComparison.FOLDED), name) is found


def test_only_names_are_compared_otherwise() -> None:
    fuzzy = NameComparison.FUZZY
    assert compared_by("LO", SingleValue("a"), fuzzy) == SingleValue("a")
    assert compared_by("PN", SingleValue("a"), NameComparison.LITERAL) == SingleValue("a")
    assert compared_by("PN", EmptyValue(), fuzzy) == EmptyValue()
    assert compared_by("PN", None, fuzzy) is None
    assert compared_by("PN", WildCard("a*"), fuzzy) == NameMatch(("a*",), fuzzy)
    assert compared_by("PN", ValueList(("a", "b")), fuzzy) == NameMatch(("a", "b"), fuzzy)


letters = st.text(alphabet="aeßüØłJjDdoeΣςı^= -'*?é山ダ2\u0301", max_size=12)


@given(letters, letters)
def test_what_matches_literally_matches_fuzzily(key: str, name: str) -> None:
    literal = WildCard(key) if is_wild("PN", key) else SingleValue(key)
    if "\\" in key or not key.strip("*^= "):
        return
    if matches_text("PN", literal, name):
        for comparison in (NameComparison.FOLDED, NameComparison.FUZZY):
            assert matches_text("PN", NameMatch((key,), comparison), name)


@given(letters, letters)
def test_the_words_of_a_key_lead_to_all_that_match(key: str, name: str) -> None:
    """What the index looks up has to be in each name that the matcher takes."""
    for comparison in (NameComparison.FOLDED, NameComparison.FUZZY):
        if matches_text("PN", NameMatch((key,), comparison), name):
            assert has_words(name, wanted_words(key))


def test_a_name_made_to_take_forever_does_not() -> None:
    long = " ".join(f"w{number}x" for number in range(20_000))
    began = time.perf_counter()
    assert len(words_of(long)) == len(wanted_words(long)) == MAX_WORDS
    matches_text("PN", NameMatch(("*a" * 500,), NameComparison.FUZZY), long)
    assert time.perf_counter() - began < 5
