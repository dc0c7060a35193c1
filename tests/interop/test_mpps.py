"""Performed procedure steps with pynetdicom in both roles, and across `kill -9` of our server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    ModalityPerformedProcedureStepNotification,
    ModalityPerformedProcedureStepRetrieve,
)

from isocenter.engine.errors import AssociationError
from isocenter.services.association.peer import Peer
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.mpps.scu import CONTEXTS, create_step, get_step, set_step
from services.service_classes.mpps.samples import begun, ended
from support.outcomes import outcome
from support.ports import free_port
from support.processes import ServedArchive, isocenter_command, served_archive
from support.studies import write_studies

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

UID = "1.2.826.0.1.3680043.10.999.78"
SECONDS = 120.0


@contextmanager
def modality(archive: ServedArchive) -> Iterator[Any]:
    """pynetdicom, associated."""
    entity = AE("CT1")
    entity.add_requested_context(ModalityPerformedProcedureStep)
    entity.add_requested_context(ModalityPerformedProcedureStepRetrieve)
    association = entity.associate("127.0.0.1", archive.port, ae_title="ISOCENTER")
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def create(association: Any, step: Dataset, uid: str = UID) -> Any:
    return association.send_n_create(step, ModalityPerformedProcedureStep, uid)[0]


def change(association: Any, changes: Dataset, uid: str = UID) -> Any:
    return association.send_n_set(changes, ModalityPerformedProcedureStep, uid)[0]


def as_pynetdicom_documents_it() -> tuple[Dataset, Dataset]:
    """The data sets of the examples in pynetdicom's documentation: not every type 2 attribute."""
    item = Dataset()
    item.StudyInstanceUID = "1.2.3"
    item.ReferencedStudySequence = []
    item.AccessionNumber = "1"
    item.RequestedProcedureID = "1"
    item.RequestedProcedureDescription = "Some procedure"
    item.ScheduledProcedureStepID = "1"
    item.ScheduledProcedureStepDescription = "Some procedure step"
    first = Dataset()
    first.ScheduledStepAttributesSequence = [item]
    first.PatientName, first.PatientID = "Test^Test", "123456"
    first.PatientBirthDate, first.PatientSex = "20000101", "O"
    first.ReferencedPatientSequence = []
    first.PerformedProcedureStepID = "1"
    first.PerformedStationAETitle, first.PerformedStationName = "SOMEAE", "Some station"
    first.PerformedLocation = "Some location"
    first.PerformedProcedureStepStartDate = "20000101"
    first.PerformedProcedureStepStartTime = "1200"
    first.PerformedProcedureStepStatus = "IN PROGRESS"
    first.PerformedProcedureStepDescription = "Some description"
    first.PerformedProcedureTypeDescription = "Some type"
    first.PerformedProcedureCodeSequence = []
    first.PerformedProcedureStepEndDate = None
    first.PerformedProcedureStepEndTime = None
    first.Modality, first.StudyID = "CT", "1"
    first.PerformedProtocolCodeSequence, first.PerformedSeriesSequence = [], []
    series = Dataset()
    series.PerformingPhysicianName = "Someone"
    series.ProtocolName, series.OperatorsName = "Some protocol", "Someone"
    series.SeriesInstanceUID, series.SeriesDescription = "1.2.3.4", "Some series"
    series.RetrieveAETitle = "SOMEAE"
    series.ReferencedImageSequence = []
    series.ReferencedNonImageCompositeSOPInstanceSequence = []
    last = Dataset()
    last.PerformedSeriesSequence = [series]
    last.PerformedProcedureStepStatus = "COMPLETED"
    last.PerformedProcedureStepEndDate = "20000101"
    last.PerformedProcedureStepEndTime = "1300"
    return first, last


def test_pynetdicom_creates_sets_and_gets(tmp_path: Path) -> None:
    first, last = as_pynetdicom_documents_it()
    with served_archive(tmp_path) as archive, modality(archive) as association:
        assert create(association, first).Status == 0
        assert change(association, last).Status == 0
        status, got = association.send_n_get([], ModalityPerformedProcedureStepRetrieve, UID)
        assert status.Status == 0
        first.update(last)
        assert got == first
        wanted = [0x00400252, 0x00080060]
        status, got = association.send_n_get(wanted, ModalityPerformedProcedureStepRetrieve, UID)
        assert (got.PerformedProcedureStepStatus, got.Modality, len(got)) == ("COMPLETED", "CT", 2)


def test_pynetdicom_gets_the_statuses_of_the_standard(tmp_path: Path) -> None:
    with served_archive(tmp_path) as archive, modality(archive) as association:
        without, empty, wrong = begun(), begun(), begun()
        del without.PerformedStationAETitle
        empty.Modality = ""
        wrong.PerformedProcedureStepStatus = "DISCONTINUED"
        assert create(association, without).Status == 0x0120
        assert create(association, empty).Status == 0x0121
        assert create(association, wrong).Status == 0x0106
        assert change(association, ended()).Status == 0x0112
        assert create(association, begun()).Status == 0
        assert create(association, begun()).Status == 0x0111
        early = Dataset()
        early.PerformedProcedureStepStatus = "COMPLETED"
        assert change(association, early).Status == 0x0121
        assert change(association, ended()).Status == 0
        status = change(association, ended())
        assert (status.Status, status.ErrorID) == (0x0110, 0xA710)
        status, _ = association.send_n_get([], ModalityPerformedProcedureStepRetrieve, "1.2.3")
        assert status.Status == 0x0112


def test_strict_is_strict(tmp_path: Path) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text("[mpps]\nstrict = true\n")
    first, _ = as_pynetdicom_documents_it()
    with (
        served_archive(tmp_path / "archive", "--config", config) as archive,
        modality(archive) as association,
    ):
        assert create(association, first).Status == 0x0120
        assert create(association, begun()).Status == 0


def test_peers_are_notified(tmp_path: Path) -> None:
    """pynetdicom as SCU of the notification SOP class; it is told on associations of ours."""
    port = free_port()
    config = tmp_path / "isocenter.toml"
    config.write_text(f'peers = ["PACS@127.0.0.1:{port}"]\n[mpps]\nnotify = ["PACS"]\n')
    came: list[tuple[int, str, str]] = []
    each = threading.Semaphore(0)

    def take(event: Any) -> tuple[int, None]:
        request = event.request
        caller = event.assoc.requestor.ae_title
        came.append((request.EventTypeID, str(request.AffectedSOPInstanceUID), caller))
        each.release()
        return 0x0000, None

    entity = AE("PACS")
    entity.add_supported_context(
        ModalityPerformedProcedureStepNotification, scu_role=False, scp_role=True
    )
    listener = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)]
    )
    try:
        with (
            served_archive(tmp_path / "archive", "--config", config) as archive,
            modality(archive) as association,
        ):
            assert create(association, begun()).Status == 0
            assert each.acquire(timeout=SECONDS)
            assert change(association, ended()).Status == 0
            assert each.acquire(timeout=SECONDS)
    finally:
        listener.shutdown()
    assert came == [(1, UID, "ISOCENTER"), (2, UID, "ISOCENTER")]


class Ris:
    """pynetdicom's MPPS SCP, as its documentation shows one."""

    def __init__(self) -> None:
        self.steps: dict[str, Dataset] = {}

    def create(self, event: Any) -> tuple[int, Dataset | None]:
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid in self.steps:
            return 0x0111, None
        attributes = event.attribute_list
        if attributes.PerformedProcedureStepStatus != "IN PROGRESS":
            return 0x0106, None
        self.steps[uid] = attributes
        return 0x0000, attributes

    def set(self, event: Any) -> tuple[int, Dataset | None]:
        uid = str(event.request.RequestedSOPInstanceUID)
        if uid not in self.steps:
            return 0x0112, None
        self.steps[uid].update(event.modification_list)
        return 0x0000, self.steps[uid]

    def get(self, event: Any) -> tuple[int, Dataset | None]:
        return 0x0000, self.steps[str(event.request.RequestedSOPInstanceUID)]


def test_our_command_tells_pynetdicom(tmp_path: Path) -> None:
    ris, port = Ris(), free_port()
    entity = AE("RIS")
    entity.add_supported_context(ModalityPerformedProcedureStep)
    entity.add_supported_context(ModalityPerformedProcedureStepRetrieve)
    handlers = [
        (evt.EVT_N_CREATE, ris.create),
        (evt.EVT_N_SET, ris.set),
        (evt.EVT_N_GET, ris.get),
    ]
    listener = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    write_studies(tmp_path / "files", studies=1)
    call = ["mppsscu", f"RIS@127.0.0.1:{port}"]
    try:
        done = isocenter_command(*call, "create", "--modality", "CT", "-k", "PatientID=P1")
        assert done.returncode == 0, done.stdout
        uid = done.stdout.strip()
        assert ris.steps[uid].PatientID == "P1"
        done = isocenter_command(*call, "create", "--modality", "CT", "--uid", uid)
        assert done.returncode == 1
        assert "0111H" in done.stdout
        done = isocenter_command(*call, "complete", uid, tmp_path / "files")
        assert done.returncode == 0, done.stdout
        step = ris.steps[uid]
        assert step.PerformedProcedureStepStatus == "COMPLETED"
        assert [len(s.ReferencedImageSequence) for s in step.PerformedSeriesSequence] == [2, 2]
        done = isocenter_command(*call, "get", uid, "-o", "json")
        (got,) = orjson.loads(done.stdout)
        assert got["00400252"]["Value"] == ["COMPLETED"]
    finally:
        listener.shutdown()


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, workers: int) -> None:
    """Killed right after each answer: the next server knows it, and goes on from there."""
    options = ["--workers", workers]

    async def do(archive: ServedArchive, number: int) -> int:
        peer = Peer("ISOCENTER", "127.0.0.1", archive.port)
        status = -1
        try:
            async with open_association(peer, CONTEXTS) as association:
                if number == 0:
                    answer = await create_step(association, UID, begun())
                else:
                    answer = await set_step(association, UID, ended() if number > 1 else half())
                status = answer.status
                archive.kill()
        except AssociationError:
            pass  # the server is gone
        return status

    for number in range(3):
        with served_archive(tmp_path, *options) as archive:
            assert await do(archive, number) == 0
    with served_archive(tmp_path, *options) as archive:
        peer = Peer("ISOCENTER", "127.0.0.1", archive.port)
        async with open_association(peer, CONTEXTS) as association:
            got = (await get_step(association, UID)).attributes
            assert got is not None
            expected = begun()
            expected.update(half())
            expected.update(ended())
            assert got.to_dataset() == expected
            assert (await outcome(set_step(association, UID, ended()))).status == 0x0110


def half() -> Dataset:
    """What is known before the end."""
    changes = ended()
    del changes.PerformedProcedureStepStatus
    return changes
