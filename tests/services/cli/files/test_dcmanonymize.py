"""`dcmanonymize` as it is typed: outputs, names, keys, mappings, reports, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from isocenter.services.cli import main
from support.deidentification import all_text, file_bytes, patient

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def file_of(place: Path, data_set: Dataset | None = None) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(file_bytes(data_set or patient(StudyDate="20200110")))
    return place


def anonymize(*words: object) -> int:
    return main(["dcmanonymize", *map(str, words)])


def test_a_file_becomes_another_and_stays_what_it_was(folder: Path, capsys: Captured) -> None:
    before = file_of(folder / "ct.dcm")
    digest = hashlib.sha256(before.read_bytes()).digest()
    assert anonymize(before, "-o", folder / "out" / "new.dcm") == 0
    assert hashlib.sha256(before.read_bytes()).digest() == digest
    made = pydicom.dcmread(folder / "out" / "new.dcm")
    assert made.PatientIdentityRemoved == "YES"
    content = (folder / "out" / "new.dcm").read_bytes().lower()
    assert b"zenobia" not in content
    assert b"quixote" not in content
    assert capsys.readouterr() == ("", "")


def test_two_paths_are_input_and_output_and_one_is_changed_in_place(folder: Path) -> None:
    one = file_of(folder / "a.dcm")
    assert anonymize(one, folder / "b.dcm") == 0
    assert pydicom.dcmread(folder / "b.dcm").PatientIdentityRemoved == "YES"
    assert anonymize(one) == 0
    assert pydicom.dcmread(one).PatientIdentityRemoved == "YES"
    assert pydicom.dcmread(folder / "a.dcm.bak").PatientID == "ZQ-471100"
    other = file_of(folder / "c.dcm")
    assert anonymize(other, "--no-backup") == 0
    assert not (folder / "c.dcm.bak").exists()


def test_folders_keep_their_shape_and_names_that_tell_something_do_not(
    folder: Path, capsys: Captured
) -> None:
    source = folder / "in"
    for name in (
        "IM0001", "sub/Quixotebaum_Zenobia.dcm", "ZQ-471100/IM0002", "sub/1.2.3.4.5.dcm",
        "sub/CT_20200110.dcm",
    ):  # fmt: skip
        file_of(source / name)
    (source / "note.txt").write_text("no DICOM")
    assert anonymize("--recursive", source, "-o", folder / "out") == 0
    made = sorted(str(path.relative_to(folder / "out")) for path in (folder / "out").rglob("*")
                  if path.is_file())  # fmt: skip
    assert "IM0001" in made
    text = "\n".join(made)
    assert not any(word in text for word in ("Quixote", "Zenobia", "471100", "1.2.3", "2020"))
    assert len(made) == 5
    assert "1 of 6 files are of another kind" in capsys.readouterr().err


def test_the_same_key_gives_the_same_pseudonyms_in_another_run(
    folder: Path, capsys: Captured
) -> None:
    one = file_of(folder / "a.dcm")
    key = folder / "project.key"
    assert anonymize(one, "-o", folder / "1.dcm", "--new-key", key) == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert anonymize(one, "-o", folder / "2.dcm", "--key-file", key) == 0
    assert anonymize(one, "-o", folder / "3.dcm") == 0
    first, second, third = ((folder / f"{n}.dcm").read_bytes() for n in (1, 2, 3))
    assert first == second != third
    assert anonymize(one, "-o", folder / "4.dcm", "--new-key", key) == 1
    assert "--key-file takes it" in capsys.readouterr().err


def test_a_mapping_is_written_and_read_again(folder: Path) -> None:
    one, mapping = file_of(folder / "a.dcm"), folder / "map.json"
    assert anonymize(one, "-o", folder / "1.dcm", "-m", mapping) == 0
    assert stat.S_IMODE(mapping.stat().st_mode) == 0o600
    pairs = {each["original"]: each["anonymized"]
             for each in json.loads(mapping.read_text())["mappings"]}  # fmt: skip
    assert set(pairs) == {"1.2.3.4", "1.2.3.4.1", "1.2.3.4.5"}
    assert anonymize(one, "-o", folder / "2.dcm", "-m", mapping) == 0
    again = pydicom.dcmread(folder / "2.dcm")
    assert again.SOPInstanceUID == pairs["1.2.3.4.5"]


def test_a_root_of_ones_own_is_used(folder: Path) -> None:
    one = file_of(folder / "a.dcm")
    assert anonymize(one, "-o", folder / "1.dcm", "--uid-root", "1.2.826.0.1.3680043.10.9") == 0
    uid = pydicom.dcmread(folder / "1.dcm").SOPInstanceUID
    assert uid.startswith("1.2.826.0.1.3680043.10.9.")
    assert uid.is_valid


def test_options_and_rules_of_the_command_line_count(folder: Path) -> None:
    one = file_of(folder / "a.dcm", patient(
        StudyDate="20200110", PatientSex="F", StudyDescription="knee", Manufacturer="ACME",
        StationName="CT1", PatientComments="x", SeriesDescription="axial",
    ))  # fmt: skip
    assert anonymize(
        one, "-o", folder / "1.dcm", "--options", "patient,device", "-k", "StudyDescription",
        "-r", "0010,4000=phantom", "--patient-id", "S-001", "--patient-name", "Subject^001",
        "--date-offset", "-10", "--clean", "SeriesDescription", "--retain-uid",
    ) == 0  # fmt: skip
    made = pydicom.dcmread(folder / "1.dcm")
    assert (made.PatientSex, made.StudyDescription, made.StationName) == ("F", "knee", "CT1")
    assert (made.PatientComments, made.PatientID) == ("phantom", "S-001")
    assert (made.PatientName, made.StudyDate) == ("Subject^001", "20191231")
    assert (made.SeriesDescription, made.SOPInstanceUID) == ("axial", "1.2.3.4.5")


def test_a_report_is_for_its_owner_and_shows_values_only_where_asked(
    folder: Path, capsys: Captured
) -> None:
    one = file_of(folder / "Zenobia.dcm")
    place = folder / "report.json"
    assert anonymize(one, "-o", folder / "out/", "--report", place, "--detailed") == 0
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    text = place.read_text()
    report = json.loads(text)
    assert report["profile"] == "basic"
    assert report["processed"] == 1
    assert report["counts"]["uids"] == 3
    assert {"path": "(0010,0010)", "action": "replaced"} in report["files"][0]["changes"]
    assert "Zenobia" not in text
    assert "1.2.3.4.5" not in text
    assert anonymize(one, "--dry-run", "--with-values") == 0
    assert "Quixotebaum^Zenobia" in capsys.readouterr().out
    assert pydicom.dcmread(one).PatientID == "ZQ-471100"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-p", "none"), "no profile"),
        (("--options", "everything"), "no option"),
        (("--options", "full,modified"), "choose one option"),
        (("-k", "NoSuchKeyword"), "no keyword"),
        (("-r", "PatientID"), "expected TAG=VALUE"),
        (("--uid-root", "1.2.840.10008.1"), "DICOM itself"),
        (("--key-file", "/nonexistent"), "cannot read"),
        (("--known", "/nonexistent"), "--known"),
    ],
)
def test_arguments_that_cannot_be_are_errors(
    folder: Path, capsys: Captured, words: tuple[str, ...], message: str
) -> None:
    one = file_of(folder / "a.dcm")
    try:
        code = anonymize(one, "-o", folder / "1.dcm", *words)
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    assert code == 1
    assert message in capsys.readouterr().err
    assert not (folder / "1.dcm").exists()


def test_what_cannot_be_done_costs_its_file_and_leaves_nothing_behind(
    folder: Path, capsys: Captured
) -> None:
    source = folder / "in"
    file_of(source / "good.dcm")
    pdf = patient(SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", EncapsulatedDocument=b"%PDF",
                  MIMETypeOfEncapsulatedDocument="application/pdf")  # fmt: skip
    file_of(source / "pdf.dcm", pdf)
    content = file_bytes(patient())
    (source / "cut.dcm").write_bytes(content[:-6])
    shutil.copy(DATA / "nested_priv_SQ.dcm", source / "no_uids.dcm")
    shutil.copytree(DATA / "dicomdirtests" / "98892003", source / "media", dirs_exist_ok=True)
    shutil.copy(DATA / "dicomdirtests" / "DICOMDIR", source / "DICOMDIR")
    assert anonymize("--recursive", source, "-o", folder / "out", "--no-progress") == 2
    error = capsys.readouterr().err
    for word in ("policy for documents", "damaged", "insert it with dcmmodify"):
        assert word in error
    made = {path.name for path in (folder / "out").rglob("*") if path.is_file()}
    assert "good.dcm" in made
    assert not made & {"pdf.dcm", "cut.dcm", "no_uids.dcm", "DICOMDIR"}
    assert not [name for name in made if name.startswith(".")]


def test_the_output_may_not_be_the_input(folder: Path, capsys: Captured) -> None:
    one = file_of(folder / "a.dcm")
    assert anonymize(one, "-o", folder) == 2
    assert "the output is the input" in capsys.readouterr().err
    assert pydicom.dcmread(one).PatientID == "ZQ-471100"


@pytest.mark.parametrize(
    "name",
    ["CT_small.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm", "rtplan.dcm", "image_dfl.dcm",
     "test-SR.dcm", "examples_overlay.dcm", "SC_rgb_rle_2frame.dcm",
     "examples_ybr_color.dcm", "reportsi.dcm", "liver_1frame.dcm", "waveform_ecg.dcm"],
)  # fmt: skip
def test_files_of_every_kind_keep_their_pixels_and_lose_their_patient(
    folder: Path, name: str
) -> None:
    source = DATA / name
    before = pydicom.dcmread(source, force=True)
    assert anonymize(source, "-o", folder / "1.dcm") == 0
    made = pydicom.dcmread(folder / "1.dcm")
    assert made.get("PixelData") == before.get("PixelData")
    assert made.file_meta.TransferSyntaxUID == before.file_meta.get(
        "TransferSyntaxUID", "1.2.840.10008.1.2"
    )
    assert made.SOPClassUID == before.SOPClassUID
    text = all_text(made)
    for keyword in ("PatientID", "StudyInstanceUID", "SOPInstanceUID", "SeriesInstanceUID"):
        value = str(before.get(keyword, ""))
        assert len(value) < 5 or value not in text
    assert os.path.getsize(folder / "1.dcm") <= os.path.getsize(source) + 1500


def test_pixels_are_cleaned_on_the_command_line(folder: Path, capsys: Captured) -> None:
    source = DATA / "SC_rgb_rle_2frame.dcm"
    rules = folder / "rules.txt"
    rules.write_text("# all\nModality=OT\t0,0,100,50\n")
    assert anonymize(source, "-o", folder / "1.dcm", "--options", "pixels") == 2
    assert "no rule says where" in capsys.readouterr().err
    assert not (folder / "1.dcm").exists()
    words = ("--options", "pixels", "--pixel-rules", rules)
    assert anonymize(source, "-o", folder / "1.dcm", *words) == 0
    before, made = pydicom.dcmread(source), pydicom.dcmread(folder / "1.dcm")
    assert made.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
    assert not made.pixel_array[:, :50].any()
    assert (made.pixel_array[:, 50:] == before.pixel_array[:, 50:]).all()
    rules.write_text("nonsense\n")
    assert anonymize(source, "-o", folder / "2.dcm", *words) == 1
    assert "line 1" in capsys.readouterr().err


def test_a_project_of_settings_is_a_profile_with_its_key(folder: Path) -> None:
    one = file_of(folder / "a.dcm", patient(StudyDescription="knee", StudyDate="20200110"))
    key = folder / "trial.key"
    assert anonymize(one, "-o", folder / "0.dcm", "--new-key", key, "-p", "gdpr_compliant") == 0
    config = folder / "isocenter.toml"
    config.write_text(
        f'[storage]\ndata_dir = "{folder / "data"}"\n[[deidentification]]\nname = "trial"\n'
        f'profile = "gdpr_compliant"\nkeep = ["StudyDescription"]\nkey_file = "{key}"\n'
    )
    assert anonymize(one, "-o", folder / "1.dcm", "--config", config, "-p", "trial") == 0
    made, known = pydicom.dcmread(folder / "1.dcm"), pydicom.dcmread(folder / "0.dcm")
    assert made.StudyDescription == "knee"
    assert (made.PatientID, made.StudyDate) == (known.PatientID, known.StudyDate)
    config.write_text(
        f'[storage]\ndata_dir = "{folder / "data"}"\n[[deidentification]]\nname = "trial"\n'
    )
    # A key of its own would give other pseudonyms than the project's.
    assert anonymize(one, "-o", folder / "2.dcm", "--config", config, "-p", "trial") == 1
    assert not (folder / "2.dcm").exists()
    config.write_text("[[deidentification]]\nname = 1\n")
    assert anonymize(one, "-o", folder / "2.dcm", "--config", config, "-p", "trial") == 1


def test_names_of_files_have_no_short_id_and_no_date_with_signs(folder: Path) -> None:
    values = {"PatientID": "K7", "StudyDate": "20200110"}
    for number, name in enumerate(("K7-head.dcm", "2020-01-10/head.dcm", "K75.dcm"), 1):
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        file_of(folder / "in" / name, patient(SOPInstanceUID=f"1.2.9.{number}", **values))
    assert anonymize(folder / "in", "--recursive", "-o", folder / "out") == 0
    names = [str(path.relative_to(folder / "out")) for path in (folder / "out").rglob("*.dcm")]
    assert len(names) == 3
    assert "K75.dcm" in names
    assert not [name for name in names if "K7-" in name or "2020-01-10" in name]


def test_dates_are_not_moved_by_nothing(folder: Path) -> None:
    one = file_of(folder / "a.dcm", patient())
    assert anonymize(one, "-o", folder / "1.dcm", "--date-offset", "0") == 1
