"""The example of a worker, where a workitem that it asked for is not its own."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pydicom
import pytest

from isocenter.services.net.http.client_errors import HttpStatusError, ServerUnreachableError
from isocenter.services.service_classes.ups.workitem import WorkitemState

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "ai"))

import workitem_worker


class Archive:
    """An archive with one workitem, whose first answer is lost, and which somebody else takes."""

    def __init__(self) -> None:
        self.workitems = self
        self.state = "SCHEDULED"
        self.stored = 0

    async def search(self, _: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        found = {"00080018": {"vr": "UI", "Value": ["1.2.3"]}}
        return [found] if self.state == "SCHEDULED" else []

    async def get(self, uid: str) -> dict[str, Any]:
        assert uid == "1.2.3"
        return {
            "00741000": {"vr": "CS", "Value": [self.state]},
            "0020000D": {"vr": "UI", "Value": ["1.2"]},
        }

    async def change_state(self, uid: str, state: WorkitemState, lock: str) -> None:
        self.state = "IN PROGRESS"
        raise ServerUnreachableError("no answer")

    async def update(self, uid: str, done: pydicom.Dataset, lock: str) -> None:
        raise HttpStatusError(409, "the Transaction UID is another one")

    async def store(self, objects: Sequence[object]) -> AsyncIterator[Any]:
        self.stored += len(objects)
        return
        yield


async def test_a_workitem_of_somebody_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    result = pydicom.Dataset()
    result.SOPClassUID, result.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.9"
    result.StudyInstanceUID, result.SeriesInstanceUID = "1.2", "1.2.4"

    async def analyse(archive: object, study: str) -> list[pydicom.Dataset]:
        return [result]

    monkeypatch.setattr(workitem_worker, "analyse_study", analyse)
    worker, archive = workitem_worker.Worker("CT"), Archive()
    with pytest.raises(ServerUnreachableError):
        await worker.work_once(archive)  # type: ignore[arg-type]
    with pytest.raises(HttpStatusError):
        await worker.work_once(archive)  # type: ignore[arg-type]
    assert archive.stored == 0
    assert await worker.work_once(archive) == []  # type: ignore[arg-type]
