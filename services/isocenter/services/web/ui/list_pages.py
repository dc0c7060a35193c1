"""Pages of a long list, and the addresses of those beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.places import Place
from isocenter.services.archive.index.query import Page
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.web.cursors import place_cursor, read_cursor, read_place
from isocenter.services.web.ui.catalogue import Listed, Row

ROWS: Final = 50
_MOST_PAGES: Final = 1_000_000

#: What the query of an address says of a page.
Address = Mapping[str, object]
FIRST: Final[Address] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPage:
    """A page of a list.

    Attributes:
        number: from 1 on; it is what whoever goes through the list has counted.
        previous, following: where the pages beside it are; None: there is none.
    """

    rows: Sequence[Row] = ()
    number: int = 1
    previous: Address | None = None
    following: Address | None = None

    @property
    def first_row(self) -> int:
        """The number of its first row."""
        return (self.number - 1) * ROWS + 1

    @property
    def last_row(self) -> int:
        """The number of its last row."""
        return self.first_row + len(self.rows) - 1


async def shown_page(
    find: Callable[[Page], Awaitable[Listed]], level: Level, request: Request
) -> ShownPage:
    """The page of a list that a request is for.

    It begins behind the place that `after` in the address says, or ends ahead of that of
    `before`; where only `page` is said, it is counted.

    Raises:
        HttpError: there is no such place (400).
    """
    after, before = (_place(level, request, name) for name in ("after", "before"))
    number = page_number(request)
    if before is not None:
        found = await find(Page(limit=ROWS + 1, before=before))
        if len(found.rows) > ROWS:
            return _shown(level, found, slice(1, None), max(number, 2), is_last=False)
        # So few are left ahead of it: the first page, which may be longer now.
        number, after = 1, None
    if after is not None:
        number = max(number, 2)
    offset = 0 if after is not None else (number - 1) * ROWS
    found = await find(Page(limit=ROWS + 1, offset=offset, after=after))
    return _shown(level, found, slice(ROWS), number, is_last=len(found.rows) <= ROWS)


def _shown(level: Level, found: Listed, part: slice, number: int, *, is_last: bool) -> ShownPage:
    places = found.places[part]
    previous, following = None, None
    if number > 1:
        previous = FIRST
        if places:
            previous = {"before": place_cursor(level, places[0]), "page": number - 1}
    if not is_last:
        following = {"after": place_cursor(level, places[-1]), "page": number + 1}
    return ShownPage(rows=found.rows[part], number=number, previous=previous, following=following)


def _place(level: Level, request: Request, name: str) -> Place | None:
    said = request.parameter(name)
    if not said:
        return None
    try:
        return read_place(level, read_cursor(said, name), name)
    except HttpError:
        raise HttpError(
            400, "BAD_QUERY", "this address leads to no page of this list; begin with the first"
        ) from None


def page_number(request: Request) -> int:
    """The page of a list that a request is for, from 1 on."""
    said = (request.parameter("page") or "").strip()
    number = int(said) if said.isdecimal() and len(said) < 8 else 1
    return min(max(number, 1), _MOST_PAGES)
