"""Encryption of all objects of a bucket with the first key of the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.composition.objects import master_keys
from isocenter.services.errors import StorageError
from isocenter.services.settings.settings import Settings

if TYPE_CHECKING:
    from isocenter.storage.objects.cloud.rewrapping import Rewrapped


async def rewrap_objects(
    settings: Settings, parts: ArchiveParts, progress: Callable[[int], None]
) -> Rewrapped:
    """Give all encrypted objects of a bucket the first key of the file; a server may run.

    Raises:
        StorageError: objects are not in a bucket, there are no keys, or the store is away.
    """
    from isocenter.storage.objects.cloud.rewrapping import Rewrapper
    from isocenter.storage.objects.cloud.store import CloudStore

    store = parts.archive.store
    if not isinstance(store, CloudStore) or settings.objects.keys_file is None:
        raise StorageError(
            "there is nothing to be encrypted anew: that needs objects.url with a bucket, and "
            "objects.keys_file"
        )
    keys = master_keys(settings)
    await store.bucket.register(keys.fingerprints())
    folder = str(Path(settings.storage.data_dir) / "staging")
    notes, are_indexed = parts.stores.staged_keys, parts.archive.are_indexed
    assert parts.trash_files is not None
    keeps_films = parts.stores.print_jobs.keeps_films
    async with parts.trash_files.locked():
        rewrapper = Rewrapper(store.bucket, keys, notes, are_indexed, folder, keeps_films)
        return await rewrapper.run(progress)
