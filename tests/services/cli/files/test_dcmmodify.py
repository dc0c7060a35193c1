"""`dcmmodify` as it is typed: what changes, what stays byte for byte, and what is refused."""

from __future__ import annotations

import io
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Encoding,
    read_file_head,
    write_data_set,
    write_file_meta,
)
from isocenter.engine.dataset.writer import WritableElement
from isocenter.services.cli import main

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
Captured = pytest.CaptureFixture[str]
SYNTAXES = {
    EXPLICIT_LITTLE: "1.2.840.10008.1.2.1",
    IMPLICIT_LITTLE: "1.2.840.10008.1.2",
    EXPLICIT_BIG: "1.2.840.10008.1.2.2",
}
NAMES = (
    "CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm",
    "rtplan.dcm", "image_dfl.dcm", "test-SR.dcm", "UN_sequence.dcm",
)  # fmt: skip


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return Path(shutil.copy(DATA / "CT_small.dcm", tmp_path / "ct.dcm"))


def modify(path: Path, *words: str) -> pydicom.Dataset:
    assert main(["dcmmodify", str(path), *words]) == 0
    return pydicom.dcmread(path, force=True)


def made(path: Path, elements: list[WritableElement], encoding: Encoding = EXPLICIT_LITTLE) -> Path:
    path.write_bytes(
        write_file_meta("1.2", "1.2.3", SYNTAXES[encoding]) + write_data_set(elements, encoding)
    )
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_change_leaves_every_other_byte(name: str, tmp_path: Path) -> None:
    path = Path(shutil.copy(DATA / name, tmp_path / name))
    before = path.read_bytes()
    first = modify(path, "-i", "PatientComments=one", "-nb")
    assert first.PatientComments == "one"
    assert path.read_bytes() != before
    modify(path, "-e", "PatientComments", "-nb")
    if name != "image_dfl.dcm":  # what is deflated anew is other bytes
        head = read_file_head(before)
        if "PatientComments" not in pydicom.dcmread(DATA / name, force=True):
            assert path.read_bytes() == before
            assert head.data_set_offset


def test_values_of_all_kinds(ct: Path) -> None:
    read = modify(
        ct, "-m", "PatientID=4711", "-i", "0028,0009=(0018,1063)", "-i", "(0018,9073)=1.5",
        "-i", "00281103=1\\2\\3", "-m", "PixelSpacing=0.5\\0.25", "-i", "0018,1041=3",
        "-i", "PatientName=", "-i", "(0018,6020)=-1",
    )  # fmt: skip
    assert read.PatientID == "4711"
    assert read.FrameIncrementPointer == 0x00181063
    assert read.AcquisitionDuration == 1.5
    assert read[0x00281103].value == [1, 2, 3]
    assert read.PixelSpacing == [0.5, 0.25]
    assert read.PatientName == ""
    assert read.ReferencePixelX0 == -1


def test_a_backup_unless_nobody_wants_it(ct: Path) -> None:
    before = ct.read_bytes()
    modify(ct, "-m", "PatientID=1")
    assert Path(f"{ct}.bak").read_bytes() == before
    once = ct.read_bytes()
    modify(ct, "-m", "PatientID=2")
    assert Path(f"{ct}.bak").read_bytes() == once
    os.unlink(f"{ct}.bak")
    modify(ct, "-m", "PatientID=3", "-nb")
    assert sorted(os.listdir(ct.parent)) == ["ct.dcm"]


def test_paths_into_sequences(ct: Path) -> None:
    read = modify(ct, "-m", "OtherPatientIDsSequence[1].PatientID=B", "-nb")
    assert [item.PatientID for item in read.OtherPatientIDsSequence] == ["ABCD1234", "B"]
    read = modify(ct, "-m", "(0010,1002)[*].(0010,0020)=C", "-nb")
    assert [item.PatientID for item in read.OtherPatientIDsSequence] == ["C", "C"]
    read = modify(ct, "-i", "0010,1002[2].PatientID=D", "-nb")
    assert [item.PatientID for item in read.OtherPatientIDsSequence] == ["C", "C", "D"]
    read = modify(ct, "-e", "OtherPatientIDsSequence[0]", "-nb")
    assert [item.PatientID for item in read.OtherPatientIDsSequence] == ["C", "D"]
    read = modify(ct, "-ma", "PatientID=X", "-nb")
    assert [read.PatientID, *(item.PatientID for item in read.OtherPatientIDsSequence)] == ["X"] * 3
    read = modify(ct, "-ea", "PatientID", "-nb")
    assert "PatientID" not in read
    assert all("PatientID" not in item for item in read.OtherPatientIDsSequence)
    read = modify(
        ct, "-i", "RequestAttributesSequence[0].ScheduledProtocolCodeSequence[0].CodeValue=A", "-nb"
    )
    code = read.RequestAttributesSequence[0].ScheduledProtocolCodeSequence[0]
    assert code.CodeValue == "A"


@pytest.mark.interop("dcmconv")
@pytest.mark.parametrize("encoding", SYNTAXES)
@pytest.mark.parametrize("undefined", [False, True])
def test_lengths_around_a_change_follow(
    encoding: Encoding, undefined: bool, tmp_path: Path
) -> None:
    """Also of sequences within sequences, and whether defined or not."""
    inner: list[WritableElement] = [(0x00080100, "SH", b"AB"), (0x00080104, "LO", b"text")]
    path = made(
        tmp_path / "a.dcm",
        [
            (0x00080018, "UI", b"1.2.3"),
            (0x00400275, "SQ", [[(0x00400008, "SQ", [inner, inner])], [(0x00400009, "SH", b"1 ")]]),
            (0x00420010, "ST", b"behind"),
        ],
        encoding,
    )
    if undefined:
        syntax = {EXPLICIT_LITTLE: "+te", IMPLICIT_LITTLE: "+ti", EXPLICIT_BIG: "+tb"}[encoding]
        other = tmp_path / "b.dcm"
        subprocess.run(["dcmconv", syntax, "-e", path, other], check=True, capture_output=True)
        path = other
    read = modify(path, "-m", "0040,0275[0].0040,0008[1].0008,0104=much longer than before", "-nb")
    assert read.RequestAttributesSequence[0].ScheduledProtocolCodeSequence[1].CodeMeaning == (
        "much longer than before"
    )
    assert read.RequestAttributesSequence[0].ScheduledProtocolCodeSequence[0].CodeMeaning == "text"
    assert read.RequestAttributesSequence[1].ScheduledProcedureStepID == "1"
    assert read.DocumentTitle == "behind"


def test_group_lengths_follow(tmp_path: Path) -> None:
    path = made(
        tmp_path / "a.dcm",
        [(0x00080000, "UL", (26).to_bytes(4, "little")), (0x00080018, "UI", b"1.2.3"),
         (0x00080060, "CS", b"CT"), (0x00100000, "UL", (10).to_bytes(4, "little")),
         (0x00100020, "LO", b"12")],
    )  # fmt: skip
    read = modify(path, "-m", "PatientID=123456", "-nb")
    assert read[0x00100000].value == 14
    assert read[0x00080000].value == 26


def test_private_attributes(ct: Path, capfd: Captured) -> None:
    assert main(["dcmmodify", str(ct), "-i", "0011,2001:LO=x"]) == 2
    assert "insert (0011,0020) first" in capfd.readouterr().err
    read = modify(ct, "-i", "0011,0020=MINE", "-i", "0011,2001:LO=x", "-nb")
    assert read.private_block(0x11, "MINE")[1].value == "x"
    assert modify(ct, "-nrc", "-i", "0011,3001:LO=y", "-nb")[0x00113001].value == "y"
    read = modify(ct, "-ep", "-nb")
    assert not any(element.tag.is_private for element in read)
    before = ct.read_bytes()
    modify(ct, "-ep")
    assert ct.read_bytes() == before
    assert not Path(f"{ct}.bak").exists()


def test_new_uids_and_the_meta_information(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(DATA / "dicomdirtests" / "77654033", folder)
    before = [
        pydicom.dcmread(path) for path in sorted(folder.rglob("[0-9]*[0-9]")) if path.is_file()
    ]
    target = tmp_path / "new"
    assert main(["dcmmodify", "-r", str(folder), "-gst", "-gse", "-gin", "-o", str(target)]) == 0
    after = [
        pydicom.dcmread(path) for path in sorted(target.rglob("[0-9]*[0-9]")) if path.is_file()
    ]
    assert len(after) == len(before) > 3
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        old, new = ([str(getattr(each, name)) for each in some] for some in (before, after))
        assert not set(old) & set(new)
        assert len(set(new)) == len(set(old))
        assert len(set(zip(old, new, strict=True))) == len(set(old))
    for each in after:
        assert each.file_meta.MediaStorageSOPInstanceUID == each.SOPInstanceUID
        assert each.file_meta.FileMetaInformationGroupLength
    path = Path(shutil.copy(DATA / "CT_small.dcm", tmp_path / "kept.dcm"))
    kept = modify(path, "-gin", "-nmu", "-nb")
    assert kept.file_meta.MediaStorageSOPInstanceUID != kept.SOPInstanceUID


def test_other_characters(tmp_path: Path, capfd: Captured) -> None:
    path = made(
        tmp_path / "a.dcm", [(0x00080005, "CS", b"ISO_IR 100"), (0x00080018, "UI", b"1.2.3")]
    )
    assert modify(path, "-i", "PatientName=Bücher^Ä", "-nb").PatientName == "Bücher^Ä"
    assert "Bücher".encode("latin-1") in path.read_bytes()
    before = path.read_bytes()
    assert main(["dcmmodify", str(path), "-m", "PatientName=山"]) == 2
    assert "dcmconv --to-utf8" in capfd.readouterr().err
    assert path.read_bytes() == before
    read = modify(path, "-m", "SpecificCharacterSet=ISO_IR 192", "-m", "PatientName=山", "-nb")
    assert read.PatientName == "山"
    assert "their bytes stayed" in capfd.readouterr().err


def test_values_from_files(ct: Path, tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(bytes(range(200)))
    read = modify(ct, "-mf", f"PixelData={tmp_path / 'value'}", "-if",
                  f"(0042,0011)={tmp_path / 'value'}", "-nb")  # fmt: skip
    assert read.PixelData == bytes(range(200))
    assert read.EncapsulatedDocument == bytes(range(200))


def test_a_script(ct: Path, tmp_path: Path, capfd: Captured) -> None:
    script = tmp_path / "script"
    script.write_text("# changes\n\nm PatientID=9\ni (0008,1030)=A B\nea 0010,0022\ne 0008,0090\n")
    read = modify(ct, "--script", str(script), "-nb")
    assert (read.PatientID, read.StudyDescription) == ("9", "A B")
    assert "ReferringPhysicianName" not in read
    script.write_text("m PatientID=9\nx what\n")
    assert main(["dcmmodify", str(ct), "--script", str(script)]) == 1
    assert "line 2: 'x'" in capfd.readouterr().err


def test_a_dry_run_says_what_would_be_done(ct: Path, capfd: Captured) -> None:
    before = ct.read_bytes()
    assert main(["dcmmodify", str(ct), "-m", "PatientID=9", "-ea", "0010,0022", "--dry-run"]) == 0
    assert capfd.readouterr().out.splitlines() == [
        f"{ct}: modify (0010,0020)",
        f"{ct}: erase all (0010,0022) (2 times)",
    ]
    assert ct.read_bytes() == before
    assert os.listdir(ct.parent) == ["ct.dcm"]


def test_to_another_place_and_through_a_pipe(
    ct: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    before = ct.read_bytes()
    other = tmp_path / "other" / "new.dcm"
    assert main(["dcmmodify", str(ct), "-m", "PatientID=9", "-o", str(other)]) == 0
    assert pydicom.dcmread(other).PatientID == "9"
    assert ct.read_bytes() == before
    assert not Path(f"{ct}.bak").exists()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(before)))
    assert main(["dcmmodify", "-", "-m", "PatientID=9"]) == 0
    assert capfdbinary.readouterr().out == other.read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["-m", "PatientComments=x"], 2, "(0010,4000) is not there"),
        (["-e", "PatientComments"], 2, "is not there"),
        (["-m", "OtherPatientIDsSequence[5].PatientID=x"], 2, "is not there"),
        (["-i", "OtherPatientIDsSequence[5].PatientID=x"], 2, "the next one is [2]"),
        (["-m", "OtherPatientIDsSequence=x"], 2, "is a sequence"),
        (["-i", "PatientID[0].Modality=x"], 2, "is no sequence"),
        (["-m", "Rows=many"], 2, "is none of VR US"),
        (["-m", "SOPInstanceUID=1.x"], 2, "is no UID"),
        (["-i", "(0018,1151)"], 0, ""),
        (["-m", "NoKeyword=x"], 1, "no keyword of the data dictionary"),
        (["-m", "0002,0010=1.2"], 1, "dcmconv changes"),
        (["-ma", "0010,1002[0].PatientID=x"], 1, "and no path"),
        (["-e", "PatientID=4"], 1, "without a value"),
        (["-i", "0010,0020:XX=1"], 1, "XX is no VR"),
        ([], 1, "what shall be changed?"),
    ],
)
def test_faults_leave_the_file_as_it_was(
    words: list[str], code: int, says: str, ct: Path, capfd: Captured
) -> None:
    before = ct.read_bytes()
    try:
        found: object = main(["dcmmodify", str(ct), *words])
    except SystemExit as stop:
        found = stop.code
    captured = capfd.readouterr()
    assert found == code
    assert says in captured.err
    assert "Traceback" not in captured.err
    if code:
        assert ct.read_bytes() == before
        assert os.listdir(ct.parent) == ["ct.dcm"]


def test_what_is_missing_or_wrong_may_be_passed_over(ct: Path, capfd: Captured) -> None:
    assert (
        modify(ct, "-imt", "-m", "PatientComments=x", "-m", "PatientID=1", "-nb").PatientID == "1"
    )
    assert modify(ct, "-ie", "-m", "Rows=x", "-m", "PatientID=2", "-nb").PatientID == "2"
    assert "is none of VR US" in capfd.readouterr().err


def test_what_cannot_be_changed_safely(tmp_path: Path, capfd: Captured) -> None:
    directory = shutil.copy(DATA / "dicomdirtests" / "DICOMDIR", tmp_path / "DICOMDIR")
    assert main(["dcmmodify", str(directory), "-i", "0004,1141=X"]) == 2
    assert "dcmdir" in capfd.readouterr().err
    cut = tmp_path / "cut.dcm"
    cut.write_bytes((DATA / "CT_small.dcm").read_bytes()[:3000])
    assert main(["dcmmodify", str(cut), "-m", "PatientID=1"]) == 2
    assert "damaged, and left as it is" in capfd.readouterr().err
    jpeg = shutil.copy(DATA / "JPEG2000.dcm", tmp_path / "jpeg.dcm")
    (tmp_path / "value").write_bytes(b"ab")
    assert main(["dcmmodify", str(jpeg), "-mf", f"PixelData={tmp_path / 'value'}"]) == 2
    assert "is compressed" in capfd.readouterr().err


def _little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (150 << 20, 150 << 20))


@pytest.mark.slow
def test_a_large_file_needs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.dcm"
    with path.open("wb") as file:
        file.write(write_file_meta("1.2", "1.2.3", SYNTAXES[EXPLICIT_LITTLE]))
        file.write(write_data_set([(0x00100020, "LO", b"1 ")], EXPLICIT_LITTLE))
        file.write(bytes.fromhex("e07f1000 4f570000 00000018"))
        file.truncate(file.tell() + (384 << 20))
    subprocess.run(
        [sys.executable, "-m", "isocenter.services.cli", "dcmmodify", "-nb", "-m", "PatientID=4711",
         str(path)],
        timeout=120, preexec_fn=_little_memory, check=True,
    )  # fmt: skip
    read = pydicom.dcmread(path, stop_before_pixels=True)
    assert read.PatientID == "4711"
    assert path.stat().st_size > 384 << 20


@pytest.mark.interop("dcmodify", "dcmdump")
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_bigendian.dcm", "rtplan.dcm"])
@pytest.mark.parametrize(
    "words",
    [
        ["-m", "(0010,0020)=X1"],
        ["-i", "(0010,4000)=Comment"],
        ["-i", "(0040,0275)[0].(0040,0009)=STEP"],
        ["-e", "(0008,0018)"],
        ["-ea", "(0010,0020)"],
        ["-ep"],
        ["-i", "(0028,0009)=(0018,1063)"],
        ["-i", "(0018,9073)=1.5"],
    ],
)
def test_the_same_as_dcmodify(name: str, words: list[str], tmp_path: Path) -> None:
    one = shutil.copy(DATA / name, tmp_path / "ours.dcm")
    other = shutil.copy(DATA / name, tmp_path / "theirs.dcm")
    subprocess.run(
        ["dcmodify", "-nb", "-imt", "-nmu", *words, other], check=True, capture_output=True
    )
    assert main(["dcmmodify", "-nb", "-imt", "-nmu", *words, str(one)]) == 0
    seen = [
        subprocess.run(["dcmdump", "-q", "+L", path], capture_output=True, check=True).stdout
        for path in (one, other)
    ]
    # DCMTK writes the whole file anew: lengths of sequences, and who wrote it, are its own.
    own = re.compile(r"#|\(0002|\(fffc,fffc|.*\(fffe,e0|.* SQ \(")
    ours, theirs = (
        [line for line in text.decode("latin-1").splitlines() if not own.match(line)]
        for text in seen
    )
    assert ours == theirs
