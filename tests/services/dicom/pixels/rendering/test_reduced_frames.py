"""Small pictures of large frames, decoded at a lower resolution where the codec offers it."""

from __future__ import annotations

from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from isocenter.services.dicom.pixels.rendering import pipeline, reduced_frames
from isocenter.services.dicom.pixels.rendering.geometry import Geometry
from isocenter.services.dicom.pixels.rendering.options import RenderOptions, Viewport
from isocenter.services.dicom.pixels.transfer_syntaxes import HTJ2K_LOSSLESS, Codec
from support.images import Samples, dataset_of, describe
from support.rendering import picture_of


def large(bits: int = 12, *, signed: bool = False, rows: int = 501) -> tuple[Dataset, Dataset]:
    """A disc of full brightness on black, uncompressed and as HTJ2K."""
    image = describe(rows, 640, bits=bits, signed=signed)
    y, x = np.mgrid[:rows, :640]
    disc = (y - 200) ** 2 + (x - 300) ** 2 < 150**2
    top = (1 << bits) - 1
    values = np.where(disc, top, 0) - (1 << (bits - 1)) * signed
    stored = values.astype("<i2" if signed else f"<u{image.bits_allocated // 8}")
    plain, compressed = dataset_of(image, [stored]), dataset_of(image, [stored])
    for each in (plain, compressed):
        each.WindowCenter = str(top / 2 - (1 << (bits - 1)) * signed)
        each.WindowWidth = str(top)
    frame = bytes(imagecodecs.htj2k_encode(stored, reversible=True))
    compressed.PixelData = encapsulate([frame])
    compressed["PixelData"].is_undefined_length = True
    return plain, compressed


def small(dataset: Dataset, viewport: str, syntax: str) -> Samples:
    options = RenderOptions(viewport=Viewport.parse(viewport), has_overlays=False)
    return picture_of(dataset, options, syntax=syntax)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("viewport", ["70,70", "150,150", "60,40,100,100,-400,300"])
def test_they_look_like_those_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, signed: bool, viewport: str
) -> None:
    used = []
    decode = reduced_frames.decode_reduced

    def watched(data: bytes, image: object, levels: int) -> object:
        used.append(levels)
        return decode(data, image, levels)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "decode_reduced", watched)
    plain, compressed = large(signed=signed)
    expected = small(plain, viewport, "1.2.840.10008.1.2.1").astype(int)
    picture = small(compressed, viewport, HTJ2K_LOSSLESS).astype(int)
    assert used == [{"70,70": 3, "150,150": 2}.get(viewport, 2)]
    assert picture.shape == expected.shape
    difference = np.abs(picture - expected)
    # At the edge of the disc they differ, and nowhere else.
    assert difference.mean() < 3
    assert (difference > 60).mean() < 0.03


@pytest.mark.parametrize("bits", [8, 16])
def test_samples_without_bits_to_spare_are_decoded_whole(bits: int) -> None:
    """The values beyond the brightest would be black, and those below black bright."""
    plain, compressed = large(bits)
    expected = small(plain, "70,70", "1.2.840.10008.1.2.1")
    assert np.array_equal(small(compressed, "70,70", HTJ2K_LOSSLESS), expected)


def test_overlays_and_shutters_need_the_whole() -> None:
    plain, compressed = large()
    for each in (plain, compressed):
        each.ShutterShape = "CIRCULAR"
        each.CenterOfCircularShutter, each.RadiusOfCircularShutter = ["200", "300"], "100"
    expected = small(plain, "70,70", "1.2.840.10008.1.2.1")
    assert np.array_equal(small(compressed, "70,70", HTJ2K_LOSSLESS), expected)
    whole = picture_of(compressed, RenderOptions(viewport=Viewport(70, 70)), syntax=HTJ2K_LOSSLESS)
    assert np.array_equal(whole, expected)


def test_frames_with_fewer_levels_are_decoded_whole() -> None:
    plain, compressed = large()
    frame = imagecodecs.htj2k_encode(plain.pixel_array, reversible=True, resolutions=1)
    compressed.PixelData = encapsulate([bytes(frame)])
    compressed["PixelData"].is_undefined_length = True
    expected = small(plain, "70,70", "1.2.840.10008.1.2.1")
    assert np.array_equal(small(compressed, "70,70", HTJ2K_LOSSLESS), expected)


def test_pictures_of_the_size_of_the_image_have_all_of_it() -> None:
    image = describe(500, 640, bits=12)
    for width, levels in ((640, 0), (321, 0), (320, 1), (100, 2), (80, 3), (1, 3)):
        geometry = Geometry(left=0, top=0, right=640, bottom=500, width=width, height=1)
        assert reduced_frames.levels_for(geometry, image, Codec.HTJ2K) == levels
        assert reduced_frames.levels_for(geometry, image, Codec.JPEG_LS) == 0


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("viewport", ["60,60", "37,50", "20,20,100,100,-400,300"])
def test_quick_pictures_look_alike(samples: int, viewport: str) -> None:
    image = describe(501, 640, samples=samples)
    y, x = np.mgrid[:501, :640]
    waves = np.rint((np.sin(x / 60) * np.cos(y / 50) + 1) * 127).astype(np.uint8)
    stored = waves if samples == 1 else np.stack((waves, waves // 2, 255 - waves), axis=-1)
    dataset = dataset_of(image, [stored])
    options = RenderOptions(viewport=Viewport.parse(viewport), has_overlays=False)
    whole = picture_of(dataset, options)
    quick = picture_of(dataset, replace(options, is_quick=True))
    assert quick.shape == whole.shape
    assert np.abs(quick.astype(int) - whole).max() <= 8
    assert np.abs(quick.astype(int) - whole).mean() < 2


@pytest.mark.parametrize("size", [(501, 640), (997, 1013), (64, 2000)])
def test_pictures_much_smaller_are_means_of_all(size: tuple[int, int]) -> None:
    """In two steps where many pixels come to one; a pixel counts as much as it is covered."""
    image = describe(*size)
    stored = np.random.default_rng(3).integers(0, 256, size).astype(np.uint8)
    options = RenderOptions(viewport=Viewport(31, 31), has_overlays=False)
    picture = picture_of(dataset_of(image, [stored]), options)
    rows, columns = picture.shape
    expected = covered_means(covered_means(stored.astype(float), rows).T, columns).T
    assert np.abs(picture - expected).max() <= 6
    assert abs(float(picture.mean()) - float(stored.mean())) < 1


def covered_means(values: Samples, count: int) -> Samples:
    """Rows as means of what they cover, by a running sum."""
    sums = np.concatenate((np.zeros((1, values.shape[1])), values.cumsum(axis=0)))
    edges = np.linspace(0, len(values), count + 1)
    at = np.stack([np.interp(edges, np.arange(len(sums)), column) for column in sums.T], axis=1)
    means: Samples = np.diff(at, axis=0) * count / len(values)
    return means
