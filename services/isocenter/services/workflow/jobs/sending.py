"""Send job: has studies from here at a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.workflow.jobs.job import ItemState, Job
from isocenter.services.workflow.jobs.planning import plan_from_archive
from isocenter.services.workflow.jobs.ports import ItemOutcome, JobItems
from isocenter.services.workflow.jobs.settling import settling
from isocenter.services.workflow.nodes.ports import RemoteArchive

_AT_ONCE: Final = 200
_GONE: Final = "the archive has it no more"


async def send(job: Job, queue: JobItems, archive: Archive, remote: RemoteArchive) -> None:
    """Send what is due of *job*; what became of each object stands in the queue.

    Raises:
        IsocenterError: the node cannot be reached, or is lost.
    """
    if job.progress.total is None:
        await plan_from_archive(job, queue, archive)
    while due := await queue.items(job.job_id, (ItemState.DUE,), _AT_ONCE):
        known = await archive.index.get([item.sop_instance_uid for item in due])
        await queue.settle(
            job,
            [
                ItemOutcome(
                    sop_instance_uid=item.sop_instance_uid, state=ItemState.FAILED, fault=_GONE
                )
                for item in due
                if item.sop_instance_uid not in known
            ],
        )
        await _send_some(job, queue, archive, remote, list(known.values()))


async def _send_some(
    job: Job,
    queue: JobItems,
    archive: Archive,
    remote: RemoteArchive,
    instances: list[StoredInstance],
) -> None:
    async def work(tell: Callable[[ItemOutcome], None]) -> None:
        def told(stored: StoredInstance, fault: str) -> None:
            tell(
                ItemOutcome(
                    sop_instance_uid=stored.sop_instance_uid,
                    state=ItemState.FAILED if fault else ItemState.DONE,
                    fault=fault,
                    size=0 if fault else stored.size,
                )
            )

        studies = {stored.study_instance_uid for stored in instances}
        async with archive.locks.reading(studies, f"job {job.job_id[:8]}"):
            await remote.send(instances, told)

    await settling(job, queue, work)
