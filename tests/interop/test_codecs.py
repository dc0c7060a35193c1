"""What our codecs write, other people's programs read: DCMTK, GDCM, OpenJPH; and the reverse."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from isocenter.engine.dataset import write_file_meta
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.encoding import EncodingOptions
from isocenter.services.dicom.pixels.frames import open_image
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.transcoding import TranscodingOptions, transcode
from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD
from support.images import dataset_of, describe, file_of, pixels

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
KINDS = {
    "8": describe(45, 60),
    "12": describe(45, 60, bits=12),
    "16": describe(45, 60, bits=16),
    "16-signed": describe(45, 60, bits=16, signed=True),
    "12-signed": describe(45, 60, bits=12, signed=True),
    "rgb": describe(45, 60, samples=3),
}
#: Program and its options → syntaxes that it decodes.
READERS = {
    "dcmdjpeg": (["+cn"], ["jpeg-lossless"]),
    "dcmdjpls": ([], ["jpeg-ls"]),
    "dcmdrle": ([], ["rle"]),
    "gdcmconv": (["--raw"], ["jpeg-lossless", "jpeg-ls", "jpeg2000", "rle"]),
}


async def made(
    image: ImageDescription, frames: int, keyword: str, path: Path, options: Any = None
) -> Any:
    """A file of ours; what is in it."""
    arrays = [pixels(image, seed) for seed in range(frames)]
    path.with_suffix(".native").write_bytes(file_of(dataset_of(image, arrays)))
    async with CodecPool(PoolLimits(workers=1)) as pool:
        item = await DicomObject.from_file(path.with_suffix(".native"))
        found = await transcode(item, BY_KEYWORD[keyword].uid, pool, options)
        data = b"".join([bytes(piece) async for piece, _ in found.parts()])
    head = write_file_meta(found.sop_class_uid, found.sop_instance_uid, found.transfer_syntax_uid)
    path.write_bytes(head + data)  # noqa: ASYNC240 (a test has nothing else to do)
    return np.squeeze(np.stack(arrays))


def run(*command: object) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.interop(*READERS)
@pytest.mark.parametrize(
    ("reader", "keyword"),
    [(reader, keyword) for reader, (_, syntaxes) in READERS.items() for keyword in syntaxes],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_lossless_files_are_read_exactly(
    reader: str, keyword: str, kind: str, tmp_path: Path
) -> None:
    wanted = await made(KINDS[kind], 2, keyword, tmp_path / "ours.dcm")
    run(reader, *READERS[reader][0], tmp_path / "ours.dcm", tmp_path / "theirs.dcm")
    theirs = pydicom.dcmread(tmp_path / "theirs.dcm")
    assert (theirs.pixel_array == wanted).all()


@pytest.mark.interop("dcmdjpeg", "gdcmconv", "dcmdjpls")
@pytest.mark.parametrize(
    ("keyword", "kind", "reader", "bound"),
    [
        ("jpeg-baseline", "8", ["dcmdjpeg"], 12),
        ("jpeg-baseline", "8", ["gdcmconv", "--raw"], 12),
        ("jpeg-ls-near", "12", ["dcmdjpls"], 2),
        ("jpeg-ls-near", "12", ["gdcmconv", "--raw"], 2),
        ("jpeg2000-lossy", "12", ["gdcmconv", "--raw"], 250),
    ],
)
async def test_lossy_files_keep_within_a_bound(
    keyword: str, kind: str, reader: list[str], bound: int, tmp_path: Path
) -> None:
    options = TranscodingOptions(lossy=True, encoding=EncodingOptions(quality=95, ratio=5))
    wanted = await made(KINDS[kind], 1, keyword, tmp_path / "ours.dcm", options)
    run(*reader, tmp_path / "ours.dcm", tmp_path / "theirs.dcm")
    theirs = pydicom.dcmread(tmp_path / "theirs.dcm").pixel_array
    assert np.abs(theirs.astype(int) - wanted.astype(int)).max() <= bound


@pytest.mark.interop("ojph_expand")
@pytest.mark.parametrize("keyword", ["htj2k", "htj2k-rpcl"])
@pytest.mark.parametrize("kind", ["8", "12", "16", "rgb"])
async def test_openjph_reads_our_htj2k(keyword: str, kind: str, tmp_path: Path) -> None:
    wanted = await made(KINDS[kind], 1, keyword, tmp_path / "ours.dcm")
    dataset = pydicom.dcmread(tmp_path / "ours.dcm")
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    (tmp_path / "frame.j2c").write_bytes(frame)
    name = "frame.ppm" if kind == "rgb" else "frame.pgm"
    run("ojph_expand", "-i", tmp_path / "frame.j2c", "-o", tmp_path / name)
    is_wide = wanted.itemsize == 2
    rest = (tmp_path / name).read_bytes().partition(b"\n65535\n" if is_wide else b"\n255\n")[2]
    depth = ">u2" if is_wide else "u1"
    assert (np.frombuffer(rest, depth).reshape(wanted.shape) == wanted).all()


@pytest.mark.interop("dcmcjpeg", "dcmcjpls", "dcmcrle", "gdcmconv")
@pytest.mark.parametrize(
    "writer",
    [
        ["dcmcjpeg", "+e1"],
        ["dcmcjpeg", "+el", "+sv", "6"],
        ["dcmcjpls", "+el"],
        ["dcmcrle"],
        ["gdcmconv", "--j2k"],
        ["gdcmconv", "--jpegls"],
        ["gdcmconv", "--jpeg"],
        ["gdcmconv", "--rle"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("kind", ["8", "12", "16", "rgb"])
async def test_we_read_what_they_write(writer: list[str], kind: str, tmp_path: Path) -> None:
    image = KINDS[kind]
    if "6" in writer and kind == "16":
        return  # DCMTK itself reads it wrong without +w6
    arrays = [pixels(image, seed) for seed in range(2)]
    (tmp_path / "native.dcm").write_bytes(file_of(dataset_of(image, arrays)))
    run(*writer, tmp_path / "native.dcm", tmp_path / "theirs.dcm")
    async with CodecPool(PoolLimits(workers=1)) as pool:
        item = await DicomObject.from_file(tmp_path / "theirs.dcm")
        async with open_image(item) as opened:
            ours = [(await opened.decode(pool, number)).samples for number in range(2)]
    assert ours == [each.tobytes() for each in arrays]
