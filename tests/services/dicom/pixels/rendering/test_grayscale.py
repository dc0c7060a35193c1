"""Gray, pixel by pixel, against the formulas of PS3.3 C.11, written a second time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.rendering.options import RenderOptions, VoiFunction, Window
from support.images import Samples, dataset_of, describe, pixels
from support.rendering import picture_of

IMPLICIT = "1.2.840.10008.1.2"
BIG = "1.2.840.10008.1.2.2"


def linear(x: float, c: float, w: float) -> float:
    if x <= c - 0.5 - (w - 1) / 2:
        return 0
    if x > c - 0.5 + (w - 1) / 2:
        return 255
    return ((x - (c - 0.5)) / (w - 1) + 0.5) * 255


def linear_exact(x: float, c: float, w: float) -> float:
    if x <= c - w / 2:
        return 0
    if x > c + w / 2:
        return 255
    return ((x - c) / w + 0.5) * 255


def sigmoid(x: float, c: float, w: float) -> float:
    return 255 / (1 + math.exp(-4 * (x - c) / w))


FORMULAS = {"LINEAR": linear, "LINEAR_EXACT": linear_exact, "SIGMOID": sigmoid}


def assert_shows(picture: Samples, expected: Samples) -> None:
    """Every pixel is what it should be, rounded to a whole number."""
    assert picture.dtype == np.uint8
    assert picture.shape == expected.shape
    assert np.abs(picture - expected).max() <= 0.5 + 1e-9


def through(values: Samples, formula: Any, c: float, w: float) -> Samples:
    return np.vectorize(lambda x: formula(float(x), c, w), otypes=[float])(values)


def gray(bits: int = 12, *, signed: bool = False, **more: Any) -> tuple[Dataset, Samples]:
    image = describe(12, 16, bits=bits, signed=signed, **more)
    stored = pixels(image)
    return dataset_of(image, [stored]), stored


def table(values: list[int], first: int, bits: int, *, signed: bool = False) -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, "SS" if signed else "US", [len(values) % 65536, first, bits])
    item.add_new(0x00283006, "US", values)
    return item


@pytest.mark.parametrize("function", FORMULAS)
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (8, True), (10, False), (12, True),
                                              (16, False), (16, True), (32, False)])  # fmt: skip
def test_windows_map_what_the_modality_means(bits: int, signed: bool, function: str) -> None:
    dataset, stored = gray(bits, signed=signed)
    dataset.RescaleSlope, dataset.RescaleIntercept = "1.5", "-200"
    top = float(1 << bits)
    dataset.WindowCenter, dataset.WindowWidth = str(top * 0.3), str(top * 0.6)
    dataset.VOILUTFunction = function
    expected = through(
        stored * 1.5 - 200, FORMULAS[function], float(dataset.WindowCenter),
        float(dataset.WindowWidth),
    )  # fmt: skip
    assert_shows(picture_of(dataset), expected)
    dataset.PhotometricInterpretation = "MONOCHROME1"
    inverse = picture_of(dataset)
    assert np.abs(inverse - (255 - expected)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("width", [1, 2, 256])
def test_the_narrowest_windows_are_thresholds(width: int) -> None:
    dataset, stored = gray()
    dataset.WindowCenter, dataset.WindowWidth = "2000", str(width)
    assert_shows(picture_of(dataset), through(stored, linear, 2000, width))


@pytest.mark.parametrize("syntax", [IMPLICIT, BIG])
def test_the_encoding_of_the_data_set_makes_no_difference(syntax: str) -> None:
    dataset, stored = gray(signed=True)
    dataset.ModalityLUTSequence = Sequence([table(list(range(4096)), -2048, 12, signed=True)])
    dataset.ModalityLUTSequence[0].ModalityLUTType = "US"
    dataset.WindowCenter, dataset.WindowWidth = "2048", "2000"
    picture = picture_of(dataset)
    assert_shows(picture, through(stored.astype(int) + 2048, linear, 2048, 2000))
    if syntax == BIG:
        dataset.PixelData = stored.astype(">i2").tobytes()
    assert np.array_equal(picture_of(dataset, syntax=syntax), picture)


class TestWhichWindow:
    def dataset(self) -> tuple[Dataset, Samples]:
        dataset, stored = gray()
        dataset.WindowCenter = ["1000", "2000", "3000"]
        dataset.WindowWidth = ["500", "0", "700"]
        dataset.WindowCenterWidthExplanation = ["SOFT", "WRONG", "Bone"]
        dataset.VOILUTSequence = Sequence([table([0, 100, 255], 1000, 8)])
        dataset.VOILUTSequence[0].LUTExplanation = "STEPS"
        return dataset, stored

    @pytest.mark.parametrize(
        ("options", "center", "width"),
        [
            (RenderOptions(), 1000, 500),
            (RenderOptions(window_number=3), 3000, 700),
            (RenderOptions(window_name="bone"), 3000, 700),
            (RenderOptions(window=Window(50, 4000)), 50, 4000),
        ],
    )
    def test_it_is_the_one_that_is_asked_for(
        self, options: RenderOptions, center: float, width: float
    ) -> None:
        dataset, stored = self.dataset()
        assert_shows(picture_of(dataset, options), through(stored, linear, center, width))

    @pytest.mark.parametrize(
        "options", [RenderOptions(voi_lut_number=1), RenderOptions(window_name="steps")]
    )
    def test_it_may_be_a_table(self, options: RenderOptions) -> None:
        dataset, stored = self.dataset()
        expected = np.where(stored <= 1000, 0, np.where(stored == 1001, 100, 255))
        assert_shows(picture_of(dataset, options), expected)

    @pytest.mark.parametrize(
        "options",
        [
            RenderOptions(window_number=2),
            RenderOptions(window_number=4),
            RenderOptions(voi_lut_number=2),
            RenderOptions(window_name="LUNG"),
        ],
    )
    def test_one_that_is_not_there_is_an_error(self, options: RenderOptions) -> None:
        with pytest.raises(ImageError, match="the object has"):
            picture_of(self.dataset()[0], options)

    def test_automatic_is_what_the_values_need(self) -> None:
        dataset, stored = self.dataset()
        low, high = float(stored.min()), float(stored.max())
        picture = picture_of(dataset, RenderOptions(is_automatic=True))
        assert_shows(picture, (stored - low) / (high - low) * 255)

    def test_windows_that_are_none_count_for_nothing(self) -> None:
        dataset, stored = gray()
        dataset.WindowCenter, dataset.WindowWidth = ["0", "1e3"], ["0", "-5"]
        low, high = float(stored.min()), float(stored.max())
        assert_shows(picture_of(dataset), (stored - low) / (high - low) * 255)


class TestTables:
    def test_of_the_modality(self) -> None:
        dataset, stored = gray(8)
        values = [(each * 7) % 4096 for each in range(256)]
        dataset.ModalityLUTSequence = Sequence([table(values, 0, 12)])
        dataset.WindowCenter, dataset.WindowWidth = "900", "1000"
        meant = np.array(values)[stored]
        assert_shows(picture_of(dataset), through(meant, linear, 900, 1000))

    def test_of_values_of_interest_with_a_negative_first_value(self) -> None:
        dataset, stored = gray(signed=True)
        values = [each * 16 for each in range(4096)]
        dataset.VOILUTSequence = Sequence([table(values, -2048, 16, signed=True)])
        expected = (stored.astype(int) + 2048) * 16 / 65535 * 255
        assert_shows(picture_of(dataset), expected)
        assert_shows(picture_of(dataset, syntax=IMPLICIT), expected)

    def test_of_bytes(self) -> None:
        dataset, stored = gray(8)
        item = Dataset()
        item.LUTDescriptor = [256, 0, 8]
        item["LUTDescriptor"].VR = "US"
        item.add_new(0x00283006, "OW", bytes(range(255, -1, -1)))
        dataset.VOILUTSequence = Sequence([item])
        assert_shows(picture_of(dataset), 255 - stored.astype(int))

    def test_with_more_bits_than_they_say(self) -> None:
        dataset, stored = gray(8)
        dataset.VOILUTSequence = Sequence([table([each * 4 for each in range(256)], 0, 8)])
        assert_shows(picture_of(dataset), stored.astype(int) * 4 / 1023 * 255)

    def test_with_65536_entries_say_none(self) -> None:
        dataset, stored = gray(16)
        item = Dataset()
        item.add_new(0x00283002, "US", [0, 0, 16])
        item.add_new(0x00283006, "OW", np.arange(65535, -1, -1, "<u2").tobytes())
        dataset.VOILUTSequence = Sequence([item])
        assert_shows(picture_of(dataset), (65535 - stored.astype(int)) / 65535 * 255)

    def test_without_anything_in_it_are_none(self) -> None:
        dataset, stored = gray(8)
        dataset.ModalityLUTSequence = Sequence([Dataset()])
        assert_shows(picture_of(dataset), stored)

    def test_without_data_are_an_error(self) -> None:
        dataset, _ = gray(8)
        item = Dataset()
        item.add_new(0x00283002, "US", [256, 0, 8])
        dataset.ModalityLUTSequence = Sequence([item])
        with pytest.raises(ImageError, match="no data"):
            picture_of(dataset)


class TestPresentation:
    @pytest.mark.parametrize(
        ("photometric", "shape", "is_inverse"),
        [
            ("MONOCHROME1", None, True),
            ("MONOCHROME1", "INVERSE", True),
            ("MONOCHROME1", "IDENTITY", False),
            ("MONOCHROME2", "INVERSE", True),
            ("MONOCHROME2", "IDENTITY", False),
        ],
    )
    def test_black_and_white_are_exchanged_once(
        self, photometric: str, shape: str | None, is_inverse: bool
    ) -> None:
        dataset, stored = gray(8)
        dataset.PhotometricInterpretation = photometric
        if shape is not None:
            dataset.PresentationLUTShape = shape
        assert_shows(picture_of(dataset), 255 - stored.astype(int) if is_inverse else stored)

    def test_a_table_maps_all_that_the_window_gives(self) -> None:
        dataset, stored = gray(8)
        values = [round((each / 255) ** 2 * 4095) for each in range(256)]
        dataset.PresentationLUTSequence = Sequence([table(values, 0, 12)])
        assert_shows(picture_of(dataset), np.array(values)[stored] / 4095 * 255)


class TestWithoutAWindow:
    @pytest.mark.parametrize("bits", [1, 4, 6, 8])
    def test_few_bits_show_all_that_may_be(self, bits: int) -> None:
        dataset, stored = gray(bits)
        assert_shows(picture_of(dataset), stored / ((1 << bits) - 1) * 255)

    def test_many_bits_show_all_that_is(self) -> None:
        dataset, stored = gray(16)
        stored = (stored // 100 + 5000).astype("<u2")
        dataset.PixelData = stored.tobytes()
        low, high = int(stored.min()), int(stored.max())
        assert_shows(picture_of(dataset), (stored - low) / (high - low) * 255)

    def test_padding_is_left_out(self) -> None:
        dataset, stored = gray(signed=True)
        stored = stored.clip(-500, 500)
        stored[0, :4] = -2000
        dataset.PixelData = stored.tobytes()
        dataset.add_new(0x00280120, "SS", -2000)
        low, high = int(stored[stored > -2000].min()), int(stored.max())
        expected = ((stored.astype(int) - low) / (high - low) * 255).clip(0, 255)
        assert_shows(picture_of(dataset), expected)
        stored[0, 4:8] = -1800
        dataset.PixelData = stored.tobytes()
        dataset.add_new(0x00280121, "SS", -1700)
        assert_shows(
            picture_of(dataset),
            ((stored.astype(int) - low) / (high - low) * 255).clip(0, 255),
        )

    def test_an_image_of_one_value_is_a_picture(self) -> None:
        dataset, stored = gray(16)
        for value in (0, 1234):
            dataset.PixelData = np.full_like(stored, value).tobytes()
            assert len(np.unique(picture_of(dataset))) == 1


class TestBits:
    def test_lie_above_others(self) -> None:
        dataset, stored = gray(12)
        words = (stored << 4) | 9
        dataset.PixelData, dataset.HighBit = words.astype("<u2").tobytes(), 15
        dataset.WindowCenter, dataset.WindowWidth = "2000", "3000"
        assert_shows(picture_of(dataset), through(stored, linear, 2000, 3000))

    def test_lie_below_others(self) -> None:
        dataset, stored = gray(12, signed=True)
        words = stored.view("<u2") & 0xFFF | 0x5000
        dataset.PixelData = words.tobytes()
        dataset.WindowCenter, dataset.WindowWidth = "100", "3000"
        assert_shows(picture_of(dataset), through(stored, linear, 100, 3000))

    @pytest.mark.parametrize(("tag", "vr", "kind"), [(0x7FE00008, "OF", "<f4"),
                                                     (0x7FE00009, "OD", "<f8")])  # fmt: skip
    def test_are_floating_point_numbers(self, tag: int, vr: str, kind: str) -> None:
        dataset, stored = gray(12)
        values = (stored / 700 - 3).astype(kind)
        values[0, 0], values[1, 1] = np.nan, np.inf
        del dataset.PixelData
        dataset.BitsAllocated = 8 * values.dtype.itemsize
        dataset.add_new(tag, vr, values.tobytes())
        used = values[np.isfinite(values)].astype(float)
        low, high = used.min(), used.max()
        expected = np.nan_to_num((values.astype(float) - low) / (high - low) * 255, posinf=255)
        assert_shows(picture_of(dataset), expected.clip(0, 255))


class TestFunctionalGroups:
    def dataset(self) -> tuple[Dataset, list[Samples]]:
        image = describe(12, 16, bits=12)
        frames = [pixels(image, seed) for seed in (1, 2, 3)]
        dataset = dataset_of(image, frames)
        shared = Dataset()
        transformation = Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = "2", "-10"
        shared.PixelValueTransformationSequence = Sequence([transformation])
        dataset.SharedFunctionalGroupsSequence = Sequence([shared])
        items = []
        for number in range(3):
            item, voi = Dataset(), Dataset()
            voi.WindowCenter, voi.WindowWidth = str(1000 * (number + 1)), str(2000)
            voi.VOILUTFunction = "LINEAR_EXACT"
            item.FrameVOILUTSequence = Sequence([voi])
            items.append(item)
        dataset.PerFrameFunctionalGroupsSequence = Sequence(items)
        return dataset, frames

    @pytest.mark.parametrize("frame", [0, 1, 2])
    def test_say_it_for_each_frame_and_for_all(self, frame: int) -> None:
        dataset, frames = self.dataset()
        meant = frames[frame].astype(int) * 2 - 10
        expected = through(meant, linear_exact, 1000 * (frame + 1), 2000)
        assert_shows(picture_of(dataset, frame=frame), expected)

    def test_may_have_several_windows(self) -> None:
        dataset, frames = self.dataset()
        other = Dataset()
        other.WindowCenter, other.WindowWidth = ["50", "70"], ["300", "900"]
        other.WindowCenterWidthExplanation = ["NARROW", "WIDE"]
        dataset.PerFrameFunctionalGroupsSequence[0].FrameVOILUTSequence.append(other)
        meant = frames[0].astype(int) * 2 - 10
        for options, center, width, formula in (
            (RenderOptions(window_number=1), 1000, 2000, linear_exact),
            (RenderOptions(window_number=2), 50, 300, linear),
            (RenderOptions(window_number=3), 70, 900, linear),
            (RenderOptions(window_name="wide"), 70, 900, linear),
        ):
            assert_shows(picture_of(dataset, options), through(meant, formula, center, width))

    def test_of_a_frame_win_over_those_of_all(self) -> None:
        dataset, frames = self.dataset()
        own = Dataset()
        own.RescaleSlope, own.RescaleIntercept = "1", "0"
        dataset.PerFrameFunctionalGroupsSequence[1].PixelValueTransformationSequence = Sequence(
            [own]
        )
        expected = through(frames[1], linear_exact, 2000, 2000)
        assert_shows(picture_of(dataset, frame=1), expected)


def test_angiography_for_display_is_shown_as_it_is_stored() -> None:
    dataset, stored = gray(8)
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.12.1"
    dataset.ModalityLUTSequence = Sequence([table([0] * 256, 0, 8)])
    for relationship in ("DISP", "LOG"):
        dataset.PixelIntensityRelationship = relationship
        assert_shows(picture_of(dataset), stored)


@pytest.mark.parametrize("function", VoiFunction)
def test_extreme_numbers_give_pictures(function: VoiFunction) -> None:
    dataset, stored = gray(16)
    dataset.RescaleSlope, dataset.RescaleIntercept = "1e300", "-1e300"
    for center, width in ((0, 1), (1e300, 1e300), (-1e12, 1e-3), (1e308, 1e308)):
        window = Window(center, width, function)
        dataset.WindowCenter, dataset.WindowWidth = f"{center:.6g}", f"{width:.6g}"
        dataset.VOILUTFunction = function.value
        if window.is_possible:
            assert picture_of(dataset).shape == stored.shape
