"""Transcoding: the pixels in another syntax, everything else as it was."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence

from isocenter.engine.dataset import DataSetError, write_file_meta
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.encoding import EncodingOptions, encode_frame
from isocenter.services.dicom.pixels.errors import (
    CodecUnavailableError,
    ImageError,
)
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.transcoding import (
    TranscodedObject,
    TranscodingOptions,
    transcode,
)
from isocenter.services.dicom.pixels.transfer_syntaxes import (
    BY_KEYWORD,
    PIXEL_SYNTAXES,
    Support,
)
from support.images import dataset_of, describe, file_of, pixels

from .test_frames import DATA, object_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

LOSSLESS = [
    each.keyword
    for each in PIXEL_SYNTAXES.values()
    if each.encoding is Support.AVAILABLE and not each.is_lossy and each.is_encapsulated
]
LOSSY = TranscodingOptions(lossy=True, encoding=EncodingOptions(quality=95))


@pytest.fixture
async def pool() -> Any:
    async with CodecPool(PoolLimits(workers=1)) as pool:
        yield pool


async def data_set_of(made: TranscodedObject) -> bytes:
    pieces = []
    lasts = []
    async for piece, is_last in made.parts():
        assert len(piece) % 2 == 0
        pieces.append(bytes(piece))
        lasts.append(is_last)
    assert lasts == [False] * (len(lasts) - 1) + [True]
    return b"".join(pieces)


async def file_in(item: DicomObject, keyword: str, pool: CodecPool, **more: Any) -> bytes:
    made = await transcode(item, BY_KEYWORD[keyword].uid, pool, **more)
    uids = made.sop_class_uid, made.sop_instance_uid, made.transfer_syntax_uid
    return write_file_meta(*uids) + await data_set_of(made)


def encoded(
    image: ImageDescription, frames: int, keyword: str = "jpeg-ls", **more: Any
) -> tuple[Dataset, list[Any]]:
    """An object with encapsulated frames, and what is in them."""
    arrays = [pixels(image, seed) for seed in range(frames)]
    uid = BY_KEYWORD[keyword].uid
    made = [encode_frame(each.tobytes(), image, uid) for each in arrays]
    dataset = dataset_of(image, arrays)
    dataset.file_meta.TransferSyntaxUID = uid
    dataset.PhotometricInterpretation = made[0][1].photometric_interpretation
    dataset.PixelData = encapsulate([frame for frame, _ in made], **more)
    dataset["PixelData"].VR = "OB"
    return dataset, arrays


def read(content: bytes) -> Dataset:
    return pydicom.dcmread(BytesIO(content))


def others(dataset: Dataset) -> dict[str, Any]:
    """Everything but what says how the pixels are encoded."""
    return {
        str(element.tag): element.value
        for element in dataset
        if element.keyword not in ("PixelData", "PhotometricInterpretation")
    }


class TestToNative:
    @pytest.mark.parametrize("target", ["explicit", "implicit", "explicit-be", "deflated"])
    @pytest.mark.parametrize("frames", [1, 3])
    async def test_every_encoding_of_headers(
        self, target: str, frames: int, pool: CodecPool
    ) -> None:
        dataset, arrays = encoded(describe(31, 33, bits=12), frames)
        made = read(await file_in(object_of(file_of(dataset)), target, pool))
        assert (made.pixel_array == np.squeeze(np.stack(arrays))).all()
        assert others(made) == others(dataset)
        assert len(made.PixelData) == (31 * 33 * 2 * frames + 1) & ~1

    async def test_every_other_byte_stays(self, pool: CodecPool) -> None:
        dataset, _ = encoded(describe(16, 16), 1)
        dataset.add_new(0x00091001, "UN", b"private!")
        dataset.ReferencedStudySequence = Sequence([Dataset()])
        dataset.add_new(0xFFFCFFFC, "OB", b"\0\0")
        content = file_of(dataset)
        item = object_of(content)
        made = await data_set_of(await transcode(item, BY_KEYWORD["explicit"].uid, pool))
        before, after = content[item.data_set_offset :].split(struct.pack("<HH", 0x7FE0, 0x10), 1)
        assert made.startswith(before + struct.pack("<HH2s", 0x7FE0, 0x10, b"OB"))
        assert made.endswith(after[after.rindex(b"\xfe\xff\xdd\xe0") + 8 :])

    async def test_colours_say_what_they_are_now(self, pool: CodecPool) -> None:
        image = describe(16, 18, samples=3)
        dataset, arrays = encoded(image, 1, "jpeg2000")
        assert dataset.PhotometricInterpretation == "YBR_RCT"
        made = read(await file_in(object_of(file_of(dataset)), "explicit", pool))
        assert made.PhotometricInterpretation == "RGB"
        assert (made.pixel_array == arrays[0]).all()

    async def test_planes_are_gone(self, pool: CodecPool) -> None:
        image = describe(16, 18, samples=3)
        dataset, arrays = encoded(image, 1, "rle")
        dataset.PlanarConfiguration = 1
        made = read(await file_in(object_of(file_of(dataset)), "explicit", pool))
        assert made.PlanarConfiguration == 0
        assert (made.pixel_array == arrays[0]).all()

    async def test_single_bits_are_joined(self, pool: CodecPool) -> None:
        image = describe(3, 5, bits=1)
        dataset, arrays = encoded(image, 4, "encapsulated")
        made = read(await file_in(object_of(file_of(dataset)), "explicit", pool))
        joined = np.concatenate([each.reshape(-1) for each in arrays])
        wanted = np.packbits(joined, bitorder="little").tobytes()
        assert made.PixelData == wanted

    async def test_an_offset_table_is_gone(self, pool: CodecPool) -> None:
        dataset, _ = encoded(describe(16, 16), 2)
        dataset.ExtendedOffsetTable = struct.pack("<2Q", 0, 1000)
        dataset.ExtendedOffsetTableLengths = struct.pack("<2Q", 1, 1)
        made = read(await file_in(object_of(file_of(dataset)), "explicit", pool))
        assert "ExtendedOffsetTable" not in made
        assert "ExtendedOffsetTableLengths" not in made

    async def test_group_lengths_are_gone_where_something_changes(self, pool: CodecPool) -> None:
        dataset, _ = encoded(describe(16, 16, samples=3), 1, "jpeg2000")
        content = file_of(dataset)
        for first in (b"\x10\0\x10\0PN", b"\x28\0\2\0US"):
            length = first[:2] + b"\0\0UL\4\0\x63\0\0\0"
            content = content.replace(first, length + first)
        assert b"\x28\0\0\0UL" in content
        made = await file_in(object_of(content), "explicit", pool)
        assert b"\x28\0\0\0UL" not in made
        assert b"\x10\0\0\0UL" in made

    async def test_jpeg_says_what_it_lost(self, pool: CodecPool) -> None:
        dataset, _ = encoded(describe(16, 16), 1, "jpeg-baseline")
        made = read(await file_in(object_of(file_of(dataset)), "explicit", pool))
        assert made.LossyImageCompression == "01"
        assert made.SOPInstanceUID == dataset.SOPInstanceUID

    @pytest.mark.parametrize("is_undefined", [False, True])
    @pytest.mark.parametrize("target", ["explicit", "implicit"])
    async def test_a_compressed_icon_that_cannot_be_decoded_is_left_out(
        self, is_undefined: bool, target: str, pool: CodecPool
    ) -> None:
        dataset, _ = encoded(describe(16, 16), 1)
        icon = Dataset()
        icon.Rows = icon.Columns = 8
        icon.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
        icon["PixelData"].VR = "OB"
        icon["PixelData"].is_undefined_length = True
        dataset.IconImageSequence = Sequence([icon])
        dataset["IconImageSequence"].is_undefined_length = is_undefined
        made = read(await file_in(object_of(file_of(dataset)), target, pool))
        assert "IconImageSequence" not in made
        assert (made.pixel_array == read(file_of(dataset_of(
            describe(16, 16), [pixels(describe(16, 16), 0)]))).pixel_array).all()  # fmt: skip

    @pytest.mark.parametrize("target", ["explicit", "implicit", "jpeg2000", "rle"])
    @pytest.mark.parametrize("tag", [0x00880200, 0x00091001, 0x00082111 + 1])
    async def test_compressed_pixels_in_sequences_become_native(
        self, tag: int, target: str, pool: CodecPool
    ) -> None:
        image = describe(8, 12, bits=12)
        dataset, _ = encoded(describe(16, 16), 1, "jpeg-ls")
        inner = dataset_of(image, [pixels(image, 5)])
        wanted = inner.PixelData
        frame, _ = encode_frame(wanted, image, BY_KEYWORD["jpeg-ls"].uid)
        inner.PixelData = encapsulate([frame])
        inner["PixelData"].VR = "OB"
        inner["PixelData"].is_undefined_length = True
        del inner.file_meta
        outer = Dataset()
        outer.add_new(0x00091010, "UN", b"kept")
        outer.ReferencedImageSequence = Sequence([inner])
        if tag == 0x00091001:
            dataset.add_new(0x00090010, "LO", "SOMEBODY")
        dataset.add_new(tag, "SQ", [outer, Dataset()])
        made = read(await file_in(object_of(file_of(dataset)), target, pool))
        first, second = made[tag].value
        assert first[0x00091010].value == b"kept"
        assert list(second) == []
        (item,) = first.ReferencedImageSequence
        assert item.PixelData == wanted
        assert item.SOPInstanceUID == inner.SOPInstanceUID
        assert made.PixelData != dataset.PixelData

    async def test_compressed_pixels_in_sequences_stay_where_their_syntax_does(
        self, pool: CodecPool
    ) -> None:
        image = describe(8, 12, bits=12)
        dataset, _ = encoded(describe(16, 16), 1, "jpeg2000")
        inner = dataset_of(image, [pixels(image, 5)])
        inner.PixelData = encapsulate(
            [encode_frame(inner.PixelData, image, BY_KEYWORD["jpeg2000"].uid)[0]]
        )
        inner["PixelData"].VR = "OB"
        inner["PixelData"].is_undefined_length = True
        del inner.file_meta
        dataset.IconImageSequence = Sequence([inner])
        options = TranscodingOptions(lossy=True)
        made = read(
            await file_in(object_of(file_of(dataset)), "jpeg2000-lossy", pool, options=options)
        )
        assert made.IconImageSequence[0].PixelData == inner.PixelData

    async def test_private_sequences_with_pixels_that_cannot_be_decoded_are_left_out(
        self, pool: CodecPool
    ) -> None:
        dataset, _ = encoded(describe(16, 16), 1)
        inner = Dataset()
        inner.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
        inner["PixelData"].VR = "OB"
        inner["PixelData"].is_undefined_length = True
        dataset.add_new(0x00090010, "LO", "SOMEBODY")
        dataset.add_new(0x00091001, "SQ", [inner])
        made = read(await file_in(object_of(file_of(dataset)), "explicit", pool))
        assert 0x00091001 not in made
        assert 0x00090010 in made

    async def test_an_icon_that_is_native_stays(self, pool: CodecPool) -> None:
        dataset, _ = encoded(describe(16, 16), 1)
        icon = Dataset()
        icon.PixelData = bytes(64)
        icon["PixelData"].VR = "OB"
        dataset.IconImageSequence = Sequence([icon])
        made = read(await file_in(object_of(file_of(dataset)), "explicit", pool))
        assert made.IconImageSequence[0].PixelData == bytes(64)

    @pytest.mark.parametrize("policy", ["remove", "refuse"])
    async def test_digital_signatures(self, policy: Any, pool: CodecPool) -> None:
        dataset, _ = encoded(describe(16, 16), 1)
        signature = Dataset()
        signature.MACIDNumber = 1
        dataset.DigitalSignaturesSequence = Sequence([signature])
        dataset.MACParametersSequence = Sequence([signature])
        item = object_of(file_of(dataset))
        options = TranscodingOptions(signatures=policy)
        if policy == "refuse":
            with pytest.raises(ImageError, match="digital signatures"):
                await file_in(item, "explicit", pool, options=options)
            return
        made = read(await file_in(item, "explicit", pool, options=options))
        assert "DigitalSignaturesSequence" not in made
        assert "MACParametersSequence" not in made

    async def test_a_data_set_that_is_written_in_implicit_vr(self, pool: CodecPool) -> None:
        """Against its syntax, which readers forgive."""
        content = (DATA / "SC_rgb_jpeg.dcm").read_bytes()
        for target in ("explicit", "implicit"):
            made = read(await file_in(object_of(content), target, pool))
            assert made.Rows == 256
            assert made["Rows"].VR == "US"
            assert made.pixel_array.shape == (256, 256, 3)
        with pytest.raises(ImageError, match="implicit VR"):
            await file_in(object_of(content), "jpeg-ls", pool)


class TestToEncapsulated:
    @pytest.mark.parametrize("keyword", LOSSLESS)
    async def test_and_back(self, keyword: str, pool: CodecPool) -> None:
        image = describe(40, 41, bits=12)
        arrays = [pixels(image, seed) for seed in range(2)]
        content = file_of(dataset_of(image, arrays))
        there = await file_in(object_of(content), keyword, pool)
        dataset = read(there)
        assert dataset.file_meta.TransferSyntaxUID == BY_KEYWORD[keyword].uid
        assert others(dataset) == others(read(content))
        back = await file_in(object_of(there), "explicit", pool)
        assert read(back).PixelData == read(content).PixelData
        assert others(read(back)) == others(read(content))

    @pytest.mark.parametrize(
        "name", ["MR_small_implicit.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm"]
    )
    async def test_other_encodings_of_headers(self, name: str, pool: CodecPool) -> None:
        content = (DATA / name).read_bytes()
        there = await file_in(object_of(content), "jpeg-ls", pool)
        back = read(await file_in(object_of(there), "explicit", pool))
        assert (back.pixel_array == read(content).pixel_array).all()

    async def test_frames_that_need_no_change_get_none(self, pool: CodecPool) -> None:
        dataset, _ = encoded(describe(16, 16, bits=12), 2, "htj2k-rpcl")
        made = read(await file_in(object_of(file_of(dataset)), "htj2k-lossy", pool))
        assert made.SOPInstanceUID == dataset.SOPInstanceUID
        assert list(generate_frames(made.PixelData, number_of_frames=2)) == list(
            generate_frames(dataset.PixelData, number_of_frames=2)
        )

    async def test_jpeg_is_packed_and_unpacked(self, pool: CodecPool) -> None:
        dataset, _ = encoded(describe(64, 64), 1, "jpeg-baseline")
        content = file_of(dataset)
        there = await file_in(object_of(content), "jpegxl-jpeg", pool)
        back = read(await file_in(object_of(there), "jpeg-baseline", pool))
        assert list(generate_frames(back.PixelData, number_of_frames=1)) == list(
            generate_frames(dataset.PixelData, number_of_frames=1)
        )
        assert back.SOPInstanceUID == dataset.SOPInstanceUID

    async def test_losses_make_another_object(self, pool: CodecPool) -> None:
        image = describe(64, 64, samples=3)
        dataset = dataset_of(image, [pixels(image)])
        dataset.DerivationDescription = "Cropped"
        dataset.SourceImageSequence = Sequence([Dataset()])
        dataset.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
        dataset.LossyImageCompression, dataset.LossyImageCompressionRatio = "01", 2
        dataset.LossyImageCompressionMethod = "ISO_15444_1"
        item = object_of(file_of(dataset))
        item = DicomObject(
            sop_class_uid=str(dataset.SOPClassUID),
            sop_instance_uid=str(dataset.SOPInstanceUID),
            transfer_syntax_uid=item.transfer_syntax_uid,
            open=item.open,
            data_set_offset=item.data_set_offset,
        )
        made = await transcode(item, BY_KEYWORD["jpeg-baseline"].uid, pool, LOSSY)
        again = await transcode(item, BY_KEYWORD["jpeg-baseline"].uid, pool, LOSSY)
        assert made.sop_instance_uid == again.sop_instance_uid != item.sop_instance_uid
        derived = read(await file_in(item, "jpeg-baseline", pool, options=LOSSY))
        assert derived.SOPInstanceUID == made.sop_instance_uid
        assert derived.PhotometricInterpretation == "YBR_FULL_422"
        assert derived.ImageType == ["DERIVED", "PRIMARY"]
        assert derived.DerivationDescription == (
            "Cropped; Lossy compression: JPEG Baseline (Process 1)"
        )
        sources = [each.ReferencedSOPInstanceUID for each in derived.SourceImageSequence]
        assert sources == ["1.2.3", dataset.SOPInstanceUID]
        assert derived.LossyImageCompression == "01"
        assert derived.LossyImageCompressionMethod == ["ISO_15444_1", "ISO_10918_1"]
        first, ratio = derived.LossyImageCompressionRatio
        assert first == 2
        assert 1 < ratio < 100

    async def test_losses_have_to_be_allowed(self, pool: CodecPool) -> None:
        item = object_of(file_of(dataset_of(describe(16, 16), [pixels(describe(16, 16))])))
        with pytest.raises(CodecUnavailableError, match="loses something"):
            await transcode(item, BY_KEYWORD["jpeg-baseline"].uid, pool)


class TestRefused:
    async def test_a_number_of_frames_that_is_wrong(self, pool: CodecPool) -> None:
        dataset, _ = encoded(describe(16, 16), 2)
        dataset.NumberOfFrames = 3
        with pytest.raises(ImageError, match="announces 3 frames, and has 2"):
            await file_in(object_of(file_of(dataset)), "explicit", pool)

    async def test_a_later_frame_that_is_broken(self, pool: CodecPool) -> None:
        image = describe(16, 16)
        frame, _ = encode_frame(pixels(image).tobytes(), image, BY_KEYWORD["jpeg-ls"].uid)
        dataset, _ = encoded(image, 2)
        dataset.PixelData = encapsulate([frame, frame[:30]])
        made = await transcode(object_of(file_of(dataset)), BY_KEYWORD["explicit"].uid, pool)
        with pytest.raises(ImageError):
            await data_set_of(made)

    async def test_compressed_pixels_elsewhere(self, pool: CodecPool) -> None:
        dataset, _ = encoded(describe(16, 16), 1)
        inner = Dataset()
        inner.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
        inner["PixelData"].VR = "OB"
        inner["PixelData"].is_undefined_length = True
        dataset.ReferencedImageSequence = Sequence([inner])
        with pytest.raises(ImageError, match=r"compressed pixels within \(0008,1140\)"):
            await file_in(object_of(file_of(dataset)), "explicit", pool)

    async def test_what_has_no_pixels(self, pool: CodecPool) -> None:
        with pytest.raises(DataSetError, match="no Pixel Data"):
            await file_in(object_of((DATA / "reportsi.dcm").read_bytes()), "jpeg-ls", pool)

    async def test_video(self, pool: CodecPool, tmp_path: Path) -> None:
        dataset, _ = encoded(describe(16, 16), 1)
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
        with pytest.raises(CodecUnavailableError, match="nothing here can decode MPEG-4"):
            await file_in(object_of(file_of(dataset)), "explicit", pool)
