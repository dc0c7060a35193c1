"""Sizes, regions and flips of pictures (PS3.18 8.3.5.1.3), and the shape of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.rendering.geometry import Geometry
from isocenter.services.dicom.pixels.rendering.options import (
    RenderOptionError,
    RenderOptions,
    Viewport,
    VoiFunction,
    Window,
)
from support.images import Samples, dataset_of, describe, pixels
from support.rendering import picture_of


def image(rows: int = 40, columns: int = 60, samples: int = 1) -> tuple[Dataset, Samples]:
    described = describe(rows, columns, samples=samples)
    return dataset_of(described, [pixels(described)]), pixels(described)


def seen(dataset: Dataset, viewport: str, **more: bool) -> Samples:
    return picture_of(dataset, RenderOptions(viewport=Viewport.parse(viewport), **more))


@pytest.mark.parametrize(
    ("viewport", "size"),
    [
        ("30,30", (20, 30)),
        ("60,40", (40, 60)),
        ("600,100", (100, 150)),
        ("1,1", (1, 1)),
        ("120,1000", (80, 120)),
        ("100,100,10,10,20,20", (100, 100)),
        ("100,100,0,0,60,10", (17, 100)),
    ],
)
def test_the_picture_is_as_large_as_fits(viewport: str, size: tuple[int, int]) -> None:
    dataset, _ = image()
    assert seen(dataset, viewport).shape == size


def test_a_region_of_its_own_size_is_cut_out() -> None:
    dataset, stored = image()
    assert np.array_equal(seen(dataset, "20,10,5,7,20,10"), stored[7:17, 5:25])
    assert np.array_equal(seen(dataset, "20,10,,,20,10"), stored[:10, :20])
    assert np.array_equal(seen(dataset, "55,33,5,7"), stored[7:, 5:])
    assert np.array_equal(seen(dataset, "20,10,-5,-7,20,10"), stored[7:17, 5:25])


def test_negative_sizes_flip() -> None:
    dataset, stored = image()
    part = stored[7:17, 5:25]
    assert np.array_equal(seen(dataset, "20,10,5,7,-20,10"), part[:, ::-1])
    assert np.array_equal(seen(dataset, "20,10,5,7,20,-10"), part[::-1])
    assert np.array_equal(seen(dataset, "20,10,5,7,-20,-10"), part[::-1, ::-1])


@pytest.mark.parametrize(
    "viewport",
    ["20,10,60,0", "20,10,0,40", "20,10,0,0,61,40", "20,10,1,0,60,40", "20,10,0,5,60,-36"],
)
def test_a_region_beyond_the_image_is_an_error(viewport: str) -> None:
    dataset, _ = image()
    with pytest.raises(ImageError, match="goes beyond the image, which has 60 × 40"):
        seen(dataset, viewport)


def test_smaller_pictures_have_the_means_of_pixels() -> None:
    dataset, stored = image(samples=3)
    expected = stored.reshape(20, 2, 30, 2, 3).mean(axis=(1, 3))
    assert np.abs(seen(dataset, "30,20") - expected).max() <= 1
    expected = stored.reshape(8, 5, 12, 5, 3).mean(axis=(1, 3))
    assert np.abs(seen(dataset, "12,8") - expected).max() <= 1


def test_larger_pictures_lie_between_pixels() -> None:
    dataset, stored = image()
    picture = seen(dataset, "240,160").astype(float)
    # Four pixels for one: their mean is that pixel, but for what its neighbours add.
    assert np.abs(picture.reshape(40, 4, 60, 4).mean(axis=(1, 3)) - stored).mean() < 4
    assert picture.max() <= 255
    # Next to the centers.
    assert np.abs(picture[41:150:4, 41:230:4] - stored[10:38, 10:58]).mean() < 12


class TestShapeOfPixels:
    @pytest.mark.parametrize(("ratio", "size"), [(["2", "1"], (80, 60)), (["1", "2"], (40, 120))])
    def test_makes_pictures_longer(self, ratio: list[str], size: tuple[int, int]) -> None:
        dataset, stored = image()
        dataset.PixelAspectRatio = ratio
        assert picture_of(dataset).shape == size
        plain = picture_of(dataset, RenderOptions(has_square_pixels=False))
        assert np.array_equal(plain, stored)

    def test_comes_from_the_spacing(self) -> None:
        dataset, _ = image()
        dataset.PixelSpacing = ["1.5", "0.5"]
        assert picture_of(dataset).shape == (120, 60)
        assert seen(dataset, "120,120").shape == (120, 60)

    @pytest.mark.parametrize("spacing", [["0", "1"], ["1"], ["1", "1000"], ["1.0", "1.0000001"]])
    def test_that_makes_no_sense_is_square(self, spacing: list[str]) -> None:
        dataset, stored = image()
        dataset.PixelSpacing = spacing
        assert np.array_equal(picture_of(dataset), stored)


@given(
    st.integers(1, 30), st.integers(1, 30), st.integers(1, 40), st.integers(1, 40),
    st.integers(0, 3), st.booleans(), st.booleans(), st.floats(-20, 20), st.floats(-20, 20),
    st.floats(0.1, 50), st.floats(0.1, 50),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_region_gives_a_picture_of_its_size(
    rows: int, columns: int, width: int, height: int, quarters: int, flip: bool, turn: bool,
    left: float, top: float, region_width: float, region_height: float,
) -> None:  # fmt: skip
    geometry = Geometry(
        left=left, top=top, right=left + region_width, bottom=top + region_height,
        width=width, height=height, quarters=quarters, is_flipped=flip,
        is_flipped_vertically=turn,
    )  # fmt: skip
    picture = np.full((rows, columns), 200, np.uint8)
    made = geometry.apply(picture)
    assert made.shape == (height, width)
    # One gray stays one gray; beyond the image it is black.
    assert set(np.unique(made)) <= {0, 200}


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("is_flipped", [False, True])
def test_points_go_where_their_pixels_go(quarters: int, is_flipped: bool) -> None:
    picture = np.zeros((30, 50), np.uint8)
    picture[8, 33] = 255
    size = (50, 30) if quarters % 2 == 0 else (30, 50)
    geometry = Geometry(
        left=0, top=0, right=50, bottom=30, width=size[0], height=size[1], quarters=quarters,
        is_flipped=is_flipped,
    )  # fmt: skip
    made = geometry.apply(picture)
    assert made.shape == size[::-1]
    x, y = geometry.to_picture(np.array([33.5]), np.array([8.5]))
    assert made[int(y[0]), int(x[0])] == 255


class TestParameters:
    def test_windows(self) -> None:
        assert Window.parse("40,400") == Window(40, 400)
        assert Window.parse(" -600 , 1500.5,linear") == Window(-600, 1500.5)
        assert Window.parse("1,2,LINEAR-EXACT").function is VoiFunction.LINEAR_EXACT
        assert Window.parse("1e3,0.5,sigmoid") == Window(1000, 0.5, VoiFunction.SIGMOID)

    @pytest.mark.parametrize(
        "text",
        ["", "40", "40,", "a,b", "40,0", "40,0.5", "40,-1,sigmoid", "1,2,cubic", "nan,1", "1,inf",
         "1_0,5", "1,2,linear,3", "1e400,2"],
    )  # fmt: skip
    def test_windows_that_are_none(self, text: str) -> None:
        with pytest.raises(RenderOptionError):
            Window.parse(text)

    @pytest.mark.parametrize(
        "text",
        ["", "10", "0,10", "10,0", "-5,10", "1.5,10", "10,10,a", "10,10,0,0,0,5", "10,10,0,0,5,0",
         "99999,10", "10,10,1,2,3,4,5", "10,10,nan", "²,10"],
    )  # fmt: skip
    def test_viewports_that_are_none(self, text: str) -> None:
        with pytest.raises(RenderOptionError):
            Viewport.parse(text)

    @given(
        st.builds(
            RenderOptions,
            quality=st.integers(1, 100),
            window=st.none() | st.just(Window(1, 2, VoiFunction.SIGMOID)),
            viewport=st.none() | st.just(Viewport(1, 2, 3.5, 4, -5)),
            is_automatic=st.booleans(),
            window_name=st.text(max_size=5),
            has_patient_label=st.booleans(),
        )
    )
    def test_go_to_a_process_and_come_out_the_same(self, options: RenderOptions) -> None:
        assert RenderOptions.from_json(options.to_json()) == options
