"""Usage of the room, counted in each database."""

from __future__ import annotations

import re
from pathlib import Path

from isocenter.services.composition.archive import open_archive_parts
from isocenter.services.settings.sections.storage import StorageSettings
from isocenter.services.settings.settings import Settings
from isocenter.storage.stores import join_stores
from services.archive_support import store
from storage.databases import open_database


async def test_nothing_takes_no_room(each_database: str) -> None:
    async with open_database() as database:
        assert await join_stores(database).usage.usage() == []


async def test_objects_are_counted_by_modality_and_day(tmp_path: Path) -> None:
    settings = Settings(storage=StorageSettings(data_dir=tmp_path, durability="relaxed"))
    async with open_archive_parts(settings) as parts:
        for number in (1, 2, 3):
            await store(parts.archive, number)
        found = await parts.stores.usage.usage()
        counts = await parts.archive.index.statistics()
    assert sum(one.instances for one in found) == counts.instances == 3
    assert sum(one.size for one in found) == counts.size
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", one.day) for one in found)
