"""The door to rendering: objects and files in, pictures out, through worker processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset

from isocenter.engine.dataset import DataSetError
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.rendering.options import (
    GIF,
    PNG,
    RenderOptionError,
    RenderOptions,
    Viewport,
    Window,
)
from isocenter.services.dicom.pixels.rendering.renderer import open_renderer, render, thumbnail
from support.images import dataset_of, describe, file_of, pixels
from support.rendering import picture_of

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
