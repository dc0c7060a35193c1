"""Import job: takes in files of a folder, a ZIP or a file-set."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.file_import import (
    ArchiveFullError,
    ImportedFile,
    ImportOutcome,
    import_file,
)
from isocenter.services.archive.import_sources import ImportSource, ImportSourceError, open_source
from isocenter.services.concurrency import open_plain_nursery
from isocenter.services.workflow.jobs.job import ItemState, Job, JobItem, JobRequest
from isocenter.services.workflow.jobs.ports import ItemOutcome, JobItems

#: Files that are planned, and taken in, together.
_PLANNED_AT_ONCE: Final = 1_000
_AT_ONCE: Final = 64
#: On their way at once.
_CONCURRENCY: Final = 8

_STATES: Final = {
    ImportOutcome.IMPORTED: ItemState.DONE,
    ImportOutcome.ALREADY_THERE: ItemState.SKIPPED,
    ImportOutcome.NOT_DICOM: ItemState.SKIPPED,
    ImportOutcome.KEPT_OTHER: ItemState.FAILED,
    ImportOutcome.DAMAGED: ItemState.FAILED,
    ImportOutcome.FAILED: ItemState.FAILED,
}


class ImportRecorder(Protocol):
    """Has recorded what was taken in, at the latest at its end."""

    def add(self, file: ImportedFile) -> None: ...


class ImportWork:
    """Takes in files, as if they were received: rules and events hold.

    Args:
        folders: of the settings: from nowhere else anything is read.
        record: begins a record of what comes from a place, asked for by somebody, for the audit
            trail.
    """

    def __init__(
        self,
        archive: Archive,
        folders: Sequence[Path],
        record: Callable[[str, str], AbstractContextManager[ImportRecorder]],
    ) -> None:
        self._archive = archive
        self._folders = folders
        self._record = record

    async def take_in(self, job: Job, queue: JobItems) -> None:
        """Take in what is due; what became of each file stands in the queue.

        Raises:
            ImportSourceError: nothing can be taken in from there.
            OSError: the archive is full.
            StorageError: the archive cannot be written.
        """
        place = job.request.detail
        source = await trio.to_thread.run_sync(open_source, self._folders, place)
        try:
            if job.progress.total is None:
                await _plan(job, queue, source)
            while due := await queue.items(job.job_id, (ItemState.DUE,), _AT_ONCE):
                await self._take_some(job, queue, source, [item.sop_instance_uid for item in due])
        finally:
            source.close()

    async def _take_some(
        self, job: Job, queue: JobItems, source: ImportSource, names: Sequence[str]
    ) -> None:
        files: dict[str, ImportedFile] = {}
        full: list[ArchiveFullError] = []
        limiter = trio.CapacityLimiter(_CONCURRENCY)

        async def take(name: str) -> None:
            async with limiter:
                try:
                    files[name] = await import_file(self._archive, name, partial(source.open, name))
                except ArchiveFullError as error:
                    full.append(error)

        async with open_plain_nursery() as nursery:
            for name in names:
                nursery.start_soon(take, name)
        if any(file.record is not None for file in files.values()):
            await trio.to_thread.run_sync(self._record_all, job.request, files.values())
        await queue.settle(job, [_outcome(name, file) for name, file in files.items()])
        if full:
            raise OSError(errno.ENOSPC, str(full[0]))

    def _record_all(self, request: JobRequest, files: Iterable[ImportedFile]) -> None:
        with self._record(request.detail, request.requested_by) as record:
            for file in files:
                record.add(file)


async def _plan(job: Job, queue: JobItems, source: ImportSource) -> None:
    names = source.names()
    found = False
    while some := await trio.to_thread.run_sync(_next, names):
        items = [
            JobItem(
                study_instance_uid="", series_instance_uid="", sop_instance_uid=name,
                sop_class_uid="",
            )
            for name in some
        ]  # fmt: skip
        await queue.plan(job, items, is_last=False)
        found = True
    if not found:
        raise ImportSourceError("there is no file")
    await queue.plan(job, [], is_last=True)


def _next(names: Iterator[str]) -> list[str]:
    found: Iterable[str] = islice(names, _PLANNED_AT_ONCE)
    return list(found)


def _outcome(name: str, file: ImportedFile) -> ItemOutcome:
    return ItemOutcome(
        sop_instance_uid=name, state=_STATES[file.outcome], fault=file.reason, size=file.size
    )
