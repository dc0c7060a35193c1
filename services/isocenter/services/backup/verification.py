"""Verification of a backup: every byte, and that nothing is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from pathlib import Path

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.backup.creation import Progress
from isocenter.services.backup.generation import Generation, contents_of
from isocenter.services.backup.manifest import Entry, Known, read_list
from isocenter.services.backup.parallel import Blocks, each
from isocenter.services.backup.ports import IndexFile
from isocenter.services.backup.repository import BackupFolder
from isocenter.services.errors import StorageError, text_of


@dataclass(slots=True)
class BackupReport:
    """What was found.

    Attributes:
        contents, size: that were read.
        faults: what a restore would miss or get wrong.
        known_faults: what the archive itself had lost when it was backed up.
    """

    generations: int = 0
    contents: int = 0
    size: int = 0
    faults: CountedFindings = field(default_factory=CountedFindings)
    known_faults: int = 0


async def verify_backup(
    folder: BackupFolder,
    generations: Sequence[Generation],
    index: Callable[[Path], IndexFile],
    *,
    progress: Progress = lambda what, done, total: None,
) -> BackupReport:
    """Read everything that *generations* list; the caller holds the lock, shared.

    Raises:
        BackupError: the backup of a later program.
    """
    report = BackupReport()
    # Of several generations most contents are the same: each is read once.
    bad = None if len(generations) == 1 else await _read_all(folder, report, progress)
    for generation in generations:
        report.generations += 1
        faults = await trio.to_thread.run_sync(generation.check_own_files)
        for fault in faults:
            report.faults.add(fault)
        if faults:
            continue  # what the lists say is not to be believed
        manifest = generation.manifest()
        report.known_faults += manifest.faults_found
        copy = index(generation.index)
        progress("checking the index", 0, None)
        for fault in await trio.to_thread.run_sync(copy.faults):
            report.faults.add(f"{generation.name}/index.db", fault)
        if manifest.faults_found == len(manifest.faults):
            lost = {name for name, _ in manifest.faults}
            try:
                await _compare(generation, copy, lost, report)
            except StorageError as error:
                report.faults.add(f"{generation.name}/index.db", str(error))
        total = manifest.instances + manifest.trashed + manifest.files
        await _read(folder, generation, bad, total, report, progress)
    return report


async def _read_all(
    folder: BackupFolder, report: BackupReport, progress: Progress
) -> dict[str, str]:
    """Read every content there is; what is wrong with those that are damaged."""
    bad: dict[str, str] = {}
    async for block in Blocks(folder.contents()):
        for path, (size, fault) in zip(block, await each(_look, block), strict=True):
            report.contents += 1
            report.size += size
            if fault:
                bad[path.name] = fault
        progress("reading", report.contents, None)
    return bad


async def _compare(
    generation: Generation, index: IndexFile, lost: set[str], report: BackupReport
) -> None:
    """Each row of the index has an entry, unless its file was lost before."""
    known = Known([read_list(generation.objects)])

    def missing() -> Iterator[str]:
        for row in index.files():
            if known.of(row.path, row.mark) is None and row.sop_instance_uid not in lost:
                yield row.sop_instance_uid

    async for uids in Blocks(missing()):
        for uid in uids:
            report.faults.add(f"{generation.name}: {uid}", "the index names it, the list does not")


async def _read(
    folder: BackupFolder,
    generation: Generation,
    bad: dict[str, str] | None,
    total: int,
    report: BackupReport,
    progress: Progress,
) -> None:
    """*bad*: None: nothing was read yet."""

    def fault_of(entry: Entry) -> str:
        path = folder.path_of(entry.sha256)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return "is gone"
        except OSError as error:
            return f"cannot be read: {text_of(error)}"
        if size != entry.size:
            return f"{size} bytes instead of {entry.size}"
        if bad is not None:
            return bad.get(entry.sha256, "")
        report.contents += 1
        report.size += size
        return _look(path)[1]

    done = 0
    async for block in Blocks(contents_of(generation.entries())):
        for entry, fault in zip(block, await each(fault_of, block), strict=True):
            if fault:
                report.faults.add(f"{generation.name}: {entry.path}", fault)
        done += len(block)
        progress("verifying", done, total)


def _look(path: Path) -> tuple[int, str]:
    """Size of a content, and what is wrong with it."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return file.tell(), "" if digest == path.name else "was changed"
    except OSError as error:
        return 0, f"cannot be read: {text_of(error)}"
