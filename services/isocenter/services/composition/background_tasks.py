"""Background tasks that one process of a server runs for all."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import trio

from isocenter.services.archive.capacity import warn_early
from isocenter.services.archive.deletion.trash_upkeep import run_trash_upkeep
from isocenter.services.archive.retention.last_use import UseRecorder
from isocenter.services.archive.retention.service import keep_to
from isocenter.services.archive.scrubber import scrub
from isocenter.services.composition.archive import (
    ArchiveParts,
    corrections_of,
    fullness_of,
    rejections_of,
    trash_of,
)
from isocenter.services.composition.audit import (
    audit_folder,
    is_trail_enabled,
    keeping_of,
    removal_recorder,
)
from isocenter.services.composition.metadata import make_metadata_always
from isocenter.services.composition.transcoding import compress
from isocenter.services.notices import Notices
from isocenter.services.security.audit.trail_upkeep import run_trail_upkeep
from isocenter.services.service_classes.worklist.retention import remove_expired
from isocenter.services.settings.settings import Settings
from isocenter.services.system.exclusive_task import run_exclusively
from isocenter.services.viewing.study_visits import StudyVisits


async def run_background_tasks(settings: Settings, parts: ArchiveParts, notices: Notices) -> None:
    """What one process of a server does beside serving."""
    storage, stores = settings.storage, parts.stores
    folder = Path(storage.data_dir)

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            if storage.scrub_days and not storage.is_in_memory:
                nursery.start_soon(
                    partial(
                        scrub,
                        parts.archive,
                        folder / "scrubbing.json",
                        days=storage.scrub_days,
                        notices=notices,
                    )
                )
            if parts.sweeper is not None:
                nursery.start_soon(parts.sweeper.run)
            nursery.start_soon(compress, settings, parts, notices)
            nursery.start_soon(corrections_of(settings, parts, "isocenter serve").run)
            if settings.web.enabled:
                nursery.start_soon(make_metadata_always, settings, parts)
            trash = trash_of(settings, parts, "isocenter serve")
            if trash is not None:
                nursery.start_soon(run_trash_upkeep, trash, notices)
                rejections = rejections_of(settings, parts, "isocenter serve")
                if rejections is not None and settings.rejection.enabled:
                    nursery.start_soon(rejections.run)
                for disk in {folder, settings.objects.folder(folder)}:
                    nursery.start_soon(warn_early, disk, settings.monitoring.disk_notice)
                if settings.retention:
                    nursery.start_soon(
                        partial(
                            keep_to,
                            settings.retention,
                            stores.retention,
                            trash,
                            studies_per_minute=storage.retention_rate,
                            excess=fullness_of(settings, parts).excess,
                        )
                    )
            if is_trail_enabled(settings):
                nursery.start_soon(
                    run_trail_upkeep,
                    audit_folder(settings),
                    keeping_of(settings),
                    removal_recorder(settings, "isocenter serve"),
                )
            if settings.worklist.enabled:
                worklist = stores.worklist
                if settings.worklist.keep_days:
                    nursery.start_soon(
                        remove_expired, worklist.remove_ended, settings.worklist.keep_days
                    )
                if settings.worklist.folder is not None:
                    from isocenter.services.service_classes.worklist.watched_folder import watch

                    nursery.start_soon(
                        watch, worklist, settings.worklist.folder, settings.worklist.folder_seconds
                    )

    async with trio.open_nursery() as nursery:
        # Each process knows what it has sent, and to whom.
        visits = StudyVisits(stores.recent_studies)
        notices.subscribe(visits.on_notice, visits.hears)
        nursery.start_soon(visits.run)
        if storage.is_in_memory:
            await work()
            return
        recorder = UseRecorder(stores.retention)
        notices.subscribe(recorder.on_notice, recorder.hears)
        nursery.start_soon(recorder.run)
        await run_exclusively(folder / "duty.lock", work)
