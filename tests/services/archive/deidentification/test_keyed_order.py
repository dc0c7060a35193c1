"""Order in which callers of a project see matches: it says nothing of when what was made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deidentification import index_view
from isocenter.services.archive.deidentification.index_view import TooManyToCompareError
from isocenter.services.archive.deidentification.keyed_order import MatchPage
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.deidentification.service import Deidentification
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Page, Query, SingleValue, WildCard
from isocenter.services.archive.reading import SearchedIndex
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.profile import Profile
from isocenter.storage.objects.memory import MemoryStore
from isocenter.storage.stores import open_sqlite_stores
from services.web.rest.images import image, put
from support.deidentification import KEY

STUDY, NAME, NUMBER = 0x0020000D, 0x00100010, 0x00200013
STUDIES = Query(level=Level.STUDY, return_tags=(STUDY,))
NUMBERS = range(1, 9)
#: UIDs stay, so that the order can be told from that of the originals.
PROJECT = Project(name="trial", profile=Profile(options=frozenset([Option.UIDS])))


@pytest.fixture
async def index() -> AsyncIterator[SearchedIndex]:
    async with (
        open_sqlite_stores(":memory:") as stores,
        Archive(MemoryStore(), stores.index) as archive,
    ):
        archive.deidentification = Deidentification(
            [PROJECT], {"trial": KEY}, stores.deidentification
        )
        for number in NUMBERS:
            await put(
                archive,
                image(
                    number, study=_study(number), series=f"{_study(number)}.1",
                    StudyDate=f"2026010{number}", PatientID=f"ID{number}", PatientName=f"N{number}",
                ),
            )  # fmt: skip
        for number in (12, 11):
            more = image(number, study=_study(3), series=f"{_study(3)}.1", PatientID="ID3")
            await put(archive, more)
        yield archive.seen_by("trial").index


def _study(number: int) -> str:
    return f"1.2.826.99.{number}"


async def pages(index: SearchedIndex, query: Query = STUDIES) -> list[str]:
    """Page by page of one, as an offset says."""
    found: list[str] = []
    while True:
        page = await index.find_page(query, Page(limit=1, offset=len(found)))
        if not page.matches:
            return found
        found += [match[STUDY] for match in page.matches]


async def searched(index: SearchedIndex, query: Query = STUDIES) -> list[str]:
    async with index.find(query) as blocks:
        return [match[STUDY] async for block in blocks for match in block]


def is_mixed(found: Sequence[str]) -> bool:
    """Whether it is neither the order of dates and arrival, nor the other way round."""
    return list(found) not in (sorted(found), sorted(found, reverse=True))


async def test_pages_of_one_match_are_in_no_order_of_time(index: SearchedIndex) -> None:
    found = await pages(index)
    assert sorted(found) == [_study(number) for number in NUMBERS]
    assert is_mixed(found)
    assert found == await searched(index)
    # Also where something has to be compared.
    query = Query(
        level=Level.STUDY, criteria=(Criterion(NAME, WildCard("*")),), return_tags=(STUDY,)
    )
    assert await pages(index, query) == found


async def test_pages_follow_each_other_by_their_places_in_both_directions(
    index: SearchedIndex,
) -> None:
    order = await searched(index)
    first = await index.find_page(STUDIES, Page(limit=3))
    then = await index.find_page(STUDIES, Page(limit=3, after=first.places[-1]))
    assert [match[STUDY] for match in (*first.matches, *then.matches)] == order[:6]
    back = await index.find_page(STUDIES, Page(limit=2, before=then.places[0]))
    assert [match[STUDY] for match in back.matches] == order[1:3]


async def test_what_is_retrieved_comes_in_that_order(index: SearchedIndex) -> None:
    async with index.instances(Query(level=Level.STUDY)) as blocks:
        found = [one.study_instance_uid async for block in blocks for one in block]
    assert list(dict.fromkeys(found)) == await searched(index)


async def test_patients_are_not_told_in_the_order_of_their_ids(index: SearchedIndex) -> None:
    async with index.find(Query(level=Level.PATIENT, return_tags=(0x00100020,))) as blocks:
        found = [match[0x00100020] async for block in blocks for match in block]
    page = await index.find_page(
        Query(level=Level.PATIENT, return_tags=(0x00100020,)), Page(limit=100)
    )
    assert [match[0x00100020] for match in page.matches] == found
    assert len(set(found)) == len(NUMBERS)


async def test_within_a_study_numbers_count(index: SearchedIndex) -> None:
    query = Query(
        level=Level.IMAGE,
        criteria=(Criterion(STUDY, SingleValue(_study(3))),),
        return_tags=(NUMBER,),
    )
    page = await index.find_page(query, Page(limit=10))
    assert [match[NUMBER] for match in page.matches] == ["3", "11", "12"]


async def test_few_are_held_at_a_time(
    index: SearchedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = await searched(index)
    monkeypatch.setattr(index_view, "_HELD", 3)
    assert await searched(index) == order
    assert await pages(index) == order
    monkeypatch.setattr(index_view, "MOST_ORDERED", 7)
    with pytest.raises(TooManyToCompareError):
        await searched(index)


Places = st.lists(st.integers(0, 30), unique=True)


@given(Places, st.integers(1, 6), st.none() | st.integers(0, 30))
def test_the_nearest_are_those_behind_or_ahead_of_a_place(
    numbers: list[int], limit: int, place: int | None
) -> None:
    behind: MatchPage[int] = MatchPage(limit, after=None if place is None else (place,))
    ahead: MatchPage[int] = MatchPage(limit, before=(99 if place is None else place,))
    for number in numbers:
        behind.add((number,), number)
        ahead.add((number,), number)
    ordered = sorted(numbers)
    assert behind.items == [each for each in ordered if place is None or each > place][:limit]
    assert ahead.items == [each for each in ordered if place is None or each < place][-limit:]
