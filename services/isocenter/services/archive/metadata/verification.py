"""Verification of what was made beforehand: whether it would be made so again."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from isocenter.engine.dataset import DataSetError
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.archive.metadata.fragment import unpack_fragment, with_url
from isocenter.services.archive.metadata.maker import make_of
from isocenter.services.archive.metadata.ports import KnownSeries, MetadataBook, SeriesContent
from isocenter.services.errors import StorageError


async def verify_metadata(
    archive: Archive, book: MetadataBook, url_of: Callable[[str, str, str, str], str]
) -> CountedFindings:
    """SOP Instance UIDs, and Series Instance UIDs, of what is not what would be made now.

    Objects are read as far as their pixels; those that cannot be read are left to others.

    Args:
        url_of: as of `MetadataMaker`.

    Raises:
        StorageError: the index or the book cannot be read.
    """
    found = CountedFindings()
    last = ("", "")
    async with archive.index.instances() as blocks:
        async for block in blocks:
            for stored in block:
                key = (stored.study_instance_uid, stored.series_instance_uid)
                if key == last:
                    continue
                last = key
                for series in await book.series(*key):
                    (content,) = await book.contents(*key)
                    fragments = await _fragments(archive, series, found)
                    if content is not None and not _is_of(content, series, fragments, url_of):
                        found.add(key[1], "the metadata of the series are not those of its objects")
    return found


async def _fragments(
    archive: Archive, series: KnownSeries, found: CountedFindings
) -> list[bytes | None]:
    """What is kept of each instance, compared with what the object says."""
    fragments: list[bytes | None] = []
    for known in series.instances:
        kept = known.metadata
        fragment: bytes | None = None
        uid = known.stored.sop_instance_uid
        if kept is not None and kept.fragment is not None:
            try:
                fragment = unpack_fragment(kept.fragment, series.dictionary)
            except zlib.error:
                found.add(uid, "its metadata cannot be unpacked")
        fragments.append(fragment)
        if kept is None:
            continue
        try:
            made, layout = await make_of(archive, known.stored)
        except (KeyError, OSError, StorageError, DataSetError):
            continue
        if fragment is not None and fragment != made:
            found.add(uid, "its metadata are not those of the object")
        if kept.layout != layout:
            found.add(uid, "its frames are elsewhere")
    return fragments


def _is_of(
    content: SeriesContent,
    series: KnownSeries,
    fragments: list[bytes | None],
    url_of: Callable[[str, str, str, str], str],
) -> bool:
    texts = []
    for known, fragment in zip(series.instances, fragments, strict=True):
        if fragment is None:
            return False
        stored = known.stored
        url = url_of(
            content.base,
            stored.study_instance_uid,
            stored.series_instance_uid,
            stored.sop_instance_uid,
        )
        texts.append(with_url(fragment, url))
    text = b",".join(texts)
    try:
        is_same = content.part.text() == text
    except zlib.error:
        return False
    return is_same and (content.part.crc, content.part.length) == (zlib.crc32(text), len(text))
