"""Files of an archive in tiers, or in a bucket, for backup and restore."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from isocenter.services.archive.deletion.ports import TrashContent, TrashFiles
from isocenter.services.archive.object_copying import ObjectCopy, is_whole
from isocenter.services.archive.ports import ObjectStore
from isocenter.services.archive.tiers.ports import TieredObjects
from isocenter.services.archive.tiers.tier import Tier, key_within, tier_of
from isocenter.services.backup.content_files import created_file, write_piece
from isocenter.services.backup.manifest import BackupError, Entry
from isocenter.services.backup.ports import OBJECTS, TRASH, IndexedFile
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.errors import StorageError

#: Read and written at once, in bytes.
_PIECE: Final = 1 << 20


def key_of(path: str) -> str:
    """The key of the object at a path of a backup; empty: there is another file."""
    if path.startswith(OBJECTS):
        return path.removeprefix(OBJECTS)
    if path.startswith(TRASH):
        return path.removeprefix(TRASH).partition("/")[2].replace(",", "/")
    return ""


def deletion_of(path: str) -> str:
    """The deletion that has a path of the trash."""
    return path.removeprefix(TRASH).partition("/")[0]


def tier_of_path(path: str) -> Tier:
    """The tier that has the file at a path of a backup."""
    return tier_of(key_of(path))


async def _manifests(
    contents: AsyncIterator[TrashContent],
) -> AsyncGenerator[tuple[str, bytes], None]:
    seen: set[str] = set()
    async for content in contents:
        # Of one that is being purged it may be gone already; of many objects it comes again, and
        # from tiers behind the hot one it may say less.
        if content.manifest and content.deletion_id not in seen:
            seen.add(content.deletion_id)
            yield content.deletion_id, content.manifest


class TierFiles:
    """The tiers of one archive; the hot one may be in a bucket as well.

    Args:
        is_ours: nobody but a restore has put anything into the hot tier: what is under a key and is
            not what belongs there was left when it was cut short.
    """

    def __init__(self, objects: ObjectStore, trash: TrashFiles, *, is_ours: bool = False) -> None:
        self._objects = objects
        self._trash = trash
        self._is_ours = is_ours
        # An instance that was deleted twice is in the trash two times under one key.
        self._one_to_trash = trio.Lock()

    async def fetch(self, file: IndexedFile, target: Path) -> bool:
        """Write an object to *target*; False: it is gone.

        Raises:
            StorageError: the tier cannot be read.
            BackupError: the copy cannot be written.
        """
        reader = await self._open(file)
        if reader is None:
            return False
        async with reader:
            with created_file(target) as copy:
                for start in range(0, reader.size, _PIECE):
                    piece = await reader.read(start, min(_PIECE, reader.size - start))
                    await trio.to_thread.run_sync(write_piece, copy, piece, target)
        return True

    async def _open(self, file: IndexedFile) -> ObjectReader | None:
        key = file.object_key
        looks = [partial(self._objects.open, key)]
        if file.path.startswith(TRASH):
            # On its way there it may get past one look: then the last one finds it.
            in_trash = partial(self._trash.open, file.created_at, key)
            looks = [in_trash, *looks, in_trash]
        for look in looks:
            try:
                return await look()
            except KeyError:
                continue
        return None

    @asynccontextmanager
    async def manifests(self) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """Deletions with the manifests that their folders of the trash have, each once.

        Raises:
            StorageError: the trash cannot be read.
        """
        async with (
            self._trash.contents() as contents,
            aclosing(_manifests(contents)) as manifests,
        ):
            yield manifests

    async def put(self, entry: Entry, source: Path, manifest: bytes) -> bool:
        """Have the tier hold what is in *source*, and give it back; False: that is damaged.

        Args:
            manifest: of the deletion, if it is in the trash.

        Raises:
            BackupError: another object is there under its key.
            StorageError: the tier cannot be written, or does not give it back.
        """
        key = key_of(entry.path)
        if not entry.path.startswith(TRASH):
            return await self._put(entry, source, key)
        deletion_id = deletion_of(entry.path)
        async with self._one_to_trash:
            if await self._has_trash(deletion_id, key, entry):
                return True
            if not await self._put(entry, source, key):
                return False
            async with self._trash.locked():
                await self._trash.begin(deletion_id, manifest)
                await self._trash.take(deletion_id, [key])
            if not await self._has_trash(deletion_id, key, entry):
                raise StorageError(f"the trash of a tier has not taken {entry.path}")
        return True

    async def has_any(self) -> bool:
        """Whether there is an object in the hot tier.

        Raises:
            StorageError: nobody can tell.
        """
        hot, _ = self._tier("")
        async with hot.keys() as blocks:
            async for _ in blocks:
                return True
        return False

    async def begin(self, deletion_id: str, manifest: bytes) -> None:
        """Have the trash hold what a deletion says of itself.

        Raises:
            StorageError: the trash cannot be written.
        """
        async with self._trash.locked():
            await self._trash.begin(deletion_id, manifest)

    async def _put(self, entry: Entry, source: Path, key: str) -> bool:
        for is_again in (False, True):
            copy = await self._stage(entry, source, key)
            if copy is None:
                return False
            try:
                if await self._publish(key, copy, is_again=is_again):
                    break
            except BaseException:
                with trio.CancelScope(shield=True):
                    await copy.staged.discard()
                raise
        return True

    async def _has_trash(self, deletion_id: str, key: str, entry: Entry) -> bool:
        try:
            reader = await self._trash.open(deletion_id, key)
        except KeyError:
            return False
        async with reader:
            return reader.size == entry.size

    async def _stage(self, entry: Entry, source: Path, key: str) -> ObjectCopy | None:
        tier, within = self._tier(key)
        staged = await tier.stage(entry.size)
        digest, size = hashlib.sha256(), 0
        try:
            with source.open("rb", buffering=0) as file:
                while piece := await trio.to_thread.run_sync(file.read, _PIECE):
                    digest.update(piece)
                    size += len(piece)
                    await staged.write([piece])
            await staged.finish(within)
        except BaseException:
            with trio.CancelScope(shield=True):
                await staged.discard()
            raise
        if digest.hexdigest() != entry.sha256:
            await staged.discard()
            return None
        return ObjectCopy(staged=staged, size=size, digest=entry.sha256, data_digest="")

    async def _publish(self, key: str, copy: ObjectCopy, *, is_again: bool) -> bool:
        """False: room was made for it."""
        tier, within = self._tier(key)
        (outcome,) = await tier.publish([(copy.staged, within)])
        if isinstance(outcome, StorageError):
            raise outcome
        if outcome is None:
            await tier.settle([copy.staged])
        else:
            await copy.staged.discard()
        if await is_whole(tier, within, copy):
            return True
        where, setting = f"the tier {tier_of(key).value}", f"tiers.{tier_of(key).value}"
        if tier_of(key) is Tier.HOT:
            where, setting = "the place of the objects", "objects.url"
        if outcome is None:
            raise StorageError(f"{where} does not give back {within} as it was written")
        if self._is_ours and not is_again and tier_of(key) is Tier.HOT:
            await tier.remove([within])
            return False
        raise BackupError(
            f"{where} has another object under {within}; name a place where "
            f"nothing is ({setting}), or what is there of this archive"
        )

    def _tier(self, key: str) -> tuple[ObjectStore, str]:
        """What has a tier, and what it calls the object."""
        if isinstance(self._objects, TieredObjects):
            return self._objects.tiers[tier_of(key)], key_within(key)
        return self._objects, key
