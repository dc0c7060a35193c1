"""Export of objects: read from the archive, converted where asked, written to a target."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import replace
from pathlib import PurePosixPath
from tempfile import SpooledTemporaryFile
from typing import IO, Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError, write_file_meta
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, UNCOMPRESSED
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deidentification.service import (
    Deidentification,
    UnknownProjectError,
)
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.export.targets import (
    ExportError,
    ExportTarget,
    check_room,
    write_whole,
)
from isocenter.services.archive.export.values import (
    Exported,
    ExportedStudy,
    ExportOptions,
    ExportRecorder,
    record_no_export,
)
from isocenter.services.archive.index.query import Query
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.selection import Selection, select
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.file_set.directory import FileSetError
from isocenter.services.dicom.file_set.directory_writer import encode_directory
from isocenter.services.dicom.file_set.file_ids import DICOMDIR, FileId, numbered, path_of
from isocenter.services.dicom.file_set.file_set_builder import DirectoryBuilder
from isocenter.services.dicom.file_set.record_building import RecordScan
from isocenter.services.dicom.objects import PART_BYTES, DicomObject
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.frames import NoPixelDataError
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.transcoder import SendableObject
from isocenter.services.dicom.pixels.transcoding import transcode
from isocenter.services.errors import StorageError

log = logging.getLogger("isocenter.storage")

#: Bytes of an object that are held in memory until it is known to be whole.
_HELD: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Converted:
    """An object as it is exported.

    Attributes:
        size: of its file, or about so.
        data_set_offset: where its data set starts.
        pieces: of its file.
        study_instance_uid, series_instance_uid: as it says; empty: as the index does.
    """

    sop_instance_uid: str
    transfer_syntax_uid: str
    size: int
    data_set_offset: int
    pieces: AsyncGenerator[Buffer, None]
    study_instance_uid: str = ""
    series_instance_uid: str = ""


class FileNames:
    """Names of files: folders of studies and series, files of instances, by their UIDs."""

    def next(self, stored: StoredInstance, made: Converted) -> PurePosixPath:
        """The name of the next file."""
        return PurePosixPath(
            made.study_instance_uid or stored.study_instance_uid,
            made.series_instance_uid or stored.series_instance_uid,
            f"{made.sop_instance_uid}.dcm",
        )

    def watched(self, made: Converted) -> AsyncGenerator[Buffer, None]:
        """The file, looked at on its way."""
        return made.pieces

    def end(self) -> None:
        """The file is whole."""


class FileIdNames(FileNames):
    """File IDs by number, and records in a directory."""

    def __init__(self, directory: DirectoryBuilder) -> None:
        self._directory = directory
        self._numbers: dict[tuple[str, ...], FileId] = {}
        self._count: Counter[FileId] = Counter()
        self._file_id: FileId = ()
        self._scan: RecordScan | None = None

    def next(self, stored: StoredInstance, made: Converted) -> PurePosixPath:
        study = (stored.study_instance_uid,)
        folder = self._folder(("DICOM",), study, "ST")
        folder = self._folder(folder, (*study, stored.series_instance_uid), "SE")
        self._file_id = self._new(folder, "IM")
        return path_of(self._file_id)

    def _folder(self, above: FileId, of: tuple[str, ...], letters: str) -> FileId:
        if of not in self._numbers:
            self._numbers[of] = self._new(above, letters)
        return self._numbers[of]

    def _new(self, folder: FileId, letters: str) -> FileId:
        self._count[folder] += 1
        return (*folder, numbered(letters, self._count[folder]))

    async def watched(self, made: Converted) -> AsyncGenerator[Buffer, None]:
        self._scan = scan = RecordScan(made.transfer_syntax_uid)
        ahead = made.data_set_offset
        async with aclosing(made.pieces) as pieces:
            async for piece in pieces:
                skipped = min(ahead, len(piece))
                ahead -= skipped
                if skipped < len(piece):
                    scan.feed(memoryview(piece)[skipped:])
                yield piece
        scan.finish()

    def end(self) -> None:
        assert self._scan is not None
        self._directory.add(self._scan, self._file_id)


class Exporter:
    """Exports objects of an archive.

    Args:
        pool: decodes and encodes, where that is asked for.
        record: has what is exported recorded in the audit trail.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        pool: CodecPool | None = None,
        record: ExportRecorder = record_no_export,
    ) -> None:
        self._archive = archive
        self._pool = pool
        self._record = record

    @property
    def archive(self) -> Archive:
        """What it exports objects of."""
        return self._archive

    @property
    def record(self) -> ExportRecorder:
        """Has what is exported recorded in the audit trail."""
        return self._record

    async def select(self, query: Query) -> Selection:
        """What is below all matches of *query*."""
        return await select(self._archive.index, query)

    async def export(
        self,
        selection: Selection,
        target: ExportTarget,
        requester: Requester,
        *,
        place: str,
        options: ExportOptions | None = None,
        directory: DirectoryBuilder | None = None,
        progress: Callable[[int], None] = lambda instances: None,
    ) -> Exported:
        """Write all of *selection*, and have it recorded before it is to be seen.

        Args:
            place: where *target* is, as a URI; for the audit trail.
            directory: gets a record for each object; files then have names that conform to
                PS3.10 8.5, and a DICOMDIR is written.
            progress: called after each object with the instances so far.

        Raises:
            NotPermittedError: *requester* may not.
            ExportError: an object cannot be exported, or there is no room.
            StudyLockedError: somebody changes a study.
            OSError: *target* cannot be written.
        """
        requester.check_export()
        options = options or ExportOptions()
        if options.project:
            self._deidentification.project(options.project)
        await trio.to_thread.run_sync(
            check_room, target.folder, selection.size, selection.instances
        )
        studies_read = {study[0].study_instance_uid for study in selection.studies}
        async with self._archive.locks.reading(studies_read, f"export of {requester.name}"):
            return await self._export_all(
                selection, target, requester, place, options, directory, progress
            )

    async def _export_all(
        self,
        selection: Selection,
        target: ExportTarget,
        requester: Requester,
        place: str,
        options: ExportOptions,
        directory: DirectoryBuilder | None,
        progress: Callable[[int], None],
    ) -> Exported:
        done = Exported()
        names = FileNames() if directory is None else FileIdNames(directory)
        studies: list[ExportedStudy] = []
        for study in selection.studies:
            sop_classes: Counter[str] = Counter()
            for stored in study:
                try:
                    await self._export(stored, target, options, names, done)
                except (
                    StorageError, KeyError, DataSetError, PixelError, FileSetError
                ) as error:  # fmt: skip
                    self._leave_out(stored, error, options, done)
                else:
                    sop_classes[stored.sop_class_uid] += 1
                progress(done.instances + done.left_out.count)
            if sop_classes:
                studies.append(
                    ExportedStudy(
                        study_instance_uid=study[0].study_instance_uid,
                        sop_classes=sop_classes,
                        actor=requester.name,
                        place=place,
                    )
                )
        if not done.instances:
            raise ExportError("nothing can be exported")
        if directory is not None:
            whole = await trio.to_thread.run_sync(encode_directory, directory.directory)
            name = PurePosixPath(DICOMDIR)
            await trio.to_thread.run_sync(write_whole, target, name, whole)
        await self._record(studies)
        await trio.to_thread.run_sync(target.commit)
        log.info("%d instances were exported", done.instances)
        return done

    @staticmethod
    def _leave_out(
        stored: StoredInstance, error: Exception, options: ExportOptions, done: Exported
    ) -> None:
        why = "its file is gone, or another" if isinstance(error, KeyError) else str(error)
        if not options.leaves_out:
            cure = (
                "leave out --transfer-syntax to export it as it is"
                if options.transfer_syntax_uid and isinstance(error, PixelError)
                else "isocenter db verify tells more"
            )
            raise ExportError(
                f"instance {stored.sop_instance_uid} cannot be exported: {why}; {cure}, and "
                "--skip-faults exports the others"
            ) from error
        done.left_out.add(stored.sop_instance_uid, why)

    async def _export(
        self,
        stored: StoredInstance,
        target: ExportTarget,
        options: ExportOptions,
        names: FileNames,
        done: Exported,
    ) -> None:
        made = await self.converted(stored, options)
        if made.transfer_syntax_uid != stored.transfer_syntax_uid:
            # What it becomes may be many times longer than what was counted before.
            await trio.to_thread.run_sync(check_room, target.folder, made.size, 1)
        name = names.next(stored, made)
        if not options.leaves_out:
            pieces = names.watched(made)
            done.size += await _write(pieces, lambda: target.begin(name, made.size))
            names.end()
        else:
            # What turns out to be unreadable further on leaves no beginning in the target.
            with SpooledTemporaryFile(_HELD) as spooled:
                size = await _write(names.watched(made), lambda: nullcontext(spooled))
                names.end()
                spooled.seek(0)
                done.size += await trio.to_thread.run_sync(_copy, spooled, target, name, size)
        done.instances += 1

    async def converted(self, stored: StoredInstance, options: ExportOptions) -> Converted:
        """An object as it is exported: its pieces are read when they are asked for.

        Raises:
            PixelError: it cannot be converted.
        """
        item = stored_object(stored, self._archive.open)
        if not options.project:
            return await self._converted(stored, item, options)
        deidentification = self._deidentification
        project = deidentification.project(options.project)
        item = await deidentification.deidentified(item, project)
        made = await self._converted(stored, item, options)
        return replace(
            made,
            study_instance_uid=await deidentification.uid_of(stored.study_instance_uid, project),
            series_instance_uid=await deidentification.uid_of(stored.series_instance_uid, project),
        )

    @property
    def _deidentification(self) -> Deidentification:
        """What de-identifies.

        Raises:
            UnknownProjectError: nobody does.
        """
        found = self._archive.deidentification
        if found is None:
            raise UnknownProjectError("this archive de-identifies nothing")
        return found

    async def _converted(
        self, stored: StoredInstance, item: DicomObject, options: ExportOptions
    ) -> Converted:
        source = item.transfer_syntax_uid
        wanted = options.transfer_syntax_uid or source
        if options.allowed and wanted not in options.allowed:
            wanted = EXPLICIT_VR_LITTLE_ENDIAN
        if wanted != source and (source not in UNCOMPRESSED or wanted not in UNCOMPRESSED):
            assert self._pool is not None
            try:
                made = await transcode(item, wanted, self._pool, options.transcoding)
                return _with_meta(made, made.parts(), wanted, await made.estimate())
            except NoPixelDataError:
                # Whatever else is encapsulated in it stays.
                wanted = EXPLICIT_VR_LITTLE_ENDIAN if source in UNCOMPRESSED else source
        if wanted == source and not options.project:
            offset = stored.data_set_offset
            uid = stored.sop_instance_uid
            return Converted(uid, source, stored.size, offset, _whole_file(item))
        return _with_meta(item, item.parts(wanted), wanted, stored.size)


async def _whole_file(item: DicomObject) -> AsyncGenerator[Buffer, None]:
    """The file of the archive, byte for byte."""
    async with await item.open() as reader:
        for start in range(0, reader.size, PART_BYTES):
            piece = await reader.read(start, PART_BYTES)
            if len(piece) != min(PART_BYTES, reader.size - start):
                raise DataSetError("the object is shorter than it was", start)
            yield piece


def _with_meta(
    item: SendableObject,
    parts: AsyncGenerator[tuple[Buffer, bool], None],
    syntax: str,
    size: int,
) -> Converted:
    """A Part 10 file of a data set that is made now."""
    meta = write_file_meta(item.sop_class_uid, item.sop_instance_uid, syntax)

    async def pieces() -> AsyncGenerator[Buffer, None]:
        yield meta
        async with aclosing(parts):
            async for part, _ in parts:
                yield part

    return Converted(item.sop_instance_uid, syntax, size, len(meta), pieces())


async def _write(
    pieces: AsyncGenerator[Buffer, None], begin: Callable[[], AbstractContextManager[IO[bytes]]]
) -> int:
    """Write a file piece by piece, and begin it when the first is there; how long it is."""
    run = trio.to_thread.run_sync
    size = 0
    async with aclosing(pieces):
        first = await anext(pieces)
        opened = await run(begin)
        try:
            file = await run(opened.__enter__)
            size += await run(file.write, first)
            async for piece in pieces:
                size += await run(file.write, piece)
        finally:
            with trio.CancelScope(shield=True):
                await run(opened.__exit__, None, None, None)
    return size


def _copy(source: IO[bytes], target: ExportTarget, name: PurePosixPath, size: int) -> int:
    with target.begin(name, size) as file:
        shutil.copyfileobj(source, file, PART_BYTES)
    return size
