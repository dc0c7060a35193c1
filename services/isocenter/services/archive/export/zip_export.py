"""Export as a ZIP file that leaves while it is made, in flat memory."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError
from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.export.service import Converted, Exporter, FileIdNames, FileNames
from isocenter.services.archive.export.targets import ExportError
from isocenter.services.archive.export.values import ExportedStudy, ExportOptions
from isocenter.services.archive.export.zip_stream import ZipStream
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.selection import Selection
from isocenter.services.dicom.file_set.directory import FileSetError, new_directory
from isocenter.services.dicom.file_set.directory_writer import encode_directory
from isocenter.services.dicom.file_set.file_ids import DICOMDIR
from isocenter.services.dicom.file_set.file_set_builder import DirectoryBuilder
from isocenter.services.errors import StorageError

log = logging.getLogger("isocenter.storage")

#: What could not be read, by SOP Instance UID: it is in the ZIP file, for whoever unpacks it.
LEFT_OUT: Final = "LEFTOUT.TXT"
_LAST_SECONDS: Final = 3.0
_AS_STORED: Final = ExportOptions()


class ZipExport:
    """One export of a selection, as stored.

    Args:
        place: where it goes, as a URI, for the audit trail.
        access_point: the address of who asks.
        has_directory: files have File IDs for names, and a DICOMDIR names them (PS3.10 8).

    Raises on construction:
        NotPermittedError: *requester* may not.
        ExportError: there is nothing.
    """

    def __init__(
        self,
        exporter: Exporter,
        selection: Selection,
        requester: Requester,
        *,
        place: str,
        access_point: str = "",
        has_directory: bool = False,
    ) -> None:
        requester.check_export()
        if not selection.instances:
            raise ExportError("nothing can be exported")
        self._exporter = exporter
        self._selection = selection
        self._directory = DirectoryBuilder(new_directory()) if has_directory else None
        self._names = FileNames() if self._directory is None else FileIdNames(self._directory)
        self._zip: ZipStream
        self._left_out: list[str] = []
        #: Study → SOP class → objects of which the last byte was given out.
        self._sent: dict[str, Counter[str]] = {}
        self._all = [
            ExportedStudy(
                study_instance_uid=study[0].study_instance_uid,
                sop_classes=Counter(one.sop_class_uid for one in study),
                actor=requester.name,
                place=place,
                access_point=access_point,
            )
            for study in selection.studies
        ]

    async def begin(self) -> AsyncGenerator[Sequence[Buffer], None]:
        """Have it recorded, and give the ZIP file: its pieces, as they are made.

        Raises:
            IsocenterError: it cannot be recorded; nothing is to leave.
        """
        await self._exporter.record(self._all)
        return self._pieces()

    async def _pieces(self) -> AsyncGenerator[Sequence[Buffer], None]:
        is_whole = False
        self._zip = ZipStream()
        try:
            for study in self._selection.studies:
                for stored in study:
                    async with aclosing(self._file(stored)) as pieces:
                        async for some in pieces:
                            yield some
            async with aclosing(self._last_files()) as pieces:
                async for some in pieces:
                    yield some
            is_whole = True
        finally:
            if not is_whole:
                self._zip.abandon()
                await self._tell_cut()
        log.info(
            "%d instances were exported as a ZIP file, %d were left out",
            self._selection.instances - len(self._left_out),
            len(self._left_out),
        )

    async def _file(self, stored: StoredInstance) -> AsyncGenerator[Sequence[Buffer], None]:
        """One object.  What cannot be begun is left out; what fails later ends the ZIP file in the
        middle, so that nobody takes it for whole."""
        begun = await self._begun(stored)
        if begun is None:
            return
        made, first, pieces = begun
        async with aclosing(pieces):
            self._zip.begin(self._names.next(stored, made), made.size)
            self._zip.write(first)
            yield self._zip.take()
            try:
                async for piece in pieces:
                    self._zip.write(piece)
                    yield self._zip.take()
            except (KeyError, OSError, DataSetError) as error:
                raise StorageError(f"instance {stored.sop_instance_uid} was not read") from error
        self._zip.end()
        try:
            self._names.end()
        except FileSetError as error:
            self._leave_out(stored, f"it is here, and not in the DICOMDIR: {error}")
        sent = self._sent.setdefault(stored.study_instance_uid, Counter())
        sent[stored.sop_class_uid] += 1

    async def _begun(
        self, stored: StoredInstance
    ) -> tuple[Converted, Buffer, AsyncGenerator[Buffer, None]] | None:
        """An object, its first piece, and those that follow; None: it cannot be read."""
        try:
            made = await self._exporter.converted(stored, _AS_STORED)
            pieces = self._names.watched(made)
            try:
                return made, await anext(pieces), pieces
            except BaseException:
                await pieces.aclose()
                raise
        except KeyError:
            self._leave_out(stored, "its file is gone, or another")
        except (StorageError, DataSetError, FileSetError) as error:
            self._leave_out(stored, str(error))
        return None

    def _leave_out(self, stored: StoredInstance, why: str) -> None:
        log.warning("instance %s was left out of an export: %s", stored.sop_instance_uid, why)
        self._left_out.append(f"{stored.sop_instance_uid}: {why}")

    async def _last_files(self) -> AsyncGenerator[Sequence[Buffer], None]:
        if self._directory is not None:
            whole = await trio.to_thread.run_sync(encode_directory, self._directory.directory)
            self._whole_file(DICOMDIR, whole)
        if self._left_out:
            self._whole_file(LEFT_OUT, "\r\n".join([*self._left_out, ""]).encode())
        self._zip.close()
        yield self._zip.take()

    def _whole_file(self, name: str, data: bytes) -> None:
        self._zip.begin(PurePosixPath(name), len(data))
        self._zip.write(data)
        self._zip.end()

    async def _tell_cut(self) -> None:
        """The trail says that all of it leaves; now it says what has left."""
        log.warning(
            "an export as a ZIP file was cut after %d of %d instances",
            sum(each.total() for each in self._sent.values()),
            self._selection.instances,
        )
        told = [
            replace(one, sop_classes=self._sent.get(one.study_instance_uid, {}), is_whole=False)
            for one in self._all
        ]
        with trio.move_on_after(_LAST_SECONDS, shield=True):
            try:
                await self._exporter.record(told)
            except IsocenterError as error:
                log.error("that an export was cut is not recorded: %s", error)
