"""`dcminfo` as it is typed."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set, write_file_meta
from isocenter.services.cli import main

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
CT = DATA / "CT_small.dcm"
Captured = pytest.CaptureFixture[str]


def info(capfd: Captured, *words: str | Path) -> list[str]:
    assert main(["dcminfo", *map(str, words)]) == 0
    return capfd.readouterr().out.splitlines()


def field(lines: list[str], name: str) -> str:
    (line,) = (line for line in lines if line.strip().startswith(f"{name}:"))
    return line.partition(":")[2].strip()


def test_a_file(capfd: Captured) -> None:
    lines = info(capfd, CT)
    assert lines[0] == str(CT)
    assert [line.strip() for line in lines if line[2:3].isupper()] == [
        "File", "Patient", "Study", "Series", "Image",
    ]  # fmt: skip
    assert field(lines, "Size") == "39,206 bytes (38.3 KiB)"
    assert field(lines, "Transfer syntax") == "Explicit VR Little Endian (1.2.840.10008.1.2.1)"
    assert field(lines, "SOP class").startswith("CT Image Storage (")
    assert field(lines, "Pixels") == "128 × 128, 1 sample of 16 bits in 16, signed"
    assert field(lines, "Frames") == "1"
    assert field(lines, "Pixel spacing") == "0.661468\\0.661468"


def test_more_and_less(capfd: Captured) -> None:
    assert any("Manufacturer" in line for line in info(capfd, "-v", CT))
    assert field(info(capfd, "-v", CT), "Plane") == "axial"
    brief = info(capfd, "-q", CT)
    assert not any("Manufacturer" in line for line in brief)
    assert field(brief, "Transfer syntax") == "Explicit VR Little Endian"
    without = info(capfd, "--no-patient", "--no-file-info", CT)
    assert not any("CompressedSamples" in line or "Size" in line for line in without)


@pytest.mark.parametrize(("name", "frames"), [("JPEG2000.dcm", 1), ("SC_rgb_rle_2frame.dcm", 2)])
def test_compression(name: str, frames: int, capfd: Captured) -> None:
    lines = info(capfd, DATA / name)
    assert field(lines, "Frames") == str(frames)
    read = pydicom.dcmread(DATA / name)
    _, *fragments = pydicom.encaps.generate_fragments(read.PixelData)
    length = sum(map(len, pydicom.encaps.generate_frames(read.PixelData, number_of_frames=frames)))
    plain = read.Rows * read.Columns * read.SamplesPerPixel * read.BitsAllocated // 8 * frames
    assert fragments
    ratio = float(field(lines, "Compression").split(" ", maxsplit=1)[0])
    assert ratio == pytest.approx(plain / length, rel=0.05)


def test_json(capfd: Captured) -> None:
    (model,) = [json.loads("\n".join(info(capfd, "-f", "json", CT)))]
    assert model["Image"]["Rows"] == 128
    assert model["File"]["Size"] == CT.stat().st_size
    assert model["Patient"]["ID"] == "1CT1"
    models = json.loads("\n".join(info(capfd, "-f", "json", CT, DATA / "rtplan.dcm")))
    assert [one["Series"]["Modality"] for one in models] == ["CT", "RTPLAN"]


def test_geometry_of_functional_groups(tmp_path: Path, capfd: Captured) -> None:
    measures = [(0x00180050, "DS", b"2.5 "), (0x00280030, "DS", b"0.5\\0.5 ")]
    plane = [(0x00200037, "DS", b"0\\1\\0\\0\\0\\-1")]
    data = write_data_set(
        [(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.4.1"), (0x00080018, "UI", b"1.2.3"),
         (0x52009229, "SQ", [[(0x00209116, "SQ", [plane]), (0x00289110, "SQ", [measures])]])],
        EXPLICIT_LITTLE,
    )  # fmt: skip
    path = tmp_path / "mr.dcm"
    path.write_bytes(write_file_meta("1.2", "1.2.3", "1.2.840.10008.1.2.1") + data)
    lines = info(capfd, "-v", path)
    assert field(lines, "Slice thickness") == "2.5"
    assert field(lines, "Pixel spacing") == "0.5\\0.5"
    assert field(lines, "Plane") == "sagittal"


def test_a_folder(capfd: Captured) -> None:
    folder = DATA / "dicomdirtests" / "77654033"
    lines = info(capfd, "-r", folder)
    names = ("Files", "Patients", "Studies", "Series", "Instances")
    assert [field(lines, name) for name in names] == ["7", "1", "2", "4", "7"]
    assert "         4  CT" in lines
    assert "         7  Explicit VR Little Endian" in lines
    model = json.loads("\n".join(info(capfd, "-r", folder, "-f", "json")))
    assert model["Modality"] == {"CT": 4, "CR": 3}
    assert len(model["Study list"]) == 2
    each = json.loads("\n".join(info(capfd, "-r", folder, "--each", "-f", "json")))
    assert len(each) == 7
    assert main(["dcmdump", "-r", str(folder), "--summary"]) == 0
    assert capfd.readouterr().out.splitlines() == lines


def test_pixels_behind_a_dump(capfd: Captured) -> None:
    assert main(["dcmdump", str(CT), "--pixel-info"]) == 0
    assert "# Pixels: 128 × 128, 1 sample" in capfd.readouterr().out


def test_damaged_and_other_files(tmp_path: Path, capfd: Captured) -> None:
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(CT.read_bytes()[:3000])
    assert main(["dcminfo", str(cut)]) == 0
    captured = capfd.readouterr()
    assert "1CT1" in captured.out
    assert "forgiven" in captured.err
    assert main(["dcminfo", __file__]) == 2
    assert "not DICOM" in capfd.readouterr().err
    assert main(["dcminfo", str(tmp_path / "none")]) == 2
    lying = tmp_path / "lying.dcm"
    content = (DATA / "MR_small.dcm").read_bytes()
    at = content.index(bytes.fromhex("28001000 55530200")) + 8
    lying.write_bytes(content[:at] + b"\0\0" + content[at + 2 :])
    assert "cannot be told" in field(info(capfd, lying), "Pixels")


def test_nothing_in_a_file_moves_the_cursor(tmp_path: Path, capfd: Captured) -> None:
    path = Path(shutil.copy(CT, tmp_path / "a.dcm"))
    assert main(["dcmmodify", str(path), "-m", "Modality=\x1b[2J\nX", "-nb"]) == 0
    out = "\n".join(info(capfd, path))
    assert "\x1b" not in out
    assert "\\x1b[2J\\x0aX" in out


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capfd: Captured) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(CT.read_bytes())))
    assert field(info(capfd, "-"), "Modality") == "CT"
