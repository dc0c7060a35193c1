"""`dcmextract`: frames, documents and waveforms, compared with pydicom and DCMTK."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest
from imagecodecs import jpeg8_decode, png_decode
from pydicom.encaps import generate_frames

from isocenter.engine.dataset import EXPLICIT_LITTLE, Fragments, write_data_set, write_file_meta
from isocenter.services.cli import main
from isocenter.services.cli.support.terminal_picture import (
    PictureProtocol,
    protocol_of,
    show_blocks,
    show_png,
)

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
CT = DATA / "CT_small.dcm"
COLOUR = DATA / "examples_ybr_color.dcm"
ECG = DATA / "waveform_ecg.dcm"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"
Output = pytest.CaptureFixture[str]


def run(*words: str | Path) -> int:
    """The exit code, also where the arguments alone are wrong."""
    try:
        return main(["dcmextract", *map(str, words)])
    except SystemExit as error:
        return int(error.code or 0)


def test_raw_samples_are_those_that_pydicom_reads(tmp_path: Path) -> None:
    for name in (
        "CT_small.dcm",
        "MR_small_bigendian.dcm",
        "SC_rgb_rle_16bit.dcm",
        "liver_1frame.dcm",
    ):
        place = tmp_path / f"{name}.raw"
        assert run(DATA / name, place) == 0
        expected = pydicom.dcmread(DATA / name).pixel_array
        found = np.frombuffer(place.read_bytes(), expected.dtype.newbyteorder("<"))
        assert np.array_equal(found.reshape(expected.shape), expected), name


def test_codestreams_are_the_bytes_that_are_there(tmp_path: Path) -> None:
    for name, suffix in (("JPEG2000.dcm", ".j2k"), ("SC_rgb_jpeg_dcmtk.dcm", ".jpg")):
        assert run(DATA / name, "-o", tmp_path, "--codestream") == 0
        found = pydicom.dcmread(DATA / name)
        frames = list(generate_frames(found.PixelData, number_of_frames=1))
        assert (tmp_path / Path(name).stem).with_suffix(suffix).read_bytes() == frames[0]


def test_pictures_of_all_frames_or_one(tmp_path: Path) -> None:
    whole = pydicom.dcmread(COLOUR)
    count = int(whole.NumberOfFrames)
    assert run(COLOUR, f"{tmp_path}/all/", "--jpeg") == 0
    names = sorted(one.name for one in (tmp_path / "all").iterdir())
    assert names == [f"examples_ybr_color.{number:02d}.jpg" for number in range(count)]
    assert jpeg8_decode((tmp_path / "all" / names[3]).read_bytes()).shape == (
        whole.Rows, whole.Columns, 3,
    )  # fmt: skip
    assert run(COLOUR, tmp_path / "one.png", "--png", "--frame", "3", "--size", "100") == 0
    zero = png_decode((tmp_path / "one.03.png").read_bytes())
    assert max(zero.shape[:2]) == 100
    assert run(COLOUR, "-o", tmp_path, "--ppm", "+F", "4") == 0
    head = (tmp_path / "examples_ybr_color.03.ppm").read_bytes()[:20]
    assert head.startswith(b"P6\n%d %d\n255\n" % (whole.Columns, whole.Rows))


@pytest.mark.interop("dcm2pnm")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (["--window", "40", "400"], ["+Ww", "40", "400"]),
        (["+Ww", "500", "1000"], ["+Ww", "500", "1000"]),
        (["+Wm"], ["+Wm"]),
    ],
)
def test_windows_are_as_dcmtk_draws_them(
    tmp_path: Path, ours: list[str], theirs: list[str]
) -> None:
    assert run(CT, tmp_path / "ours.pgm", "--pgm", *ours) == 0
    subprocess.run(["dcm2pnm", *theirs, CT, tmp_path / "theirs.pgm"], check=True)
    rows, columns = 128, 128
    found, expected = (
        np.frombuffer((tmp_path / name).read_bytes()[-rows * columns :], np.uint8).astype(int)
        for name in ("ours.pgm", "theirs.pgm")
    )
    assert np.abs(found - expected).max() <= 1


def document(path: Path, content: bytes, mime_type: str, *, says_length: bool = True) -> Path:
    elements: list[Any] = [
        (0x00080016, "UI", PDF.encode()),
        (0x00080018, "UI", b"1.2.3"),
        (0x00420011, "OB", content),
        (0x00420012, "LO", mime_type.encode()),
    ]
    if says_length:
        elements.append((0x00420015, "UL", len(content).to_bytes(4, "little")))
    head = write_file_meta(PDF, "1.2.3", "1.2.840.10008.1.2.1")
    path.write_bytes(head + write_data_set(elements, EXPLICIT_LITTLE))
    return path


@pytest.mark.parametrize("says_length", [True, False])
@pytest.mark.parametrize(
    ("content", "mime_type", "suffix"),
    [
        (b"%PDF-1.7 odd %%EOF", "application/pdf", ".pdf"),
        (b"%PDF-1.7 even %%EOF", "application/pdf", ".pdf"),
        (b"<ClinicalDocument/>", "text/XML", ".xml"),
        (bytes(80) + b"\1\0\0\0" + bytes(50), "model/stl", ".stl"),
        (b"v 0 0 0\n", "model/obj", ".obj"),
        (b"what", "application/x-unknown", ".bin"),
    ],
)
def test_documents_are_their_bytes(
    tmp_path: Path, content: bytes, mime_type: str, suffix: str, says_length: bool
) -> None:
    path = document(tmp_path / "doc.dcm", content, mime_type, says_length=says_length)
    assert run(path, "-o", tmp_path) == 0
    assert (tmp_path / f"doc{suffix}").read_bytes() == content


def test_video_is_one_stream(tmp_path: Path) -> None:
    stream = b"\0\0\0\x18ftypisom" + bytes(range(200)) * 7
    elements: list[Any] = [
        (0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.77.1.1.1"),
        (0x00080018, "UI", b"1.2.3"),
        (0x00280002, "US", b"\3\0"),
        (0x00280004, "CS", b"YBR_PARTIAL_420"),
        (0x00280008, "IS", b"100"),
        (0x00280010, "US", b"\x10\0"),
        (0x00280011, "US", b"\x10\0"),
        (0x00280100, "US", b"\x08\0"),
        (0x00280101, "US", b"\x08\0"),
        (0x7FE00010, "OB", Fragments((b"", stream[:500], stream[500:]))),
    ]
    syntax = "1.2.840.10008.1.2.4.102"
    head = write_file_meta("1.2.840.10008.5.1.4.1.1.77.1.1.1", "1.2.3", syntax)
    (tmp_path / "video").write_bytes(head + write_data_set(elements, EXPLICIT_LITTLE))
    assert run(tmp_path / "video", "-o", f"{tmp_path}/out/") == 0
    assert (tmp_path / "out" / "video.mp4").read_bytes() == stream


def test_waveforms_are_tables(tmp_path: Path, capfd: Output) -> None:
    assert run(ECG, "-o", tmp_path) == 0
    whole = pydicom.dcmread(ECG)
    for number in (0, 1):
        with (tmp_path / f"waveform_ecg.{number}.csv").open(newline="") as file:
            head, *rows = csv.reader(file)
        expected = whole.waveform_array(number)
        assert np.allclose([[float(value) for value in row[1:]] for row in rows], expected)
        assert head[:2] == ["time (s)", "Lead I (Einthoven) (uV)"]
        assert float(rows[10][0]) == pytest.approx(0.01)
    assert run(ECG, "-") == 2
    assert "has 2 waveforms; choose one with --frame" in capfd.readouterr().err


def test_standard_input_and_output(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Output
) -> None:
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(CT.read_bytes())))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output))
    assert run("-", "-o", "-", "--png") == 0
    assert png_decode(output.getvalue()).shape == (128, 128)
    assert run(COLOUR, "-o", "-", "--png") == 2
    assert "choose one with --frame" in capfd.readouterr().err


def test_what_is_there_stays(tmp_path: Path, capfd: Output) -> None:
    place = tmp_path / "ct.png"
    place.write_text("mine")
    assert run(CT, "-o", place, "--png") == 2
    assert "--overwrite replaces it" in capfd.readouterr().err
    assert place.read_text() == "mine"
    assert run(CT, "-o", place, "--png", "--overwrite") == 0
    assert png_decode(place.read_bytes()).shape == (128, 128)


def test_what_is_in_it(capfd: Output) -> None:
    assert run(CT, "--info") == 0
    assert "image: 128 x 128, 1 frames, 1 samples of 16 bits in 16, signed, MONOCHROME2" in (
        capfd.readouterr().out
    )
    assert run(ECG, DATA / "rtplan.dcm", "--info") == 0
    out = capfd.readouterr().out
    assert "12 channels, 10000 samples, 1000 Hz" in out
    assert f"{DATA / 'rtplan.dcm'}: RT Plan Storage" in out


def test_a_picture_on_the_terminal(capfd: Output) -> None:
    assert run(CT, "--show=blocks") == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 40
    assert lines[0].count("\u2580") == 80
    assert run(CT, "--show=kitty") == 0
    assert capfd.readouterr().out.startswith("\x1b_Ga=T,f=100,m=1;")
    assert run(CT, "--show") == 1
    assert "is no terminal" in capfd.readouterr().err


def test_terminals_are_told_apart() -> None:
    assert protocol_of({"TERM": "xterm-kitty"}) is PictureProtocol.KITTY
    assert protocol_of({"TERM": "xterm-kitty", "TMUX": "x"}) is PictureProtocol.BLOCKS
    assert protocol_of({"TERM_PROGRAM": "iTerm.app"}) is PictureProtocol.ITERM
    assert protocol_of({"TERM": "xterm-256color"}) is PictureProtocol.BLOCKS
    assert "".join(show_png(b"x", PictureProtocol.ITERM)) == (
        "\x1b]1337;File=inline=1;size=1:eA==\x07\n"
    )
    red = np.array([[[255, 0, 0]], [[0, 0, 255]], [[9, 9, 9]]], np.uint8)
    first, second = show_blocks(red, has_truecolor=True)
    assert first == "\x1b[38;2;255;0;0m\x1b[48;2;0;0;255m\u2580\x1b[0m\n"
    assert second == "\x1b[38;2;9;9;9m\u2580\x1b[0m\n"
    assert next(show_blocks(red, has_truecolor=False)).startswith("\x1b[38;5;196m\x1b[48;5;21m")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["nothing.dcm"], 2, "No such file"),
        ([str(DATA / "README.txt")], 2, "not DICOM"),
        ([str(DATA / "rtplan.dcm")], 2, "has neither pixels nor a document nor a waveform"),
        ([str(CT), "--frame", "1"], 2, "has 1 frames, numbered from 0 on"),
        ([str(CT), "--frame", "-1"], 1, "neither a number"),
        ([str(CT), "+F", "0"], 1, "no number from 1 on"),
        ([str(CT), "--png", "--window", "1", "0"], 1, "the width of a window"),
        ([str(CT), "--jpeg", "-q", "0"], 1, "from 1 to 100"),
        ([str(CT), "--png", "--jpeg"], 1, "not allowed with"),
        ([str(CT), "--info", "-o", "x"], 1, "leave out -o"),
        ([str(DATA / "rtplan.dcm"), "--show=blocks"], 2, "no pixels to show"),
        ([str(CT), "--png", "--size", "0"], 1, "viewport"),
    ],
)
def test_what_cannot_be(
    words: list[str],
    code: int,
    text: str,
    tmp_path: Path,
    capfd: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == code
    error = capfd.readouterr().err
    assert text in error
    assert "Traceback" not in error
    assert not any(tmp_path.iterdir())
