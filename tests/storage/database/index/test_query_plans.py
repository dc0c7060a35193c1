"""How SQLite goes about each kind of question: from what was asked to what is answered, never
through all instances."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.places import Place
from isocenter.services.archive.index.query import (
    Criterion,
    Match,
    Query,
    Range,
    SingleValue,
    ValueList,
    WildCard,
)
from isocenter.storage.database.index.order import Stretch
from isocenter.storage.database.index.query import (
    compile_instance_keys,
    compile_keys,
    compile_places,
    compile_places_in_order,
)
from isocenter.storage.database.sqlite.connection import connect, create_database
from isocenter.storage.database.sqlite.functions import MatchingConnection

PATIENT_ID, NAME, BIRTH_DATE = 0x00100020, 0x00100010, 0x00100030
STUDY_UID, STUDY_DATE, ACCESSION = 0x0020000D, 0x00080020, 0x00080050
MODALITY, MODALITIES, SERIES_UID, SOP_UID = 0x00080060, 0x00080061, 0x0020000E, 0x00080018
PATIENT, STUDY, SERIES, IMAGE = Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE

ASKED: dict[str, tuple[int, Match, Level]] = {
    "patient ID": (PATIENT_ID, SingleValue("ID7"), PATIENT),
    "name": (NAME, WildCard("family^*"), PATIENT),
    "middle of a name": (NAME, WildCard("*mil*"), PATIENT),
    "birth date": (BIRTH_DATE, SingleValue("19700101"), PATIENT),
    "study UID": (STUDY_UID, ValueList(("1.2.3", "1.2.4")), STUDY),
    "study date": (STUDY_DATE, Range("20140101", "20141231"), STUDY),
    "accession number": (ACCESSION, SingleValue("A1"), STUDY),
    "modalities in study": (MODALITIES, SingleValue("CT"), STUDY),
    "modality": (MODALITY, SingleValue("CT"), SERIES),
    "series UID": (SERIES_UID, SingleValue("1.2.3"), SERIES),
    "SOP instance UID": (SOP_UID, SingleValue("1.2.3"), IMAGE),
}


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path: Path = tmp_path_factory.mktemp("plans") / "index.db"
    create_database(path)
    connect(path, "relaxed", writable=True).close()
    opened = connect(path, "relaxed", writable=False, factory=MatchingConnection)
    yield opened
    opened.close()


def plan(connection: sqlite3.Connection, text: str, parameters: tuple[str, ...]) -> list[str]:
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", parameters)]


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("level", Level)
def test_no_criterion_has_all_instances_looked_at(
    connection: sqlite3.Connection, asked: str, level: Level
) -> None:
    tag, match, of = ASKED[asked]
    query = Query(level=level, criteria=(Criterion(tag, match),))
    statement = compile_keys(query)
    steps = plan(connection, statement.text, statement.parameters)
    assert not [step for step in steps if step.startswith("SCAN instance")], steps
    if level is not IMAGE:
        assert not [step for step in steps if step.startswith("SCAN series")], steps
    # What is found first can be answered first.  (DISTINCT remembers, and holds nothing back.)
    if of.depth <= level.depth:
        sorted_first = [step for step in steps if "TEMP B-TREE" in step and "DISTINCT" not in step]
        assert not sorted_first, steps


@pytest.mark.parametrize("asked", ["patient ID", "study UID", "series UID", "SOP instance UID"])
def test_a_retrieval_goes_from_the_unique_keys_to_the_instances(
    connection: sqlite3.Connection, asked: str
) -> None:
    tag, match, level = ASKED[asked]
    statement = compile_instance_keys(Query(level=level, criteria=(Criterion(tag, match),)))
    steps = plan(connection, statement.text, statement.parameters)
    assert not [step for step in steps if step.startswith(("SCAN instance", "SCAN series"))], steps


def test_without_criteria_rows_come_in_the_order_of_an_index(
    connection: sqlite3.Connection,
) -> None:
    for level in Level:
        statement = compile_keys(Query(level=level))
        steps = plan(connection, statement.text, statement.parameters)
        assert not [step for step in steps if step.startswith("USE TEMP B-TREE FOR ORDER")], steps


#: A place of each level in the middle.
PLACES: dict[Level, Place] = {
    Level.PATIENT: ("P1", "", 7),
    STUDY: ("20200101", "1200", 7),
    SERIES: ("1.2", 1, "3", "1.2.3", 7),
    IMAGE: ("1.2", "1.2.3", 3, "1.2.3.4", 7),
}
PARTS: dict[str, Callable[[Level], dict[str, Place]]] = {
    "all": lambda level: {},
    "behind": lambda level: {"after": PLACES[level]},
    "ahead": lambda level: {"before": PLACES[level]},
}


@pytest.mark.parametrize("asked", [one for one in ASKED if "UID" not in one])
@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("part", PARTS)
def test_pages_are_looked_at_in_order(
    connection: sqlite3.Connection, asked: str, level: Level, part: str
) -> None:
    tag, match, _ = ASKED[asked]
    query = Query(level=level, criteria=(Criterion(tag, match),))
    statement = compile_places_in_order(query, Stretch(level, **PARTS[part](level)))
    steps = plan(connection, statement.text, statement.parameters)
    index = {Level.PATIENT: "patient_by_id", STUDY: "study_statement_in_order"}.get(
        level, "sqlite_autoindex_study_1"
    )
    assert any(index in step for step in steps), steps
    # Nothing is sorted before the first comes, but for irregular rows and the parts of a study.
    outer = steps[: steps.index("RIGHT")] if "RIGHT" in steps else steps
    assert not [step for step in outer if step == "USE TEMP B-TREE FOR ORDER BY"], steps
    assert not [step for step in steps if "BLOOM" in step], steps


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("part", ["behind", "ahead"])
def test_a_page_begins_at_its_place(
    connection: sqlite3.Connection, level: Level, part: str
) -> None:
    stretch = Stretch(level, **PARTS[part](level))
    statement = compile_places_in_order(Query(level=level), stretch)
    (first, *_) = plan(connection, statement.text, statement.parameters)
    columns = {Level.PATIENT: r"patient_id", STUDY: r"\(study_date,study_time,study_pk\)"}
    begins = columns.get(level, "study_instance_uid")
    by_index = rf"SEARCH \w+ USING (COVERING )?INDEX \w+ \({begins}[<>].*\)"
    assert re.fullmatch(by_index, first), first


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("level", [STUDY, SERIES, IMAGE])
def test_what_is_gathered_for_a_page_is_found_by_index(
    connection: sqlite3.Connection, asked: str, level: Level
) -> None:
    tag, match, of = ASKED[asked]
    if of.depth > level.depth:
        return
    statement = compile_places(
        Query(level=level, criteria=(Criterion(tag, match),)), Stretch(level)
    )
    steps = plan(connection, statement.text, statement.parameters)
    assert not [step for step in steps if step.startswith(("SCAN instance", "SCAN series"))], steps
    assert not [step for step in steps if "TEMP B-TREE" in step], steps


def test_statistics_are_written_once(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    create_database(path)
    connect(path, "relaxed", writable=True).close()
    before = path.read_bytes()
    connect(path, "relaxed", writable=True).close()
    assert path.read_bytes() == before
