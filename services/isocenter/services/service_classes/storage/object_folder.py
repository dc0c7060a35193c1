"""Objects that are received, as Part 10 files in a folder."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Final

from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_safe_uid
from isocenter.services.archive.object_keys import can_be_named, name_of_uid
from isocenter.services.association.operation import Operation
from isocenter.services.errors import OperationError, has_failed
from isocenter.services.service_classes.storage.object_receiver import (
    ObjectHandler,
    ObjectReceiver,
    ReceivedObject,
)
from isocenter.services.service_classes.storage.staged_object import StagedObject

_FIELDS: Final = ("study", "series", "instance", "class")
_FIELD: Final = re.compile(r"\{(\w+)\}")
#: What else may stand in a name pattern.
_LITERAL: Final = re.compile(r"[A-Za-z0-9_.,=@~ -]*")
#: A folder for each study and series.
HIERARCHICAL: Final = "{study}/{series}/{instance}.dcm"
#: All in one folder.
FLAT: Final = "{instance}.dcm"
#: Where an object without a valid study or series goes.
_UNKNOWN: Final = "unknown"
_FAILURES_KEPT: Final = 10


@dataclass(slots=True)
class ReceivedCounts:
    """What an `ObjectFolder` has got so far.

    Attributes:
        written: files that are new.
        kept: objects whose file was there, and stays.
        failed: objects that were refused, or could not be written.
        failures: SOP Instance UID and reason of the last of those.
    """

    written: int = 0
    kept: int = 0
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


class ObjectFolder(ObjectReceiver):
    """Storage SCP that keeps objects as Part 10 files in a folder.

    A file has its name only when it is whole, and when *handle*, where there is one, has returned
    a success or a warning; until then it is called ``.<UID>.<8 hexadecimal digits>.part``.  One of
    those that is left over from a crash may be deleted.  Data sets are kept byte for byte, names
    are made of validated UIDs.  A response says that the file is written; with
    *durable*, that it survives a loss of power.

    Args:
        folder: where files go; it is made when it is missing.
        pattern: their names, from ``{study}``, ``{series}``, ``{instance}`` and ``{class}``, which
            are UIDs; one that is missing or could not be the name of a file is ``unknown``.
        handle: called with each object before its file gets its name; see `ObjectReceiver`, also
            for the arguments that are not described here.
        overwrite: replace files that are there; otherwise they stay, and the answer is 0000H.
        durable: sync the file and its folders before the response leaves.
        on_progress: called after each object.

    Attributes:
        counts: what came so far.

    Raises:
        ValueError: *pattern* cannot be.
        TypeError: *handle* is not ``async``.
        OSError: the folder cannot be made, or not be written.
    """

    def __init__(
        self,
        folder: str | Path,
        pattern: str = HIERARCHICAL,
        *,
        handle: ObjectHandler | None = None,
        overwrite: bool = False,
        durable: bool = False,
        sop_classes: Collection[str] | None = None,
        transfer_syntaxes: Sequence[str] | None = None,
        statuses: Mapping[int, str] | None = None,
        on_progress: Callable[[ReceivedCounts], None] = lambda counts: None,
    ) -> None:
        check_pattern(pattern)
        super().__init__(
            handle or _keep,
            folder,
            sop_classes=sop_classes,
            transfer_syntaxes=transfer_syntaxes,
            statuses=statuses,
        )
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "cannot be written", str(folder))
        self.counts = ReceivedCounts()
        self._pattern = pattern
        self._overwrite = overwrite
        self._durable = durable
        self._on_progress = on_progress

    async def receive(self, operation: Operation, request: CStoreRequest) -> int:
        """Write one object; the status for its response.

        Raises:
            OperationError: as `ObjectReceiver.receive` does.  Nothing is left of the object.
        """
        is_done = False
        reason = "an exception"
        try:
            status = await super().receive(operation, request)
            is_done = not has_failed(status)
            reason = f"{status:04X}H"
            return status
        except OperationError as error:
            cause = error.__cause__
            reason = (isinstance(cause, OSError) and cause.strerror) or str(error)
            raise
        finally:
            if not is_done:
                self.counts.failed += 1
                self.counts.failures = [
                    *self.counts.failures[1 - _FAILURES_KEPT :],
                    (request.affected_sop_instance_uid, reason),
                ]
            self._on_progress(self.counts)

    async def _take(self, staged: StagedObject) -> int:
        # Without a function a small object is one hop to a thread, and not two.
        status = Status.SUCCESS if self._handle is _keep else await super()._take(staged)
        if has_failed(status):
            return status
        target = self._folder / file_name(
            self._pattern,
            study=staged.study_instance_uid,
            series=staged.series_instance_uid,
            instance=staged.sop_instance_uid,
            sop_class=staged.sop_class_uid,
        )
        if await staged.publish(target, overwrite=self._overwrite):
            self.counts.written += 1
        else:
            self.counts.kept += 1
        return status


async def _keep(received: ReceivedObject) -> None:
    """Nothing else is wanted of it."""


def file_name(pattern: str, *, study: str, series: str, instance: str, sop_class: str) -> str:
    """The name of the file of an object, from UIDs of which *instance* can be a name; of the
    others what cannot is ``unknown``."""
    names = {
        "instance": name_of_uid(instance),
        "class": sop_class if is_safe_uid(sop_class) else _UNKNOWN,
        "study": name_of_uid(study) if can_be_named(study) else _UNKNOWN,
        "series": name_of_uid(series) if can_be_named(series) else _UNKNOWN,
    }
    return _FIELD.sub(lambda match: names[match[1]], pattern)


def check_pattern(pattern: str) -> None:
    """Whether *pattern* makes names of files within a folder.

    Raises:
        ValueError: it does not; the message says why.
    """
    parts = pattern.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{pattern!r} must be relative, without empty parts and ..")
    if "{instance}" not in parts[-1]:
        raise ValueError(f"{pattern!r} needs {{instance}} in the name of the file")
    unknown = [name for name in _FIELD.findall(pattern) if name not in _FIELDS]
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in _FIELDS)
        raise ValueError(f"{{{unknown[0]}}} is none of {known}")
    if not all(_LITERAL.fullmatch(_FIELD.sub("", part)) for part in parts):
        raise ValueError(
            f"{pattern!r}: beside the fields only letters, digits and . _ , = @ ~ - are allowed"
        )
