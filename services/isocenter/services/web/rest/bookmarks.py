"""Pages of lists in the order of the index, by key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from isocenter.services.net.http.messages import HttpError
from isocenter.services.web.rest.paging import Key, PageRequest, cursor

Item = TypeVar("Item")
#: Finds so many, from a place on: *limit*, *offset*.
Find = Callable[[int, int], Awaitable[Sequence[Item]]]

#: Of the last ones of a page the cursor names so many: one of them may go.
_NAMED: Final = 3
#: How far around its place the last one is looked for, further each time: so many may have come
#: or gone meanwhile.
_AROUND: Final = (200, 2_000, 20_000)


async def page_behind(
    find: Find[Item], wanted: PageRequest, name: Callable[[Item], str]
) -> tuple[list[Item], str | None]:
    """A page of a list, and the cursor of the next one; None: there is nothing behind it.

    A cursor says how many there were before the next page, and which were the last of them: they
    are looked for nearby, so that nothing is shown twice or left out when others came or went.

    Args:
        name: by which one is known again.
    """
    offset = wanted.offset
    if wanted.after is not None:
        offset = await _resumed(find, wanted.after, name)
    found = list(await find(wanted.limit + 1, offset))
    if len(found) <= wanted.limit:
        return found, None
    shown = found[: wanted.limit]
    key: Key = (offset + len(shown), *(name(one) for one in shown[-_NAMED:]))
    return shown, cursor(key)


async def _resumed(find: Find[Item], key: Key, name: Callable[[Item], str]) -> int:
    """How many stand before the page that begins behind those that *key* names."""
    place, names = key[0], key[1:]
    if not isinstance(place, int) or place < 0 or not names:
        raise HttpError(400, "INVALID_REQUEST", "after is of another list; begin without it")
    for distance in _AROUND:
        start = max(0, place - distance)
        around = [name(one) for one in await find(2 * distance, start)]
        for one in reversed(names):
            if one in around:
                return start + around.index(str(one)) + 1
        if start == 0 and len(around) < 2 * distance:
            break  # that was all
    return place
