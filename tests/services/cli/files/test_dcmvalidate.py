"""`dcmvalidate` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest

from isocenter.services.cli import main

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
CT = DATA / "CT_small.dcm"
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    data_set = pydicom.dcmread(CT)
    del data_set.SOPInstanceUID, data_set.StudyID
    path = tmp_path / "files" / "broken.dcm"
    path.parent.mkdir()
    data_set.save_as(path, enforce_file_format=False)
    return path


def test_a_file_that_is_valid(capfd: Captured) -> None:
    assert main(["dcmvalidate", str(CT)]) == 0
    out = capfd.readouterr().out
    assert out == f"{CT}: CT Image Storage: Validation PASSED - 0 error(s), 0 warning(s)\n"


def test_findings_and_exit_code_3(broken: Path, capfd: Captured) -> None:
    assert main(["dcmvalidate", str(broken)]) == 3
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].endswith("Validation FAILED - 1 error(s), 1 warning(s)")
    assert lines[1].split()[:3] == ["error", "CT-TYPE1-MISSING:", "SOPInstanceUID"]
    assert lines[2].split()[:3] == ["warning", "CT-TYPE2-MISSING:", "StudyID"]


def test_what_is_ignored_counts_for_nothing(broken: Path, capfd: Captured) -> None:
    words = ["dcmvalidate", "--ignore", "*-TYPE1-MISSING", str(broken)]
    assert main(words) == 0
    assert main([*words, "--strict"]) == 3
    assert "TYPE1" not in capfd.readouterr().out


def test_json(broken: Path, capfd: Captured) -> None:
    assert main(["dcmvalidate", "-f", "json", str(broken), str(CT)]) == 3
    first, second = json.loads(capfd.readouterr().out)
    assert (first["is_valid"], second["is_valid"]) == (False, True)
    assert first["findings"][0]["tag"] == "00080018"
    assert first["findings"][0]["edition"].startswith("2026")


def test_sarif(broken: Path, capfd: Captured) -> None:
    assert main(["dcmvalidate", "-f", "sarif", "-r", str(broken.parent), str(CT)]) == 3
    sarif = json.loads(capfd.readouterr().out)
    assert sarif["version"] == "2.1.0"
    (run,) = sarif["runs"]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in run["results"]} == rules
    place = run["results"][0]["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"].endswith("broken.dcm")
    assert place["logicalLocations"] == [{"fullyQualifiedName": "SOPInstanceUID"}]


def test_no_findings_are_sarif_as_well(capfd: Captured) -> None:
    assert main(["dcmvalidate", "-f", "sarif", str(CT)]) == 0
    assert json.loads(capfd.readouterr().out)["runs"][0]["results"] == []


def test_a_folder_by_rule_and_by_device(broken: Path, capfd: Captured) -> None:
    assert main(["dcmvalidate", "-r", "--summary", str(broken.parent)]) == 3
    out = capfd.readouterr().out
    assert out.startswith("1 objects, 0 valid, 1 not valid\n")
    assert "1  CT GE MEDICAL SYSTEMS RHAPSODE: CT-TYPE1-MISSING\n" in out


def test_what_is_no_dicom(tmp_path: Path, capfd: Captured) -> None:
    other = tmp_path / "note.txt"
    other.write_text("no DICOM")
    assert main(["dcmvalidate", str(other)]) == 2
    assert "not DICOM" in capfd.readouterr().err


def test_no_value_of_the_patient_is_shown(broken: Path, capfd: Captured) -> None:
    main(["dcmvalidate", "-v", str(broken)])
    captured = capfd.readouterr()
    assert "CompressedSamples" not in captured.out + captured.err


def test_the_sources_of_the_table(capfd: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dcmvalidate", "--sources"])
    assert ended.value.code == 0
    out = capfd.readouterr().out
    assert "editions: 2026" in out
    assert "conditional, not judged:" in out


def test_objects_of_one_entity_say_the_same_of_it(tmp_path: Path, capfd: Captured) -> None:
    data_set = pydicom.dcmread(CT)
    for number in (1, 2, 3):
        data_set.SOPInstanceUID = f"1.2.{number}"
        data_set.SeriesNumber = 7 if number == 3 else 1
        data_set.AccessionNumber = "" if number == 2 else "other" if number == 3 else "one"
        data_set.save_as(tmp_path / f"{number}.dcm", enforce_file_format=False)
    assert main(["dcmvalidate", "-r", str(tmp_path)]) == 0
    lines = [line for line in capfd.readouterr().out.splitlines() if "ENTITY" in line]
    assert [line.split()[2] for line in lines] == [
        "AccessionNumber", "AccessionNumber", "SeriesNumber",
    ]  # fmt: skip
    assert "earlier objects of the same study" in lines[0]
    first = str(tmp_path / "1.dcm")
    assert main(["dcmvalidate", first, first]) == 0
    assert "CT-ENTITY-TWICE: SOPInstanceUID" in capfd.readouterr().out
    assert main(["dcmvalidate", "-r", "--no-entities", str(tmp_path)]) == 0
    assert "ENTITY" not in capfd.readouterr().out


# -- Objects of an archive ---------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path, broken: Path) -> Path:
    folder = tmp_path / "archive"
    data_set = pydicom.dcmread(CT)
    del data_set.FrameOfReferenceUID
    data_set.save_as(broken, enforce_file_format=True)
    assert main(["import", "--quiet", "--data-dir", str(folder), str(broken)]) == 0
    return folder


def test_objects_of_an_archive(archive: Path, capfd: Captured) -> None:
    study = str(pydicom.dcmread(CT).StudyInstanceUID)
    capfd.readouterr()
    words = ["dcmvalidate", "--data-dir", str(archive), "--study"]
    assert main([*words, study]) == 3
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith(f"{pydicom.dcmread(CT).SOPInstanceUID}: CT Image Storage: ")
    assert "CT-TYPE1-MISSING: FrameOfReferenceUID" in lines[1]
    assert main([*words, "1.2.3"]) == 2
    assert "nothing in the archive matches" in capfd.readouterr().err


def test_files_or_an_archive_and_not_both(archive: Path, capfd: Captured) -> None:
    words = ["dcmvalidate", "--data-dir", str(archive)]
    assert main([*words, "--study", "1.2", str(CT)]) == 1
    assert main(["dcmvalidate"]) == 1
    assert "Give files, or --study" in capfd.readouterr().err
