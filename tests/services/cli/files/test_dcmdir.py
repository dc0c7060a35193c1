"""`dcmdir` as it is typed, beside pydicom's file-sets and DCMTK's dcmmkdir."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest

from isocenter.services.cli import main
from support.file_sets import file_set_in

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
SETS = DATA / "dicomdirtests"
Output = pytest.CaptureFixture[str]


def run(*words: str | Path) -> int:
    """The exit code, also where the arguments alone are wrong."""
    try:
        return main(["dcmdir", *map(str, words)])
    except SystemExit as error:
        return int(error.code or 0)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()
    }


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """A folder whose names conform, without a directory."""
    folder = tmp_path / "disc"
    shutil.copytree(SETS / "77654033", folder / "A" / "77654033")
    shutil.copytree(SETS / "98892001", folder / "A" / "98892001")
    return folder


def test_a_folder_gets_its_directory(disc: Path, capfd: Output) -> None:
    before = contents(disc)
    assert run("create", disc, "--file-set-id", "DISC 1") == 0
    assert capfd.readouterr().out == f"{disc}/DICOMDIR: {len(before)} files\n"
    file_set = file_set_in(disc / "DICOMDIR")
    assert file_set.ID == "DISC 1"
    assert {str(Path(one.path).relative_to(disc)) for one in file_set} == before.keys()
    assert run("verify", disc) == 0
    assert capfd.readouterr().out == f"{len(before)} files: all is well\n"
    assert {name: data for name, data in contents(disc).items() if name != "DICOMDIR"} == before
    assert run("create", disc) == 0, "once more, without itself"


def test_options_may_stand_between_folders(disc: Path, capfd: Output) -> None:
    first, second = disc / "A" / "77654033", disc / "A" / "98892001"
    assert run("create", first, "-o", disc, second, "--file-set-id", "DISC 1") == 0
    assert len(file_set_in(disc / "DICOMDIR")) == len(contents(disc / "A"))
    capfd.readouterr()
    assert run("create", first, "--no-such-option", second) == 1
    assert "unrecognized arguments: --no-such-option" in capfd.readouterr().err


def test_names_that_do_not_conform_are_refused_copied_or_renamed(
    tmp_path: Path, capfd: Output
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    shutil.copy(DATA / "CT_small.dcm", folder / "CT_small.dcm")
    shutil.copy(DATA / "MR_small.dcm", folder / "MR")
    (folder / "README.txt").write_text("no DICOM")
    assert run("create", folder) == 2
    errors = capfd.readouterr().err
    assert "'CT_small.dcm'; A-Z, 0-9 and _ make one" in errors
    assert "--rename renames it, --copy FOLDER" in errors
    assert len(file_set_in(folder / "DICOMDIR")) == 1
    (folder / "DICOMDIR").unlink()
    assert run("create", folder, "--copy", tmp_path / "cd") == 0
    assert sorted(contents(tmp_path / "cd")) == [
        "DICOM/PA000001/ST000001/SE000001/IM000001",
        "DICOM/PA000002/ST000001/SE000001/IM000001",
        "DICOMDIR",
    ]
    assert run("create", folder, "--copy", tmp_path / "cd") == 2, "it is there already"
    assert "is there already" in capfd.readouterr().err
    assert run("create", folder, "--rename") == 0
    assert run("verify", folder) == 0
    assert sorted(contents(folder)) == [
        "DICOM/PA000001/ST000001/SE000001/IM000001", "DICOMDIR", "MR", "README.txt",
    ]  # fmt: skip


def test_a_copy_gets_the_meta_that_it_lacks(tmp_path: Path, capfd: Output) -> None:
    source = DATA / "ExplVR_LitEndNoMeta.dcm"
    assert run("create", source, "--copy", tmp_path / "cd") == 0
    (instance,) = file_set_in(tmp_path / "cd" / "DICOMDIR")
    assert pydicom.dcmread(instance.path).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    shutil.copy(source, tmp_path / "CT")
    assert run("create", tmp_path / "CT", "-o", tmp_path) == 2
    assert "no File Meta Information" in capfd.readouterr().err
    assert not (tmp_path / "DICOMDIR").exists()


def test_names_as_a_cd_shows_them(disc: Path) -> None:
    (disc / "A").rename(disc / "a")
    assert run("create", disc, "+m") == 0
    assert run("verify", disc) == 0
    first = pydicom.dcmread(disc / "DICOMDIR").DirectoryRecordSequence[3]
    assert first.ReferencedFileID[0] == "A"


def test_what_is_in_it(capfd: Output) -> None:
    place = SETS / "DICOMDIR"
    assert run("list", place) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "File-set ID: PYDICOM_TEST"
    assert lines[-1] == "31 files"
    assert any(line.startswith("    SERIES CT | ") for line in lines)
    assert run("show", place, "--flat", "-l") == 0
    flat = capfd.readouterr().out.splitlines()
    assert len(flat) == 31
    assert "77654033\\CR1\\6154  IMAGE" in flat[0]
    assert run("list", SETS, "--json") == 0
    patients = json.loads(capfd.readouterr().out)
    assert [one["PatientID"] for one in patients] == ["77654033", "98890234"]
    assert patients[0]["records"][0]["type"] == "STUDY"


def test_faults_are_named(disc: Path, capfd: Output) -> None:
    assert run("create", disc) == 0
    gone, other, cut, stray = sorted(path for path in disc.rglob("*/*/*/*") if path.is_file())[:4]
    gone.unlink()
    shutil.copy(DATA / "CT_small.dcm", other)
    cut.write_bytes(cut.read_bytes()[:-100])
    stray.rename(stray.with_name("STRAY"))
    capfd.readouterr()
    assert run("verify", disc, "-v") == 2
    found = capfd.readouterr()
    for path, words in (
        (gone, "is missing"),
        (other, "is of another SOP instance than the directory says"),
        (other, "is of another patient than the directory says"),
        (cut, "cannot be read"),
        (stray, "is missing"),
    ):
        name = str(path.relative_to(disc)).replace(os.sep, "\\")
        assert f"{name} {words}" in found.err
    assert "STRAY is not in the directory" in found.err
    assert "findings" in found.out
    assert run("verify", disc, "--profile", "STD-GEN-CD") == 2


def test_files_are_added_and_removed(disc: Path, capfd: Output) -> None:
    assert run("create", disc) == 0
    before = len(file_set_in(disc / "DICOMDIR"))
    assert run("add", disc, DATA / "CT_small.dcm", DATA / "MR_small.dcm") == 0
    assert run("verify", disc) == 0
    assert len(file_set_in(disc / "DICOMDIR")) == before + 2
    uid = str(pydicom.dcmread(DATA / "CT_small.dcm").StudyInstanceUID)
    assert run("remove", disc, uid, "A/77654033", "--delete-files") == 0
    assert not contents(disc / "A" / "77654033")
    assert run("verify", disc) == 0
    left = [str(one.PatientID) for one in file_set_in(disc / "DICOMDIR")]
    assert "77654033" not in left
    assert "1CT1" not in left
    whole = contents(disc)
    assert run("update", disc, "-d", "NOTHING") == 1
    assert run("update", disc) == 1
    assert run("add", disc, DATA / "MR_small.dcm") == 2
    assert "has this SOP instance already" in capfd.readouterr().err
    assert contents(disc) == whole


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["list", "nothing"], 2, "nothing: No such file"),
        (["list", str(DATA / "CT_small.dcm")], 2, "is no DICOMDIR"),
        (["list", str(DATA / "README.txt")], 2, "no DICOMDIR: not DICOM"),
        (["verify", "nothing"], 2, "No such file"),
        (["create", "nothing"], 1, "no such file"),
        (["create", "--file-set-id", "low", "."], 1, "at most 16 characters"),
        (["create", "-o", "x", "--copy", "y", "."], 1, "leave out -o"),
        (["create", "--profile", "X", "."], 1, "invalid choice"),
        (["create", "a", "b"], 1, "no such file"),
        (["create", str(DATA / "CT_small.dcm")], 1, "Say with -o"),
        (["create", "."], 2, "nothing was written"),
        ([], 1, "ACTION"),
    ],
)
def test_what_cannot_be(
    tmp_path: Path,
    capfd: Output,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == code
    error = capfd.readouterr().err
    assert text in error
    assert "Traceback" not in error
    assert not any(tmp_path.iterdir())


def test_a_failure_leaves_all_as_it_was(
    disc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(directory: object) -> bytes:
        raise OSError(28, "No space left on device")

    assert run("create", disc) == 0
    before = contents(tmp_path)
    monkeypatch.setattr("isocenter.services.cli.files.dcmdir_changes.encode_directory", fail)
    assert run("add", disc, DATA / "CT_small.dcm") == 2
    assert run("create", disc, "--copy", tmp_path / "x" / "y") == 2
    assert run("create", DATA / "CT_small.dcm", disc, "-o", disc) == 2
    assert contents(tmp_path) == before
    assert not (tmp_path / "x").exists()
    monkeypatch.undo()
    assert run("create", DATA / "rtplan_truncated.dcm", "--copy", tmp_path / "x" / "y") == 2
    assert not (tmp_path / "x").exists()


@pytest.mark.interop("dcmmkdir", "dcmdump")
def test_dcmtk_extends_ours_and_we_read_it(disc: Path, capfd: Output) -> None:
    assert run("create", disc) == 0
    count = len(file_set_in(disc / "DICOMDIR"))
    shutil.copy(DATA / "CT_small.dcm", disc / "CT")
    subprocess.run(
        ["dcmmkdir", "--append", "--invent", "+id", disc, "+D", disc / "DICOMDIR", "CT"],
        check=True,
        capture_output=True,
    )
    dumped = subprocess.run(
        ["dcmdump", disc / "DICOMDIR"], check=True, capture_output=True, text=True
    ).stdout
    assert dumped.count("ReferencedFileID") == count + 1
    capfd.readouterr()
    assert run("verify", disc) == 0
    assert capfd.readouterr().out == f"{count + 1} files: all is well\n"


@pytest.mark.interop("dcmmkdir")
def test_what_dcmtk_makes_is_read_and_changed(disc: Path, capfd: Output) -> None:
    subprocess.run(
        ["dcmmkdir", "--invent", "+r", "+id", disc, "+D", disc / "DICOMDIR", "-Nxc"],
        check=True,
        capture_output=True,
    )
    assert run("verify", disc) == 0
    assert run("add", disc, DATA / "CT_small.dcm") == 0
    assert run("verify", disc) == 0
    assert "Traceback" not in capfd.readouterr().err
