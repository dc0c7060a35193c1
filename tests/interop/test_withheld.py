"""Quarantine and rejection notes as DCMTK sees them: storescu, findscu, getscu, dsrdump."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from isocenter.engine.dataset import write_file_meta
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.rejection.reasons import KEY_OBJECT_SELECTION
from services.archive.test_rejection import note
from services.archive_support import CT, STUDY, data_set, uid
from services.cli_support import write_object
from support.processes import ServedArchive, isocenter_command, run, served_archive, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.interop("storescu", "findscu", "getscu", "dsrdump"),
]

CONFIG = """
[query]
always_relational = true

[[rules]]
name = "strangers"
when = { patient_id = "" }
quarantine = "no Patient ID"
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("withheld")
    config = folder / "isocenter.toml"
    config.write_text(CONFIG)
    with served_archive(folder, "--config", config, "--workers", "2") as served:
        yield served


def send(archive: ServedArchive, *paths: Path) -> str:
    done = run(
        "storescu", "-v", "-R", "-aec", "ISOCENTER", "127.0.0.1", archive.port,
        *map(str, paths),
    )  # fmt: skip
    return done.stdout


def found(archive: ServedArchive) -> list[str]:
    """SOP Instance UIDs of the study."""
    done = run(
        "findscu", "-S", "-aec", "ISOCENTER", "127.0.0.1", archive.port,
        "-k", "QueryRetrieveLevel=IMAGE", "-k", f"StudyInstanceUID={STUDY}",
        "-k", "SeriesInstanceUID", "-k", "SOPInstanceUID",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return sorted(re.findall(r"\(0008,0018\) UI \[([0-9.]+)", done.stdout))


def part10(path: Path, sop_class: str, name: str, data: bytes) -> Path:
    header = write_file_meta(
        sop_class_uid=sop_class,
        sop_instance_uid=name,
        transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
        source_ae_title="TEST",
    )
    path.write_bytes(header + data)
    return path


def test_what_a_note_rejects_is_gone_when_storescu_is_answered(
    archive: ServedArchive, tmp_path: Path
) -> None:
    images = [write_object(tmp_path, number) for number in (1, 2, 3)]
    send(archive, *images)
    before = found(archive)
    assert set(before) == {uid(1), uid(2), uid(3)}
    kos = part10(tmp_path / "note.dcm", KEY_OBJECT_SELECTION, "1.2.3.4.5", note("113037", 1, 2))
    assert "Store Response (Success)" in send(archive, kos)
    assert found(archive) == sorted(["1.2.3.4.5", uid(3)])
    assert "0x124" in send(archive, images[0])
    folder = tmp_path / "got"
    folder.mkdir()
    run(
        "getscu", "-S", "-aec", "ISOCENTER", "-od", str(folder), "127.0.0.1", archive.port,
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}",
    )  # fmt: skip
    assert len(list(folder.iterdir())) == 2
    done = isocenter_command(
        "reject", "revoke", "1.2.3.4.5", "--reason", "no", "--yes", "--data-dir", archive.data_dir
    )
    assert done.returncode == 0, done.stdout
    assert found(archive) == before


def test_a_note_that_is_made_beside_a_server_is_read_by_dcmtk(
    archive: ServedArchive, tmp_path: Path
) -> None:
    send(archive, *(write_object(tmp_path, number) for number in (1, 2)))
    done = isocenter_command(
        "reject", "add", "--instance", uid(1), "--for", "quality", "--reason", "motion", "--yes",
        "--data-dir", archive.data_dir,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    made = done.stdout.split("rejected by ")[1].split()[0]
    assert uid(1) not in found(archive)
    wait_until(lambda: made in found(archive), archive.process)
    done = run(
        "getscu", "-S", "-aec", "ISOCENTER", "-od", str(tmp_path), "127.0.0.1", archive.port,
        "-k", "QueryRetrieveLevel=IMAGE", "-k", f"StudyInstanceUID={STUDY}",
        "-k", f"SOPInstanceUID={made}",
    )  # fmt: skip
    (path,) = [path for path in tmp_path.iterdir() if made in path.name]
    shown = run("dsrdump", str(path))
    assert shown.returncode == 0, shown.stdout
    assert "Rejected for Quality Reasons" in shown.stdout
    assert "motion" in shown.stdout
    assert CT in shown.stdout or "CT image" in shown.stdout


def test_what_is_quarantined_is_neither_found_nor_fetched_until_it_is_released(
    archive: ServedArchive, tmp_path: Path
) -> None:
    stranger = part10(tmp_path / "7.dcm", CT, uid(7), data_set(7, patient_id=""))
    send(archive, stranger)
    assert uid(7) not in found(archive)
    listed = isocenter_command("quarantine", "list", "--json", "--data-dir", archive.data_dir)
    (row,) = json.loads(listed.stdout)
    assert (row["reason"], row["by"], row["instances"]) == ("no Patient ID", "", 1)
    done = isocenter_command(
        "quarantine", "release", row["quarantine"], "--data-dir", archive.data_dir
    )
    assert done.returncode == 0, done.stdout
    assert uid(7) in found(archive)
