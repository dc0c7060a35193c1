"""Export of objects: read from the archive, converted where asked, written to a target."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, aclosing, nullcontext
from pathlib import PurePosixPath
from tempfile import SpooledTemporaryFile
from typing import IO, Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError, write_file_meta
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, UNCOMPRESSED
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.export.targets import ExportError, ExportTarget, check_room
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
class _Converted:
    """An object as it is exported: the size of its file, or about so, and what it is made of."""

    sop_instance_uid: str
    size: int
    pieces: AsyncGenerator[Buffer, None]


def by_uids(stored: StoredInstance, sop_instance_uid: str) -> PurePosixPath:
    """Folders of studies and series, files of instances, called by their UIDs."""
    return PurePosixPath(
        stored.study_instance_uid, stored.series_instance_uid, f"{sop_instance_uid}.dcm"
    )


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
        progress: Callable[[int], None] = lambda instances: None,
    ) -> Exported:
        """Write all of *selection*, and have it recorded before it is to be seen.

        Args:
            place: where *target* is, as a URI; for the audit trail.
            progress: called after each object with the instances so far.

        Raises:
            NotPermittedError: *requester* may not.
            ExportError: an object cannot be exported, or there is no room.
            OSError: *target* cannot be written.
        """
        requester.check_export()
        options = options or ExportOptions()
        await trio.to_thread.run_sync(
            check_room, target.folder, selection.size, selection.instances
        )
        done = Exported()
        studies: list[ExportedStudy] = []
        for study in selection.studies:
            sop_classes: Counter[str] = Counter()
            for stored in study:
                try:
                    await self._export(stored, target, options, done)
                except (StorageError, KeyError, DataSetError, PixelError) as error:
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
        done: Exported,
    ) -> None:
        made = await self._converted(stored, options)
        name = by_uids(stored, made.sop_instance_uid)
        if not options.leaves_out:
            done.size += await _write(made.pieces, lambda: target.begin(name, made.size))
        else:
            # What turns out to be unreadable further on leaves no beginning in the target.
            with SpooledTemporaryFile(_HELD) as spooled:
                size = await _write(made.pieces, lambda: nullcontext(spooled))
                spooled.seek(0)
                done.size += await trio.to_thread.run_sync(_copy, spooled, target, name, size)
        done.instances += 1

    async def _converted(self, stored: StoredInstance, options: ExportOptions) -> _Converted:
        item = stored_object(stored, self._archive.open)
        source, wanted = stored.transfer_syntax_uid, options.transfer_syntax_uid or None
        if wanted is None or wanted == source:
            return _Converted(stored.sop_instance_uid, stored.size, _whole_file(item))
        if source not in UNCOMPRESSED or wanted not in UNCOMPRESSED:
            assert self._pool is not None
            try:
                made = await transcode(item, wanted, self._pool, options.transcoding)
                return _Converted(
                    made.sop_instance_uid, await made.estimate(), _with_meta(made, made.parts())
                )
            except NoPixelDataError:
                if source in UNCOMPRESSED:
                    wanted = EXPLICIT_VR_LITTLE_ENDIAN
                else:
                    wanted = source  # whatever else is encapsulated in it
        if wanted == source:
            return _Converted(stored.sop_instance_uid, stored.size, _whole_file(item))
        return _Converted(
            stored.sop_instance_uid, stored.size, _with_meta(item, item.parts(wanted), wanted)
        )


async def _whole_file(item: DicomObject) -> AsyncGenerator[Buffer, None]:
    """The file of the archive, byte for byte."""
    async with await item.open() as reader:
        for start in range(0, reader.size, PART_BYTES):
            piece = await reader.read(start, PART_BYTES)
            if len(piece) != min(PART_BYTES, reader.size - start):
                raise DataSetError("the object is shorter than it was", start)
            yield piece


async def _with_meta(
    item: SendableObject, parts: AsyncGenerator[tuple[Buffer, bool], None], syntax: str = ""
) -> AsyncGenerator[Buffer, None]:
    """A Part 10 file of a data set that is made now."""
    yield write_file_meta(
        item.sop_class_uid, item.sop_instance_uid, syntax or item.transfer_syntax_uid
    )
    async with aclosing(parts):
        async for part, _ in parts:
            yield part


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
