"""ADT messages into a real server: what DCMTK's findscu and getscu see of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import hl7
import pydicom
import pytest
from hl7.client import MLLPClient

from services.archive_support import STUDY, uid
from services.cli_support import write_object
from services.integration.hl7.test_adt import MERGE, UPDATE
from services.security.audit.trails import messages, of_event
from support.processes import (
    ServedArchive,
    isocenter_command,
    run,
    served_archive,
    wait_for_line,
    wait_until,
)

pytestmark = [pytest.mark.slow, pytest.mark.interop("findscu", "getscu", "storescu")]

CONFIG = """
[hl7]
enabled = true
port = 0
patients = true
unknown_patients = "refuse"
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("adt")
    config = folder / "isocenter.toml"
    config.write_text(CONFIG)
    with served_archive(folder, "--config", config) as served:
        path = write_object(folder, 1)
        done = run("storescu", "-aec", "ISOCENTER", "127.0.0.1", served.port, str(path))
        assert done.returncode == 0, done.stdout
        yield served


def send(archive: ServedArchive, message: str) -> list[str]:
    """The MSA and ERR segments of the answer."""
    port = int(wait_for_line(archive.process, r"^  HL7 orders .*:(\d+)$", archive.log)[1])
    with MLLPClient("127.0.0.1", port) as client:
        client.socket.settimeout(120)
        answer = client.send_message(message).strip(b"\x0b\x1c\r").decode()
    return [line for line in answer.split("\r") if line[:3] in ("MSA", "ERR")]


def found(archive: ServedArchive, *keys: str) -> str:
    arguments = [word for key in (*keys, "PatientName", "PatientSex") for word in ("-k", key)]
    done = run(
        "findscu", "-S", "-aec", "ISOCENTER", "127.0.0.1", archive.port,
        "-k", "QueryRetrieveLevel=STUDY", *arguments,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_patients_are_updated_and_merged_as_DCMTK_sees_it(
    archive: ServedArchive, tmp_path: Path
) -> None:
    assert hl7.parse(UPDATE)
    assert send(archive, UPDATE) == ["MSA|AA|MSG0001"]
    wait_until(lambda: "Muster^Erika" in found(archive, "PatientID=P1"), archive.process)
    only_one = MERGE.split("PID|2")[0]
    assert send(archive, only_one) == ["MSA|AA|MSG0002"]
    wait_until(lambda: "Pending" in found(archive, "PatientID=P2"), archive.process)
    assert "Pending" not in found(archive, "PatientID=P1")
    done = run(
        "getscu", "-S", "-aec", "ISOCENTER", "-od", str(tmp_path), "127.0.0.1", archive.port,
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    (path,) = tmp_path.iterdir()
    data_set = pydicom.dcmread(path)
    assert (data_set.SOPInstanceUID, data_set.PatientID) == (uid(1), "P2")
    assert str(data_set.PatientName) == "Muster^Erika"
    assert [str(one.PatientID) for one in data_set.OtherPatientIDsSequence] == ["P1"]
    originals = data_set.OriginalAttributesSequence
    assert any("Anna" in str(one.ModifiedAttributesSequence[0].get("PatientName", ""))
               for one in originals)  # fmt: skip


def test_what_cannot_be_done_is_answered_with_its_place_and_kept(archive: ServedArchive) -> None:
    unknown = UPDATE.replace("P1^^^HOSPITAL", "P9^^^HOSPITAL").replace("~99^^^STATE^SS", "")
    msa, err = send(archive, unknown)
    assert msa == "MSA|AE|MSG0001|PID-3: the archive has nothing of that patient"
    assert "PID^1^3" in err
    assert "204^Unknown key identifier^HL70357" in err
    msa, err = send(archive, MERGE.replace("MRG|P1^^^HOSPITAL", "MRG|P2^^^HOSPITAL"))
    assert msa.startswith("MSA|AE|MSG0002")
    msa, err = send(archive, UPDATE.replace("A08", "A02"))
    assert msa.startswith("MSA|AR|MSG0001")
    assert "201^Unsupported event code^HL70357" in err
    listed = isocenter_command("reconciliation", "list", "--json", "--data-dir", archive.data_dir)
    assert listed.returncode == 0, listed.stdout
    rows = json.loads(listed.stdout)
    assert sum(row["outcome"] == "failed" for row in rows) >= 3
    wait_until(
        lambda: len(of_event(messages(archive.data_dir / "audit"), "110110")) == len(rows),
        archive.process,
    )
    assert "Muster" not in archive.log.read_text()
