"""Retrieve job, which counts each object that is to come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from isocenter.services.archive.archive import Archive
from isocenter.services.workflow.jobs.job import ItemState, Job, JobItem
from isocenter.services.workflow.jobs.ports import ItemOutcome, JobItems
from isocenter.services.workflow.jobs.settling import settling
from isocenter.services.workflow.nodes.ports import NodeError, RemoteInstance, RetrievableArchive

#: Objects that are looked at together.
_AT_ONCE: Final = 2_000
_NEVER_CAME: Final = "the node did not send it"


async def retrieve(job: Job, queue: JobItems, archive: Archive, remote: RetrievableArchive) -> None:
    """Bring what is due of *job*; what became of each object stands in the queue.

    Raises:
        IsocenterError: the node cannot be reached, is lost, or refuses.
    """
    # Of these nothing is here: they are asked for by one word.
    whole: set[str] = set()
    if job.progress.total is None:
        whole = await _plan(job, queue, archive, remote)
    while due := await queue.items(job.job_id, (ItemState.DUE,), _AT_ONCE):
        study = due[0].study_instance_uid
        items = [item for item in due if item.study_instance_uid == study]
        missing = await _settle_present(job, queue, archive, items)
        if not missing:
            continue
        are_all_known = len(items) < _AT_ONCE
        is_whole = study in whole and are_all_known
        whole.discard(study)
        said = await _bring(job, queue, remote, missing, is_whole=is_whole)
        left = await _settle_present(job, queue, archive, missing)
        if left and not is_whole:
            # They were asked for one by one.
            fault = said or _NEVER_CAME
            failed = [
                ItemOutcome(
                    sop_instance_uid=item.sop_instance_uid, state=ItemState.FAILED, fault=fault
                )
                for item in left
            ]
            await queue.settle(job, failed)


async def _plan(
    job: Job, queue: JobItems, archive: Archive, remote: RetrievableArchive
) -> set[str]:
    """Write down what the node has of it; studies of which nothing is here."""
    planned: list[JobItem] = []
    whole: set[str] = set()
    async with remote.instances(job.request.keys) as studies:
        async for instances in studies:
            if planned:
                await queue.plan(job, planned, is_last=False)
            known = (
                {}
                if job.request.again
                else await archive.index.get([each.sop_instance_uid for each in instances])
            )
            planned = [
                JobItem(
                    study_instance_uid=each.study_instance_uid,
                    series_instance_uid=each.series_instance_uid,
                    sop_instance_uid=each.sop_instance_uid,
                    sop_class_uid=each.sop_class_uid,
                    state=ItemState.SKIPPED if each.sop_instance_uid in known else ItemState.DUE,
                )
                for each in instances
            ]
            if not known:
                whole.update(each.study_instance_uid for each in instances)
    if not planned:
        raise NodeError("the node has no such study")
    await queue.plan(job, planned, is_last=True)
    return whole


async def _settle_present(
    job: Job, queue: JobItems, archive: Archive, items: Sequence[JobItem]
) -> list[JobItem]:
    """What the archive has is done; the rest."""
    known = await archive.index.get([item.sop_instance_uid for item in items])
    if job.request.again:
        known = {}
    await queue.settle(
        job,
        [
            ItemOutcome(sop_instance_uid=uid, state=ItemState.DONE, size=stored.size)
            for uid, stored in known.items()
        ],
    )
    return [item for item in items if item.sop_instance_uid not in known]


async def _bring(
    job: Job,
    queue: JobItems,
    remote: RetrievableArchive,
    items: Sequence[JobItem],
    *,
    is_whole: bool,
) -> str:
    """Retrieve them; what the node said against it."""
    wanted = [
        RemoteInstance(
            study_instance_uid=item.study_instance_uid,
            series_instance_uid=item.series_instance_uid,
            sop_instance_uid=item.sop_instance_uid,
            sop_class_uid=item.sop_class_uid,
        )
        for item in items
    ]

    async def work(tell: Callable[[ItemOutcome], None]) -> str:
        def arrived(uid: str, size: int, fault: str) -> None:
            state = ItemState.FAILED if fault else ItemState.DONE
            tell(ItemOutcome(sop_instance_uid=uid, state=state, fault=fault, size=size))

        return await remote.retrieve(wanted, arrived, is_whole_study=is_whole)

    return await settling(job, queue, work)
