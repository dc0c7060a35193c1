"""Send job: has studies from here at a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.query import Criterion, Query, ValueList
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.dicom.attribute_path import parse_attribute_path
from isocenter.services.workflow.jobs.job import ItemState, Job, JobItem
from isocenter.services.workflow.jobs.ports import ItemOutcome, JobQueue
from isocenter.services.workflow.jobs.settling import settling
from isocenter.services.workflow.nodes.ports import NodeError, RemoteArchive

_AT_ONCE: Final = 200
_GONE: Final = "the archive has it no more"


async def send(job: Job, queue: JobQueue, archive: Archive, remote: RemoteArchive) -> None:
    """Send what is due of *job*; what became of each object stands in the queue.

    Raises:
        IsocenterError: the node cannot be reached, or is lost.
    """
    if job.progress.total is None:
        await _plan(job, queue, archive)
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
        await _send_some(job, queue, remote, list(known.values()))


async def _plan(job: Job, queue: JobQueue, archive: Archive) -> None:
    criteria = []
    for name, value in job.request.keys:
        parents, tag = parse_attribute_path(name)
        if parents:
            raise NodeError(f"{name}: studies to send are named by their own attributes")
        criteria.append(Criterion(tag, ValueList(tuple(value.split("\\")))))
    query = Query(level=job.request.level, criteria=tuple(criteria)) if criteria else None
    found = False
    async with archive.index.instances(query) as blocks:
        async for block in blocks:
            found = True
            items = [
                JobItem(
                    study_instance_uid=stored.study_instance_uid,
                    series_instance_uid=stored.series_instance_uid,
                    sop_instance_uid=stored.sop_instance_uid,
                    sop_class_uid=stored.sop_class_uid,
                )
                for stored in block
            ]
            await queue.plan(job, items, is_last=False)
    if not found:
        raise NodeError("the archive has no such study")
    await queue.plan(job, [], is_last=True)


async def _send_some(
    job: Job, queue: JobQueue, remote: RemoteArchive, instances: list[StoredInstance]
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

        await remote.send(instances, told)

    await settling(job, queue, work)
