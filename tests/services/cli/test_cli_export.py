"""export: what is written, what is recorded, and what a failure leaves: nothing."""

from __future__ import annotations

import io
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pydicom
import pytest
import trio
from pydicom.data import get_testdata_file

from isocenter.services.archive.export import targets
from isocenter.services.cli import main
from services.archive_support import STUDY, uid
from services.cli_support import archive_server, write_object
from services.security.audit.trails import audited_object, messages, of_event, participant
from support.file_sets import file_set_in

Output = pytest.CaptureFixture[str]
OTHER_STUDY = "1.2.9"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with three objects of two studies, to be copied."""
    folder = tmp_path_factory.mktemp("export")
    files = folder / "files"
    files.mkdir()
    for number in (1, 2):
        write_object(files, number)
    write_object(files, 3, study=OTHER_STUDY, series="1.2.9.1")
    assert main(["import", str(files), "--data-dir", str(folder / "data"), "-q"]) == 0
    return folder / "data"


@pytest.fixture
def archive(stored: Path, tmp_path: Path, capfd: Output) -> str:
    shutil.copytree(stored, tmp_path / "data")
    capfd.readouterr()
    return str(tmp_path / "data")


def export(archive: str, *words: str) -> int:
    """The exit code, also where the arguments alone are wrong."""
    try:
        return main(["export", "--data-dir", archive, *words])
    except SystemExit as error:
        return int(error.code or 0)


def objects(archive: str) -> dict[str, bytes]:
    """SOP Instance UID → the file in the archive."""
    found = {}
    for path in Path(archive, "objects").rglob("*"):
        if path.is_file():
            found[str(pydicom.dcmread(path).SOPInstanceUID)] = path.read_bytes()
    return found


def names(folder: Path) -> list[str]:
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


def test_a_study_becomes_a_folder_of_the_files_that_were_stored(
    archive: str, tmp_path: Path, capfd: Output
) -> None:
    place = tmp_path / "a" / "b"
    assert export(archive, "--study", STUDY, "--to", str(place)) == 0
    assert capfd.readouterr().out.startswith("exported 2 instances, ")
    kept = objects(archive)
    for number in (1, 2):
        (path,) = place.glob(f"{STUDY}/*/{uid(number)}.dcm")
        assert path.read_bytes() == kept[uid(number)]
    assert len(names(place)) == 2
    assert export(archive, "--study", OTHER_STUDY, "--to", str(place)) == 0, "beside the first"
    assert len(names(place)) == 3


def test_a_server_may_be_at_work(archive: str, tmp_path: Path, capfd: Output) -> None:
    with archive_server(data_dir=archive) as server:
        more = tmp_path / "more"
        more.mkdir()
        write_object(more, 7)
        assert main(["storescu", server.peer, str(more), "-q"]) == 0
        assert export(archive, "--study", STUDY, "--to", str(tmp_path / "out")) == 0
    assert len(names(tmp_path / "out")) == 3
    capfd.readouterr()


def test_what_is_there_already_stays(archive: str, tmp_path: Path, capfd: Output) -> None:
    mine = tmp_path / "usb" / STUDY
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("mine")
    assert export(archive, "--study", STUDY, "--study", OTHER_STUDY, "--to", str(mine.parent)) == 1
    assert "is there already; export to another folder" in capfd.readouterr().err
    assert names(mine.parent) == [f"{STUDY}/notes.txt"]
    zipped = tmp_path / "x.zip"
    zipped.write_bytes(b"mine")
    assert export(archive, "--study", STUDY, "--to", str(zipped)) == 2
    assert zipped.read_bytes() == b"mine"


@pytest.mark.parametrize("options", [(), ("--deflate",)])
def test_a_study_becomes_a_zip_file(
    archive: str, tmp_path: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "LONGEST_SHORT", 0)  # ZIP64, as for what is very large
    place = tmp_path / "study.ZIP"
    assert export(archive, "-k", f"StudyInstanceUID={STUDY}", "--to", str(place), *options) == 0
    with zipfile.ZipFile(place) as zipped:
        assert zipped.testzip() is None
        entries = zipped.infolist()
        assert len(entries) == 2
        expected = zipfile.ZIP_DEFLATED if options else zipfile.ZIP_STORED
        assert {entry.compress_type for entry in entries} == {expected}
        kept = objects(archive)
        for entry in entries:
            assert zipped.read(entry) == kept[Path(entry.filename).stem]


def test_a_zip_file_on_standard_output(
    archive: str, capfd: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output))
    assert export(archive, "--instance", uid(1), "--to", "-") == 0
    with zipfile.ZipFile(output) as zipped:
        assert len(zipped.namelist()) == 1
    assert "exported 1 instance" in capfd.readouterr().err


def test_a_dry_run_writes_nothing(archive: str, tmp_path: Path, capfd: Output) -> None:
    place = tmp_path / "out"
    assert export(archive, "-k", "Modality=CT", "--to", str(place), "--dry-run") == 0
    out = capfd.readouterr().out
    assert out.startswith("3 instances in 2 series and 2 studies of 1 patient, ")
    assert not place.exists()
    assert not of_event(messages(Path(archive, "audit")), "110106")


def test_each_study_is_recorded(archive: str, tmp_path: Path) -> None:
    assert export(archive, "-k", "Modality=CT", "--to", str(tmp_path / "out")) == 0
    recorded = of_event(messages(Path(archive, "audit")), "110106")
    assert {audited_object(one, "110180").get("ParticipantObjectID") for one in recorded} == {
        STUDY,
        OTHER_STUDY,
    }
    media = participant(recorded[0], "110154")
    assert media.get("UserID") == (tmp_path / "out").as_uri()


def test_nothing_is_exported_that_cannot_be_recorded(
    archive: str, tmp_path: Path, capfd: Output
) -> None:
    audit = Path(archive, "audit")
    shutil.rmtree(audit)
    audit.write_text("no folder")
    config = tmp_path / "isocenter.toml"
    config.write_text('[audit]\non_failure = "stop"\n')
    place = tmp_path / "out"
    words = ("--study", STUDY, "--to", str(place))
    assert export(archive, *words, "--config", str(config)) == 1
    assert "nothing was exported" in capfd.readouterr().err
    assert not place.exists()
    assert export(archive, *words) == 0, "without it, the log says so"


def test_one_damaged_object_keeps_all_back_or_is_left_out(
    archive: str, tmp_path: Path, capfd: Output
) -> None:
    (path,) = Path(archive, "objects").rglob(f"*{uid(2)}*")
    path.unlink()
    for to in ("out", "out.zip"):
        assert export(archive, "--study", STUDY, "--to", str(tmp_path / to)) == 1
        error = capfd.readouterr().err
        assert len(error.splitlines()) == 1
        assert uid(2) in error
        assert "--skip-faults exports the others" in error
        assert sorted(os.listdir(tmp_path)) == ["data"]
    place = tmp_path / "out"
    assert export(archive, "--study", STUDY, "--to", str(place), "--skip-faults") == 1
    assert uid(2) in capfd.readouterr().err
    assert [Path(name).stem for name in names(place)] == [uid(1)]


def test_a_full_disk_is_seen_before(
    archive: str, tmp_path: Path, capfd: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    for options in ((), ("--dry-run",)):
        place = tmp_path / "out"
        assert export(archive, "--study", STUDY, "--to", str(place), *options) == 1
        assert "there is no room" in capfd.readouterr().err
        assert not place.exists()


def test_a_disk_that_is_full_in_the_middle_leaves_nothing(
    archive: str, tmp_path: Path, capfd: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(targets.FolderTarget, "begin", lambda self, name, size: Full())
    place = tmp_path / "out"
    assert export(archive, "--study", STUDY, "--to", str(place)) == 1
    assert "No space left on device" in capfd.readouterr().err
    assert not place.exists()


@pytest.mark.parametrize("to", ["out", "out.zip"])
def test_ctrl_c_leaves_nothing(
    archive: str, tmp_path: Path, capfd: Output, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    from isocenter.services.archive.export.service import Exporter

    written = Exporter._export

    async def stopped(self: Exporter, *arguments: object) -> None:
        await written(self, *arguments)  # type: ignore[arg-type]
        os.kill(os.getpid(), 2)
        await trio.sleep_forever()

    monkeypatch.setattr(Exporter, "_export", stopped)
    assert export(archive, "--study", STUDY, "--to", str(tmp_path / to)) == 130
    assert "nothing was exported" in capfd.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["data"]


def test_another_transfer_syntax(archive: str, tmp_path: Path) -> None:
    place = tmp_path / "out"
    words = ("--transfer-syntax", "implicit")
    assert export(archive, "--study", STUDY, "--to", str(place), *words) == 0
    for path in place.rglob("*.dcm"):
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"


@pytest.mark.parametrize("options", [("--dicomdir",), ("--profile", "STD-GEN-CD")])
def test_a_file_set_with_its_directory(
    archive: str, tmp_path: Path, capfd: Output, options: tuple[str, ...]
) -> None:
    place = tmp_path / "cd"
    words = ("-k", "Modality=CT", "--to", str(place), "--file-set-id", "CD 1", *options)
    assert export(archive, *words) == 0
    file_set = file_set_in(place / "DICOMDIR")
    assert (len(file_set), file_set.ID) == (3, "CD 1")
    kept = objects(archive)
    for instance in file_set:
        assert Path(instance.path).read_bytes() == kept[str(instance.SOPInstanceUID)]
    assert "DICOM/ST000001/SE000001/IM000001" in names(place)
    capfd.readouterr()
    assert main(["dcmdir", "verify", str(place)]) == 0
    assert capfd.readouterr().out == "3 files: all is well\n"
    assert export(archive, *words) == 1, "there is a file-set already"
    zipped = tmp_path / "cd.zip"
    assert export(archive, "--study", STUDY, "--to", str(zipped), "--dicomdir") == 0
    with zipfile.ZipFile(zipped) as whole:
        assert whole.namelist()[-1] == "DICOMDIR"


def test_a_profile_has_its_transfer_syntaxes(archive: str, tmp_path: Path, capfd: Output) -> None:
    path = tmp_path / "compressed.dcm"
    shutil.copy(get_testdata_file("MR_small_RLE.dcm"), path)
    assert main(["import", str(path), "--data-dir", archive, "-q"]) == 0
    words = ("-k", "Modality=MR", "--to")
    assert export(archive, *words, str(tmp_path / "a"), "--profile", "STD-GEN-CD") == 0
    (instance,) = file_set_in(tmp_path / "a" / "DICOMDIR")
    assert instance.ReferencedTransferSyntaxUIDInFile == "1.2.840.10008.1.2.1"
    assert pydicom.dcmread(instance.path).pixel_array.tolist() == (
        pydicom.dcmread(path).pixel_array.tolist()
    )
    profile = ("--profile", "STD-GEN-CD", "--transfer-syntax", "rle")
    assert export(archive, *words, str(tmp_path / "b"), *profile) == 2
    assert "STD-GEN-CD does not have RLE" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--to", "x"], 2, "what shall be exported"),
        (["--study", STUDY], 2, "--to"),
        (["--study", "1.2.3.99", "--to", "x"], 1, "nothing in the archive matches"),
        (["--study", STUDY, "--to", "x", "--deflate"], 2, "is for ZIP files"),
        (["--study", STUDY, "--to", "x", "--transfer-syntax", "gif"], 2, "is none of"),
        (["--study", STUDY, "--to", "x", "--transfer-syntax", "jpeg-baseline"], 2, "with --lossy"),
        (["--study", STUDY, "--to", "data/isocenter.txt/x"], 1, "isocenter.txt"),
    ],
)
def test_bad_input_writes_nothing(
    archive: str,
    tmp_path: Path,
    capfd: Output,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(archive, "isocenter.txt").touch()
    assert export(archive, *words) == code
    assert text in capfd.readouterr().err
    assert not Path("x").exists()
