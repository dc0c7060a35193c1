"""`dcmconv` as it is typed, and beside DCMTK's."""

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

import numpy as np
import pydicom
import pytest

from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    read_file_head,
    write_data_set,
    write_file_meta,
)
from isocenter.services.cli import main
from isocenter.services.dicom.pixels import transfer_syntaxes

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
CT = DATA / "CT_small.dcm"
Captured = pytest.CaptureFixture[str]
EXPLICIT = "1.2.840.10008.1.2.1"


def conv(source: Path, target: Path, *words: str) -> Path:
    assert main(["dcmconv", str(source), str(target), *words]) == 0
    return target


def data_set_of(path: Path) -> bytes:
    content = path.read_bytes()
    return content[read_file_head(content).data_set_offset :]


# -- Transfer syntaxes -------------------------------------------------------------------


@pytest.mark.parametrize(
    "keyword", ["implicit", "explicit-be", "deflated", "rle", "jpeg-ls", "htj2k"]
)
def test_there_and_back_is_the_same(keyword: str, tmp_path: Path) -> None:
    """Byte for byte, but for trailing padding, which has no place in other encodings."""
    start = conv(CT, tmp_path / "start.dcm", "-p")
    there = conv(start, tmp_path / "there.dcm", f"--{keyword}")
    syntax = pydicom.dcmread(there).file_meta.TransferSyntaxUID
    assert syntax == transfer_syntaxes.BY_KEYWORD[keyword].uid
    back = conv(there, tmp_path / "back.dcm", "--explicit")
    assert data_set_of(back) == data_set_of(start)


@pytest.mark.parametrize(
    ("name", "keyword"),
    [("JPEG2000.dcm", "explicit"), ("SC_rgb_rle_2frame.dcm", "jpeg-lossless"),
     ("MR_small_jp2klossless.dcm", "jpeg2000"), ("examples_palette.dcm", "htj2k-rpcl")],
)  # fmt: skip
def test_what_is_made_is_verified(name: str, keyword: str, tmp_path: Path) -> None:
    made = conv(DATA / name, tmp_path / "a.dcm", "-t", keyword, "--verify")
    read = pydicom.dcmread(made)
    assert read.file_meta.TransferSyntaxUID == transfer_syntaxes.BY_KEYWORD[keyword].uid
    assert read.SOPInstanceUID == pydicom.dcmread(DATA / name).SOPInstanceUID


def test_what_loses_something_needs_to_know_how_much(tmp_path: Path, capfd: Captured) -> None:
    source = DATA / "examples_rgb_color.dcm"
    for keyword, option in (
        ("jpeg-baseline", "-q"), ("jpeg2000-lossy", "--ratio"), ("jpegxl-lossy", "--distance"),
        ("jpeg-ls-near", "--near"),
    ):  # fmt: skip
        assert main(["dcmconv", str(source), str(tmp_path / "a.dcm"), f"--{keyword}"]) == 1
        assert f"say how much with -q{'' if option == '-q' else f' or {option}'}" in (
            capfd.readouterr().err
        )
        assert not (tmp_path / "a.dcm").exists()
    best = conv(source, tmp_path / "best.dcm", "--jpeg-baseline", "-q", "95")
    worst = conv(source, tmp_path / "worst.dcm", "--jpeg-baseline", "-q", "20")
    assert worst.stat().st_size < best.stat().st_size
    read, before = pydicom.dcmread(best), pydicom.dcmread(source)
    assert read.LossyImageCompression == "01"
    assert read.SOPInstanceUID == read.file_meta.MediaStorageSOPInstanceUID
    assert read.SOPInstanceUID != before.SOPInstanceUID


def test_without_a_syntax_compressed_files_stay_compressed(tmp_path: Path) -> None:
    big = conv(DATA / "MR_small_bigendian.dcm", tmp_path / "a.dcm")
    assert pydicom.dcmread(big).file_meta.TransferSyntaxUID == EXPLICIT
    same = conv(DATA / "MR_small_bigendian.dcm", tmp_path / "b.dcm", "+t=")
    assert pydicom.dcmread(same).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.2"
    jpeg = conv(DATA / "JPEG2000.dcm", tmp_path / "c.dcm")
    assert data_set_of(jpeg) == data_set_of(DATA / "JPEG2000.dcm")


def test_what_has_no_pixels_is_not_compressed(tmp_path: Path, capfd: Captured) -> None:
    made = conv(DATA / "rtplan.dcm", tmp_path / "a.dcm", "--jpeg-ls")
    assert pydicom.dcmread(made).file_meta.TransferSyntaxUID == EXPLICIT
    assert "has no pixels" in capfd.readouterr().err


def test_the_answers_to_what_is_there(
    tmp_path: Path, capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Available, not installed, unknown."""

    def lines() -> list[str]:
        with pytest.raises(SystemExit) as stop:
            main(["dcmconv", "--list-syntaxes"])
        assert not stop.value.code
        return capfd.readouterr().out.splitlines()

    (jpeg_ls,) = (line for line in lines() if line.startswith("--jpeg-ls "))
    assert jpeg_ls.split()[1:4] == ["1.2.840.10008.1.2.4.80", "available", "available"]
    monkeypatch.setattr(transfer_syntaxes, "_is_installed", lambda module: module != "imagecodecs")
    (jpeg_ls,) = (line for line in lines() if line.startswith("--jpeg-ls "))
    assert jpeg_ls.count("known, not installed") == 2
    assert main(["dcmconv", str(CT), str(tmp_path / "a.dcm"), "--jpeg-ls"]) == 2
    assert "python3 -m pip install 'isocenter[codecs]'" in capfd.readouterr().err
    assert os.listdir(tmp_path) == []
    with pytest.raises(SystemExit) as stop:
        main(["dcmconv", str(CT), str(tmp_path / "a.dcm"), "-t", "1.2.3"])
    assert stop.value.code == 1
    assert "'1.2.3' is unknown" in capfd.readouterr().err


# -- Encoding ----------------------------------------------------------------------------


def test_a_data_set_alone_and_a_file_again(tmp_path: Path) -> None:
    alone = conv(CT, tmp_path / "alone", "-F")
    assert alone.read_bytes() == data_set_of(CT)
    again = conv(alone, tmp_path / "again.dcm")
    assert data_set_of(again) == data_set_of(CT)
    meta = pydicom.dcmread(again).file_meta
    assert meta.MediaStorageSOPInstanceUID == pydicom.dcmread(CT).SOPInstanceUID
    kept = pydicom.dcmread(conv(CT, tmp_path / "kept.dcm", "+F")).file_meta
    assert kept.SourceApplicationEntityTitle == "CLUNIE1"
    assert kept.FileMetaInformationGroupLength


def test_lengths_and_group_lengths(tmp_path: Path) -> None:
    undefined = conv(CT, tmp_path / "u.dcm", "-e")
    assert data_set_of(undefined).count(b"\xfe\xff\xdd\xe0") == 1
    defined = conv(undefined, tmp_path / "d.dcm", "+e")
    assert data_set_of(defined) == data_set_of(CT)
    grouped = conv(CT, tmp_path / "g.dcm", "+g")
    assert pydicom.dcmread(grouped)[0x00100000].value > 0
    assert data_set_of(conv(grouped, tmp_path / "n.dcm", "-g")) == data_set_of(CT)


def test_values_of_odd_length_get_their_padding(tmp_path: Path) -> None:
    data = write_data_set(
        [(0x00080016, "UI", b"1.2"), (0x00080018, "UI", b"1.2.3")], EXPLICIT_LITTLE
    )
    odd = b"\x10\0\x20\0LO\3\0ABC" + b"\x10\0\x40\0CS\2\0M "
    path = tmp_path / "odd.dcm"
    path.write_bytes(write_file_meta("1.2", "1.2.3", EXPLICIT) + data + odd)
    made = conv(path, tmp_path / "even.dcm")
    assert data_set_of(made) == data + odd.replace(b"\3\0ABC", b"\4\0ABC ")
    assert main(["dcmdump", "--strict", str(made)]) == 0


def test_padding(tmp_path: Path, capfd: Captured) -> None:
    padded = conv(DATA / "MR_small.dcm", tmp_path / "p.dcm", "+p", "512", "0")
    assert padded.stat().st_size % 512 == 0
    assert 0xFFFCFFFC in pydicom.dcmread(padded)
    plain = conv(padded, tmp_path / "n.dcm", "-p")
    assert 0xFFFCFFFC not in pydicom.dcmread(plain)
    assert main(["dcmconv", str(CT), str(tmp_path / "x.dcm"), "+p", "512", "8"]) == 1
    assert "items are not filled up" in capfd.readouterr().err


def test_texts_in_utf8(tmp_path: Path, capfd: Captured) -> None:
    inner = [(0x00080005, "CS", b"ISO_IR 144"), (0x00400007, "LO", "Мир".encode("iso8859_5"))]
    data = write_data_set(
        [(0x00080005, "CS", b"\\ISO 2022 IR 87"), (0x00080016, "UI", b"1.2"),
         (0x00080018, "UI", b"1.2.3"),
         (0x00100010, "PN", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
         (0x00400275, "SQ", [inner])],
        EXPLICIT_LITTLE,
    )  # fmt: skip
    path = tmp_path / "a.dcm"
    path.write_bytes(write_file_meta("1.2", "1.2.3", EXPLICIT) + data)
    read = pydicom.dcmread(conv(path, tmp_path / "u.dcm", "--to-utf8"))
    assert read.SpecificCharacterSet == "ISO_IR 192"
    assert read.PatientName == "Yamada^Tarou=山田^太郎"
    assert read.RequestAttributesSequence[0].ScheduledProcedureStepDescription == "Мир"
    assert "SpecificCharacterSet" not in read.RequestAttributesSequence[0]
    assert data_set_of(conv(CT, tmp_path / "ct.dcm", "+U8")).count(b"ISO_IR 192") == 1
    assert capfd.readouterr().err == ""


# -- Files -------------------------------------------------------------------------------


def test_folders_and_what_is_there_already(tmp_path: Path, capfd: Captured) -> None:
    target = tmp_path / "new"
    source = DATA / "dicomdirtests" / "77654033"
    assert main(["dcmconv", "-r", str(source), str(target), "--implicit"]) == 0
    made = [path for path in target.rglob("*") if path.is_file()]
    assert len(made) == 7
    before = {path: path.stat().st_mtime_ns for path in made}
    capfd.readouterr()
    assert main(["dcmconv", "-r", str(source), str(target), "--implicit"]) == 0
    assert capfd.readouterr().err.count("is there already, and stays") == 7
    assert {path: path.stat().st_mtime_ns for path in made} == before
    assert main(["dcmconv", str(CT), str(made[0]), "--implicit"]) == 2
    assert "--overwrite replaces it" in capfd.readouterr().err
    assert main(["dcmconv", str(CT), str(made[0]), "--implicit", "--overwrite"]) == 0
    assert pydicom.dcmread(made[0]).PatientID == "1CT1"


def test_through_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(CT.read_bytes())))
    assert main(["dcmconv", "-", "-", "--implicit"]) == 0
    read = pydicom.dcmread(io.BytesIO(capfdbinary.readouterr().out))
    assert read.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"


@pytest.mark.parametrize("name", ["MR_truncated.dcm", "rtplan_truncated.dcm", "CT_small.dcm"])
def test_what_is_damaged_is_repaired(name: str, tmp_path: Path, capfd: Captured) -> None:
    content = (DATA / name).read_bytes()
    path = tmp_path / "damaged.dcm"
    path.write_bytes(content if "truncated" in name else content[:4000])
    repaired = conv(path, tmp_path / "a.dcm")
    assert "what can be read of it was written" in capfd.readouterr().err
    assert main(["dcmdump", "--strict", str(repaired)]) == 0
    assert capfd.readouterr().err == ""
    assert pydicom.dcmread(repaired).PatientID == pydicom.dcmread(DATA / name).PatientID
    assert main(["dcmconv", str(path), str(tmp_path / "b.dcm"), "--strict"]) == 2
    assert not (tmp_path / "b.dcm").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nothing.dcm", "a.dcm"], 2, "No such file"),
        ([__file__, "a.dcm"], 2, "not DICOM"),
        ([str(DATA / "dicomdirtests" / "DICOMDIR"), "a.dcm"], 2, "is a DICOMDIR"),
        ([str(CT)], 1, "where to?"),
        ([str(DATA), "a"], 1, "-r goes through folders"),
        ([str(DATA / "JPGExtended.dcm"), "a.dcm", "-t", "video-100"], 2, "can encode"),
        ([str(CT), "a.dcm", "-q", "0"], 1, "not a whole number from 1 to 100"),
        ([str(CT), "-", str(CT), "-o", "-"], 1, "several files need a folder"),
    ],
)
def test_faults_are_one_line_and_leave_nothing(
    words: list[str], code: int, says: str, tmp_path: Path, capfd: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    try:
        found: object = main(["dcmconv", *words])
    except SystemExit as stop:
        found = stop.code
    captured = capfd.readouterr()
    assert found == code
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert os.listdir(tmp_path) == []


def _little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (200 << 20, 200 << 20))


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--implicit", "--explicit-be"])
def test_a_large_file_needs_little_memory(option: str, tmp_path: Path) -> None:
    path, target = tmp_path / "large.dcm", tmp_path / "b.dcm"
    with path.open("wb") as file:
        file.write(write_file_meta("1.2", "1.2.3", EXPLICIT))
        file.write(write_data_set([(0x00100020, "LO", b"1 ")], EXPLICIT_LITTLE))
        file.write(bytes.fromhex("e07f1000 4f570000 00000014"))
        file.truncate(file.tell() + (320 << 20))
    subprocess.run(
        [sys.executable, "-m", "isocenter.services.cli", "dcmconv", path, target, option],
        timeout=120, preexec_fn=_little_memory, check=True,
    )  # fmt: skip
    assert target.stat().st_size > 320 << 20


# -- DCMTK -------------------------------------------------------------------------------


@pytest.mark.interop("dcmconv", "dcmdump")
@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_bigendian.dcm", "rtplan.dcm", "test-SR.dcm"]
)
@pytest.mark.parametrize(
    "words", [["+te"], ["+ti"], ["+tb"], ["+td"], ["+te", "-e"], ["+te", "+g"]]
)
def test_the_same_as_dcmtk(name: str, words: list[str], tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.dcm", tmp_path / "theirs.dcm"
    conv(DATA / name, ours, *words)
    subprocess.run(["dcmconv", "-q", *words, DATA / name, theirs], check=True)
    seen = [
        subprocess.run(["dcmdump", "-q", "+L", path], capture_output=True, check=True).stdout
        for path in (ours, theirs)
    ]
    # Who wrote it, and padding, which their tool leaves out, are their own.
    own = re.compile(r"#|\(0002|\(fffc,")
    one, other = (
        [line for line in text.decode("latin-1").splitlines() if not own.match(line)]
        for text in seen
    )
    assert one == other


@pytest.mark.interop("dcmdjpeg", "dcmdrle", "dcmdjpls")
@pytest.mark.parametrize(
    ("keyword", "program"),
    [("jpeg-lossless", "dcmdjpeg"), ("rle", "dcmdrle"), ("jpeg-ls", "dcmdjpls")],
)
def test_dcmtk_decodes_what_was_encoded(keyword: str, program: str, tmp_path: Path) -> None:
    made = conv(CT, tmp_path / "a.dcm", f"--{keyword}")
    decoded = tmp_path / "b.dcm"
    subprocess.run([program, made, decoded], check=True)
    assert np.array_equal(pydicom.dcmread(decoded).pixel_array, pydicom.dcmread(CT).pixel_array)


@pytest.mark.interop("dcmcjpeg")
def test_what_dcmtk_encoded_is_decoded(tmp_path: Path) -> None:
    theirs = tmp_path / "a.dcm"
    shutil.copy(CT, tmp_path / "ct.dcm")
    subprocess.run(["dcmcjpeg", "+e1", CT, theirs], check=True)
    ours = conv(theirs, tmp_path / "b.dcm", "--explicit", "--verify")
    assert np.array_equal(pydicom.dcmread(ours).pixel_array, pydicom.dcmread(CT).pixel_array)
