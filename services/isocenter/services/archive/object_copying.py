"""Copying of objects from one store into another, with digests of what passed."""

from __future__ import annotations

import hashlib
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.ports import ObjectStore, StagedObject
from isocenter.services.dicom.object_reader import ObjectReader

#: Read at once, in bytes.
_PIECE: Final = 1 << 20
#: Larger pieces are digested in a thread, so that others go on meanwhile.
_IN_THREAD_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectCopy:
    """An object that is written, and that nobody can see yet.

    Attributes:
        size: bytes of the whole file.
        digest: SHA-256 of it.
        data_digest: SHA-256 of its data set.
    """

    staged: StagedObject
    size: int
    digest: str
    data_digest: str


async def copy_object(
    reader: ObjectReader, store: ObjectStore, key: str, *, data_set_offset: int
) -> ObjectCopy:
    """Write what *reader* reads into *store*, to be published under *key*.

    Raises:
        StorageError: it cannot be read or written; nothing of it is left.
    """
    staged = await store.stage(reader.size)
    try:
        whole, data = hashlib.sha256(), hashlib.sha256()
        for start in range(0, reader.size, _PIECE):
            piece = await reader.read(start, min(_PIECE, reader.size - start))
            if len(piece) < _IN_THREAD_BYTES:
                update_digests(piece, start, data_set_offset, whole, data)
            else:
                await trio.to_thread.run_sync(
                    update_digests, piece, start, data_set_offset, whole, data
                )
            await staged.write([piece])
        await staged.finish(key)
    except BaseException:
        with trio.CancelScope(shield=True):
            await staged.discard()
        raise
    return ObjectCopy(
        staged=staged,
        size=reader.size,
        digest=whole.hexdigest(),
        data_digest=data.hexdigest(),
    )


async def is_whole(store: ObjectStore, key: str, copy: ObjectCopy) -> bool:
    """Whether *store* gives back under *key* what was copied.

    Raises:
        StorageError: nobody can tell.
    """
    try:
        reader = await store.open(key)
    except KeyError:
        return False
    async with reader:
        if reader.size != copy.size:
            return False
        whole = hashlib.sha256()
        for start in range(0, reader.size, _PIECE):
            piece = await reader.read(start, min(_PIECE, reader.size - start))
            if len(piece) < _IN_THREAD_BYTES:
                whole.update(piece)
            else:
                await trio.to_thread.run_sync(whole.update, piece)
    return whole.hexdigest() == copy.digest


def update_digests(
    piece: bytes, start: int, offset: int, whole: hashlib._Hash, data: hashlib._Hash
) -> None:
    """Count a piece that begins at *start*: in *whole*, and from *offset* on in *data*."""
    whole.update(piece)
    if start >= offset:
        data.update(piece)
    elif start + len(piece) > offset:
        data.update(memoryview(piece)[offset - start :])
