"""Pages of lists that change while somebody goes through them."""

from __future__ import annotations

import pytest

from isocenter.services.net.http.messages import HttpError
from isocenter.services.web.rest import bookmarks, paging
from isocenter.services.web.rest.bookmarks import page_behind
from isocenter.services.web.rest.paging import PageRequest


class Listed:
    """A list, and how much of it was asked for."""

    def __init__(self, items: list[str]) -> None:
        self.items = items
        self.asked = 0

    async def find(self, limit: int, offset: int) -> list[str]:
        found = self.items[offset : offset + limit]
        self.asked += len(found)
        return found

    async def page(self, following: str | None, limit: int = 3) -> tuple[list[str], str | None]:
        after = None if following is None else paging._key(following)
        return await page_behind(self.find, PageRequest(limit=limit, after=after), str)


def names(count: int, first: int = 0) -> list[str]:
    return [f"n{number}" for number in range(first, first + count)]


async def test_all_is_seen_once() -> None:
    listed = Listed(names(10))
    seen: list[str] = []
    following: str | None = None
    while True:
        found, following = await listed.page(following)
        seen += found
        if following is None:
            break
    assert seen == listed.items


@pytest.mark.parametrize("come", [1, 150, 1_500, 15_000])
async def test_what_comes_before_shifts_nothing(come: int) -> None:
    listed = Listed(names(10))
    _, following = await listed.page(None)
    listed.items = [f"new{number}" for number in range(come)] + listed.items
    found, _ = await listed.page(following)
    assert found == ["n3", "n4", "n5"]


async def test_what_goes_is_not_missed() -> None:
    listed = Listed(names(10))
    _, following = await listed.page(None)
    listed.items = [one for one in listed.items if one not in ("n0", "n2")]
    found, _ = await listed.page(following)
    assert found == ["n3", "n4", "n5"]


async def test_where_all_have_gone_the_place_counts() -> None:
    listed = Listed(names(10))
    _, following = await listed.page(None)
    listed.items = names(10, first=100)
    found, _ = await listed.page(following)
    assert found == ["n103", "n104", "n105"]
    assert listed.asked < 100


async def test_nothing_is_looked_for_far_away_if_it_is_near() -> None:
    listed = Listed(names(50_000))
    following = paging.cursor((40_000, "n39999"))
    found, _ = await listed.page(following)
    assert found == ["n40000", "n40001", "n40002"]
    assert listed.asked < 2 * bookmarks._AROUND[0] + 10


async def test_a_cursor_of_another_list_is_refused() -> None:
    for key in (("a", "b"), (-1, "b"), (5,)):
        with pytest.raises(HttpError, match="another list"):
            await Listed(names(10)).page(paging.cursor(key))
