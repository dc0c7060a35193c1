"""Background tasks that one process of a server runs for all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from isocenter.services.archive.capacity import warn_early
from isocenter.services.archive.deletion.trash_upkeep import run_trash_upkeep
from isocenter.services.archive.index.name_upkeep import write_missing_names
from isocenter.services.archive.retention.last_use import UseRecorder
from isocenter.services.archive.retention.service import keep_to
from isocenter.services.archive.scrubber import scrub
from isocenter.services.archive.tiers.worker import run_tiers
from isocenter.services.archive.validation.counting import keep_counts
from isocenter.services.cluster.duties import OneMachine
from isocenter.services.cluster.membership import give_up_lost
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
from isocenter.services.composition.lasting_tasks import outlast
from isocenter.services.composition.metadata import make_metadata_always
from isocenter.services.composition.retention import retention_rules
from isocenter.services.composition.sharing import publication_upkeep
from isocenter.services.composition.signatures import verify_signed_arrivals
from isocenter.services.composition.tiers import cycle_limits
from isocenter.services.composition.transcoding import compress
from isocenter.services.notices import Notices
from isocenter.services.security.audit.trail_upkeep import run_trail_upkeep
from isocenter.services.service_classes.worklist.retention import remove_expired
from isocenter.services.settings.settings import Settings
from isocenter.services.viewing.study_visits import StudyVisits


async def run_background_tasks(settings: Settings, parts: ArchiveParts, notices: Notices) -> None:
    """What one process of a server does beside serving."""
    storage, stores = settings.storage, parts.stores
    folder = Path(storage.data_dir)

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            start = partial(_start, nursery)
            if storage.scrub_days and not storage.is_in_memory:
                start(
                    "scrubbing",
                    partial(
                        scrub,
                        parts.archive,
                        folder / "scrubbing.json",
                        days=storage.scrub_days,
                        notices=notices,
                    ),
                )
            if settings.is_shared:
                start("nodes that are lost", partial(give_up_lost, stores.members))
            if parts.sweeper is not None:
                start("sweeping", parts.sweeper.run)
            if parts.mover is not None:
                start(
                    "tiers",
                    partial(
                        run_tiers,
                        lambda: settings.tiers.rules,
                        stores.tiers,
                        parts.mover,
                        cycle_limits(settings),
                        on_measured=notices.publish,
                    ),
                )
            start("names", partial(write_missing_names, stores.names))
            start("compression", partial(compress, settings, parts, notices))
            start("counts of validation", partial(keep_counts, stores.validation))
            start("signatures", partial(verify_signed_arrivals, settings, parts, notices))
            start("corrections", corrections_of(settings, parts, "isocenter serve").run)
            publications = publication_upkeep(settings, parts.archive.index, stores, notices)
            if publications is not None:
                start("publications", publications.run)
            if settings.web.enabled:
                start("metadata", partial(make_metadata_always, settings, parts))
            trash = trash_of(settings, parts, "isocenter serve")
            if trash is not None:
                start("trash", partial(run_trash_upkeep, trash, notices, now=stores.clock))
                rejections = rejections_of(settings, parts, "isocenter serve")
                if rejections is not None and settings.rejection.enabled:
                    start("rejections", rejections.run)
                start(
                    "retention",
                    partial(
                        keep_to,
                        lambda: retention_rules(settings, parts.archive),
                        stores.retention,
                        trash,
                        studies_per_minute=storage.retention_rate,
                        excess=fullness_of(settings, parts).excess,
                        now=stores.clock,
                    ),
                )
            if settings.ups.enabled and settings.ups.keep_days:
                ended = stores.workitems.remove_ended
                start(
                    "workitems", partial(remove_expired, ended, settings.ups.keep_days, "workitems")
                )
            if settings.worklist.enabled:
                worklist = stores.worklist
                if settings.worklist.keep_days:
                    days = settings.worklist.keep_days
                    start("worklist", partial(remove_expired, worklist.remove_ended, days))
                if settings.worklist.folder is not None:
                    from isocenter.services.service_classes.worklist.watched_folder import watch

                    seconds = settings.worklist.folder_seconds
                    start(
                        "folder of the worklist",
                        partial(watch, worklist, settings.worklist.folder, seconds),
                    )

    async def work_on_this_machine() -> None:
        """What each node does about its own disks and its own audit trail."""
        async with trio.open_nursery() as nursery:
            start = partial(_start, nursery)
            for disk in {folder, settings.objects.folder(folder)}:
                start("disk", partial(warn_early, disk, settings.monitoring.disk_notice))
            if is_trail_enabled(settings):
                start(
                    "audit trail",
                    partial(
                        run_trail_upkeep,
                        audit_folder(settings),
                        keeping_of(settings),
                        removal_recorder(settings, "isocenter serve"),
                    ),
                )

    async with trio.open_nursery() as nursery:
        # Each process knows what it has sent, and to whom.
        visits = StudyVisits(stores.recent_studies)
        notices.subscribe(visits.on_notice, visits.hears)
        nursery.start_soon(outlast, "visits", visits.run)
        if storage.is_in_memory:
            await work()
            return
        recorder = UseRecorder(stores.retention, now=stores.clock)
        notices.subscribe(recorder.on_notice, recorder.hears)
        nursery.start_soon(outlast, "use of studies", recorder.run)
        nursery.start_soon(OneMachine(folder).run, "machine", work_on_this_machine)
        await parts.duties.run("duty", work)


def _start(nursery: trio.Nursery, name: str, task: Callable[[], Awaitable[None]]) -> None:
    nursery.start_soon(outlast, name, task)
