"""What tests of others are offered: associations and archives in memory, data, log, clock."""

from __future__ import annotations

import logging
from functools import partial
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from isocenter.services.archive.index.attributes import Level
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES, STUDY_ROOT_FIND
from isocenter.services.errors import OperationError
from isocenter.services.notices import InstanceStored, Notice, Notices
from isocenter.services.service_classes.query_retrieve.find_scp import FindScp
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.services.service_classes.worklist.order_fields import entry_of_order
from isocenter.services.testing import (
    RecordedLog,
    SyntheticData,
    associated,
    open_test_archive,
    patient_clock,
)
from isocenter.services.testing.synthetic_data import CT_IMAGE_STORAGE

CONTEXTS = [(CT_IMAGE_STORAGE, BASIC_SYNTAXES), (STUDY_ROOT_FIND, BASIC_SYNTAXES)]


async def test_an_object_is_stored_and_found_in_memory() -> None:
    told: list[Notice] = []
    image = SyntheticData().ct()
    async with open_test_archive() as archive:
        services = [StorageScp(archive), FindScp(archive.index, ae_title="TEST_SCP")]
        async with associated(services, CONTEXTS, notices=Notices(told.append)) as association:
            assert (await association.store(image)).status == 0
            keys = [("PatientID", image.PatientID), ("StudyInstanceUID", "")]
            query = partial(build_identifier, keys, Level.STUDY)
            async with association.find(query) as matches:
                found = [match.StudyInstanceUID async for match in matches]
    assert found == [image.StudyInstanceUID]
    assert [notice for notice in told if isinstance(notice, InstanceStored)]


async def test_settings_of_an_archive_in_memory() -> None:
    data = SyntheticData()
    async with (
        open_test_archive({"storage.duplicates": "reject"}) as archive,
        associated([StorageScp(archive)], CONTEXTS) as association,
    ):
        assert (await association.store(data.ct())).status == 0
        with pytest.raises(OperationError) as refused:
            await association.store(data.ct(PatientComments="other"))
    assert refused.value.status == 0x0111


@pytest.mark.parametrize("modality", ["CT", "MR", "CR"])
def test_data_are_the_same_again_and_can_be_read(modality: str, tmp_path: Path) -> None:
    data = SyntheticData(rows=16, columns=24)
    files = data.write(tmp_path / "a", data.study(modality=modality, series=2, instances=2))
    again = data.write(tmp_path / "b", data.study(modality=modality, series=2, instances=2))
    assert len(files) == 4
    assert [a.read_bytes() for a in files] == [b.read_bytes() for b in again]
    image = pydicom.dcmread(files[0])
    assert (image.Rows, image.Columns, len(image.PixelData)) == (16, 24, 2 * 16 * 24)
    assert len({pydicom.dcmread(file).SOPInstanceUID for file in files}) == 4
    other = SyntheticData(seed=2)
    assert other.ct().SOPInstanceUID != data.ct().SOPInstanceUID


def test_orders_are_worklist_entries_of_the_patients() -> None:
    data = SyntheticData()
    entry, _ = entry_of_order(data.worklist_entry(3), "here")
    assert entry.text(0x00100020) == data.patient(3).patient_id
    image = data.ct(3)
    assert (image.AccessionNumber, image.StudyInstanceUID) == ("ACC3", entry.text(0x0020000D))
    buffer = BytesIO()
    image.save_as(buffer, enforce_file_format=True)


def test_a_log_is_recorded_and_searched() -> None:
    log = logging.getLogger("isocenter.example")
    with RecordedLog() as recorded:
        log.debug("one")
        log.error("of %s", "Abel")
    log.error("not this")
    assert recorded.messages == ["one", "of Abel"]
    assert recorded.names("ABEL", "") == ["ERROR isocenter.example: of Abel"]
    assert recorded.names("Berg") == []


def test_a_clock_that_waits_for_nobody_but_threads() -> None:
    import trio

    async def hour() -> float:
        began = trio.current_time()
        await trio.to_thread.run_sync(lambda: None)
        await trio.sleep(3_600)
        return trio.current_time() - began

    with patient_clock() as clock:
        assert trio.run(hour, clock=clock) >= 3_600
