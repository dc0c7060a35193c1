"""Search of objects for what the index does not have."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, FoundPage, Page, Query, SingleValue
from isocenter.services.archive.metadata.ports import MetadataBook
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.net.http.messages import HttpError
from isocenter.services.web.dicomweb.search.object_attributes import (
    Item,
    ObjectAttributes,
    satisfies,
)
from isocenter.services.web.dicomweb.search.parameters import path_name
from isocenter.services.web.dicomweb.search.request import SearchRequest

#: Matches of the index that are looked at together.
_TOGETHER: Final = 100


@dataclass(frozen=True, slots=True)
class Found:
    """A match: what the index says of it, and what one of its objects does if that is needed."""

    match: Mapping[int, str]
    item: Item | None = None


class TooBroadError(HttpError):
    """More objects than may be would have to be read (413)."""


class _SpentError(Exception):
    """As many objects were read as may be."""


class ObjectSearch:
    """One search.

    Args:
        book: what was made of objects beforehand; None: they are read.
        most: so many objects are looked at.
    """

    def __init__(
        self,
        archive: ReadableArchive,
        book: MetadataBook | None,
        search: SearchRequest,
        base: str,
        most: int,
    ) -> None:
        self._archive = archive
        self._book = book
        self._search = search
        self._most = most
        self._left = most
        self._attributes = ObjectAttributes(
            archive, [*search.fields, *(key.path for key in search.keys)], base
        )

    async def page(self, limit: int, offset: int) -> tuple[list[Found], bool]:
        """So many matches behind the first *offset*, in order; and whether there are, or may be,
        more.

        Raises:
            HttpError: more objects than may be would have to be read (413).
        """
        if not self._search.keys:
            # One more tells whether there are more.
            matches = (await self._page(Page(limit=limit + 1, offset=offset))).matches
            return [Found(one) for one in matches[:limit]], len(matches) > limit
        found: list[Found] = []
        try:
            async with aclosing(self._filtered()) as filtered:
                async for one in filtered:
                    if len(found) == offset + limit:
                        return found[offset:], True
                    found.append(one)
        except _SpentError:
            if len(found) < offset + limit:
                raise self._too_broad() from None
            return found[offset:], True
        return found[offset:], False

    def _too_broad(self) -> TooBroadError:
        names = ", ".join(
            dict.fromkeys(path_name([step.tag for step in key.path]) for key in self._search.keys)
        )
        return TooBroadError(
            413,
            "TOO_BROAD",
            f"the index does not have {names}, and more than {self._most:,} objects would have to "
            "be read for it: narrow the search by what the index has",
        )

    async def with_fields(self, found: list[Found]) -> tuple[list[Found], int]:
        """The same with an object of each where its fields are wanted; and how many have none, as
        no more objects are read."""
        if not self._search.fields:
            return found, 0
        shown: list[Found] = []
        for one in found:
            item = one.item
            if item is None:
                try:
                    item = await self._any_object(one.match)
                except _SpentError:
                    return [*shown, *found[len(shown) :]], len(found) - len(shown)
            shown.append(Found(one.match, item))
        return shown, 0

    async def _page(self, page: Page) -> FoundPage:
        return await self._archive.index.find_page(self._search.query, page)

    async def _filtered(self) -> AsyncGenerator[Found, None]:
        after = None
        while (found := await self._page(Page(limit=_TOGETHER, after=after))).matches:
            for match in found.matches:
                async with aclosing(self._objects(match)) as objects:
                    async for item in objects:
                        if satisfies(item, self._search.keys):
                            yield Found(match, item)
                            break
            if len(found.matches) < _TOGETHER:
                return
            after = found.places[-1]

    async def _any_object(self, match: Mapping[int, str]) -> Item | None:
        async with aclosing(self._objects(match)) as objects:
            async for item in objects:
                return item
        return None

    async def _objects(self, match: Mapping[int, str]) -> AsyncGenerator[Item, None]:
        """What the objects of a match say, by series and instance number."""
        async with aclosing(self._known(match)) as known:
            async for stored, fragment, dictionary in known:
                if not self._left:
                    raise _SpentError
                self._left -= 1
                if fragment is not None:
                    await trio.lowlevel.checkpoint()  # others have their turn
                    yield self._attributes.unpacked(stored, fragment, dictionary)
                elif (item := await self._attributes.read(stored)) is not None:
                    yield item

    async def _known(
        self, match: Mapping[int, str]
    ) -> AsyncGenerator[tuple[StoredInstance, bytes | None, bytes], None]:
        """The objects of a match, each with what was made of it beforehand."""
        level = self._search.query.level
        uids = [
            match[UNIQUE_KEY[one]]
            for one in (Level.STUDY, Level.SERIES, Level.IMAGE)
            if one.depth <= level.depth
        ]
        if self._book is not None:
            for series in await self._book.series(*uids):
                for one in series.instances:
                    metadata = one.metadata
                    fragment = None if metadata is None else metadata.fragment
                    yield one.stored, fragment, series.dictionary
            return
        criteria = tuple(
            Criterion(UNIQUE_KEY[one], SingleValue(uid))
            for one, uid in zip((Level.STUDY, Level.SERIES, Level.IMAGE), uids, strict=False)
        )
        async with self._archive.index.instances(Query(level=level, criteria=criteria)) as blocks:
            async for block in blocks:
                for stored in block:
                    yield stored, None, b""
