"""Maker of metadata: series by series, in the background and on demand.

What it makes costs more CPU than storing an object; so nothing of it is made while objects come
in, but soon after, and slowly: most of the time it rests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

import trio

from isocenter.engine.dataset import DataSetError, encoding_of
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.metadata.fragment import (
    dictionary_of,
    fragment_of,
    layout_of,
    pack_fragment,
    unpack_fragment,
    with_url,
)
from isocenter.services.archive.metadata.gzip_parts import GzipPartWriter
from isocenter.services.archive.metadata.header import Header, read_header
from isocenter.services.archive.metadata.ports import (
    InstanceMetadata,
    KnownInstance,
    MetadataBook,
    SeriesContent,
    SeriesWork,
)
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.errors import StorageError

log = logging.getLogger("isocenter.metadata")

#: How often it is looked for what became due.
LOOK_SECONDS: Final = 5.0
#: Of a header, and of what is made of it: longer ones are made when they are asked for.
_MOST_HEADER: Final = 8 << 20
#: A longer header is written in a thread: others have their turn meanwhile.
_LONG_HEADER: Final = 32 << 10
#: Of the metadata of a series, compressed.
_MOST_CONTENT: Final = 16 << 20
_LEVEL: Final = 6
_SERIES_AT_ONCE: Final = 16
#: Instances that are kept in one transaction; and that are joined in one hop to a thread.
_INSTANCES_AT_ONCE: Final = 200
#: An object that cannot be read is tried again.
_LATER_SECONDS: Final = 3_600.0
#: For each second of work it rests so many.
REST: Final = 3.0


class _ChangedError(Exception):
    """The series is another one by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeSeries:
    """How many series were looked at, and how many of them cannot be read now."""

    series: int = 0
    later: int = 0


class MetadataMaker:
    """Makes what is due.

    Args:
        base: the URL of the service, as most will ask for it.
        url_of: of an instance, by base and UIDs of study, series and instance.
        rest: seconds of rest for each of work.
    """

    def __init__(
        self,
        book: MetadataBook,
        archive: Archive,
        *,
        base: str,
        url_of: Callable[[str, str, str, str], str],
        rest: float = REST,
    ) -> None:
        self._book = book
        self._archive = archive
        self._base = base
        self._url_of = url_of
        self._rest = rest

    async def run(self) -> None:
        """Make what is due, until cancelled."""
        is_renewed = False
        while True:
            made = MadeSeries()
            try:
                if not is_renewed:
                    await self._book.renew(self._base)
                    is_renewed = True
                made = await self.make_due()
            except StorageError as error:
                log.error("metadata have to wait: %s", error)
            if not made.series:
                await trio.sleep(LOOK_SECONDS)

    async def make_due(
        self, progress: Callable[[SeriesWork], None] = lambda work: None
    ) -> MadeSeries:
        """Make some of what is due.

        Raises:
            StorageError: the book cannot be read or written.
        """
        works = await self._book.due(_SERIES_AT_ONCE)
        later = 0
        for work in works:
            try:
                await self._make(work)
            except _ChangedError:
                pass  # it is due again
            except (KeyError, OSError, StorageError) as error:
                later += 1
                log.warning(
                    "the metadata of series %s cannot be made now: %s",
                    work.series_instance_uid,
                    error if isinstance(error, StorageError) else type(error).__name__,
                )
                await self._book.postpone(work, _LATER_SECONDS)
            progress(work)
        return MadeSeries(series=len(works), later=later)

    async def _make(self, work: SeriesWork) -> None:
        found = await self._book.series(work.study_instance_uid, work.series_instance_uid)
        if not found:
            await self._book.finish(work, None)
            return
        (series,) = found
        dictionary = series.dictionary
        made: dict[StoredInstance, InstanceMetadata] = {}
        complete: list[KnownInstance] = []
        began = trio.current_time()
        for known in series.instances:
            metadata = known.metadata
            if metadata is None:
                fragment, layout = await self._read(known.stored)
                if fragment is not None and not dictionary:
                    dictionary = dictionary_of(fragment)
                packed = None if fragment is None else pack_fragment(fragment, dictionary)
                metadata = made[known.stored] = InstanceMetadata(fragment=packed, layout=layout)
                if len(made) >= _INSTANCES_AT_ONCE:
                    await self._keep(work, made, dictionary)
                    made = {}
                await trio.sleep(self._rest * (trio.current_time() - began))
                began = trio.current_time()
            complete.append(KnownInstance(stored=known.stored, metadata=metadata))
        if made:
            await self._keep(work, made, dictionary)
        began = trio.current_time()
        content = await self._joined(complete, dictionary)
        if not await self._book.finish(work, content):
            raise _ChangedError
        await trio.sleep(self._rest * (trio.current_time() - began))

    async def _keep(
        self, work: SeriesWork, made: dict[StoredInstance, InstanceMetadata], dictionary: bytes
    ) -> None:
        if not await self._book.keep(work, made, dictionary):
            raise _ChangedError

    async def _read(self, stored: StoredInstance) -> tuple[bytes | None, bytes]:
        """Fragment and layout; no fragment: it is too long, or cannot be read."""
        try:
            return await make_of(self._archive, stored)
        except DataSetError as error:
            log.info("no metadata of instance %s beforehand: %s", stored.sop_instance_uid, error)
        return None, b""

    async def _joined(
        self, instances: Sequence[KnownInstance], dictionary: bytes
    ) -> SeriesContent | None:
        """None: some are missing, or it is too long."""
        if any(one.metadata is None or one.metadata.fragment is None for one in instances):
            return None
        writer = GzipPartWriter(_LEVEL)
        separator = b""
        for start in range(0, len(instances), _INSTANCES_AT_ONCE):
            some = instances[start : start + _INSTANCES_AT_ONCE]
            text = separator + await trio.to_thread.run_sync(self._texts, some, dictionary)
            await trio.to_thread.run_sync(writer.add, text)
            separator = b","
            if writer.size > _MOST_CONTENT:
                return None
        part = writer.finish()
        tag = sha256(part.data).hexdigest()[:32]
        return SeriesContent(base=self._base, tag=tag, part=part)

    def _texts(self, instances: Sequence[KnownInstance], dictionary: bytes) -> bytes:
        texts = []
        for one in instances:
            stored, metadata = one.stored, one.metadata
            assert metadata is not None
            assert metadata.fragment is not None
            url = self._url_of(
                self._base,
                stored.study_instance_uid,
                stored.series_instance_uid,
                stored.sop_instance_uid,
            )
            texts.append(with_url(unpack_fragment(metadata.fragment, dictionary), url))
        return b",".join(texts)


async def make_all(
    maker: MetadataMaker, book: MetadataBook, progress: Callable[[int, int], None]
) -> MadeSeries:
    """Make all that is missing, now.

    Args:
        progress: told how many series are done, and how many there are.

    Raises:
        StorageError: the book cannot be read or written.
    """
    total = await book.order()
    done = later = 0

    def count(work: SeriesWork) -> None:
        nonlocal done
        done += 1
        progress(done, max(total, done))

    while (made := await maker.make_due(count)).series:
        later += made.later
    return MadeSeries(series=done, later=later)


async def make_of(archive: Archive, stored: StoredInstance) -> tuple[bytes, bytes]:
    """Fragment and packed layout of one object.

    Raises:
        DataSetError: it cannot be read, or has too long a header.
        KeyError, StorageError: it is not there, or cannot be read now.
    """

    async with await stored_object(stored, archive.open_in_place).open() as reader:
        header = await read_header(
            reader, stored.data_set_offset, encoding_of(stored.transfer_syntax_uid), _MOST_HEADER
        )
    if len(header.data) > _LONG_HEADER:
        return await trio.to_thread.run_sync(_made, header, stored)
    return _made(header, stored)


def _made(header: Header, stored: StoredInstance) -> tuple[bytes, bytes]:
    return fragment_of(header, stored), layout_of(header, stored)
