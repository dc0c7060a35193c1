"""Import of existing files, their data sets kept byte for byte.

Part 10 files, and data sets without File Meta Information, under whatever name.  What
a file is, its content says; what its objects are called, the data set says: the File
Meta Information of real files is sometimes another object's.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import field, replace
from enum import Enum
from functools import partial
from typing import Final, assert_never

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.archive.object_scan import (
    OtherPatientError,
    OverLimitError,
    StoreError,
)
from isocenter.services.archive.ports import InstanceRecord
from isocenter.services.archive.store_answers import StoreOutcome
from isocenter.services.concurrency import open_plain_nursery
from isocenter.services.dicom.file_end import end_of_data_set, left_out
from isocenter.services.dicom.file_recognition import (
    HEAD_BYTES,
    CompressionWatch,
    DamagedFileError,
    FileIdentity,
    NotDicomFileError,
    identify,
)
from isocenter.services.errors import text_of

log = logging.getLogger("isocenter.storage")

#: Bytes that are read at once; each piece costs a thread hop.
PIECE: Final = 1 << 20
#: Files on their way at once: enough for group commit to pay, few enough for one disk.
CONCURRENCY: Final = 8
#: Paths that one look at the folders yields.
PATHS_PER_BLOCK: Final = 256


class ImportOutcome(Enum):
    """What became of one file."""

    IMPORTED = "imported"
    ALREADY_THERE = "already there"
    #: The archive has another object of that SOP Instance UID and kept it.
    KEPT_OTHER = "kept other"
    NOT_DICOM = "not DICOM"
    #: It is DICOM, or could be, and cannot be taken.
    DAMAGED = "damaged"
    #: It could not be read or kept; the file itself may be good.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """One file, as handed to *progress*; ``size`` counts the bytes of its data set, ``record`` is
    what the index has of it when it was imported, ``forgiven`` what the file has that it
    should not have (PS3.10 7.1), ``is_of_other_patient`` whether it names another patient than its
    study."""

    path: str
    outcome: ImportOutcome
    reason: str = ""
    size: int = 0
    record: InstanceRecord | None = field(default=None, repr=False)
    forgiven: tuple[str, ...] = ()
    is_of_other_patient: bool = False


@dataclass(slots=True)
class ImportReport:
    """The sum of an import.

    Attributes:
        size: bytes of the data sets imported.
        forgiven: those of them that are not as PS3.10 7.1 has files.
        other_patient: those that name another patient than their study came with.
        stopped: why it ended early: the archive is full.  Empty when it did not.
    """

    imported: int = 0
    already_there: int = 0
    size: int = 0
    kept_other: CountedFindings = field(default_factory=CountedFindings)
    not_dicom: CountedFindings = field(default_factory=CountedFindings)
    damaged: CountedFindings = field(default_factory=CountedFindings)
    failed: CountedFindings = field(default_factory=CountedFindings)
    forgiven: CountedFindings = field(default_factory=CountedFindings)
    other_patient: CountedFindings = field(default_factory=CountedFindings)
    stopped: str = ""

    @property
    def files(self) -> int:
        """Files looked at."""
        findings = (self.kept_other, self.not_dicom, self.damaged, self.failed)
        return self.imported + self.already_there + sum(one.count for one in findings)

    def add(self, file: ImportedFile) -> None:
        match file.outcome:
            case ImportOutcome.IMPORTED:
                self.imported += 1
                self.size += file.size
                if file.forgiven:
                    self.forgiven.add(file.path, "; ".join(file.forgiven))
                if file.is_of_other_patient:
                    self.other_patient.add(file.path)
            case ImportOutcome.ALREADY_THERE:
                self.already_there += 1
            case ImportOutcome.KEPT_OTHER:
                self.kept_other.add(file.path, file.reason)
            case ImportOutcome.NOT_DICOM:
                self.not_dicom.add(file.path, file.reason)
            case ImportOutcome.DAMAGED:
                self.damaged.add(file.path, file.reason)
            case ImportOutcome.FAILED:
                self.failed.add(file.path, file.reason)
            case _:
                assert_never(file.outcome)


async def import_directory(
    archive: Archive,
    paths: Sequence[str | os.PathLike[str]],
    *,
    progress: Callable[[ImportedFile], None] = lambda file: None,
    source_ae_title: str = "",
) -> ImportReport:
    """Copy files, and all files below folders, into the archive.

    Symbolic links are followed where they are given, not where they are found.  Doing it
    again imports only what is new.  A bad file never ends it; an archive that is full does,
    and the report says so.

    Args:
        progress: called after each file, in no particular order.
    """
    report = ImportReport()
    send, receive = trio.open_memory_channel[str](0)

    def tell(file: ImportedFile) -> None:
        report.add(file)
        progress(file)

    async def work(todo: trio.MemoryReceiveChannel[str]) -> None:
        async for path in todo:
            try:
                tell(await import_file(archive, path, partial(open_file, path), source_ae_title))
            except ArchiveFullError as full:
                tell(ImportedFile(path, ImportOutcome.FAILED, str(full)))
                report.stopped = str(full)
                nursery.cancel_scope.cancel()

    with closing(files_below([os.fspath(path) for path in paths])) as found:
        async with open_plain_nursery() as nursery:
            for _ in range(CONCURRENCY):
                nursery.start_soon(work, receive)
            async with send:
                while block := await trio.to_thread.run_sync(next, found, None):
                    for path, fault in block:
                        if fault is None:
                            await send.send(path)
                        else:
                            tell(ImportedFile(path, ImportOutcome.FAILED, fault))
    receive.close()
    return report


#: A path, and why it cannot be looked at.
FoundFile = tuple[str, str | None]


def files_below(paths: Sequence[str]) -> Generator[list[FoundFile], None, None]:
    """Regular files at and below *paths*, in blocks, and why something cannot be looked at."""
    block: list[FoundFile] = []
    # Backwards, since the last is looked at first.
    todo = [(path, True) for path in reversed(paths)]
    while todo:
        path, given = todo.pop()
        try:
            if stat.S_ISDIR((os.stat if given else os.lstat)(path).st_mode):
                below = []
                with os.scandir(path) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            below.append((entry.path, False))
                        elif entry.is_file(follow_symlinks=False):
                            block.append((entry.path, None))
                            if len(block) >= PATHS_PER_BLOCK:
                                yield block
                                block = []
                todo += sorted(below, reverse=True)
            elif given:
                block.append((path, None))
        except OSError as error:
            block.append((path, text_of(error)))
    if block:
        yield block


class ArchiveFullError(Exception):
    """There is no sense in trying the next file."""


async def import_file(
    archive: Archive, path: str, open_it: Callable[[], int], source_ae_title: str = ""
) -> ImportedFile:
    """Copy one file into the archive.

    Args:
        path: what it is called, for those who read of it.
        open_it: opens it, in a thread; a descriptor, which is closed here.

    Raises:
        ArchiveFullError: the archive has no room.
    """
    try:
        descriptor, head = await trio.to_thread.run_sync(_open, open_it)
    except OSError as error:
        return ImportedFile(path, ImportOutcome.FAILED, text_of(error))
    try:
        identity = identify(head, archive.limits)
        try:
            return await _take(archive, path, descriptor, head, identity, source_ae_title)
        except StoreError as error:
            if error.status != Status.CANNOT_UNDERSTAND:
                raise
            end, size = await trio.to_thread.run_sync(_end_of, descriptor, identity)
            if end is None:
                raise
        identity = replace(identity, forgiven=(*identity.forgiven, left_out(size - end)))
        await trio.to_thread.run_sync(os.lseek, descriptor, len(head), os.SEEK_SET)
        return await _take(archive, path, descriptor, head, identity, source_ae_title, end)
    except DamagedFileError as error:
        return ImportedFile(path, ImportOutcome.DAMAGED, str(error))
    except NotDicomFileError as error:
        return ImportedFile(path, ImportOutcome.NOT_DICOM, str(error))
    except StoreError as error:
        return _refused(path, error)
    except OSError as error:
        return ImportedFile(path, ImportOutcome.FAILED, text_of(error))
    finally:
        os.close(descriptor)


async def _take(
    archive: Archive,
    path: str,
    descriptor: int,
    head: bytes,
    identity: FileIdentity,
    source_ae_title: str,
    end: int | None = None,
) -> ImportedFile:
    """Take in the file whose first bytes are *head*, the others those of *descriptor*, up to
    byte *end*."""
    async with await archive.receive(
        sop_class_uid=identity.sop_class_uid,
        sop_instance_uid=identity.sop_instance_uid,
        transfer_syntax_uid=identity.transfer_syntax_uid,
        source_ae_title=source_ae_title,
    ) as ingest:
        watch = CompressionWatch(identity)
        piece: Buffer = memoryview(head)[identity.data_set_offset : end]
        watch.feed(piece)
        await ingest.write([piece])
        at_end = len(head) < HEAD_BYTES
        position = len(head)
        while not at_end:
            wanted = PIECE if end is None else max(min(PIECE, end - position), 0)
            piece = await trio.to_thread.run_sync(os.read, descriptor, wanted)
            position += len(piece)
            at_end = not piece
            watch.feed(piece)
            await ingest.write([piece])
        result = await ingest.commit()
    for what in (*identity.forgiven, *result.changes, *result.forgiven):
        log.info("instance %s: %s", ingest.sop_instance_uid, what)
    match result.outcome:
        case StoreOutcome.STORED | StoreOutcome.REPLACED | StoreOutcome.QUARANTINED:
            return ImportedFile(
                path,
                ImportOutcome.IMPORTED,
                size=ingest.size,
                record=ingest.record,
                forgiven=identity.forgiven,
                is_of_other_patient=result.is_of_other_patient,
            )
        case StoreOutcome.ALREADY_STORED:
            return ImportedFile(path, ImportOutcome.ALREADY_THERE)
        case StoreOutcome.KEPT_OTHER:
            reason = "the archive has another object of this SOP Instance UID"
            return ImportedFile(path, ImportOutcome.KEPT_OTHER, reason)
        case StoreOutcome.IGNORED:
            return ImportedFile(path, ImportOutcome.FAILED, "a rejection note has rejected it")
        case _:
            assert_never(result.outcome)


def _end_of(descriptor: int, identity: FileIdentity) -> tuple[int | None, int]:
    """Where its data set ends, if bytes follow that are no part of it; and the file."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        end = end_of_data_set(file, identity)
        return end, file.seek(0, os.SEEK_END)


def _refused(path: str, error: StoreError) -> ImportedFile:
    reason = error.comment or str(error)
    if isinstance(error, OverLimitError | OtherPatientError):
        return ImportedFile(path, ImportOutcome.FAILED, reason)
    match error.status:
        case status if status == Status.OUT_OF_RESOURCES:
            raise ArchiveFullError(reason) from error
        case status if status == Status.DUPLICATE_SOP_INSTANCE:
            return ImportedFile(path, ImportOutcome.ALREADY_THERE)
        case status if status in (Status.PROCESSING_FAILURE, Status.NOT_AUTHORIZED):
            return ImportedFile(path, ImportOutcome.FAILED, reason)
        case _:
            return ImportedFile(path, ImportOutcome.DAMAGED, reason)


def open_file(path: str) -> int:
    """A descriptor of a regular file.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    # A FIFO that came into the place of a file would otherwise wait for somebody to write.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open(open_it: Callable[[], int]) -> tuple[int, bytes]:
    """A descriptor and the first bytes, all in one thread hop."""
    descriptor = open_it()
    try:
        head = b""
        while len(head) < HEAD_BYTES and (piece := os.read(descriptor, HEAD_BYTES - len(head))):
            head += piece
        return descriptor, head
    except BaseException:
        os.close(descriptor)
        raise
