"""Deleted objects in a bucket: `isocenter.services.archive.deletion.ports.TrashFiles`.

Beside the objects, below the same prefix::

    trash/<deletion>/deletion.json     when, by whom, why, until when
    trash/<deletion>/objects/<key>     an object, byte for byte what it was

An object is copied by the store itself and then removed where it was, so at any moment it is in
one place at least.  What is in both belongs to neither a reader nor an index: whoever comes next
goes on with the second step.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Final

from isocenter.services.archive.deletion.ports import TrashContent
from isocenter.storage.objects.cloud.bucket import Bucket
from isocenter.storage.objects.cloud.reader import CloudReader, open_reader
from isocenter.storage.objects.cloud.store import CloudStore, path_of
from isocenter.storage.objects.keys import check_object_key, is_key_part, is_object_key

#: Where in the bucket all that was deleted is.
OBJECTS_IN_TRASH: Final = "trash/"
_MANIFEST: Final = "deletion.json"
_OBJECTS: Final = "objects/"
_MANIFEST_BYTES: Final = 1 << 20


class CloudTrash:
    """See `isocenter.services.archive.deletion.ports.TrashFiles`.

    Args:
        lock: see `TrashFiles.locked`.
    """

    def __init__(
        self, store: CloudStore, lock: Callable[[], AbstractAsyncContextManager[None]]
    ) -> None:
        self._bucket: Bucket = store.bucket
        self._store = store
        self._lock = lock

    def locked(self) -> AbstractAsyncContextManager[None]:
        """See `TrashFiles.locked`."""
        return self._lock()

    async def begin(self, deletion_id: str, manifest: bytes) -> None:
        """See `TrashFiles.begin`."""
        path = _folder_of(deletion_id) + _MANIFEST
        if await self._bucket.head(path) is None:
            await self._bucket.put(path, [manifest], size=len(manifest))

    async def take(self, deletion_id: str, keys: Sequence[str]) -> Sequence[str]:
        """See `TrashFiles.take`."""
        missing = []
        for key in keys:
            source, target = path_of(key), _path(deletion_id, key)
            found = await self._bucket.head(source)
            if found is not None:
                await self._bucket.copy(source, target, size=found.size)
                await self._store.remove([key])
            elif await self._bucket.head(target) is None:
                missing.append(key)
        return missing

    async def is_taken(self, key: str) -> bool:
        """See `TrashFiles.is_taken`."""
        return await self._bucket.head(path_of(key)) is not None

    async def give_back(self, deletion_id: str, key: str, target: str) -> None:
        """See `TrashFiles.give_back`."""
        check_object_key(target)
        if await self.is_taken(target):
            raise FileExistsError("the object key is taken")
        source = _path(deletion_id, key)
        found = await self._bucket.head(source)
        if found is None:
            raise KeyError("no such object in the trash")
        await self._bucket.copy(source, path_of(target), size=found.size)

    async def take_again(self, deletion_id: str, key: str, target: str) -> None:
        """See `TrashFiles.take_again`."""
        kept = await self._bucket.head(_path(deletion_id, key))
        back = await self._bucket.head(path_of(target))
        # Another object may have that key only where both came from the same one.
        if kept is not None and back is not None and kept.size == back.size:
            await self._store.remove([target])

    async def remove(self, deletion_id: str, keys: Sequence[str]) -> None:
        """See `TrashFiles.remove`."""
        for key in keys:
            await self._bucket.delete(_path(deletion_id, key))

    async def end(self, deletion_id: str) -> None:
        """See `TrashFiles.end`."""
        folder = _folder_of(deletion_id)
        async with aclosing(self._bucket.paths(folder + _OBJECTS)) as blocks:
            async for _ in blocks:
                return
        await self._bucket.delete(folder + _MANIFEST)

    async def open(self, deletion_id: str, key: str) -> CloudReader:
        """See `TrashFiles.open`."""
        return await open_reader(self._store.ranges, _path(deletion_id, key))

    @asynccontextmanager
    async def contents(self) -> AsyncIterator[AsyncIterator[TrashContent]]:
        """See `TrashFiles.contents`."""
        async with aclosing(self._contents()) as contents:
            yield contents

    async def _contents(self) -> AsyncGenerator[TrashContent, None]:
        async with aclosing(self._bucket.paths(OBJECTS_IN_TRASH)) as blocks:
            async for block in blocks:
                by_deletion: dict[str, list[str]] = {}
                for path in block:
                    deletion_id, _, rest = path.removeprefix(OBJECTS_IN_TRASH).partition("/")
                    if not is_key_part(deletion_id):
                        continue
                    keys = by_deletion.setdefault(deletion_id, [])
                    key = rest.removeprefix(_OBJECTS)
                    if key != rest and is_object_key(key):
                        keys.append(key)
                for deletion_id, found in by_deletion.items():
                    manifest = await self._manifest(deletion_id)
                    yield TrashContent(deletion_id, manifest, tuple(found))

    async def _manifest(self, deletion_id: str) -> bytes:
        try:
            _, data = await self._bucket.get(
                _folder_of(deletion_id) + _MANIFEST, 0, _MANIFEST_BYTES
            )
        except KeyError:
            return b""
        return bytes(data)


def _folder_of(deletion_id: str) -> str:
    if not is_key_part(deletion_id):
        raise ValueError("the ID of a deletion is a part of a path, and of one only")
    return f"{OBJECTS_IN_TRASH}{deletion_id}/"


def _path(deletion_id: str, key: str) -> str:
    check_object_key(key)
    return f"{_folder_of(deletion_id)}{_OBJECTS}{key}"
