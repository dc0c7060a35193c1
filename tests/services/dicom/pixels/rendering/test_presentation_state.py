"""Softcopy presentation states, applied to the images that they name (PS3.4 N.2)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.rendering.options import PNG, RenderOptions, Viewport
from isocenter.services.dicom.pixels.rendering.renderer import render
from support.images import Samples, dataset_of, describe, file_of, pixels
from support.processes import run
from support.rendering import picture_of, read_pnm
from support.states import reference, state_of

IMAGE = describe(30, 50, bits=12, signed=True)


def ct(frames: int = 1) -> tuple[Dataset, list[Samples]]:
    stored = [pixels(IMAGE, seed) for seed in range(1, frames + 1)]
    dataset = dataset_of(IMAGE, stored)
    dataset.RescaleSlope, dataset.RescaleIntercept = "3", "100"
    dataset.WindowCenter, dataset.WindowWidth = "0", "10"
    return dataset, stored


def softcopy_window(center: float, width: float, *references: Dataset) -> Dataset:
    item = Dataset()
    if references:
        item.ReferencedImageSequence = Sequence(references)
    item.WindowCenter, item.WindowWidth = str(center), str(width)
    return item


def windowed(values: Samples, center: float, width: float) -> Samples:
    x = (values.astype(float) - (center - 0.5)) / (width - 1) + 0.5
    return np.floor(x.clip(0, 1) * 255 + 0.5)


def wide(values: Samples) -> Samples:
    """All that twelve bits with a sign can be."""
    return np.floor((values.astype(float) + 2048) / 4095 * 255 + 0.5)


class TestTransformations:
    def test_of_the_image_do_not_count(self) -> None:
        dataset, (stored,) = ct()
        assert np.array_equal(picture_of(dataset, state=state_of(dataset)), wide(stored))

    def test_of_the_state_do(self) -> None:
        dataset, (stored,) = ct()
        state = state_of(dataset)
        state.RescaleSlope, state.RescaleIntercept, state.RescaleType = "2", "-50", "US"
        state.SoftcopyVOILUTSequence = Sequence([softcopy_window(100, 3000)])
        expected = windowed(stored.astype(int) * 2 - 50, 100, 3000)
        assert np.array_equal(picture_of(dataset, state=state), expected)
        state.PresentationLUTShape = "INVERSE"
        assert np.abs(picture_of(dataset, state=state) - (255 - expected)).max() <= 1

    def test_of_a_state_exchange_black_and_white_alone(self) -> None:
        dataset, (stored,) = ct()
        dataset.PhotometricInterpretation = "MONOCHROME1"
        assert np.array_equal(picture_of(dataset, state=state_of(dataset)), wide(stored))

    def test_are_those_of_the_frame(self) -> None:
        dataset, stored = ct(frames=3)
        state = state_of(dataset)
        state.SoftcopyVOILUTSequence = Sequence(
            [
                softcopy_window(0, 1000, reference(dataset, 1, 3)),
                softcopy_window(500, 2000, reference(dataset, 2)),
            ]
        )
        for frame, (center, width) in enumerate([(0, 1000), (500, 2000), (0, 1000)]):
            picture = picture_of(dataset, state=state, frame=frame)
            assert np.array_equal(picture, windowed(stored[frame], center, width))

    def test_may_be_a_presentation_table(self) -> None:
        dataset, (stored,) = ct()
        state = state_of(dataset)
        del state.PresentationLUTShape
        table = Dataset()
        values = [round((each / 255) ** 2 * 255) for each in range(256)]
        table.add_new(0x00283002, "US", [256, 0, 8])
        table.add_new(0x00283006, "US", values)
        state.PresentationLUTSequence = Sequence([table])
        places = np.rint((stored.astype(float) + 2048) / 4095 * 255).astype(int)
        assert np.array_equal(picture_of(dataset, state=state), np.array(values)[places])


class TestWhichImages:
    def test_others_are_refused(self) -> None:
        dataset, _ = ct()
        other, _ = ct()
        with pytest.raises(ImageError, match="not one of this image"):
            picture_of(dataset, state=state_of(other))

    def test_other_frames_are_refused(self) -> None:
        dataset, _ = ct(frames=3)
        state = state_of(dataset, 1, 3)
        assert picture_of(dataset, state=state, frame=2).shape == (30, 50)
        with pytest.raises(ImageError, match="not one of this image"):
            picture_of(dataset, state=state, frame=1)

    def test_other_kinds_of_states_are_refused(self) -> None:
        dataset, _ = ct()
        state = state_of(dataset)
        state.SOPClassUID = "1.2.840.10008.5.1.4.1.1.11.4"
        with pytest.raises(ImageError, match="only grayscale, colour"):
            picture_of(dataset, state=state)

    def test_masks_are_refused(self) -> None:
        dataset, _ = ct()
        state = state_of(dataset)
        mask = Dataset()
        mask.MaskOperation = "AVG_SUB"
        state.MaskSubtractionSequence = Sequence([mask])
        with pytest.raises(ImageError, match="subtracts a mask"):
            picture_of(dataset, state=state)


class TestSpace:
    @pytest.mark.parametrize(
        ("rotation", "turned"),
        [
            (0, lambda a: a),
            (90, lambda a: np.rot90(a, -1)),
            (180, lambda a: np.rot90(a, 2)),
            (270, lambda a: np.rot90(a, 1)),
        ],
    )
    @pytest.mark.parametrize("flip", ["N", "Y"])
    def test_images_are_turned_and_then_flipped(
        self, rotation: int, turned: Callable[[Any], Any], flip: str
    ) -> None:
        dataset, (stored,) = ct()
        state = state_of(dataset)
        state.ImageRotation, state.ImageHorizontalFlip = rotation, flip
        expected = turned(wide(stored))
        if flip == "Y":
            expected = expected[:, ::-1]
        assert np.array_equal(picture_of(dataset, state=state), expected)

    def test_the_displayed_area_is_cut_out(self) -> None:
        dataset, (stored,) = ct()
        state = state_of(dataset)
        (area,) = state.DisplayedAreaSelectionSequence
        area.DisplayedAreaTopLeftHandCorner = [11, 6]
        area.DisplayedAreaBottomRightHandCorner = [30, 25]
        assert np.array_equal(picture_of(dataset, state=state), wide(stored)[5:25, 10:30])

    def test_the_corners_are_those_of_the_turned_picture(self) -> None:
        dataset, (stored,) = ct()
        state = state_of(dataset)
        state.ImageRotation = 180
        (area,) = state.DisplayedAreaSelectionSequence
        area.DisplayedAreaTopLeftHandCorner = [30, 25]
        area.DisplayedAreaBottomRightHandCorner = [11, 6]
        expected = np.rot90(wide(stored)[5:25, 10:30], 2)
        assert np.array_equal(picture_of(dataset, state=state), expected)

    def test_what_lies_outside_of_the_image_is_black(self) -> None:
        dataset, (stored,) = ct()
        state = state_of(dataset)
        (area,) = state.DisplayedAreaSelectionSequence
        area.DisplayedAreaTopLeftHandCorner = [-9, -4]
        area.DisplayedAreaBottomRightHandCorner = [55, 35]
        picture = picture_of(dataset, state=state)
        expected = np.zeros((40, 65))
        expected[5:35, 10:60] = wide(stored)
        assert np.array_equal(picture, expected)

    def test_areas_of_any_size_are_judged(self) -> None:
        dataset, _ = ct()
        state = state_of(dataset)
        (area,) = state.DisplayedAreaSelectionSequence
        area.DisplayedAreaTopLeftHandCorner = [-(2**31), -(2**31)]
        area.DisplayedAreaBottomRightHandCorner = [2**31 - 1, 2**31 - 1]
        with pytest.raises(ImageError, match="ask for a viewport"):
            picture_of(dataset, state=state)
        options = RenderOptions(viewport=Viewport(64, 64))
        assert not picture_of(dataset, options, state=state).any()

    def test_magnification_makes_it_larger(self) -> None:
        dataset, _ = ct()
        state = state_of(dataset)
        (area,) = state.DisplayedAreaSelectionSequence
        area.PresentationSizeMode, area.PresentationPixelMagnificationRatio = "MAGNIFY", 2.0
        assert picture_of(dataset, state=state).shape == (60, 100)


class TestLayers:
    def test_shutters_of_the_state_cover(self) -> None:
        dataset, (stored,) = ct()
        state = state_of(dataset)
        state.ShutterShape, state.ShutterPresentationValue = "RECTANGULAR", 0x8080
        state.ShutterLeftVerticalEdge, state.ShutterRightVerticalEdge = "10", "41"
        state.ShutterUpperHorizontalEdge, state.ShutterLowerHorizontalEdge = "5", "26"
        expected = np.full((30, 50), 128.0)
        expected[5:25, 10:40] = wide(stored)[5:25, 10:40]
        assert np.array_equal(picture_of(dataset, state=state), expected)

    def overlay(self, dataset: Dataset, bits: Samples) -> None:
        dataset.add_new(0x60000010, "US", 30)
        dataset.add_new(0x60000011, "US", 50)
        dataset.add_new(0x60000040, "CS", "G")
        dataset.add_new(0x60000050, "SS", [1, 1])
        dataset.add_new(0x60000100, "US", 1)
        dataset.add_new(0x60000102, "US", 0)
        packed = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
        dataset.add_new(0x60003000, "OW", packed + b"\0" * (len(packed) & 1))

    def test_overlays_of_the_image_are_seen_if_the_state_says_so(self) -> None:
        dataset, (stored,) = ct()
        bits = stored > 800
        self.overlay(dataset, bits)
        state = state_of(dataset)
        assert np.array_equal(picture_of(dataset, state=state), wide(stored))
        state.add_new(0x60001001, "CS", "LAYER")
        expected = np.where(bits, 255, wide(stored))
        assert np.array_equal(picture_of(dataset, state=state), expected)

    def test_an_overlay_may_be_the_shutter(self) -> None:
        dataset, (stored,) = ct()
        bits = stored > 800
        state = state_of(dataset)
        self.overlay(state, bits)
        state.ShutterShape, state.ShutterPresentationValue = "BITMAP", 0
        state.ShutterOverlayGroup = 0x6000
        expected = np.where(bits, 0, wide(stored))
        assert np.array_equal(picture_of(dataset, state=state), expected)


class TestGraphics:
    def state(self, dataset: Dataset, kind: str, points: list[float], **more: Any) -> Dataset:
        state = state_of(dataset)
        state.SoftcopyVOILUTSequence = Sequence([softcopy_window(100_000, 2)])  # all black
        layer = Dataset()
        layer.GraphicLayer, layer.GraphicLayerOrder = "ONE", "1"
        state.GraphicLayerSequence = Sequence([layer])
        graphic = Dataset()
        graphic.GraphicAnnotationUnits, graphic.GraphicDimensions = "PIXEL", 2
        graphic.NumberOfGraphicPoints, graphic.GraphicData = len(points) // 2, points
        graphic.GraphicType, graphic.GraphicFilled = kind, "N"
        for name, value in more.items():
            setattr(graphic, name, value)
        annotation = Dataset()
        annotation.GraphicLayer = "ONE"
        annotation.GraphicObjectSequence = Sequence([graphic])
        state.GraphicAnnotationSequence = Sequence([annotation])
        return state

    def drawn(self, state: Dataset, dataset: Dataset) -> set[tuple[int, int]]:
        picture = picture_of(dataset, state=state)
        return {(int(x), int(y)) for y, x in np.argwhere(picture)}

    def test_lines_go_from_point_to_point(self) -> None:
        dataset, _ = ct()
        state = self.state(dataset, "POLYLINE", [5.5, 5.5, 20.5, 5.5, 20.5, 15.5])
        expected = {(x, 5) for x in range(5, 21)} | {(20, y) for y in range(5, 16)}
        assert self.drawn(state, dataset) == expected
        assert not picture_of(dataset, RenderOptions(has_graphics=False), state=state).any()

    def test_lines_turn_with_the_picture(self) -> None:
        dataset, _ = ct()
        state = self.state(dataset, "POLYLINE", [5.5, 5.5, 20.5, 5.5])
        state.ImageRotation = 90
        assert self.drawn(state, dataset) == {(29 - 5, x) for x in range(5, 21)}

    def test_parts_of_the_display_do_not(self) -> None:
        dataset, _ = ct()
        points = [0.11, 0.51, 0.91, 0.51]
        state = self.state(dataset, "POLYLINE", points, GraphicAnnotationUnits="DISPLAY")
        assert self.drawn(state, dataset) == {(x, 15) for x in range(5, 46)}

    def test_circles_and_ellipses_have_their_radius(self) -> None:
        dataset, _ = ct()
        for kind, points in (
            ("CIRCLE", [25.5, 15.5, 35.5, 15.5]),
            ("ELLIPSE", [15.5, 15.5, 35.5, 15.5, 25.5, 5.5, 25.5, 25.5]),
        ):
            drawn = self.drawn(self.state(dataset, kind, points), dataset)
            assert len(drawn) > 50
            assert all(abs(np.hypot(x - 25, y - 15) - 10) < 1.1 for x, y in drawn)

    def test_filled_shapes_are_full(self) -> None:
        dataset, _ = ct()
        points = [10.0, 5.0, 30.0, 5.0, 30.0, 20.0, 10.0, 20.0, 10.0, 5.0]
        drawn = self.drawn(self.state(dataset, "POLYLINE", points, GraphicFilled="Y"), dataset)
        assert {(x, y) for x in range(10, 30) for y in range(5, 20)} <= drawn

    def test_curves_go_through_their_points(self) -> None:
        dataset, _ = ct()
        points = [5.5, 5.5, 15.5, 20.5, 30.5, 8.5, 44.5, 22.5]
        drawn = self.drawn(self.state(dataset, "INTERPOLATED", points), dataset)
        assert {(5, 5), (15, 20), (30, 8), (44, 22)} <= drawn

    def test_layers_have_their_gray(self) -> None:
        dataset, _ = ct()
        state = self.state(dataset, "POINT", [25.5, 15.5])
        state.GraphicLayerSequence[0].add_new(0x00700066, "US", 0x8080)
        assert picture_of(dataset, state=state)[15, 25] == 128

    @pytest.mark.parametrize(
        ("lab", "rgb"),
        [
            ((100, 0, 0), (255, 255, 255)),
            ((0, 0, 0), (0, 0, 0)),
            # sRGB's red, green and blue, as CIELab of D50.
            ((54.29, 80.81, 69.89), (255, 0, 0)),
            ((87.82, -79.27, 80.99), (0, 255, 0)),
            ((29.57, 68.30, -112.03), (0, 0, 255)),
        ],
    )
    def test_layers_may_have_a_colour(
        self, lab: tuple[float, float, float], rgb: tuple[int, int, int]
    ) -> None:
        dataset, _ = ct()
        state = self.state(dataset, "POINT", [25.5, 15.5])
        words = [lab[0] / 100 * 65535, (lab[1] + 128) / 255 * 65535, (lab[2] + 128) / 255 * 65535]
        state.GraphicLayerSequence[0].add_new(0x00700401, "US", [round(each) for each in words])
        picture = picture_of(dataset, state=state)
        assert picture.shape == (30, 50, 3)
        assert np.abs(picture[15, 25].astype(int) - rgb).max() <= 3
        assert not picture[0, 0].any()

    @pytest.mark.parametrize(
        "points",
        [[1e30, -1e30, -1e30, 1e30], [float("nan"), 1.0, 2.0, float("inf")], [1.0], []],
    )
    def test_points_beyond_all_bounds_are_drawn_or_not(self, points: list[float]) -> None:
        dataset, _ = ct()
        for kind in ("POLYLINE", "CIRCLE", "ELLIPSE", "INTERPOLATED", "POINT", "SQUARE"):
            assert picture_of(dataset, state=self.state(dataset, kind, points)).shape == (30, 50)

    def test_more_than_can_be_drawn_is_an_error(self) -> None:
        dataset, _ = ct()
        state = self.state(dataset, "POLYLINE", [-1e6, -1e6, 1e6, 1e6] * 1000)
        (annotation,) = state.GraphicAnnotationSequence
        annotation.GraphicObjectSequence = Sequence(list(annotation.GraphicObjectSequence) * 40)
        with pytest.raises(ImageError, match="too long"):
            picture_of(dataset, state=state)

    def test_texts_lie_in_their_box(self) -> None:
        dataset, _ = ct()
        state = self.state(dataset, "POLYLINE", [])
        text = Dataset()
        text.BoundingBoxAnnotationUnits, text.UnformattedTextValue = "DISPLAY", "R\r\nL"
        text.BoundingBoxTopLeftHandCorner = [0.5, 0.1]
        text.BoundingBoxBottomRightHandCorner = [0.9, 0.9]
        text.BoundingBoxTextHorizontalJustification = "LEFT"
        state.GraphicAnnotationSequence[0].TextObjectSequence = Sequence([text])
        options = RenderOptions(viewport=Viewport(500, 300))
        picture = picture_of(dataset, options, state=state)
        rows, columns = np.nonzero(picture > 128)
        assert 20 < len(rows) < 5000
        assert rows.min() >= 25
        assert 245 <= columns.min() < columns.max() < 300


async def test_states_come_through_the_door(tmp_path: Path) -> None:
    dataset, (stored,) = ct()
    state = state_of(dataset)
    state.ImageRotation = 90
    path = tmp_path / "state.dcm"
    path.write_bytes(file_of(state))
    import imagecodecs

    made = await render(
        DicomObject.from_dataset(dataset), options=RenderOptions(media_type=PNG), state=path
    )
    assert np.array_equal(imagecodecs.png_decode(made.content), np.rot90(wide(stored), -1))


@pytest.mark.interop("dcmp2pgm")
@pytest.mark.parametrize("case", ["plain", "window", "inverse", "turned", "flipped", "table"])
def test_dcmtk_sees_the_same(tmp_path: Path, case: str) -> None:
    dataset, _ = ct()
    dataset.RescaleType = "US"
    state = state_of(dataset)
    match case:
        case "window":
            state.RescaleSlope, state.RescaleIntercept, state.RescaleType = "2", "-50", "US"
            state.SoftcopyVOILUTSequence = Sequence([softcopy_window(100, 3000)])
        case "inverse":
            state.PresentationLUTShape = "INVERSE"
        case "turned":
            state.ImageRotation = 90
            (area,) = state.DisplayedAreaSelectionSequence
            area.DisplayedAreaTopLeftHandCorner = [1, 30]
            area.DisplayedAreaBottomRightHandCorner = [50, 1]
        case "flipped":
            state.ImageHorizontalFlip = "Y"
            (area,) = state.DisplayedAreaSelectionSequence
            area.DisplayedAreaTopLeftHandCorner = [50, 1]
            area.DisplayedAreaBottomRightHandCorner = [1, 30]
        case "table":
            item = softcopy_window(0, 1)
            del item.WindowCenter, item.WindowWidth
            table = Dataset()
            table.add_new(0x00283002, "SS", [1024, -512, 16])
            table.add_new(0x00283006, "OW", np.arange(0, 65536, 64, "<u2").tobytes())
            item.VOILUTSequence = Sequence([table])
            state.SoftcopyVOILUTSequence = Sequence([item])
    image_path, state_path, out = tmp_path / "i.dcm", tmp_path / "s.dcm", tmp_path / "o.pgm"
    image_path.write_bytes(file_of(dataset))
    state_path.write_bytes(file_of(state))
    run("dcmp2pgm", "-p", str(state_path), str(image_path), str(out))
    theirs = read_pnm(out.read_bytes())
    ours = picture_of(dataset, state=state)
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 1
