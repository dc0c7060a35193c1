"""`dcmdump` as it is typed, and beside DCMTK's."""

from __future__ import annotations

import io
import json
import re
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pydicom
import pytest

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set, write_file_meta
from isocenter.services.cli import main

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
CT = DATA / "CT_small.dcm"
Captured = pytest.CaptureFixture[str]


def dump(capfd: Captured, *words: str | Path) -> list[str]:
    assert main(["dcmdump", *map(str, words)]) == 0
    return capfd.readouterr().out.splitlines()


def test_a_file_with_its_headings(capfd: Captured) -> None:
    lines = dump(capfd, CT)
    assert lines[1:5] == [
        "# Dicom-File-Format",
        "",
        "# Dicom-Meta-Information-Header",
        "# Used TransferSyntax: Explicit VR Little Endian",
    ]
    assert "# Dicom-Data-Set" in lines
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["+P", "PatientID"], 3),
        (["-t", "0010,0020", "--search-first"], 1),
        (["--tags", "PatientID,Modality"], 4),
        (["+P", "OtherPatientIDsSequence[1].PatientID"], 1),
        (["+P", "(0010,1002)[*].(0010,0020)"], 2),
        (["-s", "patient weight"], 1),
        (["-s", "PATIENTW"], 1),
        (["+P", "AccessionNumber", "+P", "PixelData"], 2),
    ],
)
def test_what_is_searched(words: list[str], lines: int, capfd: Captured) -> None:
    assert len(dump(capfd, CT, *words)) == lines


def test_the_sequences_around_what_is_found(capfd: Captured) -> None:
    lines = dump(capfd, CT, "+P", "0010,0020", "+p")
    assert lines[1].startswith("(0010,1002).(0010,0020) LO [ABCD1234]")


def test_parts_of_a_file(capfd: Captured) -> None:
    assert not any(line.startswith("(0002") for line in dump(capfd, CT, "--no-meta"))
    assert not any(line.startswith("(7fe0") for line in dump(capfd, CT, "--no-pixel"))
    assert not any(line.startswith("(0009") for line in dump(capfd, CT, "--no-private"))
    assert any(line.startswith("(0009") for line in dump(capfd, CT, "--show-private"))
    assert not any(line.startswith("    (0010") for line in dump(capfd, CT, "-d", "0"))
    assert dump(capfd, CT, "+st", "Modality")[-1].startswith("(0008,0060)")


def test_names_before_files_in_which_something_was_found(capfd: Captured) -> None:
    lines = dump(
        capfd, "-r", DATA / "dicomdirtests" / "77654033", "+Fs", "+P", "ImagePositionPatient"
    )
    names = [line for line in lines if line.startswith("# dcmdump")]
    assert len(names) == 4
    assert all("CT2" in name for name in names)
    assert dump(capfd, CT, DATA / "MR_small.dcm", "+P", "Modality")[0] == f"# dcmdump (1): {CT}"


def test_other_formats(capfd: Captured) -> None:
    assert main(["dcmdump", str(CT), "-f", "json", "-t", "Modality", "--no-meta"]) == 0
    assert json.loads(capfd.readouterr().out) == {"00080060": {"vr": "CS", "Value": ["CT"]}}
    assert main(["dcmdump", str(CT), "--format", "xml"]) == 0
    assert ET.fromstring(capfd.readouterr().out).tag.endswith("}NativeDicomModel")
    assert main(["dcmdump", str(CT), "-f", "xml", "-s", "date"]) == 1
    assert "name whole attributes" in capfd.readouterr().err


def test_colors_where_they_are_asked_for(capfd: Captured) -> None:
    assert "\x1b[32m" in dump(capfd, CT, "+C", "+P", "Modality")[0]


def test_another_encoding_of_the_text(tmp_path: Path, capfd: Captured) -> None:
    path = tmp_path / "a.dcm"
    data = write_data_set([(0x00080005, "CS", b"ISO_IR 192"), (0x00100010, "PN", "Ä山".encode())],
                          EXPLICIT_LITTLE)  # fmt: skip
    path.write_bytes(write_file_meta("1.2", "1.2.3", "1.2.840.10008.1.2.1") + data)
    assert "[Ä山]" in dump(capfd, path, "+P", "PatientName")[0]
    assert "[Ä\\u5c71]" not in dump(capfd, path, "+P", "PatientName")[0]
    assert main(["dcmdump", str(path), "+P", "PatientName", "--charset", "ascii"]) == 0
    assert "[\\xc4\\u5c71]" in capfd.readouterr().out


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capfd: Captured) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(CT.read_bytes())))
    assert any("[CT]" in line for line in dump(capfd, "-"))


def test_what_is_damaged_is_shown_and_said(tmp_path: Path, capfd: Captured) -> None:
    path = tmp_path / "cut.dcm"
    path.write_bytes(CT.read_bytes()[:3000])
    assert main(["dcmdump", str(path)]) == 0
    captured = capfd.readouterr()
    assert "(0010,0020) LO [1CT1]" in captured.out
    assert re.fullmatch(rf"{path}: forgiven: .* \(at byte \d+\)\n", captured.err)
    assert main(["dcmdump", "-E", str(path)]) == 2
    captured = capfd.readouterr()
    assert "(0010,0020) LO [1CT1]" in captured.out
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nothing.dcm"], 2, "No such file"),
        ([str(DATA)], 2, "-r goes through folders"),
        ([__file__], 2, "not DICOM"),
        ([str(CT), "+P", "NoKeyword"], 1, "no keyword of the data dictionary"),
        ([str(CT), "+P", "0010,002"], 1, "is no attribute"),
        ([str(CT), "+P", "0010,1002[0]"], 1, "is an item"),
        ([str(CT), "--charset", "klingon"], 1, "no encoding"),
        ([str(CT), "--unknown"], 1, "unrecognized"),
    ],
)
def test_faults_are_one_line(words: list[str], code: int, says: str, capfd: Captured) -> None:
    try:
        found: object = main(["dcmdump", *words])
    except SystemExit as stop:
        found = stop.code
    captured = capfd.readouterr()
    assert found == code
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def _little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (150 << 20, 150 << 20))


@pytest.mark.slow
def test_a_huge_file_needs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.dcm"
    head = write_file_meta("1.2", "1.2.3", "1.2.840.10008.1.2.1")
    with path.open("wb") as file:
        file.write(head + write_data_set([(0x00080060, "CS", b"CT")], EXPLICIT_LITTLE))
        file.write(bytes.fromhex("e07f1000 4f570000 00000080"))
        file.truncate(file.tell() + (2 << 30))
    made = subprocess.run(
        [sys.executable, "-m", "isocenter.services.cli", "dcmdump", "+L", str(path)],
        capture_output=True, text=True, timeout=60, preexec_fn=_little_memory, check=True,
    )  # fmt: skip
    assert re.search(r"\(7fe0,0010\) OW 0000\\.*\.\.\. # 2147483648, 1 PixelData", made.stdout)
    assert made.stderr == ""


# -- DCMTK -------------------------------------------------------------------------------

#: What DCMTK names otherwise: transfer syntaxes, the private dictionary, and floating point
#: numbers, which it prints with more digits.
_UID = re.compile(r"^( *\(....,....\) UI) =?\S+.*(#)")
_FLOAT = re.compile(r"^( *\(....,....\) (?:FL|FD|OF|OD)) .*(#)")
_NAME = re.compile(r"(# +\S+, *\d+) .*")


def _comparable(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            line = _NAME.sub(r"\1", _FLOAT.sub(r"\1 \2", _UID.sub(r"\1 \2", line)))
            lines.append(line.replace(" OB (PixelSequence", " OW (PixelSequence"))
    return lines


@pytest.mark.interop("dcmdump")
@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm",
        "rtplan.dcm", "image_dfl.dcm", "waveform_ecg.dcm", "liver_1frame.dcm",
        "ExplVR_BigEndNoMeta.dcm", "SC_rgb_rle_2frame.dcm", "reportsi.dcm",
    ],
)  # fmt: skip
def test_the_same_lines_as_dcmdump(name: str, capfd: Captured) -> None:
    theirs = subprocess.run(["dcmdump", "-q", DATA / name], capture_output=True, check=True)
    assert main(["dcmdump", "-q", str(DATA / name)]) == 0
    ours = capfd.readouterr().out
    assert _comparable(ours) == _comparable(theirs.stdout.decode("utf-8", "replace"))
