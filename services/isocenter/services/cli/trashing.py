"""What the commands that delete and restore have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from isocenter.services import composition
from isocenter.services.archive.deleting import Trash
from isocenter.services.cli.common import UsageError
from isocenter.services.settings.loading import Settings


@asynccontextmanager
async def opened_trash(settings: Settings, process_name: str) -> AsyncIterator[Trash]:
    """The trash of an archive; a server may be at work on it."""
    async with composition.open_archive(settings, lock=False, recover=False) as archive:
        trash = composition.trash_of(settings, archive, process_name)
        if trash is None:
            raise UsageError("this archive has no trash")
        yield trash


def shown_until(settings: Settings, deletion_id: str) -> str:
    """What can be done about a deletion, and for how long."""
    days = settings.storage.trash_days
    if not days:
        return "they are gone for good (storage.trash_days is 0)"
    return (
        f"isocenter trash restore {deletion_id} brings them back for {days} days; isocenter trash "
        f"purge {deletion_id} makes room at once"
    )


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun."""
    return f"{number} {one if number == 1 else many or one + 's'}"
