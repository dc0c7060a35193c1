"""Projects of de-identification on a running archive: by DIMSE, by WADO-URI, by export."""

from __future__ import annotations

import io
import json
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pydicom
import pytest

from isocenter.services.cli import main
from support.deidentification import all_text, file_bytes, patient
from support.ports import free_port
from support.processes import (
    ServedArchive,
    program,
    served_archive,
    wait_for_port,
    wait_until,
)

Output = pytest.CaptureFixture[str]
SETTINGS = """
[[peers]]
ae_title = "TRIAL"
host = "127.0.0.1"
port = {port}

[[deidentification]]
name = "trial"
profile = "retain_longitudinal"
destinations = ["TRIAL"]
weekdays = true
keep = ["StudyDescription"]

[[rules]]
name = "to the trial"
when = {{ StudyDescription = "hip" }}
forward = ["TRIAL"]
"""


@pytest.fixture(scope="module")
def trial_port() -> int:
    """Where the AE TRIAL is said to be."""
    return free_port()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, trial_port: int) -> Iterator[ServedArchive]:
    """With one study, and a project for the AE TRIAL."""
    folder = tmp_path_factory.mktemp("deidentification")
    config = folder / "isocenter.toml"
    config.write_text(SETTINGS.format(port=trial_port))
    with served_archive(folder, "--config", config) as running:
        one = folder / "1.dcm"
        one.write_bytes(file_bytes(patient(StudyDate="20200110", StudyDescription="knee")))
        assert main(["storescu", "-q", f"ISOCENTER@127.0.0.1:{running.port}", str(one)]) == 0
        yield running


def is_clean(data_set: pydicom.Dataset) -> bool:
    text = all_text(data_set)
    return data_set.PatientIdentityRemoved == "YES" and not any(
        word in text for word in ("Quixotebaum", "Zenobia", "471100", "1.2.3.4")
    )


def study_of(running: ServedArchive, ae_title: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The Study Instance UID that a caller finds first."""
    capsys.readouterr()
    assert main(["findscu", "-q", "-aet", ae_title, "-k", "ModalitiesInStudy=CT", "-k",
                 "StudyInstanceUID", "--format", "json",
                 f"ISOCENTER@127.0.0.1:{running.port}"]) == 0  # fmt: skip
    return re.findall(r'"([0-9]+[.][0-9.]+)"', capsys.readouterr().out)[0]


def whole_files(folder: Path) -> list[Path]:
    """Those that have come to their end."""

    def is_whole(path: Path) -> bool:
        try:
            return "PatientIdentityRemoved" in pydicom.dcmread(path)
        except (OSError, ValueError, EOFError, pydicom.errors.InvalidDicomError):
            return False

    return [path for path in folder.iterdir() if is_whole(path)]


def get(
    running: ServedArchive, ae_title: str, folder: Path, study: str = "1.2.3.4"
) -> pydicom.FileDataset:
    folder.mkdir()
    assert main(["getscu", "-q", "-aet", ae_title, "-k", f"StudyInstanceUID={study}",
                 f"ISOCENTER@127.0.0.1:{running.port}", "-od", str(folder)]) == 0  # fmt: skip
    (path,) = [path for path in folder.rglob("*") if path.is_file()]
    return pydicom.dcmread(path)


def test_the_ae_of_a_project_gets_nothing_but_de_identified_objects(
    archive: ServedArchive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(archive, "TRIAL", capsys)
    assert study != "1.2.3.4"
    found = get(archive, "TRIAL", tmp_path / "trial", study)
    assert found.StudyInstanceUID == study
    assert is_clean(found)
    assert found.StudyDescription == "knee"
    days = (pydicom.valuerep.DA(found.StudyDate) - pydicom.valuerep.DA("20200110")).days
    assert days % 7 == 0
    assert days < 0
    other = get(archive, "WARD", tmp_path / "ward")
    assert other.PatientID == "ZQ-471100"


@pytest.mark.interop("findscu", "getscu")
def test_programs_of_others_are_given_pseudonyms_by_their_title(
    archive: ServedArchive, tmp_path: Path
) -> None:
    """DCMTK asks, and DCMTK's answers are searched."""
    peer = ["-aec", "ISOCENTER", "127.0.0.1", str(archive.port)]

    def find(title: str) -> str:
        keys = [
            "QueryRetrieveLevel=STUDY",
            "ModalitiesInStudy=CT",
            "StudyInstanceUID",
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "AccessionNumber",
            "StudyDate",
        ]
        asked = [word for key in keys for word in ("-k", key)]
        words = ["findscu", "-S", "-aet", title, *asked, *peer]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout + done.stderr

    found = find("TRIAL")
    assert not any(word in found for word in ("Quixotebaum", "471100", "19430912", "ACC998877"))
    assert "Quixotebaum" in find("WARD")
    study = re.findall(r"\(0020,000d\) UI \[([0-9.]+)", found)[0]
    folder = tmp_path / "got"
    folder.mkdir()
    words = ["getscu", "-S", "-aet", "TRIAL", "-k", "QueryRetrieveLevel=STUDY", "-k",
             f"StudyInstanceUID={study}", "-od", str(folder), *peer]  # fmt: skip
    subprocess.run(words, capture_output=True, timeout=60, check=True)
    (path,) = folder.iterdir()
    got = pydicom.dcmread(path, force=True)
    assert is_clean(got)
    assert got.StudyInstanceUID == study


@pytest.mark.interop("storescp")
def test_what_is_moved_or_forwarded_to_it_is_de_identified(
    archive: ServedArchive, trial_port: int, tmp_path: Path
) -> None:
    folder, log = tmp_path / "received", tmp_path / "storescp.log"
    folder.mkdir()
    words = ("storescp", "-v", "-aet", "TRIAL", "-od", folder, "+uf", trial_port)
    with program(*words, log=log) as process:
        wait_for_port(process, trial_port, log)
        address = f"ISOCENTER@127.0.0.1:{archive.port}"
        moved = main(["movescu", "-q", "-aem", "TRIAL", "-k", "StudyInstanceUID=1.2.3.4", address])
        assert moved == 0, f"{archive.log.read_text('utf-8')}\n{log.read_text('utf-8')}"
        one = tmp_path / "2.dcm"
        one.write_bytes(file_bytes(patient(
            SOPInstanceUID="1.2.3.4.6", StudyInstanceUID="1.2.3.9", StudyDescription="hip",
        )))  # fmt: skip
        assert main(["storescu", "-q", address, str(one)]) == 0
        # Associations are kept for a while.
        wait_until(lambda: len(whole_files(folder)) == 2, process)
    received = {
        each.StudyDescription: each for each in map(pydicom.dcmread, sorted(folder.iterdir()))
    }
    assert set(received) == {"knee", "hip"}
    assert all(map(is_clean, received.values()))
    # One patient is one patient, in whatever way they came.
    assert received["knee"].PatientID == received["hip"].PatientID


def test_wado_uri_de_identifies_on_request(archive: ServedArchive) -> None:
    url = f"{archive.web_url}/wado"
    names = {"requestType": "WADO", "studyUID": "1.2.3.4", "seriesUID": "1.2.3.4.1",
             "objectUID": "1.2.3.4.5", "contentType": "application/dicom"}  # fmt: skip
    answer = httpx.get(url, params={**names, "anonymize": "yes"})
    assert answer.status_code == 200, answer.text
    found = pydicom.dcmread(io.BytesIO(answer.content))
    assert is_clean(found)
    assert "StudyDescription" not in found
    assert int(answer.headers["content-length"]) == len(answer.content)
    again = httpx.get(url, params={**names, "anonymize": "yes"})
    assert again.content == answer.content
    picture = httpx.get(url, params={**names, "contentType": "image/jpeg", "anonymize": "yes"})
    assert picture.status_code in (400, 406)
    assert httpx.get(url, params={**names, "anonymize": "no"}).status_code == 400
    other = {**names, "anonymize": "yes", "transferSyntax": "1.2.840.10008.1.2"}
    assert httpx.get(url, params=other).status_code == 406


def test_an_export_is_de_identified_and_mapped_back(
    archive: ServedArchive, tmp_path: Path, capfd: Output
) -> None:
    data = ["--data-dir", str(archive.data_dir)]
    words = ["export", *data, "--study", "1.2.3.4", "--to", str(tmp_path / "out")]
    assert main([*words, "--deidentify", "none"]) == 1
    assert "no project" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*words, "--deidentify", "basic"]) == 0
    (path,) = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    found = pydicom.dcmread(path)
    assert is_clean(found)
    assert path.relative_to(tmp_path / "out").parts == (
        found.StudyInstanceUID, found.SeriesInstanceUID, f"{found.SOPInstanceUID}.dcm",
    )  # fmt: skip
    capfd.readouterr()
    assert main(["deidentification", "original", *data, "basic", found.SOPInstanceUID]) == 0
    assert capfd.readouterr().out == f"{found.SOPInstanceUID}\t1.2.3.4.5\n"
    assert main(["deidentification", "original", *data, "basic", "2.25.1"]) == 1
    mapping = tmp_path / "mapping.json"
    assert main(["deidentification", "export", *data, "basic", str(mapping)]) == 0
    assert stat.S_IMODE(mapping.stat().st_mode) == 0o600
    pairs = json.loads(mapping.read_text())["mappings"]
    assert {"original": "1.2.3.4.5", "anonymized": found.SOPInstanceUID} in pairs
    assert main(["deidentification", "import", *data, "basic", str(mapping)]) == 0
    mapping.write_text(json.dumps({"mappings": [{"original": "1.2.3.4", "anonymized": "2.25.9"}]}))
    assert main(["deidentification", "import", *data, "basic", str(mapping)]) == 1
    assert main(["deidentification", "import", *data, "none", str(mapping)]) == 2
    capfd.readouterr()
    assert main(["deidentification", "list", *data, "--format", "json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)
    assert row["project"] == "basic"
    assert row["UIDs"] == "3"


def test_the_key_of_a_project_is_made_once_and_for_its_owner(archive: ServedArchive) -> None:
    path = archive.data_dir / "deidentification" / "trial.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(bytes.fromhex(path.read_text())) == 32


def test_a_key_is_copied_to_another_archive(tmp_path: Path, capfd: Output) -> None:
    """What the one has given out, the other gives out as well."""
    one, two, key = (tmp_path / name for name in ("one", "two", "basic.key"))
    archives = [["--data-dir", str(each)] for each in (one, two)]
    source = tmp_path / "files"
    source.mkdir()
    (source / "1.dcm").write_bytes(file_bytes(patient()))
    for data in archives:
        assert main(["import", str(source), *data]) == 0
    assert main(["deidentification", "export-key", *archives[0], "basic", str(key)]) == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert main(["deidentification", "export-key", *archives[0], "basic", str(key)]) == 2
    assert main(["deidentification", "import-key", *archives[1], "basic", str(key)]) == 0
    made = []
    for data, name in zip(archives, ("a", "b"), strict=True):
        out = tmp_path / name
        assert main(["export", *data, "--study", "1.2.3.4", "--to", str(out), "--deidentify",
                     "basic"]) == 0  # fmt: skip
        made.append({path.name for path in out.rglob("*") if path.is_file()})
    assert made[0] == made[1]
    # The same once more changes nothing; another would make other people of the same patients.
    assert main(["deidentification", "import-key", *archives[1], "basic", str(key)]) == 0
    key.write_text("ab" * 32)
    capfd.readouterr()
    assert main(["deidentification", "import-key", *archives[1], "basic", str(key)]) == 1
    assert "under another key" in capfd.readouterr().err
    # After a restore without it, the one that made them comes back.
    (Path(archives[0][1]) / "deidentification" / "basic.key").unlink()
    assert main(["deidentification", "import-key", *archives[0], "basic", str(key)]) == 1
    shutil.copy(Path(archives[1][1]) / "deidentification" / "basic.key", key)
    assert main(["deidentification", "import-key", *archives[0], "basic", str(key)]) == 0
    key.write_text("short")
    assert main(["deidentification", "import-key", *archives[1], "basic", str(key)]) == 2
