"""Pages of lists, by key or by offset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlencode

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.http.messages import Headers, HttpError, Request
from isocenter.services.net.http.routing import Parameter
from isocenter.services.web.cursors import Key, cursor, of_another_list, read_cursor
from isocenter.services.web.rest.bodies import Body

DEFAULT_LIMIT: Final = 20
MOST_LIMIT: Final = 100
_MOST_OFFSET: Final = 10_000_000

#: What a list takes beside its filters.
PAGE_PARAMETERS: Final = (
    Parameter(
        name="limit",
        text=f"How many at most, 1 to {MOST_LIMIT}; {DEFAULT_LIMIT} when it is not said.",
        pattern="[1-9][0-9]?|100",
    ),
    Parameter(
        name="after",
        text="Those behind an earlier page: `next` of its `pagination`.  It stays right while "
        "others come and go.",
        pattern="[A-Za-z0-9_-]+",
    ),
    Parameter(
        name="offset",
        text="How many to leave out before the first; in place of `after`.",
        pattern="[0-9]{1,7}",
    ),
)

Item = TypeVar("Item")


class Pagination(Body):
    """Where in a list one is; `next` is there when there is more, and `total` when it is known."""

    count: int
    total: int | None = None
    next: str | None = None


class Page(Body, Generic[Item]):
    """A part of a list."""

    data: list[Item]
    pagination: Pagination


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Which part of a list is wanted.

    Attributes:
        after: the key of the last one before it; None: it begins with the first.
        offset: how many to leave out behind that.
    """

    limit: int = DEFAULT_LIMIT
    after: Key | None = None
    offset: int = 0


def page_request(request: Request) -> PageRequest:
    """Which part of a list a request wants.

    Raises:
        HttpError: it says what cannot be (400).
    """
    limit = _number(request, "limit", DEFAULT_LIMIT, 1, MOST_LIMIT)
    offset = _number(request, "offset", 0, 0, _MOST_OFFSET)
    said = request.parameter("after")
    if said is not None and offset:
        raise HttpError(400, "INVALID_REQUEST", "a page is behind a key, or at an offset: say one")
    return PageRequest(
        limit=limit, after=None if said is None else read_cursor(said), offset=offset
    )


def page_of(items: Sequence[Item], wanted: PageRequest, key: Callable[[Item], Key]) -> Page[Item]:
    """The part of a list that is in memory, in the order of its keys, which are unique."""
    ordered = sorted(items, key=key)
    if wanted.after is not None:
        after = wanted.after
        ordered = [item for item in ordered if _is_behind(key(item), after)]
    found = ordered[wanted.offset : wanted.offset + wanted.limit + 1]
    return page_of_some(found, wanted, key, total=len(items))


def page_of_some(
    found: Sequence[Item],
    wanted: PageRequest,
    key: Callable[[Item], Key],
    total: int | None = None,
) -> Page[Item]:
    """The page that *found* makes: as many as are wanted, and one more if there are more."""
    shown = list(found[: wanted.limit])
    is_cut = len(found) > wanted.limit
    return Page(
        data=shown,
        pagination=Pagination(
            count=len(shown), total=total, next=cursor(key(shown[-1])) if is_cut else None
        ),
    )


def link_headers(request: Request, page: Page[Any]) -> Headers:
    """Where the next page is (RFC 8288)."""
    if page.pagination.next is None:
        return ()
    kept = [(name, value) for name, value in request.query if name not in ("after", "offset")]
    query = urlencode([*kept, ("after", page.pagination.next)])
    return (("link", f'<{request.raw_path.decode("ascii", "replace")}?{query}>; rel="next"'),)


def _is_behind(key: Key, after: Key) -> bool:
    try:
        return key > after
    except TypeError as error:
        raise of_another_list() from error


def _number(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.parameter(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal()) or not least <= int(text[:9]) <= most:
        raise HttpError(400, "INVALID_REQUEST", f"{name} is a number from {least} to {most:,}")
    return int(text)
