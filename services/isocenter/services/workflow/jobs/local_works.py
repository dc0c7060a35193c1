"""Jobs that ask no node: objects verified, and studies exported to a folder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.export.service import Exporter
from isocenter.services.archive.export.targets import ExportError, folder_target
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.selection import Selection
from isocenter.services.archive.verification import verify_instance
from isocenter.services.workflow.jobs.job import ItemState, Job, JobItem, JobKind
from isocenter.services.workflow.jobs.planning import plan_from_archive
from isocenter.services.workflow.jobs.ports import ItemOutcome, JobItems

#: Objects that are settled together.
_AT_ONCE: Final = 50
#: Objects of one study that are exported together.
_MOST_OF_STUDY: Final = 100_000

LocalWork = Callable[[Job, JobItems], Awaitable[None]]


class LocalWorks:
    """Verifies and exports.

    Args:
        exporter: None: nothing can be exported.
        folder: in which each job gets a folder of its own; None: the settings name none.
    """

    def __init__(self, archive: Archive, exporter: Exporter | None, folder: Path | None) -> None:
        self._archive = archive
        self._exporter = exporter
        self._folder = folder

    def by_kind(self) -> Mapping[JobKind, LocalWork]:
        """What is possible here."""
        return {JobKind.VERIFY: self.verify, JobKind.EXPORT: self.export}

    async def verify(self, job: Job, queue: JobItems) -> None:
        """Read each object, and compare it with its digest.

        Raises:
            StorageError: the archive cannot be read now.
        """
        if job.progress.total is None:
            await plan_from_archive(job, queue, self._archive)
        while due := await queue.items(job.job_id, (ItemState.DUE,), _AT_ONCE):
            known = await self._archive.index.get([item.sop_instance_uid for item in due])
            outcomes = [await self._verified(item, known) for item in due]
            await queue.settle(job, outcomes)

    async def _verified(self, item: JobItem, known: Mapping[str, StoredInstance]) -> ItemOutcome:
        uid = item.sop_instance_uid
        stored = known.get(uid)
        if stored is None:  # deleted since it was planned
            return ItemOutcome(sop_instance_uid=uid, state=ItemState.SKIPPED)
        fault = await verify_instance(self._archive, stored)
        if fault:
            return ItemOutcome(sop_instance_uid=uid, state=ItemState.FAILED, fault=fault)
        return ItemOutcome(sop_instance_uid=uid, state=ItemState.DONE, size=stored.size)

    async def export(self, job: Job, queue: JobItems) -> None:
        """Write studies to a folder of the job's own, one after the other; each is there whole or
        not at all, and in the audit trail before it is to be seen.

        Raises:
            ExportError: nothing can be exported, or a study cannot be.
            OSError: the folder cannot be written.
        """
        if self._exporter is None or self._folder is None:
            raise ExportError("set jobs.export_folder: nothing is exported anywhere else")
        if job.progress.total is None:
            await plan_from_archive(job, queue, self._archive)
        place = self._folder / job.job_id
        while due := await queue.items(job.job_id, (ItemState.DUE,), _MOST_OF_STUDY):
            study = due[0].study_instance_uid
            items = [item for item in due if item.study_instance_uid == study]
            known = await self._archive.index.get([item.sop_instance_uid for item in items])
            # What was committed and not yet settled when a crash came is there.
            if known and not (place / study).exists():
                await self._write(job, self._exporter, place, tuple(known.values()))
            outcomes = []
            for item in items:
                stored = known.get(item.sop_instance_uid)
                state = ItemState.SKIPPED if stored is None else ItemState.DONE
                size = 0 if stored is None else stored.size
                outcomes.append(
                    ItemOutcome(sop_instance_uid=item.sop_instance_uid, state=state, size=size)
                )
            await queue.settle(job, outcomes)

    async def _write(
        self, job: Job, exporter: Exporter, place: Path, study: tuple[StoredInstance, ...]
    ) -> None:
        requester = Requester(name=job.request.requested_by or "isocenter")
        with folder_target(place) as target:
            await exporter.export(
                Selection(studies=(study,), patients=1), target, requester, place=place.as_uri()
            )
