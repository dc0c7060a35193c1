"""Objects of an answer as Part 10 files in a folder, as they come."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from isocenter.engine.dataset import DataSetLimitError, encoding_of
from isocenter.services.archive.object_keys import can_be_named
from isocenter.services.dicom.file_recognition import (
    HEAD_BYTES,
    FileIdentity,
    NotDicomFileError,
    identify,
)
from isocenter.services.service_classes.storage.object_folder import (
    HIERARCHICAL,
    ReceivedCounts,
    check_pattern,
    file_name,
)
from isocenter.services.service_classes.storage.staged_file import StagedFile
from isocenter.services.web.client.parts import AnswerPart

_FAILURES_KEPT: Final = 10


class DownloadFolder:
    """Keeps objects as Part 10 files in a folder, byte for byte as the server sent them.

    A file has its name only when it is whole; until then it is called
    ``.<UID>.<8 hexadecimal digits>.part``.

    Args:
        folder: where files go; it is made when it is missing.
        pattern: their names, as of `ObjectFolder`.
        overwrite: replace files that are there; otherwise they stay.
        on_progress: called after each object.

    Attributes:
        counts: what came so far.
        came: SOP Instance UIDs of what is there now, because it came or was there before.

    Raises:
        ValueError: *pattern* cannot be.
        OSError: the folder cannot be made, or not be written.
    """

    def __init__(
        self,
        folder: str | Path,
        pattern: str = HIERARCHICAL,
        *,
        overwrite: bool = False,
        on_progress: Callable[[ReceivedCounts], None] = lambda counts: None,
    ) -> None:
        check_pattern(pattern)
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "cannot be written", str(folder))
        self.counts = ReceivedCounts()
        self.came: set[str] = set()
        self._pattern = pattern
        self._overwrite = overwrite
        self._on_progress = on_progress

    def has(self, *, study: str, series: str, instance: str, sop_class: str) -> bool:
        """Whether there is a file of this object; then it counts as kept."""
        if (
            not can_be_named(instance)
            or not self._path(study, series, instance, sop_class).exists()
        ):
            return False
        self.counts.kept += 1
        self.came.add(instance)
        return True

    async def take(self, part: AnswerPart) -> None:
        """Write one object; one that is none is counted as failed.

        Raises:
            OSError: it cannot be written.
            HttpClientError: the answer broke off; nothing is left of the object.
        """
        head = bytearray()
        async for piece in part:
            head += piece
            if len(head) >= HEAD_BYTES:
                break
        is_whole = len(head) < HEAD_BYTES
        try:
            identity = identify(head, is_whole=is_whole)
        except (NotDicomFileError, DataSetLimitError) as error:
            self._fail("(an object without a name)", str(error))
            return
        uid = identity.sop_instance_uid
        if not can_be_named(uid):
            self._fail(uid, "its SOP Instance UID is none")
            return
        await self._write(identity, head, part)

    async def _write(self, identity: FileIdentity, head: bytearray, part: AnswerPart) -> None:
        uid = identity.sop_instance_uid
        view = memoryview(head)
        staged = StagedFile(
            uid,
            view[: identity.data_set_offset],
            encoding_of(identity.transfer_syntax_uid),
            self._folder,
        )
        try:
            if staged.gather(view[identity.data_set_offset :]):
                await staged.write()
            async for piece in part:
                if staged.gather(piece):
                    await staged.write()
            staged.identify()
            sop_class = identity.sop_class_uid or identity.media_storage_sop_class_uid
            target = self._path(
                staged.study_instance_uid, staged.series_instance_uid, uid, sop_class
            )
            if await staged.publish(target, overwrite=self._overwrite):
                self.counts.written += 1
            else:
                self.counts.kept += 1
            self.came.add(uid)
        finally:
            await staged.discard()
        self._on_progress(self.counts)

    def _path(self, study: str, series: str, instance: str, sop_class: str) -> Path:
        return self._folder / file_name(
            self._pattern, study=study, series=series, instance=instance, sop_class=sop_class
        )

    def _fail(self, uid: str, reason: str) -> None:
        self.counts.failed += 1
        self.counts.failures = [*self.counts.failures[1 - _FAILURES_KEPT :], (uid, reason)]
        self._on_progress(self.counts)
