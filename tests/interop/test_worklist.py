"""The worklist asked by DCMTK and pynetdicom, fed by the command line, followed by MPPS."""

from __future__ import annotations

import re
from collections.abc import Iterator

import orjson
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    StudyRootQueryRetrieveInformationModelFind,
)

from services.service_classes.mpps.samples import begun, ended
from services.service_classes.worklist.samples import order
from support.processes import ServedArchive, isocenter_command, run, served_archive

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

STEP = "(0040,0100)[0]."


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("worklist")
    with served_archive(folder) as served:
        orders = [
            order(1),
            order(2, station_ae="MR_01", modality="MR", patient_name="MÜLLER^JÖRG", sex="M"),
            order(3, scheduled_datetime="20261201100000", step_status="STARTED"),
        ]
        path = folder / "orders.json"
        path.write_bytes(orjson.dumps(orders))
        done = isocenter_command("worklist", "import", "--data-dir", served.data_dir, path)
        assert done.returncode == 0, done.stdout
        assert "3 added" in done.stdout
        yield served


def findscu(archive: ServedArchive, *keys: str) -> list[str]:
    """What DCMTK's findscu prints of each match."""
    options = [word for key in keys for word in ("-k", key)]
    done = run("findscu", "-W", "-aec", "ISOCENTER", "127.0.0.1", archive.port, *options)
    assert done.returncode == 0, done.stdout
    return re.split(r"Find Response: \d+ \(Pending\)", done.stdout)[1:]


def test_dcmtk_asks_by_station_and_date(archive: ServedArchive) -> None:
    (match,) = findscu(
        archive, "0010,0010", "0008,0050", f"{STEP}0040,0001=CT_01",
        f"{STEP}0040,0002=20261124-20261130", f"{STEP}0040,0008", f"{STEP}0040,0009",
    )  # fmt: skip
    for text in ("[DOE^JANE]", "[A1]", "[SPS1]", "[CHEST1]", "[99ISO]"):
        assert text in match.replace(" ]", "]")


def test_dcmtk_gets_all_of_a_step_for_an_empty_sequence(archive: ServedArchive) -> None:
    (match,) = findscu(archive, "0020,000d", "0010,0020=PAT2", "0040,0100")
    assert "MR_01" in match
    assert "ScheduledProcedureStepDescription" in match


def test_dcmtk_finds_a_name_in_its_own_character_set(archive: ServedArchive) -> None:
    (match,) = findscu(archive, "0008,0005=ISO_IR 100", "0010,0010=M?LLER*", f"{STEP}0008,0060")
    assert "ISO_IR 100" in match
    assert "ISO_IR 192" not in match


def test_what_was_started_is_offered_to_who_asks_for_it(archive: ServedArchive) -> None:
    assert len(findscu(archive, "0010,0010")) == 2
    (match,) = findscu(archive, "0008,0050", f"{STEP}0040,0020=STARTED")
    assert "[A3]" in match


def test_dcmtk_is_told_what_is_wrong(archive: ServedArchive) -> None:
    done = run(
        "findscu", "-d", "-W", "-aec", "ISOCENTER", "127.0.0.1", archive.port,
        "-k", f"{STEP}0040,0002=soon-later",
    )  # fmt: skip
    assert "0xa900" in done.stdout.lower()


def test_pynetdicom_asks_cancels_and_performs(archive: ServedArchive) -> None:
    many = archive.data_dir.parent / "many.json"
    many.write_bytes(orjson.dumps([order(number, patient_id="MANY") for number in range(100, 400)]))
    done = isocenter_command("worklist", "import", "--data-dir", archive.data_dir, many)
    assert done.returncode == 0, done.stdout
    entity = AE("CT_01")
    entity.add_requested_context(ModalityWorklistInformationFind)
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    entity.add_requested_context(ModalityPerformedProcedureStep)
    association = entity.associate("127.0.0.1", archive.port, ae_title="ISOCENTER")
    assert association.is_established
    try:
        keys = Dataset()
        keys.PatientName, keys.PatientID, keys.AccessionNumber = "", "MANY", ""
        step = Dataset()
        step.ScheduledStationAETitle, step.Modality = "CT_01", "CT"
        keys.ScheduledProcedureStepSequence = [step]
        answers = list(association.send_c_find(keys, ModalityWorklistInformationFind))
        assert [status.Status for status, _ in answers] == [0xFF00] * 300 + [0x0000]
        assert {data.PatientID for _, data in answers[:-1]} == {"MANY"}
        # The worklist is no query/retrieve model, and the other way round.
        (status, _), *_ = association.send_c_find(keys, StudyRootQueryRetrieveInformationModelFind)
        assert status.Status == 0xA900
        # A step that is begun and completed leaves the list.
        for data, state in ((begun(), "STARTED"), (ended(), "COMPLETED")):
            if state == "STARTED":
                (item,) = data.ScheduledStepAttributesSequence
                item.ScheduledProcedureStepID, item.AccessionNumber = "SPS100", "A100"
                done, _ = association.send_n_create(data, ModalityPerformedProcedureStep, "1.2.9")
            else:
                done, _ = association.send_n_set(data, ModalityPerformedProcedureStep, "1.2.9")
            assert done.Status == 0x0000
            left = list(association.send_c_find(keys, ModalityWorklistInformationFind))
            assert len(left) == 300
            shown = isocenter_command(
                "worklist", "list", "--data-dir", archive.data_dir, "--state", state.lower(),
                "--format", "json", "-k", "AccessionNumber=A100",
            )  # fmt: skip
            assert orjson.loads(shown.stdout.splitlines()[-1])[0]["step_status"] == state
    finally:
        association.release()


def test_a_cancel_ends_the_answers(archive: ServedArchive) -> None:
    # More than the buffers of a connection hold.
    long = [order(n, patient_id="LONG", comments="x" * 10_000) for n in range(1_000, 2_500)]
    path = archive.data_dir.parent / "long.json"
    path.write_bytes(orjson.dumps(long))
    done = isocenter_command("worklist", "import", "--data-dir", archive.data_dir, path)
    assert done.returncode == 0, done.stdout
    entity = AE("CT_01")
    entity.add_requested_context(ModalityWorklistInformationFind)
    association = entity.associate("127.0.0.1", archive.port, ae_title="ISOCENTER")
    assert association.is_established
    try:
        keys = Dataset()
        keys.PatientID, keys.RequestedProcedureComments = "LONG", ""
        statuses = []
        for status, _ in association.send_c_find(keys, ModalityWorklistInformationFind, msg_id=7):
            if not statuses:
                association.send_c_cancel(7, query_model=ModalityWorklistInformationFind)
            statuses.append(status.Status)
        assert statuses[-1] == 0xFE00
        assert len(statuses) < len(long)
    finally:
        association.release()
