"""`imgtodcm`: pictures, documents and video as objects, read by pydicom, DCMTK and GDCM."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imagecodecs as codecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from isocenter.services.cli import main
from support.payloads import CDA, MPEG, STL, mp4

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
CT = DATA / "CT_small.dcm"
Output = pytest.CaptureFixture[str]

_Y, _X = np.mgrid[0:40, 0:51]
GRAY = (_X * 5 % 256).astype(np.uint8)
DEEP = (_X * 1000 + _Y).astype(np.uint16)
COLOUR = np.stack([_X * 5 % 256, _Y * 6 % 256, (_X + _Y) * 2 % 256], -1).astype(np.uint8)


def run(*words: str | Path) -> int:
    """The exit code, also where the arguments alone are wrong."""
    try:
        return main(["imgtodcm", *map(str, words)])
    except SystemExit as error:
        return int(error.code or 0)


def made(path: Path, content: Any, *words: str | Path) -> pydicom.Dataset:
    """The object that a file of *content* becomes."""
    path.write_bytes(bytes(content))
    place = path.with_name(path.name + ".dcm")
    assert run(path, "-o", place, *words, "--overwrite") == 0
    found = pydicom.dcmread(place)
    assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID
    for keyword in ("PatientBirthDate", "PatientSex", "ReferringPhysicianName", "StudyID"):
        assert keyword in found
    return found


def tiff(*pages: np.ndarray[Any, Any]) -> bytes:
    out = bytearray(b"II*\0" + bytes(4))
    link = 4
    for page in pages:
        data = page.astype("<u2").tobytes()
        start = len(out)
        out += data
        struct.pack_into("<I", out, link, len(out))
        entries = [
            (256, 4, page.shape[1]), (257, 4, page.shape[0]), (258, 3, 16), (259, 3, 1),
            (262, 3, 1), (273, 4, start), (277, 3, 1), (278, 4, page.shape[0]),
            (279, 4, len(data)),
        ]  # fmt: skip
        out += struct.pack("<H", len(entries))
        for tag, kind, value in entries:
            out += struct.pack("<HHII", tag, kind, 1, value)
        link = len(out)
        out += bytes(4)
    return bytes(out)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.png", codecs.png_encode(GRAY), GRAY),
        ("b.png", codecs.png_encode(DEEP), DEEP),
        ("c.png", codecs.png_encode(COLOUR), COLOUR),
        ("d.png", codecs.png_encode(np.dstack([COLOUR, GRAY])), COLOUR),
        ("e.bmp", codecs.bmp_encode(COLOUR), COLOUR),
        ("f.tif", tiff(DEEP), DEEP),
        ("g.tif", tiff(DEEP, DEEP[::-1]), np.stack([DEEP, DEEP[::-1]])),
    ],
)
@pytest.mark.parametrize("words", [(), ("--implicit",)])
def test_pictures_keep_their_samples(
    tmp_path: Path, name: str, content: Any, expected: Any, words: tuple[str, ...]
) -> None:
    found = made(tmp_path / name, content, *words)
    assert np.array_equal(found.pixel_array, expected)
    assert found.file_meta.TransferSyntaxUID.is_implicit_VR is bool(words)
    assert found.Modality == "OT"
    assert "LossyImageCompression" not in found
    sop_class = "1.2.840.10008.5.1.4.1.1.7" + (
        ".3" if expected.ndim == 3 and name[0] not in "cde" else ""
    )
    assert found.SOPClassUID == sop_class


@pytest.mark.parametrize(
    ("content", "syntax", "photometric", "is_lossy"),
    [
        (codecs.jpeg8_encode(COLOUR, level=90), "50", "YBR_FULL_422", True),
        (codecs.jpeg8_encode(COLOUR, level=90, subsampling="444"), "50", "YBR_FULL", True),
        (
            codecs.jpeg8_encode(COLOUR, level=90, colorspace="RGB", outcolorspace="RGB"),
            "50", "RGB", True,
        ),
        (codecs.jpeg8_encode(GRAY), "50", "MONOCHROME2", True),
        (codecs.jpegls_encode(COLOUR), "80", "RGB", False),
        (codecs.jpegls_encode(GRAY, level=3), "81", "MONOCHROME2", True),
        (codecs.ljpeg_encode(DEEP), "57", "MONOCHROME2", False),
        (codecs.jpeg2k_encode(COLOUR, codecformat="j2k", reversible=True), "90", "YBR_RCT", False),
        (codecs.jpeg2k_encode(COLOUR, codecformat="j2k", level=60), "91", "YBR_ICT", True),
    ],
)  # fmt: skip
def test_codestreams_keep_their_bytes(
    tmp_path: Path, content: Any, syntax: str, photometric: str, is_lossy: bool
) -> None:
    found = made(tmp_path / "x", content)
    assert found.file_meta.TransferSyntaxUID == f"1.2.840.10008.1.2.4.{syntax}"
    assert found.PhotometricInterpretation == photometric
    (frame,) = generate_frames(found.PixelData, number_of_frames=1)
    assert frame.rstrip(b"\0") == bytes(content).rstrip(b"\0")
    assert found.get("LossyImageCompression") == ("01" if is_lossy else None)
    assert found.ImageType[0] == ("DERIVED" if is_lossy else "ORIGINAL")


def test_jpeg_2000_loses_its_container(tmp_path: Path) -> None:
    content = codecs.jpeg2k_encode(DEEP, codecformat="jp2", reversible=True)
    found = made(tmp_path / "x.jp2", content)
    (frame,) = generate_frames(found.PixelData, number_of_frames=1)
    assert frame.startswith(b"\xff\x4f\xff\x51")
    assert np.array_equal(codecs.jpeg2k_decode(frame), DEEP)


@pytest.mark.interop("dcmj2pnm", "dcmdump")
def test_dcmtk_shows_a_jpeg_as_it_was(tmp_path: Path) -> None:
    for subsampling in ("444", "422", "420"):
        content = codecs.jpeg8_encode(COLOUR, level=95, subsampling=subsampling)
        made(tmp_path / "x.jpg", content)
        subprocess.run(
            ["dcmj2pnm", "--write-png", tmp_path / "x.jpg.dcm", tmp_path / "x.png"], check=True
        )
        shown = codecs.png_decode((tmp_path / "x.png").read_bytes())
        expected = codecs.jpeg8_decode(content)
        assert np.abs(shown.astype(int) - expected).mean() < 3, subsampling
        subprocess.run(["dcmdump", tmp_path / "x.jpg.dcm"], check=True, stdout=subprocess.DEVNULL)


def exif(jpeg: Any, orientation: int) -> bytes:
    tiff = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    body = b"Exif\0\0" + tiff + bytes(4)
    return bytes(jpeg[:2]) + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + bytes(jpeg[2:])


def test_a_turned_photo_is_told_of_and_turned_on_request(tmp_path: Path, capfd: Output) -> None:
    jpeg = codecs.jpeg8_encode(COLOUR, level=98, subsampling="444")
    straight = codecs.jpeg8_decode(jpeg)
    turned = {
        2: straight[:, ::-1], 3: straight[::-1, ::-1], 4: straight[::-1],
        5: straight.swapaxes(0, 1), 6: np.rot90(straight, -1),
        7: straight[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(straight),
    }  # fmt: skip
    for orientation, expected in turned.items():
        content = exif(jpeg, orientation)
        found = made(tmp_path / "x.jpg", content)
        assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"
        assert "--upright turns it" in capfd.readouterr().err
        found = made(tmp_path / "x.jpg", content, "--upright")
        assert np.array_equal(found.pixel_array, expected), orientation
        assert found.LossyImageCompression == "01"


def progressive() -> bytes:
    """A progressive JPEG of 8 × 8 pixels, all of them 128: one block, without a coefficient."""

    def segment(marker: int, body: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body

    return b"".join(
        (
            b"\xff\xd8",
            segment(0xDB, b"\0" + b"\1" * 64),
            segment(0xC2, struct.pack(">BHHB", 8, 8, 8, 1) + b"\1\x11\0"),
            segment(0xC4, b"\0" + b"\1" + bytes(15) + b"\0"),
            segment(0xDA, b"\1\1\0\0\0\0"),
            b"\x7f\xff\xd9",
        )
    )


def test_what_no_transfer_syntax_has_is_decoded_or_refused(tmp_path: Path, capfd: Output) -> None:
    found = made(tmp_path / "x.jpg", progressive())
    assert "progressive" in capfd.readouterr().err
    assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert np.array_equal(found.pixel_array, np.full((8, 8), 128))
    assert found.LossyImageCompressionMethod == "ISO_10918_1"
    (tmp_path / "cmyk.jpg").write_bytes(codecs.jpeg8_encode(np.dstack([COLOUR, GRAY])))
    assert run(tmp_path / "cmyk.jpg", "-o", tmp_path / "no.dcm") == 2
    assert "make it gray or RGB first" in capfd.readouterr().err


def test_the_sop_class_is_chosen(tmp_path: Path, capfd: Output) -> None:
    png = codecs.png_encode(COLOUR)
    for option, suffix, modality in (
        ("--vl-photo", "77.1.4", "XC"),
        ("--vl-endoscopic", "77.1.1", "ES"),
        ("--vl-microscopic", "77.1.2", "GM"),
        ("-nsc", "7.4", "OT"),
    ):
        found = made(tmp_path / "x.png", png, option)
        assert found.SOPClassUID == f"1.2.840.10008.5.1.4.1.1.{suffix}"
        assert found.Modality == modality
    assert found.NumberOfFrames == 1
    (tmp_path / "deep.png").write_bytes(codecs.png_encode(DEEP))
    assert run(tmp_path / "deep.png", "-o", tmp_path / "deep", "--vl-photo") == 2
    assert "visible light images have 8" in capfd.readouterr().err
    assert not (tmp_path / "deep").exists()


def test_pictures_become_frames(tmp_path: Path, capfd: Output) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"{number}.png").write_bytes(codecs.png_encode(np.roll(COLOUR, number, 0)))
        jpeg = codecs.jpeg8_encode(np.roll(COLOUR, number, 0))
        (tmp_path / f"{number}.jpg").write_bytes(jpeg)
    for ending in ("png", "jpg"):
        place = tmp_path / f"{ending}.dcm"
        words = [tmp_path / f"{number}.{ending}" for number in (1, 2, 3)]
        assert run("--multi-frame", *words, place) == 0
        found = pydicom.dcmread(place)
        assert found.NumberOfFrames == 3
        assert found.pixel_array.shape == (3, 40, 51, 3)
        assert list(found.PageNumberVector) == [1, 2, 3]
    assert np.array_equal(
        pydicom.dcmread(tmp_path / "png.dcm").pixel_array[1], np.roll(COLOUR, 2, 0)
    )
    (tmp_path / "small.png").write_bytes(codecs.png_encode(COLOUR[:9]))
    words = ["--multi-frame", tmp_path / "1.png", tmp_path / "small.png"]
    assert run(*words, "-o", tmp_path / "no.dcm") == 2
    assert "differs from the first picture" in capfd.readouterr().err
    assert not (tmp_path / "no.dcm").exists()


def test_patient_study_and_series_of_another_file(tmp_path: Path) -> None:
    png = codecs.png_encode(GRAY)
    source = pydicom.dcmread(CT)
    found = made(tmp_path / "x.png", png, "--study-from", CT)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "PatientWeight"):
        assert found[keyword].value == source[keyword].value
    assert found.SeriesInstanceUID != source.SeriesInstanceUID
    assert (found.Modality, found.InstanceNumber) == ("OT", 1)
    found = made(tmp_path / "x.png", png, "--series-from", CT, "--patient-id", "OTHER")
    assert found.SeriesInstanceUID == source.SeriesInstanceUID
    assert found.InstanceNumber == source.InstanceNumber + 1
    assert (found.Modality, found.PatientID) == ("CT", "OTHER")
    assert found.FrameOfReferenceUID == source.FrameOfReferenceUID
    found = made(tmp_path / "x.png", png, "-df", CT)
    assert found.Manufacturer == source.Manufacturer
    assert found.SeriesInstanceUID != source.SeriesInstanceUID
    assert found.SOPInstanceUID != source.SOPInstanceUID
    assert (found.Rows, found.BitsStored) == (len(GRAY), 8)


def test_attributes_of_ones_own(tmp_path: Path) -> None:
    found = made(
        tmp_path / "x.png",
        codecs.png_encode(GRAY),
        *("--patient-name", "Müller^Ä", "-k", "0008,1030=A\\B"),
        *("-k", "ImageType=DERIVED\\SECONDARY", "-k", "PatientComments=a\\b"),
        *("-k", "RequestAttributesSequence[0].ScheduledProcedureStepID=S1"),
        *("-k", "BurnedInAnnotation=NO"),
    )
    assert str(found.PatientName) == "Müller^Ä"
    assert found.SpecificCharacterSet == "ISO_IR 192" or "Müller" in str(found.PatientName)
    assert list(found.ImageType) == ["DERIVED", "SECONDARY"]
    assert found.PatientComments == "a\\b"
    assert found.RequestAttributesSequence[0].ScheduledProcedureStepID == "S1"
    assert found.BurnedInAnnotation == "NO"


def test_a_folder_becomes_one_series(tmp_path: Path, capfd: Output) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "1.png").write_bytes(codecs.png_encode(GRAY))
    (folder / "sub" / "2.jpg").write_bytes(codecs.jpeg8_encode(GRAY))
    (folder / "notes.txt").write_text("no picture")
    assert run("-r", folder, "-o", tmp_path / "out") == 0
    assert "1 of 3 files are of another kind" in capfd.readouterr().err
    found = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").rglob("*.dcm"))]
    assert len({one.SeriesInstanceUID for one in found}) == 1
    assert len({one.PatientID for one in found}) == 1
    assert sorted(one.InstanceNumber for one in found) == [1, 2]


@pytest.mark.parametrize(
    ("name", "content", "sop_class", "mime_type", "modality"),
    [
        ("a.pdf", b"%PDF-1.4 odd %%EOF\n", "104.1", "application/pdf", "DOC"),
        ("a.xml", CDA, "104.2", "text/XML", "DOC"),
        ("a.stl", STL, "104.3", "model/stl", "M3D"),
        ("a.obj", b"v 0 0 0\n", "104.4", "model/obj", "M3D"),
        ("a.mtl", b"newmtl a\n", "104.5", "model/mtl", "M3D"),
    ],
)
def test_documents_there_and_back(
    tmp_path: Path, name: str, content: bytes, sop_class: str, mime_type: str, modality: str
) -> None:
    found = made(tmp_path / name, content)
    assert found.SOPClassUID == f"1.2.840.10008.5.1.4.1.1.{sop_class}"
    assert found.MIMETypeOfEncapsulatedDocument == mime_type
    assert (found.Modality, found.DocumentTitle) == (modality, "a")
    assert "ConceptNameCodeSequence" in found
    if modality == "M3D":
        assert found.MeasurementUnitsCodeSequence[0].CodeValue == "mm"
    if name == "a.xml":
        assert found.HL7InstanceIdentifier == "1.2.3^X1"
    assert main(["dcmextract", str(tmp_path / f"{name}.dcm"), "-o", f"{tmp_path}/back/"]) == 0
    (back,) = (tmp_path / "back").iterdir()
    assert back.read_bytes() == content


def test_video_there_and_back(tmp_path: Path) -> None:
    content = mp4()
    found = made(tmp_path / "x.mp4", content)
    assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.102"
    assert found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.77.1.4.1"
    assert (found.Rows, found.Columns, found.NumberOfFrames) == (480, 640, 60)
    assert float(found.FrameTime) == pytest.approx(1001 / 30)
    assert found.PhotometricInterpretation == "YBR_PARTIAL_420"
    assert main(["dcmextract", str(tmp_path / "x.mp4.dcm"), "-o", f"{tmp_path}/back/"]) == 0
    (back,) = (tmp_path / "back").iterdir()
    assert back.name == "x.mp4.mp4"
    assert back.read_bytes()[: len(content)] == content


def test_mpeg_2(tmp_path: Path) -> None:
    found = made(tmp_path / "x.mpg", MPEG, "--vl-endoscopic")
    assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.100"
    assert (found.Columns, found.Rows, found.NumberOfFrames) == (720, 576, 7)
    assert found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.77.1.1.1"


_PNG = codecs.png_encode(GRAY)
HUGE_PNG = _PNG[:16] + struct.pack(">II", 65535, 65535) + _PNG[24:]


@pytest.mark.parametrize(
    ("content", "words", "code", "text"),
    [
        (b"what", [], 2, "neither a picture nor a document"),
        (b"", [], 2, "neither a picture nor a document"),
        (HUGE_PNG, [], 2, "more than 2048 MiB"),
        (codecs.png_encode(GRAY)[:60], [], 2, "damaged PNG"),
        (codecs.jpeg8_encode(GRAY)[:40], [], 2, "damaged JPEG"),
        (b"II*\0" + bytes(4), [], 2, "TIFF file without a page"),
        (b"<a/>", [], 2, "no CDA"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', [], 2, "entities of its own"),
        (CDA.replace(b"<id ", b"<ix "), [], 2, "without an id"),
        (mp4(b"av01"), [], 2, "video of kind 'av01'"),
        (mp4(level=51), [], 2, "level 5.1"),
        (mp4()[:1100], [], 2, "MP4"),
        (mp4().replace(b"stsd", b"free"), [], 2, "damaged video file"),
        (codecs.png_encode(GRAY), ["--study-from", "nothing"], 1, "nothing: No such file"),
        (codecs.png_encode(GRAY), ["--study-from", str(DATA / "README.txt")], 1, "not DICOM"),
        (codecs.png_encode(GRAY), ["-k", "Nonsense=1"], 1, "no keyword"),
        (codecs.png_encode(GRAY), ["-k", "Rows=x"], 2, "none of VR US"),
        (codecs.png_encode(GRAY), ["-k", "SOPInstanceUID=x"], 2, "no UID"),
        (codecs.png_encode(GRAY), ["-sc", "-vlp"], 1, "not allowed with"),
    ],
    ids=map(str, range(18)),
)
def test_what_cannot_be(
    content: Any,
    words: list[str],
    code: int,
    text: str,
    tmp_path: Path,
    capfd: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x").write_bytes(bytes(content))
    assert run("x", "-o", "out.dcm", *words) == code
    error = capfd.readouterr().err
    assert text in error
    assert "Traceback" not in error
    assert [one.name for one in tmp_path.iterdir()] == ["x"]


def test_a_document_from_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"%PDF-1.7 odd %%EOF"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert run("-", "-o", tmp_path / "x.dcm") == 0
    assert pydicom.dcmread(tmp_path / "x.dcm").EncapsulatedDocumentLength == len(content)
    assert os.listdir(tmp_path) == ["x.dcm"]


def test_what_is_there_stays(tmp_path: Path, capfd: Output) -> None:
    (tmp_path / "x.png").write_bytes(codecs.png_encode(GRAY))
    (tmp_path / "x.dcm").write_text("mine")
    assert run(tmp_path / "x.png", tmp_path / "x.dcm") == 2
    assert "--overwrite replaces it" in capfd.readouterr().err
    assert (tmp_path / "x.dcm").read_text() == "mine"
    assert run(tmp_path / "x.png") == 1
    assert "where to?" in capfd.readouterr().err
