"""Names without accents and by sound, found by the words of patients, on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import (
    Criterion,
    NameComparison,
    NameMatch,
    Page,
    Query,
    SingleValue,
    WildCard,
)
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.database.index.name_words import DatabaseNames
from storage.databases import open_database
from storage.index_contract import make_record

NAME, PHYSICIAN = 0x00100010, 0x00080090
NAMES = (
    "Müller^Jörg", "MUELLER^JOERG", "Miller^George", "Muller", "Øvergård^Ann-Marie", "O'Brien^Pat",
    "Yamada^Tarou=山田^太郎", "Doe^J", "Doe^John", "", "Doe\\Roe^Jane", "Smith, Mary",
)  # fmt: skip
KEYS = (
    "Mueller", "Jorg Muller", "M*r", "*ull*", "M?ller^*", "mary smith", "太郎", "Doe^J", "Doe^J*",
    "roe", "doe jane", "overgard", "Ann", "obrien", "山*", "*", "-", "Nobody",
)  # fmt: skip
RECORDS = [
    make_record(
        f"3.{number}", f"2.{number}", f"1.{number}", PatientID=f"P{number}", PatientName=name,
        ReferringPhysicianName=NAMES[-number],
    )
    for number, name in enumerate(NAMES)
]  # fmt: skip


@pytest.fixture
async def database(each_database: str) -> AsyncIterator[Database]:
    async with open_database() as opened:
        yield opened


async def found(index: DatabaseIndex | MemoryIndex, query: Query) -> list[str]:
    studies = []
    async with index.find(query) as blocks:
        async for block in blocks:
            studies += [match[0x0020000D] for match in block]
    page = await index.find_page(query, Page(limit=100))
    assert sorted(one[0x0020000D] for one in page.matches) == sorted(studies)
    return sorted(studies)


async def test_the_same_names_as_the_matcher_finds(database: Database) -> None:
    index, reference = DatabaseIndex(database), MemoryIndex()
    await index.add(RECORDS)
    await reference.add(RECORDS)
    for comparison in (NameComparison.FOLDED, NameComparison.FUZZY):
        for tag in (NAME, PHYSICIAN):
            for keys in [*((key,) for key in KEYS), ("roe", "Mueller")]:
                match = NameMatch(keys, comparison)
                query = Query(level=Level.STUDY, criteria=(Criterion(tag, match),))
                assert await found(index, query) == await found(reference, query), match
    assert await found(index, by("Mueller", NameComparison.FUZZY)) == ["1.0", "1.1", "1.2", "1.3"]
    assert await found(index, by("Muller^Jorg", NameComparison.FOLDED)) == ["1.0"]


def by(key: str, comparison: NameComparison) -> Query:
    return Query(level=Level.STUDY, criteria=(Criterion(NAME, NameMatch((key,), comparison)),))


async def test_an_index_may_compare_all_names_without_accents(database: Database) -> None:
    plain, folding = DatabaseIndex(database), DatabaseIndex(database, fold_accents=True)
    await plain.add(RECORDS)
    for match in (SingleValue("muller^jorg"), WildCard("mull*jorg")):
        query = Query(level=Level.STUDY, criteria=(Criterion(NAME, match),))
        assert await found(plain, query) == []
        assert await found(folding, query) == ["1.0"]
        async with folding.instances(query) as blocks:
            uids = [one.sop_instance_uid async for block in blocks for one in block]
        assert uids == ["3.0"]
    # What is asked by sound stays so.
    assert len(await found(folding, by("Mueller", NameComparison.FUZZY))) == 4


async def test_patients_of_an_earlier_version_are_found_before_and_after(
    database: Database,
) -> None:
    def as_an_earlier_version_left_them(connection: Connection) -> None:
        connection.execute("DELETE FROM patient_name_word")
        connection.execute("UPDATE patient_statement SET has_name_words = 0")

    index, names = DatabaseIndex(database), DatabaseNames(database)
    await index.add(RECORDS)
    assert await names.write_missing() is False
    words = await database.read(all_words)
    await database.write(as_an_earlier_version_left_them)
    assert await database.read(all_words) == []
    assert await found(index, by("Mueller", NameComparison.FUZZY)) == ["1.0", "1.1", "1.2", "1.3"]
    assert await names.write_missing() is True
    assert await names.write_missing() is False
    assert await database.read(all_words) == words
    assert await found(index, by("Mueller", NameComparison.FUZZY)) == ["1.0", "1.1", "1.2", "1.3"]


async def test_words_go_with_the_patient(database: Database) -> None:
    index = DatabaseIndex(database)
    await index.add(RECORDS)
    await index.remove([record.sop_instance_uid for record in RECORDS])
    assert await database.read(all_words) == []


async def test_words_are_there_in_an_index_that_was_built_anew(database: Database) -> None:
    index = DatabaseIndex(database)
    await index.add(RECORDS)
    words = await database.read(all_words)
    async with index.rebuilding() as new:
        await new.add(RECORDS)
    assert await database.read(all_words) == words != []


def all_words(connection: Connection) -> list[tuple[str, str]]:
    return [
        (str(name), str(word))
        for name, word in connection.execute(
            "SELECT patient_name, word FROM patient_name_word "
            "JOIN patient_statement USING (patient_statement_pk) ORDER BY patient_name, word"
        ).fetchall()
    ]
