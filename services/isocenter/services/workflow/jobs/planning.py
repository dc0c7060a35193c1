"""Planning of jobs about what the archive has."""

from __future__ import annotations

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.query import Criterion, Query, ValueList
from isocenter.services.dicom.attribute_path import parse_attribute_path
from isocenter.services.workflow.jobs.job import Job, JobItem
from isocenter.services.workflow.jobs.ports import JobItems
from isocenter.services.workflow.nodes.ports import NodeError


async def plan_from_archive(job: Job, queue: JobItems, archive: Archive) -> None:
    """Write down which objects of the archive a job is about.

    Raises:
        NodeError: there is none, or the keys are none of studies.
    """
    criteria = []
    for name, value in job.request.keys:
        parents, tag = parse_attribute_path(name)
        if parents:
            raise NodeError(f"{name}: studies are named by their own attributes")
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
