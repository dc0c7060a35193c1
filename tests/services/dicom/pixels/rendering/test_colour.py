"""Colours against the formulas of PS3.3 C.7.6.3.1.2 and C.7.9, written a second time."""

from __future__ import annotations

import colorsys
import struct
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.rendering.options import ColourSpace, RenderOptions
from isocenter.services.dicom.pixels.rendering.palette import Segments
from support.images import Samples, dataset_of, describe, pixels
from support.rendering import picture_and_profile, picture_of


def clipped(*values: float) -> list[int]:
    return [min(max(round(value), 0), 255) for value in values]


def rgb_of_full(y: float, cb: float, cr: float) -> list[int]:
    return clipped(
        y + 1.402 * (cr - 128),
        y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128),
        y + 1.772 * (cb - 128),
    )


def rgb_of_partial(y: float, cb: float, cr: float) -> list[int]:
    return clipped(
        1.1644 * (y - 16) + 1.5960 * (cr - 128),
        1.1644 * (y - 16) - 0.3917 * (cb - 128) - 0.8130 * (cr - 128),
        1.1644 * (y - 16) + 2.0173 * (cb - 128),
    )


def colour(photometric: str = "RGB", **more: Any) -> tuple[Dataset, Samples]:
    image = describe(10, 12, samples=3, photometric_interpretation=photometric, **more)
    stored = pixels(image)
    return dataset_of(image, [stored]), stored


def each_pixel(stored: Samples, formula: Any) -> Samples:
    rows = [[formula(*map(float, pixel)) for pixel in row] for row in stored]
    return np.array(rows)


def test_rgb_is_shown_as_it_is() -> None:
    dataset, stored = colour()
    assert np.array_equal(picture_of(dataset), stored)
    dataset.PlanarConfiguration = 1
    dataset.PixelData = stored.transpose(2, 0, 1).tobytes()
    assert np.array_equal(picture_of(dataset), stored)


@pytest.mark.parametrize("bits", [10, 16])
def test_more_bits_become_eight(bits: int) -> None:
    dataset, stored = colour(bits=bits)
    top = (1 << bits) - 1
    assert np.abs(picture_of(dataset) - stored / top * 255).max() <= 0.5


def test_luminance_and_chrominance_become_rgb() -> None:
    dataset, stored = colour("YBR_FULL")
    assert np.abs(picture_of(dataset) - each_pixel(stored, rgb_of_full)).max() <= 1


@pytest.mark.parametrize(
    ("photometric", "formula"),
    [("YBR_FULL_422", rgb_of_full), ("YBR_PARTIAL_422", rgb_of_partial)],
)
def test_half_of_the_chrominance_serves_two_pixels(photometric: str, formula: Any) -> None:
    dataset, stored = colour(photometric)
    stored[:, 1::2, 1:] = stored[:, ::2, 1:]
    quads = np.stack(
        (stored[:, ::2, 0], stored[:, 1::2, 0], stored[:, ::2, 1], stored[:, ::2, 2]), axis=-1
    )
    dataset.PixelData = quads.tobytes()
    assert np.abs(picture_of(dataset) - each_pixel(stored, formula)).max() <= 1


def test_what_nobody_knows_is_an_error() -> None:
    dataset, _ = colour()
    dataset.PhotometricInterpretation = "HSV"
    with pytest.raises(ImageError, match="HSV is not rendered"):
        picture_of(dataset)


class TestPalettes:
    def dataset(self, bits: int = 8, *, signed: bool = False) -> tuple[Dataset, Samples]:
        image = describe(10, 12, bits=bits, signed=signed)
        stored = pixels(image)
        dataset = dataset_of(image, [stored])
        dataset.PhotometricInterpretation = "PALETTE COLOR"
        return dataset, stored

    def colours(self, count: int) -> list[tuple[int, int, int]]:
        hues = (colorsys.hsv_to_rgb(each / count, 0.8, 1.0) for each in range(count))
        return [tuple(round(part * 255) for part in hue) for hue in hues]  # type: ignore[misc]

    def put(
        self, dataset: Dataset, columns: list[bytes], descriptor: list[int], vr: str = "US"
    ) -> None:
        for place, column in enumerate(columns):
            dataset.add_new(0x00281101 + place, vr, descriptor)
            dataset.add_new(0x00281201 + place, "OW", column)

    @pytest.mark.parametrize("vr", ["explicit", "implicit"])
    def test_of_sixteen_bits(self, vr: str) -> None:
        dataset, stored = self.dataset()
        colours = self.colours(256)
        columns = [
            struct.pack("<256H", *(colour[place] * 257 for colour in colours)) for place in range(3)
        ]
        self.put(dataset, columns, [256, 0, 16])
        syntax = "1.2.840.10008.1.2.1" if vr == "explicit" else "1.2.840.10008.1.2"
        assert np.array_equal(picture_of(dataset, syntax=syntax), np.array(colours)[stored])

    def test_of_eight_bits_two_to_a_word(self) -> None:
        dataset, stored = self.dataset()
        colours = self.colours(256)
        columns = [bytes(colour[place] for colour in colours) for place in range(3)]
        self.put(dataset, columns, [256, 0, 8])
        assert np.array_equal(picture_of(dataset), np.array(colours)[stored])

    @pytest.mark.parametrize("bits", [8, 16])
    def test_of_bytes_in_words(self, bits: int) -> None:
        """Entries of eight bits, each in the lower half of a word, whatever bits are said."""
        dataset, stored = self.dataset()
        colours = self.colours(256)
        columns = [struct.pack("<256H", *(each[place] for each in colours)) for place in range(3)]
        self.put(dataset, columns, [256, 0, bits])
        assert np.array_equal(picture_of(dataset), np.array(colours)[stored])

    def test_begin_anywhere_and_end_before_the_values_do(self) -> None:
        dataset, stored = self.dataset(12, signed=True)
        colours = self.colours(64)
        columns = [
            struct.pack("<64H", *(colour[place] * 257 for colour in colours)) for place in range(3)
        ]
        self.put(dataset, columns, [64, -32, 16], vr="SS")
        expected = np.array(colours)[(stored.astype(int) + 32).clip(0, 63)]
        assert np.array_equal(picture_of(dataset), expected)

    def test_that_are_missing_are_an_error(self) -> None:
        dataset, _ = self.dataset()
        with pytest.raises(ImageError, match="no palette"):
            picture_of(dataset)
        self.put(dataset, [b"", b"", b""], [256, 0, 16])
        with pytest.raises(ImageError, match="no data"):
            picture_of(dataset)

    def test_add_colours_to_gray(self) -> None:
        image = describe(10, 12, bits=12)
        stored = pixels(image)
        dataset = dataset_of(image, [stored])
        dataset.PixelPresentation = "COLOR"
        dataset.WindowCenter, dataset.WindowWidth = "1500", "3000"
        plain = picture_of(dataset)
        colours = self.colours(1096)
        columns = [
            struct.pack("<1096H", *(colour[place] * 257 for colour in colours))
            for place in range(3)
        ]
        self.put(dataset, columns, [1096, 3000, 16])
        picture = picture_of(dataset)
        is_gray = stored < 3000
        assert np.array_equal(picture[is_gray], np.repeat(plain[is_gray][:, None], 3, axis=1))
        assert np.array_equal(picture[~is_gray], np.array(colours)[stored[~is_gray] - 3000])


class TestSegments:
    def test_are_discrete_linear_or_copies(self) -> None:
        codes = [0, 2, 10, 20, 1, 4, 60, 0, 1, 5]
        assert Segments(codes, 2).expand(100).tolist() == [10, 20, 30, 40, 50, 60, 5]
        # Two segments again, from byte 0 on; the copied line goes on from what is there.
        copy = [*codes, 2, 2, 0, 0]
        assert Segments(copy, 2).expand(100).tolist()[7:] == [10, 20, 30, 40, 50, 60]

    def test_of_bytes_have_offsets_of_four(self) -> None:
        codes = [0, 2, 7, 9, 2, 1, 0, 0, 0, 0]
        assert Segments(codes, 1).expand(100).tolist() == [7, 9, 7, 9]

    @pytest.mark.parametrize(
        "codes",
        [
            [],
            [1, 4, 60],
            [3, 1, 1],
            [0, 1, 5, 2, 1, 6, 0],
            [2, 65535, 0, 0],
            [0, 1, 1, 2, 9, 90, 0],
        ],
    )
    def test_that_make_no_sense_are_an_error(self, codes: list[int]) -> None:
        with pytest.raises(ImageError):
            Segments(codes, 2).expand(1000)

    def test_cannot_grow_without_bound(self) -> None:
        codes = [0, 1, 0] + [1, 65535, 7] * 20_000
        assert len(Segments(codes, 2).expand(65_536)) == 65_536

    def test_make_a_palette(self) -> None:
        image = describe(10, 12)
        stored = pixels(image)
        dataset = dataset_of(image, [stored])
        dataset.PhotometricInterpretation = "PALETTE COLOR"
        for place in range(3):
            dataset.add_new(0x00281101 + place, "US", [256, 0, 16])
            data = struct.pack("<6H", 0, 1, 0, 1, 255, 65535)
            dataset.add_new(0x00281221 + place, "OW", data)
        expected = np.repeat(stored[..., None], 3, axis=2)
        assert np.array_equal(picture_of(dataset), expected)


class TestProfiles:
    def dataset(self, space: str) -> tuple[Dataset, Samples, bytes]:
        import imagecodecs

        dataset, stored = colour()
        profile = bytes(imagecodecs.cms_profile(space))
        dataset.ICCProfile = profile + b"\0" * (len(profile) & 1)
        return dataset, stored, profile

    def test_are_kept(self) -> None:
        dataset, stored, profile = self.dataset("adobergb")
        picture, kept = picture_and_profile(dataset)
        assert np.array_equal(picture, stored)
        assert kept == profile
        options = RenderOptions(colour_space=ColourSpace.AS_STORED)
        assert picture_and_profile(dataset, options)[1] == b""

    def test_are_converted(self) -> None:
        """Red of Adobe RGB lies outside of sRGB; a gray is the same in all of them."""
        dataset, stored, _ = self.dataset("adobergb")
        stored[0, 0], stored[0, 1], stored[0, 2] = (128, 128, 128), (100, 150, 100), (255, 0, 0)
        dataset.PixelData = stored.tobytes()
        options = RenderOptions(colour_space=ColourSpace.SRGB)
        picture, profile = picture_and_profile(dataset, options)
        assert np.abs(picture[0, 0].astype(int) - 128).max() <= 1
        assert picture[0, 1, 0] < 70  # less red: Adobe RGB's green is greener
        assert picture[0, 2].tolist() == [255, 0, 0]
        assert profile[36:40] == b"acsp"
        again = picture_and_profile(dataset, options)[1]
        assert profile == again

    @pytest.mark.parametrize(
        ("space", "red"),
        [(ColourSpace.DISPLAY_P3, [234, 51, 35]), (ColourSpace.ADOBE_RGB, [219, 0, 0])],
    )
    def test_of_other_spaces_give_their_red(self, space: ColourSpace, red: list[int]) -> None:
        dataset, stored = colour()
        stored[0, 0] = (255, 0, 0)
        dataset.PixelData = stored.tobytes()
        picture, profile = picture_and_profile(dataset, RenderOptions(colour_space=space))
        assert np.abs(picture[0, 0].astype(int) - red).max() <= 2
        assert profile[36:40] == b"acsp"

    def test_that_are_none_are_left_out(self) -> None:
        dataset, stored = colour()
        for junk in (b"\0" * 200, b"acsp" * 100, bytes(36) + b"acsp" + bytes(200)):
            dataset.ICCProfile = junk
            picture, profile = picture_and_profile(dataset)
            assert np.array_equal(picture, stored)
            assert not profile
