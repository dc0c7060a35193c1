"""Composition of a backup from settings."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from isocenter.services.archive.object_location import StoreKind
from isocenter.services.archive.tiers.tier import InstanceAvailability
from isocenter.services.backup.index_in_use import DatabaseInUse
from isocenter.services.backup.manifest import BackupError
from isocenter.services.backup.source import Source
from isocenter.services.backup.tier_files import TierFiles
from isocenter.services.composition.archive import open_archive_parts
from isocenter.services.composition.audit import audit_folder
from isocenter.services.composition.database import inspect_database
from isocenter.services.errors import StorageError, text_of
from isocenter.services.service_classes.print.ports import PrintJobs
from isocenter.services.settings.settings import SETTINGS, Settings
from isocenter.services.settings.toml_text import show
from isocenter.storage.database.relocation.index_file import new_index_file
from isocenter.storage.objects.files.removal_hold import RemovalHold
from isocenter.storage.stores import SqliteIndexFile

__all__ = ["SqliteIndexFile", "check_tiers", "open_backup_source"]

#: More than are ever kept.
_ALL_JOBS: Final = 1 << 31
#: Settings that name what is backed up, wherever it lies.
_TAKEN_ALONG: Final = frozenset({"storage.data_dir", "audit.folder"})
#: Settings that name files which nobody else may have.
_SECRETS: Final = frozenset(
    {
        "tls.key",
        "audit.key",
        "audit.hmac_key_file",
        "objects.credentials_file",
        "objects.keys_file",
        "signatures.sign_key",
        "signatures.sign_key_password_file",
    }
)


@asynccontextmanager
async def open_backup_source(
    settings: Settings, config_file: Path | None, program: str
) -> AsyncIterator[Source]:
    """The archive, beside a server that goes on, for `isocenter.services.backup.creation`.

    Args:
        config_file: where the settings came from, if it was a file.

    Raises:
        BackupError: the file cannot be read any more, or objects are off line.
        StorageError: the database, a bucket or a tier cannot be used.
    """
    check_tiers(settings)
    source = _source_of(settings, config_file, program)
    is_elsewhere = _is_elsewhere(settings)
    if not settings.tiers.places and not settings.database.url and not is_elsewhere:
        yield source
        return
    if settings.database.url:
        await trio.to_thread.run_sync(_database_version, settings)
    async with open_archive_parts(settings, lock=False, recover=False) as parts:
        if settings.tiers.places or is_elsewhere:
            assert parts.trash_files is not None
            tiers = TierFiles(parts.archive.store, parts.trash_files)
            source = replace(source, tiers=tiers, is_elsewhere=is_elsewhere)
        if settings.is_shared:
            source = replace(source, films=partial(_films, parts.stores.print_jobs))
        if settings.database.url:
            version = partial(_database_version, settings)
            database = DatabaseInUse(parts.stores.tables, version, new_index_file)
            source = replace(source, database=database)
        yield source


def _source_of(settings: Settings, config_file: Path | None, program: str) -> Source:
    data_dir = Path(settings.storage.data_dir).absolute()
    texts = [("effective.toml", show(settings).encode())]
    if config_file is not None:
        try:
            texts.append(("isocenter.toml", config_file.read_bytes()))
        except OSError as error:
            raise BackupError(f"{config_file}: {text_of(error)}") from error
    paths = dict(_paths(settings))
    project_keys = {
        f"key_file of [[deidentification]] {project.name}": project.key_file.absolute()
        for project in settings.deidentification
        if project.key_file is not None
    }
    return Source(
        data_dir=data_dir,
        audit=audit_folder(settings).absolute(),
        apart=_folders_of_objects(settings, data_dir),
        index=SqliteIndexFile,
        hold=RemovalHold(data_dir),
        secrets=[path for key, path in paths.items() if key in _SECRETS],
        keys=list(project_keys.values()),
        settings=texts,
        outside=[
            (key, path)
            for key, path in (paths | project_keys).items()
            if data_dir not in path.parents
        ],
        program=program,
    )


def _database_version(settings: Settings) -> int:
    """The schema of a copy of the database; blocks.

    Raises:
        BackupError: the copy would lack what a newer program keeps there.
        StorageError: the database cannot be used.
    """
    found = inspect_database(settings)
    if found.fault:
        raise StorageError(found.fault)
    if found.schema_version > found.latest_version:
        raise BackupError(
            f"the database has been migrated by a newer Isocenter (schema version "
            f"{found.schema_version}, this program knows {found.latest_version}), and a backup by "
            "this one would lack what that added; run isocenter backup of the newer version"
        )
    return found.latest_version


async def _films(jobs: PrintJobs) -> AsyncGenerator[tuple[str, bytes | StorageError | None], None]:
    """Those of all print jobs, named as `FolderFilms` does, or why one cannot be read."""
    for job in await jobs.jobs(limit=_ALL_JOBS):
        for number in range(1, job.films + 1):
            name = f"{job.job_uid}/{number}.png"
            try:
                film = await jobs.film(job.job_uid, number)
            except StorageError as error:
                yield name, error
                continue
            if film is not None:
                yield name, film.png
            elif await jobs.keeps_films(job.job_uid):
                yield name, None


def _is_elsewhere(settings: Settings) -> bool:
    data_dir = Path(settings.storage.data_dir)
    return settings.object_store is not None or settings.objects.folder(data_dir) != data_dir


def _folders_of_objects(settings: Settings, data_dir: Path) -> list[Path]:
    """But for the data directory itself."""
    places = [settings.objects.url, *settings.tiers.places.values()]
    folders = [
        Path(place.bucket)
        for place in places
        if place is not None and place.kind is StoreKind.FILES
    ]
    return [folder for folder in folders if folder != data_dir]


def check_tiers(settings: Settings) -> None:
    """Raises:
    BackupError: objects of a tier could be neither read nor written.
    """
    for tier in settings.tiers.places:
        if settings.tiers.availability[tier] is InstanceAvailability.OFFLINE:
            raise BackupError(
                f"objects in the tier {tier.value} are off line (tiers.{tier.value}_availability), "
                "and can be neither read nor written; have them brought there, and say so"
            )


def _paths(settings: Settings) -> Iterator[tuple[str, Path]]:
    for setting in SETTINGS:
        if setting.key in _TAKEN_ALONG or setting.key == "server.capture":
            continue
        value: Any = settings
        for name in setting.key.split("."):
            value = getattr(value, name)
        if isinstance(value, Path):
            yield setting.key, value.absolute()
