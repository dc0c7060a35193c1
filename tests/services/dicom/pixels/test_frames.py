"""Images on demand: frames out of objects of every encoding, and out of broken ones."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Self

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLSLossless

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError, read_file_head
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject, MemoryReader
from isocenter.services.dicom.pixels.encoding import encode_frame
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.frames import ImageObject, open_image
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from support.images import dataset_of, describe, file_of, pixels

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

DATA = Path(pydicom.__file__).parent / "data" / "test_files"


def object_of(content: bytes) -> DicomObject:
    head = read_file_head(content)

    async def open_object() -> MemoryReader:
        return MemoryReader(content)

    return DicomObject(
        sop_class_uid="1.2",
        sop_instance_uid="1.3",
        transfer_syntax_uid=head.transfer_syntax_uid,
        open=open_object,
        data_set_offset=head.data_set_offset,
    )


@pytest.fixture
async def pool() -> AsyncIterator[CodecPool]:
    async with CodecPool(PoolLimits(workers=1)) as pool:
        yield pool


async def frames_of(item: ImageObject, pool: CodecPool) -> list[bytes]:
    async with open_image(item) as image:
        return [(await image.decode(pool, number)).samples for number in range(len(image))]


async def test_frames_of_a_native_object(pool: CodecPool) -> None:
    image = describe(6, 7, bits=12)
    frames = [pixels(image, seed) for seed in range(3)]
    item = object_of(file_of(dataset_of(image, frames)))
    assert await frames_of(item, pool) == [each.tobytes() for each in frames]


class CountingReader:
    """Counts what is read of another one."""

    def __init__(self, inner: ObjectReader, lengths: list[int]) -> None:
        self._inner = inner
        self._lengths = lengths
        self.size = inner.size

    async def read(self, offset: int, length: int) -> bytes:
        self._lengths.append(length)
        return await self._inner.read(offset, length)

    async def view(self, offset: int, length: int) -> Buffer:
        return await self.read(offset, length)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._inner.__aexit__(*exc)


#: Bytes of a frame, and frames, of an object of 1 GiB.
FRAME_BYTES, FRAMES = 2 << 20, 512


def sparse_file(path: Path, *, is_encapsulated: bool) -> None:
    """1 GiB of frames, of which only the headers take room on the disk, and what marks the
    frames at their beginning."""
    image = describe(1024, 1024, bits=16)
    dataset = dataset_of(image, [])
    dataset.NumberOfFrames = FRAMES
    if is_encapsulated:
        dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    del dataset.PixelData
    with path.open("wb") as file:
        file.write(file_of(dataset))
        if is_encapsulated:
            file.write(b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\0\0\0\0")
        else:
            length = FRAMES * FRAME_BYTES
            file.write(b"\xe0\x7f\x10\0OW\0\0" + length.to_bytes(4, "little"))
        for number in range(FRAMES):
            if is_encapsulated:
                file.write(b"\xfe\xff\0\xe0" + FRAME_BYTES.to_bytes(4, "little"))
            start = file.tell()
            file.write(number.to_bytes(4, "little"))
            file.seek(start + FRAME_BYTES - 1)
            file.write(b"\xff")
        if is_encapsulated:
            file.write(b"\xfe\xff\xdd\xe0\0\0\0\0")


@pytest.mark.parametrize("is_encapsulated", [False, True])
async def test_a_frame_of_a_large_object_costs_little_more_than_the_frame(
    tmp_path: Path, is_encapsulated: bool
) -> None:
    path = tmp_path / "large.dcm"
    sparse_file(path, is_encapsulated=is_encapsulated)
    plain = await DicomObject.from_file(path)
    lengths: list[int] = []

    async def open_object() -> ObjectReader:
        return CountingReader(await plain.open(), lengths)

    async with open_image(replace(plain, open=open_object)) as image:
        assert len(image) == FRAMES
        assert sum(lengths) < 256 << 10
        lengths.clear()
        frame = await image.read(333)
        assert lengths == [FRAME_BYTES]
        assert frame[:4] == (333).to_bytes(4, "little")
        assert frame[-1] == 0xFF


async def test_single_bits_of_several_frames(pool: CodecPool) -> None:
    image = describe(3, 5, bits=1)
    frames = [pixels(image, seed) for seed in range(4)]
    item = object_of(file_of(dataset_of(image, frames)))
    assert await frames_of(item, pool) == [each.tobytes() for each in frames]


async def test_frames_of_a_deflated_object(pool: CodecPool) -> None:
    image = describe(6, 7, bits=12)
    dataset = dataset_of(image, [pixels(image)])
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert await frames_of(object_of(file_of(dataset)), pool) == [pixels(image).tobytes()]


async def test_a_deflated_object_that_grows_beyond_all_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("isocenter.services.dicom.pixels.frames.MAX_INFLATED", 1 << 20)
    bomb = zlib.compressobj(wbits=-15)
    data = bomb.compress(bytes(4 << 20)) + bomb.flush()
    item = DicomObject(
        sop_class_uid="1.2",
        sop_instance_uid="1.3",
        transfer_syntax_uid=DeflatedExplicitVRLittleEndian,
        open=lambda: _opened(data),
    )
    with pytest.raises(ImageError, match="inflates to more than"):
        async with open_image(item):
            pass


async def _opened(data: bytes) -> MemoryReader:
    return MemoryReader(data)


async def test_fragments_are_joined(pool: CodecPool) -> None:
    image = describe(40, 50, bits=12)
    frames = [pixels(image, seed) for seed in range(3)]
    encoded = [encode_frame(each.tobytes(), image, JPEGLSLossless)[0] for each in frames]
    for has_table in (False, True):
        dataset = dataset_of(image, frames)
        dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
        dataset.PixelData = encapsulate(encoded, fragments_per_frame=3, has_bot=has_table)
        item = object_of(file_of(dataset))
        assert await frames_of(item, pool) == [each.tobytes() for each in frames]


async def test_a_frame_that_is_not_there(pool: CodecPool) -> None:
    image = describe(6, 7)
    item = object_of(file_of(dataset_of(image, [pixels(image)])))
    async with open_image(item) as opened:
        with pytest.raises(ImageError, match="has 1 frames, and none with the number 2"):
            await opened.decode(pool, 1)


async def test_an_object_that_says_another_kind_of_syntax() -> None:
    image = describe(6, 7)
    content = file_of(dataset_of(image, [pixels(image)]))
    item = object_of(content)
    lying = DicomObject(
        sop_class_uid="1.2",
        sop_instance_uid="1.3",
        transfer_syntax_uid=JPEGLSLossless,
        open=item.open,
        data_set_offset=item.data_set_offset,
    )
    with pytest.raises(ImageError, match="Pixel Data is native"):
        async with open_image(lying):
            pass


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd.dcm"),
        ("liver_expb_1frame.dcm", "liver_1frame.dcm"),
        ("MR_small_expb.dcm", "MR_small.dcm"),
    ],
)
async def test_words_of_the_other_byte_order(name: str, reference: str, pool: CodecPool) -> None:
    ours = await frames_of(object_of((DATA / name).read_bytes()), pool)
    assert ours == await frames_of(object_of((DATA / reference).read_bytes()), pool)
    assert ours


async def test_pydicom_sees_the_same_pixels(pool: CodecPool) -> None:
    """Of what it decodes with numpy alone."""
    for name in ("MR_small_RLE.dcm", "SC_rgb_rle_2frame.dcm", "image_dfl.dcm", "rtdose.dcm"):
        content = (DATA / name).read_bytes()
        theirs = pydicom.dcmread(BytesIO(content)).pixel_array
        ours = b"".join(await frames_of(object_of(content), pool))
        assert np.ascontiguousarray(theirs).tobytes() == ours, name


async def test_a_data_set_without_pixels() -> None:
    with pytest.raises(DataSetError, match="no Pixel Data"):
        async with open_image(object_of((DATA / "reportsi.dcm").read_bytes())):
            pass
