"""The door to rendering: objects and files in, pictures out, through worker processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from isocenter.engine.dataset import DataSetError
from isocenter.services.dicom.objects import DicomObject, MemoryReader, NotDicomFileError
from isocenter.services.dicom.pixels import transfer_syntaxes
from isocenter.services.dicom.pixels.errors import CodecUnavailableError, ImageError
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.rendering import renderer as renderer_module
from isocenter.services.dicom.pixels.rendering.options import (
    GIF,
    PNG,
    RenderOptionError,
    RenderOptions,
    Viewport,
    Window,
)
from isocenter.services.dicom.pixels.rendering.renderer import open_renderer, render, thumbnail
from isocenter.services.dicom.pixels.transcoding import transcode
from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD
from support.images import dataset_of, describe, file_of, pixels
from support.processes import run
from support.rendering import bytes_of, picture_of, read_pnm
from support.states import state_of

IMAGE = describe(48, 64, bits=12)


def ct(frames: int = 1) -> Dataset:
    dataset = dataset_of(IMAGE, [pixels(IMAGE, seed) for seed in range(1, frames + 1)])
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
    dataset.WindowCenter, dataset.WindowWidth = "300", "1500"
    return dataset


@pytest.fixture
async def pool() -> AsyncIterator[CodecPool]:
    async with CodecPool(PoolLimits(workers=1)) as made:
        yield made


async def test_a_file_becomes_a_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "ct.dcm"
    path.write_bytes(file_of(ct()))
    made = await render(path)
    assert (made.media_type, made.width, made.height) == ("image/jpeg", 64, 48)
    decoded = imagecodecs.jpeg8_decode(made.content)
    assert np.abs(decoded.astype(int) - picture_of(ct())).max() < 24


async def test_a_png_has_every_pixel_of_its_frame(pool: CodecPool) -> None:
    dataset = ct(frames=3)
    item = DicomObject.from_dataset(dataset)
    for number in (1, 2, 3):
        made = await render(item, pool, frame=number, options=RenderOptions(media_type=PNG))
        expected = picture_of(dataset, frame=number - 1)
        assert np.array_equal(imagecodecs.png_decode(made.content), expected)


async def test_a_frame_that_is_not_there_is_an_error(pool: CodecPool) -> None:
    async with open_renderer(DicomObject.from_dataset(ct(frames=2)), pool) as renderer:
        for number in (0, 3, -1):
            with pytest.raises(ImageError, match="has 2 frames"):
                await renderer.render(number)


async def test_several_frames_become_an_animation(pool: CodecPool) -> None:
    dataset = ct(frames=3)
    async with open_renderer(DicomObject.from_dataset(dataset), pool) as renderer:
        made = await renderer.animate([1, 3, 2], milliseconds=100)
    assert (made.media_type, made.frames) == (GIF, 3)
    for place, number in enumerate((0, 2, 1)):
        shown = imagecodecs.gif_decode(made.content, index=place)
        assert np.array_equal(shown[..., 0], picture_of(dataset, frame=number))


async def test_a_thumbnail_fits_its_size(pool: CodecPool) -> None:
    made = await thumbnail(DicomObject.from_dataset(ct(frames=3)), pool, size=16)
    assert (made.width, made.height) == (16, 12)
    assert imagecodecs.jpeg8_decode(made.content).shape == (12, 16)


async def test_options_are_judged_before_anything_is_read(pool: CodecPool) -> None:
    item = DicomObject.from_dataset(ct())
    for options in (
        RenderOptions(quality=0),
        RenderOptions(media_type="image/bmp"),
        RenderOptions(window=Window(1, 0)),
        RenderOptions(window=Window(1, 10), is_automatic=True),
        RenderOptions(viewport=Viewport(0, 10)),
        RenderOptions(viewport=Viewport(100_000, 100_000)),
    ):
        with pytest.raises(RenderOptionError):
            await render(item, pool, options=options)
    assert not pool._idle


async def test_a_picture_beyond_the_limit_is_not_begun() -> None:
    async with CodecPool(PoolLimits(workers=1, frame_bytes=100_000)) as pool:
        options = RenderOptions(viewport=Viewport(1000, 1000))
        with pytest.raises(ImageError, match="a picture of 3000000 bytes"):
            await render(DicomObject.from_dataset(ct()), pool, options=options)


async def test_an_object_without_pixels_is_an_error(pool: CodecPool) -> None:
    dataset = ct()
    del dataset.PixelData
    with pytest.raises(DataSetError, match="no Pixel Data"):
        await render(DicomObject.from_dataset(dataset), pool)


class TestFunctionalGroups:
    """Of an object of many frames a worker is told what concerns its frame."""

    def dataset(self, *, undefined: bool) -> Dataset:
        dataset = ct(frames=5)
        del dataset.WindowCenter, dataset.WindowWidth
        items = []
        for number in range(5):
            item, voi, content = Dataset(), Dataset(), Dataset()
            voi.WindowCenter, voi.WindowWidth = str(200 * number), "3000"
            content.DimensionIndexValues = [1, number + 1]
            item.FrameContentSequence = Sequence([content])
            item.FrameVOILUTSequence = Sequence([voi])
            items.append(item)
        dataset.PerFrameFunctionalGroupsSequence = Sequence(items)
        if undefined:
            dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
            for item in items:
                item.is_undefined_length_sequence_item = True
                for element in item:
                    element.is_undefined_length = True
                    element.value[0].is_undefined_length_sequence_item = True
        return dataset

    @pytest.mark.parametrize("undefined", [False, True])
    @pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
    async def test_each_frame_has_its_own(
        self, pool: CodecPool, syntax: str, undefined: bool
    ) -> None:
        dataset = self.dataset(undefined=undefined)
        expected = [picture_of(dataset, frame=number) for number in range(5)]
        assert len({each.tobytes() for each in expected}) == 5
        dataset.file_meta.TransferSyntaxUID = syntax
        async with open_renderer(DicomObject.from_dataset(dataset), pool) as renderer:
            for number in (5, 1, 3):
                made = await renderer.render(number, RenderOptions(media_type=PNG))
                assert np.array_equal(imagecodecs.png_decode(made.content), expected[number - 1])

    async def test_fewer_items_than_frames_are_enough_for_those(self, pool: CodecPool) -> None:
        dataset = self.dataset(undefined=False)
        dataset.PerFrameFunctionalGroupsSequence = Sequence(
            list(dataset.PerFrameFunctionalGroupsSequence)[:2]
        )
        async with open_renderer(DicomObject.from_dataset(dataset), pool) as renderer:
            first, last = [
                imagecodecs.png_decode(
                    (await renderer.render(number, RenderOptions(media_type=PNG))).content
                )
                for number in (2, 5)
            ]
        assert np.array_equal(first, picture_of(self.dataset(undefined=False), frame=1))
        low, high = pixels(IMAGE, 5).min(), pixels(IMAGE, 5).max()
        expected = (pixels(IMAGE, 5).astype(float) - low) / (high - low) * 255
        assert np.abs(last - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("keyword", ["jpeg-ls", "jpeg2000", "rle", "htj2k", "jpeg-lossless"])
async def test_compressed_frames_look_the_same(pool: CodecPool, keyword: str) -> None:
    dataset = ct(frames=2)
    item = DicomObject.from_dataset(dataset)
    made = await transcode(item, BY_KEYWORD[keyword].uid, pool)
    whole = b"".join([bytes(part) async for part, _ in made.parts()])

    async def open_object() -> MemoryReader:
        return MemoryReader(whole)

    compressed = DicomObject(
        sop_class_uid=item.sop_class_uid,
        sop_instance_uid=item.sop_instance_uid,
        transfer_syntax_uid=BY_KEYWORD[keyword].uid,
        open=open_object,
    )
    picture = await render(compressed, pool, frame=2, options=RenderOptions(media_type=PNG))
    assert np.array_equal(imagecodecs.png_decode(picture.content), picture_of(dataset, frame=1))


@pytest.mark.interop("dcmj2pnm")
@pytest.mark.parametrize(
    "case", ["window", "monochrome1", "sigmoid", "table", "palette", "ybr", "overlay", "high-bit"]
)
def test_dcmtk_shows_the_same(tmp_path: Path, case: str) -> None:
    dataset = ct()
    arguments = ["+Wi", "1"]
    match case:
        case "monochrome1":
            dataset.PhotometricInterpretation = "MONOCHROME1"
        case "sigmoid":
            dataset.VOILUTFunction = "SIGMOID"
        case "table":
            item = Dataset()
            item.add_new(0x00283002, "SS", [2048, -512, 16])
            item.add_new(0x00283006, "OW", np.arange(0, 65536, 32, "<u2").tobytes())
            dataset.VOILUTSequence = Sequence([item])
            del dataset.WindowCenter, dataset.WindowWidth
            arguments = ["+Wl", "1"]
        case "palette" | "ybr":
            photometric = "PALETTE COLOR" if case == "palette" else "YBR_FULL"
            samples = 1 if case == "palette" else 3
            image = describe(48, 64, samples=samples, photometric_interpretation=photometric)
            dataset = dataset_of(image, [pixels(image)])
            for place in range(3 if case == "palette" else 0):
                values = np.roll(np.arange(0, 65536, 256), 80 * place).astype("<u2")
                dataset.add_new(0x00281101 + place, "US", [256, 0, 16])
                dataset.add_new(0x00281201 + place, "OW", values.tobytes())
            arguments = []
        case "overlay":
            dataset.add_new(0x60000010, "US", 48)
            dataset.add_new(0x60000011, "US", 64)
            dataset.add_new(0x60000040, "CS", "G")
            dataset.add_new(0x60000050, "SS", [1, 1])
            dataset.add_new(0x60000100, "US", 1)
            dataset.add_new(0x60000102, "US", 0)
            dataset.add_new(0x60003000, "OW", bytes(range(128)) * 3)
        case "high-bit":
            words = np.frombuffer(dataset.PixelData, "<u2") << 4
            dataset.PixelData, dataset.HighBit = words.astype("<u2").tobytes(), 15
    path, out = tmp_path / "image.dcm", tmp_path / "image.pnm"
    path.write_bytes(file_of(dataset))
    run("dcmj2pnm", *arguments, "+op", str(path), str(out))
    theirs = read_pnm(out.read_bytes())
    ours = picture_of(dataset)
    assert ours.shape == theirs.shape
    # DCMTK has whole numbers in place of those of PS3.3 C.7.6.3.1.2.
    assert np.abs(ours.astype(int) - theirs).max() <= (2 if case == "ybr" else 1)


class TestHostileObjects:
    async def test_headers_longer_than_allowed_are_refused(
        self, pool: CodecPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(renderer_module, "MAX_HEADER", 1000)
        dataset = ct()
        dataset.ICCProfile = bytes(2000)
        with pytest.raises(ImageError, match="at most 1000 are read"):
            await render(DicomObject.from_dataset(dataset), pool)

    async def test_states_longer_than_allowed_are_refused(
        self, pool: CodecPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(renderer_module, "MAX_STATE", 100)
        dataset = ct()
        for syntax in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"):
            state = state_of(dataset)
            state.file_meta.TransferSyntaxUID = syntax
            item = DicomObject.from_dataset(state)
            with pytest.raises(ImageError, match="100"):
                await render(DicomObject.from_dataset(dataset), pool, state=item)

    async def test_deflated_objects_and_states_are_read(self, pool: CodecPool) -> None:
        dataset = ct()
        state = state_of(dataset)
        expected = picture_of(dataset, state=state)
        for each in (dataset, state):
            each.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        made = await render(
            DicomObject.from_dataset(dataset),
            pool,
            state=DicomObject.from_dataset(state),
            options=RenderOptions(media_type=PNG),
        )
        assert np.array_equal(imagecodecs.png_decode(made.content), expected)

    async def test_sizes_are_judged_before_anything_is_made(self, pool: CodecPool) -> None:
        dataset = ct()
        dataset.Rows = dataset.Columns = 65535
        with pytest.raises(ImageError):
            await render(DicomObject.from_dataset(dataset), pool)
        assert not pool._idle

    async def test_faults_of_the_header_are_told_in_one_line(self, pool: CodecPool) -> None:
        dataset = ct()
        dataset.PhotometricInterpretation = "PALETTE COLOR"
        with pytest.raises(ImageError, match="no palette") as caught:
            await render(DicomObject.from_dataset(dataset), pool)
        assert str(caught.value).isprintable()
        assert pool.failures == 0


async def test_without_the_codecs_the_error_says_what_to_install(
    pool: CodecPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_syntaxes, "_is_installed", lambda _: False)
    with pytest.raises(CodecUnavailableError, match=r"isocenter\[codecs\]"):
        await render(DicomObject.from_dataset(ct()), pool)


async def test_a_file_without_a_name_is_shown(tmp_path: Path, pool: CodecPool) -> None:
    dataset = ct()
    path = tmp_path / "nameless.dcm"
    whole = file_of(dataset)
    del dataset.SOPInstanceUID, dataset.SOPClassUID
    data = b"".join((whole[: whole.index(b"\x08\0\x08\0")], bytes_of(dataset)))
    path.write_bytes(data)
    made = await render(path, pool, options=RenderOptions(media_type=PNG))
    assert np.array_equal(imagecodecs.png_decode(made.content), picture_of(dataset))


async def test_what_is_no_image_is_an_error(tmp_path: Path, pool: CodecPool) -> None:
    path = tmp_path / "text"
    path.write_text("no DICOM at all, but longer than nothing" * 10)
    with pytest.raises(NotDicomFileError, match="not DICOM"):
        await render(path, pool)
    with pytest.raises(OSError, match="missing"):
        await render(tmp_path / "missing", pool)
