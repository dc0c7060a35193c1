"""STOW-RS of pictures, documents, models and video with their metadata."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import imagecodecs as codecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from support.dicomweb import body, served
from support.payloads import CDA, STL, mp4

DICOM_JSON = "application/dicom+json"
ROOT = "1.2.840.10008.5.1.4.1.1."
_Y, _X = np.mgrid[0:40, 0:51]
GRAY = (_X * 5 % 256).astype(np.uint8)
DEEP = (_X * 1000 + _Y).astype(np.uint16)
COLOUR = np.stack([_X * 5 % 256, _Y * 6 % 256, (_X + _Y) * 2 % 256], -1).astype(np.uint8)
Json = dict[str, Any]
#: The instances of this module.
NUMBERS = iter(range(1, 1000))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as found:
        yield found.url


def described(sop_class: str, tag: str = "7FE00010", **more: Any) -> Json:
    """Metadata without anything that describes pixels or document."""
    values = {
        "00080016": ("UI", ROOT + sop_class),
        "00080018": ("UI", f"1.2.4.1.1.{next(NUMBERS)}"),
        "00080060": ("CS", "XC"),
        "0020000D": ("UI", "1.2.4.1"),
        "0020000E": ("UI", "1.2.4.1.1"),
        "00200013": ("IS", 1),
    }
    found: Json = {key: {"vr": vr, "Value": [value]} for key, (vr, value) in values.items()}
    found[tag] = {"vr": "OB", "BulkDataURI": "payload"}
    for key, value in more.items():
        if value is None:
            del found[key[1:]]
        else:
            found[key[1:]] = value
    return found


def store(url: str, model: Json, *parts: tuple[str, bytes]) -> httpx.Response:
    sent = body(
        DICOM_JSON,
        (DICOM_JSON, json.dumps([model]).encode()),
        *((media_type, "payload", content) for media_type, content in parts),
    )
    return httpx.post(f"{url}/studies", timeout=60, **sent)


def stored(url: str, model: Json, *parts: tuple[str, bytes]) -> pydicom.FileDataset:
    answer = store(url, model, *parts)
    assert answer.status_code == 200, answer.text
    return got(answer)


def got(answer: httpx.Response) -> pydicom.FileDataset:
    (item,) = answer.json()["00081199"]["Value"]
    found = httpx.get(
        item["00081190"]["Value"][0], headers={"accept": "application/dicom; transfer-syntax=*"}
    )
    read = pydicom.dcmread(io.BytesIO(found.content))
    for keyword in ("PatientName", "PatientID", "StudyDate", "AccessionNumber", "Manufacturer"):
        assert keyword in read  # type 2
    return read


def refused(url: str, model: Json, *parts: tuple[str, bytes]) -> tuple[int, str]:
    answer = store(url, model, *parts)
    assert answer.status_code == 409, answer.text
    (item,) = answer.json()["00081198"]["Value"]
    assert item["00081155"] == model["00080018"]
    return item["00081197"]["Value"][0], item["00000902"]["Value"][0]


@pytest.mark.parametrize(
    ("media_type", "content", "syntax", "photometric"),
    [
        ("image/jpeg", codecs.jpeg8_encode(COLOUR, level=95), "1.2.840.10008.1.2.4.50", "YBR_FULL"),
        ("image/jpeg", codecs.jpeg8_encode(GRAY), "1.2.840.10008.1.2.4.50", "MONOCHROME2"),
        ("image/jls", codecs.jpegls_encode(GRAY), "1.2.840.10008.1.2.4.80", "MONOCHROME2"),
        ("image/x-jls", codecs.jpegls_encode(DEEP), "1.2.840.10008.1.2.4.80", "MONOCHROME2"),
        (
            "image/jp2",
            codecs.jpeg2k_encode(COLOUR, codecformat="jp2", reversible=True),
            "1.2.840.10008.1.2.4.90",
            "YBR_RCT",
        ),
        ("image/png", codecs.png_encode(COLOUR), "1.2.840.10008.1.2.1", "RGB"),
        ("image/png", codecs.png_encode(DEEP), "1.2.840.10008.1.2.1", "MONOCHROME2"),
        ("image/gif", codecs.gif_encode(GRAY), "1.2.840.10008.1.2.1", ""),
    ],
    ids=["jpeg", "gray jpeg", "jls", "deep jls", "jp2", "png", "deep png", "gif"],
)
def test_pictures(url: str, media_type: str, content: bytes, syntax: str, photometric: str) -> None:
    found = stored(url, described("7"), (media_type, content))
    assert found.file_meta.TransferSyntaxUID == syntax
    assert (found.Rows, found.Columns) == GRAY.shape
    assert photometric in ("", found.PhotometricInterpretation.removesuffix("_422"))
    assert (found.ConversionType, found.HighBit) == ("WSD", found.BitsStored - 1)
    if media_type.endswith("jls"):  # pydicom has no decoder for it here
        (frame,) = generate_frames(found.PixelData, number_of_frames=1)
        samples = codecs.jpegls_decode(frame)
    else:
        samples = found.pixel_array
    assert samples.shape[:2] == GRAY.shape
    if syntax == "1.2.840.10008.1.2.4.50":
        (frame,) = generate_frames(found.PixelData, number_of_frames=1)
        assert frame.rstrip(b"\0") == content.rstrip(b"\0")
        assert (found.LossyImageCompression, found.LossyImageCompressionMethod) == (
            "01", "ISO_10918_1",
        )  # fmt: skip
    elif photometric == "MONOCHROME2":
        assert (samples == (DEEP if found.BitsStored == 16 else GRAY)).all()
    elif photometric in ("RGB", "YBR_RCT"):
        assert (samples == COLOUR).all()


def test_a_photo(url: str) -> None:
    found = stored(url, described("77.1.4"), ("image/jpeg", bytes(codecs.jpeg8_encode(COLOUR))))
    assert found.ImageType == ["DERIVED", "SECONDARY"]
    assert "AcquisitionContextSequence" in found
    assert "ConversionType" not in found
    assert "NumberOfFrames" not in found
    reason, why = refused(
        url, described("77.1.4"), *[("image/jpeg", bytes(codecs.jpeg8_encode(COLOUR)))] * 2
    )
    assert (reason, "its SOP class has one" in why) == (0xA900, True)


def test_frames_of_several_pictures(url: str) -> None:
    frames = [codecs.png_encode(np.roll(COLOUR, number, 0)) for number in range(3)]
    found = stored(url, described("7.4"), *[("image/png", frame) for frame in frames])
    assert found.NumberOfFrames == 3
    assert (found.pixel_array[2] == np.roll(COLOUR, 2, 0)).all()
    reason, _ = refused(
        url, described("7.4"), ("image/png", frames[0]), ("image/png", codecs.png_encode(GRAY))
    )
    assert reason == 0xA900


def test_what_the_sender_knows_better_stays(url: str) -> None:
    more = {
        "t00280004": {"vr": "CS", "Value": ["MONOCHROME1"]},
        "t00280101": {"vr": "US", "Value": [12]},
        "t00280102": {"vr": "US", "Value": [11]},
        "t00080008": {"vr": "CS", "Value": ["ORIGINAL", "PRIMARY", "AXIAL"]},
    }
    found = stored(url, described("7", **more), ("image/png", codecs.png_encode(DEEP & 0xFFF)))
    assert found.PhotometricInterpretation == "MONOCHROME1"
    assert (found.BitsAllocated, found.BitsStored, found.HighBit) == (16, 12, 11)
    assert found.ImageType[2] == "AXIAL"


def test_what_the_bytes_know_better_is_corrected_with_a_warning(url: str) -> None:
    model = described("7", t00280010={"vr": "US", "Value": [256]})
    answer = store(url, model, ("image/png", codecs.png_encode(GRAY)))
    assert answer.status_code == 202
    (item,) = answer.json()["00081199"]["Value"]
    assert item["00081196"]["Value"] == [0xB000]
    assert "(0028,0010)" in item["00000902"]["Value"][0]
    assert got(answer).Rows == 40


@pytest.mark.parametrize(
    ("media_type", "content", "sop_class"),
    [
        ("application/pdf", b"%PDF-1.4 odd %%EOF\n", "104.1"),
        ("text/xml", CDA, "104.2"),
        ("application/hl7-cda+xml", CDA, "104.2"),
        ("model/stl", STL, "104.3"),
    ],
)
def test_documents(url: str, media_type: str, content: bytes, sop_class: str) -> None:
    more: Json = {}
    if sop_class == "104.3":
        unit = described("7")  # any item
        for key, vr, value in (
            ("00080070", "LO", "Maker"), ("00081090", "LO", "Model"), ("00181000", "LO", "1"),
            ("00181020", "LO", "1"), ("00200052", "UI", "1.2.3"), ("00400E06", "SQ", unit),
        ):  # fmt: skip
            more[f"t{key}"] = {"vr": vr, "Value": [value]}
        more["t00082144"] = {"vr": "IS"}
        measured = {"00080100": {"vr": "SH", "Value": ["mm"]}}
        more["t004008EA"] = {"vr": "SQ", "Value": [measured]}
        del more["t00400E06"], more["t00082144"]
        missing = {**more}
        del missing["t00200052"], missing["t00081090"]
        reason, why = refused(url, described(sop_class, "00420011", **missing),
                              (media_type, content))  # fmt: skip
        assert (reason, why.startswith("type 1 attributes are missing")) == (0xA900, True)
    found = stored(url, described(sop_class, "00420011", **more), (media_type, content))
    assert found.EncapsulatedDocument[: len(content)] == content
    assert found.EncapsulatedDocumentLength == len(content)
    assert found.MIMETypeOfEncapsulatedDocument.lower() in (media_type, "text/xml")
    if sop_class == "104.2":
        assert found.HL7InstanceIdentifier == "1.2.3^X1"
    if sop_class != "104.3":
        assert (found.ConversionType, found.BurnedInAnnotation) == ("WSD", "YES")


@pytest.mark.interop("dcm2pdf", "dcmj2pnm")
def test_dcmtk_sees_what_was_stored(url: str, tmp_path: Path) -> None:
    """What DCMTK takes out of the objects is what was sent."""
    content = b"%PDF-1.4 even %%EOF\n"
    place = tmp_path / "x.dcm"
    stored(url, described("104.1", "00420011"), ("application/pdf", content)).save_as(place)
    subprocess.run(["dcm2pdf", place, tmp_path / "x.pdf"], check=True, timeout=60)
    assert (tmp_path / "x.pdf").read_bytes() == content
    for media_type, picture in (
        ("image/png", codecs.png_encode(COLOUR)),
        ("image/jpeg", codecs.jpeg8_encode(COLOUR, level=98)),
    ):
        stored(url, described("77.1.4"), (media_type, picture)).save_as(place)
        words = ["dcmj2pnm", "--write-png", place, tmp_path / "x.png"]
        subprocess.run(words, check=True, timeout=60)
        shown = codecs.png_decode((tmp_path / "x.png").read_bytes())
        assert np.abs(shown.astype(int) - COLOUR.astype(int)).mean() < 4


def real_video() -> bytes:
    """Ten frames of H.264 in MP4."""
    file = io.BytesIO()
    container = av.open(file, "w", format="mp4")
    stream: Any = container.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    stream.options = {"profile": "high", "level": "4.1"}
    for number in range(10):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 20, np.uint8), "rgb24")
        for packet in stream.encode(frame):
            container.mux(packet)
    for packet in stream.encode():
        container.mux(packet)
    container.close()
    return file.getvalue()


def test_video(url: str) -> None:
    for content, frames in ((real_video(), 10), (mp4(level=42), 60)):
        found = stored(url, described("77.1.4.1"), ("video/mp4", content))
        assert found.file_meta.TransferSyntaxUID == (
            "1.2.840.10008.1.2.4.102" if frames == 10 else "1.2.840.10008.1.2.4.104"
        )
        assert found.NumberOfFrames == frames
        assert found.PhotometricInterpretation == "YBR_PARTIAL_420"
        table, stream = pydicom.encaps.generate_fragments(found.PixelData)
        assert (table, stream[: len(content)]) == (b"", content)


@pytest.mark.parametrize(
    ("sop_class", "tag", "media_type", "content", "reason"),
    [
        ("7", "7FE00010", "image/png", b"no picture", 0xA900),
        ("7", "7FE00010", "image/jpeg", b"\xff\xd8\xff", 0xA900),
        ("7", "7FE00010", "image/tiff", b"II*\0", 0xC122),
        ("7", "7FE00010", "text/html", b"<html>", 0xC122),
        ("77.1.4.1", "7FE00010", "video/mp4", mp4(level=51), 0xA900),
        ("77.1.4.1", "7FE00010", "video/mp4", mp4().replace(b"stts", b"free"), 0xA900),
        ("77.1.4.1", "7FE00010", "video/webm", b"x", 0xC122),
        ("104.1", "00420011", "application/pdf", b"no PDF", 0xA900),
        ("104.1", "00420011", "text/xml", CDA, 0xA900),
        ("104.2", "00420011", "text/xml", b"<html/>", 0xA900),
        ("104.2", "00420011", "text/xml", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', 0xA900),
        ("104.1", "00420011", "application/msword", b"x", 0xC122),
    ],
)
def test_payloads_that_cannot_be(
    url: str, sop_class: str, tag: str, media_type: str, content: bytes, reason: int
) -> None:
    found, why = refused(url, described(sop_class, tag), (media_type, content))
    assert (found, bool(why)) == (reason, True)


def test_a_picture_that_announces_too_much_is_refused(url: str) -> None:
    small = codecs.png_encode(GRAY)
    huge = small[:16] + (30_000).to_bytes(4, "big") * 2 + small[24:]
    reason, why = refused(url, described("7"), ("image/png", huge))
    assert reason == 0xA900
    assert "MiB" in why


@pytest.mark.parametrize("missing", ["00080060", "0020000D", "0020000E"])
def test_type_1_attributes_are_missed(url: str, missing: str) -> None:
    model = described("77.1.4", **{f"t{missing}": None})
    reason, why = refused(url, model, ("image/png", codecs.png_encode(COLOUR)))
    assert reason == 0xA900
    assert "type 1" in why
