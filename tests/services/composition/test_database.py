"""Archives whose index is in PostgreSQL, opened as the settings say."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import trio

from isocenter.services.archive.reindexing import reindex
from isocenter.services.archive.verification import verify
from isocenter.services.composition import inspect_database, open_archive_parts, open_stores
from isocenter.services.errors import StorageError
from isocenter.services.settings.consistency import conflicts
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.sections.database import DatabaseSettings
from isocenter.services.settings.sections.storage import IN_MEMORY, StorageSettings
from isocenter.services.settings.settings import Settings
from services.archive_support import data_set, data_set_of, store, uid
from support.postgresql import Server


@pytest.fixture
def url(postgresql_server: Server) -> str:
    return postgresql_server.url(postgresql_server.new_database())


def settings_of(folder: Path, url: str, **storage: Any) -> Settings:
    return Settings(
        storage=StorageSettings(data_dir=folder / "data", **storage),
        database=DatabaseSettings(url=url),
    )


async def test_an_object_is_kept_and_found_after_a_restart(tmp_path: Path, url: str) -> None:
    settings = settings_of(tmp_path, url)
    async with open_archive_parts(settings) as parts:
        await store(parts.archive, 1)
        report = await verify(parts.archive)
        assert report.is_good
        assert report.objects == report.instances == 1
    assert not (tmp_path / "data" / "index.db").exists()
    async with open_archive_parts(settings) as parts:
        stored = (await parts.archive.index.get([uid(1)]))[uid(1)]
        assert await data_set_of(parts.archive, stored) == data_set(1)


async def test_a_second_server_is_refused_until_the_first_has_ended(
    tmp_path: Path, url: str
) -> None:
    first, second = (settings_of(tmp_path / name, url) for name in "ab")
    async with open_archive_parts(first):
        with pytest.raises(StorageError, match=r"another server works on it \(.*:/"):
            async with open_archive_parts(second):
                pass
        # Another process of the same server, and commands beside it, are none.
        async with (
            open_archive_parts(first, shared=True, lock=False, recover=False) as beside,
            open_stores(first) as stores,
        ):
            await store(beside.archive, 1)
            assert (await stores.index.statistics()).instances == 1
    async with open_archive_parts(second) as parts:
        assert (await parts.stores.index.statistics()).instances == 1


async def test_without_its_database_an_archive_does_not_begin_anew(
    tmp_path: Path, url: str, postgresql_server: Server
) -> None:
    async with open_archive_parts(settings_of(tmp_path, url)) as parts:
        await store(parts.archive, 1)
    other = postgresql_server.url(postgresql_server.new_database())
    for wrong in ("", other):
        with pytest.raises(StorageError, match=r"the index of .* is in postgresql:/isocenter_"):
            async with open_archive_parts(settings_of(tmp_path, wrong)):
                pass


async def test_an_archive_with_a_file_as_index_has_no_other(tmp_path: Path, url: str) -> None:
    async with open_archive_parts(settings_of(tmp_path, "")) as parts:
        await store(parts.archive, 1)
    with pytest.raises(StorageError, match=r"has an index as a file .*an archive has one index"):
        async with open_archive_parts(settings_of(tmp_path, url)):
            pass
    (tmp_path / "data" / "index.db").unlink()
    with pytest.raises(StorageError, match="have it filled from them with isocenter db reindex"):
        async with open_archive_parts(settings_of(tmp_path, url)):
            pass
    async with open_archive_parts(settings_of(tmp_path, url), rebuild=True) as parts:
        await reindex(parts.archive, lambda progress: None)
    async with open_archive_parts(settings_of(tmp_path, url)) as parts:
        assert (await parts.stores.index.statistics()).instances == 1


async def test_reindexing_goes_on_with_numbers_that_nobody_had(tmp_path: Path, url: str) -> None:
    settings = settings_of(tmp_path, url)
    async with open_archive_parts(settings) as parts:
        await store(parts.archive, 1)
    async with open_archive_parts(settings, rebuild=True) as parts:
        await reindex(parts.archive, lambda progress: None)
    async with open_archive_parts(settings) as parts:
        await store(parts.archive, 2)
        assert (await verify(parts.archive)).is_good
        assert (await parts.stores.index.statistics()).instances == 2


async def test_doctor_looks_and_changes_nothing(tmp_path: Path, url: str) -> None:
    settings = settings_of(tmp_path, url)
    async with open_archive_parts(settings) as parts:
        await store(parts.archive, 1)
    look = await trio.to_thread.run_sync(inspect_database, settings)
    assert (look.fault, look.instances) == ("", 1)
    assert look.schema_version == look.latest_version
    nowhere = settings_of(tmp_path, f"postgresql:///pacs?host={tmp_path}")
    assert "does not answer" in inspect_database(nowhere).fault


def test_an_archive_in_memory_has_none(url: str) -> None:
    settings = Settings(
        storage=StorageSettings(data_dir=Path(IN_MEMORY)), database=DatabaseSettings(url=url)
    )
    assert "database.url" in {found.key for found in conflicts(settings, ())}


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("mysql://h/d", "must begin with postgresql://"),
        ("postgresql://u:secret@h/d", "a password does not belong into the URL"),
        ("postgresql://h/d?password=secret", "a password does not belong into the URL"),
        ("postgresql://h", "the name of the database is missing"),
        ("postgresql://h/d?x", "is no URL such as"),
    ],
)
def test_urls_that_are_none(value: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(None, overrides={"database.url": value})
    assert fault in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "value", ["", "postgresql://u@db.example:5433/pacs?sslmode=verify-full", "postgres:///pacs"]
)
def test_urls(value: str) -> None:
    assert load_settings(None, overrides={"database.url": value}).database.url == value


async def test_a_mark_that_cannot_be_read(tmp_path: Path, url: str) -> None:
    settings = settings_of(tmp_path, url)
    async with open_archive_parts(settings):
        pass
    mark = tmp_path / "data" / "database.url"
    mark.write_bytes(b"\xff")
    with pytest.raises(StorageError, match="cannot be read"):
        async with open_archive_parts(settings):
            pass
    shutil.rmtree(tmp_path / "data")
