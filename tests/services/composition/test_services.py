"""The services of an archive, as settings switch them on."""

from __future__ import annotations

import pytest

from isocenter.services import composition
from isocenter.services.composition.services import build_services_and_workflow
from isocenter.services.notices import Notices
from isocenter.services.settings.loading import load_settings

PRINTER = "1.2.840.10008.5.1.1.16"
CT = "1.2.840.10008.5.1.4.1.1.2"


async def test_n_get_of_sop_classes_that_have_none_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listed = ["ModalityPerformedProcedureStepRetrieve", "Printer", "UnifiedProcedureStepPull", CT]
    settings = load_settings(
        environ={},
        overrides={
            "storage.data_dir": ":memory:",
            "print.enabled": False,
            "query.n_get_sop_classes": listed,
        },
    )
    async with composition.open_archive_parts(settings) as parts:
        build_services_and_workflow(settings, parts.archive, parts.stores, None, notices=Notices())
    said = [one.getMessage() for one in caplog.records if "n_get_sop_classes" in one.getMessage()]
    prefix = "query.n_get_sop_classes: "
    assert said == [
        f"{prefix}with these settings no service is for {PRINTER} (Printer SOP Class)",
        f"{prefix}no service answers N-GET on {CT} (CT Image Storage)",
    ]
