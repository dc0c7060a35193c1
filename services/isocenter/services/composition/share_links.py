"""Links to studies made, listed and revoked by a command, and audited."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import time
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Page, Query, SingleValue
from isocenter.services.archive.selection import matches_of
from isocenter.services.composition.archive import open_stores
from isocenter.services.composition.audit import active_process_of, record_now
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.ports import ShareLink
from isocenter.services.security.access.share_links import new_link
from isocenter.services.security.audit.alert_messages import link_changed
from isocenter.services.settings.sections.monitoring import OnAuditFailure
from isocenter.services.settings.settings import Settings

_MOST_LISTED: Final = 10_000


async def add_link(
    settings: Settings,
    study_instance_uid: str,
    *,
    label: str = "",
    days: int = 7,
    may_download: bool = False,
    passcode: str = "",
    process_name: str = "isocenter",
) -> tuple[str, ShareLink]:
    """Make a link; its text, which nobody can be told again, and what is kept of it.

    Raises:
        PolicyError: it cannot be made so, or the archive has no such study.
        StorageError: it cannot be kept.
        TrailError, OSError: the audit trail cannot be written, and the settings say ``stop``.
    """
    here = active_process_of(settings, process_name)
    make = partial(
        new_link,
        study_instance_uid,
        created_by=f"{here.user}@{here.machine}",
        label=label,
        days=days,
        may_download=may_download,
        passcode=passcode,
        now=time(),
    )
    text, link = await trio.to_thread.run_sync(make)
    async with open_stores(settings) as stores:
        study = Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(study_instance_uid))
        query = Query(level=Level.STUDY, criteria=(study,))
        if not await matches_of(stores.index, query, Page(limit=1)):
            raise PolicyError(f"the archive has no study {study_instance_uid}")
        await stores.share_links.add(link)
        try:
            message = link_changed(here, link, is_new=True)
            await trio.to_thread.run_sync(record_now, settings, here, [message])
        except (OSError, IsocenterError):
            if settings.audit.on_failure is OnAuditFailure.STOP:
                await stores.share_links.remove(link.link_id)
                raise
    return text, link


async def list_links(settings: Settings) -> Sequence[ShareLink]:
    """All links, also those that have ended, without those of viewers; the newest first."""
    async with open_stores(settings) as stores:
        return await stores.share_links.all(_MOST_LISTED)


async def revoke_link(
    settings: Settings, link_id: str, *, process_name: str = "isocenter"
) -> ShareLink:
    """End a link, for all servers on the archive at once; what it was.

    Raises:
        PolicyError: there is none, or it was revoked before.
        StorageError: it cannot be.
        TrailError, OSError: it is revoked, and the audit trail does not know it.
    """
    here = active_process_of(settings, process_name)
    async with open_stores(settings) as stores:
        link = await stores.share_links.find(link_id)
        if link is None or not await stores.share_links.revoke(link_id, time()):
            why = "is the ID of no link" if link is None else "is revoked already"
            raise PolicyError(f"{link_id!r} {why}; isocenter share list shows all")
        message = link_changed(here, link, is_new=False)
        await trio.to_thread.run_sync(record_now, settings, here, [message])
    return link
