"""Catalogue of what pages list: studies by their UIDs, also by odd ones."""

from __future__ import annotations

from isocenter.services.archive.archive import Archive
from isocenter.services.web.ui.catalogue import Catalogue
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import ODD_UIDS, data_set, store


async def test_studies_are_found_by_uids_that_a_search_takes_for_none() -> None:
    studies = ["1.2.3", *(uid for uid in ODD_UIDS if len(uid) <= 32)]
    async with (
        open_sqlite_database(":memory:") as database,
        Archive(MemoryStore(), DatabaseIndex(database)) as archive,
    ):
        for number, study in enumerate(studies, 1):
            await store(archive, number, data_set(number, study=study))
        catalogue = Catalogue(archive.index)
        found = await catalogue.studies_named([*studies, "1.2.99", studies[0]])
    assert found.keys() == set(studies)
    assert all(row["PatientName"] == "Bäcker^Anna" for row in found.values())
    assert await catalogue.studies_named([]) == {}
