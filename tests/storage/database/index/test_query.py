"""Compiled queries: the reference's answers, found by index."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.services.archive.index.attributes import ATTRIBUTES, BY_TAG, Attribute, Level
from isocenter.services.archive.index.matching import RANGE_VRS, WILD_CARD_VRS
from isocenter.services.archive.index.query import (
    CombinedRange,
    Criterion,
    EmptyValue,
    Match,
    NameComparison,
    NameMatch,
    Page,
    Query,
    Range,
    SequenceMatch,
    SingleValue,
    ValueList,
    WildCard,
    ZonedKeys,
)
from isocenter.services.archive.index.time_zones import ZoneChange
from isocenter.services.archive.ports import AddResult, Index, InstanceRecord
from isocenter.storage.database.database import Connection, Question
from isocenter.storage.database.index.answers import Answers
from isocenter.storage.database.index.columns import MULTIPLE_GROUPS_PREFIX, is_irregular, key_text
from isocenter.storage.database.index.comparison import MAX_GLOB_STARS
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.database.index.pages import find_page, gathered, page_in_order
from isocenter.storage.database.index.query import compile_instance_keys, compile_keys
from isocenter.storage.database.sqlite.connection import connect
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.database.sqlite.functions import MatchingConnection

PATIENT_ID, PATIENT_NAME = BY_TAG[0x00100020], BY_TAG[0x00100010]
STUDY_UID, STUDY_DATE, STUDY_TIME = BY_TAG[0x0020000D], BY_TAG[0x00080020], BY_TAG[0x00080030]
ACCESSION_NUMBER, STUDY_DESCRIPTION = BY_TAG[0x00080050], BY_TAG[0x00081030]
MODALITIES, SERIES_UID, SOP_UID = BY_TAG[0x00080061], BY_TAG[0x0020000E], BY_TAG[0x00080018]


@pytest.fixture
def connection() -> Iterator[MatchingConnection]:
    opened = connect(None, "full", writable=True, factory=MatchingConnection)
    assert isinstance(opened, MatchingConnection)
    yield opened
    opened.close()


def query(level: Level, *criteria: tuple[Attribute, Match]) -> Query:
    return Query(level=level, criteria=tuple(Criterion(a.tag, match) for a, match in criteria))


# --- plans ------------------------------------------------------------------------------

USUAL_QUESTIONS = {
    "patient ID": query(Level.PATIENT, (PATIENT_ID, SingleValue("x"))),
    "studies of a patient ID": query(Level.STUDY, (PATIENT_ID, SingleValue("x"))),
    "name": query(Level.STUDY, (PATIENT_NAME, SingleValue("doe^jane"))),
    "name prefix": query(Level.STUDY, (PATIENT_NAME, WildCard("doe*"))),
    "name without accents": query(
        Level.STUDY, (PATIENT_NAME, NameMatch(("doe^jane",), NameComparison.FOLDED))
    ),
    "name by sound": query(
        Level.STUDY, (PATIENT_NAME, NameMatch(("doe jane",), NameComparison.FUZZY))
    ),
    "prefix by sound": query(
        Level.PATIENT, (PATIENT_NAME, NameMatch(("doe*", "jane"), NameComparison.FUZZY))
    ),
    "date": query(Level.STUDY, (STUDY_DATE, SingleValue("20240101"))),
    "date range": query(Level.STUDY, (STUDY_DATE, Range("20240101", "20240131"))),
    "open date range": query(Level.STUDY, (STUDY_DATE, Range("20240101", None))),
    "point in time": Query(
        level=Level.STUDY,
        combined=(CombinedRange(STUDY_DATE.tag, STUDY_TIME.tag, "20240101120000.000000", None),),
    ),
    "accession number": query(Level.STUDY, (ACCESSION_NUMBER, SingleValue("x"))),
    "modality": query(Level.STUDY, (MODALITIES, SingleValue("CT"))),
    "modalities": query(Level.STUDY, (MODALITIES, ValueList(("CT", "MR")))),
    "date and modality": query(
        Level.STUDY,
        (STUDY_DATE, Range("20240101", "20240131")),
        (MODALITIES, SingleValue("CT")),
    ),
    "study UID": query(Level.STUDY, (STUDY_UID, SingleValue("1.2"))),
    "study UIDs": query(Level.STUDY, (STUDY_UID, ValueList(("1.2", "1.3")))),
    "series of a study": query(Level.SERIES, (STUDY_UID, SingleValue("1.2"))),
    "images of a series": query(
        Level.IMAGE, (STUDY_UID, SingleValue("1.2")), (SERIES_UID, SingleValue("1.2"))
    ),
    "study of an image": query(Level.STUDY, (SOP_UID, SingleValue("1.2"))),
}


def plan(connection: MatchingConnection, statement: Question) -> list[str]:
    text = f"EXPLAIN QUERY PLAN {statement.text}"
    return [row[3] for row in connection.execute(text, statement.parameters)]


def scans(steps: list[str]) -> list[str]:
    """The steps that read a whole table or a whole index of it."""
    tables = ("patient", "study", "series", "instance", "other", "p", "s", "of_patient")
    return [
        step
        for step in steps
        if step.startswith(tuple(f"SCAN {table}" for table in tables))
        and not step.startswith("SCAN study_sop_class")
    ]


@pytest.mark.parametrize("compile_it", [compile_keys, compile_instance_keys])
@pytest.mark.parametrize("question", USUAL_QUESTIONS)
def test_the_usual_questions_use_an_index(
    connection: MatchingConnection, question: str, compile_it: Callable[[Query], Question]
) -> None:
    steps = plan(connection, compile_it(USUAL_QUESTIONS[question]))
    assert scans(steps) == []


def test_a_question_without_an_index_is_seen_as_a_scan(connection: MatchingConnection) -> None:
    """That `scans` sees what it is for."""
    statement = compile_keys(query(Level.STUDY, (STUDY_DESCRIPTION, SingleValue("x"))))
    assert scans(plan(connection, statement)) == ["SCAN study_statement"]


@pytest.mark.parametrize("level", Level)
def test_answers_are_fetched_by_row_number(connection: MatchingConnection, level: Level) -> None:
    select = Answers(Query(level=level, return_tags=tuple(BY_TAG))).select
    assert scans(plan(connection, Question(select, ("[1]",)))) == []


# --- text -------------------------------------------------------------------------------


def test_values_are_bound() -> None:
    hostile = "x' OR 1 = 1 --"
    asked = query(
        Level.STUDY,
        (PATIENT_ID, SingleValue(hostile)),
        (PATIENT_NAME, WildCard(f"{hostile}*")),
        (ACCESSION_NUMBER, ValueList((hostile,))),
        (STUDY_DATE, Range(hostile, hostile)),
    )
    statement = compile_keys(asked)
    assert "1 = 1" not in statement.text
    assert any("1 = 1" in str(parameter) for parameter in statement.parameters)


def test_many_stars_are_not_left_to_GLOB() -> None:
    def text(stars: int) -> str:
        asked = query(Level.STUDY, (STUDY_DESCRIPTION, WildCard("a*" * stars)))
        return compile_keys(asked).text

    assert "GLOB" in text(MAX_GLOB_STARS)
    assert "GLOB" not in text(MAX_GLOB_STARS + 1)


def test_a_wild_card_made_to_take_forever_does_not(connection: MatchingConnection) -> None:
    """With backtracking this takes longer than the universe has had; the count of steps says so."""
    connection.execute(
        "INSERT INTO patient (identity, patient_id, issuer_of_patient_id) VALUES ('', '', '')"
    )
    connection.execute(
        "INSERT INTO patient_statement (patient_pk, fingerprint, irregular, patient_id, "
        "patient_name, patient_name_key, issuer_of_patient_id, birth_date, birth_time, sex, "
        "other_patient_ids, ethnic_group, patient_comments) "
        "VALUES (1, '', 0, ?, '', '', '', '', '', '', '', '', '')",
        ("a" * 5000,),
    )
    statement = compile_keys(query(Level.PATIENT, (PATIENT_ID, WildCard("*a" * 30 + "*b"))))
    assert connection.ask(statement).fetchall() == []


@pytest.mark.parametrize(
    ("attribute", "text", "irregular"),
    [
        (PATIENT_ID, "A1", False),
        (PATIENT_ID, "A1\\A2", True),
        (PATIENT_ID, " A1", True),
        (PATIENT_ID, "A\0", True),
        (STUDY_DATE, "20240101", False),
        (STUDY_DATE, "2024.01.01", True),
        (STUDY_DATE, "2024", True),
        (STUDY_TIME, "1015", False),
        (STUDY_TIME, "101530.5", False),
        (STUDY_TIME, "10:15", True),
        (BY_TAG[0x00200011], "1", False),
        (BY_TAG[0x00200011], "01", True),
        (BY_TAG[0x00080008], "ORIGINAL\\PRIMARY", False),
        (PATIENT_NAME, "A^B=C", False),
    ],
)
def test_which_values_need_the_reference(attribute: Attribute, text: str, irregular: bool) -> None:
    assert is_irregular(attribute, text) is irregular


def test_names_that_need_the_reference_are_marked() -> None:
    assert key_text(PATIENT_NAME, "Doe^Jane^^") == "doe^jane"
    assert (
        key_text(PATIENT_NAME, "Yamada^Tarou=山田^太郎")
        == f"{MULTIPLE_GROUPS_PREFIX}yamada^tarou=山田^太郎"
    )
    assert key_text(PATIENT_NAME, "A\\B") == f"{MULTIPLE_GROUPS_PREFIX}a\\b"
    assert key_text(PATIENT_NAME, "^^=") == ""


# --- the same answers as the reference ----------------------------------------------------

TEXTS = {
    "PN": [
        *("Doe^John", "DOE^JOHN^^^", "Müller^Jörg", "Yamada^Tarou=山田^太郎", "=山田", "^^", " "),
        *("straße", "STRASSE", "a\\Doe^John", "[", "D\0e", "\ud800", "Mueller Georg", "Ter-Mül"),
    ],
    "LO": ["A", "AB", "a", "A*B", "A[B", "  A ", "A\\B", "?", "[", "é", "=A", " ", "\\"],
    "SH": ["A1", "a1", "A1 ", "A1\\A2", "A[1]"],
    "CS": ["CT", "MR", "CT\\MR", " CT", "\\"],
    "DA": ["20240101", "20240229", "2024.02.01", "2024", "20231231\\20240101", "x"],
    "TM": ["10", "1011", "101112", "101112.5", "10:11:12", "x", "235959.999999"],
    "LT": ["a\\b", " x ", "x"],
    "IS": ["1", "2", "01", "+1", "-3", " 2", "x", "1\\2", "99999999999999999999"],
    "DS": ["1.0", "1", "1e0", "70.5"],
    "US": ["512", "1"],
    "AS": ["010Y", "10Y"],
    "UI": ["1.2.1", "1.2.2", "1.3.1", "1.9.3", "1.5"],
    "SQ": ['[{"00400009":"S1","00080050":"A"},{"00400009":"S2"}]', "[]", "x"],
}
PATTERNS = ["D*", "*", "d?e*", "*a*", "*[*", "a*b*c*", "A?*", "[*", "?", "**", "*=*", "*\\*", "YA*"]
POINTS = [None, "20240101101112.000000", "20240201000000.000000", "20231231000000.000000"]
COMBINED = [(0x00080020, 0x00080030), (0x00100030, 0x00080030), (0x00080022, 0x00080032)]

stored = [a for a in ATTRIBUTES if not a.computed and a.vr != "UI"]


@st.composite
def record_batches(draw: st.DrawFn) -> list[list[InstanceRecord]]:
    def record(number: int) -> InstanceRecord:
        study, series = draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
        tags = draw(st.lists(st.sampled_from(stored), max_size=12, unique=True))
        return InstanceRecord(
            sop_instance_uid=f"1.9.{number}",
            sop_class_uid=draw(st.sampled_from(["1.5", "1.6"])),
            study_instance_uid=f"1.2.{study}",
            series_instance_uid=f"1.3.{study}.{series}",
            transfer_syntax_uid="1.4",
            object_key=f"k{number}",
            size=number,
            data_set_offset=3,
            digest="0",
            attributes={a.tag: draw(st.sampled_from(TEXTS[a.vr])) for a in tags},
        )

    numbers = st.lists(st.integers(0, 9), max_size=6, unique=True)
    return [[record(n) for n in draw(numbers)] for _ in range(draw(st.integers(1, 3)))]


@st.composite
def matches(draw: st.DrawFn, attribute: Attribute) -> Match:
    vr = attribute.vr
    if vr == "SQ":
        inner = st.sampled_from([SingleValue("S1"), WildCard("S*"), EmptyValue(), SingleValue("Z")])
        criterion = st.builds(Criterion, st.sampled_from([0x00400009, 0x00080050]), inner)
        return SequenceMatch(tuple(draw(st.lists(criterion, min_size=1, max_size=2))))
    value = st.sampled_from([text.split("\\")[0] for text in TEXTS[vr]])
    kinds: list[st.SearchStrategy[Match]] = [
        st.just(EmptyValue()),
        st.builds(SingleValue, value),
        st.builds(ValueList, st.lists(value, min_size=1, max_size=3).map(tuple)),
    ]
    if vr in WILD_CARD_VRS:
        kinds.append(st.builds(WildCard, st.sampled_from(PATTERNS)))
    if vr == "PN":
        key = value | st.sampled_from([*PATTERNS, "jorg*", "*ull*", "miller", "DO?", "*oe^*n"])
        comparison = st.sampled_from([NameComparison.FOLDED, NameComparison.FUZZY])
        keys = st.lists(key, min_size=1, max_size=2).map(tuple)
        kinds.append(st.builds(NameMatch, keys, comparison))
    if vr in RANGE_VRS:
        kinds.append(st.builds(Range, st.none() | value, value))
        kinds.append(st.builds(Range, value, st.none()))
    return draw(st.one_of(kinds))


zoned = st.none() | st.builds(
    ZonedKeys,
    st.builds(ZoneChange, st.just("Europe/Berlin"), st.sampled_from([-600, 0, 345, 840])),
    st.sampled_from([None, SingleValue("20240101"), Range("20240101", "20240201")]),
    st.sampled_from([None, SingleValue("1011"), Range(None, "12")]),
)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    asked = draw(st.lists(st.sampled_from(ATTRIBUTES), max_size=3))
    points = st.sampled_from(POINTS)
    combined = draw(st.lists(st.tuples(st.sampled_from(COMBINED), points, points), max_size=1))
    return Query(
        level=draw(st.sampled_from(Level)),
        criteria=tuple(Criterion(a.tag, draw(matches(a))) for a in asked),
        combined=tuple(
            CombinedRange(*tags, low, high, draw(zoned)) for tags, low, high in combined
        ),
        return_tags=tuple(draw(st.lists(st.sampled_from(list(BY_TAG)), max_size=8))),
        shows_first=draw(st.booleans()),
    )


async def answers(index: Index, asked: Query) -> tuple[list[object], list[object]]:
    found: list[object] = []
    async with index.find(asked) as blocks:
        async for block in blocks:
            assert block
            found += [sorted(match.items()) for match in block]
    instances: list[object] = []
    async with index.instances(asked) as stored_blocks:
        async for stored_block in stored_blocks:
            instances += stored_block
    # Patients that share an ID have no order among them.
    return sorted(found, key=repr), instances


async def page(index: Index, asked: Query, wanted: Page) -> list[object]:
    found = await index.find_page(asked, wanted)
    assert len(found.places) == len(found.matches)
    return [sorted(match.items()) for match in found.matches]


async def pages_around(index: Index, asked: Query) -> list[Page]:
    """Pages by number, and behind and ahead of some places."""
    places = (await index.find_page(asked, Page(limit=9))).places
    return [
        Page(limit=9),
        Page(limit=1, offset=1),
        *(Page(limit=2, after=place) for place in places[:2]),
        *(Page(limit=2, before=place) for place in places[-2:]),
        *(Page(limit=2, after=places[0], before=place) for place in places[-1:]),
    ]


def same_by_every_way(connection: Connection, asked: Query, wanted: Page) -> None:
    found = find_page(connection, asked, wanted)
    in_order = found if wanted.before is None else found[::-1]
    assert page_in_order(connection, asked, wanted) == in_order
    assert gathered(connection, asked, wanted, 1_000) == in_order
    for sample in (0, 1, 2, 1_000):
        assert find_page(connection, asked, wanted, sample) == found


def outline(added: AddResult) -> tuple[object, ...]:
    """Which other object is named may differ: any of that patient will do."""
    other = added.other_patient
    return added.outcome, added.previous, other is None or other.is_first


@settings(max_examples=80)
@given(record_batches(), st.booleans(), st.booleans(), st.lists(queries(), min_size=1, max_size=20))
async def test_the_same_answers_as_the_reference(
    batches: list[list[InstanceRecord]], replace: bool, one_patient: bool, asked: list[Query]
) -> None:
    reference = MemoryIndex()
    async with open_sqlite_database(":memory:") as database:
        index = DatabaseIndex(database)
        for batch in batches:
            expected = await reference.add(batch, replace=replace, one_patient=one_patient)
            outcomes = await index.add(batch, replace=replace, one_patient=one_patient)
            assert list(map(outline, outcomes)) == list(map(outline, expected))
        assert await index.statistics() == await reference.statistics()
        for one in asked:
            assert await answers(index, one) == await answers(reference, one)
            pages = await pages_around(index, one), await pages_around(reference, one)
            for wanted, of_reference in zip(*pages, strict=True):
                expected_page = await page(reference, one, of_reference)
                assert await page(index, one, wanted) == expected_page
                await database.read(same_by_every_way, one, wanted)
        gone = [record.sop_instance_uid for record in batches[0][::2]]
        await index.remove(gone)
        await reference.remove(gone)
        assert await index.statistics() == await reference.statistics()
        assert await index.check() == []
        for one in asked[:3]:
            assert await answers(index, one) == await answers(reference, one)


def test_sqlite_can_do_what_is_used_here() -> None:
    """RETURNING (3.35) is the newest of it; an older library would fail at the first add."""
    assert sqlite3.sqlite_version_info >= (3, 35)
