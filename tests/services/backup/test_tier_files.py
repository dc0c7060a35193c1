"""Files of an archive in tiers, as a backup reads them beside a server that goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from isocenter.services.archive.tiers.tier import Tier, key_in
from isocenter.services.backup.ports import TRASH, IndexedFile
from isocenter.services.backup.tier_files import TierFiles
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.storage.objects.files.store import FileStore, open_file_store
from isocenter.storage.objects.files.trash import TrashFolder
from isocenter.storage.objects.tiers.trash import TieredTrash
from storage.store_contract import KEY, put

DELETION = "0123"


@asynccontextmanager
async def files_in(folder: Path) -> AsyncIterator[FileStore]:
    store = await open_file_store(folder)
    try:
        yield store
    finally:
        await store.aclose()


async def test_what_goes_to_the_trash_between_two_looks_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with files_in(tmp_path / "objects") as store:
        await put(store, KEY, b"an object")
        trash = TrashFolder(store)
        opened = store.open

        async def open_too_late(key: str) -> ObjectReader:
            await trash.begin(DELETION, b"{}")
            assert await trash.take(DELETION, [key]) == []
            return await opened(key)

        monkeypatch.setattr(store, "open", open_too_late)
        file = IndexedFile(f"{TRASH}{DELETION}/x", KEY, "1.2.3", 9, 0, "", DELETION)
        assert await TierFiles(store, trash).fetch(file, tmp_path / "copy")
        copy = await trio.Path(tmp_path / "copy").read_bytes()
    assert copy == b"an object"


async def test_of_several_tiers_the_manifest_is_that_of_the_first_that_has_one(
    tmp_path: Path,
) -> None:
    async with files_in(tmp_path / "hot") as hot, files_in(tmp_path / "warm") as warm:
        for store, deletion, manifest in (
            (hot, DELETION, b'{"reason": "why"}'),
            (warm, DELETION, b"{}"),
            (warm, "4567", b'{"reason": "other"}'),
        ):
            trash = TrashFolder(store)
            await trash.begin(deletion, manifest)
        # Its manifest is gone before its last object.
        await put(warm, KEY, b"an object")
        await TrashFolder(warm).take("89ab", [KEY])
        tiered = TieredTrash({Tier.HOT: TrashFolder(hot), Tier.WARM: TrashFolder(warm)})
        async with tiered.contents() as contents:
            assert key_in(Tier.WARM, KEY) in [key async for one in contents for key in one.keys]
        async with TierFiles(hot, tiered).manifests() as manifests:
            assert [found async for found in manifests] == [
                (DELETION, b'{"reason": "why"}'),
                ("4567", b'{"reason": "other"}'),
            ]
