"""Links of patients, and the queries that follow them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import pytest

from isocenter.services.archive.corrections.links import followed
from isocenter.services.archive.corrections.values import PatientKey
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Match, Query, SingleValue, WildCard
from isocenter.services.workflow.reconciliation.values import Identifier, PatientLink
from isocenter.storage.database.corrections import links as adapter
from isocenter.storage.database.corrections.links import DatabaseLinks
from isocenter.storage.database.database import Database
from isocenter.storage.database.reconciliation import DatabaseReconciliation
from storage.databases import open_database

ID, ISSUER, NAME = 0x00100020, 0x00100021, 0x00100010
A, B, C = PatientKey("A"), PatientKey("B", "WARD"), PatientKey("C")


@pytest.fixture
async def database(each_database: str) -> AsyncIterator[Database]:
    async with open_database() as database:
        yield database


@pytest.fixture
def links(database: Database) -> DatabaseLinks:
    return DatabaseLinks(database)


async def link(database: Database, one: PatientKey, other: PatientKey) -> None:
    first, second = (Identifier(each.patient_id, each.issuer) for each in (one, other))
    book = DatabaseReconciliation(database)
    assert await book.link(PatientLink(one=first, other=second, actor="me", at=1.0))


def query(*criteria: tuple[int, Match]) -> Query:
    return Query(level=Level.STUDY, criteria=tuple(Criterion(*each) for each in criteria))


def asked(queries: Sequence[Query]) -> list[dict[int, str]]:
    return [
        {each.tag: each.match.value for each in one.criteria if isinstance(each.match, SingleValue)}
        for one in queries
    ]


async def test_links_lead_both_ways_and_on(database: Database, links: DatabaseLinks) -> None:
    await link(database, B, A)
    await link(database, B, C)
    assert set(await links.linked("A", None)) == {B, C}
    assert set(await links.linked("C", "")) == {A, B}
    assert set(await links.linked("B", "WARD")) == {A, C}
    assert set(await links.linked("B", None)) == {A, C}
    assert not await links.linked("B", "OTHER")
    assert not await links.linked("D", None)


async def test_who_asks_for_one_asks_for_all_that_are_linked(
    database: Database, links: DatabaseLinks
) -> None:
    await link(database, A, B)
    found = await followed(query((ID, SingleValue("A")), (NAME, SingleValue("N"))), links)
    assert asked(found) == [{ID: "A", NAME: "N"}, {ID: "B", ISSUER: "WARD", NAME: "N"}]
    found = await followed(query((ID, SingleValue("B")), (ISSUER, SingleValue("WARD"))), links)
    assert asked(found) == [{ID: "B", ISSUER: "WARD"}, {ID: "A"}]
    for other in (
        query((ID, SingleValue("B")), (ISSUER, SingleValue("OTHER"))),
        query((ID, WildCard("A*"))),
        query((ID, SingleValue("A")), (ISSUER, WildCard("W*"))),
        query((NAME, SingleValue("N"))),
        query((ID, SingleValue("D"))),
    ):
        assert await followed(other, links) == (other,)
    assert await followed(query((ID, SingleValue("A"))), None) == (query((ID, SingleValue("A"))),)


async def test_that_more_are_linked_than_are_asked_for_is_told_once(
    database: Database,
    links: DatabaseLinks,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(adapter, "MOST_ASKED", 3)
    patients = [PatientKey(letter) for letter in "KLMNO"]
    for one, other in pairwise(patients[:3]):
        await link(database, one, other)
    assert len(await links.linked("K", "")) == 2
    assert not caplog.records
    for one, other in pairwise(patients[2:]):
        await link(database, one, other)
    for _ in range(2):
        assert len(await links.linked("K", "")) == 2
    (told,) = caplog.records
    assert "more than 3 patients are linked as one person" in told.getMessage()
