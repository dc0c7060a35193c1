"""Compression job: orders objects from the compressor, and waits for it."""

from __future__ import annotations

from typing import Final

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD, LOSSLESS_TARGETS
from isocenter.services.workflow.compression.ports import (
    CompressionQueue,
    CompressionState,
    CompressionSummary,
)
from isocenter.services.workflow.jobs.job import ItemState, Job, JobItem
from isocenter.services.workflow.jobs.planning import plan_from_archive
from isocenter.services.workflow.jobs.ports import ItemOutcome, JobItems
from isocenter.services.workflow.jobs.turns import AskLaterError
from isocenter.services.workflow.nodes.ports import NodeError

#: Objects that are with the compressor at a time: rules want something of it, too.
_AT_ONCE: Final = 500
_LOOK_SECONDS: Final = 2.0
_ITEM_STATES: Final = {
    CompressionState.DONE: ItemState.DONE,
    CompressionState.KEPT: ItemState.SKIPPED,
    CompressionState.FAILED: ItemState.FAILED,
}


class CompressionWork:
    """Has objects compressed that the archive has already."""

    def __init__(self, archive: Archive, compressions: CompressionQueue) -> None:
        self._archive = archive
        self._compressions = compressions

    async def compress(self, job: Job, queue: JobItems) -> None:
        """Order what is due, and settle what has come of it.

        Raises:
            NodeError: there is no such transfer syntax, or no such study.
            AskLaterError: the compressor has not done it all.
        """
        keyword = job.request.detail
        if keyword not in LOSSLESS_TARGETS:
            known = ", ".join(LOSSLESS_TARGETS)
            raise NodeError(f"{keyword!r} is no lossless transfer syntax; those are {known}")
        if job.progress.total is None:
            await plan_from_archive(job, queue, self._archive)
        target, rule = BY_KEYWORD[keyword].uid, f"job {job.job_id}"
        while due := await queue.items(job.job_id, (ItemState.DUE,), _AT_ONCE):
            uids = [item.sop_instance_uid for item in due]
            known_here = await self._archive.index.get(uids)
            records = await self._compressions.of(uids)
            outcomes: list[ItemOutcome] = []
            to_order: list[StoredInstance] = []
            for item in due:
                stored = known_here.get(item.sop_instance_uid)
                record = records.get(item.sop_instance_uid)
                if stored is None or stored.transfer_syntax_uid == target:
                    outcomes.append(_already(item, stored, record, rule))
                elif record is None or record.rule != rule or record.created_at < job.since:
                    to_order.append(stored)
                elif record.state in _ITEM_STATES:
                    outcomes.append(_outcome(record))
            if to_order:
                await self._compressions.order(to_order, target, rule)
            await queue.settle(job, outcomes)
            if len(outcomes) < len(due):
                raise AskLaterError(_LOOK_SECONDS)


def _already(
    item: JobItem, stored: StoredInstance | None, record: CompressionSummary | None, rule: str
) -> ItemOutcome:
    """It is in that transfer syntax: by this job, or it was; or it was deleted since."""
    if stored is not None and record is not None and record.rule == rule:
        return ItemOutcome(
            sop_instance_uid=item.sop_instance_uid, state=ItemState.DONE, size=stored.size
        )
    return ItemOutcome(sop_instance_uid=item.sop_instance_uid, state=ItemState.SKIPPED)


def _outcome(record: CompressionSummary) -> ItemOutcome:
    is_done = record.state is CompressionState.DONE
    return ItemOutcome(
        sop_instance_uid=record.sop_instance_uid,
        state=_ITEM_STATES[record.state],
        fault=record.last_fault,
        size=record.size if is_done else 0,
    )
