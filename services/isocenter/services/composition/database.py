"""The database that the settings name: a file in the data directory, or PostgreSQL."""

from __future__ import annotations

import logging
import platform
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from isocenter.services.archive.index_figures import IndexInspection
from isocenter.services.composition.objects import Place
from isocenter.services.errors import StorageError, text_of
from isocenter.services.settings.settings import Settings
from isocenter.services.system.private_files import match_owner
from isocenter.storage.inspection import inspect_postgresql
from isocenter.storage.stores import (
    Stores,
    StoresOptions,
    open_postgresql_stores,
    open_sqlite_stores,
)

log = logging.getLogger("isocenter.server")

INDEX_FILE: Final = "index.db"
#: In the data directory: the database of this archive, if it is not that file.
_MARK: Final = "database.url"


def has_index(settings: Settings) -> bool:
    """Whether there is an index, or a database in its place."""
    data_dir = Path(settings.storage.data_dir)
    return bool(settings.database.url) or (data_dir / INDEX_FILE).exists()


def open_stores_of(
    settings: Settings, options: StoresOptions, *, is_server: bool
) -> AbstractAsyncContextManager[Stores]:
    """What is kept beside the objects, for as long as the context lasts.

    Args:
        is_server: the process serves, and no other server may use the database.
    """
    storage = settings.storage
    if storage.is_in_memory:
        return open_sqlite_stores(":memory:", options)
    if settings.database.url:
        return open_postgresql_stores(
            settings.database.url,
            options,
            durability=storage.durability,
            server=_server_name(settings) if is_server else "",
        )
    return open_sqlite_stores(
        Path(storage.data_dir) / INDEX_FILE,
        options,
        durability=storage.durability,
        keep_copy_days=storage.keep_index_days,
        on_copy=lambda copy: log.warning(
            "the index is migrated to the schema of this version, which earlier ones cannot read; "
            "a copy from before is %s for %d days. With it an earlier version forgets what was "
            "stored, scheduled and queued since",
            copy,
            storage.keep_index_days,
        ),
    )


def inspect_database(settings: Settings) -> IndexInspection:
    """A short look at PostgreSQL, which changes nothing."""
    return inspect_postgresql(settings.database.url)


def _server_name(settings: Settings) -> str:
    if settings.is_shared:
        return settings.cluster.name
    return f"{platform.node()}:{Path(settings.storage.data_dir).absolute()}"


async def check_index(settings: Settings, place: Place, *, is_known: bool = False) -> None:
    """Whether the index is the one of these objects.

    Args:
        is_known: the database says that it is; then this data directory may be a new one.

    Raises:
        StorageError: the index is missing while there are objects, or is somewhere else.
    """
    data_dir = Path(settings.storage.data_dir)
    path = data_dir / INDEX_FILE
    marked, named = _marked(data_dir), _identity(settings)
    if marked and marked != named:
        raise StorageError(
            f"the index of {data_dir} is in {marked}, and database.url names "
            f"{named or 'nothing'}; name the same (--database, ISOCENTER__DATABASE__URL, or "
            f"[database] in the file of settings), or take another --data-dir. If that database "
            f"is lost, remove {data_dir / _MARK}, name another, and run isocenter db reindex"
        )
    if named and not marked:
        if path.exists():
            raise StorageError(
                f"{data_dir} has an index as a file ({path}), and database.url names {named}: an "
                "archive has one index; take the URL away, or another --data-dir"
            )
        if not is_known and await place.holds_objects():
            raise StorageError(
                f"{data_dir} has objects, and {named} has never been its database; have it filled "
                "from them with isocenter db reindex (with the same settings)"
            )
    if not named and not path.exists() and await place.holds_objects():
        raise StorageError(
            f"the index {path} is missing, but there are objects; rebuild it from them with "
            f"isocenter db reindex --data-dir {data_dir}"
        )


def mark_database(settings: Settings) -> None:
    """Note in the data directory where its index is; once it was opened there."""
    data_dir = Path(settings.storage.data_dir)
    named, path = _identity(settings), data_dir / _MARK
    if not named or _marked(data_dir) == named:
        return
    new = path.with_suffix(".new")
    try:
        new.unlink(missing_ok=True)
        new.write_text(f"{named}\n", "utf-8")
        match_owner(data_dir, new)
        new.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {text_of(error)}") from error


def _identity(settings: Settings) -> str:
    """The database, without how it is reached, which may change."""
    url = settings.database.url
    return f"postgresql:{urlsplit(url).path}" if url else ""


def _marked(data_dir: Path) -> str:
    path = data_dir / _MARK
    try:
        return path.read_text("utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} cannot be read: {text_of(error)}") from error
