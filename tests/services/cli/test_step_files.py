"""JSON files of performed procedure steps: private, and written although one cannot be."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import orjson
import pytest

from isocenter.services.cli.server.step_files import StepFiles
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.notices import Caller, PerformedStepChanged
from isocenter.services.service_classes.mpps.performed_step import PerformedStep, StepState
from isocenter.services.settings.loading import load_settings


def changed(uid: str) -> PerformedStepChanged:
    return PerformedStepChanged(
        caller=Caller(association="", address=""),
        sop_instance_uid=uid,
        state="IN PROGRESS",
        study_instance_uids=(),
        series_instance_uids=(),
    )


def test_one_that_cannot_be_written_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def read(files: StepFiles, uid: str) -> PerformedStep:
        if uid == "1.2.1":
            raise ValueError("DOE^JANE")
        return PerformedStep(
            sop_instance_uid=uid, state=StepState.IN_PROGRESS, source_ae_title="CT1",
            created_at=1.0, changed_at=1.0, attributes=AttributeList({}),
        )  # fmt: skip

    monkeypatch.setattr(StepFiles, "_read", read)
    folder = tmp_path / "new" / "steps"
    files = StepFiles(load_settings(None, {}, {"storage.data_dir": str(tmp_path)}), folder, None)
    with files.writing():
        files.hear(changed("1.2.1"))
        files.hear(changed("1.2.2"))
    assert os.listdir(folder) == ["1.2.2.json"]
    assert orjson.loads((folder / "1.2.2.json").read_bytes())["status"] == "IN PROGRESS"
    assert "1.2.1" in caplog.text
    assert "ValueError" in caplog.text
    assert "DOE" not in caplog.text
    if sys.platform != "win32":
        assert folder.stat().st_mode & 0o077 == 0
