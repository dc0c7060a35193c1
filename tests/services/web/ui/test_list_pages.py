"""Pages of a long list, and the whole list as a table, while studies come and go."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from urllib.parse import urlencode

import pytest

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.ports import InstanceRecord
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.web.cursors import cursor, place_cursor
from isocenter.services.web.ui.catalogue import Catalogue
from isocenter.services.web.ui.csv_tables import csv_response
from isocenter.services.web.ui.list_pages import ROWS, ShownPage, shown_page
from isocenter.storage.database.index.memory import MemoryIndex


def record(number: int) -> InstanceRecord:
    """Of a study that stands the higher the larger its number is."""
    return InstanceRecord(
        sop_instance_uid=f"1.3.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        study_instance_uid=f"1.2.{number}",
        series_instance_uid=f"1.2.{number}.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        object_key=str(number),
        size=1,
        data_set_offset=0,
        digest="0" * 64,
        attributes={0x00100020: f"P{number}", 0x00080020: f"2026{number:04}"},
    )


@pytest.fixture
async def index() -> MemoryIndex:
    index = MemoryIndex()
    await index.add([record(number) for number in range(1_000, 1_120)])
    return index


def request(address: Mapping[str, object]) -> Request:
    async def receive() -> dict[str, object]:
        raise AssertionError("there is no body")

    return Request(
        {
            "method": "GET", "scheme": "http", "raw_path": b"/", "headers": [],
            "query_string": urlencode({key: str(value) for key, value in address.items()}).encode(),
        },
        receive,
    )  # fmt: skip


async def shown(index: MemoryIndex, address: Mapping[str, object]) -> ShownPage:
    find = partial(Catalogue(index).studies, [])
    return await shown_page(find, Level.STUDY, request(address))


def numbers(page: ShownPage) -> list[int]:
    return [int(row["StudyInstanceUID"].rpartition(".")[2]) for row in page.rows]


async def test_links_lead_through_the_list_and_back(index: MemoryIndex) -> None:
    pages = [await shown(index, {})]
    while (following := pages[-1].following) is not None:
        pages.append(await shown(index, following))
    assert [numbers(page) for page in pages] == [
        list(range(1_119, 1_069, -1)), list(range(1_069, 1_019, -1)), list(range(1_019, 999, -1)),
    ]  # fmt: skip
    assert [(one.number, one.first_row, one.last_row) for one in pages] == [
        (1, 1, 50), (2, 51, 100), (3, 101, 120),
    ]  # fmt: skip
    back = pages[-1]
    for expected in pages[-2::-1]:
        assert back.previous is not None
        back = await shown(index, back.previous)
        assert (numbers(back), back.number) == (numbers(expected), expected.number)
    assert back.previous is None


async def test_what_comes_and_goes_moves_nothing_to_another_page(index: MemoryIndex) -> None:
    first = await shown(index, {})
    assert first.following is not None
    await index.add([record(number) for number in range(1_200, 1_260)])
    await index.remove(["1.3.1070", "1.3.1119"])  # the last that was shown, and the first
    second = await shown(index, first.following)
    assert numbers(second) == list(range(1_069, 1_019, -1))
    # Back leads to the rows ahead of it, which are others now.
    assert second.previous is not None
    back = await shown(index, second.previous)
    assert numbers(back) == [1_201, 1_200, *range(1_118, 1_070, -1)]
    assert len(back.rows) == ROWS
    assert back.previous is not None


async def test_back_to_the_beginning_shows_a_whole_page(index: MemoryIndex) -> None:
    first = await shown(index, {})
    assert first.following is not None
    second = await shown(index, first.following)
    await index.remove([f"1.3.{number}" for number in range(1_080, 1_120)])
    assert second.previous is not None
    back = await shown(index, second.previous)
    assert numbers(back) == list(range(1_079, 1_029, -1))
    assert (back.number, back.previous) == (1, None)


async def test_a_page_by_number_is_counted(index: MemoryIndex) -> None:
    page = await shown(index, {"page": 2})
    assert numbers(page) == list(range(1_069, 1_019, -1))
    assert page.previous is not None
    assert numbers(await shown(index, page.previous)) == list(range(1_119, 1_069, -1))
    beyond = await shown(index, {"page": 9})
    assert (beyond.rows, beyond.following) == ([], None)
    assert beyond.previous == {}


@pytest.mark.parametrize(
    "address",
    [
        {"after": "x"},
        {"after": cursor((3, "1.2.3"))},
        {"before": place_cursor(Level.PATIENT, ("P1", "", 1))},
        {"before": place_cursor(Level.SERIES, ("1.2", 1, "1", "1.2.3", 1))},
    ],
)
async def test_an_address_that_leads_nowhere_is_told(
    index: MemoryIndex, address: dict[str, str]
) -> None:
    with pytest.raises(HttpError, match="leads to no page of this list") as caught:
        await shown(index, address)
    assert caught.value.status == 400


async def test_a_table_has_all_rows_however_many(index: MemoryIndex) -> None:
    await index.add([record(number) for number in range(2_000, 3_000)])
    find = partial(Catalogue(index).studies, [])
    response = await csv_response("studies.csv", ["StudyInstanceUID"], find)
    lines: list[str] = []
    async for piece in response.body:  # type: ignore[union-attr]
        assert isinstance(piece, bytes)
        lines += piece.decode("utf-8-sig").splitlines()
        await index.add([record(3_000 + len(lines))])  # comes first, and is in no later piece
    expected = [*range(2_999, 1_999, -1), *range(1_119, 999, -1)]
    assert lines == ["StudyInstanceUID", *(f"1.2.{number}" for number in expected)]
