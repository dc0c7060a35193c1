"""What the commands that look at the archive's workflow have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from isocenter.services import composition
from isocenter.services.cli.support.options import UsageError
from isocenter.services.settings.loading import Settings
from isocenter.storage.database.index.index import SqliteIndex


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[SqliteIndex]:
    """The index database; a server may be at work on it."""
    async with composition.open_archive(settings, lock=False, recover=False) as archive:
        if not isinstance(archive.index, SqliteIndex):
            raise UsageError("this archive keeps nothing of the workflow")
        yield archive.index


def moment(seconds: float | None) -> str:
    """A time of the database, in local time; empty when there is none."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
