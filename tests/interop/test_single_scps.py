"""`isocenter worklistscp` and `mppsscp`, asked by DCMTK and pynetdicom."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    Verification,
)

from services.service_classes.mpps.samples import begun, ended
from services.service_classes.worklist.samples import order
from support.processes import ISOCENTER, isocenter_command, program, run, wait_for_line

pytestmark = [
    pytest.mark.interop("findscu"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]


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
        assert process.wait(20) == 0


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


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["worklistscp", "11112"], 2, "--folder"),
        (["worklistscp", "--folder", "/nowhere", "11112"], 2, "/nowhere is no folder"),
        (["mppsscp", "--data-dir", "x", "99999"], 2, "'99999' is no port"),
    ],
)
def test_what_cannot_be(words: list[str], code: int, says: str) -> None:
    done = isocenter_command(*words)
    assert done.returncode == code
    assert says in done.stdout
