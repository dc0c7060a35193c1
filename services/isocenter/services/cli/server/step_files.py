"""JSON files of performed procedure steps, written as they change."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson
import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services import composition
from isocenter.services.notices import Notice, PerformedStepChanged
from isocenter.services.service_classes.mpps.performed_step import PerformedStep
from isocenter.services.settings.settings import Settings
from isocenter.services.system.private_files import make_private_directory, write_file

log = logging.getLogger("isocenter.mpps")

#: Only its owner may read what is in them: it names patients.
_MODE: Final = 0o600
#: Key of the file → attribute.
_KEYS: Final = {
    "patientId": 0x00100020,
    "patientName": 0x00100010,
    "modality": 0x00080060,
    "stationAeTitle": 0x00400241,
    "procedureStepId": 0x00400253,
    "startDate": 0x00400244,
    "startTime": 0x00400245,
    "endDate": 0x00400250,
    "endTime": 0x00400251,
}


class StepFiles:
    """Writes steps to a file each, or all of them to one, in a thread of its own.

    Args:
        settings: of the archive that keeps the steps.
        folder: gets ``<SOP Instance UID>.json``.
        file: gets all of them, in a list.
    """

    def __init__(self, settings: Settings, folder: Path | None, file: Path | None) -> None:
        self._settings = settings
        self._folder = folder
        self._file = file
        self._changed: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._steps: dict[str, dict[str, str]] = {}

    def hear(self, notice: Notice) -> None:
        """Take note of a step that has changed; does not wait."""
        if isinstance(notice, PerformedStepChanged):
            self._changed.put(notice.sop_instance_uid)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Until its end, what is heard is written."""
        if self._folder is not None:
            make_private_directory(self._folder)
        if self._file is not None and self._file.exists():
            for step in orjson.loads(self._file.read_bytes()):
                self._steps[step["sopInstanceUid"]] = step
        thread = threading.Thread(target=self._run, name="step files")
        thread.start()
        try:
            yield
        finally:
            self._changed.put(None)
            thread.join()

    def _run(self) -> None:
        while (uid := self._changed.get()) is not None:
            try:
                step = trio.run(self._read, uid)
                if step is not None:
                    self._write(shape_of(step))
            except (IsocenterError, OSError) as error:
                log.error("step %s is kept, and not written as JSON: %s", uid, error)
            except Exception as error:
                # A fault of ours, and no reason to write no other; its text may name a patient.
                what = type(error).__name__
                log.error(
                    "step %s is kept, and not written as JSON: internal error (%s)", uid, what
                )

    async def _read(self, uid: str) -> PerformedStep | None:
        async with composition.open_stores(self._settings) as stores:
            return await stores.steps.get(uid)

    def _write(self, step: dict[str, str]) -> None:
        uid = step["sopInstanceUid"]
        if self._folder is not None:
            path = self._folder / f"{uid}.json"
            write_file(path, _json(step), _MODE, replace=True)
        if self._file is not None:
            self._steps[uid] = step
            write_file(self._file, _json(list(self._steps.values())), _MODE, replace=True)


def shape_of(step: PerformedStep) -> dict[str, str]:
    """What stands in a file of a step; times are those of DICOM, and of this clock in UTC."""
    return {
        "sopInstanceUid": step.sop_instance_uid,
        "status": step.state.value,
        **{key: step.attributes.text(tag) for key, tag in _KEYS.items()},
        "createdAt": _moment(step.created_at),
        "updatedAt": _moment(step.changed_at),
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
