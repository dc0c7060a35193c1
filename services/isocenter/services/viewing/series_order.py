"""Order of the images of stored series, remembered while the series stays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from typing import Final

import orjson
import trio

from isocenter.engine.dataset import DataSetError
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.metadata.fragment import unpack_fragment, with_url
from isocenter.services.archive.metadata.ports import MetadataBook
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.concurrency import open_plain_nursery
from isocenter.services.viewing.attribute_view import AttributeView
from isocenter.services.viewing.slice_order import Slice, slice_of
from isocenter.services.viewing.stored_images import read_attributes

#: Slices that are remembered, over all series: some hundred bytes each.
_MOST_SLICES: Final = 100_000
#: Objects that are read at once, where nothing was made of them beforehand.
_READ_AT_ONCE: Final = 8
_DIGEST_BYTES: Final = 16


class SeriesOrders:
    """Knows what the order of the images of a series depends on.

    Args:
        book: what was made of objects beforehand; None: each is read.
    """

    def __init__(self, archive: Archive, book: MetadataBook | None) -> None:
        self._archive = archive
        self._book = book
        self._known: OrderedDict[bytes, Sequence[Slice]] = OrderedDict()
        self._slices = 0

    async def slices(self, study: str, series: str) -> Sequence[Slice]:
        """The images of a series, in no order; none: there is no such series.

        Raises:
            StorageError: index or store fail.
        """
        stored, fragments, dictionary = await self._content(study, series)
        key = blake2b(digest_size=_DIGEST_BYTES)
        for one in stored:
            key.update(f"{one.sop_instance_uid} {one.digest}\n".encode())
        known = self._known.get(key.digest())
        if known is not None:
            self._known.move_to_end(key.digest())
            return known
        found = await self._read(stored, fragments, dictionary)
        self._remember(key.digest(), found)
        return found

    async def _content(
        self, study: str, series: str
    ) -> tuple[list[StoredInstance], list[bytes | None], bytes]:
        if self._book is not None:
            for known in await self._book.series(study, series):
                return (
                    [one.stored for one in known.instances],
                    [
                        None if one.metadata is None else one.metadata.fragment
                        for one in known.instances
                    ],
                    known.dictionary,
                )
        criteria = tuple(
            Criterion(UNIQUE_KEY[level], SingleValue(uid))
            for level, uid in ((Level.STUDY, study), (Level.SERIES, series))
        )
        found: list[StoredInstance] = []
        query = Query(level=Level.SERIES, criteria=criteria)
        async with self._archive.index.instances(query) as blocks:
            async for block in blocks:
                found += block
        return found, [None] * len(found), b""

    async def _read(
        self, stored: list[StoredInstance], fragments: list[bytes | None], dictionary: bytes
    ) -> Sequence[Slice]:
        found: dict[str, Slice] = {}
        packed = [
            (one.sop_instance_uid, fragment)
            for one, fragment in zip(stored, fragments, strict=True)
            if fragment is not None
        ]
        for known in await trio.to_thread.run_sync(partial(_unpacked, packed, dictionary)):
            found[known.sop_instance_uid] = known
        limiter = trio.CapacityLimiter(_READ_AT_ONCE)

        async def read(one: StoredInstance) -> None:
            async with limiter:
                try:
                    view = await read_attributes(self._archive, one)
                except (KeyError, DataSetError):
                    view = AttributeView({})  # it is there, and says nothing
                found[one.sop_instance_uid] = slice_of(one.sop_instance_uid, view)

        async with open_plain_nursery() as nursery:
            for one in stored:
                if one.sop_instance_uid not in found:
                    nursery.start_soon(read, one)
        return [found[one.sop_instance_uid] for one in stored]

    def _remember(self, key: bytes, slices: Sequence[Slice]) -> None:
        if len(slices) > _MOST_SLICES or key in self._known:
            return
        self._known[key] = slices
        self._slices += len(slices)
        while self._slices > _MOST_SLICES:
            self._slices -= len(self._known.popitem(last=False)[1])


def _unpacked(packed: Sequence[tuple[str, bytes]], dictionary: bytes) -> list[Slice]:
    return [
        slice_of(
            uid, AttributeView(orjson.loads(with_url(unpack_fragment(fragment, dictionary), "")))
        )
        for uid, fragment in packed
    ]
