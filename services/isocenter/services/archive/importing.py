"""Existing files into the archive, with their data sets byte for byte as they are.

Part 10 files, and data sets without File Meta Information, under whatever name.  What
a file is, its content says; what its objects are called, the data set says: the File
Meta Information of real files is sometimes another object's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Final, assert_never

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    ElementScanner,
    Encoding,
    encoding_of,
    guess_encoding,
    read_file_meta,
)
from isocenter.engine.limits import Limits
from isocenter.engine.uid import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.committer import StoreOutcome
from isocenter.services.archive.findings import Findings
from isocenter.services.archive.ingest import (
    DUPLICATE_SOP_INSTANCE,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    StoreError,
)
from isocenter.services.ports import InstanceRecord

#: Bytes that are read at once; each piece costs a thread hop.
PIECE: Final = 1 << 20
#: What is read first, to learn what a file is: the File Meta Information, and the data set up
#: to the SOP Instance UID, have less than a tenth of it in real files.  Most CT and MR
#: images need no second piece.
HEAD: Final = 640 << 10
#: Files on their way at once: enough for group commit to pay, few enough for one disk.
CONCURRENCY: Final = 8
#: Paths that one look at the folders yields.
PATHS_PER_BLOCK: Final = 256

#: Media Storage Directory Storage: a DICOMDIR names objects and is none (PS3.10 8.6).
MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"

_SYNTAXES: Final = {
    IMPLICIT_LITTLE: IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_LITTLE: EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_BIG: EXPLICIT_VR_BIG_ENDIAN,
}
_PREFIX: Final = slice(128, 132)


class ImportOutcome(Enum):
    """What became of one file."""

    IMPORTED = "imported"
    ALREADY_THERE = "already there"
    #: The archive has another object of that SOP Instance UID and kept it.
    KEPT_OTHER = "kept other"
    NOT_DICOM = "not DICOM"
    #: It is DICOM, or says so, and cannot be taken.
    DAMAGED = "damaged"
    #: It could not be read or kept; the file itself may be good.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """One file, as handed to *progress*; ``size`` counts the bytes of its data set, ``record`` is
    what the index has of it when it was imported."""

    path: str
    outcome: ImportOutcome
    reason: str = ""
    size: int = 0
    record: InstanceRecord | None = field(default=None, repr=False)


@dataclass(slots=True)
class ImportReport:
    """The sum of an import.

    Attributes:
        size: bytes of the data sets imported.
        stopped: why it ended early: the archive is full.  Empty when it did not.
    """

    imported: int = 0
    already_there: int = 0
    size: int = 0
    kept_other: Findings = field(default_factory=Findings)
    not_dicom: Findings = field(default_factory=Findings)
    damaged: Findings = field(default_factory=Findings)
    failed: Findings = field(default_factory=Findings)
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
                tell(await _import_file(archive, path, source_ae_title))
            except _ArchiveFull as full:
                tell(ImportedFile(path, ImportOutcome.FAILED, str(full)))
                report.stopped = str(full)
                nursery.cancel_scope.cancel()

    with closing(_files([os.fspath(path) for path in paths])) as found:
        async with trio.open_nursery() as nursery:
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


_Found = tuple[str, str | None]


def _files(paths: Sequence[str]) -> Generator[list[_Found], None, None]:
    """Regular files at and below *paths*, in blocks, and why something cannot be looked at."""
    block: list[_Found] = []
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
            block.append((path, error.strerror or "cannot be read"))
    if block:
        yield block


class _ArchiveFull(Exception):
    """There is no sense in trying the next file."""


class _NotDicom(Exception):
    """The file is something else."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """What a file is, told from its head."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set_offset: int


async def _import_file(archive: Archive, path: str, source_ae_title: str) -> ImportedFile:
    try:
        descriptor, head = await trio.to_thread.run_sync(_open, path)
    except OSError as error:
        return ImportedFile(path, ImportOutcome.FAILED, error.strerror or "cannot be opened")
    try:
        identity = _identify(head, archive.limits)
        async with await archive.receive(
            sop_class_uid=identity.sop_class_uid,
            sop_instance_uid=identity.sop_instance_uid,
            transfer_syntax_uid=identity.transfer_syntax_uid,
            source_ae_title=source_ae_title,
        ) as ingest:
            piece: Buffer = memoryview(head)[identity.data_set_offset :]
            await ingest.write([piece])
            at_end = len(head) < HEAD
            while not at_end:
                piece = await trio.to_thread.run_sync(os.read, descriptor, PIECE)
                at_end = not piece
                await ingest.write([piece])
            result = await ingest.commit()
        match result.outcome:
            case StoreOutcome.STORED | StoreOutcome.REPLACED:
                return ImportedFile(
                    path, ImportOutcome.IMPORTED, size=ingest.size, record=ingest.record
                )
            case StoreOutcome.ALREADY_STORED:
                return ImportedFile(path, ImportOutcome.ALREADY_THERE)
            case StoreOutcome.KEPT_OTHER:
                reason = "the archive has another object of this SOP Instance UID"
                return ImportedFile(path, ImportOutcome.KEPT_OTHER, reason)
            case _:
                assert_never(result.outcome)
    except _NotDicom as error:
        return ImportedFile(path, ImportOutcome.NOT_DICOM, str(error))
    except DataSetError as error:
        return ImportedFile(path, ImportOutcome.DAMAGED, str(error))
    except StoreError as error:
        return _refused(path, error)
    except OSError as error:
        return ImportedFile(path, ImportOutcome.FAILED, error.strerror or "cannot be read")
    finally:
        os.close(descriptor)


def _refused(path: str, error: StoreError) -> ImportedFile:
    reason = error.comment or str(error)
    match error.status:
        case status if status == OUT_OF_RESOURCES:
            raise _ArchiveFull(reason) from error
        case status if status == DUPLICATE_SOP_INSTANCE:
            return ImportedFile(path, ImportOutcome.ALREADY_THERE)
        case status if status == PROCESSING_FAILURE:
            return ImportedFile(path, ImportOutcome.FAILED, reason)
        case _:
            return ImportedFile(path, ImportOutcome.DAMAGED, reason)


def _open(path: str) -> tuple[int, bytes]:
    """A descriptor and the first bytes, all in one thread hop."""
    # A FIFO that came into the place of a file would otherwise wait for somebody to write.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file")
        head = b""
        while len(head) < HEAD and (piece := os.read(descriptor, HEAD - len(head))):
            head += piece
        return descriptor, head
    except BaseException:
        os.close(descriptor)
        raise


def _identify(head: bytes, limits: Limits) -> _Identity:
    """What the file says that it is.

    Raises:
        _NotDicom: it is something else.
        DataSetError: it is DICOM, and damaged.
    """
    if head[_PREFIX] == b"DICM" or head[:4] in (b"\x02\0\0\0", b"\x02\0\x01\0"):
        meta = read_file_meta(head)
        if meta.media_storage_sop_class_uid == MEDIA_STORAGE_DIRECTORY:
            raise _NotDicom("a DICOMDIR names objects and is none")
        syntax, offset = meta.transfer_syntax_uid, meta.data_set_offset
        encoding: Encoding | None = encoding_of(syntax)
        if not syntax:
            encoding = guess_encoding(head[offset : offset + PIECE])
            if encoding is None:
                raise DataSetError("neither Transfer Syntax UID nor a data set", offset)
            syntax = _SYNTAXES[encoding]
        assert encoding is not None
        sop_class_uid, sop_instance_uid = _uids(memoryview(head)[offset:], encoding, limits)
        if not sop_instance_uid:
            raise DataSetError("the data set has no SOP Instance UID", offset)
        return _Identity(sop_class_uid, sop_instance_uid, syntax, offset)
    encoding = guess_encoding(head)
    if encoding is None:
        raise _NotDicom("neither a Part 10 file nor a data set")
    try:
        sop_class_uid, sop_instance_uid = _uids(head, encoding, limits)
    except DataSetError as error:
        raise _NotDicom("starts like a data set and is none") from error
    if not sop_instance_uid:
        raise _NotDicom("may be a data set, and has no SOP Instance UID")
    return _Identity(sop_class_uid, sop_instance_uid, _SYNTAXES[encoding], 0)


def _uids(data: Buffer, encoding: Encoding, limits: Limits) -> tuple[str, str]:
    scanner = ElementScanner(encoding, frozenset({SOP_CLASS_UID, SOP_INSTANCE_UID}), limits)
    try:
        scanner.feed(data)
    except DataSetError:
        # A fault further on is told with its place when the object is received.
        if SOP_INSTANCE_UID not in scanner.values:
            raise
    text = partial(_text, scanner)
    return text(SOP_CLASS_UID), text(SOP_INSTANCE_UID)


def _text(scanner: ElementScanner, tag: int) -> str:
    value = scanner.values.get(tag, b"")
    return value.rstrip(b"\0 ").decode("ascii", "replace") if isinstance(value, bytes) else ""
