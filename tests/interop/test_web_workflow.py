"""Worklist, performed steps and commitment over HTTP, beside DCMTK and pynetdicom over DIMSE."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    ModalityPerformedProcedureStepRetrieve,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from services.service_classes.mpps.samples import begun, ended
from services.service_classes.worklist.samples import order
from support.processes import ServedArchive, isocenter_command, run, served_archive, wait_until
from support.studies import write_studies

pytestmark = [
    pytest.mark.slow,
    pytest.mark.interop("findscu", "storescu"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

STEP = "1.2.826.0.1.3680043.10.999.79"
SECONDS = 60.0
JSON = {"content-type": "application/dicom+json"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "orders.json").write_bytes(orjson.dumps([order(1), order(2)]))
    with served_archive(folder) as served:
        words = ("worklist", "import", folder / "orders.json", "--data-dir", served.data_dir)
        done = isocenter_command(*words)
        assert done.returncode == 0, done.stdout
        yield served


def on_the_list(archive: ServedArchive) -> list[str]:
    """The step IDs that DCMTK finds."""
    done = run(
        "findscu", "-v", "-W", "-aec", archive.ae_title, "127.0.0.1", archive.port,
        "-k", "(0040,0100)[0].(0040,0009)", "-k", "(0008,0050)",
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if "(0040,0009)" in line and "[" in line]
    return sorted(line.partition("[")[2].partition("]")[0].strip() for line in lines)


def over_http(archive: ServedArchive) -> list[str]:
    answer = httpx.get(f"{archive.web_url}/modality-scheduled-procedure-steps")
    assert answer.status_code == 200
    found = [one["00400100"]["Value"][0]["00400009"]["Value"][0] for one in answer.json()]
    return sorted(found)


def test_a_step_from_the_worklist_to_its_end(archive: ServedArchive) -> None:
    assert on_the_list(archive) == over_http(archive) == ["SPS1", "SPS2"]
    steps = f"{archive.web_url}/modality-scheduled-procedure-steps?AccessionNumber=A1"
    (scheduled,) = httpx.get(steps).json()
    step = begun()
    (item,) = step.ScheduledStepAttributesSequence
    item.StudyInstanceUID = scheduled["0020000D"]["Value"][0]
    item.AccessionNumber, item.ScheduledProcedureStepID = "A1", "SPS1"
    url = f"{archive.web_url}/modality-performed-procedure-steps/{STEP}"
    body = orjson.dumps(step.to_json_dict())
    assert httpx.post(url, content=body, headers=JSON).status_code == 201
    # What was begun over HTTP is on nobody's list any more, and pynetdicom ends it.
    assert on_the_list(archive) == over_http(archive) == ["SPS2"]
    entity = AE("CT1")
    entity.add_requested_context(ModalityPerformedProcedureStep)
    entity.add_requested_context(ModalityPerformedProcedureStepRetrieve)
    association = entity.associate("127.0.0.1", archive.port, ae_title=archive.ae_title)
    assert association.is_established
    try:
        status, got = association.send_n_get([], ModalityPerformedProcedureStepRetrieve, STEP)
        assert status.Status == 0
        assert got.PerformedProcedureStepStatus == "IN PROGRESS"
        assert got.ScheduledStepAttributesSequence[0].AccessionNumber == "A1"
        status, _ = association.send_n_set(ended(), ModalityPerformedProcedureStep, STEP)
        assert status.Status == 0
    finally:
        association.release()
    assert httpx.get(url).json()["00400252"]["Value"] == ["COMPLETED"]
    late = httpx.post(f"{url}?update", content=body, headers=JSON)
    assert (late.status_code, late.json()["error"]["code"]) == (409, "FINAL")
    listed = isocenter_command("mpps", "list", "--data-dir", archive.data_dir, "--format", "json")
    (row,) = orjson.loads(listed.stdout)
    assert (row["sop_instance_uid"], row["state"]) == (STEP, "COMPLETED")


def reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    return item


def outcome_of(archive: ServedArchive, transaction_uid: str) -> dict[str, Any]:
    """What the web says, as soon as it says it."""
    url = f"{archive.web_url}/commitment-requests/{transaction_uid}"
    wait_until(lambda: httpx.get(url).status_code == 200, archive.process)
    found: dict[str, Any] = httpx.get(url).json()
    return found


def test_commitment_is_one_list(archive: ServedArchive, tmp_path: Path) -> None:
    (file,) = write_studies(tmp_path, studies=1, series=1, instances=1)
    run("storescu", "-aec", archive.ae_title, "127.0.0.1", archive.port, file)
    stored = pydicom.dcmread(file)
    asked = Dataset()
    asked.ReferencedSOPSequence = [
        reference(stored.SOPClassUID, stored.SOPInstanceUID),
        reference(stored.SOPClassUID, "1.2.3.4.5.6"),
    ]
    url = f"{archive.web_url}/commitment-requests/2.25.71"
    done = httpx.post(url, content=orjson.dumps(asked.to_json_dict()), headers=JSON)
    assert done.status_code in (200, 202)
    over_web = Dataset.from_json(outcome_of(archive, "2.25.71"))
    # pynetdicom asks for the same, and hears the same on its association.
    heard: list[Dataset] = []
    reported = threading.Event()

    def take(event: Any) -> tuple[int, None]:
        heard.append(event.event_information)
        reported.set()
        return 0, None

    entity = AE("CT1")
    entity.add_requested_context(StorageCommitmentPushModel)
    association = entity.associate(
        "127.0.0.1", archive.port, ae_title=archive.ae_title,
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)],
    )  # fmt: skip
    assert association.is_established
    try:
        asked.TransactionUID = "2.25.72"
        status, _ = association.send_n_action(
            asked, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        assert status.Status == 0
        assert reported.wait(SECONDS)
    finally:
        association.release()
    (by_dimse,) = heard
    assert by_dimse.ReferencedSOPSequence == over_web.ReferencedSOPSequence
    assert by_dimse.FailedSOPSequence == over_web.FailedSOPSequence
    assert Dataset.from_json(outcome_of(archive, "2.25.72")) == over_web
    words = ("commitments", "list", "--data-dir", archive.data_dir, "--format", "json")
    rows = orjson.loads(isocenter_command(*words).stdout)
    assert [(row["transaction_uid"], row["requester"]) for row in rows] == [
        ("2.25.72", "CT1"),
        ("2.25.71", "127.0.0.1"),
    ]
    retry = isocenter_command("commitments", "retry", "2.25.71", "--data-dir", archive.data_dir)
    assert retry.returncode == 1
    assert "over the web" in retry.stdout
