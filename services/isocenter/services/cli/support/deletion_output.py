"""Parts that the commands of deletion share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from isocenter.services import composition
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.cli.support.options import UsageError
from isocenter.services.composition.audit import active_process_of
from isocenter.services.settings.settings import Settings
from isocenter.services.system.users import user_name


@asynccontextmanager
async def opened_trash(
    settings: Settings, process_name: str, *, changes: bool = True
) -> AsyncIterator[Trash]:
    """The trash of an archive; a server may be at work on it.

    Args:
        changes: something may be deleted or restored.

    Raises:
        UsageError: there is none, or what is made there would not be the server's.
    """
    if changes:
        await ready_for_changes(settings)
    async with composition.open_archive_parts(settings, lock=False, recover=False) as parts:
        trash = composition.trash_of(settings, parts, process_name)
        if trash is None:
            raise UsageError("this archive has no trash")
        yield trash


async def ready_for_changes(settings: Settings) -> None:
    """See that an archive may be changed beside its server, or after it has crashed.

    Raises:
        UsageError: what is made there would not be the server's.
    """
    check_owner(Path(settings.storage.data_dir))
    await composition.recover_after_crash(settings)


def check_owner(data_dir: Path) -> None:
    """Folders that root makes are root's alone: the server could not read what lies in them."""
    if os.name != "posix":
        return
    owner = data_dir.stat().st_uid
    if owner != os.geteuid():
        raise UsageError(
            f"{data_dir} belongs to {user_name(owner)}; do it as that user: sudo -u "
            f"{user_name(owner)} isocenter …"
        )


def requester_of(settings: Settings, process_name: str) -> Requester:
    """Who sits at this machine."""
    here = active_process_of(settings, process_name)
    return Requester(name=f"{here.user}@{here.machine}")


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
