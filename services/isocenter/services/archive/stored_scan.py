"""Scans of stored objects, several at once."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import FileMeta
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.file_import import (
    PIECE,
)
from isocenter.services.archive.object_scan import (
    ScannedObject,
)
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.concurrency import open_plain_nursery
from isocenter.services.dicom.object_reader import ObjectReader

#: Objects that are read at once, so that a disk has more than one request to choose from.
CONCURRENCY: Final = 4


_T = TypeVar("_T")


async def scan_object(archive: Archive, reader: ObjectReader, meta: FileMeta) -> ScannedObject:
    """Read the data set of an object: what the index keeps of it.

    Raises:
        DataSetError, StoreError: it is none.
        StorageError: it cannot be read.
    """
    return await scan_stored(archive, reader, meta.transfer_syntax_uid, meta.data_set_offset)


async def scan_stored(
    archive: Archive, reader: ObjectReader, transfer_syntax_uid: str, offset: int
) -> ScannedObject:
    """The same of an object whose transfer syntax and place of the data set are known."""
    scan = archive.intake.scan(transfer_syntax_uid)
    # A scan keeps nothing of what it is fed: pieces from the network are used again, too.
    await feed_pieces(reader.view, offset, scan.feed)
    return scan.finish()


async def feed_pieces(
    read: Callable[[int, int], Awaitable[Buffer]], start: int, take: Callable[[Buffer], None]
) -> int:
    """Hand an object to *take* from byte *start* on, piece by piece; how many bytes it was.

    Args:
        read: of an `ObjectReader`: its `view` where *take* keeps nothing.
    """
    offset = start
    while piece := await read(offset, PIECE):
        take(piece)
        offset += len(piece)
    return offset - start


async def for_each(items: Iterable[_T], work: Callable[[_T], Awaitable[None]]) -> None:
    """*work* on each item, `CONCURRENCY` at once."""
    todo = iter(items)

    async def worker() -> None:
        for item in todo:
            await work(item)

    async with open_plain_nursery() as nursery:
        for _ in range(CONCURRENCY):
            nursery.start_soon(worker)


async def data_set_digest(reader: ObjectReader, stored: StoredInstance) -> tuple[int, str]:
    """Bytes and SHA-256 of the data set of an object that is open."""
    digest = hashlib.sha256()
    size = await feed_pieces(reader.view, stored.data_set_offset, digest.update)
    return size, digest.hexdigest()
