"""Commands that serve one service, asked by DCMTK and pynetdicom."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    Verification,
)

from services.service_classes.mpps.samples import begun, ended
from services.service_classes.worklist.samples import order
from support.processes import (
    ISOCENTER,
    isocenter_command,
    program,
    run,
    wait_for_line,
)

pytestmark = [
    pytest.mark.interop("findscu"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

CT = str(get_testdata_file("CT_small.dcm"))
MR = str(get_testdata_file("MR_small.dcm"))
#: An entry as other worklist servers have it in their files.
OTHER_NAMES = {
    "patientId": "P1", "patientName": "DOE^JANE", "patientBirthDate": "", "patientSex": "F",
    "studyInstanceUid": "1.2.3", "accessionNumber": "A1", "referringPhysician": "",
    "studyDescription": "CT CHEST", "requestedProcedureId": "R1",
    "requestedProcedureDescription": "CT", "scheduledStationAeTitle": "CT1",
    "scheduledProcedureStepStartDate": "20261130", "scheduledProcedureStepStartTime": "090000",
    "scheduledProcedureStepId": "S1", "scheduledProcedureStepDescription": "",
    "scheduledProcedureStepLocation": "", "scheduledPerformingPhysician": "", "modality": "CT",
}  # fmt: skip


def test_a_folder_as_a_worklist(tmp_path: Path) -> None:
    folder = tmp_path / "planned"
    folder.mkdir()
    (folder / "order.json").write_bytes(orjson.dumps(order()))
    log = tmp_path / "log"
    words = (*ISOCENTER, "worklist_scp", "-dfp", folder, "0", "-v")
    with program(*words, log=log) as process:
        port = wait_for_line(process, r"^ready dicom://127\.0\.0\.1:(\d+)", log)[1]
        wait_for_line(process, "1 added", log)
        done = run("findscu", "-W", "-aec", "ANY", "127.0.0.1", port, "-k", "0010,0010")
        assert "[DOE^JANE]" in done.stdout
        done = run("findscu", "-S", "127.0.0.1", port, "-k", "0008,0052=STUDY")
        assert "No Acceptable Presentation Contexts" in done.stdout
        process.terminate()
        assert process.wait(120) == 0


def test_steps_and_nothing_else(tmp_path: Path) -> None:
    log, steps = tmp_path / "log", tmp_path / "steps"
    words = (*ISOCENTER, "mpps_scp", "--data-dir", steps, "0", "-v")
    with program(*words, log=log) as process:
        port = wait_for_line(process, r"^ready dicom://127\.0\.0\.1:(\d+)", log)[1]
        entity = AE("CT1")
        entity.add_requested_context(ModalityPerformedProcedureStep)
        entity.add_requested_context(Verification)
        entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2")
        association = entity.associate("127.0.0.1", int(port))
        assert association.is_established
        assert {c.abstract_syntax for c in association.accepted_contexts} == {
            ModalityPerformedProcedureStep, Verification,
        }  # fmt: skip
        kind = ModalityPerformedProcedureStep
        assert association.send_n_create(begun(), kind, "1.2.3")[0].Status == 0x0000
        assert association.send_n_set(ended(), kind, "1.2.3")[0].Status == 0x0000
        association.release()
        listed = isocenter_command("mpps", "list", "--data-dir", steps, "--format", "json")
        assert orjson.loads(listed.stdout)[0]["state"] == "COMPLETED"
    text = log.read_text()
    assert re.search(r"performed procedure step 1\.2\.3: IN PROGRESS", text)
    assert re.search(r"performed procedure step 1\.2\.3: COMPLETED", text)


@contextmanager
def serving(tmp_path: Path, *words: object) -> Iterator[tuple[str, Path, subprocess.Popen[bytes]]]:
    """A command that serves: its port, its log, and itself.  It ends well, by SIGTERM."""
    log = tmp_path / f"{words[0]}.log"
    with program(*ISOCENTER, *words, log=log) as process:
        port = wait_for_line(process, r"^ready dicom(?:-tls)?://127\.0\.0\.1:(\d+)$", log)[1]
        yield port, log, process
        process.terminate()
        assert process.wait(120) == 0


def test_an_echo_in_the_clear_and_nothing_else(tmp_path: Path) -> None:
    with serving(tmp_path, "echo_scp", "0", "ECHOES") as (port, log, _):
        assert run("echoscu", "-aec", "ECHOES", "127.0.0.1", port).returncode == 0
        refused = run("storescu", "-v", "127.0.0.1", port, CT)
        assert "No Acceptable Presentation Contexts" in refused.stdout
    assert "C-ECHO: 1, 0 failed" in log.read_text()


def test_an_echo_over_mutual_tls(tmp_path: Path) -> None:
    issue = ("certs", "issue", "--ca-dir", tmp_path, "--out", tmp_path, "--host", "127.0.0.1")
    for words in (("certs", "init", "--ca-dir", tmp_path), (*issue, "SCP"), (*issue, "SCU")):
        done = isocenter_command(*words)
        assert done.returncode == 0, done.stdout
    ca = tmp_path / "ca.crt"
    cert, key = tmp_path / "SCP.crt", tmp_path / "SCP.key"
    own = tmp_path / "SCU.crt", tmp_path / "SCU.key"
    files = ("--cert", cert, "--key", key, "--ca", ca)
    with serving(tmp_path, "secure_echo_scp", "0", *files) as (port, log, _):
        theirs = run("echoscu", "+tls", own[1], own[0], "+cf", ca, "127.0.0.1", port)
        assert theirs.returncode == 0, theirs.stdout
        ask = ("secure_echo_scu", "127.0.0.1", port, "SECURE_SCP", "--ca", ca)
        assert isocenter_command(*ask, "--cert", own[0], "--key", own[1]).returncode == 0
        assert isocenter_command(*ask).returncode == 2
    assert "C-ECHO: 2, 0 failed" in log.read_text()


def test_objects_of_what_is_accepted(tmp_path: Path) -> None:
    folder = tmp_path / "received"
    words = ("store_scp", "0", "--storage-dir", folder, "--accept", "CT,SR", "--naming", "flat")
    with serving(tmp_path, *words) as (port, log, _):
        sent = run("storescu", "-v", "127.0.0.1", port, CT, MR)
        assert "No presentation context for: (MR)" in sent.stdout
        assert run("storescu", "127.0.0.1", port, CT).returncode == 0
    (kept,) = (folder / "objects").rglob("*.dcm")
    uid = pydicom.dcmread(CT).SOPInstanceUID
    assert kept.name == f"{uid}.dcm"
    text = log.read_text()
    assert f"stored: {uid} (CT Image Storage)" in text
    assert "objects: 1 already stored, 1 stored" in text


def test_a_folder_of_files_is_found_and_retrieved(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for number, name in enumerate((CT, MR)):
        shutil.copyfile(name, folder / f"{number}")
    (folder / "notes.txt").write_text("no DICOM")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with serving(tmp_path, "qr_scp", "0", "--storage-dir", folder) as (port, log, _):
        shown = isocenter_command("query_scu", "127.0.0.1", port, "QR_SCP", "--format", "csv")
        assert shown.returncode == 0
        assert {"1CT1", "4MR1"} <= set(re.findall(r"\b[0-9](?:CT|MR)1\b", shown.stdout))
        (tmp_path / "theirs").mkdir()
        got = run(
            "getscu", "-S", "-od", tmp_path / "theirs", "127.0.0.1", port,
            "-k", "0008,0052=STUDY", "-k", f"0020,000D={pydicom.dcmread(CT).StudyInstanceUID}",
        )  # fmt: skip
        assert got.returncode == 0
        (theirs,) = (tmp_path / "theirs").iterdir()
        assert pydicom.dcmread(theirs).PixelData == pydicom.dcmread(CT).PixelData
        ours = tmp_path / "ours"
        words = ("retrieve_scu", "127.0.0.1", port, "QR_SCP", "--patient-id", "4MR1", "-o", ours)
        assert isocenter_command(*words).returncode == 0
        assert len(list(ours.rglob("*.dcm"))) == 1
        # It answers for C-GET, and takes nothing.
        refused = run("storescu", "-v", "127.0.0.1", port, CT)
        assert "No Acceptable Presentation Contexts" in refused.stdout
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "3 files, 2 objects, 1 not DICOM" in log.read_text()


def test_steps_as_files_and_a_worklist_of_other_names(tmp_path: Path) -> None:
    planned = tmp_path / "planned.json"
    planned.write_bytes(orjson.dumps([OTHER_NAMES]))
    with serving(tmp_path, "worklist_scp", "0", "--worklist-file", planned, "-v") as (
        port,
        log,
        process,
    ):
        wait_for_line(process, "1 added", log)
        ask = ("worklist_scu", "127.0.0.1", port, "WORKLISTSCP", "--date", "20261130")
        found = isocenter_command(*ask, "--time", "0800-1000", "-o", "json")
        (item,) = orjson.loads(found.stdout)
        assert item["patient_name"] == "DOE^JANE"
        assert item["scheduled_datetime"] == "20261130090000"
        assert isocenter_command(*ask, "--time", "1000-").returncode == 1
        assert isocenter_command(*ask, "--time", "2500").returncode == 2
        as_xml = isocenter_command(*ask, "-o", "xml")
        assert 'keyword="ScheduledProcedureStepSequence"' in as_xml.stdout
    files, whole = tmp_path / "steps", tmp_path / "steps.json"
    words = ("mpps_scp", "0", "--output-dir", files, "--output-file", whole)
    with serving(tmp_path, *words) as (port, _, _):
        face = ("mpps_scu", "127.0.0.1", port, "MPPSSCP")
        made = isocenter_command(*face, "create", "--patient-id", "P1", "--procedure-id", "R1")
        assert made.returncode == 0, made.stdout
        uid = made.stdout.strip()
        end = ("set", "--mpps-uid", uid, "--status", "DISCONTINUED", "--reason", "no contrast")
        assert isocenter_command(*face, *end).returncode == 0
        assert isocenter_command(*face, "set", "--mpps-uid", uid).returncode == 2
    step = orjson.loads((files / f"{uid}.json").read_bytes())
    assert (step["status"], step["patientId"], step["modality"]) == ("DISCONTINUED", "P1", "CT")
    assert orjson.loads(whole.read_bytes()) == [step]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["worklistscp", "11112"], 2, "--folder"),
        (["worklistscp", "--folder", "/nowhere", "11112"], 2, "/nowhere is no folder"),
        (["mppsscp", "--data-dir", "x", "99999"], 2, "'99999' is no port"),
        (["mppsscp", "11112"], 2, "where shall steps be kept?"),
        (["worklistscp", "11112", "--worklist-file", "/nowhere"], 2, "/nowhere is no file"),
        (["echoscp"], 2, "where to listen? Give a port"),
        (["echoscp", "11112", "A", "B"], 2, "'B' is one argument too many"),
        (["echoscp", "11112", "--port", "11113"], 2, "the port is given twice"),
        (["echoscp", "11112", "THIS_IS_FAR_TOO_LONG"], 2, "is not an AE title"),
        (["echoscp", "11112", "--tls"], 2, "give --tls-cert and --tls-key"),
        (["echoscp", "11112", "--tls-cert", "x"], 2, "add --tls"),
        (["secureechoscp", "--cert", "x"], 2, "--key"),
        (["storescp", "11112"], 2, "--storage-dir"),
        (["storescp", "11112", "--storage-dir", "x", "--accept", "CT,FOO"], 2, "'FOO' is no"),
        (["storescp", "11112", "--storage-dir", "x", "--index-db", "y"], 2, "leave --index-db out"),
        (["qrscp", "11112", "--storage-dir", "/nowhere"], 2, "/nowhere is no folder"),
        (["qrscp", "11112", "--storage-dir", "/", "--peer", "X"], 2, "'X' is not AET:HOST:PORT"),
        (["pacsserver", "--db-path", "pacs.db"], 2, "leave --db-path out"),
    ],
)
def test_what_cannot_be(words: list[str], code: int, says: str) -> None:
    done = isocenter_command(*words)
    assert done.returncode == code
    assert says in done.stdout
