"""One pass of a relocation: objects, other files and tables, each verified.

While the archive is served, a pass copies objects and rows as they are; it may be repeated, and
copies only objects that are new.  The final pass is for an archive that nobody serves: it also
copies the other files, removes what has left since, and looks whether nothing is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.backup.manifest import BackupError
from isocenter.services.backup.relocation.file_copies import check_files, copy_files
from isocenter.services.backup.relocation.object_copies import ObjectCopier, ObjectReport, Stores
from isocenter.services.backup.relocation.ports import ArchiveTables, CopyRecord
from isocenter.services.backup.relocation.table_copies import (
    TableReport,
    check_tables,
    copy_tables,
)
from isocenter.services.backup.source import Folders
from isocenter.services.service_classes.print.ports import FilmFiles, PrintJobs

#: More than are ever kept.
_ALL_JOBS: Final = 1 << 31
#: What is done, how much of it, and of how much.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two archives."""

    stores: Stores
    print_jobs: PrintJobs
    films: FilmFiles
    tables: ArchiveTables
    folders: Folders


@dataclass(frozen=True, slots=True)
class RelocationReport:
    """What a pass has done.

    Attributes:
        files: other files; 0: they are left to the final pass.
    """

    objects: ObjectReport
    tables: TableReport
    files: int


async def check_target(target: Side, record: CopyRecord, *, is_begun: bool) -> None:
    """Whether an archive may be relocated there.

    Args:
        is_begun: a relocation of the same archive has begun to.

    Raises:
        BackupError: something else is there.
    """
    await check_tables(target.tables, record)
    if is_begun:
        return
    async with target.stores.objects.keys() as blocks:
        async for _ in blocks:
            raise BackupError(
                "the target has objects already, and no relocation into it has begun; nothing was "
                "changed. Name an empty folder, or a prefix of the bucket where nothing is"
            )


async def relocate(
    source: Side,
    target: Side,
    record: CopyRecord,
    *,
    is_final: bool,
    progress: Progress = lambda what, done, total: None,
) -> RelocationReport:
    """Do one pass.

    Args:
        is_final: nobody serves *source*, and nobody will before this returns.

    Raises:
        BackupError, StorageError, OSError: it was not finished; the next pass goes on.
    """
    await trio.to_thread.run_sync(check_files, source.folders, target.folders, record)
    copier = ObjectCopier(
        source.stores,
        target.stores,
        source.tables,
        record,
        await _manifests(source.stores),
        lambda done, total: progress("copying objects", done, total),
    )
    objects = await copier.run()
    tables = await copy_tables(
        source.tables,
        target.tables,
        record,
        lambda done, total: progress("copying tables", done, total),
    )
    files = 0
    if is_final:
        files = await trio.to_thread.run_sync(copy_files, source.folders, target.folders, record)
        files += await _copy_films(source, target)
        await copier.remove_superfluous()
        await _check_complete(target.tables, record, objects)
    return RelocationReport(objects, tables, files)


async def _copy_films(source: Side, target: Side) -> int:
    """Have the films of print jobs where the target has them; how many."""
    count = 0
    for job in await source.print_jobs.jobs(limit=_ALL_JOBS):
        for number in range(1, job.films + 1):
            film = await source.print_jobs.film(job.job_uid, number)
            if film is not None:
                await target.films.put(job.job_uid, number, film.png)
                count += 1
    return count


async def _manifests(source: Stores) -> dict[str, bytes]:
    async with source.trash.contents() as contents:
        return {content.deletion_id: content.manifest async for content in contents}


async def _check_complete(tables: ArchiveTables, record: CopyRecord, report: ObjectReport) -> None:
    """Raises:
    BackupError: rows name objects of which there is no copy, and the source had them.
    """
    unknown = 0
    async with tables.objects() as blocks:
        async for block in blocks:
            unknown += len(await trio.to_thread.run_sync(record.unknown, block))
    if unknown > report.missing.count:
        raise BackupError(
            "the archive was changed during the final pass; see that no server and no command "
            "works on it, and repeat this"
        )
