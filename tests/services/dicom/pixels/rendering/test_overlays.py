"""Overlays and shutters: which pixels they cover, and with what (PS3.3 C.9.2, C.7.6.11)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from isocenter.services.dicom.pixels.rendering.options import RenderOptions
from support.images import Samples, dataset_of, describe, pixels
from support.rendering import picture_of

IMAGE = describe(20, 24)
WITHOUT = RenderOptions(has_overlays=False)


def image(**more: Any) -> tuple[Dataset, Samples]:
    described = IMAGE.exchange(**more)
    stored = pixels(described) // 2
    return dataset_of(described, [stored]), stored


def add_overlay(
    dataset: Dataset, bits: Samples, origin: tuple[int, int] = (1, 1), group: int = 0x6000
) -> None:
    tag = group << 16
    dataset.add_new(tag | 0x10, "US", bits.shape[-2])
    dataset.add_new(tag | 0x11, "US", bits.shape[-1])
    dataset.add_new(tag | 0x40, "CS", "G")
    dataset.add_new(tag | 0x50, "SS", list(origin))
    dataset.add_new(tag | 0x100, "US", 1)
    dataset.add_new(tag | 0x102, "US", 0)
    packed = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    dataset.add_new(tag | 0x3000, "OW", packed + b"\0" * (len(packed) & 1))


def some_bits(rows: int, columns: int, seed: int = 1) -> Samples:
    return np.random.default_rng(seed).random((rows, columns)) < 0.3


class TestOverlays:
    @pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
    def test_are_white_where_a_bit_is_set(self, syntax: str) -> None:
        dataset, _ = image()
        bits = some_bits(20, 24)
        add_overlay(dataset, bits)
        plain = picture_of(dataset, WITHOUT)
        assert np.array_equal(picture_of(dataset, syntax=syntax), np.where(bits, 255, plain))

    def test_may_begin_outside_and_end_outside(self) -> None:
        dataset, _ = image()
        bits = some_bits(11, 13)
        plain = picture_of(dataset, WITHOUT)
        for origin in ((-3, -4), (1, 1), (15, 20), (5, 7)):
            add_overlay(dataset, bits, origin)
            expected = plain.copy()
            for row, column in np.argwhere(bits):
                y, x = row + origin[0] - 1, column + origin[1] - 1
                if 0 <= y < 20 and 0 <= x < 24:
                    expected[y, x] = 255
            assert np.array_equal(picture_of(dataset), expected)

    def test_of_several_groups_are_all_shown(self) -> None:
        dataset, _ = image()
        first, second = some_bits(20, 24, 1), some_bits(20, 24, 2)
        add_overlay(dataset, first)
        add_overlay(dataset, second, group=0x601E)
        plain = picture_of(dataset, WITHOUT)
        assert np.array_equal(picture_of(dataset), np.where(first | second, 255, plain))

    @pytest.mark.parametrize("position", [12, 15])
    def test_may_lie_in_the_pixels(self, position: int) -> None:
        dataset, _ = image(bits_allocated=16, bits_stored=12, high_bit=11)
        bits = some_bits(20, 24)
        plain = picture_of(dataset)
        words = np.frombuffer(dataset.PixelData, "<u2") | bits.reshape(-1).astype("<u2") << position
        dataset.PixelData = words.astype("<u2").tobytes()
        dataset.add_new(0x60000010, "US", 20)
        dataset.add_new(0x60000011, "US", 24)
        dataset.add_new(0x60000040, "CS", "G")
        dataset.add_new(0x60000050, "SS", [1, 1])
        dataset.add_new(0x60000100, "US", 16)
        dataset.add_new(0x60000102, "US", position)
        assert np.array_equal(picture_of(dataset), np.where(bits, 255, plain))
        assert np.array_equal(picture_of(dataset, WITHOUT), plain)

    def test_of_several_frames_belong_to_their_frames(self) -> None:
        frames = [pixels(IMAGE, seed) // 2 for seed in (1, 2, 3)]
        dataset = dataset_of(IMAGE, frames)
        bits = np.stack([some_bits(9, 7, 5), some_bits(9, 7, 6)])
        add_overlay(dataset, bits)
        dataset.add_new(0x60000015, "IS", "2")
        dataset.add_new(0x60000051, "US", 2)
        assert np.array_equal(picture_of(dataset), picture_of(dataset, WITHOUT))
        for frame in (1, 2):
            expected = picture_of(dataset, WITHOUT, frame=frame)
            expected[:9, :7][bits[frame - 1]] = 255
            assert np.array_equal(picture_of(dataset, frame=frame), expected)

    def test_that_make_no_sense_are_none(self) -> None:
        dataset, _ = image()
        add_overlay(dataset, some_bits(20, 24))
        plain = picture_of(dataset, WITHOUT)
        dataset.add_new(0x60000010, "US", 60000)
        assert np.array_equal(picture_of(dataset), plain)
        del dataset[0x60000010]
        assert np.array_equal(picture_of(dataset), plain)

    def test_are_white_on_colours(self) -> None:
        described = describe(20, 24, samples=3)
        dataset = dataset_of(described, [pixels(described)])
        bits = some_bits(20, 24)
        add_overlay(dataset, bits)
        expected = picture_of(dataset, WITHOUT)
        expected[bits] = 255
        assert np.array_equal(picture_of(dataset), expected)


class TestShutters:
    def shown(self, dataset: Dataset) -> Samples:
        """True where the picture is not covered; what covers is a value of its own."""
        dataset.ShutterPresentationValue = 0xFFFF
        return picture_of(dataset) != 255

    def test_of_a_rectangle_show_what_lies_between_its_edges(self) -> None:
        dataset, _ = image()
        dataset.ShutterShape = "RECTANGULAR"
        dataset.ShutterLeftVerticalEdge, dataset.ShutterRightVerticalEdge = "4", "20"
        dataset.ShutterUpperHorizontalEdge, dataset.ShutterLowerHorizontalEdge = "3", "15"
        shown = self.shown(dataset)
        for row in range(1, 21):
            for column in range(1, 25):
                assert shown[row - 1, column - 1] == (3 < row < 15 and 4 < column < 20)

    def test_of_a_circle_show_what_lies_in_it(self) -> None:
        dataset, _ = image()
        dataset.ShutterShape = "CIRCULAR"
        dataset.CenterOfCircularShutter, dataset.RadiusOfCircularShutter = ["10", "12"], "7"
        shown = self.shown(dataset)
        for row in range(1, 21):
            for column in range(1, 25):
                is_inside = (row - 10) ** 2 + (column - 12) ** 2 <= 49
                assert shown[row - 1, column - 1] == is_inside

    def test_of_a_polygon_show_what_lies_in_it(self) -> None:
        dataset, _ = image()
        dataset.ShutterShape = "POLYGONAL"
        dataset.VerticesOfThePolygonalShutter = ["2", "12", "18", "2", "18", "22"]
        shown = self.shown(dataset)
        assert shown[15, 11]
        assert shown[9, 11]
        assert not shown[0, 0]
        assert not shown[3, 2]
        assert not shown[19, 11]
        # A triangle of 16 rows and 20 columns.
        assert abs(int(shown.sum()) - 160) <= 12

    def test_of_several_shapes_show_what_lies_in_all(self) -> None:
        dataset, _ = image()
        dataset.ShutterShape = ["RECTANGULAR", "CIRCULAR"]
        dataset.ShutterLeftVerticalEdge, dataset.ShutterRightVerticalEdge = "0", "12"
        dataset.ShutterUpperHorizontalEdge, dataset.ShutterLowerHorizontalEdge = "0", "21"
        dataset.CenterOfCircularShutter, dataset.RadiusOfCircularShutter = ["10", "12"], "7"
        shown = self.shown(dataset)
        assert shown[9, 8]
        assert not shown[9, 14]
        assert not shown[0, 0]

    def test_may_be_opened(self) -> None:
        dataset, _ = image()
        plain = picture_of(dataset)
        dataset.ShutterShape = "CIRCULAR"
        dataset.CenterOfCircularShutter, dataset.RadiusOfCircularShutter = ["10", "12"], "7"
        covered = picture_of(dataset)
        assert covered[0, 0] == 0
        assert np.array_equal(picture_of(dataset, RenderOptions(has_shutter=False)), plain)

    def test_that_make_no_sense_are_none(self) -> None:
        dataset, _ = image()
        plain = picture_of(dataset)
        for shape in ("RECTANGULAR", "CIRCULAR", "POLYGONAL", "ROUND"):
            dataset.ShutterShape = shape
            assert np.array_equal(picture_of(dataset), plain)
