"""Questions of the index find their rows by index in PostgreSQL, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import (
    Criterion,
    Match,
    Query,
    Range,
    SingleValue,
    ValueList,
    WildCard,
)
from isocenter.storage.database.database import Connection, Question
from isocenter.storage.database.index.query import compile_keys
from isocenter.storage.database.postgresql.matching import answer_matchers
from isocenter.storage.database.postgresql.opening import Place, connect
from isocenter.storage.database.postgresql.pipeline import Pipeline
from isocenter.storage.database.postgresql.transaction import TranslatingConnection
from support.postgresql import Server

PATIENT_ID, NAME, BIRTH_DATE = 0x00100020, 0x00100010, 0x00100030
STUDY_UID, STUDY_DATE, ACCESSION = 0x0020000D, 0x00080020, 0x00080050
MODALITY, MODALITIES, SERIES_UID, SOP_UID = 0x00080060, 0x00080061, 0x0020000E, 0x00080018
DESCRIPTION = 0x00081030
ASKED: dict[str, tuple[int, Match]] = {
    "patient ID": (PATIENT_ID, SingleValue("ID7")),
    "name": (NAME, SingleValue("family^given")),
    "beginning of a name": (NAME, WildCard("family^*")),
    "birth date": (BIRTH_DATE, SingleValue("19700101")),
    "study UIDs": (STUDY_UID, ValueList(("1.2.3", "1.2.4"))),
    "study date": (STUDY_DATE, Range("20140101", "20141231")),
    "accession number": (ACCESSION, SingleValue("A1")),
    "modalities in study": (MODALITIES, SingleValue("CT")),
    "modality": (MODALITY, SingleValue("CT")),
    "series UID": (SERIES_UID, SingleValue("1.2.3")),
    "SOP instance UID": (SOP_UID, SingleValue("1.2.3")),
}


@pytest.fixture(scope="module")
def connection(postgresql_server: Server) -> Iterator[Connection]:
    name = postgresql_server.new_database()
    place = Place(postgresql_server.conninfo(name))
    with connect(place) as opened:
        # Tables without rows are read as a whole otherwise, whatever is asked.
        opened.execute("SET enable_seqscan TO off")
        yield TranslatingConnection(Pipeline(opened, lambda: connect(place)))
    postgresql_server.drop_database(name)


def plan(connection: Connection, question: Question) -> str:
    text, parameters = answer_matchers(connection, question)
    rows = connection.execute(f"EXPLAIN (COSTS OFF) {text}", parameters)
    return "\n".join(line for (line,) in rows)


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("level", [Level.PATIENT, Level.STUDY, Level.SERIES])
def test_what_is_asked_for_leads_to_its_rows(
    connection: Connection, asked: str, level: Level
) -> None:
    tag, match = ASKED[asked]
    steps = plan(connection, compile_keys(Query(level=level, criteria=(Criterion(tag, match),))))
    assert "Seq Scan" not in steps, steps
    assert "Index Cond" in steps, steps


def test_what_has_no_index_is_seen(connection: Connection) -> None:
    """That a plan shows what leads to rows."""
    criterion = Criterion(DESCRIPTION, SingleValue("x"))
    steps = plan(connection, compile_keys(Query(level=Level.STUDY, criteria=(criterion,))))
    assert "on study_statement" in steps, steps
    assert "Index Cond: (study_description" not in steps, steps


def test_all_that_there_is_comes_in_its_order_without_sorting(
    connection: Connection,
) -> None:
    for level in (Level.STUDY, Level.SERIES, Level.IMAGE):
        assert "Sort" not in plan(connection, compile_keys(Query(level=level)))
